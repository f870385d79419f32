"""European options in numpy and scipy: the readable reference, and what is used where a kernel is not.

Everything is written in the discounted forward F = S e^(-qT), the discounted strike K' = K e^(-rT), x = ln(F / K') and
the deviation s = volatility sqrt(T), with d1 = x/s + s/2 and d2 = d1 - s. Normal tails beyond 4 come from one density,
because F phi(d1) = K' phi(d2): F Phi(-d1) = F phi(d1) M(d1) and K' Phi(-d2) = F phi(d1) M(d2) for d1, d2 >= 0, where
M(z) = (1 - Phi(z)) / phi(z) is Mills' ratio. Nothing is then a small difference of large numbers, put or call, deep in
or out of the money, but the time value at a deviation below 0.001, which has an expansion of its own.

All functions take vectors of one length, work in blocks, and write into ``out``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

from ots_quant.greeks import Greeks

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

# Some sixty calls into numpy cost 60 microseconds a block: 15 ns an option at 4,096, against what longer arrays lose by
# leaving the second-level cache, which is less. Measured; flat from 10,000 to 30,000.
BLOCK = 12_288

# Beyond these a product or an exponential may overflow. No market comes near.
LEAST_PRICE, LARGEST_PRICE = 1e-150, 1e150
LARGEST_YEARS = 1e4
LARGEST_VOLATILITY = 1e4
LARGEST_GROWTH = 300.0  # |rate * years| and |dividend_yield * years|

NARROW = 1e-3  # deviations below: the time value by expansion
_MOST_STEPS = 200
_CONVERGED = 1e-10  # of a step; Newton's next would be its square
_INV_SQRT_2PI = 0.3989422804014327
_LOG_SQRT_2PI = 0.9189385332046727
_FAR_TAIL = 4.0  # beyond, the error of ndtr, some d^2 roundings, would show in the difference of two tails
_FAR = 1e10  # a |d1| beyond 40 has no density left; a finite stand-in keeps 0 * inf away


class Contracts(NamedTuple):
    """The arguments of a price, vectors of one length."""

    right: Values
    spot: Values
    strike: Values
    years: Values
    rate: Values
    dividend_yield: Values
    volatility: Values

    def at(self, part: slice | Indices) -> Contracts:
        """Some of them."""
        return Contracts(*(vector[part] for vector in self))


class Quotes(NamedTuple):
    """The arguments of an implied volatility, vectors of one length."""

    price: Values
    right: Values
    spot: Values
    strike: Values
    years: Values
    rate: Values
    dividend_yield: Values

    def at(self, part: slice | Indices) -> Quotes:
        """Some of them."""
        return Quotes(*(vector[part] for vector in self))


def blocks(length: int, size: int = BLOCK) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` that cover ``length``."""
    return (slice(first, min(first + size, length)) for first in range(0, length, size))


def mills(z: Values) -> Values:
    """(1 - Phi(z)) / phi(z)."""
    scaled: Values = erfcx(z * 0.7071067811865476)
    scaled *= 1.2533141373155003  # sqrt(pi / 2)
    return scaled


def log_ratio(a: Values, b: Values) -> Values:
    """ln(a / b), to the last digits also where a is close to b."""
    difference = a - b
    ratio: Values = np.log(a / b)
    close = np.abs(difference) < 0.5 * b
    np.log1p(difference / b, out=ratio, where=close)
    return ratio


def in_domain(spot: Values, strike: Values, years: Values, rate: Values, dividend_yield: Values) -> Flags:
    """Where the contract and the market are numbers that a price can be computed from; NaN is not."""
    inside: Flags = (
        (spot >= LEAST_PRICE) & (spot <= LARGEST_PRICE) & (strike >= LEAST_PRICE) & (strike <= LARGEST_PRICE)
    )
    inside &= (years >= 0.0) & (years <= LARGEST_YEARS)
    inside &= np.abs(rate * years) <= LARGEST_GROWTH
    inside &= np.abs(dividend_yield * years) <= LARGEST_GROWTH
    return inside


def _intrinsic_value(right: Values, forward: Values, discounted_strike: Values, x: Values) -> Values:
    """max(right (F - K'), 0), with x = ln(F / K') where F and K' are so close that rounding them would show."""
    difference = forward - discounted_strike
    close = np.abs(x) < 1.0
    np.multiply(discounted_strike, np.expm1(x, where=close, out=np.zeros_like(x)), out=difference, where=close)
    return np.maximum(right * difference, 0.0)


