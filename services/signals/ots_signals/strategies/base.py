"""What a strategy is: its declaration, its parameters with bounds, and what it is asked.

A strategy looks at closed bars and says at which of them its condition begins (`Strategy.study`); only then is a chain
asked for, and it says which contracts it would take (`Strategy.plan`). Both are pure. What stands at bar i of a study
follows from the bars up to i alone (`ots_signals.lookahead` checks it), so that one pass over a session's bars gives
what asking at each bar would.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS, Timeframe
from ots_signals.canonical import digest
from ots_signals.decisions import Why
from ots_signals.market_view import ChainView, DailyVolatility, Flags, Floats, Ints, UnderlyingBars

Directions = NDArray[np.int8]

UP, DOWN, BOTH, NOTHING = 1, -1, 2, 0


class StrategyParameters(BaseModel):
    """What every strategy can be told; a strategy adds its own. Returns are decimals of the capital, times minutes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: float = Field(
        0.075, ge=0.01, le=2.0, description="return of what it sells for, before fees, at which it is closed"
    )
    stop: float = Field(
        0.30, ge=0.02, le=0.95, description="loss of what it sells for, before fees, at which it is closed; positive"
    )
    time_stop_minutes: int = Field(60, ge=5, le=1380, description="closed after so many minutes whatever it is worth")
    delta: float = Field(0.5, ge=0.1, le=0.9, description="absolute delta of the contract wanted")
    delta_tolerance: float = Field(0.15, ge=0.01, le=0.5, description="how far from it a contract may be")
    least_days: float = Field(2.0, ge=0.0, le=400.0, description="days to expiration, at least")
    most_days: float = Field(21.0, ge=0.1, le=800.0, description="days to expiration, at most")
    most_spread: float = Field(0.05, ge=0.001, le=0.5, description="cost of crossing in and out, share of the capital")
    most_quote_age_s: float = Field(30.0, ge=1.0, le=3600.0, description="age of each quote, at most")
    least_size: int = Field(1, ge=0, le=10_000, description="contracts shown on the side that is taken; unknown passes")
    least_open_interest: int = Field(10, ge=0, le=1_000_000, description="contracts held; unknown passes")
    cooldown_minutes: int = Field(60, ge=0, le=1440, description="between two of its events in a session, at least")
    most_a_session: int = Field(3, ge=1, le=100, description="events in a session, at most")
    least_minutes_left: int = Field(20, ge=5, le=600, description="until all must be flat, at least, to begin")
    fee_per_contract: float = Field(0.65, ge=0.0, le=10.0, description="dollars, each way")
    abstain_without_edge: bool = Field(False, description="abstain once 300 outcomes say that there is no edge")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least_days > self.most_days:
            raise ValueError("least_days must not be above most_days")
        return self


@dataclass(frozen=True)
class Study:
    """Of a window of n bars: ``directions`` (n,) int8 (+1 up, -1 down, 2 both ways, 0 nothing begins here), and
    ``readings``: what it looked at, each (n,), NaN where not known yet."""

    directions: Directions
    readings: dict[str, Floats]

    def features(self, i: int) -> dict[str, float | None]:
        """The readings at bar i; None where there is none."""
        return {name: float(values[i]) if np.isfinite(values[i]) else None for name, values in self.readings.items()}


@dataclass(frozen=True)
class Moment:
    """A bar at which a strategy's condition began: bar ``i`` of ``bars``, with its direction."""

    direction: int
    bars: UnderlyingBars
    i: int
    features: dict[str, float | None]
    sessions: Sessions


@dataclass(frozen=True)
class Plan:
    """Rows of a chain and how many of each (+ bought, - sold), why, and what else was looked at for it.

    ``direction``: +1, -1, or 0 both ways.
    """

    rows: tuple[int, ...]
    quantities: tuple[int, ...]
    direction: int
    reasons: tuple[str, ...]
    features: dict[str, float | None]


@dataclass(frozen=True)
class Refusal:
    """The condition was met and nothing can be taken: why, in one sentence with the numbers."""

    why: Why
    detail: str
    features: dict[str, float | None]


