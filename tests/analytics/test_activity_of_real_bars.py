"""Real days and minutes of 2019 through HTTP: realised volatility, the market at a glance, statistics over symbols."""

from __future__ import annotations

from datetime import date

import databento
import numpy as np
import pytest
from scipy import stats

from analytics_support import Analytics
from data_ingestion_support import Ingestion, settings_for
from ots_analytics.volume_history import read_volumes_by_time_of_day
from ots_chains.chains import Moment
from ots_common.times import rfc3339, to_nanoseconds
from ots_market.sessions import xnys
from ots_quant import indicators
from real_daily import adjusted_daily, raw_daily

DAY = 86_400_000_000_000
MINUTE = 60_000_000_000
AT = "2019-02-14T16:00:00Z"
AT_NS = to_nanoseconds(AT)
SYMBOLS = ("AAPL", "QQQ", "SPY")
SPLITS = [("AAPL", "2014-06-09", 7), ("AAPL", "2020-08-31", 4), ("AMZN", "2019-02-15", 2)]


@pytest.fixture(scope="module")
def analytics(market, redis_server, tmp_path_factory, real_data):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for file in (*(f"daily/{name}.ohlcv-1d" for name in SYMBOLS), "week-2019-02-11/ohlcv-1m"):
            service.imported((real_data / f"EQUS.MINI/{file}.dbn.zst").read_bytes())
    for symbol, day, new in SPLITS:
        actions = [{"kind": "split", "ex_date": day, "numerator": new, "denominator": 1}]
        posted = service.post("/corporate-actions", json={"symbol": symbol, "source": "test", "actions": actions})
        assert posted.status_code < 300, posted.text
    return Analytics(market, redis_url=redis_server.url)


@pytest.fixture(scope="module")
def minutes(real_data):
    """Of each symbol: starts and rows of the week."""
    store = databento.DBNStore.from_file(real_data / "EQUS.MINI/week-2019-02-11/ohlcv-1m.dbn.zst")
    frame = store.to_df(price_type="fixed").reset_index()
    return dict(list(frame.groupby("symbol")))


def adjusted(real_data, symbol, at_ns):
    """Starts and prices of the UTC days that were over, in shares of then."""
    starts, bars = adjusted_daily(real_data, symbol)
    _, raw = raw_daily(real_data, symbol)
    known = starts + DAY <= at_ns
    later = raw.close[known][-1] / bars.close[known][-1]
    return starts[known], {name: getattr(bars, name)[known] * later for name in ("open", "high", "low", "close")}


