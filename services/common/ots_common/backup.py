"""``python -m ots_common.backup FOLDER``: one consistent copy of both databases, while everything goes on.

A backup is a folder: ``manifest.json`` (when, of what, which migrations, and of each table its rows, a hash of its
content and its file's SHA-256), the manifest's own checksum, and a compressed file of COPY text for each table. The
schema is not in it: the migrations are, by name and checksum, and provisioning makes roles and grants. So what was
copied from native partitions goes back into hypertables, and from one version of PostgreSQL into another, where a dump
by ``pg_dump`` would not (docs/adr/0013).

What is under way when it is killed lies in a folder ``.making-...`` without a manifest, which the next run deletes.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from typing import Literal

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic_settings import BaseSettings

from ots_common import __version__
from ots_common.database import Connection, connect
from ots_common.migrations import LOCK
from ots_common.provision import with_database

MANIFEST = "manifest.json"
CHECKSUM = "manifest.json.sha256"
TIME_TABLES = "time_tables"
_NAME = re.compile(r"^backup-\d{8}T\d{6}Z$")
_COMPRESSION = 4  # of 9: twice the speed of 6 for a twentieth more bytes
_ATTEMPTS = 5
_TEXT_OF_VALUES = (
    "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex';"
    # a table is read from its beginning: some take their rows back in the order of their making only
    "SET synchronize_seqscans = off;"
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '60s'"
)


class BackupError(Exception):
    """There is no backup, or it is not what it should be; the text says why."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Migration(_Model):
    """One that had been applied."""

    name: str
    sha256: str


class TableCopy(_Model):
    """``content``: see :func:`content_of`; ``openings``: the first and last moment of each chunk of a time table."""

    schema_name: str
    name: str
    columns: list[str]
    rows: int
    content: str
    file: str
    bytes: int
    sha256: str
    openings: list[str] = []

    @property
    def identifier(self) -> sql.Identifier:
        """For SQL."""
        return sql.Identifier(self.schema_name, self.name)


class SequenceState(_Model):
    """As ``setval`` takes it."""

    schema_name: str
    name: str
    last_value: int
    is_called: bool


class DatabaseCopy(_Model):
    """One of the two databases."""

    name: str
    migrations: list[Migration]
    tables: list[TableCopy]
    sequences: list[SequenceState]


class Manifest(_Model):
    """What a backup says of itself."""

    format: Literal[1] = 1
    taken_at: datetime
    version: str
    server: str
    databases: dict[str, DatabaseCopy]

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for database in self.databases.values() for table in database.tables)


class BackupSettings(BaseSettings):
    """As provisioning is given them."""

    admin_database_url: SecretStr
    market_database: str = "ots"
    accounts_database: str = "ots_accounts"

    def names(self) -> dict[str, str]:
        """The two databases by what they hold."""
        return {"market": self.market_database, "accounts": self.accounts_database}


def back_up(
    settings: BackupSettings, folder: Path, *, keep: int | None = None, say: Callable[[str], None] = print
) -> Path:
    """Copy both databases as they stand to a new folder in ``folder``, mode 700, which appears there only when whole.

    The two snapshots are taken one after the other, before anything is copied: the databases do not refer to each
    other. ``keep``: delete the oldest backups in ``folder`` beyond so many. Raises BackupError, OSError,
    psycopg2.Error.
    """
    if keep is not None and keep < 1:
        raise BackupError("keep at least one backup")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder):
        for left in folder.glob(".making-*"):
            shutil.rmtree(left)
        taken_at = datetime.now(UTC)
        target = folder / f"backup-{taken_at:%Y%m%dT%H%M%SZ}"
        if target.exists():
            raise BackupError(f"{target} is there already: two backups in one second")
        making = folder / f".making-{target.name}"
        making.mkdir(mode=0o700)
        try:
            manifest = _copy_all(settings, making, taken_at, say)
            _write_manifest(manifest, making)
            making.rename(target)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        _sync_folder(folder)
        say(f"{target}: {manifest.rows} rows of {sum(len(d.tables) for d in manifest.databases.values())} tables")
        if keep is not None:
            for old in backups_in(folder)[:-keep]:
                shutil.rmtree(old)
                say(f"deleted {old}, older than the last {keep}")
    return target


def backups_in(folder: Path) -> list[Path]:
    """The whole backups there, oldest first."""
    return sorted(path for path in folder.glob("backup-*") if _NAME.match(path.name) and (path / MANIFEST).is_file())


