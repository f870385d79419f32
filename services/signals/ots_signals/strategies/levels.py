"""Prices that the session before has left: its close, to which a gap may return, and its pivots."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ots_market.sessions import Sessions
from ots_quant import indicators
from ots_signals.market_view import DailyVolatility, UnderlyingBars
from ots_signals.strategies.base import (
    StrategyParameters,
    Study,
    directions,
    minutes_of_session,
    register,
    shifted,
    spaced,
)
from ots_signals.strategies.directional import Directional


class GapParameters(StrategyParameters):
    """How large a gap, and when it must have begun to close."""

    least_gap: float = Field(0.002, ge=0.0005, le=0.2, description="of the close before, to be a gap")
    most_gap: float = Field(0.05, ge=0.001, le=0.5, description="of the close before: larger ones have news behind")
    wait_minutes: int = Field(10, ge=0, le=120, description="after the open, before anything is done")
    most_minutes: int = Field(240, ge=10, le=1380, description="after the open, to begin at the latest")
    most_a_session: int = Field(1, ge=1, le=10, description="events in a session, at most")


@register
class GapFill(Directional):
    """Buys towards the close before once a gap has begun to close: the close is back beyond the session's open."""

    id = "gap_fill"
    version = "1"
    title = "A gap begins to fill"
    family = "levels"
    sources = (
        "the practice; reversal after overnight moves: H. Berkman, P. Koch, L. Tuttle, Y. Zhang, Journal of Financial "
        "and Quantitative Analysis 47 (2012)"
    )
    history_sessions = 1
    invalidation = "a new extreme of the session on the gap's side"
    Parameters = GapParameters
    reason_up = "after a gap down the close rose above the session's open, the gap still open"
    reason_down = "after a gap up the close fell below the session's open, the gap still open"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """The bar at which the close lies between the session's open and the close before, the gap not filled yet."""
        p = self.parameters
        gap = indicators.gap(bars.open, bars.close, bars.session)
        first = _first_of_session(bars)
        open_ = bars.open[first]
        before = open_ / (1 + gap)
        minute = minutes_of_session(bars, sessions) + bars.timeframe.nanoseconds // 60_000_000_000
        due = (minute >= p.wait_minutes) & (minute <= p.most_minutes)
        due &= (np.abs(gap) >= p.least_gap) & (np.abs(gap) <= p.most_gap)
        low, high = _so_far(bars, first)
        up = due & (gap < 0) & (bars.close > open_) & (high < before)
        down = due & (gap > 0) & (bars.close < open_) & (low > before)
        left = before / bars.close - 1
        return Study(spaced(directions(up, down), bars, p), {"gap": gap, "left_to_fill": left})


class LevelParameters(StrategyParameters):
    """How near is a touch."""

    atr_period: int = Field(14, ge=2, le=100, description="bars of the average true range")
    tolerance: float = Field(
        0.25, ge=0.01, le=2.0, description="how near to a level is a touch, in average true ranges"
    )


@register
class LevelBounce(Directional):
    """Buys when a bar touches a pivot of the session before and closes away from it, on the side it came from."""

    id = "level_bounce"
    version = "1"
    title = "Bounce off support or resistance"
    family = "levels"
    sources = (
        "J. Person, A Complete Guide to Technical Trading Tactics (2004): pivots; C. Osler, Support for Resistance, "
        "FRBNY Economic Policy Review 6(2) (2000), on what such levels are worth"
    )
    history_sessions = 2
    invalidation = "a close beyond the level"
    Parameters = LevelParameters
    reason_up = "the bar touched a support from above and closed away from it"
    reason_down = "the bar touched a resistance from below and closed away from it"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """Touches of one of seven levels, and a close at least a tolerance away, with a body in that direction."""
        p = self.parameters
        near = p.tolerance * shifted(indicators.atr(bars.high, bars.low, bars.close, p.atr_period))
        levels = np.stack(indicators.pivots(bars.high, bars.low, bars.close, bars.session))
        before = shifted(bars.close)
        with np.errstate(invalid="ignore"):
            support = (before > levels + near) & (np.abs(bars.low - levels) <= near) & (bars.close > levels + near)
            resistance = (before < levels - near) & (np.abs(bars.high - levels) <= near) & (bars.close < levels - near)
        up = support.any(axis=0) & (bars.close > bars.open)
        down = resistance.any(axis=0) & (bars.close < bars.open)
        distance = np.abs(levels / bars.close - 1)
        nearest = np.where(
            np.isnan(distance).all(axis=0), np.nan, np.nanmin(np.nan_to_num(distance, nan=np.inf), axis=0)
        )
        return Study(
            spaced(directions(up, down), bars, p), {"distance": nearest, "average_true_range": near / p.tolerance}
        )


def _first_of_session(bars: UnderlyingBars) -> np.ndarray:
    """The index of the first bar of each bar's session."""
    begins = np.ones(len(bars), np.bool_)
    begins[1:] = bars.session[1:] != bars.session[:-1]
    return np.maximum.accumulate(np.where(begins, np.arange(len(bars)), 0))


def _so_far(bars: UnderlyingBars, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest low and highest high of each bar's session up to it."""
    low, high = bars.low.copy(), bars.high.copy()
    edges = np.unique(first)
    for begin, end in zip(edges, [*edges[1:], len(bars)], strict=True):
        low[begin:end] = np.minimum.accumulate(low[begin:end])
        high[begin:end] = np.maximum.accumulate(high[begin:end])
    return low, high
