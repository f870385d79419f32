"""The distribution behind a smile: exact for a flat one and for a mixture of lognormals, honest about arbitrage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import elementwise
from scipy.special import ndtr
from scipy.stats import lognorm

from ots_quant.density import Assumption, finish, flat_move, risk_neutral, smile_move, straddle_move

FORWARD, YEARS = 100.0, 0.25


def black(strike, deviation, forward=FORWARD):
    """Out of the money, undiscounted."""
    side = np.where(strike >= FORWARD, 1.0, -1.0)
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    return side * (forward * ndtr(side * d1) - strike * ndtr(side * (d1 - deviation)))


class Mixture:
    """Two lognormals: a quiet world and a crash. Its density is known, and its smile follows from its prices."""

    weights = np.array([0.75, 0.25])
    deviations = np.array([0.18, 0.45]) * np.sqrt(YEARS)
    forwards = np.array([104.0, (FORWARD - 0.75 * 104.0) / 0.25])

    def parts(self):
        return [lognorm(s, scale=f * np.exp(-0.5 * s * s)) for s, f in zip(self.deviations, self.forwards, strict=True)]

    def pdf(self, spot):
        return sum(w * part.pdf(spot) for w, part in zip(self.weights, self.parts(), strict=True))

    def cdf(self, spot):
        return sum(w * part.cdf(spot) for w, part in zip(self.weights, self.parts(), strict=True))

    def smile(self, strike):
        strike = np.asarray(strike, float)
        price = sum(
            w * black(strike, s, f) for w, s, f in zip(self.weights, self.deviations, self.forwards, strict=True)
        )
        with np.errstate(divide="ignore"):  # a bracket's end may be worth nothing
            found = elementwise.find_root(
                lambda s, k, p: np.log(black(k, s) / p), (0.01, 3.0), args=(strike, price), tolerances={"xatol": 1e-15}
            )
        return found.x / np.sqrt(YEARS)


@pytest.fixture(scope="module")
def mixture():
    return Mixture()


@pytest.mark.parametrize(
    ("smile", "within"),
    [
        (lambda k: 0.3, 1e-9),
        (lambda k: np.full(k.shape, 0.3), 1e-9),
        ((np.linspace(70, 140, 15), np.full(15, 0.3)), 2e-6),  # the grid among quotes is uneven
    ],
    ids=["number", "function", "quotes"],
)
def test_a_flat_smile_is_lognormal(smile, within):
    deviation = 0.3 * np.sqrt(YEARS)
    exact = lognorm(deviation, scale=FORWARD * np.exp(-0.5 * deviation**2))
    result = risk_neutral(smile, FORWARD, YEARS)
    assert result.density == pytest.approx(exact.pdf(result.strikes), abs=1e-14)
    assert result.distribution == pytest.approx(exact.cdf(result.strikes), abs=1e-14)
    assert result.mass == pytest.approx(1.0, abs=within)
    assert result.mean == pytest.approx(FORWARD, rel=within)
    assert result.negative_mass == 0.0
    assert result.arbitrage_free
    assert result.assumption is Assumption.SMILE
    chances = np.array([1e-6, 0.01, 0.5, 0.9, 1 - 1e-6])
    assert result.quantile(chances) == pytest.approx(exact.ppf(chances), rel=1e-9)
    assert result.standard_deviation == pytest.approx(exact.std(), rel=10 * within)


def test_a_mixture_is_found_again(mixture):
    result = risk_neutral(mixture.smile, FORWARD, YEARS)
    middle = (result.strikes > 45) & (result.strikes < 180)
    assert result.density[middle] == pytest.approx(mixture.pdf(result.strikes[middle]), abs=2e-8)
    levels = np.array([60.0, 85.0, 100.0, 115.0, 140.0])
    assert result.probability_below(levels) == pytest.approx(mixture.cdf(levels), abs=1e-8)
    assert mixture.cdf(result.quantile([0.01, 0.1, 0.5, 0.99])) == pytest.approx([0.01, 0.1, 0.5, 0.99], abs=1e-7)
    assert result.mass == pytest.approx(1.0, abs=1e-6)
    assert result.mean == pytest.approx(FORWARD, rel=1e-6)
    assert result.arbitrage_free
    straddle = black(FORWARD, mixture.smile(FORWARD) * np.sqrt(YEARS)) * 2
    assert result.mean_absolute_deviation == pytest.approx(straddle, rel=1e-9)
    assert result.expectation(lambda s: np.abs(s - FORWARD)) == pytest.approx(straddle, rel=2e-5)


def test_quotes_of_a_mixture_give_it_nearly(mixture):
    strikes = np.arange(60.0, 150.1, 2.5)
    result = risk_neutral((strikes, mixture.smile(strikes)), FORWARD, YEARS)
    inside = (result.strikes > 65) & (result.strikes < 145)
    assert result.density[inside] == pytest.approx(mixture.pdf(result.strikes[inside]), abs=2e-4)
    assert result.distribution[inside] == pytest.approx(mixture.cdf(result.strikes[inside]), abs=5e-4)
    assert result.mass == pytest.approx(1.0, abs=1e-5)
    assert result.mean == pytest.approx(FORWARD, rel=1e-5)


def test_arbitrage_is_reported_not_hidden():
    """Axel Vogt's SVI parameters: negative density right of the money (Gatheral and Jacquier 2014, ex. 3.1)."""

    def vogt(strike):
        k = np.log(strike / FORWARD)
        w = -0.0410 + 0.1331 * (0.3060 * (k - 0.3586) + np.sqrt((k - 0.3586) ** 2 + 0.4153**2))
        return np.sqrt(w)

    result = risk_neutral(vogt, FORWARD, 1.0)
    assert not result.arbitrage_free
    assert result.negative_mass > 1e-5
    bad = np.log(result.strikes[result.density < 0] / FORWARD)
    assert 0.6 < bad.min() < bad.max() < 1.3
    assert result.mass == pytest.approx(1.0, abs=1e-6)
    assert (np.diff(result.quantile(np.linspace(0.001, 0.999, 99))) >= 0).all()