class Strategy(ABC):
    """One declared strategy with one set of parameters.

    ``inputs``: what it reads: ``bars``, ``daily``, ``chain``. ``sources``: where the idea is from, and what is known of
    it. ``invalidation``: what would show, before any barrier, that its reason is gone. Raises pydantic's
    ValidationError for parameters out of their bounds.
    """

    id: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    family: ClassVar[str]
    sources: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ("bars", "chain")
    timeframe: ClassVar[Timeframe] = Timeframe.M5
    history_sessions: ClassVar[int]
    invalidation: ClassVar[str]
    Parameters: ClassVar[type[StrategyParameters]] = StrategyParameters
    # most strategies by far have a condition that bars alone decide
    needs_chain_to_trigger: ClassVar[bool] = False

    def __init__(self, parameters: StrategyParameters | None = None) -> None:
        self.parameters: Any = parameters if parameters is not None else self.Parameters()
        self.values: dict[str, float | int | str | bool] = self.parameters.model_dump()
        self.parameters_hash = digest(self.values)

    @classmethod
    def with_values(cls, **values: Any) -> Self:
        """With some parameters other than their defaults."""
        return cls(cls.Parameters(**values))

    @property
    def horizon(self) -> str:
        """How long it holds, in words."""
        return f"at most {self.parameters.time_stop_minutes} minutes, flat before the session's close"

    @abstractmethod
    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """Where its condition begins, and what it looked at. Bar i of the answer follows from bars[: i + 1]."""

    @abstractmethod
    def plan(self, moment: Moment, chain: ChainView, daily: DailyVolatility) -> Plan | Refusal | None:
        """What to take; None where the chain does not meet the condition, which is no event."""

    def triggers(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Directions:
        """`study`'s directions alone."""
        return self.study(bars, daily, sessions).directions


_REGISTRY: dict[str, type[Strategy]] = {}


def register(strategy: type[Strategy]) -> type[Strategy]:
    """Makes a strategy known by its id. Raises ValueError where another has it."""
    if _REGISTRY.setdefault(strategy.id, strategy) is not strategy:
        raise ValueError(f"two strategies are called {strategy.id}")
    return strategy


def registered() -> dict[str, type[Strategy]]:
    """All strategies that were imported, by id, in the order of their ids."""
    return dict(sorted(_REGISTRY.items()))


def minutes_of_session(bars: UnderlyingBars, sessions: Sessions) -> Ints:
    """At which minute of its session each bar begins."""
    found: Ints = (bars.starts - sessions.opens[bars.session]) // MINUTE_NS
    return found


def slots(bars: UnderlyingBars, sessions: Sessions) -> Ints:
    """Which interval of its session each bar is, 0 the first: as the indicators by session want it."""
    found: Ints = (bars.starts - sessions.opens[bars.session]) // bars.timeframe.nanoseconds
    return found


def crossed_above(values: Floats, level: Floats | float) -> Flags:
    """Above the level now, at or below it a bar before; False where either is unknown."""
    above = values > level
    found = np.zeros(len(values), np.bool_)
    below = values <= level
    found[1:] = above[1:] & below[:-1]
    return found


def crossed_below(values: Floats, level: Floats | float) -> Flags:
    """Below the level now, at or above it a bar before; False where either is unknown."""
    return crossed_above(-values, -level)


def shifted(values: Floats, bars: int = 1) -> Floats:
    """What was so many bars before; NaN at the beginning."""
    found = np.full(len(values), np.nan)
    found[bars:] = values[: max(len(values) - bars, 0)]
    return found


def directions(up: Flags, down: Flags) -> Directions:
    """+1, -1, and 0 where both or neither hold."""
    return up.astype(np.int8) - down.astype(np.int8)


def spaced(found: Directions, bars: UnderlyingBars, parameters: StrategyParameters) -> Directions:
    """The events left when those too soon after the one before, or too many in a session, are dropped, oldest first."""
    kept = np.zeros_like(found)
    session, last, number = -1, 0, 0
    for i in np.flatnonzero(found).tolist():
        if bars.session[i] != session:
            session, last, number = int(bars.session[i]), -(1 << 62), 0
        if number < parameters.most_a_session and bars.starts[i] - last >= parameters.cooldown_minutes * MINUTE_NS:
            kept[i] = found[i]
            last, number = int(bars.starts[i]), number + 1
    return kept


def clock(bars: UnderlyingBars, sessions: Sessions, first: int, every: int) -> Directions:
    """2 at each bar that closes ``first`` + k ``every`` minutes after its session's open: for conditions of a chain."""
    ended = minutes_of_session(bars, sessions) + bars.timeframe.nanoseconds // MINUTE_NS
    return np.where((ended >= first) & ((ended - first) % every == 0), BOTH, NOTHING).astype(np.int8)


def known(chosen: Iterable[type[Strategy]]) -> tuple[Strategy, ...]:
    """One of each with its defaults."""
    return tuple(strategy() for strategy in chosen)
