"""The log of everything that was ever tried: the best of many sets of parameters looks good by chance alone.

In the table ``signal_trials``, where the database has one that this role may add to; else in a file. A trial is one set
of parameters of one strategy over certain data and dates: the same again is the same trial.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import psycopg2.errors
from psycopg2.extras import Json, execute_values

from ots_common.database import Connection, Database
from ots_signals.backtest import Backtest, Trial
from ots_signals.canonical import canonical
from ots_signals.track_record import trials

Sets = frozenset[tuple[str, str]]
"""Strategies with the hashes of their parameters."""

FILE = "trials.jsonl"
_ADD = """
    INSERT INTO signal_trials (run, strategy, parameters_hash, parameters, signals, days, sharpe) VALUES %s
    ON CONFLICT DO NOTHING
"""


class TrialLog(Protocol):
    """Where trials are counted and kept."""

    def before(self, own: Sets) -> int:
        """How many sets were tried on any data, those of ``own`` apart."""
        ...

    def add(self, backtest: Backtest) -> None:
        """Keep those of a run; what is there already stays."""
        ...


class TrialTable:
    """In PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def usable(self) -> bool:
        """Whether the table is there, and this role may add to it."""
        try:
            rows = self._database.rows(
                "SELECT has_table_privilege('signal_trials', 'INSERT')"
                " AND has_table_privilege('signal_ledger', 'SELECT')"
            )
        except psycopg2.errors.UndefinedTable:
            return False
        return bool(rows[0][0])

    def before(self, own: Sets) -> int:
        """As `TrialLog.before`."""
        return trials(self._database, own)

    def add(self, backtest: Backtest) -> None:
        """As `TrialLog.add`, in one transaction."""
        with self._database.connection() as connection:
            add_trials(connection, backtest)


def add_trials(connection: Connection, backtest: Backtest) -> None:
    """Keep those of a run in the table, within the connection's transaction; what is there already stays."""
    rows = [
        (
            backtest.id, trial.strategy, trial.parameters_hash, Json(trial.parameters), len(trial.signals),
            len(trial.daily), trial.sharpe(),
        )
        for trial in backtest.trials
    ]  # fmt: skip
    with connection.cursor() as cursor:
        execute_values(cursor, _ADD, rows)


class TrialFile:
    """Lines of JSON, in the order in which they came."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def before(self, own: Sets) -> int:
        """As `TrialLog.before`."""
        return len({(row["strategy"], row["parameters_hash"]) for row in self._rows()} - own)

    def add(self, backtest: Backtest) -> None:
        """As `TrialLog.add`."""
        there = {(row["run"], row["strategy"], row["parameters_hash"]) for row in self._rows()}
        lines = [
            canonical(_row(backtest, trial)) + "\n"
            for trial in backtest.trials
            if (backtest.id, trial.strategy, trial.parameters_hash) not in there
        ]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def _rows(self) -> Iterable[dict[str, str]]:
        if not self._file.exists():
            return []
        return [json.loads(line) for line in self._file.read_text("utf-8").splitlines()]


def _row(backtest: Backtest, trial: Trial) -> dict[str, object]:
    return {
        "run": backtest.id,
        "strategy": trial.strategy,
        "parameters_hash": trial.parameters_hash,
        "parameters": trial.parameters,
        "signals": len(trial.signals),
        "days": len(trial.daily),
        "sharpe": trial.sharpe(),
    }
