"""Touching a level: closed forms against QuantLib, Laplace transforms and exact recursions over discrete looks."""

from __future__ import annotations

from functools import cache

import mpmath
import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from ots_quant.density import Assumption, touch, touch_either

positive = st.floats(1.0, 1000.0)
years = st.floats(1e-3, 3.0)
rates = st.floats(-0.05, 0.15)
volatilities = st.floats(0.03, 3.0)


def one_touch(spot, barrier, days, rate, dividend_yield, volatility):
    """QuantLib's one-touch that pays 1 at expiration, undiscounted: the probability of a touch."""
    today = ql.Date(1, 6, 2020)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(spot)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, dividend_yield, count)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, rate, count)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), volatility, count)),
    )
    up = barrier > spot
    option = ql.BarrierOption(
        ql.Barrier.UpIn if up else ql.Barrier.DownIn,
        barrier,
        0.0,
        # a call struck next to nothing, paying 1 at the end whenever the barrier was touched
        ql.CashOrNothingPayoff(ql.Option.Call, 1e-12, 1.0),
        ql.AmericanExercise(today, today + days, True),
    )
    option.setPricingEngine(ql.AnalyticBinaryBarrierEngine(process))
    return option.NPV() * np.exp(rate * days / 365)


@pytest.mark.parametrize("barrier", [70.0, 95.0, 99.9, 100.1, 108.0, 160.0])
@pytest.mark.parametrize(("rate", "dividend_yield", "volatility"), [(0.05, 0.0, 0.2), (0.0, 0.08, 0.6), (-0.01, 0, 1)])
def test_touch_is_quantlibs_one_touch(barrier, rate, dividend_yield, volatility):
    ours = touch(100.0, barrier, 90 / 365, rate, dividend_yield, volatility).probability
    assert ours == pytest.approx(one_touch(100.0, barrier, 90, rate, dividend_yield, volatility), abs=1e-12)


def test_touch_is_the_first_passage_density_integrated():
    mpmath.mp.dps = 30
    a, mu, sigma, end = mpmath.log(mpmath.mpf(107) / 100), mpmath.mpf("0.03") - mpmath.mpf("0.045"), 0.3, 0.4

    def density(t):
        return a / (sigma * mpmath.sqrt(2 * mpmath.pi * t**3)) * mpmath.exp(-((a - mu * t) ** 2) / (2 * sigma**2 * t))

    exact = mpmath.quad(density, [0, 0.001, 0.01, 0.05, 0.1, end])
    assert touch(100, 107, 0.4, 0.03, 0.0, 0.3).probability == pytest.approx(float(exact), rel=1e-13)


