"""American puts by Kim's integral and the method of Andersen, Lake and Offengenden, for a call by its mirrored put.

The exercise boundary B(t) of a put, t before expiration, solves an integral equation that contracts quickly when
iterated. Written as s(t) = ln(X / B(t)), X = K min(1, r/q) being the boundary at expiration, it does not depend on the
strike, and as a function of ln(volatility) it is smooth. So for a group of contracts with one (years, rate, yield) it
is solved at the eight Chebyshev nodes of each band of volatility that the group needs (20 to 60 %, say), all eight at
once in SIMD lanes, and interpolated. A contract then costs one quadrature of its early-exercise premium.

Both integrals are taken over an angle: with u = t cos^2(a) the square-root singularities at both ends, of the diffusion
as u -> t and of the boundary as u -> 0, become smooth, and Gauss-Legendre converges exponentially.

References:
    I. J. Kim, The analytic valuation of American options, Review of Financial Studies 3 (1990), eq. 8.
    L. Andersen, M. Lake, D. Offengenden, High-performance American option pricing, Journal of Computational Finance 20
    (2016), sections 3 to 5: fixed point systems A and B, H = s^2 interpolated in sqrt(t).
    P. Bjerksund, G. Stensland, Closed-form approximation of American options, Scandinavian J. of Management 9 (1993):
    the first guess.
    R. McDonald, M. Schroder, A parity result for American options, Journal of Computational Finance 1 (1998): the
    mirror.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from ots_quant.compiled import FLOAT, INT, READ, READ_INTS, READ_TABLE, WRITE, WRITE_TABLE, inline, kernel
from ots_quant.kernels import special

_exp, _log, _mills = special.exp, special.log, special.mills
_density, _distribution = special.density, special.distribution

LANES = 8  # Chebyshev nodes of a panel, and float64 lanes of one solution
NODES = 10  # intervals between the nodes of the boundary in sqrt(time)
# quadrature of the integral equation, and of its first sweeps; with the strike's term as one point more, a multiple of
# the pairs that a SIMD loop takes at once
BOUNDARY_POINTS, COARSE_POINTS = 11, 3
PREMIUM_POINTS = 24  # quadrature of the premium
# bands of volatility, each from its low end to three times that, with 0.2 and 0.6 among the ends
BANDS, BAND_RATIO = 20, 3.0
LEAST_VOLATILITY = 0.2 * BAND_RATIO**-12  # 4e-7
MOST_VOLATILITY = LEAST_VOLATILITY * BAND_RATIO**BANDS  # 1300
_COARSE_TOLERANCE, _TOLERANCE, _MOST_SWEEPS = 1e-3, 1e-7, 60
# above this r sqrt(T) / volatility the iteration A, else the more exact, may diverge
_SYSTEM_B_FROM = 0.8
_MOST_STEPS, _STEP_TOLERANCE = 100, 1e-10
_CLOSE, _CLOSEST = 0.3, 1e-4  # distances from the boundary, in standard deviations until expiration
_SOLVED = 1e-6  # a boundary whose last sweep changed more is not used
_LN_RATIO, _LN_LEAST = math.log(BAND_RATIO), math.log(LEAST_VOLATILITY)
_READ_CUBE = types.Array(types.float64, 3, "C", readonly=True)


def _chebyshev_lagrange(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights that take values at ``-cos(i pi / NODES)`` to the points ``at``: shape (*at.shape, NODES + 1)."""
    nodes = -np.cos(np.pi * np.arange(NODES + 1) / NODES)
    weights = (-1.0) ** np.arange(NODES + 1)
    weights[[0, -1]] *= 0.5
    distance = at[..., None] - nodes
    hit = np.abs(distance) < 1e-15
    terms = weights / np.where(hit, 1.0, distance)
    return np.where(hit.any(-1, keepdims=True), hit, terms / terms.sum(-1, keepdims=True))


