"""The payoff of a position whose options expire together: piecewise linear, so everything about it is exact.

Held to expiration, with no exercise before it: an American option sold may be assigned earlier, which this leaves out.
Profit is the payoff less the cost of entry, both in dollars for the whole position, the cost without interest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.arguments import numbers
from ots_quant.strategies.legs import Leg, Position, each_leg

Values = NDArray[np.float64]

# A profit below this share of the dollars that make it up is rounding, and counts as zero
_ROUNDING = 1e-12


class PiecewiseLinear(NamedTuple):
    """A function of the spot on [0, inf): straight between ``knots`` (m,), the first of which is 0.

    values: (m,) dollars at the knots; slope: dollars per dollar of spot beyond the last knot
    noise: dollars below which a value is rounding
    """

    knots: Values
    values: Values
    slope: float
    noise: float

    def __call__(self, spot: Values) -> Values:
        """The function's values; NaN where the spot is negative or NaN."""
        with np.errstate(invalid="ignore"):  # inf - inf of an infinite spot is NaN, and says so
            beyond = self.values[-1] + self.slope * (spot - self.knots[-1])
            inside = np.interp(spot, self.knots, self.values)
            return np.where(spot >= 0.0, np.where(spot > self.knots[-1], beyond, inside), np.nan)


class BreakEvens(NamedTuple):
    """Where the profit is zero.

    spots: (n,) rising: single roots, whether the profit changes sign there or only touches zero
    flat: (k, 2): from and to, where it is zero on a whole stretch; the end is inf when it never leaves
    """

    spots: Values
    flat: Values


class Extremes(NamedTuple):
    """The most that can be gained and lost at expiration, in dollars for the whole position.

    maximum_gain: inf where unlimited; negative where every outcome loses
    maximum_loss: as a positive number, inf where unlimited; negative where every outcome gains
    gain_at, loss_at: a spot where it is reached (the lowest, inf where unlimited)
    at_zero: profit when the spot goes to 0
    slope: dollars per dollar of spot above the highest strike: above 0 the gain, below 0 the loss is unlimited
    """

    maximum_gain: float
    maximum_loss: float
    gain_at: float
    loss_at: float
    at_zero: float
    slope: float


def payoff(position: Position, spot: ArrayLike) -> Values:
    """What the legs are worth at expiration at each spot, in dollars; of the spot's shape.

    NaN where the spot is negative or NaN. Raises ValueError when the options do not expire together.
    """
    _require_one_expiration(position)
    spots = numbers("spot", spot)
    value = each_leg(position, lambda leg: intrinsic(leg, spots))
    return np.where(spots >= 0.0, value, np.nan)


def profit_line(position: Position, cost: float) -> PiecewiseLinear:
    """Payoff less ``cost`` in its exact form. Raises ValueError as `payoff`, and for a cost that is not finite."""
    _require_one_expiration(position)
    if not np.isfinite(cost):
        raise ValueError(f"cost must be finite, not {cost}: is a quote missing?")
    knots = np.unique([0.0, *(leg.strike for leg in position.options)])
    values = each_leg(position, lambda leg: intrinsic(leg, knots)) - cost
    slope = sum(leg.units for leg in position.legs if leg.right >= 0)
    size = abs(cost) + sum(abs(leg.units) for leg in position.legs) * (knots[-1] if knots[-1] > 0.0 else 1.0)
    return PiecewiseLinear(knots, values, float(slope), _ROUNDING * float(size))


def break_evens(position: Position, cost: float) -> BreakEvens:
    """The spots at which the profit at expiration is zero, exactly. Raises ValueError as `profit_line`."""
    return zeros(profit_line(position, cost))


def extremes(position: Position, cost: float) -> Extremes:
    """The greatest gain and loss at expiration, over spots from 0 to infinity. Raises ValueError as `profit_line`."""
    line = profit_line(position, cost)
    best, worst = int(np.argmax(line.values)), int(np.argmin(line.values))
    gain, gain_at = float(line.values[best]), float(line.knots[best])
    loss, loss_at = 0.0 - float(line.values[worst]), float(line.knots[worst])
    if line.slope > 0.0:
        gain, gain_at = np.inf, np.inf
    elif line.slope < 0.0:
        loss, loss_at = np.inf, np.inf
    return Extremes(gain, loss, gain_at, loss_at, float(line.values[0]), line.slope)


def zeros(line: PiecewiseLinear) -> BreakEvens:
    """The zeros of a piecewise linear function: single points, and stretches on which it is zero."""
    values = np.where(np.abs(line.values) <= line.noise, 0.0, line.values)
    crossing = np.flatnonzero(values[:-1] * values[1:] < 0.0)
    share = values[crossing] / (values[crossing] - values[crossing + 1])
    roots = list(line.knots[crossing] + share * np.diff(line.knots)[crossing])
    if values[-1] * line.slope < 0.0:
        roots.append(line.knots[-1] - values[-1] / line.slope)
    stretches: list[tuple[float, float]] = []
    flat_next = np.append(values[1:] == 0.0, line.slope == 0.0)  # the piece after each knot is zero, if the knot is
    ends = np.append(line.knots[1:], np.inf)
    at = 0
    while at < len(values):
        if values[at] != 0.0:
            at += 1
            continue
        start, first = line.knots[at], at
        while at < len(values) and values[at] == 0.0 and flat_next[at]:
            at += 1
        if at == first:
            roots.append(start)
        else:
            stretches.append((float(start), float(ends[at - 1])))
        at += 1
    return BreakEvens(np.sort(np.array(roots, np.float64)), np.array(stretches, np.float64).reshape(-1, 2))


def intrinsic(leg: Leg, spot: Values) -> Values:
    """What one unit of the leg is worth at expiration; stock is worth the spot."""
    if not leg.is_option:
        return spot
    return np.maximum(leg.right * (spot - leg.strike), 0.0)


def _require_one_expiration(position: Position) -> None:
    if not position.one_expiration:
        raise ValueError("position must have one expiration; for several, see value_at_first_expiration")
