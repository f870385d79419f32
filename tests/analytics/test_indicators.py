"""Every indicator through HTTP, of days and of minutes: sessions, splits, anchors, and reasons for null."""

from datetime import date

import numpy as np
import pytest
from databento_dbn import RType, Schema
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, bar, dbn_file, midnight
from ots_analytics.app import create_app
from ots_analytics.histories import session_slots
from ots_analytics.settings import AnalyticsSettings
from ots_common.times import rfc3339
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_market.sessions import xnys
from ots_market.timeframes import Timeframe
from ots_quant import indicators
from ots_quant.indicators.history import History
from ots_quant.registry import INDICATORS

KEY = SecretStr("a" * 40)
FIRST_DAY = date(2023, 1, 3)
SPLIT_DAY = date(2024, 3, 12)
# 25 sessions, over the change to daylight saving time on 10 March, with pre-market and post-market minutes
FIRST_SESSION, LAST_SESSION = date(2024, 2, 20), date(2024, 3, 25)
NAMES = sorted(INDICATORS)


def sessions_between(first, last):
    calendar = xnys()
    return np.flatnonzero((calendar.dates >= np.datetime64(first)) & (calendar.dates <= np.datetime64(last)))


def prices_of(seed, count):
    """open, high, low, close in cents, and volume; a row a bar."""
    chance = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(chance.normal(0, 0.001, count)))
    open_ = close * np.exp(chance.normal(0, 0.0005, count))
    high = np.maximum(open_, close) + chance.random(count) * 0.05
    low = np.minimum(open_, close) - chance.random(count) * 0.05
    return np.round(np.column_stack((open_, high, low, close)), 2), chance.integers(1, 1000, count)


def minute_starts():
    calendar = xnys()
    starts = []
    for index in sessions_between(FIRST_SESSION, LAST_SESSION):
        opened, closed = int(calendar.opens[index]), int(calendar.closes[index])
        starts += range(opened - 10 * MINUTE, closed + 10 * MINUTE, MINUTE)
    return np.array(starts)


STARTS = minute_starts()
MINUTES, MINUTE_VOLUME = prices_of(1, len(STARTS))
DAYS = xnys().dates[sessions_between(FIRST_DAY, LAST_SESSION)].astype("datetime64[ns]").astype(np.int64)
DAILY, DAILY_VOLUME = prices_of(2, len(DAYS))
SPLIT_AT = midnight(SPLIT_DAY)


def client_of(market, history_bars):
    client = create_app(
        AnalyticsSettings(
            database_url=market.reader, accept_keys={"gateway": KEY}, log_level="ERROR", history_bars=history_bars
        )
    ).test_client()

    def get(symbol, query, status=200):
        token = sign_internal_token(
            Caller("gateway", "u", "u", "viewer", "request-01"), "analytics", {"analytics": KEY}
        )
        path = f"/api/v1/analytics/indicators/{symbol}?{query}" if symbol else "/api/v1/analytics/indicators"
        answer = client.get(path, headers={HEADER: token})
        assert answer.status_code == status, answer.text
        return answer.json

    return get


@pytest.fixture(scope="module")
def ask(market, redis_server, tmp_path_factory):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    minutes = [
        bar(t, tuple(p), v) for t, p, v in zip(STARTS.tolist(), MINUTES.tolist(), MINUTE_VOLUME.tolist(), strict=True)
    ]
    # four for one: before it prices are four times as high, and volumes a fourth
    days = [
        bar(
            t, tuple(4 * x for x in p) if t < SPLIT_AT else tuple(p), v if t < SPLIT_AT else 4 * v, rtype=RType.OHLCV_1D
        )
        for t, p, v in zip(DAYS.tolist(), DAILY.tolist(), DAILY_VOLUME.tolist(), strict=True)
    ]
    broken = [bar(t, (1, 1, 1, 1) if i else (0, 0, 0, 0), 5, rtype=RType.OHLCV_1D) for i, t in enumerate(DAYS[:60])]
    with service.working():
        service.imported(dbn_file(Schema.OHLCV_1M, minutes, day=FIRST_SESSION, days=60, symbols={"MINS": 1}))
        service.imported(dbn_file(Schema.OHLCV_1D, days, day=FIRST_DAY, days=500, symbols={"DAYS": 1}))
        service.imported(dbn_file(Schema.OHLCV_1D, broken, day=FIRST_DAY, days=500, symbols={"ZERO": 1}))
    split = {"kind": "split", "ex_date": SPLIT_DAY.isoformat(), "numerator": 4, "denominator": 1}
    stored = service.post("/corporate-actions", json={"symbol": "DAYS", "source": "test", "actions": [split]})
    assert stored.status_code == 201, stored.text
    return client_of(market, history_bars=1000)


