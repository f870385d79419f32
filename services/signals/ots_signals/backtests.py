"""Backtests that were asked for over HTTP: a queue in PostgreSQL, of which one is run at a time.

Each runs in a process of its own, which can be killed, and which holds a lock for as long as it lives: a row that is
``running`` while nobody holds the lock belongs to one that died, and is run again. The same request over the same data
has the same report, so that this changes nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg2
import structlog

from ots_common import process
from ots_common.database import Connection, Database, connect
from ots_common.problems import Problem
from ots_signals import metrics
from ots_signals.backtest import BacktestRequest, own_trials, run_backtest
from ots_signals.settings import SignalsSettings

log = structlog.get_logger(__name__)

APPLICATION = "signals-backtest"
_LOCK = 0x42544553  # "BTES"
_TRIES = 3
_LOOK_S = 2.0
_INSERT = """
    INSERT INTO signal_backtests (backtest_id, requested_by, request)
    SELECT %(id)s, %(by)s, %(request)s
    WHERE (SELECT count(*) FROM signal_backtests WHERE state = 'queued') < %(most)s
"""
_COLUMNS = "backtest_id, requested_by, requested_at, request, state, attempts, started_at, finished_at, error"
_CLAIM = """
    UPDATE signal_backtests SET state = 'running', attempts = attempts + 1, started_at = now()
    WHERE backtest_id = (SELECT backtest_id FROM signal_backtests WHERE state IN ('queued', 'running')
                         ORDER BY state DESC, requested_at, backtest_id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING backtest_id, request, attempts
"""
_END = """
    UPDATE signal_backtests SET state = %s, finished_at = now(), error = %s, report = %s, page = %s
    WHERE backtest_id = %s AND state = 'running'
"""


class Given(Exception):
    """The backtest is to end: it was cancelled, or its parent is gone."""


def submit(database: Database, request: BacktestRequest, user: str, most: int) -> str:
    """Put it into the queue; its id. Raises a 503 problem when so many wait already."""
    backtest_id = str(uuid4())
    body = json.dumps(request.model_dump(mode="json"), allow_nan=False)
    if not database.execute(_INSERT, {"id": backtest_id, "by": user, "request": body, "most": most}):
        raise Problem(
            503, "too-many-backtests", f"{most} backtests wait already", headers={"Retry-After": "60"},
            hint="GET /api/v1/signals/backtests lists them, and DELETE takes one out",
        )  # fmt: skip
    return backtest_id


def found(database: Database, backtest_id: str) -> dict[str, Any] | None:
    """One of them, without its report."""
    rows = database.dicts(f"SELECT {_COLUMNS} FROM signal_backtests WHERE backtest_id = %s", (backtest_id,))
    return rows[0] if rows else None


def listed(database: Database, before: tuple[str, str] | None, limit: int) -> list[dict[str, Any]]:
    """The newest first; ``before``: time and id of one."""
    where, values = ("(requested_at, backtest_id) < (%s, %s)", before) if before else ("true", ())
    return database.dicts(
        f"SELECT {_COLUMNS} FROM signal_backtests WHERE {where} ORDER BY requested_at DESC, backtest_id DESC LIMIT %s",
        (*values, limit),
    )


def result(database: Database, backtest_id: str, column: str) -> str | None:
    """The ``report`` (JSON) or the ``page`` (HTML) of one that is done."""
    rows = database.rows(f"SELECT {column} FROM signal_backtests WHERE backtest_id = %s", (backtest_id,))
    return rows[0][0] if rows else None


def cancel(database: Database, backtest_id: str) -> bool:
    """Take it out of the queue, or end it; whether it was there and not over."""
    return bool(
        database.execute(
            "UPDATE signal_backtests SET state = 'cancelled', finished_at = now()"
            " WHERE backtest_id = %s AND state IN ('queued', 'running')",
            (backtest_id,),
        )
    )


class Backtester:
    """Sees to it that what is queued is run, one at a time and no longer than allowed; a thread of the worker."""

    def __init__(self, settings: SignalsSettings, database: Database, stopping: threading.Event) -> None:
        self._settings = settings
        self._database = database
        self._stopping = stopping

    def run(self) -> None:
        """Until stopped."""
        while not self._stopping.wait(_LOOK_S):
            try:
                waiting = self._database.rows(
                    "SELECT 1 FROM signal_backtests WHERE state IN ('queued', 'running') LIMIT 1"
                )
                if waiting:
                    self._run_one()
            except (psycopg2.Error, Problem) as error:
                log.info("backtests_unavailable", error=str(error).strip())
            except Exception:
                metrics.FAILURES.labels("backtest").inc()
                log.exception("backtester_failed")

    def _run_one(self) -> None:
        child = multiprocessing.get_context("spawn").Process(
            target=run_next, args=(self._settings.model_dump_json(), os.getpid()), name=APPLICATION, daemon=True
        )
        child.start()
        ends = time.monotonic() + self._settings.backtest_timeout_s
        while child.is_alive() and time.monotonic() < ends and not self._stopping.is_set():
            child.join(0.5)
        if child.is_alive():
            child.kill()
            child.join()
            if not self._stopping.is_set():
                self._give_up(f"it took longer than {self._settings.backtest_timeout_s:g} s")

    def _give_up(self, error: str) -> None:
        with closing(connect(self._settings.database_url.get_secret_value(), application=APPLICATION)) as connection:
            if _locked(connection):
                with connection, connection.cursor() as cursor:
                    cursor.execute(
                        "UPDATE signal_backtests SET state = 'failed', finished_at = now(), error = %s"
                        " WHERE state = 'running'",
                        (error,),
                    )
                metrics.BACKTESTS.labels("failed").inc()


def run_next(_settings: str, parent: int) -> None:
    """In a process of its own: the next of the queue, if nobody else runs one. Its environment is its parent's."""
    settings = SignalsSettings()
    process.begin(APPLICATION, settings)
    dsn = settings.database_url.get_secret_value()
    with closing(connect(dsn, application=APPLICATION)) as connection:
        if not _locked(connection):
            return
        with connection, connection.cursor() as cursor:
            cursor.execute(_CLAIM)
            claimed = cursor.fetchone()
        if claimed is None:
            return
        backtest_id, request, attempts = claimed
        if attempts > _TRIES:
            _end(connection, backtest_id, "failed", f"the process died {_TRIES} times", None, None)
            return

        def watched(_done: int, _of: int) -> None:
            if os.getppid() != parent:
                raise Given("the worker is gone")
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT state FROM signal_backtests WHERE backtest_id = %s", (backtest_id,))
                if (cursor.fetchone() or ("",))[0] != "running":
                    raise Given("it was cancelled")

        try:
            _perform(connection, backtest_id, request, settings, watched)
        except Given as reason:
            log.info("backtest_ended", backtest_id=backtest_id, reason=str(reason))
        except ValueError as error:
            _end(connection, backtest_id, "failed", str(error), None, None)
        except Exception as error:
            log.exception("backtest_failed", backtest_id=backtest_id)
            _end(connection, backtest_id, "failed", f"{type(error).__name__}: {error}", None, None)


def _perform(
    connection: Connection, backtest_id: str, request: dict[str, Any], settings: SignalsSettings, watched: Any
) -> None:
    from ots_signals.report import as_json, report_of
    from ots_signals.report_page import page
    from ots_signals.trials import TrialTable, add_trials

    asked = BacktestRequest.model_validate(request)
    # what is tried on an invented market was not tried on data
    counted = asked.market == "stored"
    database = Database(settings.database_url.get_secret_value(), application=APPLICATION, size=1)
    made = run_backtest(
        asked,
        trials_before=TrialTable(database).before(own_trials(asked)) if counted else 0,
        progress=watched,
        most_sessions=settings.backtest_sessions,
    )
    report = report_of(made)
    with connection:
        if counted:
            add_trials(connection, made)
        _end(connection, backtest_id, "done", None, as_json(report), page(report))


def _end(
    connection: Connection, backtest_id: str, state: str, error: str | None, report: str | None, page: str | None
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_END, (state, error and error[:2000], report, page, backtest_id))
    connection.commit()


def _locked(connection: Connection) -> bool:
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
        return bool((cursor.fetchone() or (False,))[0])
