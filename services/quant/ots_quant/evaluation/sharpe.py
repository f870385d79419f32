"""How much of a Sharpe ratio is left after the length of the record, its shape, and the number of tries.

Sharpe ratios are per observation (of the returns given), not a year. With clusters such as days, give one return a day.

Sources: D. Bailey, M. Lopez de Prado, The Sharpe ratio efficient frontier, Journal of Risk 15 (2012): probabilistic
Sharpe ratio and minimum track record length; the same, The deflated Sharpe ratio, Journal of Portfolio Management 40
(2014): equations 1 and 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from ots_quant.arguments import numbers


class Sharpe(NamedTuple):
    """Of ``n`` returns: mean over standard deviation, and the shape that its error depends on.

    skewness, kurtosis: of the sample, third and fourth standardised moments; 3 is the kurtosis of a normal law
    """

    n: int
    ratio: float
    skewness: float
    kurtosis: float

    @property
    def spread(self) -> float:
        """The standard deviation of the estimated ratio times the root of n - 1."""
        # a kurtosis is at least 1 + skewness squared, so that only rounding makes this negative
        squared = 1.0 - self.skewness * self.ratio + 0.25 * (self.kurtosis - 1.0) * self.ratio**2
        return float(np.sqrt(np.maximum(squared, 0.0)))


def sharpe(returns: ArrayLike) -> Sharpe:
    """Of returns (n,), against a return of 0. NaN where they do not vary or are fewer than three.

    Raises ValueError for returns that are not finite.
    """
    x = numbers("returns", returns)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("returns must be finite numbers of shape (n,)")
    if x.size < 3 or np.ptp(x) <= 1e-12 * np.abs(x).max():
        return Sharpe(x.size, np.nan, np.nan, np.nan)
    centred = x - x.mean()
    deviation = centred.std()
    standard = centred / deviation
    ratio = x.mean() / x.std(ddof=1)
    return Sharpe(x.size, float(ratio), float((standard**3).mean()), float((standard**4).mean()))


def probabilistic_sharpe(measured: Sharpe, benchmark: float = 0.0) -> float:
    """The probability that the true ratio is above ``benchmark``; NaN where its spread is 0 or unknown."""
    if not measured.spread > 0.0 or measured.n < 2:
        return float("nan")
    return float(ndtr((measured.ratio - benchmark) * np.sqrt(measured.n - 1) / measured.spread))


def expected_maximum_sharpe(trials: float, variance: float) -> float:
    """The highest ratio to be expected of so many independent trials whose true ratios are all 0.

    ``variance``: of the ratios across the trials. 0 for one trial. Raises ValueError for fewer than one.
    """
    if trials < 1:
        raise ValueError(f"trials must be 1 or more, not {trials}")
    if trials == 1:
        return 0.0
    euler = float(np.euler_gamma)
    highest = (1.0 - euler) * ndtri(1.0 - 1.0 / trials) + euler * ndtri(1.0 - 1.0 / (trials * np.e))
    return float(np.sqrt(variance) * highest)


def deflated_sharpe(measured: Sharpe, trials: float, variance: float | None = None) -> float:
    """The probability that the true ratio is above what the best of ``trials`` would show by luck.

    ``variance``: of the ratios across the trials; if it is not known, that of ratios whose truth is 0: 1 / (n - 1).
    """
    if variance is None:
        variance = 1.0 / (measured.n - 1) if measured.n > 1 else np.nan
    return probabilistic_sharpe(measured, expected_maximum_sharpe(trials, variance))


def minimum_track_record(measured: Sharpe, benchmark: float = 0.0, level: float = 0.95) -> float:
    """How many returns such a record needs for its ratio to be above ``benchmark`` at a level; inf where it is not."""
    if not measured.ratio > benchmark:
        return float("nan") if np.isnan(measured.ratio) else float("inf")
    return float(1.0 + measured.spread**2 * (ndtri(level) / (measured.ratio - benchmark)) ** 2)
