"""How much a price moves: ranges, bands, and the estimators of realised volatility.

Realised volatilities are annualised decimals (0.25): the root of the estimated variance of a bar times
``bars_per_year``. They need prices above zero with open and close between low and high, and raise ValueError otherwise.
On bars shorter than a day the close-to-close and Yang-Zhang estimates include the jumps from one session to the next
wherever such a jump lies in the window; the others see only what happens inside bars.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import talib
from numpy.typing import ArrayLike

from ots_quant.indicators.panels import Series, above_zero, panel, whole

_SIMPLE = 0  # TA-Lib's code of the simple moving average


class Bands(NamedTuple):
    """Upper, middle and lower band, in the unit of the prices."""

    upper: Series
    middle: Series
    lower: Series


def atr(high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int) -> Series:
    """Average true range with Wilder's mean, in the unit of the prices; from bar ``period`` on. Period 1 or more.

    Source: TA-Lib ATR; W. Wilder, New Concepts in Technical Trading Systems (1978), section III.
    """
    return panel(high=high, low=low, close=close).one(talib.ATR, whole("period", period, 1))


def bollinger(close: ArrayLike, period: int, deviations: float) -> Bands:
    """SMA(period) and ``deviations`` standard deviations (of the population: ddof 0) around it. Period 2 or more.

    Source: TA-Lib BBANDS; J. Bollinger, Bollinger on Bollinger Bands (2001).
    """
    deviations = above_zero("deviations", deviations, 1e6)
    return Bands(*panel(close=close).many(talib.BBANDS, 3, whole("period", period, 2), deviations, deviations, _SIMPLE))


def keltner(
    high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int, atr_period: int, multiplier: float
) -> Bands:
    """EMA(period) of the typical price (high + low + close) / 3, and ``multiplier`` ATR(atr_period) around it.

    ``period`` 2 or more, ``atr_period`` 1 or more; from bar max(period - 1, atr_period) on.
    Source: TA-Lib KC; C. Keltner (1960), with the true range of L. Raschke.
    """
    bars = panel(high=high, low=low, close=close)
    period, atr_period = whole("period", period, 2), whole("atr_period", atr_period, 1)
    return Bands(*bars.many(talib.KC, 3, period, atr_period, above_zero("multiplier", multiplier, 1e6)))


def donchian(high: ArrayLike, low: ArrayLike, period: int) -> Bands:
    """Highest high and lowest low of ``period`` bars, this one included, and their middle. Period 2 or more.

    Source: TA-Lib DONCHIAN; R. Donchian.
    """
    return Bands(*panel(high=high, low=low).many(talib.DONCHIAN, 3, whole("period", period, 2)))


def close_to_close(close: ArrayLike, period: int, bars_per_year: float) -> Series:
    """Standard deviation (of the sample: ddof 1) of ``period`` log returns; from bar ``period`` on. Period 2 or more.

    Source: the usual estimator, as in E. Sinclair, Volatility Trading (2013), chapter 2.
    """
    period = whole("period", period, 2)
    bars = panel(positive=True, close=close)
    return _annual(bars.one(_variance_of_returns, period), bars_per_year)


def parkinson(high: ArrayLike, low: ArrayLike, period: int, bars_per_year: float) -> Series:
    """From the range of each bar: mean of ln(high / low)^2 over ``period`` bars / (4 ln 2). Period 2 or more.

    Unbiased without drift and without jumps between bars, which it does not see. Source: M. Parkinson, The Extreme
    Value Method, Journal of Business 53 (1980).
    """
    period = whole("period", period, 2)
    bars = panel(positive=True, high=high, low=low)
    squares = bars.one(lambda h, low_: talib.SMA(np.log(h / low_) ** 2, period))
    return _annual(squares / (4 * math.log(2)), bars_per_year)


def garman_klass(
    open: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int, bars_per_year: float
) -> Series:
    """Mean of ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2 over ``period`` bars. Period 2 or more.

    Without drift and jumps. Source: M. Garman, M. Klass, Journal of Business 53 (1980), their estimator 5.
    """
    period = whole("period", period, 2)

    def variance(o: Series, h: Series, low_: Series, c: Series) -> Series:
        _refuse_outside(o, h, low_, c)
        each = 0.5 * np.log(h / low_) ** 2 - (2 * math.log(2) - 1) * np.log(c / o) ** 2
        mean: Series = talib.SMA(each, period)
        return mean

    bars = panel(positive=True, open=open, high=high, low=low, close=close)
    return _annual(bars.one(variance), bars_per_year)


def rogers_satchell(
    open: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int, bars_per_year: float
) -> Series:
    """Mean of ln(h / c) ln(h / o) + ln(l / c) ln(l / o) over ``period`` bars; right under a drift. Period 2 or more.

    Without jumps between bars. Source: L. Rogers, S. Satchell, Annals of Applied Probability 1 (1991).
    """
    period = whole("period", period, 2)
    bars = panel(positive=True, open=open, high=high, low=low, close=close)
    return _annual(bars.one(lambda *row: talib.SMA(_rogers_satchell(*row), period)), bars_per_year)


def yang_zhang(
    open: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike, period: int, bars_per_year: float
) -> Series:
    """Variance from close to open + k variance from open to close + (1 - k) Rogers-Satchell, over ``period`` bars.

    k = 0.34 / (1.34 + (n + 1) / (n - 1)), n the period, 2 or more. Right under drift and opening jumps; from bar n on.
    Source: D. Yang, Q. Zhang, Journal of Business 73 (2000).
    """
    period = whole("period", period, 2)
    k = 0.34 / (1.34 + (period + 1) / (period - 1))

    def variance(o: Series, h: Series, low_: Series, c: Series) -> Series:
        jumps = np.full(len(o), np.nan)
        jumps[1:] = np.log(o[1:] / c[:-1])
        inside: Series = talib.SMA(_rogers_satchell(o, h, low_, c), period)
        return _sample_variance(jumps, period) + k * _sample_variance(np.log(c / o), period) + (1 - k) * inside

    bars = panel(positive=True, open=open, high=high, low=low, close=close)
    return _annual(bars.one(variance), bars_per_year)


def _refuse_outside(o: Series, h: Series, low: Series, c: Series) -> None:
    """Raises ValueError where open or close is no price between low and high: logarithms of their ratios mislead."""
    for name, values in (("open", o), ("close", c)):
        if ((values > h) | (values < low)).any():
            raise ValueError(f"{name} lies outside of high and low somewhere")


def _rogers_satchell(o: Series, h: Series, low: Series, c: Series) -> Series:
    _refuse_outside(o, h, low, c)
    each: Series = np.log(h / c) * np.log(h / o) + np.log(low / c) * np.log(low / o)
    return each


def _variance_of_returns(close: Series, period: int) -> Series:
    returns = np.full(len(close), np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    return _sample_variance(returns, period)


def _sample_variance(values: Series, period: int) -> Series:
    """Variance with ddof 1 of the last ``period`` values; NaN may stand before the first of them."""
    if np.isnan(values).all():
        return np.full(len(values), np.nan)
    population: Series = talib.VAR(values, period, 1.0)
    return population * (period / (period - 1))


def _annual(variance: Series, bars_per_year: float) -> Series:
    # a running sum may end an ulp below zero where nothing moved
    return np.sqrt(np.maximum(variance, 0.0) * above_zero("bars_per_year", bars_per_year, 1e9))
