"""What the same barriers do without the signal: on matched random contracts, at random moments, in the stock.

A strategy that picks at-the-money options with a near target and a far stop "wins" most of the time in a market where
nobody has an edge. Its matches say how often: contracts of the same underlying and right, of about the same time to
expiration, delta, minute of the session and spread, entered at the ask at moments that nobody chose, in the sessions
before. What is drawn follows from the signal's id.

Of the signal's own session only what begins after the signal is over counts, and ends before all must be flat. What
went before in it is no fair comparison: a strategy that buys calls after a fall would be compared with calls that were
bought before that fall.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS
from ots_quant.passage import GAP, NOT_LEFT, TARGET, Passages, first_passage
from ots_signals.decisions import FillModel, Signal
from ots_signals.market_view import Flags, Floats, Ints, Pool, Tape, TapeView
from ots_signals.outcomes import Barrier, Baseline, Outcome
from ots_signals.position_values import LeavingValues, legs_values
from ots_signals.resolver import GRACE_NS, leave_by

MATCHES = 200
SHUFFLES = 50

# How far a match may be from the signal, as it is and (where that leaves fewer than ENOUGH) twice as far.
YEARS_APART = 0.35  # of the logarithm of the time to expiration
DELTA_APART = 0.10
MINUTES_APART = 60.0  # of the session
SPREAD_APART = float(np.log(2.0))  # of the logarithm of the spread's share of the mid
ENOUGH = 50
_LEAST_SPREAD = 1e-3

_BYTES_KEPT = 192 * 2**20  # of tapes, and as many of results; the tape of 300 contracts and 390 minutes has 6.5 MB

_Found = TypeVar("_Found")


class _Nets(NamedTuple):
    """Of candidates, shape (n,): net return at touch, whether the target was first; NaN where not resolved."""

    net: Floats
    hit: Flags


class _Part(NamedTuple):
    """One session of a pool: its tape, and the row of each candidate in it."""

    tape: Tape
    rows: Ints


class _Memory(Generic[_Found]):
    """What was found, while its bytes are within `_BYTES_KEPT`; what was used longest ago goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], tuple[_Found, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[object, ...], find: Callable[[], tuple[_Found, bool]]) -> _Found:
        """What was found before, or is now; kept only where ``find`` says that nothing more is to come."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        found, complete = find()
        if complete:
            size = _bytes(found)
            self._kept[key] = found, size
            self._bytes += size
            while len(self._kept) > 1 and self._bytes > _BYTES_KEPT:
                self._bytes -= self._kept.popitem(last=False)[1][1]
        return found


class Baselines:
    """Baselines in one market; keeps what it has read of the sessions used last, in bounds.

    ``sessions``: the market's calendar. Not to be shared by threads.
    """

    def __init__(self, view: TapeView, sessions: Sessions) -> None:
        self._view = view
        self._sessions = sessions
        self._parts = _Memory[_Part]()
        self._nets = _Memory[_Nets]()

    def of(self, signal: Signal, outcome: Outcome, tape: Tape) -> Baseline:
        """The baseline of one signal. ``tape``: its own, from which the stock's move is taken."""
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(signal.id.encode()).digest()[:8], "big"))
        pool = _in_order(self._view.pool(signal.underlying, signal.barriers.flat_ns))
        matched = self._single(signal, pool, rng) if len(signal.legs) == 1 else self._structures(signal, pool, rng)
        shuffled = self._shuffled(signal, rng)
        known = matched.net[np.isfinite(matched.net)]
        moved = shuffled.net[np.isfinite(shuffled.net)]
        own = net_at_touch(outcome)
        return Baseline(
            n=len(known),
            hit_rate=_share(matched),
            mean_net=_number(np.mean, known),
            median_net=_number(np.median, known),
            percentile=None
            if own is None or not len(known)
            else float((known < own).mean() + 0.5 * (known == own).mean()),
            shuffled_n=len(moved),
            shuffled_hit_rate=_share(shuffled),
            shuffled_mean_net=_number(np.mean, moved),
            stock_return=stock_return(signal, outcome, tape),
        )

    def _single(self, signal: Signal, pool: Pool, rng: np.random.Generator) -> _Nets:
        """Contracts like the signal's one leg."""
        (leg,) = signal.legs
        if leg.quantity <= 0 or leg.delta is None:
            return _nothing()
        terms = _Terms.of(signal, self._sessions)
        away = _apart(pool, leg.right, leg.delta, terms.years[0])
        away = np.maximum(away, np.abs(pool.minute - terms.minute) / MINUTES_APART)
        away = np.maximum(away, np.abs(np.log(_spread(pool.bid, pool.ask) / _spread(leg.bid, leg.ask))) / SPREAD_APART)
        away = np.where(self._usable(signal, terms, pool.at_ns), away, np.inf)
        chosen = _drawn(away, rng, MATCHES)
        of_session = self._sessions.index_of(pool.at_ns)
        net, hit = np.full(len(chosen), np.nan), np.zeros(len(chosen), np.bool_)
        for session in np.unique(of_session[chosen]).tolist():
            part = slice(*np.searchsorted(of_session, [session, session + 1]).tolist())
            found = self._session_nets(signal, terms, pool, part, session)
            here = of_session[chosen] == session
            net[here], hit[here] = found.net[chosen[here] - part.start], found.hit[chosen[here] - part.start]
        return _Nets(net, hit)

    def _session_nets(self, signal: Signal, terms: _Terms, pool: Pool, part: slice, session: int) -> _Nets:
        """All of a session's candidates, bought, under the signal's barriers: every signal of a strategy asks again."""
        key = (signal.underlying, session, part.stop - part.start, *terms.barriers)
        return self._nets.get(key, lambda: self._find_session_nets(signal, terms, pool, part, session))

    def _find_session_nets(
        self, signal: Signal, terms: _Terms, pool: Pool, part: slice, session: int
    ) -> tuple[_Nets, bool]:
        tape, rows = self._part(signal.underlying, pool, part, session)
        values = legs_values(tape, 1, FillModel.TOUCH)
        paid = pool.ask[part].astype(np.float64)
        leave = terms.leave(pool.at_ns[part], int(self._sessions.closes[session]))
        return _nets(tape, values, rows, pool.at_ns[part], leave, (paid, paid), terms), tape.complete

    def _structures(self, signal: Signal, pool: Pool, rng: np.random.Generator) -> _Nets:
        """The signal's legs, each by its right, expiration and delta, at moments that nobody chose."""
        if not len(pool.at_ns) or any(leg.delta is None for leg in signal.legs):
            return _nothing()
        terms = _Terms.of(signal, self._sessions)
        moments, starts = np.unique(pool.at_ns, return_index=True)
        lengths = np.diff(np.append(starts, len(pool.at_ns)))
        away = np.abs(pool.minute[starts] - terms.minute) / MINUTES_APART
        picked = np.empty((len(signal.legs), len(moments)), np.int64)
        for k, leg in enumerate(signal.legs):
            distance = _apart(pool, leg.right, leg.delta or 0.0, terms.years[k])
            least = np.minimum.reduceat(distance, starts)
            places = np.flatnonzero(distance == np.repeat(least, lengths))
            picked[k] = places[np.searchsorted(places, starts)]
            away = np.maximum(away, least)
        quantity = np.array([leg.quantity for leg in signal.legs])[:, None]
        bid, ask = pool.bid[picked], pool.ask[picked]
        paid = np.where(quantity > 0, quantity * ask, quantity * bid).sum(axis=0).astype(np.float64)
        capital = _capital(signal, pool.symbol[picked], quantity, paid)
        spread = (np.abs(quantity) * (ask - bid)).sum(axis=0) / np.maximum(capital, 1.0)
        apart = np.abs(np.log(np.maximum(spread, _LEAST_SPREAD) / max(signal.entry.spread_pct, _LEAST_SPREAD)))
        away = np.maximum(away, apart / SPREAD_APART)
        twice = np.array([len(set(column)) < len(column) for column in picked.T.tolist()], np.bool_)
        usable = self._usable(signal, terms, moments) & (capital > 0) & ~twice
        chosen = np.sort(_drawn(np.where(usable, away, np.inf), rng, MATCHES))
        of_session = self._sessions.index_of(pool.at_ns)
        parts = [_nothing()]
        for session in np.unique(of_session[starts[chosen]]).tolist():
            part = slice(*np.searchsorted(of_session, [session, session + 1]).tolist())
            tape, rows = self._part(signal.underlying, pool, part, session)
            here = chosen[of_session[starts[chosen]] == session]
            places = rows[picked[:, here] - part.start]
            each = (legs_values(tape, q, FillModel.TOUCH, places[k]).last for k, (q,) in enumerate(quantity.tolist()))
            last = np.asarray(sum(each))
            leave = terms.leave(moments[here], int(self._sessions.closes[session]))
            values = LeavingValues(last, last, last)
            costs = (paid[here], capital[here])
            parts.append(_nets(tape, values, np.arange(len(here)), moments[here], leave, costs, terms))
        return _Nets(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _shuffled(self, signal: Signal, rng: np.random.Generator) -> _Nets:
        """The signal's own contracts at moments of its session after it."""
        terms = _Terms.of(signal, self._sessions)
        until = signal.barriers.flat_ns
        symbols = [leg.symbol for leg in signal.legs]
        tape = self._view.tape(signal.underlying, symbols, leave_by(signal) - MINUTE_NS, until)
        usable = self._usable(signal, terms, tape.ends)
        entered = rng.permutation(np.flatnonzero(usable))[:SHUFFLES]
        if not len(entered):
            return _nothing()
        paid, last, sound = np.zeros(len(entered)), 0.0, np.ones(len(entered), np.bool_)
        quantity = np.array([leg.quantity for leg in signal.legs])[:, None]
        for row, (q,) in enumerate(quantity.tolist()):
            bid, ask = tape.bid[row, entered], tape.ask[row, entered]
            sound &= (bid > 0) & (ask >= bid)
            paid += q * (ask if q > 0 else bid)
            last = last + legs_values(tape, q, FillModel.TOUCH).last[row]
        capital = _capital(signal, np.array(symbols)[:, None], quantity, paid)
        sound &= capital > 0
        table = np.atleast_2d(np.asarray(last))
        leave = np.minimum(tape.ends[entered] + terms.duration, until)
        rows = np.zeros(len(entered), np.int64)
        found = _nets(tape, LeavingValues(table, table, table), rows, tape.ends[entered], leave, (paid, capital), terms)
        return _Nets(np.where(sound, found.net, np.nan), found.hit & sound)

    def _usable(self, signal: Signal, terms: _Terms, at_ns: Ints) -> Flags:
        """Moments of the sessions before, and of the signal's own those that begin and end in time."""
        after = (at_ns >= leave_by(signal)) & (at_ns + terms.duration + GRACE_NS <= signal.barriers.flat_ns)
        return (at_ns < terms.open_ns) | after

    def _part(self, underlying: str, pool: Pool, part: slice, session: int) -> _Part:
        def read() -> tuple[_Part, bool]:
            symbols, rows = np.unique(pool.symbol[part], return_inverse=True)
            start, end = int(pool.at_ns[part].min()), int(self._sessions.closes[session])
            tape = self._view.tape(underlying, symbols.tolist(), start, end)
            return _Part(tape, rows.astype(np.int64)), tape.complete

        return self._parts.get((underlying, session, part.stop - part.start), read)


class _Terms(NamedTuple):
    """What of a signal its matches are held to. Times ns, ``minute`` of the session, ``years`` of each leg."""

    target: float
    stop: float
    fees: int
    duration: int
    margin: int
    open_ns: int
    minute: float
    years: tuple[float, ...]

    @classmethod
    def of(cls, signal: Signal, sessions: Sessions) -> _Terms:
        (session,) = sessions.index_of(np.array([signal.event_ns], np.int64)).tolist()
        if session < 0:  # decided at the close itself
            session = int(np.searchsorted(sessions.opens, signal.event_ns, side="right")) - 1
        opened, closed = int(sessions.opens[session]), int(sessions.closes[session])
        dates = np.array([leg.expiration for leg in signal.legs], "datetime64[D]")
        expiries = sessions.closes[np.searchsorted(sessions.dates, dates, side="right") - 1]
        years = (expiries - signal.event_ns) / (365 * 1440 * MINUTE_NS)
        return cls(
            signal.barriers.target,
            signal.barriers.stop,
            signal.entry.fees,
            signal.barriers.time_ns - signal.event_ns,
            closed - signal.barriers.flat_ns,
            opened,
            (signal.event_ns - opened) / MINUTE_NS,
            tuple(years.tolist()),
        )

    @property
    def barriers(self) -> tuple[float | int, ...]:
        return (self.target, self.stop, self.fees, self.duration, self.margin)

    def leave(self, at_ns: Ints, close_ns: int) -> Ints:
        """When a match entered then must be left."""
        return np.minimum(at_ns + self.duration, close_ns - self.margin)


def net_at_touch(outcome: Outcome) -> float | None:
    """A signal's net return at touch; the loss of its capital where it could not be left; None where not resolved."""
    (touch,) = (fill for fill in outcome.fills if fill.model == FillModel.TOUCH)
    if touch.barrier is Barrier.NOT_FILLED and touch.worst_return is not None:
        return -1.0
    return touch.net_return


def stock_return(signal: Signal, outcome: Outcome, tape: Tape) -> float | None:
    """Of the position's delta in shares from the event to the exit at touch, on the entry's capital; before costs."""
    (touch,) = (fill for fill in outcome.fills if fill.model == FillModel.TOUCH)
    deltas = [leg.delta for leg in signal.legs]
    if touch.exit_ns is None or any(delta is None for delta in deltas):
        return None
    until = int(np.searchsorted(tape.ends, touch.exit_ns, side="right"))
    known = tape.spot[:until][np.isfinite(tape.spot[:until])]
    if not len(known):
        return None
    delta = sum(leg.quantity * (leg.delta or 0.0) for leg in signal.legs)
    return float(delta * (known[-1] - signal.underlying_price) * 1e9 / signal.entry.capital)


def _bytes(found: object) -> int:
    """Of all arrays in a tuple or dataclass, and in those within it."""
    if isinstance(found, np.ndarray):
        return found.nbytes
    parts = found if isinstance(found, tuple) else vars(found).values() if isinstance(found, Tape) else ()
    return sum(map(_bytes, parts))


def _in_order(pool: Pool) -> Pool:
    """By moment, as markets mostly give it."""
    if not (np.diff(pool.at_ns) < 0).any():
        return pool
    order = np.argsort(pool.at_ns, kind="stable")
    return Pool(*(getattr(pool, name)[order] for name in Pool.__dataclass_fields__))


def _apart(pool: Pool, right: str, delta: float, years: float) -> Floats:
    """How far each candidate is from a leg: 1 at the edge of what is allowed, inf for the other right."""
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.maximum(
            np.abs(np.log(pool.years / years)) / YEARS_APART, np.abs(np.abs(pool.delta) - abs(delta)) / DELTA_APART
        )
    same = (pool.right == (1.0 if right == "C" else -1.0)) & (pool.bid > 0) & (pool.ask >= pool.bid)
    return np.where(same & np.isfinite(away), away, np.inf)


def _spread(bid: Ints | int, ask: Ints | int) -> Floats:
    mid = 0.5 * np.maximum(np.asarray(bid) + ask, 1)
    return np.maximum((np.asarray(ask) - bid) / mid, _LEAST_SPREAD)


def _drawn(away: Floats, rng: np.random.Generator, most: int) -> Ints:
    """By lot among those near enough."""
    near = np.flatnonzero(away <= 1.0)
    if len(near) < ENOUGH:
        near = np.flatnonzero(away <= 2.0)
    return near if len(near) <= most else near[np.sort(rng.permutation(len(near))[:most])]


def _capital(signal: Signal, symbols: NDArray[np.str_], quantity: Ints, paid: Floats) -> Floats:
    """What the returns of positions (n,) are measured against: as `Entry.capital`; 0 where the loss has no bound.

    ``symbols``: (legs, n or 1); ``quantity``: (legs, 1).
    """
    if signal.entry.touch > 0:
        return paid
    rights = np.array([1.0 if leg.right == "C" else -1.0 for leg in signal.legs])[:, None]
    strikes = np.array([[float(int(symbol[-8:])) for symbol in row] for row in symbols.tolist()]) * 1e6
    if (quantity * (rights > 0)).sum() < 0:
        return np.zeros(len(paid))
    ends = np.vstack((np.zeros((1, strikes.shape[1])), strikes))  # the payoff's corners
    payoffs = np.maximum(rights[:, None] * (ends[None] - strikes[:, None]), 0.0)
    return np.asarray(paid - (quantity[:, None] * payoffs).sum(axis=0).min(axis=0))


def _nets(
    tape: Tape, values: LeavingValues, rows: Ints, at_ns: Ints, leave: Ints, costs: tuple[Floats, Floats], terms: _Terms
) -> _Nets:
    """Positions entered at ``at_ns`` at the cost ``costs`` = (paid, capital), under a signal's barriers."""
    paid, capital = costs
    first = np.searchsorted(tape.ends, at_ns, side="right")
    stop_at = np.maximum(np.searchsorted(tape.ends, leave, side="right") - 1, first)
    limit = np.maximum(np.searchsorted(tape.ends, leave + GRACE_NS, side="right") - 1, stop_at)
    upper, lower = paid + terms.target * capital, paid + terms.stop * capital
    found: Passages = first_passage(*values, tape.gap, rows, first, stop_at, limit, upper, lower)
    with np.errstate(divide="ignore", invalid="ignore"):
        net = (found.value - paid - terms.fees) / capital
    net = np.where(found.code == NOT_LEFT, -1.0, np.where(found.code == GAP, np.nan, net))
    # what the tape does not reach over yet has no outcome; the loss of all is for what was there and could not be left
    reached = (first < len(tape.ends)) & (tape.complete | (limit < len(tape.ends)))
    return _Nets(np.where((leave > at_ns) & reached, net, np.nan), found.code == TARGET)


def _nothing() -> _Nets:
    return _Nets(np.zeros(0), np.zeros(0, np.bool_))


def _share(nets: _Nets) -> float | None:
    return _number(np.mean, nets.hit[np.isfinite(nets.net)])


def _number(statistic: Callable[..., np.floating], values: NDArray[np.generic]) -> float | None:
    return float(statistic(values)) if len(values) else None
