"""The real GOOG chain at 11:00: a surface without arbitrage between the quoted strikes, mostly within the spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ots_quant import american
from ots_quant.parity import Forwards, implied_forwards
from ots_quant.surface import LeftOut, Surface, fit_surface
from quant.real_chain import RealChain, real_chain
from quant.surface.test_certificate import price_violations

RATE = 0.006


@pytest.fixture(scope="module")
def chain(real_data: Path) -> RealChain:
    return real_chain(real_data)


@pytest.fixture(scope="module")
def forwards(chain: RealChain) -> Forwards:
    return implied_forwards(chain.right, chain.strike, chain.years, chain.bid, chain.ask, chain.spot, rate=RATE)


@pytest.fixture(scope="module")
def surface(chain: RealChain, forwards: Forwards) -> Surface:
    carry = forwards.carry_of(chain.years)
    return fit_surface(
        chain.right, chain.strike, chain.years, chain.bid, chain.ask, chain.spot, carry.forward, carry.rate
    )


def test_no_violation_inside_the_quoted_strikes(surface: Surface) -> None:
    certificate = surface.certificate
    assert surface.years.size == 12
    assert certificate.butterfly_inside.failing == 0
    assert certificate.calendar_inside.failing == 0
    assert certificate.between_inside.failing == 0
    assert certificate.butterfly_inside.points > 4000
    assert price_violations(surface) == 0


def test_none_outside_either(surface: Surface) -> None:
    certificate = surface.certificate
    assert certificate.butterfly_outside.failing == 0
    assert certificate.calendar_outside.failing == 0
    assert certificate.between_outside.failing == 0


def test_the_surface_runs_within_the_spreads(surface: Surface) -> None:
    certificate = surface.certificate
    assert certificate.contracts_used > 550
    assert certificate.share_within_spread > 0.97
    assert certificate.rms_half_spreads < 0.45


def test_at_the_money_volatilities_are_those_of_the_quotes(chain: RealChain, surface: Surface) -> None:
    """The facts: .163/.161 and .189/.188 at the money, .253 for the 750 call with two hours left."""
    today = surface.years.min()
    assert surface.volatility(today, 750.0) == pytest.approx(0.253, abs=0.02)
    near = surface.volatility(surface.years[1:4], surface.forward[1:4])
    assert ((near > 0.15) & (near < 0.2)).all()


def test_every_contract_is_used_or_has_a_reason(chain: RealChain, surface: Surface) -> None:
    one_sided = ~(chain.bid > 0) | ~(chain.ask > 0)
    assert (surface.left_out[one_sided] == LeftOut.ONE_SIDED).all()
    assert (surface.left_out[~one_sided] != LeftOut.ONE_SIDED).all()
    certificate = surface.certificate
    assert certificate.contracts_used + certificate.contracts_left_out.sum() == chain.strike.size


def test_calls_and_puts_of_a_strike_agree_within_the_spread(chain: RealChain, forwards: Forwards) -> None:
    """The ranges of volatility from bid to ask of the call and of the put overlap, at the forward that parity gives."""
    carry = forwards.carry_of(chain.years)
    usable = (chain.bid > 0) & (chain.ask >= chain.bid)

    def implied(price: np.ndarray) -> np.ndarray:
        return np.asarray(
            american.implied_volatility(
                np.where(usable, price, np.nan),
                chain.right,
                chain.spot,
                chain.strike,
                chain.years,
                carry.rate,
                carry.dividend_yield,
            )
        )

    low, high = implied(chain.bid), implied(chain.ask)
    low = np.where(np.isnan(low) & usable, 0.0, low)  # a bid below the least value of the option bounds nothing
    order = np.lexsort((chain.right, chain.strike, chain.years))
    put, call = order[::2], order[1::2]
    assert (chain.strike[put] == chain.strike[call]).all()
    both = usable[put] & usable[call] & np.isfinite(high[put]) & np.isfinite(high[call])
    overlap = np.minimum(high[put], high[call]) - np.maximum(low[put], low[call])
    assert both.sum() > 250
    assert (overlap[both] >= 0).all()
