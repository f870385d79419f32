"""What became of many positions in a fair market at once, and of random matches of theirs: for the self-tests.

The same rules as `resolver` and `baselines` (a test holds that outcomes are equal to the resolver's one by one, and
that the matches' means agree), in arrays over a whole seed. A match is made, not looked up: another session of those
before, a minute of it nearby, the listed expiration nearest in time, and the listed strike at the same distance in
standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ots_market.timeframes import DAY_NS, MINUTE_NS
from ots_quant.passage import NOT_LEFT, STOP, TARGET, TIMEOUT, first_passage
from ots_signals.baselines import MINUTES_APART
from ots_signals.engine import FLAT_BEFORE_CLOSE_NS, Draft
from ots_signals.fair_market import Contracts, FairMarket
from ots_signals.market_view import Floats, Ints

_DOLLAR = 1_000_000_000
_ROWS = 8192  # positions whose minutes are priced together
_FLAT_MINUTES = FLAT_BEFORE_CLOSE_NS // MINUTE_NS

CODES = {TARGET: "target", STOP: "stop", TIMEOUT: "timeout", NOT_LEFT: "not_filled"}


@dataclass(frozen=True)
class Positions:
    """n positions of at most k legs. ``underlying``, ``day``: the market's indices; ``minute``: ended at the entry.

    ``expiration``, ``right``, ``strike`` (dollars), ``quantity``: (n, k), quantity 0 where there is no leg. ``target``,
    ``stop``: returns on capital; ``minutes``: until the time stop; ``fees``: 1e-9 dollars a share, in and out.
    """

    underlying: Ints
    day: Ints
    minute: Ints
    expiration: Ints
    right: Floats
    strike: Floats
    quantity: Ints
    target: Floats
    stop: Floats
    minutes: Ints
    fees: Floats

    def __len__(self) -> int:
        return len(self.day)

    def at(self, rows: Ints | slice) -> Positions:
        """Some of them."""
        return Positions(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Results:
    """Arrays (n,). ``code``: of `ots_quant.passage`; returns on capital, NaN where it could not be entered.

    ``exit_minute``: of the session. ``best`` and ``worst`` before fees, as `outcomes.FillOutcome` has them.
    """

    code: Ints
    net: Floats
    exit_minute: Ints
    best: Floats
    worst: Floats


def positions_of(market: FairMarket, drafts: Sequence[Draft]) -> Positions:
    """Drafts as arrays, in their order."""
    width = max((len(one.legs) for one in drafts), default=1)
    n = len(drafts)
    expiration, quantity = np.zeros((n, width), np.int64), np.zeros((n, width), np.int64)
    right, strike = np.ones((n, width)), np.ones((n, width))
    dates = [leg.expiration for one in drafts for leg in one.legs]
    index = np.searchsorted(market.dates, np.array(dates, "datetime64[D]")) if dates else np.zeros(0, np.int64)
    place = 0
    for row, one in enumerate(drafts):
        k = len(one.legs)
        expiration[row, :k], expiration[row, k:] = index[place : place + k], index[place]
        right[row, :k] = [1.0 if leg.right == "C" else -1.0 for leg in one.legs]
        strike[row] = [*(leg.strike / _DOLLAR for leg in one.legs)] + [one.legs[0].strike / _DOLLAR] * (width - k)
        quantity[row, :k] = [leg.quantity for leg in one.legs]
        place += k
    event = np.array([one.decision.event_ns for one in drafts], np.int64)
    day = np.searchsorted(market.opens, event, side="right") - 1
    leave = np.array([min(one.barriers.time_ns, one.barriers.flat_ns) for one in drafts], np.int64)
    return Positions(
        underlying=np.array([market.underlying_index(one.decision.underlying) for one in drafts], np.int64),
        day=day.astype(np.int64),
        minute=(event - market.opens[day]) // MINUTE_NS,
        expiration=expiration,
        right=right,
        strike=strike,
        quantity=quantity,
        target=np.array([one.barriers.target for one in drafts], np.float64),
        stop=np.array([one.barriers.stop for one in drafts], np.float64),
        minutes=(leave - event) // MINUTE_NS,
        fees=np.array([one.entry.fees for one in drafts], np.float64),
    )


def resolve_positions(market: FairMarket, positions: Positions, share_paid: float = 1.0) -> Results:
    """All of them; ``share_paid``: of the half-spread, in and out: 1 touch, 0 mid."""
    n = len(positions)
    found = Results(
        np.full(n, NOT_LEFT, np.int64),
        np.full(n, np.nan),
        np.zeros(n, np.int64),
        np.full(n, np.nan),
        np.full(n, np.nan),
    )
    # those held equally long together, so that little is priced in vain
    order = np.argsort(positions.minutes, kind="stable")
    for start in range(0, n, _ROWS):
        rows = order[start : start + _ROWS]
        part = _resolve(market, positions.at(rows), share_paid)
        for name in Results.__dataclass_fields__:
            getattr(found, name)[rows] = getattr(part, name)
    return found


def matched(market: FairMarket, positions: Positions, each: int, random: np.random.Generator) -> Positions:
    """``each`` random matches of each position, those of one after the other: (n x each,).

    From the ten sessions before, or as many as there are; a match that its session cannot hold for as long is moved to
    an earlier minute.
    """
    settings = market.settings
    p = positions.at(np.repeat(np.arange(len(positions)), each))
    back = np.minimum(1 + random.integers(0, settings.pool_sessions, len(p)), p.day)
    day = p.day - back
    last = market.lengths[day] - _FLAT_MINUTES - p.minutes
    minute = p.minute + np.rint(random.uniform(-MINUTES_APART, MINUTES_APART, len(p))).astype(np.int64)
    minute = np.clip(minute, 1, np.maximum(last, 1))
    expiration = np.empty_like(p.expiration)
    strike = np.empty_like(p.strike)
    spot, spot_then = _spots(market, p.underlying, p.day, p.minute), _spots(market, p.underlying, day, minute)
    for k in range(p.quantity.shape[1]):
        years = (market.closes[p.expiration[:, k]] - _ns(market, p.day, p.minute)) / DAY_NS
        expiration[:, k] = _nearest_expiration(market, day, _ns(market, day, minute), years)
        deviation = _deviation(market, p.underlying, p.day, p.minute, p.expiration[:, k])
        deviation_then = _deviation(market, p.underlying, day, minute, expiration[:, k])
        wanted = spot_then * np.exp(np.log(p.strike[:, k] / spot) * deviation_then / deviation)
        spacing = market.spacing[p.underlying]
        strike[:, k] = np.maximum(np.rint(wanted / spacing), 1.0) * spacing
    return Positions(
        p.underlying, day, minute, expiration, p.right, strike, p.quantity, p.target, p.stop, p.minutes, p.fees
    )


def _resolve(market: FairMarket, p: Positions, share_paid: float) -> Results:
    n, held = len(p), int(p.minutes.max(initial=1))
    minutes = p.minute[:, None] + np.arange(held + 1)
    value, paid = np.zeros((n, held + 1)), np.zeros(n)
    for k in range(p.quantity.shape[1]):
        rows = np.flatnonzero(p.quantity[:, k])
        if not len(rows):
            continue
        contracts = Contracts(p.expiration[rows, k], p.right[rows, k], p.strike[rows, k])
        bid, ask = market.quotes(market.mids(p.underlying[rows], p.day[rows], minutes[rows], contracts))
        saved = 0.5 * (1.0 - share_paid) * (ask - bid)
        q = p.quantity[rows, k][:, None]
        value[rows] += np.where(q > 0, q * (bid + saved), q * (ask - saved))
        paid[rows] += (q * np.where(q > 0, ask - saved, bid + saved))[:, 0]
    # the capital is that of the entry at touch in all fill models
    capital = _capital(p, paid if share_paid == 1.0 else _touch(market, p))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = first_passage(
            value[:, 1:],
            value[:, 1:],
            value[:, 1:],
            np.zeros(held, np.int64),
            np.arange(n),
            np.zeros(n, np.int64),
            p.minutes - 1,
            p.minutes - 1,
            paid + p.target * capital,
            paid + p.stop * capital,
        )
        net = np.where(capital > 0, (found.value - paid - p.fees) / capital, np.nan)
        best, worst = (found.best - paid) / capital, (found.worst - paid) / capital
    return Results(found.code, net, p.minute + 1 + found.column, best, worst)


def _touch(market: FairMarket, p: Positions) -> Floats:
    paid = np.zeros(len(p))
    for k in range(p.quantity.shape[1]):
        contracts = Contracts(p.expiration[:, k], p.right[:, k], p.strike[:, k])
        bid, ask = market.quotes(market.mids(p.underlying, p.day, p.minute[:, None], contracts))
        q = p.quantity[:, k]
        paid += np.where(q > 0, q * ask[:, 0], q * bid[:, 0])
    return paid


def _capital(p: Positions, touch: Floats) -> Floats:
    """As `contract_choice.entry`: what is paid less the worst that the legs pay back."""
    ends = np.concatenate([np.zeros((len(p), 1)), p.strike], axis=1) * _DOLLAR
    strike = p.strike[:, None, :] * _DOLLAR
    payoff = np.maximum(p.right[:, None, :] * (ends[:, :, None] - strike), 0.0)
    worst = (p.quantity[:, None, :] * payoff).sum(axis=2).min(axis=1)
    return np.asarray(touch - worst)


def _ns(market: FairMarket, day: Ints, minute: Ints) -> Ints:
    return market.opens[day] + minute * MINUTE_NS


def _spots(market: FairMarket, u: Ints, day: Ints, minute: Ints) -> Floats:
    return market.spot.close[u, day, minute - 1]


def _deviation(market: FairMarket, u: Ints, day: Ints, minute: Ints, expiration: Ints) -> Floats:
    """Of the logarithm of the spot until an expiration."""
    left = market.spot.closing[u, expiration] - market.spot.variance[u, day, minute - 1]
    return np.sqrt(np.maximum(left, 1e-12))


def _nearest_expiration(market: FairMarket, day: Ints, at_ns: Ints, days: Floats) -> Ints:
    """The listed expiration whose logarithm of the time left is nearest."""
    found = np.empty(len(day), np.int64)
    for one in np.unique(day).tolist():
        rows = np.flatnonzero(day == one)
        listed = market.expirations(one)
        left = np.maximum((market.closes[listed][None, :] - at_ns[rows, None]) / DAY_NS, 1e-4)
        found[rows] = listed[np.abs(np.log(left / days[rows, None])).argmin(axis=1)]
    return found
