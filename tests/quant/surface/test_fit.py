"""Slices come back from the quotes made with them, whatever is wrong with some; the compiled fit is the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_quant import american as american_options
from ots_quant import european
from ots_quant.surface import LEAST_STRIKES, LeftOut, Shape, Surface, fit_surface, normal
from ots_quant.surface.fit import Targets, descend, descend_reference, fit_independent
from ots_quant.surface.slices import Slices, butterfly, total_variance
from quant.surface.chains import SPOT, Chain, american_chain, european_chain, flat, svi

YEARS = [0.05, 0.25, 1.0, 2.0]


def fitted(chain: Chain, *, american: bool = False) -> Surface:
    return fit_surface(*chain.quotes, SPOT, chain.forward, chain.rate, american=american)


def error(surface: Surface, chain: Chain) -> np.ndarray:
    return np.asarray(surface.volatility(chain.years, chain.strike) - chain.volatility)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return european_chain(YEARS, svi)


def test_an_svi_smile_comes_back() -> None:
    chain = european_chain(YEARS, svi, half_spread=0.001)
    surface = fitted(chain)
    np.testing.assert_allclose(surface.years, YEARS)
    assert np.abs(error(surface, chain)).max() < 2e-5
    assert (surface.shape == Shape.FITTED).all()
    certificate = surface.certificate
    assert certificate.arbitrage_free_inside
    assert certificate.share_within_spread == 1.0
    assert certificate.max_volatility < 2e-5
    assert certificate.rms_volatility < certificate.max_volatility
    assert certificate.rms_half_spreads < 0.01
    assert certificate.contracts_used + certificate.contracts_left_out.sum() == chain.bid.size
    assert surface.left_out.shape == chain.bid.shape


def test_american_quotes_give_the_same_smile_as_european_ones() -> None:
    options = {"rate": 0.05, "dividend_yield": 0.02, "strikes": 21, "deviations": 2.0, "half_spread": 0.002}
    chain = american_chain([73 / 365, 1.0], svi, **options)
    surface = fitted(chain, american=True)
    assert np.abs(error(surface, chain)).max() < 1e-4
    wrong = fitted(chain, american=False)
    assert np.abs(error(wrong, chain)).max() > 10 * np.abs(error(surface, chain)).max()


@pytest.mark.parametrize("exercise", ["american", "european"])
def test_volatilities_that_are_known_already_give_the_very_same_surface(exercise: str) -> None:
    american = exercise == "american"
    chain = american_chain([73 / 365, 1.0], svi, rate=0.05, dividend_yield=0.02, strikes=21, half_spread=0.05)
    dividend_yield = chain.rate - np.log(chain.forward / SPOT) / chain.years
    invert = american_options.implied_volatility if american else european.implied_volatility
    mid = (chain.bid + chain.ask) / 2
    implied = invert(mid, chain.right, SPOT, chain.strike, chain.years, chain.rate, dividend_yield)
    one = fitted(chain, american=american)
    arguments = (*chain.quotes, SPOT, chain.forward, chain.rate)
    other = fit_surface(*arguments, american=american, volatility=implied)
    np.testing.assert_array_equal(np.stack(one.slices), np.stack(other.slices))
    np.testing.assert_array_equal(one.left_out, other.left_out)
    # they are what is fitted, and not inverted once more
    higher = fit_surface(*arguments, american=american, volatility=implied + 0.1)
    assert (higher.volatility(chain.years, chain.forward) > one.volatility(chain.years, chain.forward) + 0.05).all()


def test_noise_averages_out() -> None:
    """Mids off by half of the half-spread: the surface is closer to the truth than the quotes are."""
    chain = european_chain(YEARS, svi, strikes=101)
    random = np.random.default_rng(5)
    shift = random.uniform(-1, 1, chain.bid.shape) * (chain.ask - chain.bid) / 4
    surface = fitted(chain._replace(bid=chain.bid + shift, ask=chain.ask + shift))
    used = surface.left_out == LeftOut.USED
    near = used & (np.abs(np.log(chain.strike / chain.forward)) < 0.25 * np.sqrt(chain.years))
    rms = np.sqrt(np.mean(error(surface, chain)[near] ** 2))
    assert rms < 0.5 * surface.certificate.rms_volatility
    assert surface.certificate.arbitrage_free_inside
    assert surface.certificate.share_within_spread > 0.98


@pytest.mark.parametrize("size", [0.1, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("every", [20, 10, 6])
def test_stale_quotes_have_a_bounded_pull(chain: Chain, size: float, every: int) -> None:
    """Up to one contract in six quoted far too high, at the usual spread, the ends of the wings among them."""
    stale = np.random.default_rng(1).permutation(chain.bid.size) % every == 0
    surface = fitted(chain._replace(bid=chain.bid + size * stale, ask=chain.ask + size * stale))
    near = np.abs(np.log(chain.strike / chain.forward)) < 1.5 * 0.25 * np.sqrt(chain.years)
    assert np.abs(error(surface, chain)[near]).max() < 5e-4
    assert surface.certificate.arbitrage_free_inside


def test_what_is_wrong_with_a_contract_is_its_reason(chain: Chain) -> None:
    planted = {
        LeftOut.BAD_NUMBERS: {"strike": -1.0},
        LeftOut.EXPIRED: {"years": -0.1},
        LeftOut.NO_FORWARD: {"forward": np.nan},
        LeftOut.ONE_SIDED: {"bid": np.nan},
        LeftOut.CROSSED: {"bid": 50.0},
        LeftOut.NO_VOLATILITY: {"bid": 500.0, "ask": 501.0},
    }
    columns = {name: values.copy() for name, values in chain._asdict().items()}
    out_of_the_money = np.flatnonzero(chain.right * np.log(chain.strike / chain.forward) > 0.05)
    for at, changes in zip(out_of_the_money, planted.values(), strict=False):
        for name, value in changes.items():
            columns[name][at] = value
    surface = fitted(Chain(**columns))
    for at, reason in zip(out_of_the_money, planted, strict=False):
        assert surface.left_out[at] == reason
        assert surface.certificate.contracts_left_out[reason] >= 1
    assert surface.certificate.contracts_left_out[LeftOut.IN_THE_MONEY] > 0
    assert np.abs(error(surface, chain)).max() < 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300])
@pytest.mark.parametrize("name", ["strike", "years", "bid", "ask", "forward", "rate"])
def test_no_number_breaks_the_fit(chain: Chain, name: str, bad: float) -> None:
    columns = chain._asdict()
    columns[name] = np.where(np.arange(chain.bid.size) % 9 == 0, bad, columns[name])
    surface = fitted(Chain(**columns))
    if name in ("strike", "bid", "ask"):
        assert np.abs(error(surface, chain)).max() < 0.02


def test_few_strikes_borrow_the_shape_of_the_neighbour(chain: Chain) -> None:
    k = np.log(chain.strike / chain.forward)
    thin = (chain.years != 0.25) | (np.abs(k) < 0.013)
    surface = fitted(chain.where(thin))
    assert list(surface.shape) == [Shape.FITTED, Shape.BORROWED, Shape.FITTED, Shape.FITTED]
    assert np.unique(chain.strike[thin & (chain.years == 0.25)]).size < LEAST_STRIKES
    assert np.abs(error(surface, chain)).max() < 2e-3
    assert surface.certificate.arbitrage_free_inside


def test_one_strike_is_one_volatility() -> None:
    chain = european_chain([0.25], flat(0.2), strikes=1, deviations=0.0)
    surface = fitted(chain)
    assert list(surface.shape) == [Shape.FLAT]
    np.testing.assert_allclose(surface.volatility(0.25, [80.0, 100.0, 120.0]), 0.2, atol=2e-3)
    np.testing.assert_allclose(surface.volatility(0.25, chain.strike[0]), 0.2, atol=1e-5)


def test_one_expiration_is_a_surface() -> None:
    chain = european_chain([0.25], svi)
    surface = fitted(chain)
    assert np.abs(error(surface, chain)).max() < 2e-4  # quotes are 0.2 to 10 points wide
    assert surface.certificate.calendar_inside.points == 0
    assert np.isfinite(surface.volatility([0.1, 0.25, 3.0], 100.0)).all()


def test_nothing_quoted_is_a_surface_that_knows_nothing() -> None:
    empty = fit_surface([], [], [], [], [], SPOT, [], [])
    assert empty.years.shape == (0,)
    assert empty.certificate.contracts_used == 0
    assert empty.certificate.arbitrage_free_inside
    assert np.isnan(empty.volatility([0.5, 1.0], [90.0, 100.0])).all()
    assert np.isnan(empty.skew(0.5))
    assert np.isnan(empty.risk_reversal(0.5))
    assert np.isnan(empty.butterfly(0.5))
    assert np.isnan(empty.forward_at(0.5))
    assert not empty.inside(0.5, 100.0)
    assert empty.term_structure().years.shape == (0,)
    nothing_left = fit_surface([1.0, -1.0], 100.0, np.nan, 1.0, 1.1, SPOT, 100.0, 0.0, american=False)
    assert list(nothing_left.left_out) == [LeftOut.BAD_NUMBERS] * 2


def test_times_within_seconds_are_one_slice(chain: Chain) -> None:
    jitter = np.where(np.arange(chain.years.size) % 2 == 0, 1e-9, 0.0)
    assert fitted(chain._replace(years=chain.years + jitter)).years.size == len(YEARS)


def test_order_does_not_matter(chain: Chain) -> None:
    order = np.random.default_rng(2).permutation(chain.bid.size)
    one, other = fitted(chain), fitted(chain.where(order))
    for first, second in zip(one.slices, other.slices, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"spot": -1.0}, "spot"),
        ({"spot": [1.0]}, "spot"),
        ({"strike": [[1.0, 2.0, 3.0]]}, "strike"),
        ({"right": 0}, "right"),
        ({"ask": "x"}, "ask"),
        ({"rate": [0.1, 0.2, 0.3]}, "rate"),
        ({"forward": object()}, "forward"),
    ],
)
def test_a_bad_argument_is_named(change: dict[str, object], name: str) -> None:
    arguments: dict[str, object] = {
        "right": [1.0, -1.0],
        "strike": 100.0,
        "years": 0.5,
        "bid": 1.0,
        "ask": 2.0,
        "spot": SPOT,
        "forward": 100.0,
        "rate": 0.0,
    }
    with pytest.raises(ValueError, match=f"^{name}"):
        fit_surface(**{**arguments, **change})  # type: ignore[arg-type]


def test_read_only_and_strided_and_shaped_arguments(chain: Chain) -> None:
    views = []
    for values in (*chain.quotes, chain.forward, chain.rate):
        view = np.repeat(values, 2)[::2].reshape(2, -1)
        view.setflags(write=False)
        views.append(view)
    surface = fit_surface(*views[:5], SPOT, *views[5:], american=False)
    assert surface.left_out.shape == views[0].shape
    np.testing.assert_array_equal(surface.slices.b, fitted(chain).slices.b)


def _random_targets(seed: int, slices: int = 7, points: int = 33) -> Targets:
    random = np.random.default_rng(seed)
    theta = random.uniform(1e-4, 0.5, slices)
    x = np.sort(random.uniform(-4, 3, (slices, points)), axis=1)
    parameters = normal.bounded(normal.USUAL + random.normal(0, 0.4, (slices, 5)), theta)
    v = normal.values(parameters, x) * (1 + random.normal(0, 0.01, x.shape))
    weight = random.uniform(5, 50, x.shape) * (random.random(x.shape) > 0.2)
    return Targets(x, v, weight, theta)


@pytest.mark.parametrize("seed", range(5))
def test_the_compiled_descent_is_the_reference(seed: int) -> None:
    targets = _random_targets(seed)
    start = np.tile(normal.USUAL, (7, 1))
    trust = np.random.default_rng(seed).uniform(0.1, 1, targets.x.shape)
    compiled = descend(start, targets, trust)
    np.testing.assert_allclose(compiled, descend_reference(start, targets, trust), rtol=1e-7, atol=1e-7)
    assert (start == normal.USUAL).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_descent_ends_where_the_gradient_is_zero(seed: int) -> None:
    targets = _random_targets(seed)
    parameters, trust = fit_independent(targets)

    def cost(at: np.ndarray) -> np.ndarray:
        residual = np.sqrt(trust) * targets.weight * (normal.values(at, targets.x) - targets.v)
        pull = normal.PULL * (at - normal.USUAL)
        return np.asarray((residual**2).sum(axis=1) + (pull**2).sum(axis=1))

    low, high = normal.bounds(targets.theta)
    for column in range(5):
        step = np.zeros(5)
        step[column] = 1e-3
        free = (parameters[:, column] > low[:, column] + 2e-3) & (parameters[:, column] < high[:, column] - 2e-3)
        assert (cost(parameters + step)[free] >= cost(parameters)[free] * (1 - 1e-7)).all()
        assert (cost(parameters - step)[free] >= cost(parameters)[free] * (1 - 1e-7)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_derivatives_are_finite_differences(seed: int) -> None:
    random = np.random.default_rng(seed)
    theta = random.uniform(1e-4, 0.5, 3)
    parameters = normal.USUAL + random.normal(0, 0.5, (3, 5))
    x = random.uniform(-3, 3, (3, 6))
    jet = normal.jet(parameters, x)
    step = 1e-6
    for column in range(5):
        up, down = parameters.copy(), parameters.copy()
        up[:, column] += step
        down[:, column] -= step
        one, other = normal.jet(up, x), normal.jet(down, x)
        for name, by in (("v", jet.by), ("v_x", jet.by_x), ("v_xx", jet.by_xx)):
            difference = (getattr(one, name) - getattr(other, name)) / (2 * step)
            np.testing.assert_allclose(by[:, column], difference, rtol=1e-5, atol=1e-6)
    raw = normal.raw(parameters, theta)
    root = np.sqrt(theta)[:, None]
    variance = total_variance(raw, x * root)
    np.testing.assert_allclose(variance.w, theta[:, None] * jet.v, rtol=1e-10)
    np.testing.assert_allclose(variance.w_k, root * jet.v_x, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(variance.w_kk, jet.v_xx, rtol=1e-10)
    np.testing.assert_allclose(normal.slopes(parameters, x)[1], jet.by, rtol=1e-14)


def test_g_is_the_sign_of_the_density() -> None:
    """Density = g / sqrt(2 pi w) e^(-d2^2 / 2) / K, against the second difference of call prices over the strike."""
    slices = Slices(*(np.array([value]) for value in (0.01, 0.1, -0.4, 0.05, 0.2)))
    k = np.linspace(-0.8, 0.8, 17)[None]
    variance = total_variance(slices, k)
    d2 = -k / np.sqrt(variance.w) - np.sqrt(variance.w) / 2
    density = butterfly(k, variance) / np.sqrt(2 * np.pi * variance.w) * np.exp(-0.5 * d2**2) / np.exp(k)
    step = 1e-4

    def call(strike: np.ndarray) -> np.ndarray:
        w = total_variance(slices, np.log(strike)).w
        from scipy.stats import norm

        d1 = -np.log(strike) / np.sqrt(w) + np.sqrt(w) / 2
        return np.asarray(norm.cdf(d1) - strike * norm.cdf(d1 - np.sqrt(w)))

    strike = np.exp(k)
    second = (call(strike + step) - 2 * call(strike) + call(strike - step)) / step**2
    np.testing.assert_allclose(second, density, atol=1e-5)
