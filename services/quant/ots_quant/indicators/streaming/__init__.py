"""The same indicators carried forward one closed bar at a time, each in time that does not grow with the history.

``streaming.rsi(14)`` has the name and the parameters of ``indicators.rsi(close, 14)``::

    rsi = streaming.rsi(14).seed(history)  # or begin with nothing: values are NaN until enough bars have come
    for bar in feed:
        rsi.update(bar)                    # its value at that bar; rsi.value keeps it

A value is what the batch function gives for the same bars to 1e-9: one number, or a tuple in the order of the batch
function's outputs. (Of a realised volatility the square is, to 1e-13 of the largest so far: both are the root of a
rolling sum, whose rounding shows where bars no longer move.) A bar that the batch function would refuse is refused with
ValueError, and the state stays as it was. ``copy()`` gives an independent state, for a look at a bar that is still
forming. Where TA-Lib has the indicator, its own stream carries it; that cannot be pickled, so a new process seeds from
history.
"""

from __future__ import annotations

from ots_quant.indicators.history import Bar, History
from ots_quant.indicators.streaming.bars import (
    ad,
    adx,
    aroon,
    atr,
    bollinger,
    cci,
    close_to_close,
    cmf,
    dema,
    di,
    donchian,
    ema,
    garman_klass,
    hma,
    ichimoku,
    kama,
    keltner,
    macd,
    mfi,
    obv,
    parkinson,
    psar,
    roc,
    rogers_satchell,
    rsi,
    sma,
    stochastic,
    stochastic_rsi,
    supertrend,
    tema,
    trix,
    williams_r,
    wma,
    yang_zhang,
)
from ots_quant.indicators.streaming.sessions import (
    anchored_vwap,
    gap,
    opening_range,
    pivots,
    relative_volume,
    vwap,
)
from ots_quant.indicators.streaming.stream import Stream, Value

__all__ = [
    "Bar",
    "History",
    "Stream",
    "Value",
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
    "supertrend",
    "tema",
    "trix",
    "vwap",
    "williams_r",
    "wma",
    "yang_zhang",
]
