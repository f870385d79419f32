"""What a query took: told in the performance stream when it was long, and a span where there are traces."""

from __future__ import annotations

import time
from typing import Any

import psycopg2.extensions
import psycopg2.extras
import structlog

from ots_common import traces

log = structlog.get_logger("performance")

_CHARACTERS = 500
_slow_s = float("inf")


def tell_slower_than(ms: float) -> None:
    """From here on, in this process, queries that take longer are told: the statement, never its parameters."""
    global _slow_s
    _slow_s = ms / 1000


class TimedCursor(psycopg2.extensions.cursor):
    """psycopg2's own, with a clock on what waits for the server."""

    def execute(self, query: Any, vars: Any = None) -> None:
        """As psycopg2's."""
        started = time.perf_counter()
        if traces.is_on():
            with traces.query(_text(query)):
                super().execute(query, vars)
        else:
            super().execute(query, vars)
        if (seconds := time.perf_counter() - started) > _slow_s:
            _tell(query, seconds)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """As psycopg2's."""
        started = time.perf_counter()
        if traces.is_on():
            with traces.query(_text(sql)):
                super().copy_expert(sql, file, size)
        else:
            super().copy_expert(sql, file, size)
        if (seconds := time.perf_counter() - started) > _slow_s:
            _tell(sql, seconds)


class TimedDictCursor(TimedCursor, psycopg2.extras.RealDictCursor):
    """The same for rows by column name."""


def _tell(statement: Any, seconds: float) -> None:
    log.warning("slow_query", ms=round(seconds * 1000, 1), statement=" ".join(_text(statement).split())[:_CHARACTERS])


def _text(statement: Any) -> str:
    if isinstance(statement, bytes):
        # made by execute_values: the values of all rows are in it
        return statement.partition(b"VALUES")[0].decode("utf-8", "replace")
    return statement if isinstance(statement, str) else "(composed)"
