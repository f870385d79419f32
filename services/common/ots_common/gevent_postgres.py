"""psycopg2 under gevent: without this a query blocks the whole worker."""

from __future__ import annotations

import psycopg2.extensions
from gevent.socket import wait_read, wait_write


def _wait(connection: psycopg2.extensions.connection) -> None:
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        if state == psycopg2.extensions.POLL_READ:
            wait_read(connection.fileno())
        elif state == psycopg2.extensions.POLL_WRITE:
            wait_write(connection.fileno())
        else:
            raise psycopg2.OperationalError(f"bad state from poll: {state}")


def install() -> None:
    """Let other greenlets run while a query waits; call after the fork, in every worker. COPY is not possible then."""
    psycopg2.extensions.set_wait_callback(_wait)
