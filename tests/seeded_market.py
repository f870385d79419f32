"""A seeded market for tests, whose time is set by hand."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import sessions_of
from ots_simulator.market import MarketSize, SeededMarket
from ots_simulator.records import DTYPES, INDEX_TIMES

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CENT = 10_000_000
EQUITIES, OPTIONS = "EQUS.MINI", "OPRA.PILLAR"
SCHEMAS = [
    *((EQUITIES, s) for s in ("trades", "tbbo", "bbo-1s", "bbo-1m", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition")),
    *((OPTIONS, s) for s in ("trades", "tcbbo", "cbbo-1s", "cbbo-1m", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d")),
    *((OPTIONS, s) for s in ("definition", "statistics")),
]


def day_number(day: date) -> int:
    """Days since 1970."""
    return (day - date(1970, 1, 1)).days


TODAY = day_number(date(2026, 3, 11))  # a Wednesday


def make_market(
    seed: int = 7, calendar: str = "around-the-clock", size: MarketSize = MarketSize.LAPTOP, now: int | None = None
) -> SeededMarket:
    """A market with nothing in its caches; ``now`` defaults to the end of TODAY."""
    at = (TODAY + 1) * DAY if now is None else now
    return SeededMarket(seed, sessions_of(calendar), size, lambda: at)


@lru_cache(maxsize=4)
def shared_market(calendar: str = "around-the-clock", seed: int = 7) -> SeededMarket:
    """A market that tests share; what it answers does not depend on what it was asked."""
    return make_market(seed, calendar)


def ask(
    market: SeededMarket,
    dataset: str,
    schema: str,
    start: int,
    end: int,
    symbols: Collection[str] | None = None,
) -> NDArray[Any]:
    """All records of [start, end), after checking what holds of every answer."""
    chunks = list(market.records(dataset, schema, symbols, start, end))
    assert all(0 < len(chunk) <= 100_000 for chunk in chunks)
    whole = np.concatenate(chunks) if chunks else np.zeros(0, DTYPES[schema])
    times = whole[INDEX_TIMES[schema]].astype(np.int64)
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= start) & (times < end))
    assert np.all(whole["length"] == whole.dtype.itemsize // 4)
    return whole


def vendor_id(market: SeededMarket, dataset: str, symbol: str, day: int = TODAY) -> int:
    """The id of a symbol on a day."""
    (found,) = market.resolve(dataset, [symbol], "raw_symbol", day, day + 1)
    return found.vendor_id
