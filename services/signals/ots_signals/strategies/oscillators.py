"""Reversals: a price that went too far, by RSI or by Bollinger's bands, and has begun to come back."""

from __future__ import annotations

from pydantic import Field

from ots_market.sessions import Sessions
from ots_quant import indicators
from ots_signals.market_view import DailyVolatility, UnderlyingBars
from ots_signals.strategies.base import (
    StrategyParameters,
    Study,
    crossed_above,
    crossed_below,
    directions,
    register,
    spaced,
)
from ots_signals.strategies.directional import Directional


class RsiParameters(StrategyParameters):
    """Levels of RSI, 0 to 100."""

    period: int = Field(14, ge=2, le=50, description="bars of Wilder's mean")
    oversold: float = Field(35.0, ge=5.0, le=49.0, description="from below it, a rise through it points up")
    overbought: float = Field(65.0, ge=51.0, le=95.0, description="from above it, a fall through it points down")


@register
class RsiReversal(Directional):
    """Buys when RSI comes back from an extreme, not while it is there: a trend can stay extreme for long."""

    id = "rsi_reversal"
    version = "1"
    title = "RSI comes back from an extreme"
    family = "oscillators"
    sources = (
        "W. Wilder, New Concepts in Technical Trading Systems (1978), section VI; reversal as a reward for providing "
        "liquidity, which who crosses the spread does not get: S. Nagel, Review of Financial Studies 25 (2012)"
    )
    history_sessions = 2
    invalidation = "RSI goes back beyond the level that it came from"
    Parameters = RsiParameters
    reason_up = "RSI rose back through its oversold level"
    reason_down = "RSI fell back through its overbought level"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """Crossings of the two levels towards the middle."""
        p = self.parameters
        rsi = indicators.rsi(bars.close, p.period)
        found = directions(crossed_above(rsi, p.oversold), crossed_below(rsi, p.overbought))
        return Study(spaced(found, bars, p), {"rsi": rsi})


class BollingerParameters(StrategyParameters):
    """Of the bands."""

    period: int = Field(20, ge=5, le=100, description="bars of the mean")
    deviations: float = Field(2.0, ge=0.5, le=4.0, description="width of the bands in standard deviations")


@register
class BollingerReversion(Directional):
    """Buys when the close is back inside the bands after a close outside."""

    id = "bollinger_reversion"
    version = "1"
    title = "Back inside Bollinger's bands"
    family = "oscillators"
    sources = (
        "J. Bollinger, Bollinger on Bollinger Bands (2001), method III; tested by C. Lento, N. Gradojevic, C. Wright, "
        "Applied Financial Economics Letters 3 (2007)"
    )
    history_sessions = 2
    invalidation = "a close outside the same band again"
    Parameters = BollingerParameters
    reason_up = "the close came back above the lower band"
    reason_down = "the close came back below the upper band"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """Crossings of a band towards the middle. ``place``: 0 at the lower band, 1 at the upper."""
        p = self.parameters
        bands = indicators.bollinger(bars.close, p.period, p.deviations)
        up, down = crossed_above(bars.close - bands.lower, 0.0), crossed_below(bars.close - bands.upper, 0.0)
        width = bands.upper - bands.lower
        place = (bars.close - bands.lower) / width.clip(1e-12)
        return Study(spaced(directions(up, down), bars, p), {"place": place, "band_width": width / bands.middle})
