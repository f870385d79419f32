"""Options of the seeded market through HTTP: unusual volume, implied against realised volatility, all at a glance."""

from __future__ import annotations

from contextlib import closing
from datetime import date, timedelta

import numpy as np
import pytest

from analytics_support import Analytics
from data_ingestion_support import Ingestion, settings_for
from ots_analytics.market_glance import share_of_today
from ots_analytics.routes.custom import CustomModel
from ots_analytics.routes.market import MarketModel
from ots_analytics.routes.unusual import UnusualModel
from ots_analytics.routes.volatility import VolatilityModel
from ots_analytics.unusual_volume import Thresholds, find_unusual, usual_volume
from ots_chains.chains import Moment
from ots_common.times import rfc3339, to_datetime
from ots_market.sessions import xnys
from ots_market.symbols import parse_option_symbol
from ots_simulator.underlyings import BY_SYMBOL, RATE
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, SECOND, TODAY, ask, make_market
from volatility_support import catch_up, import_close, import_records

UNDERLYINGS = ("AAPL", "SPY")
SESSIONS = 7
AT = TODAY * DAY + 90 * MINUTE + 30_000_000_000  # half a minute into the ninety-first
UNTIL = TODAY * DAY + 90 * MINUTE
DEFINED_SINCE = TODAY - SESSIONS - 1
AS_OF = f"as_of={rfc3339(AT)}"


@pytest.fixture(scope="module")
def seeded():
    return make_market(now=TODAY * DAY + 3 * HOUR)


@pytest.fixture(scope="module")
def ingestion(market, redis_server, tmp_path_factory, seeded):
    """Trades of AAPL's options in the first two hours of eight sessions; the rest is what an answer today needs."""
    settings = settings_for(
        market, redis_server, tmp_path_factory.mktemp("spool"), market_calendar="around-the-clock",
    )  # fmt: skip
    service = Ingestion(settings)
    with service.working():
        for day in range(TODAY - SESSIONS - 1, TODAY + 1):
            start = day * DAY
            import_records(service, seeded, OPTIONS, "trades", day, start, start + 2 * HOUR, ["AAPL"])
            import_records(service, seeded, OPTIONS, "definition", day, start, start + HOUR, ["AAPL"])
        start = TODAY * DAY
        import_close(service, seeded, TODAY - 1, UNDERLYINGS)
        for schema in ("tcbbo", "statistics"):
            import_records(service, seeded, OPTIONS, schema, TODAY, start, start + 2 * HOUR, UNDERLYINGS)
        import_records(service, seeded, OPTIONS, "definition", TODAY, start, start + HOUR, ["SPY"])
        import_records(service, seeded, OPTIONS, "cbbo-1m", TODAY, UNTIL - 2 * MINUTE, UNTIL + MINUTE, UNDERLYINGS)
        import_records(service, seeded, EQUITIES, "ohlcv-1m", TODAY, start, start + 2 * HOUR, UNDERLYINGS)
        curve = {"source": "test", "date": str(day_of(TODAY - 2)), "curve": [{"tenor": "1Y", "rate": RATE}]}
        known = {**curve, "known_at": rfc3339((TODAY - 1) * DAY)}
        assert service.post("/rates", json=known).status_code < 300
        for day in range(TODAY - 22, TODAY):
            import_records(service, seeded, EQUITIES, "ohlcv-1d", day, day * DAY, (day + 1) * DAY, UNDERLYINGS)
        yield service


@pytest.fixture(scope="module")
def analytics(market, ingestion, redis_server):
    assert catch_up(market, TODAY * DAY + MINUTE) == len(UNDERLYINGS)
    return Analytics(market, redis_url=redis_server.url, market_source="simulated", market_calendar="around-the-clock")


def records_of(seeded, schema, day, until):
    """AAPL's option records of a day, each with its contract's OSI symbol without blanks."""
    found = seeded.resolve(OPTIONS, ["AAPL.OPT"], "parent", day, day + 1)
    names = {one.vendor_id: one.raw_symbol.replace(" ", "") for one in found}
    records = ask(seeded, OPTIONS, schema, day * DAY, until, [one.raw_symbol for one in found])
    return [(names[vendor], record) for vendor, record in zip(records["instrument_id"].tolist(), records, strict=True)]


