"""The exercise boundary of American puts, for a whole band of volatility at once.

The boundary B(t), t before expiration, solves an integral equation that contracts quickly when iterated. Written as
s(t) = ln(X / B(t)), X = K min(1, r/q) being the boundary at expiration, it does not depend on the strike, and as a
function of ln(volatility) it is smooth: it is solved at the eight Chebyshev nodes of a band of volatility (20 to 60 %,
say), all eight at once in SIMD lanes, and interpolated between them.

The integral is taken over an angle: with u = t cos^2(a) the square-root singularities at both ends, of the diffusion as
u -> t and of the boundary as u -> 0, become smooth, and Gauss-Legendre converges exponentially.

References:
    I. J. Kim, The analytic valuation of American options, Review of Financial Studies 3 (1990).
    L. Andersen, M. Lake, D. Offengenden, High-performance American option pricing, Journal of Computational Finance 20
    (2016): the fixed point systems A and B, and s^2 interpolated in sqrt(t).
    P. Bjerksund, G. Stensland, Closed-form approximation of American options, Scandinavian J. of Management 9 (1993):
    the first guess.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from ots_quant.compiled import FLOAT, INT, READ, READ_TABLE, WRITE_TABLE, inline, kernel
from ots_quant.kernels import special

_exp, _log, _mills = special.exp, special.log, special.mills
_density, _distribution = special.density, special.distribution

LANES = 8  # Chebyshev nodes of a panel, and float64 lanes of one solution
NODES = 10  # intervals between the nodes of the boundary in sqrt(time)
# quadrature of the integral equation, and of its first sweeps; with the strike's term as one point more, a multiple of
# the pairs that a SIMD loop takes at once
BOUNDARY_POINTS, COARSE_POINTS = 11, 3
# bands of volatility, each from its low end to three times that, with 0.2 and 0.6 among the ends
BANDS, BAND_RATIO = 20, 3.0
LEAST_VOLATILITY = 0.2 * BAND_RATIO**-12  # 4e-7
MOST_VOLATILITY = LEAST_VOLATILITY * BAND_RATIO**BANDS  # 1300
_COARSE_TOLERANCE, _TOLERANCE, _MOST_SWEEPS = 1e-3, 1e-7, 60
# from this r sqrt(T) / volatility on system A, which converges faster and closer elsewhere, may diverge
_SYSTEM_B_FROM = 0.8
SOLVED = 1e-6  # a boundary whose last sweep changed more is not used
_READ_CUBE = types.Array(types.float64, 3, "C", readonly=True)


def chebyshev_lagrange(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights that take values at ``-cos(i pi / NODES)`` to the points ``at``: shape (*at.shape, NODES + 1)."""
    nodes = -np.cos(np.pi * np.arange(NODES + 1) / NODES)
    weights = (-1.0) ** np.arange(NODES + 1)
    weights[[0, -1]] *= 0.5
    distance = at[..., None] - nodes
    hit = np.abs(distance) < 1e-15
    terms = weights / np.where(hit, 1.0, distance)
    return np.where(hit.any(-1, keepdims=True), hit, terms / terms.sum(-1, keepdims=True))


def quadrature_angles(points: int, power: float = 1.0) -> NDArray[np.float64]:
    """Sine, cosine and weight of Gauss-Legendre in angle^(1 / power) over (0, pi / 2), a row each."""
    x, weights = np.polynomial.legendre.leggauss(points)
    y = (1.0 + x) / 2.0
    angle = y**power * np.pi / 2.0
    return np.array((np.sin(angle), np.cos(angle), weights * np.pi / 4.0 * power * y ** (power - 1.0)))


def _lane_transform() -> NDArray[np.float64]:
    """From values at the lanes' Chebyshev nodes to coefficients: c[k] = sum_m transform[k, m] f[m]."""
    k, m = np.meshgrid(np.arange(LANES), np.arange(LANES), indexing="ij")
    return np.where(k == 0, 1.0, 2.0) / LANES * np.cos(k * (2 * m + 1) * np.pi / (2 * LANES))


ROOT_TIME = (1.0 - np.cos(np.pi * np.arange(NODES + 1) / NODES)) / 2.0  # sqrt(t / T) at the nodes
_COARSE, _FINE = quadrature_angles(COARSE_POINTS), quadrature_angles(BOUNDARY_POINTS)
# (node, node, point): from s^2 at the nodes to s^2 at the points of a node's integral
_TO_COARSE, _TO_FINE = (
    np.ascontiguousarray(chebyshev_lagrange(2.0 * ROOT_TIME[:, None] * a[1] - 1.0).transpose(0, 2, 1))
    for a in (_COARSE, _FINE)
)
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
            t = years * ROOT_TIME[i] * ROOT_TIME[i]
            h = min(-(carry * t + 2.0 * sigma * math.sqrt(t)) * inverse_x / span, 0.0)
            s[i, lane] = math.log(1.0 - span / inverse_x * math.expm1(h))
        s[NODES + 1, lane] = math.log(perpetual / inverse_x)


@inline
def interpolate_row(weights: Any, v: Any, into: Any) -> None:
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
            t = years * ROOT_TIME[i] * ROOT_TIME[i]
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
                root_t = math.sqrt(years) * ROOT_TIME[i]
                inverse_root_t = 1.0 / root_t
                for lane in range(LANES):
                    interpolate_row(to_points[i], h[lane], gap[lane * row : lane * row + points])
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
def solve_panel(years: float, rate: float, dividend_yield: float, band: int, panel: Any) -> float:
    """Coefficients panel[k, node] of s in Chebyshev polynomials of ln(volatility) over a band.

    Returns the largest change of the last sweep: not below SOLVED where there is none.
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
    if not change < SOLVED:
        _first_guess(years, rate, dividend_yield, volatility, s)
        change = _solve_b(years, rate, dividend_yield, volatility, _FINE, _TO_FINE, _TOLERANCE, s)
    for k in range(LANES):
        for node in range(NODES + 1):
            total = 0.0
            for lane in range(LANES):
                total += _LANE_TRANSFORM[k, lane] * s[node, lane]
            panel[k, node] = total
    return change