def _angles(points: int, power: float = 1.0) -> NDArray[np.float64]:
    """Sine, cosine and weight of Gauss-Legendre in angle^(1 / power) over (0, pi / 2), a row each."""
    x, weights = np.polynomial.legendre.leggauss(points)
    y = (1.0 + x) / 2.0
    angle = y**power * np.pi / 2.0
    return np.array((np.sin(angle), np.cos(angle), weights * np.pi / 4.0 * power * y ** (power - 1.0)))


def _lane_transform() -> NDArray[np.float64]:
    """From values at the lanes' Chebyshev nodes to coefficients: c[k] = sum_m transform[k, m] f[m]."""
    k, m = np.meshgrid(np.arange(LANES), np.arange(LANES), indexing="ij")
    return np.where(k == 0, 1.0, 2.0) / LANES * np.cos(k * (2 * m + 1) * np.pi / (2 * LANES))


_ROOT_TIME = (1.0 - np.cos(np.pi * np.arange(NODES + 1) / NODES)) / 2.0  # sqrt(t / T) at the nodes
_COARSE, _FINE = _angles(COARSE_POINTS), _angles(BOUNDARY_POINTS)
# denser near now, where the premium of a contract next to its boundary turns within a short time
_PREMIUM = _angles(PREMIUM_POINTS, 2.0)
# (node, node, point): from s^2 at the nodes to s^2 at the points of a node's integral
_TO_COARSE, _TO_FINE = (
    np.ascontiguousarray(_chebyshev_lagrange(2.0 * _ROOT_TIME[:, None] * a[1] - 1.0).transpose(0, 2, 1))
    for a in (_COARSE, _FINE)
)
_TO_PREMIUM = np.ascontiguousarray(_chebyshev_lagrange(2.0 * _PREMIUM[1] - 1.0).T)  # (node, point)
_UNIT = np.array(np.polynomial.legendre.leggauss(PREMIUM_POINTS)) / 2.0  # points and weights on (-1/2, 1/2)
_LANE_NODE = np.cos((2 * np.arange(LANES) + 1) * np.pi / (2 * LANES))
_LANE_TRANSFORM = _lane_transform()


@kernel(types.void(FLOAT, FLOAT, FLOAT, READ, WRITE_TABLE))
def _first_guess(years: float, rate: float, dividend_yield: float, volatility: Any, s: Any) -> None:
    """Bjerksund-Stensland 1993 into s[node, lane], the perpetual limit ln(X / B(infinity)) into s[NODES + 1, lane]."""
    inverse_x = dividend_yield / rate if dividend_yield > rate else 1.0
    carry = dividend_yield - rate
    for lane in range(LANES):
        sigma = volatility[lane]
        variance = sigma * sigma
        n = -carry / variance - 0.5
        spread = math.sqrt(n * n + 2.0 * rate / variance)
        root = n + spread if n > 0.0 else 2.0 * rate / variance / (spread - n)
        perpetual = max(1.0 + 1.0 / max(root, 1e-12), inverse_x * (1.0 + 1e-12))  # K / B(infinity)
        span = perpetual - inverse_x
        s[0, lane] = 0.0
        for i in range(1, NODES + 1):
            t = years * _ROOT_TIME[i] * _ROOT_TIME[i]
            h = min(-(carry * t + 2.0 * sigma * math.sqrt(t)) * inverse_x / span, 0.0)
            s[i, lane] = math.log(1.0 - span / inverse_x * math.expm1(h))
        s[NODES + 1, lane] = math.log(perpetual / inverse_x)


@inline
def _interpolate_row(weights: Any, v: Any, into: Any) -> None:
    """Values at the nodes to some points; written out, because a loop over nodes inside would not be SIMD code."""
    v1, v2, v3, v4, v5, v6, v7, v8, v9, v10 = v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10]
    for k in range(len(into)):
        low = weights[1, k] * v1 + weights[2, k] * v2 + weights[3, k] * v3 + weights[4, k] * v4 + weights[5, k] * v5
        high = weights[6, k] * v6 + weights[7, k] * v7 + weights[8, k] * v8 + weights[9, k] * v9 + weights[10, k] * v10
        into[k] = low + high


