"""What an engine may ask a market, whatever stands behind it: PostgreSQL, the analytics service, a simulation.

Nothing here looks ahead: what is asked ``at`` a moment was known then. Only the resolver asks for a tape, whose minutes
come after a decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import Sessions
from ots_market.timeframes import Timeframe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class UnderlyingBars:
    """Closed bars of an underlying, those of ``history`` sessions and of the day's own up to a moment; shape (n,).

    ``starts`` and ``known_at``: int64 ns; prices: dollars, adjusted for the splits in force at the moment; ``volume``:
    shares; ``session``: index into the calendar's sessions. Bars outside the sessions are not among them. A bar that
    is not there leaves no hole in the arrays: ``starts`` tells.
    """

    underlying: str
    timeframe: Timeframe
    starts: Ints
    known_at: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    session: Ints

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class ChainView:
    """The chain at ``at_ns`` in order of expiration, strike, call before put; arrays of shape (contracts,).

    ``symbol``: OSI without blanks; ``expiration``: datetime64[D]; ``right``: +1 call, -1 put; ``strike``: dollars;
    ``years``: of 365 days to the close of the expiration's session. ``bid``, ``ask``: 1e-9 dollars, 0 for a side that
    is missing, both 0 where the quote is too old or crossed; sizes -1 unknown; ``quoted_at``: ns, 0 never. Volatility
    and Greeks: NaN where there is none, in the units of ``ots_quant.greeks``. ``spot``: dollars, NaN unknown.
    ``reason``: why a contract has no volatility, empty where it has one. ``theoretical``: the surface's value, dollars.
    ``gaps``: open gaps that may hide quotes just before. ``digest``: the same for the same inputs.
    """

    underlying: str
    at_ns: int
    source: str
    spot: float
    spot_at_ns: int
    symbol: NDArray[np.str_]
    expiration: NDArray[np.datetime64]
    right: Floats
    strike: Floats
    years: Floats
    bid: Ints
    ask: Ints
    bid_size: Ints
    ask_size: Ints
    quoted_at: Ints
    volume: Ints
    open_interest: Ints
    forward: Floats
    rate: Floats
    dividend_yield: Floats
    implied_volatility: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    theoretical: Floats
    reason: NDArray[np.str_]
    gaps: int
    digest: str

    def __len__(self) -> int:
        return len(self.strike)


@dataclass(frozen=True)
class Tape:
    """Executable quotes of some contracts minute by minute after a moment; arrays of shape (contracts, minutes).

    Column j tells what was seen in the minute that ends at ``ends[j]`` (ns): ``bid`` and ``ask`` are the quotes that
    stand at its end, ``bid_low``/``bid_high``/``ask_low``/``ask_high`` the extremes that were executable within it
    (equal to them where only samples are stored); 1e-9 dollars. Both sides are 0 where no quote is valid (none, too
    old, crossed); 0 on one side alone is a valid quote without that side: with an ask and no bid a contract sells for
    nothing. ``age_ns``: of the standing quote at the minute's end, -1 where there is none. ``spot``: (minutes,)
    dollars, NaN unknown. ``gap``: (minutes,) whether records may be missing there. The columns are the minutes of
    sessions that end after ``start_ns`` and not after ``end_ns``, as far as they are known by now: ``complete`` says
    that nothing more is to come.
    """

    underlying: str
    symbol: NDArray[np.str_]
    ends: Ints
    bid: Ints
    ask: Ints
    bid_low: Ints
    bid_high: Ints
    ask_low: Ints
    ask_high: Ints
    age_ns: Ints
    spot: Floats
    gap: Flags
    complete: bool


@dataclass(frozen=True)
class DailyVolatility:
    """Closed sessions, newest last, shape (n,): volatilities as decimals a year, NaN unknown."""

    dates: NDArray[np.datetime64]
    close: Floats
    implied_30d: Floats


@dataclass(frozen=True)
class Pool:
    """Moments and contracts of one underlying to draw matches from; arrays of shape (candidates,).

    ``at_ns``: the moment; ``minute``: of its session, from the open; the rest as in `ChainView`.
    """

    at_ns: Ints
    minute: Ints
    symbol: NDArray[np.str_]
    right: Floats
    years: Floats
    delta: Floats
    bid: Ints
    ask: Ints


class NotYet(Exception):
    """What is asked about has not been stored or answered yet: ask again later. Never a reason to skip an event."""


class MarketView(Protocol):
    """A market to decide in. Raises `NotYet` where it cannot tell yet what was known at the moment."""

    @property
    def source(self) -> str:
        """``databento``, ``simulated``, or the name of an in-process market, which says that it is one."""
        ...

    @property
    def sessions(self) -> Sessions:
        """The calendar of that source."""
        ...

    def bars(
        self, underlying: str, timeframe: Timeframe, session: date, history_sessions: int, at_ns: int
    ) -> UnderlyingBars:
        """The bars closed by ``at_ns`` of the session and of so many sessions before it; perhaps none."""
        ...

    def chain(self, underlying: str, at_ns: int) -> ChainView:
        """The chain as quoted by ``at_ns``; of length 0 where nothing was."""
        ...

    def daily_volatility(self, underlying: str, at_ns: int) -> DailyVolatility:
        """Of the closed sessions before, from which implied and realised are told apart."""
        ...


class TapeView(Protocol):
    """What came after; for the resolver and the baselines only."""

    def tape(self, underlying: str, symbols: Sequence[str], start_ns: int, end_ns: int) -> Tape:
        """The minutes from ``start_ns`` to ``end_ns`` of these contracts, row i for ``symbols[i]``."""
        ...

    def pool(self, underlying: str, at_ns: int) -> Pool:
        """Contracts and moments from which a decision at ``at_ns`` has its random matches; known by then or not."""
        ...


class Market(MarketView, TapeView, Protocol):
    """Both, of one and the same market: what a backtest runs in."""
