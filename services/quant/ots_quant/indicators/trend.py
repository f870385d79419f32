"""Direction and strength of a trend."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import talib
from numpy.typing import ArrayLike

from ots_quant.indicators.panels import Series, above_zero, panel, whole
from ots_quant.kernels import indicators as kernels


class DirectionalIndicators(NamedTuple):
    """+DI and -DI, 0 to 100."""

    plus_di: Series
    minus_di: Series


class Aroon(NamedTuple):
    """How recent the highest high and the lowest low are: 100 now, 0 ``period`` bars ago."""

    up: Series
    down: Series


class Supertrend(NamedTuple):
    """The band that trails the price, and +1 where it lies below (an uptrend) or -1 where it lies above."""

    line: Series
    direction: Series


class Ichimoku(NamedTuple):
    """Ichimoku's lines as they stand at each bar, in the unit of the prices.

    ``span_a`` and ``span_b`` are the cloud over or under the bar itself, made displacement - 1 bars before and known
    since then. ``leading_a`` and ``leading_b`` are made now; a chart draws them displacement - 1 bars ahead.
    """

    conversion: Series
    base: Series
    span_a: Series
    span_b: Series
    leading_a: Series
    leading_b: Series


def adx(high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int) -> Series:
    """Average directional index, 0 to 100; from bar 2 period - 1 on. Period 2 or more.

    Source: TA-Lib ADX; W. Wilder, New Concepts in Technical Trading Systems (1978), section IV.
    """
    return panel(high=high, low=low, close=close).one(talib.ADX, whole("period", period, 2))


def di(high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int) -> DirectionalIndicators:
    """Wilder's directional indicators; from bar ``period`` on. Period 2 or more.

    Source: TA-Lib PLUS_DI and MINUS_DI; W. Wilder (1978), section IV.
    """
    bars = panel(high=high, low=low, close=close)
    period = whole("period", period, 2)
    return DirectionalIndicators(bars.one(talib.PLUS_DI, period), bars.one(talib.MINUS_DI, period))


def aroon(high: ArrayLike, low: ArrayLike, period: int) -> Aroon:
    """100 (period - bars since the highest high) / period, of the last ``period`` + 1 bars, and of the lowest low.

    Period 2 or more. Of equal extremes the newest counts. Source: TA-Lib AROON; T. Chande, Stocks & Commodities (1995).
    """
    down, up = panel(high=high, low=low).many(talib.AROON, 2, whole("period", period, 2))
    return Aroon(up, down)


def supertrend(high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int, multiplier: float) -> Supertrend:
    """(high + low) / 2 -+ multiplier ATR(period), held until the close breaks it; up at first, from bar ``period`` on.

    Period 2 or more, multiplier above zero. Its past matters until both bands have been renewed, which has no bound.
    Source: O. Seban; the values are those of TA-Lib SUPERTREND, in one pass that takes half of its time.
    """
    bars = panel(high=high, low=low, close=close)
    return Supertrend(
        *bars.fill(kernels.supertrend, 2, whole("period", period, 2), above_zero("multiplier", multiplier, 1e6))
    )


def psar(high: ArrayLike, low: ArrayLike, acceleration: float, maximum: float) -> Series:
    """Parabolic stop and reverse; from bar 1 on. Its past matters until the next reversal, which has no bound.

    The factor begins at ``acceleration`` and grows by it at each new extreme up to ``maximum``. The first direction is
    that of the first directional movement. Raises ValueError when acceleration is above maximum, or maximum above 1.
    Source: TA-Lib SAR; W. Wilder (1978), section II.
    """
    acceleration, maximum = above_zero("acceleration", acceleration, 1), above_zero("maximum", maximum, 1)
    if acceleration > maximum:
        raise ValueError(f"acceleration ({acceleration:g}) must not be above maximum ({maximum:g})")
    return panel(high=high, low=low).one(talib.SAR, acceleration, maximum)


def ichimoku(high: ArrayLike, low: ArrayLike, conversion: int, base: int, span: int, displacement: int) -> Ichimoku:
    """Middles of the ranges of ``conversion``, ``base`` and ``span`` bars; their cloud as known at each bar.

    leading_a is the mean of conversion and base line, leading_b the middle of ``span`` bars. The cloud is drawn
    ``displacement`` bars ahead with the present bar as the first of them. The lagging span (chikou) is the close drawn
    back in time: it would show a bar what came after it, so it is no output.
    Periods 2 or more and conversion < base < span, else ValueError. Source: G. Hosoda (1969).
    """
    bars = panel(high=high, low=low)
    conversion, base, span = whole("conversion", conversion, 2), whole("base", base, 2), whole("span", span, 2)
    if not conversion < base < span:
        raise ValueError(f"conversion ({conversion}) must be below base ({base}), and base below span ({span})")
    shift = whole("displacement", displacement, 1) - 1
    fast, medium, leading_b = (bars.one(talib.MIDPRICE, period) for period in (conversion, base, span))
    leading_a = (fast + medium) / 2
    return Ichimoku(fast, medium, _delayed(leading_a, shift), _delayed(leading_b, shift), leading_a, leading_b)


def _delayed(values: Series, bars: int) -> Series:
    """What was known ``bars`` bars ago."""
    delayed = np.full(values.shape, np.nan)
    if bars < values.shape[-1]:
        delayed[..., bars:] = values[..., : values.shape[-1] - bars]
    return delayed
