"""The pool outlives the server it is connected to."""

import threading

import psycopg2
import pytest
from prometheus_client import REGISTRY

from ots_common.database import Database
from ots_common.problems import Problem


def test_the_pool_survives_a_killed_server(postgres, market):
    database = Database(market.owner, application="tests", size=3)
    assert database.rows("SELECT 1") == [(1,)]
    postgres.kill()
    with pytest.raises(psycopg2.OperationalError):
        database.rows("SELECT 1")
    postgres.start()
    # not one request pays for a connection that died
    assert [database.rows("SELECT 2")[0][0] for _ in range(5)] == [2] * 5
    database.close()


def test_a_failed_transaction_leaves_nothing(market):
    database = market.database
    with pytest.raises(ZeroDivisionError), database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE half_done (x integer)")
        raise ZeroDivisionError
    assert database.rows("SELECT to_regclass('half_done')") == [(None,)]


def test_a_full_pool_is_a_503_in_bounded_time(market):
    database = Database(market.owner, application="tests", size=1, wait_s=0.1)
    held, release = threading.Event(), threading.Event()

    def hold():
        with database.connection():
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with pytest.raises(Problem) as caught:
        database.rows("SELECT 1")
    release.set()
    thread.join()
    assert caught.value.status == 503
    assert database.rows("SELECT 1") == [(1,)]


def counted(name, pool, **labels):
    return REGISTRY.get_sample_value(name, {"service": pool, **labels}) or 0


def test_the_metrics_say_how_full_the_pool_is_and_who_waited(market):
    database = Database(market.owner, application="counted", size=1, wait_s=0.05)

    def connections():
        return [counted("ots_database_pool_connections", "counted", state=state) for state in ("in_use", "idle")]

    with database.connection() as connection:
        assert connections() == [1, 0]
        with pytest.raises(Problem):
            database.rows("SELECT 1")
        pid = connection.info.backend_pid
    assert connections() == [0, 1]
    assert counted("ots_database_busy_total", "counted") == 1
    assert counted("ots_database_wait_seconds_count", "counted") == 1
    assert counted("ots_database_connects_total", "counted", outcome="made") == 1

    killer = Database(market.owner, application="tests", size=1)
    killer.rows("SELECT pg_terminate_backend(%s, 10000)", (pid,))
    killer.close()
    assert database.rows("SELECT 1") == [(1,)]
    assert counted("ots_database_connects_total", "counted", outcome="lost") == 1
    assert counted("ots_database_connects_total", "counted", outcome="made") == 2
    with pytest.raises(psycopg2.errors.DivisionByZero):
        database.rows("SELECT 1 / 0")
    assert connections() == [0, 1]
    database.close()
    assert connections() == [0, 0]

    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing", application="counted", size=1)
    with pytest.raises(psycopg2.OperationalError):
        nowhere.rows("SELECT 1")
    assert counted("ots_database_connects_total", "counted", outcome="failed") == 1
    assert connections() == [0, 0]


def test_the_reader_may_only_read(market):
    reader = Database(market.reader, application="tests", size=1)
    assert reader.rows("SELECT count(*) FROM trades") == [(0,)]
    for statement in ("DELETE FROM trades", "CREATE TABLE mine (x integer)", "UPDATE runs SET status = 'done'"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            reader.execute(statement)
