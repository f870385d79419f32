"""How much the underlying moves: a squeeze that ends, and implied volatility against what was realised."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, Timeframe
from ots_quant import indicators
from ots_quant.barriers import on_clock
from ots_signals import contract_choice
from ots_signals.contract_choice import NoChoice
from ots_signals.decisions import Why
from ots_signals.market_view import ChainView, DailyVolatility, Floats, UnderlyingBars
from ots_signals.session_clock import session_years
from ots_signals.strategies.base import (
    Moment,
    Plan,
    Refusal,
    Strategy,
    StrategyParameters,
    Study,
    clock,
    directions,
    register,
    spaced,
)
from ots_signals.strategies.directional import Directional


class SqueezeParameters(StrategyParameters):
    """Of the bands and the channel around them."""

    period: int = Field(20, ge=5, le=100, description="bars of the bands and the channel")
    deviations: float = Field(2.0, ge=0.5, le=4.0, description="of Bollinger's bands")
    ranges: float = Field(1.5, ge=0.5, le=4.0, description="of Keltner's channel, in average true ranges")
    least_bars: int = Field(3, ge=1, le=100, description="how long the bands were inside the channel, at least")


@register
class VolatilitySqueeze(Directional):
    """Buys in the direction of the momentum when the bands leave the channel that they were inside of."""

    id = "volatility_squeeze"
    version = "1"
    title = "A squeeze ends"
    family = "volatility"
    sources = "J. Carter, Mastering the Trade (2005), chapter 11; J. Bollinger (2001), method I"
    history_sessions = 2
    invalidation = "the bands go back inside the channel"
    Parameters = SqueezeParameters
    reason_up = "Bollinger's bands left Keltner's channel with the close above its mean"
    reason_down = "Bollinger's bands left Keltner's channel with the close below its mean"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """The first bar outside after at least so many inside."""
        p = self.parameters
        bands = indicators.bollinger(bars.close, p.period, p.deviations)
        channel = indicators.keltner(bars.high, bars.low, bars.close, p.period, p.period, p.ranges)
        inside = (bands.upper < channel.upper) & (bands.lower > channel.lower)
        length = _run_length(inside)
        ended = np.zeros(len(bars), np.bool_)
        ended[1:] = ~inside[1:] & (length[:-1] >= p.least_bars)
        momentum = bars.close / bands.middle - 1
        with np.errstate(invalid="ignore", divide="ignore"):
            tightness = (bands.upper - bands.lower) / (channel.upper - channel.lower)
        return Study(
            spaced(directions(ended & (momentum > 0), ended & (momentum < 0)), bars, p),
            {"momentum": momentum, "tightness": tightness, "bars_inside": length.astype(np.float64)},
        )


class ImpliedParameters(StrategyParameters):
    """When to look, and which contracts the implied volatility is read from."""

    first_minute: int = Field(60, ge=15, le=1380, description="after the open, of the first look")
    every_minutes: int = Field(120, ge=15, le=720, multiple_of=15, description="between two looks")
    cooldown_minutes: int = Field(0, ge=0, le=1440, description="between two of its events in a session, at least")
    least_days: float = Field(1.0, ge=0.5, le=400.0, description="days to expiration, at least")
    most_days: float = Field(7.0, ge=1.0, le=800.0, description="days to expiration, at most")


class CheapParameters(ImpliedParameters):
    """How cheap is cheap."""

    most_ratio: float = Field(0.95, ge=0.3, le=1.2, description="implied over realised volatility, at most")
    target: float = Field(
        0.05, ge=0.01, le=2.0, description="return of what it sells for, before fees, at which it is closed"
    )
    stop: float = Field(
        0.15, ge=0.02, le=0.95, description="loss of what it sells for, before fees, at which it is closed; positive"
    )
    time_stop_minutes: int = Field(120, ge=5, le=1380, description="closed after so many minutes whatever it is worth")


class _AgainstRealised(Strategy):
    """Looks by the clock; realised volatility is that of the window's bars, nights included."""

    family = "volatility"
    timeframe = Timeframe.M15
    history_sessions = 5
    needs_chain_to_trigger = True

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """The clock, and the realised volatility of the bars of five sessions, annualised by sessions."""
        p = self.parameters
        return Study(
            spaced(clock(bars, sessions, p.first_minute, p.every_minutes), bars, p),
            {"realised_volatility": _realised(bars, sessions)},
        )

    def _implied_over_realised(self, moment: Moment, chain: ChainView) -> dict[str, float | None] | None:
        """At the money, nearest to the middle of the days wanted, by the session's clock; None where unknown."""
        realised, p = moment.features["realised_volatility"], self.parameters
        until = contract_choice.days(chain)
        usable = np.isfinite(chain.implied_volatility) & (until >= p.least_days) & (until <= p.most_days)
        if realised is None or realised <= 0 or not usable.any() or not np.isfinite(chain.spot):
            return None
        rows = np.flatnonzero(usable)
        off = np.abs(until[rows] - (p.least_days + p.most_days) / 2)
        of_it = rows[chain.expiration[rows] == chain.expiration[rows[off.argmin()]]]
        near = of_it[np.argsort(np.abs(chain.strike[of_it] - chain.spot), kind="stable")[:4]]
        years = float(chain.years[near[0]])
        closes = chain.at_ns + round(years * 365 * DAY_NS)
        implied = float(
            on_clock(chain.implied_volatility[near].mean(), years, session_years(moment.sessions, chain.at_ns, closes))
        )
        return {"implied_volatility": implied, "implied_over_realised": implied / realised}


