"""Realised volatility of an underlying: by five estimators, over its last sessions and over the session that is on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ots_analytics.adjusted_bars import AdjustedBars, read_adjusted_bars
from ots_analytics.histories import history_of
from ots_chains.chains import Moment
from ots_common.database import Database
from ots_common.problems import Problem
from ots_market.instruments import Instrument
from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS, Timeframe
from ots_quant.indicators.history import History
from ots_quant.registry import INDICATORS

ESTIMATORS = ("close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang")
LEAST_MINUTES = 30
"""Fewer minutes of a session tell more of the opening than of the session."""


@dataclass(frozen=True)
class Realised:
    """Decimals a year by estimator, None where ``reasons`` says why; over bars that start from ``first`` to ``last``.

    ``bars``: how many they are; ``first_ns`` and ``last_ns`` are None where there is none.
    """

    bars: int
    first_ns: int | None
    last_ns: int | None
    values: dict[str, float | None]
    reasons: dict[str, str]


def read_daily(
    database: Database, instrument: Instrument, sessions: Sessions, as_of_ns: int, bars: int
) -> AdjustedBars | None:
    """The newest daily bars that had closed, adjusted for splits; None where there is none."""
    return _read(database, instrument, Timeframe.D1, sessions, as_of_ns, bars)


def over_sessions(daily: AdjustedBars | None, sessions: Sessions, windows: Sequence[int]) -> list[Realised]:
    """Over the newest so many daily bars, each window a row."""
    if daily is None:
        return [_nothing("no daily bar had closed") for _ in windows]
    history = history_of(daily, sessions, 0)
    return [_over(history, daily, window) for window in windows]


def over_session(
    database: Database, instrument: Instrument, sessions: Sessions, moment: Moment, as_of_ns: int
) -> Realised:
    """Over the minute bars of the moment's session that had closed; annual by the minutes of a year's sessions.

    No jump over night is in it: the first return is from the first minute's close to the second's.
    """
    until = min(as_of_ns, moment.at_ns)
    most = (moment.closes_ns - moment.opens_ns) // MINUTE_NS
    found = _read(database, instrument, Timeframe.M1, sessions, until, most)
    own = np.flatnonzero(found.stored.starts >= moment.opens_ns) if found is not None else np.zeros(0, np.int64)
    if found is None or not len(own):
        return _nothing("no minute bar of the session is stored")
    if len(own) < LEAST_MINUTES:
        return _nothing(f"{len(own)} minute bars of the session had closed; {LEAST_MINUTES} are the fewest")
    session = AdjustedBars(
        found.instrument, found.timeframe, found.as_of_ns, found.stored.take(own), found.splits, True, sessions
    )
    return _over(history_of(session, sessions, 0), session, len(own), inside=True)


def _read(
    database: Database, instrument: Instrument, timeframe: Timeframe, sessions: Sessions, as_of_ns: int, bars: int
) -> AdjustedBars | None:
    try:
        return read_adjusted_bars(
            database, instrument, timeframe, sessions, as_of_ns=as_of_ns, limit=bars, adjusted=True
        )
    except Problem as problem:
        if problem.status != 404:
            raise
        return None


def _over(history: History, bars: AdjustedBars, window: int, *, inside: bool = False) -> Realised:
    """Over the newest ``window`` bars; with ``inside``, estimators that look a bar further back take one bar less."""
    values: dict[str, float | None] = dict.fromkeys(ESTIMATORS)
    reasons = {}
    for name in ESTIMATORS:
        indicator = INDICATORS[name]
        before = indicator.lookback({"period": float(window)}).bars + 1 - window
        period = window - before if inside else window
        if period + before > len(bars):
            reasons[name] = f"{period + before} bars are needed, {len(bars)} had closed"
            continue
        try:
            newest = float(indicator.compute(history, {"period": float(period)})[0][-1])
        except ValueError as error:
            reasons[name] = f"the stored bars cannot be used: {error}"
            continue
        if np.isfinite(newest):
            values[name] = newest
        else:
            reasons[name] = "not defined for these bars"
    starts = bars.stored.starts[-window:]
    return Realised(len(starts), int(starts[0]), int(starts[-1]), values, reasons)


def _nothing(reason: str) -> Realised:
    return Realised(0, None, None, dict.fromkeys(ESTIMATORS), dict.fromkeys(ESTIMATORS, reason))
