"""Oscillators: how fast, how far, how one-sided a price has moved.

Where nothing moved the ratio of an oscillator is 0 / 0, and its value TA-Lib's: 0 for RSI, the stochastics, CCI, MFI
and Williams' %R.
"""

from __future__ import annotations

from typing import NamedTuple

import talib
from numpy.typing import ArrayLike

from ots_quant.indicators.panels import Series, panel, whole

_SIMPLE = 0  # TA-Lib's code of the simple moving average


class Macd(NamedTuple):
    """MACD line, its signal line, and their difference; in the unit of the price."""

    macd: Series
    signal: Series
    histogram: Series


class Stochastic(NamedTuple):
    """%K and its moving average %D, 0 to 100."""

    k: Series
    d: Series


def rsi(close: ArrayLike, period: int) -> Series:
    """Relative strength index with Wilder's means, 0 to 100; from bar ``period`` on. Period 2 or more.

    Source: TA-Lib RSI; W. Wilder, New Concepts in Technical Trading Systems (1978), section VI.
    """
    return panel(close=close).one(talib.RSI, whole("period", period, 2))


def macd(close: ArrayLike, fast: int, slow: int, signal: int) -> Macd:
    """EMA(fast) - EMA(slow), both begun at bar ``slow`` - 1, its EMA(signal), and their difference.

    All from bar slow + signal - 2 on. ``fast`` and ``slow`` 2 or more, ``signal`` 1 or more.
    Raises ValueError when fast is not below slow. Source: TA-Lib MACD; G. Appel (1979).
    """
    if whole("fast", fast, 2) >= whole("slow", slow, 2):
        raise ValueError(f"fast ({fast}) must be below slow ({slow})")
    return Macd(*panel(close=close).many(talib.MACD, 3, fast, slow, whole("signal", signal, 1)))


def stochastic(high: ArrayLike, low: ArrayLike, close: ArrayLike, k: int, smooth: int, d: int) -> Stochastic:
    """Slow stochastic: where the close lies in the range of ``k`` bars, averaged over ``smooth``, and again over ``d``.

    Simple averages; from bar k + smooth + d - 3 on. ``k`` 2 or more, the others 1 or more.
    Source: TA-Lib STOCH; G. Lane, Stocks & Commodities 2:3 (1984).
    """
    bars = panel(high=high, low=low, close=close)
    k, smooth, d = whole("k", k, 2), whole("smooth", smooth, 1), whole("d", d, 1)
    return Stochastic(*bars.many(talib.STOCH, 2, k, smooth, _SIMPLE, d, _SIMPLE))


def stochastic_rsi(close: ArrayLike, period: int, k: int, d: int) -> Stochastic:
    """Where RSI(period) lies in its range of ``k`` bars, not smoothed, and the average of that over ``d`` bars.

    0 to 100; from bar period + k + d - 2 on. ``period`` and ``k`` 2 or more, ``d`` 1 or more.
    Source: TA-Lib STOCHRSI; T. Chande, S. Kroll, The New Technical Trader (1994).
    """
    period, k, d = whole("period", period, 2), whole("k", k, 2), whole("d", d, 1)
    return Stochastic(*panel(close=close).many(talib.STOCHRSI, 2, period, k, d, _SIMPLE))


def cci(high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int) -> Series:
    """Commodity channel index: the typical price's distance from its mean in units of .015 mean deviations.

    Period 2 or more. Source: TA-Lib CCI; D. Lambert, Commodities (1980).
    """
    return panel(high=high, low=low, close=close).one(talib.CCI, whole("period", period, 2))


def mfi(high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike, period: int) -> Series:
    """Money flow index: an RSI of typical price times volume over ``period`` bars, 0 to 100. Period 2 or more.

    Source: TA-Lib MFI; G. Quong, A. Soudack, Stocks & Commodities 7:3 (1989).
    """
    return panel(high=high, low=low, close=close, volume=volume).one(talib.MFI, whole("period", period, 2))


def roc(close: ArrayLike, period: int) -> Series:
    """Rate of change over ``period`` bars, in per cent. Raises ValueError where a price is not above zero.

    Period 1 or more. Source: TA-Lib ROC.
    """
    return panel(positive=True, close=close).one(talib.ROC, whole("period", period, 1))


def williams_r(high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int) -> Series:
    """Williams' %R: how far the close lies below the highest high of ``period`` bars, -100 to 0. Period 2 or more.

    Source: TA-Lib WILLR; L. Williams (1973).
    """
    return panel(high=high, low=low, close=close).one(talib.WILLR, whole("period", period, 2))


def trix(close: ArrayLike, period: int) -> Series:
    """Change of EMA(EMA(EMA(close))) from bar to bar, in per cent; from bar 3 (period - 1) + 1 on.

    Period 2 or more. Raises ValueError where a price is not above zero. Source: TA-Lib TRIX; J. Hutson (1983).
    """
    return panel(positive=True, close=close).one(talib.TRIX, whole("period", period, 2))
