"""Slices that contradict each other or themselves, fitted together under penalties until the contradiction is gone.

Each slice pays for g(k) < 0 (butterfly) and each neighbouring pair for total variance that falls with time at one
forward moneyness (calendar; Gatheral & Jacquier 2014, section 5.2), as hinges squared whose weight grows until the
scan of the certificate finds nothing. One Levenberg-Marquardt descent over all parameters of all slices at once,
because what one slice gives up its neighbour must take.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.kernels import surface as kernels
from ots_quant.surface import normal
from ots_quant.surface.certificate import Grid, Range, pair_grid, scan, slice_grid
from ots_quant.surface.fit import Targets
from ots_quant.surface.slices import Slices, Variance, butterfly, total_variance

Values = NDArray[np.float64]
Rows = NDArray[np.intp]

_PENALTIES = 10.0 ** np.arange(3, 14)
_OUTSIDE = 0.1  # share of the penalty where nothing is quoted
_STEPS = 30
_CONVERGED = 1e-4
_LIFT_MARGIN = 1e-6
_MARGIN = 1e-3  # of g, and of total variance: a hinge squared stops just short of its edge, which is here


class _Constraints(NamedTuple):
    """Where to look, (slices, points) and (pairs, points), and how much each point counts."""

    slice_x: Values
    slice_weight: Values
    pair_k: Values
    pair_weight: Values
    pair_scale: Values
    """Total variance that a fall is measured against."""

    def pair_x(self, theta: Values) -> tuple[Values, Values]:
        """The points of each pair in the scaled moneyness of the earlier and of the later slice."""
        root = np.sqrt(theta)[:, None]
        return self.pair_k / root[:-1], self.pair_k / root[1:]


def without_arbitrage(parameters: Values, targets: Targets, trust: Values, years: Values, quoted: Range) -> Values:
    """Parameters near ``parameters`` whose scan is clean, as far as growing penalties reach; unchanged if it is."""
    weighted = targets._replace(weight=targets.weight * np.sqrt(trust))
    for penalty in _PENALTIES:
        found = scan(normal.raw(parameters, targets.theta), years, quoted, inside=121, outside=41)
        if found.failing == 0:
            return parameters
        constraints = _constraints(parameters, targets.theta, quoted)
        parameters = _descend(parameters, weighted, constraints, float(penalty))
    return _lifted(parameters, targets.theta, quoted)


def _lifted(parameters: Values, theta: Values, quoted: Range) -> Values:
    """Each slice raised as a whole to where it is above the one before: what is left where quotes are nonsense."""
    lifted = parameters.copy()
    for row in range(1, theta.size):
        pair = slice(row - 1, row + 1)
        both = normal.raw(lifted[pair], theta[pair])
        k = pair_grid(Range(*(end[pair] for end in quoted)), both, inside=401, outside=101).k
        w = total_variance(both, np.repeat(k, 2, axis=0)).w
        fall = float((w[0] * (1.0 + _LIFT_MARGIN) - w[1]).max())
        if fall > 0:
            lifted[row, normal.LEAST] = np.log(np.exp(lifted[row, normal.LEAST]) + fall / theta[row])
    return normal.bounded(lifted, theta)


def _constraints(parameters: Values, theta: Values, quoted: Range) -> _Constraints:
    slices = normal.raw(parameters, theta)
    own = slice_grid(quoted, slices, inside=61, outside=21)
    pairs = pair_grid(quoted, slices, inside=61, outside=21)
    root = np.sqrt(theta)[:, None]
    later = Slices(*(values[1:] for values in slices))
    return _Constraints(
        slice_x=own.k / root,
        slice_weight=_weights(own),
        pair_k=pairs.k,
        pair_weight=_weights(pairs),
        pair_scale=np.maximum(total_variance(later, pairs.k).w, 1e-3 * theta[1:, None]),
    )


def _weights(grid: Grid) -> Values:
    return np.where(grid.inside, 1.0, _OUTSIDE)


class _System:
    """Cost, normal matrix and gradient, added up term by term; the matrix in blocks (slices, 5, slices, 5)."""

    def __init__(self, slices: int) -> None:
        self.cost = 0.0
        self.blocks = np.zeros((slices, 5, slices, 5))
        self.gradient = np.zeros((slices, 5))

    @property
    def matrix(self) -> Values:
        """(5 slices, 5 slices)."""
        size = self.gradient.size
        return self.blocks.reshape(size, size)

    def add_own(self, rows: Rows, residual: Values, by: Values) -> None:
        """Residuals (rows, points) that depend on one slice each, ``by`` (rows, 5, points) its parameters."""
        self.cost += float((residual**2).sum())
        self.blocks[rows, :, rows, :] += by @ np.swapaxes(by, 1, 2)
        self.gradient[rows] += (by @ residual[:, :, None])[:, :, 0]

    def add_pairs(self, earlier: Rows, residual: Values, by_earlier: Values, by_later: Values) -> None:
        """Residuals that depend on a slice and the next one."""
        later = earlier + 1
        self.add_own(earlier, residual, by_earlier)
        self.add_own(later, residual, by_later)
        self.cost -= float((residual**2).sum())  # was counted twice
        across = by_earlier @ np.swapaxes(by_later, 1, 2)
        self.blocks[earlier, :, later, :] += across
        self.blocks[later, :, earlier, :] += np.swapaxes(across, 1, 2)


def _descend(parameters: Values, targets: Targets, constraints: _Constraints, penalty: float) -> Values:
    damping = 1e-3
    low, high = normal.bounds(targets.theta)
    here = _system(parameters, targets, constraints, penalty)
    for _ in range(_STEPS):
        held = ((parameters <= low) & (here.gradient > 0)) | ((parameters >= high) & (here.gradient < 0))
        moved = np.clip(parameters + _step(here, held.reshape(-1), damping), low, high)
        there = _system(moved, targets, constraints, penalty)
        if there.cost <= here.cost:
            gain = here.cost - there.cost
            parameters, here, damping = moved, there, damping * 0.1
            if gain <= _CONVERGED * here.cost:
                break
        else:
            damping *= 4.0
            if damping > 1e9:
                break
    return parameters


def _step(system: _System, held: NDArray[np.bool_], damping: float) -> Values:
    """Solution of (H + damping diag H) step = -gradient, without the parameters that are held at their bounds."""
    free = ~held
    matrix = system.matrix[np.ix_(free, free)]
    diagonal = np.diagonal(matrix)
    ridge = damping * diagonal + 1e-12 * diagonal.max(initial=0.0) + 1e-300
    step = np.zeros(held.size)
    step[free] = np.linalg.solve(matrix + np.diag(ridge), -system.gradient.reshape(-1)[free])
    return step.reshape(system.gradient.shape)


def _system(parameters: Values, targets: Targets, constraints: _Constraints, penalty: float) -> _System:
    system = _System(parameters.shape[0])
    own = np.arange(parameters.shape[0])
    cost, matrix = np.empty(own.size), np.empty((own.size, 5, 5))
    kernels.normal_equations(
        np.ascontiguousarray(parameters),
        targets.x,
        targets.v,
        targets.weight,
        normal.USUAL,
        normal.PULL,
        cost,
        matrix,
        system.gradient,
    )
    system.cost = float(cost.sum())
    system.blocks[own, :, own, :] = matrix
    _add_butterfly(system, parameters, targets.theta, constraints, penalty)
    if own.size > 1:
        _add_calendar(system, parameters, targets.theta, constraints, penalty)
        _add_between(system, parameters, targets.theta, constraints, penalty)
    return system


def _add_butterfly(
    system: _System, parameters: Values, theta: Values, constraints: _Constraints, penalty: float
) -> None:
    """max(0, margin - g) of each slice."""
    x = constraints.slice_x
    g = butterfly(x * np.sqrt(theta)[:, None], _own_variance(parameters, theta, x))
    rows = np.flatnonzero((g < _MARGIN).any(axis=1))
    if rows.size == 0:
        return
    weight = np.sqrt(penalty * constraints.slice_weight[rows]) * (g[rows] < _MARGIN)
    root = np.sqrt(theta[rows])[:, None]
    slopes = _variance_slopes(parameters[rows], theta[rows], x[rows])
    by = _butterfly_slope(x[rows] * root, slopes)
    system.add_own(rows, weight * (_MARGIN - g[rows]), -weight[:, None] * by)


def _add_calendar(
    system: _System, parameters: Values, theta: Values, constraints: _Constraints, penalty: float
) -> None:
    """max(0, (earlier - later) / scale + margin) of each pair."""
    x_earlier, x_later = constraints.pair_x(theta)
    earlier = theta[:-1, None] * normal.values(parameters[:-1], x_earlier)
    later = theta[1:, None] * normal.values(parameters[1:], x_later)
    fall = (earlier - later) / constraints.pair_scale + _MARGIN
    rows = np.flatnonzero((fall > 0).any(axis=1))
    if rows.size == 0:
        return
    weight = np.sqrt(penalty * constraints.pair_weight[rows]) * (fall[rows] > 0)
    per_unit = weight / constraints.pair_scale[rows]
    _, by_earlier = normal.slopes(parameters[rows], x_earlier[rows])
    _, by_later = normal.slopes(parameters[rows + 1], x_later[rows])
    system.add_pairs(
        rows,
        weight * fall[rows],
        (per_unit * theta[rows, None])[:, None] * by_earlier,
        -(per_unit * theta[rows + 1, None])[:, None] * by_later,
    )


def _add_between(system: _System, parameters: Values, theta: Values, constraints: _Constraints, penalty: float) -> None:
    """max(0, margin - g) halfway in time between two slices, where the surface takes their mean."""
    x_earlier, x_later = constraints.pair_x(theta)
    ends = (
        _own_variance(parameters[:-1], theta[:-1], x_earlier),
        _own_variance(parameters[1:], theta[1:], x_later),
    )
    g = butterfly(constraints.pair_k, Variance(*((one + other) / 2.0 for one, other in zip(*ends, strict=True))))
    rows = np.flatnonzero((g < _MARGIN).any(axis=1))
    if rows.size == 0:
        return
    weight = np.sqrt(penalty * constraints.pair_weight[rows]) * (g[rows] < _MARGIN)
    earlier = _variance_slopes(parameters[rows], theta[rows], x_earlier[rows])
    later = _variance_slopes(parameters[rows + 1], theta[rows + 1], x_later[rows])
    middle = Variance(*((one + other) / 2.0 for one, other in zip(earlier.variance, later.variance, strict=True)))
    by_earlier, by_later = (
        _butterfly_slope(constraints.pair_k[rows], side._replace(variance=middle)) / 2.0 for side in (earlier, later)
    )
    system.add_pairs(rows, weight * (_MARGIN - g[rows]), -weight[:, None] * by_earlier, -weight[:, None] * by_later)


def _own_variance(parameters: Values, theta: Values, x: Values) -> Variance:
    return total_variance(normal.raw(parameters, theta), x * np.sqrt(theta)[:, None])


class _VarianceSlopes(NamedTuple):
    """w, w', w'' by k (slices, points), and their derivatives by the parameters (slices, 5, points)."""

    variance: Variance
    by_w: Values
    by_w_k: Values
    by_w_kk: Values


def _variance_slopes(parameters: Values, theta: Values, x: Values) -> _VarianceSlopes:
    v, v_x, v_xx, by, by_x, by_xx = normal.jet(parameters, x)
    theta = theta[:, None]
    root = np.sqrt(theta)
    variance = Variance(theta * v, root * v_x, v_xx)
    return _VarianceSlopes(variance, theta[..., None] * by, root[..., None] * by_x, by_xx)


def _butterfly_slope(k: Values, slopes: _VarianceSlopes) -> Values:
    """The derivatives of g(k) by the parameters (slices, 5, points)."""
    w, w_k, _ = slopes.variance
    half = k * w_k / (2.0 * w)
    g_w = 2.0 * (1.0 - half) * half / w + w_k**2 / (4.0 * w**2)
    g_w_k = -(1.0 - half) * k / w - w_k / 2.0 * (1.0 / w + 0.25)
    slope: Values = g_w[:, None] * slopes.by_w + g_w_k[:, None] * slopes.by_w_k + 0.5 * slopes.by_w_kk
    return slope
