"""The stored bars of an instrument as numbers to compute with: dollars and shares, adjusted for splits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_analytics.answers import stored_version_in_use
from ots_analytics.quality import bar_quality
from ots_common.database import Database
from ots_common.memory import Memory
from ots_common.problems import Problem
from ots_common.times import rfc3339
from ots_market.adjusted_bars import adjusted_columns
from ots_market.adjustments import Split, splits_known_at
from ots_market.bars import Bars, read_bars
from ots_market.instruments import Instrument
from ots_market.sessions import Sessions
from ots_market.timeframes import Timeframe

_LAST_NS = 2**63 - 1


@dataclass(frozen=True)
class AdjustedBars:
    """At least one bar that had closed by ``as_of_ns``, and the splits that its numbers are adjusted for."""

    instrument: Instrument
    timeframe: Timeframe
    as_of_ns: int
    stored: Bars
    splits: list[Split]
    adjusted: bool
    sessions: Sessions

    def __len__(self) -> int:
        return len(self.stored)

    def inputs(self) -> dict[str, NDArray[np.float64]]:
        """``open``, ``high``, ``low``, ``close`` in dollars and ``volume`` in shares, each of shape (n,)."""
        return adjusted_columns(self.stored, self.splits, self.timeframe)

    def heading(self, source: str) -> dict[str, Any]:
        """How an answer over these bars begins: whose they are, how old, how good, and what was adjusted."""
        return {
            "symbol": self.instrument.raw_symbol,
            "timeframe": self.timeframe.value,
            "as_of": rfc3339(int(self.stored.known_at[-1])),
            "source": source,
            "dataset": self.instrument.dataset,
            "quality": bar_quality(self.stored, self.timeframe, self.sessions, self.as_of_ns),
            "adjustment": {"applied": self.adjusted, "splits": [split.stated() for split in self.splits]},
        }


def read_adjusted_bars(
    database: Database,
    instrument: Instrument,
    timeframe: Timeframe,
    sessions: Sessions,
    *,
    as_of_ns: int,
    limit: int,
    adjusted: bool,
    memory: Memory[Bars] | None = None,
) -> AdjustedBars:
    """The newest ``limit`` bars known at ``as_of_ns``. Raises a 404 problem when there is none.

    A split counts from its ex-date: what was not in force at ``as_of_ns`` is not adjusted for. ``memory`` keeps
    intraday bars for the next question about the same of the same version of the data.
    """

    def read() -> Bars:
        return read_bars(
            database,
            instrument.instrument_id,
            timeframe,
            sessions,
            start_ns=0,
            end_ns=_LAST_NS,
            as_of_ns=as_of_ns,
            limit=limit,
            newest=True,
        )

    version = stored_version_in_use()
    if memory is None or version is None or timeframe is Timeframe.D1:
        bars = read()
    else:
        # an intraday bar is known from the end of its interval: until the next one ends the same bars are
        known = as_of_ns // timeframe.nanoseconds
        bars = memory.get((instrument.instrument_id, timeframe, known, limit, version), lambda: _unchanging(read()))
    if not len(bars):
        raise Problem(
            404,
            "no-bars",
            f"no {timeframe.value} bars of {instrument.raw_symbol} had closed by then",
            hint=f'curl -H "Authorization: Bearer $TOKEN" '
            f'"http://localhost:8000/api/v1/data/bars/{instrument.raw_symbol.replace(" ", "")}?timeframe=1d&limit=1"',
        )
    splits = splits_known_at(database, instrument.raw_symbol, as_of_ns) if adjusted else []
    return AdjustedBars(instrument, timeframe, as_of_ns, bars, splits, adjusted, sessions)


def _unchanging(bars: Bars) -> Bars:
    """For several threads to read."""
    for field in fields(bars):
        getattr(bars, field.name).setflags(write=False)
    return bars