def checked(backup: Path) -> Manifest:
    """The manifest of a backup of which every byte is as it was written. Raises BackupError that says what is not."""
    if not (backup / MANIFEST).is_file():
        others = ", ".join(str(path) for path in backups_in(backup)) if backup.is_dir() else ""
        raise BackupError(f"{backup} is no backup: it has no {MANIFEST}." + (f" In it are {others}" if others else ""))
    text = (backup / MANIFEST).read_bytes()
    try:
        expected = (backup / CHECKSUM).read_text(encoding="ascii").split()[0]
    except (OSError, ValueError, IndexError):
        raise BackupError(f"{backup / CHECKSUM} cannot be read") from None
    if hashlib.sha256(text).hexdigest() != expected:
        raise BackupError(f"{backup / MANIFEST} is not as it was written: its checksum differs")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BackupError(f"{backup / MANIFEST} is of another version of AI-OTS: {error.errors()[0]['msg']}") from None
    for database in manifest.databases.values():
        for table in database.tables:
            _check_file(backup / table.file, table)
    return manifest


def _check_file(path: Path, table: TableCopy) -> None:
    try:
        with path.open("rb") as file:
            size, digest = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from None
    if size != table.bytes:
        raise BackupError(f"{path} has {size} bytes, {table.bytes} were written")
    if digest != table.sha256:
        raise BackupError(f"{path} is not as it was written: its checksum differs")


def content_of(cursor: psycopg2.extensions.cursor, table: sql.Identifier, columns: list[str]) -> tuple[int, str]:
    """Rows, and the sum over them of the first 64 bits of each one's SHA-256: whatever their order, the same.

    The connection is one of :func:`connect_for_copying`: the hash is of the values as text.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    cursor.execute(
        sql.SQL(
            "SELECT count(*), coalesce(sum(('x' || left(encode(sha256(convert_to(ROW({})::text, 'UTF8')), 'hex'), 16))"
            "::bit(64)::bigint), 0)::text FROM {}"
        ).format(names, table)
    )
    rows, content = cursor.fetchone() or (0, "0")
    return rows, content


def connect_for_copying(dsn: str) -> Connection:
    """A connection, autocommit, whose values have one text each whatever the server's settings are."""
    connection = connect(dsn, application="backup")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(_TEXT_OF_VALUES)
    return connection


def tables_of(cursor: psycopg2.extensions.cursor) -> list[tuple[str, str, list[str]]]:
    """Schema, name and columns of every table of ours: no partitions, nothing of an extension, no generated columns.

    Of the catalogue of time tables not the flavour, which is the server's.
    """
    cursor.execute("""
        SELECT nspname, relname, array_agg(attname::text ORDER BY attnum)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid
        WHERE relkind IN ('r', 'p') AND NOT relispartition AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
          AND nspname !~ '^(pg_|_?timescaledb|information_schema$)'
          AND NOT EXISTS (
              SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
        GROUP BY 1, 2 ORDER BY 1, 2""")
    return [
        (schema, name, [column for column in columns if (name, column) != (TIME_TABLES, "flavour")])
        for schema, name, columns in cursor.fetchall()
    ]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another backup to {folder} is under way") from None
        yield
    finally:
        os.close(descriptor)


def _copy_all(settings: BackupSettings, making: Path, taken_at: datetime, say: Callable[[str], None]) -> Manifest:
    admin = settings.admin_database_url.get_secret_value()
    with ExitStack() as stack:
        snapshots = {
            kind: (name, with_database(admin, name), stack.enter_context(_snapshot(with_database(admin, name))))
            for kind, name in settings.names().items()
        }
        with closing(connect_for_copying(admin)) as connection:
            server = connection.info.parameter_status("server_version") or ""
        copies = {}
        for kind, (name, dsn, snapshot) in snapshots.items():
            (making / kind).mkdir(mode=0o700)
            with closing(connect_for_copying(dsn)) as connection:
                copies[kind] = _copy_database(connection, name, snapshot, making / kind, say)
            _sync_folder(making / kind)
    return Manifest(taken_at=taken_at, version=__version__, server=server, databases=copies)


@contextmanager
def _snapshot(dsn: str) -> Iterator[str]:
    """The name of a snapshot of the whole database, valid while the context lasts; no table of it goes away meanwhile.

    Migrations wait until then, and maintenance postpones what it would drop.
    """
    with closing(connect_for_copying(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(%s)", (LOCK,))
        for _ in range(_ATTEMPTS):
            tables = tables_of(cursor)
            if not tables:
                raise BackupError("the database has no tables: nothing has been started here yet")
            names = [sql.Identifier(schema, name) for schema, name, _ in tables]
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # before the first query, which takes the snapshot: of a table dropped in between nothing could be read
            cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(names)))
            if tables_of(cursor) == tables:
                break
            cursor.execute("ROLLBACK")
        else:
            raise BackupError("tables are being made and dropped all the time")
        cursor.execute("SELECT pg_export_snapshot()")
        yield str((cursor.fetchone() or ("",))[0])


