"""What options are worth: an arbitrage-free surface of implied volatility that moves with the path, and quotes about
it.

Surface: SSVI (Gatheral and Jacquier 2014, "Arbitrage-free SVI volatility surfaces", section 4) with the power-law
function phi(theta) = eta / sqrt(theta (1 + theta)), free of butterfly and calendar arbitrage when eta (1 + |rho|) <=
2. At the money total variance theta(T) is the expected integrated variance of a square-root process (Heston 1993): it
rises with T always.

Prices are American (ots_quant): the European price at the moment plus the premium of early exercise. The premium is
that of the time to expiration as of the start of a quarter of the UTC day, times the share of it that is left: so a
quarter day of a chain shares its exercise boundaries. Where the premium is all interest (deep in the money) that is
exact to first order; elsewhere the error stays below a cent (tested).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant import american, european
from ots_simulator.paths import HOUR_NS, SECOND_NS, Floats, Ints
from ots_simulator.randomness import uniforms
from ots_simulator.records import OPTION_PUBLISHERS
from ots_simulator.underlyings import RATE, Underlying

YEAR_NS = 365 * 24 * HOUR_NS
_SHARED_NS = 6 * HOUR_NS
NONE = -1  # a missing side, in cents

ETA = 1.1
REVERSION = 4.0  # a year

# the documented rates of odd quotes
CROSSED_QUOTES = 8e-4
LOCKED_QUOTES = 8e-4
ONE_SIDED_QUOTES = 5e-4

_NARROW_TICK_BELOW = 3.0  # the penny program: cents below three dollars, five cents above; SPY and QQQ cents throughout


class Contracts(NamedTuple):
    """Contracts at moments, broadcastable; ``strike`` dollars, ``right`` +1 or -1."""

    strike: Floats
    right: Ints
    closes_ns: Ints
    key: NDArray[np.uint64]


class OptionQuotes(NamedTuple):
    """Quotes in cents, NONE where a side is missing; venues are Databento's publisher numbers."""

    bid: Ints
    ask: Ints
    bid_size: Ints
    ask_size: Ints
    bid_venue: Ints
    ask_venue: Ints


def years_to(closes_ns: Ints, at_ns: Ints) -> Floats:
    """Years of 365 days from ``at_ns`` to the expiration, at least a second."""
    years: Floats = np.maximum(closes_ns - at_ns, SECOND_NS) / YEAR_NS
    return years


def implied_volatility(
    underlying: Underlying, strike: Floats, years: Floats, spot: Floats, volatility: Floats
) -> Floats:
    """SSVI's implied volatility; ``volatility``: the path's annual volatility at the moment. All broadcast."""
    forward = spot * np.exp((RATE - underlying.dividend_yield) * years)
    k = np.log(strike / forward)
    long_run = underlying.volatility**2
    theta = long_run * years + (volatility**2 - long_run) * -np.expm1(-REVERSION * years) / REVERSION
    phi_k = ETA / np.sqrt(theta * (1.0 + theta)) * k
    rho = underlying.skew
    total = 0.5 * theta * (1.0 + rho * phi_k + np.sqrt((phi_k + rho) ** 2 + 1.0 - rho * rho))
    result: Floats = np.sqrt(total / years)
    return result


def values(underlying: Underlying, contracts: Contracts, spot: Floats, volatility: Floats, at_ns: Ints) -> Floats:
    """True values in dollars at moments ``at_ns``. All broadcast."""
    years = years_to(contracts.closes_ns, at_ns)
    sigma = implied_volatility(underlying, contracts.strike, years, spot, volatility)
    terms = (RATE, underlying.dividend_yield, sigma)
    now = european.price(contracts.right, spot, contracts.strike, years, *terms)
    shared = years_to(contracts.closes_ns, at_ns - at_ns % _SHARED_NS)
    premium = american.price(contracts.right, spot, contracts.strike, shared, *terms)
    premium -= european.price(contracts.right, spot, contracts.strike, shared, *terms)
    premium *= years / shared
    intrinsic = contracts.right * (spot - contracts.strike)
    whole: Floats = np.maximum(now + np.maximum(premium, 0.0), np.maximum(intrinsic, 0.0))
    return whole


