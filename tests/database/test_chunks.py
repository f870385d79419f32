"""What is hard about time tables: many at once, chunks in use, imports among compressed rows, sessions far from UTC."""

import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest

from ots_common.database import Database, connect

BAR = "INSERT INTO bars_1m VALUES (%s, %s, 1, 1, 2, 0, 1, 1, 'v')"
TRADE = "INSERT INTO trades SELECT %s, %s, 0, 1, 0, 0, 1, 1, 'N', 'T', 0, 0, 1, 0, 0"
TIME_TABLES = ["bars_1h", "bars_1m", "definitions", "quotes", "statistics", "trades"]


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def open_chunks(cursor, table, *moments, keep=False):
    cursor.execute("SELECT open_chunks(%s, %s::timestamptz[], %s)", (table, list(moments), keep))
    return cursor.fetchone()[0]


def maintain(database, now):
    """Upkeep as of ``now``: [(table, action)] of what it did; ahead of ``now`` only."""
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '60s'")  # it waits for nobody: a test must not hang when it does
        cursor.execute("SELECT table_name, action FROM maintain_time_tables(%s, interval '0')", (now,))
        return cursor.fetchall()


@pytest.fixture
def retain_a_year(time_tables):
    """Retention switched on, for one test."""
    time_tables.execute("UPDATE time_tables SET retain = interval '1 year'")
    yield
    time_tables.execute("UPDATE time_tables SET retain = NULL")


@pytest.fixture
def scratch(flavoured_database):
    """A cursor whose transaction is rolled back at the end."""
    with closing(flavoured_database.connect()) as connection, connection.cursor() as cursor:
        yield cursor


