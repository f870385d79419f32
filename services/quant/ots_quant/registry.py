"""What indicators there are: one entry each drives the HTTP API, its validation, its documentation and the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ots_quant import indicators

Series = NDArray[np.float64]

# A recursive mean forgets its start by (1 - 1/period) a bar at the slowest (Wilder's): after 35 periods what is left of
# it is e^-35 = 6e-16, below the last digit of a float.
_MEMORY_PERIODS = 35


@dataclass(frozen=True)
class Parameter:
    """One parameter of an indicator, in the order in which ``name:value:value`` gives them."""

    name: str
    default: float
    least: float
    most: float
    whole: bool = True


@dataclass(frozen=True)
class Indicator:
    """An indicator. ``compute(inputs, parameters)`` returns one array of shape (n,) for each of ``outputs``.

    ``lookback``: how many leading values have no value. ``memory``: how many bars before the last still matter to 1e-9.
    """

    name: str
    meaning: str
    source: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    compute: Callable[[Mapping[str, Series], Mapping[str, float]], tuple[Series, ...]]
    lookback: Callable[[Mapping[str, float]], int]
    memory: Callable[[Mapping[str, float]], int]


def _window(parameters: Mapping[str, float]) -> int:
    return int(parameters["period"])


def _recursive(parameters: Mapping[str, float]) -> int:
    return int(parameters["period"]) * (_MEMORY_PERIODS + 1)


def _period(default: int, least: int = 2) -> Parameter:
    return Parameter("period", default, least, 5000)


INDICATORS: dict[str, Indicator] = {
    entry.name: entry
    for entry in (
        Indicator(
            name="sma",
            meaning="simple moving average of the close",
            source="TA-Lib SMA",
            inputs=("close",),
            parameters=(_period(20),),
            outputs=("sma",),
            compute=lambda x, p: (indicators.sma(x["close"], int(p["period"])),),
            lookback=lambda p: int(p["period"]) - 1,
            memory=_window,
        ),
        Indicator(
            name="ema",
            meaning="exponential moving average of the close",
            source="TA-Lib EMA",
            inputs=("close",),
            parameters=(_period(20),),
            outputs=("ema",),
            compute=lambda x, p: (indicators.ema(x["close"], int(p["period"])),),
            lookback=lambda p: int(p["period"]) - 1,
            memory=_recursive,
        ),
        Indicator(
            name="rsi",
            meaning="relative strength index, 0 to 100",
            source="TA-Lib RSI; Wilder (1978)",
            inputs=("close",),
            parameters=(_period(14),),
            outputs=("rsi",),
            compute=lambda x, p: (indicators.rsi(x["close"], int(p["period"])),),
            lookback=lambda p: int(p["period"]),
            memory=_recursive,
        ),
        Indicator(
            name="macd",
            meaning="moving average convergence divergence: line, signal and histogram",
            source="TA-Lib MACD; Appel (1979)",
            inputs=("close",),
            parameters=(
                Parameter("fast", 12, 2, 5000),
                Parameter("slow", 26, 2, 5000),
                Parameter("signal", 9, 1, 5000),
            ),
            outputs=("macd", "signal", "histogram"),
            compute=lambda x, p: indicators.macd(x["close"], int(p["fast"]), int(p["slow"]), int(p["signal"])),
            lookback=lambda p: int(p["slow"]) + int(p["signal"]) - 2,
            memory=lambda p: (int(p["slow"]) + int(p["signal"])) * (_MEMORY_PERIODS + 1),
        ),
        Indicator(
            name="bollinger",
            meaning="Bollinger bands: the simple moving average and standard deviations around it",
            source="TA-Lib BBANDS; Bollinger (2001)",
            inputs=("close",),
            parameters=(_period(20), Parameter("deviations", 2.0, 0.1, 10.0, whole=False)),
            outputs=("upper", "middle", "lower"),
            compute=lambda x, p: indicators.bollinger(x["close"], int(p["period"]), p["deviations"]),
            lookback=lambda p: int(p["period"]) - 1,
            memory=_window,
        ),
        Indicator(
            name="atr",
            meaning="average true range, in dollars",
            source="TA-Lib ATR; Wilder (1978)",
            inputs=("high", "low", "close"),
            parameters=(_period(14, least=1),),
            outputs=("atr",),
            compute=lambda x, p: (indicators.atr(x["high"], x["low"], x["close"], int(p["period"])),),
            lookback=lambda p: int(p["period"]),
            memory=_recursive,
        ),
    )
}
