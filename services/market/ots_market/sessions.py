"""The exchange's sessions: when it was open, half days and daylight saving included.

The calendar belongs to the market source. Real data: XNYS, whose hours the US equity and equity option markets share.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import exchange_calendars
import numpy as np
from numpy.typing import NDArray

MINUTE_NS = 60_000_000_000
_FIRST = "1990-01-02"
_AHEAD = timedelta(days=3 * 366)


@dataclass(frozen=True)
class Sessions:
    """Sessions in order. ``dates``: datetime64[D]; ``opens`` and ``closes``: int64 ns since 1970; each shape (n,)."""

    name: str
    dates: NDArray[np.datetime64]
    opens: NDArray[np.int64]
    closes: NDArray[np.int64]

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
        """The New York date of a session."""
        found: date = self.dates[index].astype(object)
        return found


def _nanoseconds(times: Any) -> NDArray[np.int64]:
    """Nanoseconds since 1970 of a pandas series of UTC times, whatever its unit."""
    wall: NDArray[Any] = times.dt.tz_convert(None).to_numpy()
    return wall.astype("datetime64[ns]").astype(np.int64)


@lru_cache(maxsize=1)
def xnys() -> Sessions:
    """NYSE's sessions from 1990 to three years ahead; made once a process, in about half a second."""
    end = datetime.now(UTC).date() + _AHEAD
    calendar = exchange_calendars.get_calendar("XNYS", start=_FIRST, end=str(end))
    return Sessions(
        name="XNYS",
        dates=calendar.sessions.to_numpy().astype("datetime64[D]"),
        opens=_nanoseconds(calendar.schedule["open"]),
        closes=_nanoseconds(calendar.schedule["close"]),
    )
