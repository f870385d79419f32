"""Every slice fitted by itself; `coupling` takes over where arbitrage is left.

Start: for each of a grid of centres and widths SVI is linear in the other three parameters (Zeliade 2009,
Quasi-explicit calibration of Gatheral's SVI model); the best of the grid begins a Levenberg-Marquardt descent of every
slice, each with a damping of its own (Marquardt 1963, SIAM J. 11(2), 431), under a slight pull to a usual smile.

Error: (model volatility - mid volatility) in half-spreads. A quote that is off by more than three deviations of the
noise, and by more than its own half-spread, counts less the further off it is: a stale quote has a bounded pull.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.kernels import surface as kernels
from ots_quant.surface import normal

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

START_CENTRES = np.array([-2.0, -0.7, 0.0, 0.7, 2.0])
START_WIDTHS = np.array([0.15, 0.6, 1.6, 4.0])

_START_POINTS = 25  # of each slice, enough to choose among grid nodes
_STEPS = 60
_OUTLIER_ROUNDS = 10
_SAME_TRUST = 0.01
_NEIGHBOURS = 7
_QUARTILE_OF_NORMAL = 0.3186  # a quarter of normal deviates are within this
_CONVERGED = 1e-9  # relative decrease of the cost


class Targets(NamedTuple):
    """What the slices are fitted to: (slices, points), ascending in x, then padded with weight 0; theta (slices,)."""

    x: Values
    v: Values
    weight: Values
    """Half-spreads per unit of v: the residual is weight * (model v - v)."""
    theta: Values


def fit_independent(targets: Targets) -> tuple[Values, Values]:
    """Parameters (slices, 5), and the trust in each point (1 fully, towards 0 for outliers)."""
    trust = np.ones(targets.x.shape)
    limit = _outlier_limit(targets)[:, None]
    parameters = descend(_start(targets), targets, trust)
    suspect = (_distance(parameters, targets) > 2.0 * limit).any(axis=1)
    if suspect.any():  # outliers may have bent the fit so far that it hides them: begin again without them
        part = Targets(*(values[suspect] for values in targets))
        trust[suspect] = _agreement_with_neighbours(part)
        start = _start(part._replace(weight=part.weight * np.sqrt(trust[suspect])))
        parameters[suspect] = descend(start, part, trust[suspect])
    for _ in range(_OUTLIER_ROUNDS):
        new = _trusted(_distance(parameters, targets), limit)
        moved = (np.abs(new - trust) > _SAME_TRUST).any(axis=1)
        if not moved.any():
            break
        trust[moved] = new[moved]
        part = Targets(*(values[moved] for values in targets))
        parameters[moved] = descend(parameters[moved], part, trust[moved])
    return parameters, trust


def _trusted(off: Values, allowed: Values) -> Values:
    """1 within what is allowed, and beyond it so little that a point further off pulls less, not more."""
    square = np.square(allowed / np.maximum(off, allowed))
    return square * square


def _distance(parameters: Values, targets: Targets) -> Values:
    """Half-spreads between the model and each point."""
    distance: Values = np.abs(targets.weight * (normal.values(parameters, targets.x) - targets.v))
    return distance


def _agreement_with_neighbours(targets: Targets) -> Values:
    """Near 0 for a point far from the median of the seven points around it, by their own scatter and its half-spread.

    (Hampel's identifier; a smile that only rises or falls over the seven is well inside three of its deviations.)
    """
    counts = (targets.weight > 0).sum(axis=1)[:, None]
    points = targets.x.shape[1]
    first = np.clip(np.arange(points) - _NEIGHBOURS // 2, 0, np.maximum(counts - _NEIGHBOURS, 0))
    window = np.minimum(first[:, :, None] + np.arange(_NEIGHBOURS), points - 1)
    inside = window < counts[:, :, None]
    v = np.take_along_axis(targets.v[:, None, :], window, axis=2)
    middle = np.minimum(counts, _NEIGHBOURS)[:, :, None] // 2
    median = np.take_along_axis(np.sort(np.where(inside, v, np.inf), axis=2), middle, axis=2)
    scatter = np.sort(np.where(inside, np.abs(v - median), np.inf), axis=2)
    scatter = 1.4826 * np.take_along_axis(scatter, middle, axis=2)[:, :, 0]
    used = targets.weight > 0
    allowed = 3.0 * np.maximum(scatter, 1.0 / np.where(used, targets.weight, 1.0))
    off = np.where(used, np.abs(targets.v - median[:, :, 0]), 0.0)
    return np.where(used, _trusted(off, allowed), 1.0)


def _outlier_limit(targets: Targets) -> Values:
    """Half-spreads from which a point of a slice counts less: three deviations of its noise, and one at least.

    The noise is taken from each point against the line through its two neighbours, not from a fit that the outliers may
    have bent; its lower quartile stands as long as less than a quarter of the points are off.
    """
    x, v, weight = targets.x, targets.v, targets.weight
    if x.shape[1] < 3:
        return np.ones(x.shape[0])
    used = (weight[:, :-2] > 0) & (weight[:, 1:-1] > 0) & (weight[:, 2:] > 0)
    one, own, other = (np.where(used, part, 1.0) for part in (weight[:, :-2], weight[:, 1:-1], weight[:, 2:]))
    gap = x[:, 2:] - x[:, :-2]
    share = np.where(gap > 0, (x[:, 1:-1] - x[:, :-2]) / np.where(gap > 0, gap, 1.0), 0.5)
    off = own * np.abs(v[:, 1:-1] - (1.0 - share) * v[:, :-2] - share * v[:, 2:])
    off = off / np.sqrt(1.0 + ((1.0 - share) * own / one) ** 2 + (share * own / other) ** 2)
    ordered = np.sort(np.where(used, off, np.inf), axis=1)
    quartile = ordered[np.arange(x.shape[0]), used.sum(axis=1) // 4]
    return np.where(used.any(axis=1), np.maximum(3.0 * quartile / _QUARTILE_OF_NORMAL, 1.0), 1.0)


def _start(targets: Targets) -> Values:
    """The best node of the grid for each slice."""
    x, v, weight = _thinned(targets)
    centre, width = (axis.reshape(-1) for axis in np.meshgrid(START_CENTRES, START_WIDTHS, indexing="ij"))
    distance = x[:, None, :] - centre[:, None]
    root = np.sqrt(distance**2 + width[:, None] ** 2)
    w = np.broadcast_to((weight**2)[:, None, :], distance.shape)
    level, tilt, slope = _linear_svi(distance, root, v[:, None, :], w)
    slope = np.clip(slope, 1e-3, None)
    tilt = np.clip(tilt, -0.98 * slope, 0.98 * slope)
    total = np.maximum(w.sum(axis=2), 1e-300)
    bent = tilt[..., None] * distance + slope[..., None] * root
    level = (w * (v[:, None, :] - bent)).sum(axis=2) / total
    least = np.maximum(level + width * np.sqrt(slope**2 - tilt**2), 1e-2)
    level = least - width * np.sqrt(slope**2 - tilt**2)
    cost = (w * (level[..., None] + bent - v[:, None, :]) ** 2).sum(axis=2)
    best = np.argmin(cost, axis=1)
    row = np.arange(best.size)
    slope, tilt, least = slope[row, best], tilt[row, best], least[row, best]
    start = np.stack(
        [np.log(least), np.log(slope - tilt), np.log(slope + tilt), centre[best], np.log(width[best])], axis=1
    )
    return normal.bounded(start, targets.theta)


def _thinned(targets: Targets) -> tuple[Values, Values, Values]:
    """Every so manieth point by moneyness."""
    points = targets.x.shape[1]
    if points <= _START_POINTS:
        return targets.x, targets.v, targets.weight
    counts = np.maximum((targets.weight > 0).sum(axis=1), 1)
    order = np.argsort(np.where(targets.weight > 0, targets.x, np.inf), axis=1)
    chosen = (np.linspace(0.0, 1.0, _START_POINTS) * (counts[:, None] - 1)).astype(np.intp)
    chosen = np.take_along_axis(order, chosen, axis=1)
    x, v, weight = (np.take_along_axis(values, chosen, axis=1) for values in targets[:3])
    return x, v, weight


def _linear_svi(distance: Values, root: Values, v: Values, w: Values) -> tuple[Values, Values, Values]:
    """Weighted least squares of v = level + tilt * distance + slope * root, for every slice and node."""
    basis = np.stack([np.ones(distance.shape), distance, root], axis=-2)
    weighted = basis * w[..., None, :]
    matrix = weighted @ np.swapaxes(basis, -1, -2)
    scale = np.sqrt(np.maximum(np.diagonal(matrix, axis1=-2, axis2=-1), 1e-300))
    matrix = matrix / scale[..., :, None] / scale[..., None, :] + 1e-10 * np.eye(3)
    moment = (weighted @ v[..., :, None])[..., 0] / scale
    solution = np.linalg.solve(matrix, moment[..., None])[..., 0] / scale
    return solution[..., 0], solution[..., 1], solution[..., 2]


def descend(parameters: Values, targets: Targets, trust: Values) -> Values:
    """Levenberg-Marquardt on every slice: compiled."""
    result = np.ascontiguousarray(parameters)
    result = result.copy() if result is parameters else result
    low, high = normal.bounds(targets.theta)
    kernels.descend(
        result,
        np.ascontiguousarray(targets.x),
        np.ascontiguousarray(targets.v),
        targets.weight * np.sqrt(trust),
        low,
        high,
        normal.USUAL,
        normal.PULL,
        _STEPS,
        _CONVERGED,
    )
    return result


class _State(NamedTuple):
    """Where a descent is: parameters, cost, and the normal equations there."""

    parameters: Values
    cost: Values
    matrix: Values
    gradient: Values


def descend_reference(parameters: Values, targets: Targets, trust: Values) -> Values:
    """The same as arrays over all slices at once; a slice that has converged is left out of further work."""
    result = parameters.copy()
    live = np.arange(parameters.shape[0])
    work = targets._replace(weight=targets.weight * np.sqrt(trust))
    state = _evaluated(parameters, work)
    damping = np.full(live.size, 1e-3)
    for _ in range(_STEPS):
        if live.size == 0:
            break
        step = _damped_step(state.matrix, state.gradient, damping)
        there = _evaluated(normal.bounded(state.parameters + step, work.theta), work)
        better = there.cost <= state.cost
        gain = np.where(better, state.cost - there.cost, np.inf)
        state = _State(*(_chosen(better, new, old) for new, old in zip(there, state, strict=True)))
        damping = np.where(better, damping * 0.1, damping * 4.0)
        finished = (gain <= _CONVERGED * state.cost) | (damping > 1e9)
        if finished.any():
            result[live[finished]] = state.parameters[finished]
            more = ~finished
            live, damping = live[more], damping[more]
            work, state = Targets(*(values[more] for values in work)), _State(*(values[more] for values in state))
    result[live] = state.parameters
    return result


def _evaluated(parameters: Values, targets: Targets) -> _State:
    model, by = normal.slopes(parameters, targets.x)
    residual = targets.weight * (model - targets.v)
    by *= targets.weight[:, None, :]
    unusual = normal.PULL * (parameters - normal.USUAL)
    return _State(
        parameters,
        (residual**2).sum(axis=1) + (unusual**2).sum(axis=1),
        by @ np.swapaxes(by, 1, 2) + np.diag(normal.PULL**2),
        (by @ residual[:, :, None])[:, :, 0] + normal.PULL * unusual,
    )


def _chosen(better: Mask, new: Values, old: Values) -> Values:
    return np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _damped_step(matrix: Values, gradient: Values, damping: Values) -> Values:
    """Solution of (H + damping diag H) step = -gradient, for every slice."""
    diagonal = np.diagonal(matrix, axis1=1, axis2=2)
    ridge = damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    damped = matrix + ridge[:, :, None] * np.eye(matrix.shape[1])
    return -np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
