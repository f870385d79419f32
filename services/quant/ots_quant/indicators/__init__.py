"""Technical indicators: a plain function each, arrays in and arrays out, by TA-Lib's conventions where TA-Lib has it.

``indicators.rsi(close, 14)`` takes one series of shape (m,) or a panel of shape (n symbols, m bars), float64, oldest
first, and returns arrays of that shape; a value that is not known yet is NaN. No value looks ahead: what stands at bar
i follows from the bars up to i, so that appending bars changes nothing before them.
Every function raises ValueError for a period out of its bounds, for arrays of different shapes, and for a NaN or an
infinity among the bars, because some of TA-Lib's functions would go on with wrong numbers silently. NaN before the
first bar of a row, of a symbol that was listed later, is allowed.

Conventions that differ elsewhere: an EMA begins with the SMA of its first ``period`` values; RSI, ATR and ADX use
Wilder's mean, begun alike; MACD's two EMAs begin together; the standard deviation of Bollinger's bands divides by n.

Rooms: `averages`, `momentum`, `trend`, `volatility`, `volume`, `sessions`; `streaming` carries the same indicators
forward one bar at a time. What there is, with parameters, bounds and memory: `ots_quant.registry`.

Source: TA-Lib 0.8 (https://ta-lib.org/functions) where a function names it.
"""

from __future__ import annotations

from ots_quant.indicators import streaming
from ots_quant.indicators.averages import dema, ema, hma, kama, sma, tema, wma
from ots_quant.indicators.momentum import cci, macd, mfi, roc, rsi, stochastic, stochastic_rsi, trix, williams_r
from ots_quant.indicators.sessions import (
    anchored_vwap,
    gap,
    opening_range,
    pivots,
    relative_volume,
    volume_profile,
    vwap,
)
from ots_quant.indicators.trend import adx, aroon, di, ichimoku, psar, supertrend
from ots_quant.indicators.volatility import (
    atr,
    bollinger,
    close_to_close,
    donchian,
    garman_klass,
    keltner,
    parkinson,
    rogers_satchell,
    yang_zhang,
)
from ots_quant.indicators.volume import ad, cmf, obv

__all__ = [
    "ad",
    "adx",
    "anchored_vwap",
    "aroon",
    "atr",
    "bollinger",
    "cci",
    "close_to_close",
    "cmf",
    "dema",
    "di",
    "donchian",
    "ema",
    "gap",
    "garman_klass",
    "hma",
    "ichimoku",
    "kama",
    "keltner",
    "macd",
    "mfi",
    "obv",
    "opening_range",
    "parkinson",
    "pivots",
    "psar",
    "relative_volume",
    "roc",
    "rogers_satchell",
    "rsi",
    "sma",
    "stochastic",
    "stochastic_rsi",
    "streaming",
    "supertrend",
    "tema",
    "trix",
    "volume_profile",
    "vwap",
    "williams_r",
    "wma",
    "yang_zhang",
]
