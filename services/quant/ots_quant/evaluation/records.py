"""Plain figures of a record of returns."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ots_quant.arguments import numbers


def profit_factor(returns: ArrayLike) -> float:
    """What was gained over what was lost; inf without a loss, NaN without either."""
    x = numbers("returns", returns)
    gained, lost = float(x[x > 0.0].sum()), float(-x[x < 0.0].sum())
    if lost == 0.0:
        return float("inf") if gained > 0.0 else float("nan")
    return gained / lost


def drawdown(returns: ArrayLike) -> float:
    """The deepest fall of the sum of returns (n,), in order, from its highest before; from 0, so a first loss counts.

    Returns on one unit of capital each time, not compounded: 2.5 is the loss of two and a half units. 0 for none.
    """
    x = numbers("returns", returns)
    if not x.size:
        return 0.0
    line = np.concatenate(([0.0], np.cumsum(x)))
    return float((np.maximum.accumulate(line) - line).max())