def test_touch_survives_a_drift_that_overflows_the_closed_form():
    with np.errstate(all="raise"):
        result = touch(100.0, [101.0, 101.0, 99.0], 1.0, [0.5, -0.5, 0.5], 0.0, 1e-3).probability
    assert result == pytest.approx([1.0, 0.0, 0.0], abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(positive, positive, years, rates, rates, volatilities)
def test_touch_is_a_probability_above_that_of_ending_beyond(s, b, t, r, q, v):
    probability = float(touch(s, b, t, r, q, v).probability)
    ending = ndtr(np.sign(b - s) * (np.log(s / b) + (r - q - 0.5 * v * v) * t) / (v * np.sqrt(t)))
    assert 0.0 <= probability <= 1.0
    assert probability >= ending - 1e-14
    assert touch(s, b, 1.1 * t, r, q, v).probability >= probability - 1e-13
    farther = b * (1.01 if b > s else 0.99)
    assert touch(s, farther, t, r, q, v).probability <= probability + 1e-13


legendre = cache(np.polynomial.legendre.leggauss)


def watched_exactly(distance, drift, volatility, end, looks):
    """The probability that a walk is at or beyond ``distance`` at one of its looks, by recursion of the survivors."""
    gap = end / looks
    spread = volatility * np.sqrt(gap)
    nodes, weights = legendre(600)
    low = distance - 12 * volatility * np.sqrt(end) - abs(drift) * end
    x = low + 0.5 * (nodes + 1) * (distance - low)
    weight = 0.5 * (distance - low) * weights

    def step(to, start):
        return np.exp(-0.5 * ((to - start - drift * gap) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))

    survivors = step(x, 0.0)
    kernel = step(x[:, None], x[None, :]) * weight
    for _ in range(looks - 1):
        survivors = kernel @ survivors
    return 1.0 - survivors @ weight


@pytest.mark.parametrize("looks", [5, 20, 78])
@pytest.mark.parametrize("barrier", [103.0, 110.0, 92.0])
def test_looking_at_intervals_touches_less(looks, barrier):
    result = touch(100.0, barrier, 0.1, 0.04, 0.01, 0.25, interval=0.1 / looks)
    side = np.sign(barrier - 100.0)
    exact = watched_exactly(side * np.log(barrier / 100.0), side * (0.03 - 0.5 * 0.25**2), 0.25, 0.1, looks)
    always = touch(100.0, barrier, 0.1, 0.04, 0.01, 0.25).probability
    assert result.probability == pytest.approx(exact, abs=0.15 / looks)
    assert abs(result.probability - exact) < 0.2 * (always - exact)
    assert result.assumption is Assumption.FLAT_VOLATILITY_WATCHED


def test_one_look_is_the_end():
    result = touch(100.0, [110.0, 90.0], 0.5, 0.03, 0.0, 0.3, interval=0.5).probability
    d2 = (np.log(100 / np.array([110.0, 90.0])) + (0.03 - 0.045) * 0.5) / (0.3 * np.sqrt(0.5))
    assert result == pytest.approx(ndtr(np.array([1, -1]) * d2), abs=1e-15)
    both = touch_either(100.0, 90.0, 110.0, 0.5, 0.03, 0.0, 0.3, interval=0.5)
    assert [both.upper_first, both.lower_first] == pytest.approx(result, abs=1e-15)


@pytest.mark.parametrize("end", [0.001, 0.02, 0.1, 0.5, 3.0])
@pytest.mark.parametrize(("rate", "volatility"), [(0.0, 0.3), (0.4, 0.25), (-0.3, 0.2), (0.045, 0.3)])
def test_two_levels_against_the_laplace_transform(end, rate, volatility):
    """E[exp(-s tau); upper first] is a quotient of hyperbolic sines (Borodin and Salminen, II 2.3.0)."""
    mpmath.mp.dps = 30
    spot, lower, upper = 100.0, 93.0, 112.0
    result = touch_either(spot, lower, upper, end, rate, 0.0, volatility)
    mu, sigma = mpmath.mpf(rate) - mpmath.mpf(volatility) ** 2 / 2, mpmath.mpf(volatility)
    up, down = mpmath.log(mpmath.mpf(upper) / spot), mpmath.log(mpmath.mpf(spot) / lower)

    def first(near, far, drift):
        def transform(s):
            root = mpmath.sqrt(2 * s + (drift / sigma) ** 2) / sigma
            return mpmath.exp(drift * near / sigma**2) * mpmath.sinh(far * root) / mpmath.sinh((near + far) * root) / s

        return float(mpmath.invertlaplace(transform, end, method="talbot"))

    assert result.upper_first == pytest.approx(first(up, down, mu), abs=1e-12)
    assert result.lower_first == pytest.approx(first(down, up, -mu), abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(positive, st.floats(0.01, 0.999), st.floats(1.001, 3.0), years, rates, volatilities)
def test_two_levels_sum_to_one_and_sit_between_the_single_ones(s, low, high, t, r, v):
    both = touch_either(s, s * low, s * high, t, r, 0.0, v)
    up, down = touch(s, s * high, t, r, 0.0, v).probability, touch(s, s * low, t, r, 0.0, v).probability
    assert both.lower_first + both.upper_first + both.neither == pytest.approx(1.0, abs=1e-12)
    assert 0.0 <= both.neither <= 1.0
    assert both.upper_first <= up + 1e-12
    assert both.lower_first <= down + 1e-12
    assert both.upper_first + both.lower_first >= max(up, down) - 1e-12


def test_a_level_that_is_reached_already():
    assert touch(100.0, 100.0, 1.0, 0.0, 0.0, 0.2).probability == 1.0
    both = touch_either([90.0, 80.0, 110.0, 120.0], 90.0, 110.0, 1.0, 0.0, 0.0, 0.2)
    assert list(both.lower_first) == [1, 1, 0, 0]
    assert list(both.upper_first) == [0, 0, 1, 1]


BAD = [np.nan, np.inf, -1.0, 0.0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 1, 2, 5])
def test_a_bad_element_is_nan_and_its_neighbour_is_not(bad, place):
    arguments = [np.full(2, value) for value in (100.0, 105.0, 0.5, 0.01, 0.0, 0.3)]
    arguments[place][1] = bad
    result = touch(*arguments).probability
    assert np.isnan(result[1])
    assert result[0] == touch(100.0, 105.0, 0.5, 0.01, 0.0, 0.3).probability
    both = touch_either(arguments[0], 90.0, *arguments[1:])
    assert np.isnan(both.neither[1])
    assert np.isfinite(both.neither[0])


@pytest.mark.filterwarnings("error")
def test_shapes_and_refusals():
    assert touch(100.0, np.full((2, 1), 105.0), np.full(3, 0.1), 0.0, 0.0, 0.2).probability.shape == (2, 3)
    assert touch([], 105.0, 0.1, 0.0, 0.0, 0.2).probability.shape == (0,)
    assert touch_either([], 95.0, 105.0, 0.1, 0.0, 0.0, 0.2).neither.shape == (0,)
    assert np.isnan(touch_either(100.0, 105.0, 95.0, 0.1, 0.0, 0.0, 0.2).neither)
    assert np.isnan(touch(100.0, 105.0, 0.1, 0.0, 0.0, 0.2, interval=-1.0).probability)
    frozen = np.linspace(90, 110, 20)[::2]
    frozen.flags.writeable = False
    assert touch(100.0, frozen, 0.1, 0.0, 0.0, 0.2).probability.shape == (10,)
    with pytest.raises(ValueError, match="^barrier"):
        touch(100.0, "high", 0.1, 0.0, 0.0, 0.2)
    with pytest.raises(ValueError, match="^years has shape"):
        touch(100.0, [1.0, 2.0], [1.0, 2.0, 3.0], 0.0, 0.0, 0.2)