def all_of(ask, symbol, query):
    """The answers of every indicator, joined; twenty may be asked for at once."""
    values, reasons = {}, {}
    for first in range(0, len(NAMES), 20):
        answer = ask(symbol, f"indicators={','.join(NAMES[first : first + 20])}&{query}")
        values |= answer["indicators"]
        reasons |= answer["reasons"]
    assert sorted(values) == NAMES
    return values, reasons


def numbers(value):
    return list(value.values()) if isinstance(value, dict) else [value]


def summed(timeframe, until):
    """Open, high, low, close, volume and start of the intervals of the minutes that had passed by then."""
    length = timeframe.nanoseconds
    known = STARTS // length * length + length <= until
    buckets = STARTS[known] // length * length
    first = np.flatnonzero(np.diff(buckets, prepend=-1))
    last = np.append(first[1:], len(buckets)) - 1
    p, v = MINUTES[known], MINUTE_VOLUME[known]
    return (
        p[first, 0], np.maximum.reduceat(p[:, 1], first), np.minimum.reduceat(p[:, 2], first), p[last, 3],
        np.add.reduceat(v, first).astype(float), buckets[first],
    )  # fmt: skip


@pytest.mark.parametrize("timeframe", [Timeframe.M1, Timeframe.M5, Timeframe.M15, Timeframe.H1])
def test_every_indicator_of_intraday_bars_is_that_of_the_mathematics(ask, timeframe):
    index = sessions_between(FIRST_SESSION, LAST_SESSION)[-1]
    at = int(xnys().opens[index]) + 200 * MINUTE
    values, reasons = all_of(ask, "MINS", f"timeframe={timeframe.value}&as_of={rfc3339(at)}")
    o, h, low, c, v, starts = summed(timeframe, at)
    session, slot = session_slots(starts, timeframe, xnys())
    year = int(np.searchsorted(starts, midnight(date(2024, 1, 1))))
    per_session = {"1m": 390, "5m": 78, "15m": 26, "1h": 7}[timeframe.value]
    bars = History(o, h, low, c, v, session, slot, anchor=year, bars_per_year=252.0 * per_session)
    for name, value in values.items():
        entry = INDICATORS[name]
        if entry.memory(entry.defaults()) is None and name != "anchored_vwap":
            continue  # depends on the first bar read
        expected = [array[-1] for array in entry.compute(bars, entry.defaults())]
        given = [np.nan if x is None else x for x in numbers(value)]
        assert given == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True), name
    # fewer sessions are stored than a relative volume needs only where hours were cut differently
    assert set(reasons) <= {"relative_volume"}


def test_every_indicator_of_daily_bars_adjusted_for_the_split(ask):
    values, reasons = all_of(ask, "DAYS", "timeframe=1d")
    assert reasons == {}
    bars = History(
        *DAILY.T, 4.0 * DAILY_VOLUME, np.arange(len(DAYS)), np.zeros(len(DAYS), int),
        anchor=int(np.searchsorted(DAYS, midnight(date(2024, 1, 1)))),
    )  # fmt: skip
    for name, value in values.items():
        expected = [array[-1] for array in INDICATORS[name].compute(bars, INDICATORS[name].defaults())]
        assert numbers(value) == pytest.approx(expected, rel=1e-9, abs=1e-9), name


def test_a_split_is_a_gap_only_where_it_is_asked_for(ask):
    at = rfc3339(SPLIT_AT + DAY)
    adjusted = ask("DAYS", f"indicators=gap,roc:1&as_of={at}")["indicators"]
    raw = ask("DAYS", f"indicators=gap,roc:1&as_of={at}&adjusted=false")["indicators"]
    assert abs(adjusted["gap"]) < 0.02
    assert raw["gap"] == pytest.approx((1 + adjusted["gap"]) / 4 - 1)
    assert raw["roc"] < -70


