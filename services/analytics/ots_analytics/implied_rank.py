"""Where an implied volatility lies among those stored at the closes of the sessions before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ots_chains.chains import Moment
from ots_common.database import Database
from ots_common.times import to_datetime

LEAST_SESSIONS = 20
# only closes of sessions before the moment's: the value that is ranked is not compared with itself
_CLOSES = """
    SELECT session_date, volatility_30d FROM volatility_snapshots
    WHERE underlying = %s AND closing AND session_date < %s AND ts < %s AND volatility_30d IS NOT NULL
    ORDER BY ts DESC LIMIT %s
"""
_NEWEST = """
    SELECT (extract(epoch FROM ts) * 1000000)::bigint * 1000, session_date, volatility_30d, volatility_30d_reason
    FROM volatility_snapshots WHERE underlying = %s AND ts <= %s ORDER BY ts DESC LIMIT 1
"""


@dataclass(frozen=True)
class StoredCloses:
    """Implied volatilities in 30 days at closes, the oldest first; ``dates``: datetime64[D]. Each of shape (n,)."""

    dates: NDArray[np.datetime64]
    volatility: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.dates)


@dataclass(frozen=True)
class ImpliedRank:
    """``rank``: (current - lowest) / (highest - lowest), the current one among them; 0 to 1.

    ``percentile``: the share of the stored closes that were below the current one. Both None where ``reason`` says why.
    """

    rank: float | None
    percentile: float | None
    lowest: float | None
    highest: float | None
    reason: str | None


@dataclass(frozen=True)
class StoredImplied:
    """The newest stored snapshot's implied volatility in 30 days; None where ``reason`` says why."""

    at_ns: int
    session: date
    volatility: float | None
    reason: str | None


def read_closes_before(database: Database, underlying: str, moment: Moment, sessions: int) -> StoredCloses:
    """The newest ``sessions`` closes before the moment's session that have a value."""
    rows = database.rows(_CLOSES, (underlying, moment.session, to_datetime(moment.at_ns), sessions))[::-1]
    return StoredCloses(
        np.array([row[0] for row in rows], "datetime64[D]"), np.array([row[1] for row in rows], np.float64)
    )


def read_newest_implied(database: Database, underlying: str, at_ns: int) -> StoredImplied | None:
    """The newest snapshot at or before; None where there is none."""
    rows = database.rows(_NEWEST, (underlying, to_datetime(at_ns)))
    return StoredImplied(*rows[0]) if rows else None


def rank_of(current: float | None, closes: StoredCloses) -> ImpliedRank:
    """Where ``current`` lies among the stored closes."""
    if not len(closes):
        return ImpliedRank(
            None, None, None, None, f"no close of a session before is stored; {LEAST_SESSIONS} are the fewest"
        )
    lowest, highest = float(closes.volatility.min()), float(closes.volatility.max())
    if len(closes) < LEAST_SESSIONS:
        reason = f"{len(closes)} closes of sessions before are stored; {LEAST_SESSIONS} are the fewest"
        return ImpliedRank(None, None, lowest, highest, reason)
    if current is None:
        return ImpliedRank(None, None, lowest, highest, "there is no implied volatility to rank")
    percentile = float((closes.volatility < current).mean())
    least, most = min(lowest, current), max(highest, current)
    if most == least:
        return ImpliedRank(None, percentile, lowest, highest, "rank: the lowest and the highest are the same")
    return ImpliedRank((current - least) / (most - least), percentile, lowest, highest, None)
