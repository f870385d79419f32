"""One interest rate from many chains: what a single short chain cannot tell, nine together can.

The rate is the same for every underlying; `ots_quant.parity` estimates it for each expiration with an interval. Pooled
is the mean with weights 1 / se^2 (Cochran 1954, Biometrics 10(1), 101), se being the interval's half-width over
1.96, but never below `LEAST_ERROR`: a chain's quotes err together (one spot, one dividend), which its own interval does
not know. Of estimates that disagree more than their errors explain, the interval is widened by Birge's ratio
(Birge 1932, Phys. Rev. 40, 207).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.arguments import broadcast
from ots_quant.parity import RATE_HALF_WIDTH

LEAST_ERROR = 0.005
"""Standard error that no single expiration's estimate is trusted beyond."""
_NORMAL_95 = 1.96


class PooledRate(NamedTuple):
    """Continuously compounded; NaN where no estimate was usable."""

    rate: float
    low: float
    high: float
    estimates: int

    @property
    def identified(self) -> bool:
        """True when the interval reaches no further than `RATE_HALF_WIDTH` to each side."""
        return self.high - self.low <= 2 * RATE_HALF_WIDTH  # NaN compares false, which is what is meant


def pooled_rate(rate: ArrayLike, low: ArrayLike, high: ArrayLike) -> PooledRate:
    """The common rate of estimates with 95 % intervals, arrays of one shape; those that are not finite are left out.

    Raises ValueError that names an argument of a wrong shape or kind.
    """
    (estimate, lowest, highest), _ = broadcast({"rate": rate, "low": low, "high": high})
    usable = np.isfinite(estimate) & np.isfinite(lowest) & np.isfinite(highest) & (lowest <= highest)
    if not usable.any():
        return PooledRate(np.nan, np.nan, np.nan, 0)
    found: NDArray[np.float64] = estimate[usable]
    error = np.maximum((highest - lowest)[usable] / 2 / _NORMAL_95, LEAST_ERROR)
    weight = 1.0 / error**2
    mean = float((weight * found).sum() / weight.sum())
    freedom = found.size - 1
    birge = np.sqrt((weight * (found - mean) ** 2).sum() / freedom) if freedom else 1.0
    half = _NORMAL_95 * max(1.0, float(birge)) / float(np.sqrt(weight.sum()))
    return PooledRate(mean, mean - half, mean + half, found.size)