def test_vwap_begins_with_the_session_and_knows_no_pre_market(ask):
    index = sessions_between(FIRST_SESSION, LAST_SESSION)[13]  # after the change of the clocks
    opened = int(xnys().opens[index])
    answer = ask("MINS", f"timeframe=1m&indicators=vwap&series=40&as_of={rfc3339(opened + 30 * MINUTE)}")
    vwaps = answer["series"]["vwap"]["vwap"]
    assert vwaps[:10] == [None] * 10  # pre-market minutes, after the close of the session before: in no session
    of = (opened <= STARTS) & (opened + 30 * MINUTE > STARTS)
    price = MINUTES[of][:, 1:].mean(axis=1)
    expected = np.cumsum(price * MINUTE_VOLUME[of]) / np.cumsum(MINUTE_VOLUME[of])
    assert vwaps[10:] == pytest.approx(expected, rel=1e-12)
    assert answer["reasons"] == {}


def test_outside_of_the_session_there_is_null_and_a_reason(ask):
    index = sessions_between(FIRST_SESSION, LAST_SESSION)[5]
    before = rfc3339(int(xnys().opens[index]) - 2 * MINUTE)
    answer = ask("MINS", f"timeframe=1m&indicators=vwap,pivots,sma&as_of={before}")
    assert set(answer["indicators"]["vwap"].values()) == {None}
    assert set(answer["reasons"]) == {"vwap", "pivots"}
    assert "outside of every session" in answer["reasons"]["vwap"]
    assert answer["indicators"]["sma"] is not None


def test_an_opening_range_is_known_when_it_is_over(ask):
    index = sessions_between(FIRST_SESSION, LAST_SESSION)[20]
    opened = int(xnys().opens[index])

    def at(minutes):
        return ask("MINS", f"timeframe=1m&indicators=opening_range:30&as_of={rfc3339(opened + minutes * MINUTE)}")

    of = (opened <= STARTS) & (opened + 30 * MINUTE > STARTS)
    expected = {"high": MINUTES[of, 1].max(), "low": MINUTES[of, 2].min()}
    assert at(29)["indicators"]["opening_range"] == {"high": None, "low": None}
    assert at(30)["indicators"]["opening_range"] == pytest.approx(expected)
    assert at(200)["indicators"]["opening_range"] == pytest.approx(expected)


def test_more_sessions_are_read_than_bars_are_kept_where_an_indicator_needs_them(ask):
    """1,000 bars are read by default here; twenty sessions of minutes are 8,200."""
    indices = sessions_between(FIRST_SESSION, LAST_SESSION)
    now = int(xnys().opens[indices[22]]) + 60 * MINUTE
    answer = ask("MINS", f"timeframe=1m&indicators=relative_volume&as_of={rfc3339(now)}")
    same_minute = [int(xnys().opens[i]) + 59 * MINUTE for i in indices[2:23]]
    volumes = [float(MINUTE_VOLUME[t == STARTS][0]) for t in same_minute]
    assert answer["indicators"]["relative_volume"]["bar"] == pytest.approx(volumes[-1] / np.mean(volumes[:-1]))
    assert answer["quality"]["bars"] > 8000


def test_an_anchor_is_a_moment(ask):
    anchor = DAYS[-60]
    answer = ask("DAYS", f"indicators=anchored_vwap&anchor={rfc3339(int(anchor) - 5)}")
    assert answer["anchor"] == rfc3339(int(anchor))
    h, low, c = DAILY[-60:, 1], DAILY[-60:, 2], DAILY[-60:, 3]
    expected = np.average((h + low + c) / 3, weights=DAILY_VOLUME[-60:])
    assert answer["indicators"]["anchored_vwap"]["vwap"] == pytest.approx(expected, rel=1e-12)
    assert ask("DAYS", "indicators=anchored_vwap")["anchor"] == "2024-01-02T00:00:00Z"
    refused = ask("DAYS", "indicators=anchored_vwap&anchor=2030-01-01", 422)
    assert "newest bar" in refused["detail"]
    assert "anchor" not in ask("DAYS", "indicators=sma")


def test_what_depends_on_the_first_bar_is_named(ask):
    answer = ask("DAYS", "indicators=obv,psar,supertrend,sma,anchored_vwap,ad")
    assert answer["since_first_bar"] == ["obv", "psar", "supertrend", "ad"]
    assert answer["first_bar"] == rfc3339(int(DAYS[0]))


def test_volatility_says_how_many_bars_a_year_has(ask):
    assert ask("DAYS", "indicators=parkinson")["parameters"]["parkinson"] == {"period": 20, "bars_per_year": 252}
    minutes = ask("MINS", "indicators=yang_zhang:30&timeframe=5m")["parameters"]["yang_zhang"]
    assert minutes == {"period": 30, "bars_per_year": 252 * 78}


