"""Which gaps the parts that are done cover: what was received whole and is stored is missing no more."""

from __future__ import annotations

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_ingestion.gaps import Gap, close_gap, difference, open_gaps


def symbols_of_gap(cursor: Cursor, gap: Gap) -> list[str]:
    """Whose records are missing: the gap's symbol, or all that is collected of its dataset."""
    if gap.symbol is not None:
        return [gap.symbol]
    cursor.execute("SELECT symbols FROM collections WHERE dataset = %s", (gap.dataset,))
    row = cursor.fetchone()
    return list(row[0]) if row else []


def close_if_covered(cursor: Cursor, gap: Gap) -> bool:
    """Close a gap whose whole interval history has given, for every symbol it concerns; whether it was."""
    if gap.ends_ns is None or gap.closed_at is not None:
        return False
    symbols = symbols_of_gap(cursor, gap)
    if not symbols:
        return False
    found: dict[int, int] = {}
    for symbol in symbols:
        cursor.execute(
            "SELECT p.part_id, p.starts_ns, p.ends_ns, coalesce(r.stored + r.revised, 0)"
            " FROM backfill_parts p LEFT JOIN runs r USING (run_id)"
            " WHERE p.status = 'done' AND p.dataset = %s AND p.schema = %s AND %s = ANY(p.symbols)"
            " AND p.starts_ns < %s AND p.ends_ns > %s",
            (gap.dataset, gap.schema, symbol, gap.ends_ns, gap.starts_ns),
        )
        rows = cursor.fetchall()
        if difference([(gap.starts_ns, gap.ends_ns)], [(row[1], row[2]) for row in rows]):
            return False
        found.update((row[0], row[3]) for row in rows)
    close_gap(cursor, gap.gap_id, closed_by="backfill", found=sum(found.values()))
    return True


def close_covered(cursor: Cursor, dataset: str, schema: str, starts_ns: int, ends_ns: int) -> int:
    """Close every open gap of this interval that is covered by now; how many."""
    return sum(
        close_if_covered(cursor, gap)
        for gap in open_gaps(cursor, dataset)
        if gap.schema == schema and gap.starts_ns < ends_ns and gap.ends_ns is not None and gap.ends_ns > starts_ns
    )
