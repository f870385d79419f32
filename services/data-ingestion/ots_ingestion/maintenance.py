"""Done now and then beside storing: upkeep of the tables, packs of bars, the self-check, gauges of what is stored.

A thread of the import worker, with a connection of its own, so that a long import delays none of it. Upkeep, packing
and the self-check are done by one process at a time, by a lease; several workers share them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import psycopg2
import structlog

from ots_common.database import Connection, connect
from ots_ingestion import measures, metrics, self_check
from ots_ingestion.packing import pack_next
from ots_ingestion.retention import maintain, upkeep_lease
from ots_ingestion.settings import IngestionSettings
from ots_market.sessions import sessions_of

log = structlog.get_logger(__name__)

APPLICATION = "ingestion-maintenance"
_TICK_S = 1.0
_MAX_BACKOFF_S = 10.0
_UPKEEP_EVERY_S = 6 * 3600.0
_MEASURE_EVERY_S = 15.0
_QUALITY_EVERY_S = 60.0
_PACKING_EVERY_S = 60.0
# a share of the machine: what is left over is packed the next time
_PACKING_S = 10.0
# history comes in many batches: of what is still coming in, packs would be made again and again
_SETTLED_S = 60.0
# how often it is asked whether a self-check is due, and how long one that failed waits
_LOOK_EVERY_S = 15.0
_AFTER_FAILURE_S = 300.0
# the first check of a database that has just been filled need not wait for an hour
_FIRST_ROWS_S = 60.0
_END_S = 5.0


@dataclass
class _Task:
    """Something done every ``every_s``, first at ``next`` (monotonic); ``work`` answers False when nothing was due."""

    name: str
    every_s: float
    work: Callable[[Connection], bool]
    next: float = 0.0


class Maintenance:
    """Does it until stopped; the database may come and go."""

    def __init__(self, settings: IngestionSettings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
        self._tasks = [
            _Task("time-tables", _UPKEEP_EVERY_S, self._upkeep),
            _Task("measures", _MEASURE_EVERY_S, self._measure),
            # not at once: the exchange's calendar takes a second to make, and others are starting too
            _Task("quality", _QUALITY_EVERY_S, self._measure_quality, time.monotonic() + _MEASURE_EVERY_S),
            _Task("packing", _PACKING_EVERY_S, self._pack),
        ]
        if settings.self_check_every_s:
            self._tasks.append(_Task("self-check", _LOOK_EVERY_S, self._check))

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; what the database is at is cancelled, and begun again another time."""
        self._stopping.set()
        connection = self._connection
        if connection is not None and self._thread.is_alive():
            try:
                connection.cancel()
            except psycopg2.Error:
                log.debug("nothing_to_cancel")
        self._thread.join(_END_S)

    def _run(self) -> None:
        backoff = 0.2
        while not self._stopping.is_set():
            try:
                connection = connect(self._settings.database_url.get_secret_value(), application=APPLICATION)
                self._connection = connection
                try:
                    while not self._stopping.is_set():
                        self._turn(connection)
                        backoff = 0.2
                        self._stopping.wait(_TICK_S)
                finally:
                    self._connection = None
                    connection.close()
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if not self._stopping.is_set():
                    log.warning("maintenance_waits", error=str(error).strip(), retry_in_s=backoff)
                self._stopping.wait(backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF_S)

    def _turn(self, connection: Connection) -> None:
        for task in self._tasks:
            if self._stopping.is_set():
                return
            if time.monotonic() < task.next:
                continue
            task.next = time.monotonic() + task.every_s
            try:
                done(task.name, partial(task.work, connection))
            except Exception as error:
                if self._stopping.is_set() or connection.closed:
                    if isinstance(error, psycopg2.Error):
                        raise
                    return
                connection.rollback()
                task.next = time.monotonic() + max(task.every_s, _AFTER_FAILURE_S)
                if task.name == "self-check":
                    metrics.SELFCHECK_FAILURES.inc()
                log.warning("maintenance_failed", task=task.name, error=f"{type(error).__name__}: {error}".strip())

    def _upkeep(self, connection: Connection) -> bool:
        for line in maintain(connection):
            log.info("maintenance", done=line)
        return True

    def _measure(self, connection: Connection) -> bool:
        with connection, connection.cursor() as cursor:
            measures.measure_watermarks(cursor)
            measures.measure_backfills(cursor)
            measures.measure_spool(cursor, self._settings.spool_dir)
            measures.measure_self_checks(cursor)
        return True

    def _measure_quality(self, connection: Connection) -> bool:
        with connection, connection.cursor() as cursor:
            measures.measure_quality(cursor, sessions_of(self._settings.market_calendar))
        return True

    def _pack(self, connection: Connection) -> bool:
        """Pack the minute bars that are over; nobody depends on it."""
        ends = time.monotonic() + _PACKING_S
        while time.monotonic() < ends and not self._stopping.is_set():
            packed = pack_next(connection, now=datetime.now(UTC), settled_s=_SETTLED_S)
            if packed is None:
                break
            log.info("bars_packed", done=str(packed))
        return True

    def _check(self, connection: Connection) -> bool:
        """Compare what is stored with what was counted, when nobody has done so for an hour."""
        every_s = self._settings.self_check_every_s
        if not _is_due(connection, every_s):
            return False
        with upkeep_lease(connection) as ours:
            # another worker may have just done it
            if not ours or not _is_due(connection, every_s):
                return False
            found = self_check.check(
                connection,
                asked_by="maintenance",
                most_rows=self._settings.self_check_rows,
                stopping=self._stopping.is_set,
            )
        if found.difference:
            log.error("self_check_differs", difference=found.difference, rows=found.rows, check=found.check_id)
        else:
            log.info("self_check", rows=found.rows, stretches=found.stretches, left_over=found.left_over)
        with connection, connection.cursor() as cursor:
            measures.measure_self_checks(cursor)
        return True


def _is_due(connection: Connection, every_s: float) -> bool:
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT EXISTS (SELECT FROM stored_rows WHERE rows > 0)),"
            " (SELECT extract(epoch FROM now() - finished_at)::float8 FROM self_checks ORDER BY check_id DESC LIMIT 1),"
            " (SELECT max(rows) FROM self_checks)"
        )
        something, age_s, most = cursor.fetchone() or (False, None, None)
    if not something:
        return False
    return age_s is None or age_s >= (every_s if most else min(every_s, _FIRST_ROWS_S))


def done(task: str, work: Callable[[], bool]) -> None:
    """Do a task and show when it was done and how long it took, unless it says that it was not its turn."""
    began = time.monotonic()
    if work():
        metrics.MAINTENANCE_SECONDS.labels(task).set(time.monotonic() - began)
        metrics.MAINTENANCE_LAST.labels(task).set(datetime.now(UTC).timestamp())
