"""Which contracts may plausibly move by so much within a horizon, net of what trading them costs.

Bought at the ask and sold at the bid, a contract returns a move only after its spread and two fees. So the price that
must be reached, and the probability of reaching it, are those of the executable side; beside them stand what a market
without costs would show, and the expected value, which at fair prices is minus the cost whatever the probability is.
"""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_analytics.chain_table import days_to_expiration
from ots_chains.priced_chains import PricedChain
from ots_common.times import NS_PER_S
from ots_market.prices import SCALE
from ots_quant import american
from ots_quant.density import OptionTouch, RoundTrip, expected_bid, option_touch, spot_at_price, touch

_KEPT = 8  # scans in the memory of a process: their pages are read one after the other

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

SHARES = 100
"""Shares a contract; contracts of other deliverables are in no chain."""
_YEAR_S = 365 * 86_400


@dataclass(frozen=True)
class Wanted:
    """What is asked for. Moves and probabilities are decimals, the spread per cent of the mid, the fee dollars a way.

    ``delta_min`` and ``delta_max`` are of the size of the delta; a bound of None is none.
    """

    min_move: float = 0.05
    max_move: float = 0.10
    min_probability: float = 0.05
    max_spread_pct: float = 10.0
    fee_per_contract: float = 0.65
    right: Literal["C", "P"] | None = None
    dte_min: int | None = None
    dte_max: int | None = None
    delta_min: float | None = None
    delta_max: float | None = None
    min_open_interest: int | None = None
    min_volume: int | None = None
    max_quote_age_s: float | None = None


class ScannedContracts(NamedTuple):
    """Contracts of several chains as quoted at a moment, arrays of shape (contracts,) in the units of `PricedChain`.

    ``spot``: dollars; ``quote_age_s``: NaN never quoted; ``days``: calendar days to expiration; ``spread_pct``: per
    cent of the mid; ``implied_volatility``: of the mid; ``volatility``: that of the surface, at which the contract is
    worth ``theoretical``; ``reason``: why there is none of the two, else empty.
    """

    underlying: NDArray[np.str_]
    symbol: NDArray[np.str_]
    expiration: NDArray[np.datetime64]
    days: Ints
    strike: Floats
    right: Floats
    spot: Floats
    years: Floats
    bid: Floats
    ask: Floats
    bid_size: Ints
    ask_size: Ints
    spread_pct: Floats
    quoted_at: Ints
    quote_age_s: Floats
    volume: Ints
    open_interest: Ints
    rate: Floats
    dividend_yield: Floats
    implied_volatility: Floats
    volatility: Floats
    theoretical: Floats
    delta: Floats
    reason: NDArray[np.str_]

    def take(self, which: NDArray[np.intp] | Mask) -> ScannedContracts:
        """The contracts that ``which`` selects."""
        columns: list[Any] = [column[which] for column in self]
        return ScannedContracts(*columns)


def quoted_of(chains: Sequence[PricedChain]) -> ScannedContracts:
    """All contracts of chains of one moment. Raises ValueError without a chain."""
    columns: list[Any] = [np.concatenate(parts) for parts in zip(*map(_columns, chains), strict=True)]
    return ScannedContracts(*columns)


def _columns(chain: PricedChain) -> ScannedContracts:
    mid = 0.5 * (chain.bid + chain.ask)
    spread = np.full(len(chain), np.nan)
    np.divide(100.0 * (chain.ask - chain.bid), mid, out=spread, where=mid > 0.0)
    fitted = np.full(len(chain), np.nan)
    if chain.surface is not None:
        inside = chain.surface.inside(chain.years, chain.strike)
        fitted[inside] = chain.surface.volatility(chain.years[inside], chain.strike[inside])
    outside = (chain.reason == "") & ~np.isfinite(fitted + chain.theoretical)
    return ScannedContracts(
        underlying=np.full(len(chain), chain.underlying),
        symbol=chain.symbol,
        expiration=chain.expiration,
        days=days_to_expiration(chain),
        strike=chain.strike,
        right=chain.right,
        spot=np.full(len(chain), chain.spot.price / SCALE if chain.spot else np.nan),
        years=chain.years,
        bid=chain.bid,
        ask=chain.ask,
        bid_size=chain.bid_size,
        ask_size=chain.ask_size,
        spread_pct=spread,
        quoted_at=chain.quoted_at,
        quote_age_s=np.where(chain.quoted_at > 0, (chain.moment.at_ns - chain.quoted_at) / NS_PER_S, np.nan),
        volume=chain.volume,
        open_interest=chain.open_interest,
        rate=chain.carry_rate,
        dividend_yield=chain.dividend_yield,
        implied_volatility=chain.implied_volatility,
        volatility=fitted,
        theoretical=chain.theoretical,
        delta=chain.greeks.delta,
        reason=np.where(outside, "outside_surface", chain.reason).astype("U32"),
    )


