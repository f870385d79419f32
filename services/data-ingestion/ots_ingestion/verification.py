"""Comparing what should be stored with what is: a file record by record, a backfill by its counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from ots_common.database import Connection
from ots_common.times import to_datetime
from ots_ingestion.batch_store import BatchStore
from ots_ingestion.dbn_file import read_batches, read_header
from ots_ingestion.layouts import BAR_TABLES, SCHEMA_IDS, schema_of
from ots_ingestion.symbology import Symbology

_BATCH_RECORDS = 20_000  # how long the rows of others may wait for us
_TABLES = {"trades": "trades", "definition": "definitions", "statistics": "statistics", **BAR_TABLES}
# a record's own time lies near the time by which it is delivered
_NEAR_NS = 2 * 86_400 * 10**9


@dataclass
class Comparison:
    """Counts of a file's records. ``different``: bars that are stored with other values."""

    records: int = 0
    there: int = 0
    missing: int = 0
    different: int = 0
    rejected: int = 0
    control: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether every record that is market data is there, as it is in the file."""
        return not (self.missing or self.different or self.rejected)


def compare_file(connection: Connection, path: Path) -> Comparison:
    """Store the file and take it back, batch by batch: what turns out to be new was missing.

    That asks the very code that stores whether each record is there. Raises
    :class:`~ots_ingestion.dbn_file.InvalidDbnError`.
    """
    header = read_header(path)
    symbology = Symbology(header.dataset, header.intervals)
    batches = BatchStore(symbology, lambda rtype: schema_of(rtype, header.schema), keep=False, origin="verify")
    found = Comparison()
    for batch in read_batches(path, _BATCH_RECORDS):
        try:
            tally = batches.store(connection, batch.groups).tally
        finally:
            connection.rollback()
        symbology.forget_stored()
        found.records += tally.records
        found.there += tally.duplicate
        found.missing += tally.stored
        found.different += tally.revised
        found.rejected += tally.rejected
        found.control += tally.control
        for reason, number in tally.reasons.items():
            found.reasons[reason] = found.reasons.get(reason, 0) + number
    return found


@dataclass(frozen=True)
class PartCheck:
    """A part that is done: the vendor's count less what was rejected, and the rows that are there."""

    part_id: int
    schema: str
    symbols: tuple[str, ...]
    starts_ns: int
    ends_ns: int
    expected: int
    rows: int

    @property
    def whole(self) -> bool:
        """Whether at least those are there: others may have brought more."""
        return self.rows >= self.expected


def check_backfill(connection: Connection, backfill_id: UUID) -> list[PartCheck]:
    """Count the rows of every part that is done."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.part_id, p.dataset, p.schema, p.stype_in, p.symbols, p.starts_ns, p.ends_ns,"
            " p.received - coalesce(r.rejected, 0) FROM backfill_parts p LEFT JOIN runs r USING (run_id)"
            " WHERE p.backfill_id = %s AND p.status = 'done' ORDER BY p.rank",
            (str(backfill_id),),
        )
        checks = []
        for part_id, dataset, schema, stype_in, symbols, starts_ns, ends_ns, expected in cursor.fetchall():
            sql, parameters = _count(dataset, schema, stype_in, symbols, starts_ns, ends_ns)
            cursor.execute(sql, parameters)
            rows = int((cursor.fetchone() or (0,))[0])
            checks.append(PartCheck(part_id, schema, tuple(symbols), starts_ns, ends_ns, int(expected), rows))
        return checks


def _count(
    dataset: str, schema: str, stype_in: str, symbols: list[str], starts_ns: int, ends_ns: int
) -> tuple[str, dict[str, object]]:
    table = _TABLES.get(schema, "quotes")
    named = "trim(left(raw_symbol, 6)) || '.OPT'" if stype_in == "parent" else "raw_symbol"
    if schema in BAR_TABLES:
        when = "ts >= %(start)s AND ts < %(end)s AND origin = 'v'"
    else:
        when = "ts >= %(early)s AND ts <= %(late)s AND recv_at_ns >= %(starts_ns)s AND recv_at_ns < %(ends_ns)s" + (
            " AND schema_id = %(schema_id)s" if table == "quotes" else ""
        )
    sql = (
        f"SELECT count(*) FROM {table} WHERE instrument_id IN (SELECT instrument_id FROM instruments"
        f" WHERE dataset = %(dataset)s AND {named} = ANY(%(symbols)s)) AND {when}"
    )
    return sql, {
        "dataset": dataset,
        "symbols": symbols,
        "start": to_datetime(starts_ns),
        "end": to_datetime(ends_ns),
        "early": to_datetime(max(0, starts_ns - _NEAR_NS)),
        "late": to_datetime(ends_ns + _NEAR_NS),
        "starts_ns": starts_ns,
        "ends_ns": ends_ns,
        "schema_id": SCHEMA_IDS[schema],
    }
