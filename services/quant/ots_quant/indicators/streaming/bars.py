"""The indicators that look at bars without sessions, one closed bar at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from ots_quant.indicators.history import Bar
from ots_quant.indicators.panels import above_zero, whole
from ots_quant.indicators.streaming.stream import Handle, Stream, Value

_SIMPLE = 0  # TA-Lib's code of the simple moving average
_HLC = ("high", "low", "close")
_HLCV = (*_HLC, "volume")
_OHLC = ("open", *_HLC)


class _Talib(Stream):
    """An indicator that is one of TA-Lib's."""

    def __init__(
        self, inputs: tuple[str, ...], outputs: int, name: str, *, positive: bool = False, **parameters: float
    ) -> None:
        super().__init__(inputs, outputs, positive=positive)
        self._handle = Handle(name, **parameters)

    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        value: Value = self._handle.update(*inputs)
        return value


def sma(period: int) -> Stream:
    """As `indicators.sma`."""
    return _Talib(("close",), 1, "SMA", timeperiod=whole("period", period, 2))


def ema(period: int) -> Stream:
    """As `indicators.ema`."""
    return _Talib(("close",), 1, "EMA", timeperiod=whole("period", period, 2))


def wma(period: int) -> Stream:
    """As `indicators.wma`."""
    return _Talib(("close",), 1, "WMA", timeperiod=whole("period", period, 2))


def dema(period: int) -> Stream:
    """As `indicators.dema`."""
    return _Talib(("close",), 1, "DEMA", timeperiod=whole("period", period, 2))


def tema(period: int) -> Stream:
    """As `indicators.tema`."""
    return _Talib(("close",), 1, "TEMA", timeperiod=whole("period", period, 2))


def kama(period: int) -> Stream:
    """As `indicators.kama`."""
    return _Talib(("close",), 1, "KAMA", timeperiod=whole("period", period, 2))


def hma(period: int) -> Stream:
    """As `indicators.hma`."""
    return _Talib(("close",), 1, "HMA", timeperiod=whole("period", period, 2))


def rsi(period: int) -> Stream:
    """As `indicators.rsi`."""
    return _Talib(("close",), 1, "RSI", timeperiod=whole("period", period, 2))


def macd(fast: int, slow: int, signal: int) -> Stream:
    """As `indicators.macd`."""
    if whole("fast", fast, 2) >= whole("slow", slow, 2):
        raise ValueError(f"fast ({fast}) must be below slow ({slow})")
    return _Talib(("close",), 3, "MACD", fastperiod=fast, slowperiod=slow, signalperiod=whole("signal", signal, 1))


def stochastic(k: int, smooth: int, d: int) -> Stream:
    """As `indicators.stochastic`."""
    return _Talib(
        _HLC,
        2,
        "STOCH",
        fastk_period=whole("k", k, 2),
        slowk_period=whole("smooth", smooth, 1),
        slowk_matype=_SIMPLE,
        slowd_period=whole("d", d, 1),
        slowd_matype=_SIMPLE,
    )


def stochastic_rsi(period: int, k: int, d: int) -> Stream:
    """As `indicators.stochastic_rsi`."""
    return _Talib(
        ("close",),
        2,
        "STOCHRSI",
        timeperiod=whole("period", period, 2),
        fastk_period=whole("k", k, 2),
        fastd_period=whole("d", d, 1),
        fastd_matype=_SIMPLE,
    )


def cci(period: int) -> Stream:
    """As `indicators.cci`; an update costs as much as ``period`` numbers."""
    return _Talib(_HLC, 1, "CCI", timeperiod=whole("period", period, 2))


def mfi(period: int) -> Stream:
    """As `indicators.mfi`."""
    return _Talib(_HLCV, 1, "MFI", timeperiod=whole("period", period, 2))


def roc(period: int) -> Stream:
    """As `indicators.roc`."""
    return _Talib(("close",), 1, "ROC", positive=True, timeperiod=whole("period", period, 1))


def williams_r(period: int) -> Stream:
    """As `indicators.williams_r`."""
    return _Talib(_HLC, 1, "WILLR", timeperiod=whole("period", period, 2))


def trix(period: int) -> Stream:
    """As `indicators.trix`."""
    return _Talib(("close",), 1, "TRIX", positive=True, timeperiod=whole("period", period, 2))


def adx(period: int) -> Stream:
    """As `indicators.adx`."""
    return _Talib(_HLC, 1, "ADX", timeperiod=whole("period", period, 2))