def deltas(underlying: Underlying, contracts: Contracts, spot: Floats, volatility: Floats, at_ns: Ints) -> Floats:
    """European deltas at a fixed implied volatility: the slope that quotes follow within a minute."""
    years = years_to(contracts.closes_ns, at_ns)
    sigma = implied_volatility(underlying, contracts.strike, years, spot, volatility)
    greeks = european.greeks(contracts.right, spot, contracts.strike, years, RATE, underlying.dividend_yield, sigma)
    return greeks.delta


def quote(
    underlying: Underlying, salt: np.uint64, contracts: Contracts, value: Floats, activity: Floats, second: Ints
) -> OptionQuotes:
    """The best bid and offer about true values. ``second``: number of the second since 1970; all broadcast.

    The spread widens with the value and the activity of the minute (at the open and the close), and has noise by
    contract and minute. No bid when the value is below it.
    """
    tick = np.ones(np.shape(value), np.int64)
    if not underlying.daily_expirations:
        tick = np.where(value < _NARROW_TICK_BELOW, 1, 5)
    minute = (second // 60).astype(np.uint64)
    noise = uniforms(salt, contracts.key, minute)
    width = (1.0 + (1.2 if underlying.daily_expirations else 2.2) * np.maximum(value, 0.0) ** 0.7) * activity**0.2
    spread = np.maximum(np.rint(width * (0.6 + 0.8 * noise) / tick), 1.0).astype(np.int64)
    bid = np.floor(100.0 * value / tick - 0.5 * spread + 0.5).astype(np.int64)
    ask = np.maximum(bid + spread, 1) * tick
    bid = np.where(bid <= 0, NONE, bid * tick)
    sizes = uniforms(salt, contracts.key, minute, 1)
    near = 8.0 + 60.0 * np.exp(-value / 2.0)
    bid_size = (1.0 - near * np.log1p(-sizes)).astype(np.int64)
    ask_size = (1.0 - near * np.log(sizes + 1e-9)).astype(np.int64)
    venues = len(OPTION_PUBLISHERS)
    bid_venue = OPTION_PUBLISHERS[(noise * venues).astype(np.int64)].astype(np.int64)
    ask_venue = OPTION_PUBLISHERS[(sizes * venues).astype(np.int64)].astype(np.int64)
    bid_size = np.where(bid == NONE, 0, bid_size)
    bid_venue = np.where(bid == NONE, 0, bid_venue)
    return OptionQuotes(bid, ask, bid_size, ask_size, bid_venue, ask_venue)


def disturb(salt: np.uint64, contracts: Contracts, second: Ints, quotes: OptionQuotes) -> OptionQuotes:
    """``quotes`` with a few crossed, locked or one-sided, as feeds have them; the rates are this module's constants."""
    odd = uniforms(salt, contracts.key, second.astype(np.uint64), 2)
    bid, ask, bid_size, ask_size, bid_venue, ask_venue = quotes
    both = bid != NONE
    crossed = both & (odd < CROSSED_QUOTES)
    locked = both & ~crossed & (odd < CROSSED_QUOTES + LOCKED_QUOTES)
    empty = both & ~crossed & ~locked & (odd < CROSSED_QUOTES + LOCKED_QUOTES + ONE_SIDED_QUOTES)
    new_bid = np.where(crossed, ask, np.where(locked, ask, np.where(empty, NONE, bid)))
    new_ask = np.where(crossed, bid, ask)
    return OptionQuotes(
        new_bid,
        new_ask,
        np.where(empty, 0, bid_size),
        ask_size,
        np.where(empty, 0, bid_venue),
        ask_venue,
    )
