"""What kind of market a decision was made in, by what was known then: trend or range, and calm or wild.

Both are descriptions to group outcomes by, no forecasts.

Sources: P. Kaufman, Trading Systems and Methods (1998): efficiency ratio; terciles of volatility are the practice.
"""

from __future__ import annotations

import numpy as np

from ots_quant import indicators
from ots_signals.market_view import DailyVolatility, UnderlyingBars

_BARS = 48  # of the window, four hours of five minutes
_EFFICIENT = 0.3  # of a random walk of 48 steps, about 0.12 in the mean: three times as straight is called a trend
_DAYS = 20  # of a realised volatility
_LEAST_VOLATILITIES = 20  # to say which third one is in


Regime = dict[str, float | str | None]


def trend(bars: UnderlyingBars, i: int) -> Regime:
    """``trend`` at bar i: up, down or range, ``efficiency`` 0 to 1; None where there were too few bars to say."""
    closes = bars.close[max(0, i - _BARS) : i + 1]
    found: Regime = {"trend": None, "efficiency": None}
    if len(closes) > _BARS:
        path = float(np.abs(np.diff(closes)).sum())
        move = float(closes[-1] - closes[0])
        efficiency = abs(move) / path if path > 0 else 0.0
        found["efficiency"] = efficiency
        found["trend"] = ("up" if move > 0 else "down") if efficiency >= _EFFICIENT else "range"
    return found


def volatility(daily: DailyVolatility, sessions_a_year: int) -> Regime:
    """``volatility``: low, middle or high third of its own past; None where there were too few sessions to say."""
    found: Regime = {"volatility": None, "realised_volatility_20d": None}
    known = daily.close[np.isfinite(daily.close)]
    if len(known) > _DAYS:
        series = indicators.close_to_close(known, _DAYS, sessions_a_year)[_DAYS:]
        found["realised_volatility_20d"] = float(series[-1])
        if len(series) > _LEAST_VOLATILITIES:
            below = float((series[:-1] < series[-1]).mean())
            found["volatility"] = "low" if below < 1 / 3 else "middle" if below < 2 / 3 else "high"
    return found