@pytest.fixture(scope="module")
def volumes(seeded):
    """By day, what each contract traded by the minute that had closed: counted from the records themselves."""
    counted = {}
    for day in range(TODAY - SESSIONS - 1, TODAY + 1):
        own: dict[str, int] = {}
        for name, trade in records_of(seeded, "trades", day, day * DAY + UNTIL - TODAY * DAY):
            own[name] = own.get(name, 0) + int(trade["size"])
        counted[day] = own
    return counted


def live_on(seeded, day):
    """The contracts that were there on a day."""
    found = seeded.resolve(OPTIONS, ["AAPL.OPT"], "parent", day, day + 1)
    return {one.raw_symbol.replace(" ", "") for one in found}


@pytest.fixture(scope="module")
def open_interest(seeded):
    """Of each contract, as it was published by the moment."""
    return {name: int(record["quantity"]) for name, record in records_of(seeded, "statistics", TODAY, AT)}


@pytest.fixture(scope="module")
def answer(analytics):
    """All that traded."""
    return analytics.get(f"/options/AAPL/unusual?{AS_OF}&min_volume=1&min_volume_to_open_interest=1e-6&limit=1000")


@pytest.fixture(scope="module")
def rows(analytics):
    """Of the market at a glance, by symbol."""
    return {row["symbol"]: row for row in analytics.get(f"/market?{AS_OF}")["market"]}


