"""What was collected goes when its time is over; what was imported stays; each step of upkeep stands on its own."""

from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from databento_dbn import Schema

from dbn import dbn_file, trade
from ots_common.database import connect
from ots_ingestion import retention
from ots_ingestion.retention import maintain, parse_period, read_retention, set_retention

TRADE = "INSERT INTO trades SELECT %s, %s, 0, 1, 0, 0, 1, 1, 'N', 'T', 0, 0, 1, 0, 0"


@pytest.fixture
def connection(market):
    found = connect(market.owner, application="tests")
    yield found
    found.close()
    market.database.execute("UPDATE time_tables SET retain = NULL")


def days_ago(days):
    return datetime.now(UTC).replace(hour=15, minute=0, second=0, microsecond=0) - timedelta(days=days)


def put(connection, instrument, moment, *, keep):
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT open_chunks('trades', ARRAY[%s], %s)", (moment, keep))
        cursor.execute(TRADE, (instrument, moment))


def left(market, *instruments):
    return {
        row[0]
        for row in market.database.rows(
            "SELECT instrument_id FROM trades WHERE instrument_id = ANY(%s)", (list(instruments),)
        )
    }


def test_collected_days_go_and_imported_days_stay(market, connection):
    put(connection, 1, days_ago(40), keep=False)
    put(connection, 2, days_ago(41), keep=True)
    put(connection, 3, days_ago(3), keep=False)
    # a day of both is a day that was imported
    put(connection, 4, days_ago(42), keep=False)
    put(connection, 5, days_ago(42), keep=True)
    maintain(connection)
    assert left(market, 1, 2, 3, 4, 5) == {1, 2, 3, 4, 5}  # nothing is dropped until somebody says so
    set_retention(connection, "trades", parse_period("30d"))
    done = maintain(connection)
    assert len([line for line in done if line.startswith("trades: dropped")]) == 1
    assert left(market, 1, 2, 3, 4, 5) == {2, 3, 4, 5}
    assert maintain(connection) == []
    set_retention(connection, "trades", parse_period("off"))
    put(connection, 1, days_ago(40), keep=False)
    assert maintain(connection) == []
    assert left(market, 1) == {1}


def test_a_file_imported_today_keeps_its_old_day(ingestion, market, connection):
    moment = days_ago(70)
    at = int(moment.timestamp()) * 10**9
    ingestion.imported(dbn_file(Schema.TRADES, [trade(at, 10)], day=moment.date(), symbols={"KEEPME": 1}))
    put(connection, 6, days_ago(71), keep=False)
    for table in ("trades", "bars_1m"):
        set_retention(connection, table, timedelta(days=30))
    maintain(connection)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM maintain_time_tables()")  # the same rules inside the database
        assert cursor.fetchone() == (0,)
        cursor.execute(
            "SELECT (SELECT count(*) FROM trades JOIN instruments USING (instrument_id)"
            " WHERE raw_symbol = 'KEEPME'),"
            " (SELECT count(*) FROM bars_1m JOIN instruments USING (instrument_id)"
            " WHERE raw_symbol = 'KEEPME')"
        )
        assert cursor.fetchone() == (1, 1)
    assert left(market, 6) == set()


def test_a_step_that_fails_takes_no_other_with_it(market, connection, monkeypatch):
    for instrument, days in ((11, 33), (12, 51), (13, 52)):
        put(connection, instrument, days_ago(days), keep=False)
    set_retention(connection, "trades", timedelta(days=30))
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT command FROM due_upkeep(now(), interval '3 days') WHERE action = 'dropped'")
        commands = [row[0] for row in cursor.fetchall()]
    assert len(commands) >= 3
    # the last one breaks: those before it have happened all the same
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE VIEW holds AS SELECT * FROM ONLY " + commands[-1].split("'")[3]
        )  # a view on the newest of the partitions keeps it from being dropped
    with pytest.raises(psycopg2.errors.DependentObjectsStillExist):
        maintain(connection)
    assert left(market, 11, 12, 13) == {11}
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP VIEW holds")
    assert len(maintain(connection)) == 1
    assert left(market, 11) == set()


def test_what_is_in_use_is_postponed_and_waits_for_nobody(market, connection):
    put(connection, 21, days_ago(60), keep=False)
    set_retention(connection, "trades", timedelta(days=30))
    reader = connect(market.owner, application="tests")
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM trades WHERE instrument_id = 21")
        done = maintain(connection)
        assert [line.split(" ")[1] for line in done if line.startswith("trades")] == ["postponed"]
        cursor.execute("SELECT count(*) FROM trades WHERE instrument_id = 21")
        assert cursor.fetchone() == (1,)
    reader.close()
    assert len(maintain(connection)) == 1
    assert left(market, 21) == set()


def test_one_upkeep_at_a_time(market, connection):
    put(connection, 31, days_ago(60), keep=False)
    set_retention(connection, "trades", timedelta(days=30))
    other = connect(market.owner, application="tests")
    with other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, 0)", (retention._UPKEEP_LOCK,))
    assert maintain(connection) == []
    with other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")
    other.close()
    assert len(maintain(connection)) == 1


def test_partitions_are_made_ahead(market, connection):
    maintain(connection)
    tomorrow = days_ago(-1)
    assert market.database.rows(
        "SELECT count(*) FROM list_chunks('trades') WHERE starts <= %s AND ends > %s", (tomorrow, tomorrow)
    ) == [(1,)]


@pytest.mark.parametrize("text", ["", "0d", "000d", "-3d", "30", "30h", "d", "999999d", "for ever"])
def test_a_period_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="days"):
        parse_period(text)


def test_the_command(market, connection, tmp_path, monkeypatch, capsys):
    from ots_ingestion.__main__ import main

    monkeypatch.setenv("DATABASE_URL", market.owner)
    monkeypatch.setenv("SPOOL_DIR", str(tmp_path))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["ots_ingestion", "retention", *arguments])
        return main()

    assert run("set", "quotes", "30d") == 0
    assert "quotes: 30d, in chunks of 1d" in capsys.readouterr().out
    assert {r.table: r.retain for r in read_retention(connection)}["quotes"] == timedelta(days=30)
    assert run("set", "quotes", "off") == 0
    assert "quotes: for ever" in capsys.readouterr().out
    assert run("set", "users", "30d") == 1
    assert "no time table is named users" in capsys.readouterr().err
    assert run("set", "quotes", "soon") == 1
    assert run("show") == 0
