"""The import worker: a process of its own that stores what the spool holds, one run at a time.

It may be killed at any moment: a batch and its cursor are one transaction, the lease ends with the connection, and the
next worker goes on behind the cursor.
"""

from __future__ import annotations

import select
import signal
import threading
import time
from functools import partial
from pathlib import Path

import psycopg2
import psycopg2.errors
import redis
import structlog

from ots_common import redis_client
from ots_common.database import Connection, Database, connect
from ots_common.metrics import serve_process
from ots_ingestion import metrics, runs
from ots_ingestion.dbn_file import InvalidDbnError
from ots_ingestion.importer import Importer
from ots_ingestion.maintenance import Maintenance, done
from ots_ingestion.publisher import LatestPublisher
from ots_ingestion.runs import Run
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.spool import PARTIAL

log = structlog.get_logger(__name__)

_IDLE_S = 5.0
_MAX_ATTEMPTS = 3
_MAX_BACKOFF_S = 10.0
_UNSUPPORTED = "unsupported_record_type_"
# an upload that never became a run: its client has long gone
_ABANDONED_AFTER_S = 6 * 3600.0
# beside each time that a run has ended
_SWEEP_EVERY_S = 3600.0


class Worker:
    """Claims runs until :meth:`stop`."""

    def __init__(self, settings: IngestionSettings) -> None:
        self._settings = settings
        self._dsn = settings.database_url.get_secret_value()
        self._stopping = threading.Event()
        database = Database(self._dsn, application="ingestion-publisher", size=1)
        client: redis.Redis = redis_client.connect(settings.redis_url.get_secret_value())
        self._publisher = LatestPublisher(database, client, settings.market_source)
        self._maintenance = Maintenance(settings)
        self._next_sweep = 0.0

    def stop(self) -> None:
        """End after the batch in hand is committed or rolled back."""
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped; the database may come and go."""
        settings = self._settings
        serve_process("ingestion-worker", settings, settings.worker_metrics_port, settings.metrics_bind)
        backoff = 0.2
        self._maintenance.start()
        try:
            while not self._stopping.is_set():
                try:
                    self._work()
                    backoff = 0.2
                except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                    log.warning("database_unavailable", error=str(error).strip(), retry_in_s=backoff)
                    self._stopping.wait(backoff)
                    backoff = min(backoff * 2, _MAX_BACKOFF_S)
        finally:
            self._maintenance.stop()

    def _work(self) -> None:
        connection = connect(self._dsn, application="ingestion-worker")
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(f"LISTEN {runs.CHANNEL}")
            self._clear_spool(connection)
            self._publisher.publish_everything()
            while not self._stopping.is_set():
                run = runs.claim_next(connection, self._settings.spool_dir)
                if run is None:
                    if time.monotonic() >= self._next_sweep:
                        self._clear_spool(connection)
                    self._wait(connection)
                    continue
                try:
                    self._store(connection, run)
                finally:
                    if not connection.closed:
                        with connection:
                            runs.release(connection, run.run_id)
        finally:
            connection.close()

    def _store(self, connection: Connection, run: Run) -> None:
        log.info("run_started", run_id=str(run.run_id), from_record=run.records_done, attempt=run.attempts)
        try:
            whole = Importer(connection, run, self._publisher.publish).run(self._stopping.is_set)
        except (
            psycopg2.errors.DiskFull,
            psycopg2.errors.DeadlockDetected,
            psycopg2.errors.SerializationFailure,
        ) as error:
            # passes by itself; the batch was rolled back and will be tried again
            runs.note_error(connection, run.run_id, str(error).strip())
            log.warning("run_waits", run_id=str(run.run_id), error=str(error).strip())
            self._stopping.wait(2.0)
        except psycopg2.OperationalError:
            raise
        except (FileNotFoundError, InvalidDbnError) as error:
            self._end(connection, run, f"the spooled file cannot be read any more: {error}")
        except Exception as error:
            log.exception("run_failed", run_id=str(run.run_id), attempt=run.attempts)
            if run.attempts >= _MAX_ATTEMPTS:
                self._end(connection, run, f"{type(error).__name__}: {error}")
            else:
                runs.note_error(connection, run.run_id, f"{type(error).__name__}: {error}")
                self._stopping.wait(1.0)
        else:
            if whole:
                self._end(connection, run, None)

    def _end(self, connection: Connection, run: Run, error: str | None) -> None:
        runs.finish(connection, run.run_id, error=error)
        metrics.RUNS.labels("failed" if error else "done").inc()
        log.info("run_ended", run_id=str(run.run_id), error=error)
        self._clear_spool(connection)

    def _clear_spool(self, connection: Connection) -> None:
        self._next_sweep = time.monotonic() + _SWEEP_EVERY_S
        done("spool", partial(self._sweep, connection))

    def _sweep(self, connection: Connection) -> bool:
        """Remove spooled files whose every record is stored or a dead letter.

        Records of types that are not stored here (`unsupported_record_type_*`) are counted and not buried: a file that
        holds some is kept, as is one with rejected records of a run from before there were dead letters.
        """
        self._settings.spool_dir.mkdir(parents=True, exist_ok=True)
        paths = list(self._settings.spool_dir.iterdir())
        with connection, connection.cursor() as cursor:
            # asked by name: there are many more runs than files
            cursor.execute(
                "SELECT spool_file, status = 'done' AND (rejected = 0 OR ("
                " NOT EXISTS (SELECT FROM jsonb_object_keys(reasons) AS reason WHERE starts_with(reason, %s))"
                " AND coalesce(finished_at >= (SELECT min(buried_at) FROM dead_letters), false)))"
                " FROM runs WHERE spool_file = ANY(%s)",
                (_UNSUPPORTED, [path.name for path in paths]),
            )
            found = cursor.fetchall()
        stored = {name for name, done in found if done}
        wanted = {name for name, done in found if not done}
        for path in paths:
            if path.name in wanted:
                continue
            if path.name in stored or (_age_s(path) > _ABANDONED_AFTER_S and path.suffix in (".dbn", PARTIAL)):
                path.unlink(missing_ok=True)
        return True

    def _wait(self, connection: Connection) -> None:
        """Until a run is announced, or a few seconds: an announcement may have gone to nobody."""
        select.select([connection], [], [], min(_IDLE_S, 1.0 if self._publisher.behind else _IDLE_S))
        connection.poll()
        connection.notifies.clear()
        self._publisher.catch_up()


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def main(settings: IngestionSettings) -> int:
    """Run a worker until SIGTERM or SIGINT."""
    worker = Worker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    worker.run()
    return 0
