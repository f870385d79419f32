"""Provisioning and all migrations on a server that was never provisioned, as managed PostgreSQL lets one: RDS' master
is no superuser. It may make roles and databases, and is a member of ``rds_superuser``, which hands on the predefined
roles and is allowed little else.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2
import pytest

from database_support import PASSWORDS, administer, as_role, settings_for
from ots_common.database import Database
from ots_common.provision import provision
from ots_native.postgres import PostgresServer
from ots_native.settings import Ports
from places import MIGRATIONS

MASTER, PASSWORD = "ots_master", "made%by/RDS:with#signs?in it"
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.rds_superuser.html
AS_ON_RDS = (
    "CREATE ROLE rds_superuser NOLOGIN",
    "GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO rds_superuser WITH ADMIN OPTION",
    f"CREATE ROLE {MASTER} LOGIN NOSUPERUSER CREATEDB CREATEROLE PASSWORD '{PASSWORD}'",
    f"GRANT rds_superuser TO {MASTER}",
    # there the database `postgres` belongs to the master, and so does nothing else
    f"ALTER DATABASE postgres OWNER TO {MASTER}",
)
ALL = sorted(path.name for path in MIGRATIONS.glob("*/*.sql"))


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of its own, without any role of ours."""
    server = PostgresServer(tmp_path_factory.mktemp("managed"), Ports.free().postgres)
    server.start()
    administer(server.admin_url, *AS_ON_RDS)
    yield server
    server.remove()


@pytest.fixture
def settings(managed: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    """As the task `migrate` has them in AWS: the address without a password, which libpq takes from PGPASSWORD."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return settings_for(f"postgresql://{MASTER}@127.0.0.1:{managed.port}/postgres", "managed")


def applied(lines: list[str]) -> list[str]:
    return sorted(line.split()[1] for line in lines if line.startswith("applied"))


def test_a_master_without_superuser_provisions_and_migrates_everything(settings, managed):
    assert applied(provision(settings)) == ALL
    assert provision(settings) == []
    master = Database(settings.admin_database_url.get_secret_value(), application="tests", size=1)
    assert master.rows("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
    master.close()


def test_each_role_can_do_its_work(settings, managed, monkeypatch):
    provision(settings)
    monkeypatch.delenv("PGPASSWORD")
    url = managed.url(MASTER, "unused", "postgres")
    owner = Database(as_role(url, "ots", settings.market_database), application="tests", size=1)
    reader = Database(as_role(url, "ots_reader", settings.market_database), application="tests", size=1)
    monitor = Database(as_role(url, "ots_monitor", settings.market_database), application="tests", size=1)
    accounts = Database(as_role(url, "ots_accounts", settings.accounts_database), application="tests", size=1)
    try:
        assert owner.rows("SELECT DISTINCT flavour FROM time_tables") == [("native",)]
        # partitions are made later by the owner, and read by the reader
        owner.rows("SELECT open_chunks('trades', ARRAY[timestamptz '2031-01-01'])")
        assert reader.rows("SELECT count(*) FROM trades_p20310101") == [(0,)]
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            reader.execute("DELETE FROM trades")
        # statistics of others' sessions
        assert monitor.rows("SELECT count(*) > 0 FROM pg_stat_activity WHERE query <> ''") == [(True,)]
        # the audit log belongs to nobody who can log in, and is added to all the same
        entry = "SELECT * FROM audit.append('r', NULL, NULL, NULL, NULL, 'a', 'GET', '/', 401, 'refused', NULL)"
        assert len(accounts.rows(entry)) == 1
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            accounts.execute("DELETE FROM audit.entries")
    finally:
        for database in (owner, reader, monitor, accounts):
            database.close()


def test_no_password_gets_into_the_servers_log(settings, managed):
    """Though it logs every statement that makes or changes a role."""
    administer(managed.admin_url, f"ALTER ROLE {MASTER} SET log_statement = 'ddl'")
    provision(settings)
    log = (managed.home / "postgres.log").read_text()
    assert "ALTER ROLE" in log
    assert [password for password in PASSWORDS.values() if password in log] == []


def test_a_role_that_became_mighty_is_made_small_again(settings, managed):
    """What RDS' master can take back; superuser and its like only a superuser could have given."""
    provision(settings)
    administer(managed.admin_url, "ALTER ROLE ots_reader CREATEDB CREATEROLE NOLOGIN")
    provision(settings)
    master = Database(settings.admin_database_url.get_secret_value(), application="tests", size=1)
    assert master.rows("SELECT rolcreatedb, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = 'ots_reader'") == [
        (False, False, True)
    ]
    master.close()
