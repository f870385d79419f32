"""European options, compiled: the formulas of `ots_quant.european_numpy` without a branch, so that they become SIMD.

An element that the fast formulas do not cover (bad input, zero or very short time, zero or very low volatility) is left
with a price or volatility of NaN: the caller gives those to the reference. Work is done in blocks that stay in the
first-level cache. Results go into a block first: with nine output arrays LLVM gives up proving that none is an input.
Inputs are sliced, not indexed by a sum: a sum might be negative and count from the end, so LLVM would ask whether the
block lies where it then would read, and where malloc has put it there, take the slow loop with other roundings.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from ots_quant.compiled import READ, WRITE, inline, kernel
from ots_quant.european_numpy import (
    LARGEST_GROWTH,
    LARGEST_PRICE,
    LARGEST_VOLATILITY,
    LARGEST_YEARS,
    LEAST_PRICE,
    NARROW,
)
from ots_quant.kernels import special

Values = NDArray[np.float64]

# kernels inline by name
_exp, _log, _mills = special.exp, special.log, special.mills
_INV_SQRT_2PI = special.INV_SQRT_2PI

_BLOCK = 256
_STEPS, _MOST_STEPS = 3, 12
_CONVERGED = 1e-4  # of a step relative to s: the next one would be about its fourth power
_LEAST = 1e-290  # a normalised price below is left to the reference, which works in logarithms
_NO_DENSITY = 1415.0  # d1^2 beyond which phi(d1) is below the least normal float64


@inline
def _quotable(spot: float, strike: float, years: float, rate: float, dividend_yield: float) -> bool:
    """Whether prices, growth factors and their products can be computed; NaN cannot."""
    return (
        (min(spot, strike) >= LEAST_PRICE)
        & (max(spot, strike) <= LARGEST_PRICE)
        & (years > 0.0)
        & (years <= LARGEST_YEARS)
        & (abs(rate * years) <= LARGEST_GROWTH)
        & (abs(dividend_yield * years) <= LARGEST_GROWTH)
    )


@inline
def _terms(
    right: float, spot: float, strike: float, years: float, rate: float, dividend_yield: float, volatility: float
) -> tuple[float, float, float, float, float, float, float, float, float, float, float]:
    """What the price and its derivatives share; the price is NaN for what is not covered."""
    root_years = np.sqrt(years)
    deviation = volatility * root_years
    covered = _quotable(spot, strike, years, rate, dividend_yield)
    covered = covered & (volatility <= LARGEST_VOLATILITY) & (deviation >= NARROW)
    carry = _exp(-dividend_yield * years)
    forward = spot * carry
    discounted_strike = strike * _exp(-rate * years)
    drift = (rate - dividend_yield) * years
    per_deviation_and_spot = 1.0 / (deviation * spot)  # one division for two quotients
    standard = (_log(spot / strike) + drift) * (per_deviation_and_spot * spot)
    d1 = standard + 0.5 * deviation
    d2 = standard - 0.5 * deviation
    square = d1 * d1
    density = _INV_SQRT_2PI * _exp(-0.5 * square) if square < _NO_DENSITY else 0.0
    tail = density * _mills(abs(d1))
    probability = right * (tail if right * d1 < 0.0 else 1.0 - tail)
    cash_tail = forward * density * _mills(abs(d2))
    cash = right * (cash_tail if right * d2 < 0.0 else discounted_strike - cash_tail)
    price = forward * probability - cash if covered else np.nan
    return price, probability, cash, carry, density, d1, d2, drift, root_years, deviation, per_deviation_and_spot


@kernel(types.void(*[READ] * 7, WRITE))
def price(
    right: Values,
    spot: Values,
    strike: Values,
    years: Values,
    rate: Values,
    dividend_yield: Values,
    volatility: Values,
    out: Values,
) -> None:
    """Fill ``out`` with prices."""
    block = np.empty(_BLOCK)
    for first in range(0, len(out), _BLOCK):
        size = min(_BLOCK, len(out) - first)
        last = first + size
        rights, spots, strikes, terms = right[first:last], spot[first:last], strike[first:last], years[first:last]
        rates, yields, volatilities = rate[first:last], dividend_yield[first:last], volatility[first:last]
        for j in range(size):
            block[j] = _terms(rights[j], spots[j], strikes[j], terms[j], rates[j], yields[j], volatilities[j])[0]
        out[first:last] = block[:size]


@kernel(types.void(*[READ] * 7, *[WRITE] * 9))
def greeks(
    right: Values,
    spot: Values,
    strike: Values,
    years: Values,
    rate: Values,
    dividend_yield: Values,
    volatility: Values,
    price: Values,
    delta: Values,
    gamma: Values,
    theta: Values,
    vega: Values,
    rho: Values,
    vanna: Values,
    charm: Values,
    vomma: Values,
) -> None:
    """Fill the nine outputs, `ots_quant.greeks.Greeks` in its order."""
    block = np.empty((9, _BLOCK))
    for first in range(0, len(spot), _BLOCK):
        size = min(_BLOCK, len(spot) - first)
        last = first + size
        rights, spots, strikes, terms = right[first:last], spot[first:last], strike[first:last], years[first:last]
        rates, yields, volatilities = rate[first:last], dividend_yield[first:last], volatility[first:last]
        for j in range(size):
            t, s, q, r, v = terms[j], spots[j], yields[j], rates[j], volatilities[j]
            worth, probability, cash, carry, density, d1, d2, drift, root_years, deviation, per_both = _terms(
                rights[j], s, strikes[j], t, r, q, v
            )
            per_deviation = per_both * s
            per_volatility = root_years * per_deviation
            per_root = v * per_deviation  # 1 / sqrt(years)
            carried_density = carry * density
            vega_ = s * carried_density * root_years
            delta_ = carry * probability
            turning = (drift - 0.5 * d2 * deviation) * per_root * per_root
            block[0, j] = worth
            block[1, j] = delta_
            block[2, j] = carried_density * per_both
            block[3, j] = q * (s * delta_) - r * cash - 0.5 * s * carried_density * v * per_root
            block[4, j] = vega_
            block[5, j] = t * cash
            block[6, j] = -carried_density * d2 * per_volatility
            block[7, j] = q * delta_ - carried_density * per_deviation * turning
            block[8, j] = vega_ * d1 * d2 * per_volatility
        price[first:last] = block[0, :size]
        delta[first:last] = block[1, :size]
        gamma[first:last] = block[2, :size]
        theta[first:last] = block[3, :size]
        vega[first:last] = block[4, :size]
        rho[first:last] = block[5, :size]
        vanna[first:last] = block[6, :size]
        charm[first:last] = block[7, :size]
        vomma[first:last] = block[8, :size]


@inline
def _first_deviation(x: float, b: float, rest: float, top: float, log_b: float) -> tuple[float, float]:
    """A first s for b(x, s), and its region: -1 below the inflection, 0 above it, 1 in the upper half of what is above.

    Below, s^2 as a function of 1 / ln b is interpolated between b = 0 and the inflection by the rational quadratic that
    has the right value and slope at both (Gregory and Delbourgo 1982). Above it is the tangent at the inflection, or
    the normal quantile of Abramowitz and Stegun 26.2.22 as if x were 0.
    """
    inflection = np.sqrt(2.0 * x)
    vega = _INV_SQRT_2PI * top
    b_inflection = 0.5 * top - vega * _mills(inflection)
    depth = -_log(b_inflection)
    first_slope = 0.25 * x / depth
    last_slope = inflection * depth * b_inflection / (x * vega)
    part = -depth / log_b
    bend = part * (1.0 - part)
    square = 2.0 * x * (part * part + first_slope * bend) / (1.0 + (first_slope + last_slope - 2.0) * bend)
    tangent = inflection + (b - b_inflection) / vega
    z = np.sqrt(-2.0 * _log(min(rest / (top + 1.0 / top), 0.5)))
    quantile = 2.0 * (z - (2.30753 + 0.27061 * z) / (1.0 + (0.99229 + 0.04481 * z) * z))
    far = rest < 0.5 * (top - b_inflection)
    above = max(quantile, inflection) if far else tangent
    if b < b_inflection:
        return np.sqrt(square), -1.0
    return above, (1.0 if far else 0.0)


@inline
def _householder_step(x: float, s: float, region: float, b: float, top: float, log_target: float) -> float:
    """The third-order Householder step of Jaeckel (2015), for the objective of the region.

    The objectives are 1 / ln b below, b above and ln(b_max - b) far above; ``log_target`` is that of b or of b_max - b.
    """
    inverse = 1.0 / s
    h = x * inverse
    half = 0.5 * s
    vega = _INV_SQRT_2PI * _exp(-0.5 * (h * h + half * half))
    near, away = _mills(abs(h - half)), _mills(h + half)
    below, far = region < 0.0, region > 0.0
    tails = near - away if below else near + away
    value = vega * tails  # b below, b_max - b above
    level = _log(max(value, 1e-300))
    ratio = 1.0 / tails
    second = h * h * inverse - 0.25 * s  # of the derivatives of b to s, over the first
    third = second * second - 3.0 * h * h * inverse * inverse - 0.25
    per_level = 1.0 / level
    newton_below = (log_target - level) * level * tails / log_target
    newton_above = (level - log_target) * tails if far else (b - (top - value)) / vega
    newton = newton_below if below else newton_above
    a_below = second - ratio * (1.0 + 2.0 * per_level)
    a_above = second + ratio if far else second
    a = a_below if below else a_above
    c_below = (
        third
        + 2.0 * ratio * ratio * (1.0 + 3.0 * per_level * (1.0 + per_level))
        - 3.0 * ratio * second * (1.0 + 2.0 * per_level)
    )
    c_above = third + ratio * (2.0 * ratio + 3.0 * second) if far else third
    c = c_below if below else c_above
    return newton * (1.0 + 0.5 * a * newton) / (1.0 + newton * (a + c * newton * (1.0 / 6.0)))


@kernel(types.void(*[READ] * 7, WRITE))
def implied_volatility(
    price: Values,
    right: Values,
    spot: Values,
    strike: Values,
    years: Values,
    rate: Values,
    dividend_yield: Values,
    out: Values,
) -> None:
    """Fill ``out`` with volatilities; NaN for no volatility, not covered, or not converged."""
    block = np.empty((9, _BLOCK))
    xs, bs, rests, tops, per_roots = block[0], block[1], block[2], block[3], block[4]
    targets, regions, deviations, moves = block[5], block[6], block[7], block[8]
    for first in range(0, len(out), _BLOCK):
        size = min(_BLOCK, len(out) - first)
        last = first + size
        prices, rights, spots, strikes = price[first:last], right[first:last], spot[first:last], strike[first:last]
        terms, rates, yields, found = years[first:last], rate[first:last], dividend_yield[first:last], out[first:last]
        for j in range(size):
            s, k, t, r, q = spots[j], strikes[j], terms[j], rates[j], yields[j]
            forward = s * _exp(-q * t)
            discounted_strike = k * _exp(-r * t)
            intrinsic = max(rights[j] * (forward - discounted_strike), 0.0)
            bound = forward if rights[j] > 0.0 else discounted_strike
            per_scale = 1.0 / (np.sqrt(forward) * np.sqrt(discounted_strike))
            b = (prices[j] - intrinsic) * per_scale
            rest = (bound - prices[j]) * per_scale
            covered = _quotable(s, k, t, r, q) & (min(b, rest) > _LEAST)
            xs[j] = abs(_log(s / k) + (r - q) * t) if covered else 0.0
            bs[j] = b if covered else 0.25
            rests[j] = rest if covered else 0.75
            tops[j] = min(forward, discounted_strike) * per_scale if covered else 1.0
            per_roots[j] = 1.0 / np.sqrt(t) if covered else np.nan
        for j in range(size):
            log_b = _log(bs[j])
            deviations[j], regions[j] = _first_deviation(xs[j], bs[j], rests[j], tops[j], log_b)
            targets[j] = log_b if regions[j] < 0.0 else _log(rests[j])
        for step in range(_MOST_STEPS):
            for j in range(size):
                moves[j] = _householder_step(xs[j], deviations[j], regions[j], bs[j], tops[j], targets[j])
                deviations[j] += moves[j]
            moving = 0
            if step + 1 >= _STEPS:
                for j in range(size):
                    moving += 1 if abs(moves[j]) > _CONVERGED * deviations[j] else 0
                if moving == 0:
                    break
        for j in range(size):
            s = deviations[j]
            # an objective says nothing on the other side of the inflection, s = sqrt(2 x)
            side = (s * s - 2.0 * xs[j]) * (-1.0 if regions[j] < 0.0 else 1.0)
            solved = (abs(moves[j]) <= _CONVERGED * s) & (s >= NARROW) & (side >= -1e-9 * s * s)
            found[j] = s * per_roots[j] if solved else np.nan
