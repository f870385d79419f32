"""Time tables. Always as native partitions; as hypertables too when OTS_TEST_TIMESCALE_URL names a superuser's DSN of a
server with TimescaleDB preloaded."""

import os
import threading
import uuid
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from ots_common.database import Database, connect
from ots_common.provision import ProvisionSettings, provision
from places import MIGRATIONS

FLAVOURS = ["native", "timescale-apache", "timescale"]


@pytest.fixture(scope="module", params=FLAVOURS)
def time_tables(request, postgres):
    """A provisioned market database in the flavour, as its owner."""
    admin = postgres.admin_url
    if request.param != "native":
        admin = os.environ.get("OTS_TEST_TIMESCALE_URL", "")
        if not admin:
            pytest.skip("no server with TimescaleDB (set OTS_TEST_TIMESCALE_URL)")
        server = Database(admin, application="tests", size=1)
        licence = server.rows("SELECT current_setting('timescaledb.license', true)")[0][0]
        if licence != ("timescale" if request.param == "timescale" else "apache"):
            pytest.skip(f"that server runs TimescaleDB under another licence: {licence}")
    names = [f"{part}_{uuid.uuid4().hex[:8]}" for part in ("market", "accounts")]
    provision(
        ProvisionSettings(
            admin_database_url=admin, market_database=names[0], accounts_database=names[1],
            db_password_owner="owner-password", db_password_reader="reader-password",
            db_password_accounts="accounts-password", migrations_dir=MIGRATIONS,
        )
    )  # fmt: skip
    parts = urlsplit(admin)
    database = Database(urlunsplit(parts._replace(path=f"/{names[0]}")), application="tests", size=12)
    assert database.rows("SELECT DISTINCT flavour FROM time_tables") == [(request.param,)]
    yield database
    database.close()
    connection = connect(admin, application="tests")
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()


def add_bar(database, instrument, at, volume=1, keep=False):
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT open_chunks('bars_1m', ARRAY[%s::timestamptz], %s)", (at, keep))
        cursor.execute(
            "INSERT INTO bars_1m VALUES (%s, %s, 1, 1, 2, 0, 1, %s, 'v')"
            " ON CONFLICT (instrument_id, ts, publisher_id) DO UPDATE SET volume = excluded.volume",
            (instrument, at, volume),
        )


def volumes(database, instrument):
    sql = "SELECT ts::date::text, volume FROM bars_1m WHERE instrument_id = %s ORDER BY ts"
    return database.rows(sql, (instrument,))


def chunks(database, table):
    return database.rows("SELECT starts::date::text FROM list_chunks(%s) ORDER BY 1", (table,))


def test_rows_land_in_the_chunk_of_their_time(time_tables):
    for day in ("2013-10-07", "2013-10-08", "2013-10-14", "2024-03-04"):
        add_bar(time_tables, 1, f"{day} 14:30+00")
    assert [day for day, _ in volumes(time_tables, 1)] == ["2013-10-07", "2013-10-08", "2013-10-14", "2024-03-04"]
    starts = {row[0] for row in chunks(time_tables, "bars_1m")}
    if time_tables.rows("SELECT flavour FROM time_tables LIMIT 1") == [("native",)]:
        assert {"2013-10-07", "2013-10-14", "2024-03-04"} <= starts


def test_the_same_key_is_one_row(time_tables):
    for volume in (1, 2, 3):
        add_bar(time_tables, 2, "2020-01-06 14:30+00", volume)
    assert volumes(time_tables, 2) == [("2020-01-06", 3)]


def test_eight_openers_at_once(time_tables):
    failed = []

    def open_and_write(i):
        try:
            for week in range(6):
                add_bar(time_tables, 100 + i, f"2017-0{week + 1}-10 14:30+00")
        except psycopg2.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=open_and_write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert all(len(volumes(time_tables, 100 + i)) == 6 for i in range(8))


def test_retention_spares_what_is_young_and_what_was_imported(time_tables):
    add_bar(time_tables, 3, "2010-01-04 14:30+00", keep=True)
    add_bar(time_tables, 3, "2010-02-01 14:30+00")
    add_bar(time_tables, 3, "2012-01-02 14:30+00")
    time_tables.execute("UPDATE time_tables SET retain = interval '1 year' WHERE table_name = 'bars_1m'")
    time_tables.rows("SELECT * FROM maintain_time_tables(timestamptz '2012-01-10')")
    assert [day for day, _ in volumes(time_tables, 3)] == ["2010-01-04", "2012-01-02"]
    time_tables.execute("UPDATE time_tables SET retain = NULL")


def test_maintenance_makes_what_comes_and_then_nothing_more(time_tables):
    time_tables.rows("SELECT * FROM maintain_time_tables(timestamptz '2030-05-01')")
    assert time_tables.rows("SELECT * FROM maintain_time_tables(timestamptz '2030-05-01')") == []
    time_tables.execute(
        "INSERT INTO trades SELECT 9, timestamptz '2030-05-02', 0, 1, 0, 0, 1, 1, 'N', 'T', 0, 0, 1, 0, 0"
    )
    assert time_tables.rows("SELECT count(*) FROM trades WHERE instrument_id = 9") == [(1,)]


def test_without_a_setting_nothing_is_ever_dropped(time_tables):
    add_bar(time_tables, 4, "1999-01-04 14:30+00")
    time_tables.rows("SELECT * FROM maintain_time_tables(timestamptz '2040-01-01')")
    assert len(volumes(time_tables, 4)) == 1


def test_old_chunks_take_revisions_and_late_rows(time_tables):
    """Also where maintenance has compressed them."""
    add_bar(time_tables, 5, "2016-01-04 14:30+00", 1)
    time_tables.rows("SELECT * FROM maintain_time_tables(timestamptz '2026-01-01')")
    add_bar(time_tables, 5, "2016-01-04 14:30+00", 7)
    add_bar(time_tables, 5, "2016-01-05 14:30+00", 8)
    assert volumes(time_tables, 5) == [("2016-01-04", 7), ("2016-01-05", 8)]