@register
class CheapImplied(_AgainstRealised):
    """Buys a straddle where the implied volatility is below what was realised of late."""

    id = "cheap_implied"
    version = "1"
    title = "Implied volatility below realised: straddle"
    sources = (
        "A. Goyal, A. Saretto, Cross-Section of Option Returns and Volatility, Journal of Financial Economics 94 "
        "(2009); realised variance: T. Andersen, T. Bollerslev, International Economic Review 39 (1998)"
    )
    invalidation = "implied volatility rises above realised"
    Parameters = CheapParameters

    def plan(self, moment: Moment, chain: ChainView, daily: DailyVolatility) -> Plan | Refusal | None:
        """A call and a put at the money."""
        found = self._implied_over_realised(moment, chain)
        if found is None or (ratio := found["implied_over_realised"]) is None or ratio > self.parameters.most_ratio:
            return None
        try:
            rows = contract_choice.straddle(chain, self.parameters)
        except NoChoice as no:
            return Refusal(Why(no.why), no.detail, found)
        return Plan(
            rows, (1, 1), 0, (f"implied volatility is {ratio:.0%} of what was realised in five sessions",), found
        )


class DearParameters(ImpliedParameters):
    """How dear is dear, and where the condor's strikes lie."""

    least_days: float = Field(0.1, ge=0.05, le=400.0, description="days to expiration, at least")
    most_days: float = Field(1.5, ge=0.1, le=800.0, description="days to expiration, at most")

    least_ratio: float = Field(1.05, ge=0.8, le=3.0, description="implied over realised volatility, at least")
    delta: float = Field(0.3, ge=0.1, le=0.45, description="absolute delta of the sold contracts")
    wing_delta: float = Field(0.1, ge=0.01, le=0.3, description="absolute delta of the bought contracts")
    delta_tolerance: float = Field(0.12, ge=0.01, le=0.5, description="how far from it a contract may be")
    target: float = Field(
        0.05, ge=0.01, le=2.0, description="return of what it sells for, before fees, at which it is closed"
    )
    stop: float = Field(
        0.15, ge=0.02, le=0.95, description="loss of what it sells for, before fees, at which it is closed; positive"
    )
    time_stop_minutes: int = Field(120, ge=5, le=1380, description="closed after so many minutes whatever it is worth")
    most_spread: float = Field(0.12, ge=0.001, le=0.5, description="cost of crossing in and out, share of the capital")


@register
class DearImplied(_AgainstRealised):
    """Sells a condor, its risk defined, where the implied volatility is above what was realised of late."""

    id = "dear_implied"
    version = "1"
    title = "Implied volatility above realised: condor"
    sources = (
        "P. Carr, L. Wu, Variance Risk Premiums, Review of Financial Studies 22 (2009); after costs and margin: "
        "P. Santa-Clara, A. Saretto, Option strategies: good deals and margin calls, Journal of Financial Markets 12 "
        "(2009)"
    )
    invalidation = "the underlying trades at a sold strike"
    Parameters = DearParameters

    def plan(self, moment: Moment, chain: ChainView, daily: DailyVolatility) -> Plan | Refusal | None:
        """Two verticals sold around the spot."""
        found = self._implied_over_realised(moment, chain)
        if found is None or (ratio := found["implied_over_realised"]) is None or ratio < self.parameters.least_ratio:
            return None
        try:
            rows = contract_choice.condor(chain, self.parameters, self.parameters.wing_delta)
        except NoChoice as no:
            return Refusal(Why(no.why), no.detail, found)
        reason = f"implied volatility is {ratio:.0%} of what was realised in five sessions"
        return Plan(rows, (1, -1, -1, 1), 0, (reason,), found)


def _realised(bars: UnderlyingBars, sessions: Sessions) -> Floats:
    """Root of the sum of squared log returns over the window so far, nights included, by the sessions it spans."""
    squares = np.zeros(len(bars))
    squares[1:] = np.diff(np.log(bars.close)) ** 2
    span = bars.known_at - sessions.opens[bars.session]
    whole = sessions.closes[bars.session] - sessions.opens[bars.session]
    change = np.zeros(len(bars), np.int64)
    change[1:] = bars.session[1:] != bars.session[:-1]
    passed = np.cumsum(change) + np.minimum(span / whole, 1.0)
    found = np.sqrt(np.cumsum(squares) / np.maximum(passed, 1e-9) * sessions.sessions_a_year)
    return np.where(passed >= 2.0, found, np.nan)


def _run_length(flags: np.ndarray) -> np.ndarray:
    """How many bars in a row up to each one are set."""
    count = np.cumsum(flags)
    return count - np.maximum.accumulate(np.where(flags, 0, count))
