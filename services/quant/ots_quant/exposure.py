"""What the holders of all open contracts hold in stock, and how that changes: exposures by strike and expiration.

Every exposure is in dollars of the underlying, of all open contracts together, for one share price S, M shares a
contract and open interest OI:

    delta    OI M delta S             dollars of stock that the contracts stand for
    gamma    OI M gamma S^2 0.01      change of those dollars when the spot rises by 1 %
    vanna    OI M vanna S 0.01        change of those dollars when volatility rises by one point (0.01)
    charm    OI M charm S / 365       change of those dollars with a calendar day's passing

Open interest does not say who is long. What is published as "dealer gamma" is an assumption about that, and here an
argument: `DealerSide`, or signs of one's own. `ExposureBand` holds the least and the greatest of several assumptions,
per strike and in total, to show how much of a figure is the assumption.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant import european
from ots_quant.arguments import broadcast, numbers
from ots_quant.greeks import Greeks

Values = NDArray[np.float64]

SHARES_PER_CONTRACT = 100.0
_DAYS_A_YEAR = 365.0
_ROUNDING = 1e-12  # a net gamma below this share of the gross one is rounding: contracts that cancel
_BLOCK = 65_536  # Greeks computed together in a profile over spots


class DealerSide(Enum):
    """Who holds the open contracts: the dealers' sign in calls and in puts."""

    CALLS_LONG_PUTS_SHORT = (1.0, -1.0)  # the usual one: customers sell calls on their stock and buy puts for it
    CALLS_SHORT_PUTS_LONG = (-1.0, 1.0)  # its opposite: customers buy calls and sell puts
    ALL_SHORT = (-1.0, -1.0)  # customers buy everything
    ALL_LONG = (1.0, 1.0)  # customers sell everything

    def signs(self, right: Values) -> Values:
        """+1 where the dealers are assumed long, -1 where short; of ``right``'s shape."""
        call, put = self.value
        return np.where(right > 0.0, call, put)


# An assumption about the dealers, or an array of their signs (or shares in [-1, 1]) per contract
Side = DealerSide | ArrayLike


class GreeksFunction(Protocol):
    """`ots_quant.european.greeks` or `ots_quant.american.greeks`."""

    def __call__(
        self,
        right: ArrayLike,
        spot: ArrayLike,
        strike: ArrayLike,
        years: ArrayLike,
        rate: ArrayLike,
        dividend_yield: ArrayLike,
        volatility: ArrayLike,
        /,
    ) -> Greeks:
        """The Greeks, broadcast."""


class Contracts(NamedTuple):
    """The open contracts of one underlying, each an array (n,) or a number for all; checked where they are used.

    right: +1 call, -1 put
    years: to expiration
    volatility: implied, held with the strike when the spot moves (sticky strike)
    open_interest: contracts
    """

    right: ArrayLike
    strike: ArrayLike
    years: ArrayLike
    rate: ArrayLike
    dividend_yield: ArrayLike
    volatility: ArrayLike
    open_interest: ArrayLike
    shares_per_contract: ArrayLike = SHARES_PER_CONTRACT


class Exposure(NamedTuple):
    """Exposures in dollars of the underlying (units in the module's text), one element per contract, key or in total.

    left_out: how many contracts with open interest had no Greeks (no volatility, expired, bad numbers) or an unknown
        open interest, and so are not in the sums; a sum of none is NaN when any was left out, and 0 otherwise
    """

    delta: Values
    gamma: Values
    vanna: Values
    charm: Values
    left_out: NDArray[np.int64]


class ExposureProfile(NamedTuple):
    """Exposure per key: strikes, or years to expiration, (k,) in rising order."""

    key: Values
    exposure: Exposure


class ExposureBand(NamedTuple):
    """The least and the greatest of several assumptions about the dealers; keys as in `ExposureProfile`."""

    key: Values
    low: Exposure
    high: Exposure
    total_low: Exposure
    total_high: Exposure


class ZeroGamma(NamedTuple):
    """Where total gamma exposure changes sign when the spot moves.

    levels: all such spots on the grid, rising; nearest: the one nearest to the spot, NaN where there is none
    reason: empty, or why there is none
    spots, gamma: the profile that was searched, dollars per 1 % at each spot
    """

    nearest: float
    levels: Values
    reason: str
    spots: Values
    gamma: Values


