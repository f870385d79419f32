"""First passage of recorded paths: many positions, each over its own stretch of a table of values."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numpy.typing import NDArray

from ots_quant.compiled import READ, READ_INTS, READ_TABLE, WRITE_INTS, WRITE_TABLE, kernel

Values = NDArray[np.float64]
Ints = NDArray[np.int64]

TARGET, STOP, TIMEOUT, NOT_LEFT, GAP = 0, 1, 2, 3, 4


@kernel(
    types.void(
        READ_TABLE, READ_TABLE, READ_TABLE, READ_INTS, READ_INTS, READ_INTS, READ_INTS, READ_INTS, READ, READ,
        WRITE_INTS, WRITE_INTS, WRITE_TABLE,
    )
)  # fmt: skip
def first_passage(
    last: Values, high: Values, low: Values, gap: Ints, row: Ints, first: Ints, stop_at: Ints, limit: Ints,
    upper: Values, lower: Values, code: Ints, column: Ints, found: Values,
) -> None:  # fmt: skip
    """See `ots_quant.passage.first_passage`. ``found``: rows of exit value, best, worst."""
    columns = last.shape[1]
    for i in range(len(row)):
        r = row[i]
        best, worst = -math.inf, math.inf
        code[i], column[i], found[i, 0] = NOT_LEFT, -1, math.nan
        for j in range(first[i], min(limit[i] + 1, columns)):
            if gap[j] != 0:
                code[i], column[i] = GAP, j
                break
            value = last[r, j]
            if math.isnan(value):
                continue
            lowest, highest = low[r, j], high[r, j]
            worst = min(worst, lowest)
            if lowest <= lower[i]:
                # which of two came first within a minute is not known: the worse one
                code[i], column[i], found[i, 0] = STOP, j, lowest
                best = max(best, min(highest, upper[i]))
                break
            if highest >= upper[i]:
                code[i], column[i], found[i, 0] = TARGET, j, upper[i]
                best = max(best, upper[i])
                break
            best = max(best, highest)
            if j >= stop_at[i]:
                code[i], column[i], found[i, 0] = TIMEOUT, j, value
                break
        found[i, 1] = best if best > -math.inf else math.nan
        found[i, 2] = worst if worst < math.inf else math.nan
