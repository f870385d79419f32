"""What each number of this package takes for granted. Every result carries one of these, or names it in its field."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Assumption(StrEnum):
    """The model behind a probability or a move. All are risk-neutral: prices, not forecasts."""

    FLAT_VOLATILITY = "lognormal: geometric Brownian motion with drift r - q and one constant volatility"
    FLAT_VOLATILITY_WATCHED = (
        "geometric Brownian motion with drift r - q and one constant volatility, looked at at equal intervals: "
        "barrier moved outwards by 0.5826 sigma sqrt(interval) (Broadie, Glasserman and Kou 1997)"
    )
    SMILE = "the distribution at expiration that the smile's prices imply (Breeden and Litzenberger 1978)"
    STRADDLE = "the straddle's price alone; its mean absolute move needs no model, one standard deviation a normal law"
    CONSTANT_IMPLIED_VOLATILITY = (
        "geometric Brownian motion with drift r - q; the option keeps its implied volatility while spot and time move, "
        "watched continuously, sold at the model's price"
    )


def usable(*, positive: tuple[Values, ...], finite: tuple[Values, ...] = ()) -> NDArray[np.bool_]:
    """Where all of ``positive`` are finite and above zero, and all of ``finite`` are finite. Arrays of one shape."""
    valid = np.ones(positive[0].shape, np.bool_)
    for values in positive:
        valid &= (values > 0.0) & (values < np.inf)
    for values in finite:
        valid &= np.isfinite(values)
    return valid
