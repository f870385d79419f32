"""Migrations: each once, in order, and never half."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid

import psycopg2
import pytest

from ots_common.database import Database, connect
from ots_common.migrations import MigrationError, migrate


@pytest.fixture
def empty(postgres):
    """The administrator's DSN of an empty database of role ots."""
    name = f"empty_{uuid.uuid4().hex[:8]}"
    connection = connect(postgres.admin_url, application="tests")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = 'ots'")
        if not cursor.fetchone():
            cursor.execute("CREATE ROLE ots LOGIN")
        cursor.execute(f"CREATE DATABASE {name} OWNER ots")
    yield postgres.admin_url.replace("/postgres?", f"/{name}?")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "0001.first.sql").write_text("CREATE TABLE first (x integer); INSERT INTO first VALUES (1);")
    (tmp_path / "0002.second.sql").write_text("CREATE TABLE second (x integer);")
    return tmp_path


def tables(dsn):
    database = Database(dsn, application="tests", size=1)
    found = {row[0] for row in database.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    database.close()
    return found


def test_each_is_applied_once_and_owned_by_its_role(empty, folder):
    assert migrate(empty, folder, role="ots") == ["0001.first.sql", "0002.second.sql"]
    assert migrate(empty, folder, role="ots") == []
    database = Database(empty, application="tests", size=1)
    assert database.rows("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == [("ots",)]
    database.close()


def test_an_edited_one_is_refused(empty, folder):
    migrate(empty, folder, role="ots")
    (folder / "0001.first.sql").write_text("CREATE TABLE first (y integer);")
    with pytest.raises(MigrationError, match="0001.first.sql was edited"):
        migrate(empty, folder, role="ots")


def test_a_missing_one_is_refused(empty, folder):
    migrate(empty, folder, role="ots")
    (folder / "0002.second.sql").unlink()
    with pytest.raises(MigrationError, match="older than its database"):
        migrate(empty, folder, role="ots")


def test_a_late_one_is_refused(empty, folder):
    (folder / "0003.third.sql").write_text("SELECT 1")
    (folder / "0002.second.sql").rename(folder / "0002.second.off")
    migrate(empty, folder, role="ots")
    (folder / "0002.second.off").rename(folder / "0002.second.sql")
    with pytest.raises(MigrationError, match="higher number"):
        migrate(empty, folder, role="ots")


@pytest.mark.parametrize("name", ["1.first.sql", "0001-first.sql", "0001.First.sql"])
def test_a_wrong_name_is_refused(empty, tmp_path, name):
    (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match="not named"):
        migrate(empty, tmp_path, role="ots")


def test_no_folder_is_refused(empty, tmp_path):
    with pytest.raises(MigrationError, match="no migrations"):
        migrate(empty, tmp_path / "nowhere", role="ots")


def test_one_that_fails_leaves_nothing_of_itself(empty, folder):
    (folder / "0002.second.sql").write_text("CREATE TABLE second (x integer); SELECT 1/0;")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        migrate(empty, folder, role="ots")
    assert tables(empty) == {"applied_migrations", "first"}
    (folder / "0002.second.sql").write_text("CREATE TABLE second (x integer);")
    assert migrate(empty, folder, role="ots") == ["0002.second.sql"]


def test_one_killed_in_the_middle_leaves_nothing_and_blocks_nobody(empty, folder):
    (folder / "0002.second.sql").write_text("CREATE TABLE second (x integer); SELECT pg_sleep(30);")
    code = "import sys, pathlib; from ots_common.migrations import migrate; "
    code += "migrate(sys.argv[1], pathlib.Path(sys.argv[2]), role='ots')"
    process = subprocess.Popen([sys.executable, "-c", code, empty, str(folder)])
    database = Database(empty, application="tests", size=1)
    while not database.rows("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(30)%%' AND state = 'active'"
                            " AND pid <> pg_backend_pid()"):  # fmt: skip
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # PostgreSQL notices that its client is gone when it next writes to it; here we do not wait for that
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'migrate'")
    database.close()
    (folder / "0002.second.sql").write_text("CREATE TABLE second (x integer);")
    assert migrate(empty, folder, role="ots") == ["0002.second.sql"]


def test_three_at_once_apply_each_once(empty, folder):
    applied = []
    threads = [threading.Thread(target=lambda: applied.append(migrate(empty, folder, role="ots"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, applied)) == [0, 0, 2]
