"""How good stated probabilities were: Brier's score and its parts, the logarithmic score, calibration, skill."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ots_quant.arguments import Values, numbers
from ots_quant.evaluation.clusters import DRAWS, Interval, ratio_bootstrap
from ots_quant.evaluation.intervals import wilson

LEAST_PROBABILITY = 1e-6  # a forecast of 0 or 1 that fails costs this one's logarithm, not everything


class Brier(NamedTuple):
    """score = reliability - resolution + uncertainty + within.

    reliability: how far forecasts are from what came of them, bin by bin; 0 is calibrated
    resolution: how far what came of the bins differs from the mean of all; more is better
    uncertainty: the score of always saying the mean of what came
    within: what grouping unequal forecasts into one bin leaves; 0 where each bin has one forecast
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


class CalibrationBins(NamedTuple):
    """Bins of forecasts in order, arrays of shape (bins,): sizes, mean forecast, share that came, its interval."""

    size: Values
    forecast: Values
    share: Values
    low: Values
    high: Values


def brier_score(forecasts: ArrayLike, outcomes: ArrayLike) -> float:
    """The mean squared error (G. Brier, Monthly Weather Review 78 (1950)); NaN without forecasts."""
    p, y = _pairs(forecasts, outcomes)
    return float(((p - y) ** 2).mean()) if p.size else float("nan")


def brier(forecasts: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> Brier:
    """Brier's score and its parts over ``bins`` groups of forecasts of equal size, as `calibration_bins` makes them.

    Sources: A. Murphy, Journal of Applied Meteorology 12 (1973); D. Stephenson, C. Coelho, I. Jolliffe, Weather and
    Forecasting 23 (2008), for what bins leave. NaN without forecasts. Raises ValueError as `calibration_bins` does.
    """
    p, y = _pairs(forecasts, outcomes)
    if not p.size:
        return Brier(*[float("nan")] * 5)
    groups = calibration_bins(p, y, bins)
    weight, base = groups.size / p.size, float(y.mean())
    score = brier_score(p, y)
    reliability = float((weight * (groups.forecast - groups.share) ** 2).sum())
    resolution = float((weight * (groups.share - base) ** 2).sum())
    uncertainty = base * (1.0 - base)
    return Brier(score, reliability, resolution, uncertainty, score - (reliability - resolution + uncertainty))


def log_loss(forecasts: ArrayLike, outcomes: ArrayLike) -> float:
    """The mean of minus the logarithm of the probability given to what came (I. Good, J. R. Stat. Soc. B 14 (1952)).

    Probabilities are taken as no nearer to 0 and 1 than `LEAST_PROBABILITY`. NaN without forecasts.
    """
    p, y = _pairs(forecasts, outcomes)
    p = np.clip(p, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    return float(-np.log(np.where(y > 0.0, p, 1.0 - p)).mean()) if p.size else float("nan")


def calibration_bins(forecasts: ArrayLike, outcomes: ArrayLike, bins: int = 10, level: float = 0.95) -> CalibrationBins:
    """Forecasts in groups of about equal size, equal ones together; Wilson's interval for what came of each.

    Raises ValueError for forecasts outside 0 to 1, outcomes other than 0 and 1, shapes that differ, fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, not {bins}")
    p, y = _pairs(forecasts, outcomes)
    order = np.argsort(p, kind="stable")
    edges = np.linspace(0, p.size, bins + 1).round().astype(np.int64)[1:-1]
    if not p.size:
        return CalibrationBins(*[np.zeros(0)] * 5)
    # an edge within equal forecasts moves to where they begin
    ordered = p[order]
    starts = np.unique(np.concatenate(([0], np.searchsorted(ordered, ordered[edges[edges < p.size]]))))
    size, forecast, came = (
        np.array([float(f(part)) for part in np.split(column, starts[1:])])
        for f, column in ((len, ordered), (np.mean, ordered), (np.sum, y[order]))
    )
    low, high = wilson(came, size, level)
    return CalibrationBins(size, forecast, came / size, low, high)


def skill(
    forecasts: ArrayLike, reference: ArrayLike, outcomes: ArrayLike, clusters: ArrayLike, level: float = 0.95,
    *, draws: int = DRAWS, seed: int = 0,
) -> tuple[float, Interval]:  # fmt: skip
    """1 - Brier's score over that of a reference forecast (a number or (n,)), and its interval by whole clusters.

    Above 0: better than the reference. NaN where the reference is never wrong, or without forecasts.
    """
    p, y = _pairs(forecasts, outcomes)
    if not p.size:
        return float("nan"), Interval(np.nan, np.nan)
    r, _ = _pairs(np.broadcast_to(numbers("reference", reference), p.shape), y)
    found, at = np.unique(np.asarray(clusters), return_inverse=True)
    own, other = (np.bincount(at, (q - y) ** 2, found.size).astype(np.float64) for q in (p, r))
    if other.sum() == 0.0:
        return float("nan"), Interval(np.nan, np.nan)
    ratio = ratio_bootstrap(own, other, level, draws=draws, seed=seed)
    return float(1.0 - own.sum() / other.sum()), Interval(1.0 - ratio.high, 1.0 - ratio.low)


def _pairs(forecasts: ArrayLike, outcomes: ArrayLike) -> tuple[Values, Values]:
    p, y = numbers("forecasts", forecasts), numbers("outcomes", outcomes)
    if p.shape != y.shape or p.ndim != 1:
        raise ValueError(f"forecasts and outcomes must have one shape (n,), not {p.shape} and {y.shape}")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("forecasts must be between 0 and 1")
    if not ((y == 0.0) | (y == 1.0)).all():
        raise ValueError("outcomes must be 0 or 1")
    return p, y
