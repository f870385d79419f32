"""Slices that contradict each other or themselves, fitted together under penalties until the contradiction is gone.

Each slice pays for g(k) < 0 (butterfly) and each neighbouring pair for total variance that falls with time at one
forward moneyness (calendar; Gatheral & Jacquier 2014, section 5.2), as hinges squared whose weight grows until the scan
of the certificate finds nothing. One Levenberg-Marquardt descent over all parameters of all slices at once, because what
one slice gives up its neighbour must take.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.surface import normal
from ots_quant.surface.certificate import Grid, Range, pair_grid, scan, slice_grid
from ots_quant.surface.fit import Targets
from ots_quant.surface.slices import total_variance, Slices

Values = NDArray[np.float64]

_PENALTIES = 10.0 ** np.arange(2, 11)
_OUTSIDE = 0.1  # share of the penalty where nothing is quoted
_STEPS = 30
_CONVERGED = 1e-6
_MARGIN = 1e-4  # of g, and of total variance: a hinge squared stops just short of its edge, which is here


class _Constraints(NamedTuple):
    """Where to look, in the scaled moneyness of each slice, and how much each point counts."""

    slice_x: Values
    slice_weight: Values
    earlier_x: Values
    later_x: Values
    pair_weight: Values
    pair_scale: Values
    """Total variance that a fall is measured against."""


def without_arbitrage(
    parameters: Values, targets: Targets, trust: Values, years: Values, quoted: Range
) -> Values:
    """Parameters near ``parameters`` whose scan is clean, as far as growing penalties reach; unchanged if it is."""
    weighted = targets._replace(weight=targets.weight * np.sqrt(trust))
    for penalty in _PENALTIES:
        found = scan(normal.raw(parameters, targets.theta), years, quoted, inside=121, outside=41)
        if found.count == 0:
            break
        constraints = _constraints(parameters, targets.theta, quoted)
        parameters = _descend(parameters, weighted, constraints, float(penalty))
    return parameters


def _constraints(parameters: Values, theta: Values, quoted: Range) -> _Constraints:
    slices = normal.raw(parameters, theta)
    own = slice_grid(quoted, slices, inside=61, outside=21)
    pairs = pair_grid(quoted, slices, inside=61, outside=21)
    root = np.sqrt(theta)[:, None]
    later = Slices(*(values[1:] for values in slices))
    return _Constraints(
        slice_x=own.k / root,
        slice_weight=_weights(own),
        earlier_x=pairs.k / root[:-1],
        later_x=pairs.k / root[1:],
        pair_weight=_weights(pairs),
        pair_scale=np.maximum(total_variance(later, pairs.k).w, 1e-3 * theta[1:, None]),
    )


def _weights(grid: Grid) -> Values:
    return np.where(grid.inside, 1.0, _OUTSIDE)


class _System(NamedTuple):
    cost: float
    matrix: Values
    """(5 slices, 5 slices)."""
    gradient: Values


def _descend(parameters: Values, targets: Targets, constraints: _Constraints, penalty: float) -> Values:
    damping = 1e-3
    here = _system(parameters, targets, constraints, penalty)
    for _ in range(_STEPS):
        diagonal = np.diagonal(here.matrix)
        ridge = damping * diagonal + 1e-12 * diagonal.max() + 1e-300
        step = np.linalg.solve(here.matrix + np.diag(ridge), -here.gradient).reshape(parameters.shape)
        moved = normal.bounded(parameters + step, targets.theta)
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


def _system(parameters: Values, targets: Targets, constraints: _Constraints, penalty: float) -> _System:
    slices = parameters.shape[0]
    blocks = np.zeros((slices, 5, slices, 5))
    gradient = np.zeros((slices, 5))
    own = np.arange(slices)

    model, by = normal.slopes(parameters, targets.x)
    residual = targets.weight * (model - targets.v)
    by *= targets.weight[:, None, :]
    blocks[own, :, own, :] += by @ np.swapaxes(by, 1, 2)
    gradient += _projected(by, residual)
    cost = float((residual**2).sum())

    residual, by = _butterfly_hinges(parameters, targets.theta, constraints, penalty)
    blocks[own, :, own, :] += by @ np.swapaxes(by, 1, 2)
    gradient += _projected(by, residual)
    cost += float((residual**2).sum())

    residual, by_earlier, by_later = _calendar_hinges(parameters, targets.theta, constraints, penalty)
    earlier, later = own[:-1], own[1:]
    blocks[earlier, :, earlier, :] += by_earlier @ np.swapaxes(by_earlier, 1, 2)
    blocks[later, :, later, :] += by_later @ np.swapaxes(by_later, 1, 2)
    across = by_earlier @ np.swapaxes(by_later, 1, 2)
    blocks[earlier, :, later, :] += across
    blocks[later, :, earlier, :] += np.swapaxes(across, 1, 2)
    gradient[:-1] += _projected(by_earlier, residual)
    gradient[1:] += _projected(by_later, residual)
    cost += float((residual**2).sum())
    return _System(cost, blocks.reshape(5 * slices, 5 * slices), gradient.reshape(-1))


def _projected(by: Values, residual: Values) -> Values:
    projected: Values = (by @ residual[:, :, None])[:, :, 0]
    return projected


def _butterfly_hinges(
    parameters: Values, theta: Values, constraints: _Constraints, penalty: float
) -> tuple[Values, Values]:
    """max(0, margin - g) and its derivatives, weighted; g in the scaled coordinates of `normal`."""
    x = constraints.slice_x
    v, v_x, v_xx, by, by_x, by_xx = normal.jet(parameters, x)
    half = x * v_x / (2.0 * v)
    g = (1.0 - half) ** 2 - v_x**2 / 4.0 * (1.0 / v + theta[:, None] / 4.0) + v_xx / 2.0
    weight = np.sqrt(penalty * constraints.slice_weight) * (g < _MARGIN)
    g_v = 2.0 * (1.0 - half) * half / v + v_x**2 / (4.0 * v**2)
    g_v_x = -(1.0 - half) * x / v - v_x / 2.0 * (1.0 / v + theta[:, None] / 4.0)
    slope = g_v[:, None] * by + g_v_x[:, None] * by_x + 0.5 * by_xx
    return weight * (_MARGIN - g), -weight[:, None] * slope


def _calendar_hinges(
    parameters: Values, theta: Values, constraints: _Constraints, penalty: float
) -> tuple[Values, Values, Values]:
    """max(0, (earlier - later) / scale + margin) and its derivatives by the parameters of both, weighted."""
    earlier, by_earlier = normal.slopes(parameters[:-1], constraints.earlier_x)
    later, by_later = normal.slopes(parameters[1:], constraints.later_x)
    to_earlier = theta[:-1, None] / constraints.pair_scale
    to_later = theta[1:, None] / constraints.pair_scale
    fall = to_earlier * earlier - to_later * later + _MARGIN
    weight = np.sqrt(penalty * constraints.pair_weight) * (fall > 0)
    return weight * fall, (weight * to_earlier)[:, None] * by_earlier, -(weight * to_later)[:, None] * by_later
