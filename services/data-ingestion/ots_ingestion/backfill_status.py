"""How far backfills are, from counted facts: what the vendor counted, what was received, what the runs stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ots_common.database import Database
from ots_common.times import rfc3339

MAX_ERRORS = 50
# of the work of a part, what is done when its file is here
_DOWNLOADED = 0.3

_LIST = """
    SELECT b.*, now() AS now, p.* FROM backfills b CROSS JOIN LATERAL (
        SELECT count(*) AS parts,
            count(*) FILTER (WHERE p.status = 'waiting') AS waiting,
            count(*) FILTER (WHERE p.status = 'downloading') AS downloading,
            count(*) FILTER (WHERE p.status = 'storing') AS storing,
            count(*) FILTER (WHERE p.status = 'done') AS done,
            count(*) FILTER (WHERE p.status = 'failed') AS failed,
            count(*) FILTER (WHERE p.status = 'cancelled') AS cancelled,
            sum(p.expected) AS expected, sum(p.received) AS received, sum(p.bytes) AS received_bytes,
            coalesce(sum(r.stored), 0) AS stored, coalesce(sum(r.revised), 0) AS revised,
            coalesce(sum(r.duplicate), 0) AS duplicate, coalesce(sum(r.rejected), 0) AS rejected,
            sum(1 + coalesce(p.expected, p.estimated_records)) AS work,
            sum((1 + coalesce(p.expected, p.estimated_records)) * CASE
                WHEN p.status IN ('done', 'failed', 'cancelled') THEN 1
                WHEN p.status = 'storing' THEN %(downloaded)s::float8
                    + (1 - %(downloaded)s::float8) * coalesce(r.records_done::float8 / nullif(r.total, 0), 0)
                ELSE 0 END) AS worked
        FROM backfill_parts p LEFT JOIN runs r USING (run_id) WHERE p.backfill_id = b.backfill_id) p
"""


def get_backfill(database: Database, backfill_id: UUID) -> dict[str, Any] | None:
    """The backfill as it is answered, with what is wrong with its parts; None when there is none."""
    rows = database.dicts(_LIST + " WHERE b.backfill_id = %(id)s", {"id": backfill_id, "downloaded": _DOWNLOADED})
    if not rows:
        return None
    wrong = database.dicts(
        "SELECT part_id, dataset, schema, symbols, starts_ns, ends_ns, status, attempts, error_kind, error, retry_at"
        " FROM backfill_parts WHERE backfill_id = %s AND error IS NOT NULL AND status <> 'done' ORDER BY rank LIMIT %s",
        (backfill_id, MAX_ERRORS),
    )
    return {**shape(rows[0]), "errors": [_shape_error(row) for row in wrong]}


def list_backfills(database: Database, before: tuple[datetime, UUID] | None, limit: int) -> list[dict[str, Any]]:
    """The newest ``limit`` backfills before a position (created_at, backfill_id), as rows for :func:`shape`."""
    return database.dicts(
        _LIST
        + " WHERE %(at)s::timestamptz IS NULL OR (b.created_at, b.backfill_id) < (%(at)s::timestamptz, %(id)s::uuid)"
        " ORDER BY b.created_at DESC, b.backfill_id DESC LIMIT %(limit)s",
        {"at": before and before[0], "id": before and before[1], "limit": limit, "downloaded": _DOWNLOADED},
    )


def shape(row: dict[str, Any]) -> dict[str, Any]:
    """A backfill as JSON."""
    progress = 1.0 if row["status"] == "done" else min(1.0, float(row["worked"] or 0) / float(row["work"] or 1))
    cap = row["max_cost_usd"]
    return {
        "id": str(row["backfill_id"]),
        "status": row["status"],
        "origin": row["origin"],
        "requested_by": row["requested_by"],
        "start": rfc3339(row["starts_ns"]),
        "end": rfc3339(row["ends_ns"]),
        "wanted": row["wanted"],
        "notes": row["notes"],
        "progress": round(progress, 4),
        "eta_s": _eta_s(row, progress),
        "parts": {
            "total": row["parts"],
            **{name: row[name] for name in ("waiting", "downloading", "storing", "done", "failed", "cancelled")},
        },
        "records": {
            "estimated": row["estimated_records"],
            "expected": int(row["expected"] or 0),
            "received": int(row["received"] or 0),
            **{name: int(row[name]) for name in ("stored", "revised", "duplicate", "rejected")},
        },
        "bytes": {"estimated_uncompressed": row["estimated_bytes"], "received": int(row["received_bytes"] or 0)},
        "cost_usd": {
            "estimated": row["estimated_usd"],
            "spent": row["spent_usd"],
            "max": None if cap == float("inf") else cap,
        },
        "gap_id": row["gap_id"],
        "error": row["error"],
        "hint": row["hint"],
        "created_at": _moment(row["created_at"]),
        "started_at": _moment(row["started_at"]),
        "finished_at": _moment(row["finished_at"]),
    }


def _eta_s(row: dict[str, Any], progress: float) -> float | None:
    """Seconds, if it goes on as it went so far; None where nobody can know."""
    if row["status"] != "running" or row["started_at"] is None or progress < 0.01:
        return None
    elapsed = (row["now"] - row["started_at"]).total_seconds()
    return round(float(elapsed * (1 - progress) / progress), 1)


def _shape_error(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "part": row["part_id"],
        "dataset": row["dataset"],
        "schema": row["schema"],
        "symbols": row["symbols"][:20],
        "start": rfc3339(row["starts_ns"]),
        "end": rfc3339(row["ends_ns"]),
        "status": row["status"],
        "attempts": row["attempts"],
        "kind": row["error_kind"],
        "error": row["error"],
        "retry_at": _moment(row["retry_at"]),
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
