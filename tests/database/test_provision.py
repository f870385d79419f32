"""Provisioning: whatever it finds, it leaves roles and databases as they must be."""

import os
import signal
import subprocess
import sys
import uuid
from contextlib import closing

import psycopg2
import pytest

from database_support import administer, as_role, settings_for
from ots_common.database import connect
from ots_common.provision import provision
from places import MIGRATIONS

ALL = [
    *(path.name for path in sorted((MIGRATIONS / "accounts").glob("*.sql"))),
    *(path.name for path in sorted((MIGRATIONS / "market").glob("*.sql"))),
]


@pytest.fixture
def settings(postgres_url, accounts_url):
    """Of databases that do not exist yet, on a server that has had its roles for long."""
    settings = settings_for(postgres_url, uuid.uuid4().hex[:8])
    yield settings
    drop = "DROP DATABASE IF EXISTS {} WITH (FORCE)"
    administer(postgres_url, drop.format(settings.market_database), drop.format(settings.accounts_database))


def run_as_command(settings, **changes):
    """``python -m ots_common.provision``, started."""
    secrets = {
        "ADMIN_DATABASE_URL": settings.admin_database_url,
        "DB_PASSWORD_OWNER": settings.db_password_owner,
        "DB_PASSWORD_READER": settings.db_password_reader,
        "DB_PASSWORD_SNAPSHOTS": settings.db_password_snapshots,
        "DB_PASSWORD_SIGNALS": settings.db_password_signals,
        "DB_PASSWORD_ACCOUNTS": settings.db_password_accounts,
        "DB_PASSWORD_GRAFANA": settings.db_password_grafana,
        "DB_PASSWORD_MONITOR": settings.db_password_monitor,
    }
    environment = {
        **os.environ,
        **{name: secret.get_secret_value() for name, secret in secrets.items()},
        "MARKET_DATABASE": settings.market_database,
        "ACCOUNTS_DATABASE": settings.accounts_database,
        "MIGRATIONS_DIR": str(settings.migrations_dir),
        **changes,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ots_common.provision"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def applied_by(lines):
    return sorted(line.split()[1] for line in lines if line.startswith("applied"))


def can_connect(settings, role, database):
    try:
        connect(as_role(settings.admin_database_url.get_secret_value(), role, database), application="tests").close()
    except psycopg2.OperationalError as error:
        if "permission denied" not in str(error):
            raise
        return False
    return True


def assert_whole(settings):
    """Everybody is where they belong, and nowhere else."""
    market, accounts = settings.market_database, settings.accounts_database
    reached = {
        (r, d)
        for r in ("ots", "ots_reader", "ots_snapshots", "ots_signals", "ots_accounts", "ots_grafana", "ots_monitor")
        for d in (market, accounts)
        if can_connect(settings, r, d)
    }
    assert reached == {
        ("ots", market), ("ots_reader", market), ("ots_snapshots", market), ("ots_signals", market),
        ("ots_accounts", accounts), ("ots_grafana", market), ("ots_monitor", market),
    }  # fmt: skip
    reader = as_role(settings.admin_database_url.get_secret_value(), "ots_reader", market)
    with closing(connect(reader, application="tests")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM runs, trades, bars_1m")
        assert cursor.fetchone() == (0,)


def test_three_at_once_apply_each_migration_once(settings):
    processes = [run_as_command(settings) for _ in range(3)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    lines = [line.removeprefix("provision: ") for out, _ in outputs for line in out.splitlines()]
    assert applied_by(lines) == sorted(ALL)
    assert sorted(line for line in lines if line.startswith("made")) == [
        f"made database {settings.accounts_database}",
        f"made database {settings.market_database}",
    ]
    assert_whole(settings)


def test_one_killed_at_any_moment_is_mended_by_the_next(settings, postgres_url):
    marks = [
        "SELECT 1 FROM pg_database WHERE datname = %(market)s",
        "SELECT 1 FROM pg_stat_activity WHERE datname = %(market)s AND application_name = 'migrate'",
        "SELECT 1 FROM pg_stat_activity WHERE datname = %(accounts)s",
    ]
    names = {"market": settings.market_database, "accounts": settings.accounts_database}
    with closing(connect(postgres_url, application="tests")) as watching, watching.cursor() as cursor:
        watching.autocommit = True
        for mark in marks:
            process = run_as_command(settings)
            cursor.execute(mark, names)
            while not cursor.fetchone() and process.poll() is None:
                cursor.execute(mark, names)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    provision(settings)
    assert provision(settings) == []
    assert_whole(settings)


def test_what_was_left_open_is_closed(settings, postgres_url):
    """A database whose maker was killed before it closed it; a role that somebody made mighty."""
    administer(
        postgres_url,
        f"CREATE DATABASE {settings.market_database} OWNER ots",
        "ALTER ROLE ots_reader SUPERUSER CREATEDB CREATEROLE NOLOGIN",
    )
    assert can_connect(settings, "ots_accounts", settings.market_database)
    assert applied_by(provision(settings)) == sorted(ALL)
    with closing(connect(postgres_url, application="tests")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = 'ots_reader'")
        assert cursor.fetchall() == [(False,)]
    assert_whole(settings)


def test_an_administrator_need_not_be_a_superuser(postgres, settings):
    """As on managed PostgreSQL: may make roles and databases, and no more."""
    admin = f"managed_{uuid.uuid4().hex[:8]}"
    administer(
        postgres.admin_url,
        f"CREATE ROLE {admin} LOGIN CREATEROLE CREATEDB PASSWORD 'managed-password'",
        "GRANT ots, ots_reader, ots_snapshots, ots_signals, ots_accounts, ots_audit, ots_grafana, ots_monitor"
        f" TO {admin} WITH ADMIN OPTION",
    )
    url = f"postgresql://{admin}:managed-password@127.0.0.1:{postgres.port}/postgres"
    managed = type(settings).model_validate({**settings.model_dump(), "admin_database_url": url})
    try:
        assert applied_by(provision(managed)) == sorted(ALL)
        assert provision(managed) == []
        assert_whole(settings)
    finally:
        drop = "DROP DATABASE IF EXISTS {} WITH (FORCE)"
        administer(
            postgres.admin_url,
            drop.format(settings.market_database),
            drop.format(settings.accounts_database),
            f"DROP OWNED BY {admin}",
            f"DROP ROLE {admin}",
        )


def test_what_is_wrong_is_said_in_one_line(settings, tmp_path):
    process = run_as_command(settings, MIGRATIONS_DIR=str(tmp_path))
    output, error = process.communicate()
    assert process.returncode == 1
    assert output == ""
    assert error == f"provision: no migrations in {tmp_path}/market\n"