def psar(acceleration: float, maximum: float) -> Stream:
    """As `indicators.psar`."""
    acceleration, maximum = above_zero("acceleration", acceleration, 1), above_zero("maximum", maximum, 1)
    if acceleration > maximum:
        raise ValueError(f"acceleration ({acceleration:g}) must not be above maximum ({maximum:g})")
    return _Talib(("high", "low"), 1, "SAR", acceleration=acceleration, maximum=maximum)


def atr(period: int) -> Stream:
    """As `indicators.atr`."""
    return _Talib(_HLC, 1, "ATR", timeperiod=whole("period", period, 1))


def bollinger(period: int, deviations: float) -> Stream:
    """As `indicators.bollinger`."""
    width = above_zero("deviations", deviations, 1e6)
    period = whole("period", period, 2)
    return _Talib(("close",), 3, "BBANDS", timeperiod=period, nbdevup=width, nbdevdn=width, matype=_SIMPLE)


def keltner(period: int, atr_period: int, multiplier: float) -> Stream:
    """As `indicators.keltner`."""
    return _Talib(
        _HLC,
        3,
        "KC",
        timeperiod=whole("period", period, 2),
        atrperiod=whole("atr_period", atr_period, 1),
        nbdev=above_zero("multiplier", multiplier, 1e6),
    )


def donchian(period: int) -> Stream:
    """As `indicators.donchian`."""
    return _Talib(("high", "low"), 3, "DONCHIAN", timeperiod=whole("period", period, 2))


def obv() -> Stream:
    """As `indicators.obv`."""
    return _Talib(("close", "volume"), 1, "OBV")


def ad() -> Stream:
    """As `indicators.ad`."""
    return _Talib(_HLCV, 1, "AD")


def cmf(period: int) -> Stream:
    """As `indicators.cmf`."""
    return _Talib(_HLCV, 1, "CMF", timeperiod=whole("period", period, 2))


class _Aroon(_Talib):
    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        down, up = self._handle.update(*inputs)
        return (up, down)


def aroon(period: int) -> Stream:
    """As `indicators.aroon`."""
    return _Aroon(("high", "low"), 2, "AROON", timeperiod=whole("period", period, 2))


class _Supertrend(Stream):
    """The arithmetic of `kernels.indicators.supertrend`, operation by operation."""

    def __init__(self, period: int, multiplier: float) -> None:
        super().__init__(_HLC, 2)
        self._period, self._multiplier = period, multiplier
        self._kept, self._fresh = (period - 1) / period, 1 / period
        self._bars, self._close = 0, math.nan
        self._atr, self._upper, self._lower, self._up = 0.0, math.nan, math.nan, True

    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        before, self._close = self._close, bar.close
        self._bars += 1
        if self._bars == 1:
            return self.value
        true_range = max(bar.high, before) - min(bar.low, before)
        if self._bars <= self._period:
            self._atr += true_range
            return self.value
        middle = 0.5 * (bar.high + bar.low)
        if self._bars == self._period + 1:
            self._atr = (self._atr + true_range) / self._period
            width = self._multiplier * self._atr
            self._upper, self._lower = middle + width, middle - width
        else:
            self._atr = self._atr * self._kept + true_range * self._fresh
            width = self._multiplier * self._atr
            if middle + width < self._upper or before > self._upper:
                self._upper = middle + width
            if middle - width > self._lower or before < self._lower:
                self._lower = middle - width
            self._up = bar.close >= self._lower if self._up else bar.close > self._upper
        return (self._lower, 1.0) if self._up else (self._upper, -1.0)


def supertrend(period: int, multiplier: float) -> Stream:
    """As `indicators.supertrend`."""
    return _Supertrend(whole("period", period, 2), above_zero("multiplier", multiplier, 1e6))


class _Di(Stream):
    def __init__(self, period: int) -> None:
        super().__init__(_HLC, 2)
        self._plus, self._minus = (Handle(name, timeperiod=period) for name in ("PLUS_DI", "MINUS_DI"))

    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        return (self._plus.update(*inputs), self._minus.update(*inputs))


def di(period: int) -> Stream:
    """As `indicators.di`."""
    return _Di(whole("period", period, 2))


class _Ichimoku(Stream):
    def __init__(self, conversion: int, base: int, span: int, displacement: int) -> None:
        super().__init__(("high", "low"), 6)
        self._middles = [Handle("MIDPRICE", timeperiod=period) for period in (conversion, base, span)]
        none = (math.nan, math.nan)
        self._clouds = deque([none] * displacement, maxlen=displacement)

    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        conversion, base, leading_b = (middle.update(*inputs) for middle in self._middles)
        leading_a = (conversion + base) / 2
        self._clouds.append((leading_a, leading_b))
        return (conversion, base, *self._clouds[0], leading_a, leading_b)


