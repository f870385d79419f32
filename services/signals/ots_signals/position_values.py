"""What leaving a position brings, minute by minute of a tape, in each fill model; 1e-9 dollars a share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ots_signals.decisions import FillModel
from ots_signals.market_view import Floats, Ints, Tape

# what of the half-spread is paid on each side
SHARE_PAID = {FillModel.TOUCH: 1.0, FillModel.PARTIAL: 0.75, FillModel.MID: 0.0}


class LeavingValues(NamedTuple):
    """Arrays of shape (positions, minutes): at each minute's end, and its extremes; NaN where it cannot be left."""

    last: Floats
    high: Floats
    low: Floats


def leaving_values(tape: Tape, legs: Sequence[Sequence[tuple[int, int]]], model: FillModel) -> LeavingValues:
    """Of positions, each a sequence of (row of the tape, quantity): arrays (positions, minutes).

    A bought leg is sold at the bid, and for nothing where there are asks and no bid; a sold leg is bought back at the
    ask, and cannot be where there is none. Extremes within a minute are those of a single leg; those of several legs
    need not have stood at one time, so a position of several has the standing quotes alone.
    """
    share = SHARE_PAID[model]
    shape = (len(legs), len(tape.ends))
    last, high, low = np.empty(shape), np.empty(shape), np.empty(shape)
    for i, position in enumerate(legs):
        parts = [_one(tape, row, quantity, share) for row, quantity in position]
        last[i] = sum(part.last for part in parts)
        high[i], low[i] = (parts[0].high, parts[0].low) if len(parts) == 1 else (last[i], last[i])
    return LeavingValues(last, high, low)


def legs_values(tape: Tape, quantity: int, model: FillModel, rows: Ints | slice = slice(None)) -> LeavingValues:
    """Of some contracts of a tape, each by itself, ``quantity`` of it: arrays (contracts, minutes)."""
    return _one(tape, rows, quantity, SHARE_PAID[model])


def mids(bid: Ints, ask: Ints) -> Floats:
    """Half way between; NaN where there is no quote or no ask. Without a bid: half of the ask."""
    return np.where(ask > 0, 0.5 * (bid + ask), np.nan)


def _one(tape: Tape, rows: int | Ints | slice, quantity: int, share: float) -> LeavingValues:
    last = _leg(tape.bid[rows], tape.ask[rows], quantity, share)
    if tape.bid_low is tape.bid:  # samples alone: no extremes
        return LeavingValues(last, last, last)
    high, low = (tape.bid_high, tape.ask_high), (tape.bid_low, tape.ask_low)
    best, worst = (high, low) if quantity > 0 else (low, high)
    extremes = (_leg(bid[rows], ask[rows], quantity, share) for bid, ask in (best, worst))
    return LeavingValues(last, *(np.where(np.isnan(extreme), last, extreme) for extreme in extremes))


def _leg(bid: Ints, ask: Ints, quantity: int, share: float) -> Floats:
    """What one leg brings: positive for a bought one, negative for what buying back a sold one costs."""
    saved = 0.5 * (1.0 - share) * np.maximum(ask - bid, 0)
    if quantity > 0:
        return quantity * np.where(ask > 0, bid + saved, np.where(bid > 0, bid.astype(np.float64), np.nan))
    return quantity * np.where(ask > 0, ask - saved, np.nan)
