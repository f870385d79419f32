"""A slice in the coordinates that the fit works in, with derivatives by its parameters.

Each slice is scaled by a total variance theta near its money: x = k / sqrt(theta), v(x) = w(k) / theta. Raw SVI keeps
its form, and slices from two hours to two years look alike. The five parameters are free of constraints but one:

    v(x) = V - sigma sqrt(L U) + (U - L) / 2 (x - m) + (L + U) / 2 sqrt((x - m)^2 + sigma^2)

with the least variance V, the slopes of the wings L and U, and sigma as logarithms, so that the variance is positive
everywhere, and the wings at most as steep as Lee (2004, Mathematical Finance 14(3), 469) allows: sqrt(theta) U <= 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.surface.slices import Slices

Values = NDArray[np.float64]

LEAST, LEFT, RIGHT, CENTRE, WIDTH = range(5)
"""Columns of the parameters (slices, 5): ln V, ln L, ln U, m, ln sigma."""

STEEPEST = 1.99
"""Slope of a wing in w by k; Lee's bound is 2."""

USUAL = np.array([np.log(0.8), 0.0, np.log(0.4), 0.0, np.log(2.0)])
"""A smile of equity options in these coordinates: what a fit falls back to where quotes say nothing."""
PULL = 0.3 * np.array([1.0, 1.0, 1.0, 1.0 / 3.0, 1.0])
"""Half-spreads per unit of distance from `USUAL`: too little to move what even two or three quotes determine, enough to
keep an unquoted wing from rising to Lee's bound."""

_LOW = np.array([np.log(1e-4), np.log(1e-4), np.log(1e-4), -30.0, np.log(2e-2)])
_HIGH = np.array([np.log(1e2), np.log(1e2), np.log(1e2), 30.0, np.log(1e2)])


def bounds(theta: Values) -> tuple[Values, Values]:
    """Least and greatest parameters, (slices, 5) each."""
    low, high = np.tile(_LOW, (theta.size, 1)), np.tile(_HIGH, (theta.size, 1))
    steepest = np.log(STEEPEST / np.sqrt(theta))
    high[:, LEFT] = np.minimum(high[:, LEFT], steepest)
    high[:, RIGHT] = np.minimum(high[:, RIGHT], steepest)
    return low, high


def bounded(parameters: Values, theta: Values) -> Values:
    """Parameters moved into their bounds."""
    return np.clip(parameters, *bounds(theta))


def raw(parameters: Values, theta: Values) -> Slices:
    """The same slices as raw SVI by k and in total variance."""
    least, left, right, width = np.exp(parameters[:, [LEAST, LEFT, RIGHT, WIDTH]]).T
    scale = np.sqrt(theta)
    b = (left + right) / 2.0
    return Slices(
        a=theta * (least - width * np.sqrt(left * right)),
        b=scale * b,
        rho=(right - left) / (2.0 * b),
        m=scale * parameters[:, CENTRE],
        sigma=scale * width,
    )


def values(parameters: Values, x: Values) -> Values:
    """v(x), row i of ``x`` (slices, points) on slice i."""
    least, left, right, width = (np.exp(parameters[:, column, None]) for column in (LEAST, LEFT, RIGHT, WIDTH))
    distance = x - parameters[:, CENTRE, None]
    root = np.sqrt(distance * distance + width * width)
    floor = least - width * np.sqrt(left * right)
    v: Values = floor + (right - left) / 2.0 * distance + (left + right) / 2.0 * root
    return v


class Jet(NamedTuple):
    """v, v', v'' (slices, points), and their derivatives by the parameters (slices, 5, points)."""

    v: Values
    v_x: Values
    v_xx: Values
    by: Values
    by_x: Values
    by_xx: Values


def slopes(parameters: Values, x: Values) -> tuple[Values, Values]:
    """v(x) and its derivatives by the parameters, (slices, 5, points)."""
    least, left, right, width = (np.exp(parameters[:, column, None]) for column in (LEAST, LEFT, RIGHT, WIDTH))
    distance = x - parameters[:, CENTRE, None]
    root = np.sqrt(distance * distance + width * width)
    floor = width * np.sqrt(left * right)
    by = np.empty((x.shape[0], 5, x.shape[1]))
    by[:, LEAST] = least
    half_left, half_right = left / 2.0, right / 2.0
    np.subtract(root, distance, out=by[:, LEFT])
    by[:, LEFT] *= half_left
    np.add(root, distance, out=by[:, RIGHT])
    by[:, RIGHT] *= half_right
    v = (least - floor) + by[:, LEFT] + by[:, RIGHT]
    by[:, LEFT] -= floor / 2.0
    by[:, RIGHT] -= floor / 2.0
    slope = half_left + half_right
    inverse = slope / root
    by[:, CENTRE] = (half_left - half_right) - inverse * distance
    by[:, WIDTH] = width**2 * inverse - floor
    return v, by


def jet(parameters: Values, x: Values) -> Jet:
    """All that the butterfly penalty needs."""
    v, by = slopes(parameters, x)
    left, right, width = (np.exp(parameters[:, column, None]) for column in (LEFT, RIGHT, WIDTH))
    distance = x - parameters[:, CENTRE, None]
    root = np.sqrt(distance * distance + width * width)
    slope, tilt = (left + right) / 2.0, distance / root
    curve = width**2 / root**3
    by_x, by_xx = np.zeros_like(by), np.zeros_like(by)
    by_x[:, LEFT] = left / 2.0 * (tilt - 1.0)
    by_x[:, RIGHT] = right / 2.0 * (tilt + 1.0)
    by_x[:, CENTRE] = -slope * curve
    by_x[:, WIDTH] = -slope * distance * curve
    by_xx[:, LEFT] = left / 2.0 * curve
    by_xx[:, RIGHT] = right / 2.0 * curve
    by_xx[:, CENTRE] = 3.0 * slope * curve * tilt / root
    by_xx[:, WIDTH] = slope * curve * (2.0 - 3.0 * width**2 / root**2)
    return Jet(v, (right - left) / 2.0 + slope * tilt, slope * curve, by, by_x, by_xx)


def flat(level: Values) -> Values:
    """Slices of one v each, up to the least slope that the bounds allow."""
    parameters = np.tile([0.0, _LOW[LEFT], _LOW[RIGHT], 0.0, 0.0], (level.size, 1))
    parameters[:, LEAST] = np.log(level)
    return parameters
