"""The closes of chosen symbols, adjusted for splits, and the moments that they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ots_analytics.adjusted_bars import AdjustedBars, read_adjusted_bars
from ots_analytics.histories import session_slots
from ots_common.database import Database
from ots_market.bars import Bars
from ots_market.instruments import Instrument
from ots_market.sessions import Sessions
from ots_market.timeframes import Timeframe


@dataclass(frozen=True)
class Closes:
    """The newest bars of a symbol that lie in regular sessions: ``regular``, perhaps none, of all that were read.

    ``starts``: int64 ns, ``close``: dollars, adjusted for splits; each of shape (n,).
    """

    bars: AdjustedBars
    regular: Bars
    close: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.regular)

    @property
    def starts(self) -> NDArray[np.int64]:
        """When the bars begin."""
        return self.regular.starts

    @property
    def symbol(self) -> str:
        """As it is stored."""
        return self.bars.instrument.raw_symbol


def read_closes(
    database: Database, instrument: Instrument, timeframe: Timeframe, sessions: Sessions, *, as_of_ns: int, bars: int
) -> Closes:
    """At most ``bars`` closes known at ``as_of_ns``. Raises a 404 problem where no bar at all was."""
    limit = bars if timeframe is Timeframe.D1 else _with_extended_hours(timeframe, sessions, as_of_ns, bars)
    found = read_adjusted_bars(database, instrument, timeframe, sessions, as_of_ns=as_of_ns, limit=limit, adjusted=True)
    regular = np.flatnonzero(session_slots(found.stored.starts, timeframe, sessions)[0] >= 0)[-bars:]
    return Closes(found, found.stored.take(regular), found.inputs()["close"][regular])


def _with_extended_hours(timeframe: Timeframe, sessions: Sessions, as_of_ns: int, bars: int) -> int:
    """How many intervals it takes back, day and night, until ``bars`` of them lie in regular sessions."""
    length = timeframe.nanoseconds
    newest = int(np.searchsorted(sessions.opens, as_of_ns))
    opens = sessions.opens[:newest][::-1]
    lasted = np.minimum(sessions.closes[:newest][::-1], as_of_ns) - opens
    enough = int(np.searchsorted(np.cumsum(lasted // length), bars))
    since = int(opens[min(enough, newest - 1)]) if newest else as_of_ns
    return max(bars, (as_of_ns - since) // length + 1)


def common_closes(series: Sequence[Closes]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(starts (n,), closes (symbols, n)) of the bars that every series has."""
    starts = series[0].starts
    for one in series[1:]:
        starts = np.intersect1d(starts, one.starts, assume_unique=True)
    return starts, np.array([one.close[np.searchsorted(one.starts, starts)] for one in series])