@inline
def _weighted_sum(weights: Any, values: Any) -> float:
    """The sum of products, their number a multiple of 4, in four chains so that additions overlap."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for k in range(0, len(weights), 4):
        a += weights[k] * values[k]
        b += weights[k + 1] * values[k + 1]
        c += weights[k + 2] * values[k + 2]
        d += weights[k + 3] * values[k + 3]
    return (a + b) + (c + d)


def _solver(system_b: bool) -> Any:
    @kernel(FLOAT(FLOAT, FLOAT, FLOAT, READ, READ_TABLE, _READ_CUBE, FLOAT, WRITE_TABLE))
    def solve(
        years: float,
        rate: float,
        dividend_yield: float,
        volatility: Any,
        angles: Any,
        to_points: Any,
        tolerance: float,
        s: Any,
    ) -> float:
        """Iterate s[node, lane] until a sweep changes it by ``tolerance`` at most; returns the last one's change.

        angles: sine, cosine and weight of each quadrature point; to_points: from the nodes to them, (node, node, point)
        Rows over all (lane, point) pairs are contiguous, so that the loops over them become SIMD code.
        """
        points = angles.shape[1]
        row = points + 1  # the last point is the strike's, outside the integrals
        pairs = LANES * row
        ln_x = math.log(rate / dividend_yield) if dividend_yield > rate else 0.0
        drift = rate - dividend_yield
        h, fresh = np.empty((LANES, NODES + 1)), np.empty((NODES + 1, LANES))
        gap, part_n, part_d, now = np.empty(pairs), np.empty(pairs), np.empty(pairs), np.empty(pairs)
        sigma, inverse, sine, cosecant = np.empty(pairs), np.empty(pairs), np.ones(pairs), np.ones(pairs)
        weight_n, weight_d, ratio = np.empty((NODES + 1, row)), np.empty((NODES + 1, row)), np.empty(LANES)
        for lane in range(LANES):
            for k in range(row):
                sigma[lane * row + k] = volatility[lane]
                inverse[lane * row + k] = 1.0 / volatility[lane]
            for k in range(points):
                sine[lane * row + k] = angles[0, k]
                cosecant[lane * row + k] = 1.0 / angles[0, k]
        for i in range(1, NODES + 1):
            t = years * _ROOT_TIME[i] * _ROOT_TIME[i]
            for k in range(points):
                u = t * angles[1, k] * angles[1, k]
                scale = 2.0 * math.sqrt(t) * angles[1, k] * angles[2, k]
                weight_n[i, k] = rate * math.exp(rate * u) * scale
                weight_d[i, k] = dividend_yield * math.exp(dividend_yield * u) * scale
            weight_n[i, points] = weight_d[i, points] = 1.0 / math.sqrt(t)
        change = math.inf
        for _ in range(_MOST_SWEEPS):
            for i in range(NODES + 1):
                for lane in range(LANES):
                    h[lane, i] = s[i, lane] * s[i, lane]
            for i in range(1, NODES + 1):
                root_t = math.sqrt(years) * _ROOT_TIME[i]
                inverse_root_t = 1.0 / root_t
                for lane in range(LANES):
                    _interpolate_row(to_points[i], h[lane], gap[lane * row : lane * row + points])
                    gap[lane * row + points] = ln_x * ln_x
                    for k in range(row):
                        now[lane * row + k] = s[i, lane]
                for pair in range(pairs):
                    gap[pair] = math.sqrt(max(gap[pair], 0.0))
                for lane in range(LANES):
                    gap[lane * row + points] = ln_x  # which is not positive
                for pair in range(pairs):
                    root_a = root_t * sine[pair]
                    spread = sigma[pair] * root_a
                    em = (gap[pair] - now[pair]) * (cosecant[pair] * inverse_root_t) + drift * root_a
                    em = em * inverse[pair] - 0.5 * spread
                    ep = em + spread
                    density_p = _density(ep)
                    tail_p = density_p * _mills(abs(ep))
                    inside_p = tail_p if ep < 0.0 else 1.0 - tail_p
                    density_m = _density(em)
                    if system_b:
                        tail_m = density_m * _mills(abs(em))
                        part_n[pair] = root_a * (tail_m if em < 0.0 else 1.0 - tail_m)
                        part_d[pair] = root_a * inside_p
                    else:
                        part_n[pair] = density_m
                        part_d[pair] = density_p + spread * inside_p
                for lane in range(LANES):
                    first, last = lane * row, (lane + 1) * row
                    n = _weighted_sum(weight_n[i], part_n[first:last])
                    ratio[lane] = n / _weighted_sum(weight_d[i], part_d[first:last])
                for lane in range(LANES):
                    ratio[lane] = _log(ratio[lane])
                for lane in range(LANES):
                    ln_b = ratio[lane] - drift * root_t * root_t
                    fresh[i, lane] = min(max(ln_x - ln_b, 0.0), s[NODES + 1, lane])
            change = 0.0
            for i in range(1, NODES + 1):
                for lane in range(LANES):
                    difference = abs(fresh[i, lane] - s[i, lane])
                    if not difference <= change:  # a NaN stays
                        change = difference
                    s[i, lane] = fresh[i, lane]
            if not change > tolerance:
                break
        return change

    return solve


_solve_a = _solver(False)
_solve_b = _solver(True)


@kernel(FLOAT(FLOAT, FLOAT, FLOAT, INT, WRITE_TABLE))
def _solve_panel(years: float, rate: float, dividend_yield: float, band: int, panel: Any) -> float:
    """Coefficients panel[k, node] of s in Chebyshev polynomials of ln(volatility) over a band.

    Returns the largest change of the last sweep: not below _SOLVED where there is no solution.
    """
    volatility = np.empty(LANES)
    s = np.empty((NODES + 2, LANES))
    for lane in range(LANES):
        volatility[lane] = LEAST_VOLATILITY * BAND_RATIO ** (band + 0.5 + 0.5 * _LANE_NODE[lane])
    change = math.inf
    if rate * math.sqrt(years) < _SYSTEM_B_FROM * volatility[LANES - 1]:
        _first_guess(years, rate, dividend_yield, volatility, s)
        _solve_a(years, rate, dividend_yield, volatility, _COARSE, _TO_COARSE, _COARSE_TOLERANCE, s)
        change = _solve_a(years, rate, dividend_yield, volatility, _FINE, _TO_FINE, _TOLERANCE, s)
    if not change < _SOLVED:
        _first_guess(years, rate, dividend_yield, volatility, s)
        change = _solve_b(years, rate, dividend_yield, volatility, _FINE, _TO_FINE, _TOLERANCE, s)
    for k in range(LANES):
        for node in range(NODES + 1):
            total = 0.0
            for lane in range(LANES):
                total += _LANE_TRANSFORM[k, lane] * s[node, lane]
            panel[k, node] = total
    return change


class _Points(NamedTuple):
    """The quadrature points of the premium: what a group fixes, then what a volatility does, then the integrands."""

    root_u: Any
    inverse_root_u: Any
    interest: Any
    dividends: Any
    s: Any
    ds: Any
    term: Any
    term_vega: Any
    h_node: Any  # at the nodes: s^2, and half its derivative to volatility
    dh_node: Any


@inline
def _new_points() -> _Points:
    return _Points(
        np.empty(PREMIUM_POINTS),
        np.empty(PREMIUM_POINTS),
        np.empty(PREMIUM_POINTS),
        np.empty(PREMIUM_POINTS),
        np.empty(PREMIUM_POINTS),
        np.empty(PREMIUM_POINTS),
        np.empty(PREMIUM_POINTS),
        np.empty(PREMIUM_POINTS),
        np.empty(NODES + 1),
        np.empty(NODES + 1),
    )


@inline
def _prepare(years: float, rate: float, dividend_yield: float, points: Any) -> None:
    """Fill what the premium's quadrature needs of a group, whatever the contract."""
    for k in range(PREMIUM_POINTS):
        root_u = math.sqrt(years) * _PREMIUM[0, k]
        du = 2.0 * years * _PREMIUM[0, k] * _PREMIUM[1, k] * _PREMIUM[2, k]
        points.root_u[k] = root_u
        points.inverse_root_u[k] = 1.0 / root_u
        points.interest[k] = du * math.exp(-rate * root_u * root_u)
        points.dividends[k] = du * dividend_yield * math.exp(-dividend_yield * root_u * root_u)


