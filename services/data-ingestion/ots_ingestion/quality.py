"""The figures of data quality, each counted from records: arrays in, counts out. Definitions: docs/DATA_QUALITY.md.

Nothing here removes or repairs a record: a crossed quote and an odd print are stored as they came, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_market.prices import UNDEFINED

Int64 = NDArray[np.int64]
Records = NDArray[Any]

LATE_AFTER_NS = 1_000_000_000
STALE_AFTER_NS = 15 * 60 * 1_000_000_000
# Hampel's identifier (Davies and Gather, "The identification of multiple outliers", JASA 1993): a value far from the
# median of its neighbours, in their median absolute deviations. 1.4826 makes the MAD a deviation of normal values.
OUTLIER_NEIGHBOURS = 25
OUTLIER_DEVIATIONS = 10.0
OUTLIER_FLOOR = 0.001
_MAD_TO_SIGMA = 1.4826
# windows in memory at once
_CHUNK = 20_000


@dataclass(frozen=True)
class Order:
    """Records by when they came. ``by_sequence`` None: the schema has no sequence numbers."""

    records: int
    late: int
    by_event: int
    by_sequence: int | None


@dataclass(frozen=True)
class QuoteFaults:
    """Quotes that no market shows, and quotes that do not move; counts of records."""

    records: int
    crossed: int
    locked: int
    one_sided: int
    empty: int
    stale: int


@dataclass(frozen=True)
class Latency:
    """Nanoseconds from one clock to another, of ``records``; ``negative``: the second clock was behind."""

    records: int
    negative: int
    p50: int
    p90: int
    p99: int
    max: int


@dataclass(frozen=True)
class Outliers:
    """Prints far from their neighbours. ``evaluated``: prints with enough neighbours to tell."""

    count: int
    evaluated: int


def _runs(*keys: Int64) -> NDArray[np.bool_]:
    """True where a row begins a run of equal keys; every key has shape (n,) and the rows are sorted by them."""
    first = np.ones(len(keys[0]), bool)
    first[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return first


def _peak_before(values: Int64, first: NDArray[np.bool_]) -> Int64:
    """The largest value before each row within its run, shape (n,); the row's own value where it is its run's first."""
    starts = np.flatnonzero(first)
    peaks = np.empty_like(values)
    for start, end in zip(starts, np.append(starts[1:], len(values)), strict=True):
        peaks[start] = values[start]
        peaks[start + 1 : end] = np.maximum.accumulate(values[start : end - 1])
    return peaks


def order_of(instruments: Int64, publishers: Int64, event_ns: Int64, recv_ns: Int64, sequences: Int64 | None) -> Order:
    """Late and out-of-order records; every array has shape (n,).

    The order of arrival is that of ``recv_ns``, each instrument and publisher apart; records received in one nanosecond
    came in the order of their sequence. Out of order by event (by sequence): an earlier event (a lower number) than one
    that came before.
    """
    if not len(event_ns):
        return Order(0, 0, 0, None if sequences is None else 0)
    tie = event_ns if sequences is None else sequences
    order = np.lexsort((tie, recv_ns, publishers, instruments))
    first = _runs(instruments[order], publishers[order])

    def behind(values: Int64) -> int:
        ordered = values[order]
        return int((ordered < _peak_before(ordered, first)).sum())

    return Order(
        records=len(event_ns),
        late=int((recv_ns - event_ns > LATE_AFTER_NS).sum()),
        by_event=behind(event_ns),
        by_sequence=None if sequences is None else behind(sequences),
    )


def quote_faults(
    instruments: Int64, times_ns: Int64, bid: Int64, ask: Int64, bid_size: Int64, ask_size: Int64
) -> QuoteFaults:
    """Faults of the quotes of one schema; every array has shape (n,), a missing price is ``UNDEFINED``.

    Stale: a quote STALE_AFTER_NS or longer after its instrument's quote last changed in price or size.
    """
    if not len(times_ns):
        return QuoteFaults(0, 0, 0, 0, 0, 0)
    no_bid, no_ask = bid == UNDEFINED, ask == UNDEFINED
    both = ~no_bid & ~no_ask
    order = np.lexsort((times_ns, instruments))
    times = times_ns[order]
    changed = _runs(*(values[order] for values in (instruments, bid, ask, bid_size, ask_size)))
    since = times[np.maximum.accumulate(np.where(changed, np.arange(len(times)), 0))]
    return QuoteFaults(
        records=len(times),
        crossed=int((both & (bid > ask)).sum()),
        locked=int((both & (bid == ask)).sum()),
        one_sided=int((no_bid ^ no_ask).sum()),
        empty=int((no_bid & no_ask).sum()),
        stale=int((times - since >= STALE_AFTER_NS).sum()),
    )


def latency_of(from_ns: Int64, to_ns: Int64) -> Latency | None:
    """Percentiles of ``to - from``, each an observed value (the inverse of their distribution); None of none."""
    if not len(from_ns):
        return None
    taken = to_ns - from_ns
    p50, p90, p99 = np.percentile(taken, [50, 90, 99], method="inverted_cdf").tolist()
    return Latency(len(taken), int((taken < 0).sum()), int(p50), int(p90), int(p99), int(taken.max()))


def outliers_of(instruments: Int64, prices: Int64) -> Outliers:
    """Prints whose log price is far from their neighbours'; shape (n,), in order of time within each instrument.

    Far: more than OUTLIER_DEVIATIONS robust standard deviations, and more than OUTLIER_FLOOR (10 basis points), from
    the median of the window of OUTLIER_NEIGHBOURS prints before and after and the print itself. Near the ends the
    window is the first or the last whole one. Prints of instruments with fewer prints than a window, and prices that
    are not positive, are not evaluated.
    """
    width = 2 * OUTLIER_NEIGHBOURS + 1
    count = evaluated = 0
    positive = prices > 0
    instruments, prices = instruments[positive], prices[positive]
    if not len(prices):
        return Outliers(0, 0)
    order = np.argsort(instruments, kind="stable")
    logs = np.log(prices[order].astype(np.float64))
    starts = np.flatnonzero(_runs(instruments[order]))
    for start, end in zip(starts, np.append(starts[1:], len(logs)), strict=True):
        if end - start >= width:
            count += _count_outliers(logs[start:end], width)
            evaluated += int(end - start)
    return Outliers(count, evaluated)


def _count_outliers(logs: NDArray[np.float64], width: int) -> int:
    windows = np.lib.stride_tricks.sliding_window_view(logs, width)
    half = width // 2
    # the window of each print: its own, or the nearest whole one
    which = np.clip(np.arange(len(logs)) - half, 0, len(windows) - 1)
    found = 0
    for at in range(0, len(logs), _CHUNK):
        mine = which[at : at + _CHUNK]
        rows = windows[mine[0] : mine[-1] + 1]
        middle = np.median(rows, axis=1)
        spread = np.median(np.abs(rows - middle[:, None]), axis=1) * _MAD_TO_SIGMA
        local = mine - mine[0]
        away = np.abs(logs[at : at + _CHUNK] - middle[local])
        found += int((away > np.maximum(OUTLIER_DEVIATIONS * spread[local], OUTLIER_FLOOR)).sum())
    return found
