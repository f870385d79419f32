"""What the chain shows of others: strikes that hold the price near expiration, contracts traded out of proportion."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ots_market.sessions import Sessions
from ots_market.timeframes import Timeframe
from ots_signals import contract_choice
from ots_signals.contract_choice import NoChoice
from ots_signals.decisions import Why
from ots_signals.market_view import ChainView, DailyVolatility, UnderlyingBars
from ots_signals.strategies.base import (
    Moment,
    Plan,
    Refusal,
    Strategy,
    StrategyParameters,
    Study,
    clock,
    register,
    spaced,
)


class _ByTheClock(Strategy):
    """Looks at the chain so often; bars only tell the time."""

    family = "activity"
    timeframe = Timeframe.M15
    history_sessions = 0
    needs_chain_to_trigger = True

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """The clock."""
        p = self.parameters
        looks = clock(bars, sessions, p.first_minute, p.every_minutes)
        return Study(spaced(looks, bars, p), {"close": bars.close})


class PinParameters(StrategyParameters):
    """When to look, and how near the strike must be."""

    first_minute: int = Field(180, ge=15, le=1380, description="after the open, of the first look")
    every_minutes: int = Field(60, ge=15, le=720, multiple_of=15, description="between two looks")
    cooldown_minutes: int = Field(0, ge=0, le=1440, description="between two of its events in a session, at least")
    least_days: float = Field(0.0, ge=0.0, le=10.0, description="days to expiration, at least")
    most_days: float = Field(1.5, ge=0.1, le=10.0, description="days to expiration, at most")
    nearness: float = Field(0.5, ge=0.05, le=2.0, description="distance to the strike, of what is expected until then")
    width: float = Field(1.0, ge=0.25, le=4.0, description="of the wings, of the move expected until expiration")
    target: float = Field(
        0.06, ge=0.01, le=2.0, description="return of what it sells for, before fees, at which it is closed"
    )
    stop: float = Field(
        0.15, ge=0.02, le=0.95, description="loss of what it sells for, before fees, at which it is closed; positive"
    )
    most_spread: float = Field(0.15, ge=0.001, le=0.5, description="cost of crossing in and out, share of the capital")


@register
class GammaPin(_ByTheClock):
    """Sells an iron butterfly at the strike with the most gamma held, near the spot and next to expiration."""

    id = "gamma_pin"
    version = "1"
    title = "Pinned to a strike near expiration"
    sources = (
        "S. X. Ni, N. Pearson, A. Poteshman, Stock price clustering on option expiration dates, Journal of Financial "
        "Economics 78 (2005); M. Avellaneda, M. Lipkin, Quantitative Finance 3 (2003). Who holds the gamma is not "
        "known: with its other sign the price is driven away from the strike"
    )
    invalidation = "the underlying trades beyond a wing"
    Parameters = PinParameters

    def plan(self, moment: Moment, chain: ChainView, daily: DailyVolatility) -> Plan | Refusal | None:
        """Wings at least the expected move away."""
        p, until = self.parameters, contract_choice.days(chain)
        held = (until >= p.least_days) & (until <= p.most_days) & (chain.open_interest > 0) & np.isfinite(chain.gamma)
        if not held.any() or not np.isfinite(chain.spot):
            return None
        rows = np.flatnonzero(held)
        rows = rows[chain.years[rows] == chain.years[rows].min()]
        strikes, which = np.unique(chain.strike[rows], return_inverse=True)
        gamma = np.bincount(which, chain.gamma[rows] * chain.open_interest[rows])
        strike = float(strikes[gamma.argmax()])
        move = chain.spot * float(np.median(chain.implied_volatility[rows])) * float(np.sqrt(chain.years[rows[0]]))
        away = abs(strike - chain.spot) / move
        found: dict[str, float | None] = {
            "strike": strike,
            "share_of_gamma": float(gamma.max() / gamma.sum()),
            "distance_in_moves": away,
        }
        if away > p.nearness:
            return None
        try:
            legs = contract_choice.iron_butterfly(chain, p, chain.expiration[rows[0]], strike, p.width * move)
        except NoChoice as no:
            return Refusal(Why(no.why), no.detail, found)
        reason = (
            f"the strike {strike:g} holds {gamma.max() / gamma.sum():.0%} of the gamma and is {away:.2f} moves away"
        )
        return Plan(legs, (1, -1, -1, 1), 0, (reason,), found)


class UnusualParameters(StrategyParameters):
    """What is unusual."""

    first_minute: int = Field(60, ge=15, le=1380, description="after the open, of the first look")
    every_minutes: int = Field(90, ge=15, le=720, multiple_of=15, description="between two looks")
    cooldown_minutes: int = Field(0, ge=0, le=1440, description="between two of its events in a session, at least")
    least_volume: int = Field(500, ge=10, le=10_000_000, description="contracts traded today, at least")
    least_times_interest: float = Field(1.0, ge=0.1, le=100.0, description="volume over open interest, at least")
    delta: float = Field(0.5, ge=0.1, le=0.9, description="middle of the deltas looked at")
    delta_tolerance: float = Field(0.3, ge=0.01, le=0.5, description="how far from it a contract may be")


@register
class UnusualVolume(_ByTheClock):
    """Buys the contract whose volume today is largest against its open interest."""

    id = "unusual_volume"
    version = "1"
    title = "A contract traded out of proportion"
    sources = (
        "J. Pan, A. Poteshman, The Information in Option Volume for Future Stock Prices, Review of Financial Studies "
        "19 (2006), whose volume tells who opened a position; public volume does not"
    )
    invalidation = "the open interest of the next day shows that the volume closed positions"
    Parameters = UnusualParameters

    def plan(self, moment: Moment, chain: ChainView, daily: DailyVolatility) -> Plan | Refusal | None:
        """That contract itself."""
        p, until = self.parameters, contract_choice.days(chain)
        times = np.where(chain.open_interest > 0, chain.volume / np.maximum(chain.open_interest, 1), 0.0)
        loud = (chain.volume >= p.least_volume) & (times >= p.least_times_interest)
        loud &= np.abs(np.abs(chain.delta) - p.delta) <= p.delta_tolerance
        loud &= (until >= p.least_days) & (until <= p.most_days)
        if not loud.any():
            return None
        found: dict[str, float | None] = {"volume_over_interest": float(times[loud].max())}
        try:
            serving = contract_choice.serving(chain, p)
        except NoChoice as no:
            return Refusal(Why(no.why), no.detail, found)
        both = serving[loud[serving]]
        if not len(both):
            detail = f"{int(loud.sum())} contracts are unusual, none of them has a usable quote"
            return Refusal(Why.SPREAD_TOO_WIDE, detail, found)
        row = int(both[times[both].argmax()])
        found = {"volume_over_interest": float(times[row]), "volume": float(chain.volume[row])}
        reason = f"{chain.symbol[row]} traded {times[row]:.1f} times its open interest"
        return Plan((row,), (1,), 1 if chain.right[row] > 0 else -1, (reason,), found)
