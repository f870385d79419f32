"""The real GOOG chain: what parity says about it agrees with the stock that it is on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ots_quant.parity import Forwards, Reason, implied_forwards
from quant.real_chain import RealChain, real_chain

RATE = 0.006
"""Flat, and what the chain's own box spreads say of the longer expirations; GOOG paid no dividend."""


@pytest.fixture(scope="module")
def chain(real_data: Path) -> RealChain:
    return real_chain(real_data)


def found(chain: RealChain, rate: float | None) -> Forwards:
    return implied_forwards(chain.right, chain.strike, chain.years, chain.bid, chain.ask, chain.spot, rate=rate)


def test_the_carry_of_the_spot_lies_inside_the_interval_of_every_expiration(chain: RealChain) -> None:
    forwards = found(chain, RATE)
    assert forwards.years.size == 12
    assert (forwards.reason == Reason.NONE).all()
    carry = chain.spot * np.exp(RATE * forwards.years)
    assert (forwards.forward_low <= carry).all()
    assert (carry <= forwards.forward_high).all()
    # not vacuous: under two tenths of a per cent to either side within two weeks, six tenths at the widest
    width = (forwards.forward_high - forwards.forward_low) / chain.spot
    assert (width < 0.007).all()
    assert np.median(width) < 0.0035
    assert (width[:2] < 0.0015).all()


def test_an_estimated_rate_also_keeps_the_dividend_yield_of_zero_inside(chain: RealChain) -> None:
    forwards = found(chain, None)
    assert (forwards.reason == Reason.NONE).all()
    assert (forwards.dividend_yield_low <= 0).all()
    assert (forwards.dividend_yield_high >= 0).all()
    year = np.argmin(np.abs(forwards.years - 393 / 365))
    assert forwards.rate_identified[year]
    assert forwards.rate_low[year] < RATE < forwards.rate_high[year]
    assert forwards.rate_high[year] - forwards.rate_low[year] < 0.025  # American quotes tell a rate only roughly


def test_a_rate_that_is_too_low_shows_as_a_negative_yield_in_the_long_expirations(chain: RealChain) -> None:
    """At 0.3 % the forwards up to half a year agree with the stock; beyond, no honest interval could hold its carry."""
    forwards = found(chain, 0.003)
    agrees = (forwards.dividend_yield_low <= 0) & (forwards.dividend_yield_high >= 0)
    assert agrees[forwards.years < 0.5].all()
    assert (forwards.dividend_yield_high[forwards.years > 1] < 0).all()


def test_the_forward_is_known_better_than_by_its_tightest_pair_alone(chain: RealChain) -> None:
    forwards = found(chain, RATE)
    rows = forwards.rows_of(chain.years)
    key = np.round(chain.strike * 1000).astype(np.int64) + 10_000_000 * rows
    spread = chain.ask - chain.bid
    calls = {k: s for k, s, right in zip(key, spread, chain.right, strict=True) if right > 0}
    puts = {k: s for k, s, right in zip(key, spread, chain.right, strict=True) if right < 0}
    for row, width in enumerate(forwards.forward_high - forwards.forward_low):
        pairs = [calls[k] + puts[k] for k in calls if k in puts and k // 10_000_000 == row]
        assert width < 2.5 * np.nanmin(pairs)
