"""The certificate finds what is planted, agrees with prices on a grid of its own, and the fit leaves nothing for it."""

from __future__ import annotations

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from ots_quant.surface import Slices, Surface, fit_surface, normal
from ots_quant.surface import coupling as coupled
from ots_quant.surface.certificate import Range, scan
from ots_quant.surface.fit import Targets
from ots_quant.surface.slices import total_variance
from quant.surface.chains import SPOT, Chain, european_chain, svi

Values = np.ndarray

VOGT = (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)
"""Raw SVI of one year with a negative density: Gatheral & Jacquier 2014, example 3.1 (due to Axel Vogt)."""
CLEAN = (0.04, 0.1, -0.4, 0.0, 0.3)


def slices(*rows: tuple[float, ...]) -> Slices:
    return Slices(*(np.array(column) for column in zip(*rows, strict=True)))


def quoted(count: int, low: float = -1.0, high: float = 1.0) -> Range:
    return Range.of(np.full(count, low), np.full(count, high), np.full(count, 0.04))


def fitted(chain: Chain) -> Surface:
    return fit_surface(*chain.quotes, SPOT, chain.forward, chain.rate, american=False)


def call_prices(surface: Surface, years: float, k: Values) -> Values:
    """Undiscounted call over the forward, from the volatility that the surface answers."""
    forward = surface.forward_at(years)
    deviation = surface.volatility(years, forward * np.exp(k)) * np.sqrt(years)
    d1 = -k / deviation + deviation / 2
    return np.asarray(norm.cdf(d1) - np.exp(k) * norm.cdf(d1 - deviation))


def price_violations(surface: Surface, points: int = 1501) -> int:
    """Strikes inside the quotes where call prices are not convex, or fall with time at one forward moneyness."""
    bad = 0
    for row, years in enumerate(surface.years):
        strike = np.linspace(np.exp(surface.quoted.low[row]), np.exp(surface.quoted.high[row]), points)
        price = call_prices(surface, years, np.log(strike))
        bad += int((np.diff(price, 2) < -1e-13).sum())
        bad += int((np.diff(price) > 0).sum())
    for row in range(surface.years.size - 1):
        low = max(surface.quoted.low[row], surface.quoted.low[row + 1])
        high = min(surface.quoted.high[row], surface.quoted.high[row + 1])
        if low < high:
            k = np.linspace(low, high, points)
            steps = np.linspace(surface.years[row], surface.years[row + 1], 5)
            prices = np.array([call_prices(surface, years, k) for years in steps])
            bad += int((np.diff(prices, axis=0) < -1e-14).sum())
            for price in prices[1:-1]:
                slope = np.diff(price) / np.diff(np.exp(k))
                bad += int((np.diff(slope) < -1e-9).sum())
    return bad


def test_a_planted_butterfly_is_found_where_it_is() -> None:
    found = scan(slices(VOGT), np.array([1.0]), quoted(1, -0.5, 1.3))
    assert found.butterfly_inside.failing > 0
    # g of that example goes down to about -0.03 near k = 0.8
    assert 0.01 < found.butterfly_inside.worst < 0.1
    elsewhere = scan(slices(VOGT), np.array([1.0]), Range.of(*(np.array([x]) for x in (-0.5, 0.2, 0.04))))
    assert elsewhere.butterfly_inside.failing == 0
    assert elsewhere.butterfly_outside.failing > 0


def test_a_planted_calendar_is_found_with_its_size() -> None:
    later = (CLEAN[0] - 0.01, *CLEAN[1:])
    found = scan(slices(CLEAN, later), np.array([0.5, 1.0]), quoted(2))
    assert found.calendar_inside.failing == found.calendar_inside.points
    w = total_variance(slices(CLEAN), np.array([[0.0]])).w[0, 0]
    at_the_money = np.sqrt(w) - np.sqrt(w - 0.01)
    assert found.calendar_inside.worst >= at_the_money
    assert scan(slices(CLEAN, CLEAN), np.array([0.5, 1.0]), quoted(2)).failing == 0


