"""What a position costs at executable prices, pays, risks and is worth: `ots_quant.strategies` over legs as quoted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ots_analytics.contract_terms import STATED
from ots_quant import american, european
from ots_quant.density import RiskNeutral, risk_neutral
from ots_quant.greeks import Greeks
from ots_quant.strategies import (
    BreakEvens,
    Entry,
    Extremes,
    Leg,
    Market,
    PiecewiseLinear,
    Position,
    ProfitProbability,
    Style,
    break_evens,
    entry,
    extremes,
    position_value,
    probability_of_profit,
    profit_at_first_expiration,
    profit_line,
)

Values = NDArray[np.float64]

_DEVIATIONS = 3.0  # of the profile's spots, to each side of the forward
_GREEKS = {Style.AMERICAN: american.greeks, Style.EUROPEAN: european.greeks}
_IMPLIED = {Style.AMERICAN: american.implied_volatility, Style.EUROPEAN: european.implied_volatility}


@dataclass(frozen=True)
class HeldLeg:
    """A leg with what is known of it; NaN for what is not, and ``reason`` says why.

    greeks: of one share, the raw ones of `Greeks`; of stock its price and a delta of 1
    theoretical: dollars a share at the fitted surface's volatility
    rate, dividend_yield: to its expiration
    """

    leg: Leg
    symbol: str | None
    expiration: date | None
    volatility: float
    greeks: Values
    theoretical: float
    rate: float
    dividend_yield: float
    reason: str | None

    @classmethod
    def of_terms(
        cls, leg: Leg, expiration: date | None, spot: float, rate: float, dividend_yield: float, volatility: float
    ) -> HeldLeg:
        """An option by its terms; without a volatility (NaN) that of its mid."""
        terms = (leg.right, spot, leg.strike, leg.years, rate, dividend_yield)
        reason = None
        if np.isnan(volatility):
            volatility = float(_IMPLIED[leg.style](leg.mid, *terms))
            if np.isnan(volatility):
                reason = "no volatility is given, and the middle of bid and ask has none"
        greeks = np.array(_GREEKS[leg.style](*terms, volatility))
        return cls(leg, None, expiration, volatility, greeks, np.nan, rate, dividend_yield, reason)

    @classmethod
    def of_stock(cls, leg: Leg, symbol: str | None, spot: float) -> HeldLeg:
        """Shares of the underlying."""
        greeks = np.zeros(len(Greeks._fields))
        greeks[:2] = spot, 1.0
        return cls(leg, symbol, None, np.nan, greeks, spot, np.nan, np.nan, None)


@dataclass(frozen=True)
class Outlook:
    """What the spot may do until the first expiration: NaN or None for what is not known, and why."""

    spot: float
    forward: float
    volatility: float
    smile: Callable[[Values], Values] | None
    reason: str | None


@dataclass(frozen=True)
class Profile:
    """Profit in dollars at spots (n,): at the first expiration, and now, were the spot there."""

    spots: Values
    at_horizon: Values
    now: Values


class Analysis:
    """Everything that is told of a position; what cannot be is None, and a sentence beside it says why.

    legs: with at least one option
    """

    def __init__(self, legs: list[HeldLeg], outlook: Outlook, fee_per_contract: float) -> None:
        self.legs = legs
        self.outlook = outlook
        self.position = Position("position", tuple(held.leg for held in legs))
        self.entry: Entry = entry(self.position, fee_per_contract=fee_per_contract)
        first = min((held for held in legs if held.leg.is_option), key=lambda held: held.leg.years)
        self.first_expiration = first.expiration
        self.years = first.leg.years
        self.rate, self.dividend_yield = first.rate, first.dividend_yield

    @property
    def no_cost(self) -> str | None:
        """Why the position cannot be had at once, where it cannot."""
        if np.isfinite(self.entry.cost):
            return None
        return "; ".join(problem for problem in self.entry.problems if "at once" in problem)

    @property
    def no_market(self) -> str | None:
        """Why no model values the position, where none does."""
        if self.outlook.reason:
            return self.outlook.reason
        unknown = [
            f"leg {number} has no volatility: {held.reason}"
            for number, held in enumerate(self.legs, 1)
            if held.leg.is_option and not np.isfinite(held.volatility)
        ]
        return "; ".join(unknown) or None

    @cached_property
    def market(self) -> Market | None:
        """Rate and dividend yield to the first expiration, for all legs.

        A later leg keeps the price that its own rate and yield give: its volatility is implied anew.
        """
        if self.no_market:
            return None
        volatilities = [self._under_common_carry(held) if held.leg.is_option else np.nan for held in self.legs]
        return Market(self.outlook.spot, self.rate, self.dividend_yield, tuple(volatilities))

    def _under_common_carry(self, held: HeldLeg) -> float:
        if (held.rate, held.dividend_yield) == (self.rate, self.dividend_yield):
            return held.volatility
        leg = held.leg
        terms = (leg.right, self.outlook.spot, leg.strike, leg.years, self.rate, self.dividend_yield)
        found = float(_IMPLIED[leg.style](held.greeks[0], *terms))
        return found if np.isfinite(found) else held.volatility

    @property
    def payoff(self) -> PiecewiseLinear | None:
        """What the legs are worth at expiration, exact; None with several expirations."""
        return profit_line(self.position, 0.0) if self.position.one_expiration else None

    @cached_property
    def ends(self) -> tuple[BreakEvens, Extremes] | str:
        """Break-evens, greatest gain and loss; or why they cannot be told."""
        if self.no_cost:
            return self.no_cost
        if self.position.one_expiration:
            return break_evens(self.position, self.entry.cost), extremes(self.position, self.entry.cost)
        if self.market is None:
            return f"several expirations need a model: {self.no_market}"
        try:
            found = profit_at_first_expiration(self.position, self.market, self.entry.cost)
        except ValueError as error:
            return str(error)
        return found.break_evens, found.extremes

    @cached_property
    def probability(self) -> ProfitProbability | str:
        """Of ending above the cost; ``smile`` NaN where the distribution is not known."""
        if self.no_cost:
            return self.no_cost
        needs_model = not self.position.one_expiration
        if self.outlook.reason or (needs_model and self.no_market):
            return self.outlook.reason or f"several expirations need a model: {self.no_market}"
        market = self.market or Market(
            self.outlook.spot, self.rate, self.dividend_yield, (np.nan,) * len(self.position.legs)
        )
        try:
            return probability_of_profit(
                self.position, market, self.entry.cost, self.outlook.volatility, self._distribution
            )
        except ValueError as error:
            return str(error)

    @cached_property
    def _distribution(self) -> RiskNeutral | None:
        if self.outlook.smile is None:
            return None
        return risk_neutral(self.outlook.smile, self.outlook.forward, self.years)

    @property
    def value(self) -> float:
        """Dollars, each option at its own implied volatility, which is that of its mid; NaN where one has none."""
        return self._sum(held.greeks[0] for held in self.legs)

    @property
    def surface_value(self) -> float:
        """Dollars, each option at the fitted surface's volatility; NaN where one lies outside of it."""
        return self._sum(held.theoretical for held in self.legs)

    def greeks(self) -> dict[str, float]:
        """Of the whole position, in the units of `contract_terms.GREEK_UNITS` times its shares."""
        table = np.array([held.greeks for held in self.legs]) * np.array([STATED[name] for name in Greeks._fields])
        units = np.array([held.leg.units for held in self.legs])
        return dict(zip(Greeks._fields, (units @ table).tolist(), strict=True))

    def profile(self, points: int) -> Profile | None:
        """At spots evenly spaced over three standard deviations to each side of the forward; None without a model."""
        if self.market is None or self.no_cost or points == 0:
            return None
        reach = _DEVIATIONS * self.outlook.volatility * np.sqrt(self.years)
        spots = np.linspace(self.outlook.forward * np.exp(-reach), self.outlook.forward * np.exp(reach), points)
        at_horizon, now = (position_value(self.position, self.market, spots, after) for after in (self.years, 0.0))
        return Profile(spots, at_horizon - self.entry.cost, now - self.entry.cost)

    def _sum(self, each: Iterable[float]) -> float:
        return float(sum(held.leg.units * value for held, value in zip(self.legs, each, strict=True)))


def executable(leg: Leg, fresh: bool) -> Leg:
    """The leg; of a quote that is too old, without its sides: nobody trades at those."""
    return leg if fresh else replace(leg, bid=np.nan, ask=np.nan)
