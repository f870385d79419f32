"""The collector: a process of its own that collects what is wanted, a supervisor a dataset, until stopped.

It may be killed at any moment: the spool and the cursor say where the next one goes on. Several may run; each dataset
is collected by the one that has its lease, and another takes over when that one dies.
"""

from __future__ import annotations

import logging
import select
import signal
import threading
import time
from functools import partial

import psycopg2
import structlog

from ots_common import redis_client
from ots_common.database import Connection, Database, connect
from ots_common.metrics import serve_process
from ots_ingestion import schema_lists
from ots_ingestion.announcer import Announcer
from ots_ingestion.collection import (
    CHANNEL,
    DEFAULT_EQUITY_SCHEMAS,
    DEFAULT_OPTION_SCHEMAS,
    UNDERLYINGS,
    Collection,
    collections,
    want,
)
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.supervisor import Supervisor
from ots_ingestion.vendor import VendorError, VendorUnavailable

log = structlog.get_logger(__name__)

_POLL_S = 1.0
_RETRY_S = 0.5
_VENDOR_RETRY_S = 5.0
# how often it says that it lives, to whoever watches its log alone
_TELL_S = 60.0
# what a container gives a process to end in is ten seconds
_END_S = 8.0


class Collector:
    """Watches what is wanted and keeps a supervisor for each dataset."""

    def __init__(self, settings: IngestionSettings) -> None:
        self._settings = settings
        self._dsn = settings.database_url.get_secret_value()
        self._stop = threading.Event()
        self._wanted: dict[str, Collection] = {}
        self._supervisors: dict[str, Supervisor] = {}
        self._database = Database(self._dsn, application="collector", size=2)
        client = redis_client.connect(settings.redis_url.get_secret_value())
        self._announcer = Announcer(self._database, client, settings.market_source)
        self._asked_before = not settings.collect_on_first_start
        self._next_tell = 0.0

    def stop(self) -> None:
        """End soon; what was received is synced, and most of it stored."""
        self._stop.set()

    def run(self) -> None:
        """Collect until stopped; the database may come and go."""
        settings = self._settings
        serve_process("ingestion-collector", settings, settings.collector_metrics_port, settings.metrics_bind)
        self._announcer.start()
        try:
            while not self._stop.is_set():
                try:
                    self._follow()
                except psycopg2.Error as error:
                    log.warning("database_unavailable", error=str(error).strip())
                    self._stop.wait(_RETRY_S)
                except VendorError as error:
                    log.warning("default_collection_waits", error=str(error))
                    self._stop.wait(_VENDOR_RETRY_S)
        finally:
            self._end()

    def _follow(self) -> None:
        connection = connect(self._dsn, application="collector")
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
            while not self._stop.is_set():
                self._look(connection)
                self._wait(connection)
        finally:
            connection.close()

    def _look(self, connection: Connection) -> None:
        with connection, connection.cursor() as cursor:
            found = collections(cursor)
        if not found and not self._asked_before:
            self._ask_for_the_default(connection)  # raises when the vendor's schemas are not known yet
            with connection, connection.cursor() as cursor:
                found = collections(cursor)
        self._asked_before = True
        self._wanted = {one.dataset: one for one in found}
        for dataset in self._wanted:
            if dataset not in self._supervisors:
                wanted = partial(self._wanted_of, dataset)
                supervisor = Supervisor(self._settings, dataset, wanted, self._announcer.committed)
                self._supervisors[dataset] = supervisor
                supervisor.start()
        self._tell()

    def _tell(self) -> None:
        # only from here: a collector that cannot look into the database does not say that all is well
        if (now := time.monotonic()) >= self._next_tell:
            self._next_tell = now + _TELL_S
            log.info("collector_alive", datasets=sorted(self._wanted))

    def _wanted_of(self, dataset: str) -> Collection | None:
        return self._wanted.get(dataset)

    def _ask_for_the_default(self, connection: Connection) -> None:
        settings = self._settings
        for dataset, stype_in, symbols, schemas in (
            (settings.equity_dataset, "raw_symbol", UNDERLYINGS, DEFAULT_EQUITY_SCHEMAS),
            (settings.option_dataset, "parent", tuple(f"{s}.OPT" for s in UNDERLYINGS), DEFAULT_OPTION_SCHEMAS),
        ):
            offered = schema_lists.offered(self._database, settings, dataset)
            taken = tuple(schema for schema in schemas if schema in offered.schemas)
            if not taken:
                raise offered.problem or VendorUnavailable(f"{dataset} has none of {', '.join(schemas)}")
            asked = Collection(dataset, True, stype_in, symbols, taken, requested_by="first start")
            with connection, connection.cursor() as cursor:
                want(cursor, asked)
            log.info("default_collection", dataset=dataset, schemas=taken)

    def _wait(self, connection: Connection) -> None:
        deadline = time.monotonic() + _POLL_S
        while not self._stop.is_set() and time.monotonic() < deadline:
            readable, _, _ = select.select([connection], [], [], 0.2)
            if readable:
                connection.poll()
                connection.notifies.clear()
                return

    def _end(self) -> None:
        deadline = time.monotonic() + _END_S
        for supervisor in self._supervisors.values():
            supervisor.stop()
        for supervisor in self._supervisors.values():
            if not supervisor.join(max(0.0, deadline - time.monotonic())):
                log.warning("supervisor_still_busy", dataset=supervisor.dataset)
        self._announcer.stop()


def main(settings: IngestionSettings) -> int:
    """Run a collector until SIGTERM or SIGINT."""
    # it logs a line for each of ten thousand options; what matters of it is in the states logged here
    logging.getLogger("databento").setLevel("WARNING")
    collector = Collector(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: collector.stop())
    collector.run()
    return 0
