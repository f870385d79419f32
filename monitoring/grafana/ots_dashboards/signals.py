"""What strategies decide, how soon, what became of it, and whether the record of it is whole."""

from __future__ import annotations

from ots_dashboards import signals_sql
from ots_dashboards.model import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    BarGauge,
    Dashboard,
    Look,
    Prometheus,
    Row,
    Sql,
    Stat,
    Table,
    TimeSeries,
)
from ots_dashboards.promql import increase, or_zero, quantile, rate
from ots_dashboards.shared import NOT_SCRAPED, alerts_firing, market_source

_WORKER = "signals-worker"
_NOTHING = "No strategy has seen its condition yet: they look as each bar of five minutes closes"
_BARRIERS = {
    "target": GREEN,
    "stop": RED,
    "timeout": BLUE,
    "not_filled": GREY,
    "indeterminate": ORANGE,
}

_GLANCE = Row(
    "At a glance",
    [
        market_source(),
        Stat(
            "Signals",
            "Candidates that were added to the ledger in the range. How good they are is not said by their number: see"
            " `GET /api/v1/signals/performance`, where a verdict takes 300 of them on 60 days.",
            [Prometheus(or_zero(increase("ots_signals_decided_total"), _WORKER), instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            decimals=0,
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "Abstentions",
            "Times in the range that a strategy saw its condition and did nothing, for a reason that is recorded.",
            [Prometheus(or_zero(increase("ots_signals_abstentions_total"), _WORKER), instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            decimals=0,
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "Wait for their outcome",
            "Signals whose barriers, time and matched random contracts are not all over.",
            [Prometheus("max(ots_signals_open)", instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            decimals=0,
            thresholds=[(None, BLUE)],
            runbook="outcomesoverdue",
        ),
        Stat(
            "The ledger",
            "Whether the last verification found every row as it was written, each hash of the one before it.",
            [Prometheus("max(ots_signals_ledger_faulty)", instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            thresholds=[(None, GREEN), (1, RED)],
            mappings={"0": ("whole", GREEN), "1": ("ALTERED", RED)},
            runbook="ledgerfaulty",
        ),
        alerts_firing(),
    ],
)
_IN_TIME = Row(
    "Are they decided in time",
    [
        TimeSeries(
            "From a minute's close to its decision",
            "Time from the close of a minute to the commit of what was decided about it: feed, storing, worker and,"
            " where strategies saw their condition (recorded: yes), chains together.",
            [
                Prometheus(
                    quantile(share, "ots_signals_latency_seconds", ["recorded"]),
                    f"{share:.0%}, recorded: {{{{recorded}}}}",
                )
                for share in (0.5, 0.99)
            ],
            "s",
            no_data=_NOTHING,
            width=8,
            minimum=0,
            thresholds=[(None, GREEN), (1, RED)],
            runbook="signalsslow",
        ),
        TimeSeries(
            "Deciding about one minute",
            "The worker's own part, of every minute of each underlying: bars, and chains where a condition is met.",
            [Prometheus(quantile(share, "ots_signals_decide_seconds"), f"{share:.0%}") for share in (0.5, 0.99)],
            "s",
            no_data="Nothing was decided in this range",
            width=8,
            minimum=0,
            runbook="signalsslow",
        ),
        TimeSeries(
            "Behind",
            "How long ago the oldest minute closed that is stored and not decided, by underlying; 0 when all is.",
            [Prometheus("max by (underlying) (ots_signals_lag_seconds)", "{{underlying}}")],
            "s",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            runbook="signalsbehind",
        ),
        Table(
            "How far each underlying is decided",
            "The newest minute that is decided, how often the next was tried in vain, and what that waits for.",
            [Sql(signals_sql.CURSORS)],
            "none",
            no_data="No worker has begun yet",
            width=16,
            looks=[
                Look("decided up to", unit="dateTimeAsIso"),
                Look("tries", decimals=0, thresholds=[(None, GREEN), (1, YELLOW), (6, RED)], cell="color-text"),
            ],
            runbook="signalsbehind",
        ),
        TimeSeries(
            "Failures",
            "Times an hour that deciding, resolving or a backtest failed and is tried again.",
            [Prometheus("3600 * " + rate("ots_signals_failures_total", ["task"]), "{{task}}")],
            "none",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            runbook="signalsfail",
        ),
    ],
)
_DECIDED = Row(
    "What was decided",
    [
        TimeSeries(
            "Signals by strategy",
            "Signals added to the ledger, an hour, by strategy.",
            [
                Prometheus(
                    or_zero("3600 * " + rate("ots_signals_decided_total", ["strategy"]), _WORKER, "strategy"),
                    "{{strategy}}",
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            stacked=True,
        ),
        BarGauge(
            "Why not",
            "Abstentions in the range by their reason. `no edge`: what is expected net of the spread is not above zero,"
            " a normal answer.",
            [
                Prometheus(
                    or_zero(increase("ots_signals_abstentions_total", ["reason"]), _WORKER, "reason"),
                    "{{reason}}",
                    instant=True,
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            decimals=0,
            thresholds=[(None, BLUE)],
            looks=[Look("failed", thresholds=[(None, BLUE), (1, RED)])],
            runbook="eventsgivenup",
        ),
        BarGauge(
            "What ended them",
            "Outcomes recorded in the range by what ended the position at full spread; revisions too. Many targets"
            " alone prove nothing: a near target is often touched in a fair market.",
            [Prometheus(increase("ots_signals_outcomes_total", ["outcome"]), "{{outcome}}", instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            decimals=0,
            thresholds=[(None, BLUE)],
            looks=[Look(barrier, color=color) for barrier, color in _BARRIERS.items()],
        ),
        Table(
            "Newest decisions",
            "What was recorded last: for a signal the spread as a share of the capital, the probability of the target"
            " as believed and in a fair market, and what is expected net of spread and fees with its 90 % interval.",
            [Sql(signals_sql.NEWEST)],
            "none",
            no_data=_NOTHING,
            width=24,
            looks=[
                Look("event", unit="dateTimeAsIso"),
                Look("recorded after", unit="s"),
                *(
                    Look(column, unit="percentunit", decimals=1)
                    for column in ("spread", "P target", "in a fair market", "expected net", "from", "to")
                ),
            ],
        ),
    ],
)
_BECAME = Row(
    "What became of them",
    [
        Table(
            "By strategy",
            "Everything recorded live up to the range's end. `median net`: of resolved signals at full spread and fees;"
            " `among matched random`: the median share of like contracts, bought at random, that did worse; one half is"
            " chance. Verdicts, intervals and sample sizes: `GET /api/v1/signals/performance`.",
            [Sql(signals_sql.BY_STRATEGY)],
            "none",
            no_data=_NOTHING,
            width=24,
            looks=[
                Look("median net", unit="percentunit", decimals=1),
                Look("among matched random", unit="percentunit", decimals=0),
                Look("indeterminate", thresholds=[(None, GREEN), (1, ORANGE)], cell="color-text"),
            ],
            runbook="outcomesoverdue",
        ),
        Stat(
            "Rows of the ledger",
            "Signals, abstentions and outcomes, with their revisions: rows are only ever added.",
            [Prometheus("max(ots_signals_ledger_rows)", instant=True)],
            "locale",
            no_data=NOT_SCRAPED,
            width=6,
            decimals=0,
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "Last found whole",
            "How long ago the whole ledger was verified and found as it was written.",
            [Prometheus("time() - max(ots_signals_verified_timestamp_seconds > 0)", instant=True)],
            "s",
            no_data="Not verified since the worker started",
            width=6,
            thresholds=[(None, GREEN), (5400, YELLOW), (10800, RED)],
            runbook="ledgernotverified",
        ),
        Stat(
            "Overdue",
            "Signals whose outcome should be known for ten minutes and more, and is not.",
            [Prometheus("max(ots_signals_overdue)", instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            decimals=0,
            thresholds=[(None, GREEN), (1, RED)],
            runbook="outcomesoverdue",
        ),
        Stat(
            "Revised by late data",
            "Outcomes in the range that were recorded again because their data changed; the first ones stay.",
            [Prometheus(or_zero(increase("ots_signals_revisions_total"), _WORKER), instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            decimals=0,
            thresholds=[(None, BLUE)],
        ),
    ],
)

SIGNALS = Dashboard(
    "ots-signals",
    "AI-OTS Signals",
    "What strategies decide, how soon, what became of it beside chance, and whether the record of it is whole.",
    [_GLANCE, _IN_TIME, _DECIDED, _BECAME],
)
