"""The real day of GOOG through the engine, the ledger and the resolver: it runs, and says that one day says nothing."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import date

import pytest

from data_ingestion_support import Ingestion, settings_for
from ots_common.database import Database, connect
from ots_signals import ledger
from ots_signals.decisions import Mode
from ots_signals.replay import replay
from ots_signals.settings import SignalsSettings

DAY = date(2015, 12, 24)
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
    return SignalsSettings(database_url=market.signals, log_level="ERROR", underlyings=["GOOG"])


@pytest.fixture(scope="module")
def replayed(settings):
    return replay(settings, DAY, DAY, ["GOOG"])


@pytest.fixture(scope="module")
def entries(market, replayed):
    database = Database(market.signals, application="tests", size=1)
    yield ledger.after(database, 0, 10_000)
    database.close()


def test_it_decides_and_each_signal_has_its_outcome(replayed, entries):
    kinds = Counter(entry.kind for entry in entries)
    print(kinds, Counter((e.record.strategy, getattr(e.record, "why", "signal")) for e in entries if e.kind != "outcome"))
    print([(e.record.fills[0].barrier, e.record.fills[0].net_return, e.record.baseline) for e in entries if e.kind == "outcome"])
    assert replayed.minutes == 210
    assert kinds["signal"] == replayed.signals == kinds["outcome"] == replayed.outcomes
    assert kinds["abstention"] == replayed.abstentions
