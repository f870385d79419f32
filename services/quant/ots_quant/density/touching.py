"""The probability that the spot touches a level, or one of two, before a time: geometric Brownian motion.

The logarithm of the spot is a Brownian motion with drift mu = r - q - sigma^2 / 2. A touch of a fixed barrier is its
first passage, in closed form by reflection and a change of measure; between two barriers a series gives each side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr

from ots_quant.arguments import broadcast
from ots_quant.density.assumptions import Assumption, Values, usable

# -zeta(1/2) / sqrt(2 pi): how far a random walk overshoots a barrier on the mean, in standard deviations of a step
# (Broadie, Glasserman and Kou, "A continuity correction for discrete barrier options", Math. Finance 7 (1997), th. 1.1)
OVERSHOOT = 0.5825971579390106

# Below this variance over the squared corridor the images converge to 1e-16 in 2 * _IMAGES + 1 terms, above it the
# sines in _SINES terms: exp(-(2 _IMAGES - 1)^2) and exp(-_SINES^2 pi^2 / 4) are both below 1e-20.
_SHORT = 0.5
_IMAGES = 4
_SINES = 6


class Touch(NamedTuple):
    """A probability of touching, an array of the arguments' shape, and what it takes for granted."""

    probability: Values
    assumption: Assumption


class DoubleTouch(NamedTuple):
    """Which of two levels is touched first before the end, or none: three arrays that sum to 1, and the assumption."""

    lower_first: Values
    upper_first: Values
    neither: Values
    assumption: Assumption


def touch(
    spot: ArrayLike,
    barrier: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    *,
    interval: ArrayLike = 0.0,
) -> Touch:
    """The probability that the spot touches ``barrier`` (above or below it) within ``years``.

    ``interval``: years between two looks at the spot, the last one at the end; 0 watches continuously. With looks the
    barrier is moved outwards by ``OVERSHOOT`` sigma sqrt(interval), and the result is never below the probability of
    ending beyond the barrier, to which it is equal when there is one look only. The correction errs by
    under 0.15 / looks (5 to 78 looks; watching continuously instead errs by up to 0.6 / sqrt(looks)).
    A spot at the barrier touches it. NaN where spot, barrier, years or volatility is not positive, where the interval
    is negative, or where anything is not finite. Raises ValueError for what `arguments.broadcast` refuses.

    Source: Reiner and Rubinstein, "Unscrambling the binary code", Risk (October 1991); Haug, The Complete Guide to
    Option Pricing Formulas (2007), section 4.19.5; Broadie, Glasserman and Kou (1997).
    """
    (s, b, t, r, q, v, gap), shape = broadcast(
        {
            "spot": spot,
            "barrier": barrier,
            "years": years,
            "rate": rate,
            "dividend_yield": dividend_yield,
            "volatility": volatility,
            "interval": interval,
        }
    )
    valid = usable(positive=(s, b, t, v), finite=(r, q, gap)) & (gap >= 0.0)
    with np.errstate(all="ignore"):  # the elements that make these warnings become NaN below
        distance = np.log(b / s)
        drift = r - q - 0.5 * v * v
        probability = np.where(b == s, 1.0, _first_passage(np.abs(distance), np.sign(distance) * drift, v, t, gap))
    assumption = Assumption.FLAT_VOLATILITY_WATCHED if np.any(gap > 0.0) else Assumption.FLAT_VOLATILITY
    return Touch(np.where(valid, probability, np.nan).reshape(shape), assumption)


