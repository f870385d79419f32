"""The backfiller: a process of its own that downloads the parts of backfills, several at a time, until stopped.

It may be killed at any moment, and so may PostgreSQL and the vendor: a part is claimed under an advisory lock that ends
with its connection, a file counts when it was proved whole, and what is stored is the import worker's, exactly once.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable

import psycopg2
import structlog

from ots_common.database import Connection, Database, connect
from ots_common.metrics import serve_process
from ots_ingestion import backfill_parts, backfills, metrics
from ots_ingestion.download import Download
from ots_ingestion.gaps import count_from_the_start
from ots_ingestion.repair import repair_once
from ots_ingestion.schemas_offered import SchemaNotOffered
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import NoKey, Patience, Vendor, VendorError, backoff_s

log = structlog.get_logger(__name__)

APPLICATION = "ingestion-backfiller"
_BUSY_S = 0.25
_IDLE_S = 5.0
_MAX_BACKOFF_S = 10.0
# the first history waits for a vendor who starts beside us: asked again soon, and less and less often
_FIRST_HISTORY_PATIENCE = Patience(attempts=1, first_s=0.5, most_s=3.0)
_REPAIR_S = 5.0
# downloads cannot be interrupted: what goes on after that is dropped, and begun again by the next process
_GRACE_S = 5.0


class Backfiller:
    """Downloads until :meth:`stop`."""

    def __init__(self, settings: IngestionSettings) -> None:
        self._settings = settings
        self._dsn = settings.database_url.get_secret_value()
        self._database = Database(self._dsn, application=f"{APPLICATION}-asks", size=3)
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._vendor: Vendor | None = None
        self._vendor_lock = threading.Lock()
        count_from_the_start(settings.equity_dataset, settings.option_dataset)

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped; the database and the vendor may come and go."""
        threads = [
            threading.Thread(target=self._download_for_ever, name=f"download-{i}", daemon=True)
            for i in range(self._settings.backfill_parallel)
        ]
        asking = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("first-history", self._ask_first_history), ("repair", self._repair_for_ever))
        ]
        for thread in (*threads, *asking):
            thread.start()
        self._for_ever(self._tend)
        self._wake()
        deadline = time.monotonic() + _GRACE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def vendor(self) -> Vendor:
        """The vendor of the settings. Raises :class:`~ots_ingestion.vendor.NoKey`."""
        with self._vendor_lock:
            if self._vendor is None:
                self._vendor = Vendor(self._settings, stopping=self._stopping)
            return self._vendor

    def _for_ever(self, work: Callable[[], None]) -> None:
        """Call ``work`` until stopped, again after the database was away."""
        backoff = 0.2
        while not self._stopping.is_set():
            try:
                work()
                backoff = 0.2
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                log.warning("database_unavailable", error=str(error).strip(), retry_in_s=backoff)
                self._stopping.wait(backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF_S)
            except Exception:
                # a thread that ends would end unseen
                log.exception("backfiller_failed", retry_in_s=backoff)
                self._stopping.wait(backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF_S)

    def _tend(self) -> None:
        """See what runs have ended and what was newly asked for."""
        connection = connect(self._dsn, application=APPLICATION)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(f"LISTEN {backfills.CHANNEL}")
            self._wake()
            while not self._stopping.is_set():
                busy = backfill_parts.settle(connection)
                if busy:
                    self._wake()
                select.select([connection], [], [], _BUSY_S if busy else 1.0)
                connection.poll()
                if connection.notifies:
                    connection.notifies.clear()
                    self._wake()
        finally:
            connection.close()

    def _wake(self) -> None:
        with self._news:
            self._news.notify_all()

    def _download_for_ever(self) -> None:
        self._for_ever(self._download)

    def _download(self) -> None:
        """Claim and download, on a connection of this thread."""
        line = _Line(self._dsn)
        try:
            while not self._stopping.is_set():
                part = backfill_parts.claim(line.connection(), self._settings.backfill_ahead)
                if part is None:
                    with self._news:
                        self._news.wait(_IDLE_S)
                    continue
                with metrics.BACKFILL_DOWNLOADS.track_inprogress():
                    Download(part, self.vendor, self._settings, line.connection, self._stopping.is_set).run()
                with line.connection() as connection:
                    backfill_parts.release(connection, part.part_id)
        finally:
            line.close()

    def _repair_for_ever(self) -> None:
        self._for_ever(self._repair)

    def _repair(self) -> None:
        """Ask history for what the gap ledger lacks."""
        while not self._stopping.wait(_REPAIR_S):
            try:
                vendor = self.vendor()
            except NoKey:
                vendor = None
            try:
                repair_once(self._database, self._settings, vendor)
            except NoKey as error:
                log.info("no_repair", error=str(error))

    def _ask_first_history(self) -> None:
        """Ask for the history of a fresh database, as soon as the vendor and the database answer."""
        attempt = 0
        while not self._stopping.is_set():
            attempt += 1
            retry_after = None
            try:
                vendor = Vendor(self._settings, patience=_FIRST_HISTORY_PATIENCE, stopping=self._stopping)
                asked = backfills.ask_first_history(self._database, vendor, self._settings)
                if asked:
                    log.info("first_history_asked", parts=len(asked.parts), records=asked.total.records)
                return
            except NoKey as error:
                log.warning("first_history_not_asked", error=str(error))
                return
            except (VendorError, psycopg2.Error, SchemaNotOffered, ValueError) as error:
                log.warning("first_history_waits", error=str(error).strip())
                retry_after = getattr(error, "retry_after", None)
            self._stopping.wait(backoff_s(attempt, _FIRST_HISTORY_PATIENCE, retry_after))


class _Line:
    """One thread's connection, made again when it was lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn, application=f"{APPLICATION}-download")
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def main(settings: IngestionSettings) -> int:
    """Run a backfiller until SIGTERM or SIGINT."""
    backfiller = Backfiller(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: backfiller.stop())
    serve_process("ingestion-backfiller", settings, settings.backfiller_metrics_port, settings.metrics_bind)
    backfiller.run()
    # a download that goes on holds its thread: nothing of it is worth waiting for
    os._exit(0)
