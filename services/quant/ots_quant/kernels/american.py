"""American puts by Kim's integral, for a call by its mirrored put: prices, implied volatilities, derivatives.

A price is the European one plus the premium of early exercise, an integral along the exercise boundary. Contracts come
in groups of one (years, rate, yield), which share the boundary of each band of volatility that they need
(`american_boundary`); a contract then costs one quadrature, over an angle for the same reason as there.

References:
    I. J. Kim, The analytic valuation of American options, Review of Financial Studies 3 (1990).
    R. McDonald, M. Schroder, A parity result for American options, Journal of Computational Finance 1 (1998): the
    mirror.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ots_quant.compiled import READ, READ_INTS, WRITE, WRITE_TABLE, inline, kernel, part
from ots_quant.kernels import american_boundary as boundary
from ots_quant.kernels import special

# kernels inline by name
_exp, _mills = special.exp, special.mills
_density, _distribution = special.density, special.distribution
_interpolate_row, _solve_panel = boundary.interpolate_row, boundary.solve_panel
_LANES, _NODES, _ROOT_TIME, _SOLVED = boundary.LANES, boundary.NODES, boundary.ROOT_TIME, boundary.SOLVED
_BANDS, LEAST_VOLATILITY, MOST_VOLATILITY = boundary.BANDS, boundary.LEAST_VOLATILITY, boundary.MOST_VOLATILITY
_LN_RATIO, _LN_LEAST = math.log(boundary.BAND_RATIO), math.log(LEAST_VOLATILITY)

PREMIUM_POINTS = 24
_MOST_STEPS, _STEP_TOLERANCE = 100, 1e-10
_CLOSE, _CLOSEST = 0.3, 1e-4  # distances from the boundary, in standard deviations until expiration
# denser near now, where the premium of a contract next to its boundary turns within a short time
_PREMIUM = boundary.quadrature_angles(PREMIUM_POINTS, 2.0)
_TO_PREMIUM = np.ascontiguousarray(boundary.chebyshev_lagrange(2.0 * _PREMIUM[1] - 1.0).T)  # (node, point)
_UNIT = np.array(np.polynomial.legendre.leggauss(PREMIUM_POINTS)) / 2.0  # points and weights on (-1/2, 1/2)


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
        np.empty(_NODES + 1),
        np.empty(_NODES + 1),
    )


@part
def _prepare(years: float, rate: float, dividend_yield: float, points: Any) -> None:
    """Fill what the premium's quadrature needs of a group, whatever the contract."""
    for k in range(PREMIUM_POINTS):
        root_u = math.sqrt(years) * _PREMIUM[0, k]
        du = 2.0 * years * _PREMIUM[0, k] * _PREMIUM[1, k] * _PREMIUM[2, k]
        points.root_u[k] = root_u
        points.inverse_root_u[k] = 1.0 / root_u
        points.interest[k] = du * math.exp(-rate * root_u * root_u)
        points.dividends[k] = du * dividend_yield * math.exp(-dividend_yield * root_u * root_u)


@part
def _interpolate(volatility: float, band: int, panel: Any, points: Any) -> float:
    """Fill s and ds/dvolatility at the nodes and at the points; returns s at the whole time to expiration."""
    x = 2.0 * ((math.log(volatility) - _LN_LEAST) / _LN_RATIO - band) - 1.0
    slope = 2.0 / (_LN_RATIO * volatility)
    h, dh = points.h_node, points.dh_node
    for node in range(_NODES + 1):
        h[node] = 0.0
        dh[node] = 0.0
    t_k, t_before, dt_k, dt_before = 1.0, x, 0.0, 1.0  # T_0 and T_-1 = T_1
    for k in range(_LANES):
        for node in range(_NODES + 1):
            h[node] += t_k * panel[k, node]
            dh[node] += dt_k * slope * panel[k, node]
        t_k, t_before, dt_k, dt_before = 2.0 * x * t_k - t_before, t_k, 2.0 * t_k + 2.0 * x * dt_k - dt_before, dt_k
    s_end: float = h[_NODES]
    for node in range(_NODES + 1):  # from s to h = s^2, of which s ds is half the derivative
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


@part
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


@part
def _band_of(volatility: float, years: float, rate: float, dividend_yield: float, panels: Any, residuals: Any) -> int:
    """The band of a volatility, its panel solved when it is the group's first; -1 where that has no solution."""
    band = min(max(math.floor((math.log(volatility) - _LN_LEAST) / _LN_RATIO), 0), _BANDS - 1)
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
    panels, residuals = np.empty((_BANDS, _LANES, _NODES + 1)), np.empty(_BANDS)
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
    panels, residuals = np.empty((_BANDS, _LANES, _NODES + 1)), np.empty(_BANDS)
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


@part
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


@part
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
        for node in range(_NODES + 1):
            apart = cosine - _ROOT_TIME[node]
            weight = sign / (apart if abs(apart) > 1e-15 else 1e-15)
            if node in (0, _NODES):
                weight *= 0.5
            total += weight
            h += weight * nodes.h_node[node]
            sign = -sign
        points.s[k] = math.sqrt(max(h / total, 1e-12))


@part
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
    panels, residuals = np.empty((_BANDS, _LANES, _NODES + 1)), np.empty(_BANDS)
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