def ichimoku(conversion: int, base: int, span: int, displacement: int) -> Stream:
    """As `indicators.ichimoku`."""
    conversion, base, span = whole("conversion", conversion, 2), whole("base", base, 2), whole("span", span, 2)
    if not conversion < base < span:
        raise ValueError(f"conversion ({conversion}) must be below base ({base}), and base below span ({span})")
    return _Ichimoku(conversion, base, span, whole("displacement", displacement, 1))


class _Realised(Stream):
    """The root of a variance a year; ``variance(bar, the bar before)`` is NaN until it is known."""

    def __init__(
        self,
        inputs: tuple[str, ...],
        variance: Callable[[Bar, Bar | None, list[Handle]], float],
        handles: list[Handle],
        bars_per_year: float,
    ) -> None:
        super().__init__(inputs, positive=True)
        self._variance, self._handles = variance, handles
        self._bars_per_year = above_zero("bars_per_year", bars_per_year, 1e9)
        self._before: Bar | None = None

    def _check(self, bar: Bar, inputs: tuple[float, ...]) -> None:
        super()._check(bar, inputs)
        if "open" in self._inputs and not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high:
            raise ValueError("open or close lies outside of high and low")

    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        variance = self._variance(bar, self._before, self._handles)
        self._before = bar
        # the comparison lets NaN through
        return math.sqrt((0.0 if variance < 0 else variance) * self._bars_per_year)


def _handles(period: int, *names: str) -> list[Handle]:
    return [Handle(name, timeperiod=period) for name in names]


def close_to_close(period: int, bars_per_year: float) -> Stream:
    """As `indicators.close_to_close`."""
    sample = whole("period", period, 2) / (period - 1)

    def variance(bar: Bar, before: Bar | None, handles: list[Handle]) -> float:
        return math.nan if before is None else float(handles[0].update(math.log(bar.close / before.close)) * sample)

    return _Realised(("close",), variance, _handles(period, "VAR"), bars_per_year)


def parkinson(period: int, bars_per_year: float) -> Stream:
    """As `indicators.parkinson`."""

    def variance(bar: Bar, before: Bar | None, handles: list[Handle]) -> float:
        return float(handles[0].update(math.log(bar.high / bar.low) ** 2) / (4 * math.log(2)))

    return _Realised(("high", "low"), variance, _handles(whole("period", period, 2), "SMA"), bars_per_year)


def garman_klass(period: int, bars_per_year: float) -> Stream:
    """As `indicators.garman_klass`."""

    def variance(bar: Bar, before: Bar | None, handles: list[Handle]) -> float:
        body = (2 * math.log(2) - 1) * math.log(bar.close / bar.open) ** 2
        return float(handles[0].update(0.5 * math.log(bar.high / bar.low) ** 2 - body))

    return _Realised(_OHLC, variance, _handles(whole("period", period, 2), "SMA"), bars_per_year)


def rogers_satchell(period: int, bars_per_year: float) -> Stream:
    """As `indicators.rogers_satchell`."""

    def variance(bar: Bar, before: Bar | None, handles: list[Handle]) -> float:
        return float(handles[0].update(_rogers_satchell(bar)))

    return _Realised(_OHLC, variance, _handles(whole("period", period, 2), "SMA"), bars_per_year)


def yang_zhang(period: int, bars_per_year: float) -> Stream:
    """As `indicators.yang_zhang`."""
    sample = whole("period", period, 2) / (period - 1)
    k = 0.34 / (1.34 + (period + 1) / (period - 1))

    def variance(bar: Bar, before: Bar | None, handles: list[Handle]) -> float:
        jump, body, inside = handles
        of_body = body.update(math.log(bar.close / bar.open)) * sample
        of_range = inside.update(_rogers_satchell(bar))
        if before is None:
            return math.nan
        of_jump = jump.update(math.log(bar.open / before.close)) * sample
        return float(of_jump + k * of_body + (1 - k) * of_range)

    return _Realised(_OHLC, variance, _handles(period, "VAR", "VAR", "SMA"), bars_per_year)


def _rogers_satchell(bar: Bar) -> float:
    upper = math.log(bar.high / bar.close) * math.log(bar.high / bar.open)
    return upper + math.log(bar.low / bar.close) * math.log(bar.low / bar.open)
