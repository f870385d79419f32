"""Gaps that history can fill are asked of history, by themselves: one step of the backfiller's loop.

A gap is asked for a minute after it was stated and ended, not earlier: the feed's own replay is free and comes first.
Each gap waits longer after each try, and how it stands is in the ledger (``repair_note``). Nothing is spent above
REPAIR_MAX_COST_USD a gap, which is 0 unless set: then real history is only priced.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import structlog
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.database import Database
from ots_ingestion import metrics
from ots_ingestion.backfills import request_repair
from ots_ingestion.coverage import close_if_covered
from ots_ingestion.expectations import look
from ots_ingestion.gaps import Gap, gap_by_id
from ots_ingestion.schemas_offered import SchemaNotOffered
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import NoKey, TooCostly, Vendor, VendorError
from ots_market.sessions import sessions_of

log = structlog.get_logger(__name__)

_SETTLED = timedelta(minutes=1)
# the feed's replay is waited for so long
_REPLAY_FIRST = timedelta(minutes=10)
_FIRST_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=6)
_HOPELESS_WAIT = timedelta(hours=24)
_AT_ONCE = 20


class _Pace:
    """Whether it is time again, for all callers of this process."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._every_s
        return True


# a look takes a second or two on a busy database, and a stretch is a quarter of an hour
_LOOK = _Pace(60.0)


@dataclass(frozen=True)
class _Outcome:
    note: str
    job: str | None = None
    hopeless: bool = False


def repair_once(database: Database, settings: IngestionSettings, vendor: Vendor | None = None) -> int:
    """One step: look for silent symbols, once a minute; then ask history for the gaps that are due: how many were.

    Safe to run in several processes: each due gap is one's for as long as its wait. Raises what the database raises.
    """
    if _LOOK.due():
        with database.connection() as connection, connection.cursor() as cursor:
            look(cursor, sessions_of(settings.market_calendar), time.time_ns(), settings.expected_stretch_minutes)
            _measure(cursor)
    dealt = 0
    for _ in range(_AT_ONCE):
        gap = _take_due(database)
        if gap is None:
            break
        dealt += 1
        try:
            vendor = vendor or Vendor(settings)
        except NoKey as error:
            _note(database, gap, _Outcome(str(error), hopeless=True))
            continue
        _note(database, gap, _try(database, settings, vendor, gap))
    return dealt


def _measure(cursor: Cursor) -> None:
    cursor.execute("SELECT dataset, evidence, count(*) FROM gaps WHERE closed_at IS NULL GROUP BY 1, 2")
    gaps: Counter[tuple[str, ...]] = Counter()
    for dataset, evidence, number in cursor.fetchall():
        gaps[metrics.dataset_label(dataset), evidence] += number
    metrics.show(metrics.OPEN_GAPS, gaps)
    cursor.execute(
        "SELECT dataset, reason, sum(number)::bigint FROM dead_letters WHERE replayed_at IS NULL GROUP BY 1, 2"
    )
    letters: Counter[tuple[str, ...]] = Counter()
    for dataset, reason, number in cursor.fetchall():
        letters[metrics.dataset_label(dataset), metrics.reason_label(reason)] += number
    metrics.show(metrics.DEAD_LETTERS, letters)


def _take_due(database: Database) -> Gap | None:
    """The next gap that is due, with its wait moved on, so that nobody else takes it and a crash costs one wait."""
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE gaps SET repair_attempts = repair_attempts + 1, repair_after = now() + least(
                %(first)s * power(2, least(repair_attempts, 20)), %(longest)s)
            WHERE gap_id = (
                SELECT g.gap_id FROM gaps g
                WHERE g.closed_at IS NULL AND g.ends_ns IS NOT NULL
                  AND coalesce(g.repair_after, g.opened_at + %(settled)s) <= now()
                  AND (g.opened_at <= now() - %(replay)s
                       OR NOT EXISTS (SELECT FROM collection_pending_gaps p WHERE p.gap_id = g.gap_id))
                ORDER BY coalesce(g.repair_after, g.opened_at), g.gap_id LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING gap_id
            """,
            {"first": _FIRST_WAIT, "longest": _LONGEST_WAIT, "settled": _SETTLED, "replay": _REPLAY_FIRST},
        )
        row = cursor.fetchone()
        return None if row is None else gap_by_id(cursor, row[0])


def _try(database: Database, settings: IngestionSettings, vendor: Vendor, gap: Gap) -> _Outcome:
    if gap.repair_job and (status := _at_work(database, gap.repair_job)):
        return _Outcome(f"backfill {gap.repair_job} is {status}", gap.repair_job)
    try:
        job = request_repair(database, vendor, settings, gap)
    except (VendorError, SchemaNotOffered, ValueError) as error:
        passes = getattr(error, "passes", False)
        log.info("gap_not_repaired", gap_id=gap.gap_id, error=str(error), passes=passes)
        more = "; REPAIR_MAX_COST_USD would allow it" if isinstance(error, TooCostly) else ""
        return _Outcome(f"{error}{more}", hopeless=not passes)
    if job is None:
        return _Outcome("history had given it already")
    return _Outcome(f"asked of history: backfill {job}", str(job))


def _at_work(database: Database, job: str) -> str | None:
    rows = database.rows(
        "SELECT status FROM backfills WHERE backfill_id::text = %s AND status IN ('queued', 'running')", (job,)
    )
    return rows[0][0] if rows else None


def _note(database: Database, gap: Gap, outcome: _Outcome) -> None:
    with database.connection() as connection, connection.cursor() as cursor:
        close_if_covered(cursor, gap_by_id(cursor, gap.gap_id) or gap)
        cursor.execute(
            "UPDATE gaps SET repair_note = %(note)s, repair_job = coalesce(%(job)s, repair_job), repair_after = CASE"
            " WHEN closed_at IS NOT NULL THEN NULL WHEN %(hopeless)s THEN now() + %(wait)s ELSE repair_after END"
            " WHERE gap_id = %(id)s",
            {
                "note": outcome.note[:1000],
                "job": outcome.job,
                "hopeless": outcome.hopeless,
                "wait": _HOPELESS_WAIT,
                "id": gap.gap_id,
            },
        )
