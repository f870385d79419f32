"""PostgreSQL: a bounded pool of connections per process that survives the server's restarts."""

from __future__ import annotations

import queue
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from ots_common.database_timing import TimedCursor, TimedDictCursor
from ots_common.metrics import CONNECTS, POOL_BUSY, POOL_CONNECTIONS, POOL_WAIT_SECONDS
from ots_common.problems import unavailable
from ots_common.settings import ServiceSettings

Connection = psycopg2.extensions.connection
Kind = TypeVar("Kind", bound=Connection)


@dataclass(frozen=True)
class Prepared:
    """A query that PostgreSQL parses and plans once a connection: for one that is asked often and runs shorter than
    that takes. ``sql`` has its parameters as ``$1``, ``$2``, ...; ``types`` are theirs."""

    name: str
    sql: str
    types: tuple[str, ...]


class _Pooled(Connection):
    """A connection that knows what is prepared on it."""

    prepared: frozenset[str] = frozenset()


def connect(dsn: str, *, application: str) -> Connection:
    """One connection of one's own, in UTC. Raises :class:`psycopg2.OperationalError`."""
    return _connected(dsn, application, Connection)


def _connected(dsn: str, application: str, kind: type[Kind], lock_s: float = 0) -> Kind:
    made: Kind = psycopg2.connect(
        dsn,
        connection_factory=kind,
        cursor_factory=TimedCursor,
        application_name=application,
        connect_timeout=5,
        options=f"-c timezone=UTC -c lock_timeout={round(lock_s * 1000)}",
    )
    return made


class Database:
    """A last-in-first-out pool. A connection that the server closed meanwhile is noticed before it is lent.

    ``wait_s`` bounds how long a caller waits for a free connection; then :meth:`connection` raises a 503 problem.
    ``lock_s`` bounds how long a statement waits for a lock (0: for ever); then it raises LockNotAvailable, which is an
    OperationalError, and answered 503.
    """

    def __init__(self, dsn: str, *, application: str, size: int = 8, wait_s: float = 5.0, lock_s: float = 0) -> None:
        self._dsn = dsn
        self._application = application
        self._wait_s = wait_s
        self._lock_s = lock_s
        self._idle: queue.LifoQueue[_Pooled] = queue.LifoQueue()
        self._slots = threading.BoundedSemaphore(size)
        self._lent_now = POOL_CONNECTIONS.labels(application, "in_use")
        self._idle_now = POOL_CONNECTIONS.labels(application, "idle")
        self._waited = POOL_WAIT_SECONDS.labels(application)
        self._busy = POOL_BUSY.labels(application)
        self._made, self._failed, self._lost = (CONNECTS.labels(application, w) for w in ("made", "failed", "lost"))

    @classmethod
    def of_service(cls, name: str, settings: ServiceSettings, *, lock_s: float = 0) -> Database:
        """The pool that a service's settings ask for."""
        return cls(
            settings.database_url.get_secret_value(),
            application=name,
            size=settings.database_pool_size,
            wait_s=settings.database_wait_s,
            lock_s=lock_s,
        )

    @contextmanager
    def connection(self) -> Iterator[_Pooled]:
        """Lend a connection in a transaction: committed at the end, rolled back when an exception passes."""
        asked = time.perf_counter()
        lent = self._slots.acquire(timeout=self._wait_s)
        self._waited.observe(time.perf_counter() - asked)
        if not lent:
            self._busy.inc()
            raise unavailable("every database connection of this process is busy")
        try:
            self._lent_now.inc()
            connection = self._checkout()
            try:
                yield connection
                connection.commit()
            except BaseException:
                _rollback(connection)
                raise
            finally:
                if not connection.closed:
                    self._idle_now.inc()
                    self._idle.put(connection)
        finally:
            self._lent_now.dec()
            self._slots.release()

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def prepared_rows(self, query: Prepared, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows of one prepared query: in one round trip, because a query by itself is a transaction by itself."""
        with self.connection() as connection:
            connection.autocommit = True
            try:
                with connection.cursor() as cursor:
                    if query.name not in connection.prepared:
                        cursor.execute(f"PREPARE {query.name} ({', '.join(query.types)}) AS {query.sql}")
                        connection.prepared |= {query.name}
                    places = ", ".join(["%s"] * len(parameters))
                    cursor.execute(f"EXECUTE {query.name} ({places})", parameters)
                    return cursor.fetchall()
            finally:
                if not connection.closed:
                    connection.autocommit = False

    def dicts(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """All rows of one query, each by column name."""
        with (
            self.connection() as connection,
            connection.cursor(cursor_factory=TimedDictCursor) as cursor,
        ):
            cursor.execute(sql, parameters)
            return [dict(row) for row in cursor.fetchall()]

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run one statement in a transaction of its own; the number of rows it touched."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.rowcount

    def close(self) -> None:
        """Close what is idle."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return
            self._idle_now.dec()

    def _checkout(self) -> _Pooled:
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return self._connect()
            self._idle_now.dec()
            if _alive(connection):
                return connection
            self._lost.inc()
            connection.close()

    def _connect(self) -> _Pooled:
        try:
            connection = _connected(self._dsn, self._application, _Pooled, self._lock_s)
        except psycopg2.Error:
            self._failed.inc()
            raise
        self._made.inc()
        return connection


def _alive(connection: Connection) -> bool:
    # the server says nothing to an idle connection: whatever can be read is its farewell, or an end of file
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return not poll.poll(0)


def _rollback(connection: Connection) -> None:
    try:
        connection.rollback()
    except psycopg2.Error:
        connection.close()
