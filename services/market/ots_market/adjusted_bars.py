"""Stored bars as numbers to compute with: dollars and shares, adjusted for splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ots_market.adjustments import Split, split_factors
from ots_market.bars import Bars
from ots_market.timeframes import Timeframe


def adjusted_columns(bars: Bars, splits: list[Split], timeframe: Timeframe) -> dict[str, NDArray[np.float64]]:
    """``open``, ``high``, ``low``, ``close`` in dollars and ``volume`` in shares, each of shape (n,)."""
    factors = split_factors(splits, bars.starts, daily=timeframe is Timeframe.D1)
    prices = {name: bars.dollars(name) / factors for name in ("open", "high", "low", "close")}
    return {**prices, "volume": bars.volume * factors}
