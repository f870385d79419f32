"""Runs: what was taken in, how far it is, and what became of each record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2.extras
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.database import Connection, Database
from ots_common.times import rfc3339
from ots_ingestion.dbn_file import Summary
from ots_ingestion.spool import Upload

psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]

CHANNEL = "ots_runs"
# the first half of the advisory lock by which one worker has a run; the second half is made of the run's id
_LEASE_CLASS = 0x4F5452
_POLL_S = 0.05
_COLUMNS = """run_id, status, dataset, schema, total, records_done, stored, revised, duplicate, rejected, control,
    reasons, first_at_ns, last_at_ns, bytes, sha256, requested_by, created_at, started_at, finished_at, error"""


@dataclass
class Tally:
    """What became of the records of a batch; counts of records."""

    stored: int = 0
    revised: int = 0
    duplicate: int = 0
    rejected: int = 0
    control: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first_ns: int | None = None
    last_ns: int | None = None

    def reject(self, reason: str, number: int) -> None:
        """Count ``number`` records as rejected for ``reason``."""
        if number:
            self.rejected += number
            self.reasons[reason] = self.reasons.get(reason, 0) + number

    @property
    def records(self) -> int:
        """All of them."""
        return self.stored + self.revised + self.duplicate + self.rejected + self.control


@dataclass(frozen=True)
class Run:
    """A run that a worker holds."""

    run_id: UUID
    path: Path
    records_done: int
    batch_records: int
    attempts: int
    keep: bool = True


def create_run(
    database: Database, run_id: UUID, upload: Upload, path: Path, summary: Summary, user: str, batch_records: int
) -> None:
    """Queue a run and wake a worker."""
    with database.connection() as connection, connection.cursor() as cursor:
        queue_run(cursor, run_id, upload, path, summary, user, batch_records, keep=True)


def queue_run(
    cursor: Cursor,
    run_id: UUID,
    upload: Upload,
    path: Path,
    summary: Summary,
    user: str,
    batch_records: int,
    *,
    keep: bool,
) -> None:
    """The same in the caller's transaction. ``keep``: whether its rows are exempt from retention."""
    cursor.execute(
        "INSERT INTO runs"
        " (run_id, requested_by, spool_file, bytes, sha256, dataset, schema, total, batch_records, keep)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            run_id,
            user,
            path.name,
            upload.size,
            upload.sha256,
            summary.header.dataset,
            summary.header.schema,
            summary.records,
            batch_records,
            keep,
        ),
    )
    cursor.execute(f"NOTIFY {CHANNEL}")


def get_run(database: Database, run_id: UUID) -> dict[str, Any] | None:
    """The run as it is answered; None when there is none."""
    rows = database.dicts(f"SELECT {_COLUMNS} FROM runs WHERE run_id = %s", (run_id,))
    return shape(rows[0]) if rows else None


