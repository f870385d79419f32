"""The closes that statistics are taken of: of regular sessions, as many as were asked for, and those in common."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from databento_dbn import Schema

from data_ingestion_support import Ingestion, settings_for
from dbn import MINUTE, bar, dbn_file, midnight
from ots_analytics.return_series import common_closes, read_closes
from ots_market.instruments import find_instrument
from ots_market.sessions import xnys
from ots_market.timeframes import Timeframe

START = midnight(date(2024, 3, 4))
END = START + 2 * 1440 * MINUTE
CLOSES = np.round(50 + np.cumsum(np.random.default_rng(5).normal(0, 0.05, 2880)), 2)
EVERY = START + np.arange(2880) * MINUTE


@pytest.fixture(scope="module")
def read(market, redis_server, tmp_path_factory):
    """Two symbols with a minute bar around the clock on two days; of the second every seventh is missing."""
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for symbol, chosen in (("WHOLE", np.arange(2880)), ("HOLES", np.flatnonzero(np.arange(2880) % 7))):
            bars = [bar(int(EVERY[i]), (CLOSES[i],) * 4, 10) for i in chosen]
            run = service.imported(dbn_file(Schema.OHLCV_1M, bars, days=2, symbols={symbol: 1}))
            assert run["rejected"] == 0

    def read_of(symbol, bars, as_of_ns=END):
        instrument = find_instrument(market.database, symbol)
        return read_closes(market.database, instrument, Timeframe.M1, xnys(), as_of_ns=as_of_ns, bars=bars)

    return read_of


def regular(until_ns=END):
    """Which of the minutes lie in a regular session and had closed."""
    return np.flatnonzero((xnys().index_of(EVERY) >= 0) & (until_ns - MINUTE >= EVERY))


@pytest.mark.parametrize("bars", [50, 400, 700])
def test_so_many_regular_minutes_as_were_asked_for(read, bars):
    """Two thirds of the minutes lie outside the regular hours; they are neither taken nor do they use up the number."""
    found = read("WHOLE", bars)
    chosen = regular()[-bars:]
    assert found.starts.tolist() == EVERY[chosen].tolist()
    assert found.close == pytest.approx(CLOSES[chosen])


def test_nothing_that_had_not_closed(read):
    moment = int(xnys().closes[xnys().between(START, END)][0]) - 30 * MINUTE
    found = read("WHOLE", 60, moment + MINUTE - 1)
    assert found.starts.tolist() == EVERY[regular(moment)][-60:].tolist()


def test_common_are_those_that_both_have(read):
    starts, closes = common_closes([read("WHOLE", 300), read("HOLES", 300)])
    both = set(EVERY[regular()[-300:]].tolist()) & set(EVERY[[i for i in regular() if i % 7][-300:]].tolist())
    assert starts.tolist() == sorted(both)
    assert closes.shape == (2, len(both))
    assert (closes[0] == closes[1]).all()
