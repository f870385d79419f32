"""A price and its derivatives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Greeks(NamedTuple):
    """Prices and derivatives of options, arrays of one shape, in the unit of the spot.

    price: V
    delta: dV/dS
    gamma: d2V/dS2
    theta: dV/dt as time passes, per year (mostly negative)
    vega: dV/dsigma per 1.00 of volatility
    rho: dV/dr per 1.00 of rate
    vanna: d2V/dS dsigma per 1.00 of volatility
    charm: d2V/dS dt as time passes, per year
    vomma: d2V/dsigma2 per 1.00 of volatility squared
    """

    price: Values
    delta: Values
    gamma: Values
    theta: Values
    vega: Values
    rho: Values
    vanna: Values
    charm: Values
    vomma: Values

    @classmethod
    def empty(cls, shape: tuple[int, ...] | int) -> Greeks:
        """Arrays to be filled, such as for ``out=``: one block of memory, a row each."""
        whole = (shape,) if isinstance(shape, int) else shape
        block = np.empty((len(cls._fields), *whole))
        return cls(*(block[i, ...] for i in range(len(cls._fields))))
