"""How good the bars behind an answer are: how old, and what is missing between them; from counted facts only."""

from __future__ import annotations

from typing import Any

import numpy as np

from ots_market.bars import Bars, Origin
from ots_market.sessions import Sessions
from ots_market.timeframes import Timeframe


def bar_quality(bars: Bars, timeframe: Timeframe, sessions: Sessions, as_of_ns: int) -> dict[str, Any]:
    """The quality of at least one bar, asked for at ``as_of_ns``.

    ``sessions_behind``: sessions that closed between the newest bar and ``as_of``. ``missing``: intervals of regular
    sessions between the first bar and the last without a bar (an interval without a trade has none either).
    """
    closed = sessions.closes <= as_of_ns
    behind = int((closed & (sessions.closes > _end(bars, timeframe, sessions))).sum())
    return {
        "bars": len(bars),
        "missing": _missing(bars, timeframe, sessions),
        "stale": behind > 0,
        "sessions_behind": behind,
        "origins": {origin.name.lower(): n for origin in Origin if (n := int((bars.origin == origin).sum()))},
    }


def _end(bars: Bars, timeframe: Timeframe, sessions: Sessions) -> int:
    """Up to when the newest bar tells something."""
    if timeframe is not Timeframe.D1:
        return int(bars.known_at[-1])
    stamps = sessions.dates.astype("datetime64[ns]").astype(np.int64)
    index = int(np.searchsorted(stamps, bars.starts[-1], side="right")) - 1
    return int(sessions.closes[index]) if index >= 0 else int(bars.known_at[-1])


def _missing(bars: Bars, timeframe: Timeframe, sessions: Sessions) -> int:
    if timeframe is Timeframe.D1:
        stamps = sessions.dates.astype("datetime64[ns]").astype(np.int64)
        expected = stamps[(stamps >= bars.starts[0]) & (stamps <= bars.starts[-1])]
        return len(expected) - int(np.isin(expected, bars.starts).sum())
    length = timeframe.nanoseconds
    chosen = sessions.between(int(bars.starts[0]), int(bars.known_at[-1]))
    # the first interval of each session that is looked at, and the end of the last
    first = np.maximum(sessions.opens[chosen] // length, -(-bars.starts[0] // length)) * length
    end = np.minimum(sessions.closes[chosen], bars.starts[-1] + 1)
    expected = np.maximum(-((first - end) // length), 0)
    # of bars in order, each its interval's only one, those in a session lie together: so few places are looked up
    starts = bars.starts[bars.starts % length == 0]
    there = np.searchsorted(starts, np.maximum(end, first)) - np.searchsorted(starts, first)
    return int((expected - there).sum())
