"""What recorded positions touched first: target, stop, or the time, each over its own stretch of minutes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.kernels import passage as kernels
from ots_quant.kernels.passage import GAP, NOT_LEFT, STOP, TARGET, TIMEOUT

__all__ = ["GAP", "NOT_LEFT", "STOP", "TARGET", "TIMEOUT", "Passages", "first_passage"]

Values = NDArray[np.float64]
Ints = NDArray[np.int64]


class Passages(NamedTuple):
    """Arrays of shape (n,).

    code: TARGET, STOP, TIMEOUT, NOT_LEFT (no value where it had to be left), or GAP (minutes are missing before)
    column: of the exit or the gap; -1 where not left
    value: what leaving brought: the target itself, the least of the stop's minute, the last of the time's; NaN if none
    best, worst: of the minutes up to the exit; NaN where none had a value
    """

    code: Ints
    column: Ints
    value: Values
    best: Values
    worst: Values


def first_passage(
    last: ArrayLike,
    high: ArrayLike,
    low: ArrayLike,
    gap: ArrayLike,
    row: ArrayLike,
    first: ArrayLike,
    stop_at: ArrayLike,
    limit: ArrayLike,
    upper: ArrayLike,
    lower: ArrayLike,
) -> Passages:
    """Of n positions in tables of what leaving brought in each minute.

    ``last``, ``high``, ``low``: (rows, minutes), at the end of each minute and its extremes, NaN where nothing could
    be had. ``gap``: (minutes,), whether something may be missing. Each of shape (n,): ``row`` of the tables; the
    columns ``first`` to be looked at, ``stop_at`` of the time stop, ``limit`` after which a value comes too late; the
    values ``upper`` of the target and ``lower`` of the stop. A minute that touched both is a stop, and a gap ends all
    that was not left before it. Raises ValueError for shapes that do not fit, or rows and columns that are not there.
    """
    tables = [np.ascontiguousarray(x, np.float64) for x in (last, high, low)]
    gaps = np.ascontiguousarray(gap, np.int64)
    places = [np.ascontiguousarray(x, np.int64) for x in (row, first, stop_at, limit)]
    levels = [np.ascontiguousarray(x, np.float64) for x in (upper, lower)]
    n = len(places[0])
    if any(t.shape != tables[0].shape or t.ndim != 2 for t in tables) or gaps.shape != tables[0].shape[1:]:
        raise ValueError("last, high and low must be tables of one shape (rows, minutes), gap of shape (minutes,)")
    if any(x.shape != (n,) for x in (*places, *levels)):
        raise ValueError("row, first, stop_at, limit, upper and lower must have one shape (n,)")
    if n and (places[0].min() < 0 or places[0].max() >= tables[0].shape[0] or places[1].min() < 0):
        raise ValueError("row and first must lie in the tables")
    code, column, found = np.empty(n, np.int64), np.empty(n, np.int64), np.empty((n, 3))
    (ended, highest, lowest), (up, down) = tables, levels
    rows, begins, stops, limits = places
    kernels.first_passage(ended, highest, lowest, gaps, rows, begins, stops, limits, up, down, code, column, found)
    return Passages(code, column, found[:, 0], found[:, 1], found[:, 2])
