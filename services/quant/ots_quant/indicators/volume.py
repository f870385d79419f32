"""Volume: where it flowed."""

from __future__ import annotations

import talib
from numpy.typing import ArrayLike

from ots_quant.indicators.panels import Series, panel, whole


def obv(close: ArrayLike, volume: ArrayLike) -> Series:
    """On-balance volume: the volume of rising closes less that of falling ones, begun with the first bar's volume.

    Its level depends on where the series begins; only its changes mean something.
    Source: TA-Lib OBV; J. Granville (1963).
    """
    return panel(close=close, volume=volume).one(talib.OBV)


def ad(high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike) -> Series:
    """Accumulation / distribution line: the sum of volume ((close - low) - (high - close)) / (high - low).

    A bar without a range adds nothing. Its level depends on where the series begins. Source: TA-Lib AD; M. Chaikin.
    """
    return panel(high=high, low=low, close=close, volume=volume).one(talib.AD)


def cmf(high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike, period: int) -> Series:
    """Chaikin money flow: what A/D gained in ``period`` bars over their volume, -1 to 1; 0 where none was traded.

    Period 2 or more. Source: TA-Lib CMF; M. Chaikin.
    """
    return panel(high=high, low=low, close=close, volume=volume).one(talib.CMF, whole("period", period, 2))