class TestUnusual:
    def test_volumes_are_those_of_the_trades(self, answer, volumes):
        assert answer["window"] == {
            "since": rfc3339(TODAY * DAY), "until": rfc3339(UNTIL), "minutes": 90,
        }  # fmt: skip
        rows = {row["symbol"]: row for row in answer["contracts"]}
        assert {name: row["volume"] for name, row in rows.items()} == volumes[TODAY]
        assert answer["all_contracts"]["volume"] == sum(volumes[TODAY].values())
        assert answer["counted"]["traded"] == len(volumes[TODAY])
        assert answer["counted"]["unusual"] == len(rows) > 30

    def test_the_history_is_that_of_the_same_minutes(self, answer, volumes, seeded):
        """Of the eight sessions with trades the first counts for nothing: it might have begun midway."""
        days = range(TODAY - SESSIONS, TODAY)
        first, last = (date(1970, 1, 1) + timedelta(days=day) for day in (days[0], days[-1]))
        assert answer["history"] == {
            "sessions": SESSIONS, "first": str(first), "last": str(last),
            "left_out": {"first_stored": 1, "nothing_stored": 12},
        }  # fmt: skip
        listed = {day: live_on(seeded, day) for day in days}
        samples = set()
        for row in answer["contracts"]:
            sample = [volumes[day].get(row["symbol"], 0) for day in days if row["symbol"] in listed[day]]
            samples.add(len(sample))
            assert row["history_sessions"] == len(sample)
            if len(sample) < 5:
                assert row["ratio_to_history"] is None
                assert row["reasons"]["ratio_to_history"].endswith("5 are the fewest")
                continue
            assert row["history_mean"] == pytest.approx(np.mean(sample))
            assert row["history_median"] == pytest.approx(np.median(sample))
            assert row["history_highest"] == max(sample)
            assert row["ratio_to_history"] == pytest.approx(row["volume"] / max(np.mean(sample), 1))
            assert row["share_below"] == pytest.approx(np.mean(np.array(sample) < row["volume"]))
        assert SESSIONS in samples
        totals = [sum(volumes[day].values()) for day in days]
        whole = answer["all_contracts"]
        assert whole["history_mean"] == pytest.approx(np.mean(totals))
        assert whole["ratio_to_history"] == pytest.approx(whole["volume"] / np.mean(totals))

    def test_open_interest_is_what_was_published(self, answer, open_interest):
        for row in answer["contracts"]:
            assert row["open_interest"] == open_interest[row["symbol"]]
            expected = row["volume"] / max(1, row["open_interest"])
            assert row["volume_to_open_interest"] == pytest.approx(expected)

    def test_sides_are_those_of_the_quotes_before_the_trades(self, answer, seeded):
        undefined = 2**62
        told: dict[str, np.ndarray] = {}
        for name, trade in records_of(seeded, "tcbbo", TODAY, UNTIL):
            price, bid, offer = (int(trade[field]) for field in ("price", "bid_px_00", "ask_px_00"))
            if max(bid, offer) < undefined and bid < offer:
                counts = told.setdefault(name, np.zeros(3, np.int64))
                counts[0 if price >= offer else 1 if price <= bid else 2] += int(trade["size"])
        seen = np.zeros(3, np.int64)
        for row in answer["contracts"]:
            expected = told.get(row["symbol"])
            if expected is None:
                assert row["reasons"]["at_ask"].startswith("no trade of it is stored with the quote")
                continue
            assert [row["at_ask"], row["at_bid"], row["between"]] == expected.tolist()
            assert row["side_unknown"] == row["volume"] - expected.sum()
            seen += expected
        assert (seen > 0).all()

    def test_they_are_ranked_and_limited(self, analytics):
        asked = f"/options/AAPL/unusual?{AS_OF}&min_volume=5&min_volume_to_open_interest=0.05&min_ratio_to_history=2"
        whole, some = analytics.get(f"{asked}&limit=1000"), analytics.get(f"{asked}&limit=3")
        assert some["contracts"] == whole["contracts"][:3]
        assert some["counted"] == whole["counted"]
        times = [row["times_threshold"] for row in whole["contracts"]]
        assert times == sorted(times, reverse=True)
        assert min(times) >= 1
        by = {row["unusual_by"] for row in whole["contracts"]}
        assert "history" in by
        counted = whole["counted"]
        assert counted["by_open_interest"] + counted["by_history"] + counted["by_both"] == counted["unusual"]
        for row in whole["contracts"]:
            figures = (row["volume_to_open_interest"] / 0.05, (row["ratio_to_history"] or 0) / 2)
            assert row["times_threshold"] == pytest.approx(max(figures))
            assert row["volume"] >= 5

    def test_nothing_looks_ahead(self, analytics, volumes):
        """The second hour is stored; it does not count half an hour earlier."""
        early = analytics.get(f"/options/AAPL/unusual?as_of={rfc3339(UNTIL - 30 * MINUTE)}")
        assert early["window"]["minutes"] == 60
        assert 0 < early["all_contracts"]["volume"] < sum(volumes[TODAY].values())

    def test_sessions_count_in_which_nothing_traded_by_then(self, analytics):
        """Half a minute after the open no minute is over: each session before traded as little, and is stored."""
        answer = analytics.get(f"/options/AAPL/unusual?as_of={rfc3339(TODAY * DAY + 30 * SECOND)}")
        assert answer["window"]["minutes"] == 0
        assert answer["history"]["sessions"] == SESSIONS
        assert (answer["all_contracts"]["volume"], answer["all_contracts"]["history_mean"]) == (0, 0)
        assert answer["contracts"] == []

    def test_a_session_with_a_gap_does_not_count(self, market, analytics):
        """What may be missing is no low volume; once the gap is closed, the session counts again."""
        day = TODAY - 3
        asked = f"/options/AAPL/unusual?as_of={rfc3339(AT + 1)}"
        market.database.execute(
            "INSERT INTO gaps (dataset, schema, symbol, starts_ns, ends_ns, evidence, detail)"
            " VALUES ('OPRA.PILLAR', 'trades', 'AAPL.OPT', %s, %s, 'session', 'test')",
            (day * DAY + 80 * MINUTE, day * DAY + 100 * MINUTE),
        )
        try:
            answer = analytics.get(asked)
            assert answer["history"]["sessions"] == SESSIONS - 1
            assert answer["history"]["left_out"]["open_gap"] == 1
            assert answer["gaps"] == 0
            earlier = analytics.get(f"/options/AAPL/unusual?as_of={rfc3339(TODAY * DAY + 79 * MINUTE)}")
            assert "open_gap" not in earlier["history"]["left_out"], "before the gap begins nothing is missing"
        finally:
            market.database.execute("DELETE FROM gaps")
        assert analytics.get(f"{asked}&sessions=19")["history"]["sessions"] == SESSIONS

    def test_too_little_history_is_said(self, analytics):
        answer = analytics.get(f"/options/AAPL/unusual?{AS_OF}&min_sessions=15&min_volume=20")
        assert answer["all_contracts"]["ratio_to_history"] is None
        assert answer["all_contracts"]["reason"] == "7 sessions before can be compared; 15 are the fewest"
        assert answer["counted"]["with_too_little_history"] == answer["counted"]["with_min_volume"] > 0
        assert {row["unusual_by"] for row in answer["contracts"]} <= {"open_interest"}

    def test_fields_and_csv(self, analytics):
        asked = f"/options/AAPL/unusual?{AS_OF}&min_volume=5&min_ratio_to_history=1&fields=symbol,volume&limit=5"
        answer = analytics.get(asked)
        assert list(answer["contracts"][0]) == ["symbol", "volume"]
        lines = analytics.get(asked, Accept="text/csv").splitlines()
        assert lines[0] == "symbol,volume"
        assert lines[1:] == [f"{row['symbol']},{row['volume']}" for row in answer["contracts"]]

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("min_volume=0", "min_volume"),
            ("min_ratio_to_history=0", "min_ratio_to_history"),
            ("sessions=61", "sessions"),
            ("sessions=3", "min_sessions"),
            ("limit=0", "limit"),
            ("fields=price", "fields"),
            ("min_vol=3", "min_vol"),
        ],
    )
    def test_bad_input_is_named(self, analytics, query, field):
        problem = analytics.get(f"/options/AAPL/unusual?{AS_OF}&{query}", 422)
        assert problem["errors"][0]["pointer"] == f"#/query/{field}"

    def test_an_underlying_without_options_is_told_what_there_is(self, analytics):
        assert analytics.get("/options/NOPE/unusual", 404)["available"] == ["AAPL", "SPY"]


