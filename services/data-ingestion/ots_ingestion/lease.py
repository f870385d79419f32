"""The lease of a dataset: one collector at a time, by an advisory lock that ends with its holder's connection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg2
import structlog

from ots_common.database import Connection, connect

log = structlog.get_logger(__name__)

# the first half of the lock's key; the second is made of the dataset's name
LEASE_CLASS = 0x4C495645
_RETRY_S = 0.5
_CHECK_S = 1.0
# an advisory lock of a backend that has not yet noticed our end: it may still be ours
_GRACE_S = 10.0


class Lease:
    """Held, or not; in doubt while the database does not answer."""

    def __init__(self, dsn: str, dataset: str) -> None:
        self._dsn = dsn
        self._dataset = dataset
        self._connection: Connection | None = None
        self._held = False
        self._next_check = 0.0
        self._refused_since: float | None = None
        self.error: str | None = None

    def hold(self) -> bool:
        """Whether this process may collect. Once it could, it may until another is known to do it.

        While the database is away nobody can take the lease, and the feed goes into the spool: that loses nothing.
        """
        now = time.monotonic()
        if now < self._next_check:
            return self._held
        self._next_check = now + (_CHECK_S if self._held else _RETRY_S)
        try:
            self._held = self._try()
            self.error = None
        except psycopg2.Error as error:
            self.error = str(error).strip()
            self.drop()
        return self._held

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> bool:
        """Run a statement in a transaction of its own on the lease's connection; False when the database is away."""
        if self._connection is None:
            return False
        try:
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute(sql, parameters)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.error = str(error).strip()
            self.drop()
            return False
        return True

    def drop(self) -> None:
        """Close the connection, without giving up the right to go on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def release(self) -> None:
        """Give the lease up."""
        self._held = False
        self.drop()

    def _try(self) -> bool:
        if self._connection is None:
            self._connection = connect(self._dsn, application=f"collector-lease-{self._dataset}")
            with self._connection, self._connection.cursor() as cursor:
                # a machine that vanished is noticed within half a minute, and its lease with it
                for setting, value in (("idle", 10), ("interval", 5), ("count", 3)):
                    cursor.execute(f"SET tcp_keepalives_{setting} = {value}")
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                " AND classid = %(class)s AND objid::bigint = hashtext(%(name)s)::bigint & 4294967295)",
                {"class": LEASE_CLASS, "name": self._dataset},
            )
            if (cursor.fetchone() or (False,))[0]:
                return True
            cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (LEASE_CLASS, self._dataset))
            taken = bool((cursor.fetchone() or (False,))[0])
        if taken or not self._held:
            self._refused_since = None
            return taken
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if now - self._refused_since < _GRACE_S:
            return True
        log.warning("lease_lost", dataset=self._dataset)
        return False
