"""Going with a move: a breakout, a crossing of MACD, both on more volume than usual; the range of the first minutes."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS
from ots_quant import indicators
from ots_signals.market_view import DailyVolatility, UnderlyingBars
from ots_signals.strategies.base import (
    StrategyParameters,
    Study,
    crossed_above,
    crossed_below,
    directions,
    register,
    shifted,
    slots,
    spaced,
)
from ots_signals.strategies.directional import Directional


class BreakoutParameters(StrategyParameters):
    """Of the range that is left, and the volume that it takes."""

    period: int = Field(20, ge=5, le=200, description="bars whose highest high and lowest low are the range")
    least_relative_volume: float = Field(1.3, ge=0.5, le=20.0, description="of the bar, 1 is usual at its time of day")


@register
class BreakoutVolume(Directional):
    """Buys at a close beyond the range of the bars before, on more volume than usual at that time of day."""

    id = "breakout_volume"
    version = "1"
    title = "Breakout of the range with volume"
    family = "momentum"
    sources = (
        "R. Donchian's channel; volume with the move: L. Blume, D. Easley, M. O'Hara, Journal of Finance 49 (1994); "
        "trading-range breaks: W. Brock, J. Lakonishok, B. LeBaron, Journal of Finance 47 (1992), and what data "
        "snooping leaves of them: R. Sullivan, A. Timmermann, H. White, Journal of Finance 54 (1999)"
    )
    history_sessions = 5
    invalidation = "a close back inside the range that was left"
    Parameters = BreakoutParameters
    reason_up = "the close left its range upwards on more volume than usual"
    reason_down = "the close left its range downwards on more volume than usual"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """The first close beyond the extremes of the bars before; both held against the bar before it."""
        p = self.parameters
        channel = indicators.donchian(bars.high, bars.low, p.period)
        high, low = shifted(channel.upper), shifted(channel.lower)
        relative = _relative_volume(bars, sessions)
        loud = relative >= p.least_relative_volume
        up, down = (bars.close > high) & loud, (bars.close < low) & loud
        return Study(
            spaced(directions(up, down), bars, p),
            {"range_high": high, "range_low": low, "relative_volume": relative},
        )


class MacdParameters(StrategyParameters):
    """Of MACD, and the volume that it takes. Raises ValueError where fast is not below slow (in `study`)."""

    fast: int = Field(12, ge=2, le=25, description="bars of the fast mean")
    slow: int = Field(26, ge=26, le=100, description="bars of the slow mean")
    signal: int = Field(9, ge=2, le=50, description="bars of the signal line")
    least_relative_volume: float = Field(1.0, ge=0.5, le=20.0, description="of the bar, 1 is usual at its time of day")


@register
class MacdVolume(Directional):
    """Buys when MACD crosses its signal line on no less volume than usual."""

    id = "macd_volume"
    version = "1"
    title = "MACD crosses its signal line with volume"
    family = "momentum"
    sources = "G. Appel (1979); tested by T. Chong, W. Ng, Applied Economics Letters 15 (2008)"
    history_sessions = 5
    invalidation = "MACD crosses back"
    Parameters = MacdParameters
    reason_up = "MACD rose through its signal line on no less volume than usual"
    reason_down = "MACD fell through its signal line on no less volume than usual"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """Changes of the histogram's sign."""
        p = self.parameters
        lines = indicators.macd(bars.close, p.fast, p.slow, p.signal)
        relative = _relative_volume(bars, sessions)
        loud = relative >= p.least_relative_volume
        up, down = crossed_above(lines.histogram, 0.0) & loud, crossed_below(lines.histogram, 0.0) & loud
        return Study(
            spaced(directions(up, down), bars, p),
            {"macd": lines.macd, "histogram": lines.histogram, "relative_volume": relative},
        )


class OpeningRangeParameters(StrategyParameters):
    """Of the first minutes."""

    range_minutes: int = Field(30, ge=5, le=120, multiple_of=5, description="whose extremes are the range")
    most_minutes: int = Field(240, ge=10, le=1380, description="after the open, to break it at the latest")
    most_a_session: int = Field(1, ge=1, le=10, description="events in a session, at most")


@register
class OpeningRange(Directional):
    """Buys at the first close beyond the range of the session's first minutes."""

    id = "opening_range"
    version = "1"
    title = "Break of the opening range"
    family = "momentum"
    sources = (
        "T. Crabel, Day Trading with Short Term Price Patterns and Opening Range Breakout (1990); intraday momentum: "
        "L. Gao, Y. Han, S. Z. Li, G. Zhou, Journal of Financial Economics 129 (2018)"
    )
    history_sessions = 1
    invalidation = "a close back beyond the middle of the opening range"
    Parameters = OpeningRangeParameters
    reason_up = "the first close above the opening range"
    reason_down = "the first close below the opening range"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """Crossings of the range's ends once it is complete."""
        p = self.parameters
        place = slots(bars, sessions)
        length = bars.timeframe.nanoseconds // MINUTE_NS
        span = indicators.opening_range(bars.high, bars.low, bars.session, place, max(1, p.range_minutes // length))
        early = (place + 1) * length <= p.most_minutes
        # the close before lies within the range by its making, or was a crossing itself
        up, down = crossed_above(bars.close - span.high, 0.0) & early, crossed_below(bars.close - span.low, 0.0) & early
        middle = (span.high + span.low) / 2
        return Study(
            spaced(directions(up, down), bars, p),
            {"range_high": span.high, "range_low": span.low, "range_width": (span.high - span.low) / middle},
        )


def _relative_volume(bars: UnderlyingBars, sessions: Sessions) -> np.ndarray:
    """Of each bar, against the same time of day in the four sessions before."""
    return indicators.relative_volume(bars.volume, bars.session, slots(bars, sessions), 4).bar
