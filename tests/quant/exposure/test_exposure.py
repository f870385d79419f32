"""Exposures: units by hand and by differences, bands, the flip, max pain by brute force, ratios."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_quant import european
from ots_quant.exposure import (
    Contracts,
    DealerSide,
    exposure,
    exposure_band,
    exposure_by_expiration,
    exposure_by_strike,
    max_pain,
    put_call_ratio,
    zero_gamma,
)

SPOT = 100.0
RIGHT = np.array([1.0, 1.0, -1.0, -1.0, 1.0, -1.0])
STRIKE = np.array([100.0, 105.0, 100.0, 95.0, 105.0, 95.0])
YEARS = np.array([0.1, 0.1, 0.1, 0.1, 0.5, 0.5])
VOLATILITY = np.array([0.25, 0.23, 0.25, 0.28, 0.24, 0.27])
OPEN = np.array([1000.0, 2500.0, 800.0, 3000.0, 400.0, 900.0])
CONTRACTS = Contracts(RIGHT, STRIKE, YEARS, 0.02, 0.01, VOLATILITY, OPEN)


def dollars_of_stock(spot=SPOT, contracts=CONTRACTS, shift=0.0, days=0.0):
    """Delta in dollars of all contracts held long: what the exposures are derivatives of."""
    g = european.greeks(RIGHT, spot, STRIKE, YEARS - days / 365, 0.02, 0.01, VOLATILITY + shift)
    return float((contracts.open_interest * 100 * g.delta).sum() * SPOT)


def test_each_unit_is_what_it_says():
    _, total = exposure(SPOT, CONTRACTS, DealerSide.ALL_LONG)
    assert total.delta == pytest.approx(dollars_of_stock(), rel=1e-12)
    one_percent = dollars_of_stock(SPOT * 1.005) - dollars_of_stock(SPOT * 0.995)
    assert total.gamma == pytest.approx(one_percent, rel=1e-3)
    one_point = dollars_of_stock(shift=0.005) - dollars_of_stock(shift=-0.005)
    assert total.vanna == pytest.approx(one_point, rel=1e-3)
    one_day = dollars_of_stock(days=0.5) - dollars_of_stock(days=-0.5)
    assert total.charm == pytest.approx(one_day, rel=1e-3)


def test_gamma_by_hand():
    g = european.greeks([1.0], 100.0, 100.0, 0.1, 0.02, 0.01, 0.25)
    each, total = exposure(SPOT, Contracts(1, 100.0, 0.1, 0.02, 0.01, 0.25, 1000.0), DealerSide.ALL_SHORT)
    assert float(total.gamma) == pytest.approx(-1000 * 100 * g.gamma[0] * 100.0**2 * 0.01)
    assert each.gamma.shape == (1,)


def test_sums_by_strike_and_expiration_are_the_total():
    _, total = exposure(SPOT, CONTRACTS, DealerSide.CALLS_LONG_PUTS_SHORT)
    for profile, keys in (
        (exposure_by_strike(SPOT, CONTRACTS, DealerSide.CALLS_LONG_PUTS_SHORT), [95, 100, 105]),
        (exposure_by_expiration(SPOT, CONTRACTS, DealerSide.CALLS_LONG_PUTS_SHORT), [0.1, 0.5]),
    ):
        assert profile.key == pytest.approx(keys)
        for ours, whole in zip(profile.exposure[:4], total[:4], strict=True):
            assert ours.sum() == pytest.approx(whole, rel=1e-12)
    at_95 = exposure_by_strike(SPOT, CONTRACTS, DealerSide.CALLS_LONG_PUTS_SHORT).exposure.gamma[0]
    assert at_95 < 0 < exposure_by_strike(SPOT, CONTRACTS, DealerSide.CALLS_LONG_PUTS_SHORT).exposure.gamma[2]


def test_signs_of_the_assumptions():
    usual = exposure(SPOT, CONTRACTS, DealerSide.CALLS_LONG_PUTS_SHORT)[0]
    custom = exposure(SPOT, CONTRACTS, RIGHT)[0]
    opposite = exposure(SPOT, CONTRACTS, DealerSide.CALLS_SHORT_PUTS_LONG)[0]
    assert usual.gamma == pytest.approx(custom.gamma, abs=0)
    assert usual.gamma == pytest.approx(-opposite.gamma, abs=0)
    assert (exposure(SPOT, CONTRACTS, DealerSide.ALL_SHORT)[0].gamma < 0).all()
    half = exposure(SPOT, CONTRACTS, np.full(6, 0.5))[0]
    assert half.delta == pytest.approx(0.5 * exposure(SPOT, CONTRACTS, 1.0)[0].delta)


def test_the_band_holds_every_assumption():
    sides = [*DealerSide, np.array([1, -1, 0.5, 1, 0, -1])]
    band = exposure_band(SPOT, CONTRACTS, sides)
    for side in sides:
        profile = exposure_by_strike(SPOT, CONTRACTS, side).exposure
        total = exposure(SPOT, CONTRACTS, side)[1]
        for i in range(4):
            assert (band.low[i] <= profile[i]).all()
            assert (profile[i] <= band.high[i]).all()
            assert band.total_low[i] <= total[i] <= band.total_high[i]
    assert band.total_low.gamma == exposure(SPOT, CONTRACTS, DealerSide.ALL_SHORT)[1].gamma
    assert exposure_band(SPOT, CONTRACTS, by="years").key == pytest.approx([0.1, 0.5])
    with pytest.raises(ValueError, match="^by"):
        exposure_band(SPOT, CONTRACTS, by="right")
    with pytest.raises(ValueError, match="^sides"):
        exposure_band(SPOT, CONTRACTS, [])


def test_the_flip_is_where_gamma_is_zero():
    flip = zero_gamma(SPOT, CONTRACTS, DealerSide.CALLS_LONG_PUTS_SHORT)
    assert flip.reason == ""
    assert flip.nearest in flip.levels

    def gamma_at(spot):
        return float(exposure(spot, CONTRACTS, DealerSide.CALLS_LONG_PUTS_SHORT)[1].gamma)

    step = flip.spots[1] - flip.spots[0]
    assert gamma_at(flip.nearest - step) * gamma_at(flip.nearest + step) < 0
    assert abs(gamma_at(flip.nearest)) < 1e-3 * np.abs(flip.gamma).max()
    assert flip.gamma[120] == pytest.approx(gamma_at(SPOT), rel=1e-9)


def test_no_flip_says_why():
    none = zero_gamma(SPOT, CONTRACTS, DealerSide.ALL_LONG)
    assert np.isnan(none.nearest)
    assert none.levels.size == 0
    assert "positive at every spot" in none.reason
    assert "negative" in zero_gamma(SPOT, CONTRACTS, DealerSide.ALL_SHORT).reason
    assert "zero at every spot" in zero_gamma(SPOT, CONTRACTS._replace(open_interest=0.0), DealerSide.ALL_SHORT).reason
    assert "zero at every spot" in zero_gamma(SPOT, CONTRACTS._replace(volatility=np.nan), DealerSide.ALL_SHORT).reason


def test_what_cancels_everywhere_has_no_flip_and_rounding_makes_none():
    pair = Contracts([1.0, -1.0], [100.0, 100.0], 0.1, 0.0, 0.0, 0.2, 10.0)
    assert zero_gamma(100.0, pair, DealerSide.CALLS_LONG_PUTS_SHORT).levels.size == 0
    apart = Contracts([1.0, -1.0], [110.0, 90.0], 0.1, 0.0, 0.0, 0.2, 10.0)
    flip = zero_gamma(100.0, apart, DealerSide.CALLS_LONG_PUTS_SHORT, spots=np.linspace(70, 130, 1201))
    assert flip.levels.size == 1
    # two gammas of one volatility and time are equal where d1 of one is minus d1 of the other
    d1 = [(np.log(flip.nearest / k) + 0.02 * 0.1) / (0.2 * np.sqrt(0.1)) for k in (110.0, 90.0)]
    assert abs(d1[0]) == pytest.approx(abs(d1[1]), abs=1e-4)


def test_contracts_without_greeks_are_counted_not_hidden():
    holes = CONTRACTS._replace(
        volatility=np.array([np.nan, 0.23, 0.25, 0.28, 0.24, -1.0]), open_interest=np.array([1, 1, np.nan, 1, 0, 1.0])
    )
    each, total = exposure(SPOT, holes, DealerSide.ALL_LONG)
    assert list(each.left_out) == [1, 0, 1, 0, 0, 1]
    assert total.left_out == 3
    assert np.isfinite(total.gamma)
    assert each.gamma[4] == 0.0  # nothing open is nothing, whatever its Greeks
    profile = exposure_by_strike(SPOT, holes, DealerSide.ALL_LONG)
    assert list(profile.exposure.left_out) == [1, 2, 0]
    assert np.isnan(profile.exposure.gamma[1])  # both contracts of the strike are unknown
    assert np.isfinite(profile.exposure.gamma[[0, 2]]).all()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1.0, -1.0]), st.integers(1, 40), st.floats(0, 1e6)), min_size=1, max_size=30)
)
def test_max_pain_by_brute_force(chain):
    right, strike, open_interest = map(np.array, zip(*chain, strict=True))
    result = max_pain(right, strike, open_interest)
    if not (open_interest > 0).any():
        assert np.isnan(result.strike)
        assert result.reason == "no open interest"
        return
    payout = [(np.maximum(right * (s - strike), 0) * open_interest * 100).sum() for s in result.strikes]
    assert result.payout == pytest.approx(payout, rel=1e-9, abs=1e-9)
    least = min((np.maximum(right * (s - strike), 0) * open_interest * 100).sum() for s in np.linspace(0.5, 41, 811))
    at = (np.maximum(right * (result.strike - strike), 0) * open_interest * 100).sum()
    assert at <= least * (1 + 1e-9) + 1e-9
    assert result.strike <= result.highest


def test_max_pain_between_two_strikes():
    # one put at 110 and one call at 90: every settlement between costs the same
    result = max_pain([1, -1], [90.0, 110.0], [5.0, 5.0])
    assert (result.strike, result.highest) == (90.0, 110.0)
    only = max_pain([1, 1, -1], [90.0, np.nan, 100.0], [5.0, 3.0, np.nan])
    assert (only.strike, only.highest, only.reason) == (90.0, 90.0, "")


def test_put_call_ratio():
    assert put_call_ratio([1, -1, -1], [10, 5, 10]).ratio == 1.5
    none = put_call_ratio([1, -1], [0, 5])
    assert np.isnan(none.ratio)
    assert (none.puts, none.calls, none.reason) == (5.0, 0.0, "no calls")
    assert put_call_ratio([1, -1], [np.nan, -3]).reason == "no contracts"
    assert put_call_ratio([], []).reason == "no contracts"
    with pytest.raises(ValueError, match="^right"):
        put_call_ratio([0, 1], [1, 1])


@pytest.mark.filterwarnings("error")
def test_refusals_and_shapes():
    for bad in (0.0, -1.0, np.nan, np.inf, np.array([100.0])):
        with pytest.raises(ValueError, match="^spot"):
            exposure(bad, CONTRACTS, DealerSide.ALL_LONG)
    with pytest.raises(ValueError, match="^side"):
        exposure(SPOT, CONTRACTS, np.ones(5))
    with pytest.raises(ValueError, match="^side"):
        exposure(SPOT, CONTRACTS, np.full(6, 2.0))
    with pytest.raises(ValueError, match="^side"):
        exposure(SPOT, CONTRACTS, np.full(6, np.nan))
    with pytest.raises(ValueError, match="^strike"):
        exposure(SPOT, CONTRACTS._replace(strike=np.ones(5)), DealerSide.ALL_LONG)
    for grid in ([100.0], [100.0, 90.0], [0.0, 1.0], [1.0, np.nan], [1.0, np.inf]):
        with pytest.raises(ValueError, match="^spots"):
            zero_gamma(SPOT, CONTRACTS, DealerSide.ALL_LONG, spots=grid)
    empty = Contracts([], [], [], 0.0, 0.0, [], [])
    each, total = exposure(SPOT, empty, DealerSide.ALL_LONG)
    assert each.gamma.shape == (0,)
    assert total.gamma == 0.0
    assert exposure_by_strike(SPOT, empty, DealerSide.ALL_LONG).key.size == 0
    strange = CONTRACTS._replace(strike=STRIKE * [1, np.nan, 0, -1, np.inf, 1], years=[0, 0.1, 0.1, 0.1, 0.1, -1])
    each, total = exposure(SPOT, strange, DealerSide.ALL_LONG)
    assert total.left_out == 6
    assert np.isnan(total.gamma)
    frozen = STRIKE[::-1]
    frozen.flags.writeable = False
    assert exposure(SPOT, CONTRACTS._replace(strike=frozen), DealerSide.ALL_LONG)[0].gamma.shape == (6,)