def mills_difference(z: Values, width: Values) -> Values:
    """M(z - width/2) - M(z + width/2) for a small width, by the first two terms of its Taylor series."""
    ratio = mills(z)
    square = z * z
    first = 1.0 - z * ratio
    third = square + 2.0 - z * (square + 3.0) * ratio
    difference: Values = width * (first + width * width / 24.0 * third)
    return difference


class _Terms(NamedTuple):
    """What the price and its derivatives share."""

    regular: bool  # all contracts are inside of the domain and none is narrow: no limit and no NaN to put in place
    cost: Values  # r - q, the cost of carry
    x: Values
    root_years: Values
    deviation: Values
    d1: Values
    d2: Values
    carry: Values  # e^(-qT)
    density: Values  # phi(d1)
    probability: Values  # right * Phi(right * d1)
    asset: Values  # right * F * Phi(right * d1)
    cash: Values  # right * K' * Phi(right * d2)


def _within(least: float, values: Values, largest: float) -> bool:
    """Whether all elements are; NaN is not. Extremes cost less than a flag for each element."""
    return bool(np.minimum.reduce(values, axis=None) >= least) and bool(np.maximum.reduce(values, axis=None) <= largest)


def _all_regular(contracts: Contracts, deviation: Values, growth: Values) -> bool:
    """Whether all contracts are inside of the domain and none is narrow; years and volatility are then above 0."""
    return (
        _within(NARROW, deviation, np.inf)
        and bool(np.maximum.reduce(contracts.years) <= LARGEST_YEARS)
        and bool(np.maximum.reduce(contracts.volatility) <= LARGEST_VOLATILITY)
        and _within(LEAST_PRICE, contracts.spot, LARGEST_PRICE)
        and _within(LEAST_PRICE, contracts.strike, LARGEST_PRICE)
        and _within(-LARGEST_GROWTH, growth, LARGEST_GROWTH)
    )


def _terms(contracts: Contracts, price: Values) -> _Terms:
    """One block; ``price`` is filled. What concerns asset and cash alike is an array of two rows, for fewer calls."""
    right, spot, strike, years, rate, dividend_yield, volatility = contracts
    root_years = np.sqrt(years)
    deviation = volatility * root_years
    growth = np.empty((2, len(spot)))
    np.multiply(dividend_yield, years, out=growth[0])
    np.multiply(rate, years, out=growth[1])
    regular = _all_regular(contracts, deviation, growth)
    carry, discount = np.exp(np.negative(growth, out=growth), out=growth)
    forward, discounted_strike = spot * carry, strike * discount
    cost = rate - dividend_yield
    x = np.log(spot / strike)
    if not regular:
        narrow = np.flatnonzero(deviation < NARROW)
        x[narrow] = log_ratio(spot[narrow], strike[narrow])
    x += cost * years
    standard = x / deviation
    if not regular:
        np.clip(standard, -_FAR, _FAR, out=standard)  # NaN for x = s = 0: there the derivatives do not exist
    half = 0.5 * deviation
    d = np.empty_like(growth)
    d1, d2 = np.add(standard, half, out=d[0]), np.subtract(standard, half, out=d[1])
    density = d1 * d1
    density *= -0.5
    np.exp(density, out=density)
    density *= _INV_SQRT_2PI
    probability, cash = _sides(right, d, density, forward, discounted_strike)
    asset = forward * probability
    np.subtract(asset, cash, out=price)
    if not regular:
        intrinsic = _intrinsic_value(right[narrow], forward[narrow], discounted_strike[narrow], x[narrow])
        tails = mills_difference(np.abs(standard[narrow]), deviation[narrow])
        time_value = np.where(deviation[narrow] > 0.0, (forward * density)[narrow] * tails, 0.0)
        price[narrow] = intrinsic + time_value
        inside = in_domain(spot, strike, years, rate, dividend_yield)
        inside &= (volatility >= 0.0) & (volatility <= LARGEST_VOLATILITY)
        price[~inside] = np.nan
    return _Terms(regular, cost, x, root_years, deviation, d1, d2, carry, density, probability, asset, cash)


def _sides(right: Values, d: Values, density: Values, forward: Values, discounted_strike: Values) -> Values:
    """right * Phi(right * d1), and below it right * K' * Phi(right * d2); ``density`` is phi(d1)."""
    signed = right * d
    sides: Values = ndtr(signed)
    sides[1] *= discounted_strike
    if not np.minimum.reduce(signed, axis=None) >= -_FAR_TAIL:
        far = np.flatnonzero(np.minimum(signed[0], signed[1]) < -_FAR_TAIL)
        z = signed[:, far]
        tails = density[far] * mills(np.abs(z))
        tails[1] *= forward[far]
        sides[:, far] = np.where(z < 0.0, tails, sides[:, far])
    sides *= right
    return sides


