"""``python -m ots_common.provision``: roles, databases and migrations, brought to where they must be, however often.

Runs before the services start, as the database's superuser or as managed PostgreSQL's administrator, who is none.
Least privilege: ``ots`` owns the market's database, ``ots_reader`` may only read it, ``ots_snapshots`` and
``ots_signals`` read it and write tables of results alone, ``ots_accounts`` owns the users in a database of their own.
The audit log beside them belongs to ``ots_audit``, as whom nobody can log in: the gateway may add to it and read it.
``ots_grafana`` reads the market's database for the dashboards, a few connections and seconds at a time;
``ots_monitor`` sees PostgreSQL's own statistics and no row of ours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from ots_common.database import Connection, connect
from ots_common.migrations import MigrationError, migrate

OWNER, READER, ACCOUNTS = "ots", "ots_reader", "ots_accounts"
SNAPSHOTS, SIGNALS = "ots_snapshots", "ots_signals"
GRAFANA, MONITOR = "ots_grafana", "ots_monitor"
AUDIT = "ots_audit"
_WAIT_S = 60
# whoever draws a dashboard neither holds up the platform nor writes
_FOR_DASHBOARDS = (
    "ALTER ROLE {} CONNECTION LIMIT 10",
    "ALTER ROLE {} SET default_transaction_read_only = on",
    "ALTER ROLE {} SET statement_timeout = '10s'",
)


class ProvisionSettings(BaseSettings):
    """``admin_database_url`` may be a Unix socket's; ``market_database`` is ``ots`` or, simulated, ``ots_sim``."""

    admin_database_url: SecretStr
    market_database: str = "ots"
    accounts_database: str = "ots_accounts"
    db_password_owner: SecretStr
    db_password_reader: SecretStr
    db_password_snapshots: SecretStr
    db_password_signals: SecretStr
    db_password_accounts: SecretStr
    db_password_grafana: SecretStr
    db_password_monitor: SecretStr
    migrations_dir: Path


def provision(settings: ProvisionSettings, *, fill: Callable[[str, str, str], None] | None = None) -> list[str]:
    """Make or mend everything; what was changed, in words. Raises psycopg2.Error, MigrationError.

    ``fill``: called for each database before its migrations, with ``market`` or ``accounts``, its DSN and its owner; a
    backup is restored so.
    """
    admin = settings.admin_database_url.get_secret_value()
    passwords = {
        OWNER: settings.db_password_owner,
        READER: settings.db_password_reader,
        SNAPSHOTS: settings.db_password_snapshots,
        SIGNALS: settings.db_password_signals,
        ACCOUNTS: settings.db_password_accounts,
        GRAFANA: settings.db_password_grafana,
        MONITOR: settings.db_password_monitor,
    }
    done: list[str] = []
    connection = _connect_when_up(admin)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            # two provisioners at once: the second waits
            cursor.execute("SELECT pg_advisory_lock(%s)", (0x4F545350,))
        for role, password in passwords.items():
            _ensure_role(connection, role, password.get_secret_value())
        _prepare_watchers(connection)
        for database, owner in ((settings.market_database, OWNER), (settings.accounts_database, ACCOUNTS)):
            if _ensure_database(connection, database, owner):
                done.append(f"made database {database}")
        for database, owner, folder in (
            (settings.market_database, OWNER, "market"),
            (settings.accounts_database, ACCOUNTS, "accounts"),
        ):
            _prepare_database(with_database(admin, database), owner, timescale=folder == "market")
            if fill is not None:
                fill(folder, with_database(admin, database), owner)
            applied = migrate(with_database(admin, database), settings.migrations_dir / folder, role=owner)
            done += [f"applied {name} to {database}" for name in applied]
        _grant_reading(with_database(admin, settings.market_database))
        _give_away_the_audit_log(with_database(admin, settings.accounts_database))
    finally:
        connection.close()
    return done


def _connect_when_up(dsn: str) -> Connection:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return connect(dsn, application="provision")
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _ensure_role(connection: Connection, role: str, password: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper, rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = %s", (role,))
        found = cursor.fetchone()
        verb = "ALTER" if found else "CREATE"
        superuser, mighty = found or (False, False)
        # the administrator of managed PostgreSQL is no superuser, and may not even say NOSUPERUSER of one that is none
        less = ("NOSUPERUSER " if superuser else "") + ("NOCREATEDB NOCREATEROLE" if superuser or mighty else "")
        # as its verifier: a statement may end up in the server's log
        verifier = psycopg2.extensions.encrypt_password(password, role, connection, "scram-sha-256")
        cursor.execute(
            sql.SQL(f"{verb} ROLE {{}} LOGIN {less} PASSWORD {{}}").format(sql.Identifier(role), sql.Literal(verifier))
        )


def _prepare_watchers(connection: Connection) -> None:
    """What the roles that look on may do beyond logging in."""
    with connection.cursor() as cursor:
        for statement in _FOR_DASHBOARDS:
            cursor.execute(sql.SQL(statement).format(sql.Identifier(GRAFANA)))
        cursor.execute("SELECT pg_has_role(%s, 'pg_monitor', 'MEMBER')", (MONITOR,))
        # granted once: the administrator of managed PostgreSQL need not be the one who did
        if cursor.fetchone() == (False,):
            cursor.execute(sql.SQL("GRANT pg_monitor TO {}").format(sql.Identifier(MONITOR)))


def _ensure_database(connection: Connection, database: str, owner: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
        missing = cursor.fetchone() is None
        if missing:
            # the administrator of managed PostgreSQL must be a member of the role it gives things to
            cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
            cursor.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
                    sql.Identifier(database), sql.Identifier(owner)
                )
            )
        # every time: whoever was killed after CREATE DATABASE left it open to all
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
    return missing


