"""What indicators there are: one entry each drives the HTTP API, its validation, its documentation and the tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ots_quant import indicators
from ots_quant.indicators import streaming
from ots_quant.indicators.entry import Indicator, Parameter, Rule, Span, endless, of_bars, of_sessions
from ots_quant.indicators.streaming import Stream

__all__ = ["INDICATORS", "Indicator", "Parameter", "Rule", "Span"]

# A recursive mean forgets its start by (1 - 1/period) a bar at the slowest (Wilder's): after 35 periods what is left of
# it is e^-35 = 6e-16, below the last digit of a float.
_RECURSIVE = 36
# Kaufman's slowest constant is (2 / 31)^2 a bar
_KAMA_MEMORY = 35 * 31**2 // 4


def _period(default: int, least: int = 2, name: str = "period") -> Parameter:
    return Parameter(name, default, least, 5000)


def _deviations(default: float) -> Parameter:
    return Parameter("deviations", default, 0.1, 10.0, whole=False)


def _annual(
    function: Callable[..., Any], stream: Callable[..., Stream], of: str, source: str, inputs: str, more: int
) -> Indicator:
    return of_bars(
        function,
        stream,
        f"realised volatility a year, from {of}",
        source,
        f"{inputs} bars_per_year",
        (_period(20),),
        lookback=lambda p: p["period"] - 1 + more,
    )


_OUTSIDE = "the bar lies outside of every session"
_SLOW_ABOVE_FAST = Rule("fast must be below slow", lambda p: p["fast"] < p["slow"])

_AVERAGES = (
    of_bars(
        indicators.sma,
        streaming.sma,
        "simple moving average of the close",
        "TA-Lib SMA",
        "close",
        (_period(20),),
        lambda p: p["period"] - 1,
    ),
    of_bars(
        indicators.ema,
        streaming.ema,
        "exponential moving average of the close",
        "TA-Lib EMA",
        "close",
        (_period(20),),
        lambda p: p["period"] - 1,
        lambda p: p["period"] * _RECURSIVE,
    ),
    of_bars(
        indicators.wma,
        streaming.wma,
        "linearly weighted moving average of the close",
        "TA-Lib WMA",
        "close",
        (_period(20),),
        lambda p: p["period"] - 1,
    ),
    of_bars(
        indicators.dema,
        streaming.dema,
        "double exponential moving average of the close",
        "TA-Lib DEMA; Mulloy (1994)",
        "close",
        (_period(20),),
        lambda p: 2 * (p["period"] - 1),
        lambda p: p["period"] * _RECURSIVE,
    ),
    of_bars(
        indicators.tema,
        streaming.tema,
        "triple exponential moving average of the close",
        "TA-Lib TEMA; Mulloy (1994)",
        "close",
        (_period(20),),
        lambda p: 3 * (p["period"] - 1),
        lambda p: p["period"] * _RECURSIVE,
    ),
    of_bars(
        indicators.kama,
        streaming.kama,
        "Kaufman's adaptive moving average of the close",
        "TA-Lib KAMA; Kaufman (1998)",
        "close",
        (_period(10),),
        lambda p: p["period"],
        lambda p: p["period"] + _KAMA_MEMORY,
    ),
    of_bars(
        indicators.hma,
        streaming.hma,
        "Hull's moving average of the close",
        "TA-Lib HMA; Hull (2005)",
        "close",
        (_period(20),),
        lambda p: p["period"] - 2 + math.isqrt(int(p["period"])),
    ),
)

_MOMENTUM = (
    of_bars(
        indicators.rsi,
        streaming.rsi,
        "relative strength index, 0 to 100",
        "TA-Lib RSI; Wilder (1978)",
        "close",
        (_period(14),),
        lambda p: p["period"],
        lambda p: p["period"] * _RECURSIVE,
    ),
    of_bars(
        indicators.stochastic,
        streaming.stochastic,
        "slow stochastic: where the close lies in the range of the last bars, 0 to 100",
        "TA-Lib STOCH; Lane (1984)",
        "high low close",
        (_period(14, name="k"), _period(3, 1, "smooth"), _period(3, 1, "d")),
        lambda p: p["k"] + p["smooth"] + p["d"] - 3,
        outputs="k d",
    ),
    of_bars(
        indicators.stochastic_rsi,
        streaming.stochastic_rsi,
        "where the relative strength index lies in its own range, 0 to 100",
        "TA-Lib STOCHRSI; Chande, Kroll (1994)",
        "close",
        (_period(14), _period(14, name="k"), _period(3, 1, "d")),
        lambda p: p["period"] + p["k"] + p["d"] - 2,
        lambda p: p["period"] * _RECURSIVE + p["k"] + p["d"],
        outputs="k d",
    ),
    of_bars(
        indicators.macd,
        streaming.macd,
        "moving average convergence divergence: line, signal and histogram",
        "TA-Lib MACD; Appel (1979)",
        "close",
        (_period(12, name="fast"), _period(26, name="slow"), _period(9, 1, "signal")),
        lambda p: p["slow"] + p["signal"] - 2,
        lambda p: (p["slow"] + p["signal"]) * _RECURSIVE,
        outputs="macd signal histogram",
        rules=(_SLOW_ABOVE_FAST,),
    ),
    of_bars(
        indicators.cci,
        streaming.cci,
        "commodity channel index",
        "TA-Lib CCI; Lambert (1980)",
        "high low close",
        (_period(20),),
        lambda p: p["period"] - 1,
    ),
    of_bars(
        indicators.mfi,
        streaming.mfi,
        "money flow index, 0 to 100",
        "TA-Lib MFI; Quong, Soudack (1989)",
        "high low close volume",
        (_period(14),),
        lambda p: p["period"],
    ),
    of_bars(
        indicators.roc,
        streaming.roc,
        "rate of change of the close, in per cent",
        "TA-Lib ROC",
        "close",
        (_period(10, 1),),
        lambda p: p["period"],
    ),
    of_bars(
        indicators.williams_r,
        streaming.williams_r,
        "Williams' %R, -100 to 0",
        "TA-Lib WILLR; Williams (1973)",
        "high low close",
        (_period(14),),
        lambda p: p["period"] - 1,
    ),
    of_bars(
        indicators.trix,
        streaming.trix,
        "change of a triple exponential average, in per cent",
        "TA-Lib TRIX; Hutson (1983)",
        "close",
        (_period(15),),
        lambda p: 3 * (p["period"] - 1) + 1,
        lambda p: p["period"] * _RECURSIVE,
    ),
)

_TREND = (
    of_bars(
        indicators.adx,
        streaming.adx,
        "average directional index: strength of a trend, 0 to 100",
        "TA-Lib ADX; Wilder (1978)",
        "high low close",
        (_period(14),),
        lambda p: 2 * p["period"] - 1,
        lambda p: 2 * p["period"] * _RECURSIVE,
    ),
    of_bars(
        indicators.di,
        streaming.di,
        "directional indicators up and down, 0 to 100",
        "TA-Lib PLUS_DI, MINUS_DI; Wilder (1978)",
        "high low close",
        (_period(14),),
        lambda p: p["period"],
        lambda p: p["period"] * _RECURSIVE,
        outputs="plus_di minus_di",
    ),
    of_bars(
        indicators.aroon,
        streaming.aroon,
        "how recent the highest high and the lowest low are, 100 now to 0",
        "TA-Lib AROON; Chande (1995)",
        "high low",
        (_period(25),),
        lambda p: p["period"],
        outputs="up down",
    ),
    endless(
        of_bars(
            indicators.supertrend,
            streaming.supertrend,
            "a band of average true ranges that trails the price, and its side",
            "values of TA-Lib SUPERTREND; Seban",
            "high low close",
            (_period(10), Parameter("multiplier", 3.0, 0.1, 100.0, whole=False)),
            lambda p: p["period"],
            outputs="line direction",
        )
    ),
    endless(
        of_bars(
            indicators.psar,
            streaming.psar,
            "parabolic stop and reverse",
            "TA-Lib SAR; Wilder (1978)",
            "high low",
            (
                Parameter("acceleration", 0.02, 0.0001, 1.0, whole=False),
                Parameter("maximum", 0.2, 0.0001, 1.0, whole=False),
            ),
            lambda p: 1,
            rules=(Rule("acceleration must not be above maximum", lambda p: p["acceleration"] <= p["maximum"]),),
        )
    ),
    of_bars(
        indicators.ichimoku,
        streaming.ichimoku,
        "Ichimoku's lines, and its cloud as known at the bar",
        "Hosoda (1969)",
        "high low",
        (
            _period(9, name="conversion"),
            _period(26, name="base"),
            _period(52, name="span"),
            _period(26, 1, "displacement"),
        ),
        lambda p: p["span"] + p["displacement"] - 2,
        outputs="conversion base span_a span_b leading_a leading_b",
        rules=(
            Rule("conversion must be below base", lambda p: p["conversion"] < p["base"]),
            Rule("base must be below span", lambda p: p["base"] < p["span"]),
        ),
    ),
)

_VOLATILITY = (
    of_bars(
        indicators.atr,
        streaming.atr,
        "average true range, in dollars",
        "TA-Lib ATR; Wilder (1978)",
        "high low close",
        (_period(14, 1),),
        lambda p: p["period"],
        lambda p: p["period"] * _RECURSIVE,
    ),
    of_bars(
        indicators.bollinger,
        streaming.bollinger,
        "Bollinger bands: the simple moving average and standard deviations around it",
        "TA-Lib BBANDS; Bollinger (2001)",
        "close",
        (_period(20), _deviations(2.0)),
        lambda p: p["period"] - 1,
        outputs="upper middle lower",
    ),
    of_bars(
        indicators.keltner,
        streaming.keltner,
        "Keltner channels: the average of the typical price and average true ranges around it",
        "TA-Lib KC; Keltner (1960)",
        "high low close",
        (_period(20), _period(10, 1, "atr_period"), Parameter("multiplier", 2.0, 0.1, 100.0, whole=False)),
        lambda p: max(p["period"] - 1, p["atr_period"]),
        lambda p: max(p["period"], p["atr_period"]) * _RECURSIVE,
        outputs="upper middle lower",
    ),
    of_bars(
        indicators.donchian,
        streaming.donchian,
        "Donchian channels: highest high, middle, lowest low",
        "TA-Lib DONCHIAN; Donchian",
        "high low",
        (_period(20),),
        lambda p: p["period"] - 1,
        outputs="upper middle lower",
    ),
    _annual(indicators.close_to_close, streaming.close_to_close, "close to close", "sample deviation", "close", 1),
    _annual(indicators.parkinson, streaming.parkinson, "high to low", "Parkinson (1980)", "high low", 0),
    _annual(
        indicators.garman_klass,
        streaming.garman_klass,
        "range and body of bars",
        "Garman, Klass (1980), estimator 5",
        "open high low close",
        0,
    ),
    _annual(
        indicators.rogers_satchell,
        streaming.rogers_satchell,
        "bars, right under a drift",
        "Rogers, Satchell (1991)",
        "open high low close",
        0,
    ),
    _annual(
        indicators.yang_zhang,
        streaming.yang_zhang,
        "bars and the jumps between them",
        "Yang, Zhang (2000)",
        "open high low close",
        1,
    ),
)

_VOLUME = (
    endless(
        of_bars(
            indicators.obv,
            streaming.obv,
            "on-balance volume since the first bar",
            "TA-Lib OBV; Granville (1963)",
            "close volume",
            (),
            lambda p: 0,
        )
    ),
    endless(
        of_bars(
            indicators.ad,
            streaming.ad,
            "accumulation / distribution line since the first bar",
            "TA-Lib AD; Chaikin",
            "high low close volume",
            (),
            lambda p: 0,
        )
    ),
    of_bars(
        indicators.cmf,
        streaming.cmf,
        "Chaikin money flow, -1 to 1",
        "TA-Lib CMF; Chaikin",
        "high low close volume",
        (_period(20),),
        lambda p: p["period"] - 1,
    ),
    replace(
        endless(
            of_bars(
                indicators.anchored_vwap,
                streaming.anchored_vwap,
                "volume-weighted average price since an anchor, with bands",
                "Berkowitz, Logue, Noser (1988)",
                "high low close volume anchor",
                (_deviations(2.0),),
                lambda p: 0,
                outputs="vwap upper lower",
            )
        ),
        unknown="nothing was traded since the anchor",
    ),
)

_SESSIONS = (
    of_sessions(
        indicators.vwap,
        streaming.vwap,
        "volume-weighted average price of the session so far, with bands",
        "Berkowitz, Logue, Noser (1988)",
        "high low close volume session",
        (_deviations(2.0),),
        lambda p: Span(),
        lambda p: 1,
        outputs="vwap upper lower",
        unknown=f"{_OUTSIDE}, or nothing was traded in it yet",
    ),
    of_sessions(
        indicators.volume_profile,
        None,
        "point of control and value area of the session so far",
        "Steidlmayer (1985); Dalton (1990)",
        "open high low volume session",
        (
            Parameter("bin_width", 0.0005, 0.00001, 0.05, whole=False),
            Parameter("value_area", 0.7, 0.01, 1.0, whole=False),
        ),
        lambda p: Span(),
        lambda p: 1,
        outputs="point_of_control value_area_high value_area_low",
        unknown=f"{_OUTSIDE}, or nothing was traded in it yet",
    ),
    of_sessions(
        indicators.opening_range,
        streaming.opening_range,
        "extremes of the session's first bars",
        "Crabel (1990)",
        "high low session slot",
        (_period(1, 1, "slots"),),
        lambda p: Span(int(p["slots"]) - 1),
        lambda p: 1,
        outputs="high low",
        unknown=f"{_OUTSIDE}, or its opening range is not over or has no bar",
    ),
    of_sessions(
        indicators.relative_volume,
        streaming.relative_volume,
        "volume over the usual at that time of day: of the bar, and of the session so far",
        "mean of past sessions",
        "volume session slot",
        (Parameter("sessions", 20, 1, 100),),
        lambda p: Span(sessions=int(p["sessions"])),
        lambda p: p["sessions"] + 1,
        outputs="bar session",
        unknown=f"{_OUTSIDE}, or too few sessions before it had a bar at that time",
    ),
    of_sessions(
        indicators.pivots,
        streaming.pivots,
        "floor traders' pivot levels, from the session before",
        "Person (2004)",
        "high low close session",
        (),
        lambda p: Span(sessions=1),
        lambda p: 2,
        outputs="pivot r1 r2 r3 s1 s2 s3",
        unknown=f"{_OUTSIDE}, or there is no session before it",
    ),
    of_sessions(
        indicators.gap,
        streaming.gap,
        "the session's open over the close of the session before, less 1",
        "definition",
        "open close session",
        (),
        lambda p: Span(sessions=1),
        lambda p: 2,
        unknown=f"{_OUTSIDE}, or there is no session before it",
    ),
)

INDICATORS: dict[str, Indicator] = {
    entry.name: entry for entry in (*_AVERAGES, *_MOMENTUM, *_TREND, *_VOLATILITY, *_VOLUME, *_SESSIONS)
}
