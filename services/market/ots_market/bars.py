"""The stored bars, read as numpy arrays: one per interval and instrument, whatever they were made from.

A bar's ``origin`` says what it is: ``vendor`` (the vendor's own), ``trades`` (built here from stored trades) or
``minutes`` (summed up from stored minute bars). The vendor's own bar wins. A bar is known from ``known_at`` on, never
earlier: a bar of an intraday timeframe, and a vendor's daily bar (a UTC day), from the end of its interval; a daily bar
summed up from minutes, which covers the regular session, from that session's close.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.copy_binary import copy_out
from ots_common.database import Connection, Database
from ots_common.times import to_datetime
from ots_market.packed_bars import BAR_COLUMNS, BarRows, Pack, concatenated, count_moments, read_packs
from ots_market.prices import SCALE
from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, MINUTE_NS, Timeframe

Int64 = NDArray[np.int64]

_TABLES = {Timeframe.M1: "bars_1m", Timeframe.H1: "bars_1h", Timeframe.D1: "bars_1d"}
_MINUTES_A_DAY = 24 * 60
# fewer are mostly of days that are not over, or of one that is: then the rows alone are as quick
_WORTH_PACKS = 1_000


class Origin(IntEnum):
    """What a bar was made from."""

    VENDOR = 0
    TRADES = 1
    MINUTES = 2


@dataclass(frozen=True)
class Bars:
    """Bars in order of time, each field of shape (n,).

    ``starts`` and ``known_at``: int64 ns since 1970. Prices: int64, 1e-9 dollars. ``publishers``: how many venues' bars
    were joined; with more than one, open and close are those of the venue with the largest volume, because their order
    in time is not in the bars.
    """

    starts: Int64
    known_at: Int64
    open: Int64
    high: Int64
    low: Int64
    close: Int64
    volume: Int64
    origin: NDArray[np.int8]
    publishers: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, which: NDArray[Any] | slice) -> Bars:
        """The bars that ``which`` (mask, indices or slice) selects."""
        return Bars(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def dollars(self, name: str) -> NDArray[np.float64]:
        """A price field in dollars."""
        values: Int64 = getattr(self, name)
        return values / SCALE


def read_bars(
    database: Database,
    instrument_id: int,
    timeframe: Timeframe,
    sessions: Sessions,
    *,
    start_ns: int,
    end_ns: int,
    as_of_ns: int,
    limit: int,
    newest: bool,
) -> Bars:
    """At most ``limit`` bars that start in [start, end) and were known at ``as_of``: the newest, or else the oldest."""
    with database.connection() as connection:
        if limit * timeframe.nanoseconds >= _WORTH_PACKS * MINUTE_NS:
            # what is packed and what is not are read by statements of their own, of the same state of the data
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # bounded here already: of the newest bars of all, none might have been known then
        known_end_ns = min(end_ns, as_of_ns - timeframe.nanoseconds + 1)
        read = _Reader(connection, instrument_id, start_ns, known_end_ns, limit, newest)
        if timeframe is Timeframe.M1:
            bars = read.stored(timeframe, limit)
        elif timeframe is Timeframe.D1:
            whole = replace(read, end_ns=end_ns)
            bars = _prefer(
                read.stored(timeframe, limit), lambda vendor: _days_from_minutes(whole, vendor, sessions, as_of_ns)
            )
        elif timeframe is Timeframe.H1:
            bars = _prefer(read.stored(timeframe, limit), lambda _: _intervals_from_minutes(read, timeframe))
        else:
            bars = _intervals_from_minutes(read, timeframe)
    known = bars.known_at <= as_of_ns
    if not known.all():
        bars = bars.take(known)
    return bars.take(slice(-limit, None) if newest else slice(limit))


@dataclass(frozen=True)
class _Reader:
    connection: Connection
    instrument_id: int
    start_ns: int
    end_ns: int
    limit: int
    newest: bool

    def stored(self, timeframe: Timeframe, limit: int, window: tuple[int, int] | None = None) -> Bars:
        """Stored bars of at most ``limit`` moments of the window, from its new or its old end."""
        span = window or (self.start_ns, self.end_ns)
        if timeframe is not Timeframe.M1 or limit < _WORTH_PACKS:
            return _join_publishers(self._table_rows(timeframe, span, limit), timeframe)
        bars = _join_publishers(self._minute_rows(span, limit), timeframe)
        if len(bars) <= limit:
            return bars
        # copies: a part of the arrays would keep all of them, and whoever remembers bars counts theirs
        return bars.take(np.arange(len(bars))[slice(-limit, None) if self.newest else slice(limit)])

    def _minute_rows(self, span: tuple[int, int], limit: int) -> BarRows:
        """Rows of ``limit`` minutes at least, where the window has so many: packed ones, and the table's between."""
        bounds = _at_or_after(span[0]), _at_or_after(span[1])
        packs = read_packs(self.connection, self.instrument_id, *bounds, limit, newest=self.newest)
        start_us, end_us = (int(moment.timestamp()) * 1_000_000 + moment.microsecond for moment in bounds)
        stretches = _stretches(packs, start_us, end_us)
        parts: list[BarRows | Pack] = []
        wanted = limit
        for first_us, last_us, pack in reversed(stretches) if self.newest else stretches:
            if wanted <= 0:
                break
            if pack is not None and start_us <= first_us and last_us <= end_us:
                parts.append(pack)
                wanted -= pack.moments
                continue
            if pack is not None:
                rows = _within(pack.unpack(), start_us, end_us)
            else:
                rows = self._table_rows(Timeframe.M1, (first_us * 1000, last_us * 1000), wanted)
            parts.append(rows)
            wanted -= count_moments(rows["ts"])
        return concatenated(parts[::-1] if self.newest else parts)

    def _table_rows(self, timeframe: Timeframe, window: tuple[int, int], limit: int) -> BarRows:
        """The table's rows of at most ``limit`` moments of the window, from its new or its old end, in order."""
        table, direction = _TABLES[timeframe], "DESC" if self.newest else "ASC"
        columns = ", ".join(name for name, _ in BAR_COLUMNS)
        arguments = {
            "id": self.instrument_id,
            "start": _at_or_after(window[0]),
            "end": _at_or_after(window[1]),
            "limit": limit,
        }
        span = "instrument_id = %(id)s AND ts >= %(start)s AND ts < %(end)s"
        # a moment has one row, unless several venues have a bar of it: then so many rows are fewer moments
        rows = self._rows(
            f"SELECT {columns} FROM {table} WHERE {span}"
            f" ORDER BY ts {direction}, publisher_id {direction} LIMIT %(limit)s + 1",
            arguments,
        )[:: -1 if self.newest else 1]
        if len(rows) > limit:
            if (np.diff(rows["ts"]) > 0).all():
                rows = rows[1:] if self.newest else rows[:-1]
            else:
                rows = self._rows(
                    f"""
                    WITH moments AS MATERIALIZED (
                        SELECT DISTINCT ts FROM {table} WHERE {span} ORDER BY ts {direction} LIMIT %(limit)s
                    )
                    SELECT {columns} FROM {table}
                    WHERE instrument_id = %(id)s
                      AND ts >= (SELECT min(ts) FROM moments) AND ts <= (SELECT max(ts) FROM moments)
                    ORDER BY ts, publisher_id
                    """,
                    arguments,
                )
        return {name: rows[name] for name, _ in BAR_COLUMNS}

    def _rows(self, query: str, arguments: dict[str, Any]) -> NDArray[Any]:
        with self.connection.cursor() as cursor:
            text = cursor.mogrify(query, arguments).decode()
        return copy_out(self.connection, text, BAR_COLUMNS)

    def minutes_span(self) -> tuple[int, int] | None:
        """The first and the last stored minute; None when there is none."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT (extract(epoch FROM min(ts)) * 1000000000)::bigint,"
                " (extract(epoch FROM max(ts)) * 1000000000)::bigint FROM bars_1m WHERE instrument_id = %s",
                (self.instrument_id,),
            )
            first, last = cursor.fetchone() or (None, None)
        return None if first is None or last is None else (int(first), int(last))


def _at_or_after(nanoseconds: int) -> datetime:
    """The first microsecond not before: bars start on whole ones."""
    return to_datetime(-(-nanoseconds // 1000) * 1000)


def _stretches(packs: list[Pack], start_us: int, end_us: int) -> list[tuple[int, int, Pack | None]]:
    """The window in order of time, one stretch at least: those of packs, and between them those that none holds."""
    found: list[tuple[int, int, Pack | None]] = []
    at_us = start_us
    for pack in packs:
        if at_us < pack.starts_us:
            found.append((at_us, pack.starts_us, None))
        found.append((pack.starts_us, pack.ends_us, pack))
        at_us = pack.ends_us
    return [*found, (at_us, end_us, None)] if at_us < end_us or not found else found


def _within(rows: BarRows, start_us: int, end_us: int) -> BarRows:
    first, last = np.searchsorted(rows["ts"], (start_us, end_us))
    return {name: column[first:last] for name, column in rows.items()}


def _join_publishers(rows: BarRows, timeframe: Timeframe) -> Bars:
    starts = rows["ts"] * 1000
    origin = np.where(rows["origin"] == b"v", np.int8(Origin.VENDOR), np.int8(Origin.TRADES))
    bars = Bars(
        starts=starts,
        known_at=starts + timeframe.nanoseconds,
        **{name: rows[name] for name in ("open", "high", "low", "close", "volume")},
        origin=origin,
        publishers=np.ones(len(starts), np.int16),
    )
    if (starts[1:] > starts[:-1]).all():
        return bars
    first = _first_of_runs(starts)
    # the last of each run once sorted by volume is the venue with the largest
    largest = np.lexsort((bars.volume, starts))[np.append(first[1:], len(starts)) - 1]
    joined = _sum_runs(bars, first)
    return replace(
        joined,
        open=bars.open[largest],
        close=bars.close[largest],
        publishers=np.diff(np.append(first, len(starts))).astype(np.int16),
    )


def _first_of_runs(values: Int64) -> Int64:
    return np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))


def _sum_runs(bars: Bars, first: Int64) -> Bars:
    """One bar for each run of ``bars`` that starts at an index of ``first``."""
    last = np.append(first[1:], len(bars)) - 1
    return Bars(
        starts=bars.starts[first],
        known_at=bars.known_at[last],
        open=bars.open[first],
        high=np.maximum.reduceat(bars.high, first),
        low=np.minimum.reduceat(bars.low, first),
        close=bars.close[last],
        volume=np.add.reduceat(bars.volume, first),
        origin=np.maximum.reduceat(bars.origin, first),
        publishers=np.maximum.reduceat(bars.publishers, first),
    )


def _prefer(vendor: Bars, summed: Any) -> Bars:
    """``vendor`` and those bars of ``summed(vendor)`` that it lacks, in order of time."""
    other: Bars = summed(vendor)
    other = other.take(~np.isin(other.starts, vendor.starts))
    if not len(other):
        return vendor
    merged = Bars(**{f.name: np.concatenate([getattr(vendor, f.name), getattr(other, f.name)]) for f in fields(Bars)})
    return merged.take(np.argsort(merged.starts, kind="stable"))


def _intervals_from_minutes(read: _Reader, timeframe: Timeframe) -> Bars:
    length = timeframe.nanoseconds
    # whole intervals only: the window starts and ends at their borders
    window = (-(-read.start_ns // length) * length, -(-read.end_ns // length) * length)
    wanted = (read.limit + 1) * (length // MINUTE_NS)
    minutes = read.stored(Timeframe.M1, wanted, window)
    bars = sum_minutes(minutes, timeframe)
    if len(minutes) == wanted:
        # the limit may have cut through the interval at the far end
        bars = bars.take(slice(1, None) if read.newest else slice(-1))
    return bars


def sum_minutes(minutes: Bars, timeframe: Timeframe) -> Bars:
    """Minute bars summed up to intervals of ``timeframe`` aligned to UTC; an interval without minutes has no bar."""
    if not len(minutes):
        return minutes
    length = timeframe.nanoseconds
    buckets = minutes.starts // length * length
    first = _first_of_runs(buckets)
    summed = _sum_runs(minutes, first)
    return replace(
        summed,
        starts=buckets[first],
        known_at=buckets[first] + length,
        origin=np.full(len(first), Origin.MINUTES, np.int8),
    )


def _days_from_minutes(read: _Reader, vendor: Bars, sessions: Sessions, as_of_ns: int) -> Bars:
    empty = vendor.take(slice(0))
    span = read.minutes_span()
    if span is None:
        return empty
    stamps = sessions.dates.astype("datetime64[ns]").astype(np.int64)
    asked = (stamps >= read.start_ns) & (stamps < read.end_ns) & (sessions.closes <= as_of_ns)
    stored = (sessions.closes > span[0]) & (sessions.opens <= span[1])
    wanted = np.flatnonzero(asked & stored & ~np.isin(stamps, vendor.starts))
    wanted = wanted[-read.limit :] if read.newest else wanted[: read.limit]
    if not len(wanted):
        return empty
    window = (int(sessions.opens[wanted[0]]), int(sessions.closes[wanted[-1]]))
    days = (window[1] - window[0]) // DAY_NS + 1
    return sum_sessions(read.stored(Timeframe.M1, days * _MINUTES_A_DAY, window), sessions)


def sum_sessions(minutes: Bars, sessions: Sessions) -> Bars:
    """Minute bars summed up to daily bars of the regular session, stamped midnight UTC of the session's date."""
    index = sessions.index_of(minutes.starts)
    regular = minutes.take(index >= 0)
    index = index[index >= 0]
    if not len(regular):
        return regular
    first = _first_of_runs(index)
    session = index[first]
    return replace(
        _sum_runs(regular, first),
        starts=sessions.dates[session].astype("datetime64[ns]").astype(np.int64),
        known_at=sessions.closes[session],
        origin=np.full(len(first), Origin.MINUTES, np.int8),
    )


def bars_from_trades(
    series: Int64, times_ns: Int64, prices: Int64, sizes: Int64
) -> tuple[Int64, Int64, Int64, Int64, Int64, Int64]:
    """Minute bars of trades in order of series (a venue of an instrument, by any number) and, within each, of time.

    The index of each bar's first trade, open, high, low, close, volume; each shape (m,).
    """
    minutes = times_ns // MINUTE_NS
    new = np.ones(len(minutes), bool)
    new[1:] = (minutes[1:] != minutes[:-1]) | (series[1:] != series[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(minutes)) - 1
    return (
        first,
        prices[first],
        np.maximum.reduceat(prices, first),
        np.minimum.reduceat(prices, first),
        prices[last],
        np.add.reduceat(sizes, first),
    )
