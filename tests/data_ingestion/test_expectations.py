"""Silence is suspect when neighbours speak and the silent one usually does; holidays and thin names are not."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from databento_dbn import Schema
from hypothesis import given, settings
from hypothesis import strategies as st

from dbn import DAY, MINUTE, dbn_file, midnight, quote, trade
from ots_common.database import connect
from ots_common.times import rfc3339
from ots_ingestion.collection import Collection, want
from ots_ingestion.expectations import Rule, find_silent, look, stretches_before
from ots_ingestion.gaps import close_gap, open_gap, open_gaps
from ots_market.sessions import around_the_clock, xnys

QUARTER = 15 * MINUTE
MONDAY = date(2024, 3, 4)
OPEN = midnight(MONDAY) + 14 * 3600 * 10**9 + 30 * MINUTE
NAMES = ("AAA", "BBB", "CCC", "DDD")


def masks(rows):
    present = np.array([[c == "x" for c in row] for row in rows])
    ledger = np.array([[c == "g" for c in row] for row in rows])
    empty = np.array([[c == "e" for c in row] for row in rows])
    return present, ledger, empty


@pytest.mark.parametrize(
    ("rows", "suspect"),
    [
        (["xxxxxx", "xxxxx.", "xxxxxx"], {(1, 5)}),
        # as long as it lasts, and what is in the ledger does not make it usual
        (["xxxxxxxx", "xxxx....", "xxxxxxxx"], {(1, 4), (1, 5), (1, 6), (1, 7)}),
        (["xxxxxxxx", "xxxxgg..", "xxxxxxxx"], {(1, 6), (1, 7)}),
        # nobody speaks: that is not one symbol's silence
        (["xxxx.", "xxxx.", "xxxx."], set()),
        # one neighbour is not enough, nor a minority
        (["xxxxx", "xxxx."], set()),
        (["xxxxx", "xxxx.", "xxxx."], set()),
        (["xxxxx", "xxxxx", "xxxx.", "xxxx.", "xxxx.", "xxxx."], set()),
        # who is known for too short, and who trades now and then, is not expected
        (["xxxx", "xxx.", "xxxx"], set()),
        (["xxxxxxxxx", "x.x.xxxx.", "xxxxxxxxx"], set()),
        # history had nothing either: not suspect again, and less usual from then on
        (["xxxxxxxx", "xxxxxe..", "xxxxxxxx"], set()),
        # who speaks again is well again
        (["xxxxxxxxxxxxxxx", "xxxxxgxxxxxxxx.", "xxxxxxxxxxxxxxx"], {(1, 14)}),
    ],
)
def test_who_is_suspect(rows, suspect):
    assert {tuple(at) for at in np.argwhere(find_silent(*masks(rows))).tolist()} == suspect


@settings(deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda s: st.lists(st.lists(st.sampled_from("x.ge"), min_size=12, max_size=12), min_size=s, max_size=s)
    )
)
def test_nobody_is_suspect_who_spoke_or_is_explained_or_is_alone(rows):
    present, ledger, empty = masks(rows)
    silent = find_silent(present, ledger, empty)
    assert not (silent & (present | ledger | empty)).any()
    having = present.sum(axis=0)
    assert (having[silent.any(axis=0)] >= Rule().neighbours).all()
    assert not silent[:, : Rule().least_reference].any()


def test_stretches_are_those_of_sessions():
    sessions = xnys()
    # the half day of 2015-12-24 ends at 13:00, the 25th is a holiday, then a weekend
    start = midnight(date(2015, 12, 24))
    found = stretches_before(sessions, start, start + 5 * DAY, QUARTER, most=1000)
    half_day = 210 // 15
    assert len(found) == half_day + 26
    assert rfc3339(int(found[half_day - 1, 1])) == "2015-12-24T18:00:00Z"
    assert rfc3339(int(found[half_day, 0])) == "2015-12-28T14:30:00Z"
    assert (np.diff(found, axis=1) == QUARTER).all()
    assert len(stretches_before(sessions, start, start + 5 * DAY, QUARTER)) == 32
    assert len(stretches_before(sessions, midnight(date(2015, 12, 25)), midnight(date(2015, 12, 28)), QUARTER)) == 0
    assert len(stretches_before(sessions, start, start, QUARTER)) == 0
    # 390 minutes are six hours and a half: half an hour is left out, forty minutes are not
    assert len(stretches_before(sessions, OPEN, OPEN + DAY // 2, 60 * MINUTE)) == 7
    assert len(stretches_before(sessions, OPEN, OPEN + DAY // 2, 70 * MINUTE)) == 6
    assert len(stretches_before(around_the_clock(), start, start + DAY, QUARTER, most=1000)) == 96


@pytest.fixture
def collected(ingestion, market):
    """Four stocks are collected from before the open on, and what each traded can be planted."""

    def set_up(prefix, schema="trades", dataset="EQUS.MINI", stype_in="raw_symbol", suffix="", begun=OPEN - DAY):
        names = tuple(prefix + name + suffix for name in NAMES)
        with market.database.connection() as connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM gaps")
            want(cursor, Collection(dataset, True, stype_in, names, (schema, "definition")))
            cursor.execute("UPDATE collections SET requested_at = %s", (datetime.fromtimestamp(begun / 10**9, tz=UTC),))
        return names

    yield set_up
    market.database.execute("UPDATE collections SET wanted = false")


@pytest.fixture
def cursor(market):
    connection = connect(market.owner, application="tests")
    with connection.cursor() as found:
        yield found
    connection.rollback()
    connection.close()


def plant(ingestion, names, silent, quarters=8):
    """A trade in each quarter of an hour of each name, but for those of ``silent``: (name, quarter)."""
    ids = {name: 7000 + i for i, name in enumerate(names)}
    records = [
        trade(OPEN + q * QUARTER + 1, 10, instrument=ids[name])
        for q in range(quarters)
        for name in names
        if (name, q) not in silent
    ]
    ingestion.imported(dbn_file(Schema.TRADES, records, symbols=ids))


def look_at(cursor, quarter, sessions=None):
    return look(cursor, sessions or xnys(), OPEN + quarter * QUARTER + 5 * MINUTE, 15)


def test_a_silent_stock_is_a_gap_once_and_is_closed_when_its_records_come(ingestion, collected, cursor):
    names = collected("S")
    silent = names[2]
    plant(ingestion, names, {(silent, 6)})
    assert look_at(cursor, 6) == (0, 0)
    assert look_at(cursor, 7) == (1, 0)
    (gap,) = open_gaps(cursor)
    assert (gap.symbol, gap.schema, gap.evidence) == (silent, "trades", "session")
    assert (gap.starts_ns, gap.ends_ns) == (OPEN + 6 * QUARTER, OPEN + 7 * QUARTER)
    assert "3 of its 3 neighbours" in gap.detail
    assert look_at(cursor, 7) == (0, 0)
    cursor.connection.commit()
    late = [trade(OPEN + 6 * QUARTER + i, 10, instrument=7002) for i in range(5)]
    ingestion.imported(dbn_file(Schema.TRADES, late, symbols={silent: 7002}))
    assert look_at(cursor, 7) == (0, 1)
    cursor.execute("SELECT closed_by, found FROM gaps WHERE gap_id = %s", (gap.gap_id,))
    assert cursor.fetchone() == ("replay", 5)


def test_what_history_has_not_either_is_not_stated_again(ingestion, collected, cursor):
    names = collected("H")
    plant(ingestion, names, {(names[0], 6)})
    assert look_at(cursor, 7) == (1, 0)
    (gap,) = open_gaps(cursor)
    close_gap(cursor, gap.gap_id, closed_by="backfill", found=0)
    cursor.execute("SELECT closed_by FROM gaps WHERE gap_id = %s", (gap.gap_id,))
    assert cursor.fetchone() == ("session",)
    assert look_at(cursor, 7) == (0, 0)
    assert open_gaps(cursor) == []


def test_a_disconnect_explains_it_and_one_symbols_gap_only_that_symbol(ingestion, collected, cursor):
    names = collected("D")
    plant(ingestion, names, {(names[0], 6), (names[1], 6)})
    gap = {"dataset": "EQUS.MINI", "schema": "trades", "evidence": "disconnect", "detail": ""}
    open_gap(cursor, symbol=names[0], starts_ns=OPEN + 6 * QUARTER, ends_ns=OPEN + 7 * QUARTER, **gap)
    assert look_at(cursor, 7) == (1, 0)
    assert [g.symbol for g in open_gaps(cursor) if g.evidence == "session"] == [names[1]]
    cursor.execute("DELETE FROM gaps")
    open_gap(cursor, symbol=None, starts_ns=OPEN + 6 * QUARTER, ends_ns=None, **gap)
    assert look_at(cursor, 7) == (0, 0)


def test_what_is_no_longer_wanted_or_was_not_yet_is_not_looked_at(ingestion, collected, cursor):
    names = collected("N", begun=OPEN + 5 * QUARTER)
    plant(ingestion, names, {(names[0], 6)})
    assert look_at(cursor, 8) == (0, 0)  # of three stretches nothing is usual yet
    cursor.execute("UPDATE collections SET requested_at = requested_at - interval '1 day', wanted = false")
    assert look_at(cursor, 8) == (0, 0)
    cursor.execute("UPDATE collections SET wanted = true")
    assert look_at(cursor, 8) == (1, 0)


def test_a_thin_name_and_the_night_raise_nothing(ingestion, collected, cursor):
    names = collected("T")
    plant(ingestion, names, {(names[3], q) for q in (1, 3, 4, 6)}, quarters=26)
    for quarter in range(1, 27):
        assert look_at(cursor, quarter) == (0, 0), quarter
    for hours in (8, 12, 17):  # after the close, and before the next open
        assert look(cursor, xnys(), OPEN + hours * 3600 * 10**9, 15) == (0, 0)
    assert open_gaps(cursor) == []


def test_of_options_the_parent_is_expected_not_the_contract(ingestion, collected, cursor, market):
    underlyings = [name.removesuffix(".OPT") for name in collected(
        "O", schema="cbbo-1m", dataset="OPRA.PILLAR", stype_in="parent", suffix=".OPT"
    )]  # fmt: skip
    ids = {
        f"{name:<6}240315C00{strike}000": 100 * i + strike
        for i, name in enumerate(underlyings)
        for strike in (100, 101)
    }
    records = [
        # one contract of each parent is quoted in each quarter, in turn; a sample at a border is of the quarter before
        quote(OPEN + (q + 1) * QUARTER, 1.0, 1.1, instrument=100 * i + 100 + q % 2)
        for q in range(8)
        for i in range(4)
        if (i, q) != (1, 6)
    ]
    ingestion.imported(dbn_file(Schema.CBBO_1M, records, symbols=ids, dataset="OPRA.PILLAR"))
    market.database.execute("UPDATE collections SET wanted = (dataset = 'OPRA.PILLAR')")
    assert look_at(cursor, 6) == (0, 0)
    assert look_at(cursor, 7) == (1, 0)
    assert [g.symbol for g in open_gaps(cursor)] == [underlyings[1] + ".OPT"]
    assert look_at(cursor, 8) == (0, 0)


def test_a_tape_is_looked_at_by_its_own_clock(ingestion, collected, cursor):
    names = collected("C")
    plant(ingestion, names, {(names[2], 6)})
    years = timedelta(days=700)
    cursor.execute("UPDATE collections SET requested_at = requested_at + %s", (years,))
    offset = -700 * DAY
    cursor.execute(
        "INSERT INTO collection_states (dataset, state, since, holder, clock_offset_ns)"
        " VALUES ('EQUS.MINI', 'streaming', now(), 'test', %s)",
        (offset,),
    )
    now = OPEN + 7 * QUARTER + 5 * MINUTE - offset
    assert look(cursor, xnys(), now, 15) == (1, 0)
