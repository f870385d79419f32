"""One session's data quality of a symbol: reads what is stored of it and counts.

What is there by minute is counted in SQL, over all of it. What needs the records themselves is read by COPY BINARY in
groups of instruments, so that memory is bounded; of a schema with more than MAX_RECORDS it is left out, and said so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.copy_binary import copy_out
from ots_common.database import Connection
from ots_common.times import to_datetime
from ots_ingestion.gaps import Gap, gaps_page, intersection, length_ns
from ots_ingestion.layouts import SCHEMA_IDS
from ots_ingestion.market_status import Session
from ots_ingestion.quality import (
    Latency,
    Order,
    Outliers,
    QuoteFaults,
    latency_of,
    order_of,
    outliers_of,
    quote_faults,
)
from ots_market.prices import UNDEFINED
from ots_market.timeframes import MINUTE_NS

# of one schema; see docs/DATA_QUALITY.md for how long so many take
MAX_RECORDS = 1_000_000
_GROUP_RECORDS = 250_000
_STATEMENT_TIMEOUT = "20s"
_WORK_MEMORY = "64MB"
_SHOWN_GAPS = 100

SAMPLED = frozenset({"cbbo-1s", "cbbo-1m", "bbo-1s", "bbo-1m"})
_WITHOUT_SEQUENCE = SAMPLED | {"cmbp-1", "tcbbo"}
_SCHEMA_NAMES = {number: name for name, number in SCHEMA_IDS.items()}
_SAMPLED_IDS = sorted(SCHEMA_IDS[name] for name in SAMPLED)

# a sample is of the interval before its time: the one at 14:31:00 is of the minute 14:30
_COUNT = """
    SELECT instrument_id, schema_id, sum(n)::bigint, coalesce(sum(n) FILTER (WHERE inside), 0)::bigint,
        count(DISTINCT minute) FILTER (WHERE inside), (extract(epoch FROM max(known)) * 1000000)::bigint * 1000
    FROM (
        SELECT instrument_id, schema_id, date_bin('1 minute', at, 'epoch') AS minute,
            at >= %(opens)s AND at < %(closes)s AS inside, count(*) AS n, max(known) AS known
        FROM ({rows}) AS r GROUP BY 1, 2, 3, 4
    ) AS minutes GROUP BY 1, 2
"""
_WINDOW = "instrument_id = ANY(%(ids)s) AND ts >= %(start)s AND ts < %(end)s"
_ROWS = {
    "trades": f"SELECT instrument_id, {SCHEMA_IDS['trades']} AS schema_id, ts AS at, ts AS known"
    f" FROM trades WHERE {_WINDOW}",
    "quotes": "SELECT instrument_id, schema_id, CASE WHEN schema_id = ANY(%(sampled)s)"
    f" THEN ts - interval '1 microsecond' ELSE ts END AS at, ts AS known FROM quotes WHERE {_WINDOW}",
    "bars_1m": f"SELECT DISTINCT instrument_id, {SCHEMA_IDS['ohlcv-1m']} AS schema_id, ts AS at,"
    " ts + interval '1 minute' AS known FROM bars_1m"
    f" WHERE {_WINDOW} AND origin = 'v'",
}
_TRADES = (
    ("instrument_id", "int4"), ("ts", "timestamptz"), ("ts_ns", "int2"), ("sequence", "int8"), ("price", "int8"),
    ("publisher_id", "int4"), ("recv_at_ns", "int8"),
)  # fmt: skip
_QUOTES = (
    ("instrument_id", "int4"), ("ts", "timestamptz"), ("ts_ns", "int2"), ("sequence", "int8"), ("bid", "int8"),
    ("ask", "int8"), ("bid_size", "int8"), ("ask_size", "int8"), ("publisher_id", "int4"), ("recv_at_ns", "int8"),
)  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """Of what, and when. ``day``: the market's calendar day; ``until_ns``: the session's close, or now before it."""

    dataset: str
    instruments: tuple[int, ...]
    gap_symbols: tuple[str, ...]
    session: Session
    day_ns: tuple[int, int]
    until_ns: int


@dataclass(frozen=True)
class SchemaQuality:
    """One schema's figures; those that cannot be counted are None, and ``reason`` says why."""

    schema: str
    instruments: int
    records: int
    outside_session: int
    expected_minutes: int
    present_minutes: int
    order: Order | None
    quotes: QuoteFaults | None
    latency: Latency | None
    outliers: Outliers | None
    reason: str | None


@dataclass(frozen=True)
class Duplicates:
    """Records of the dataset that were there already, in ``runs`` that reach into the day; of all symbols together."""

    runs: int
    records: int


@dataclass(frozen=True)
class GapsOfDay:
    """The ledger within the session. ``missing_ns``: how long open gaps are in it, overlaps counted once."""

    open: list[Gap]
    closed: int
    missing_ns: int


@dataclass(frozen=True)
class Report:
    """All of it."""

    schemas: list[SchemaQuality]
    duplicates: Duplicates
    gaps: GapsOfDay
    # the newest of all that was counted (a bar counts from its end), ns; None when nothing was
    as_of_ns: int | None


