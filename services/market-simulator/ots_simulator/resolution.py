"""Who the symbols of a historical query are, and the records that are theirs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from ots_market.sessions import Sessions
from ots_simulator.query import ApiError, Query
from ots_simulator.sources import ALL_SYMBOLS, Counting, Interval, Source
from ots_simulator.wire import DAY_NS, DatedSymbol, Mapping, Records, day_of


@dataclass(frozen=True)
class Resolution:
    """``intervals`` by raw symbol. ``partial``: known on some of the days only. ``not_found``: on none."""

    intervals: dict[str, list[Interval]]
    partial: list[str]
    not_found: list[str]

    def mappings(self) -> list[Mapping]:
        """As the metadata of a file states them."""
        return [
            Mapping(symbol, [DatedSymbol(day_of(one.starts), day_of(one.ends), str(one.vendor_id)) for one in mine])
            for symbol, mine in self.intervals.items()
        ]


def resolve(
    source: Source,
    sessions: Sessions,
    dataset: str,
    symbols: tuple[str, ...],
    stype_in: str,
    first_day: int,
    end_day: int,
) -> Resolution:
    """Who ``symbols`` are on the days [``first_day``, ``end_day``); one that lacks a day of trading is partial."""
    if stype_in == "instrument_id" and symbols != (ALL_SYMBOLS,):
        ids = {int(s) for s in symbols}
        found = [
            one
            for one in source.resolve(dataset, [ALL_SYMBOLS], "raw_symbol", first_day, end_day)
            if one.vendor_id in ids
        ]
    else:
        asked_as = "raw_symbol" if symbols == (ALL_SYMBOLS,) else stype_in
        found = source.resolve(dataset, list(symbols), asked_as, first_day, end_day)
    by_symbol: dict[str, list[Interval]] = {}
    by_name: dict[str, list[Interval]] = {}
    for one in sorted(found, key=lambda i: (i.raw_symbol, i.starts)):
        by_symbol.setdefault(one.raw_symbol, []).append(one)
        by_name.setdefault(_asked(one, stype_in), []).append(one)
    if symbols == (ALL_SYMBOLS,):
        return Resolution(by_symbol, [], [])
    # an expired contract of a parent is partial by its own name
    named = by_symbol if stype_in == "parent" else by_name
    dates = sessions.dates.astype(np.int64)
    trading = set(dates[slice(*np.searchsorted(dates, [first_day, end_day]))].tolist())
    partial = [name for name, mine in named.items() if trading - _days(mine)]
    return Resolution(by_symbol, partial, [s for s in symbols if s not in by_name])


_REMEMBERED_BYTES = 64 * 2**20


class Remembered:
    """The records of the last few queries, at most ``most_bytes`` of them; any thread may ask."""

    def __init__(self, most_bytes: int = _REMEMBERED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._chunks: OrderedDict[Query, list[Records]] = OrderedDict()
        self._lock = Lock()

    def keep(self, query: Query, chunks: list[Records]) -> None:
        """Remember, and forget the oldest for it."""
        size = _bytes_of(chunks)
        with self._lock:
            if query in self._chunks or size > self._most_bytes:
                return
            self._chunks[query] = chunks
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._bytes -= _bytes_of(self._chunks.popitem(last=False)[1])

    def take(self, query: Query) -> list[Records] | None:
        """What was kept, and forget it: who has asked for the records does not ask again."""
        with self._lock:
            chunks = self._chunks.pop(query, None)
            if chunks is not None:
                self._bytes -= _bytes_of(chunks)
            return chunks


def _bytes_of(chunks: list[Records]) -> int:
    return sum(chunk.nbytes for chunk in chunks)


class History:
    """The records of historical queries over a source, and how many there are, exactly.

    A client counts before it downloads: what had to be made for the count is remembered for the download.
    """

    def __init__(self, source: Source, sessions: Sessions) -> None:
        self._source = source
        self._sessions = sessions
        self._stopped = False
        self._remembered = Remembered()
        # what has happened does not change, so neither does its count
        self.count = lru_cache(maxsize=4096)(self._count)

    def stop(self) -> None:
        """End what is being read or counted."""
        self._stopped = True

    def resolution(self, query: Query) -> Resolution:
        """Raises :class:`~ots_simulator.query.ApiError` when no symbol is known."""
        days = query.start_ns // DAY_NS, (query.end_ns - 1) // DAY_NS + 1
        found = resolve(self._source, self._sessions, query.dataset, query.symbols, query.stype_in, *days)
        if not found.intervals:
            raise ApiError(422, "symbology_invalid_request", "None of the symbols could be resolved.")
        return found

    def records(self, query: Query, found: Resolution) -> Iterator[Records]:
        """The records, in order, at most ``query.limit``."""
        remembered = self._remembered.take(query)
        yield from remembered if remembered is not None else self._made(query, found)

    def _made(self, query: Query, found: Resolution) -> Iterator[Records]:
        left = query.limit
        for chunk in self._all(query, found):
            if self._stopped:
                raise ApiError(503, "service_unavailable", "The simulator stops.")
            if left is not None:
                chunk = chunk[:left]
                left -= len(chunk)
            if len(chunk):
                yield chunk
            if left == 0:
                return

    def _all(self, query: Query, found: Resolution) -> Iterator[Records]:
        dataset, schema, until = query.dataset, query.schema, query.known_ns
        if until <= query.start_ns:
            return
        if query.symbols == (ALL_SYMBOLS,):
            yield from self._source.records(dataset, schema, None, query.start_ns, until)
        elif query.stype_in != "instrument_id":
            yield from self._source.records(dataset, schema, set(found.intervals), query.start_ns, until)
        else:
            # an id is somebody else on another day
            everyone = [one for mine in found.intervals.values() for one in mine]
            for day in range(query.start_ns // DAY_NS, (until - 1) // DAY_NS + 1):
                mine = {one.raw_symbol for one in everyone if one.starts <= day < one.ends}
                start, end = max(query.start_ns, day * DAY_NS), min(until, (day + 1) * DAY_NS)
                yield from self._source.records(dataset, schema, mine, start, end)

    def _count(self, query: Query) -> int:
        found = self.resolution(query)
        known = self._known_count(query, found)
        if known is not None:
            return known if query.limit is None else min(known, query.limit)
        count, size = 0, 0
        chunks: list[Records] = []
        for chunk in self._made(query, found):
            count += len(chunk)
            size += chunk.nbytes
            if size <= _REMEMBERED_BYTES:
                # a copy of its own: a chunk may be a piece of something larger
                chunks.append(chunk.copy())
            else:
                chunks.clear()
        if size <= _REMEMBERED_BYTES:
            self._remembered.keep(query, chunks)
        return count

    def _known_count(self, query: Query, found: Resolution) -> int | None:
        """As the source tells it without making the records. Ids, which are others every day, it is not asked for."""
        if query.known_ns <= query.start_ns:
            return 0
        if not isinstance(self._source, Counting) or query.stype_in == "instrument_id":
            return None
        names = None if query.symbols == (ALL_SYMBOLS,) else set(found.intervals)
        return self._source.count(query.dataset, query.schema, names, query.start_ns, query.known_ns)


def _asked(one: Interval, stype_in: str) -> str:
    if stype_in == "parent":
        return f"{one.raw_symbol[:6].rstrip()}.OPT"
    return str(one.vendor_id) if stype_in == "instrument_id" else one.raw_symbol


def _days(intervals: list[Interval]) -> set[int]:
    return {day for one in intervals for day in range(one.starts, one.ends)}
