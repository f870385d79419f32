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
        db_password_accounts=passwords.get("accounts", "accounts-password"),
        migrations_dir=MIGRATIONS,
    )


@pytest.mark.parametrize(
    ("role", "password", "kind"),
    [("ots_accounts", "accounts-password", "market"), ("ots", "owner-password", "accounts"),
     ("ots_reader", "reader-password", "accounts")],
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


def test_the_audit_log_only_grows(accounts_url):
    database = Database(accounts_url, application="tests", size=1)
    database.execute(
        "INSERT INTO audit_log (request_id, address, method, path, status, event)"
        " VALUES ('r', 'a', 'GET', '/', 401, 'refused')"
    )
    for statement in ("UPDATE audit_log SET status = 200", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
            database.execute(statement)
    database.close()