@dataclass
class _Counted:
    records: int = 0
    inside: int = 0
    minutes: int = 0
    newest_ns: int = 0
    by_instrument: dict[int, int] | None = None


def report(connection: Connection, scope: Scope) -> Report:
    """The report. Raises psycopg2.errors.QueryCanceled when one query takes longer than its time."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('work_mem', %s, true)",
            (_STATEMENT_TIMEOUT, _WORK_MEMORY),
        )
    counted = _count(connection, scope)
    return Report(
        schemas=[_schema_quality(connection, scope, schema, counted[schema]) for schema in sorted(counted)],
        duplicates=_duplicates(connection, scope),
        gaps=_gaps(connection, scope),
        as_of_ns=max((one.newest_ns for one in counted.values()), default=None),
    )


def _count(connection: Connection, scope: Scope) -> dict[str, _Counted]:
    found: dict[str, _Counted] = {}
    arguments = {
        **_window(scope, scope.instruments),
        "opens": to_datetime(scope.session.opens_ns),
        "closes": to_datetime(scope.session.closes_ns),
        "sampled": _SAMPLED_IDS,
    }
    for rows in _ROWS.values():
        with connection.cursor() as cursor:
            cursor.execute(_COUNT.format(rows=rows), arguments)
            for instrument, schema_id, records, inside, minutes, newest in cursor.fetchall():
                mine = found.setdefault(_SCHEMA_NAMES[schema_id], _Counted(by_instrument={}))
                mine.records += records
                mine.inside += inside
                mine.minutes += minutes
                mine.newest_ns = max(mine.newest_ns, newest)
                if mine.by_instrument is not None:
                    mine.by_instrument[instrument] = records
    return found


def _window(scope: Scope, instruments: Sequence[int]) -> dict[str, Any]:
    return {
        "ids": list(instruments),
        "start": to_datetime(scope.day_ns[0]),
        "end": to_datetime(scope.day_ns[1]),
    }


def _schema_quality(connection: Connection, scope: Scope, schema: str, counted: _Counted) -> SchemaQuality:
    by_instrument = counted.by_instrument or {}
    minutes = max(0, -(-(scope.until_ns - scope.session.opens_ns) // MINUTE_NS))
    order, quotes, latency, outliers, reason = None, None, None, None, None
    if schema == "ohlcv-1m":
        reason = "bars carry no time of receipt and no quotes"
    elif counted.records > MAX_RECORDS:
        reason = f"{counted.records} records are more than the {MAX_RECORDS} that one request looks through"
    elif schema == "trades":
        order, latency, outliers = _trades(connection, scope, by_instrument)
    else:
        order, quotes, latency = _quotes(connection, scope, schema, by_instrument)
        if order is None:
            reason = "a sample's own time is when the vendor took it: there is no event to be late from"
    return SchemaQuality(
        schema=schema,
        instruments=len(by_instrument),
        records=counted.records,
        outside_session=counted.records - counted.inside,
        expected_minutes=minutes * len(by_instrument),
        present_minutes=counted.minutes,
        order=order,
        quotes=quotes,
        latency=latency,
        outliers=outliers,
        reason=reason,
    )


def _grouped(by_instrument: dict[int, int]) -> Iterator[list[int]]:
    """Instruments in groups of about so many records as are read at once."""
    group: list[int] = []
    size = 0
    for instrument, records in sorted(by_instrument.items()):
        if group and size + records > _GROUP_RECORDS:
            yield group
            group, size = [], 0
        group.append(instrument)
        size += records
    if group:
        yield group


def _read(
    connection: Connection, query: str, columns: Sequence[tuple[str, str]], arguments: dict[str, Any]
) -> NDArray[Any]:
    with connection.cursor() as cursor:
        return copy_out(connection, cursor.mogrify(query, arguments).decode(), columns)


def _in_order(rows: NDArray[Any]) -> NDArray[Any]:
    """In order of time; numpy sorts in memory what PostgreSQL would sort on disk."""
    return rows[np.lexsort((rows["sequence"], rows["ts_ns"], rows["ts"]))]


def _inside(scope: Scope, times_ns: NDArray[np.int64], *, sampled: bool) -> NDArray[np.bool_]:
    at = times_ns - 1 if sampled else times_ns
    return (at >= scope.session.opens_ns) & (at < scope.session.closes_ns)


def _trades(
    connection: Connection, scope: Scope, by_instrument: dict[int, int]
) -> tuple[Order | None, Latency | None, Outliers]:
    orders, froms, tos, outliers = [], [], [], []
    names = ", ".join(name for name, _ in _TRADES)
    for group in _grouped(by_instrument):
        query = f"SELECT {names} FROM trades WHERE {_WINDOW}"
        rows = _in_order(_read(connection, query, _TRADES, _window(scope, group)))
        event_ns = rows["ts"] * 1000 + rows["ts_ns"]
        rows, event_ns = _only(rows, event_ns, _inside(scope, event_ns, sampled=False))
        orders.append(
            order_of(rows["instrument_id"], rows["publisher_id"], event_ns, rows["recv_at_ns"], rows["sequence"])
        )
        froms.append(event_ns)
        tos.append(rows["recv_at_ns"])
        outliers.append(outliers_of(rows["instrument_id"], rows["price"]))
    return (
        _sum_orders(orders),
        latency_of(np.concatenate(froms), np.concatenate(tos)),
        Outliers(sum(o.count for o in outliers), sum(o.evaluated for o in outliers)),
    )


def _quotes(
    connection: Connection, scope: Scope, schema: str, by_instrument: dict[int, int]
) -> tuple[Order | None, QuoteFaults, Latency | None]:
    sampled = schema in SAMPLED
    orders, faults, froms, tos = [], [], [], []
    query = (
        f"SELECT instrument_id, ts, ts_ns, sequence, coalesce(bid, {UNDEFINED}), coalesce(ask, {UNDEFINED}),"
        " coalesce(bid_size, -1), coalesce(ask_size, -1), publisher_id, recv_at_ns"
        f" FROM quotes WHERE {_WINDOW} AND schema_id = %(schema_id)s"
    )
    for group in _grouped(by_instrument):
        arguments = {**_window(scope, group), "schema_id": SCHEMA_IDS[schema]}
        rows = _in_order(_read(connection, query, _QUOTES, arguments))
        own_ns = rows["ts"] * 1000 + rows["ts_ns"]
        rows, own_ns = _only(rows, own_ns, _inside(scope, own_ns, sampled=sampled))
        faults.append(
            quote_faults(rows["instrument_id"], own_ns, rows["bid"], rows["ask"], rows["bid_size"], rows["ask_size"])
        )
        if not sampled:
            sequences = None if schema in _WITHOUT_SEQUENCE else rows["sequence"]
            orders.append(order_of(rows["instrument_id"], rows["publisher_id"], own_ns, rows["recv_at_ns"], sequences))
            froms.append(own_ns)
            tos.append(rows["recv_at_ns"])
    total = QuoteFaults(*(sum(getattr(f, field.name) for f in faults) for field in fields(QuoteFaults)))
    if sampled:
        return None, total, None
    return _sum_orders(orders), total, latency_of(np.concatenate(froms), np.concatenate(tos))


def _only(
    rows: NDArray[Any], times: NDArray[np.int64], which: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    return rows[which], times[which]


def _sum_orders(orders: Sequence[Order]) -> Order:
    by_sequence = [o.by_sequence for o in orders]
    return Order(
        records=sum(o.records for o in orders),
        late=sum(o.late for o in orders),
        by_event=sum(o.by_event for o in orders),
        by_sequence=None if None in by_sequence else sum(s for s in by_sequence if s is not None),
    )


def _duplicates(connection: Connection, scope: Scope) -> Duplicates:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(sum(duplicate), 0)::bigint FROM runs"
            " WHERE dataset = %s AND first_at_ns < %s AND last_at_ns >= %s",
            (scope.dataset, scope.day_ns[1], scope.day_ns[0]),
        )
        return Duplicates(*(cursor.fetchone() or (0, 0)))


def _gaps(connection: Connection, scope: Scope) -> GapsOfDay:
    opens, closes = scope.session.opens_ns, scope.session.closes_ns
    with connection.cursor() as cursor:
        every = gaps_page(
            cursor,
            dataset=scope.dataset,
            schema=None,
            symbols=list(scope.gap_symbols),
            state="all",
            start_ns=opens,
            end_ns=closes,
            after=None,
            limit=10_000,
        )
    still = [gap for gap in every if gap.closed_at is None]
    spans = [(gap.starts_ns, closes if gap.ends_ns is None else gap.ends_ns) for gap in still]
    return GapsOfDay(
        open=still[:_SHOWN_GAPS],
        closed=len(every) - len(still),
        missing_ns=length_ns(intersection(spans, [(opens, max(opens, scope.until_ns))])),
    )


def option_contracts(connection: Connection, underlying: str, on: date, dataset: str | None) -> list[tuple[int, str]]:
    """The contracts on ``underlying`` that had not expired before ``on``: (instrument id, dataset)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT instrument_id, dataset FROM instruments WHERE underlying = %(underlying)s AND expiration >= %(on)s"
            " AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s) ORDER BY instrument_id",
            {"underlying": underlying, "on": on, "dataset": dataset},
        )
        return list(cursor.fetchall())


def newest_ns(connection: Connection, instruments: Sequence[int]) -> int | None:
    """The time (ns) of the newest record that a report would count; None when there is none.

    Of many instruments their newest quotes alone are asked: to look into every table for each would take long.
    """
    if len(instruments) == 1:
        query = " UNION ALL ".join(
            f"SELECT max(ts) AS ts FROM {table} WHERE instrument_id = ANY(%(ids)s)" for table in _ROWS
        )
    else:
        query = "SELECT max(ts) - interval '1 microsecond' AS ts FROM quote_latest WHERE instrument_id = ANY(%(ids)s)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT (extract(epoch FROM max(ts)) * 1000000)::bigint * 1000 FROM ({query}) AS newest",
            {"ids": list(instruments)},
        )
        row = cursor.fetchone()
        return None if row is None or row[0] is None else int(row[0])
