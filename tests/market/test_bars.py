"""Bars summed up, joined and adjusted, without a database."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ots_market.adjustments import Split, split_factors
from ots_market.bars import Bars, Origin, bars_from_trades, sum_minutes, sum_sessions
from ots_market.sessions import xnys
from ots_market.timeframes import DAY_NS, MINUTE_NS, Timeframe


def minutes(starts, prices, volumes):
    starts = np.array(starts, np.int64)
    array = np.array(prices, np.int64)
    return Bars(
        starts=starts,
        known_at=starts + MINUTE_NS,
        open=array,
        high=array + 2,
        low=array - 2,
        close=array + 1,
        volume=np.array(volumes, np.int64),
        origin=np.full(len(starts), Origin.VENDOR, np.int8),
        publishers=np.ones(len(starts), np.int16),
    )


rows = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(10, 1000), st.integers(0, 100)),
    min_size=1,
    max_size=100,
    unique_by=lambda row: row[0],
)


@given(rows, st.sampled_from([Timeframe.M5, Timeframe.M15, Timeframe.H1]))
def test_summed_bars_are_what_a_loop_would_make(table, timeframe):
    table = sorted(table)
    bars = sum_minutes(
        minutes([m * MINUTE_NS for m, _, _ in table], [p for _, p, _ in table], [v for *_, v in table]), timeframe
    )
    length = timeframe.nanoseconds // MINUTE_NS
    expected = {}
    for minute, price, volume in table:
        o, h, low, _, v = expected.get(minute // length, (price, 0, 10**9, 0, 0))
        expected[minute // length] = (o, max(h, price + 2), min(low, price - 2), price + 1, v + volume)
    found = zip(bars.open, bars.high, bars.low, bars.close, bars.volume, strict=True)
    assert [tuple(map(int, row)) for row in found] == list(expected.values())
    assert (bars.starts // timeframe.nanoseconds).tolist() == list(expected)
    assert (bars.known_at == bars.starts + timeframe.nanoseconds).all()


def test_a_daily_bar_is_the_regular_session_and_known_at_its_close():
    sessions = xnys()
    day = int(np.searchsorted(sessions.dates, np.datetime64("2015-12-24")))
    opened, closed = int(sessions.opens[day]), int(sessions.closes[day])
    starts = [opened - MINUTE_NS, opened, closed - MINUTE_NS, closed]
    bars = sum_sessions(minutes(starts, [1, 10, 20, 99], [1, 2, 3, 4]), sessions)
    assert (len(bars), int(bars.open[0]), int(bars.close[0]), int(bars.volume[0])) == (1, 10, 21, 5)
    assert int(bars.known_at[0]) == closed
    assert int(bars.starts[0]) == (date(2015, 12, 24) - date(1970, 1, 1)).days * DAY_NS


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 5 * MINUTE_NS), st.integers(1, 100), st.integers(1, 9)), min_size=1
    )
)
def test_bars_of_trades(trades):
    trades.sort(key=lambda t: t[:2])
    series, times, prices, sizes = (np.array(column, np.int64) for column in zip(*trades, strict=True))
    first, opened, high, low, close, volume = bars_from_trades(series, times, prices, sizes)
    assert int(volume.sum()) == int(sizes.sum())
    expected = {}
    for one, at, price, size in trades:
        expected.setdefault((one, at // MINUTE_NS), []).append((price, size))
    assert list(zip(series[first].tolist(), (times[first] // MINUTE_NS).tolist(), strict=True)) == list(expected)
    for i, mine in enumerate(expected.values()):
        prices_of = [price for price, _ in mine]
        assert (opened[i], high[i], low[i], close[i]) == (mine[0][0], max(prices_of), min(prices_of), mine[-1][0])
        assert volume[i] == sum(size for _, size in mine)


@pytest.mark.parametrize("daily", [True, False])
def test_factors_multiply_before_each_split(daily):
    def split(day, n):
        at = (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY_NS
        return Split(date.fromisoformat(day), at + 5 * 3600 * 10**9, n, 1, "test")

    splits = [split("2014-06-09", 7), split("2020-08-31", 4)]
    days = ["2014-06-08", "2014-06-09", "2020-08-30", "2020-08-31"]
    starts = np.array([(date.fromisoformat(d) - date(1970, 1, 1)).days * DAY_NS for d in days])
    if not daily:
        starts = starts + 15 * 3600 * 10**9
    assert split_factors(splits, starts, daily=daily).tolist() == [28, 4, 4, 1]