def wait_for_run(database: Database, run_id: UUID, seconds: float) -> dict[str, Any] | None:
    """The run once it has ended, or as it is when ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    pause = _POLL_S
    while True:
        run = get_run(database, run_id)
        left = deadline - time.monotonic()
        if run is None or run["status"] in ("done", "failed") or left <= 0:
            return run
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 1.0)


def list_runs(database: Database, before: tuple[datetime, UUID] | None, limit: int) -> list[dict[str, Any]]:
    """The newest ``limit`` runs before a position (created_at, run_id)."""
    return database.dicts(
        f"SELECT {_COLUMNS} FROM runs"
        " WHERE %(at)s::timestamptz IS NULL OR (created_at, run_id) < (%(at)s::timestamptz, %(id)s::uuid)"
        " ORDER BY created_at DESC, run_id DESC LIMIT %(limit)s",
        {"at": before and before[0], "id": before and before[1], "limit": limit},
    )


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """A run as JSON; counts are of records and ``read`` is the sum of what became of them."""
    return {
        "id": str(row["run_id"]),
        "status": row["status"],
        "dataset": row["dataset"],
        "schema": row["schema"] or "mixed",
        "total": row["total"],
        "read": row["records_done"],
        "stored": row["stored"],
        "revised": row["revised"],
        "duplicate": row["duplicate"],
        "rejected": row["rejected"],
        "control": row["control"],
        "reasons": row["reasons"],
        "first_time": None if row["first_at_ns"] is None else rfc3339(row["first_at_ns"]),
        "last_time": None if row["last_at_ns"] is None else rfc3339(row["last_at_ns"]),
        "bytes": row["bytes"],
        "sha256": row["sha256"],
        "requested_by": row["requested_by"],
        "created_at": _moment(row["created_at"]),
        "started_at": _moment(row["started_at"]),
        "finished_at": _moment(row["finished_at"]),
        "error": row["error"],
    }


def _moment(value: Any) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")


def claim_next(connection: Connection, spool: Path) -> Run | None:
    """Take the oldest waiting run that no other worker has; None when there is none.

    The lease is an advisory lock of this connection: it ends with :func:`release`, or with the connection.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT run_id FROM runs WHERE status IN ('queued', 'running') ORDER BY created_at, run_id LIMIT 100"
        )
        for (run_id,) in cursor.fetchall():
            cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_LEASE_CLASS, str(run_id)))
            if not (cursor.fetchone() or (False,))[0]:
                continue
            cursor.execute(
                "UPDATE runs SET status = 'running', started_at = coalesce(started_at, now()), attempts = attempts + 1"
                " WHERE run_id = %s AND status IN ('queued', 'running')"
                " RETURNING run_id, spool_file, records_done, batch_records, attempts, keep",
                (run_id,),
            )
            if row := cursor.fetchone():
                return Run(row[0], spool / row[1], *row[2:])
            release(connection, run_id)
    return None


def release(connection: Connection, run_id: UUID) -> None:
    """Give the lease of a run back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", (_LEASE_CLASS, str(run_id)))


def advance(connection: Connection, run_id: UUID, first: int, tally: Tally) -> None:
    """Move the cursor from ``first`` over one batch, in the batch's own transaction.

    Raises RuntimeError when the cursor is not at ``first``: somebody else had the run.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE runs SET records_done = records_done + %(records)s, stored = stored + %(stored)s,
                revised = revised + %(revised)s, duplicate = duplicate + %(duplicate)s,
                rejected = rejected + %(rejected)s, control = control + %(control)s,
                reasons = (SELECT coalesce(jsonb_object_agg(key, number), '{}') FROM (
                    SELECT key, sum(value::bigint) AS number
                    FROM (SELECT * FROM jsonb_each_text(reasons) UNION ALL SELECT * FROM jsonb_each_text(%(reasons)s)) r
                    GROUP BY key) summed),
                first_at_ns = least(first_at_ns, %(first_ns)s), last_at_ns = greatest(last_at_ns, %(last_ns)s),
                error = NULL, attempts = 1
            WHERE run_id = %(run_id)s AND records_done = %(first)s
            """,
            {
                "run_id": run_id,
                "first": first,
                "records": tally.records,
                "stored": tally.stored,
                "revised": tally.revised,
                "duplicate": tally.duplicate,
                "rejected": tally.rejected,
                "control": tally.control,
                "reasons": psycopg2.extras.Json(tally.reasons),
                "first_ns": tally.first_ns,
                "last_ns": tally.last_ns,
            },
        )
        if cursor.rowcount != 1:
            raise RuntimeError(f"the cursor of run {run_id} is not at {first}")


def finish(connection: Connection, run_id: UUID, *, error: str | None = None) -> None:
    """Mark a run as ended: done, or failed with ``error``."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE runs SET status = %s, finished_at = now(), error = %s WHERE run_id = %s",
            ("failed" if error else "done", error, run_id),
        )


def note_error(connection: Connection, run_id: UUID, error: str) -> None:
    """Show what keeps a run that will be tried again."""
    with connection, connection.cursor() as cursor:
        cursor.execute("UPDATE runs SET error = %s WHERE run_id = %s", (error, run_id))
