"""What any European price must satisfy, on contracts that hypothesis chooses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ots_quant import european

EPS = np.finfo(float).eps

prices = st.floats(0.01, 1e4)
moneyness = st.floats(-1.5, 1.5)
times = st.floats(1e-6, 30.0)
rates = st.floats(-0.1, 0.3)
volatilities = st.floats(0.005, 5.0)
rights = st.sampled_from([1.0, -1.0])
contracts = st.tuples(rights, prices, moneyness, times, rates, rates, volatilities).map(
    lambda c: (c[0], c[1], c[1] * np.exp(c[2]), *c[3:])
)


def scale_of(contract) -> float:
    _, spot, strike, years, rate, dividend_yield, _ = contract
    return max(spot * np.exp(-dividend_yield * years), strike * np.exp(-rate * years))


@given(contracts)
def test_call_less_put_is_the_forward_contract(contract):
    call, put = (european.price(right, *contract[1:]) for right in (1, -1))
    _, spot, strike, years, rate, dividend_yield, _ = contract
    forward = spot * np.exp(-dividend_yield * years) - strike * np.exp(-rate * years)
    assert call - put == pytest.approx(forward, abs=2e-15 * scale_of(contract) * (1 + 0.3 * years))


@given(contracts)
def test_prices_lie_between_their_bounds(contract):
    right, spot, strike, years, rate, dividend_yield, _ = contract
    forward, discounted = spot * np.exp(-dividend_yield * years), strike * np.exp(-rate * years)
    slack = 2e-15 * scale_of(contract) * (1 + 0.3 * years)
    value = european.price(*contract)
    assert max(right * (forward - discounted), 0.0) - slack <= value <= (forward if right > 0 else discounted) + slack


@given(contracts, st.floats(1.0001, 1.5), st.sampled_from(["spot", "strike", "volatility"]))
def test_prices_are_monotone(contract, factor, argument):
    index = {"spot": 1, "strike": 2, "volatility": 6}[argument]
    more = [*contract[:index], contract[index] * factor, *contract[index + 1 :]]
    direction = {"spot": contract[0], "strike": -contract[0], "volatility": 1.0}[argument]
    rise = direction * (european.price(*more) - european.price(*contract))
    assert rise >= -2e-15 * max(scale_of(contract), scale_of(more)) * (1 + 0.3 * contract[3])


@given(contracts, st.floats(1e-3, 1e3))
def test_a_change_of_currency_changes_prices_alike(contract, factor):
    right, spot, strike, *rest = contract
    scaled = european.price(right, factor * spot, factor * strike, *rest)
    assert scaled == pytest.approx(
        factor * european.price(*contract), rel=1e-9, abs=4e-15 * factor * scale_of(contract)
    )


@given(contracts)
def test_derivatives_are_finite_differences(contract):
    """Central differences of the price, and of delta and vega, at steps that leave about six digits."""
    _, spot, _, years, rate, dividend_yield, volatility = contract
    if not 0.02 < volatility * np.sqrt(years) < 3.0:
        return
    found = european.greeks(*contract)

    def slope(name, index, step):
        up, down = list(contract), list(contract)
        up[index] += step
        down[index] -= step
        high, low = (getattr(european.greeks(*c), name) for c in (up, down))
        return (high - low) / (up[index] - down[index])

    deviation = volatility * np.sqrt(years)
    steps = {1: spot * deviation * 1e-4, 3: years * 1e-4, 4: 1e-4 * deviation / years, 6: volatility * 1e-4}
    value = scale_of(contract)
    carry = np.exp(-dividend_yield * years)
    growth = 1.0 + (abs(rate) + abs(dividend_yield)) * years
    for name, of, index, sign, size in (
        ("delta", "price", 1, 1, value / (spot * deviation)),
        ("gamma", "delta", 1, 1, carry / (spot * deviation)),
        ("theta", "price", 3, -1, value * growth / years),
        ("vega", "price", 6, 1, value / volatility),
        ("rho", "price", 4, 1, value * years / deviation),
        ("vanna", "delta", 6, 1, carry / volatility),
        ("charm", "delta", 3, -1, carry * growth / years),
        ("vomma", "vega", 6, 1, value / volatility**2),
    ):
        expected = sign * slope(of, index, steps[index])
        assert getattr(found, name) == pytest.approx(expected, rel=1e-5, abs=1e-5 * size), name


@given(contracts)
def test_volatility_comes_back_from_its_price(contract):
    value = european.price(*contract)
    vega = european.greeks(*contract).vega
    implied = european.implied_volatility(value, *contract[:6])
    lost = 8.0 * EPS * scale_of(contract) * (1 + 0.3 * contract[3])
    if vega * contract[6] * 1e-3 < lost:  # the price does not know its volatility
        return
    assert implied == pytest.approx(contract[6], abs=2.0 * lost / vega + 1e-12 * contract[6])