def test_a_chunk_is_whole_days_of_utc_whatever_the_session_says(flavoured_database):
    """A partition made in New York on the day the clocks change would end an hour early or late."""
    sundays = [day("2022-03-13") + timedelta(weeks=week) for week in range(100)]
    with closing(flavoured_database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET timezone = 'America/New_York'; SET datestyle = 'SQL, DMY'")
        open_chunks(cursor, "bars_1m", *sundays)
        for sunday in sundays:
            cursor.execute(BAR, (20, sunday + timedelta(hours=23, minutes=59)))
        cursor.execute(
            "SELECT bool_and(ends - starts = interval '7 days'),"
            " bool_and(extract(hour FROM starts AT TIME ZONE 'UTC') = 0)"
            " FROM list_chunks('bars_1m') WHERE starts BETWEEN '2022-03-01' AND '2024-03-01'"
        )
        assert cursor.fetchone() == (True, True)
        connection.commit()
    assert flavoured_database.database.rows("SELECT count(*) FROM bars_1m WHERE instrument_id = 20") == [(100,)]


def test_readers_and_writers_go_on_while_eight_make_chunks(flavoured_database):
    database = flavoured_database.database
    database.rows("SELECT open_chunks('trades', ARRAY[timestamptz '2018-06-01'])")
    days = [day("2018-01-01") + timedelta(days=i) for i in range(25)]
    failed, made, done = [], [], threading.Event()

    def guarded(work):
        try:
            work()
        except Exception as error:
            failed.append(error)

    def make():
        for moment in days:
            with database.connection() as connection, connection.cursor() as cursor:
                made.append(open_chunks(cursor, "trades", moment))
                cursor.execute(f"{TRADE} ON CONFLICT DO NOTHING", (21, moment))

    def write():
        second = 0
        while not done.is_set():
            database.execute(TRADE, (22, day("2018-06-01") + timedelta(seconds=second)))
            second += 1

    def read():
        while not done.is_set():
            database.rows("SELECT count(*) FROM trades WHERE instrument_id IN (21, 22)")

    makers = [threading.Thread(target=guarded, args=(make,)) for _ in range(8)]
    others = [threading.Thread(target=guarded, args=(work,)) for work in (write, read)]
    for thread in makers + others:
        thread.start()
    for thread in makers:
        thread.join()
    done.set()
    for thread in others:
        thread.join()
    assert failed == []
    assert database.rows("SELECT count(*) FROM trades WHERE instrument_id = 21") == [(25,)]
    # each partition was made by one of the eight
    assert sum(made) == (25 if flavoured_database.flavour == "native" else 0)


def test_retention_drops_what_is_older_and_nothing_else(time_tables, retain_a_year):
    first = day("2010-01-04")
    for week in range(60):
        with time_tables.connection() as connection, connection.cursor() as cursor:
            open_chunks(cursor, "bars_1m", first + timedelta(weeks=week))
            cursor.execute(BAR, (23, first + timedelta(weeks=week)))
    now = first + timedelta(weeks=59)
    maintain(time_tables, now)
    left = time_tables.rows("SELECT ts FROM bars_1m WHERE instrument_id = 23 ORDER BY ts")
    # a chunk goes as a whole, when the last it could hold is a year old
    assert left[0][0] > now - timedelta(days=365 + 7)
    assert len([ts for (ts,) in left if ts >= now - timedelta(days=365)]) == 53
    assert time_tables.rows(
        "SELECT count(*) FROM list_chunks('bars_1m') WHERE ends <= %s", (now - timedelta(365),)
    ) == [(0,)]
    assert maintain(time_tables, now) == []


@pytest.mark.parametrize("table", TIME_TABLES)
def test_what_was_imported_is_kept_to_the_last_row(flavoured_database, retain_a_year, table):
    """Whichever day of a chunk it is of: hypertables begin their chunks on other days than our partitions."""
    days = [day("1995-03-01") + timedelta(days=i) for i in (0, 1, 2, 3, 4, 5, 6, 30, 60, 400)]
    for moment in days:
        with flavoured_database.database.connection() as connection, connection.cursor() as cursor:
            open_chunks(cursor, table, moment, keep=True)
            insert_any(cursor, table, 24, moment)
        maintain(flavoured_database.database, day("2000-01-01"))
    rows = flavoured_database.database.rows(f"SELECT count(*) FROM {table} WHERE instrument_id = 24")
    assert rows == [(len(days),)]


def test_an_import_that_has_opened_an_old_chunk_does_not_lose_it(flavoured_database, retain_a_year):
    database, moment = flavoured_database.database, day("1990-05-01")
    database.rows("SELECT open_chunks('trades', ARRAY[%s])", (moment,))
    database.execute(TRADE, (25, moment))
    with closing(flavoured_database.connect()) as importing, importing.cursor() as cursor:
        open_chunks(cursor, "trades", moment, keep=True)
        assert ("trades", "postponed") in maintain(database, day("1995-01-01"))
        cursor.execute(TRADE, (26, moment))
        importing.commit()
    assert ("trades", "dropped") not in maintain(database, day("1995-01-01"))
    assert database.rows("SELECT instrument_id FROM trades WHERE instrument_id IN (25, 26) ORDER BY 1") == [
        (25,),
        (26,),
    ]


def test_upkeep_never_waits_for_an_import_in_a_circle(flavoured_database, retain_a_year):
    """The import writes trades, then opens chunks of bars that upkeep wants to make too."""
    if flavoured_database.flavour != "native":
        pytest.skip("hypertables make their chunks by themselves")
    database, old, now = flavoured_database.database, day("1985-01-01"), day("1988-01-01")
    database.rows("SELECT open_chunks('trades', ARRAY[%s, %s])", (old, now))
    report = []
    with closing(flavoured_database.connect()) as importing, importing.cursor() as cursor:
        cursor.execute(TRADE, (27, now))
        upkeep = threading.Thread(target=lambda: report.extend(maintain(database, now)))
        upkeep.start()
        wait_until(database, "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'trades'::regclass")
        open_chunks(cursor, "bars_1m", now)
        importing.commit()
        upkeep.join()
    assert ("trades", "postponed") in report
    assert maintain(database, now) == [("trades", "dropped")]


def test_a_long_query_is_not_disturbed_by_retention(flavoured_database, retain_a_year):
    database, old = flavoured_database.database, day("1980-01-01")
    database.rows("SELECT open_chunks('quotes', ARRAY[%s])", (old,))
    with database.connection() as connection, connection.cursor() as cursor:
        insert_any(cursor, "quotes", 28, old)
    with closing(flavoured_database.connect()) as reading, reading.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM quotes WHERE instrument_id = 28")
        assert ("quotes", "postponed") in maintain(database, day("1982-01-01"))
        cursor.execute("SELECT count(*) FROM quotes WHERE instrument_id = 28")
        assert cursor.fetchone() == (1,)
        reading.rollback()
    assert maintain(database, day("1982-01-01")) == [("quotes", "dropped")]


def test_an_import_into_old_chunks_revises_and_adds_as_much_as_it_likes(flavoured_database):
    """TimescaleDB lets a transaction revise no more than 100,000 compressed rows; more are in a day's file."""
    compresses = flavoured_database.flavour == "timescale"
    n, database, moment = 110_000 if compresses else 2_000, flavoured_database.database, day("2015-12-24")

    def compressed():
        return maintain(database, day("2016-06-01")).count(("trades", "compressed"))

    compressed()
    import_trades(database, moment, n, size=1)
    assert (compressed(), compressed()) == (compresses, 0)
    assert import_trades(database, moment, n, size=1, conflict="DO NOTHING") == 0
    assert (compressed(), compressed()) == (compresses, 0)
    revise = "(instrument_id, ts, digest, ord) DO UPDATE SET size = excluded.size"
    assert import_trades(database, moment, n + 10, size=2, conflict=revise) == n + 10
    assert database.rows("SELECT count(*), sum(size) FROM trades WHERE sequence = 29") == [(n + 10, 2 * (n + 10))]
    assert (compressed(), compressed()) == (compresses, 0)


def import_trades(database, moment, n, *, size, conflict=None):
    """How many rows it touched."""
    with database.connection() as connection, connection.cursor() as cursor:
        open_chunks(cursor, "trades", moment, keep=True)
        cursor.execute(
            "INSERT INTO trades SELECT 100000 + i / 1000, %s + (i %% 1000) * interval '1 s', 0, i, 0, 29, 1, %s,"
            " 'N', 'T', 0, 0, 1, 0, 0 FROM generate_series(1, %s) i" + (f" ON CONFLICT {conflict}" if conflict else ""),
            (moment, size, n),
        )
        return cursor.rowcount


@pytest.mark.parametrize("table", TIME_TABLES)
def test_a_key_is_one_row_even_in_a_chunk_nobody_opened_again(flavoured_database, table):
    """Compressed where the flavour compresses."""
    database, moment = flavoured_database.database, day("2001-02-03")
    with database.connection() as connection, connection.cursor() as cursor:
        open_chunks(cursor, table, moment)
        insert_any(cursor, table, 30, moment)
    maintain(database, day("2004-01-01"))
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT bool_or(compressed) FROM list_chunks(%s) WHERE starts <= %s AND ends > %s", (table, moment, moment)
        )
        assert cursor.fetchone() == (flavoured_database.flavour == "timescale",)
        assert insert_any(cursor, table, 30, moment, "DO NOTHING") == 0
        key = "publisher_id" if table.startswith("bars") else "digest, ord"
        value = "volume" if table.startswith("bars") else "recv_at_ns"
        revise = f"(instrument_id, ts, {key}) DO UPDATE SET {value} = 7"
        assert insert_any(cursor, table, 30, moment, revise) == 1
        assert insert_any(cursor, table, 31, moment, "DO NOTHING") == 1
        cursor.execute(f"SELECT instrument_id, {value} FROM {table} WHERE instrument_id IN (30, 31) ORDER BY 1")
        assert cursor.fetchall() == [(30, 7), (31, 1)]
    with (
        database.connection() as connection,
        pytest.raises(psycopg2.errors.UniqueViolation),
        connection.cursor() as cursor,
    ):
        insert_any(cursor, table, 31, moment)