def price(contracts: Contracts, out: Values) -> None:
    """Fill ``out`` with prices; NaN outside of the domain."""
    # what overflows or is undefined is outside of the domain, or a limit that is put in place
    with np.errstate(all="ignore"):
        for part in blocks(len(out)):
            _terms(contracts.at(part), out[part])


def greeks(contracts: Contracts, out: Greeks) -> None:
    """Fill ``out``; NaN outside of the domain and where a derivative does not exist."""
    with np.errstate(all="ignore"):  # as in `price`
        for part in blocks(len(contracts.spot)):
            _fill_greeks(contracts.at(part), Greeks(*(array[part] for array in out)))


def _fill_greeks(contracts: Contracts, out: Greeks) -> None:
    """One block. The formulas: Haug (2007), chapter 2."""
    _, spot, _, years, rate, dividend_yield, volatility = contracts
    terms = _terms(contracts, out.price)
    some_deviation, some_years, some_volatility = terms.deviation, years, volatility
    if not terms.regular:  # where one of them is 0 the density is 0, or NaN at the kink
        some_deviation = np.where(terms.deviation > 0.0, terms.deviation, 1.0)
        some_years = np.where(years > 0.0, years, 1.0)
        some_volatility = np.where(volatility > 0.0, volatility, 1.0)
    carried_density = terms.carry * terms.density
    per_deviation = carried_density / some_deviation
    d2_per_volatility = terms.d2 / some_volatility
    decay = 0.5 / some_years
    decay *= volatility
    np.multiply(terms.carry, terms.probability, out=out.delta)
    np.divide(per_deviation, spot, out=out.gamma)
    np.multiply(spot * carried_density, terms.root_years, out=out.vega)
    np.multiply(years, terms.cash, out=out.rho)
    np.subtract(dividend_yield * terms.asset - rate * terms.cash, out.vega * decay, out=out.theta)
    np.multiply(-carried_density, d2_per_volatility, out=out.vanna)
    turning = terms.cost - terms.d2 * terms.root_years * decay
    np.subtract(dividend_yield * out.delta, per_deviation * turning, out=out.charm)
    np.multiply(out.vega * terms.d1, d2_per_volatility, out=out.vomma)
    if not terms.regular:
        _put_limits(contracts, terms, out)


def _put_limits(contracts: Contracts, terms: _Terms, out: Greeks) -> None:
    """Vega and rho at an expiration at the money, where other derivatives are NaN; NaN outside of the domain."""
    expired = (contracts.years == 0.0) & (terms.x == 0.0)
    out.vega[expired] = 0.0
    out.rho[expired] = 0.0
    outside = np.isnan(out.price)
    for array in out:
        array[outside] = np.nan


def implied_volatility(quotes: Quotes, out: Values) -> None:
    """Fill ``out`` with volatilities; NaN outside of the domain and of the bounds of `NoVolatility`.

    The out-of-the-money side by parity, divided by sqrt(F K'), is a function b of |x| and s only, convex up to
    s = sqrt(2 |x|) and concave above. Jaeckel's (2015) three objectives are close to linear in s or s^2:
    1 / ln b below, b above, and ln(b_max - b) for the upper half of what is above.
    """
    with np.errstate(all="ignore"):  # elements without a volatility are computed like the others and then dropped
        for part in blocks(len(out)):
            _fill_implied(quotes.at(part), out[part])


def _fill_implied(quotes: Quotes, out: Values) -> None:
    price, right, spot, strike, years, rate, dividend_yield = quotes
    forward = spot * np.exp(-dividend_yield * years)
    discounted_strike = strike * np.exp(-rate * years)
    time_value = price - np.maximum(right * (forward - discounted_strike), 0.0)
    complement = np.where(right > 0.0, forward, discounted_strike) - price
    has_one = in_domain(spot, strike, years, rate, dividend_yield)
    has_one &= (years > 0.0) & (time_value > 0.0) & (complement > 0.0)
    out[~has_one] = np.nan
    contracts = np.flatnonzero(has_one)
    if not len(contracts):
        return
    x = log_ratio(spot[contracts], strike[contracts]) + ((rate - dividend_yield) * years)[contracts]
    log_scale = 0.5 * (np.log(forward[contracts]) + np.log(discounted_strike[contracts]))
    log_b = np.log(time_value[contracts]) - log_scale
    log_rest = np.log(complement[contracts]) - log_scale
    out[contracts] = _implied_deviation(np.abs(x), log_b, log_rest) / np.sqrt(years[contracts])


