"""A provisioned market database in each flavour of time table.

Always with native partitions; with hypertables too when OTS_TEST_TIMESCALE_URL names a superuser's DSN of a server that
preloads TimescaleDB. Its licence, a setting of the whole server, decides between full and Apache.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from ots_common.database import Connection, Database, connect
from ots_common.provision import ProvisionSettings, provision
from places import MIGRATIONS

FLAVOURS = ["native", "timescale-apache", "timescale"]
PASSWORDS = {"ots": "owner-password", "ots_reader": "reader-password", "ots_accounts": "accounts-password"}


def as_role(admin_url: str, role: str, database: str) -> str:
    """The DSN of one of our roles on the administrator's server, over TCP."""
    host = parse_dsn(admin_url)["host"]
    host = "127.0.0.1" if host.startswith("/") else host
    return make_dsn(admin_url, host=host, user=role, password=PASSWORDS[role], dbname=database)


def settings_for(admin_url: str, name: str) -> ProvisionSettings:
    return ProvisionSettings(
        admin_database_url=admin_url,
        market_database=f"market_{name}",
        accounts_database=f"accounts_{name}",
        db_password_owner=PASSWORDS["ots"],
        db_password_reader=PASSWORDS["ots_reader"],
        db_password_accounts=PASSWORDS["ots_accounts"],
        migrations_dir=MIGRATIONS,
    )


def administer(admin_url: str, *statements: str) -> None:
    """Run statements as the administrator, each in a transaction of its own."""
    connection = connect(admin_url, application="tests")
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


@dataclass(frozen=True)
class FlavouredDatabase:
    """``owner`` and ``reader``: DSNs; ``database``: a pool of the owner's connections."""

    flavour: str
    owner: str
    reader: str
    database: Database

    def connect(self) -> Connection:
        """A connection of one's own, as the owner."""
        return connect(self.owner, application="tests")


@pytest.fixture(scope="session", params=FLAVOURS)
def flavoured_database(request, postgres_url) -> Iterator[FlavouredDatabase]:
    admin = postgres_url
    if request.param != "native":
        admin = os.environ.get("OTS_TEST_TIMESCALE_URL", "")
        if not admin:
            pytest.skip("no server with TimescaleDB (set OTS_TEST_TIMESCALE_URL)")
    name = uuid.uuid4().hex[:8]
    settings = settings_for(admin, name)
    provision(settings)
    owner = as_role(admin, "ots", settings.market_database)
    reader = as_role(admin, "ots_reader", settings.market_database)
    database = Database(owner, application="tests", size=12)
    try:
        if request.param != "native":
            licence = database.rows("SELECT current_setting('timescaledb.license')")[0][0]
            if licence != {"timescale": "timescale", "timescale-apache": "apache"}[request.param]:
                pytest.skip(f"that server runs TimescaleDB under another licence: {licence}")
        assert database.rows("SELECT DISTINCT flavour FROM time_tables") == [(request.param,)]
        yield FlavouredDatabase(request.param, owner, reader, database)
    finally:
        database.close()
        drop = "DROP DATABASE {} WITH (FORCE)"
        administer(admin, drop.format(settings.market_database), drop.format(settings.accounts_database))


@pytest.fixture(scope="session")
def time_tables(flavoured_database) -> Database:
    """The same, as its owner's pool alone."""
    return flavoured_database.database