class MaxPain(NamedTuple):
    """The settlement at which the open contracts of one expiration pay their holders least.

    strike: the least such strike; highest: the greatest (payouts between two strikes may be equal); NaN without open
        interest, with the reason
    strikes, payout: all strikes, rising, and what holders would be paid in dollars at each
    """

    strike: float
    highest: float
    reason: str
    strikes: Values
    payout: Values


class PutCallRatio(NamedTuple):
    """Contracts of puts over those of calls; ``ratio`` is NaN where there are no calls, and ``reason`` says so."""

    ratio: float
    puts: float
    calls: float
    reason: str


def exposure(
    spot: float, contracts: Contracts, side: Side, *, greeks: GreeksFunction = european.greeks
) -> tuple[Exposure, Exposure]:
    """Exposure per contract (n,) and in total (shape ()), under one assumption about the dealers.

    ``left_out`` is 0 or 1 per contract. Raises ValueError that names the argument for a spot that is not positive, and
    for what `arguments.broadcast` refuses.
    """
    columns = _columns(spot, contracts)
    each = _signed(_held(spot, columns, greeks), _signs(side, columns.right))
    return each, _summed(each, np.zeros(columns.right.size, np.intp), 1, ())


def exposure_by_strike(
    spot: float, contracts: Contracts, side: Side, *, greeks: GreeksFunction = european.greeks
) -> ExposureProfile:
    """Exposure per strike, all expirations together. Raises ValueError as `exposure` does."""
    columns = _columns(spot, contracts)
    return _profile(columns.strike, _signed(_held(spot, columns, greeks), _signs(side, columns.right)))


def exposure_by_expiration(
    spot: float, contracts: Contracts, side: Side, *, greeks: GreeksFunction = european.greeks
) -> ExposureProfile:
    """Exposure per expiration (key: years, exactly as given), all strikes together. Raises ValueError as `exposure`."""
    columns = _columns(spot, contracts)
    return _profile(columns.years, _signed(_held(spot, columns, greeks), _signs(side, columns.right)))


def exposure_band(
    spot: float,
    contracts: Contracts,
    sides: Sequence[Side] = tuple(DealerSide),
    *,
    by: str = "strike",
    greeks: GreeksFunction = european.greeks,
) -> ExposureBand:
    """The least and the greatest exposure over several assumptions, per strike (``by="years"``: per expiration).

    The totals are those of whole assumptions, not sums of the per-strike extremes. Raises ValueError as `exposure`,
    on no sides, or on another ``by``.
    """
    if by not in ("strike", "years"):
        raise ValueError(f"by must be 'strike' or 'years', not {by!r}")
    if len(sides) == 0:
        raise ValueError("sides must hold at least one assumption")
    columns = _columns(spot, contracts)
    held = _held(spot, columns, greeks)
    signed = [_signed(held, _signs(side, columns.right)) for side in sides]
    profiles = [_profile(getattr(columns, by), each) for each in signed]
    totals = [_summed(each, np.zeros(columns.right.size, np.intp), 1, ()) for each in signed]
    low, high = _extremes([profile.exposure for profile in profiles])
    return ExposureBand(profiles[0].key, low, high, *_extremes(totals))


def zero_gamma(
    spot: float,
    contracts: Contracts,
    side: Side,
    *,
    spots: ArrayLike | None = None,
    greeks: GreeksFunction = european.greeks,
) -> ZeroGamma:
    """The spots where total gamma exposure changes sign ("gamma flip"), each contract keeping its volatility.

    ``spots``: the grid (m,), rising; by default 241 points from 70 % to 130 % of the spot. Greeks are computed anew
    at each of its points; the level between two is by straight line, so it errs by a fraction of a step's square.
    Sticky strike: implied volatilities stay with their strikes; a market that re-prices its smile as spot moves has
    another level. Raises ValueError as `exposure`, and for a grid that does not rise or is not positive.
    """
    columns = _columns(spot, contracts)
    grid = numbers("spots", np.linspace(0.7, 1.3, 241) * spot if spots is None else spots)
    if grid.ndim != 1 or grid.size < 2 or not (grid > 0.0).all() or not (np.diff(grid) > 0.0).all():
        raise ValueError("spots must be a rising array of at least two positive numbers")
    if not np.isfinite(grid[-1]):
        raise ValueError("spots must be finite")
    signs = _signs(side, columns.right)
    gamma = _gamma_over(grid, columns, signs, greeks)
    levels = _crossings(grid, gamma)
    if levels.size:
        return ZeroGamma(float(levels[np.argmin(np.abs(levels - spot))]), levels, "", grid, gamma)
    return ZeroGamma(np.nan, levels, _why_no_crossing(gamma), grid, gamma)


