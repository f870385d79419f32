"""American prices against QuantLib, against an independent tree, and against what must hold for any price."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quantlib_american
from ots_quant import american, american_tree, european
from ots_quant.american import CashDividends

rights = st.sampled_from([1.0, -1.0])
rates = st.sampled_from([0.0, 1e-6, 0.003, 0.02, 0.05, 0.1])
volatilities = st.floats(0.03, 3.0)
years = st.floats(1 / 365, 3.0)
log_moneyness = st.floats(-0.7, 0.7)


def random_contracts(count, seed, least_volatility=0.05, most_volatility=2.0):
    """right, strike, days, rate, yield, volatility of contracts on a spot of 100, over all that a market may show."""
    chance = np.random.default_rng(seed)
    volatility = np.exp(chance.uniform(np.log(least_volatility), np.log(most_volatility), count))
    days = np.exp(chance.uniform(0, np.log(730), count)).astype(int)
    width = volatility * np.sqrt(days / 365)
    strike = 100 * np.exp(np.clip(1.2 * width * chance.standard_normal(count), -0.9, 0.9))
    rate = np.exp(chance.uniform(np.log(0.001), np.log(0.1), count))
    dividend_yield = np.where(
        chance.random(count) < 0.3, 0.0, np.exp(chance.uniform(np.log(0.001), np.log(0.1), count))
    )
    return chance.choice([-1, 1], count), strike, days, rate, dividend_yield, volatility


@pytest.mark.parametrize(("least", "most"), [(0.05, 2.0), (0.01, 5.0)])
def test_prices_are_within_a_millionth_of_the_spot(least, most):
    right, strike, days, rate, dividend_yield, volatility = random_contracts(120, 7, least, most)
    prices = american.price(right, 100.0, strike, days / 365, rate, dividend_yield, volatility)
    rows = zip(right, strike, days, rate, dividend_yield, volatility, strict=True)
    peer = [quantlib_american.price(int(c), 100.0, k, int(d), r, q, v) for c, k, d, r, q, v in rows]
    assert np.abs(prices - peer).max() < 1e-6 * 100.0


def test_a_tree_that_shares_nothing_with_it_agrees():
    right, strike, days, rate, dividend_yield, volatility = random_contracts(200, 11)
    columns = np.broadcast_arrays(right, 100.0, strike, days / 365, rate, dividend_yield, volatility)
    terms = american_tree.Terms(*(np.array(c, float) for c in columns))
    difference = american_tree.price(terms, american_tree.checked(None)) - american.price(*columns)
    assert np.abs(difference).max() < 1e-4 * 100.0
    assert np.median(np.abs(difference)) < 1e-7 * 100.0


def test_a_chain_costs_no_accuracy():
    """Contracts that share a boundary, interpolated in volatility, are priced as each by itself."""
    strike = np.linspace(60.0, 150.0, 41)
    volatility = 0.22 + 0.3 * np.log(strike / 100.0) ** 2
    for right in (1, -1):
        chain = american.price(right, 100.0, strike, 0.4, 0.05, 0.03, volatility)
        alone = [american.price(right, 100.0, k, 0.4, 0.05, 0.03, v) for k, v in zip(strike, volatility, strict=True)]
        np.testing.assert_array_equal(chain, alone)


def test_prices_do_not_jump_between_bands_of_volatility():
    below, at, above = american.price(-1, 100.0, 105.0, 1.0, 0.06, 0.02, [0.2 * (1 - 1e-9), 0.2, 0.2 * (1 + 1e-9)])
    assert abs(above - below) < 1e-6
    assert abs(at - below) < 1e-6


def test_a_call_without_dividends_is_european():
    arguments = (1, 100.0, np.linspace(70, 140, 15), 0.7, 0.05, 0.0, 0.3)
    np.testing.assert_array_equal(american.price(*arguments), european.price(*arguments))


@pytest.mark.parametrize(
    "contract",
    [
        (-1, 95.0, 100.0, 365, -0.01, -0.05, 0.3),
        (1, 105.0, 100.0, 365, -0.05, -0.01, 0.3),
        (-1, 100.0, 100.0, 182, -0.005, -0.03, 0.2),
        (-1, 95.0, 100.0, 365, 0.0, -0.05, 0.3),
        (-1, 95.0, 100.0, 365, 0.05, -0.02, 0.3),
    ],
)
def test_negative_rates_and_yields(contract):
    right, spot, strike, days, rate, dividend_yield, volatility = contract
    peer = quantlib_american.finite_difference_price(*contract)
    mine = american.price(right, spot, strike, days / 365, rate, dividend_yield, volatility)
    assert mine == pytest.approx(peer, abs=1e-4 * spot)


@pytest.mark.parametrize(
    ("contract", "dividends"),
    [
        ((1, 100.0, 95.0, 182, 0.04, 0.0, 0.25), [(40, 1.0), (131, 1.0)]),
        ((1, 100.0, 80.0, 365, 0.02, 0.0, 0.2), [(30, 2.5), (120, 2.5), (210, 2.5), (300, 2.5)]),
        ((-1, 100.0, 105.0, 182, 0.05, 0.0, 0.3), [(40, 1.0), (131, 1.0)]),
        ((-1, 100.0, 120.0, 365, 0.05, 0.0, 0.3), [(91, 0.5), (255, 0.5)]),
    ],
)
def test_cash_dividends_are_escrowed(contract, dividends):
    peer = quantlib_american.finite_difference_price(*contract, dividends)
    right, spot, strike, days, rate, dividend_yield, volatility = contract
    cash = CashDividends([day / 365 for day, _ in dividends], [amount for _, amount in dividends])
    mine = american.price(right, spot, strike, days / 365, rate, dividend_yield, volatility, dividends=cash)
    assert mine == pytest.approx(peer, abs=1e-4 * spot)


def test_dividends_that_do_not_matter_change_nothing():
    arguments = (-1, 100.0, 105.0, 0.5, 0.05, 0.0, 0.3)
    plain = american.price(*arguments)
    for cash in (CashDividends([0.6], [5.0]), CashDividends([-0.1, 0.0], [5.0, 5.0]), CashDividends([], [])):
        assert american.price(*arguments, dividends=cash) == plain


def test_a_dividend_worth_more_than_the_stock_has_no_price():
    assert np.isnan(american.price(1, 100.0, 90.0, 0.5, 0.05, 0.0, 0.3, dividends=CashDividends([0.2], [150.0])))


@given(right=rights, m=log_moneyness, t=years, r=rates, q=rates, v=volatilities)
@settings(max_examples=300, deadline=None)
def test_american_is_worth_at_least_european_and_intrinsic(right, m, t, r, q, v):
    strike = 100.0 * np.exp(m)
    value = float(american.price(right, 100.0, strike, t, r, q, v))
    assert value >= float(european.price(right, 100.0, strike, t, r, q, v)) - 1e-5
    assert value >= right * (100.0 - strike)
    assert value <= (100.0 if right > 0 else strike)


@given(right=rights, m=log_moneyness, t=years, r=rates, q=rates, v=volatilities)
@settings(max_examples=200, deadline=None)
def test_worth_more_with_more_time_and_with_more_volatility(right, m, t, r, q, v):
    strike = 100.0 * np.exp(m)
    value = float(american.price(right, 100.0, strike, t, r, q, v))
    assert float(american.price(right, 100.0, strike, 1.1 * t, r, q, v)) >= value - 1e-4
    assert float(american.price(right, 100.0, strike, t, r, q, 1.1 * v)) >= value - 1e-4


@given(right=rights, m=log_moneyness, t=years, r=rates, q=rates, v=volatilities, scale=st.floats(0.01, 100))
@settings(max_examples=100, deadline=None)
def test_homogeneous_in_spot_and_strike(right, m, t, r, q, v, scale):
    strike = 100.0 * np.exp(m)
    value = float(american.price(right, 100.0, strike, t, r, q, v))
    scaled = float(american.price(right, 100.0 * scale, strike * scale, t, r, q, v))
    assert scaled == pytest.approx(scale * value, abs=1e-9 * scale * 100.0)


@given(m=log_moneyness, t=years, r=rates, q=rates, v=volatilities)
@settings(max_examples=100, deadline=None)
def test_a_call_is_the_mirrored_put(m, t, r, q, v):
    strike = 100.0 * np.exp(m)
    call = float(american.price(1, 100.0, strike, t, r, q, v))
    assert call == pytest.approx(float(american.price(-1, strike, 100.0, t, q, r, v)), abs=1e-9)


@given(m=log_moneyness, t=years, r=rates, q=rates, v=volatilities)
@settings(max_examples=100, deadline=None)
def test_parity_is_an_inequality(m, t, r, q, v):
    strike = 100.0 * np.exp(m)
    call, put = american.price([1, -1], 100.0, strike, t, r, q, v)
    assert 100.0 * np.exp(-q * t) - strike - 1e-5 <= call - put <= 100.0 - strike * np.exp(-r * t) + 1e-5


@pytest.mark.parametrize("volatility", [0.0, 1e-8, 1e-6, 1e-4])
def test_without_volatility_it_is_exercised_when_that_pays_most(volatility):
    assert american.price(-1, 95.0, 100.0, 1.0, 0.05, 0.02, volatility) == pytest.approx(5.0, abs=1e-6)
    assert american.price(-1, 102.0, 100.0, 1.0, 0.05, 0.02, volatility) == 0.0
    later = 102.0 - 100.0 * np.exp(-0.05)
    assert american.price(1, 102.0, 100.0, 1.0, 0.05, 0.0, volatility) == pytest.approx(later, abs=1e-6)
    # neither now nor at the end: a yield that first earns less than the interest saved, then more, has a best moment
    moment = np.log(0.04 * 100.0 / (0.10 * 60.0)) / (0.04 - 0.10)
    best = 100.0 * np.exp(-0.04 * moment) - 60.0 * np.exp(-0.10 * moment)
    assert american.price(-1, 60.0, 100.0, 10.0, 0.04, 0.10, volatility) == pytest.approx(best, abs=1e-5)


def test_at_expiration_it_is_intrinsic():
    np.testing.assert_array_equal(american.price([1, -1], 100.0, 90.0, 0.0, 0.05, 0.02, 0.3), [10.0, 0.0])


def test_so_much_volatility_that_a_put_is_worth_its_strike():
    assert american.price(-1, 95.0, 100.0, 1.0, 0.05, 0.02, 500.0) == pytest.approx(100.0, abs=1e-2)
