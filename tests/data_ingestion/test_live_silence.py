"""The timer of a mute feed: how long a session has been silent, over all connections; 0 where nothing is expected."""

from types import SimpleNamespace

import numpy as np
import pytest

from data_ingestion_support import settings_for
from ots_ingestion import supervisor as under_test
from ots_ingestion.collection import Collection
from ots_ingestion.supervisor import Supervisor
from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS

OPENS, CLOSES = 1000 * MINUTE_NS, 1390 * MINUTE_NS
SESSIONS = Sessions(
    name="ONE",
    dates=np.array(["2024-03-04"], "datetime64[D]"),
    opens=np.array([OPENS]),
    closes=np.array([CLOSES]),
    sessions_a_year=252,
    regular_ns=390 * MINUTE_NS,
)


class Clock:
    """Both clocks of a machine."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def monotonic(self) -> float:
        return self.at_s

    def time_ns(self) -> int:
        return OPENS + int(self.at_s * 1e9)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(under_test, "time", made)
    monkeypatch.setattr(under_test, "sessions_of", lambda _: SESSIONS)
    return made


@pytest.fixture
def wanted():
    return SimpleNamespace(it=Collection("EQUS.MINI", True, "raw_symbol", ("AAPL",), ("trades",)))


@pytest.fixture
def collecting(market, redis_server, tmp_path, clock, wanted):
    settings = settings_for(market, redis_server, tmp_path)
    return Supervisor(settings, "EQUS.MINI", lambda: wanted.it, lambda *_: None)


def record_at(collecting, at_s):
    collecting._session = SimpleNamespace(stream=SimpleNamespace(last_data=at_s))


def test_it_counts_from_the_last_record_of_whatever_connection(collecting, clock):
    clock.at_s = 60.0
    assert collecting._silence_s() == 0  # since it looks
    clock.at_s = 100.0
    assert collecting._silence_s() == 40
    record_at(collecting, 95.0)
    assert collecting._silence_s() == 5
    # the connection is gone and another one brings nothing: what the last one brought still counts
    collecting._session = None
    clock.at_s = 130.0
    assert collecting._silence_s() == 35
    record_at(collecting, None)
    assert collecting._silence_s() == 35


def test_outside_sessions_and_where_nothing_is_wanted_nothing_is_silent(collecting, clock, wanted):
    clock.at_s = 60.0
    collecting._silence_s()
    clock.at_s = 500.0
    assert collecting._silence_s() == 440
    asked, wanted.it = wanted.it, None
    assert collecting._silence_s() == 0
    wanted.it = asked
    clock.at_s = 510.0
    assert collecting._silence_s() == 0
    clock.at_s = 530.0
    assert collecting._silence_s() == 20
    clock.at_s = (CLOSES - OPENS) / 1e9
    assert collecting._silence_s() == 0


def test_the_night_is_no_silence(collecting, clock):
    """A record of before the open does not make the session's first minute the end of a long silence."""
    clock.at_s = -3600.0
    record_at(collecting, -3600.0)
    assert collecting._silence_s() == 0
    clock.at_s = 10.0
    assert collecting._silence_s() <= 10
