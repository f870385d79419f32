"""Exposures of the real GOOG chain, 2015-12-24 at 11:00 New York, by its own open interest."""

from __future__ import annotations

import numpy as np
import pytest

from ots_quant import european
from ots_quant.exposure import (
    Contracts,
    DealerSide,
    exposure,
    exposure_band,
    exposure_by_strike,
    max_pain,
    put_call_ratio,
    zero_gamma,
)
from quant.real_chain import real_chain


@pytest.fixture(scope="module")
def chain(real_data):
    return real_chain(real_data)


@pytest.fixture(scope="module")
def contracts(chain):
    mid = 0.5 * (chain.bid + chain.ask)
    volatility = european.implied_volatility(mid, chain.right, chain.spot, chain.strike, chain.years, 0.003, 0.0)
    return Contracts(chain.right, chain.strike, chain.years, 0.003, 0.0, volatility, chain.open_interest)


def test_totals_bands_and_what_is_left_out(chain, contracts):
    each, total = exposure(chain.spot, contracts, DealerSide.CALLS_LONG_PUTS_SHORT)
    known = np.isfinite(contracts.volatility) & np.isfinite(chain.open_interest)
    assert each.left_out.sum() == total.left_out == (~known & (chain.open_interest != 0)).sum()
    greeks = european.greeks(*contracts[:1], chain.spot, *contracts[1:6])
    by_hand = np.nansum(greeks.gamma * chain.open_interest * chain.right) * 100 * chain.spot**2 * 0.01
    assert total.gamma == pytest.approx(by_hand, rel=1e-9)
    band = exposure_band(chain.spot, contracts)
    assert band.total_low.gamma < 0 < band.total_high.gamma  # the sign is the assumption
    assert band.total_low.gamma <= total.gamma <= band.total_high.gamma
    profile = exposure_by_strike(chain.spot, contracts, DealerSide.ALL_LONG)
    assert np.nansum(profile.exposure.gamma) == pytest.approx(float(band.total_high.gamma), rel=1e-9)
    # most gamma is near the spot
    near = np.abs(profile.key / chain.spot - 1) < 0.1
    assert np.nansum(profile.exposure.gamma[near]) > 0.6 * np.nansum(profile.exposure.gamma)


def test_the_flip(chain, contracts):
    flip = zero_gamma(chain.spot, contracts, DealerSide.CALLS_LONG_PUTS_SHORT)
    assert flip.spots.shape == flip.gamma.shape == (241,)
    assert (flip.reason == "") == bool(flip.levels.size)
    for level in flip.levels:
        step = flip.spots[1] - flip.spots[0]
        sides = [
            exposure(s, contracts, DealerSide.CALLS_LONG_PUTS_SHORT)[1].gamma for s in (level - step, level + step)
        ]
        assert sides[0] * sides[1] < 0


def test_max_pain_and_ratios(chain):
    those = chain.where(chain.expiration == np.datetime64("2016-01-15"))
    pain = max_pain(those.right, those.strike, those.open_interest)
    oi = np.nan_to_num(those.open_interest)
    by_hand = [(np.maximum(those.right * (s - those.strike), 0) * oi * 100).sum() for s in pain.strikes]
    assert pain.payout == pytest.approx(by_hand, rel=1e-9)
    assert pain.strike == pain.strikes[np.argmin(by_hand)]
    ratio = put_call_ratio(those.right, those.open_interest)
    assert (ratio.puts, ratio.calls) == (oi[those.right < 0].sum(), oi[those.right > 0].sum())
    assert ratio.ratio == pytest.approx(ratio.puts / ratio.calls)
