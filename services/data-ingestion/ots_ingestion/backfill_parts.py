"""The parts of backfills from waiting to done, each step a transaction of its own.

A part belongs to whoever holds its advisory lock, and its outcome to the attempt (``holder``) that began last: a
process may be killed at any step, and the next one goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from ots_common.database import Connection
from ots_ingestion import metrics, runs
from ots_ingestion.backfills import ROUNDING_USD
from ots_ingestion.coverage import close_covered
from ots_ingestion.dbn_file import Summary
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.spool import Upload
from ots_ingestion.vendor import Request, VendorError

# the first half of the advisory lock by which one process has a part; the second is made of the part's id
_LEASE_CLASS = 0x4F545042
MAX_CUTS = 4
# what an error ends: the whole backfill, or all that it wants of that schema
_ENDS_ALL = frozenset({"no-key", "wrong-key", "payment-required", "too-costly"})
_ENDS_SCHEMA = frozenset({"not-entitled"})


@dataclass(frozen=True)
class Claimed:
    """A part that this connection holds. ``expected``: what an earlier attempt was told to expect, None before one."""

    part_id: int
    backfill_id: UUID
    request: Request
    holder: str
    attempts: int
    cuts: int
    expected: int | None
    origin: str
    requested_by: str
    max_cost_usd: float


class Lost(Exception):
    """The part is somebody else's by now, or cancelled: what this attempt has is of no use."""


def claim(connection: Connection, ahead: int) -> Claimed | None:
    """Take the next part; None when there is none, or when ``ahead`` parts wait to be stored already."""
    holder = uuid4().hex[:12]
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM backfill_parts WHERE status = 'storing'")
        if (cursor.fetchone() or (0,))[0] >= ahead:
            return None
        cursor.execute(
            "SELECT p.part_id FROM backfill_parts p JOIN backfills b USING (backfill_id)"
            " WHERE p.status IN ('waiting', 'downloading') AND b.status IN ('queued', 'running')"
            " AND (p.retry_at IS NULL OR p.retry_at <= now())"
            " ORDER BY b.origin = 'first-start', b.created_at, p.rank LIMIT 64"
        )
        for (part_id,) in cursor.fetchall():
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LEASE_CLASS, _key(part_id)))
            if not (cursor.fetchone() or (False,))[0]:
                continue
            cursor.execute(
                "UPDATE backfill_parts p SET status = 'downloading', holder = %s, attempts = attempts + 1,"
                " started_at = coalesce(p.started_at, now()) FROM backfills b"
                " WHERE p.part_id = %s AND p.status IN ('waiting', 'downloading')"
                " AND (p.retry_at IS NULL OR p.retry_at <= now())"
                " AND b.backfill_id = p.backfill_id AND b.status IN ('queued', 'running')"
                " RETURNING p.backfill_id, p.dataset, p.schema, p.stype_in, p.symbols, p.starts_ns, p.ends_ns,"
                " p.attempts, p.cuts, p.expected, b.origin, b.requested_by, b.max_cost_usd",
                (holder, part_id),
            )
            row = cursor.fetchone()
            if row is None:
                release(connection, part_id)
                continue
            cursor.execute(
                "UPDATE backfills SET status = 'running', started_at = coalesce(started_at, now())"
                " WHERE backfill_id = %s AND status = 'queued'",
                (row[0],),
            )
            request = Request(row[1], row[2], row[3], tuple(row[4]), row[5], row[6])
            return Claimed(part_id, UUID(str(row[0])), request, holder, *row[7:])
    return None


def release(connection: Connection, part_id: int) -> None:
    """Give the part's lock back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s, %s)", (_LEASE_CLASS, _key(part_id)))


def reserve(connection: Connection, part: Claimed, expected: int, cost_usd: float) -> bool:
    """Note what the vendor promises, and spend ``cost_usd``; False when that would go above the cap. Raises Lost."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_parts SET expected = %s, cost_usd = cost_usd + %s WHERE part_id = %s AND holder = %s"
            " AND status = 'downloading'",
            (expected, cost_usd, part.part_id, part.holder),
        )
        if cursor.rowcount != 1:
            raise Lost
        cursor.execute(
            "UPDATE backfills SET spent_usd = spent_usd + %(usd)s WHERE backfill_id = %(id)s"
            " AND spent_usd + %(usd)s <= max_cost_usd + %(rounding)s",
            {"usd": cost_usd, "id": part.backfill_id, "rounding": ROUNDING_USD},
        )
        if cursor.rowcount != 1:
            connection.rollback()
            return False
    metrics.BACKFILL_COST.labels(part.request.dataset).inc(cost_usd)
    return True


def refund(connection: Connection, part: Claimed, cost_usd: float) -> None:
    """The download that was reserved never began."""
    if not cost_usd:
        return
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_parts SET cost_usd = greatest(0, cost_usd - %s) WHERE part_id = %s",
            (cost_usd, part.part_id),
        )
        cursor.execute(
            "UPDATE backfills SET spent_usd = greatest(0, spent_usd - %s) WHERE backfill_id = %s",
            (cost_usd, part.backfill_id),
        )


def hand_over(
    connection: Connection, part: Claimed, upload: Upload, summary: Summary, settings: IngestionSettings
) -> UUID:
    """A whole file becomes a run: in one transaction with the part. Raises :class:`Lost`."""
    run_id = uuid4()
    with connection, connection.cursor() as cursor:
        runs.queue_run(
            cursor,
            run_id,
            upload,
            upload.path,
            summary,
            part.requested_by,
            settings.batch_records,
            keep=part.origin == "request",
        )
        cursor.execute(
            "UPDATE backfill_parts SET status = 'storing', expected = %(records)s, received = %(records)s,"
            " bytes = %(bytes)s, run_id = %(run)s, error = NULL, error_kind = NULL, retry_at = NULL"
            " WHERE part_id = %(id)s AND holder = %(holder)s AND status = 'downloading'",
            {
                "records": summary.records,
                "bytes": upload.size,
                "run": run_id,
                "id": part.part_id,
                "holder": part.holder,
            },
        )
        if cursor.rowcount != 1:
            raise Lost  # and the run with it: the transaction is rolled back
    metrics.BACKFILL_BYTES.labels(part.request.dataset).inc(upload.size)
    return run_id


