"""An option's price touching a target: martingales, an independent survivors' recursion, bounds and limits."""

from __future__ import annotations

import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from ots_quant import american, european
from ots_quant.density import Assumption, option_bracket, option_touch, spot_at_price, touch, touch_either
from ots_quant.density.moving_barrier import Barrier, graded_steps, pass_either, pass_one

DAY = 1 / 365
module = sys.modules["ots_quant.density.option_touch"]  # the package has a function of that name
CONTRACTS = [
    # right, strike, years, rate, yield, volatility, target over price, horizon
    (1, 100.0, 1 * DAY, 0.03, 0.0, 0.40, 1.10, 0.8 * DAY),
    (1, 102.0, 5 * DAY, 0.03, 0.01, 0.40, 1.10, 1 * DAY),
    (-1, 100.0, 2 * DAY, 0.0, 0.0, 0.60, 1.20, 2 * DAY),
    (-1, 98.0, 30 * DAY, 0.05, 0.0, 0.25, 0.80, 2 * DAY),
    (1, 100.0, 0.5, 0.03, 0.0, 0.40, 1.05, 1 * DAY),
    (1, 100.0, 3 * DAY, 0.03, 0.0, 0.40, 0.50, 3 * DAY),
]


legendre = cache(np.polynomial.legendre.leggauss)


def survivors_beyond(contract, target, count=400, nodes=300):
    """1 - P(no touch), by carrying the survivors' density over small steps; each step's level is a straight line,

    for which the Brownian bridge between two spots touches with probability exp(-2 a b / (sigma^2 dt)).
    """
    right, strike, years, rate, dividend_yield, sigma, _, horizon = contract
    times = np.linspace(0, horizon, count + 1)
    level = np.log(
        spot_at_price(target, right, strike, np.maximum(years - times, 0), rate, dividend_yield, sigma) / 100
    )
    drift = rate - dividend_yield - 0.5 * sigma**2
    side = np.sign(level[0])
    gap = horizon / count
    points, weights = legendre(nodes)
    width = 7 * sigma * np.sqrt(horizon)
    away, weight = 0.5 * width * (points + 1), 0.5 * width * weights  # distance from the level, on the spot's side

    def step(to_level, to, from_level, start):
        from_x, to_x = from_level - side * start, to_level - side * to
        kernel = np.exp(-0.5 * (to_x - from_x - drift * gap) ** 2 / (sigma**2 * gap)) / (
            sigma * np.sqrt(2 * np.pi * gap)
        )
        return kernel * -np.expm1(-2 * start * to / (sigma**2 * gap))

    density = step(level[1], away, level[0], side * level[0])
    for i in range(1, count):
        density = (step(level[i + 1], away[:, None], level[i], away[None, :]) * weight) @ density
    return 1.0 - density @ weight


@pytest.mark.parametrize("contract", CONTRACTS)
def test_touch_is_what_the_survivors_leave(contract):
    right, strike, years, rate, dividend_yield, sigma, share, horizon = contract
    worth = european.price(right, 100.0, strike, years, rate, dividend_yield, sigma)
    result = option_touch(right, 100.0, strike, years, rate, dividend_yield, sigma, share * worth, horizon)
    # the recursion itself errs by about 1e-5 where the level bends at the end
    assert result.probability == pytest.approx(survivors_beyond(contract, share * worth), abs=1e-4)
    assert result.at_least <= result.probability <= result.at_most
    assert result.assumption is Assumption.CONSTANT_IMPLIED_VOLATILITY


def test_a_fair_bracket_wins_as_a_martingale_must():
    """Without rates the option's price is a martingale: hit * target + stopped * stop is its price now."""
    right = np.array([1.0, -1.0, 1.0, -1.0])
    strike = np.array([100.0, 100.0, 101.0, 97.0])
    years = np.array([1.0, 2.0, 3.0, 10.0]) * DAY
    sigma = np.array([0.4, 0.6, 0.3, 0.5])
    worth = european.price(right, 100.0, strike, years, 0.0, 0.0, sigma)
    result = option_bracket(right, 100.0, strike, years, 0.0, 0.0, sigma, 1.3 * worth, 0.6 * worth, years)
    # at expiration an option is worth nothing or more than the target: one of the two has been touched
    assert result.neither == pytest.approx(0.0, abs=2e-4)
    assert result.target_first == pytest.approx(4 / 7, abs=2e-4)