def test_a_kink_is_mass_in_a_point():
    """A smile that bends upwards at a strike has an atom there; one that bends down is arbitrage."""

    def kinked(strike):
        return 0.3 + 0.002 * np.abs(strike - 105.0)

    result = risk_neutral(kinked, FORWARD, YEARS, points=8001)
    jump = float(result.probability_above(104.5) - result.probability_above(105.5))
    smooth = float(risk_neutral(lambda k: 0.3, FORWARD, YEARS).probability_below(105.5)) - float(
        risk_neutral(lambda k: 0.3, FORWARD, YEARS).probability_below(104.5)
    )
    assert jump > smooth + 0.05
    assert result.mass == pytest.approx(1.0, abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(-0.7, 0.3), st.floats(0.05, 0.5), st.floats(0.01, 2.0), st.floats(10.0, 5000.0))
def test_every_svi_without_butterflies_sums_to_one(level, rho, curvature, years, forward):
    """SSVI slices with phi theta (1 + |rho|) <= 4 and phi^2 theta (1 + |rho|) <= 4 are free of butterfly arbitrage."""
    theta = level**2 * years
    phi = curvature * np.sqrt(4 / (theta * (1 + abs(rho)))) * min(1.0, np.sqrt(4 / (theta * (1 + abs(rho)))))

    def ssvi(strike):
        k = np.log(strike / forward)
        w = 0.5 * theta * (1 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1 - rho**2))
        return np.sqrt(w / years)

    result = risk_neutral(ssvi, forward, years)
    assert result.arbitrage_free
    assert result.mass == pytest.approx(1.0, abs=1e-5)
    assert result.mean == pytest.approx(forward, rel=1e-5)
    p = np.linspace(0.01, 0.99, 25)
    assert result.probability_below(result.quantile(p)) == pytest.approx(p, abs=1e-7)


def test_levels_at_the_edges():
    result = risk_neutral(lambda k: 0.3, FORWARD, YEARS)
    assert result.probability_above([-5.0, 0.0, np.inf]) == pytest.approx([1.0, 1.0, 0.0])
    assert np.isnan(result.probability_above(np.nan))
    assert np.isnan(result.quantile([0.0, 1.0, -1.0, np.nan])).all()
    assert result.quantile(0.5).shape == ()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("smile", "message"),
    [
        (lambda k: np.full(k.shape, np.nan), "^smile gives no positive volatility"),
        (lambda k: -0.1, "^smile gives no positive volatility"),
        (lambda k: np.ones(3), "^smile gave shape"),
        (0.3, "^smile must be a function"),
        (([90, 100, 110], [0.2, 0.2, 0.2]), "^smile needs at least 4"),
        (([90, 100, np.nan, 110], [0.2, 0.2, 0.2, 0.2]), "^smile needs at least 4"),
        (([90, 100, 100, 110], [0.2, 0.2, 0.2, 0.2]), "^smile strikes must increase"),
        (([-90, 100, 105, 110], [0.2, 0.2, 0.2, 0.2]), "^smile strikes and volatilities must be positive"),
        (([90, 100, 105, 110], [0.2, 0.2, 0.2]), "^smile strikes"),
        (([80, 90, 100, 110, 120], [2.0, 0.05, 0.4, 0.05, 2.0]), "^smile has no positive variance"),
    ],
)
def test_a_smile_that_is_none_is_refused(smile, message):
    with pytest.raises(ValueError, match=message):
        risk_neutral(smile, FORWARD, YEARS)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_bad_forward_and_years_are_refused(bad):
    with pytest.raises(ValueError, match="^forward"):
        risk_neutral(lambda k: 0.3, bad, YEARS)
    with pytest.raises(ValueError, match="^years"):
        risk_neutral(lambda k: 0.3, FORWARD, bad)
    with pytest.raises(ValueError, match="^points"):
        risk_neutral(lambda k: 0.3, FORWARD, YEARS, points=3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("volatility", "years"), [(10.0, 30.0), (0.001, 1e-4), (10.0, 0.01), (0.05, 10.0)])