@inline
def _interpolate(volatility: float, band: int, panel: Any, points: Any) -> float:
    """Fill s and ds/dvolatility at the nodes and at the points; returns s at the whole time to expiration."""
    x = 2.0 * ((math.log(volatility) - _LN_LEAST) / _LN_RATIO - band) - 1.0
    slope = 2.0 / (_LN_RATIO * volatility)
    h, dh = points.h_node, points.dh_node
    for node in range(NODES + 1):
        h[node] = 0.0
        dh[node] = 0.0
    t_k, t_before, dt_k, dt_before = 1.0, x, 0.0, 1.0  # T_0 and T_-1 = T_1
    for k in range(LANES):
        for node in range(NODES + 1):
            h[node] += t_k * panel[k, node]
            dh[node] += dt_k * slope * panel[k, node]
        t_k, t_before, dt_k, dt_before = 2.0 * x * t_k - t_before, t_k, 2.0 * t_k + 2.0 * x * dt_k - dt_before, dt_k
    s_end: float = h[NODES]
    for node in range(NODES + 1):  # from s to h = s^2, of which s ds is half the derivative
        dh[node] *= h[node]
        h[node] *= h[node]
    _interpolate_row(_TO_PREMIUM, h, points.s)
    _interpolate_row(_TO_PREMIUM, dh, points.ds)
    for k in range(PREMIUM_POINTS):
        s = math.sqrt(max(points.s[k], 1e-12))  # next to expiration rounding may leave less than nothing
        points.s[k] = s
        points.ds[k] = points.ds[k] / s if s > 1e-6 else 0.0
    return s_end