def _copy_database(
    connection: Connection, name: str, snapshot: str, folder: Path, say: Callable[[str], None]
) -> DatabaseCopy:
    with connection.cursor() as cursor:
        with _reading(cursor, snapshot):
            cursor.execute("SELECT name, sha256 FROM applied_migrations ORDER BY name")
            migrations = [Migration(name=migration, sha256=digest) for migration, digest in cursor.fetchall()]
            tables = tables_of(cursor)
        copies = []
        for schema, table, columns in tables:
            # a transaction for each: of the locks on a thousand partitions' indexes only one table's are held at a time
            with _reading(cursor, snapshot):
                copies.append(_copy_table(cursor, schema, table, columns, folder))
            say(f"{name}: {schema}.{table}, {copies[-1].rows} rows")
        # later than the snapshot, and never rolled back: at least what its rows have used
        cursor.execute("""
            SELECT schemaname, sequencename, start_value, last_value FROM pg_sequences
            WHERE schemaname !~ '^(pg_|_?timescaledb)' ORDER BY 1, 2""")
        sequences = [
            SequenceState(
                schema_name=schema,
                name=sequence,
                last_value=start if last is None else last,
                is_called=last is not None,
            )
            for schema, sequence, start, last in cursor.fetchall()
        ]
    return DatabaseCopy(name=name, migrations=migrations, tables=copies, sequences=sequences)


@contextmanager
def _reading(cursor: psycopg2.extensions.cursor, snapshot: str) -> Iterator[None]:
    cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot,))
    yield
    cursor.execute("COMMIT")


def _copy_table(
    cursor: psycopg2.extensions.cursor, schema: str, name: str, columns: list[str], folder: Path
) -> TableCopy:
    table = sql.Identifier(schema, name)
    path = folder / f"{schema}.{name}.copy.gz"
    # a query: COPY of a table leaves out what is in its partitions
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(names, table).as_string(cursor)
    with _private(path) as raw:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=raw, mtime=0) as compressed:
            cursor.copy_expert(query, compressed, 1 << 16)
        raw.flush()
        os.fsync(raw.fileno())
        raw.seek(0)
        digest, size = hashlib.file_digest(raw, "sha256").hexdigest(), os.fstat(raw.fileno()).st_size
    copied = cursor.rowcount
    rows, content = content_of(cursor, table, columns)
    if rows != copied:
        raise BackupError(f"{schema}.{name}: {copied} rows were copied, {rows} counted")
    return TableCopy(
        schema_name=schema,
        name=name,
        columns=columns,
        rows=rows,
        content=content,
        file=f"{folder.name}/{path.name}",
        bytes=size,
        sha256=digest,
        openings=_openings(cursor, name),
    )


def _openings(cursor: psycopg2.extensions.cursor, table: str) -> list[str]:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (TIME_TABLES,))
    if cursor.fetchone() != (True,):
        return []
    # first and last moment: in the other flavour a stretch may begin on another weekday
    cursor.execute(
        "SELECT unnest(ARRAY[starts, ends - interval '1 microsecond'])::text FROM time_tables, list_chunks(table_name)"
        " WHERE table_name = %s ORDER BY 1",
        (table,),
    )
    return [moment for (moment,) in cursor.fetchall()]


@contextmanager
def _private(path: Path) -> Iterator[BufferedRandom]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        yield file


def _write_manifest(manifest: Manifest, folder: Path) -> None:
    text = (manifest.model_dump_json(indent=1) + "\n").encode()
    # `sha256sum -c` reads it
    checksum = f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()
    for name, content in ((CHECKSUM, checksum), (MANIFEST, text)):
        with _private(folder / name) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(arguments: list[str] | None = None) -> int:
    """Back up by the environment's settings; one clear line on failure."""
    parser = argparse.ArgumentParser(prog="python -m ots_common.backup", description="Back up both databases.")
    parser.add_argument("folder", type=Path, help="where backups are kept; each gets a folder of its own in it")
    parser.add_argument("--keep", type=int, help="delete the oldest backups there beyond so many")
    parsed = parser.parse_args(arguments)
    try:
        back_up(BackupSettings(), parsed.folder, keep=parsed.keep, say=lambda line: print(line, flush=True))
    except ValidationError as error:
        names = ", ".join(str(item["loc"][0]).upper() for item in error.errors() if item["loc"])
        print(f"backup: set {names}", file=sys.stderr)
        return 1
    except (BackupError, OSError, psycopg2.Error) as error:
        print(f"backup: {str(error).strip()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