def test_extreme_volatilities(volatility, years):
    result = risk_neutral(lambda k: volatility, 1e4, years)
    assert result.mass == pytest.approx(1.0, abs=1e-6)
    assert np.isfinite(result.density).all()


def test_finish_flat_and_by_the_smile(mixture):
    strikes = np.array([70.0, 90.0, 100.0, 105.0, 130.0])
    volatility = mixture.smile(strikes)
    slope = (mixture.smile(strikes + 1e-3) - mixture.smile(strikes - 1e-3)) / 2e-3
    spot = FORWARD * np.exp(-(0.04 - 0.01) * YEARS)
    call = finish(1, spot, strikes, YEARS, 0.04, 0.01, volatility, volatility_slope=slope)
    put = finish(-1, spot, strikes, YEARS, 0.04, 0.01, volatility, volatility_slope=slope)
    assert call.smile == pytest.approx(1 - mixture.cdf(strikes), abs=1e-6)
    assert call.smile + put.smile == pytest.approx(1.0, abs=1e-12)
    assert call.flat + put.flat == pytest.approx(1.0, abs=1e-12)
    assert np.abs(call.flat - call.smile).max() > 0.03  # the skew matters
    unsloped = finish(1, spot, strikes, YEARS, 0.04, 0.01, volatility)
    assert unsloped.smile == pytest.approx(unsloped.flat, abs=0)


@pytest.mark.filterwarnings("error")
def test_finish_refuses_what_is_no_probability():
    assert np.isnan(finish(1, 100, 100, 1.0, 0.0, 0.0, 0.2, volatility_slope=0.1).smile)
    assert np.isfinite(finish(1, 100, 100, 1.0, 0.0, 0.0, 0.2, volatility_slope=0.1).flat)
    for place in (1, 2, 3, 6):
        for bad in (np.nan, 0.0, -1.0, np.inf):
            arguments = [1.0, 100.0, 100.0, 0.5, 0.0, 0.0, 0.2]
            arguments[place] = np.array([arguments[place], bad])
            result = finish(*arguments)
            assert np.isfinite(result.flat[0])
            assert np.isnan(result.flat[1])
            assert np.isnan(result.smile[1])
    with pytest.raises(ValueError, match="^right"):
        finish(0, 100, 100, 1.0, 0.0, 0.0, 0.2)


def test_the_three_expected_moves_agree_on_a_lognormal():
    rate, dividend_yield, volatility = 0.03, 0.01, 0.3
    spot = FORWARD * np.exp(-(rate - dividend_yield) * YEARS)
    flat = flat_move(spot, YEARS, rate, dividend_yield, volatility)
    smile = smile_move(risk_neutral(lambda k: volatility, FORWARD, YEARS))
    each = black(FORWARD, volatility * np.sqrt(YEARS)) * np.exp(-rate * YEARS)
    straddle = straddle_move(each, each, YEARS, rate)
    assert smile.mean_absolute == pytest.approx(flat.mean_absolute, rel=1e-12)
    assert straddle.mean_absolute == pytest.approx(flat.mean_absolute, rel=1e-12)
    for ours, exact in zip(smile[:4], flat[:4], strict=True):
        assert ours == pytest.approx(exact, rel=1e-7)
    # the 0.8 rule: the straddle is 0.798 sigma F sqrt(T), discounted, but for terms of the third order
    assert straddle.straddle == pytest.approx(
        np.sqrt(2 / np.pi) * 0.3 * FORWARD * 0.5 * np.exp(-rate * YEARS), rel=1e-3
    )
    assert straddle.standard_deviation == pytest.approx(flat.standard_deviation, rel=0.01)
    assert straddle.desk_convention == pytest.approx(0.85 * straddle.straddle)
    assert [m.assumption for m in (flat, smile, straddle)] == [
        Assumption.FLAT_VOLATILITY,
        Assumption.SMILE,
        Assumption.STRADDLE,
    ]


def test_a_skew_moves_the_levels_down(mixture):
    move = smile_move(risk_neutral(mixture.smile, FORWARD, YEARS))
    assert mixture.cdf(move.lower) == pytest.approx(0.15865525393, abs=1e-7)
    assert mixture.cdf(move.upper) == pytest.approx(1 - 0.15865525393, abs=1e-7)
    assert risk_neutral(mixture.smile, FORWARD, YEARS).quantile(0.5) > FORWARD  # few, deep falls


@pytest.mark.filterwarnings("error")
def test_moves_of_bad_numbers():
    assert np.isnan(
        straddle_move([-1.0, 0.0, np.nan, 1.0], [1.0, 0.0, 1.0, 1.0], [1, 1, 1, 0], 0.0).mean_absolute
    ).all()
    assert straddle_move(1.0, 0.0, 1.0, 0.0).straddle == 1.0
    assert np.isnan(flat_move([0.0, 100, 100, np.nan], [1, 0, 1, 1], 0.0, 0.0, [0.2, 0.2, -1, 0.2]).lower).all()
    assert flat_move([], 1.0, 0.0, 0.0, 0.2).lower.shape == (0,)
    with pytest.raises(ValueError, match="^volatility"):
        flat_move(100.0, 1.0, 0.0, 0.0, "high")
