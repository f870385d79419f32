"""European options on an asset with a continuous dividend yield: price, derivatives, implied volatility.

The formula is that of Black and Scholes (1973) and Merton (1973). Arguments are numbers or arrays that broadcast
against each other: ``right`` +1 for a call and -1 for a put; ``spot`` and ``strike`` in one currency; ``years`` to
expiration, of 365 days; ``rate`` and ``dividend_yield`` continuously compounded decimals a year; ``volatility`` a
decimal a year.
Results have the broadcast shape.

An element whose numbers are bad is NaN: spot or strike not within 1e-150 to 1e150, years or volatility negative or
above 10,000, a rate or yield that compounds to more than e^300, anything NaN. Zero years and zero volatility give the
limits: the discounted intrinsic value and its derivatives, and NaN for the derivatives that do not exist at the kink,
where S e^(-qT) = K e^(-rT). An argument that is bad as a whole raises ValueError with its name first: not numeric, a
right that is not +1 or -1, shapes that do not fit.

Compiled kernels do the work where numba can be imported; `ots_quant.european_numpy` is their reference, takes their
place where it cannot, and computes the rare elements that they leave.

References:
    F. Black, M. Scholes, The pricing of options and corporate liabilities, Journal of Political Economy 81 (1973).
    R. C. Merton, Theory of rational option pricing, Bell Journal of Economics 4 (1973).
    P. Jaeckel, Let's be rational, Wilmott 75 (2015): the objectives and the iteration of the implied volatility.
    E. G. Haug, The complete guide to option pricing formulas, 2nd edition (2007), chapter 2: the derivatives.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant import arguments, european_numpy
from ots_quant.arguments import Broadcast
from ots_quant.european_numpy import Contracts, Quotes
from ots_quant.greeks import Greeks

Values = NDArray[np.float64]
Codes = NDArray[np.int8]


class NoVolatility(IntEnum):
    """Why an option's price has no implied volatility.

    With F = S e^(-qT) and K' = K e^(-rT), a call's price must lie strictly between max(F - K', 0) and F, a put's
    strictly between max(K' - F, 0) and K'. The lower bound itself is the price for zero volatility and, rounded to a
    float64, for many above zero: it names none of them.
    """

    HAS_ONE = 0
    BELOW_INTRINSIC = 1
    """At or below the discounted intrinsic value."""
    ABOVE_BOUND = 2
    """At or above the discounted forward (call) or strike (put)."""
    EXPIRED = 3
    """Zero years: the price does not depend on a volatility."""
    BAD_INPUT = 4
    """Not a number, not a positive spot or strike, negative years, or out of range."""


def price(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    *,
    out: Values | None = None,
) -> Values:
    """Prices in the unit of the spot; written into ``out``, a C-contiguous float64 array of the shape, where given.

    Raises ValueError that names the argument.
    """
    given = arguments.option_arguments(right, spot, strike, years, rate, dividend_yield, volatility)
    result = arguments.output(out, given.shape)
    _price(Contracts(*given.vectors), result.reshape(-1))
    return result


def greeks(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    *,
    out: Greeks | None = None,
) -> Greeks:
    """Prices and eight derivatives in one pass, in the units of `Greeks`; written into ``out`` where given.

    Raises ValueError that names the argument; ``out`` must hold nine C-contiguous float64 arrays of the shape, as
    `Greeks.empty` makes them.
    """
    given = arguments.option_arguments(right, spot, strike, years, rate, dividend_yield, volatility)
    result = _greeks_output(out, given.shape)
    _greeks(Contracts(*given.vectors), Greeks(*(array.reshape(-1) for array in result)))
    return result


def implied_volatility(
    price: ArrayLike,
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    *,
    out: Values | None = None,
) -> Values:
    """The volatility at which `price` gives these prices; NaN where there is none, and `why_no_volatility` tells why.

    Raises ValueError that names the argument.
    """
    given = _priced_arguments(price, right, spot, strike, years, rate, dividend_yield)
    result = arguments.output(out, given.shape)
    _imply(Quotes(*given.vectors), result.reshape(-1))
    return result


def why_no_volatility(
    price: ArrayLike,
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
) -> Codes:
    """A `NoVolatility` code for each price; HAS_ONE exactly where `implied_volatility` is a number.

    Raises ValueError that names the argument.
    """
    given = _priced_arguments(price, right, spot, strike, years, rate, dividend_yield)
    quotes = Quotes(*given.vectors)
    implied = np.empty(len(quotes.price))
    _imply(quotes, implied)
    codes = np.full(len(implied), NoVolatility.HAS_ONE, np.int8)
    without = np.flatnonzero(np.isnan(implied))
    codes[without] = _reasons(quotes.at(without))
    return codes.reshape(given.shape)


def _priced_arguments(
    price: ArrayLike,
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
) -> Broadcast:
    named: Mapping[str, ArrayLike] = {
        "price": price,
        "right": right,
        "spot": spot,
        "strike": strike,
        "years": years,
        "rate": rate,
        "dividend_yield": dividend_yield,
    }
    return arguments.broadcast(named)


def _greeks_output(out: Greeks | None, shape: tuple[int, ...]) -> Greeks:
    if out is None:
        return Greeks.empty(shape)
    if not isinstance(out, Greeks):
        raise ValueError("out must be a Greeks of arrays")
    return Greeks(*(arguments.output(array, shape, f"out.{name}") for name, array in out._asdict().items()))


@functools.cache
def _kernels() -> Any:
    """The module of the compiled kernels, or None where numba cannot be imported."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return None
    return importlib.import_module("ots_quant.kernels.european")


def _price(contracts: Contracts, out: Values) -> None:
    kernels = _kernels()
    if kernels is None:
        european_numpy.price(contracts, out)
        return
    kernels.price(*contracts, out)
    left = np.flatnonzero(np.isnan(out))
    if len(left):
        rest = np.empty(len(left))
        european_numpy.price(contracts.at(left), rest)
        out[left] = rest


def _greeks(contracts: Contracts, out: Greeks) -> None:
    kernels = _kernels()
    if kernels is None:
        european_numpy.greeks(contracts, out)
        return
    kernels.greeks(*contracts, *out)
    left = np.flatnonzero(np.isnan(out.price))
    if len(left):
        rest = Greeks.empty(len(left))
        european_numpy.greeks(contracts.at(left), rest)
        for array, values in zip(out, rest, strict=True):
            array[left] = values


def _imply(quotes: Quotes, out: Values) -> None:
    kernels = _kernels()
    if kernels is None:
        european_numpy.implied_volatility(quotes, out)
        return
    kernels.implied_volatility(*quotes, out)
    left = np.flatnonzero(np.isnan(out))
    if len(left):
        rest = np.empty(len(left))
        european_numpy.implied_volatility(quotes.at(left), rest)
        out[left] = rest


def _reasons(quotes: Quotes) -> Codes:
    """The reasons for prices that are known to have no volatility."""
    price, right, spot, strike, years, rate, dividend_yield = quotes
    with np.errstate(all="ignore"):  # bad elements may overflow: they get their code first
        usable = np.isfinite(price) & european_numpy.in_domain(spot, strike, years, rate, dividend_yield)
        forward = spot * np.exp(-dividend_yield * years)
        discounted_strike = strike * np.exp(-rate * years)
        intrinsic = np.maximum(right * (forward - discounted_strike), 0.0)
        bound = np.where(right > 0.0, forward, discounted_strike)
        nearer_intrinsic = price - intrinsic < bound - price
    reasons = [NoVolatility.BAD_INPUT, NoVolatility.EXPIRED, NoVolatility.BELOW_INTRINSIC]
    return np.select([~usable, years == 0.0, nearer_intrinsic], reasons, NoVolatility.ABOVE_BOUND).astype(np.int8)