@dataclass(frozen=True)
class Move:
    """What a move asks for and how probable it is; arrays (candidates,). Prices in dollars a share.

    bid, mid: what must be bid, and the middle of the market that comes with it
    probability, at_least, at_most: of touching that mid within the horizon, see `OptionTouch`
    frictionless: of touching the mid of now raised by the same move, in a market without spread and fees
    level, level_at_horizon: the spot at which the option is worth that mid, now and at the end; NaN where none is
    """

    bid: Floats
    mid: Floats
    probability: Floats
    at_least: Floats
    at_most: Floats
    frictionless: Floats
    level: Floats
    level_at_horizon: Floats

    def take(self, which: NDArray[np.intp]) -> Move:
        """That of the contracts that ``which`` selects."""
        return Move(*(getattr(self, f.name)[which] for f in fields(self)))


@dataclass(frozen=True)
class Candidates:
    """What a scan finds: contracts that remain, and how many were left out for which reason.

    ``deviation``: one standard deviation of the logarithm of the spot over the horizon, at the option's volatility;
    ``break_even``: the move of the mid that returns the costs and no more; ``expected_value``: dollars a contract, of
    buying at the ask and selling at the horizon's bid under the fair model, fees paid.
    """

    looked_at: int
    left_out: dict[str, int]
    quoted: ScannedContracts
    trip: RoundTrip
    deviation: Floats
    break_even: Move
    lesser: Move
    greater: Move
    expected_value: Floats

    def __len__(self) -> int:
        return len(self.quoted.symbol)

    def take(self, which: NDArray[np.intp]) -> Candidates:
        """The candidates that ``which`` selects, in its order; the counts stay."""
        return replace(
            self,
            quoted=self.quoted.take(which),
            trip=RoundTrip(self.trip.bid[which], self.trip.ask[which], self.trip.fee),
            deviation=self.deviation[which],
            break_even=self.break_even.take(which),
            lesser=self.lesser.take(which),
            greater=self.greater.take(which),
            expected_value=self.expected_value[which],
        )

    @property
    def outlay(self) -> Floats:
        """Dollars that buying a contract at the ask takes, with its fee."""
        return SHARES * (self.trip.ask + self.trip.fee)

    @property
    def cost(self) -> Floats:
        """Dollars a contract that buying and selling again loses if nothing moves."""
        return SHARES * self.trip.cost


def scan(quoted: ScannedContracts, wanted: Wanted, horizon_s: float) -> Candidates:
    """The contracts whose bid reaches the lesser move within ``horizon_s`` with at least the probability asked for.

    The model is that of the surface, and the mid keeps its distance from it: what a deep contract's own quote says of
    volatility is lost in its spread, so that its mid alone may imply any.
    Cheap refusals come first, then a bound: an American option never gains by time passing, so the level that its
    price must reach is nearest now, and touching that one is the most that touching can be. Who stays below
    ``min_probability`` there needs no integral.
    """
    horizon = horizon_s / _YEAR_S
    reason = _refusals(quoted, wanted, horizon)
    kept = np.flatnonzero(reason == "")
    trip = _round_trip(quoted.take(kept), wanted)
    most = _most_probable(
        quoted.take(kept), _model_price(quoted.take(kept), trip, trip.mid_for(wanted.min_move)), horizon
    )
    unlikely = ~(most >= wanted.min_probability)
    reason[kept[unlikely]] = "below_min_probability"

    kept = kept[~unlikely]
    chosen = quoted.take(kept)
    trip = _round_trip(chosen, wanted)
    moves = (0.0, wanted.min_move, wanted.max_move)
    mids = np.stack([*(trip.mid_for(m) for m in moves), *(trip.mid * (1.0 + m) for m in moves[1:])])
    found = option_touch(*_terms(chosen), _model_price(chosen, trip, mids), horizon, price=american.price)
    break_even, lesser, greater = (
        _move(found, i, trip.bid_for(m), mids[i], frictionless=row)
        for i, (m, row) in enumerate(zip(moves, (None, 3, 4), strict=True))
    )
    below = _model_price(chosen, trip, trip.half_spread)  # the bid is below the mid, and the mid beside the model
    expected = expected_bid(*_terms(chosen), below, horizon, price=american.price)
    candidates = Candidates(
        looked_at=len(reason),
        left_out={},
        quoted=chosen,
        trip=trip,
        deviation=chosen.volatility * np.sqrt(horizon),
        break_even=break_even,
        lesser=lesser,
        greater=greater,
        expected_value=SHARES * (expected - trip.ask - 2.0 * trip.fee),
    )
    unknown = ~np.isfinite(lesser.probability + greater.probability + break_even.probability + expected)
    reason[kept[unknown]] = "no_probability"
    with np.errstate(invalid="ignore"):
        less = ~unknown & (lesser.probability < wanted.min_probability)
    reason[kept[less]] = "below_min_probability"
    names, counts = np.unique(reason[reason != ""], return_counts=True)
    left_out = dict(zip(names.tolist(), counts.tolist(), strict=True))
    which = np.flatnonzero(~unknown & ~less)
    return replace(candidates.take(which), left_out=left_out)


