"""The gap ledger: every interval of which records may be missing, with its evidence, until they are found.

The rule of the ledger: gaps never merge. Each statement of evidence is a row of its own, closed on its own, because
two evidences that overlap may end in two ways, and a gap widened by a second disconnect would be closed by the replay
of the first. Only the same statement again (same subject, evidence and start, still open) is the same gap, so that a
collector that was killed between stating and acting may state it again. Whoever wants the ledger as one set of
missing intervals takes the :func:`union`.

Intervals are half-open [start, end) in nanoseconds since 1970; an end of None is "not over yet".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_ingestion import metrics

EVIDENCE = ("disconnect", "skipped", "mute", "aged-out", "heartbeat", "sequence", "session", "restart", "disk-full")
CLOSED_BY = ("replay", "backfill", "session")

Interval = tuple[int, int]

_COLUMNS = """gap_id, dataset, schema, symbol, starts_ns, ends_ns, evidence, detail, opened_at, closed_at, closed_by,
    found, repair_attempts, repair_after, repair_job, repair_note"""


@dataclass(frozen=True)
class Gap:
    """A row of the ledger. ``symbol`` None: all that is collected of that dataset and schema. Times in ns."""

    gap_id: int
    dataset: str
    schema: str
    symbol: str | None
    starts_ns: int
    ends_ns: int | None
    evidence: str
    detail: str
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    found: int | None
    repair_attempts: int
    repair_after: datetime | None
    repair_job: str | None
    repair_note: str | None

    @property
    def subject(self) -> tuple[str, str, str | None]:
        """Whose records are missing: dataset, schema, symbol."""
        return self.dataset, self.schema, self.symbol


def count_from_the_start(*datasets: str) -> None:
    """Show the counters of these datasets' gaps at 0: a series that appears with its first gaps is no increase."""
    for dataset in datasets:
        for evidence in EVIDENCE:
            metrics.GAPS_OPENED.labels(metrics.dataset_label(dataset), evidence)


def open_gap(
    cursor: Cursor,
    *,
    dataset: str,
    schema: str,
    symbol: str | None,
    starts_ns: int,
    ends_ns: int | None,
    evidence: str,
    detail: str,
) -> int:
    """State a gap in the caller's transaction; its id.

    Stating an open one again (same dataset, schema, symbol, evidence and start) gives the same id and the later end
    of the two, "not over yet" being the latest. An end at or before the start is taken as one nanosecond behind it:
    two clocks may disagree, and the record at the start itself is in doubt. Raises ValueError for unknown evidence.
    """
    if evidence not in EVIDENCE:
        raise ValueError(f"evidence must be one of {', '.join(EVIDENCE)}, not {evidence}")
    cursor.execute(
        "INSERT INTO gaps AS g (dataset, schema, symbol, starts_ns, ends_ns, evidence, detail)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (dataset, schema, coalesce(symbol, ''), evidence, starts_ns) WHERE closed_at IS NULL"
        " DO UPDATE SET ends_ns = CASE WHEN g.ends_ns IS NULL OR excluded.ends_ns IS NULL THEN NULL"
        " ELSE greatest(g.ends_ns, excluded.ends_ns) END, detail = excluded.detail RETURNING gap_id, xmax = 0",
        (dataset, schema, symbol, starts_ns, _after(starts_ns, ends_ns), evidence, detail),
    )
    gap_id, new = cursor.fetchone() or (0, False)
    if new:
        metrics.GAPS_OPENED.labels(metrics.dataset_label(dataset), evidence).inc()
    return int(gap_id)


def end_gap(cursor: Cursor, gap_id: int, ends_ns: int) -> None:
    """The interval is known now; it is still missing. Says nothing new of a gap that is closed."""
    cursor.execute(
        "UPDATE gaps SET ends_ns = greatest(%s, starts_ns + 1) WHERE gap_id = %s AND closed_at IS NULL",
        (ends_ns, gap_id),
    )


