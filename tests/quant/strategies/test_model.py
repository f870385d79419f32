"""Positions by the model: Greeks, calendars at their first expiration, probabilities and what a fair market pays."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import lognorm

from ots_quant import american, european
from ots_quant.density import risk_neutral
from ots_quant.strategies import (
    CALL,
    PUT,
    Leg,
    Market,
    Style,
    break_evens,
    butterfly,
    calendar,
    covered_call,
    custom,
    entry,
    expected_profit,
    extremes,
    iron_condor,
    payoff,
    position_greeks,
    position_value,
    probability_of_profit,
    profit_at_first_expiration,
    straddle,
    value_at_first_expiration,
    vertical,
)

RATE, VOLATILITY, YEARS = 0.02, 0.3, 0.25


def market(legs, volatility=VOLATILITY, dividend_yield=0.0):
    return Market(100.0, RATE, dividend_yield, (volatility,) * legs)


def terminal(volatility=VOLATILITY, years=YEARS):
    deviation = volatility * np.sqrt(years)
    return lognorm(deviation, scale=100.0 * np.exp(RATE * years - 0.5 * deviation**2))


def test_greeks_are_sums_with_the_multiplier(quoted):
    position = custom(quoted(CALL, 100.0).times(2), quoted(PUT, 95.0).times(-3), Leg.stock(99.0, 101.0, 40.0))
    greeks = position_greeks(position, market(3))
    both = european.greeks([1, -1], 100.0, [100.0, 95.0], YEARS, RATE, 0.0, VOLATILITY)
    for name in greeks._fields:
        stock = {"price": 4000.0, "delta": 40.0}.get(name, 0.0)
        call, put = getattr(both, name)
        expected = 200 * call - 300 * put + stock
        assert getattr(greeks, name) == pytest.approx(float(expected), rel=1e-12)
        assert getattr(greeks, name).shape == ()
    over = position_greeks(position, market(3), np.linspace(80, 120, 6).reshape(2, 3))
    assert over.gamma.shape == (2, 3)
    assert over.price == pytest.approx(position_value(position, market(3), np.linspace(80, 120, 6).reshape(2, 3)))


def test_a_synthetic_stock_has_the_greeks_of_a_forward(quoted):
    synthetic = custom(quoted(CALL, 105.0), quoted(PUT, 105.0).times(-1))
    greeks = position_greeks(synthetic, market(2))
    assert greeks.price == pytest.approx(100 * (100.0 - 105.0 * np.exp(-RATE * YEARS)), rel=1e-10)
    assert greeks.delta == pytest.approx(100.0, rel=1e-12)
    assert [greeks.gamma, greeks.vega, greeks.vanna, greeks.vomma] == pytest.approx([0, 0, 0, 0], abs=1e-8)


def test_styles_use_their_own_model(quoted):
    both = custom(quoted(PUT, 110.0, style=Style.AMERICAN), quoted(PUT, 110.0, style=Style.EUROPEAN).times(-1))
    early = position_greeks(both, market(2)).price
    expected = american.price(-1, 100.0, 110.0, YEARS, RATE, 0.0, VOLATILITY) - european.price(
        -1, 100.0, 110.0, YEARS, RATE, 0.0, VOLATILITY
    )
    assert early == pytest.approx(100 * float(expected), rel=1e-9, abs=1e-9)
    assert early > 1.0


@pytest.mark.parametrize("right", [CALL, PUT])
def test_a_calendar_by_hand(quoted, right):
    spread = calendar(quoted(right, 100.0), quoted(right, 100.0, 0.5))
    spots = np.array([70.0, 100.0, 130.0])
    value = value_at_first_expiration(spread, market(2), spots)
    far = european.price(right, spots, 100.0, 0.25, RATE, 0.0, VOLATILITY)
    assert value == pytest.approx(100 * (far - np.maximum(right * (spots - 100.0), 0.0)), rel=1e-12)
    bought = entry(spread)
    result = profit_at_first_expiration(spread, market(2), bought.cost)
    assert result.break_evens.spots.size == 2
    assert value_at_first_expiration(spread, market(2), result.break_evens.spots) == pytest.approx(
        bought.cost, abs=1e-6
    )
    assert result.extremes.gain_at == pytest.approx(100.0, rel=1e-6)  # at the strike, where the payoff has its corner
    assert result.extremes.maximum_gain == pytest.approx(float(value[1] - bought.cost), rel=1e-9)
    dense = value_at_first_expiration(spread, market(2), np.geomspace(1.0, 1e4, 20001)) - bought.cost
    assert dense.min() >= -result.extremes.maximum_loss - 1e-6
    assert dense.max() <= result.extremes.maximum_gain + 1e-6


def test_a_single_expiration_gives_the_exact_answer(quoted):
    """The numerical way against the exact one, on a position that both can do."""
    condor = iron_condor(quoted(PUT, 85.0), quoted(PUT, 92.5), quoted(CALL, 107.0), quoted(CALL, 118.0))
    cost = entry(condor).cost
    exact, result = extremes(condor, cost), profit_at_first_expiration(condor, market(4), cost)
    assert result.break_evens.spots == pytest.approx(break_evens(condor, cost).spots, rel=1e-9)
    assert result.extremes.maximum_gain == pytest.approx(exact.maximum_gain, rel=1e-9)
    assert result.extremes.maximum_loss == pytest.approx(exact.maximum_loss, rel=1e-9)
    assert result.extremes.at_zero == pytest.approx(exact.at_zero)


def test_unlimited_tails_of_a_calendar(quoted):
    """A European far call on a dividend payer falls behind the near one; a naked extra call loses without limit."""
    spread = calendar(quoted(CALL, 100.0), quoted(CALL, 100.0, 0.5))
    paying = profit_at_first_expiration(spread, market(2, dividend_yield=0.05), 200.0).extremes
    assert (paying.maximum_loss, paying.loss_at) == (np.inf, np.inf)
    assert paying.slope == pytest.approx(100 * (np.exp(-0.05 * 0.25) - 1))
    ratio = custom(quoted(CALL, 100.0).times(-2), quoted(CALL, 100.0, 0.5))
    assert profit_at_first_expiration(ratio, market(2), 0.0).extremes.maximum_loss == np.inf
    assert (
        profit_at_first_expiration(custom(*(leg.times(-1) for leg in ratio.legs)), market(2), 0.0).extremes[0] == np.inf
    )


def test_the_tail_down_to_zero(quoted):
    """Two puts on two expirations: at zero one pays its strike, the other the discounted strike."""
    puts = custom(quoted(PUT, 100.0), quoted(PUT, 100.0, 0.5))
    most = 100 * (100.0 + 100.0 * np.exp(-RATE * 0.25))
    result = profit_at_first_expiration(puts, market(2), most - 500.0)
    assert (result.extremes.maximum_gain, result.extremes.gain_at) == (pytest.approx(500.0), 0.0)
    assert result.break_evens.spots == pytest.approx([2.5], rel=1e-9)
    chance = probability_of_profit(puts, market(2, 2.0), most - 500.0, 2.0)
    assert chance.lognormal == pytest.approx(terminal(2.0).cdf(2.5), rel=1e-3)  # at 200 % a little time value is left


def test_american_calendar_cannot_lose_more_than_it_cost(quoted):
    spread = calendar(quoted(CALL, 100.0, style=Style.AMERICAN), quoted(CALL, 100.0, 0.5, style=Style.AMERICAN))
    result = profit_at_first_expiration(spread, market(2, dividend_yield=0.03), 250.0)
    assert result.extremes.maximum_loss == pytest.approx(250.0, abs=0.5)
    assert result.extremes.slope == 0.0


def test_probability_of_profit_by_hand(quoted):
    spread = vertical(quoted(CALL, 100.0), quoted(CALL, 110.0))
    result = probability_of_profit(spread, market(2), 320.0, VOLATILITY)
    assert result.lognormal == pytest.approx(terminal().sf(103.2), abs=1e-12)
    assert np.isnan(result.smile)
    both = straddle(quoted(CALL, 100.0), quoted(PUT, 100.0))
    outside = terminal().cdf(95.0) + terminal().sf(105.0)
    assert probability_of_profit(both, market(2), 500.0, VOLATILITY).lognormal == pytest.approx(outside, abs=1e-12)
    sold = straddle(quoted(CALL, 100.0), quoted(PUT, 100.0), -1)
    assert probability_of_profit(sold, market(2), -500.0, VOLATILITY).lognormal == pytest.approx(1 - outside, abs=1e-12)
    fly = butterfly(quoted(CALL, 90.0), quoted(CALL, 100.0), quoted(CALL, 110.0))
    inside = terminal().cdf(110.0) - terminal().cdf(90.0)
    assert probability_of_profit(fly, market(3), 0.0, VOLATILITY).lognormal == pytest.approx(inside, abs=1e-12)
    assert probability_of_profit(fly, market(3), 2000.0, VOLATILITY).lognormal == 0.0
    assert probability_of_profit(fly, market(3), -1.0, VOLATILITY).lognormal == pytest.approx(1.0)


def test_probability_of_profit_by_a_smile(quoted):
    forward = 100.0 * np.exp(RATE * YEARS)

    def skew(strike):
        return 0.3 - 0.15 * np.tanh(np.log(strike / forward) / 0.3)

    distribution = risk_neutral(skew, forward, YEARS)
    spread = vertical(quoted(PUT, 95.0), quoted(PUT, 85.0))
    result = probability_of_profit(spread, market(2), 200.0, VOLATILITY, distribution)
    assert result.smile == pytest.approx(float(distribution.probability_below(93.0)), abs=1e-12)
    inside = distribution.density * (distribution.strikes < 93.0)
    assert result.smile == pytest.approx(np.trapezoid(inside, distribution.strikes), abs=2e-3)
    flat = risk_neutral(lambda k: VOLATILITY, forward, YEARS)
    same = probability_of_profit(spread, market(2), 200.0, VOLATILITY, flat)
    assert same.smile == pytest.approx(same.lognormal, abs=1e-12)


def test_probability_of_profit_of_a_calendar(quoted):
    spread = calendar(quoted(CALL, 100.0), quoted(CALL, 100.0, 0.5))
    cost = entry(spread).cost
    low, high = profit_at_first_expiration(spread, market(2), cost).break_evens.spots
    result = probability_of_profit(spread, market(2), cost, VOLATILITY)
    assert result.lognormal == pytest.approx(terminal().cdf(high) - terminal().cdf(low), abs=1e-10)


def test_a_fair_market_pays_minus_the_half_spreads(quoted):
    for position in (
        straddle(quoted(CALL, 100.0), quoted(PUT, 100.0)),
        iron_condor(quoted(PUT, 85.0), quoted(PUT, 92.5), quoted(CALL, 107.0), quoted(CALL, 118.0), -2),
        calendar(quoted(CALL, 100.0), quoted(CALL, 100.0, 0.5)),
        covered_call(Leg.stock(99.95, 100.05), quoted(CALL, 105.0)),
    ):
        bought = entry(position, fee_per_contract=0.5)
        result = expected_profit(position, market(len(position.legs)), bought)
        assert result.profit == pytest.approx(-bought.half_spreads - bought.fees, abs=1e-8)
        assert result.profit < 0


def test_expected_value_is_the_payoff_over_the_distribution(quoted):
    position = iron_condor(quoted(PUT, 85.0), quoted(PUT, 92.5), quoted(CALL, 107.0), quoted(CALL, 118.0))
    value = expected_profit(position, market(4), entry(position)).value
    law = terminal()
    pieces = [0.0, 85.0, 92.5, 107.0, 118.0, 1000.0]
    mean = sum(
        quad(lambda s: float(payoff(position, s)) * law.pdf(s), a, b, epsabs=1e-10)[0] for a, b in pairwise(pieces)
    )
    assert value == pytest.approx(np.exp(-RATE * YEARS) * mean, rel=1e-8)
    distribution = risk_neutral(lambda k: VOLATILITY, 100.0 * np.exp(RATE * YEARS), YEARS)
    assert distribution.expectation(lambda s: payoff(position, s)) == pytest.approx(mean, rel=1e-4)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, -1]), st.sampled_from([80.0, 95.0, 100.0, 107.5, 130.0]), st.integers(-3, 3)),
        min_size=1,
        max_size=5,
    ),
    st.floats(-3000, 3000),
    st.floats(0.05, 2.0),
)
def test_profit_and_its_opposite_share_all_probability(legs, cost, volatility):
    legs = [Leg(w, k, YEARS, 1.0, 1.1, float(n)) for w, k, n in legs if n]
    if not legs:
        return
    there = probability_of_profit(custom(*legs), market(len(legs)), cost, volatility).lognormal
    back = probability_of_profit(
        custom(*(leg.times(-1) for leg in legs)), market(len(legs)), -cost, volatility
    ).lognormal
    assert 0.0 <= there <= 1.0
    assert there + back <= 1.0 + 1e-12
    if break_evens(custom(*legs), cost).flat.size == 0:
        assert there + back == pytest.approx(1.0, abs=1e-12)


def test_refusals(quoted):
    spread = vertical(quoted(CALL, 100.0), quoted(CALL, 110.0))
    with pytest.raises(ValueError, match="^volatilities must be one per leg"):
        position_greeks(spread, market(3))
    for name, bad in (("spot", 0.0), ("rate", np.nan), ("dividend_yield", np.inf)):
        good = {"spot": 100.0, "rate": 0.0, "dividend_yield": 0.0, "volatilities": (0.3, 0.3)}
        with pytest.raises(ValueError, match=f"^{name}"):
            Market(**{**good, name: bad})
    with pytest.raises(ValueError, match="^volatilities"):
        Market(100.0, 0.0, 0.0, ((0.3,), (0.3,)))
    with pytest.raises(ValueError, match="^after"):
        position_value(spread, market(2), 100.0, 0.3)
    with pytest.raises(ValueError, match="^cost"):
        profit_at_first_expiration(spread, market(2), np.nan)
    with pytest.raises(ValueError, match="^volatilities"):
        profit_at_first_expiration(spread, market(2, np.nan), 1.0)
    with pytest.raises(ValueError, match="^volatility"):
        probability_of_profit(spread, market(2), 100.0, 0.0)
    with pytest.raises(ValueError, match="^position"):
        probability_of_profit(custom(Leg.stock(1.0, 1.1)), market(1), 100.0, 0.3)
    with pytest.raises(ValueError, match="^position"):
        profit_at_first_expiration(custom(Leg.stock(1.0, 1.1)), market(1), 1.0)
    other = risk_neutral(lambda k: 0.3, 100.0, 0.5)
    with pytest.raises(ValueError, match="^distribution"):
        probability_of_profit(spread, market(2), 100.0, 0.3, other)
    assert np.isnan(position_greeks(spread, market(2, np.nan)).price)
    assert np.isnan(expected_profit(spread, market(2, np.nan), entry(spread)).profit)
