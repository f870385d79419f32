"""Positions from real GOOG quotes, 2015-12-24 at 11:00 New York: what crossing the spreads costs."""

from __future__ import annotations

import numpy as np
import pytest

from ots_quant import american
from ots_quant.strategies import (
    CALL,
    PUT,
    Leg,
    Market,
    calendar,
    entry,
    expected_profit,
    iron_condor,
    probability_of_profit,
    profit_at_first_expiration,
    straddle,
)
from quant.real_chain import real_chain

RATE = 0.003


@pytest.fixture(scope="module")
def chain(real_data):
    return real_chain(real_data)


def leg(chain, right, strike, expiration):
    chosen = np.flatnonzero(
        (chain.right == right) & (chain.strike == strike) & (chain.expiration == np.datetime64(expiration))
    )
    (i,) = chosen
    return Leg(right, strike, float(chain.years[i]), float(chain.bid[i]), float(chain.ask[i]))


def market(chain, position):
    volatilities = american.implied_volatility(
        [x.mid for x in position.legs],
        [x.right for x in position.legs],
        chain.spot,
        [x.strike for x in position.legs],
        [x.years for x in position.legs],
        RATE,
        0.0,
    )
    return Market(chain.spot, RATE, 0.0, tuple(float(v) for v in volatilities))


def test_every_position_starts_its_half_spreads_behind(chain):
    january = "2016-01-15"
    call, put = leg(chain, CALL, 750.0, january), leg(chain, PUT, 750.0, january)
    for position in (
        straddle(call, put),
        straddle(call, put, -1),
        iron_condor(
            *(leg(chain, r, k, january) for r, k in ((PUT, 700.0), (PUT, 720.0), (CALL, 780.0), (CALL, 800.0)))
        ),
        calendar(call, leg(chain, CALL, 750.0, "2016-02-19")),
    ):
        bought = entry(position)
        assert bought.problems == ()
        assert bought.half_spreads > 0
        now = market(chain, position)
        assert expected_profit(position, now, bought).profit == pytest.approx(-bought.half_spreads, abs=0.02)
        chance = probability_of_profit(position, now, bought.cost, now.volatilities[0])
        assert 0.05 < chance.lognormal < 0.95


def test_a_calendar_pays_at_its_strike(chain):
    position = calendar(leg(chain, CALL, 750.0, "2016-01-15"), leg(chain, CALL, 750.0, "2016-02-19"))
    bought = entry(position)
    result = profit_at_first_expiration(position, market(chain, position), bought.cost)
    low, high = result.break_evens.spots
    assert low < 750.0 < high
    assert result.extremes.gain_at == pytest.approx(750.0, rel=1e-6)
    assert result.extremes.maximum_loss == pytest.approx(bought.cost, rel=0.01)
