"""Levenberg-Marquardt descents of SVI slices, one after the other: the compiled form of `ots_quant.surface.fit`.

The slice and its parameters are those of `ots_quant.surface.normal`; `ots_quant.surface.fit.descend_reference` is the
same descent on arrays, and a test holds the two together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from ots_quant.compiled import FLOAT, INT, READ, READ_TABLE, WRITE, WRITE_TABLE, kernel

_WRITE_CUBE = types.Array(types.float64, 3, "C")


@kernel(FLOAT(READ, READ, READ, READ, READ, READ, WRITE_TABLE, WRITE))
def _normal_equations(p: Any, x: Any, v: Any, weight: Any, usual: Any, pull: Any, matrix: Any, gradient: Any) -> float:
    """Fill the lower triangle of J'J and J'r, and return r'r."""
    least, left, right, width = math.exp(p[0]), math.exp(p[1]), math.exp(p[2]), math.exp(p[4])
    centre = p[3]
    floor = width * math.sqrt(left * right)
    half_left, half_right, half_floor = 0.5 * left, 0.5 * right, 0.5 * floor
    slope, tilt, square = half_left + half_right, half_left - half_right, width * width
    cost = 0.0
    h00 = h10 = h11 = h20 = h21 = h22 = h30 = h31 = h32 = h33 = h40 = h41 = h42 = h43 = h44 = 0.0
    g0 = g1 = g2 = g3 = g4 = 0.0
    for i in range(x.size):
        w = weight[i]
        if w == 0.0:
            continue
        distance = x[i] - centre
        root = math.sqrt(distance * distance + square)
        low, high = half_left * (root - distance), half_right * (root + distance)
        inverse = slope / root
        r = w * ((least - floor) + low + high - v[i])
        d0 = w * least
        d1 = w * (low - half_floor)
        d2 = w * (high - half_floor)
        d3 = w * (tilt - inverse * distance)
        d4 = w * (square * inverse - floor)
        cost += r * r
        g0 += d0 * r
        g1 += d1 * r
        g2 += d2 * r
        g3 += d3 * r
        g4 += d4 * r
        h00 += d0 * d0
        h10 += d1 * d0
        h11 += d1 * d1
        h20 += d2 * d0
        h21 += d2 * d1
        h22 += d2 * d2
        h30 += d3 * d0
        h31 += d3 * d1
        h32 += d3 * d2
        h33 += d3 * d3
        h40 += d4 * d0
        h41 += d4 * d1
        h42 += d4 * d2
        h43 += d4 * d3
        h44 += d4 * d4
    matrix[0, 0], matrix[1, 0], matrix[1, 1], matrix[2, 0], matrix[2, 1] = h00, h10, h11, h20, h21
    matrix[2, 2], matrix[3, 0], matrix[3, 1], matrix[3, 2], matrix[3, 3] = h22, h30, h31, h32, h33
    matrix[4, 0], matrix[4, 1], matrix[4, 2], matrix[4, 3], matrix[4, 4] = h40, h41, h42, h43, h44
    gradient[0], gradient[1], gradient[2], gradient[3], gradient[4] = g0, g1, g2, g3, g4
    for j in range(5):
        unusual = pull[j] * (p[j] - usual[j])
        cost += unusual * unusual
        gradient[j] += pull[j] * unusual
        matrix[j, j] += pull[j] * pull[j]
    return cost


@kernel(types.boolean(READ_TABLE, READ, FLOAT, WRITE_TABLE, WRITE))
def _solve_damped(matrix: Any, gradient: Any, damping: float, factor: Any, step: Any) -> bool:
    """(H + damping diag H) step = -gradient by Cholesky; False where rounding has made the matrix indefinite."""
    largest = 0.0
    for i in range(5):
        largest = max(largest, matrix[i, i])
    for i in range(5):
        for j in range(i + 1):
            total = matrix[i, j]
            if i == j:
                total += damping * matrix[i, i] + 1e-12 * largest + 1e-300
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i == j:
                if not total > 0.0:
                    return False
                factor[i, i] = math.sqrt(total)
            else:
                factor[i, j] = total / factor[j, j]
    for i in range(5):
        total = -gradient[i]
        for k in range(i):
            total -= factor[i, k] * step[k]
        step[i] = total / factor[i, i]
    for i in range(4, -1, -1):
        total = step[i]
        for k in range(i + 1, 5):
            total -= factor[k, i] * step[k]
        step[i] = total / factor[i, i]
    return True


@kernel(types.void(WRITE_TABLE, READ_TABLE, READ_TABLE, READ_TABLE, READ_TABLE, READ_TABLE, READ, READ, INT, FLOAT))
def descend(
    parameters: Any,
    x: Any,
    v: Any,
    weight: Any,
    low: Any,
    high: Any,
    usual: Any,
    pull: Any,
    steps: int,
    converged: float,
) -> None:
    """Improve ``parameters`` (slices, 5) in place, within ``low`` and ``high``."""
    here, there = np.empty(5), np.empty(5)
    matrix, new_matrix, factor = np.zeros((5, 5)), np.zeros((5, 5)), np.zeros((5, 5))
    gradient, new_gradient, step = np.empty(5), np.empty(5), np.empty(5)
    for row in range(parameters.shape[0]):
        here[:] = parameters[row]
        cost = _normal_equations(here, x[row], v[row], weight[row], usual, pull, matrix, gradient)
        damping = 1e-3
        for _ in range(steps):
            if not _solve_damped(matrix, gradient, damping, factor, step):
                step[:] = 0.0
            for j in range(5):
                there[j] = min(max(here[j] + step[j], low[row, j]), high[row, j])
            new_cost = _normal_equations(there, x[row], v[row], weight[row], usual, pull, new_matrix, new_gradient)
            if new_cost <= cost:
                gain = cost - new_cost
                here, there = there, here
                matrix, new_matrix = new_matrix, matrix
                gradient, new_gradient = new_gradient, gradient
                cost = new_cost
                damping *= 0.1
                if gain <= converged * cost:
                    break
            else:
                damping *= 4.0
                if damping > 1e9:
                    break
        parameters[row] = here


@kernel(types.void(READ_TABLE, READ_TABLE, READ_TABLE, READ_TABLE, READ, READ, WRITE, _WRITE_CUBE, WRITE_TABLE))
def normal_equations(
    parameters: Any,
    x: Any,
    v: Any,
    weight: Any,
    usual: Any,
    pull: Any,
    cost: Any,
    matrix: Any,
    gradient: Any,
) -> None:
    """r'r, J'J and J'r of every slice: ``cost`` (slices,), ``matrix`` (slices, 5, 5), ``gradient`` (slices, 5)."""
    for row in range(parameters.shape[0]):
        cost[row] = _normal_equations(
            parameters[row], x[row], v[row], weight[row], usual, pull, matrix[row], gradient[row]
        )
        for i in range(5):
            for j in range(i):
                matrix[row, j, i] = matrix[row, i, j]