def finish_empty(connection: Connection, part: Claimed) -> None:
    """The vendor has no record of it: that is an answer too. Raises :class:`Lost`."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_parts SET status = 'done', expected = 0, received = 0, bytes = 0, error = NULL,"
            " error_kind = NULL, retry_at = NULL, finished_at = now()"
            " WHERE part_id = %s AND holder = %s AND status = 'downloading'",
            (part.part_id, part.holder),
        )
        if cursor.rowcount != 1:
            raise Lost
        close_covered(cursor, part.request.dataset, part.request.schema, part.request.start_ns, part.request.end_ns)
    metrics.BACKFILL_PARTS.labels("empty").inc()


def postpone(connection: Connection, part: Claimed, error: VendorError, pause_s: float, *, cut: bool) -> None:
    """Try the part again later."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_parts SET status = 'waiting', holder = NULL, error = %s, error_kind = %s,"
            " retry_at = now() + make_interval(secs => %s), cuts = cuts + %s"
            " WHERE part_id = %s AND holder = %s AND status = 'downloading'",
            (str(error), error.kind, pause_s, int(cut), part.part_id, part.holder),
        )
    metrics.BACKFILL_PARTS.labels("postponed").inc()


def fail(connection: Connection, part: Claimed, error: VendorError) -> None:
    """Nothing will help; what the same error would end too ends with it."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE backfill_parts SET status = 'failed', holder = NULL, error = %s, error_kind = %s,"
            " finished_at = now() WHERE part_id = %s AND holder = %s AND status = 'downloading'",
            (str(error), error.kind, part.part_id, part.holder),
        )
        if cursor.rowcount and error.kind in _ENDS_ALL | _ENDS_SCHEMA:
            cursor.execute(
                "UPDATE backfill_parts SET status = 'failed', holder = NULL, error = %(error)s, error_kind = %(kind)s,"
                " finished_at = now() WHERE backfill_id = %(id)s AND status = 'waiting'"
                " AND (%(all)s OR (dataset = %(dataset)s AND schema = %(schema)s))",
                {
                    "error": str(error),
                    "kind": error.kind,
                    "id": part.backfill_id,
                    "all": error.kind in _ENDS_ALL,
                    "dataset": part.request.dataset,
                    "schema": part.request.schema,
                },
            )
        cursor.execute(
            "UPDATE backfills SET hint = coalesce(%s, hint) WHERE backfill_id = %s", (error.hint, part.backfill_id)
        )
    metrics.BACKFILL_PARTS.labels("failed").inc()


def settle(connection: Connection) -> bool:
    """Take in which runs have ended, and end what is over; whether anything is still going on.

    Gaps that a stored part covers are closed in the transaction that calls it done.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.part_id, p.dataset, p.schema, p.starts_ns, p.ends_ns, p.cuts, r.status, r.error"
            " FROM backfill_parts p JOIN runs r USING (run_id)"
            " WHERE p.status = 'storing' AND r.status IN ('done', 'failed')"
            " ORDER BY p.part_id LIMIT 100 FOR UPDATE OF p SKIP LOCKED"
        )
        for part_id, dataset, schema, starts_ns, ends_ns, cuts, status, error in cursor.fetchall():
            if status == "done":
                cursor.execute(
                    "UPDATE backfill_parts SET status = 'done', finished_at = now() WHERE part_id = %s", (part_id,)
                )
                close_covered(cursor, dataset, schema, starts_ns, ends_ns)
                metrics.BACKFILL_PARTS.labels("done").inc()
            else:
                # the file may have been lost: it is fetched again, a few times
                cursor.execute(
                    "UPDATE backfill_parts SET status = %s, error = %s, error_kind = 'not-stored', cuts = cuts + 1,"
                    " retry_at = now() + interval '5 seconds', holder = NULL,"
                    " finished_at = CASE WHEN %s THEN now() END WHERE part_id = %s",
                    ("failed" if cuts >= MAX_CUTS else "waiting", error, cuts >= MAX_CUTS, part_id),
                )
        cursor.execute(
            "UPDATE backfills b SET finished_at = now(), status = CASE WHEN f.number > 0 THEN 'failed' ELSE 'done' END,"
            " error = CASE WHEN f.number > 0 THEN f.number || ' of ' || f.total || ' parts failed: ' || f.error END"
            " FROM (SELECT backfill_id, count(*) AS total, count(*) FILTER (WHERE status = 'failed') AS number,"
            "   min(error) FILTER (WHERE status = 'failed') AS error,"
            "   count(*) FILTER (WHERE status IN ('waiting', 'downloading', 'storing')) AS open"
            "   FROM backfill_parts WHERE backfill_id IN"
            "     (SELECT backfill_id FROM backfills WHERE status IN ('queued', 'running')) GROUP BY backfill_id) f"
            " WHERE f.backfill_id = b.backfill_id AND f.open = 0 AND b.status IN ('queued', 'running')"
        )
        cursor.execute(
            "SELECT EXISTS (SELECT FROM backfill_parts WHERE status = 'storing') OR EXISTS"
            " (SELECT FROM backfills WHERE status IN ('queued', 'running'))"
        )
        return bool((cursor.fetchone() or (False,))[0])


def _key(part_id: int) -> int:
    return part_id % 2**31
