"""The ledger of what is missing: stated once, closed once, never lost; and the algebra of its intervals."""

import itertools
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from dbn import MINUTE, midnight
from ots_common.database import connect
from ots_ingestion import metrics
from ots_ingestion.gaps import (
    close_gap,
    count_from_the_start,
    difference,
    end_gap,
    intersection,
    length_ns,
    open_gap,
    open_gaps,
    union,
)

OPEN = midnight(date(2024, 3, 4)) + 14 * 3600 * 10**9 + 30 * MINUTE

point = st.integers(0, 40)
intervals = st.lists(st.tuples(point, point), max_size=12)


def moments(some):
    """The definition: every moment that lies in one of them."""
    return {t for start, end in some for t in range(start, end)}


def is_disjoint_and_ordered(some):
    return all(a < b for a, b in some) and all(x[1] < y[0] for x, y in itertools.pairwise(some))


@settings(deadline=None)
@given(one=intervals, other=intervals)
def test_interval_algebra_is_that_of_sets_of_moments(one, other):
    a, b = moments(one), moments(other)
    for found, expected in (
        (union([*one, *other]), a | b),
        (intersection(one, other), a & b),
        (difference(one, other), a - b),
    ):
        assert moments(found) == expected
        assert is_disjoint_and_ordered(found)
        assert length_ns(found) == len(expected)


@settings(deadline=None)
@given(one=intervals, other=intervals)
def test_nothing_is_lost_between_what_was_found_and_what_is_missing(one, other):
    assert union([*intersection(one, other), *difference(one, other)]) == union(one)


@pytest.fixture
def cursor(market):
    """A cursor whose transaction is rolled back."""
    connection = connect(market.owner, application="tests")
    with connection.cursor() as cursor:
        yield cursor
    connection.rollback()
    connection.close()


def stated(cursor, **changes):
    gap = {
        "dataset": "EQUS.MINI", "schema": "trades", "symbol": "AAPL", "starts_ns": OPEN, "ends_ns": None,
        "evidence": "disconnect", "detail": "the connection ended", **changes,
    }  # fmt: skip
    return open_gap(cursor, **gap)


def test_a_gap_is_stated_ended_and_closed(cursor):
    gap = stated(cursor)
    assert [(g.gap_id, g.ends_ns) for g in open_gaps(cursor)] == [(gap, None)]
    end_gap(cursor, gap, OPEN + MINUTE)
    assert [g.ends_ns for g in open_gaps(cursor, "EQUS.MINI")] == [OPEN + MINUTE]
    assert open_gaps(cursor, "OPRA.PILLAR") == []
    close_gap(cursor, gap, closed_by="replay", found=17)
    assert open_gaps(cursor) == []
    # what was closed stays as it was closed
    close_gap(cursor, gap, closed_by="backfill", found=0)
    end_gap(cursor, gap, OPEN + 9 * MINUTE)
    cursor.execute("SELECT closed_by, found, ends_ns FROM gaps WHERE gap_id = %s", (gap,))
    assert cursor.fetchone() == ("replay", 17, OPEN + MINUTE)


def test_each_gap_is_counted_once_when_it_opens_and_once_when_it_closes(cursor):
    def counted(metric, **labels):
        return REGISTRY.get_sample_value(metric, labels) or 0

    def opened():
        return counted("ots_ingestion_gaps_opened_total", dataset="EQUS.MINI", evidence="session")

    def closed(by):
        return counted("ots_ingestion_gaps_closed_total", dataset="EQUS.MINI", by=by)

    before = opened(), closed("session"), closed("backfill")
    one = stated(cursor, evidence="session", ends_ns=OPEN + MINUTE)
    assert stated(cursor, evidence="session", ends_ns=OPEN + 2 * MINUTE) == one
    other = stated(cursor, evidence="session", symbol="MSFT", ends_ns=OPEN + MINUTE)
    for _ in range(2):
        close_gap(cursor, one, closed_by="backfill", found=3)
        close_gap(cursor, other, closed_by="backfill", found=0)  # nothing had been missing: closed by the session
    assert (opened() - before[0], closed("session") - before[1], closed("backfill") - before[2]) == (2, 1, 1)
    # a file may name any dataset: it makes no series of its own
    stated(cursor, dataset="NOBODY.KNOWS")
    assert counted("ots_ingestion_gaps_opened_total", dataset="NOBODY.KNOWS", evidence="disconnect") == 0
    assert counted("ots_ingestion_gaps_opened_total", dataset="other", evidence="disconnect") > 0


def test_the_first_gap_is_an_increase():
    """As the drill found: a series that appears with its first gaps is none, and GapsAppear asks for one."""

    def shown(dataset):
        return REGISTRY.get_sample_value("ots_ingestion_gaps_opened_total", {"dataset": dataset, "evidence": "mute"})

    assert shown("XCHI.PILLAR") is None
    count_from_the_start("XCHI.PILLAR")
    assert shown("XCHI.PILLAR") == 0
    metrics.GAPS_OPENED.labels("XCHI.PILLAR", "mute").inc()
    count_from_the_start("XCHI.PILLAR")
    assert shown("XCHI.PILLAR") == 1