@inline
def _sum(row: Any) -> float:
    """The sum of a row, in four chains so that additions overlap."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for k in range(0, PREMIUM_POINTS, 4):
        a += row[k]
        b += row[k + 1]
        c += row[k + 2]
        d += row[k + 3]
    return (a + b) + (c + d)


@inline
def _value(
    spot: float,
    strike: float,
    years: float,
    rate: float,
    dividend_yield: float,
    volatility: float,
    ln_x: float,
    points: Any,
) -> tuple[float, float]:
    """Price and vega of a put that lives, from what `_prepare` and `_interpolate` filled."""
    x = math.log(spot / strike)
    drift = rate - dividend_yield
    inverse = 1.0 / volatility
    at_expiration = strike * math.exp(ln_x)
    for k in range(PREMIUM_POINTS):
        root_u = points.root_u[k]
        spread = volatility * root_u
        em = ((x - ln_x + points.s[k]) * points.inverse_root_u[k] + drift * root_u) * inverse - 0.5 * spread
        ep = em + spread
        density = _density(em)
        tail_m, tail_p = density * _mills(abs(em)), _density(ep) * _mills(abs(ep))
        below_m = 1.0 - tail_m if em < 0.0 else tail_m
        below_p = 1.0 - tail_p if ep < 0.0 else tail_p
        interest = points.interest[k] * rate * strike
        gain = interest - points.interest[k] * dividend_yield * at_expiration * _exp(-points.s[k])
        points.term[k] = interest * below_m - spot * points.dividends[k] * below_p
        points.term_vega[k] = (
            density * inverse * (gain * (em - points.inverse_root_u[k] * points.ds[k]) + interest * spread)
        )
    root_t = math.sqrt(years)
    dm = (x + drift * years) / (volatility * root_t) - 0.5 * volatility * root_t
    dp = dm + volatility * root_t
    discounted, forward = strike * math.exp(-rate * years), spot * math.exp(-dividend_yield * years)
    european = discounted * _distribution(-dm) - forward * _distribution(-dp)
    return european + _sum(points.term), discounted * _density(dm) * root_t + _sum(points.term_vega)


@inline
def _band_of(volatility: float, years: float, rate: float, dividend_yield: float, panels: Any, residuals: Any) -> int:
    """The band of a volatility, its panel solved when it is the group's first; -1 where that has no solution."""
    band = min(max(math.floor((math.log(volatility) - _LN_LEAST) / _LN_RATIO), 0), BANDS - 1)
    if residuals[band] < 0.0:
        change = _solve_panel(years, rate, dividend_yield, band, panels[band])
        residuals[band] = change if change < math.inf else math.inf  # a NaN never means "not solved yet"
    return band if residuals[band] < _SOLVED else -1


