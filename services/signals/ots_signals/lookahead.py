"""Catches a strategy that looks ahead: what it said up to a bar must not change with what comes after.

The study of a window that is cut after bar i must say of bar i what the study of the whole window says. A strategy that
peeks at the next bar, fits on the whole day, or fills a hole from behind fails.

The idea is that of freqtrade's ``lookahead-analysis``. ``python -m ots_signals lookahead`` checks the strategies over
sessions of a fair market.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import Sessions
from ots_signals.fair_market import FairMarket, FairSettings
from ots_signals.market_view import DailyVolatility, MarketView, UnderlyingBars
from ots_signals.strategies import registered
from ots_signals.strategies.base import Strategy

_PER_BAR = tuple(f.name for f in fields(UnderlyingBars) if f.name not in ("underlying", "timeframe"))


@dataclass(frozen=True)
class LookAhead:
    """The first bar at which a strategy said something else once more was known. ``what``: direction or a reading."""

    strategy: str
    bar: int
    at_ns: int
    what: str
    then: float
    later: float

    def __str__(self) -> str:
        """One sentence."""
        moment = np.datetime64(self.at_ns, "ns")
        told = f"was {self.then:g}, and {self.later:g} with later bars"
        return f"{self.strategy} looks ahead: {self.what} at {moment} {told}"


def cut(bars: UnderlyingBars, length: int) -> UnderlyingBars:
    """The first ``length`` bars."""
    return replace(bars, **{name: getattr(bars, name)[:length] for name in _PER_BAR})


def prefix_check(
    strategy: Strategy,
    bars: UnderlyingBars,
    daily: DailyVolatility,
    sessions: Sessions,
    *,
    at: Sequence[int] | None = None,
) -> LookAhead | None:
    """None where directions and readings at each bar are those of the window cut after it; else the first that are not.

    ``at``: the bars to cut after, all of the last session and the first one before by default.
    """
    whole = strategy.study(bars, daily, sessions)
    chosen = at if at is not None else np.flatnonzero(bars.session == bars.session[-1]).tolist() if len(bars) else []
    for i in chosen:
        part = strategy.study(cut(bars, i + 1), daily, sessions)
        told: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {"direction": (part.directions, whole.directions)}
        told |= {name: (part.readings[name], values) for name, values in whole.readings.items()}
        for name, (then, later) in told.items():
            if not np.array_equal(then[: i + 1], later[: i + 1], equal_nan=then.dtype.kind == "f"):
                bar = int(np.flatnonzero(~_same(then[: i + 1], later[: i + 1]))[0])
                return LookAhead(strategy.id, bar, int(bars.known_at[bar]), name, float(then[bar]), float(later[bar]))
    return None


def check_session(view: MarketView, strategy: Strategy, underlying: str, session: date) -> LookAhead | None:
    """`prefix_check` over one session of a market."""
    sessions = view.sessions
    k = int(np.searchsorted(sessions.dates, np.datetime64(session)))
    bars = view.bars(underlying, strategy.timeframe, session, strategy.history_sessions, int(sessions.closes[k]))
    return prefix_check(strategy, bars, view.daily_volatility(underlying, int(sessions.opens[k])), sessions)


def _same(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    both_unknown = np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64))
    same: NDArray[np.bool_] = (a == b) | both_unknown
    return same


def main(argv: Sequence[str] | None = None) -> int:
    """Check strategies by their ids, all by default; 0 where none looks ahead, 1 where one does."""
    parser = argparse.ArgumentParser(prog="python -m ots_signals lookahead", description=__doc__)
    parser.add_argument("strategies", nargs="*", metavar="STRATEGY", help="ids; all of them by default")
    parser.add_argument("--seed", type=int, default=1, help="of the fair market whose bars are used")
    parser.add_argument("--sessions", type=int, default=5)
    asked = parser.parse_args(argv)
    unknown = sorted(set(asked.strategies) - set(registered()))
    if unknown or asked.sessions < 1:
        parser.error(f"no strategy is called {unknown[0]}" if unknown else "--sessions must be 1 or more")
    market = FairMarket(asked.seed, FairSettings(underlyings=("FRA", "FRB"), sessions=asked.sessions))
    caught = 0
    for name in asked.strategies or registered():
        strategy = registered()[name]()
        checks = (check_session(market, strategy, u, day) for u in market.underlyings for day in market.trading_dates)
        found = next((one for one in checks if one is not None), None)
        caught += found is not None
        print(found or f"{name}: nothing that came later changed what it said")
    return 1 if caught else 0


if __name__ == "__main__":
    sys.exit(main())