def test_a_calendar_violation_at_one_edge_is_inside_or_outside() -> None:
    steep = (0.01, 0.25, -0.7, 0.0, 0.3)
    level = (0.09, 0.1, -0.3, 0.0, 0.3)
    both = slices(steep, level)
    k = np.linspace(-3, 3, 6001)[None]
    falls = total_variance(slices(steep), k).w > total_variance(slices(level), k).w
    edge = float(k[falls].max())
    assert edge < -0.1
    assert scan(both, np.array([0.5, 1.0]), quoted(2, edge - 0.1, 0.5)).calendar_inside.failing > 0
    outside = scan(both, np.array([0.5, 1.0]), quoted(2, edge + 0.1, 0.5))
    assert outside.calendar_inside.failing == 0
    assert outside.calendar_outside.failing > 0


def test_a_slice_that_is_no_variance_fails() -> None:
    negative = (-0.2, 0.1, 0.0, 0.0, 0.1)
    assert scan(slices(negative), np.array([1.0]), quoted(1)).butterfly_inside.failing > 0
    broken = (np.nan, 0.1, 0.0, 0.0, 0.1)
    found = scan(slices(CLEAN, broken), np.array([0.5, 1.0]), quoted(2))
    assert found.butterfly_inside.failing > 0
    assert found.calendar_inside.failing == found.calendar_inside.points
    assert found.calendar_inside.worst == np.inf


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_scan_agrees_with_convexity_of_prices(seed: int) -> None:
    """Random slices, many with arbitrage: g < 0 somewhere exactly where a finer grid of prices is not convex."""
    random = np.random.default_rng(seed)
    b, rho = random.uniform(0.05, 0.6), random.uniform(-0.9, 0.9)
    sigma = random.uniform(0.05, 0.5)
    a = random.uniform(0.0, 0.05) - 0.5 * b * sigma * np.sqrt(1 - rho**2)
    one = slices((a, b, rho, random.uniform(-0.2, 0.2), sigma))
    found = scan(one, np.array([1.0]), quoted(1, -0.8, 0.8)).butterfly_inside
    k = np.linspace(-0.8, 0.8, 4001)
    strike = np.exp(k)
    deviation = np.sqrt(total_variance(one, k[None]).w[0])
    d1 = -k / deviation + deviation / 2
    price = norm.cdf(d1) - strike * norm.cdf(d1 - deviation)
    slope = np.diff(price) / np.diff(strike)
    density = np.diff(slope) / ((strike[2:] - strike[:-2]) / 2)
    if found.failing > 3 and found.worst > 1e-2:
        assert density.min() < 0
    if found.failing == 0:
        assert density.min() > -1e-4


def crossing_chain() -> Chain:
    """A nearer smile that is far above the later one in the left wing, and below it at the money."""

    def smile(k: Values, years: Values) -> Values:
        steep = 0.2 + 0.9 * np.maximum(-k, 0.0) + 0.1 * np.maximum(k, 0.0)
        gentle = np.full(k.shape, 0.21)
        return np.where(years < 0.4, steep, gentle)

    return european_chain([0.3, 0.5], smile, deviations=2.5, half_spread=0.03)


def test_slices_that_would_cross_are_fitted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = crossing_chain()
    surface = fitted(chain)
    assert surface.certificate.calendar_inside.failing == 0
    assert surface.certificate.arbitrage_free_inside
    assert price_violations(surface) == 0
    monkeypatch.setattr("ots_quant.surface.build.without_arbitrage", lambda parameters, *_: parameters)
    alone = fitted(chain)
    assert alone.certificate.calendar_inside.failing > 0
    assert not alone.certificate.arbitrage_free_inside
    assert price_violations(alone) > 0


def test_a_smile_with_a_negative_density_is_fitted_without() -> None:
    def smile(k: Values, years: Values) -> Values:
        return np.asarray(np.sqrt(total_variance(slices(VOGT), k[None]).w[0] / years))

    chain = european_chain([1.0], smile, deviations=4.0, strikes=81, half_spread=0.002)
    surface = fitted(chain)
    assert surface.quoted.high[0] > 0.9
    assert surface.certificate.butterfly_inside.failing == 0
    assert price_violations(surface) == 0
    near = np.abs(np.log(chain.strike / chain.forward)) < 0.4
    error = surface.volatility(1.0, chain.strike[near]) - chain.volatility[near]
    assert np.abs(error).max() < 0.01


