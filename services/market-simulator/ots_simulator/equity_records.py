"""The stocks' records of EQUS.MINI, from the tape and the bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ots_market.timeframes import DAY_NS, MINUTE_NS
from ots_simulator import records
from ots_simulator.bars import Bars
from ots_simulator.paths import HOUR_NS, Ints
from ots_simulator.randomness import stream
from ots_simulator.tape import NONE, Quotes, Tape, Trades
from ots_simulator.underlyings import UNDERLYINGS

Records = NDArray[np.void]

_FIRST_ID, _IDS = 13_000, 48
_DEFINED_AFTER_NS = 250_000_000  # definitions come this long after the UTC day begins
_BAR_NS = {"ohlcv-1m": MINUTE_NS, "ohlcv-1h": HOUR_NS, "ohlcv-1d": DAY_NS}


class EquityRecords:
    """Makes the records of a day."""

    SCHEMAS = ("trades", "tbbo", "bbo-1s", "bbo-1m", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition")

    COUNTED = frozenset({"definition"})

    def __init__(self, tape: Tape, bars: Bars, seed: int) -> None:
        self._tape, self._bars, self._seed = tape, bars, seed
        self.vendor_ids = lru_cache(maxsize=2048)(self._vendor_ids)

    def count(self, schema: str, symbols: Sequence[str], day: int, start_ns: int, end_ns: int) -> int:
        """How many records :meth:`of_day` gives of a schema in ``COUNTED``."""
        return sum(len(piece) for piece in self.of_day(schema, symbols, day, start_ns, end_ns, end_ns))

    def _vendor_ids(self, day: int) -> dict[str, int]:
        """Symbol -> vendor id on a UTC day; other days give the same ids to other symbols."""
        ids = stream(self._seed, "ids", "stocks", day).permutation(_IDS)[: len(UNDERLYINGS)] + _FIRST_ID
        return {u.symbol: int(vendor_id) for u, vendor_id in zip(UNDERLYINGS, ids, strict=True)}

    def of_day(
        self, schema: str, symbols: Sequence[str], day: int, start_ns: int, end_ns: int, now_ns: int
    ) -> Iterator[Records]:
        """Records of a session's UTC day with index time in [start, end), in order."""
        if not symbols:
            return
        if schema == "definition":
            yield from merged([self._definition(day, symbols)], schema, start_ns, end_ns)
        elif schema in _BAR_NS:
            # a bar is known when its interval is over
            last = min(end_ns, now_ns - _BAR_NS[schema] + 1)
            made = [self._bar_records(schema, symbol, day) for symbol in symbols]
            yield from merged(made, schema, start_ns, last)
        else:
            yield from self._by_hour(schema, symbols, day, start_ns, end_ns)

    def _by_hour(self, schema: str, symbols: Sequence[str], day: int, start_ns: int, end_ns: int) -> Iterator[Records]:
        ids = self.vendor_ids(day)
        first = max(start_ns - day * DAY_NS, 0) // HOUR_NS
        # a second's quote is stamped with the second's end, which may be the next hour's beginning
        first -= schema.startswith("bbo") and start_ns - day * DAY_NS == first * HOUR_NS
        last = min(-(-(end_ns - day * DAY_NS) // HOUR_NS), 24)
        for hour in range(max(first, 0), last):
            made = [self._hour_records(schema, symbol, day, hour, ids[symbol], start_ns, end_ns) for symbol in symbols]
            yield from merged(made, schema, start_ns, end_ns)

    def _hour_records(
        self, schema: str, symbol: str, day: int, hour: int, vendor_id: int, start_ns: int, end_ns: int
    ) -> Records:
        if schema.startswith("bbo"):
            quotes = self._tape.quotes(symbol, day, hour)
            wanted = between(quotes.at_ns, start_ns, end_ns)
            every = quotes.changed if schema == "bbo-1s" else np.arange(len(quotes.at_ns)) % 60 == 59
            kept = wanted.start + np.flatnonzero(every[wanted])
            return _bbo(schema, Quotes(*(values[kept] for values in quotes)), vendor_id)
        trades = self._tape.trades(symbol, day, hour)
        return _trades(schema, trades.take(between(trades.received_ns, start_ns, end_ns)), vendor_id)

    def _bar_records(self, schema: str, symbol: str, day: int) -> Records:
        vendor_id = self.vendor_ids(day)[symbol]
        if schema == "ohlcv-1d":
            bar = self._bars.day(symbol, day)
            n = int(bar is not None)
            values = [np.array([value] * n, np.int64) for value in bar or (0,) * 5]
            return _ohlcv(schema, np.full(n, day * DAY_NS), values, vendor_id)
        minutes = self._bars.minutes(symbol, day)
        traded = np.flatnonzero(minutes.trades)
        prices = [getattr(minutes, name)[traded] for name in ("open", "high", "low", "close", "volume")]
        at = minutes.first + traded
        if schema == "ohlcv-1h":
            return _ohlcv(schema, *_hourly(day, at, prices), vendor_id)
        return _ohlcv(schema, day * DAY_NS + at * MINUTE_NS, prices, vendor_id)

    def _definition(self, day: int, symbols: Sequence[str]) -> Records:
        ids = self.vendor_ids(day)
        at = day * DAY_NS + _DEFINED_AFTER_NS + 50_000 * np.array([_PLACE[symbol] for symbol in symbols])
        return records.definitions(
            len(symbols),
            publisher_id=records.EQUITY_PUBLISHER,
            instrument_id=[ids[symbol] for symbol in symbols],
            raw_instrument_id=[ids[symbol] for symbol in symbols],
            ts_event=at - 30_000,
            ts_recv=at,
            raw_symbol=np.array([symbol.encode() for symbol in symbols]),
            instrument_class=b"K",
            min_lot_size_round_lot=100,
            match_algorithm=b"F",
            channel_id=13,
            tick_rule=0,
        )


_PLACE = {u.symbol: i for i, u in enumerate(UNDERLYINGS)}


def between(times: Ints, start_ns: int, end_ns: int) -> slice:
    """Which of sorted ``times`` lie in [start, end)."""
    return slice(int(np.searchsorted(times, start_ns)), int(np.searchsorted(times, end_ns)))


def merged(made: list[Records], schema: str, start_ns: int, end_ns: int) -> Iterator[Records]:
    """The records of [start, end) in the order of their index time; equal times in the order of the symbols."""
    whole = np.concatenate(made) if len(made) > 1 else made[0]
    times = whole[records.INDEX_TIMES[schema]]
    kept = np.flatnonzero((times >= np.uint64(start_ns)) & (times < np.uint64(max(end_ns, 0))))
    if len(kept):
        yield whole[kept[np.argsort(times[kept], kind="stable")]]


def _hourly(day: int, minute: Ints, prices: list[Ints]) -> tuple[Ints, list[Ints]]:
    """Hours' bars from the minutes' that traded."""
    if not len(minute):
        return minute, prices
    hour, starts = np.unique(minute // 60, return_index=True)
    ends = np.append(starts[1:], len(minute)) - 1
    opened, high, low, closed, volume = prices
    return day * DAY_NS + hour * HOUR_NS, [
        opened[starts],
        np.maximum.reduceat(high, starts),
        np.minimum.reduceat(low, starts),
        closed[ends],
        np.add.reduceat(volume, starts),
    ]


def _ohlcv(schema: str, at_ns: Ints, values: list[Ints], vendor_id: int) -> Records:
    made = records.build(
        schema, len(at_ns), publisher_id=records.EQUITY_PUBLISHER, instrument_id=vendor_id, ts_event=at_ns
    )  # fmt: skip
    for name, cents in zip(("open", "high", "low", "close"), values[:4], strict=True):
        made[name] = cents * records.CENT
    made["volume"] = values[4]
    return made


def side_codes(side: Ints) -> NDArray[np.bytes_]:
    """Databento's letter of the aggressor: B bought, A sold, N neither."""
    return np.array([b"A", b"N", b"B"])[side + 1]


def _trades(schema: str, trades: Trades, vendor_id: int) -> Records:
    made = records.build(
        schema,
        len(trades.at_ns),
        publisher_id=records.EQUITY_PUBLISHER,
        instrument_id=vendor_id,
        ts_event=trades.at_ns,
        ts_recv=trades.received_ns,
        price=trades.price * records.CENT,
        size=trades.size,
        action=b"T",
        side=side_codes(trades.side),
        flags=records.FLAG_LAST,
        ts_in_delta=15_000,
        sequence=trades.sequence,
    )
    if schema == "tbbo":
        set_level(made, trades.bid, trades.ask, trades.bid_size, trades.ask_size)
        made["bid_ct_00"], made["ask_ct_00"] = 1, 1
    return made


def set_level(made: Records, bid: Ints, ask: Ints, bid_size: Ints, ask_size: Ints) -> None:
    """Write quotes in cents into records; a missing side is Databento's undefined price."""
    made["bid_px_00"] = np.where(bid == NONE, records.UNDEF_PRICE, bid * records.CENT)
    made["ask_px_00"] = np.where(ask == NONE, records.UNDEF_PRICE, ask * records.CENT)
    made["bid_sz_00"], made["ask_sz_00"] = bid_size, ask_size


def _bbo(schema: str, quotes: Quotes, vendor_id: int) -> Records:
    none = quotes.last_at_ns < 0
    made = records.build(
        schema,
        len(quotes.at_ns),
        publisher_id=records.EQUITY_PUBLISHER,
        instrument_id=vendor_id,
        ts_event=np.where(none, np.uint64(records.UNDEF_TIMESTAMP), quotes.last_at_ns.astype(np.uint64)),
        ts_recv=quotes.at_ns,
        price=np.where(none, records.UNDEF_PRICE, quotes.last_price * records.CENT),
        size=quotes.last_size,
        side=side_codes(quotes.last_side),
        flags=records.FLAG_LAST,
        sequence=quotes.last_sequence,
    )
    set_level(made, quotes.bid, quotes.ask, quotes.bid_size, quotes.ask_size)
    made["bid_ct_00"], made["ask_ct_00"] = quotes.bid != NONE, quotes.ask != NONE
    return made
