"""Raw SVI slices and the tests of one slice and of two: total variance, its derivatives, butterfly, calendar.

w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)), k = ln(K / F), w = volatility^2 * years
(Gatheral 2004, Global Derivatives, Madrid; Gatheral & Jacquier 2014, Quantitative Finance 14(1), 59, equation 3.1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Slices(NamedTuple):
    """Raw SVI parameters, arrays of shape (slices,)."""

    a: Values
    b: Values
    rho: Values
    m: Values
    sigma: Values


class Variance(NamedTuple):
    """Total variance w at forward log-moneyness k, and its first and second derivative by k."""

    w: Values
    w_k: Values
    w_kk: Values


def total_variance(slices: Slices, k: Values) -> Variance:
    """Row i of ``k`` (slices, points) on slice i."""
    a, b, rho, m, sigma = (parameter[:, None] for parameter in slices)
    distance = k - m
    square = distance * distance + sigma * sigma
    root = np.sqrt(square)
    return Variance(
        w=a + b * (rho * distance + root),
        w_k=b * (rho + distance / root),
        w_kk=b * sigma**2 / (square * root),
    )


def butterfly(k: Values, variance: Variance) -> Values:
    """g(k), negative exactly where the implied density is (Gatheral & Jacquier 2014, equation 2.1)."""
    w, w_k, w_kk = variance
    return (1.0 - k * w_k / (2.0 * w)) ** 2 - w_k**2 / 4.0 * (1.0 / w + 0.25) + w_kk / 2.0
