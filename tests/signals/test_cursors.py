"""When a minute is closed: the feeds have told something later, or have nothing to tell."""

from __future__ import annotations

from contextlib import closing

import pytest

from ots_common.database import Database, connect
from ots_common.times import NS_PER_S
from ots_signals import cursors
from ots_signals.cursors import Due

NOW = 1_796_060_000 * NS_PER_S
SETTLED = NOW - 5 * NS_PER_S
STOCKS, OPTIONS = "EQUS.MINI", "OPRA.PILLAR"


@pytest.fixture
def feed(market):
    """Puts a dataset's collection into a state; all of it is gone afterwards."""

    def put(dataset, state, *, wanted=True, received_s=1.0, newest_ns=None):
        market.database.execute(
            "INSERT INTO collections (dataset, wanted, stype_in, symbols, schemas, requested_by)"
            " VALUES (%s, %s, 'raw_symbol', '{}', '{}', 'test')",
            (dataset, wanted),
        )
        market.database.execute(
            "INSERT INTO collection_states (dataset, state, since, holder, last_received_at)"
            " VALUES (%s, %s, now(), 'test', now() - make_interval(secs => %s))",
            (dataset, state, received_s),
        )
        for schema, ns in (("trades", newest_ns), ("definition", 1)):
            market.database.execute(
                "INSERT INTO collection_schemas (dataset, schema, last_ns) VALUES (%s, %s, %s)", (dataset, schema, ns)
            )

    yield put
    for table in ("collection_schemas", "collection_states", "collections"):
        market.database.execute(f"DELETE FROM {table}")


@pytest.fixture(scope="module")
def database(market):
    pool = Database(market.signals, application="tests", size=2)
    yield pool
    pool.close()


def closed(database):
    return cursors.closed_until(database, NOW, 5.0)


def test_without_a_feed_what_is_over_for_a_while_is_closed(database):
    assert closed(database) == SETTLED


def test_the_feed_that_is_behind_decides(database, feed):
    feed(STOCKS, "streaming", newest_ns=NOW - 1)
    feed(OPTIONS, "streaming", newest_ns=NOW - 90 * NS_PER_S)
    assert closed(database) == NOW - 90 * NS_PER_S


def test_what_came_last_counts_and_not_yesterdays_definitions(database, feed):
    feed(STOCKS, "streaming", newest_ns=NOW - 1)
    assert closed(database) == NOW - 1


@pytest.mark.parametrize("state", ["replaying", "connecting", "backing_off"])
def test_while_a_feed_catches_up_nothing_is_closed_by_waiting(database, feed, state):
    feed(STOCKS, state, newest_ns=NOW - 600 * NS_PER_S, received_s=60)
    assert closed(database) == NOW - 600 * NS_PER_S


@pytest.mark.parametrize(
    ("state", "wanted", "received_s"),
    [("streaming", True, 60), ("mute", True, 60), ("stopped", True, 1), ("failed", True, 1), ("streaming", False, 1),
     ("backing_off", True, 1000)],
)  # fmt: skip
def test_of_a_feed_that_is_silent_or_away_nothing_is_waited_for(database, feed, state, wanted, received_s):
    feed(STOCKS, state, wanted=wanted, received_s=received_s, newest_ns=NOW - 600 * NS_PER_S)
    assert closed(database) == SETTLED


def test_one_has_a_cursor_and_the_other_goes_on(database, market):
    cursors.begin(database, ["AAPL", "MSFT"], 60 * NS_PER_S)
    cursors.begin(database, ["AAPL"], 0)
    assert cursors.positions(database) == {"AAPL": 60 * NS_PER_S, "MSFT": 60 * NS_PER_S}
    due = Due("AAPL", 60 * NS_PER_S, 120 * NS_PER_S)
    with (
        closing(connect(market.signals, application="tests")) as first,
        closing(connect(market.signals, application="tests")) as second,
    ):
        assert cursors.lease(first, due) == 0
        assert cursors.lease(second, due) is None
        second.rollback()
        cursors.move(first, due)
        first.commit()
        # it is decided: whoever thought it was due learns so
        assert cursors.lease(second, due) is None
    assert cursors.positions(database)["AAPL"] == 120 * NS_PER_S


def test_what_is_put_off_is_not_due_and_counts_its_tries(database, market):
    due = Due("MSFT", 60 * NS_PER_S, 120 * NS_PER_S)
    cursors.put_off(database, due, "broken", 3600, counts=True)
    with closing(connect(market.signals, application="tests")) as connection:
        assert cursors.lease(connection, due) is None
    cursors.put_off(database, due, "broken", -1, counts=True)
    with closing(connect(market.signals, application="tests")) as connection:
        assert cursors.lease(connection, due) == 2
