"""What a desk looks at: volatility, spreads, moves, exposure and activity of one underlying's options."""

from __future__ import annotations

from ots_dashboards import options_sql as sql
from ots_dashboards.model import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    BarChart,
    Dashboard,
    Look,
    Prometheus,
    Row,
    Sql,
    Stat,
    Table,
    TimeSeries,
    Trend,
    Variable,
)

_NO_SNAPSHOT = (
    "No snapshot of it in the 7 days before the range's end: is analytics-snapshots running, and data coming?"
)
_NO_POINTS = "No snapshot in this range: choose one in which the market was open and data were collected"
_NO_FIT = "The snapshots' process has not fitted a surface since it started"
_AS_OF = " Of the newest snapshot at or before the end of the time range."
_SPREADS = [(None, GREEN), (0.02, "#a0c040"), (0.05, YELLOW), (0.1, ORANGE), (0.2, RED)]

_HEAD = Row(
    "$underlying, as of the newest snapshot at or before the end of the time range",
    [
        Stat(
            "Market",
            "Where these numbers come from: the database's name decides it, and real and invented prices never share"
            " one. **SIMULATED**: every price is invented and says nothing about a real market.",
            [Sql(sql.SOURCE)],
            "string",
            no_data="The database does not answer",
            width=4,
            height=4,
            words="source",
            looks=[Look("source", mappings={"SIMULATED": ("SIMULATED", ORANGE)})],
            show="value",
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "Snapshot of",
            "The moment that everything below answers for. Move the end of the time range to look at an earlier one:"
            " nothing later is used.",
            [Sql(sql.SNAPSHOT_TIME)],
            "dateTimeAsIso",
            no_data=_NO_SNAPSHOT,
            width=4,
            height=4,
            thresholds=[(None, BLUE)],
            runbook="snapshotslate",
        ),
        Stat(
            "Spot",
            "The underlying's price: the middle of a quote of the last minute, else the newest quote, trade or bar.",
            [Sql(sql.SPOT)],
            "currencyUSD",
            no_data=_NO_SNAPSHOT,
            width=4,
            height=4,
            decimals=2,
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "30-day volatility",
            "Implied volatility at the forward 30 calendar days ahead, American exercise, interpolated in total"
            " variance.",
            [Sql(sql.VOLATILITY_30D)],
            "percentunit",
            no_data=_NO_SNAPSHOT,
            width=3,
            height=4,
            decimals=1,
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "Its rank",
            "Where the 30-day volatility lies between the lowest (0 %) and the highest (100 %) of the closes of the 45"
            " days before, of which there must be 20.",
            [Sql(sql.VOLATILITY_RANK)],
            "percentunit",
            no_data="Fewer than 20 closes in 45 days",
            width=3,
            height=4,
            decimals=0,
            thresholds=[(None, GREEN), (0.5, YELLOW), (0.8, ORANGE)],
        ),
        Stat(
            "Puts over calls",
            "Contracts of puts over those of calls: traded in this session up to the snapshot, and open as published by"
            " then.",
            [Sql(sql.PUT_CALL)],
            "none",
            no_data="Nothing was traded or counted by then",
            width=3,
            height=4,
            decimals=2,
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "With a volatility",
            "Share of the quoted contracts whose middle has an implied volatility. The others are stale, crossed,"
            " one-sided, or beyond what the price's bounds allow.",
            [Sql(sql.COVERAGE)],
            "percentunit",
            no_data=_NO_SNAPSHOT,
            width=3,
            height=4,
            decimals=0,
            thresholds=[(None, RED), (0.3, YELLOW), (0.5, GREEN)],
            runbook="contractswithoutvolatility",
        ),
    ],
)
_BOARD = Row(
    "All underlyings",
    [
        Table(
            "Board",
            "Each underlying's newest snapshot, and how it changed since the close of the session before. `25Δ skew`:"
            " volatility of the 25-delta put less that of the 25-delta call, of the expiration nearest to 30 days."
            " `fitted`: contracts in the surface. `age`: of the snapshot, at the range's end.",
            [Sql(sql.BOARD)],
            "none",
            no_data=_NO_SNAPSHOT,
            width=13,
            height=10,
            looks=[
                Look("spot", unit="currencyUSD", decimals=2),
                Look(
                    "since close",
                    unit="percentunit",
                    decimals=2,
                    thresholds=[(None, RED), (0, GREEN)],
                    cell="color-text",
                ),
                Look("30-day vol", unit="percentunit", decimals=1),
                Look("vol since close", unit="percentunit", decimals=2),
                Look("25Δ skew", unit="percentunit", decimals=1),
                Look(
                    "age",
                    unit="s",
                    decimals=0,
                    thresholds=[(None, GREEN), (180, YELLOW), (900, RED)],
                    cell="color-text",
                ),
            ],
        ),
        TimeSeries(
            "30-day volatility over time",
            "Implied volatility at the forward, 30 calendar days ahead, of every underlying over the range.",
            [Sql(sql.VOLATILITY_OVER_TIME, series=True)],
            "percentunit",
            no_data=_NO_POINTS,
            width=11,
            height=10,
            decimals=1,
            step="1m",
            calculations=("lastNotNull", "min", "max"),
        ),
    ],
)
_COST = Row(
    "What trading costs: spreads of $underlying",
    [
        Table(
            "Chain by spread",
            "Bid to ask as a share of the middle, of the chosen right: strikes around the spot down, expirations"
            " across. The scan leaves out what is above 10 % (`max_spread_pct`). Empty: no two-sided quote of the last"
            " 15 minutes." + _AS_OF,
            [Sql(sql.SPREADS)],
            "percentunit",
            no_data=_NO_SNAPSHOT,
            width=13,
            height=18,
            decimals=1,
            matrix=("strike", "expiration", "spread"),
            cell="color-background",
            thresholds=_SPREADS,
            looks=[Look("strike\\expiration", custom={"width": 80}, cell="auto")],
        ),
        Table(
            "Movers, net of the spread",
            "The contracts that moved most over the horizon, as whoever traded them would have seen it: bought at the"
            " ask then, sold at the bid now, the fee paid both ways. `mid's move` is the same without costs, `cost`"
            " what lies between: half of both spreads and two fees, as a share of the outlay. What moved is known only"
            " afterwards; it is no forecast. Contracts without a two-sided quote at both ends are left out." + _AS_OF,
            [Sql(sql.MOVERS)],
            "none",
            no_data="No contract was quoted on two sides at both ends of the horizon",
            width=11,
            height=9,
            looks=[
                Look("delta", decimals=2),
                Look("ask then", unit="currencyUSD", decimals=2),
                Look("bid now", unit="currencyUSD", decimals=2),
                Look(
                    "net move", unit="percentunit", decimals=1, thresholds=[(None, RED), (0, GREEN)], cell="color-text"
                ),
                Look("mid's move", unit="percentunit", decimals=1),
                Look("cost", unit="percentunit", decimals=1),
            ],
        ),
        Table(
            "Unusual volume",
            "Contracts traded most beside their open interest in this session up to the snapshot. `unusual`: at least"
            " so many contracts as chosen above, and at least the open interest (which counts as one where it is 0), as"
            " `by_open_interest` of `/options/{underlying}/unusual`; that route also compares with each contract's"
            " sessions before." + _AS_OF,
            [Sql(sql.UNUSUAL)],
            "none",
            no_data="Nothing was traded in this session by then",
            width=11,
            height=9,
            looks=[
                Look("ratio", unit="none", decimals=2),
                Look("said", mappings={"unusual": ("unusual", ORANGE), "usual": ("usual", GREY)}, cell="color-text"),
                Look("mid", unit="currencyUSD", decimals=2),
                Look("implied vol", unit="percentunit", decimals=1),
                Look("delta", decimals=2),
            ],
        ),
    ],
)
_SMILE = Row(
    "Smile and fit of $underlying",
    [
        Trend(
            "Smile",
            "Implied volatility of the middle by strike, calls and puts of the chosen expiration, and the fitted"
            " surface where it crosses the forward. Where both legs are sound they lie on each other." + _AS_OF,
            [Sql(sql.SMILE)],
            "percentunit",
            no_data=_NO_SNAPSHOT,
            width=9,
            height=10,
            decimals=1,
            x="strike",
            points=True,
            looks=[
                Look("strike", unit="currencyUSD", decimals=0),
                Look("calls", color=GREEN),
                Look("puts", color=RED),
                Look("surface at the forward", color=BLUE, custom={"pointSize": 12}),
            ],
        ),
        BarChart(
            "Residual: call less put",
            "Implied volatility of the call less that of the put of the same strike, of the chosen expiration. One"
            " forward and one rate make them equal; what is left is in the quotes (spreads, staleness) or in the"
            " forward." + _AS_OF,
            [Sql(sql.LEGS_APART)],
            "percentunit",
            no_data="No strike of it has a volatility of both legs",
            width=7,
            height=10,
            decimals=2,
            x="at strike",
            looks=[Look("call less put", color=BLUE)],
        ),
        TimeSeries(
            "Residuals of the fit",
            "How far the fitted surface lies from the implied volatilities of the contracts that it was fitted to, all"
            " expirations together: root mean square, and the farthest. In points of volatility, of each snapshot.",
            [
                Prometheus('ots_snapshots_fit_error_ratio{underlying="$underlying", kind="rms"}', "root mean square"),
                Prometheus('ots_snapshots_fit_error_ratio{underlying="$underlying", kind="max"}', "farthest"),
            ],
            "percentunit",
            no_data=_NO_FIT,
            width=8,
            height=5,
            decimals=2,
            minimum=0,
            runbook="surfacefitsfail",
        ),
        TimeSeries(
            "Fit within the spread",
            "Share of the fitted contracts whose bid and ask enclose the surface's price: what of the fit's error"
            " matters to a trader.",
            [Prometheus('ots_snapshots_fit_within_spread_ratio{underlying="$underlying"}', "within bid and ask")],
            "percentunit",
            no_data=_NO_FIT,
            width=8,
            height=5,
            decimals=0,
            minimum=0,
            maximum=1,
        ),
    ],
)
_TERM = Row(
    "Term structure and skew of $underlying",
    [
        Trend(
            "Term structure",
            "Implied volatility at the forward by days to expiration, and of the same expirations at the close of the"
            " session before." + _AS_OF,
            [Sql(sql.TERM_STRUCTURE)],
            "percentunit",
            no_data=_NO_SNAPSHOT,
            x="days",
            decimals=1,
            points=True,
            looks=[
                Look("days", unit="none", decimals=0),
                Look("now", color=BLUE),
                Look("last close", color=GREY, custom={"lineStyle": {"fill": "dash", "dash": [8, 8]}}),
            ],
        ),
        Trend(
            "25-delta skew by expiration",
            "Volatility of the 25-delta put less that of the 25-delta call, by days to expiration, and of the same"
            " expirations at the close of the session before. Positive: puts are dearer." + _AS_OF,
            [Sql(sql.SKEW_BY_EXPIRATION)],
            "percentunit",
            no_data=_NO_SNAPSHOT,
            x="days",
            decimals=1,
            points=True,
            looks=[
                Look("days", unit="none", decimals=0),
                Look("now", color=BLUE),
                Look("last close", color=GREY, custom={"lineStyle": {"fill": "dash", "dash": [8, 8]}}),
            ],
        ),
        TimeSeries(
            "Skew over time",
            "Volatilities of the chosen expiration over the range: of the 25-delta put, at the forward, and of the"
            " 25-delta call.",
            [Sql(sql.SKEW_OVER_TIME, series=True)],
            "percentunit",
            no_data=_NO_POINTS,
            decimals=1,
            step="1m",
            looks=[Look("25Δ put", color=RED), Look("at the forward", color=BLUE), Look("25Δ call", color=GREEN)],
        ),
    ],
)
_MOVES = Row(
    "Expected against realised moves of $underlying",
    [
        TimeSeries(
            "Over the horizon",
            "At each moment how far the spot had moved over the horizon before it, beside the mean move E|S - F| that"
            " options had priced in at its start (one volatility at the forward, of the nearest expiration that lives"
            " long enough; the clock runs at nights too). On average they are alike where options are priced fairly.",
            [Sql(sql.MOVES_OVER_TIME, series=True)],
            "currencyUSD",
            no_data="No two snapshots of one session lie the horizon apart in this range",
            decimals=2,
            minimum=0,
            step="1m",
            looks=[
                Look("expected", color=BLUE, custom={"lineWidth": 2}),
                Look("realised", color=ORANGE, custom={"fillOpacity": 25}),
            ],
        ),
        BarChart(
            "From close to close",
            "The last 20 sessions: how far the spot closed from the close before, beside the mean move that options"
            " had priced in there until then (one volatility at the forward, of the nearest expiration that lives so"
            " long).",
            [Sql(sql.MOVES_BY_SESSION)],
            "currencyUSD",
            no_data="No two closes in a row are stored",
            x="session",
            decimals=2,
            looks=[Look("expected", color=BLUE), Look("realised", color=ORANGE)],
        ),
        Table(
            "Until each expiration",
            "What options say of the spot until each expiration. `straddle`: what the call and the put at the strike"
            " nearest to the forward cost together; `mean move`: E|S - F| of one volatility at the forward; the spot"
            " ends below `lower`, and above `upper`, with probability 15.87 % each. Risk-neutral, no forecast."
            + _AS_OF,
            [Sql(sql.MOVES_BY_EXPIRATION)],
            "currencyUSD",
            no_data=_NO_SNAPSHOT,
            decimals=2,
            looks=[Look("days", unit="none", decimals=1), Look("mean move %", unit="percentunit", decimals=1)],
        ),
    ],
)
_WHO = (
    " Open interest does not say who is long: the middle line takes dealers to be long calls and short puts, `least`"
    " and `greatest` span four assumptions. Where they span zero, the sign is the assumption."
)
_GAMMA = (
    "Dollars of stock by which the open contracts' delta changes when the spot rises by 1 %: open interest times 100"
    " times gamma times spot squared times 0.01, each contract's gamma at its own implied volatility (American), as"
    " `/options/{underlying}/exposure?volatility=quoted`."
)
_BAND = [
    Look("calls long, puts short", color=BLUE, custom={"lineWidth": 2}),
    Look("least", color=GREY, custom={"lineWidth": 1}),
    Look("greatest", color=GREY, custom={"lineWidth": 1, "fillBelowTo": "least", "fillOpacity": 12}),
]
_EXPOSURE = Row(
    "Exposure of $underlying: what all open contracts hold",
    [
        Trend(
            "Gamma exposure by strike",
            _GAMMA + _WHO + " Strikes within 15 % of the spot." + _AS_OF,
            [Sql(sql.GAMMA_BY_STRIKE)],
            "currencyUSD",
            no_data="No contract has both a volatility and a published open interest",
            width=9,
            x="strike",
            looks=[Look("strike", unit="currencyUSD", decimals=0), *_BAND],
        ),
        BarChart(
            "Gamma exposure by expiration",
            _GAMMA + _WHO + _AS_OF,
            [Sql(sql.GAMMA_BY_EXPIRATION)],
            "currencyUSD",
            no_data="No contract has both a volatility and a published open interest",
            width=6,
            x="expires",
            looks=[Look("calls long, puts short", color=BLUE), Look("least|greatest", regex=True, color=GREY)],
        ),
        Stat(
            "Gamma exposure in total",
            _GAMMA + _WHO + " In total they always do." + _AS_OF,
            [Sql(sql.GAMMA_TOTAL)],
            "currencyUSD",
            no_data="No contract has both a volatility and a published open interest",
            width=3,
            thresholds=[(None, BLUE)],
            show="value_and_name",
        ),
        BarChart(
            "Open interest by strike",
            "Contracts open, calls and puts, all expirations together: published before the session, so that its own"
            " trades are not in it. Strikes within 15 % of the spot." + _AS_OF,
            [Sql(sql.OPEN_INTEREST)],
            "short",
            no_data="No open interest was published in the ten days before",
            width=6,
            x="at strike",
            looks=[Look("calls", color=GREEN), Look("puts", color=RED)],
        ),
        Stat(
            "Left out of the gamma",
            "Share of the open interest whose contracts have no volatility, and so no gamma: it is in no sum above."
            + _AS_OF,
            [Sql(sql.GAMMA_LEFT_OUT)],
            "percentunit",
            no_data="No open interest was published in the ten days before",
            width=4,
            height=5,
            decimals=1,
            thresholds=[(None, GREEN), (0.2, YELLOW), (0.5, RED)],
        ),
        TimeSeries(
            "Contracts of the snapshots",
            "Contracts of each underlying's newest snapshot that have a volatility.",
            [Prometheus('ots_snapshots_contracts{state="priced"}', "{{underlying}}")],
            "none",
            no_data="analytics-snapshots is not scraped",
            width=10,
            height=5,
            minimum=0,
            runbook="contractswithoutvolatility",
            more="ots-api",
        ),
        TimeSeries(
            "Age of the newest snapshot",
            "How long ago the moment of each underlying's newest snapshot is; a minute while a session is on.",
            [Prometheus("time() - ots_snapshots_last_timestamp_seconds", "{{underlying}}")],
            "s",
            no_data="analytics-snapshots is not scraped",
            width=10,
            height=5,
            minimum=0,
            runbook="snapshotslate",
            more="ots-ingestion",
        ),
    ],
)

