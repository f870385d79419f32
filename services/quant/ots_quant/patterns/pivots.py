"""Pivots: the swings of a price, by a zigzag whose step follows the volatility.

A high is a pivot once a close lies two average true ranges below it, and a low likewise; so a pivot is known some bars
after it happened, and carries both times. The ATR is the one of the confirming bar, so nothing later matters.

Source: the zigzag of chart software, with the ATR (W. Wilder, 1978) in place of its fixed percentage; as in
C. L. Osler and P. H. K. Chang, "Head and Shoulders: Not Just a Flaky Pattern" (1995), which scales by volatility.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ots_quant.kernels import patterns as kernels
from ots_quant.patterns.model import Pivots, PriceBars

REVERSAL_ATR = 2.0
# where nothing moves the ATR goes to zero; the last digits of a price are no swing
_LEAST_REVERSAL = 1e-6


def find_pivots(bars: PriceBars, atr: NDArray[np.float64], reversal_atr: float = REVERSAL_ATR) -> Pivots:
    """The confirmed pivots of n bars, given their average true range (shape (n,), NaN while unknown)."""
    n = len(bars)
    index, kind, confirmed = (np.empty(n, np.int64) for _ in range(3))
    price = np.empty(n)
    reversal = np.maximum(reversal_atr * atr, _LEAST_REVERSAL * bars.close)
    count = kernels.zigzag(bars.high, bars.low, bars.close, reversal, index, price, kind, confirmed)
    return Pivots._make(column[:count].copy() for column in (index, price, kind, confirmed))
