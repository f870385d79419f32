"""What is counted as it is stored is what is there, in every flavour: compressed, stored to again, and dropped."""

from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from databento_dbn import TradeMsg

from dbn import DAY, midnight, trade
from ots_ingestion.batch_store import BatchStore
from ots_ingestion.layouts import schema_of
from ots_ingestion.symbology import Interval, Symbology

# nothing else of this database is stored in those weeks
DAY0 = date(1995, 6, 7)
START = datetime(DAY0.year, DAY0.month, DAY0.day, tzinfo=UTC)
AT = midnight(DAY0)
DAYS = 3


@pytest.fixture
def connection(flavoured_database):
    with closing(flavoured_database.connect()) as found:
        yield found
    flavoured_database.database.execute("UPDATE time_tables SET retain = NULL")


def store(connection, records):
    """Trades, as ingestion stores what it collected."""
    first = AT // DAY
    symbology = Symbology("EQUS.MINI", [Interval(1, "FLAVOUR", first, first + DAYS)])
    batches = BatchStore(symbology, lambda rtype: schema_of(rtype, "trades"), keep=False, origin="test")
    with connection:
        batches.store(connection, {0: np.frombuffer(b"".join(records), np.dtype(TradeMsg._dtypes))})


def there(database, table="trades"):
    return database.rows(
        "SELECT dataset, schema, day, rows, checksum FROM count_rows(%s, %s, %s) ORDER BY day",
        (table, START, START + timedelta(days=DAYS)),
    )


def counted(database, table="trades"):
    return database.rows(
        "SELECT dataset, schema, day, rows, checksum FROM stored_rows WHERE table_name = %s AND day >= %s AND day < %s"
        " AND dataset <> '' ORDER BY day",
        (table, DAY0, DAY0 + timedelta(days=DAYS)),
    )


def upkeep(database, now):
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT action FROM maintain_time_tables(%s, interval '0') WHERE table_name = 'trades'", (now,))
        return {row[0] for row in cursor.fetchall()}


def test_what_is_counted_is_what_is_there(flavoured_database, connection):
    database = flavoured_database.database
    records = [trade(AT + i * DAY // 100, 50 + i, 7, sequence=i) for i in range(100 * DAYS)]
    store(connection, records[::2])
    assert [row[3] for row in counted(database)] == [50] * DAYS
    assert counted(database) == there(database)
    before = upkeep(database, START + timedelta(days=30))
    assert ("compressed" in before) == (flavoured_database.flavour == "timescale")
    assert counted(database) == there(database)
    # half of them are there already, compressed where the flavour compresses
    store(connection, records[:150])
    assert [row[3] for row in counted(database)] == [100, 75, 50]
    assert counted(database) == there(database)
    wrong = database.rows("SELECT * FROM count_wrong_minutes(%s, %s)", (START, START + timedelta(days=DAYS)))
    assert wrong == []
    database.execute("UPDATE trades SET size = 8 WHERE ts = %s", (START,))
    assert [one == other for one, other in zip(counted(database), there(database), strict=True)] == [False, True, True]
    wrong = database.rows("SELECT * FROM count_wrong_minutes(%s, %s)", (START, START + timedelta(days=DAYS)))
    assert wrong == [("EQUS.MINI", 0, 0, 1)]
    database.execute("UPDATE trades SET size = 7 WHERE ts = %s", (START,))
    # of the first two days the time is over
    database.execute("UPDATE time_tables SET retain = interval '10 days' WHERE table_name = 'trades'")
    assert "dropped" in upkeep(database, START + timedelta(days=12))
    assert [row[3:] for row in counted(database)][:2] == [(0, 0)] * 2
    assert counted(database)[2:] == there(database)
    dropped = database.rows(
        "SELECT DISTINCT day FROM stored_rows WHERE table_name = 'trades' AND dropped_at IS NOT NULL AND day >= %s"
        " AND day < %s ORDER BY day",
        (DAY0, DAY0 + timedelta(days=DAYS)),
    )
    assert dropped == [(DAY0,), (DAY0 + timedelta(days=1),)]
