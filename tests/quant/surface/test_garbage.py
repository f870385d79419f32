"""Chains made of nonsense: no crash, no warning, and NaN or a reason instead of an answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_quant.parity import Reason, implied_forwards
from ots_quant.surface import LeftOut, fit_surface
from quant.surface.chains import SPOT, european_chain, svi

NONSENSE = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 1e300, 1.0, 5.0, 99.0, 100.0, 100.5, 0.5, 1e-8, 0.01, 0.02]
)

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), contracts=st.integers(0, 40), american=st.booleans())
def test_nonsense_is_answered_with_nan_and_reasons(seed: int, contracts: int, american: bool) -> None:
    random = np.random.default_rng(seed)
    right = random.choice([-1.0, 1.0], contracts)
    strike, years, bid, ask, forward = (random.choice(NONSENSE, contracts) for _ in range(5))
    rate = random.choice([0.0, 0.05, -0.02, np.nan, 1e300], contracts)
    for given_rate in (None, float(random.choice([0.0, 0.05, -0.02]))):
        forwards = implied_forwards(right, strike, years, bid, ask, SPOT, rate=given_rate, american=american)
        known = forwards.reason == Reason.NONE
        assert np.isfinite(forwards.forward[known]).all()
        assert np.isnan(forwards.forward[~known]).all()
        assert (forwards.forward_low[known] <= forwards.forward[known]).all()
        assert (forwards.forward[known] <= forwards.forward_high[known]).all()
    surface = fit_surface(right, strike, years, bid, ask, SPOT, forward, rate, american=american)
    assert ((surface.left_out == LeftOut.USED).sum()) == surface.certificate.contracts_used
    volatility = surface.volatility(years, strike)
    assert not np.isinf(volatility).any()
    assert not (volatility < 0).any()
    for answer in (surface.skew(years), surface.risk_reversal(years), surface.butterfly(years)):
        assert answer.shape == years.shape
    surface.inside(years, strike)
    surface.term_structure()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_messed_up_chain_still_has_a_surface_nearly_without_arbitrage(seed: int) -> None:
    """A quarter of the sides replaced by nonsense, contracts missing, one to eight expirations of one to 30 strikes."""
    random = np.random.default_rng(seed)
    spot = float(random.choice([0.5, 100.0, 5000.0]))
    chain = european_chain(
        np.cumsum(random.uniform(0.003, 0.5, random.integers(1, 8))).tolist(),
        svi,
        strikes=int(random.integers(1, 30)),
        half_spread=float(random.choice([0.001, 0.05, 0.5])) * spot / SPOT,
        rate=float(random.choice([0.0, 0.05, -0.01])),
        spot=spot,
    )
    bid, ask = (
        np.where(random.random(side.size) < 0.12, random.choice(NONSENSE, side.size), side)
        for side in (chain.bid, chain.ask)
    )
    chain = chain._replace(bid=bid, ask=ask).where(random.random(bid.size) < 0.6)
    implied_forwards(*chain.quotes, spot, rate=chain.rate, american=False)
    surface = fit_surface(*chain.quotes, spot, chain.forward, chain.rate, american=False)
    assert surface.certificate.calendar_inside.failing == 0
    assert surface.certificate.butterfly_inside.worst < 0.01  # quotes that no smile fits can leave a trace of g < 0
    assert surface.certificate.between_inside.worst < 0.01
