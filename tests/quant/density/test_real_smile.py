"""The distribution that real GOOG quotes imply, 2015-12-24 at 11:00 New York."""

from __future__ import annotations

import numpy as np
import pytest

from ots_quant import european
from ots_quant.density import flat_move, option_touch, risk_neutral, smile_move, straddle_move, touch
from ots_quant.parity import implied_forwards
from ots_quant.surface import fit_surface
from quant.real_chain import real_chain

RATE = 0.003
EXPIRATIONS = ["2015-12-31", "2016-01-15", "2016-01-22", "2016-02-19"]


@pytest.fixture(scope="module")
def chain(real_data):
    return real_chain(real_data)


def smile_of(chain, expiration):
    """Forward by parity near the money, out-of-the-money volatilities at mid, the straddle nearest to the forward."""
    those = chain.where(chain.expiration == np.datetime64(expiration))
    years, mid = those.years[0], 0.5 * (those.bid + those.ask)
    call, put = (dict(zip(those.strike[side], mid[side], strict=True)) for side in (those.right > 0, those.right < 0))
    near = [k for k in call if k in put and abs(k / chain.spot - 1) < 0.03 and np.isfinite(call[k] + put[k])]
    forward = float(np.median([k + np.exp(RATE * years) * (call[k] - put[k]) for k in near]))
    spot = forward * np.exp(-RATE * years)
    volatility = european.implied_volatility(mid, those.right, spot, those.strike, years, RATE, 0.0)
    tight = (those.bid > 0) & (those.ask - those.bid < 0.4 * mid) & ((those.right > 0) == (those.strike >= forward))
    chosen = tight & np.isfinite(volatility)
    order = np.argsort(those.strike[chosen])
    at = min(near, key=lambda k: abs(k - forward))
    return forward, years, (those.strike[chosen][order], volatility[chosen][order]), (call[at], put[at])


@pytest.mark.parametrize("expiration", EXPIRATIONS)
def test_mass_mean_and_move(chain, expiration):
    forward, years, smile, straddle = smile_of(chain, expiration)
    result = risk_neutral(smile, forward, years)
    assert result.mass == pytest.approx(1.0, abs=3e-4)
    assert result.mean == pytest.approx(forward, rel=3e-4)
    # a curve through every mid has butterflies in it: the density must own up to them
    assert not result.arbitrage_free
    assert 0.01 < result.negative_mass < 0.5
    by_price = straddle_move(*straddle, years, RATE)
    by_smile = smile_move(result)
    assert by_smile.mean_absolute == pytest.approx(by_price.mean_absolute, rel=0.05)
    assert by_smile.lower < forward < by_smile.upper


def test_a_smooth_curve_through_the_same_quotes_is_nearly_free_of_arbitrage(chain):
    forward, years, (strikes, volatilities), _ = smile_of(chain, "2016-02-19")
    curve = np.polynomial.Polynomial.fit(np.log(strikes / forward), volatilities, 2)
    low, high = np.log(strikes[[0, -1]] / forward)
    result = risk_neutral(lambda k: curve(np.clip(np.log(k / forward), low, high)), forward, years)
    assert result.mass == pytest.approx(1.0, abs=5e-3)  # the clipped ends are two kinks
    assert result.negative_mass < 0.02
    assert result.probability_above(forward) == pytest.approx(0.5, abs=0.06)
    flat = flat_move(forward, years, 0.0, 0.0, curve(0.0))
    assert smile_move(result).mean_absolute == pytest.approx(flat.mean_absolute, rel=1e-3)


def test_a_target_five_per_cent_up_within_the_half_hour(chain):
    """At the money, a week out: touched often, although nothing is gained by it on the mean."""
    those = chain.where((chain.expiration == np.datetime64("2015-12-31")) & (np.abs(chain.strike - chain.spot) < 6))
    those = those.where(np.isfinite(those.bid + those.ask))
    mid = 0.5 * (those.bid + those.ask)
    volatility = european.implied_volatility(mid, those.right, chain.spot, those.strike, those.years, RATE, 0.0)
    half_hour = 0.5 / 24 / 365
    result = option_touch(
        those.right, chain.spot, those.strike, those.years, RATE, 0.0, volatility, 1.05 * mid, half_hour
    )
    assert mid.size >= 4
    assert (result.at_least <= result.probability).all()
    assert (result.probability <= result.at_most).all()
    assert ((result.probability > 0.1) & (result.probability < 0.95)).all()
    still = touch(chain.spot, result.level_now, half_hour, RATE, 0.0, volatility).probability
    assert result.probability == pytest.approx(still, abs=0.05)


def test_the_fitted_surface_has_a_density_for_every_expiration(chain):
    forwards = implied_forwards(chain.right, chain.strike, chain.years, chain.bid, chain.ask, chain.spot, rate=0.006)
    row = forwards.rows_of(chain.years)
    quotes = (chain.right, chain.strike, chain.years, chain.bid, chain.ask)
    surface = fit_surface(*quotes, chain.spot, forwards.forward[row], 0.006)
    assert surface.years.size >= 10
    for years, forward in zip(surface.years, surface.forward, strict=True):
        result = risk_neutral(lambda strike, years=years: surface.volatility(years, strike), forward, years)
        assert result.mass == pytest.approx(1.0, abs=1e-8)
        assert result.mean == pytest.approx(forward, rel=1e-8)
        # the sign of the density is that of the certificate's g(k)
        g = surface.butterfly_density(years, np.log(result.strikes / forward))
        clear = np.abs(g) > 1e-6
        assert ((result.density < 0) == (g < 0))[clear & (result.density != 0)].all()
        assert result.arbitrage_free