def heston_chain(years: list[float]) -> Chain:
    """Heston (1993): v0 .05, kappa 1.5, theta .06, sigma .6, rho -.7, priced by QuantLib."""
    today = ql.Date(2, 1, 2023)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    curve = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, count))
    quote = ql.QuoteHandle(ql.SimpleQuote(SPOT))
    process = ql.HestonProcess(curve, curve, quote, 0.05, 1.5, 0.06, 0.6, -0.7)
    surface = ql.HestonBlackVolSurface(ql.HestonModelHandle(ql.HestonModel(process)))

    def smile(k: Values, time: Values) -> Values:
        return np.array([surface.blackVol(t, SPOT * np.exp(x), True) for t, x in zip(time, k, strict=True)])

    return european_chain(years, smile, rate=0.0, dividend_yield=0.0, strikes=33, deviations=2.2, half_spread=0.01)


def test_a_heston_surface_is_reproduced_without_arbitrage() -> None:
    chain = heston_chain([0.1, 0.25, 0.5, 1.0, 2.0])
    surface = fitted(chain)
    error = surface.volatility(chain.years, chain.strike) - chain.volatility
    near = np.abs(np.log(chain.strike / chain.forward)) < 1.5 * 0.25 * np.sqrt(chain.years)
    assert np.abs(error[near]).max() < 4e-3
    assert np.sqrt(np.mean(error[near] ** 2)) < 1.5e-3
    assert surface.certificate.arbitrage_free_inside
    assert price_violations(surface) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_noisy_chain_keeps_arbitrage_inside(seed: int) -> None:
    """Mids off by up to the half-spread, volatility levels that do not even rise with time: still a clean surface."""
    random = np.random.default_rng(seed)
    years = np.cumsum(random.uniform(0.02, 0.4, 5)).tolist()
    levels = dict(zip(years, random.uniform(0.7, 1.3, 5), strict=True))

    def smile(k: Values, time: Values) -> Values:
        return svi(k, time) * np.array([levels[t] for t in time])

    chain = european_chain(years, smile, strikes=21, half_spread=0.05)
    shift = random.uniform(-1, 1, chain.bid.shape) * (chain.ask - chain.bid) / 2
    surface = fitted(chain._replace(bid=chain.bid + shift, ask=chain.ask + shift))
    assert surface.certificate.arbitrage_free_inside
    assert price_violations(surface, points=301) == 0


def test_the_coupled_system_has_the_derivatives_of_its_cost() -> None:
    random = np.random.default_rng(8)
    theta = np.array([0.02, 0.03, 0.025])
    parameters = normal.bounded(normal.USUAL + random.normal(0, 0.6, (3, 5)), theta)
    parameters[1] = np.log(0.02), np.log(2.5), np.log(1.5), 0.5, np.log(0.3)
    x = np.sort(random.uniform(-3, 2, (3, 15)), axis=1)
    targets = Targets(x, np.abs(random.normal(1, 0.2, x.shape)), random.uniform(1, 5, x.shape), theta)
    range_ = Range.of(x[:, 0] * np.sqrt(theta), x[:, -1] * np.sqrt(theta), theta)
    constraints = coupled._constraints(parameters, theta, range_)
    system = coupled._system(parameters, targets, constraints, 1e3)
    for term in (coupled._add_butterfly, coupled._add_calendar, coupled._add_between):
        alone = coupled._System(3)
        term(alone, parameters, theta, constraints, 1e3)
        assert alone.cost > 0, f"{term.__name__} is not tested by these slices"
    step = 1e-6
    for index in range(15):
        shift = np.zeros(15)
        shift[index] = step
        up = coupled._system(parameters + shift.reshape(3, 5), targets, constraints, 1e3).cost
        down = coupled._system(parameters - shift.reshape(3, 5), targets, constraints, 1e3).cost
        slope = 2 * system.gradient.reshape(-1)[index]
        np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-4, atol=1e-3 * abs(system.cost))
    np.testing.assert_allclose(system.matrix, system.matrix.T, rtol=1e-10)
    assert np.linalg.eigvalsh(system.matrix).min() > -1e-6 * np.abs(system.matrix).max()
