"""``python -m ots_common.restore BACKUP``: both databases as they were when :mod:`ots_common.backup` copied them.

Every file is checked before anything is touched. Then both are made under other names, filled, compared with what the
manifest says of every table's content, and brought up to date with newer migrations; only then do they take the place
of those that are there, both in one transaction. Whatever is killed before leaves everything as it was.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from pydantic import ValidationError

from ots_common.backup import (
    TIME_TABLES,
    BackupError,
    DatabaseCopy,
    TableCopy,
    checked,
    connect_for_copying,
    content_of,
    tables_of,
)
from ots_common.database import connect
from ots_common.migrations import MigrationError, migrate, migration_files, sha256_of
from ots_common.provision import ProvisionSettings, provision, with_database

_LOCK = 0x4F545352  # "OTSR"
_LEAVE_S = 30.0
_CATALOGUES = {"applied_migrations", TIME_TABLES}
_SEEDED = re.compile(r"^INSERT INTO (\w+)", re.MULTILINE)


def restore(
    settings: ProvisionSettings, backup: Path, *, replace: bool = False, say: Callable[[str], None] = print
) -> None:
    """Put both databases of ``settings`` into the state of ``backup``.

    ``replace``: also where they hold something, which is deleted. Nobody should be connected; whoever is, is cut off.
    Raises BackupError when the backup is not whole, of other databases or of a newer version, or does not become what
    it was; MigrationError, psycopg2.Error.
    """
    manifest = checked(backup)
    admin = settings.admin_database_url.get_secret_value()
    names = {"market": settings.market_database, "accounts": settings.accounts_database}
    for kind, copy in manifest.databases.items():
        if copy.name != names[kind]:
            raise BackupError(f"the backup is of the database {copy.name}, this platform's is {names[kind]}")
        _refuse_other_history(copy, settings.migrations_dir / kind)
    say(f"{backup}: of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC, {manifest.rows} rows, every file as it was written")
    with closing(connect(admin, application="restore")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
            if cursor.fetchone() != (True,):
                raise BackupError("another restore is under way")
            if not replace:
                for kind, name in names.items():
                    _refuse_occupied(cursor, admin, name, settings.migrations_dir / kind)
            _drop_like(cursor, names.values(), "_restoring_")
            mark = f"_restoring_{uuid.uuid4().hex[:8]}"
            making = settings.model_copy(
                update={"market_database": names["market"] + mark, "accounts_database": names["accounts"] + mark}
            )

            def fill(kind: str, dsn: str, owner: str) -> None:
                copy = manifest.databases[kind]
                _fill(backup, copy, dsn, owner, migrations=settings.migrations_dir / kind, say=say)

            try:
                for line in provision(making, fill=fill):
                    say(line)
                _swap(cursor, {name + mark: name for name in names.values()}, say)
            finally:
                _drop_like(cursor, names.values(), "_restoring_")


def _refuse_other_history(copy: DatabaseCopy, folder: Path) -> None:
    here = {path.name: sha256_of(path) for path in migration_files(folder)}
    for migration in copy.migrations:
        if migration.name not in here:
            raise BackupError(f"{migration.name} is not in {folder}: this checkout is older than the backup")
        if here[migration.name] != migration.sha256:
            raise BackupError(f"{migration.name} is not the one that the backup's database was made with")


def _refuse_occupied(cursor: psycopg2.extensions.cursor, admin: str, name: str, migrations: Path) -> None:
    """What migrations themselves put into tables does not count."""
    cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
    if not cursor.rowcount:
        return
    seeded = {table for path in migration_files(migrations) for table in _SEEDED.findall(path.read_text())}
    with closing(connect_for_copying(with_database(admin, name))) as connection, connection.cursor() as inside:
        filled = []
        for schema, table, _ in tables_of(inside):
            if table in _CATALOGUES | seeded:
                continue
            inside.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, table)))
            if inside.fetchone() == (True,):
                filled.append(table)
    if filled:
        raise BackupError(
            f"the database {name} is not empty ({', '.join(filled[:5])}{', ...' if len(filled) > 5 else ''}); "
            "--replace puts the backup in its place, and what it holds now is lost"
        )


def _fill(
    backup: Path, copy: DatabaseCopy, dsn: str, owner: str, *, migrations: Path, say: Callable[[str], None]
) -> None:
    """Make the schema as it was, put in every row, and compare."""
    migrate(dsn, migrations, role=owner, last=max(migration.name for migration in copy.migrations))
    with closing(connect_for_copying(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
        tables = _in_order_of_references(cursor, copy)
        with _transaction(cursor):
            for table in reversed(tables):
                if table.name != TIME_TABLES:
                    with _without_triggers(cursor, table):
                        cursor.execute(sql.SQL("DELETE FROM {}").format(table.identifier))
        for table in tables:
            with _transaction(cursor), _without_triggers(cursor, table):
                _load(cursor, table, backup / table.file)
            say(f"{copy.name}: {table.schema_name}.{table.name}, {table.rows} rows")
        for table in tables:
            found = content_of(cursor, table.identifier, table.columns)
            if found != (table.rows, table.content):
                raise BackupError(
                    f"{table.name} has not become what it was: {found[0]} rows, {table.rows} were backed up"
                )
        for sequence in copy.sequences:
            identifier = sql.Identifier(sequence.schema_name, sequence.name).as_string(cursor)
            cursor.execute("SELECT setval(%s, %s, %s)", (identifier, sequence.last_value, sequence.is_called))
        # the planner knows nothing of the rows otherwise, until autovacuum has come by
        cursor.execute("ANALYZE")


@contextmanager
def _transaction(cursor: psycopg2.extensions.cursor) -> Iterator[None]:
    cursor.execute("BEGIN")
    yield
    cursor.execute("COMMIT")


@contextmanager
def _without_triggers(cursor: psycopg2.extensions.cursor, table: TableCopy) -> Iterator[None]:
    """What triggers wrote once is in the backup; and the audit log lets nothing be deleted.

    Dropped and made again as they were: hypertables do not let them be disabled.
    """
    cursor.execute(
        """
        SELECT tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid
        JOIN pg_namespace n ON n.oid = pronamespace
        WHERE tgrelid = %s::regclass AND NOT tgisinternal AND nspname !~ '^_?timescaledb'""",
        (table.identifier.as_string(cursor),),
    )
    triggers = cursor.fetchall()
    for name, _ in triggers:
        cursor.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(name), table.identifier))
    yield
    for _, definition in triggers:
        cursor.execute(definition)


def _in_order_of_references(cursor: psycopg2.extensions.cursor, copy: DatabaseCopy) -> list[TableCopy]:
    """The tables of the backup, each after those that its foreign keys name. Raises BackupError for other tables."""
    there = {(schema, name): columns for schema, name, columns in tables_of(cursor)}
    mine = {(table.schema_name, table.name): table for table in copy.tables}
    if there != {key: table.columns for key, table in mine.items()}:
        different = sorted(f"{schema}.{name}" for schema, name in there.keys() ^ mine.keys()) or ["their columns"]
        raise BackupError(f"{copy.name}: the migrations make other tables than were backed up: {', '.join(different)}")
    cursor.execute("""
        SELECT n.nspname, c.relname, m.nspname, r.relname FROM pg_constraint
        JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class r ON r.oid = confrelid JOIN pg_namespace m ON m.oid = r.relnamespace
        WHERE contype = 'f' AND conrelid <> confrelid""")
    before: dict[tuple[str, str], set[tuple[str, str]]] = {key: set() for key in mine}
    for schema, name, referred_schema, referred in cursor.fetchall():
        if (schema, name) in mine:
            before[schema, name].add((referred_schema, referred))
    try:
        return [mine[key] for key in TopologicalSorter(before).static_order()]
    except CycleError as error:
        raise BackupError(f"tables refer to each other in a circle: {error.args[1]}") from None


def _load(cursor: psycopg2.extensions.cursor, table: TableCopy, path: Path) -> None:
    target = table.identifier
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    if table.name == TIME_TABLES:
        # the migrations have put in this server's flavour; how long each keeps what it holds may have been changed
        target = sql.Identifier("backed_up")
        cursor.execute("CREATE TEMP TABLE backed_up (LIKE time_tables) ON COMMIT DROP")
        cursor.execute("ALTER TABLE backed_up ALTER flavour DROP NOT NULL")
    if table.openings:
        cursor.execute("SELECT open_chunks(%s, %s::timestamptz[])", (table.name, table.openings))
    with gzip.open(path) as file:
        cursor.copy_expert(sql.SQL("COPY {} ({}) FROM STDIN").format(target, columns).as_string(cursor), file, 1 << 16)
    if table.name == TIME_TABLES:
        cursor.execute("""
            UPDATE time_tables t SET compress_after = b.compress_after, retain = b.retain
            FROM backed_up b WHERE b.table_name = t.table_name""")


def _swap(cursor: psycopg2.extensions.cursor, new: dict[str, str], say: Callable[[str], None]) -> None:
    """Give the databases of ``new`` their names, all at once, and delete those that had them."""
    mark = f"_replaced_{uuid.uuid4().hex[:8]}"
    cursor.execute("SELECT datname FROM pg_database WHERE datname = ANY (%s)", (list(new.values()),))
    replaced = [name for (name,) in cursor.fetchall()]
    concerned = [*replaced, *new]
    try:
        _cut_off(cursor, concerned)
        with _transaction(cursor):
            for name in replaced:
                cursor.execute(_RENAME.format(sql.Identifier(name), sql.Identifier(name + mark)))
            for made, name in new.items():
                cursor.execute(_RENAME.format(sql.Identifier(made), sql.Identifier(name)))
            for name in new.values():
                cursor.execute(_ALLOW.format(sql.Identifier(name), sql.Literal(True)))
    except BaseException:
        cursor.execute("ROLLBACK")
        for name in replaced:
            cursor.execute(_ALLOW.format(sql.Identifier(name), sql.Literal(True)))
        raise
    _drop_like(cursor, new.values(), "_replaced_")
    say(f"restored {' and '.join(new.values())}")


_RENAME = sql.SQL("ALTER DATABASE {} RENAME TO {}")
_ALLOW = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")


def _cut_off(cursor: psycopg2.extensions.cursor, names: list[str]) -> None:
    """Nobody stays connected, and nobody comes anew: a database in use takes no other name."""
    for name in names:
        cursor.execute(_ALLOW.format(sql.Identifier(name), sql.Literal(False)))
    deadline = time.monotonic() + _LEAVE_S
    while True:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY (%s)",
            (names,),
        )
        if not cursor.rowcount:
            return
        if time.monotonic() > deadline:
            raise BackupError(f"{cursor.rowcount} connections do not leave: stop what uses the databases")
        time.sleep(0.1)


def _drop_like(cursor: psycopg2.extensions.cursor, names: Iterable[str], mark: str) -> None:
    """What a restore left, this one or one that was killed."""
    patterns = [f"^{re.escape(name)}{mark}[0-9a-f]{{8}}$" for name in names]
    cursor.execute("SELECT datname FROM pg_database WHERE datname ~ ANY (%s)", (patterns,))
    for (name,) in cursor.fetchall():
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def main(arguments: list[str] | None = None) -> int:
    """Restore by the environment's settings, which are provisioning's; one clear line on failure."""
    parser = argparse.ArgumentParser(prog="python -m ots_common.restore", description="Restore both databases.")
    parser.add_argument("backup", type=Path, help="a folder that a backup made")
    parser.add_argument("--replace", action="store_true", help="also where there are data now, which are deleted")
    parser.add_argument("--check", action="store_true", help="only say whether every byte is as it was written")
    parsed = parser.parse_args(arguments)
    try:
        if parsed.check:
            manifest = checked(parsed.backup)
            print(f"{parsed.backup}: of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC, {manifest.rows} rows, whole")
        else:
            restore(
                ProvisionSettings(),
                parsed.backup,
                replace=parsed.replace,
                say=lambda line: print(line, flush=True),
            )
    except ValidationError as error:
        names = ", ".join(str(item["loc"][0]).upper() for item in error.errors() if item["loc"])
        print(f"restore: set {names}", file=sys.stderr)
        return 1
    except (BackupError, MigrationError, OSError, EOFError, psycopg2.Error) as error:
        print(f"restore: {str(error).strip()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