def touch_either(
    spot: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    *,
    interval: ArrayLike = 0.0,
) -> DoubleTouch:
    """Which of two levels the spot touches first within ``years``: a stop and a target of a position in the stock.

    ``interval`` as in `touch`: both levels are moved outwards, and one look gives the probabilities of ending beyond
    each. A spot at or beyond a level has touched it. NaN where lower is not below upper, and as in `touch`. Raises
    ValueError for what `arguments.broadcast` refuses.

    Source: first exit of Brownian motion from an interval by images and by sines (Darling and Siegert, Ann. Math.
    Stat. 24 (1953); Borodin and Salminen, Handbook of Brownian Motion (2002), part II 2.3.0), drift by Girsanov.
    """
    (s, low, high, t, r, q, v, gap), shape = broadcast(
        {
            "spot": spot,
            "lower": lower,
            "upper": upper,
            "years": years,
            "rate": rate,
            "dividend_yield": dividend_yield,
            "volatility": volatility,
            "interval": interval,
        }
    )
    valid = usable(positive=(s, low, high, t, v), finite=(r, q, gap)) & (gap >= 0.0) & (low < high)
    with np.errstate(all="ignore"):  # the elements that make these warnings become NaN below
        shift = OVERSHOOT * v * np.sqrt(gap)
        below, above = np.log(s / low) + shift, np.log(high / s) + shift
        drift = r - q - 0.5 * v * v
        one_look = gap >= t
        deviation = v * np.sqrt(t)
        upper_first = np.where(
            one_look, ndtr((drift * t - np.log(high / s)) / deviation), _exit_probability(above, below, drift, v, t)
        )
        lower_first = np.where(
            one_look, ndtr((np.log(low / s) - drift * t) / deviation), _exit_probability(below, above, -drift, v, t)
        )
        upper_first = np.where(s >= high, 1.0, np.where(s <= low, 0.0, upper_first))
        lower_first = np.where(s <= low, 1.0, np.where(s >= high, 0.0, lower_first))
    upper_first, lower_first = (np.where(valid, p, np.nan).reshape(shape) for p in (upper_first, lower_first))
    assumption = Assumption.FLAT_VOLATILITY_WATCHED if np.any(gap > 0.0) else Assumption.FLAT_VOLATILITY
    return DoubleTouch(lower_first, upper_first, np.clip(1.0 - lower_first - upper_first, 0.0, 1.0), assumption)


def _first_passage(distance: Values, drift: Values, volatility: Values, years: Values, interval: Values) -> Values:
    """First passage of ``distance`` >= 0 with the drift towards it, watched at ``interval`` (0: continuously)."""
    deviation = volatility * np.sqrt(years)
    beyond = ndtr((drift * years - distance) / deviation)
    moved = distance + OVERSHOOT * volatility * np.sqrt(interval)
    passage = ndtr((drift * years - moved) / deviation) + np.exp(
        2.0 * drift * moved / volatility**2 + log_ndtr((-drift * years - moved) / deviation)
    )
    return np.asarray(np.where(interval >= years, beyond, np.clip(passage, beyond, 1.0)))


def _exit_probability(target: Values, other: Values, drift: Values, volatility: Values, years: Values) -> Values:
    """The probability of going ``target`` up before ``other`` down, within ``years``; the drift is upwards."""
    short = volatility**2 * years < _SHORT * (target + other) ** 2
    arguments = (target, other, drift, volatility, years)
    return np.asarray(np.clip(np.where(short, _by_images(*arguments), _by_sines(*arguments)), 0.0, 1.0))


def _by_images(target: Values, other: Values, drift: Values, volatility: Values, years: Values) -> Values:
    """Alternating probabilities of touching the sides in turn. Logarithms, because a tilt alone may overflow."""
    deviation = volatility * np.sqrt(years)
    tilt = drift / volatility**2
    speed = np.abs(drift) * years
    total = np.zeros_like(target)
    for image in range(-_IMAGES, _IMAGES + 1):
        reach = target + 2 * image * (target + other)
        length = np.abs(reach)
        ahead = np.exp(tilt * target - np.abs(tilt) * length + log_ndtr((speed - length) / deviation))
        behind = np.exp(tilt * target + np.abs(tilt) * length + log_ndtr((-speed - length) / deviation))
        total += np.sign(reach) * (ahead + behind)
    return total


def _by_sines(target: Values, other: Values, drift: Values, volatility: Values, years: Values) -> Values:
    """The probability of ever leaving on the target's side, less that of doing so after ``years``."""
    width = target + other
    tilt = drift / volatility**2
    steep = 2.0 * np.abs(tilt)
    ever = np.where(
        np.abs(tilt) * width < 1e-9,  # expm1(x) / expm1(y) -> x / y
        other / width,
        np.exp(np.where(tilt < 0.0, -steep * target, 0.0)) * np.expm1(-steep * other) / np.expm1(-steep * width),
    )
    later = np.zeros_like(target)
    for n in range(1, _SINES + 1):
        decay = 0.5 * (drift**2 / volatility**2 + (n * np.pi * volatility / width) ** 2)
        wave = (-1) ** (n + 1) * n * np.sin(n * np.pi * other / width)
        later += wave * np.exp(tilt * target - decay * years) / decay
    return np.asarray(ever - np.pi * (volatility / width) ** 2 * later)