@kernel(types.void(READ, READ, READ, READ, READ, READ, READ_INTS, WRITE))
def price(
    spot: Any, strike: Any, years: Any, rate: Any, dividend_yield: Any, volatility: Any, first: Any, out: Any
) -> None:
    """Prices of puts sorted into groups: contracts first[g] to first[g + 1] - 1 have one years, rate and yield.

    Where no boundary was found the price is NaN.
    """
    panels, residuals = np.empty((BANDS, LANES, NODES + 1)), np.empty(BANDS)
    points = _new_points()
    for g in range(len(first) - 1):
        t, r, q = years[first[g]], rate[first[g]], dividend_yield[first[g]]
        ln_x = math.log(r / q) if q > r else 0.0
        residuals[:] = -1.0
        _prepare(t, r, q, points)
        for i in range(first[g], first[g + 1]):
            band = _band_of(volatility[i], t, r, q, panels, residuals)
            if band < 0:
                out[i] = math.nan
                continue
            s = _interpolate(volatility[i], band, panels[band], points)
            out[i] = max(strike[i] - spot[i], 0.0)
            if math.log(spot[i] / strike[i]) > ln_x - s:
                value, _ = _value(spot[i], strike[i], t, r, q, volatility[i], ln_x, points)
                out[i] = max(value, out[i])


@kernel(types.void(READ, READ, READ, READ, READ, READ, READ, READ_INTS, WRITE))
def implied_volatility(
    target: Any, start: Any, spot: Any, strike: Any, years: Any, rate: Any, dividend_yield: Any, first: Any, out: Any
) -> None:
    """Volatilities at which puts have their target prices, by Newton's steps from ``start`` kept inside a bracket.

    The targets lie above the value of immediate exercise. NaN where no boundary or no volatility was found.
    """
    panels, residuals = np.empty((BANDS, LANES, NODES + 1)), np.empty(BANDS)
    points = _new_points()
    for g in range(len(first) - 1):
        t, r, q = years[first[g]], rate[first[g]], dividend_yield[first[g]]
        ln_x = math.log(r / q) if q > r else 0.0
        residuals[:] = -1.0
        _prepare(t, r, q, points)
        for i in range(first[g], first[g + 1]):
            x = math.log(spot[i] / strike[i])
            low, high = LEAST_VOLATILITY, MOST_VOLATILITY
            sigma, found = min(max(start[i], 2.0 * low), 0.5 * high), math.nan
            for _ in range(_MOST_STEPS):
                band = _band_of(sigma, t, r, q, panels, residuals)
                if band < 0:
                    break
                s = _interpolate(sigma, band, panels[band], points)
                value, vega = strike[i] - spot[i], 0.0
                if x > ln_x - s:
                    value, vega = _value(spot[i], strike[i], t, r, q, sigma, ln_x, points)
                if value < target[i]:
                    low = sigma
                else:
                    high = sigma
                step = (value - target[i]) / vega if vega > 0.0 else math.inf
                following = sigma - step
                if abs(step) <= _STEP_TOLERANCE * sigma:
                    found = following
                    break
                if not low < following < high:
                    following = math.sqrt(low * high)
                    if high - low <= _STEP_TOLERANCE * high:
                        found = following
                        break
                sigma = following
            out[i] = found


