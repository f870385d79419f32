"""Backup, destruction, restore: every table is what it was, whatever went on meanwhile and whoever was killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
from databento_dbn import Schema
from psycopg2.extensions import make_dsn
from pydantic import SecretStr

import signals_support
from backfill_support import CALL, IDS, PUT, bars_of, day, quotes_of, trades_of
from data_ingestion_support import Ingestion
from data_ingestion_support import settings_for as ingestion_settings
from database_support import administer, as_role, settings_for
from dbn import dbn_file
from ots_common.backup import BackupError, BackupSettings, back_up, backups_in, checked
from ots_common.database import Database
from ots_common.migrations import MigrationError
from ots_common.provision import ProvisionSettings, provision
from ots_common.restore import restore
from ots_gateway.audit import problems_of
from ots_signals import ledger
from places import MIGRATIONS

FLAVOURS = ["native", "timescale"]
INSTRUMENT = "INSERT INTO instruments (dataset, raw_symbol, underlying) VALUES ('EQUS.MINI', %s, 'ABC')"
# whoever is killed there is: after so many lines of progress
SAYING = """
import os, signal, sys
from pathlib import Path
from ots_common.{module} import *
from ots_common.provision import ProvisionSettings
said = 0
def say(line):
    global said
    said += 1
    if said == int(os.environ["KILLED_AFTER"]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Pair:
    """The two databases of a platform."""

    settings: ProvisionSettings

    @property
    def admin(self) -> str:
        return self.settings.admin_database_url.get_secret_value()

    @property
    def names(self) -> list[str]:
        return [self.settings.market_database, self.settings.accounts_database]

    @property
    def for_backup(self) -> BackupSettings:
        return BackupSettings(
            admin_database_url=self.settings.admin_database_url,
            market_database=self.settings.market_database,
            accounts_database=self.settings.accounts_database,
        )

    @property
    def owner(self) -> str:
        return as_role(self.admin, "ots", self.settings.market_database)

    @property
    def accounts(self) -> str:
        return as_role(self.admin, "ots_accounts", self.settings.accounts_database)

    @property
    def environment(self) -> dict[str, str]:
        settings = self.settings
        passwords = ("owner", "reader", "snapshots", "signals", "accounts", "grafana", "monitor")
        return {
            **os.environ,
            "ADMIN_DATABASE_URL": self.admin,
            "MARKET_DATABASE": settings.market_database,
            "ACCOUNTS_DATABASE": settings.accounts_database,
            "MIGRATIONS_DIR": str(settings.migrations_dir),
            **{f"DB_PASSWORD_{name.upper()}": f"{name}-password" for name in passwords},
        }

    def destroy(self) -> None:
        administer(self.admin, *(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in self.names))

    def contents(self) -> dict[str, tuple[int, str]]:
        """Of every table: how many rows, and a hash of all of them in their own order. By no code of the backup's."""
        found = {}
        for name in self.names:
            with closing(psycopg2.connect(make_dsn(self.admin, dbname=name))) as connection:
                cursor = connection.cursor()
                cursor.execute("""
                    SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
                    JOIN pg_class c ON c.oid = format('%I.%I', table_schema, table_name)::regclass
                    WHERE table_type = 'BASE TABLE' AND NOT relispartition AND table_schema IN ('public', 'audit')""")
                for (table,) in cursor.fetchall():
                    cursor.execute(f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
                    found[table] = cursor.fetchone()
        return found

    def databases(self) -> list[str]:
        """All that the server has of this pair's names, leftovers too."""
        with closing(psycopg2.connect(self.admin)) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s OR datname LIKE %s ORDER BY 1",
                [f"{name}%" for name in self.names],
            )
            return [name for (name,) in cursor.fetchall()]


def server_of(flavour: str, native: str) -> str:
    if flavour == "native":
        return native
    if not (url := os.environ.get("OTS_TEST_TIMESCALE_URL", "")):
        pytest.skip("no server with TimescaleDB (set OTS_TEST_TIMESCALE_URL)")
    return url


@pytest.fixture(scope="module", params=FLAVOURS)
def pair(request, postgres_url, redis_server, tmp_path_factory) -> Iterator[Pair]:
    """Provisioned and filled as the platform does it, and by hand where that takes longer."""
    filled = Pair(settings_for(server_of(request.param, postgres_url), uuid.uuid4().hex[:8]))
    provision(filled.settings)
    try:
        fill(filled, redis_server, tmp_path_factory.mktemp("spool"))
        yield filled
    finally:
        filled.destroy()


@pytest.fixture(scope="module")
def backup(pair, tmp_path_factory) -> Path:
    return back_up(pair.for_backup, tmp_path_factory.mktemp("backups"), say=lambda line: None)


def fill(pair: Pair, redis_server, spool: Path) -> None:
    service = Ingestion(ingestion_settings(pair, redis_server, spool))
    with service.working():
        service.imported(dbn_file(Schema.TRADES, trades_of(0)[::4], symbols=IDS, day=day(0)))
        service.imported(dbn_file(Schema.OHLCV_1M, bars_of(1), symbols=IDS, day=day(1)))
        options = {CALL: 7, PUT: 8}
        service.imported(dbn_file(Schema.CBBO_1M, quotes_of(0), symbols=options, day=day(0), dataset="OPRA.PILLAR"))
    statements = [
        # text that would break a format that is not careful
        r"""INSERT INTO gaps (dataset, schema, symbol, starts_ns, ends_ns, evidence, detail)
            SELECT 'EQUS.MINI', 'trades', CASE n % 3 WHEN 0 THEN NULL ELSE '' END, n, n + 1, 'mute',
                   E'tab\t newline\n return\r backslash\\ \\N \\. naïve €' || n FROM generate_series(1, 50) n""",
        """INSERT INTO backfills (backfill_id, fingerprint, origin, requested_by, wanted, starts_ns, ends_ns,
                                  estimated_usd, estimated_records, estimated_bytes, max_cost_usd, gap_id)
           SELECT gen_random_uuid(), 'f' || gap_id, 'request', 'somebody', '{"a": [1, "b\\n"]}', 1, 2, 1.0 / 3, 1, 1,
                  1e300, gap_id FROM gaps LIMIT 9""",
        """INSERT INTO backfill_parts (backfill_id, rank, dataset, schema, stype_in, symbols, starts_ns, ends_ns,
                                       estimated_records)
           SELECT backfill_id, 1, 'EQUS.MINI', 'trades', 'raw_symbol', '{A,"b c",NULL}', 1, 2, 3 FROM backfills""",
        r"""INSERT INTO dead_letters (dataset, schema, reason, origin, records, number, whole, digest)
            SELECT 'EQUS.MINI', 'trades', 'unknown_instrument', 'import', '\x00ff5c4e0a09'::bytea, 1, true,
                   sha256(n::text::bytea) FROM generate_series(1, 5) n""",
        """WITH curve AS (INSERT INTO rate_curves (curve_date, source, known_at, stated_by)
                          VALUES ('2024-03-01', 'treasury', '2024-03-01 21:00Z', 'somebody') RETURNING curve_id)
           INSERT INTO rate_points SELECT curve_id, 30, 0.1 + 0.2, 'annual' FROM curve""",
        "UPDATE time_tables SET retain = interval '40000 days' WHERE table_name = 'trades'",
    ]
    with closing(psycopg2.connect(pair.owner)) as connection, connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    # a chain, whose rows are refused in any other order
    decided = [signals_support.signal(1), signals_support.abstention(2), signals_support.signal(3)]
    with closing(psycopg2.connect(pair.owner)) as connection, connection:
        ledger.append(connection, [(one, 1) for one in [*decided, signals_support.outcome(decided[0])]], lambda: 2)
    with closing(psycopg2.connect(pair.accounts)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO users (username, password_hash, role) VALUES ('somebody', 'argon2id', 'trader')")
        cursor.execute("""
            INSERT INTO api_keys (user_id, name, prefix, key_hash, role, scopes, expires_at)
            SELECT user_id, 'laptop', 'ots_ab', sha256('x'), 'viewer', '{market,account}', 'infinity' FROM users""")
        for number in range(20):
            audit(cursor, f"request-{number}")


def audit(cursor, request_id: str) -> None:
    cursor.execute(
        "SELECT audit.append(%s, NULL, 'somebody', 'trader', NULL, '127.0.0.1', 'POST', '/x', 200, 'write', NULL)",
        (request_id,),
    )


def test_what_was_destroyed_is_as_it_was(pair, tmp_path):
    """Rows are written, and a partition is to be dropped, after the snapshots and before the tables are copied."""
    before = pair.contents()
    filled = {table for table, (rows, _) in before.items() if rows}
    assert filled >= {
        "public.trades", "public.quotes", "public.bars_1m", "public.instruments", "public.quote_latest", "public.runs",
        "public.stored_changes", "public.gaps", "public.backfill_parts", "public.kept_chunks", "audit.entries",
        "public.users", "public.dead_letters", "public.instrument_revisions", "public.rate_points",
        "public.signal_ledger", "public.signal_resolutions",
    }  # fmt: skip
    said = []

    def go_on(line: str) -> None:
        said.append(line)
        if not line.endswith("rows"):
            return
        with closing(psycopg2.connect(pair.owner)) as connection, connection, connection.cursor() as cursor:
            # both or none: a copy of one moment each would have them apart
            cursor.execute(INSTRUMENT, (f"M{len(said)}",))
            cursor.execute("UPDATE gaps SET detail = detail || '.'")
        with closing(psycopg2.connect(pair.accounts)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("UPDATE users SET role = 'viewer'")
            audit(cursor, f"meanwhile-{len(said)}")

    backup = back_up(pair.for_backup, tmp_path, say=go_on)
    assert len(said) > 20
    assert pair.contents() != before
    pair.destroy()
    assert pair.databases() == []
    restore(pair.settings, backup, say=lambda line: None)
    assert pair.databases() == sorted(pair.names)
    assert pair.contents() == before
    assert (problems_of(Database(pair.accounts, application="tests"))[0]) == []


def test_a_restored_database_goes_on(pair, backup):
    """Sequences, triggers, partitions, rights: as migrations and provisioning make them, and behind the rows."""
    pair.destroy()
    restore(pair.settings, backup, say=lambda line: None)
    with closing(psycopg2.connect(pair.owner)) as connection, connection.cursor() as cursor:
        cursor.execute("""
            INSERT INTO gaps (dataset, schema, starts_ns, ends_ns, evidence, detail)
            VALUES ('EQUS.MINI', 'trades', 1000, 1001, 'mute', '') RETURNING gap_id > (SELECT max(gap_id) FROM gaps)""")
        assert cursor.fetchone() == (True,)
        revisions = "SELECT count(*) FROM instrument_revisions"
        cursor.execute(revisions)
        revised = cursor.fetchone()[0]
        cursor.execute(INSTRUMENT, ("ANEW",))
        cursor.execute(revisions)
        assert cursor.fetchone()[0] == revised + 1
        connection.rollback()
        cursor.execute("SELECT starts::date::text, (SELECT count(*) FROM trades WHERE ts >= starts AND ts < ends) "
                       "FROM list_chunks('trades') ORDER BY 1")  # fmt: skip
        chunks = dict(cursor.fetchall())
    assert chunks["2024-03-04"] == len(trades_of(0)[::4])
    with closing(psycopg2.connect(as_role(pair.admin, "ots_reader", pair.names[0]))) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM trades")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("DELETE FROM trades")
    with closing(psycopg2.connect(pair.accounts)) as connection:
        cursor = connection.cursor()
        audit(cursor, "afterwards")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("DELETE FROM audit.entries")
        connection.rollback()
    connection = psycopg2.connect(make_dsn(pair.admin, dbname=pair.names[1]))
    with closing(connection), pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
        connection.cursor().execute("DELETE FROM audit.entries")


def test_only_its_owner_reads_a_backup_and_any_tool_checks_it(backup):
    files = [path for path in backup.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    folders = [backup, backup / "market", backup / "accounts"]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    subprocess.run(["sha256sum", "--check", "--quiet", "manifest.json.sha256"], cwd=backup, check=True)
    manifest = checked(backup)
    subprocess.run(
        ["sha256sum", "--check", "--quiet"],
        input="".join(f"{t.sha256}  {t.file}\n" for d in manifest.databases.values() for t in d.tables),
        cwd=backup, text=True, check=True,
    )  # fmt: skip
    assert [m.name for m in manifest.databases["market"].migrations] == [
        path.name for path in sorted((MIGRATIONS / "market").glob("*.sql"))
    ]
    trades = next(t for t in manifest.databases["market"].tables if t.name == "trades")
    text = subprocess.run(["zcat", backup / trades.file], capture_output=True, check=True).stdout
    assert text.count(b"\n") == trades.rows > 500


def test_a_byte_that_changed_is_found_before_anything_is_touched(pair, backup, tmp_path):
    before = pair.contents()
    for path in [each for each in backup.rglob("*") if each.is_file()]:
        name = path.relative_to(backup)
        harmed = tmp_path / "harmed"
        for harm in ("flipped", "cut", "gone"):
            shutil.copytree(backup, harmed)
            whole = path.read_bytes()
            middle = len(whole) // 2
            if harm == "flipped":
                (harmed / name).write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
            elif harm == "cut":
                (harmed / name).write_bytes(whole[:-1] if name.suffix != ".sha256" else b"")
            else:
                (harmed / name).unlink()
            with pytest.raises(BackupError, match=path.name.removesuffix(".sha256")):
                checked(harmed)
            shutil.rmtree(harmed)
    shutil.copytree(backup, harmed)
    (harmed / "manifest.json").unlink()
    with pytest.raises(BackupError, match="no backup"):
        restore(pair.settings, harmed, replace=True)
    assert pair.contents() == before


def test_what_does_not_become_what_it_was_is_not_put_in_place(pair, tmp_path):
    """Files as they were written, that say something else than the rows that were counted."""
    backup = back_up(pair.for_backup, tmp_path, say=lambda line: None)
    manifest = checked(backup)
    gaps = next(t for t in manifest.databases["market"].tables if t.name == "gaps")
    text = (backup / "manifest.json").read_text().replace(f'"{gaps.content}"', '"1"')
    (backup / "manifest.json").write_text(text)
    rewrite_checksum(backup)
    before = pair.contents()
    with pytest.raises(BackupError, match="gaps has not become what it was"):
        restore(pair.settings, backup, replace=True, say=lambda line: None)
    assert pair.contents() == before
    assert pair.databases() == sorted(pair.names)


def rewrite_checksum(backup: Path) -> None:
    line = subprocess.run(["sha256sum", "manifest.json"], cwd=backup, capture_output=True, check=True).stdout
    (backup / "manifest.json.sha256").write_bytes(line)


def test_what_is_there_is_replaced_only_when_told(pair, backup):
    before = pair.contents()
    with pytest.raises(BackupError, match=f"{pair.names[0]} is not empty .*--replace"):
        restore(pair.settings, backup)
    assert pair.contents() == before
    with closing(psycopg2.connect(pair.owner)) as bystander:
        # a service that was left running is cut off
        bystander.cursor().execute("DELETE FROM dead_letters")
        bystander.commit()
        bystander.cursor().execute("SELECT FROM gaps")
        restore(pair.settings, backup, replace=True, say=lambda line: None)
        with pytest.raises(psycopg2.Error):
            bystander.cursor().execute("SELECT")
    assert pair.contents()["public.dead_letters"][0] == 5
    assert pair.databases() == sorted(pair.names)


def test_a_fresh_database_counts_as_empty(pair, backup):
    before = pair.contents()
    pair.destroy()
    provision(pair.settings)
    restore(pair.settings, backup, say=lambda line: None)
    # of the filled one only what this module's tests wrote after the backup is gone
    assert pair.contents().keys() == before.keys()
    assert pair.contents()["public.trades"] == before["public.trades"]


def test_from_one_flavour_and_server_into_the_other(pair, backup, postgres_url):
    """Native partitions become hypertables and hypertables partitions; PostgreSQL 17 and 18 read each other."""
    servers = {server_of(flavour, postgres_url) for flavour in FLAVOURS}
    (other,) = servers - {pair.admin}
    moved = Pair(pair.settings.model_copy(update={"admin_database_url": SecretStr(other)}))
    try:
        restore(moved.settings, backup, say=lambda line: None)
        before, after = pair.contents(), moved.contents()
        for contents in (before, after):
            # names the flavour, and which tables
            del contents["public.time_tables"]
        assert after["public.trades"] == before["public.trades"]
        assert after["public.bars_1m"] == before["public.bars_1m"]
        assert after.keys() == before.keys()
    finally:
        moved.destroy()


def test_real_and_invented_markets_stay_apart(pair, backup):
    other = pair.settings.model_copy(update={"market_database": "ots_other"})
    with pytest.raises(BackupError, match=f"of the database {pair.names[0]}, this platform's is ots_other"):
        restore(other, backup)


def test_an_older_backup_is_brought_up_to_date_and_a_newer_one_refused(postgres_url, tmp_path):
    older = tmp_path / "migrations"
    for kind, number in (("market", 8), ("accounts", 2)):
        (older / kind).mkdir(parents=True)
        for path in sorted((MIGRATIONS / kind).glob("*.sql"))[:number]:
            shutil.copy(path, older / kind)
    pair = Pair(settings_for(postgres_url, uuid.uuid4().hex[:8]).model_copy(update={"migrations_dir": older}))
    current = pair.settings.model_copy(update={"migrations_dir": MIGRATIONS})
    try:
        provision(pair.settings)
        administer(pair.owner, INSTRUMENT % "'OLD'")
        backup = back_up(pair.for_backup, tmp_path / "backups", say=lambda line: None)
        pair.destroy()
        lines: list[str] = []
        restore(current, backup, say=lines.append)
        newer = sorted(path.name for path in (MIGRATIONS / "market").glob("*.sql"))[8:]
        assert [name for name in newer if any(name in line for line in lines)] == newer
        assert pair.contents()["public.instruments"][0] == 1
        assert pair.contents()["public.applied_migrations"][0] == len(list((MIGRATIONS / "accounts").glob("*.sql")))
        newest = back_up(pair.for_backup, tmp_path / "newest", say=lambda line: None)
        with pytest.raises(BackupError, match="this checkout is older than the backup"):
            restore(pair.settings, newest, replace=True)
        edited = older / "market" / "0001.time-tables.sql"
        edited.write_text(edited.read_text() + "-- edited\n")
        with pytest.raises((BackupError, MigrationError), match="0001"):
            restore(pair.settings, backup, replace=True)
    finally:
        pair.destroy()


def test_a_killed_backup_leaves_nothing_that_passes_for_one(pair, tmp_path):
    script = SAYING.format(module="backup") + "back_up(BackupSettings(), Path(sys.argv[1]), say=say)"
    assert killed(pair, script, 12, tmp_path) == -signal.SIGKILL
    assert [path.name[:8] for path in tmp_path.iterdir() if path.is_dir()] == [".making-"]
    assert backups_in(tmp_path) == []
    for path in (tmp_path, *tmp_path.glob(".making-*")):
        with pytest.raises(BackupError, match="no backup"):
            checked(path)
    whole = back_up(pair.for_backup, tmp_path, say=lambda line: None)
    checked(whole)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [whole]


def test_a_failed_backup_leaves_nothing(pair, tmp_path):
    def fail(line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        back_up(pair.for_backup, tmp_path, say=fail)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_killed_restore_leaves_everything_as_it_was(pair, backup):
    before = pair.contents()
    script = SAYING.format(module="restore") + "restore(ProvisionSettings(), Path(sys.argv[1]), replace=True, say=say)"
    assert killed(pair, script, 15, backup) == -signal.SIGKILL
    assert pair.contents() == before
    restore(pair.settings, backup, replace=True, say=lambda line: None)
    assert pair.databases() == sorted(pair.names)


def killed(pair: Pair, script: str, after: int, folder: Path) -> int:
    environment = {**pair.environment, "KILLED_AFTER": str(after)}
    return subprocess.run([sys.executable, "-c", script, folder], env=environment, check=False).returncode


def test_as_commands(pair, tmp_path):
    def run(module: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"ots_common.{module}", *map(str, arguments)],
            env={**pair.environment, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    for number in range(3):
        (tmp_path / f"backup-2024010{number}T000000Z").mkdir()
        (tmp_path / f"backup-2024010{number}T000000Z" / "manifest.json").touch()
    (tmp_path / "mine").mkdir()
    made = run("backup", tmp_path, "--keep", 2)
    assert made.returncode == 0, made.stderr
    kept = backups_in(tmp_path)
    assert [path.name for path in kept[:1]] == ["backup-20240102T000000Z"]
    assert len(kept) == 2
    assert (tmp_path / "mine").exists()
    whole = run("restore", kept[-1], "--check")
    assert (whole.returncode, "whole" in whole.stdout) == (0, True)
    assert run("restore", tmp_path, "--check").stderr.startswith(f"restore: {tmp_path} is no backup")
    refused = run("restore", kept[-1])
    assert (refused.returncode, len(refused.stderr.splitlines()), "--replace" in refused.stderr) == (1, 1, True)
    assert run("restore", kept[-1], "--replace").returncode == 0
    for bad in (["--keep", 0], ["--keep", -1]):
        assert run("backup", tmp_path, *bad).returncode == 1
    away = run("backup", tmp_path, ADMIN_DATABASE_URL="postgresql://nobody@127.0.0.1:1/postgres")
    assert (away.returncode, "backup: " in away.stderr, "Traceback" in away.stderr) == (1, True, False)
    missing = subprocess.run(
        [sys.executable, "-m", "ots_common.backup", tmp_path], env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert missing.stderr == "backup: set ADMIN_DATABASE_URL\n"
