"""What is promised of the digits: against 60-digit arithmetic, QuantLib, and prices whose volatility hides."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import QuantLib

from ots_quant import european, european_numpy
from ots_quant.european import NoVolatility
from ots_quant.european_numpy import Contracts
from ots_quant.greeks import Greeks
from quant.european.reference import LEAST_NORMAL, exact, extreme, usual

SIZE = 400
LEAST_NORMAL_PRICE = 1e-300  # below, prices lose digits until they are 0


def compiled(contracts: Contracts) -> Greeks:
    return european.greeks(*contracts)


def reference(contracts: Contracts) -> Greeks:
    result = Greeks.empty(len(contracts.spot))
    european_numpy.greeks(contracts, result)
    return result


@functools.cache
def sixty_digits(make, seed):
    contracts = make(SIZE, seed)
    return contracts, [exact(*row) for row in zip(*contracts, strict=True)]


@pytest.mark.parametrize("engine", [compiled, reference])
@pytest.mark.parametrize("make", [usual, extreme])
def test_price_is_exact_to_the_rounding_of_its_scale(engine, make):
    contracts, answers = sixty_digits(make, 1)
    found = engine(contracts).price
    growth = np.maximum(np.abs(contracts.rate), np.abs(contracts.dividend_yield)) * contracts.years
    for price, answer, grown in zip(found, answers, growth, strict=True):
        # the product in e^(-rT) is rounded before the exponential, which multiplies its error by |rT|
        assert abs(float(price) - answer.values["price"]) <= 1e-15 * max(1.0, grown) * answer.scale


@pytest.mark.parametrize("engine", [compiled, reference])
@pytest.mark.parametrize("make", [usual, extreme])
@pytest.mark.parametrize("name", Greeks._fields)
def test_every_derivative_has_ten_digits_deep_in_and_out_of_the_money(engine, make, name):
    contracts, answers = sixty_digits(make, 2)
    checked = 0
    for value, answer in zip(getattr(engine(contracts), name), answers, strict=True):
        truth = answer.values[name]
        if abs(truth) < LEAST_NORMAL:
            assert abs(float(value)) < 1e-280
            continue
        checked += 1
        # a sum that crosses zero is held to the size of what is summed
        assert abs(float(value) - truth) <= 1e-10 * max(abs(truth), answer.sizes.get(name, 0) / 1000)
    assert checked > SIZE / 2


def test_quantlib_gives_the_same_price_and_derivatives():
    contracts = usual(200, 3)
    ours = european.greeks(*contracts)
    for i, (right, spot, strike, years, rate, dividend_yield, volatility) in enumerate(zip(*contracts, strict=True)):
        payoff = QuantLib.PlainVanillaPayoff(QuantLib.Option.Call if right > 0 else QuantLib.Option.Put, strike)
        carry, discount = np.exp(-dividend_yield * years), np.exp(-rate * years)
        theirs = QuantLib.BlackCalculator(payoff, spot * carry / discount, volatility * np.sqrt(years), discount)
        scale = max(spot * carry, strike * discount)
        assert ours.price[i] == pytest.approx(theirs.value(), rel=1e-9, abs=1e-13 * scale)
        assert ours.delta[i] == pytest.approx(theirs.delta(spot), rel=1e-9, abs=1e-13)
        assert ours.gamma[i] == pytest.approx(theirs.gamma(spot), rel=1e-9, abs=1e-13 / spot)
        assert ours.vega[i] == pytest.approx(theirs.vega(years), rel=1e-9, abs=1e-13 * scale)
        assert ours.rho[i] == pytest.approx(theirs.rho(years), rel=1e-9, abs=1e-12 * scale)
        assert ours.theta[i] == pytest.approx(theirs.theta(spot, years), rel=1e-7, abs=1e-10 * scale)


def rounding_of_the_inputs(contracts: Contracts, price, volatility):
    """How far one rounding of the price, of the forward, of the strike and of the volatility moves a price."""
    greeks = european.greeks(*contracts[:6], volatility)
    asset = np.abs(greeks.delta * contracts.spot)
    cash = np.abs(contracts.right * greeks.delta * contracts.spot - greeks.price)
    # ln(S/K), rT and qT are rounded before they are exponents
    exponents = np.abs(np.log(contracts.spot) - np.log(contracts.strike)) + contracts.years * (
        np.abs(contracts.rate) + np.abs(contracts.dividend_yield)
    )
    moved = price + (asset + cash) * (1.0 + exponents) + greeks.vega * volatility
    return np.maximum(np.finfo(float).eps * moved, LEAST_NORMAL_PRICE)


def assert_no_wrong_volatility(contracts: Contracts, price, implied):
    found = ~np.isnan(implied)
    part = Contracts(*(vector[found] for vector in contracts))
    again = european.price(*part[:6], implied[found])
    allowed = rounding_of_the_inputs(part, price[found], implied[found])
    assert (np.abs(again - price[found]) <= 8.0 * allowed).all()
    return found


def reference_volatility(price, *contract):
    out = np.empty(len(price))
    european_numpy.implied_volatility(european_numpy.Quotes(price, *contract), out)
    return out


@pytest.mark.parametrize("imply", [european.implied_volatility, reference_volatility])
def test_volatility_comes_back_to_nine_digits_where_the_price_knows_it(imply):
    contracts = usual(20_000, 4)
    greeks = european.greeks(*contracts)
    implied = imply(greeks.price, *contracts[:6])
    scale = np.maximum(contracts.spot, contracts.strike)
    well_posed = greeks.vega > 1e-6 * scale  # a rounding of the price then moves the volatility by 1e-10 or less
    assert well_posed.sum() > 15_000
    assert np.abs(implied - contracts.volatility)[well_posed].max() < 1e-9


@pytest.mark.parametrize("imply", [european.implied_volatility, reference_volatility])
def test_no_volatility_is_silently_wrong(imply):
    contracts = extreme(20_000, 5)
    price = european.price(*contracts)
    found = assert_no_wrong_volatility(contracts, price, imply(price, *contracts[:6]))
    assert found.sum() > 8_000


@pytest.mark.parametrize("imply", [european.implied_volatility, reference_volatility])
def test_a_price_one_rounding_inside_its_bounds_has_a_volatility_that_gives_it_back(imply):
    contracts = usual(5_000, 6)._replace(
        rate=np.zeros(5_000), dividend_yield=np.zeros(5_000)
    )  # bounds without rounding
    right, spot, strike = contracts[:3]
    lower, upper = np.maximum(right * (spot - strike), 0.0), np.where(right > 0, spot, strike)
    for price in (np.nextafter(lower, np.inf), np.nextafter(upper, 0.0), lower + 1e-200, 0.5 * (lower + upper)):
        inside = price > lower
        part = Contracts(*(vector[inside] for vector in contracts))
        implied = imply(price[inside], *part[:6])
        assert not np.isnan(implied).any()
        assert_no_wrong_volatility(part, price[inside], implied)


def test_at_the_bounds_and_beyond_there_is_no_volatility_and_the_code_says_why():
    contracts = usual(2_000, 7)._replace(rate=np.zeros(2_000), dividend_yield=np.zeros(2_000))
    right, spot, strike = contracts[:3]
    lower, upper = np.maximum(right * (spot - strike), 0.0), np.where(right > 0, spot, strike)
    for price, code in (
        (lower, NoVolatility.BELOW_INTRINSIC),
        (np.nextafter(lower, -np.inf), NoVolatility.BELOW_INTRINSIC),
        (upper, NoVolatility.ABOVE_BOUND),
        (upper * 2.0, NoVolatility.ABOVE_BOUND),
    ):
        assert np.isnan(european.implied_volatility(price, *contracts[:6])).all()
        assert (european.why_no_volatility(price, *contracts[:6]) == code).all()


def test_codes_say_has_one_exactly_where_there_is_a_number():
    contracts = extreme(5_000, 8)
    price = european.price(*contracts)
    price[::7] *= 1.5
    price[::11] = np.nan
    implied, codes = (
        european.implied_volatility(price, *contracts[:6]),
        european.why_no_volatility(price, *contracts[:6]),
    )
    assert (np.isnan(implied) == (codes != NoVolatility.HAS_ONE)).all()
    assert (codes[::11] == NoVolatility.BAD_INPUT).all()
