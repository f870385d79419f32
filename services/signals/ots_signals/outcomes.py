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
    """In one fill model. Returns are net of spread as modelled and of fees, on the entry's capital; None where there is none."""

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
    """The signal's barriers on contracts drawn at random, matched on underlying, right, expiration, delta, time of day, spread.

    ``n``: how many there were (200 asked for); shares and means of those that resolved; ``percentile``: share of them below the
    signal's net return at touch. ``stock_return``: net of nothing, a delta-matched position in the stock over the same time, on
    the same capital.
    """

    n: int
    hit_rate: float | None
    mean_net: float | None
    median_net: float | None
    percentile: float | None
    stock_return: float | None


@dataclass(frozen=True)
class Outcome:
    """Of one signal; ``revision`` 0 first, higher where late data changed it. ``data_digest``: of the tape it rests on."""

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

    ``barrier``: of `Barrier` at touch; ``net_touch``/``net_partial``/``net_mid``, ``best``, ``worst``, ``baseline_mean``,
    ``baseline_hit_rate``, ``percentile``, ``stock_return``: returns, NaN unknown; ``p_target``, ``p_null``: as told at the decision.
    """

    id: NDArray[np.str_]
    strategy: NDArray[np.str_]
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
    baseline_mean: NDArray[np.float64]
    baseline_hit_rate: NDArray[np.float64]
    percentile: NDArray[np.float64]
    stock_return: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.id)
