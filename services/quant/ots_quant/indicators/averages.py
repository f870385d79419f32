"""Moving averages of a price."""

from __future__ import annotations

import talib
from numpy.typing import ArrayLike

from ots_quant.indicators.panels import Series, panel, whole


def sma(close: ArrayLike, period: int) -> Series:
    """Simple moving average of the last ``period`` bars; from bar ``period`` - 1 on. Period 2 or more.

    Source: TA-Lib SMA.
    """
    return panel(close=close).one(talib.SMA, whole("period", period, 2))


def ema(close: ArrayLike, period: int) -> Series:
    """Exponential moving average, alpha = 2 / (period + 1), begun with the SMA of the first ``period`` bars.

    Period 2 or more. Source: TA-Lib EMA.
    """
    return panel(close=close).one(talib.EMA, whole("period", period, 2))


def wma(close: ArrayLike, period: int) -> Series:
    """Weighted moving average, weights 1, 2, ..., ``period`` with the newest heaviest. Period 2 or more.

    Source: TA-Lib WMA.
    """
    return panel(close=close).one(talib.WMA, whole("period", period, 2))


def dema(close: ArrayLike, period: int) -> Series:
    """Double exponential moving average, 2 EMA - EMA(EMA); from bar 2 (period - 1) on. Period 2 or more.

    Source: TA-Lib DEMA; P. Mulloy, Stocks & Commodities 12:1 (1994).
    """
    return panel(close=close).one(talib.DEMA, whole("period", period, 2))


def tema(close: ArrayLike, period: int) -> Series:
    """Triple exponential moving average, 3 EMA - 3 EMA(EMA) + EMA(EMA(EMA)); from bar 3 (period - 1) on.

    Period 2 or more. Source: TA-Lib TEMA; P. Mulloy, Stocks & Commodities 12:1 (1994).
    """
    return panel(close=close).one(talib.TEMA, whole("period", period, 2))


def kama(close: ArrayLike, period: int) -> Series:
    """Kaufman's adaptive moving average: an EMA between 2 and 30 bars by the efficiency ratio over ``period`` bars.

    From bar ``period`` on. Period 2 or more. Source: TA-Lib KAMA; P. Kaufman, Trading Systems and Methods (1998).
    """
    return panel(close=close).one(talib.KAMA, whole("period", period, 2))


def hma(close: ArrayLike, period: int) -> Series:
    """Hull's moving average: WMA of 2 WMA(period // 2) - WMA(period) over floor(sqrt(period)) bars. Period 2 or more.

    Source: TA-Lib HMA; A. Hull (2005).
    """
    return panel(close=close).one(talib.HMA, whole("period", period, 2))