def test_a_usual_volume_below_one_and_an_open_interest_of_none_count_as_one():
    today, before = np.array([60, 60, 60]), np.array([[0, -1, 30], [0, -1, 10], [1, -1, -1]])
    usual = usual_volume(today, before)
    assert usual.sessions.tolist() == [3, 0, 2]
    assert usual.mean[[0, 2]].tolist() == [pytest.approx(1 / 3), 20]
    assert np.isnan(usual.mean[1])
    found = find_unusual(today, np.array([0, -1, 240]), usual, Thresholds(50, 1.0, 3.0, 2))
    assert found.to_history.tolist() == pytest.approx([60, np.nan, 3], nan_ok=True)
    assert found.to_open_interest.tolist() == pytest.approx([60, np.nan, 0.25], nan_ok=True)
    assert found.times_threshold.tolist() == [60, 0, 1]
    assert found.by_history.tolist() == [True, False, True]
    assert found.by_open_interest.tolist() == [True, False, False]
    assert found.ranked().tolist() == [0, 2]


class TestVolatility:
    def test_the_implied_one_is_of_the_chain_and_near_the_truth(self, analytics, seeded):
        answer = analytics.get(f"/options/SPY/volatility?{AS_OF}")
        implied = answer["implied"]
        assert (implied["origin"], implied["at"], implied["reason"]) == ("chain", rfc3339(AT), None)
        assert implied["volatility"] == pytest.approx(true_volatility(seeded, "SPY"), abs=0.004)
        realised = next(row for row in answer["realised"] if row["window"] == 20)["close_to_close"]
        premium = answer["variance_premium"]
        assert premium["difference"] == pytest.approx(implied["volatility"] ** 2 - realised**2, abs=1e-12)
        assert "no measure of what will be" in premium["caveat"]
        assert answer["bars_per_year"] == 365
        assert answer["spot"] is not None

    def test_another_estimator_and_window(self, analytics):
        answer = analytics.get(f"/options/SPY/volatility?{AS_OF}&estimator=parkinson&premium_window=15&windows=15")
        premium = answer["variance_premium"]
        assert premium["realised_variance"] == pytest.approx(answer["realised"][0]["parkinson"] ** 2, rel=1e-12)
        assert (premium["estimator"], premium["window"]) == ("parkinson", 15)

    def test_without_quotes_the_snapshot_of_the_close_before_answers(self, analytics, market):
        """A second into the session too little is quoted, so the last close's figure is taken, and it is said."""
        answer = analytics.get(f"/options/SPY/volatility?as_of={rfc3339(TODAY * DAY + SECOND)}")
        ((stored,),) = market.database.rows(
            "SELECT volatility_30d FROM volatility_snapshots WHERE underlying = 'SPY' AND closing AND ts = %s",
            (to_datetime(TODAY * DAY),),
        )
        implied = answer["implied"]
        assert (implied["origin"], implied["at"]) == ("snapshot", rfc3339(TODAY * DAY))
        assert implied["volatility"] == stored
        assert implied["detail"]

    def test_rank_and_percentile_are_of_the_closes_before(self, analytics, market):
        values = np.round(np.random.default_rng(3).uniform(0.1, 0.4, 30), 4)
        days = [TODAY - 2 - i for i in range(30)][::-1]
        with ClosingSnapshots(market, "AAPL", days, values):
            answer = analytics.get(f"/options/AAPL/volatility?as_of={rfc3339(AT + 2)}")
            one_less = analytics.get(f"/options/AAPL/volatility?as_of={rfc3339(AT + 2)}&history_sessions=25")
        current = answer["implied"]["volatility"]
        ((yesterday,),) = market.database.rows(
            "SELECT volatility_30d FROM volatility_snapshots WHERE underlying = 'AAPL' AND closing AND ts = %s",
            (to_datetime(TODAY * DAY),),
        )
        closes = np.append(values, yesterday)
        rank = answer["implied_rank"]
        assert rank["sessions"] == 31
        assert (rank["first"], rank["last"]) == (str(day_of(days[0])), str(day_of(TODAY - 1)))
        assert (rank["lowest"], rank["highest"]) == (closes.min(), closes.max())
        assert rank["rank"] == pytest.approx((current - closes.min()) / (closes.max() - closes.min()))
        assert rank["percentile"] == pytest.approx((closes < current).mean())
        assert rank["sessions_missing"] == 0
        assert one_less["implied_rank"]["sessions"] == 25
        assert one_less["implied_rank"]["lowest"] == closes[-25:].min()

    def test_closes_after_the_moment_are_not_seen(self, analytics, market):
        days = [TODAY - 2 - i for i in range(30)][::-1]
        with ClosingSnapshots(market, "AAPL", [*days, TODAY, TODAY + 1], [*np.full(30, 0.2), 9.0, 9.0]):
            rank = analytics.get(f"/options/AAPL/volatility?as_of={rfc3339(AT + 3)}")["implied_rank"]
        assert rank["sessions"] == 31
        assert rank["highest"] < 1

    def test_few_closes_are_no_rank(self, analytics):
        rank = analytics.get(f"/options/AAPL/volatility?as_of={rfc3339(AT + 4)}")["implied_rank"]
        assert (rank["rank"], rank["percentile"], rank["sessions"]) == (None, None, 1)
        assert rank["reason"] == "1 closes of sessions before are stored; 20 are the fewest"


