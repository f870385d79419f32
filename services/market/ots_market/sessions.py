"""The exchange's sessions: when it was open, half days and daylight saving included.

The calendar belongs to the market source (the setting MARKET_CALENDAR). Real data: XNYS, whose hours the US equity and
equity option markets share. The simulated market has no real hours to keep: by default it is open around the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_market.timeframes import DAY_NS, MINUTE_NS

_FIRST = "1990-01-02"
_AHEAD = timedelta(days=3 * 366)


@dataclass(frozen=True)
class Sessions:
    """Sessions in order. ``dates``: datetime64[D]; ``opens`` and ``closes``: int64 ns since 1970; each shape (n,)."""

    name: str
    dates: NDArray[np.datetime64]
    opens: NDArray[np.int64]
    closes: NDArray[np.int64]
    # of a year and of a whole session, by which volatility is made annual
    sessions_a_year: int
    regular_ns: int

    def between(self, start_ns: int, end_ns: int) -> slice:
        """The sessions that overlap [start, end)."""
        first = int(np.searchsorted(self.closes, start_ns, side="right"))
        return slice(first, max(first, int(np.searchsorted(self.opens, end_ns, side="left"))))

    def index_of(self, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The session in whose hours each time lies, shape of ``times_ns``; -1 outside all sessions."""
        index = np.searchsorted(self.opens, times_ns, side="right") - 1
        inside = (index >= 0) & (times_ns < self.closes[np.maximum(index, 0)])
        return np.where(inside, index, -1)

    def date_at(self, index: int) -> date:
        """The date of a session: New York's for XNYS."""
        found: date = self.dates[index].astype(object)
        return found


def _nanoseconds(times: Any) -> NDArray[np.int64]:
    """Nanoseconds since 1970 of a pandas series of UTC times, whatever its unit."""
    wall: NDArray[Any] = times.dt.tz_convert(None).to_numpy()
    return wall.astype("datetime64[ns]").astype(np.int64)


@lru_cache(maxsize=1)
def around_the_clock() -> Sessions:
    """A market that never closes: each UTC day is a session, weekends too, from 1990 to three years ahead."""
    dates = np.arange(np.datetime64(_FIRST), np.datetime64(datetime.now(UTC).date() + _AHEAD), dtype="datetime64[D]")
    opens = dates.astype("datetime64[ns]").astype(np.int64)
    return Sessions(
        name="SIM24", dates=dates, opens=opens, closes=opens + DAY_NS, sessions_a_year=365, regular_ns=DAY_NS
    )


def sessions_of(calendar: str) -> Sessions:
    """The sessions of MARKET_CALENDAR: ``xnys`` or ``around-the-clock``. Raises KeyError for any other name."""
    return {"xnys": xnys, "around-the-clock": around_the_clock}[calendar]()


@lru_cache(maxsize=1)
def xnys() -> Sessions:
    """NYSE's sessions from 1990 to three years ahead; made once a process, in about half a second."""
    # with pandas behind it, a second that a process without the exchange's calendar does not need
    import exchange_calendars

    end = datetime.now(UTC).date() + _AHEAD
    calendar = exchange_calendars.get_calendar("XNYS", start=_FIRST, end=str(end))
    return Sessions(
        name="XNYS",
        dates=calendar.sessions.to_numpy().astype("datetime64[D]"),
        opens=_nanoseconds(calendar.schedule["open"]),
        closes=_nanoseconds(calendar.schedule["close"]),
        sessions_a_year=252,
        regular_ns=390 * MINUTE_NS,
    )
