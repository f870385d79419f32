"""What is asked of a surface: interpolation in time, the money, the wings by delta, and nothing wrong in silence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from ots_quant.surface import Surface, fit_surface
from quant.surface.chains import SPOT, european_chain, flat, svi

YEARS = [0.1, 0.5, 1.0]


@pytest.fixture(scope="module")
def surface() -> Surface:
    chain = european_chain(YEARS, svi, half_spread=0.001)
    return fit_surface(*chain.quotes, SPOT, chain.forward, chain.rate, american=False)


@pytest.fixture(scope="module")
def level() -> Surface:
    chain = european_chain(YEARS, flat(0.2), half_spread=0.001)
    return fit_surface(*chain.quotes, SPOT, chain.forward, chain.rate, american=False)


def test_a_surface_cannot_be_changed(surface: Surface) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        surface.spot = 1.0  # type: ignore[misc]


def test_total_variance_is_linear_in_time_at_the_same_moneyness(surface: Surface) -> None:
    k = np.linspace(-0.3, 0.2, 11)
    for share in (0.0, 0.25, 0.5, 1.0):
        time = 0.1 + share * 0.4
        near, far, between = (surface.total_variance(t, k) for t in (0.1, 0.5, time))
        for part in range(3):
            np.testing.assert_allclose(between[part], (1 - share) * near[part] + share * far[part], rtol=1e-12)


def test_volatility_stays_before_the_first_and_after_the_last_expiration(surface: Surface) -> None:
    k = np.linspace(-0.1, 0.1, 5)
    for time, edge in ((0.01, 0.1), (5.0, 1.0)):
        outside = np.sqrt(surface.total_variance(time, k).w / time)
        np.testing.assert_allclose(outside, np.sqrt(surface.total_variance(edge, k).w / edge), rtol=1e-12)


def test_the_forward_and_the_rate_between_expirations(surface: Surface) -> None:
    time = np.array([0.05, 0.1, 0.3, 1.0, 2.0])
    np.testing.assert_allclose(surface.forward_at(time), SPOT * np.exp(0.02 * time), rtol=1e-12)
    np.testing.assert_allclose(surface.rate_at(time), 0.03, rtol=1e-12)
    assert surface.forward_at(0.0) == SPOT
    assert np.isnan(surface.rate_at(0.0))
    assert np.isnan(surface.forward_at(-1.0))


def test_derivatives_of_total_variance_are_finite_differences(surface: Surface) -> None:
    k, step = np.linspace(-0.4, 0.3, 9), 1e-5
    for time in (0.05, 0.1, 0.3, 2.0):
        here, up, down = (surface.total_variance(time, k + shift) for shift in (0.0, step, -step))
        np.testing.assert_allclose(here.w_k, (up.w - down.w) / (2 * step), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(here.w_kk, (up.w_k - down.w_k) / (2 * step), rtol=1e-6, atol=1e-8)


def test_skew_is_the_slope_of_volatility_at_the_forward(surface: Surface) -> None:
    time, step = np.array([0.1, 0.3, 1.0]), 1e-5
    forward = surface.forward_at(time)
    up, down = (surface.volatility(time, forward * np.exp(shift)) for shift in (step, -step))
    np.testing.assert_allclose(surface.skew(time), (up - down) / (2 * step), rtol=1e-5)
    assert (surface.skew(time) < 0).all()


def test_the_strike_of_a_delta_has_that_delta(surface: Surface) -> None:
    time = np.array([[0.1], [0.3], [1.0]])
    delta = np.array([0.1, 0.25, 0.5, 0.9, -0.1, -0.25, -0.5, -0.9])
    strike = surface.strike_of_delta(time, delta)
    assert strike.shape == (3, 8)
    deviation = surface.volatility(time, strike) * np.sqrt(time)
    d1 = np.log(surface.forward_at(time) / strike) / deviation + deviation / 2
    np.testing.assert_allclose(np.where(delta > 0, norm.cdf(d1), norm.cdf(d1) - 1), np.broadcast_to(delta, (3, 8)))


def test_risk_reversal_and_butterfly_are_those_volatilities(surface: Surface) -> None:
    time = np.array([0.1, 0.5])
    call, put = (surface.volatility(time, surface.strike_of_delta(time, delta)) for delta in (0.25, -0.25))
    middle = surface.volatility(time, surface.forward_at(time))
    np.testing.assert_allclose(surface.risk_reversal(time), call - put, rtol=1e-12)
    np.testing.assert_allclose(surface.butterfly(time), (call + put) / 2 - middle, rtol=1e-12)
    assert (surface.risk_reversal(time) < 0).all()
    assert (surface.butterfly(time) > 0).all()
    assert surface.risk_reversal([[0.1], [0.5]], [0.1, 0.25]).shape == (2, 2)


def test_a_level_surface_has_no_skew_and_no_wings(level: Surface) -> None:
    np.testing.assert_allclose(level.skew(YEARS), 0.0, atol=1e-4)
    np.testing.assert_allclose(level.risk_reversal(YEARS), 0.0, atol=1e-4)
    np.testing.assert_allclose(level.butterfly(YEARS), 0.0, atol=1e-4)
    terms = level.term_structure()
    np.testing.assert_allclose(terms.years, YEARS)
    np.testing.assert_allclose(terms.volatility, 0.2, atol=1e-4)
    np.testing.assert_allclose(terms.forward_volatility, 0.2, atol=2e-4)


def test_forward_volatility_adds_up_to_the_term(surface: Surface) -> None:
    terms = surface.term_structure()
    w = np.cumsum(terms.forward_volatility**2 * np.diff(terms.years, prepend=0.0))
    np.testing.assert_allclose(np.sqrt(w / terms.years), terms.volatility, rtol=1e-12)


def test_inside_is_where_both_expirations_are_quoted(surface: Surface) -> None:
    low = surface.forward_at(0.1) * np.exp(surface.quoted.low[0])
    assert surface.inside(0.1, low * 1.0001)
    assert not surface.inside(0.1, low * 0.9999)
    assert surface.inside(0.5, low * 0.9999)
    assert list(surface.inside([0.05, 0.1, 0.3, 1.0, 1.1], 100.0)) == [False, True, True, True, False]
    assert not surface.inside(np.nan, 100.0)
    assert not surface.inside(0.5, -1.0)


def test_every_contract_of_the_fit_is_inside() -> None:
    every = european_chain(YEARS, svi, half_spread=0.001)
    # the last expiration is quoted farther out than the one before
    chain = every.where((every.years == 1.0) | (np.abs(np.log(every.strike / SPOT)) < 0.1))
    found = fit_surface(*chain.quotes, SPOT, chain.forward, chain.rate, american=False)
    used = found.left_out == 0
    assert found.inside(chain.years, chain.strike)[used].all()
    # between two expirations both must be quoted
    assert not found.inside(0.99, chain.strike[used].max())


def test_the_outermost_strike_is_inside_however_its_logarithm_is_rounded(surface: Surface) -> None:
    for strike in np.linspace(60.0, 99.0, 100):
        forward = surface.forward * (1.0 + strike / 12_345.0)
        quoted = surface.quoted._replace(low=np.log(strike / forward))
        assert dataclasses.replace(surface, forward=forward, quoted=quoted).inside(surface.years, strike).all()


def test_g_is_positive_where_the_certificate_says_so(surface: Surface) -> None:
    assert (surface.butterfly_density([[0.1], [0.3]], np.linspace(-0.1, 0.1, 5)) > 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, 0.0])
def test_bad_numbers_are_nan_and_leave_the_others_alone(surface: Surface, bad: float) -> None:
    time, strike = np.array([0.3, bad, 0.3]), np.array([100.0, 100.0, bad])
    volatility = surface.volatility(time, strike)
    assert np.isfinite(volatility[0])
    assert np.isnan(volatility[1])
    assert np.isnan(volatility[2])
    for answer in (surface.skew(time), surface.risk_reversal(time), surface.butterfly(time)):
        assert list(np.isnan(answer)) == [False, True, False]
    assert list(np.isnan(surface.total_variance(time, 0.0).w)) == [False, True, False]
    assert np.isnan(surface.strike_of_delta(0.3, np.array([bad, 0.0, 1.0, -1.0, 1.5]))).all()
    assert np.isnan(surface.risk_reversal(0.3, bad))


def test_extreme_strikes_are_finite_and_positive(surface: Surface) -> None:
    volatility = surface.volatility(0.5, [1e-12, 1e-3, 1e6, 1e12])
    assert np.isfinite(volatility).all()
    assert (volatility > 0).all()


@pytest.mark.parametrize(
    ("query", "arguments", "name"),
    [
        ("volatility", ([0.1, 0.2], [1.0, 2.0, 3.0]), "strike"),
        ("volatility", ("x", 1.0), "years"),
        ("total_variance", (0.1, [[1.0], [1.0, 2.0]]), "k"),
        ("risk_reversal", (0.1, "x"), "delta"),
        ("strike_of_delta", ([0.1, 0.2], [0.1, 0.2, 0.3]), "delta"),
        ("skew", (object(),), "years"),
    ],
)
def test_a_bad_argument_is_named(surface: Surface, query: str, arguments: tuple[object, ...], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        getattr(surface, query)(*arguments)


def test_scalars_give_scalars_and_shapes_are_kept(surface: Surface) -> None:
    assert np.shape(surface.volatility(0.3, 100.0)) == ()
    assert surface.volatility(np.full((2, 1), 0.3), np.full(3, 100.0)).shape == (2, 3)
    assert surface.volatility([], []).shape == (0,)
    strike = np.repeat([90.0, 110.0], 2)[::2]
    strike.setflags(write=False)
    assert surface.volatility(0.3, strike).shape == (2,)