@inline
def _premium_curvature(
    spot: float, strike: float, rate: float, dividend_yield: float, volatility: float, ln_x: float, points: Any
) -> tuple[float, float, float]:
    """What points add to the first three derivatives to the spot, the second times S^2, the third times S^3 in part.

    With w = e^(-ru) phi(d2) du / (sigma sqrt(u)) at each point, G = w (r K - q B) and Q = w q B, the premium has
    E' = -sum(G) / S - sum(dividends Phi(-d1)), and the next two follow by d'' = 1 / (S sigma sqrt(u)).
    """
    x = math.log(spot / strike)
    drift = rate - dividend_yield
    inverse = 1.0 / volatility
    at_expiration = strike * math.exp(ln_x)
    first, second, third = 0.0, 0.0, 0.0
    for k in range(PREMIUM_POINTS):
        root_u = points.root_u[k]
        spread = volatility * root_u
        a = points.inverse_root_u[k] * inverse
        em = (x - ln_x + points.s[k]) * a + drift * root_u * inverse - 0.5 * spread
        w = _density(em) * a * points.interest[k]
        yielded = w * dividend_yield * at_expiration * math.exp(-points.s[k])
        gain = w * rate * strike - yielded
        bent = gain * (1.0 + a * em) + yielded
        first -= gain / spot + points.dividends[k] * _distribution(-em - spread)
        second += bent
        third += gain * a * a - a * em * bent
    return first, second, third


@inline
def _stretch(
    low: float, high: float, years: float, rate: float, dividend_yield: float, nodes: Any, points: Any
) -> None:
    """Points on a stretch of the angle, with the boundary interpolated to them from the nodes of another table."""
    for k in range(PREMIUM_POINTS):
        angle = low + (high - low) * (_UNIT[0, k] + 0.5)
        sine, cosine = math.sin(angle), math.cos(angle)
        root_u = math.sqrt(years) * sine
        du = 2.0 * years * sine * cosine * (high - low) * _UNIT[1, k]
        points.root_u[k] = root_u
        points.inverse_root_u[k] = 1.0 / root_u
        points.interest[k] = du * math.exp(-rate * root_u * root_u)
        points.dividends[k] = du * dividend_yield * math.exp(-dividend_yield * root_u * root_u)
        total, h, sign = 0.0, 0.0, 1.0
        for node in range(NODES + 1):
            apart = cosine - _ROOT_TIME[node]
            weight = sign / (apart if abs(apart) > 1e-15 else 1e-15)
            if node in (0, NODES):
                weight *= 0.5
            total += weight
            h += weight * nodes.h_node[node]
            sign = -sign
        points.s[k] = math.sqrt(max(h / total, 1e-12))


