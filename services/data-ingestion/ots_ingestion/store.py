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
_TIME_TABLES = frozenset({"trades", "quotes", "statistics", "definitions", "bars_1m", "bars_1h"})


@dataclass(frozen=True)
class Stored:
    """What became of some rows; the three add up to their number."""

    stored: int = 0
    revised: int = 0
    duplicate: int = 0


def store(connection: Connection, rows: Rows, instruments: Int64, ords: Int64 | None, *, keep: bool) -> Stored:
    """Store ``rows`` of ``instruments`` (int64, shape (n,)); ``ords`` as :class:`RepeatCounter` counted them.

    ``keep`` exempts them from retention. Bars built from trades and the latest values follow in the same transaction.
    """
    if not len(rows):
        return Stored()
    if rows.table in _TIME_TABLES:
        open_chunks(connection, rows.table, rows.own_ns, keep=keep)
    if rows.schema in BAR_TABLES:
        done = _store_bars(connection, rows.table, instruments, rows.own_ns, rows.columns)
        length = _TIMEFRAMES[rows.table].nanoseconds
        _update_price_latest(connection, "bar", instruments, rows.own_ns + length, _values(rows.columns, "close"))
        return done
    if ords is None or rows.digests is None:
        raise ValueError(f"{rows.table} needs the identity of each record")
    done = _store_records(connection, rows, instruments, ords)
    if rows.table == "trades":
        _rebuild_minutes(connection, instruments, rows.own_ns, keep=keep)
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


def _values(columns: Sequence[Column], name: str) -> Int64:
    return next(column.values for column in columns if column.name == name)


def _time_columns(own_ns: Int64) -> list[Column]:
    return [Column("ts", "timestamptz", own_ns // 1000), Column("ts_ns", "int2", own_ns % 1000)]


def _take(columns: Sequence[Column], which: NDArray[Any]) -> list[Column]:
    return [column.take(which) for column in columns]


def _store_records(connection: Connection, rows: Rows, instruments: Int64, ords: Int64) -> Stored:
    digests = rows.digests
    assert digests is not None  # noqa: S101  (store has looked)
    order = np.lexsort((ords, digests, rows.own_ns, instruments))
    keys = [key[order] for key in (instruments, rows.own_ns // 1000, digests, ords)]
    first = np.ones(len(order), bool)
    first[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    # in the order of the index: that halves what the index costs
    order = order[first]
    columns = [
        Column("instrument_id", "int4", instruments),
        *_time_columns(rows.own_ns),
        Column("digest", "int8", digests),
        Column("ord", "int4", ords),
        *rows.columns,
    ]
    columns = _take(columns, order)
    if _nothing_there(connection, rows.table, instruments[order], rows.own_ns[order]):
        copy_in(connection, rows.table, columns)
        inserted = len(order)
    else:
        stage = _stage(connection, rows.table, columns)
        names = ", ".join(column.name for column in columns)
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {rows.table} ({names}) SELECT {names} FROM {stage} ON CONFLICT DO NOTHING")
            inserted = cursor.rowcount
    return Stored(stored=inserted, duplicate=len(rows) - inserted)


def _nothing_there(connection: Connection, table: str, instruments: Int64, own_ns: Int64) -> bool:
    """True when no row of these instruments is stored in the span of their new rows, so that a plain COPY will do.

    Takes the table's write lock against other writers first: what is not there now is not there at the COPY either.
    """
    first = np.flatnonzero(np.concatenate(([True], instruments[1:] != instruments[:-1])))
    last = np.append(first[1:], len(instruments)) - 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('write ' || %s))", (table,))
        cursor.execute(
            "SELECT NOT EXISTS (SELECT FROM"
            " unnest(%s::integer[], %s::timestamptz[], %s::timestamptz[]) AS k (id, lo, hi)"
            f" CROSS JOIN LATERAL (SELECT FROM {table} t WHERE t.instrument_id = k.id AND t.ts BETWEEN k.lo AND k.hi"
            " LIMIT 1) AS found)",
            (
                instruments[first].tolist(),
                [to_datetime(t) for t in own_ns[first]],
                [to_datetime(t) for t in own_ns[last]],
            ),
        )
        return bool((cursor.fetchone() or (False,))[0])


def _stage(connection: Connection, table: str, columns: Sequence[Column]) -> str:
    stage = f"stage_{table}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS {stage} (LIKE {table}) ON COMMIT DELETE ROWS")
        cursor.execute(f"TRUNCATE {stage}")
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


def _rebuild_minutes(connection: Connection, instruments: Int64, times_ns: Int64, *, keep: bool) -> None:
    """Build the touched minutes again from all their stored trades, so that a replay never doubles a volume."""
    open_chunks(connection, "bars_1m", times_ns // MINUTE_NS * MINUTE_NS, keep=keep)
    built = []
    for instrument in np.unique(instruments):
        touched = np.unique(times_ns[instruments == instrument] // MINUTE_NS)
        trades = _trades_of_minutes(connection, int(instrument), int(touched[0]), int(touched[-1]) + 1)
        trades = trades[np.isin(trades["ts"] // (MINUTE_NS // 1000), touched)]
        for publisher in np.unique(trades["publisher_id"]):
            mine = trades[trades["publisher_id"] == publisher]
            bars = bars_from_trades(mine["ts"] * 1000 + mine["ts_ns"], mine["price"], mine["size"])
            built.append((int(instrument), int(publisher), bars))
    if not built:
        return
    starts, opened, high, low, close, volume = (np.concatenate([b[2][i] for b in built]) for i in range(6))
    lengths = [len(b[2][0]) for b in built]
    columns = [
        Column("instrument_id", "int4", np.repeat([b[0] for b in built], lengths)),
        Column("ts", "timestamptz", starts // 1000),
        Column("publisher_id", "int4", np.repeat([b[1] for b in built], lengths)),
        Column("open", "int8", opened),
        Column("high", "int8", high),
        Column("low", "int8", low),
        Column("close", "int8", close),
        Column("volume", "int8", volume),
        Column("origin", "char", np.full(len(starts), b"t", "S1")),
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('write ' || %s))", ("bars_1m",))
    _upsert_bars(connection, "bars_1m", _stage(connection, "bars_1m", columns), "b.origin = 't'")


def _trades_of_minutes(connection: Connection, instrument: int, first: int, end: int) -> NDArray[Any]:
    with connection.cursor() as cursor:
        query = cursor.mogrify(
            "SELECT ts, ts_ns, price, size, publisher_id FROM trades"
            " WHERE instrument_id = %s AND ts >= %s AND ts < %s ORDER BY ts, ts_ns, sequence, digest, ord",
            (instrument, to_datetime(first * MINUTE_NS), to_datetime(end * MINUTE_NS)),
        ).decode()
    return copy_out(
        connection,
        query,
        [("ts", "timestamptz"), ("ts_ns", "int2"), ("price", "int8"), ("size", "int8"), ("publisher_id", "int4")],
    )


def _newest(instruments: Int64, times_ns: Int64, sequence: Int64) -> Int64:
    """The index of each instrument's newest row."""
    order = np.lexsort((sequence, times_ns, instruments))
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
            " WITH NO DATA"
        )
        cursor.execute(f"TRUNCATE {stage}")
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
