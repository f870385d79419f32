"""What tests share: a real PostgreSQL and a real Redis of their own, and market files made record by record."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from ots_common.database import Database
from ots_common.provision import ProvisionSettings, provision
from ots_native.postgres import PostgresServer
from ots_native.redis import RedisServer
from ots_native.settings import Ports
from places import MIGRATIONS, ROOT, TESTS

REAL_DATA = Path(os.environ.get("OTS_REAL_DATA", ROOT.parent / "shared" / "data" / "real"))

# what takes longest begins first, so that no worker is left alone with it at the end
_LONGEST = (
    "native/test_start_dev.py", "data_ingestion/test_collect_failures.py", "test_comprehensive.py",
    "chaos/test_chaos.py", "data_ingestion/test_backfills.py", "data_ingestion/test_cli.py", "house/test_checks.py",
)  # fmt: skip


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core: half of their time tests wait for what they started."""
    return min(8, 2 * (os.cpu_count() or 1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, everything else in its order."""
    ranks = {str(TESTS / name): rank for rank, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(str(item.path), len(ranks)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real market data, beside the checkout and no part of it."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real market data at {REAL_DATA} (set OTS_REAL_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server for this session."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"), Ports.free().postgres)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    """The superuser's DSN of that server."""
    return postgres.admin_url


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server for this session."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), Ports.free().redis, "test-password")
    server.start()
    yield server
    server.remove()


class MarketDatabase:
    """A freshly provisioned market database: DSNs of its owner, its reader, the writers of snapshots and signals."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.name = name
        self.owner = server.url("ots", "owner-password", name)
        self.reader = server.url("ots_reader", "reader-password", name)
        self.snapshots = server.url("ots_snapshots", "snapshots-password", name)
        self.signals = server.url("ots_signals", "signals-password", name)
        self.database = Database(self.owner, application="tests", size=4)


@contextmanager
def provisioned(server: PostgresServer) -> Iterator[tuple[str, str]]:
    """Fresh market and accounts databases (their names), gone afterwards."""
    names = (f"market_{uuid.uuid4().hex[:8]}", f"accounts_{uuid.uuid4().hex[:8]}")
    provision(
        ProvisionSettings(
            admin_database_url=server.admin_url,
            market_database=names[0],
            accounts_database=names[1],
            db_password_owner="owner-password",
            db_password_reader="reader-password",
            db_password_snapshots="snapshots-password",
            db_password_signals="signals-password",
            db_password_accounts="accounts-password",
            db_password_grafana="grafana-password",
            db_password_monitor="monitor-password",
            migrations_dir=MIGRATIONS,
        )
    )
    yield names
    connection = psycopg2.connect(server.admin_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    connection.close()


@pytest.fixture(scope="module")
def market(postgres: PostgresServer) -> Iterator[MarketDatabase]:
    """An empty market database for one test module."""
    with provisioned(postgres) as (name, _):
        database = MarketDatabase(postgres, name)
        yield database
        database.database.close()


@pytest.fixture(scope="session")
def accounts_url(postgres: PostgresServer) -> Iterator[str]:
    """The DSN of an accounts database without users."""
    with provisioned(postgres) as (_, name):
        yield postgres.url("ots_accounts", "accounts-password", name)
