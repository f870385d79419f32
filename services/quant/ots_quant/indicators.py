"""Technical indicators, by TA-Lib's conventions because TA-Lib computes them.

Every function takes float64 arrays of shape (n,), oldest first, and returns arrays of shape (n,) whose first
``lookback`` values are NaN. Conventions that differ elsewhere: an EMA starts with the SMA of its first ``period``
values; RSI and ATR use Wilder's mean, started alike; MACD's two EMAs start together; the standard deviation of
Bollinger's bands divides by n.
A NaN inside an input is refused with ValueError: some of TA-Lib's functions would go on with wrong numbers silently.

Source: TA-Lib (https://ta-lib.org/functions), W. Wilder, New Concepts in Technical Trading Systems (1978).
"""

from __future__ import annotations

import numpy as np
import talib
from numpy.typing import ArrayLike, NDArray

Series = NDArray[np.float64]


def sma(close: ArrayLike, period: int) -> Series:
    """Simple moving average. Raises ValueError on NaN or a period below 2."""
    return _float(talib.SMA(_series("close", close), _period("period", period)))


def ema(close: ArrayLike, period: int) -> Series:
    """Exponential moving average with alpha = 2 / (period + 1). Raises ValueError on NaN or a period below 2."""
    return _float(talib.EMA(_series("close", close), _period("period", period)))


def rsi(close: ArrayLike, period: int) -> Series:
    """Relative strength index, 0 to 100. Raises ValueError on NaN or a period below 2."""
    return _float(talib.RSI(_series("close", close), _period("period", period)))


def macd(close: ArrayLike, fast: int, slow: int, signal: int) -> tuple[Series, Series, Series]:
    """MACD line, its signal line, and their difference. Raises ValueError on NaN, or when fast is not below slow."""
    if fast >= slow:
        raise ValueError(f"fast ({fast}) must be below slow ({slow})")
    line, signal_line, histogram = talib.MACD(
        _series("close", close), _period("fast", fast), _period("slow", slow), _period("signal", signal, 1)
    )
    return _float(line), _float(signal_line), _float(histogram)


def bollinger(close: ArrayLike, period: int, deviations: float) -> tuple[Series, Series, Series]:
    """Upper, middle and lower band: the SMA and ``deviations`` standard deviations (ddof 0) around it.

    Raises ValueError on NaN, a period below 2, or deviations that are not positive.
    """
    if not deviations > 0:
        raise ValueError(f"deviations must be positive, not {deviations}")
    upper, middle, lower = talib.BBANDS(_series("close", close), _period("period", period), deviations, deviations)
    return _float(upper), _float(middle), _float(lower)


def atr(high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int) -> Series:
    """Average true range, in the unit of the prices. Raises ValueError on NaN, unequal lengths, or a period below 1."""
    highs, lows, closes = _series("high", high), _series("low", low), _series("close", close)
    if not len(highs) == len(lows) == len(closes):
        raise ValueError("high, low and close must have one length")
    return _float(talib.ATR(highs, lows, closes, _period("period", period, 1)))


def _series(name: str, values: ArrayLike) -> Series:
    array = np.ascontiguousarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape (n,), not {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has a NaN or an infinity in it: leave out or fill those bars first")
    return array


def _period(name: str, value: int, least: int = 2) -> int:
    if not least <= value <= 100_000:
        raise ValueError(f"{name} must be from {least} to 100,000, not {value}")
    return int(value)


def _float(values: NDArray[np.generic]) -> Series:
    return values.astype(np.float64, copy=False)
