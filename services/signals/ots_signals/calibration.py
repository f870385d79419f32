"""Whether what was said came true: the stated probability of the target against what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ots_quant.evaluation import Brier, brier, brier_score, calibration_bins, clustered_mean, log_loss, skill
from ots_signals.market_view import Floats, Ints
from ots_signals.outcomes import Barrier, ResolvedSignals
from ots_signals.performance import Estimate
from ots_signals.verdicts import HYPOTHETICAL, resolved

LEAST = 2  # resolved signals below which nothing is computed


@dataclass(frozen=True)
class Bin:
    """Signals with about the same stated probability: how many, the mean that was said, the share that came."""

    n: int
    said: float
    came: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Of ``p_target``, of ``n`` resolved signals on ``days``. Scores are better when lower, skills when higher.

    ``brier``: score = reliability - resolution + uncertainty + within. ``skill_over_base_rate``: against the hit rate
    of each signal's matched random contracts (of the ``n_base_rate`` that have any); ``skill_over_implied``: against
    the fair-market probability that the options' prices imply. 0 is no better than that; with intervals by days.
    """

    n: int
    days: int
    effective_n: float | None
    hit_rate: float | None
    said: float | None
    brier: Brier | None
    brier_implied: float | None
    log_loss: float | None
    log_loss_implied: float | None
    bins: tuple[Bin, ...]
    n_base_rate: int
    skill_over_base_rate: Estimate
    skill_over_implied: Estimate
    statement: str = HYPOTHETICAL


def calibration(signals: ResolvedSignals, *, bins: int = 10, seed: int = 0) -> Calibration:
    """Of all signals given; indeterminate ones and those not entered are left out. ``bins``: of equal size, at most.

    Raises ValueError for fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, not {bins}")
    ordered = signals.take(np.lexsort((signals.id, signals.event_ns)))
    part = ordered.take(np.flatnonzero(resolved(ordered) & np.isfinite(ordered.p_target) & np.isfinite(ordered.p_null)))
    n, days = len(part), len(np.unique(part.day))
    nothing = Estimate(None, None, None)
    if n < LEAST:
        return Calibration(n, days, None, None, None, None, None, None, None, (), 0, nothing, nothing)
    hit = (part.barrier == Barrier.TARGET).astype(np.float64)
    said, implied = (np.clip(p, 0.0, 1.0) for p in (part.p_target, part.p_null))
    grouped = calibration_bins(said, hit, bins)
    rows = zip(*(column.tolist() for column in grouped), strict=True)
    rated = np.flatnonzero(np.isfinite(part.baseline_hit_rate)).astype(np.int64)

    def over(reference: Floats, chosen: Ints) -> Estimate:
        if not len(chosen):
            return nothing
        value, interval = skill(said[chosen], reference[chosen], hit[chosen], part.day[chosen], seed=seed)
        return Estimate(*(x if np.isfinite(x) else None for x in (value, interval.low, interval.high)))

    return Calibration(
        n=n,
        days=days,
        effective_n=clustered_mean(hit - said, part.day).effective,
        hit_rate=float(hit.mean()),
        said=float(said.mean()),
        brier=brier(said, hit, bins),
        brier_implied=brier_score(implied, hit),
        log_loss=log_loss(said, hit),
        log_loss_implied=log_loss(implied, hit),
        bins=tuple(Bin(int(size), *others) for size, *others in rows),
        n_base_rate=len(rated),
        skill_over_base_rate=over(part.baseline_hit_rate, rated),
        skill_over_implied=over(implied, np.arange(n, dtype=np.int64)),
    )
