"""The risk-neutral distribution of the spot at one expiration, from its smile.

With total variance w(k) over log-moneyness k = log(K / F), d2 = -(k + w / 2) / sqrt(w):

    P(S > K)    = N(d2) - n(d2) w' / (2 sqrt(w))                      the dual delta, undiscounted
    density(k)  = n(d2) / sqrt(w) g(k)
    g(k)        = (1 - k w' / (2 w))^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2

which is Breeden and Litzenberger, "Prices of state-contingent claims implicit in option prices", J. Business 51
(1978), with Black's formula differentiated; g as in Gatheral and Jacquier, "Arbitrage-free SVI volatility surfaces",
Quant. Finance 14 (2014), eq. 2.1. A smile with g < 0 somewhere admits butterfly arbitrage and has no density there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid
from scipy.interpolate import CubicHermiteSpline
from scipy.special import ndtr

from ots_quant.arguments import numbers
from ots_quant.density.assumptions import Assumption, Values
from ots_quant.density.smile import Smile, SmileCurve, Variance, smile_curve

_TAIL = 1e-10  # probability and share of the forward that the grid may leave out on each side
_WIDEST = 60.0  # standard deviations at the forward
_FARTHEST = 600.0  # log-moneyness: its exponential is still a number
_PER_QUOTE = 8  # grid points from one quote to the next
_BESIDE = 1e-9  # standard deviations on either side of a jump of the density, so that it is no error of the sum
_INV_SQRT_2PI = 0.3989422804014327


@dataclass(frozen=True, eq=False)
class RiskNeutral:
    """The distribution of the spot at expiration that a smile implies, on a grid of strikes (n,) that increase.

    density: per dollar of spot; negative where the smile admits arbitrage
    distribution: P(S <= strike)
    mass: integral of the density over the grid plus both tails, which come from the dual delta alone. 1 unless the
        smile has kinks (a kink is mass in a point) or the grid is too coarse for it.
    mean: the density's mean, tails included; the forward unless as above
    negative_mass: integral of the density's negative part, a positive number
    """

    forward: float
    years: float
    strikes: Values
    density: Values
    distribution: Values
    mass: float
    mean: float
    negative_mass: float
    curve: SmileCurve
    assumption: Assumption = Assumption.SMILE

    @property
    def arbitrage_free(self) -> bool:
        """No negative density: less than 1e-9 of it in total."""
        return self.negative_mass < 1e-9

    def probability_above(self, strike: ArrayLike) -> Values:
        """P(S > strike) by the smile at that strike; 1 at and below 0. NaN for NaN.

        Under a smile with arbitrage the formula may leave [0, 1], and is cut there.
        """
        level = numbers("strike", strike)
        result = np.where(level <= 0.0, 1.0, np.where(level == np.inf, 0.0, np.nan))
        inside = np.isfinite(level) & (level > 0.0)
        k = np.log(level[inside] / self.forward)
        result[inside] = np.clip(_survival(k, self.curve.variance(k)), 0.0, 1.0)
        return result

    def probability_below(self, strike: ArrayLike) -> Values:
        """1 - `probability_above`."""
        return 1.0 - self.probability_above(strike)

    def quantile(self, probability: ArrayLike) -> Values:
        """The spot below which the spot ends with ``probability``: the distribution's inverse, to 1e-9 of the forward.

        NaN outside the grid's tails (1e-10 on each side). Where the smile's arbitrage makes the distribution fall, its
        running maximum is inverted.
        """
        wanted = numbers("probability", probability)
        level, spline = self._rising
        with np.errstate(invalid="ignore"):  # NaN compares as false
            inside = (wanted >= level[0]) & (wanted <= level[-1])
        target = np.where(inside, wanted, level[0])
        cell = np.clip(np.searchsorted(level, target, side="left") - 1, 0, len(level) - 2)
        low, high = self._grid[cell], self._grid[cell + 1]
        for _ in range(50):
            middle = 0.5 * (low + high)
            above = spline(middle) >= target
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.asarray(np.where(inside, self.forward * np.exp(0.5 * (low + high)), np.nan))

    def expectation(self, payoff: Callable[[Values], ArrayLike]) -> float:
        """E[payoff(S)], undiscounted, by the trapezoidal rule over the grid; a tail counts at the grid's end.

        A kink in the payoff costs about 1e-5 of the spot in accuracy.

        Raises ValueError where the payoff does not give real numbers of the strikes' shape.
        """
        values = numbers("payoff", payoff(self.strikes))
        if values.shape not in (self.strikes.shape, ()):
            raise ValueError(f"payoff gave shape {values.shape} for strikes of shape {self.strikes.shape}")
        values = np.broadcast_to(values, self.strikes.shape)
        tails = values[0] * self.distribution[0] + values[-1] * (1.0 - self.distribution[-1])
        return float(trapezoid(values * self._per_log, self._grid) + tails)

    @cached_property
    def standard_deviation(self) -> float:
        """Of the spot at expiration, in dollars, around the mean."""
        return float(np.sqrt(self.expectation(lambda s: np.square(s - self.mean))))

    @property
    def mean_absolute_deviation(self) -> float:
        """E|S - F| in dollars: the undiscounted straddle at the forward, by the smile's volatility there."""
        return 2.0 * self.forward * float(2.0 * ndtr(0.5 * self.curve.deviation) - 1.0)

    @property
    def _grid(self) -> Values:
        return np.asarray(np.log(self.strikes / self.forward))

    @property
    def _per_log(self) -> Values:
        return self.density * self.strikes

    @cached_property
    def _rising(self) -> tuple[Values, CubicHermiteSpline]:
        level = np.maximum.accumulate(self.distribution)
        return level, CubicHermiteSpline(self._grid, level, np.maximum(self._per_log, 0.0))


