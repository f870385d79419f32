"""The stocks' tape: trades and quotes of an hour at a time, agreeing with the minute bars drawn before."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_market.timeframes import DAY_NS, MINUTE_NS
from ots_simulator.bars import Bars, MinuteBars
from ots_simulator.paths import SECOND_NS, Floats, Ints, Paths, minutes_in_hour
from ots_simulator.randomness import salt, stream, uniforms
from ots_simulator.underlyings import UNDERLYINGS

NONE = -1  # a side of a quote that is missing, in cents

# the documented rates of the odd things that feeds carry
CROSSED_SECONDS = 2e-4
ONE_SIDED_SECONDS = 1e-4
SWEPT_TRADES = 0.03  # share that came with the trade before, at the same nanosecond
EQUAL_TRADES = 2e-3  # share of which every byte equals the trade before
MIDPOINT_TRADES = 0.06  # share inside the spread, without an aggressor

# time within a second that trades use: a trade's receipt lies in the second of its event
_FIRST_NS, _SPREAD_NS = 1_000_000, 996_000_000
_LATENCY_NS = 60_000
_SYMBOL = {underlying.symbol: i for i, underlying in enumerate(UNDERLYINGS)}


class Trades(NamedTuple):
    """Trades of one symbol in order of time, arrays (n,); prices in cents; ``bid`` and ``ask`` just before each.

    ``side``: +1 a buyer took the ask, -1 a seller hit the bid, 0 neither.
    """

    at_ns: Ints
    received_ns: Ints
    price: Ints
    size: Ints
    side: Ints
    bid: Ints
    ask: Ints
    bid_size: Ints
    ask_size: Ints
    sequence: Ints

    def take(self, which: slice | Ints) -> Trades:
        """The trades that ``which`` selects."""
        return Trades(*(values[which] for values in self))


class Quotes(NamedTuple):
    """The best bid and offer at the ends of an hour's open seconds, arrays (n,); cents, NONE where a side is missing.

    ``last_at_ns`` ... ``last_sequence``: the last trade of the session so far; ``last_at_ns`` is -1 before the first.
    ``changed``: not what the second before said, or a trade in the second; every minute's first second counts so.
    """

    at_ns: Ints
    bid: Ints
    ask: Ints
    bid_size: Ints
    ask_size: Ints
    last_at_ns: Ints
    last_price: Ints
    last_size: Ints
    last_side: Ints
    last_sequence: Ints
    changed: NDArray[np.bool_]


class _Last(NamedTuple):
    at_ns: int
    price: int
    size: int
    side: int
    sequence: int


_NO_TRADE = _Last(-1, 0, 0, 0, 0)


class _Hour(NamedTuple):
    """The minutes of an hour, and of each trade its minute in that hour."""

    bars: MinuteBars
    start_ns: int
    seconds: Floats  # dollars, (minutes, 60)
    minute: Ints
    starts: Ints  # the first trade of each minute that has one
    ends: Ints
    traded: Ints  # those minutes


class Tape:
    """Trades and quotes of the stocks."""

    def __init__(self, paths: Paths, bars: Bars) -> None:
        self.paths, self.bars = paths, bars
        self._salts = {u.symbol: salt(paths.seed, "quotes", u.symbol) for u in UNDERLYINGS}
        self.trades = lru_cache(maxsize=48)(self._trade)
        self.quotes = lru_cache(maxsize=24)(self._quote)

    def _hour(self, symbol: str, day: int, hour: int) -> _Hour:
        part = minutes_in_hour(self.paths.minutes(symbol, day), hour)
        whole = self.bars.minutes(symbol, day)
        bars = MinuteBars(whole.first + part.start, *(values[part] for values in whole[1:]))
        traded = np.flatnonzero(bars.trades)
        ends = np.cumsum(bars.trades)[traded]
        return _Hour(
            bars,
            day * DAY_NS + bars.first * MINUTE_NS,
            self.paths.seconds(symbol, day, hour),
            np.repeat(np.arange(len(bars.trades)), bars.trades),
            ends - bars.trades[traded],
            ends,
            traded,
        )

    def _trade(self, symbol: str, day: int, hour: int) -> Trades:
        """The trades of a UTC hour."""
        h = self._hour(symbol, day, hour)
        draw = stream(self.paths.seed, "tape", symbol, day, hour)
        time, aggressor, sweep, lot, weight, equal = draw.random((6, len(h.minute)))
        at = 60.0 * np.sort(h.minute + time)
        second = np.minimum(at.astype(np.int64), 60 * h.minute + 59)
        at_ns = h.start_ns + second * SECOND_NS + _FIRST_NS + ((at - second) * _SPREAD_NS).astype(np.int64)
        # a swept trade is one message with the trade before it: same time, same aggressor
        origin = _origin(h, sweep < SWEPT_TRADES)
        second, at_ns = second[origin], at_ns[origin]
        price, side = _prices(h, second, aggressor[origin])
        in_lots = _rank_in_minute(h, lot) < h.bars.round_count[h.minute]
        size = _sizes(h, in_lots, weight)
        sequence = 16 * (h.bars.trades_before[h.minute] + _place(h) + 1) + _SYMBOL[symbol]
        repeats = _repeats((origin < np.arange(len(origin))) & (equal < EQUAL_TRADES), price, side, size, in_lots)
        size[repeats] = size[repeats - 1] = (size[repeats] + size[repeats - 1]) // 2
        sequence[repeats] = sequence[repeats - 1]
        spread = h.bars.spread[h.minute]
        bid = price - np.where(side > 0, spread, np.where(side < 0, 0, spread // 2))
        bid_size, ask_size = self._sizes_shown(symbol, h.start_ns // SECOND_NS + second)
        return Trades(
            at_ns, at_ns + _LATENCY_NS, price, size, side, bid, bid + spread, bid_size, ask_size, sequence
        )  # fmt: skip

    def _quote(self, symbol: str, day: int, hour: int) -> Quotes:
        """The quotes at the ends of a UTC hour's open seconds."""
        h, trades = self._hour(symbol, day, hour), self.trades(symbol, day, hour)
        n = h.seconds.size
        number = h.start_ns // SECOND_NS + np.arange(n)
        # the id of an instrument ends with the day: its last quote comes a nanosecond before
        at_ns = np.minimum((number + 1) * SECOND_NS, (day + 1) * DAY_NS - 1)
        spread = np.repeat(h.bars.spread, 60)
        bid = _bids(100.0 * h.seconds.reshape(-1), spread)
        ask = bid + spread
        bid_size, ask_size = self._sizes_shown(symbol, number)
        last = np.searchsorted(trades.received_ns, at_ns) - 1
        seen = np.maximum(last, 0)
        if len(trades.at_ns):
            traded = (last >= 0) & (trades.received_ns[seen] >= number * SECOND_NS)
            bid = np.where(traded, trades.bid[seen], bid)
            ask = np.where(traded, trades.ask[seen], ask)
        else:
            traded = np.zeros(n, np.bool_)
        odd = uniforms(self._salts[symbol], number.astype(np.uint64))
        self._disturb(odd + traded, bid, ask, bid_size, ask_size)
        changed = _changed(traded, bid, ask, bid_size, ask_size)
        shown = self._last_seen(symbol, day, hour, trades, last)
        return Quotes(at_ns, bid, ask, bid_size, ask_size, *shown, changed=changed)

    def _disturb(self, odd: Floats, bid: Ints, ask: Ints, bid_size: Ints, ask_size: Ints) -> None:
        """Cross and empty a few quotes, in place, where ``odd`` is small."""
        crossed = odd < CROSSED_SECONDS
        bid[crossed], ask[crossed] = ask[crossed], bid[crossed]
        for side, (price, size) in enumerate(((bid, bid_size), (ask, ask_size))):
            low = CROSSED_SECONDS + 0.5 * side * ONE_SIDED_SECONDS
            missing = (odd >= low) & (odd < low + 0.5 * ONE_SIDED_SECONDS)
            price[missing], size[missing] = NONE, 0

    def _last_seen(
        self, symbol: str, day: int, hour: int, trades: Trades, last: Ints
    ) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """The last trade's time, price, size, side and sequence at each second of an hour."""
        before = self._last_before(symbol, day, hour)
        found = (trades.at_ns, trades.price, trades.size, trades.side, trades.sequence)
        at_ns, price, size, side, sequence = (
            np.append(values, carried)[last] for values, carried in zip(found, before, strict=True)
        )
        return at_ns, price, size, side, sequence

    def _last_before(self, symbol: str, day: int, hour: int) -> _Last:
        """The last trade of the session before a UTC hour."""
        for earlier in range(hour - 1, -1, -1):
            trades = self.trades(symbol, day, earlier)
            if len(trades.at_ns):
                fields = (trades.at_ns, trades.price, trades.size, trades.side, trades.sequence)
                return _Last(*(int(values[-1]) for values in fields))
        return _NO_TRADE

    def _sizes_shown(self, symbol: str, second: Ints) -> tuple[Ints, Ints]:
        """Shares at the bid and at the ask, in whole lots; they change every few seconds."""
        slot = (second // 4).astype(np.uint64)
        bid, ask = (uniforms(self._salts[symbol], slot, side) for side in (1, 2))
        return _lots(bid), _lots(ask)


def _lots(uniform: Floats) -> Ints:
    return 100 * (1.0 + 2.5 * -np.log1p(-uniform)).astype(np.int64)


def _bids(cents: Floats, spread: Ints) -> Ints:
    """The bid in cents whose middle with ``spread`` is nearest to the true price."""
    return np.floor(cents - 0.5 * spread + 0.5).astype(np.int64)


def _place(h: _Hour) -> Ints:
    """Each trade's place in its minute, from 0."""
    begins = np.repeat(h.starts, h.ends - h.starts)
    place: Ints = np.arange(len(h.minute)) - begins
    return place


def _origin(h: _Hour, swept: NDArray[np.bool_]) -> Ints:
    """For each trade the one whose message it came with: itself, or where swept the one before in the minute."""
    own = np.where(swept & (_place(h) > 0), 0, np.arange(len(h.minute)))
    origin: Ints = np.maximum.accumulate(own)
    return origin


def _prices(h: _Hour, second: Ints, aggressor: Floats) -> tuple[Ints, Ints]:
    """Prices in cents and aggressors' sides: at the quote of the second, and exactly the bars' four prices."""
    bars, minute = h.bars, h.minute
    cents = 100.0 * h.seconds.reshape(-1)[second]
    spread = bars.spread[minute]
    half = 0.5 * (1.0 - MIDPOINT_TRADES)
    side = np.where(aggressor < half, 1, np.where(aggressor < 2.0 * half, -1, 0))
    price = _bids(cents, spread) + np.where(side > 0, spread, np.where(side < 0, 0, spread // 2))
    price = np.clip(price, bars.low[minute], bars.high[minute])
    forced = np.zeros(len(price), np.bool_)
    inner = cents.copy()
    inner[h.starts] = inner[h.ends - 1] = -np.inf
    upper = np.maximum(bars.open, bars.close)[h.traded]
    lower = np.minimum(bars.open, bars.close)[h.traded]
    above = _largest_of_minute(h, inner)[bars.high[h.traded] > upper]
    price[above], forced[above] = bars.high[minute[above]], True
    inner = -inner
    inner[h.starts] = inner[h.ends - 1] = inner[above] = -np.inf
    below = _largest_of_minute(h, inner)[bars.low[h.traded] < lower]
    price[below], forced[below] = bars.low[minute[below]], True
    price[h.ends - 1], forced[h.ends - 1] = bars.close[h.traded], True
    price[h.starts], forced[h.starts] = bars.open[h.traded], True
    return price, np.where(forced, np.where(price >= cents, 1, -1), side)


def _largest_of_minute(h: _Hour, values: Floats) -> Ints:
    """The first trade with the largest value in each minute that traded."""
    if not len(values):
        return np.zeros(0, np.int64)
    largest = np.maximum.reduceat(values, h.starts)
    at = np.flatnonzero(values == np.repeat(largest, h.ends - h.starts))
    _, first = np.unique(h.minute[at], return_index=True)
    found: Ints = at[first]
    return found


def _rank_in_minute(h: _Hour, values: Floats) -> Ints:
    """Each trade's rank by ``values`` (in [0, 1)) within its minute, from 0."""
    rank = np.empty(len(values), np.int64)
    rank[np.argsort(h.minute + values)] = _place(h)
    return rank


def _sizes(h: _Hour, in_lots: NDArray[np.bool_], uniform: Floats) -> Ints:
    """Shares of each trade; the minute's sum is its bar's volume. Few trades take most of it (a Pareto tail)."""
    weight = (1.0 - uniform) ** -0.7
    lots = 1 + _parted(h, h.bars.lots - h.bars.round_count, np.where(in_lots, weight, 0.0))
    odd = 1 + _parted(h, h.bars.odd - (h.bars.trades - h.bars.round_count), np.where(in_lots, 0.0, weight))
    return np.where(in_lots, 100 * lots, odd)


def _parted(h: _Hour, amount: Ints, weight: Floats) -> Ints:
    """Whole parts of each minute's ``amount`` by weight, which sum to it exactly."""
    if not len(weight):
        return np.zeros(0, np.int64)
    counts = h.ends - h.starts
    running = np.cumsum(weight)
    running -= np.repeat(running[h.starts] - weight[h.starts], counts)
    total = np.repeat(running[h.ends - 1], counts)
    share = np.divide(running, total, out=np.zeros_like(running), where=total > 0.0)
    given = np.floor(share * np.repeat(amount[h.traded], counts)).astype(np.int64)
    parts: Ints = np.diff(given, prepend=0)
    parts[h.starts] = given[h.starts]
    return parts


def _repeats(wanted: NDArray[np.bool_], price: Ints, side: Ints, size: Ints, in_lots: NDArray[np.bool_]) -> Ints:
    """Which trades can be made equal to the trade before without changing any sum; never two in a row."""
    unit = np.where(in_lots, 100, 1)
    same = np.zeros(len(price), np.bool_)
    same[1:] = (price[1:] == price[:-1]) & (side[1:] == side[:-1]) & (in_lots[1:] == in_lots[:-1])
    same[1:] &= (size[1:] + size[:-1]) % (2 * unit[1:]) == 0
    wanted = wanted & same
    wanted[1:] &= ~wanted[:-1]
    return np.flatnonzero(wanted)


def _changed(traded: NDArray[np.bool_], *sides: Ints) -> NDArray[np.bool_]:
    changed = traded.copy()
    for values in sides:
        changed[1:] |= values[1:] != values[:-1]
    changed[::60] = True
    return changed
