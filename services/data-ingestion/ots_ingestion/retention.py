"""For how long each time table keeps what was collected, and the upkeep that acts on it.

Retention is off until it is set (``python -m ots_ingestion retention set quotes 30d``). It drops whole chunks, and
never one that an import wrote to: what a person brought in stays until a person removes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg2.errors

from ots_common.database import Connection

_PERIOD = re.compile(r"^(\d{1,5})d$")
# shorter than deadlock_timeout (1 s), so that no import is ever the victim: see maintain_time_tables in migration 0001
_LOCK_TIMEOUT = "500ms"
_UPKEEP_LOCK = 0x4F5455
KEPT_SELF_CHECKS = timedelta(days=90)


@dataclass(frozen=True)
class Retention:
    """How a time table is divided and kept. ``retain`` None: for ever."""

    table: str
    chunk: timedelta
    retain: timedelta | None

    def __str__(self) -> str:
        kept = "for ever" if self.retain is None else f"{self.retain.days}d"
        return f"{self.table}: {kept}, in chunks of {self.chunk.days}d"


def parse_period(text: str) -> timedelta | None:
    """``30d`` or ``off``. Raises ValueError for anything else, and for nothing (0d), which would drop today."""
    if text == "off":
        return None
    match = _PERIOD.match(text)
    if match is None or match[1].strip("0") == "":
        raise ValueError(f"expected a number of days such as 30d, or off, not {text}")
    return timedelta(days=int(match[1]))


def read_retention(connection: Connection) -> list[Retention]:
    """Every time table in order of name."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name, chunk, retain FROM time_tables ORDER BY table_name")
        return [Retention(*row) for row in cursor.fetchall()]


def set_retention(connection: Connection, table: str, retain: timedelta | None) -> None:
    """Keep what is collected into ``table`` for that long; the next upkeep acts on it. Raises ValueError."""
    known = [entry.table for entry in read_retention(connection)]
    if table not in known:
        raise ValueError(f"no time table is named {table}; there are {', '.join(known)}")
    with connection, connection.cursor() as cursor:
        cursor.execute("UPDATE time_tables SET retain = %s WHERE table_name = %s", (retain, table))


def maintain(connection: Connection) -> list[str]:
    """One upkeep of the time tables, each step a transaction of its own; what was done, in words.

    In one transaction (``maintain_time_tables``, for a scheduler inside the database) a hundred chunks to compress
    would be done again from the first when the hundredth fails, and all their locks held to the end. A step waits for
    nobody longer than half a second: what is in use is postponed to the next call, with the rest of its table.
    """
    with upkeep_lease(connection) as ours:
        if not ours:
            return []  # somebody else is at it, here and now
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT table_name, action, detail, command FROM due_upkeep(now(), interval '3 days')")
            steps = cursor.fetchall()
        return [*_take(connection, steps), *_forget_self_checks(connection)]


def _forget_self_checks(connection: Connection) -> list[str]:
    """Comparisons that are older than KEPT_SELF_CHECKS, but not the newest: it says when the last one was."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM self_checks WHERE finished_at < now() - %s"
            " AND check_id < (SELECT max(check_id) FROM self_checks)",
            (KEPT_SELF_CHECKS,),
        )
        days = KEPT_SELF_CHECKS.days
        return [f"self_checks: deleted {cursor.rowcount} older than {days} days"] if cursor.rowcount else []


@contextmanager
def upkeep_lease(connection: Connection) -> Iterator[bool]:
    """Whether this process alone does upkeep now: nobody else drops, compresses or compares what is stored meanwhile.

    An advisory lock of this connection, which may take it twice: it ends with the block, or with the connection.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, 0)", (_UPKEEP_LOCK,))
        ours = bool((cursor.fetchone() or (False,))[0])
    try:
        yield ours
    finally:
        if ours and not connection.closed:
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, 0)", (_UPKEEP_LOCK,))


def _take(connection: Connection, steps: list[tuple[str, str, str, str]]) -> list[str]:
    done = []
    busy: set[str] = set()
    for table, action, detail, command in steps:
        if table in busy:
            continue
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('lock_timeout', %s, true), set_config('timezone', 'UTC', true),"
                    " set_config('datestyle', 'ISO', true)",
                    (_LOCK_TIMEOUT,),
                )
                cursor.execute(command)
        except psycopg2.errors.LockNotAvailable as error:
            busy.add(table)
            done.append(f"{table}: postponed {detail}, to be {action}: {str(error).strip()}")
        else:
            done.append(f"{table}: {action} {detail}")
    return done