class TestVolatility:
    def test_realised_is_that_of_the_indicators_over_adjusted_days(self, analytics, real_data):
        answer = analytics.get(f"/options/AAPL/volatility?as_of={AT}")
        starts, bars = adjusted(real_data, "AAPL", AT_NS)
        assert [row["window"] for row in answer["realised"]] == [10, 20, 60, 120]
        for row in answer["realised"]:
            n = row["window"]
            ohlc = (bars["open"], bars["high"], bars["low"], bars["close"])
            expected = {
                "close_to_close": indicators.close_to_close(bars["close"], n, 252)[-1],
                "parkinson": indicators.parkinson(bars["high"], bars["low"], n, 252)[-1],
                "garman_klass": indicators.garman_klass(*ohlc, n, 252)[-1],
                "rogers_satchell": indicators.rogers_satchell(*ohlc, n, 252)[-1],
                "yang_zhang": indicators.yang_zhang(*ohlc, n, 252)[-1],
            }
            assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)
            assert row["reasons"] == {}
            assert row["bars"] == n
            assert (row["first_bar"], row["last_bar"]) == (rfc3339(starts[-n]), rfc3339(starts[-1]))
        assert [one["ex_date"] for one in answer["splits"]] == ["2014-06-09"], "a later split is not known yet"

    def test_close_to_close_is_numpys(self, analytics, real_data):
        answer = analytics.get(f"/options/AAPL/volatility?as_of={AT}&windows=20")
        _, bars = adjusted(real_data, "AAPL", AT_NS)
        returns = np.diff(np.log(bars["close"][-21:]))
        assert answer["realised"][0]["close_to_close"] == pytest.approx(returns.std(ddof=1) * np.sqrt(252), rel=1e-9)

    def test_a_split_is_no_move(self, analytics, real_data):
        """Over 2020-08-31, when AAPL fell from 499 to 129 dollars by a split."""
        answer = analytics.get("/options/AAPL/volatility?as_of=2020-09-05T00:00:00Z&windows=10")
        _, bars = adjusted(real_data, "AAPL", to_nanoseconds("2020-09-05"))
        _, raw = raw_daily(real_data, "AAPL")
        expected = indicators.close_to_close(bars["close"], 10, 252)[-1]
        assert answer["realised"][0]["close_to_close"] == pytest.approx(expected, rel=1e-6)
        assert expected < 1 < np.abs(np.diff(np.log(raw.close))).max()

    def test_the_session_is_that_of_its_closed_minutes(self, analytics, minutes):
        opened = to_nanoseconds("2019-02-14T14:30:00Z")
        rows = minutes["AAPL"]
        starts = rows["ts_event"].astype("int64").to_numpy()
        own = rows[(starts >= opened) & (starts + MINUTE <= AT_NS)]
        answer = analytics.get(f"/options/AAPL/volatility?as_of={AT}")["session_so_far"]
        returns = np.diff(np.log(own["close"].to_numpy(np.float64)))
        assert answer["bars"] == len(own)
        assert answer["close_to_close"] == pytest.approx(returns.std(ddof=1) * np.sqrt(252 * 390), rel=1e-9)
        ranges = np.log(own["high"].to_numpy(np.float64) / own["low"].to_numpy(np.float64))
        expected = np.sqrt((ranges**2).mean() / (4 * np.log(2)) * 252 * 390)
        assert answer["parkinson"] == pytest.approx(expected, rel=1e-9)

    def test_too_little_is_null_with_its_reason(self, analytics):
        answer = analytics.get("/options/TSLA/volatility?as_of=2019-02-14T14:45:00Z")
        assert {row["yang_zhang"] for row in answer["realised"]} == {None}
        assert answer["realised"][0]["reasons"]["parkinson"] == "10 bars are needed, 3 had closed"
        assert answer["session_so_far"]["close_to_close"] is None
        assert "30 are the fewest" in answer["session_so_far"]["reasons"]["close_to_close"]
        assert answer["implied"]["volatility"] is None
        assert answer["implied"]["reason"] == "no options of TSLA are stored; no snapshot is stored either"
        premium = answer["variance_premium"]
        assert premium["difference"] is None
        assert "implied: no options" in premium["reason"]
        assert "realised: 21 bars are needed" in premium["reason"]
        assert answer["implied_rank"]["reason"] == "no close of a session before is stored; 20 are the fewest"

    def test_nothing_looks_ahead(self, analytics):
        """The day that is on has no daily bar; at midnight UTC it has."""
        before = analytics.get("/options/AAPL/volatility?as_of=2019-02-14T23:59:59Z")
        after = analytics.get("/options/AAPL/volatility?as_of=2019-02-15T00:00:00Z")
        days = [answer["realised"][0]["last_bar"][:10] for answer in (before, after)]
        # the minutes of the session make a bar at its close, the vendor's comes at the end of the UTC day
        assert days == ["2019-02-14", "2019-02-14"]
        at_close = analytics.get("/options/AAPL/volatility?as_of=2019-02-14T20:59:59Z")
        assert at_close["realised"][0]["last_bar"][:10] == "2019-02-13"

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("windows=", "windows"),
            ("windows=1", "windows"),
            ("windows=10,10", "windows"),
            ("windows=10,x", "windows"),
            ("windows=1001", "windows"),
            ("windows=" + ",".join(map(str, range(2, 15))), "windows"),
            ("estimator=garch", "estimator"),
            ("history_sessions=5", "history_sessions"),
            ("premium_window=1", "premium_window"),
            ("window=10", "window"),
        ],
    )
    def test_bad_input_is_named(self, analytics, query, field):
        problem = analytics.get(f"/options/AAPL/volatility?{query}", 422)
        assert problem["errors"][0]["pointer"] == f"#/query/{field}"

    def test_an_option_is_no_underlying(self, market, analytics):
        market.database.execute(
            'INSERT INTO instruments (dataset, raw_symbol, underlying, expiration, strike, "right")'
            " VALUES ('OPRA.PILLAR', 'ZZZ   190215C00100000', 'ZZZ', '2019-02-15', 100000000000, 'C')"
        )
        try:
            problem = analytics.get("/options/ZZZ190215C00100000/volatility", 404)
        finally:
            market.database.execute("DELETE FROM instruments WHERE underlying = 'ZZZ'")
        assert "an underlying named" in problem["detail"]

    def test_an_unknown_underlying_is_told_what_there_is(self, analytics):
        assert "AAPL" in analytics.get("/options/NOPE/volatility", 404)["available"]


