"""The bars of several strategies in one read: a shorter history is the end of a longer one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import date

import numpy as np

from ots_market.sessions import Sessions
from ots_market.timeframes import Timeframe
from ots_signals.market_view import ChainView, DailyVolatility, MarketView, UnderlyingBars
from ots_signals.strategies.base import Strategy

_ARRAYS = tuple(f.name for f in fields(UnderlyingBars) if f.name not in ("underlying", "timeframe"))


class Windows:
    """`MarketView` of ``view`` for decisions about one moment: of each timeframe the longest window is read, once."""

    def __init__(self, view: MarketView, strategies: Iterable[Strategy]) -> None:
        self._view = view
        self._longest: dict[Timeframe, int] = {}
        for one in strategies:
            self._longest[one.timeframe] = max(self._longest.get(one.timeframe, 0), one.history_sessions)
        self._read: dict[tuple[str, Timeframe, date, int], UnderlyingBars] = {}

    @property
    def source(self) -> str:
        """As the view's."""
        return self._view.source

    @property
    def sessions(self) -> Sessions:
        """As the view's."""
        return self._view.sessions

    def bars(
        self, underlying: str, timeframe: Timeframe, session: date, history_sessions: int, at_ns: int
    ) -> UnderlyingBars:
        """As the view's."""
        longest = max(self._longest.get(timeframe, 0), history_sessions)
        key = (underlying, timeframe, session, at_ns)
        if key not in self._read:
            self._read[key] = self._view.bars(underlying, timeframe, session, longest, at_ns)
        whole = self._read[key]
        if history_sessions == longest:
            return whole
        # so many sessions of the calendar before this one, whether anything is stored of them or not
        index = int(np.searchsorted(self.sessions.dates, np.datetime64(session)))
        first = int(np.searchsorted(whole.session, index - history_sessions))
        return replace(whole, **{name: getattr(whole, name)[first:] for name in _ARRAYS})

    def chain(self, underlying: str, at_ns: int) -> ChainView:
        """As the view's."""
        return self._view.chain(underlying, at_ns)

    def daily_volatility(self, underlying: str, at_ns: int) -> DailyVolatility:
        """As the view's."""
        return self._view.daily_volatility(underlying, at_ns)
