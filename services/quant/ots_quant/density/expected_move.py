"""How far the options say that the spot will move until an expiration, by three assumptions that are named.

Two different things are called the expected move: the mean absolute move E|S - F|, which is what a straddle at the
forward costs (undiscounted), and one standard deviation. For a normal law the first is sqrt(2 / pi) = 0.798 of the
second: that is the "0.8" in "straddle = 0.8 sigma S sqrt(T)" (Brenner and Subrahmanyam, Financial Analysts Journal 44
(1988)). Some desks quote 85 % of the straddle instead; it has no derivation, and is here under its own name.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from ots_quant.arguments import broadcast
from ots_quant.density.assumptions import Assumption, Values, usable
from ots_quant.density.distribution import RiskNeutral

_NORMAL_RATIO = np.sqrt(0.5 * np.pi)  # one standard deviation over the mean absolute deviation
_DESK_SHARE = 0.85
_ONE_SIGMA = 0.15865525393145705  # N(-1)


class ExpectedMove(NamedTuple):
    """Moves in dollars until expiration; arrays of one shape.

    mean_absolute: E|S - F|
    standard_deviation: of S
    lower, upper: what the spot ends below, and above, with probability N(-1) = 15.87 % each
    """

    mean_absolute: Values
    standard_deviation: Values
    lower: Values
    upper: Values
    assumption: Assumption


class StraddleMove(NamedTuple):
    """What a straddle says, in dollars until expiration; arrays of one shape.

    straddle: its price
    mean_absolute: E|S - K|, the price undiscounted: needs no model (for American options it is a little too high, by
        the value of early exercise)
    standard_deviation: sqrt(pi / 2) = 1.2533 of that, as for a normal law around the strike
    desk_convention: 85 % of the price
    """

    straddle: Values
    mean_absolute: Values
    standard_deviation: Values
    desk_convention: Values
    assumption: Assumption


def straddle_move(call: ArrayLike, put: ArrayLike, years: ArrayLike, rate: ArrayLike) -> StraddleMove:
    """The move that a straddle's price implies; take the strike nearest to the forward.

    ``call``, ``put``: prices of one strike and expiration, mids as a rule. NaN where a price is negative, both are 0,
    years is not positive, or anything is not finite. Raises ValueError for what `arguments.broadcast` refuses.
    """
    (c, p, t, r), shape = broadcast({"call": call, "put": put, "years": years, "rate": rate})
    with np.errstate(all="ignore"):  # the elements that make these warnings become NaN, or are infinite
        valid = usable(positive=(c + p, t), finite=(r,)) & (c >= 0.0) & (p >= 0.0)
        straddle = np.where(valid, c + p, np.nan).reshape(shape)
        absolute = straddle * np.exp(r * t).reshape(shape)
    return StraddleMove(straddle, absolute, _NORMAL_RATIO * absolute, _DESK_SHARE * straddle, Assumption.STRADDLE)


def flat_move(
    spot: ArrayLike, years: ArrayLike, rate: ArrayLike, dividend_yield: ArrayLike, volatility: ArrayLike
) -> ExpectedMove:
    """The move of a lognormal spot with one volatility, exact: no small-time approximation.

    With s = sigma sqrt(T): standard deviation F sqrt(exp(s^2) - 1), mean absolute move 2 F (2 N(s / 2) - 1), levels
    F exp(-s^2 / 2 -+ s). NaN where spot, years or volatility is not positive or anything is not finite. Raises
    ValueError for what `arguments.broadcast` refuses.
    """
    (s, t, r, q, v), shape = broadcast(
        {"spot": spot, "years": years, "rate": rate, "dividend_yield": dividend_yield, "volatility": volatility}
    )
    valid = usable(positive=(s, t, v), finite=(r, q))
    with np.errstate(all="ignore"):  # the elements that make these warnings become NaN below
        forward = np.where(valid, s * np.exp((r - q) * t), np.nan)
        deviation = v * np.sqrt(t)
        absolute = 2.0 * forward * (2.0 * ndtr(0.5 * deviation) - 1.0)
        standard = forward * np.sqrt(np.expm1(deviation**2))
        middle = forward * np.exp(-0.5 * deviation**2)
        lower, upper = middle * np.exp(-deviation), middle * np.exp(deviation)
    absolute, standard, lower, upper = (x.reshape(shape) for x in (absolute, standard, lower, upper))
    return ExpectedMove(absolute, standard, lower, upper, Assumption.FLAT_VOLATILITY)


def smile_move(distribution: RiskNeutral) -> ExpectedMove:
    """The move by a smile's distribution: its standard deviation, E|S - F| and quantiles; arrays of shape ()."""
    levels = distribution.quantile([_ONE_SIGMA, 1.0 - _ONE_SIGMA])
    return ExpectedMove(
        np.asarray(distribution.mean_absolute_deviation),
        np.asarray(distribution.standard_deviation),
        levels[0],
        levels[1],
        Assumption.SMILE,
    )