class TestMarket:
    def test_each_row_is_that_of_the_bars(self, analytics, minutes, real_data):
        answer = analytics.get(f"/market?as_of={AT}")
        rows = {row["symbol"]: row for row in answer["market"]}
        assert sorted(rows) == sorted(minutes)
        opened, before = to_nanoseconds("2019-02-14T14:30:00Z"), to_nanoseconds("2019-02-13T21:00:00Z")
        changes = {}
        for symbol, bars in minutes.items():
            starts = bars["ts_event"].astype("int64").to_numpy()
            own = bars[(starts >= opened) & (starts + MINUTE <= AT_NS)]
            newest = bars[starts + MINUTE <= AT_NS].iloc[-1]
            previous = bars[starts < before].iloc[-1]
            row = rows[symbol]
            assert row["price"] == newest["close"] / 1e9
            assert row["price_kind"] == "bar"
            assert not row["stale"]
            assert row["previous_close"] == previous["close"] / 1e9
            assert row["change"] == pytest.approx((newest["close"] - previous["close"]) / 1e9, abs=1e-9)
            assert row["change_pct"] == pytest.approx(100 * (newest["close"] / previous["close"] - 1), rel=1e-9)
            assert (row["open"], row["high"], row["low"]) == (
                own["open"].iloc[0] / 1e9, own["high"].max() / 1e9, own["low"].min() / 1e9,
            )  # fmt: skip
            assert row["volume"] == own["volume"].sum()
            changes[symbol] = newest["close"] - previous["close"]
        for symbol in SYMBOLS:
            _, bars = adjusted(real_data, symbol, AT_NS)
            assert rows[symbol]["mean_20"] == pytest.approx(bars["close"][-20:].mean(), rel=1e-9)
            expected = indicators.close_to_close(bars["close"], 20, 252)[-1]
            assert rows[symbol]["realised_20"] == pytest.approx(expected, rel=1e-9)
        above = [rows[name]["price"] > rows[name]["mean_20"] for name in SYMBOLS]
        assert answer["breadth"] == {
            "advancing": sum(change > 0 for change in changes.values()),
            "declining": sum(change < 0 for change in changes.values()),
            "unchanged": sum(change == 0 for change in changes.values()),
            "change_unknown": 0,
            "above_mean_20": sum(above),
            "not_above_mean_20": 3 - sum(above),
            "mean_20_unknown": 3,
        }
        assert rows["TSLA"]["reasons"]["mean_20"] == "20 daily bars are needed, 3 had closed"
        assert rows["TSLA"]["reasons"]["implied_30d"] == "no option of it is stored that had not expired"

    def test_a_split_does_not_change_the_previous_close(self, analytics, real_data):
        """On the day of the split, of daily bars alone: the close before, in shares of that day."""
        answer = analytics.get("/market?as_of=2020-09-01T00:00:00Z")
        row = next(row for row in answer["market"] if row["symbol"] == "AAPL")
        starts, raw = raw_daily(real_data, "AAPL")
        friday, monday = (np.flatnonzero(starts == to_nanoseconds(day))[0] for day in ("2020-08-28", "2020-08-31"))
        assert row["price"] == pytest.approx(raw.close[monday], abs=1e-9)
        assert row["price_kind"] == "daily_bar"
        assert row["previous_close"] == pytest.approx(raw.close[friday] / 4, abs=1e-9)
        assert row["previous_close_kind"] == "daily_bar"
        assert 0 < row["change_pct"] < 10

    def test_of_minutes_too(self, analytics, minutes):
        """AMZN split in the test's ledger on 15 February, as it did not: the minute before is halved."""
        rows = minutes["AMZN"]
        starts = rows["ts_event"].astype("int64").to_numpy()
        last = rows[starts < to_nanoseconds("2019-02-14T21:00:00Z")].iloc[-1]
        answer = analytics.get("/market?as_of=2019-02-15T16:00:00Z")
        row = next(row for row in answer["market"] if row["symbol"] == "AMZN")
        assert row["previous_close"] == pytest.approx(last["close"] / 2e9, abs=1e-9)
        assert row["previous_close_kind"] == "bar"

    def test_a_price_of_the_session_before_is_no_change(self, analytics):
        """Half a minute after the open no minute of the session is over."""
        answer = analytics.get("/market?as_of=2019-02-14T14:30:30Z")
        for row in answer["market"]:
            assert row["price"] == row["previous_close"]
            assert (row["change"], row["stale"]) == (None, True)
            assert row["reasons"]["change"] == "no price of the session is stored"
        assert answer["breadth"]["change_unknown"] == len(answer["market"])

    def test_a_price_that_is_old_is_stale_and_has_no_change(self, analytics, minutes):
        """A week after the last minute."""
        answer = analytics.get("/market?as_of=2019-02-22T16:00:00Z")
        row = next(row for row in answer["market"] if row["symbol"] == "TSLA")
        assert row["stale"]
        assert (row["price"], row["price_kind"]) == (minutes["TSLA"]["close"].iloc[-1] / 1e9, "daily_bar")
        assert row["price_time"] == "2019-02-15T21:00:00Z"
        assert row["change"] is None
        assert row["reasons"]["change"] == "no bar of the session before is stored"
        assert "TSLA" in answer["quality"]["stale"]

    def test_the_same_as_csv(self, analytics):
        text = analytics.get(f"/market?as_of={AT}", Accept="text/csv")
        lines = text.splitlines()
        assert lines[0].startswith("symbol,price,price_time,price_kind,stale,previous_close")
        assert len(lines) == 1 + 6

    def test_before_anything_was_stored_all_is_unknown(self, analytics):
        answer = analytics.get("/market?as_of=1995-01-03T16:00:00Z")
        assert {row["price"] for row in answer["market"]} == {None}
        assert answer["market"][0]["reasons"]["price"] == "nothing of it is stored that had happened by then"
        assert answer["newest_input"] is None

    def test_a_moment_before_the_calendar_is_named(self, analytics):
        assert analytics.get("/market?as_of=1971-01-01", 422)["errors"][0]["pointer"] == "#/query/as_of"


