"""Positions: legs of options and stock, each with its quote, and what entering costs at the executable side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

CALL, PUT, STOCK = 1, -1, 0
_STOCK_YEARS = np.inf


class Style(StrEnum):
    """When an option may be exercised."""

    EUROPEAN = "european"
    AMERICAN = "american"


@dataclass(frozen=True)
class Leg:
    """A quoted contract and how many of it: ``quantity`` above 0 is bought, below 0 sold.

    right: CALL (+1), PUT (-1) or STOCK (0); stock has no strike and never expires (`Leg.stock`)
    strike: dollars
    years: to expiration, in years of 365 days
    quantity: contracts, or shares of stock; may be a fraction, not 0
    multiplier: shares per contract
    bid, ask: dollars per share; NaN for a side that nobody quotes
    Raises ValueError that names the field for what cannot be a leg. A missing or crossed quote can.
    """

    right: int
    strike: float
    years: float
    bid: float
    ask: float
    quantity: float = 1.0
    multiplier: float = 100.0
    style: Style = Style.AMERICAN

    def __post_init__(self) -> None:
        for name in ("right", "strike", "years", "bid", "ask", "quantity", "multiplier"):
            if not isinstance(getattr(self, name), Real):
                raise ValueError(f"{name} must be one number, not {getattr(self, name)!r}")
        if self.right not in (CALL, PUT, STOCK):
            raise ValueError(f"right must be +1 (call), -1 (put) or 0 (stock), not {self.right}")
        if self.style not in tuple(Style):
            raise ValueError(f"style must be 'european' or 'american', not {self.style!r}")
        if self.right != STOCK:
            _require_positive("strike", self.strike)
            _require_positive("years", self.years)
        _require_positive("multiplier", self.multiplier)
        if not np.isfinite(self.quantity) or self.quantity == 0.0:
            raise ValueError(f"quantity must be a number other than 0, not {self.quantity}")
        for name, quote in (("bid", self.bid), ("ask", self.ask)):
            if quote < 0.0 or quote == np.inf:
                raise ValueError(f"{name} must not be negative or infinite, but NaN where it is missing, not {quote}")

    @classmethod
    def stock(cls, bid: float, ask: float, quantity: float = 1.0) -> Leg:
        """Shares of the underlying; ``quantity`` in shares."""
        return cls(STOCK, np.nan, _STOCK_YEARS, bid, ask, quantity, multiplier=1.0)

    @property
    def is_option(self) -> bool:
        """Not stock."""
        return self.right != STOCK

    @property
    def units(self) -> float:
        """Shares that the leg is on, negative when sold."""
        return self.quantity * self.multiplier

    @property
    def mid(self) -> float:
        """Half way between bid and ask, dollars per share; NaN when a side is missing."""
        return 0.5 * (self.bid + self.ask)

    @property
    def executable(self) -> float:
        """The quote that an order meets at once: the ask of what is bought, the bid of what is sold."""
        return self.ask if self.quantity > 0.0 else self.bid

    def times(self, number: float) -> Leg:
        """The same contract with ``number`` times the quantity; a negative number turns the side."""
        return replace(self, quantity=self.quantity * number)


@dataclass(frozen=True)
class Position:
    """Legs held together. Raises ValueError without legs."""

    name: str
    legs: tuple[Leg, ...]

    def __post_init__(self) -> None:
        if not self.legs:
            raise ValueError("legs must hold at least one leg")

    @property
    def options(self) -> tuple[Leg, ...]:
        """The legs that are options."""
        return tuple(leg for leg in self.legs if leg.is_option)

    @property
    def first_expiration(self) -> float:
        """Years to the earliest expiration; inf for stock alone."""
        return min(leg.years for leg in self.legs)

    @property
    def one_expiration(self) -> bool:
        """All options expire together, so that the payoff is exact and needs no model."""
        return len({leg.years for leg in self.options}) <= 1


class Entry(NamedTuple):
    """What entering a position costs, in dollars for the whole position; negative is received.

    cost: buying at the asks and selling at the bids, fees included; NaN when a side that is needed is missing
    mid: all legs at their mids, without fees; NaN when a side of any leg is missing
    half_spreads: what crossing half the spreads costs, cost - mid - fees
    fees: fee per contract times the contracts of all option legs, paid on entry alone
    problems: a sentence for each leg whose quote is missing on a side, crossed, or zero
    """

    cost: float
    mid: float
    half_spreads: float
    fees: float
    problems: tuple[str, ...]


def entry(position: Position, *, fee_per_contract: float = 0.0) -> Entry:
    """The price of a position at the executable side of every leg, the mid beside it.

    ``fee_per_contract``: dollars for each option contract traded; stock trades free. Quotes of zero are taken as they
    are (a bid of 0 sells for nothing) and named. Sizes are not looked at. Raises ValueError for a fee that is negative
    or not finite.
    """
    if not 0.0 <= fee_per_contract < np.inf:
        raise ValueError(f"fee_per_contract must be 0 or more, not {fee_per_contract}")
    at_once = sum(leg.units * leg.executable for leg in position.legs)
    mid = sum(leg.units * leg.mid for leg in position.legs)
    fees = fee_per_contract * sum(abs(leg.quantity) for leg in position.options)
    problems = tuple(problem for number, leg in enumerate(position.legs, 1) for problem in _problems(number, leg))
    return Entry(at_once + fees, mid, at_once - mid, fees, problems)


def each_leg(position: Position, value: Callable[[Leg], Values | float]) -> Values:
    """The sum over the legs of units times ``value``."""
    return np.asarray(sum(leg.units * np.asarray(value(leg), np.float64) for leg in position.legs), np.float64)


def _problems(number: int, leg: Leg) -> list[str]:
    needed, other = ("ask", "bid") if leg.quantity > 0.0 else ("bid", "ask")
    found = []
    if np.isnan(getattr(leg, needed)):
        found.append(f"leg {number}: no {needed}, cannot be {'bought' if leg.quantity > 0.0 else 'sold'} at once")
    if np.isnan(getattr(leg, other)):
        found.append(f"leg {number}: no {other}, one-sided quote, no mid")
    if leg.executable == 0.0:
        found.append(f"leg {number}: {needed} of 0")
    if leg.bid > leg.ask:
        found.append(f"leg {number}: crossed quote, bid {leg.bid:.10g} over ask {leg.ask:.10g}")
    return found


def _require_positive(name: str, value: float) -> None:
    if not 0.0 < value < np.inf:
        raise ValueError(f"{name} must be positive and finite, not {value}")
