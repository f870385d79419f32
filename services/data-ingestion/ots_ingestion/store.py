"""Rows into their tables, each once, with what follows from them: bars built from trades, and the latest values.

All of it runs in the caller's transaction, so that rows, bars, latest values and the cursor stand or fall together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.copy_binary import Column, copy_in, copy_out
from ots_common.database import Connection
from ots_common.times import to_datetime
from ots_ingestion.layouts import BAR_TABLES, Rows
from ots_market.bars import bars_from_trades
from ots_market.timeframes import MINUTE_NS, Timeframe

Int64 = NDArray[np.int64]

_BAR_VALUES = ("open", "high", "low", "close", "volume", "origin")
_TIMEFRAMES = {"bars_1m": Timeframe.M1, "bars_1h": Timeframe.H1, "bars_1d": Timeframe.D1}
# an instrument and a minute (since 1970) in one word
_MINUTE_BITS = 32
_MINUTE_MASK = (1 << _MINUTE_BITS) - 1
_QUARTER_NS = 15 * MINUTE_NS
_TIME_TABLES = frozenset({"trades", "quotes", "statistics", "definitions", "bars_1m", "bars_1h"})


@dataclass(frozen=True)
class Stored:
    """What became of some rows; the three add up to their number."""

    stored: int = 0
    revised: int = 0
    duplicate: int = 0


def store(connection: Connection, rows: Rows, instruments: Int64, ords: Int64 | None, *, keep: bool) -> Stored:
    """Store ``rows`` of ``instruments`` (int64, shape (n,)); ``ords`` as :class:`RepeatCounter` counted them.

    ``keep`` exempts them from retention. Bars built from trades, the latest values and the note of which stretches of
    time have changed follow in the same transaction.
    """
    if not len(rows):
        return Stored()
    done = _store(connection, rows, instruments, ords, keep=keep)
    if done.stored or done.revised:
        _note(connection, rows.table, rows.own_ns)
    return done


def _store(connection: Connection, rows: Rows, instruments: Int64, ords: Int64 | None, *, keep: bool) -> Stored:
    if rows.table in _TIME_TABLES:
        open_chunks(connection, rows.table, rows.own_ns, keep=keep)
    if rows.schema in BAR_TABLES:
        done = _store_bars(connection, rows.table, instruments, rows.own_ns, rows.columns)
        length = _TIMEFRAMES[rows.table].nanoseconds
        _update_price_latest(connection, "bar", instruments, rows.own_ns + length, _values(rows.columns, "close"))
        return done
    if ords is None or rows.digests is None:
        raise ValueError(f"{rows.table} needs the identity of each record")
    new, held = _place(connection, rows, instruments, ords)
    done = _store_records(connection, rows.table, new, held, len(rows))
    if rows.table == "trades":
        _build_minutes(connection, new, held, keep=keep)
        _update_price_latest(
            connection,
            "trade",
            instruments,
            rows.own_ns,
            _values(rows.columns, "price"),
            sequence=_values(rows.columns, "sequence"),
            size=_values(rows.columns, "size"),
        )
    elif rows.table == "quotes":
        _update_quote_latest(connection, rows, instruments)
    return done


def open_chunks(connection: Connection, table: str, times_ns: Int64, *, keep: bool) -> None:
    """Make the chunks that hold these times."""
    days = np.unique(times_ns // Timeframe.D1.nanoseconds) * Timeframe.D1.nanoseconds
    with connection.cursor() as cursor:
        cursor.execute("SELECT open_chunks(%s, %s::timestamptz[], %s)", (table, [to_datetime(d) for d in days], keep))


def _note(connection: Connection, table: str, times_ns: Int64) -> None:
    """Say that records of these times have changed: answers made of them before have another data version."""
    quarters = [to_datetime(q) for q in np.unique(times_ns // _QUARTER_NS) * _QUARTER_NS]
    with connection.cursor() as cursor:
        cursor.execute("SELECT note_stored(%s, %s::timestamptz[])", (table, quarters))


def _values(columns: Sequence[Column], name: str) -> Int64:
    return next(column.values for column in columns if column.name == name)


def _time_columns(own_ns: Int64) -> list[Column]:
    return [Column("ts", "timestamptz", own_ns // 1000), Column("ts_ns", "int2", own_ns % 1000)]


def _take(columns: Sequence[Column], which: NDArray[Any]) -> list[Column]:
    return [column.take(which) for column in columns]


@dataclass(frozen=True)
class _Placed:
    """Rows in the order of the index: that halves what the index costs. ``stored_us``: see :func:`_place`."""

    instruments: Int64
    own_ns: Int64
    columns: list[Column]
    stored_us: Int64

    def __len__(self) -> int:
        return len(self.own_ns)

    def take(self, which: NDArray[Any]) -> _Placed:
        return _Placed(self.instruments[which], self.own_ns[which], _take(self.columns, which), self.stored_us[which])


def _place(connection: Connection, rows: Rows, instruments: Int64, ords: Int64) -> tuple[_Placed, _Placed]:
    """The rows, each key once: those that a plain COPY may write, and those that may be there already.

    ``stored_us`` is, for each row, the newest time (µs) stored of its instrument in the minutes that its rows touch, or
    the least integer when nothing is. What is later than that is new, and so is every row of a later minute.
    """
    digests = rows.digests
    assert digests is not None  # noqa: S101  (store has looked)
    order = _in_order((ords, digests, rows.own_ns, instruments))
    keys = [key[order] for key in (instruments, rows.own_ns, digests, ords)]
    first = np.ones(len(order), bool)
    first[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    if not first.all():
        order = order[first]
    columns = [
        Column("instrument_id", "int4", instruments),
        *_time_columns(rows.own_ns),
        Column("digest", "int8", digests),
        Column("ord", "int4", ords),
        *rows.columns,
    ]
    instruments, own_ns = instruments[order], rows.own_ns[order]
    stored_us = _newest_stored(connection, rows.table, instruments, own_ns)
    placed = _Placed(instruments, own_ns, _take(columns, order), stored_us)
    new = own_ns // 1000 > stored_us
    if new.all():
        return placed, placed.take(~new)
    return placed.take(new), placed.take(~new)


def _in_order(keys: tuple[Int64, ...]) -> Int64:
    """As numpy.lexsort: by the last key, then by the one before it, and so on.

    Two keys mostly tell records apart already; the others are sorted by only where they do not.
    """
    second, first = keys[-2:]
    order = np.lexsort((second, first))
    tied = (first[order][1:] == first[order][:-1]) & (second[order][1:] == second[order][:-1])
    if not tied.any():
        return order
    among = np.zeros(len(order), bool)
    among[1:] = tied
    among[:-1] |= tied
    places = np.flatnonzero(among)
    rows = order[places]
    order[places] = rows[np.lexsort([key[rows] for key in keys])]
    return order


def _newest_stored(connection: Connection, table: str, instruments: Int64, own_ns: Int64) -> Int64:
    """Takes the table's write lock first: what is not there now, another writer does not put there before the COPY."""
    first = np.flatnonzero(np.concatenate(([True], instruments[1:] != instruments[:-1])))
    last = np.append(first[1:], len(instruments)) - 1
    starts = own_ns[first] // MINUTE_NS * MINUTE_NS
    ends = (own_ns[last] // MINUTE_NS + 1) * MINUTE_NS
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('write ' || %s))", (table,))
        cursor.execute(
            "SELECT k.n, (extract(epoch FROM newest.ts) * 1000000)::bigint FROM"
            " unnest(%s::integer[], %s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY AS k (id, lo, hi, n)"
            f" CROSS JOIN LATERAL (SELECT ts FROM {table} t WHERE t.instrument_id = k.id"
            " AND t.ts >= k.lo AND t.ts < k.hi ORDER BY ts DESC LIMIT 1) AS newest",
            (
                instruments[first].tolist(),
                [to_datetime(t) for t in starts],
                [to_datetime(t) for t in ends],
            ),
        )
        found = cursor.fetchall()
    newest = np.full(len(first), np.iinfo(np.int64).min)
    for n, at_us in found:
        newest[n - 1] = at_us
    return np.repeat(newest, last - first + 1)