def max_pain(
    right: ArrayLike,
    strike: ArrayLike,
    open_interest: ArrayLike,
    *,
    shares_per_contract: ArrayLike = SHARES_PER_CONTRACT,
) -> MaxPain:
    """The strike at which the contracts of **one expiration** (n,) pay their holders least.

    The payout is convex and straight between strikes, so its minimum is at a strike. Contracts whose strike is not
    positive, or whose open interest is negative, NaN or zero, have no part in it. Raises ValueError for what
    `arguments.broadcast` refuses.
    """
    (w, k, oi, m), _ = broadcast(
        {"right": right, "strike": strike, "open_interest": open_interest, "shares_per_contract": shares_per_contract}
    )
    weight = oi * m
    known = np.isfinite(k) & (k > 0.0) & np.isfinite(weight) & (weight > 0.0)
    w, k, weight = w[known], k[known], weight[known]
    if not k.size:
        return MaxPain(np.nan, np.nan, "no open interest", np.empty(0), np.empty(0))
    strikes, position = np.unique(k, return_inverse=True)
    calls, puts = (
        np.asarray(np.bincount(position, np.where(w == side, weight, 0.0), strikes.size), np.float64)
        for side in (1.0, -1.0)
    )
    with np.errstate(over="ignore"):  # looked at next
        payout = _paid(np.diff(strikes), calls) + _paid(np.diff(strikes)[::-1], puts[::-1])[::-1]
    if not np.isfinite(payout.min()):
        return MaxPain(np.nan, np.nan, "strikes or open interest too large to add", strikes, payout)
    least = payout <= payout.min() * (1.0 + 1e-12)
    return MaxPain(float(strikes[least][0]), float(strikes[least][-1]), "", strikes, payout)


def put_call_ratio(right: ArrayLike, contracts: ArrayLike) -> PutCallRatio:
    """Puts over calls, by volume or by open interest, whichever ``contracts`` (n,) holds.

    Negative numbers and NaN (not published) count as nothing. Raises ValueError for what `arguments.broadcast`
    refuses.
    """
    (w, count), _ = broadcast({"right": right, "contracts": contracts})
    known = np.where(np.isfinite(count) & (count > 0.0), count, 0.0)
    puts, calls = float(known[w < 0.0].sum()), float(known[w > 0.0].sum())
    if calls == 0.0:
        return PutCallRatio(np.nan, puts, calls, "no calls" if puts else "no contracts")
    return PutCallRatio(puts / calls, puts, calls, "")


class _Columns(NamedTuple):
    right: Values
    strike: Values
    years: Values
    rate: Values
    dividend_yield: Values
    volatility: Values
    open_interest: Values
    shares_per_contract: Values

    @property
    def weight(self) -> Values:
        """Shares that the open contracts are on; NaN where unknown or negative."""
        with np.errstate(all="ignore"):  # infinite and NaN numbers are unknown weights
            shares = self.open_interest * self.shares_per_contract
        return np.where(np.isfinite(shares) & (shares >= 0.0), shares, np.nan)


def _columns(spot: float, contracts: Contracts) -> _Columns:
    if not (np.ndim(spot) == 0 and 0.0 < spot < np.inf):
        raise ValueError(f"spot must be one positive number, not {spot}")
    return _Columns(*broadcast(contracts._asdict()).vectors)


def _signs(side: Side, right: Values) -> Values:
    if isinstance(side, DealerSide):
        return side.signs(right)
    signs = numbers("side", side)
    if signs.shape not in (right.shape, ()):
        raise ValueError(f"side must have shape {right.shape}, as the contracts, not {signs.shape}")
    if not (np.abs(signs) <= 1.0).all():
        raise ValueError("side must be from -1 to +1 everywhere")
    return np.broadcast_to(signs, right.shape)


