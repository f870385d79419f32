"""A smile of one expiration as total variance over log-moneyness, with the two derivatives that a density needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

from ots_quant.arguments import numbers
from ots_quant.density.assumptions import Values

# A function of strikes that gives volatilities of the same shape, or (strikes, volatilities)
Smile: TypeAlias = Callable[[Values], ArrayLike] | tuple[ArrayLike, ArrayLike]

# Total variance may not grow faster than twice the log-moneyness (R. Lee, "The moment formula for implied volatility
# at extreme strikes", Math. Finance 14 (2004)); a little below 2, some mass is left to converge.
_STEEPEST = 1.9
_FEWEST = 4
_STEP = 0.02  # step of the differences, in standard deviations at the forward: fourth order, relative error 1e-8


class Variance(NamedTuple):
    """Total implied variance w = sigma^2 T over log-moneyness k = log(K / F), and its derivatives in k."""

    value: Values
    slope: Values
    curvature: Values


class SmileCurve(NamedTuple):
    """``variance(k)``, the standard deviation sigma(F) sqrt(T), and the log-moneynesses of quotes, none for a function.

    At the first and the last quote the curvature jumps.
    """

    variance: Callable[[Values], Variance]
    deviation: float
    nodes: Values


def smile_curve(smile: Smile, forward: float, years: float) -> SmileCurve:
    """The smile as total variance.

    Of a function the derivatives are central differences of fourth order with steps of 0.02 standard deviations.
    Quotes are joined by a cubic spline in total variance and continued straight on both sides, with the slope of the
    spline brought into Lee's bounds: rising outwards, by at most 1.9. Quotes with a NaN are left out.
    Raises ValueError naming the smile when fewer than four quotes are left, a volatility is not positive, the strikes
    do not increase, or a function gives what is not an array of the strikes' shape.
    """
    if isinstance(smile, tuple):
        return _from_quotes(*smile, forward, years)
    if not callable(smile):
        raise ValueError("smile must be a function of strikes or (strikes, volatilities)")
    return _from_function(smile, forward, years)


def _from_function(smile: Callable[[Values], ArrayLike], forward: float, years: float) -> SmileCurve:
    def total(k: Values) -> Values:
        strikes = forward * np.exp(k)
        volatilities = numbers("smile", smile(strikes))
        if volatilities.shape not in (strikes.shape, ()):
            raise ValueError(f"smile gave shape {volatilities.shape} for strikes of shape {strikes.shape}")
        good = np.isfinite(volatilities) & (volatilities > 0.0)
        if not good.all():
            where = np.broadcast_to(strikes, strikes.shape)[np.broadcast_to(~good, strikes.shape)][0]
            raise ValueError(f"smile gives no positive volatility at strike {where:.10g}")
        return np.broadcast_to(volatilities**2 * years, strikes.shape)

    deviation = float(np.sqrt(total(np.zeros(1))[0]))
    step = _STEP * deviation

    def variance(k: Values) -> Variance:
        down2, down, here, up, up2 = total(k + step * np.arange(-2.0, 3.0).reshape(-1, *[1] * k.ndim))
        slope = (8.0 * (up - down) - (up2 - down2)) / (12.0 * step)
        curvature = (16.0 * (up + down) - (up2 + down2) - 30.0 * here) / (12.0 * step**2)
        return Variance(here, slope, curvature)

    return SmileCurve(variance, deviation, np.empty(0))


def _from_quotes(strikes: ArrayLike, volatilities: ArrayLike, forward: float, years: float) -> SmileCurve:
    strike, volatility = numbers("smile strikes", strikes), numbers("smile volatilities", volatilities)
    if strike.ndim != 1 or strike.shape != volatility.shape:
        raise ValueError(f"smile strikes {strike.shape} and volatilities {volatility.shape} must be (n,) both")
    known = ~(np.isnan(strike) | np.isnan(volatility))
    strike, volatility = strike[known], volatility[known]
    if strike.size < _FEWEST:
        raise ValueError(f"smile needs at least {_FEWEST} quotes, not {strike.size}")
    if not (np.isfinite(strike) & np.isfinite(volatility) & (strike > 0.0) & (volatility > 0.0)).all():
        raise ValueError("smile strikes and volatilities must be positive and finite")
    if not (np.diff(strike) > 0.0).all():
        raise ValueError("smile strikes must increase")
    nodes, total = np.log(strike / forward), volatility**2 * years
    free = CubicSpline(nodes, total, bc_type="natural")
    left, right = np.clip(free(nodes[0], 1), -_STEEPEST, 0.0), np.clip(free(nodes[-1], 1), 0.0, _STEEPEST)
    spline = CubicSpline(nodes, total, bc_type=((1, left), (1, right)))

    def variance(k: Values) -> Variance:
        inside = np.clip(k, nodes[0], nodes[-1])
        slope = spline(inside, 1)
        value = spline(inside) + slope * (k - inside)
        if not (value > 0.0).all():
            where = forward * np.exp(k[value <= 0.0][0])
            raise ValueError(f"smile has no positive variance between its quotes, at strike {where:.10g}")
        return Variance(value, slope, np.where(k == inside, spline(inside, 2), 0.0))

    at_forward = float(variance(np.zeros(1)).value[0])
    return SmileCurve(variance, float(np.sqrt(at_forward)), nodes)
