"""Rows into their tables, each once, with what follows from them: bars built from trades, and the latest values.

All of it runs in the caller's transaction, so that rows, bars, latest values and the cursor stand or fall together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.copy_binary import Column, array_literal, copy_in, copy_out
from ots_common.database import Connection
from ots_common.times import to_datetime
from ots_ingestion.identity import has_equals
from ots_ingestion.layouts import BAR_TABLES, Rows, unique_days
from ots_ingestion.row_ledger import RowLedger
from ots_market.bars import bars_from_trades
from ots_market.timeframes import DAY_NS, MINUTE_NS, Timeframe

Int64 = NDArray[np.int64]

_BAR_VALUES = ("open", "high", "low", "close", "volume", "origin")
_TIMEFRAMES = {"bars_1m": Timeframe.M1, "bars_1h": Timeframe.H1, "bars_1d": Timeframe.D1}
# an instrument and a minute (since 1970) in one word
_MINUTE_BITS = 32
_MINUTE_MASK = (1 << _MINUTE_BITS) - 1
_QUARTER_NS = 15 * MINUTE_NS
# what the latest values keep of a row, which is a row of this table
_LATEST = {
    "trades": frozenset({"instrument_id", "ts", "ts_ns", "sequence", "price", "size"}),
    "quotes": frozenset(
        {"instrument_id", "ts", "ts_ns", "sequence", "bid", "ask", "bid_size", "ask_size", "schema_id"}
    ),
}
_OPEN = "SELECT open_chunks(%s, %s::timestamptz[], %s)"
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('write ' || %s))"
_TYPES = {"int2": "smallint", "int4": "integer", "int8": "bigint", "timestamptz": "bigint", "char": "char(1)"}
# values of rows that go with their statement: more are faster by COPY through a temporary table, which costs two more
# questions, and the making or emptying of the table
_FEW_VALUES = 20_000
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
    if rows.schema in BAR_TABLES:
        return store_bars(connection, rows, instruments, keep=keep)
    if ords is None:
        raise ValueError(f"{rows.table} needs the identity of each record")
    ids, owners = np.unique(instruments, return_inverse=True)
    writing = Writing(connection, rows.table, ids, keep=keep)
    writing.open(int(rows.own_ns.min()), int(rows.own_ns.max()), unique_days(rows.own_ns))
    writing.write(sort_rows(rows, owners, ords))
    return writing.finish()


def store_bars(connection: Connection, rows: Rows, instruments: Int64, *, keep: bool) -> Stored:
    """Store the vendor's bars: new ones, ones that replace what was built from trades, and revisions."""
    if rows.table in _TIME_TABLES:
        open_chunks(connection, rows.table, unique_days(rows.own_ns), keep=keep)
    done = _upsert_vendors(connection, rows.table, instruments, rows.own_ns, rows.columns)
    ends = rows.own_ns + _TIMEFRAMES[rows.table].nanoseconds
    _update_price_latest(connection, "bar", _price_columns(instruments, ends, _values(rows.columns, "close")))
    if done.stored or done.revised:
        _note(connection, rows.table, _quarters(rows.own_ns))
    return done


def open_chunks(connection: Connection, table: str, days: Int64, *, keep: bool) -> None:
    """Make the chunks that hold these days (since 1970)."""
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, _opening(table, days, keep=keep))


def _opening(table: str, days: Int64, *, keep: bool) -> tuple[str, list[datetime], bool]:
    return table, [to_datetime(day * DAY_NS) for day in days], keep


