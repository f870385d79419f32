"""PostgreSQL under our own launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psycopg2
import pytest

from native.stand_ins import eventually
from ots_native.postgres import PostgresServer
from ots_native.processes import processes_of


def query(server: PostgresServer, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(server.admin_url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_committed_rows_outlive_a_stop_and_a_kill(postgres: PostgresServer) -> None:
    postgres.start()
    query(postgres, "CREATE TABLE kept (number int)")
    query(postgres, "INSERT INTO kept VALUES (1)")
    postgres.stop()
    postgres.start()
    query(postgres, "INSERT INTO kept VALUES (2)")
    postgres.kill()
    assert not postgres.is_ready()
    postgres.start()
    assert query(postgres, "SELECT number FROM kept ORDER BY number") == [(1,), (2,)]


def test_only_the_socket_lets_the_superuser_in_without_a_password(postgres: PostgresServer) -> None:
    postgres.start()
    query(postgres, "CREATE ROLE reader LOGIN PASSWORD 'right'")
    psycopg2.connect(postgres.url("reader", "right", "postgres")).close()
    for role, password in (("reader", "wrong"), ("ots_admin", "")):
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(postgres.url(role, password, "postgres"))


def test_stop_leaves_no_process(postgres: PostgresServer) -> None:
    postgres.start()
    assert processes_of(postgres.home, [postgres.data])
    postgres.stop()
    assert not processes_of(postgres.home, [postgres.data])


def test_a_cluster_whose_making_was_killed_is_made_anew(postgres: PostgresServer) -> None:
    code = f"""
from pathlib import Path
from ots_native.postgres import PostgresServer
PostgresServer(Path({str(postgres.folder)!r}), {postgres.port}).prepare()
"""
    with subprocess.Popen([sys.executable, "-c", code]) as making:
        eventually(lambda: list(postgres.home.glob("making-*/PG_VERSION")))
        making.send_signal(signal.SIGKILL)
    # its initdb has not been killed and may write a little longer
    eventually(lambda: not processes_of(postgres.home, list(postgres.home.glob("making-*"))))
    assert not postgres.data.exists()
    postgres.start()
    assert query(postgres, "SELECT 1") == [(1,)]
    assert not list(postgres.home.glob("making-*"))


def test_a_lock_file_whose_pid_another_process_has_got_does_not_stop_it(postgres: PostgresServer) -> None:
    postgres.prepare()
    owner = postgres.data.stat()
    lock = postgres.data / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{postgres.data}\n")
    os.chown(lock, owner.st_uid, owner.st_gid)
    postgres.start()
    assert query(postgres, "SELECT 1") == [(1,)]
