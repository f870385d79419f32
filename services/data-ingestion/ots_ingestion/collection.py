"""What is to be collected, and where it stands: the tables of collection, as the web and the collector share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.database import Database
from ots_common.times import rfc3339
from ots_ingestion.lease import LEASE_CLASS

CHANNEL = "ots_collection"
UNDERLYINGS = ("AAPL", "GOOGL", "MSFT", "AMZN", "TSLA", "NVDA", "META", "SPY", "QQQ")
DEFAULT_EQUITY_SCHEMAS = ("definition", "trades", "bbo-1s")
DEFAULT_OPTION_SCHEMAS = ("definition", "cbbo-1m", "tcbbo", "trades", "statistics")


@dataclass(frozen=True)
class Collection:
    """What was asked for of one dataset."""

    dataset: str
    wanted: bool
    stype_in: str
    symbols: tuple[str, ...]
    schemas: tuple[str, ...]
    notes: tuple[str, ...] = ()
    replay_from_ns: int | None = None
    requested_by: str = ""
    revision: int = 0
    requested_ns: int = 0


def want(cursor: Cursor, asked: Collection) -> bool:
    """Ask for a collection, in the caller's transaction; False when just that is wanted already, and works."""
    cursor.execute(
        "INSERT INTO collections AS c"
        " (dataset, wanted, stype_in, symbols, schemas, notes, replay_from_ns, requested_by)"
        " VALUES (%(dataset)s, true, %(stype_in)s, %(symbols)s, %(schemas)s, %(notes)s, %(replay)s, %(by)s)"
        " ON CONFLICT (dataset) DO UPDATE SET wanted = true, stype_in = excluded.stype_in, symbols = excluded.symbols,"
        " schemas = excluded.schemas, notes = excluded.notes, replay_from_ns = excluded.replay_from_ns,"
        " requested_by = excluded.requested_by, requested_at = now(), revision = c.revision + 1"
        " WHERE NOT c.wanted OR EXISTS (SELECT FROM collection_states s WHERE s.dataset = c.dataset"
        " AND s.state = 'failed') OR (c.stype_in, c.symbols, c.schemas, c.replay_from_ns) IS DISTINCT FROM"
        " (excluded.stype_in, excluded.symbols, excluded.schemas, excluded.replay_from_ns)",
        {
            "dataset": asked.dataset,
            "stype_in": asked.stype_in,
            "symbols": list(asked.symbols),
            "schemas": list(asked.schemas),
            "notes": list(asked.notes),
            "replay": asked.replay_from_ns,
            "by": asked.requested_by,
        },
    )
    changed = bool(cursor.rowcount)
    cursor.execute(f"NOTIFY {CHANNEL}")
    return changed


def unwant(cursor: Cursor, dataset: str | None, user: str) -> list[str]:
    """Ask for no more of a dataset, or of all; those that this changed."""
    cursor.execute(
        "UPDATE collections SET wanted = false, revision = revision + 1, requested_by = %(by)s, requested_at = now()"
        " WHERE wanted AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s) RETURNING dataset",
        {"by": user, "dataset": dataset},
    )
    stopped = sorted(row[0] for row in cursor.fetchall())
    cursor.execute(f"NOTIFY {CHANNEL}")
    return stopped


def collections(cursor: Cursor) -> list[Collection]:
    """Everything that was ever asked for, a dataset each."""
    cursor.execute(
        "SELECT dataset, wanted, stype_in, symbols, schemas, notes, replay_from_ns, requested_by, revision,"
        " (extract(epoch FROM requested_at) * 1000000)::bigint * 1000 FROM collections ORDER BY dataset"
    )
    return [Collection(r[0], r[1], r[2], tuple(r[3]), tuple(r[4]), tuple(r[5]), *r[6:]) for r in cursor.fetchall()]


_STATUS = """
    SELECT c.dataset, c.wanted, c.symbols, c.schemas, c.notes, c.requested_by, c.requested_at,
        s.state, s.since, s.reason, s.hint, s.attempts, s.next_retry_at, s.holder, s.session_id, s.connections,
        s.received, s.last_received_at, s.spool_bytes, s.store_error, s.clock_offset_ns, s.reported_at,
        EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %(class)s
            AND l.objid::bigint = hashtext(c.dataset)::bigint & 4294967295
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS held,
        (SELECT count(*) FROM gaps g WHERE g.dataset = c.dataset AND g.closed_at IS NULL) AS open_gaps,
        (SELECT count(*) FROM dead_letters d WHERE d.dataset = c.dataset AND d.replayed_at IS NULL) AS dead_letters,
        (extract(epoch FROM now()) * 1000000000)::bigint AS now_ns
    FROM collections c LEFT JOIN collection_states s USING (dataset)
    WHERE %(dataset)s::text IS NULL OR c.dataset = %(dataset)s ORDER BY c.dataset
"""


def status(database: Database, dataset: str | None = None) -> list[dict[str, Any]]:
    """Each dataset as it is answered."""
    rows = database.dicts(_STATUS, {"class": LEASE_CLASS, "dataset": dataset})
    schemas = database.dicts("SELECT dataset, schema, resume_ns, last_ns, records FROM collection_schemas")
    return [_shape(row, [s for s in schemas if s["dataset"] == row["dataset"]]) for row in rows]


def _shape(row: dict[str, Any], schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    state, reason, hint = row["state"], row["reason"], row["hint"]
    if not row["held"] or state is None:
        state = "waiting" if row["wanted"] else "stopped"
        reason = "no collector process is at work" if row["wanted"] else "nothing is asked for"
        hint = "start one: python -m ots_ingestion collector" if row["wanted"] else None
    last_ns = max((s["last_ns"] for s in schemas if s["last_ns"] is not None), default=None)
    now_ns = row["now_ns"] + (row["clock_offset_ns"] or 0)
    return {
        "dataset": row["dataset"],
        "wanted": row["wanted"],
        "state": state,
        "since": _moment(row["since"]),
        "reason": reason,
        "hint": hint,
        "symbols": row["symbols"],
        "schemas": [
            {
                "schema": name,
                "records": next((s["records"] for s in schemas if s["schema"] == name), 0),
                "last_event_at": _time(next((s["last_ns"] for s in schemas if s["schema"] == name), None)),
                "complete_until": _time(next((s["resume_ns"] for s in schemas if s["schema"] == name), None)),
            }
            for name in row["schemas"]
        ],
        "notes": row["notes"],
        "records": sum(s["records"] for s in schemas),
        "received": row["received"] or 0,
        "last_event_at": _time(last_ns),
        "last_received_at": _moment(row["last_received_at"]),
        "lag_ms": None if last_ns is None or state != "streaming" else max(0, (now_ns - last_ns) // 1_000_000),
        "spool_bytes": row["spool_bytes"] or 0,
        "store_error": row["store_error"],
        "open_gaps": row["open_gaps"],
        "dead_letters": row["dead_letters"],
        "lease_holder": row["holder"] if row["held"] else None,
        "session_id": row["session_id"],
        "connections": row["connections"] or 0,
        "attempts": row["attempts"] or 0,
        "next_retry_at": _moment(row["next_retry_at"]),
        "reported_at": _moment(row["reported_at"]),
        "requested_by": row["requested_by"],
        "requested_at": _moment(row["requested_at"]),
    }


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else rfc3339(nanoseconds)


def _moment(value: Any) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")
