"""The pool outlives the server it is connected to."""

import threading
import time

import psycopg2
import pytest
from prometheus_client import REGISTRY

from ots_common.database import Database, Prepared
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


def test_who_waits_for_a_lock_is_told_and_the_connection_is_free_again(market):
    database = Database(market.owner, application="tests", size=1, lock_s=0.05)
    holder = psycopg2.connect(market.owner)
    try:
        with holder.cursor() as cursor:
            cursor.execute("CREATE TABLE locked (x integer)")
            holder.commit()
            cursor.execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            database.rows("SELECT x FROM locked")
        assert database.rows("SELECT 1") == [(1,)]
    finally:
        holder.close()
        database.execute("DROP TABLE locked")
        database.close()


def test_a_failed_transaction_leaves_nothing(market):
    database = market.database
    with pytest.raises(ZeroDivisionError), database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE half_done (x integer)")
        raise ZeroDivisionError
    assert database.rows("SELECT to_regclass('half_done')") == [(None,)]


def test_a_prepared_query_is_planned_once_a_connection_and_the_next_user_has_a_transaction_again(market):
    database = Database(market.owner, application="tests", size=1)
    query = Prepared("twice", "SELECT $1 * 2, pg_backend_pid()", ("integer",))
    found = [database.prepared_rows(query, (number,))[0] for number in (1, 2, 3)]
    assert [row[0] for row in found] == [2, 4, 6]
    known = "SELECT name, generic_plans + custom_plans FROM pg_prepared_statements"
    assert database.rows(known) == [("twice", 3)]
    with pytest.raises(psycopg2.errors.DivisionByZero):
        database.prepared_rows(Prepared("fails", "SELECT 1 / $1", ("integer",)), (0,))
    with pytest.raises(ZeroDivisionError), database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE half_prepared (x integer)")
        raise ZeroDivisionError
    assert database.rows("SELECT to_regclass('half_prepared')") == [(None,)]
    # the server ends the connection: the next one does not know the query yet
    market.database.rows("SELECT pg_terminate_backend(%s)", (found[0][1],))
    deadline = time.monotonic() + 60
    alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    while market.database.rows(alive, (found[0][1],))[0][0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    again = database.prepared_rows(query, (4,))[0]
    assert (again[0], again[1] == found[0][1]) == (8, False)
    database.close()


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
    # who got none waited too
    assert counted("ots_database_wait_seconds_count", "counted") == 2
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