def day_of(day):
    return date(1970, 1, 1) + timedelta(days=day)


class ClosingSnapshots:
    """Snapshots of closes with given values, gone afterwards."""

    def __init__(self, market, underlying, days, values):
        self._market, self._underlying = market, underlying
        self._rows = [
            (day_of(day), to_datetime((day + 1) * DAY), float(value)) for day, value in zip(days, values, strict=True)
        ]

    def __enter__(self):
        with closing(self._market.database._checkout()) as connection, connection, connection.cursor() as cursor:
            for day, ts, value in self._rows:
                cursor.execute("SELECT open_volatility_chunks(%s)", (ts,))
                cursor.execute(
                    "INSERT INTO volatility_snapshots (underlying, ts, session_date, closing, rate_detail,"
                    " volatility_30d, contracts_used, contracts_refused, newest_at_ns, method, data_version)"
                    " VALUES (%s, %s, %s, true, 'test', %s, 0, '{}', 0, 'test', 'x')",
                    (self._underlying, ts, day, value),
                )

    def __exit__(self, *_):
        self._market.database.execute("DELETE FROM volatility_snapshots WHERE method = 'test'")


def true_volatility(seeded, underlying):
    """Of the model that made the quotes: at the forward, total variance linear between expirations."""
    calls: dict[date, list[str]] = {}
    for name in seeded.chains.chain(underlying, TODAY).raw_symbols:
        if (option := parse_option_symbol(name)) and option.right == "C":
            calls.setdefault(option.expiration, []).append(name)
    years, variances = [], []
    for _, names in sorted(calls.items()):
        told = [seeded.true.contract(name, UNTIL) for name in names]
        strikes = np.array([parse_option_symbol(name).strike / 1e9 for name in names])
        carry = RATE - BY_SYMBOL[underlying].dividend_yield
        from_forward = np.log(strikes / told[0].spot) - carry * told[0].years
        years.append(told[0].years)
        order = np.argsort(from_forward)
        at_forward = np.interp(0, from_forward[order], np.array([one.implied_volatility for one in told])[order])
        variances.append(at_forward**2 * years[-1])
    return float(np.sqrt(np.interp(30 / 365, years, variances) / (30 / 365)))


