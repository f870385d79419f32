"""From quotes of contracts to volatilities with weights: which contracts tell about the smile, and how well each does.

The leg out of the money tells: it is the more traded one, and early exercise hardly touches it. Within half a standard
deviation of the forward both legs count, sliding from the put to the call, so that no strike carries a step.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant import american as american_options
from ots_quant import european
from ots_quant.parity import group_expirations, two_sided

Values = NDArray[np.float64]
Codes = NDArray[np.int64]

BLEND_DEVIATIONS = 0.5
"""Both legs of a strike count within this many standard deviations of the forward."""

_NEAREST = 5
_LAST_SECOND = 1.0 / (365 * 86400)
_LEAST_DEVIATION, _GREATEST_DEVIATION = 1e-6, 1e2
_WIDEST = 1e3  # half-spread in volatility
_NARROWEST = 0.2  # a half-spread counts as at least this share of its slice's median, so that no quote rules alone


class LeftOut(IntEnum):
    """Why a contract is not in the fit."""

    USED = 0
    BAD_NUMBERS = 1
    """A strike, a time, a bid or an ask that is not finite or is negative; a strike of zero."""
    EXPIRED = 2
    """Or within a second of it."""
    NO_FORWARD = 3
    ONE_SIDED = 4
    """No bid or no ask."""
    CROSSED = 5
    IN_THE_MONEY = 6
    NO_VOLATILITY = 7
    """The mid lies outside the bounds within which an implied volatility exists, or too near to them to tell one."""


class Quotes(NamedTuple):
    """Per contract, arrays of shape (contracts,)."""

    right: Values
    strike: Values
    years: Values
    bid: Values
    ask: Values
    forward: Values
    rate: Values


class Points(NamedTuple):
    """Per contract: log-moneyness, the mid's volatility, half of the spread in volatility, weight, and why left out."""

    k: Values
    volatility: Values
    half_spread: Values
    weight: Values
    """1, or less near the money where two contracts of one strike share it; 0 where left out."""
    left_out: Codes
    expiration: NDArray[np.intp]
    """Row in ``expirations``, -1 without one."""
    expirations: Values
    theta: Values
    """Total variance near the money, one per expiration; NaN without a contract that tells it."""


def points_of(quotes: Quotes, spot: float, american: bool, implied: Values | None = None) -> Points:
    """Volatilities of the contracts that tell about the smile: those in ``implied``, or else inverted here.

    Never raises: bad numbers are left out with a reason.
    """
    expirations, expiration = group_expirations(quotes.years)
    with np.errstate(all="ignore"):  # bad numbers are told apart below, and become NaN until then
        k = np.log(quotes.strike / quotes.forward)
        left_out = _unusable(quotes)
        usable = left_out == LeftOut.USED
        outside = usable & (quotes.right * k >= 0)
        volatility = _volatility(quotes, outside, spot, american, implied)
        near = _near_the_money(volatility, k, expiration, expirations.size)
        share = _share_of_leg(quotes.right, k, np.append(near, np.nan)[expiration] * np.sqrt(quotes.years))
        inside = usable & ~outside & (share > 0)
        volatility = np.where(inside, _volatility(quotes, inside, spot, american, implied), volatility)
        theta = (near * np.sqrt(expirations)) ** 2
        half_spread = (quotes.ask - quotes.bid) / 2.0 / _vega(quotes, k, volatility)
        left_out[usable & ~outside & ~inside] = LeftOut.IN_THE_MONEY
        left_out[(left_out == LeftOut.USED) & ~(half_spread < _WIDEST)] = LeftOut.NO_VOLATILITY
    used = left_out == LeftOut.USED
    half_spread = _at_least_a_share(np.where(used, half_spread, np.nan), expiration, expirations.size)
    return Points(k, volatility, half_spread, np.where(used, share, 0.0), left_out, expiration, expirations, theta)


