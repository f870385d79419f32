"""Means of observations that come in clusters: the signals of one day share what the market did that day.

Two signals of the same morning are not two observations. Standard errors are of the clusters' sums (Liang and Zeger),
and the bootstrap draws whole days.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from ots_quant.arguments import Values, numbers

DRAWS = 2000


class Interval(NamedTuple):
    """From ``low`` to ``high``; NaN where there are too few clusters for one."""

    low: float
    high: float


class Clustered(NamedTuple):
    """A mean and what its clusters say of it.

    n, clusters: observations and clusters
    error: standard error of the mean by clusters; NaN with one cluster
    design_effect: of the variance of the mean: by clusters over as if independent; NaN where nothing varies
    effective: n over the design effect, never above n: how many independent observations would tell as much
    """

    n: int
    clusters: int
    mean: float
    error: float
    design_effect: float
    effective: float

    def bound(self, level: float) -> float:
        """The one-sided lower bound of the mean at a level, by Student's t with clusters - 1 degrees of freedom.

        ``level`` 0.05 gives the upper bound of the same kind as 0.95 the lower. NaN with one cluster.
        """
        if self.clusters < 2:
            return float("nan")
        return self.mean - float(stdtrit(self.clusters - 1, level)) * self.error


def clustered_mean(values: ArrayLike, clusters: ArrayLike) -> Clustered:
    """The mean of ``values`` (n,) whose cluster each is told by ``clusters`` (n,), of any type that sorts.

    The variance is that of K. Liang, S. Zeger, Biometrika 73 (1986) for a mean, with the factor G / (G - 1) of G
    clusters; the design effect is L. Kish's (Survey Sampling, 1965). Raises ValueError for values that are not finite,
    of another number than the clusters, or none.
    """
    x, sums, counts = _by_cluster(values, clusters)
    n, g = x.size, sums.size
    mean = float(x.mean())
    if g < 2:
        return Clustered(n, g, mean, np.nan, np.nan, float(g))
    error = float(np.sqrt(g / (g - 1) * np.sum((sums - counts * mean) ** 2)) / n)
    alone = float(x.var(ddof=1) / n)
    effect = error**2 / alone if alone > 0.0 else np.nan
    return Clustered(n, g, mean, error, effect, n / max(effect, 1.0) if np.isfinite(effect) else float(g))


def day_bootstrap(
    values: ArrayLike, clusters: ArrayLike, level: float = 0.95, *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The percentile interval of the mean of ``values`` when whole clusters are drawn with replacement.

    Source: A. Davison, D. Hinkley, Bootstrap Methods and their Application (1997), section 3.8. Raises ValueError as
    `clustered_mean` does.
    """
    _, sums, counts = _by_cluster(values, clusters)
    return ratio_bootstrap(sums, counts, level, draws=draws, seed=seed)


def day_bootstraps(
    columns: ArrayLike, clusters: ArrayLike, level: float = 0.95, *, draws: int = DRAWS, seed: int = 0
) -> list[Interval]:
    """The same of each of the ``columns`` (n, k), with the same draws; NaN is an observation that is missing.

    Of a column the clusters in which it has anything count. Raises ValueError for shapes that do not fit.
    """
    x, names = numbers("columns", columns), np.asarray(clusters)
    if x.ndim != 2 or names.shape != x.shape[:1]:
        raise ValueError(f"columns must have the shape (n, k) and clusters (n,), not {x.shape} and {names.shape}")
    found, at = np.unique(names, return_inverse=True)
    known = np.isfinite(x)
    sums, counts = np.zeros((2, found.size, x.shape[1]))
    for k, (column, there) in enumerate(zip(x.T, known.T, strict=True)):
        sums[:, k] = np.bincount(at, np.where(there, column, 0.0), found.size)
        counts[:, k] = np.bincount(at, there, found.size)
    result = [Interval(np.nan, np.nan)] * x.shape[1]
    # those that have something in the same clusters are drawn together
    patterns, member = np.unique(counts > 0.0, axis=1, return_inverse=True)
    for i, pattern in enumerate(patterns.T):
        chosen = np.flatnonzero(member == i)
        if pattern.sum() < 2:
            continue
        low, high = _ratio_quantiles(sums[pattern][:, chosen], counts[pattern][:, chosen], level, draws, seed)
        for place, k in enumerate(chosen.tolist()):
            result[k] = Interval(float(low[place]), float(high[place]))
    return result


def ratio_bootstrap(
    above: Values, below: Values, level: float = 0.95, *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The same for a ratio of sums over clusters: ``above`` over ``below``, each (clusters,)."""
    if len(above) < 2:
        return Interval(np.nan, np.nan)
    low, high = _ratio_quantiles(above[:, None], below[:, None], level, draws, seed)
    return Interval(float(low[0]), float(high[0]))


def _ratio_quantiles(above: Values, below: Values, level: float, draws: int, seed: int) -> tuple[Values, Values]:
    """Of columns (clusters, k)."""
    weights = bootstrap_weights(len(above), draws, seed)
    drawn = weights @ np.hstack((above, below))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = drawn[:, : above.shape[1]] / drawn[:, above.shape[1] :]
    low, high = np.nanquantile(ratios, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)
    return low, high


@lru_cache(maxsize=4)
def bootstrap_weights(clusters: int, draws: int, seed: int) -> Values:
    """How often each cluster is in each draw: (draws, clusters); the same for the same arguments."""
    rng = np.random.default_rng([seed, clusters, draws])
    places = rng.integers(0, clusters, (draws, clusters))
    places += np.arange(draws)[:, None] * clusters
    weights = np.bincount(places.ravel(), minlength=draws * clusters).reshape(draws, clusters).astype(np.float64)
    weights.flags.writeable = False
    return weights


def _by_cluster(values: ArrayLike, clusters: ArrayLike) -> tuple[Values, Values, Values]:
    x = numbers("values", values)
    names: NDArray[np.generic] = np.asarray(clusters)
    if x.ndim != 1 or names.shape != x.shape or not x.size:
        raise ValueError(f"values and clusters must have one shape (n,) with n > 0, not {x.shape} and {names.shape}")
    if not np.isfinite(x).all():
        raise ValueError("values must be finite everywhere")
    found, at = np.unique(names, return_inverse=True)
    return (
        x,
        np.bincount(at, x, found.size).astype(np.float64),
        np.bincount(at, minlength=found.size).astype(np.float64),
    )