class TestMarket:
    def test_implied_figures_are_of_the_chain_where_no_snapshot_is_recent(self, rows, analytics):
        for symbol in UNDERLYINGS:
            implied = analytics.get(f"/options/{symbol}/volatility?{AS_OF}")["implied"]["volatility"]
            assert rows[symbol]["implied_30d"] == pytest.approx(implied, rel=1e-12)
            assert (rows[symbol]["implied_origin"], rows[symbol]["implied_at"]) == ("chain", rfc3339(AT))

    def test_a_recent_snapshot_answers(self, analytics, market):
        """Two minutes after a close that has one."""
        answer = analytics.get(f"/market?as_of={rfc3339(TODAY * DAY + 2 * MINUTE)}")
        stored = dict(market.database.rows("SELECT underlying, volatility_30d FROM volatility_snapshots"))
        assert answer["quality"]["oldest_implied"] == rfc3339(TODAY * DAY)
        for row in answer["market"]:
            assert (row["implied_origin"], row["implied_at"]) == ("snapshot", rfc3339(TODAY * DAY))
            assert row["implied_30d"] == stored[row["symbol"]]
            assert 0 < row["expected_move_today"] <= row["expected_move"]

    def test_the_moves_follow_from_volatility_and_time(self, rows):
        row = rows["SPY"]
        years = (((date.fromisoformat(row["expiration"]) - day_of(TODAY)).days + 1) * DAY - (AT - TODAY * DAY)) / (
            365 * DAY
        )
        assert years > 0
        volatility = np.sqrt(np.log1p((row["expected_move"] / row["price"]) ** 2) / years)
        assert volatility == pytest.approx(row["implied_30d"], abs=0.05)
        # around the clock the session's hours are its share of the time to the expiration
        today = ((TODAY + 1) * DAY - AT) / (365 * DAY)
        expected = row["price"] * np.sqrt(np.expm1(volatility**2 * today))
        assert row["expected_move_today"] == pytest.approx(expected, rel=1e-3)
        assert row["expected_move_pct"] == pytest.approx(100 * row["expected_move"] / row["price"])

    def test_puts_and_calls_are_counted(self, rows, volumes, open_interest):
        puts = sum(n for name, n in volumes[TODAY].items() if name[-9] == "P")
        calls = sum(n for name, n in volumes[TODAY].items() if name[-9] == "C")
        row = rows["AAPL"]
        assert (row["put_volume"], row["call_volume"]) == (puts, calls)
        assert row["put_call_volume"] == pytest.approx(puts / calls)
        open_puts = sum(n for name, n in open_interest.items() if name[-9] == "P")
        open_calls = sum(n for name, n in open_interest.items() if name[-9] == "C")
        assert (row["put_open_interest"], row["call_open_interest"]) == (open_puts, open_calls)
        assert rows["SPY"]["put_volume"] is None
        assert rows["SPY"]["reasons"]["put_call_volume"] == "no option trade of the session is stored"

    def test_change_and_breadth(self, rows):
        for symbol in UNDERLYINGS:
            row = rows[symbol]
            assert row["change"] == pytest.approx(row["price"] - row["previous_close"])
            assert row["realised_20"] > 0
            assert row["mean_20"] > 0


def test_the_documents_examples_are_answers(analytics):
    """They have the members that an answer has, and no other."""
    schemas = analytics.document()["components"]["schemas"]
    for model in (UnusualModel, VolatilityModel, MarketModel, CustomModel):
        example = schemas[model.__name__]["example"]
        assert model.model_validate(example).model_dump() == example


def test_hours_until_an_expiration_are_the_exchanges():
    """A Friday noon: of the hours until Monday's close, the afternoon is 4 of 10.5; a weekend counts for nothing."""
    sessions = xnys()
    index = int(np.searchsorted(sessions.dates, np.datetime64("2019-02-08")))
    friday = Moment(
        int(sessions.closes[index]) - 4 * HOUR,
        date(2019, 2, 8),
        int(sessions.opens[index]),
        int(sessions.closes[index]),
    )
    assert share_of_today(sessions, date(2019, 2, 8), friday) == 1
    assert share_of_today(sessions, date(2019, 2, 11), friday) == pytest.approx(4 / 10.5)
    assert share_of_today(sessions, date(2019, 2, 11), Moment.close_of(sessions, index)) == 0
