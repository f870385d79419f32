"""The real day of GOOG through the engine, the ledger and the resolver: it runs, and says that one day says nothing."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from ots_common.database import Database
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_signals import ledger
from ots_signals.app import create_app
from ots_signals.decisions import Mode, Signal
from ots_signals.replay import replay
from ots_signals.settings import SignalsSettings

DAY = date(2015, 12, 24)
KEY = SecretStr("s" * 40)
FILES = [
    "OPRA.PILLAR/GOOG-2015-12-24/definition.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/cbbo-1m.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/statistics.dbn.zst",
    "EQUS.MINI/GOOG-2015-12-24/ohlcv-1m.dbn.zst",
]


@pytest.fixture(scope="module")
def settings(market, redis_server, tmp_path_factory, real_data):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for file in FILES:
            service.imported((real_data / file).read_bytes())
    return SignalsSettings(
        database_url=market.signals, log_level="ERROR", underlyings=["GOOG"], accept_keys={"gateway": KEY}
    )


@pytest.fixture(scope="module")
def replayed(settings):
    return replay(settings, DAY, DAY, ["GOOG"])


@pytest.fixture(scope="module")
def entries(market, replayed):
    database = Database(market.signals, application="tests", size=1)
    yield ledger.after(database, 0, 10_000)
    database.close()


def test_each_minute_is_decided_and_each_signal_has_its_outcome(replayed, entries):
    kinds = Counter(entry.kind for entry in entries)
    assert replayed.minutes == 210
    assert kinds["signal"] == replayed.signals == kinds["outcome"] == replayed.outcomes > 0
    assert kinds["abstention"] == replayed.abstentions > 0
    assert {entry.record.mode for entry in entries if entry.kind != "outcome"} == {Mode.REPLAY}


def test_a_signal_costs_what_the_market_asked(entries):
    for signal in (entry.record for entry in entries if isinstance(entry.record, Signal)):
        assert signal.source == "databento"
        assert all(0 < leg.bid < leg.ask for leg in signal.legs)
        assert 0 < signal.entry.spread_pct < 0.05
        assert abs(signal.odds.p_target + signal.odds.p_stop + signal.odds.p_timeout - 1) < 1e-9
        # nobody has an edge in a fair market: what is expected is the cost
        assert signal.odds.fair_value_pct < 0


def test_the_same_replay_again_adds_nothing(settings, entries):
    again = replay(settings, DAY, DAY, ["GOOG"])
    assert (again.signals, again.abstentions, again.outcomes) == (0, 0, 0)


def test_one_day_says_nothing(settings, entries):
    caller = Caller("gateway", "u", "u", "viewer", "request-01")
    token = {HEADER: sign_internal_token(caller, "signals", {"signals": KEY})}
    answer = create_app(settings).test_client().get("/api/v1/signals/performance", headers=token)
    assert answer.json["source"] == "databento"
    assert {group["verdict"]["verdict"] for group in answer.json["groups"]} == {"insufficient_data"}