def test_far_from_expiration_the_level_stands_still():
    arguments = (1.0, 100.0, 100.0, 2.0, 0.02, 0.0, 0.3)
    worth = european.price(*arguments)
    single = option_touch(*arguments, 1.05 * worth, 1e-4)
    assert single.probability == pytest.approx(
        touch(100.0, single.level_now, 1e-4, 0.02, 0.0, 0.3).probability, abs=1e-3
    )
    both = option_bracket(*arguments, 1.02 * worth, 0.97 * worth, 1e-4)
    levels = [spot_at_price(x * worth, 1, 100.0, 2.0, 0.02, 0.0, 0.3) for x in (0.97, 1.02)]
    flat = touch_either(100.0, *levels, 1e-4, 0.02, 0.0, 0.3)
    assert both.target_first == pytest.approx(flat.upper_first, abs=1e-3)
    assert both.stop_first == pytest.approx(flat.lower_first, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1.0, -1.0]),
    st.floats(80, 120),
    st.floats(1, 200),
    st.floats(0.1, 1.5),
    st.floats(0.5, 2.0),
    st.floats(0.05, 1.0),
)
def test_bounds_and_order(right, strike, days, sigma, share, part):
    arguments = (right, 100.0, strike, days * DAY, 0.03, 0.01, sigma)
    worth = european.price(*arguments)
    assume(worth > 1e-4)
    horizon = part * days * DAY
    near, far = (option_touch(*arguments, worth * x, horizon) for x in (share, share**1.2))
    for result in (near, far):
        assert 0.0 <= result.at_least <= result.probability <= result.at_most <= 1.0
    assert far.probability <= near.probability + 2e-3
    if share > 1.0:
        bracket = option_bracket(*arguments, worth * share, worth / share, horizon)
        assert bracket.target_first <= near.probability + 2e-3
        assert bracket.target_first + bracket.stop_first + bracket.neither == pytest.approx(1.0, abs=1e-12)


def test_early_exercise_has_its_own_levels():
    """A call without dividends is never exercised early; a put beyond its boundary moves with the spot."""
    call = (1.0, 100.0, np.array([95.0, 100.0, 110.0]), 0.1, 0.05, 0.0, 0.3)
    target = 1.1 * european.price(*call)
    early = option_touch(*call, target, 0.01, price=american.price)
    assert early.probability == pytest.approx(option_touch(*call, target, 0.01).probability, abs=1e-6)
    deep = option_touch(-1.0, 100.0, 130.0, 0.1, 0.05, 0.0, 0.3, 31.0, 0.01, price=american.price)
    assert deep.level_now == pytest.approx(99.0, abs=1e-6)
    assert deep.probability == pytest.approx(touch(100.0, 99.0, 0.01, 0.05, 0.0, 0.3).probability, abs=1e-6)


def chain_like(count, seed):
    """Contracts of eight expirations whose early exercise is worth something, horizons up to the whole life."""
    random = np.random.default_rng(seed)
    years = random.choice(np.array([0.3, 1, 2, 5, 16, 30, 120, 400]) * DAY, count)
    sigma = random.choice([0.15, 0.4, 0.9], count)
    horizon = years * random.choice([0.01, 0.1, 0.5, 0.9, 1.0], count)
    strike = 100.0 * np.exp(random.uniform(-2.0, 2.0, count) * sigma * np.sqrt(years))
    return (random.choice([1.0, -1.0], count), 100.0, strike, years, 0.06, 0.05, sigma), horizon


def test_levels_between_the_points_and_by_secants_are_those_of_the_bracket(monkeypatch):
    """The level at a few points in time, and by secants, against a bracketed root at every step's end and middle."""
    arguments, horizon = chain_like(18, seed=5)
    target = np.tile([0.8, 1.05, 1.5], 6) * american.price(*arguments) + 0.01
    quick = option_touch(*arguments, target, horizon, price=american.price)
    monkeypatch.setattr(module, "_DEGREES", ())
    monkeypatch.setattr(module, "_MOST_SECANTS", 0)
    slow = option_touch(*arguments, target, horizon, price=american.price)
    assert np.isfinite(slow.probability).all()
    for found, expected in zip(quick[:3], slow[:3], strict=True):
        assert found == pytest.approx(expected, abs=1e-6)
    for found, expected in zip(quick[3:5], slow[3:5], strict=True):
        assert found == pytest.approx(expected, rel=1e-9)


def test_a_contract_is_answered_the_same_alone_and_among_many():
    arguments, horizon = chain_like(1100, seed=6)
    target = 1.1 * european.price(*arguments) + 0.01
    many = option_touch(*arguments, target, horizon)
    for i in (0, 511, 512, 1099):
        one = option_touch(*(np.broadcast_to(x, (1100,))[i] for x in arguments), target[i], horizon[i])
        assert one.probability == pytest.approx(many.probability[i], abs=1e-12)


