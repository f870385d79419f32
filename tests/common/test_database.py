"""The pool outlives the server it is connected to."""

import threading

import psycopg2
import pytest

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


def test_the_reader_may_only_read(market):
    reader = Database(market.reader, application="tests", size=1)
    assert reader.rows("SELECT count(*) FROM trades") == [(0,)]
    for statement in ("DELETE FROM trades", "CREATE TABLE mine (x integer)", "UPDATE runs SET status = 'done'"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            reader.execute(statement)
