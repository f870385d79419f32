"""Stored bars as the mathematics takes them: adjusted for splits, with the sessions of the exchange's calendar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ots_analytics.adjusted_bars import AdjustedBars
from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, Timeframe
from ots_quant.indicators.history import History


def history_of(bars: AdjustedBars, sessions: Sessions, anchor: int) -> History:
    """The bars in dollars and shares with their sessions; ``anchor`` is the index of a bar."""
    session, slot = session_slots(bars.stored.starts, bars.timeframe, sessions)
    return History(
        **bars.inputs(),
        session=session,
        slot=slot,
        anchor=anchor,
        bars_per_year=bars_per_year(bars.timeframe, sessions),
    )


def session_slots(
    starts_ns: NDArray[np.int64], timeframe: Timeframe, sessions: Sessions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The session in which each bar lies (-1: none) and how many intervals after the session's first it begins.

    A bar belongs to the regular session that its interval overlaps: the hour from 14:00 UTC, when the exchange opens at
    14:30, is the first of its session. A daily bar is a session of its own.
    """
    if timeframe is Timeframe.D1:
        return starts_ns // DAY_NS, np.zeros(len(starts_ns), np.int64)
    length = timeframe.nanoseconds
    begins = sessions.opens // length * length
    # sessions are looked up among the bars, which are in order and many more, and not the bars among the sessions
    first, last = np.searchsorted(begins, starts_ns[[0, -1]], side="right") if len(starts_ns) else (0, 0)
    bounds = np.concatenate(([0], np.searchsorted(starts_ns, begins[first:last]), [len(starts_ns)]))
    index = np.repeat(np.arange(first - 1, last), np.diff(bounds))
    inside = (index >= 0) & (starts_ns < sessions.closes[np.maximum(index, 0)])
    slot = (starts_ns - begins[np.maximum(index, 0)]) // length
    return np.where(inside, index, -1), np.where(inside, slot, 0)


def bars_per_year(timeframe: Timeframe, sessions: Sessions) -> float:
    """How many bars the regular sessions of a year have."""
    per_session = 1 if timeframe is Timeframe.D1 else -(-sessions.regular_ns // timeframe.nanoseconds)
    return float(sessions.sessions_a_year * per_session)


def most_bars_per_day(timeframe: Timeframe) -> int:
    """The bars that the intervals of a calendar day can have, extended hours included."""
    return DAY_NS // timeframe.nanoseconds
