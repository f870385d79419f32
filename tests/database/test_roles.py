"""Who may reach which database."""

import psycopg2
import pytest

from ots_common.database import Database, connect
from ots_common.provision import ProvisionSettings, provision
from places import MIGRATIONS


def settings(postgres, market, accounts, **passwords):
    return ProvisionSettings(
        admin_database_url=postgres.admin_url,
        market_database=market,
        accounts_database=accounts,
        db_password_owner=passwords.get("owner", "owner-password"),
        db_password_reader=passwords.get("reader", "reader-password"),
        db_password_snapshots=passwords.get("snapshots", "snapshots-password"),
        db_password_signals=passwords.get("signals", "signals-password"),
        db_password_accounts=passwords.get("accounts", "accounts-password"),
        db_password_grafana=passwords.get("grafana", "grafana-password"),
        db_password_monitor=passwords.get("monitor", "monitor-password"),
        migrations_dir=MIGRATIONS,
    )


@pytest.mark.parametrize(
    ("role", "password", "kind"),
    [("ots_accounts", "accounts-password", "market"), ("ots", "owner-password", "accounts"),
     ("ots_reader", "reader-password", "accounts"), ("ots_snapshots", "snapshots-password", "accounts"),
     ("ots_signals", "signals-password", "accounts"),
     ("ots_grafana", "grafana-password", "accounts"), ("ots_monitor", "monitor-password", "accounts")],
)  # fmt: skip
def test_nobody_crosses_over(postgres, market, accounts_url, role, password, kind):
    name = market.name if kind == "market" else accounts_url.rsplit("/", 1)[1]
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        connect(postgres.url(role, password, name), application="tests")


def test_the_reader_reads_partitions_made_later(market):
    market.database.rows("SELECT open_chunks('trades', ARRAY[timestamptz '2031-01-01'])")
    reader = Database(market.reader, application="tests", size=1)
    assert reader.rows("SELECT count(*) FROM trades_p20310101") == [(0,)]
    reader.close()


def test_new_passwords_are_brought_in_line(postgres, market, accounts_url):
    accounts = accounts_url.rsplit("/", 1)[1]
    try:
        provision(settings(postgres, market.name, accounts, reader="another-password"))
        connect(postgres.url("ots_reader", "another-password", market.name), application="tests").close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            connect(market.reader, application="tests")
    finally:
        assert provision(settings(postgres, market.name, accounts)) == []
    connect(market.reader, application="tests").close()


APPEND = "SELECT * FROM audit.append('r', NULL, NULL, NULL, NULL, 'a', 'GET', '/', 401, 'refused', NULL)"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit.entries SET status = 200",
        "DELETE FROM audit.entries",
        "TRUNCATE audit.entries",
        "INSERT INTO audit.entries SELECT * FROM audit.entries",
        "UPDATE audit_log SET status = 200",
        "DELETE FROM audit_log",
        "DROP TABLE audit.entries CASCADE",
        "DROP SCHEMA audit CASCADE",
        "ALTER TABLE audit.entries DISABLE TRIGGER ALL",
        "ALTER TABLE audit.entries OWNER TO ots_accounts",
        "ALTER SCHEMA audit OWNER TO ots_accounts",
        "CREATE OR REPLACE FUNCTION audit.is_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TABLE audit.another (x integer)",
        "SET ROLE ots_audit",
    ],
)
def test_the_gateways_role_can_only_add_to_the_audit_log(accounts_url, statement):
    database = Database(accounts_url, application="tests", size=1)
    assert len(database.rows(APPEND)) == 1
    before = database.rows("SELECT count(*), max(entry_id) FROM audit_log")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        database.execute(statement)
    assert database.rows("SELECT count(*), max(entry_id) FROM audit_log") == before
    database.close()


def test_the_audit_log_is_not_changed_by_accident(postgres, accounts_url):
    """Not even by the administrator."""
    Database(accounts_url, application="tests", size=1).rows(APPEND)
    name = accounts_url.rsplit("/", 1)[1].split("?")[0]
    database = Database(postgres.admin_url.replace("/postgres?", f"/{name}?"), application="tests", size=1)
    for statement in ("UPDATE audit.entries SET status = 200", "DELETE FROM audit.entries", "TRUNCATE audit.entries"):
        with pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
            database.execute(statement)
    database.close()