OPTIONS_DESK = Dashboard(
    "ots-options-desk",
    "AI-OTS Options desk",
    "Volatility, spreads, moves, exposure and activity of one underlying's options, from stored snapshots.",
    [_HEAD, _BOARD, _COST, _SMILE, _TERM, _MOVES, _EXPOSURE],
    variables=[
        Variable(
            "underlying",
            "Underlying",
            "Whose options are shown.",
            query=Sql(sql.UNDERLYINGS),
            default="SPY",
        ),
        Variable(
            "expiration",
            "Expiration",
            "Of the smile, its residuals and the skew over time.",
            query=Sql(sql.EXPIRATIONS),
            default=sql.AUTO,
            default_label="nearest, a week or more away",
        ),
        Variable("right", "Right", "Of the chain by spread.", choices={"calls": "C", "puts": "P"}),
        Variable(
            "horizon",
            "Horizon",
            "Minutes of the movers and of the moves over the horizon.",
            choices={"5 minutes": "5", "15 minutes": "15", "30 minutes": "30", "an hour": "60", "two hours": "120"},
            default="5",
        ),
        Variable(
            "min_volume",
            "Unusual from",
            "Fewer contracts than this are never unusual.",
            choices={"10": "10", "50 contracts": "50", "500": "500"},
            default="50",
        ),
        Variable(
            "fee",
            "Fee",
            "Dollars a contract, each way.",
            choices={"none": "0", "0.65 dollars": "0.65", "a dollar": "1"},
            default="0.65",
        ),
    ],
    since="now-6h",
    refresh="1m",
)