def test_the_same_statement_again_is_the_same_gap(cursor):
    gap = stated(cursor, ends_ns=OPEN + MINUTE)
    assert stated(cursor, ends_ns=OPEN + 3 * MINUTE) == gap
    assert stated(cursor, ends_ns=OPEN + 2 * MINUTE) == gap
    assert [g.ends_ns for g in open_gaps(cursor)] == [OPEN + 3 * MINUTE]
    assert stated(cursor, ends_ns=None) == gap
    assert stated(cursor, ends_ns=OPEN + 5 * MINUTE) == gap
    assert [g.ends_ns for g in open_gaps(cursor)] == [None]
    end_gap(cursor, gap, OPEN + MINUTE)
    close_gap(cursor, gap, closed_by="replay", found=1)
    assert stated(cursor) != gap


@pytest.mark.parametrize(
    "other",
    [
        {"starts_ns": OPEN + 1},
        {"symbol": None},
        {"symbol": "MSFT"},
        {"schema": "tbbo"},
        {"dataset": "XNAS.ITCH"},
        {"evidence": "mute"},
    ],
)
def test_other_statements_stay_gaps_of_their_own_though_they_overlap(cursor, other):
    first = stated(cursor, ends_ns=OPEN + MINUTE)
    assert stated(cursor, ends_ns=OPEN + MINUTE, **other) != first
    close_gap(cursor, first, closed_by="replay", found=0)
    assert len(open_gaps(cursor)) == 1


def test_the_second_disconnect_is_not_closed_by_the_replay_of_the_first(cursor):
    first = stated(cursor)
    end_gap(cursor, first, OPEN + MINUTE)
    second = stated(cursor, starts_ns=OPEN + MINUTE)
    close_gap(cursor, first, closed_by="replay", found=1)
    assert [g.gap_id for g in open_gaps(cursor)] == [second]


@pytest.mark.parametrize("ends_ns", [OPEN, OPEN - 1, 0])
def test_clocks_that_disagree_leave_the_record_at_the_start_in_doubt(cursor, ends_ns):
    gap = stated(cursor)
    end_gap(cursor, gap, ends_ns)
    stated(cursor, symbol="MSFT", ends_ns=ends_ns)
    assert [g.ends_ns - g.starts_ns for g in open_gaps(cursor)] == [1, 1]


def test_what_cannot_be_is_refused(cursor):
    gap = stated(cursor)
    with pytest.raises(ValueError, match="evidence"):
        stated(cursor, evidence="hunch")
    with pytest.raises(ValueError, match="closed_by"):
        close_gap(cursor, gap, closed_by="hope", found=0)
    with pytest.raises(ValueError, match="not over yet"):
        close_gap(cursor, gap, closed_by="replay", found=0)
    with pytest.raises(ValueError, match="not in the ledger"):
        close_gap(cursor, gap + 1000, closed_by="replay", found=0)


def test_the_ledger_over_http(ingestion, market):
    with market.database.connection() as connection, connection.cursor() as cursor:
        one = stated(cursor, symbol=None, ends_ns=OPEN + MINUTE)
        two = stated(cursor, starts_ns=OPEN + MINUTE, evidence="mute")
        three = stated(cursor, dataset="OPRA.PILLAR", symbol="AAPL.OPT", starts_ns=OPEN + 2 * MINUTE)
        close_gap(cursor, one, closed_by="backfill", found=42)

    def ids(query):
        return [gap["id"] for gap in ingestion.get(f"/gaps{query}").json["gaps"]]

    assert ids("") == [one, two, three]
    assert ids("?state=open") == [two, three]
    assert ids("?state=closed") == [one]
    assert ids("?dataset=OPRA.PILLAR") == [three]
    assert ids("?symbol=aapl") == [one, two]
    assert ids("?symbol=MSFT") == [one]
    assert ids("?symbol=aapl.opt&schema=trades") == [one, three]
    assert ids("?schema=tbbo") == []
    assert ids("?end=2024-03-04T14:31:00Z") == [one]
    assert ids("?start=2024-03-04T14:31:00Z") == [two, three]
    page = ingestion.get("/gaps?limit=2").json
    assert [gap["id"] for gap in page["gaps"]] == [one, two]
    assert ids(page["next"].removeprefix("/api/v1/data/gaps")) == [three]
    first = ingestion.get("/gaps").json["gaps"][0]
    assert (first["start"], first["end"]) == ("2024-03-04T14:30:00Z", "2024-03-04T14:31:00Z")
    assert (first["state"], first["closed_by"], first["found"], first["symbol"]) == ("closed", "backfill", 42, None)
    csv = ingestion.get("/gaps", Accept="text/csv").text.splitlines()
    assert csv[0].startswith("id,start,end,dataset,schema,symbol,evidence")
    assert len(csv) == 4
    for query in ("?start=2024-03-05&end=2024-03-04", "?state=lost", "?cursor=x", "?typo=1", "?schema=DROP"):
        assert ingestion.get(f"/gaps{query}").status_code == 422, query
