"""To the database and to Redis as in production: by TLS, with a certificate that is verified and a password apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
import redis

from database_support import PASSWORDS
from ots_common import redis_client
from ots_common.database import Database
from ots_common.metrics import CONNECTS
from ots_common.settings import ServiceSettings
from ots_simulator.tls import ensure_certificate
from tls_front import TlsFront, tls_front


@pytest.fixture(scope="module")
def secured_postgres(postgres, tmp_path_factory):
    with tls_front(tmp_path_factory.mktemp("database-tls"), postgres.port, postgres=True) as front:
        yield front


@pytest.fixture(scope="module")
def secured_redis(redis_server, tmp_path_factory):
    with tls_front(tmp_path_factory.mktemp("redis-tls"), redis_server.port) as front:
        yield front


@pytest.fixture(scope="module")
def another_authority(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("another-authority")
    ensure_certificate(folder)
    return folder / "ca.pem"


@pytest.fixture
def as_a_task(secured_postgres, market, monkeypatch):
    """libpq's variables as Terraform sets them, and the address without a password."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(secured_postgres.ca))
    monkeypatch.setenv("PGPASSWORD", PASSWORDS["ots_reader"])
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ots_reader@localhost:{secured_postgres.port}/{market.name}")
    return monkeypatch


def test_the_pool_connects_by_verified_tls_and_keeps_its_connection(as_a_task, secured_postgres):
    before = secured_postgres.secured
    made, lost = (CONNECTS.labels("tls", what)._value.get() for what in ("made", "lost"))
    database = Database.of_service("tls", ServiceSettings())
    for _ in range(3):
        assert database.rows("SELECT count(*) FROM trades") == [(0,)]
    assert secured_postgres.secured == before + 1
    # what TLS itself sends after the handshake is not taken for the server's farewell
    assert CONNECTS.labels("tls", "made")._value.get() == made + 1
    assert CONNECTS.labels("tls", "lost")._value.get() == lost
    database.close()


def test_a_database_that_another_authority_signed_is_refused(as_a_task, another_authority):
    as_a_task.setenv("PGSSLROOTCERT", str(another_authority))
    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        Database.of_service("tls", ServiceSettings()).rows("SELECT 1")


def test_a_database_of_another_name_is_refused(as_a_task, market, secured_postgres):
    as_a_task.setenv("DATABASE_URL", f"postgresql://ots_reader@127.0.0.2:{secured_postgres.port}/{market.name}")
    with pytest.raises(psycopg2.OperationalError, match="does not match host name"):
        Database.of_service("tls", ServiceSettings()).rows("SELECT 1")


def test_without_the_authoritys_file_there_is_no_connection(as_a_task, tmp_path):
    as_a_task.setenv("PGSSLROOTCERT", str(tmp_path / "nothing.pem"))
    with pytest.raises(psycopg2.OperationalError, match=r"root certificate file .* does not exist"):
        Database.of_service("tls", ServiceSettings()).rows("SELECT 1")


def test_under_gevent_too(as_a_task, secured_postgres):
    """As in gateway and cache, where other greenlets run while a query waits."""
    before = secured_postgres.secured
    script = (
        "from gevent import monkey; monkey.patch_all()\n"
        "from ots_common import gevent_postgres; gevent_postgres.install()\n"
        "from ots_common.database import Database; from ots_common.settings import ServiceSettings\n"
        "print(Database.of_service('tls', ServiceSettings()).rows('SELECT count(*) FROM trades'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.returncode) == ("[(0,)]\n", 0), done.stderr
    assert secured_postgres.secured == before + 1


@pytest.fixture
def redis_settings(secured_redis, monkeypatch):
    """The password apart; the authority among those that the system trusts, as Amazon's is."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://unused/unused")
    monkeypatch.setenv("REDIS_PASSWORD", "test-password")
    monkeypatch.setenv("REDIS_URL", f"rediss://localhost:{secured_redis.port}/0")
    monkeypatch.setenv("SSL_CERT_FILE", str(secured_redis.ca))
    return monkeypatch


def pinged() -> bool:
    with redis_client.connect(ServiceSettings().redis_url.get_secret_value(), timeout_s=10) as client:
        return bool(client.ping())


def test_redis_by_verified_tls_with_its_password(redis_settings, secured_redis: TlsFront):
    before = secured_redis.secured
    assert pinged()
    assert secured_redis.secured == before + 1


def test_redis_without_its_password_answers_nothing(redis_settings):
    redis_settings.setenv("REDIS_PASSWORD", "another-password")
    with pytest.raises(redis.AuthenticationError):
        pinged()


def test_a_redis_that_another_authority_signed_is_refused(redis_settings, another_authority):
    redis_settings.setenv("SSL_CERT_FILE", str(another_authority))
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        pinged()


def test_a_redis_of_another_name_is_refused(redis_settings, secured_redis):
    redis_settings.setenv("REDIS_URL", f"rediss://127.0.0.2:{secured_redis.port}/0")
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        pinged()