def _unusable(quotes: Quotes) -> Codes:
    sides = (quotes.bid, quotes.ask)
    bad = ~(np.isfinite(quotes.strike) & (quotes.strike > 0) & np.isfinite(quotes.years))
    for side in sides:
        bad |= np.isinf(side) | (side < 0)
    return np.select(
        [
            bad,
            quotes.years < _LAST_SECOND,
            ~(np.isfinite(quotes.forward) & (quotes.forward > 0) & np.isfinite(quotes.rate)),
            ~(quotes.bid > 0) | ~(quotes.ask > 0),
            ~two_sided(*sides),
        ],
        [LeftOut.BAD_NUMBERS, LeftOut.EXPIRED, LeftOut.NO_FORWARD, LeftOut.ONE_SIDED, LeftOut.CROSSED],
        LeftOut.USED,
    ).astype(np.int64)


def _near_the_money(volatility: Values, k: Values, expiration: NDArray[np.intp], expirations: int) -> Values:
    """Per expiration the median volatility of the five contracts nearest to the forward: one of them may be stale."""
    known = np.flatnonzero(np.isfinite(volatility))
    order = known[np.lexsort((np.abs(k[known]), expiration[known]))]
    row = expiration[order]
    counts = np.bincount(row, minlength=expirations)
    rank = np.arange(order.size) - np.repeat(np.cumsum(counts) - counts, counts)
    nearest = np.full((expirations, _NEAREST), np.inf)
    chosen = rank < _NEAREST
    nearest[row[chosen], rank[chosen]] = volatility[order[chosen]]
    middle = np.minimum(counts, _NEAREST) // 2
    median = np.sort(nearest, axis=1)[np.arange(expirations), np.minimum(middle, _NEAREST - 1)]
    return np.where(counts > 0, median, np.nan)


def _share_of_leg(right: Values, k: Values, deviation: Values) -> Values:
    """1 for the leg out of the money, 0 for the other, each sliding to a half at the forward."""
    width = BLEND_DEVIATIONS * deviation
    outside = right * k
    return np.where(
        np.abs(k) < width, 0.5 + 0.5 * outside / np.where(width > 0, width, 1.0), (outside >= 0).astype(np.float64)
    )


def _volatility(
    quotes: Quotes, wanted: NDArray[np.bool_], spot: float, american: bool, implied: Values | None
) -> Values:
    """NaN for what is not wanted, and for a deviation to expiration that no option has."""
    volatility = np.full(wanted.shape, np.nan)
    if implied is not None:
        volatility[wanted] = implied[wanted]
    else:
        volatility[wanted] = _inverted(Quotes(*(values[wanted] for values in quotes)), spot, american)
    deviation = volatility * np.sqrt(quotes.years)
    return np.where((deviation > _LEAST_DEVIATION) & (deviation < _GREATEST_DEVIATION), volatility, np.nan)


def _inverted(quotes: Quotes, spot: float, american: bool) -> Values:
    """What the mids imply."""
    dividend_yield = quotes.rate - np.log(quotes.forward / spot) / quotes.years
    implied = american_options.implied_volatility if american else european.implied_volatility
    mid = (quotes.bid + quotes.ask) / 2.0
    return implied(mid, quotes.right, spot, quotes.strike, quotes.years, quotes.rate, dividend_yield)


def _vega(quotes: Quotes, k: Values, volatility: Values) -> Values:
    """Black's (1976) vega: out of the money the American one differs by less than the half-spread means anything."""
    deviation = volatility * np.sqrt(quotes.years)
    d1 = -k / deviation + deviation / 2.0
    discounted = quotes.forward * np.exp(-quotes.rate * quotes.years)
    return discounted * np.sqrt(quotes.years / (2.0 * np.pi)) * np.exp(-0.5 * d1**2)


def _at_least_a_share(half_spread: Values, expiration: NDArray[np.intp], expirations: int) -> Values:
    used = np.isfinite(half_spread)
    order = np.lexsort((half_spread, np.where(used, expiration, expirations)))[: np.count_nonzero(used)]
    counts = np.bincount(expiration[used], minlength=expirations)
    middle = np.cumsum(counts) - counts + counts // 2
    floor = np.full(expirations + 1, np.nan)
    floor[:-1][counts > 0] = half_spread[order][middle[counts > 0]] * _NARROWEST
    floor = np.where(floor > 0, floor, 1e-6)
    return np.where(used, np.maximum(half_spread, floor[expiration]), np.nan)
