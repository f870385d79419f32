"""What became of a signal: a pure function of the signal and of the tape that followed it.

The triple barrier (M. Lopez de Prado, Advances in Financial Machine Learning (2018), chapter 3) on the executable side.
Entered at the event at the quotes that the signal recorded. A target is a resting limit order: it fills at its own
level, never better. A stop fills at the worst that was executable in its minute. A minute that touched both is a stop.
The time stop, and the forced flat before it, takes the quote that stands, or the next valid one within `GRACE_NS`.
A minute in which records may be missing, before the exit, makes the outcome indeterminate: never a win.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS
from ots_quant.passage import GAP, NOT_LEFT, STOP, TARGET, TIMEOUT, Passages, first_passage
from ots_signals.attribution import attribute
from ots_signals.decisions import Entry, FillModel, Signal
from ots_signals.market_view import Ints, Tape
from ots_signals.outcomes import Barrier, Baseline, FillOutcome, Outcome
from ots_signals.position_values import leaving_values

GRACE_NS = 5 * MINUTE_NS  # after the time stop: a quote that comes later is not what would have been had

BARRIERS = {
    TARGET: Barrier.TARGET,
    STOP: Barrier.STOP,
    TIMEOUT: Barrier.TIMEOUT,
    NOT_LEFT: Barrier.NOT_FILLED,
    GAP: Barrier.INDETERMINATE,
}


def span(signal: Signal) -> tuple[int, int]:
    """The times (start, end) that the tape of a signal must reach over, ns."""
    return signal.event_ns, leave_by(signal) + GRACE_NS


def leave_by(signal: Signal) -> int:
    """The time stop or the forced flat, whichever comes first."""
    return min(signal.barriers.time_ns, signal.barriers.flat_ns)


def resolve(
    signal: Signal, tape: Tape, sessions: Sessions, *, baseline: Baseline | None = None, revision: int = 0
) -> Outcome | None:
    """The outcome of one signal; None while its tape does not reach far enough.

    ``sessions``: the calendar, for the times of expiration. Raises KeyError for a leg that the tape does not have.
    """
    (found,) = resolve_many([signal], tape, sessions)
    return found and replace(found, baseline=baseline, revision=revision)


def resolve_many(signals: Sequence[Signal], tape: Tape, sessions: Sessions) -> list[Outcome | None]:
    """Signals on one underlying and one tape, in their order, without baselines; else as `resolve`."""
    if not signals:
        return []
    row_of = {symbol: row for row, symbol in enumerate(tape.symbol.tolist())}
    legs = [[(row_of[leg.symbol], leg.quantity) for leg in signal.legs] for signal in signals]
    leave_at = np.array([leave_by(signal) for signal in signals], np.int64)
    first = np.searchsorted(tape.ends, np.array([signal.event_ns for signal in signals]), side="right")
    stop_at = np.maximum(np.searchsorted(tape.ends, leave_at, side="right") - 1, first)
    limit = np.searchsorted(tape.ends, leave_at + GRACE_NS, side="right") - 1
    reached = int(tape.ends[-1]) if len(tape.ends) else -1
    passages = {
        model: _passages(signals, tape, legs, model, (first, stop_at, np.maximum(limit, stop_at)))
        for model in FillModel
    }
    found: list[Outcome | None] = []
    for i, signal in enumerate(signals):
        known = tape.complete or reached >= leave_at[i] + GRACE_NS
        place = (np.array([row for row, _ in legs[i]]), int(first[i]), int(limit[i]))
        found.append(_outcome(signal, tape, sessions, place, i, passages) if known else None)
    return found


def revised(previous: Outcome, fresh: Outcome) -> Outcome | None:
    """``fresh`` as the revision after ``previous``; None where the minutes it rests on have not changed."""
    if fresh.data_digest == previous.data_digest:
        return None
    return replace(fresh, revision=previous.revision + 1)


def _passages(
    signals: Sequence[Signal],
    tape: Tape,
    legs: list[list[tuple[int, int]]],
    model: FillModel,
    columns: tuple[Ints, Ints, Ints],
) -> Passages:
    values = leaving_values(tape, legs, model)
    paid = np.array([_paid(signal.entry, model) for signal in signals], np.float64)
    capital = np.array([signal.entry.capital for signal in signals], np.float64)
    target = np.array([signal.barriers.target for signal in signals])
    stop = np.array([signal.barriers.stop for signal in signals])
    return first_passage(
        *values, tape.gap, np.arange(len(signals)), *columns, paid + target * capital, paid + stop * capital
    )


def _paid(entry: Entry, model: FillModel) -> int:
    return {FillModel.TOUCH: entry.touch, FillModel.PARTIAL: entry.partial, FillModel.MID: entry.mid}[model]


def _could_enter(signal: Signal) -> bool:
    """Each leg had the side that was needed, and the quote was not crossed."""
    return signal.entry.capital > 0 and all(
        leg.ask > 0 and 0 <= leg.bid <= leg.ask and (leg.quantity > 0 or leg.bid > 0) for leg in signal.legs
    )


def _outcome(
    signal: Signal,
    tape: Tape,
    sessions: Sessions,
    place: tuple[Ints, int, int],
    i: int,
    passages: dict[FillModel, Passages],
) -> Outcome:
    rows, first, limit = place
    used = slice(first, limit + 1)
    digest = _digest(tape, rows, used)
    looked = leave_by(signal) + GRACE_NS
    gaps = int(tape.gap[used].sum())
    if not _could_enter(signal):
        none = (Barrier.NOT_FILLED, None, None, None, None, None)
        nothing = tuple(FillOutcome(model.value, *none) for model in FillModel)
        why = "not entered: a leg had no valid quote at the event"
        return Outcome(signal.id, 0, looked, nothing, None, None, gaps, digest, why)
    fills = tuple(_fill(signal, model, passages[model], i, tape) for model in FillModel)
    touch = passages[FillModel.TOUCH]
    code, column = int(touch.code[i]), int(touch.column[i])
    attribution = None
    detail = {
        NOT_LEFT: "entered and not left: no valid quote at the time stop or within five minutes of it",
        GAP: "records may be missing before anything was touched",
    }.get(code, "")
    if code in (TARGET, STOP, TIMEOUT):
        attribution = attribute(signal, tape, rows, first, column, sessions)
        detail = "" if attribution else "no attribution: a mid at the entry or the exit implies no volatility"
    return Outcome(signal.id, 0, looked, fills, attribution, None, gaps, digest, detail)


def _fill(signal: Signal, model: FillModel, passages: Passages, i: int, tape: Tape) -> FillOutcome:
    code, column, value = int(passages.code[i]), int(passages.column[i]), float(passages.value[i])
    paid, capital = _paid(signal.entry, model), signal.entry.capital
    best, worst = (float(x[i] - paid) / capital for x in (passages.best, passages.worst))
    if np.isnan(worst):
        # entered, and never seen again: what stood at the event is all there was
        best = worst = -signal.entry.spread_pct if model is FillModel.TOUCH else 0.0
    left = code in (TARGET, STOP, TIMEOUT)
    return FillOutcome(
        model=model.value,
        barrier=BARRIERS[code],
        exit_ns=int(tape.ends[column]) if left else None,
        exit_price=round(value) if left else None,
        net_return=(value - paid - signal.entry.fees) / capital if left else None,
        best_return=best,
        worst_return=worst,
    )


def _digest(tape: Tape, rows: Ints, columns: slice) -> str:
    """Of all that an outcome follows from."""
    found = hashlib.sha256(np.ascontiguousarray(tape.ends[columns]).tobytes())
    for table in (tape.bid, tape.ask, tape.bid_low, tape.bid_high, tape.ask_low, tape.ask_high):
        found.update(np.ascontiguousarray(table[rows, columns]).tobytes())
    found.update(np.ascontiguousarray(tape.spot[columns]).tobytes())
    found.update(np.packbits(tape.gap[columns]).tobytes())
    return found.hexdigest()