@inline
def _curvature(
    spot: float,
    strike: float,
    years: float,
    rate: float,
    dividend_yield: float,
    volatility: float,
    ln_x: float,
    s_end: float,
    points: Any,
    close: Any,
) -> tuple[float, float, float]:
    """First three derivatives to the spot of a put that lives, from what `_prepare` and `_interpolate` filled.

    Next to the boundary, at a distance D = ln(S / B), nearly all of gamma comes from around sqrt(u) = D / sigma: there
    the integral is taken in three stretches that this time divides.
    """
    root_t = math.sqrt(years)
    spread = volatility * root_t
    distance = math.log(spot / strike) - ln_x + s_end
    if distance > _CLOSE * spread:
        first, second, third = _premium_curvature(spot, strike, rate, dividend_yield, volatility, ln_x, points)
    else:
        # nearer than the least that the stretches resolve the derivatives are those there
        spot *= math.exp(max(_CLOSEST * spread - distance, 0.0))
        turn = max(distance / spread, _CLOSEST)
        first, second, third, low = 0.0, 0.0, 0.0, 0.0
        for stretch in range(3):
            high = 0.5 * math.pi
            if stretch < 2:
                high = min(turn * (5.0 if stretch == 0 else 50.0), 0.5 * (low + high))
            _stretch(low, high, years, rate, dividend_yield, points, close)
            one, two, three = _premium_curvature(spot, strike, rate, dividend_yield, volatility, ln_x, close)
            first, second, third, low = first + one, second + two, third + three, high
    dp = (math.log(spot / strike) + (rate - dividend_yield) * years) / spread + 0.5 * spread
    carried = math.exp(-dividend_yield * years)
    european = carried * _density(dp) / spread
    delta = first - carried * _distribution(-dp)
    gamma = (second + european * spot) / (spot * spot)
    speed = (third - european * spot * (dp / spread + 1.0) - 2.0 * second) / spot**3
    return delta, gamma, speed


@kernel(types.void(READ, READ, READ, READ, READ, READ, READ_INTS, WRITE_TABLE))
def derivatives(
    spot: Any, strike: Any, years: Any, rate: Any, dividend_yield: Any, volatility: Any, first: Any, out: Any
) -> None:
    """Rows of ``out``: price, delta, gamma, speed (the third derivative), vega, vanna, vomma of grouped puts.

    Vanna and vomma are central differences of delta and vega over 1 % of the volatility, inside one panel's polynomial.
    A put to be exercised at once has the derivatives of its intrinsic value; where no boundary was found all are NaN.
    """
    panels, residuals = np.empty((BANDS, LANES, NODES + 1)), np.empty(BANDS)
    points, close = _new_points(), _new_points()
    for g in range(len(first) - 1):
        t, r, q = years[first[g]], rate[first[g]], dividend_yield[first[g]]
        ln_x = math.log(r / q) if q > r else 0.0
        residuals[:] = -1.0
        _prepare(t, r, q, points)
        for i in range(first[g], first[g + 1]):
            band = _band_of(volatility[i], t, r, q, panels, residuals)
            if band < 0:
                out[:, i] = math.nan
                continue
            s = _interpolate(volatility[i], band, panels[band], points)
            out[:, i] = 0.0
            out[0, i], out[1, i] = strike[i] - spot[i], -1.0
            if math.log(spot[i] / strike[i]) <= ln_x - s:
                continue
            value, out[4, i] = _value(spot[i], strike[i], t, r, q, volatility[i], ln_x, points)
            out[0, i] = max(value, out[0, i], 0.0)
            out[1, i], out[2, i], out[3, i] = _curvature(
                spot[i], strike[i], t, r, q, volatility[i], ln_x, s, points, close
            )
            width = 0.005 * volatility[i]
            for side in (-1.0, 1.0):
                sigma = volatility[i] + side * width
                s = _interpolate(sigma, band, panels[band], points)
                _, vega = _value(spot[i], strike[i], t, r, q, sigma, ln_x, points)
                delta, _, _ = _curvature(spot[i], strike[i], t, r, q, sigma, ln_x, s, points, close)
                out[5, i] += side * delta / (2.0 * width)
                out[6, i] += side * vega / (2.0 * width)
