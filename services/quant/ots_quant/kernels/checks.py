"""Whether bars are as they should be, in one pass that numpy would take several for."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from ots_quant.compiled import FLOAT, INT, READ, READ_INTS, kernel

Values = NDArray[np.float64]
Ids = NDArray[np.int64]

# beyond these no product of prices and volumes is certain to stay a finite number
LARGEST, SMALLEST = 1e100, 1e-100


@kernel(types.int64(READ, FLOAT))
def outside(values: Values, least: float) -> int:
    """How many values do not lie in [least, LARGEST); NaN and infinities do not."""
    count = 0
    for i in range(len(values)):
        count += 0 if (values[i] >= least) & (values[i] < LARGEST) else 1
    return count


@kernel(types.int64(READ, READ, FLOAT))
def ranges(high: Values, low: Values, least: float) -> int:
    """How many bars do not have least <= low <= high < LARGEST."""
    count = 0
    for i in range(len(high)):
        count += 0 if (low[i] >= least) & (high[i] >= low[i]) & (high[i] < LARGEST) else 1
    return count


@kernel(types.int64(READ, READ, READ, FLOAT))
def bars(high: Values, low: Values, close: Values, least: float) -> int:
    """How many bars do not have least <= low <= high < LARGEST, or have a close outside [least, LARGEST)."""
    count = 0
    for i in range(len(high)):
        right = (low[i] >= least) & (high[i] >= low[i]) & (high[i] < LARGEST)
        count += 0 if right & (close[i] >= least) & (close[i] < LARGEST) else 1
    return count


@kernel(types.int64(READ, READ, READ, READ, FLOAT))
def traded_bars(high: Values, low: Values, close: Values, volume: Values, least: float) -> int:
    """As `bars`, or have a volume outside [0, LARGEST)."""
    count = 0
    for i in range(len(high)):
        right = (low[i] >= least) & (high[i] >= low[i]) & (high[i] < LARGEST)
        right = right & (close[i] >= least) & (close[i] < LARGEST)
        count += 0 if right & (volume[i] >= 0.0) & (volume[i] < LARGEST) else 1
    return count


@kernel(types.int64(READ_INTS))
def sessions_go_back(session: Ids) -> int:
    """How many bars of sessions (0 or more) come after a bar of a later session."""
    count, latest = 0, np.int64(-1)
    for i in range(len(session)):
        if session[i] >= 0:
            count += 1 if session[i] < latest else 0
            latest = session[i]
    return count


@kernel(types.int64(READ_INTS, READ_INTS, INT))
def slots_go_back(session: Ids, slot: Ids, limit: int) -> int:
    """How many bars of sessions have a slot outside [0, limit), or not above that of the bar before in the session."""
    count, current, latest = 0, np.int64(-1), np.int64(-1)
    for i in range(len(session)):
        if session[i] >= 0:
            if session[i] != current:
                latest = np.int64(-1)
            count += 1 if slot[i] <= latest or slot[i] < 0 or slot[i] >= limit else 0
            current, latest = session[i], slot[i]
    return count
