"""First passage of a Brownian motion through one or two barriers that move with time.

With W a standard Brownian motion, u the upper barrier and F the distribution of its first passage, whoever is at or
above u(t) at t has touched u before:

    N(-u(t) / sqrt(t)) = integral over s from 0 to t of N(-(u(t) - u(s)) / sqrt(t - s)) dF(s)

(Peskir, "On integral equations arising in the first-passage problem for Brownian motion", J. Integral Equations Appl.
14 (2002), eq. 1.1). With a second barrier d below, a path beyond either barrier has touched one of them first, which
gives two such equations for the two distributions. Time is cut into steps, over each of which the passages are spread
evenly, and the equations are solved step by step (Park and Schuurmann, J. Appl. Prob. 13 (1976)). A flat barrier comes
out exact at any number of steps, because N(0) = 1/2 is the law of reflection; the error of a moving one goes with the
square of the step, so that two solutions extrapolate: 16 and 32 steps err by under 1e-4 (two barriers: 5e-4) for
barriers that drift by 1.5 standard deviations within the horizon, 1e-5 (3e-5) for half a standard deviation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from ots_quant.density.assumptions import Values


class Steps(NamedTuple):
    """m steps from 0 to n horizons: their edges as fractions of a horizon (m + 1,), and the horizons in years (n,)."""

    edges: Values
    horizon: Values

    @property
    def ends(self) -> Values:
        """The ends of the steps in years, (m, n)."""
        return self.edges[1:, None] * self.horizon

    @property
    def middles(self) -> Values:
        """The middles of the steps in years, (m, n)."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])[:, None] * self.horizon


def graded_steps(horizon: Values, count: int) -> Steps:
    """Steps from 0 to ``horizon`` (n,) that widen quadratically, because a near barrier is touched soon or not."""
    return Steps((np.arange(count + 1) / count) ** 2, horizon)


class Barrier(NamedTuple):
    """A barrier in units of the Brownian motion at the ends and the middles of the steps, both of shape (m, n)."""

    ends: Values
    middles: Values


def pass_one(barrier: Barrier, steps: Steps) -> Values:
    """The probability (n,) that W passes a barrier that starts above 0, by the last step's end."""
    increments = np.zeros_like(barrier.ends)
    for i, level in enumerate(barrier.ends):
        reach = ndtr((barrier.middles[: i + 1] - level) * _same_side(steps, i))
        known = np.einsum("jn,jn->n", reach[:-1], increments[:i])
        increments[i] = (ndtr(-level / np.sqrt(steps.edges[i + 1] * steps.horizon)) - known) / reach[-1]
    return np.asarray(np.clip(increments.sum(axis=0), 0.0, 1.0))


def pass_either(upper: Barrier, lower: Barrier, steps: Steps) -> tuple[Values, Values]:
    """The probabilities (n,), (n,) that W passes the upper barrier first, and the lower one, by the last step's end."""
    ups, downs = np.zeros_like(upper.ends), np.zeros_like(upper.ends)
    for i, (above, below) in enumerate(zip(upper.ends, lower.ends, strict=True)):
        same, across = _same_side(steps, i), _across(steps, i)
        up_up = ndtr((upper.middles[: i + 1] - above) * same)
        up_down = ndtr((lower.middles[: i + 1] - above) * across)  # passed below first, above now
        down_up = ndtr((below - upper.middles[: i + 1]) * across)
        down_down = ndtr((below - lower.middles[: i + 1]) * same)
        root = np.sqrt(steps.edges[i + 1] * steps.horizon)
        to_up = ndtr(-above / root) - np.einsum("jn,jn->n", up_up[:-1], ups[:i])
        to_up -= np.einsum("jn,jn->n", up_down[:-1], downs[:i])
        to_down = ndtr(below / root) - np.einsum("jn,jn->n", down_up[:-1], ups[:i])
        to_down -= np.einsum("jn,jn->n", down_down[:-1], downs[:i])
        determinant = up_up[-1] * down_down[-1] - up_down[-1] * down_up[-1]
        ups[i] = (to_up * down_down[-1] - to_down * up_down[-1]) / determinant
        downs[i] = (to_down * up_up[-1] - to_up * down_up[-1]) / determinant
    up, down = np.clip(ups.sum(axis=0), 0.0, 1.0), np.clip(downs.sum(axis=0), 0.0, 1.0)
    scale = np.maximum(up + down, 1.0)
    return up / scale, down / scale


def _same_side(steps: Steps, i: int) -> Values:
    """What turns a barrier's rise since the middle of steps 0..i into standard deviations, (i + 1, n).

    A barrier's rise goes with the elapsed time e, so the argument of N goes with sqrt(e): it takes the mean of sqrt(e)
    over the step, where sqrt(e) at the middle would err most in the last step.
    """
    near, far = steps.edges[i + 1] - steps.edges[1 : i + 2], steps.edges[i + 1] - steps.edges[: i + 1]
    mean_root = 2.0 / 3.0 * (far**1.5 - near**1.5) / (far - near)
    return np.asarray((mean_root / (0.5 * (near + far)))[:, None] / np.sqrt(steps.horizon))


def _across(steps: Steps, i: int) -> Values:
    """What turns the distance from the other barrier at the middle of steps 0..i into standard deviations."""
    elapsed = steps.edges[i + 1] - 0.5 * (steps.edges[: i + 1] + steps.edges[1 : i + 2])
    return np.asarray(1.0 / np.sqrt(elapsed[:, None] * steps.horizon))