def insert_any(cursor, table, instrument, moment, conflict=None):
    """One row with 1 or 'v' in every other column; how many rows it touched."""
    cursor.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position",
        (table,),
    )
    plain = {"instrument_id": instrument, "ts": moment}
    row = {name: plain.get(name, "v" if kind == "character" else 1) for name, kind in cursor.fetchall()}
    cursor.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
        + (f" ON CONFLICT {conflict}" if conflict else ""),
        list(row.values()),
    )
    return cursor.rowcount


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM {} WHERE instrument_id = 1 AND ts >= '2012-01-01' AND ts < '2012-03-01' ORDER BY ts",
        "SELECT * FROM {} WHERE instrument_id = 2 ORDER BY ts DESC LIMIT 30",
        "SELECT date_trunc('month', ts), min(low), sum(volume) FROM {} WHERE instrument_id < 4 GROUP BY 1 ORDER BY 1",
        "SELECT DISTINCT ON (instrument_id) * FROM {} WHERE instrument_id < 4 ORDER BY instrument_id, ts DESC",
        "SELECT i, b.ts, b.close FROM generate_series(1, 3) i, LATERAL (SELECT * FROM {} WHERE instrument_id = i"
        " AND ts < '2012-05-01' ORDER BY ts DESC LIMIT 1) b ORDER BY i",
        "SELECT count(*) FROM {} WHERE ts = '1970-01-01'",
    ],
    ids=["range", "newest", "months", "distinct on", "lateral", "nothing"],
)
def test_it_answers_as_a_plain_table_would(scratch, query):
    rows = (
        "SELECT i % 3 + 1, timestamptz '2011-12-20' + i * interval '7 hours', 1, i, i + 5, i - 5, i + 1, i, 'v'"
        " FROM generate_series(1, 700) i"
    )
    scratch.execute("CREATE TEMP TABLE plain (LIKE bars_1m INCLUDING ALL)")
    scratch.execute(f"INSERT INTO plain {rows}")
    scratch.execute("SELECT open_chunks('bars_1m', array_agg(ts)) FROM plain")
    scratch.execute(f"INSERT INTO bars_1m {rows}")
    answers = []
    for table in ("plain", "bars_1m"):
        scratch.execute(query.format(table))
        answers.append(scratch.fetchall())
    assert answers[0] == answers[1]