def _prepare_database(dsn: str, owner: str, *, timescale: bool) -> None:
    connection = connect(dsn, application="provision")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(owner)))
            # PostgreSQL 14 still lets everybody make tables there
            cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            # the view hides what current_setting refuses to those who may not see it
            cursor.execute("SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'")
            if timescale and "timescaledb" in (cursor.fetchone() or ("",))[0]:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    finally:
        connection.close()


def _grant_reading(dsn: str) -> None:
    connection = connect(dsn, application="provision")
    connection.autocommit = True
    owner, snapshots, signals = (sql.Identifier(role) for role in (OWNER, SNAPSHOTS, SIGNALS))
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database()")
            database = sql.Identifier((cursor.fetchone() or ("",))[0])
            for reader in (sql.Identifier(READER), snapshots, signals, sql.Identifier(GRAFANA)):
                for statement in (
                    "GRANT CONNECT ON DATABASE {database} TO {reader}",
                    "GRANT USAGE ON SCHEMA public TO {reader}",
                    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}",
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON TABLES TO {reader}",
                ):
                    cursor.execute(sql.SQL(statement).format(database=database, reader=reader, owner=owner))
            # its sizes and statistics are told to whoever is connected to it only
            cursor.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(MONITOR)))
            for statement in (
                "GRANT INSERT, UPDATE ON volatility_snapshots TO {}",
                "GRANT INSERT, DELETE ON volatility_expirations TO {}",
                "GRANT INSERT, DELETE ON volatility_contracts TO {}",
                "GRANT EXECUTE ON FUNCTION open_volatility_chunks TO {}",
            ):
                cursor.execute(sql.SQL(statement).format(snapshots))
            # with the migrations of an earlier release there is no ledger
            cursor.execute("SELECT to_regclass('signal_ledger') IS NOT NULL")
            (has_ledger,) = cursor.fetchone() or (False,)
            for statement in (
                (
                    # what is written there stays
                    "GRANT INSERT ON signal_ledger, signal_trials TO {}",
                    "GRANT INSERT, UPDATE ON signal_cursors, signal_resolutions, signal_backtests TO {}",
                )
                if has_ledger
                else ()
            ):
                cursor.execute(sql.SQL(statement).format(signals))
    finally:
        connection.close()


def _give_away_the_audit_log(dsn: str) -> None:
    connection = connect(dsn, application="provision")
    accounts, audit = sql.Identifier(ACCOUNTS), sql.Identifier(AUDIT)
    try:
        # in one transaction: the gateway may be adding rows meanwhile
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'audit'")
            if cursor.fetchone() in (None, (AUDIT,)):
                return
            cursor.execute("SELECT current_database()")
            database = sql.Identifier((cursor.fetchone() or ("",))[0])
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (AUDIT,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(audit))
            for statement in (
                # the administrator of managed PostgreSQL gives only to roles that it is a member of, and that may make
                # a schema
                sql.SQL("GRANT {audit} TO CURRENT_USER"),
                sql.SQL("GRANT CREATE ON DATABASE {database} TO {audit}"),
                sql.SQL("ALTER SCHEMA audit OWNER TO {audit}"),
                sql.SQL("REVOKE CREATE ON DATABASE {database} FROM {audit}"),
                sql.SQL("ALTER TABLE audit.entries OWNER TO {audit}"),
                sql.SQL("ALTER FUNCTION audit.append OWNER TO {audit}"),
                sql.SQL("ALTER FUNCTION audit.hash_of OWNER TO {audit}"),
                sql.SQL("ALTER FUNCTION audit.is_append_only OWNER TO {audit}"),
                sql.SQL("GRANT USAGE ON SCHEMA audit TO {accounts}"),
                sql.SQL("GRANT SELECT ON audit.entries TO {accounts}"),
                sql.SQL("REVOKE ALL ON FUNCTION audit.append FROM PUBLIC"),
                sql.SQL("GRANT EXECUTE ON FUNCTION audit.append TO {accounts}"),
            ):
                cursor.execute(statement.format(audit=audit, accounts=accounts, database=database))
    finally:
        connection.close()


def with_database(dsn: str, database: str) -> str:
    """The same server's DSN of another database."""
    return urlunsplit(urlsplit(dsn)._replace(path="/" + quote(database)))


def main() -> int:
    """Provision from the environment; one clear line on failure."""
    try:
        settings = ProvisionSettings()
    except ValidationError as error:
        names = ", ".join(str(item["loc"][0]).upper() for item in error.errors() if item["loc"])
        print(f"provision: set {names}", file=sys.stderr)
        return 1
    try:
        for line in provision(settings):
            print(f"provision: {line}")
    except (psycopg2.Error, MigrationError) as error:
        print(f"provision: {str(error).strip()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