class _Objective(NamedTuple):
    """The difference to be made zero, and its derivative in s."""

    difference: Values
    slope: Values


def _implied_deviation(x: Values, log_b: Values, log_rest: Values) -> Values:
    """s where b(x, s) is exp(``log_b``) and b_max - b is exp(``log_rest``), for x >= 0."""
    inflection = np.sqrt(2.0 * x)
    rest_at_inflection, _ = _log_rest(x, inflection)
    below = log_b < _log_b(x, np.maximum(inflection, 1e-300))[0]
    far = ~below & (log_rest < rest_at_inflection - 0.6931471805599453)
    middle = ~below & ~far
    deviation = np.empty_like(x)
    deviation[below] = _root(_far_below, x[below], log_b[below], 0.0 * x[below], inflection[below], inflection[below])
    b = np.exp(log_b[middle])
    start = inflection[middle] + (b - _b(x[middle], inflection[middle])[0]) / _vega(x[middle], inflection[middle])
    deviation[middle] = _root(_central, x[middle], b, inflection[middle], np.full_like(b, np.inf), start)
    start = 2.0 * np.sqrt(np.maximum(-2.0 * log_rest[far], 0.0)) + inflection[far]
    deviation[far] = _root(_far_above, x[far], log_rest[far], inflection[far], np.full_like(start, np.inf), start)
    return deviation


def _root(
    objective: Callable[[Values, Values, Values], _Objective],
    x: Values,
    target: Values,
    low: Values,
    high: Values,
    start: Values,
) -> Values:
    """Newton's method on an increasing objective, inside a bracket that each step tightens."""
    root = start.copy()
    left = np.arange(len(root))
    for _ in range(_MOST_STEPS):
        s = root[left]
        found = objective(x[left], target[left], s)
        high[left] = np.where(found.difference > 0.0, np.minimum(high[left], s), high[left])
        low[left] = np.where(found.difference <= 0.0, np.maximum(low[left], s), low[left])
        step = s - found.difference / found.slope
        halfway = 0.5 * (low[left] + np.minimum(high[left], 2.0 * s + 1.0))
        root[left] = np.where((step >= low[left]) & (step <= high[left]), step, halfway)
        left = left[~(np.abs(root[left] - s) <= _CONVERGED * s)]
        if not len(left):
            break
    return root


def _log_vega(x: Values, s: Values) -> Values:
    """ln of db/ds."""
    h, t = x / s, 0.5 * s
    result: Values = -0.5 * (h * h + t * t) - _LOG_SQRT_2PI
    return result


def _vega(x: Values, s: Values) -> Values:
    h = np.divide(x, s, out=np.zeros_like(x), where=s > 0.0)
    vega: Values = np.exp(-0.5 * (h * h + 0.25 * s * s)) * _INV_SQRT_2PI
    return vega


def _log_b(x: Values, s: Values) -> tuple[Values, Values]:
    """ln b and its derivative, for s up to the inflection."""
    h, t = x / s, 0.5 * s
    tails = np.where(s < NARROW, mills_difference(h, s), mills(h - t) - mills(h + t))
    return _log_vega(x, s) + np.log(tails), 1.0 / tails


def _log_rest(x: Values, s: Values) -> tuple[Values, Values]:
    """ln(b_max - b) and the negative of its derivative, for s from the inflection on."""
    h = np.divide(x, s, out=np.zeros_like(x), where=s > 0.0)
    t = 0.5 * s
    tails = mills(t - h) + mills(t + h)
    return -0.5 * (h * h + t * t) - _LOG_SQRT_2PI + np.log(tails), 1.0 / tails


def _b(x: Values, s: Values) -> tuple[Values, Values]:
    """The normalised price b and its derivative, for s from the inflection on."""
    h = np.divide(x, s, out=np.zeros_like(x), where=s > 0.0)
    t = 0.5 * s
    vega = _vega(x, s)
    b = np.exp(-0.5 * x) - vega * (mills(t - h) + mills(t + h))
    return np.where(s < NARROW, vega * mills_difference(h, s), b), vega


def _far_below(x: Values, log_b: Values, s: Values) -> _Objective:
    value, slope = _log_b(x, s)
    return _Objective(1.0 / log_b - 1.0 / value, slope / (value * value))


def _central(x: Values, b: Values, s: Values) -> _Objective:
    value, slope = _b(x, s)
    return _Objective(value - b, slope)


def _far_above(x: Values, log_rest: Values, s: Values) -> _Objective:
    value, slope = _log_rest(x, s)
    return _Objective(log_rest - value, slope)