def _store_records(connection: Connection, table: str, new: _Placed, held: _Placed, offered: int) -> Stored:
    inserted = len(new)
    if len(new):
        copy_in(connection, table, new.columns)
    if len(held):
        stage = _stage(connection, table, held.columns)
        names = ", ".join(column.name for column in held.columns)
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {stage} ON CONFLICT DO NOTHING")
            inserted += cursor.rowcount
    return Stored(stored=inserted, duplicate=offered - inserted)


def _stage(connection: Connection, table: str, columns: Sequence[Column]) -> str:
    stage = f"stage_{table}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {stage} (LIKE {table}) ON COMMIT DELETE ROWS; TRUNCATE {stage}"
        )
    copy_in(connection, stage, columns)
    return stage


def _store_bars(
    connection: Connection, table: str, instruments: Int64, starts: Int64, columns: Sequence[Column]
) -> Stored:
    """The vendor's bars: new ones, ones that replace what was built from trades, and revisions."""
    publishers = _values(columns, "publisher_id")
    order = np.lexsort((publishers, starts, instruments))  # stable: the file's last word on a bar comes last
    keys = [key[order] for key in (instruments, starts, publishers)]
    last = np.ones(len(order), bool)
    last[:-1] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    superseded = len(order) - int(last.sum())
    order = order[last]
    staged = [Column("instrument_id", "int4", instruments), Column("ts", "timestamptz", starts // 1000), *columns]
    stage = _stage(connection, table, _take(staged, order))
    same = " AND ".join(f"b.{name} = s.{name}" for name in _BAR_VALUES)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('write ' || %s))", (table,))
        cursor.execute(
            f"SELECT count(*) FILTER (WHERE b.origin IS DISTINCT FROM 'v'), count(*) FILTER (WHERE {same})"
            f" FROM {stage} s LEFT JOIN {table} b USING (instrument_id, ts, publisher_id)"
        )
        new, unchanged = cursor.fetchone() or (0, 0)
        _upsert_bars(connection, table, stage, "true")
    revised = len(order) - new - unchanged
    return Stored(stored=new, revised=revised, duplicate=unchanged + superseded)


def _upsert_bars(connection: Connection, table: str, stage: str, condition: str) -> None:
    assignments = ", ".join(f"{name} = excluded.{name}" for name in _BAR_VALUES)
    old = ", ".join(f"b.{name}" for name in _BAR_VALUES)
    new = ", ".join(f"excluded.{name}" for name in _BAR_VALUES)
    names = "instrument_id, ts, publisher_id, " + ", ".join(_BAR_VALUES)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS b ({names}) SELECT {names} FROM {stage}"
            f" ON CONFLICT (instrument_id, ts, publisher_id) DO UPDATE SET {assignments}"
            f" WHERE {condition} AND ({old}) IS DISTINCT FROM ({new})"
        )