def test_nobody_logs_in_as_the_audit_logs_owner(postgres):
    database = Database(postgres.admin_url, application="tests", size=1)
    assert database.rows("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'ots_audit'") in ([], [(False,)])
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO quotes SELECT * FROM quotes",
        "DELETE FROM bars_1m",
        "UPDATE rate_points SET rate = 0.1",
        "UPDATE volatility_expirations SET rate = 0.1",
        "UPDATE volatility_contracts SET mid = delta",
        "DELETE FROM volatility_snapshots",
        "TRUNCATE volatility_expirations",
        "DROP TABLE volatility_snapshots",
        "CREATE TABLE another (x integer)",
        "SELECT open_chunks('quotes', ARRAY[timestamptz '2031-01-01'])",
        "SET ROLE ots",
    ],
)
def test_the_role_of_snapshots_writes_those_and_nothing_else(market, statement):
    database = Database(market.snapshots, application="tests", size=1)
    database.execute("SELECT open_volatility_chunks(timestamptz '2031-01-01')")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE signal_ledger SET body = body",
        "DELETE FROM signal_ledger",
        "TRUNCATE signal_ledger",
        "ALTER TABLE signal_ledger DISABLE TRIGGER ALL",
        "UPDATE signal_trials SET sharpe = 0",
        "DELETE FROM signal_trials",
        "DELETE FROM signal_cursors",
        "DELETE FROM signal_resolutions",
        "DELETE FROM signal_backtests",
        "INSERT INTO quotes SELECT * FROM quotes",
        "UPDATE volatility_snapshots SET spot = spot",
        "CREATE TABLE another (x integer)",
        "SET ROLE ots",
    ],
)
def test_the_role_of_signals_adds_to_its_ledger_and_nothing_else(market, statement):
    database = Database(market.signals, application="tests", size=1)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT open_volatility_chunks(timestamptz '2031-01-01')",
        "INSERT INTO volatility_snapshots SELECT * FROM volatility_snapshots",
        "DELETE FROM volatility_expirations",
        "DELETE FROM volatility_contracts",
    ],
)
def test_the_reader_reads_snapshots_only(market, statement):
    reader = Database(market.reader, application="tests", size=1)
    assert reader.rows("SELECT count(*) FROM volatility_snapshots") == [(0,)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        reader.execute(statement)
    reader.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO bars_1m SELECT * FROM bars_1m",
        "DELETE FROM volatility_snapshots",
        "CREATE TEMPORARY TABLE another (x integer)",
        "SET ROLE ots",
        # also where somebody calls off the default of the role
        "SET default_transaction_read_only = off; DELETE FROM quotes",
    ],
)
def test_a_dashboard_reads_the_market_and_writes_nothing(postgres, market, statement):
    grafana = Database(postgres.url("ots_grafana", "grafana-password", market.name), application="tests", size=1)
    assert grafana.rows("SELECT count(*) FROM trades") == [(0,)]
    assert grafana.rows("SHOW statement_timeout") == [("10s",)]
    assert grafana.rows("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user") == [(10,)]
    with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.ReadOnlySqlTransaction)):
        grafana.execute(statement)
    grafana.close()


def test_who_watches_postgresql_sees_its_statistics_and_no_row(postgres, market):
    monitor = Database(postgres.url("ots_monitor", "monitor-password", market.name), application="tests", size=1)
    # of others too, whose queries a plain role does not see
    ((seen,),) = monitor.rows("SELECT count(*) FROM pg_stat_activity WHERE query <> '<insufficient privilege>'")
    assert seen > 0
    assert monitor.rows("SELECT pg_has_role('pg_monitor', 'MEMBER')") == [(True,)]
    for statement in ("SELECT count(*) FROM trades", "SELECT count(*) FROM runs", "CREATE TABLE another (x integer)"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            monitor.execute(statement)
    monitor.close()