class TestCustom:
    def test_correlation_and_beta_are_scipys(self, analytics, real_data):
        answer = analytics.post("/custom", {"symbols": ["aapl", "QQQ"], "as_of": AT, "bars": 250})
        closes = {}
        for name in SYMBOLS:
            starts, bars = adjusted(real_data, name, AT_NS)
            closes[name] = dict(zip(starts.tolist()[-250:], bars["close"].tolist()[-250:], strict=True))
        common = sorted(set.intersection(*map(set, closes.values())))
        assert len(common) == 250
        returns = {name: np.diff(np.log([own[t] for t in common])) for name, own in closes.items()}
        expected = np.corrcoef(returns["AAPL"], returns["QQQ"])
        assert answer["correlation"]["matrix"][0] == pytest.approx(expected[0].tolist(), abs=1e-12)
        assert answer["correlation"]["returns"] == 249
        for row, name in zip(answer["beta"], ("AAPL", "QQQ"), strict=True):
            line = stats.linregress(returns["SPY"], returns[name])
            assert row["beta"] == pytest.approx(line.slope, rel=1e-10)
            assert row["standard_error"] == pytest.approx(line.stderr, rel=1e-8)
            assert row["r_squared"] == pytest.approx(line.rvalue**2, rel=1e-10)
        assert [one["symbol"] for one in answer["inputs"]] == ["AAPL", "QQQ", "SPY"]
        assert answer["as_of"] == AT
        assert answer["newest_input"] == "2019-02-14T00:00:00Z", "the newest day that was over"

    def test_the_cone_ends_in_what_the_indicators_say(self, analytics):
        answer = analytics.post(
            "/custom", {"symbols": ["SPY", "AAPL"], "as_of": AT, "measures": ["volatility_cone"], "windows": [20, 60]}
        )
        realised = analytics.get(f"/options/AAPL/volatility?as_of={AT}&windows=20,60")["realised"]
        cone = answer["volatility_cone"][1]
        assert [row["current"] for row in cone["windows"]] == pytest.approx(
            [row["close_to_close"] for row in realised], rel=1e-9
        )
        for row in cone["windows"]:
            names = ("lowest", "tenth", "quarter", "median", "three_quarters", "nine_tenths", "highest")
            assert sorted(row[name] for name in names) == [row[name] for name in names]
            assert row["windows"] == 250 - row["window"]
            assert row["independent_windows"] == 249 // row["window"]
        assert answer["correlation"] is None
        assert answer["beta"] is None
        assert answer["benchmark"] is None

    def test_minutes_of_regular_sessions_that_all_have(self, analytics, minutes):
        body = {"symbols": ["TSLA", "MSFT"], "timeframe": "1m", "as_of": AT, "bars": 300, "benchmark": "QQQ"}
        answer = analytics.post("/custom", {**body, "measures": ["correlation", "beta"]})
        calendar = xnys()
        series = {}
        for name in ("TSLA", "MSFT", "QQQ"):
            rows = minutes[name]
            starts = rows["ts_event"].astype("int64").to_numpy()
            chosen = np.flatnonzero((starts + MINUTE <= AT_NS) & (calendar.index_of(starts) >= 0))[-300:]
            series[name] = dict(zip(starts[chosen].tolist(), rows["close"].to_numpy()[chosen].tolist(), strict=True))
        common = sorted(set(series["TSLA"]) & set(series["MSFT"]))
        assert answer["correlation"]["common_bars"] == len(common)
        tsla, msft = (np.diff(np.log([series[name][t] for t in common])) for name in ("TSLA", "MSFT"))
        assert answer["correlation"]["matrix"][0][1] == pytest.approx(np.corrcoef(tsla, msft)[0, 1], abs=1e-12)
        common = sorted(set(series["TSLA"]) & set(series["QQQ"]))
        tsla, qqq = (np.diff(np.log([series[name][t] for t in common])) for name in ("TSLA", "QQQ"))
        assert answer["beta"][0]["common_bars"] == len(common)
        assert answer["beta"][0]["beta"] == pytest.approx(stats.linregress(qqq, tsla).slope, rel=1e-10)

    def test_too_little_in_common_is_null_with_its_reason(self, analytics):
        """Of TSLA the days of the week are there, made of minutes."""
        answer = analytics.post("/custom", {"symbols": ["TSLA", "AAPL"], "as_of": AT})
        assert answer["correlation"]["matrix"] is None
        assert answer["correlation"]["reason"] == "the symbols have 3 bars in common; 21 are the fewest"
        assert answer["beta"][0]["beta"] is None
        assert answer["beta"][1]["beta"] is not None
        first = answer["volatility_cone"][0]["windows"][0]
        assert (first["current"], first["windows"]) == (None, 0)
        assert first["reason"] == "3 bars have 2 returns, fewer than the window"

    def test_later_bars_change_nothing(self, analytics):
        """What was known on 14 February does not depend on the two years that are stored after it."""
        body = {"symbols": ["AAPL", "SPY"], "measures": ["correlation"], "bars": 21}
        answer = analytics.post("/custom", {**body, "as_of": "2019-02-14T20:59:00Z"})
        assert answer["correlation"]["last_bar"] == "2019-02-13T00:00:00Z"

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"symbols": ["AAPL"]}, "#/body/symbols"),
            ({"symbols": ["AAPL"] * 21}, "#/body/symbols"),
            ({"symbols": ["AAPL", "aapl"]}, "#/body/symbols"),
            ({"symbols": ["AAPL", "%"]}, "#/body/symbols/1"),
            ({"bars": 20}, "#/body/bars"),
            ({"bars": 20_001}, "#/body/bars"),
            ({"timeframe": "2d"}, "#/body/timeframe"),
            ({"measures": []}, "#/body/measures"),
            ({"measures": ["beta", "beta"]}, "#/body/measures"),
            ({"measures": ["sharpe"]}, "#/body/measures/0"),
            ({"windows": [1]}, "#/body/windows"),
            ({"windows": [250]}, "#/body/windows"),
            ({"windows": [10, 10]}, "#/body/windows"),
            ({"windows": []}, "#/body/windows"),
            ({"as_of": "yesterday"}, "#/body/as_of"),
            ({"window": [10]}, "#/body/window"),
        ],
    )
    def test_bad_input_is_named(self, analytics, change, pointer):
        problem = analytics.post("/custom", {"symbols": ["AAPL", "SPY"], **change}, 422)
        assert problem["errors"][0]["pointer"] == pointer

    def test_an_unknown_symbol_or_benchmark_is_told_what_there_is(self, analytics):
        for body in ({"symbols": ["AAPL", "NOPE"]}, {"symbols": ["AAPL", "SPY"], "benchmark": "NOPE"}):
            problem = analytics.post("/custom", body, 404)
            assert "NOPE" in problem["detail"]
            assert "AAPL" in problem["available"]


