"""Payoffs at expiration: exact break-evens and extremes, whatever the legs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_quant.strategies import (
    CALL,
    PUT,
    Leg,
    Position,
    break_evens,
    butterfly,
    covered_call,
    custom,
    extremes,
    iron_condor,
    payoff,
    profit_line,
    straddle,
    vertical,
)


def call(strike, bid=1.0, ask=1.2, **more):
    return Leg(CALL, strike, 0.25, bid, ask, **more)


def put(strike, bid=1.0, ask=1.2, **more):
    return Leg(PUT, strike, 0.25, bid, ask, **more)


option_legs = st.builds(
    Leg,
    right=st.sampled_from([CALL, PUT]),
    strike=st.integers(2, 400).map(lambda half: half / 2),
    years=st.just(0.25),
    bid=st.just(1.0),
    ask=st.just(1.1),
    quantity=st.sampled_from([-3.0, -2.0, -1.0, 1.0, 2.0, 0.5]),
)
stock_legs = st.sampled_from([-100.0, 50.0, 100.0]).map(lambda shares: Leg.stock(99.9, 100.1, shares))
positions = st.lists(st.one_of(option_legs, option_legs, stock_legs), min_size=1, max_size=6).map(
    lambda legs: Position("any", tuple(legs))
)
costs = st.integers(-4000, 4000).map(float)


def test_a_call_spread_by_hand():
    spread = vertical(call(100.0), call(110.0))
    assert payoff(spread, [0.0, 100.0, 105.0, 110.0, 500.0]) == pytest.approx([0, 0, 500, 1000, 1000])
    assert break_evens(spread, 320.0).spots == pytest.approx([103.2], abs=0)
    ends = extremes(spread, 320.0)
    assert (ends.maximum_gain, ends.maximum_loss, ends.at_zero, ends.slope) == (680.0, 320.0, -320.0, 0.0)
    assert (ends.gain_at, ends.loss_at) == (110.0, 0.0)


def test_a_straddle_gains_without_limit_above_and_to_zero_below():
    both = straddle(call(100.0), put(100.0))
    assert list(break_evens(both, 500.0).spots) == [95.0, 105.0]
    ends = extremes(both, 500.0)
    assert (ends.maximum_gain, ends.gain_at, ends.maximum_loss, ends.loss_at) == (np.inf, np.inf, 500.0, 100.0)
    assert ends.at_zero == 9500.0
    sold = extremes(straddle(call(100.0), put(100.0), -1), -500.0)
    assert (sold.maximum_gain, sold.maximum_loss, sold.loss_at) == (500.0, np.inf, np.inf)


def test_an_iron_condor_sold_for_a_credit():
    condor = iron_condor(put(85.0), put(90.0), call(110.0), call(120.0))
    assert list(break_evens(condor, -150.0).spots) == [88.5, 111.5]
    ends = extremes(condor, -150.0)
    assert (ends.maximum_gain, ends.maximum_loss, ends.loss_at) == (150.0, 850.0, 120.0)


def test_a_covered_call():
    covered = covered_call(Leg.stock(99.9, 100.1), call(105.0))
    assert list(break_evens(covered, 9910.0).spots) == [99.1]
    ends = extremes(covered, 9910.0)
    assert (ends.maximum_gain, ends.maximum_loss, ends.slope) == (590.0, 9910.0, 0.0)


def test_roots_that_only_touch_and_stretches_of_zero():
    fly = butterfly(call(90.0), call(100.0), call(110.0))
    free = break_evens(fly, 0.0)
    assert free.spots.size == 0
    assert free.flat.tolist() == [[0.0, 90.0], [110.0, np.inf]]
    touching = break_evens(fly, 1000.0)  # the peak just reaches the cost
    assert touching.spots.tolist() == [100.0]
    assert touching.flat.size == 0
    never = break_evens(fly, 1001.0)
    assert never.spots.size == never.flat.size == 0
    assert extremes(fly, 1001.0).maximum_gain == -1.0
    assert extremes(fly, -1.0).maximum_loss == -1.0  # gains at every spot
    everywhere = break_evens(custom(call(100.0), call(100.0, quantity=-1.0)), 0.0)
    assert everywhere.flat.tolist() == [[0.0, np.inf]]


def test_two_zero_stretches_with_a_touch_between():
    legs = (call(90.0), call(95.0, quantity=-1.0), call(100.0, quantity=-1.0), call(105.0))
    trapezoid = custom(*legs)
    assert break_evens(trapezoid, 500.0).flat.tolist() == [[95.0, 100.0]]
    assert break_evens(trapezoid, 500.0).spots.size == 0


def test_stock_alone():
    shares = custom(Leg.stock(99.9, 100.1, 50.0))
    assert list(break_evens(shares, 5000.0).spots) == [100.0]
    assert extremes(shares, 5000.0).maximum_gain == np.inf
    assert extremes(custom(Leg.stock(99.9, 100.1, -50.0)), -5000.0).maximum_loss == np.inf


@settings(max_examples=400, deadline=None)
@given(positions, costs)
def test_break_evens_zero_the_profit_and_nothing_is_missed(position, cost):
    found = break_evens(position, cost)
    noise = 1e-9 * (abs(cost) + sum(abs(leg.units) for leg in position.legs) * 200)
    assert np.abs(payoff(position, found.spots) - cost).max(initial=0.0) <= noise
    for start, end in found.flat:
        inside = np.array([start, start + 1.0 if end == np.inf else 0.5 * (start + end)])
        assert np.abs(payoff(position, inside) - cost).max() <= noise
    # a sign change between two spots has a break-even between them
    grid = np.linspace(0.0, 400.0, 4001)
    profit = payoff(position, grid) - cost
    zeros = np.concatenate((found.spots, found.flat.ravel()))
    for i in np.flatnonzero(
        (profit[:-1] < -noise) & (profit[1:] > noise) | (profit[:-1] > noise) & (profit[1:] < -noise)
    ):
        assert ((zeros >= grid[i] - 1e-9) & (zeros <= grid[i + 1] + 1e-9)).any()


@settings(max_examples=400, deadline=None)
@given(positions, costs, st.lists(st.floats(0.0, 1e5), min_size=1, max_size=20))
def test_no_profit_is_outside_the_extremes(position, cost, spots):
    ends = extremes(position, cost)
    profit = payoff(position, spots) - cost
    slack = 1e-9 * (abs(cost) + sum(abs(leg.units) for leg in position.legs) * (200 + max(spots)))
    assert (profit <= ends.maximum_gain + slack).all()
    assert (profit >= -ends.maximum_loss - slack).all()
    line = profit_line(position, cost)
    assert line(np.array(spots)) == pytest.approx(profit, abs=slack)
    if np.isfinite(ends.maximum_gain):
        assert payoff(position, ends.gain_at) - cost == pytest.approx(ends.maximum_gain, abs=slack)
    if np.isfinite(ends.maximum_loss):
        assert cost - payoff(position, ends.loss_at) == pytest.approx(ends.maximum_loss, abs=slack)


@settings(max_examples=200, deadline=None)
@given(positions)
def test_payoff_is_straight_between_strikes(position):
    strikes = sorted({0.0, *(leg.strike for leg in position.options), 1000.0})
    for low, high in pairwise(strikes):
        ends = payoff(position, [low, 0.25 * low + 0.75 * high, high])
        assert ends[1] == pytest.approx(0.25 * ends[0] + 0.75 * ends[2], abs=1e-6)


@given(st.floats(1.0, 500.0), st.floats(0.0, 1000.0))
def test_long_call_and_short_put_are_the_stock_less_the_strike(strike, spot):
    synthetic = custom(call(strike), put(strike, quantity=-1.0))
    stock = custom(Leg.stock(1.0, 1.0, 100.0))
    assert payoff(synthetic, spot) == pytest.approx(payoff(stock, spot) - 100 * strike, abs=1e-8)


@pytest.mark.filterwarnings("error")
def test_refusals():
    spread = vertical(call(100.0), call(110.0))
    assert np.isnan(payoff(spread, [-1.0, np.nan])).all()
    assert payoff(spread, []).shape == (0,)
    assert payoff(spread, np.ones((2, 3))).shape == (2, 3)
    with pytest.raises(ValueError, match="^cost"):
        break_evens(spread, np.nan)
    with pytest.raises(ValueError, match="^position must have one expiration"):
        payoff(custom(call(100.0), Leg(CALL, 100.0, 0.5, 1.0, 1.1)), 100.0)
    with pytest.raises(ValueError, match="^spot"):
        payoff(spread, "high")