def test_level_is_where_the_option_is_worth_it():
    value = np.array([0.05, 1.0, 5.0, 40.0])
    for right in (1, -1):
        level = spot_at_price(value, right, 100.0, 0.2, 0.03, 0.01, 0.3)
        assert european.price(right, level, 100.0, 0.2, 0.03, 0.01, 0.3) == pytest.approx(value, rel=1e-9)
    assert spot_at_price(3.0, [1, -1], 100.0, 0.0, 0.03, 0.0, 0.3) == pytest.approx([103.0, 97.0])
    assert spot_at_price(99.9, -1, 100.0, 1.0, 0.05, 0.0, 0.3) == 0.0  # more than the discounted strike


def test_a_price_out_of_reach_and_one_that_is_there():
    out = option_touch(-1, 100.0, 100.0, 0.5, 0.05, 0.0, 0.3, 99.99, 0.01)
    assert (out.probability, out.at_most, out.level_now) == (0.0, 0.0, 0.0)
    worth = european.price(1, 100.0, 100.0, 0.1, 0.0, 0.0, 0.3)
    assert option_touch(1, 100.0, 100.0, 0.1, 0.0, 0.0, 0.3, worth, 0.01).probability == 1.0
    assert option_bracket(1, 100.0, 100.0, 0.1, 0.0, 0.0, 0.3, 0.9 * worth, 0.5 * worth, 0.01).target_first == 1.0
    assert option_bracket(1, 100.0, 100.0, 0.1, 0.0, 0.0, 0.3, 2 * worth, 1.5 * worth, 0.01).stop_first == 1.0


@pytest.mark.parametrize("steps", [8, 16, 32])
def test_a_flat_barrier_is_exact_at_any_number_of_steps(steps):
    grid = graded_steps(np.array([1.0, 2.0]), steps)
    level = np.full((steps, 2), 0.7)
    assert pass_one(Barrier(level, level), grid) == pytest.approx(2 * ndtr(-0.7 / np.sqrt([1.0, 2.0])), abs=1e-13)


def test_drifting_barriers_within_what_is_stated():
    """A straight barrier is a touch with drift, whose closed form is tested elsewhere."""
    random = np.random.default_rng(11)
    up, down = random.uniform(0.02, 3.0, (2, 500))
    drift = random.uniform(-1.5, 1.5, 500)
    exact = touch_either(1.0, np.exp(-down), np.exp(up), 1.0, drift + 0.5, 0.0, 1.0)
    single = touch(1.0, np.exp(up), 1.0, drift + 0.5, 0.0, 1.0).probability
    solved = []
    for count in (16, 32):
        grid = graded_steps(np.ones(500), count)
        upper = Barrier(up - drift * grid.ends, up - drift * grid.middles)
        lower = Barrier(-down - drift * grid.ends, -down - drift * grid.middles)
        solved.append((pass_one(upper, grid), *pass_either(upper, lower, grid)))
    one, hit, stopped = ((4 * fine - coarse) / 3 for coarse, fine in zip(*solved, strict=True))
    assert one == pytest.approx(single, abs=1e-4)
    assert hit == pytest.approx(exact.upper_first, abs=5e-4)
    assert stopped == pytest.approx(exact.lower_first, abs=5e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 0.0])
@pytest.mark.parametrize("place", [1, 2, 3, 6, 7, 8])
def test_a_bad_element_is_nan_and_its_neighbour_is_not(place, bad):
    arguments = [np.full(2, x) for x in (1.0, 100.0, 100.0, 0.1, 0.01, 0.0, 0.3, 5.0, 0.01)]
    arguments[place][1] = bad
    result = option_touch(*arguments)
    assert np.isnan(result.probability[1])
    assert np.isfinite(result.probability[0])
    bracket = option_bracket(*arguments[:8], 1.0, arguments[8])
    assert np.isnan(bracket.target_first[1])
    assert np.isfinite(bracket.target_first[0])


@pytest.mark.filterwarnings("error")
def test_refusals_and_shapes():
    good = (1.0, 100.0, 100.0, 0.1, 0.01, 0.0, 0.3)
    assert np.isnan(option_touch(*good, 5.0, 0.2).probability)  # beyond the option's life
    assert np.isnan(option_bracket(*good, 2.0, 3.0, 0.05).target_first)
    assert option_touch(*good, np.full((2, 3), 5.0), 0.01).probability.shape == (2, 3)
    assert option_touch(*good, [], 0.01).probability.shape == (0,)
    with pytest.raises(ValueError, match="^steps"):
        option_touch(*good, 5.0, 0.01, steps=7)
    with pytest.raises(ValueError, match="^right"):
        option_touch(2.0, *good[1:], 5.0, 0.01)
    with pytest.raises(ValueError, match="^target"):
        option_touch(*good, "5", 0.01)
