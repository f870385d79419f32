"""Time as variance passes: a session counts, the night before it counts for less, a weekend for no more than a night.

A volatility by the calendar looks low on a Friday and high on a Monday although nothing changed; by this clock it does
not. A session counts 1 / sessions a year, of which a share falls in its hours, evenly, the rest on the night before it.
The share is an assumption: what is known is that little happens while the exchange is closed.

Source: K. French, R. Roll, Stock return variances, Journal of Financial Economics 17 (1986).
"""

from __future__ import annotations

import numpy as np

from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, MINUTE_NS

IN_HOURS = 0.75


def share_in_hours(sessions: Sessions) -> float:
    """Of a session's variance, what falls in its hours: all of it where the exchange never closes."""
    return IN_HOURS if sessions.regular_ns < DAY_NS else 1.0


def session_years(sessions: Sessions, start_ns: int, end_ns: int) -> float:
    """From one moment to another by this clock, in years."""
    part = sessions.between(start_ns, end_ns)
    if part.stop <= part.start:
        return 0.0
    hours = share_in_hours(sessions)
    opens, closes = sessions.opens[part], sessions.closes[part]
    inside = (np.minimum(closes, end_ns) - np.maximum(opens, start_ns)) / sessions.regular_ns
    nights = int((opens > start_ns).sum())  # at the open itself the night is over
    return float((hours * inside.sum() + (1.0 - hours) * nights) / sessions.sessions_a_year)


def minute_years(sessions: Sessions) -> float:
    """One minute of a session."""
    return share_in_hours(sessions) * MINUTE_NS / sessions.regular_ns / sessions.sessions_a_year