def risk_neutral(smile: Smile, forward: float, years: float, *, points: int = 2001) -> RiskNeutral:
    """The distribution at expiration that ``smile`` implies.

    ``smile``: a function from strikes (n,) to volatilities (n,), or (strikes, volatilities); see `smile.smile_curve`.
    The grid has ``points`` points evenly in log(K / F), as far as either tail holds 1e-10 of the mass and of the
    forward, at most 60 standard deviations.
    Raises ValueError that names the argument: a forward or years that is not positive and finite, points below 101,
    a smile as in `smile_curve`.
    """
    for name, value in (("forward", forward), ("years", years)):
        if not 0.0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, not {value}")
    if points < 101:
        raise ValueError(f"points must be at least 101, not {points}")
    curve = smile_curve(smile, float(forward), float(years))
    k = _grid(curve, points)
    variance = curve.variance(k)
    survival = _survival(k, variance)
    per_log = _density(k, variance)
    strikes = forward * np.exp(k)
    below, above = 1.0 - survival[0], survival[-1]
    return RiskNeutral(
        forward=float(forward),
        years=float(years),
        strikes=strikes,
        density=per_log / strikes,
        distribution=1.0 - survival,
        mass=float(trapezoid(per_log, k) + below + above),
        mean=float(trapezoid(per_log * strikes, k) + forward * _tail_means(k[[0, -1]], curve).sum()),
        negative_mass=float(trapezoid(np.maximum(-per_log, 0.0), k)),
        curve=curve,
    )


def _d2(k: Values, w: Values) -> Values:
    return -(k + 0.5 * w) / np.sqrt(w)


def _pdf(x: Values) -> Values:
    return _INV_SQRT_2PI * np.exp(-0.5 * np.square(x))


def _survival(k: Values, variance: Variance) -> Values:
    w, slope, _ = variance
    d2 = _d2(k, w)
    return np.asarray(ndtr(d2) - _pdf(d2) * slope / (2.0 * np.sqrt(w)))


def _density(k: Values, variance: Variance) -> Values:
    """Per unit of log-moneyness."""
    w, slope, curvature = variance
    g = np.square(1.0 - 0.5 * k * slope / w) - 0.25 * np.square(slope) * (1.0 / w + 0.25) + 0.5 * curvature
    return _pdf(_d2(k, w)) / np.sqrt(w) * g


def _tail_means(ends: Values, curve: SmileCurve) -> Values:
    """E[S; S < K] at the first end and E[S; S > K] at the second, over the forward: asset-or-nothing by the smile."""
    variance = curve.variance(ends)
    w = variance.value
    d2 = _d2(ends, w)
    strike = np.exp(ends)
    side = np.array([-1.0, 1.0])
    vanilla = side * (ndtr(side * (d2 + np.sqrt(w))) - strike * ndtr(side * d2))
    above = _survival(ends, variance)
    return np.asarray(side * vanilla + strike * np.where(side > 0.0, above, 1.0 - above))


def _grid(curve: SmileCurve, points: int) -> Values:
    """Even in log-moneyness, finer than the quotes, and on both sides of where the density jumps."""
    low, high = (_reach(curve, side) for side in (-1.0, 1.0))
    nodes = curve.nodes
    if not nodes.size:
        return np.linspace(low, high, points)
    between = np.interp(np.arange(0, len(nodes) - 1, 1 / _PER_QUOTE), np.arange(len(nodes)), nodes)
    beside = np.concatenate([edge + _BESIDE * curve.deviation * np.array([-1.0, 1.0]) for edge in nodes[[0, -1]]])
    extra = np.concatenate((between, beside))
    return np.union1d(np.linspace(low, high, points), extra[(extra > low) & (extra < high)])


def _reach(curve: SmileCurve, side: float) -> float:
    """The log-moneyness on one side beyond which next to nothing is left."""
    reach = 6.0
    while True:
        k = np.array([side * min(reach * curve.deviation, _FARTHEST)])
        variance = curve.variance(k)
        above = _survival(k, variance)[0]
        d1 = _d2(k, variance.value)[0] + float(np.sqrt(variance.value[0]))
        left_out = max(above if side > 0.0 else 1.0 - above, float(ndtr(side * d1)) if side > 0.0 else 0.0)
        if left_out < _TAIL or reach >= _WIDEST or abs(k[0]) == _FARTHEST:
            return float(k[0])
        reach *= 1.1