def _note(connection: Connection, table: str, quarters: Iterable[int]) -> None:
    """Say which quarters of an hour (since 1970) have changed: answers made of them before have another data version.

    See :mod:`ots_market.versions`. Whoever calls holds the table's write lock.
    """
    moments = [to_datetime(quarter * _QUARTER_NS) for quarter in sorted(quarters)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT note_stored(%s, %s::timestamptz[])", (table, moments))


def _quarters(times_ns: Int64) -> set[int]:
    """The quarters of an hour since 1970 that hold these times; without sorting them where they lie close together."""
    each = times_ns // _QUARTER_NS
    first, last = int(each.min()), int(each.max())
    if last - first > 100_000:
        return set(np.unique(each).tolist())
    held = np.zeros(last - first + 1, bool)
    held[each - first] = True
    return set((np.flatnonzero(held) + first).tolist())


def _values(columns: Sequence[Column], name: str) -> Int64:
    return next(column.values for column in columns if column.name == name)


def _time_columns(own_ns: Int64) -> list[Column]:
    return [Column("ts", "timestamptz", own_ns // 1000), Column("ts_ns", "int2", own_ns % 1000)]


def _take(columns: Sequence[Column], which: NDArray[Any]) -> list[Column]:
    return [column.take(which) for column in columns]


@dataclass(frozen=True)
class Sorted:
    """Rows in the order of the index, which halves what the index costs, each key once; made without the database.

    They stand in blocks: ``owners``, shape (b,), says whose each block is, by any number that the caller gave an
    instrument; ``starts``, shape (b,), where it begins. Arrays of rows have shape (n,); ``places``: where each stood
    before. ``offered``: how many rows came. ``newest``: the index of each block's newest row. ``bars``: the minute bars
    that the rows make, by owner, where they are trades.
    """

    table: str
    owners: Int64
    starts: Int64
    own_ns: Int64
    digests: Int64
    ords: Int64
    columns: list[Column]
    places: Int64
    offered: int
    newest: Int64
    bars: _Bars | None

    def __len__(self) -> int:
        return len(self.own_ns)

    @property
    def lengths(self) -> Int64:
        """How many rows each block has."""
        return np.diff(np.append(self.starts, len(self)))

    def owned_by(self, owners: Int64) -> Sorted:
        """The same rows, their blocks under other owners; blocks that come together become one."""
        runs = np.concatenate(([True], owners[1:] != owners[:-1]))
        if runs.all() and len(np.unique(owners)) == len(owners):
            return replace(self, owners=owners, bars=self._bars_of(owners))
        ends = self.starts + self.lengths - 1
        ascends = np.concatenate(([True], self.own_ns[self.starts[1:]] > self.own_ns[ends[:-1]]))
        if len(np.unique(owners)) == runs.sum() and (runs | ascends).all():
            # an instrument's days, one behind the other
            last = np.append(np.flatnonzero(runs)[1:], len(owners)) - 1
            return replace(
                self,
                owners=owners[runs],
                starts=self.starts[runs],
                newest=self.newest[last],
                bars=self._bars_of(owners),
            )
        return _sorted(
            self.table,
            np.repeat(owners, self.lengths),
            self.own_ns,
            self.digests,
            self.ords,
            self.columns,
            self.places,
            self.offered,
        )

    def _bars_of(self, owners: Int64) -> _Bars | None:
        if self.bars is None:
            return None
        return replace(self.bars, instruments=owners[np.searchsorted(self.owners, self.bars.instruments)])


def sort_rows(rows: Rows, owners: Int64, ords: Int64) -> Sorted:
    """Bring ``rows``, one at least, into the order of the index. ``owners``, shape (n,): whose each is, by a number."""
    if rows.digests is None:
        raise ValueError(f"{rows.table} needs the identity of each record")
    places = np.arange(len(rows))
    return _sorted(rows.table, owners, rows.own_ns, rows.digests, ords, rows.columns, places, len(rows))


def _sorted(
    table: str,
    owners: Int64,
    own_ns: Int64,
    digests: Int64,
    ords: Int64,
    columns: list[Column],
    places: Int64,
    offered: int,
) -> Sorted:
    # what has its time in common lies together in the index: the rest of the key matters only where all of it is equal
    keys = (ords, digests, own_ns, owners)
    if has_equals(digests, owners, ords):
        order = _in_order(keys)
        order = order[np.concatenate(([True], _differs([key[order] for key in keys])))]
    else:
        order = np.lexsort((own_ns, owners))
    ords, digests, own_ns, owners = (key[order] for key in keys)
    columns, places = _take(columns, order), places[order]
    starts = np.flatnonzero(np.concatenate(([True], owners[1:] != owners[:-1])))
    newest = _lasts(starts, own_ns, (_values(columns, "sequence"), places)) if table in _LATEST else starts
    bars = _bars_of(_trades_of(owners, own_ns, digests, ords, columns)) if table == "trades" else None
    return Sorted(table, owners[starts], starts, own_ns, digests, ords, columns, places, offered, newest, bars)


def _differs(keys: Sequence[Int64]) -> NDArray[np.bool_]:
    """Which rows differ from the one before in any key, from the second row on."""
    differs: NDArray[np.bool_] = keys[0][1:] != keys[0][:-1]
    for key in keys[1:]:
        differs |= key[1:] != key[:-1]
    return differs


def _firsts(starts: Int64, own_ns: Int64, keys: Sequence[Int64]) -> Int64:
    """The index of each block's first row: by time, which is in order in each block, and then by ``keys``."""
    return _ends(starts, own_ns, keys, last=False)


def _lasts(starts: Int64, own_ns: Int64, keys: Sequence[Int64]) -> Int64:
    """The index of each block's last row in the same sense."""
    return _ends(starts, own_ns, keys, last=True)


def _ends(starts: Int64, own_ns: Int64, keys: Sequence[Int64], *, last: bool) -> Int64:
    lengths = np.diff(np.append(starts, len(own_ns)))
    ends = starts + lengths - 1 if last else starts
    # those that share the time of the end
    tied = np.flatnonzero(own_ns == np.repeat(own_ns[ends], lengths))
    if len(tied) == len(starts):
        return tied
    block = np.repeat(np.arange(len(starts)), lengths)[tied]
    order = np.lexsort((*(key[tied] for key in reversed(keys)), block))
    # block is in order already, and stays so
    change = block[1:] != block[:-1]
    found: Int64 = tied[order[np.append(change, True) if last else np.concatenate(([True], change))]]
    return found


class Writing:
    """The rows of one batch into one table, piece by piece, in the caller's transaction.

    ``instruments``: the instrument id of each owner of blocks, int64 of shape (g,), -1 for one that owns none.
    Use: :meth:`open`, :meth:`write` for each piece, :meth:`finish`.
    """

    def __init__(self, connection: Connection, table: str, instruments: Int64, *, keep: bool) -> None:
        self._connection = connection
        self._table = table
        self._keep = keep
        # two owners may be one instrument: the vendor's ids change from day to day
        self._ids, self._owners = np.unique(instruments, return_inverse=True)
        nothing = np.iinfo(np.int64).min
        self._stored_us = np.full(len(self._ids), nothing)
        self._written_us = np.full(len(self._ids), nothing)
        self._offered = 0
        self._inserted = 0
        self._rebuilt = 0
        self._newest: list[list[Column]] = []
        self._bars: list[_Bars] = []
        self._ledger = RowLedger(table)
        self._unsure: list[Int64] = []
        self._written: list[tuple[Int64, Int64]] = []
        self._changed: set[int] = set()
        self.touched: set[int] = set()
        self.minutes: set[int] = set()

    def open(self, first_ns: int, last_ns: int, days: Int64) -> None:
        """Make room for rows from ``first_ns`` to ``last_ns`` on ``days``, and learn what is stored there already.

        Takes the table's write lock: what is not there now, another writer does not put there before the commit.
        ``_stored_us`` is then, for each instrument, the newest time (µs) stored in the minutes of that stretch, or the
        least integer when nothing is. What is later than that is new, and so is every row of a later minute.
        """
        with self._connection.cursor() as cursor:
            # one message, three statements: each sees what was committed when it begins
            cursor.execute(
                f"{_OPEN}; {_LOCK};"
                " SELECT k.n, (extract(epoch FROM newest.ts) * 1000000)::bigint"
                " FROM unnest(%s::integer[]) WITH ORDINALITY AS k (id, n)"
                f" CROSS JOIN LATERAL (SELECT ts FROM {self._table} t WHERE t.instrument_id = k.id"
                " AND t.ts >= %s AND t.ts < %s ORDER BY ts DESC LIMIT 1) AS newest",
                (
                    *_opening(self._table, days, keep=self._keep),
                    self._table,
                    array_literal(self._ids),
                    to_datetime(first_ns // MINUTE_NS * MINUTE_NS),
                    to_datetime((last_ns // MINUTE_NS + 1) * MINUTE_NS),
                ),
            )
            for n, at_us in cursor.fetchall():
                self._stored_us[n - 1] = at_us

    def write(self, piece: Sorted) -> None:
        """Store a piece; every row of it is an instrument's and in the stretch that was opened."""
        piece = piece.owned_by(self._owners[piece.owners])
        owners, lengths = piece.owners, piece.lengths
        self._offered += piece.offered
        self._changed |= _quarters(piece.own_ns)
        self.touched.update(self._ids[owners].tolist())
        instruments = np.repeat(self._ids[owners], lengths)
        columns = [
            Column("instrument_id", "int4", instruments),
            *_time_columns(piece.own_ns),
            Column("digest", "int8", piece.digests),
            Column("ord", "int4", piece.ords),
            *piece.columns,
        ]
        held = self._may_be_there(piece)
        ends = piece.starts + lengths - 1
        self._written_us[owners] = np.maximum(self._written_us[owners], piece.own_ns[ends] // 1000)
        self._written.append((piece.own_ns, piece.digests))
        if held is None:
            copy_in(self._connection, self._table, columns)
            self._ledger.add(columns)
            self._inserted += len(piece)
        else:
            self._inserted += _insert(self._connection, self._table, columns, held, self._ledger)
            if piece.bars is not None:
                self._unsure.append(np.unique(_minute_keys(instruments[held], piece.own_ns[held] // MINUTE_NS)))
        if piece.bars is not None:
            self._bars.append(piece.bars)
        if self._table in _LATEST:
            self._newest.append(
                [column.take(piece.newest) for column in columns if column.name in _LATEST[self._table]]
            )

    def _may_be_there(self, piece: Sorted) -> NDArray[np.bool_] | None:
        """Which rows of a piece may be stored already; None when surely none is.

        Those that are not later than what was stored before this batch; and of those not later than what this batch
        has written, which are few, those that have the digest of such a row.
        """
        stored_us, written_us = self._stored_us[piece.owners], self._written_us[piece.owners]
        if (piece.own_ns[piece.starts] // 1000 > np.maximum(stored_us, written_us)).all():
            return None
        own_us = piece.own_ns // 1000
        held = own_us <= np.repeat(stored_us, piece.lengths)
        late = np.flatnonzero((own_us <= np.repeat(written_us, piece.lengths)) & ~held)
        if len(late):
            since = piece.own_ns[late].min()
            written = np.concatenate([digests[own_ns >= since] for own_ns, digests in self._written])
            held[late] = np.isin(piece.digests[late], written)
        return held if held.any() else None

    def finish(self) -> Stored:
        """What follows from the rows: bars, where they are trades, the latest values, and the note of what changed."""
        if self._bars:
            self._build_minutes()
        if self._newest:
            columns = _concatenated(self._newest)
            if self._table == "trades":
                _update_price_latest(self._connection, "trade", columns)
            else:
                _upsert_latest(self._connection, "quote_latest", _newest_of(columns), {})
        # trades that are there already may still make bars: of those that retention dropped
        if self._inserted or self._rebuilt:
            _note(self._connection, self._table, self._changed)
        self._ledger.write(self._connection)
        return Stored(stored=self._inserted, duplicate=self._offered - self._inserted)

    def _build_minutes(self) -> None:
        """The bars of the touched minutes as all their trades make them, so that a replay never doubles a volume.

        Minutes in which nothing was stored before are built from the rows in hand. Where all rows in hand are later
        than what is stored of their minute, its bar is continued: a busy minute read again with every batch would cost
        more with each. Only where they fall among what is stored, the minute's trades are read.
        """
        built = _joined(self._bars)
        fresh = built.minutes * (MINUTE_NS // 1000) > self._stored_us[built.instruments]
        built = replace(built, instruments=self._ids[built.instruments])
        keys = _minute_keys(built.instruments, built.minutes)
        self.minutes.update(np.unique(built.minutes << _MINUTE_BITS | built.instruments).tolist())
        days = unique_days(built.minutes * MINUTE_NS)
        with self._connection.cursor() as cursor:
            cursor.execute(f"{_OPEN}; {_LOCK}", (*_opening("bars_1m", days, keep=self._keep), "bars_1m"))
        unsure = np.unique(np.concatenate(self._unsure)) if self._unsure else np.zeros(0, np.int64)
        sure = ~np.isin(keys, unsure)
        found = [built.take(fresh & sure)]
        later = ~fresh & sure
        if later.any():
            bars, unknown = _continued(self._connection, built.take(later))
            found.append(bars)
            unsure = np.union1d(unsure, unknown)
        if len(unsure):
            read = _trades_of_minutes(self._connection, unsure >> _MINUTE_BITS, unsure & _MINUTE_MASK)
            found.append(_bars_of(read))
        # a minute is in one of them alone
        columns = _concatenated([one.columns() for one in found if len(one.minutes)])
        if columns:
            given, values = _given(self._connection, "bars_1m", columns)
            self._rebuilt = _upsert_bars(self._connection, "bars_1m", given, values, "b.origin = 't'")


def _concatenated(parts: Sequence[Sequence[Column]]) -> list[Column]:
    """The same columns of several parts, one behind the other."""
    if len(parts) < 2:
        return [column for part in parts for column in part]
    joined = []
    for same in zip(*parts, strict=True):
        null = None
        if any(column.null is not None for column in same):
            null = np.concatenate([np.zeros(len(c.values), bool) if c.null is None else c.null for c in same])
        joined.append(Column(same[0].name, same[0].kind, np.concatenate([c.values for c in same]), null))
    return joined


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


def _insert(
    connection: Connection, table: str, columns: Sequence[Column], held: NDArray[np.bool_], ledger: RowLedger
) -> int:
    """Store rows of which those of ``held`` may be there already; how many were not."""
    inserted = int((~held).sum())
    if inserted:
        new = _take(columns, ~held)
        copy_in(connection, table, new)
        ledger.add(new)
    names = ", ".join(column.name for column in columns)
    given, values = _given(connection, table, _take(columns, held))
    insert = f"INSERT INTO {table} ({names}) SELECT {names} FROM {given} ON CONFLICT DO NOTHING"
    return inserted + ledger.insert(connection, insert, values, columns)


def _given(connection: Connection, table: str, columns: Sequence[Column]) -> tuple[str, list[str]]:
    """Rows as an item of FROM, and the parameters of its text."""
    if len(columns) * len(columns[0].values) > _FEW_VALUES:
        return _stage(connection, table, columns), []
    names = ", ".join(column.name for column in columns)
    arrays = ", ".join(f"%s::{_TYPES[column.kind]}[]" for column in columns)
    selected = ", ".join(
        f"timestamptz 'epoch' + {column.name} * interval '1 microsecond' AS {column.name}"
        if column.kind == "timestamptz"
        else column.name
        for column in columns
    )
    return (
        f"(SELECT {selected} FROM unnest({arrays}) AS a ({names})) AS given",
        [array_literal(column.values, column.null) for column in columns],
    )


def _stage(connection: Connection, table: str, columns: Sequence[Column]) -> str:
    stage = f"stage_{table}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS"
            f" SELECT {', '.join(column.name for column in columns)} FROM {table} WITH NO DATA; TRUNCATE {stage}"
        )
    copy_in(connection, stage, columns)
    return stage


def _upsert_vendors(
    connection: Connection, table: str, instruments: Int64, starts: Int64, columns: Sequence[Column]
) -> Stored:
    publishers = _values(columns, "publisher_id")
    order = np.lexsort((publishers, starts, instruments))  # stable: the file's last word on a bar comes last
    keys = [key[order] for key in (instruments, starts, publishers)]
    last = np.ones(len(order), bool)
    last[:-1] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    superseded = len(order) - int(last.sum())
    order = order[last]
    staged = [Column("instrument_id", "int4", instruments), Column("ts", "timestamptz", starts // 1000), *columns]
    staged = _take(staged, order)
    ledger = RowLedger(table)
    ledger.add(staged)
    stage = _stage(connection, table, staged)
    same = " AND ".join(f"b.{name} = s.{name}" for name in _BAR_VALUES)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('write ' || %s))", (table,))
        cursor.execute(
            f"SELECT count(*) FILTER (WHERE b.origin IS DISTINCT FROM 'v'), count(*) FILTER (WHERE {same})"
            f" FROM {stage} s LEFT JOIN {table} b USING (instrument_id, ts, publisher_id)"
        )
        new, unchanged = cursor.fetchone() or (0, 0)
    if new < len(order):
        known = f"(instrument_id, ts, publisher_id) IN (SELECT instrument_id, ts, publisher_id FROM {stage})"
        ledger.withdraw(connection, f"{table} WHERE origin = 'v' AND {known}", staged)
    _upsert_bars(connection, table, stage, [], "true")
    ledger.write(connection)
    revised = len(order) - new - unchanged
    return Stored(stored=new, revised=revised, duplicate=unchanged + superseded)


def _upsert_bars(connection: Connection, table: str, given: str, parameters: list[str], condition: str) -> int:
    """How many were new or changed."""
    assignments = ", ".join(f"{name} = excluded.{name}" for name in _BAR_VALUES)
    old = ", ".join(f"b.{name}" for name in _BAR_VALUES)
    new = ", ".join(f"excluded.{name}" for name in _BAR_VALUES)
    names = "instrument_id, ts, publisher_id, " + ", ".join(_BAR_VALUES)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS b ({names}) SELECT {names} FROM {given}"
            f" ON CONFLICT (instrument_id, ts, publisher_id) DO UPDATE SET {assignments}"
            f" WHERE {condition} AND ({old}) IS DISTINCT FROM ({new})",
            parameters,
        )
        return cursor.rowcount


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
    """Minute bars, each venue's apart; each array has shape (n,). ``values``: open, high, low, close, volume.

    ``begins`` and ``ends``: what orders a bar's first and last trade among others (own time, sequence, digest, ord);
    nothing for bars that were read.
    """

    instruments: Int64
    minutes: Int64
    publishers: Int64
    values: tuple[Int64, ...]
    begins: tuple[Int64, ...] = ()
    ends: tuple[Int64, ...] = ()

    def take(self, which: NDArray[Any]) -> _Bars:
        kept = (self.instruments[which], self.minutes[which], self.publishers[which])
        more = (tuple(one[which] for one in ones) for ones in (self.values, self.begins, self.ends))
        return _Bars(*kept, *more)

    def columns(self) -> list[Column]:
        return [
            Column("instrument_id", "int4", self.instruments),
            Column("ts", "timestamptz", self.minutes * (MINUTE_NS // 1000)),
            Column("publisher_id", "int4", self.publishers),
            *(Column(name, "int8", value) for name, value in zip(_BAR_VALUES[:5], self.values, strict=True)),
            Column("origin", "char", np.full(len(self.minutes), b"t", "S1")),
        ]


def _minute_keys(instruments: Int64, minutes: Int64) -> Int64:
    return instruments << _MINUTE_BITS | minutes


def _trades_of(owners: Int64, own_ns: Int64, digests: Int64, ords: Int64, columns: Sequence[Column]) -> _Trades:
    sequence, publishers, prices, sizes = (
        _values(columns, name) for name in ("sequence", "publisher_id", "price", "size")
    )
    return _Trades(owners, publishers, own_ns, prices, sizes, (sequence, digests, ords))


def _bars_of(trades: _Trades) -> _Bars:
    series = trades.instruments << 16 | trades.publishers
    order = np.lexsort((trades.own_ns, series))
    series, own_ns, prices = series[order], trades.own_ns[order], trades.prices[order]
    first, _, high, low, _, volume = bars_from_trades(series, own_ns, prices, trades.sizes[order])
    key = [one[order] for one in trades.key]
    begins, ends = _firsts(first, own_ns, key), _lasts(first, own_ns, key)
    return _Bars(
        trades.instruments[order[first]],
        own_ns[first] // MINUTE_NS,
        trades.publishers[order[first]],
        (prices[begins], high, low, prices[ends], volume),
        tuple(one[begins] for one in (own_ns, *key)),
        tuple(one[ends] for one in (own_ns, *key)),
    )


def _joined(parts: Sequence[_Bars]) -> _Bars:
    """The bars of several lots of trades as all of them together make them, whatever their order."""
    if len(parts) == 1:
        return parts[0]
    instruments, minutes, publishers = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("instruments", "minutes", "publishers")
    )
    values, begins, ends = (
        [np.concatenate(same) for same in zip(*(getattr(part, name) for part in parts), strict=True)]
        for name in ("values", "begins", "ends")
    )
    keys = (publishers, _minute_keys(instruments, minutes))
    order = _in_order((*begins[::-1], *keys))
    first = np.flatnonzero(np.concatenate(([True], _differs([key[order] for key in keys]))))
    opens = order[first]
    closes = _in_order((*ends[::-1], *keys))[np.append(first[1:], len(order)) - 1]
    opened, high, low, close, volume = values
    return _Bars(
        instruments[opens],
        minutes[opens],
        publishers[opens],
        (
            opened[opens],
            np.maximum.reduceat(high[order], first),
            np.minimum.reduceat(low[order], first),
            close[closes],
            np.add.reduceat(volume[order], first),
        ),
        tuple(key[opens] for key in begins),
        tuple(key[closes] for key in ends),
    )


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


def _price_columns(instruments: Int64, times_ns: Int64, prices: Int64) -> list[Column]:
    """The latest prices as bars say them: without a sequence and a size."""
    nothing = np.zeros(len(instruments), np.int64)
    return [
        Column("instrument_id", "int4", instruments),
        *_time_columns(times_ns),
        Column("sequence", "int8", nothing),
        Column("price", "int8", prices),
        Column("size", "int8", nothing, np.ones(len(instruments), bool)),
    ]


def _update_price_latest(connection: Connection, kind: str, columns: Sequence[Column]) -> None:
    _upsert_latest(connection, "price_latest", _newest_of(columns), {"kind": kind})


def _newest_of(columns: Sequence[Column]) -> list[Column]:
    """Each instrument's newest row: by time, by sequence, and the last that came."""
    instruments, ts, ts_ns, sequence = (_values(columns, name) for name in ("instrument_id", "ts", "ts_ns", "sequence"))
    order = _in_order((sequence, ts * 1000 + ts_ns, instruments))
    ends = np.append(instruments[order][1:] != instruments[order][:-1], True)
    return _take(columns, order[ends])


def _upsert_latest(connection: Connection, table: str, columns: Sequence[Column], constants: dict[str, str]) -> None:
    names = [column.name for column in columns]
    given, values = _given(connection, table, columns)
    every = [*names, *constants]
    assignments = ", ".join(f"{name} = excluded.{name}" for name in every if name != "instrument_id")
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS l ({', '.join(every)})"
            f" SELECT {', '.join([*names, *('%s' for _ in constants)])} FROM {given} ORDER BY instrument_id"
            f" ON CONFLICT (instrument_id) DO UPDATE SET {assignments}"
            " WHERE (l.ts, l.ts_ns, l.sequence) <= (excluded.ts, excluded.ts_ns, excluded.sequence)",
            [*constants.values(), *values],
        )
