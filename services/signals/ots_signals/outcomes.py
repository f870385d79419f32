"""What became of a signal: one row a fill model, and its place among matched random contracts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Barrier(StrEnum):
    """What ended a position first."""

    TARGET = "target"
    STOP = "stop"
    TIMEOUT = "timeout"
    NOT_FILLED = "not_filled"  # no valid quote to enter or to leave at
    INDETERMINATE = "indeterminate"  # records may be missing inside; never a win


@dataclass(frozen=True)
class FillOutcome:
    """In one fill model. Returns are on the entry's capital; None where there is none.

    ``net_return``: net of the spread as modelled and of fees. ``best_return``, ``worst_return``: of what could have
    been had minute by minute until the exit, before fees (maximum favourable and adverse excursion). ``exit_price``:
    1e-9 dollars a share. A position that was entered and could not be left is `Barrier.NOT_FILLED` with a
    ``worst_return`` and no ``net_return``: statistics count it as the loss of its capital. One that was not entered
    has neither.
    """

    model: str
    barrier: Barrier
    exit_ns: int | None
    exit_price: int | None
    net_return: float | None
    best_return: float | None  # MFE
    worst_return: float | None  # MAE


@dataclass(frozen=True)
class Attribution:
    """Of the mid's move from entry to exit, as returns on capital: to first order along the path, and what is left."""

    delta: float
    gamma: float
    theta: float
    volatility: float
    residual: float


@dataclass(frozen=True)
class Baseline:
    """The signal's barriers on contracts drawn at random, matched on right, expiration, delta, time of day and spread.

    ``n``: how many of the same underlying there were (200 asked for) that resolved; shares and means are theirs.
    ``percentile``: share of them below the signal's net return at touch, those equal to it counted half.
    ``shuffled_*``: the signal's own contracts at random moments of its session. ``stock_return``: net of nothing, a
    delta-matched position in the stock over the same time, on the same capital. Abstaining returns 0: no field.
    """

    n: int
    hit_rate: float | None
    mean_net: float | None
    median_net: float | None
    percentile: float | None
    shuffled_n: int
    shuffled_hit_rate: float | None
    shuffled_mean_net: float | None
    stock_return: float | None


@dataclass(frozen=True)
class Outcome:
    """Of one signal; ``revision`` 0 first, higher where late data changed it.

    ``data_digest``: of the minutes of the tape that it rests on.
    """

    signal_id: str
    revision: int
    resolved_of_ns: int  # event time up to which it looked
    fills: tuple[FillOutcome, ...]
    attribution: Attribution | None
    baseline: Baseline | None
    gap_minutes: int
    data_digest: str
    detail: str


@dataclass(frozen=True)
class ResolvedSignals:
    """Signals and outcomes side by side, for statistics; arrays of shape (n,), in order of event.

    ``barrier``: of `Barrier` at touch, and so are ``best`` and ``worst``. Returns and shares are NaN where unknown.
    ``p_target``, ``p_null``, ``fair_value``: as told at the decision (`Odds.fair_value_pct`). ``mode``: of `Mode`.
    """

    id: NDArray[np.str_]
    strategy: NDArray[np.str_]
    strategy_version: NDArray[np.str_]
    mode: NDArray[np.str_]
    underlying: NDArray[np.str_]
    day: NDArray[np.datetime64]
    hour: NDArray[np.int64]  # of the session's local day, New York
    days_to_expiration: NDArray[np.float64]
    event_ns: NDArray[np.int64]
    exit_ns: NDArray[np.int64]
    barrier: NDArray[np.str_]
    net_touch: NDArray[np.float64]
    net_partial: NDArray[np.float64]
    net_mid: NDArray[np.float64]
    best: NDArray[np.float64]
    worst: NDArray[np.float64]
    p_target: NDArray[np.float64]
    p_null: NDArray[np.float64]
    fair_value: NDArray[np.float64]
    baseline_mean: NDArray[np.float64]
    baseline_hit_rate: NDArray[np.float64]
    percentile: NDArray[np.float64]
    shuffled_mean: NDArray[np.float64]
    stock_return: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: NDArray[np.intp]) -> ResolvedSignals:
        """Some of them, in the order of ``rows``."""
        return ResolvedSignals(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))