def close_gap(cursor: Cursor, gap_id: int, *, closed_by: str, found: int) -> None:
    """What was missing came (``found`` records of it), or nothing was missing (0). A closed gap stays as it was closed.

    A gap that only a silence spoke for (evidence ``session``), and of which history had nothing either, is closed by
    ``session`` whoever asked: nothing was missing.
    Raises ValueError for an unknown ``closed_by``, and for a gap that is not over: nobody can have found all of it.
    """
    if closed_by not in CLOSED_BY:
        raise ValueError(f"closed_by must be one of {', '.join(CLOSED_BY)}, not {closed_by}")
    cursor.execute("SELECT ends_ns, closed_at, dataset FROM gaps WHERE gap_id = %s FOR UPDATE", (gap_id,))
    row = cursor.fetchone()
    if row is None:
        raise ValueError(f"gap_id {gap_id} is not in the ledger")
    if row[1] is not None:
        return
    if row[0] is None:
        raise ValueError(f"gap_id {gap_id} is not over yet: end it before it is closed")
    cursor.execute(
        "UPDATE gaps SET closed_at = now(), closed_by = CASE WHEN evidence = 'session' AND %(found)s = 0"
        " THEN 'session' ELSE %(by)s END, found = %(found)s, repair_after = NULL WHERE gap_id = %(id)s"
        " RETURNING closed_by",
        {"by": closed_by, "found": found, "id": gap_id},
    )
    metrics.GAPS_CLOSED.labels(metrics.dataset_label(row[2]), (cursor.fetchone() or (closed_by,))[0]).inc()


def open_gaps(cursor: Cursor, dataset: str | None = None) -> list[Gap]:
    """The gaps that are open, of one dataset or of all, the earliest first."""
    cursor.execute(
        f"SELECT {_COLUMNS} FROM gaps WHERE closed_at IS NULL AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)"
        " ORDER BY starts_ns, gap_id",
        {"dataset": dataset},
    )
    return [Gap(*row) for row in cursor.fetchall()]


def gap_by_id(cursor: Cursor, gap_id: int) -> Gap | None:
    """One gap; None when it is not in the ledger."""
    cursor.execute(f"SELECT {_COLUMNS} FROM gaps WHERE gap_id = %s", (gap_id,))
    row = cursor.fetchone()
    return None if row is None else Gap(*row)


def gaps_page(
    cursor: Cursor,
    *,
    dataset: str | None,
    schema: str | None,
    symbols: list[str] | None,
    state: str,
    start_ns: int,
    end_ns: int,
    after: list[Any] | None,
    limit: int,
) -> list[Gap]:
    """At most ``limit`` gaps that overlap [start, end), in order of start, after the position (starts_ns, gap_id).

    ``symbols``: those of these symbols, and those of all symbols. ``state``: open, closed or all.
    """
    cursor.execute(
        f"""
        SELECT {_COLUMNS} FROM gaps
        WHERE (%(dataset)s::text IS NULL OR dataset = %(dataset)s) AND (%(schema)s::text IS NULL OR schema = %(schema)s)
          AND (%(symbols)s::text[] IS NULL OR symbol IS NULL OR symbol = ANY(%(symbols)s::text[]))
          AND (%(state)s = 'all' OR (closed_at IS NULL) = (%(state)s = 'open'))
          AND starts_ns < %(end)s AND (ends_ns IS NULL OR ends_ns > %(start)s)
          AND (%(at)s::bigint IS NULL OR (starts_ns, gap_id) > (%(at)s::bigint, %(id)s::bigint))
        ORDER BY starts_ns, gap_id LIMIT %(limit)s
        """,
        {
            "dataset": dataset,
            "schema": schema,
            "symbols": symbols,
            "state": state,
            "start": start_ns,
            "end": end_ns,
            "at": after[0] if after else None,
            "id": after[1] if after else None,
            "limit": limit,
        },
    )
    return [Gap(*row) for row in cursor.fetchall()]


def _after(starts_ns: int, ends_ns: int | None) -> int | None:
    return None if ends_ns is None else max(ends_ns, starts_ns + 1)


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same moments as disjoint intervals in order, those that touch joined; empty ones are left out."""
    joined: list[Interval] = []
    for start, end in sorted(i for i in intervals if i[0] < i[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def intersection(one: Iterable[Interval], other: Iterable[Interval]) -> list[Interval]:
    """The moments that lie in both, as disjoint intervals in order."""
    a, b = union(one), union(other)
    found: list[Interval] = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            found.append((start, end))
        if a[i][1] <= b[j][1]:
            i += 1
        else:
            j += 1
    return found


def difference(one: Iterable[Interval], other: Iterable[Interval]) -> list[Interval]:
    """The moments of ``one`` that are not in ``other``, as disjoint intervals in order."""
    a = union(one)
    if not a:
        return []
    lowest, highest = a[0][0], a[-1][1]
    outside: list[Interval] = []
    at = lowest
    for start, end in union(other):
        outside.append((at, start))
        at = max(at, end)
    outside.append((at, highest))
    return intersection(a, outside)


def length_ns(intervals: Iterable[Interval]) -> int:
    """How long the intervals are together, what overlaps counted once."""
    return sum(end - start for start, end in union(intervals))