@dataclass(frozen=True)
class _Trades:
    """Trades in any order; each array has shape (n,). ``key``: sequence, digest, ord, which order equal times."""

    instruments: Int64
    publishers: Int64
    own_ns: Int64
    prices: Int64
    sizes: Int64
    key: tuple[Int64, Int64, Int64]


@dataclass(frozen=True)
class _Bars:
    """Minute bars, each venue's apart; each array has shape (n,). ``values``: open, high, low, close, volume."""

    instruments: Int64
    minutes: Int64
    publishers: Int64
    values: tuple[Int64, ...]

    def take(self, which: NDArray[Any]) -> _Bars:
        kept = (self.instruments[which], self.minutes[which], self.publishers[which])
        return _Bars(*kept, tuple(value[which] for value in self.values))

    def columns(self) -> list[Column]:
        return [
            Column("instrument_id", "int4", self.instruments),
            Column("ts", "timestamptz", self.minutes * (MINUTE_NS // 1000)),
            Column("publisher_id", "int4", self.publishers),
            *(Column(name, "int8", value) for name, value in zip(_BAR_VALUES[:5], self.values, strict=True)),
            Column("origin", "char", np.full(len(self.minutes), b"t", "S1")),
        ]


def _build_minutes(connection: Connection, new: _Placed, held: _Placed, *, keep: bool) -> None:
    """The bars of the touched minutes as all their trades make them, so that a replay never doubles a volume.

    Minutes in which nothing was stored before are built from the rows in hand. Where all rows in hand are later than
    what is stored of their minute, its bar is continued: a busy minute read again with every batch would cost more
    with each. Only where they fall among what is stored, the minute's trades are read.
    """
    times = np.concatenate((new.own_ns, held.own_ns))
    open_chunks(connection, "bars_1m", times // MINUTE_NS * MINUTE_NS, keep=keep)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('write ' || %s))", ("bars_1m",))
    keys = _minute_keys(new.instruments, new.own_ns // MINUTE_NS)
    fresh = new.own_ns // MINUTE_NS * (MINUTE_NS // 1000) > new.stored_us
    unsure = np.unique(_minute_keys(held.instruments, held.own_ns // MINUTE_NS))
    later = ~fresh & ~np.isin(keys, unsure)
    found = []
    if fresh.any():
        found.append(_bars_of(_trades_of(new if fresh.all() else new.take(fresh))))
    if later.any():
        bars, unknown = _continued(connection, _bars_of(_trades_of(new if later.all() else new.take(later))))
        found.append(bars)
        unsure = np.union1d(unsure, unknown)
    if len(unsure):
        found.append(_bars_of(_trades_of_minutes(connection, unsure >> _MINUTE_BITS, unsure & _MINUTE_MASK)))
    for one in found:
        if len(one.minutes):
            _upsert_bars(connection, "bars_1m", _stage(connection, "bars_1m", one.columns()), "b.origin = 't'")


def _minute_keys(instruments: Int64, minutes: Int64) -> Int64:
    return instruments << _MINUTE_BITS | minutes


def _trades_of(placed: _Placed) -> _Trades:
    sequence, digests, ords = (_values(placed.columns, name) for name in ("sequence", "digest", "ord"))
    publishers, prices, sizes = (_values(placed.columns, name) for name in ("publisher_id", "price", "size"))
    return _Trades(placed.instruments, publishers, placed.own_ns, prices, sizes, (sequence, digests, ords))


def _bars_of(trades: _Trades) -> _Bars:
    series = trades.instruments << 16 | trades.publishers
    order = _in_order((*trades.key[::-1], trades.own_ns, series))
    series, own_ns = series[order], trades.own_ns[order]
    first, *values = bars_from_trades(series, own_ns, trades.prices[order], trades.sizes[order])
    at = order[first]
    return _Bars(trades.instruments[at], own_ns[first] // MINUTE_NS, trades.publishers[at], tuple(values))


def _continued(connection: Connection, more: _Bars) -> tuple[_Bars, Int64]:
    """The stored bars of trades with those of later trades behind them; and the minutes (keys) of which a bar in
    ``more`` has none before it. A venue's first trade in a minute makes one: nothing else is known of such a minute."""
    before = _stored_bars(connection, more)
    instruments, minutes, publishers = (
        np.concatenate((getattr(before, name), getattr(more, name)))
        for name in ("instruments", "minutes", "publishers")
    )
    values = [np.concatenate(pair) for pair in zip(before.values, more.values, strict=True)]
    # stable: what is stored comes before what continues it
    order = np.lexsort((publishers, minutes, instruments))
    keys = [key[order] for key in (instruments, minutes, publishers)]
    begins = np.ones(len(order), bool)
    begins[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(order)) - 1
    opened, high, low, close, volume = (value[order] for value in values)
    joined = _Bars(
        keys[0][first],
        keys[1][first],
        keys[2][first],
        (
            opened[first],
            np.maximum.reduceat(high, first),
            np.minimum.reduceat(low, first),
            close[last],
            np.add.reduceat(volume, first),
        ),
    )
    is_more = order >= len(before.minutes)
    unknown = np.unique(_minute_keys(joined.instruments, joined.minutes)[is_more[first]])
    sure = (last > first) & ~np.isin(_minute_keys(joined.instruments, joined.minutes), unknown)
    return joined.take(sure), unknown


def _stored_bars(connection: Connection, of: _Bars) -> _Bars:
    """All venues' stored bars of the minutes that ``of`` has."""
    keys = np.unique(_minute_keys(of.instruments, of.minutes))
    names = ("instrument_id", "ts", "publisher_id", *_BAR_VALUES[:5])
    kinds = ("int4", "timestamptz", "int4", *["int8"] * 5)
    with connection.cursor() as cursor:
        query = cursor.mogrify(
            f"SELECT {', '.join(f'b.{name}' for name in names)} FROM"
            " unnest(%s::integer[], %s::timestamptz[]) AS k (id, at)"
            " JOIN bars_1m b ON b.instrument_id = k.id AND b.ts = k.at",
            ((keys >> _MINUTE_BITS).tolist(), [to_datetime(m * MINUTE_NS) for m in keys & _MINUTE_MASK]),
        ).decode()
    rows = copy_out(connection, query, list(zip(names, kinds, strict=True)))
    return _Bars(
        rows["instrument_id"].astype(np.int64),
        rows["ts"] * 1000 // MINUTE_NS,
        rows["publisher_id"].astype(np.int64),
        tuple(rows[name] for name in _BAR_VALUES[:5]),
    )


def _trades_of_minutes(connection: Connection, instruments: Int64, minutes: Int64) -> _Trades:
    """All stored trades of these minutes (of an instrument each), read in stretches of neighbouring minutes."""
    keys = np.unique(np.stack((instruments, minutes)), axis=1)
    begins = np.ones(keys.shape[1], bool)
    begins[1:] = (keys[0, 1:] != keys[0, :-1]) | (keys[1, 1:] != keys[1, :-1] + 1)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], keys.shape[1]) - 1
    names = ("instrument_id", "ts", "ts_ns", "sequence", "digest", "ord", "price", "size", "publisher_id")
    kinds = ("int4", "timestamptz", "int2", "int8", "int8", "int4", "int8", "int8", "int4")
    with connection.cursor() as cursor:
        query = cursor.mogrify(
            f"SELECT {', '.join(f't.{name}' for name in names)} FROM"
            " unnest(%s::integer[], %s::timestamptz[], %s::timestamptz[]) AS k (id, lo, hi)"
            " JOIN trades t ON t.instrument_id = k.id AND t.ts >= k.lo AND t.ts < k.hi",
            (
                keys[0, first].tolist(),
                [to_datetime(m * MINUTE_NS) for m in keys[1, first]],
                [to_datetime((m + 1) * MINUTE_NS) for m in keys[1, last]],
            ),
        ).decode()
    rows = copy_out(connection, query, list(zip(names, kinds, strict=True)))

    def column(name: str) -> Int64:
        return rows[name].astype(np.int64)

    return _Trades(
        column("instrument_id"),
        column("publisher_id"),
        column("ts") * 1000 + column("ts_ns"),
        column("price"),
        column("size"),
        (column("sequence"), column("digest"), column("ord")),
    )


def _newest(instruments: Int64, times_ns: Int64, sequence: Int64) -> Int64:
    """The index of each instrument's newest row."""
    order = _in_order((sequence, times_ns, instruments))
    ends = np.flatnonzero(np.append(instruments[order][1:] != instruments[order][:-1], True))
    return order[ends]


def _update_price_latest(
    connection: Connection,
    kind: str,
    instruments: Int64,
    times_ns: Int64,
    prices: Int64,
    sequence: Int64 | None = None,
    size: Int64 | None = None,
) -> None:
    n = len(instruments)
    sequence = np.zeros(n, np.int64) if sequence is None else sequence
    newest = _newest(instruments, times_ns, sequence)
    no_size = size is None
    columns = [
        Column("instrument_id", "int4", instruments),
        *_time_columns(times_ns),
        Column("sequence", "int8", sequence),
        Column("price", "int8", prices),
        Column("size", "int8", np.zeros(n, np.int64) if size is None else size, np.full(n, True) if no_size else None),
    ]
    _upsert_latest(connection, "price_latest", _take(columns, newest), {"kind": kind})


def _update_quote_latest(connection: Connection, rows: Rows, instruments: Int64) -> None:
    wanted = ("sequence", "bid", "ask", "bid_size", "ask_size", "schema_id")
    columns = [
        Column("instrument_id", "int4", instruments),
        *_time_columns(rows.own_ns),
        *(column for column in rows.columns if column.name in wanted),
    ]
    newest = _newest(instruments, rows.own_ns, _values(rows.columns, "sequence"))
    _upsert_latest(connection, "quote_latest", _take(columns, newest), {})


def _upsert_latest(connection: Connection, table: str, columns: Sequence[Column], constants: dict[str, str]) -> None:
    names = [column.name for column in columns]
    stage = f"stage_{table}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS SELECT {', '.join(names)} FROM {table}"
            f" WITH NO DATA; TRUNCATE {stage}"
        )
    copy_in(connection, stage, columns)
    every = [*names, *constants]
    assignments = ", ".join(f"{name} = excluded.{name}" for name in every if name != "instrument_id")
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS l ({', '.join(every)})"
            f" SELECT {', '.join([*names, *('%s' for _ in constants)])} FROM {stage} ORDER BY instrument_id"
            f" ON CONFLICT (instrument_id) DO UPDATE SET {assignments}"
            " WHERE (l.ts, l.ts_ns, l.sequence) <= (excluded.ts, excluded.ts_ns, excluded.sequence)",
            list(constants.values()),
        )
