"""Reading stored records: SQL in, rows out, one page at a time."""

from __future__ import annotations

from typing import Any

from ots_common.database import Database
from ots_common.times import to_datetime

# the whole nanosecond time of a row, which timestamptz alone does not hold
_AT_NS = "(extract(epoch FROM ts) * 1000000)::bigint * 1000 + ts_ns"


def trades_page(
    database: Database, instrument_id: int, start_ns: int, end_ns: int, after: list[Any] | None, limit: int
) -> list[dict[str, Any]]:
    """At most ``limit`` trades in [start, end) in order of time, after the position (at_ns, sequence, digest, ord)."""
    return database.dicts(
        f"""
        SELECT {_AT_NS} AS at_ns, sequence, digest, ord, price, size, side, action, flags, publisher_id, recv_at_ns
        FROM trades WHERE {_window("digest, ord")}
        ORDER BY ts, ts_ns, sequence, digest, ord LIMIT %(limit)s
        """,
        _arguments(instrument_id, start_ns, end_ns, after, limit),
    )


def quotes_page(
    database: Database,
    instrument_id: int,
    schema_id: int | None,
    start_ns: int,
    end_ns: int,
    after: list[Any] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """At most ``limit`` quotes in [start, end), of one schema or of all, in order of time."""
    return database.dicts(
        f"""
        SELECT {_AT_NS} AS at_ns, sequence, digest, ord, s.name AS schema, bid, ask, bid_size, ask_size, price, size,
            side, flags, publisher_id, recv_at_ns
        FROM quotes JOIN dbn_schemas s USING (schema_id)
        WHERE {_window("digest, ord")} AND (%(schema_id)s::smallint IS NULL OR schema_id = %(schema_id)s)
        ORDER BY ts, ts_ns, sequence, digest, ord LIMIT %(limit)s
        """,
        {**_arguments(instrument_id, start_ns, end_ns, after, limit), "schema_id": schema_id},
    )


def instruments_page(
    database: Database, underlying: str | None, dataset: str | None, after: list[Any] | None, limit: int
) -> list[dict[str, Any]]:
    """At most ``limit`` instruments in order of symbol and dataset, after that position."""
    return database.dicts(
        """
        SELECT raw_symbol, dataset, underlying, expiration, strike, "right", multiplier FROM instruments
        WHERE (%(underlying)s::text IS NULL OR underlying = %(underlying)s)
          AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
          AND (%(after_symbol)s::text IS NULL OR (raw_symbol, dataset) > (%(after_symbol)s, %(after_dataset)s))
        ORDER BY raw_symbol, dataset LIMIT %(limit)s
        """,
        {
            "underlying": underlying,
            "dataset": dataset,
            "after_symbol": after[0] if after else None,
            "after_dataset": after[1] if after else None,
            "limit": limit,
        },
    )


def stored_span(database: Database, table: str, instrument_id: int) -> tuple[int, int] | None:
    """The first and the last time (ns) of an instrument's rows in ``trades`` or ``quotes``; None when there is none."""
    rows = database.rows(
        f"SELECT (extract(epoch FROM min(ts)) * 1000000000)::bigint, (extract(epoch FROM max(ts)) * 1000000000)::bigint"
        f" FROM {table} WHERE instrument_id = %s",
        (instrument_id,),
    )
    first, last = rows[0]
    return None if first is None else (first, last)


def _window(tail: str) -> str:
    return f"""instrument_id = %(id)s
        AND ts >= %(start)s AND (ts > %(start)s OR ts_ns >= %(start_ns)s)
        AND ts <= %(end)s AND (ts < %(end)s OR ts_ns < %(end_ns)s)
        AND (%(after_ts)s::timestamptz IS NULL OR (ts >= %(after_ts)s::timestamptz AND (ts, ts_ns, sequence, {tail}) >
            (%(after_ts)s::timestamptz, %(after_ns)s, %(after_sequence)s, %(after_digest)s, %(after_ord)s)))"""


def _arguments(instrument_id: int, start_ns: int, end_ns: int, after: list[Any] | None, limit: int) -> dict[str, Any]:
    at_ns, sequence, digest, ord_ = after or (None, None, None, None)
    return {
        "id": instrument_id,
        "start": to_datetime(start_ns),
        "start_ns": start_ns % 1000,
        "end": to_datetime(end_ns),
        "end_ns": end_ns % 1000,
        "after_ts": None if at_ns is None else to_datetime(at_ns),
        "after_ns": None if at_ns is None else at_ns % 1000,
        "after_sequence": sequence,
        "after_digest": digest,
        "after_ord": ord_,
        "limit": limit,
    }
