"""The probability that an option ends in the money: by a flat volatility, and by the slope of the smile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from ots_quant.arguments import broadcast
from ots_quant.density.assumptions import Values, usable

_INV_SQRT_2PI = 0.3989422804014327


class Finish(NamedTuple):
    """The probability that the spot ends in the money, at expiration, in two ways; arrays of the arguments' shape.

    flat: N(d2) of a call, N(-d2) of a put: one volatility, that of the strike, for the whole distribution
    smile: the dual delta, which also takes the smile's slope: N(d2) - K n(d2) sqrt(T) dsigma/dK of a call, one less
        that of a put; NaN where it leaves [0, 1], because such a smile has no distribution
    """

    flat: Values
    smile: Values


def finish(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    *,
    volatility_slope: ArrayLike = 0.0,
) -> Finish:
    """The probability of ending in the money, flat and with the smile's slope.

    ``volatility_slope``: dsigma/dK at the strike, per dollar (equity indices: negative). Without it both are equal.
    Exercise before expiration has no part in it. NaN where spot, strike, years or volatility is not positive, or
    anything is not finite. Raises ValueError for what `arguments.broadcast` refuses.

    Source: Black and Scholes (1973); Breeden and Litzenberger (1978) with Black's formula differentiated.
    """
    (w, s, k, t, r, q, v, slope), shape = broadcast(
        {
            "right": right,
            "spot": spot,
            "strike": strike,
            "years": years,
            "rate": rate,
            "dividend_yield": dividend_yield,
            "volatility": volatility,
            "volatility_slope": volatility_slope,
        }
    )
    valid = usable(positive=(s, k, t, v), finite=(r, q, slope))
    with np.errstate(all="ignore"):  # the elements that make these warnings become NaN below
        root = np.sqrt(t)
        d2 = (np.log(s / k) + (r - q - 0.5 * v * v) * t) / (v * root)
        flat = ndtr(w * d2)
        smile = flat - w * k * _INV_SQRT_2PI * np.exp(-0.5 * d2 * d2) * root * slope
        possible = (smile >= 0.0) & (smile <= 1.0)
    return Finish(
        np.where(valid, flat, np.nan).reshape(shape), np.where(valid & possible, smile, np.nan).reshape(shape)
    )