def _refusals(quoted: ScannedContracts, wanted: Wanted, horizon: float) -> NDArray[np.str_]:
    """The first reason to leave out each contract, empty for none."""
    size = np.abs(quoted.delta)
    tests: list[tuple[str, Mask]] = []
    with np.errstate(invalid="ignore"):  # what is unknown is not inside any bound
        if wanted.max_quote_age_s is not None:
            tests.append(("stale", ~(quoted.quote_age_s <= wanted.max_quote_age_s)))
        tests.append(("expires_within_horizon", ~(quoted.years > horizon)))
        if wanted.right is not None:
            tests.append(("right", quoted.right != (1.0 if wanted.right == "C" else -1.0)))
        for name, values, least, most in (
            ("days_to_expiration", quoted.days, wanted.dte_min, wanted.dte_max),
            ("delta", size, wanted.delta_min, wanted.delta_max),
            ("open_interest", quoted.open_interest, wanted.min_open_interest, None),
            ("volume", quoted.volume, wanted.min_volume, None),
        ):
            if least is not None:
                tests.append((name, ~(values >= least)))
            if most is not None:
                tests.append((name, ~(values <= most)))
        tests.append(("spread_too_wide", ~(quoted.spread_pct <= wanted.max_spread_pct)))
    reason = quoted.reason.copy()
    for name, refused in tests:
        reason[refused & (reason == "")] = name
    return reason


def _round_trip(quoted: ScannedContracts, wanted: Wanted) -> RoundTrip:
    return RoundTrip(quoted.bid, quoted.ask, wanted.fee_per_contract / SHARES)


def _model_price(contracts: ScannedContracts, trip: RoundTrip, mid: Floats) -> Floats:
    """What the model says where the middle of the market is ``mid``: it stays as far from it as it is now."""
    return mid + (contracts.theoretical - trip.mid)


def _terms(quoted: ScannedContracts) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats, Floats]:
    return (
        quoted.right, quoted.spot, quoted.strike, quoted.years, quoted.rate, quoted.dividend_yield, quoted.volatility
    )  # fmt: skip


def _most_probable(quoted: ScannedContracts, target: Floats, horizon: float) -> Floats:
    """The probability of touching the level of now, held fixed: at most that of touching a target above the mid."""
    right, spot, *rest = _terms(quoted)
    level = spot_at_price(target, right, *rest, price=american.price)
    return np.where(
        level == 0.0,  # no spot is low enough for this put
        0.0,
        touch(spot, level, horizon, quoted.rate, quoted.dividend_yield, quoted.volatility).probability,
    )


def _move(found: OptionTouch, row: int, bid: Floats, mid: Floats, *, frictionless: int | None) -> Move:
    level, at_horizon = (np.where(x[row] > 0.0, x[row], np.nan) for x in (found.level_now, found.level_at_horizon))
    nothing = np.full(len(bid), np.nan)
    return Move(
        bid,
        mid,
        found.probability[row],
        found.at_least[row],
        found.at_most[row],
        nothing if frictionless is None else found.probability[frictionless],
        level,
        at_horizon,
    )


Sort = Literal["probability", "cost", "spread", "expected_value"]


def rank_key(found: Candidates, sort: Sort) -> Floats:
    """What candidates are in ascending order of: the first is the most probable, cheapest, narrowest or least negative.

    Cost and expected value count in per cent of what is paid, because dollars alone would favour cheap contracts.
    """
    if sort == "probability":
        return -found.lesser.probability
    if sort == "cost":
        return found.cost / found.outlay
    if sort == "spread":
        return found.quoted.spread_pct
    return -found.expected_value / found.outlay


def ranked(found: Candidates, sort: Sort) -> tuple[NDArray[np.intp], Floats]:
    """The order of candidates, ties by symbol, and their keys in that order."""
    key = rank_key(found, sort)
    order = np.lexsort((found.quoted.symbol, key))
    return order, key[order]


class RecentScans:
    """The scans made last, kept with the chains that they were made of; for threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Wanted, float], tuple[Sequence[PricedChain], Candidates]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, chains: Sequence[PricedChain], wanted: Wanted, horizon_s: float) -> Candidates:
        """What `scan` finds in the chains of one moment, made now unless it was made of these very chains."""
        key = (wanted, horizon_s)
        with self._lock:
            made_of, found = self._kept.get(key, ((), None))
        if found is not None and len(made_of) == len(chains) and all(map(operator.is_, made_of, chains)):
            return found
        found = scan(quoted_of(chains), wanted, horizon_s)
        with self._lock:
            self._kept[key] = (chains, found)
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found