def test_a_time_table_has_the_names_comments_and_checks_of_its_plain_one(scratch):
    scratch.execute("CREATE TABLE ticks (id integer, ts timestamptz NOT NULL, side char(1) CHECK (side IN ('a', 'b')),"
                    " size bigint DEFAULT 5, PRIMARY KEY (id, ts))")  # fmt: skip
    scratch.execute("COMMENT ON TABLE ticks IS 'Of ''clocks'''; COMMENT ON COLUMN ticks.ts IS 'When'")
    scratch.execute("CREATE INDEX ON ticks (side, ts)")
    shape = (
        "SELECT obj_description('ticks'::regclass, 'pg_class'), col_description('ticks'::regclass, 2),"
        " (SELECT array_agg(pg_get_indexdef(indexrelid) ORDER BY 1) FROM pg_index WHERE indrelid = 'ticks'::regclass),"
        " (SELECT array_agg(conname || pg_get_constraintdef(oid) ORDER BY 1) FROM pg_constraint"
        " WHERE conrelid = 'ticks'::regclass AND contype <> 'n')"
    )
    scratch.execute(shape)
    before = scratch.fetchall()
    scratch.execute("SELECT make_time_table('ticks', 'ts', interval '1 day', '', 'id, ts', NULL, NULL)")
    scratch.execute(shape)
    assert str(scratch.fetchall()).replace(" ON ONLY ", " ON ") == str(before)
    scratch.execute("SELECT open_chunks('ticks', ARRAY[timestamptz '2020-01-01'])")
    scratch.execute("INSERT INTO ticks (id, ts) VALUES (1, '2020-01-01') RETURNING size")
    assert scratch.fetchone() == (5,)
    with pytest.raises(psycopg2.errors.CheckViolation):
        scratch.execute("INSERT INTO ticks (id, ts, side) VALUES (2, '2020-01-01', 'c')")


@pytest.mark.parametrize("chunk", ["1 hour", "1 month", "1 year", "36 hours", "-1 day", "0"])
def test_a_chunk_of_anything_but_whole_days_is_refused(scratch, chunk):
    scratch.execute("CREATE TABLE ticks (ts timestamptz NOT NULL)")
    with pytest.raises(psycopg2.errors.CheckViolation):
        scratch.execute("SELECT make_time_table('ticks', 'ts', %s, '', 'ts', NULL, NULL)", (chunk,))


def test_a_table_with_rows_is_refused(scratch):
    scratch.execute("CREATE TABLE ticks (ts timestamptz NOT NULL); INSERT INTO ticks VALUES (now())")
    with pytest.raises(psycopg2.Error, match="not empty"):
        scratch.execute("SELECT make_time_table('ticks', 'ts', interval '1 day', '', 'ts', NULL, NULL)")


def test_chunks_of_no_time_table_are_refused(scratch):
    with pytest.raises(psycopg2.errors.NoDataFound):
        scratch.execute("SELECT open_chunks('instruments', ARRAY[now()])")


def test_the_reader_reads_all_and_changes_nothing(flavoured_database):
    owner = flavoured_database.database
    with owner.connection() as connection, connection.cursor() as cursor:
        for table in TIME_TABLES:
            open_chunks(cursor, table, day("2032-01-01"))
            insert_any(cursor, table, 32, day("2032-01-01"))
    tables = [name for (name,) in owner.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    reader = Database(flavoured_database.reader, application="tests", size=1)
    for table in tables:
        reader.rows(f"SELECT count(*) FROM {table}")
    for table in TIME_TABLES:
        assert reader.rows(f"SELECT count(*) FROM {table} WHERE instrument_id = 32") == [(1,)]
    forbidden = [
        *(f"DELETE FROM {table}" for table in tables),
        *(f"TRUNCATE {table}" for table in tables),
        "INSERT INTO dbn_schemas VALUES (99, 'x')",
        "UPDATE bars_1m SET volume = 0",
        "DROP TABLE trades",
        "CREATE TABLE mine (x integer)",
        "CREATE TEMP TABLE mine (x integer)",
        "SELECT open_chunks('trades', ARRAY[timestamptz '2033-01-01'], true)",
        "SELECT drop_chunk('trades', (SELECT chunk_name FROM list_chunks('trades') LIMIT 1), '-infinity', 'infinity')",
    ]
    for statement in forbidden:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            reader.rows(statement)
    reader.close()


def wait_until(database, query):
    deadline = time.monotonic() + 20
    while not database.rows(query):
        assert time.monotonic() < deadline, query
        time.sleep(0.01)


def test_the_reader_sees_the_tables_of_later_migrations(flavoured_database):
    owner = flavoured_database.database
    owner.execute("CREATE TABLE made_later (x integer)")
    try:
        with (
            closing(connect(flavoured_database.reader, application="tests")) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT * FROM made_later")
    finally:
        owner.execute("DROP TABLE made_later")
