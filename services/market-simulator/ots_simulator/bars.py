"""Minute bars, drawn before the trades that they are made of; the tape then trades exactly these.

So a year of bars costs no trade, and bars and trades agree by construction. Prices are whole cents.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_simulator.paths import Minutes, Paths
from ots_simulator.underlyings import BY_SYMBOL

Ints = NDArray[np.int64]

MINUTES_A_DAY = 1440


class MinuteBars(NamedTuple):
    """A symbol's minutes of a session, arrays (n,); prices in cents, of meaning only where ``trades`` > 0.

    ``first``: the first minute within the UTC day. ``trades``: how many. ``lots``, ``odd``: their volume is 100 lots +
    odd. ``round_count``: trades of whole lots. ``spread``: of the quote, in cents. ``trades_before``: (n,) trades of
    the session before the minute.
    """

    first: int
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    trades: Ints
    round_count: Ints
    lots: Ints
    odd: Ints
    spread: Ints
    trades_before: Ints

    @property
    def volume(self) -> Ints:
        """Shares traded in each minute."""
        return 100 * self.lots + self.odd


class Bar(NamedTuple):
    """One bar: cents and shares."""

    open: int
    high: int
    low: int
    close: int
    volume: int


class Bars:
    """Bars of every length, from the minutes'."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.minutes = lru_cache(maxsize=96)(self._draw)
        self.day = lru_cache(maxsize=16_384)(self._day)

    def _draw(self, symbol: str, day: int) -> MinuteBars:
        minutes = self.paths.minutes(symbol, day)
        underlying = BY_SYMBOL[symbol]
        count = _counts(minutes, underlying.trades_a_second)
        spread = _spreads(minutes, underlying.spread)
        cents = 100.0 * np.exp(minutes.log_price)
        half = 0.5 * spread
        # the sign of whoever trades first and last: at the ask or at the bid
        first_side = np.where(minutes.uniform[1] < 0.5, half, -half)
        last_side = np.where(minutes.uniform[2] < 0.5, half, -half)
        # few trades see less of the minute's range
        seen = np.maximum(count - 1, 0) / (count + 1.0)
        high_log, low_log = _seen_extremes(minutes, seen)
        high = np.rint(100.0 * np.exp(high_log) + half).astype(np.int64)
        low = np.rint(100.0 * np.exp(low_log) - half).astype(np.int64)
        opened = np.clip(np.rint(cents[:-1] + first_side).astype(np.int64), low, high)
        closed = np.clip(np.rint(cents[1:] + last_side).astype(np.int64), low, high)
        return MinuteBars(
            minutes.first,
            *_attainable(opened, high, low, closed, count),
            count,
            *_volumes(minutes, count, underlying.mean_lots),
            spread,
            np.cumsum(count) - count,
        )

    def _day(self, symbol: str, day: int) -> Bar | None:
        """The bar of a session; None when nothing traded."""
        minutes = self.minutes(symbol, day)
        traded = np.flatnonzero(minutes.trades)
        if not len(traded):
            return None
        return Bar(
            int(minutes.open[traded[0]]),
            int(minutes.high[traded].max()),
            int(minutes.low[traded].min()),
            int(minutes.close[traded[-1]]),
            int(minutes.volume[traded].sum()),
        )


def _counts(minutes: Minutes, trades_a_second: float) -> Ints:
    """Trades in each minute: log-normal about the intensity, a heavy tail (Clark 1973: activity drives both)."""
    noise = 0.5
    mean = 60.0 * trades_a_second * minutes.activity * np.exp(noise * minutes.normal[0] - 0.5 * noise**2)
    counts: Ints = np.minimum(mean + minutes.uniform[0], 6_000.0).astype(np.int64)
    return counts


def _spreads(minutes: Minutes, share: float) -> Ints:
    """The quoted spread of each minute in cents, at least one: wider for dear, for busy and for open and close."""
    cents = 100.0 * np.exp(minutes.log_price[:-1]) * share
    wide = cents * np.sqrt(minutes.activity) * np.exp(0.3 * minutes.normal[1])
    spreads: Ints = np.maximum(np.rint(wide), 1.0).astype(np.int64)
    return spreads


def _seen_extremes(minutes: Minutes, seen: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, after = minutes.log_price[:-1], minutes.log_price[1:]
    upper, lower = np.maximum(before, after), np.minimum(before, after)
    return upper + seen * (minutes.high - upper), lower - seen * (lower - minutes.low)


def _attainable(opened: Ints, high: Ints, low: Ints, closed: Ints, count: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Bars that ``count`` trades can make: one trade has one price, two no extremes beside them, three only one."""
    closed = np.where(count == 1, opened, closed)
    upper, lower = np.maximum(opened, closed), np.minimum(opened, closed)
    high = np.where(count < 3, upper, high)
    low = np.where((count < 3) | ((count == 3) & (high > upper)), lower, low)
    return opened, high, low, closed


def _volumes(minutes: Minutes, count: Ints, mean_lots: float) -> tuple[Ints, Ints, Ints]:
    """(trades of whole lots, lots, odd shares): Pareto-like lots beyond the first of each trade."""
    uniform = minutes.uniform[3]
    round_count = np.minimum((0.55 * count + uniform).astype(np.int64), count)
    heavy = np.minimum(0.5 / np.sqrt(1.0 - minutes.uniform[4] * 0.9999), 20.0)
    extra_lots = (round_count * mean_lots * heavy).astype(np.int64)
    odd_count = count - round_count
    extra_odd = (odd_count * 28.0 * (0.5 + uniform)).astype(np.int64)
    return round_count, round_count + extra_lots, odd_count + extra_odd
