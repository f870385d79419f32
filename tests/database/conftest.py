"""A provisioned market database in each flavour of time table.

Always with native partitions; with hypertables too when OTS_TEST_TIMESCALE_URL names a superuser's DSN of a server that
preloads TimescaleDB. Its licence, a setting of the whole server, decides between full and Apache.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from database_support import FlavouredDatabase, administer, as_role, settings_for
from ots_common.database import Database
from ots_common.provision import provision

FLAVOURS = ["native", "timescale-apache", "timescale"]


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
