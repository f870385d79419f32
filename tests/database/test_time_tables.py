"""Time tables: what every flavour of them promises (test_chunks.py: what is hard about it)."""

import threading

import psycopg2


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
