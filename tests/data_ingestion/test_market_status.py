"""Open or closed, by the calendar of the market source."""

from datetime import date

import pytest

from data_ingestion_support import Ingestion, settings_for
from dbn import midnight
from ots_ingestion.market_status import local_day
from ots_market.sessions import around_the_clock, xnys


@pytest.fixture(scope="module")
def simulated(market, redis_server, tmp_path_factory):
    spool = tmp_path_factory.mktemp("spool")
    return Ingestion(
        settings_for(market, redis_server, spool, market_source="simulated", market_calendar="around-the-clock")
    )


def at(service, moment):
    answer = service.get(f"/market-status?at={moment}")
    assert answer.status_code == 200, answer.text
    return answer.json


@pytest.mark.parametrize(
    ("moment", "phase", "why", "half_day", "following"),
    [
        ("2015-12-24T15:00:00Z", "regular", None, True, "2015-12-28"),
        # 13:00 New York is the close of a half day: the moment itself is after it
        ("2015-12-24T17:59:59.999999999Z", "regular", None, True, "2015-12-28"),
        ("2015-12-24T18:00:00Z", "post-market", "out of hours", True, "2015-12-28"),
        ("2015-12-24T22:00:00Z", "closed", "out of hours", True, "2015-12-28"),
        ("2015-12-25T15:00:00Z", "closed", "holiday", None, "2015-12-28"),
        ("2015-12-26T15:00:00Z", "closed", "weekend", None, "2015-12-28"),
        ("2015-12-28T09:00:00Z", "pre-market", "out of hours", False, "2015-12-28"),
        ("2015-12-28T08:59:59Z", "closed", "out of hours", False, "2015-12-28"),
        ("2015-12-28T14:30:00Z", "regular", None, False, "2015-12-29"),
        # New York's date is not UTC's in the evening
        ("2015-12-29T01:30:00Z", "closed", "out of hours", False, "2015-12-29"),
    ],
)
def test_the_exchanges_hours(ingestion, moment, phase, why, half_day, following):
    found = at(ingestion, moment)
    assert (found["phase"], found["why_closed"], found["half_day"]) == (phase, why, half_day)
    assert found["open"] is (phase == "regular")
    assert (found["current"] is None) is (phase != "regular")
    assert found["next"]["date"] == following
    assert (found["calendar"], found["source"]) == ("XNYS", "databento")


def test_daylight_saving_moves_the_open(ingestion):
    assert at(ingestion, "2024-03-08T15:00:00Z")["current"]["opens_at"] == "2024-03-08T14:30:00Z"
    assert at(ingestion, "2024-03-11T15:00:00Z")["current"]["opens_at"] == "2024-03-11T13:30:00Z"


def test_now_is_the_default(ingestion):
    found = ingestion.get("/market-status").json
    assert found["next"]["opens_at"] > found["at"]


@pytest.mark.parametrize("moment", ["1980-01-01", "2200-01-01T00:00:00Z", "soon"])
def test_beyond_the_calendar_is_said_so(ingestion, moment):
    assert ingestion.get(f"/market-status?at={moment}").status_code == 422


def test_a_simulated_market_never_closes(simulated):
    found = at(simulated, "2026-11-21T23:59:59Z")  # a Saturday
    assert (found["open"], found["phase"], found["why_closed"], found["half_day"]) == (True, "regular", None, False)
    assert (found["calendar"], found["source"], found["date"]) == ("SIM24", "simulated", "2026-11-21")
    assert found["current"] == {
        "date": "2026-11-21",
        "opens_at": "2026-11-21T00:00:00Z",
        "closes_at": "2026-11-22T00:00:00Z",
        "half_day": False,
    }
    assert found["next"]["opens_at"] == "2026-11-22T00:00:00Z"


def test_a_day_is_the_markets_own_and_not_always_24_hours():
    hours = {
        day: (end - start) / 3.6e12
        for day in (date(2024, 3, 9), date(2024, 3, 10), date(2024, 11, 3))
        for start, end in [local_day(xnys(), day)]
    }
    assert list(hours.values()) == [24, 23, 25]
    assert local_day(around_the_clock(), date(2024, 3, 10)) == (
        midnight(date(2024, 3, 10)),
        midnight(date(2024, 3, 11)),
    )