def test_bars_that_would_give_a_wrong_number_are_refused(ask):
    refused = ask("ZERO", "indicators=sma,roc", 422)
    assert refused["type"].endswith("unusable-bars")
    assert "roc" in refused["detail"]
    assert "close must be above zero" in refused["detail"]
    assert ask("ZERO", "indicators=sma")["indicators"]["sma"] == 1.0


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("indicators=macd:26:12", "fast must be below slow"),
        ("indicators=psar:0.3:0.2", "acceleration must not be above maximum"),
        ("indicators=ichimoku:30", "conversion must be below base"),
        ("indicators=supertrend:10:0", "multiplier must be from 0.1"),
        ("indicators=relative_volume:101", "sessions must be from 1 to 100"),
        ("indicators=obv:3", "takes 0 parameters"),
        ("indicators=vwap&anchor=yesterday", "anchor"),
        ("indicators=keltner:20:5000", "needs 5001"),
    ],
)
def test_wrong_parameters_are_refused_by_the_registry(ask, query, says):
    assert says in str(ask("DAYS", query, 422))


def test_the_list_is_the_registry(ask):
    listed = {entry["name"]: entry for entry in ask("", "")["indicators"]}
    assert sorted(listed) == NAMES == sorted(set(indicators.__all__) - {"streaming"})
    macd = listed["macd"]
    assert macd["rules"] == ["fast must be below slow"]
    assert macd["lookback"] == {"bars": 33, "sessions": 0}
    assert macd["bounded_memory"] is True
    assert listed["pivots"]["lookback"] == {"bars": 0, "sessions": 1}
    assert listed["obv"]["bounded_memory"] is False


@pytest.mark.parametrize("timeframe", [Timeframe.M1, Timeframe.M5, Timeframe.M15, Timeframe.H1])
def test_slots_count_from_the_opening_in_winter_and_summer(timeframe):
    calendar, length = xnys(), timeframe.nanoseconds
    for day in (date(2024, 1, 16), date(2024, 7, 16), date(2024, 11, 29)):  # the last is a half day
        index = int(np.searchsorted(calendar.dates, np.datetime64(day)))
        opened, closed = int(calendar.opens[index]), int(calendar.closes[index])
        first = opened // length * length
        starts = np.arange(first - 3 * length, closed + 3 * length, length)
        session, slot = session_slots(starts, timeframe, calendar)
        inside = (starts + length > opened) & (starts < closed)
        np.testing.assert_array_equal(session, np.where(inside, index, -1))
        np.testing.assert_array_equal(slot[inside], np.arange(inside.sum()))


def test_every_indicator_of_real_days_and_minutes(market, redis_server, tmp_path_factory, real_data):
    """AAPL from 1998 to 2021 with its four splits, and a week of its minutes in 2019."""
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    splits = [("2000-06-21", 2), ("2005-02-28", 2), ("2014-06-09", 7), ("2020-08-31", 4)]
    with service.working():
        service.imported((real_data / "EQUS.MINI/daily/AAPL.ohlcv-1d.dbn.zst").read_bytes())
        service.imported((real_data / "EQUS.MINI/week-2019-02-11/ohlcv-1m.dbn.zst").read_bytes())
    actions = [{"kind": "split", "ex_date": day, "numerator": n, "denominator": 1} for day, n in splits]
    answer = service.post("/corporate-actions", json={"symbol": "AAPL", "source": "test", "actions": actions})
    assert answer.status_code == 201
    get = client_of(market, history_bars=20_000)
    values, reasons = all_of(get, "AAPL", "timeframe=1d")
    assert reasons == {}
    assert all(np.isfinite(numbers(value)).all() for value in values.values())
    # at the close of the last minute: all but what needs twenty sessions
    values, reasons = all_of(get, "AAPL", "timeframe=1m")
    assert set(reasons) == {"relative_volume"}
    series = get("AAPL", "timeframe=1d&indicators=gap,close_to_close&series=5000")["series"]
    gaps = np.array([x for x in series["gap"] if x is not None])
    assert len(gaps) == 5000
    assert gaps.min() > -0.2  # a split by seven is no gap of -86 %
    assert np.nanmax(np.array(series["close_to_close"], float)) < 1.5
    raw = get("AAPL", "timeframe=1d&indicators=gap&series=5000&adjusted=false")["series"]["gap"]
    assert min(x for x in raw if x is not None) < -0.8