def test_sessions_that_were_shorter_do_not_count(market, analytics):
    """Three in the afternoon has no like on a half day; the first of those before is only looked for as evidence."""
    sessions = xnys()
    index = int(np.searchsorted(sessions.dates, np.datetime64("2015-12-28")))
    opened, closed = int(sessions.opens[index]), int(sessions.closes[index])
    for at, left_out in (
        (closed - 60 * MINUTE, {"nothing_stored": 4, "shorter_session": 1}),
        (opened, {"nothing_stored": 5}),
    ):
        moment = Moment(at, date(2015, 12, 28), opened, closed)
        nothing = np.zeros(0, np.int64)
        found = read_volumes_by_time_of_day(market.database, sessions, "AAPL", moment, nothing, 5)
        assert found.left_out == left_out
        assert (len(found.dates), found.today_all) == (0, 0)


def test_weekends_are_answered_for_the_close_before(analytics):
    friday = analytics.get("/market?as_of=2019-02-15T21:00:00Z")
    sunday = analytics.get("/market?as_of=2019-02-17T12:00:00Z")
    assert friday["as_of"] == sunday["as_of"] == "2019-02-15T21:00:00Z"
    assert date.fromisoformat(sunday["session"]) == date(2019, 2, 15)
    assert sunday["bars_until"] == "2019-02-17T12:00:00Z"