def _held(spot: float, columns: _Columns, greeks: GreeksFunction) -> Exposure:
    """Exposure per contract of whoever is long, NaN and counted where unknown; 0 where nothing is open."""
    g = greeks(columns.right, spot, *columns[1:6])
    weight = columns.weight
    with np.errstate(all="ignore"):  # what overflows is not finite, and is counted as left out
        dollars = weight * spot
        each = (
            dollars * g.delta,
            dollars * g.gamma * spot * 0.01,
            dollars * g.vanna * 0.01,
            dollars * g.charm / _DAYS_A_YEAR,
        )
    known = np.isfinite(each).all(axis=0)
    nothing = weight == 0.0
    delta, gamma, vanna, charm = (np.where(nothing, 0.0, np.where(known, x, np.nan)) for x in each)
    return Exposure(delta, gamma, vanna, charm, (~known & ~nothing).astype(np.int64))


def _signed(held: Exposure, signs: Values) -> Exposure:
    return Exposure(held.delta * signs, held.gamma * signs, held.vanna * signs, held.charm * signs, held.left_out)


def _profile(keys: Values, each: Exposure) -> ExposureProfile:
    unique, group = np.unique(keys, return_inverse=True)
    return ExposureProfile(unique, _summed(each, group, unique.size, (unique.size,)))


def _summed(each: Exposure, group: NDArray[np.intp], count: int, shape: tuple[int, ...]) -> Exposure:
    left_out = np.bincount(group, each.left_out, count).astype(np.int64)
    members = np.bincount(group, minlength=count)
    empty = (left_out > 0) & (left_out == members)
    sums = (np.bincount(group, np.nan_to_num(x), count) for x in each[:4])
    delta, gamma, vanna, charm = (np.where(empty, np.nan, total).reshape(shape) for total in sums)
    return Exposure(delta, gamma, vanna, charm, left_out.reshape(shape))


def _extremes(exposures: Sequence[Exposure]) -> tuple[Exposure, Exposure]:
    delta, gamma, vanna, charm = (np.stack(values) for values in zip(*(e[:4] for e in exposures), strict=True))
    left_out = exposures[0].left_out
    return (
        Exposure(delta.min(axis=0), gamma.min(axis=0), vanna.min(axis=0), charm.min(axis=0), left_out),
        Exposure(delta.max(axis=0), gamma.max(axis=0), vanna.max(axis=0), charm.max(axis=0), left_out),
    )


def _gamma_over(spots: Values, columns: _Columns, signs: Values, greeks: GreeksFunction) -> Values:
    """Total gamma exposure in dollars per 1 % at each spot; unknown contracts count as nothing, as in the sums."""
    weight = np.nan_to_num(columns.weight * signs)
    open_ones = weight != 0.0
    weight, options = weight[open_ones], [column[open_ones] for column in columns[:6]]
    total = np.zeros(spots.size)
    at_once = max(1, _BLOCK // max(1, weight.size))
    for start in range(0, spots.size, at_once):
        some = spots[start : start + at_once, None]
        gamma = greeks(options[0], some, *options[1:]).gamma
        known = np.nan_to_num(gamma)
        net, gross = known @ weight, known @ np.abs(weight)
        total[start : start + at_once] = np.where(np.abs(net) <= _ROUNDING * gross, 0.0, net) * some[:, 0] ** 2 * 0.01
    return total


def _crossings(spots: Values, gamma: Values) -> Values:
    """Sign changes by straight line between the neighbouring points where gamma is not zero."""
    known = gamma != 0.0
    spots, gamma = spots[known], gamma[known]
    change = np.flatnonzero(np.sign(gamma[:-1]) != np.sign(gamma[1:]))
    share = gamma[change] / (gamma[change] - gamma[change + 1])
    return np.asarray(spots[change] + share * np.diff(spots)[change])


def _why_no_crossing(gamma: Values) -> str:
    if not gamma.any():
        return "gamma exposure is zero at every spot of the grid"
    return f"gamma exposure is {'positive' if gamma.max() > 0.0 else 'negative'} at every spot of the grid"


def _paid(gaps: Values, weight: Values) -> Values:
    """What holders are paid at each strike, walking from where nothing is: each gap pays all contracts behind it."""
    return np.concatenate(([0.0], np.cumsum(gaps * np.cumsum(weight)[:-1])))
