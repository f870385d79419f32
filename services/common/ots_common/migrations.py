"""Plain SQL migrations: numbered files, each applied once, in order, in one transaction with the row that says so.

A folder holds ``NNNN.name.sql`` files. An advisory lock lets one process at a time migrate; a process killed in the
middle leaves nothing behind, because PostgreSQL rolls back both the migration and its row; a checksum finds edited
history.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from psycopg2 import sql

from ots_common.database import Connection, connect

LOCK = 0x4F5453  # "OTS"
_NAME = re.compile(r"^\d{4}\.[a-z0-9-]+\.sql$")


class MigrationError(Exception):
    """The folder and what was applied do not belong together."""


def migrate(dsn: str, folder: Path, *, role: str, last: str | None = None) -> list[str]:
    """Apply what is missing of ``folder`` as ``role``, who will own it, up to and with ``last``; the names applied now.

    Raises :class:`MigrationError`, psycopg2.Error.
    """
    files = migration_files(folder)
    connection = connect(dsn, application="migrate")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))  # held until the connection closes
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS applied_migrations (name text PRIMARY KEY, sha256 text NOT NULL,"
                " applied_at timestamptz NOT NULL DEFAULT now())"
            )
            cursor.execute("SELECT name, sha256 FROM applied_migrations")
            applied = dict(cursor.fetchall())
        _check_history(files, applied)
        connection.autocommit = False
        pending = [path for path in files if path.name not in applied and (last is None or path.name <= last)]
        for path in pending:
            _apply(connection, path)
        return [path.name for path in pending]
    finally:
        connection.close()


def migration_files(folder: Path) -> list[Path]:
    """The migrations of ``folder`` in order. Raises :class:`MigrationError` when there are none, or a name is wrong."""
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise MigrationError(f"no migrations in {folder}")
    if wrong := [path.name for path in files if not _NAME.match(path.name)]:
        raise MigrationError(f"not named NNNN.name.sql: {', '.join(wrong)}")
    return files


def _check_history(files: list[Path], applied: dict[str, str]) -> None:
    known = {path.name: path for path in files}
    for name, checksum in applied.items():
        if name not in known:
            raise MigrationError(f"{name} was applied, but is not here: this checkout is older than its database")
        if sha256_of(known[name]) != checksum:
            raise MigrationError(f"{name} was edited after it was applied: undo that and add a new migration")
    if applied:
        last = max(applied)
        if late := [name for name in known if name < last and name not in applied]:
            raise MigrationError(f"{', '.join(late)} would run after {last}: give it a higher number")


def _apply(connection: Connection, path: Path) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute(path.read_text())
        cursor.execute("INSERT INTO applied_migrations (name, sha256) VALUES (%s, %s)", (path.name, sha256_of(path)))


def sha256_of(path: Path) -> str:
    """A migration's checksum."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
