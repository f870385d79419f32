"""What the price did after each pattern, beside what it did after any other moment of the same year and volatility.

The excess of an event is the log return of the bars after its confirmation, times its direction, less the mean of the
same over all moments of its cell: the same symbol, calendar year and third of trailing 20-day volatility. That mean is
what drawing matched moments at random gives in the long run. For a type without a direction it is the size of the
return that counts. Events crowd together and look at the same days, so what is resampled for the confidence interval
(2,000 times) is whole calendar quarters, all symbols in them at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.patterns import Detector, PriceBars, scan

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
HORIZONS = (1, 5, 20)
RESAMPLES = 2000
LEAST_EVENTS, LEAST_QUARTERS = 30, 12
_VOLATILITY_BARS, _THIRDS = 20, 3


@dataclass(frozen=True)
class History:
    """Daily bars of a symbol with their dates (datetime64[D])."""

    symbol: str
    dates: NDArray[np.datetime64]
    bars: PriceBars


class Excess(NamedTuple):
    """Mean excess log return of ``events`` events, its 95 % interval, and the p-value of its being zero."""

    events: int
    mean: float
    low: float
    high: float
    p_value: float


class Moments(NamedTuple):
    """Log returns over a horizon after each bar of a symbol, shape (n,), NaN where it ends sooner; cells, quarters."""

    forward: Floats
    cell: Ints
    quarter: Ints


def moments(history: History, horizon: int) -> Moments:
    """The moments of one symbol."""
    log = np.log(history.bars.close)
    n = len(log)
    forward = np.full(n, np.nan)
    forward[: n - horizon] = log[horizon:] - log[: n - horizon]
    year = history.dates.astype("datetime64[Y]").astype(np.int64)
    quarter = history.dates.astype("datetime64[M]").astype(np.int64) // 3
    return Moments(forward, year * _THIRDS + _volatility_third(log, year), quarter)


def _volatility_third(log: Floats, year: Ints) -> Ints:
    returns = np.append(0.0, np.diff(log))
    spread = np.full(len(log), np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(returns, _VOLATILITY_BARS)
    spread[_VOLATILITY_BARS - 1 :] = windows.std(axis=1)
    third = np.zeros(len(log), np.int64)
    for one in np.unique(year):
        here = (year == one) & ~np.isnan(spread)
        if here.any():
            third[here] = np.searchsorted(np.quantile(spread[here], [1 / 3, 2 / 3]), spread[here])
    return third


def excess_of(events: Ints, direction: Ints, at: Moments) -> tuple[Floats, Ints]:
    """The excess of each event that has its horizon, and its quarter. Direction 0: of the size of the return."""
    known = ~np.isnan(at.forward)
    cells, index = np.unique(at.cell, return_inverse=True)

    def less_mean(values: Floats) -> Floats:
        total = np.bincount(index[known], values[known], len(cells))
        count = np.bincount(index[known], minlength=len(cells))
        return values - (total / np.maximum(count, 1))[index]

    signed, size = less_mean(at.forward), less_mean(np.abs(at.forward))
    kept = known[events]
    events, direction = events[kept], direction[kept]
    return np.where(direction == 0, size[events], direction * signed[events]), at.quarter[events]


def summarised(values: Floats, quarters: Ints, chance: np.random.Generator) -> Excess:
    """The mean with its interval, from resampled quarters; NaN intervals for fewer than 30 events or 12 quarters."""
    n = len(values)
    _, index = np.unique(quarters, return_inverse=True)
    total, count = np.bincount(index, values), np.bincount(index)
    if n < LEAST_EVENTS or len(total) < LEAST_QUARTERS:
        return Excess(n, float(values.mean()) if n else math.nan, math.nan, math.nan, math.nan)
    drawn = chance.multinomial(len(total), np.full(len(total), 1 / len(total)), RESAMPLES)
    means = (drawn @ total) / (drawn @ count)
    low, high = np.quantile(means, [0.025, 0.975])
    z = float(values.mean() / means.std())
    return Excess(n, float(values.mean()), float(low), float(high), math.erfc(abs(z) / math.sqrt(2)))


def forward_returns(
    histories: Sequence[History], detectors: Iterable[Detector], seed: int, horizons: Sequence[int] = HORIZONS
) -> dict[tuple[str, int], Excess]:
    """The excess by type and horizon, over all symbols."""
    chance = np.random.default_rng(seed)
    chosen = list(detectors)
    scans = [{detector.name: events for detector, events in scan(h.bars, chosen).found} for h in histories]
    found = {}
    for horizon in horizons:
        after = [moments(history, horizon) for history in histories]
        for detector in chosen:
            parts = [
                excess_of(events.confirmed, events.direction, at)
                for events, at in zip((one[detector.name] for one in scans), after, strict=True)
            ]
            values, quarters = (np.concatenate(column) for column in zip(*parts, strict=True))
            found[detector.name, horizon] = summarised(values, quarters, chance)
    return found


def survivors(tests: dict[tuple[str, int], Excess], rate: float) -> list[tuple[str, int]]:
    """The tests that a false discovery rate of ``rate`` leaves standing (Benjamini and Hochberg, JRSS B 57, 1995)."""
    done = sorted((key for key in tests if not math.isnan(tests[key].p_value)), key=lambda key: tests[key].p_value)
    passed = [i for i, key in enumerate(done) if tests[key].p_value <= rate * (i + 1) / len(done)]
    return done[: passed[-1] + 1] if passed else []
