"""European options in numpy and scipy: the readable reference, and what is used where a kernel is not.

Everything is written in the discounted forward F = S e^(-qT), the discounted strike K' = K e^(-rT), x = ln(F / K') and
the deviation s = volatility sqrt(T), with d1 = x/s + s/2 and d2 = d1 - s. Both normal tails come from one density,
because F phi(d1) = K' phi(d2): F Phi(-d1) = F phi(d1) M(d1) and K' Phi(-d2) = F phi(d1) M(d2) for d1, d2 >= 0, where
M(z) = (1 - Phi(z)) / phi(z) is Mills' ratio. Nothing is then a small difference of large numbers, put or call, deep in
or out of the money, but the time value at a deviation below 0.001, which has an expansion of its own.

All functions take vectors of one length, work in blocks that stay in the cache, and write into ``out``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx

from ots_quant.greeks import Greeks

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

BLOCK = 4096  # thirty arrays of 32 kB stay in the second-level cache

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

    valid: Flags
    carry: Values  # e^(-qT)
    x: Values
    root_years: Values
    deviation: Values
    d1: Values
    d2: Values
    density: Values  # phi(d1)
    asset: Values  # right * F * Phi(right * d1)
    cash: Values  # right * K' * Phi(right * d2)
    price: Values


def _terms(contracts: Contracts) -> _Terms:
    right, spot, strike, years, rate, dividend_yield, volatility = contracts
    valid = in_domain(spot, strike, years, rate, dividend_yield)
    valid &= (volatility >= 0.0) & (volatility <= LARGEST_VOLATILITY)
    carry = np.exp(-dividend_yield * years)
    forward = spot * carry
    discounted_strike = strike * np.exp(-rate * years)
    root_years = np.sqrt(years)
    deviation = volatility * root_years
    narrow = deviation < NARROW
    some_narrow = bool(narrow.any())
    x = log_ratio(spot, strike) if some_narrow else np.log(spot / strike)
    x += (rate - dividend_yield) * years
    standard = np.clip(x / deviation, -_FAR, _FAR)  # NaN for x = s = 0: there the derivatives do not exist
    half = 0.5 * deviation
    d1, d2 = standard + half, standard - half
    density = np.exp(-0.5 * d1 * d1)
    density *= _INV_SQRT_2PI
    weight = forward * density
    asset_tail = weight * mills(np.abs(d1))
    cash_tail = weight * mills(np.abs(d2))
    asset = right * np.where(right * d1 < 0.0, asset_tail, forward - asset_tail)
    cash = right * np.where(right * d2 < 0.0, cash_tail, discounted_strike - cash_tail)
    price = asset - cash
    if some_narrow:
        time_value = np.where(deviation > 0.0, weight * mills_difference(np.abs(standard), deviation), 0.0)
        np.copyto(price, _intrinsic_value(right, forward, discounted_strike, x) + time_value, where=narrow)
    return _Terms(valid, carry, x, root_years, deviation, d1, d2, density, asset, cash, price)


def price(contracts: Contracts, out: Values) -> None:
    """Fill ``out`` with prices; NaN outside of the domain."""
    # what overflows or is undefined is outside of the domain, or a limit that is put in place
    with np.errstate(all="ignore"):
        for part in blocks(len(out)):
            terms = _terms(contracts.at(part))
            out[part] = np.where(terms.valid, terms.price, np.nan)


def greeks(contracts: Contracts, out: Greeks) -> None:
    """Fill ``out``; NaN outside of the domain and where a derivative does not exist."""
    with np.errstate(all="ignore"):  # as in `price`
        for part in blocks(len(contracts.spot)):
            _fill_greeks(contracts.at(part), Greeks(*(array[part] for array in out)))


def _fill_greeks(contracts: Contracts, out: Greeks) -> None:
    """One block. The formulas: Haug (2007), chapter 2."""
    _, spot, _, years, rate, dividend_yield, volatility = contracts
    terms = _terms(contracts)
    deviation = np.where(terms.deviation > 0.0, terms.deviation, 1.0)  # the density is 0 there, or NaN at the kink
    inverse_years = 1.0 / np.where(years > 0.0, years, 1.0)
    inverse_volatility = 1.0 / np.where(volatility > 0.0, volatility, 1.0)
    carried_density = terms.carry * terms.density
    per_deviation = carried_density / deviation
    drift = (rate - dividend_yield) * years
    decay = 0.5 * spot * carried_density * volatility * terms.root_years * inverse_years
    out.price[:] = terms.price
    np.divide(terms.asset, spot, out=out.delta)
    np.divide(per_deviation, spot, out=out.gamma)
    np.multiply(spot * carried_density, terms.root_years, out=out.vega)
    out.theta[:] = dividend_yield * terms.asset - rate * terms.cash - decay
    np.multiply(years, terms.cash, out=out.rho)
    np.multiply(carried_density * -terms.d2, inverse_volatility, out=out.vanna)
    towards = (drift - 0.5 * terms.d2 * terms.deviation) * inverse_years
    out.charm[:] = dividend_yield * out.delta - per_deviation * towards
    np.multiply(out.vega * terms.d1, terms.d2 * inverse_volatility, out=out.vomma)
    at_kink = (terms.deviation == 0.0) & (terms.x == 0.0)
    if at_kink.any():
        expired = at_kink & (years == 0.0)
        out.vega[expired] = 0.0
        out.rho[expired] = 0.0
    if not terms.valid.all():
        for array in out:
            array[~terms.valid] = np.nan


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
