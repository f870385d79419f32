"""From candidates to events: a formation is a pair of lines, and the first close outside them decides it.

A candidate comes from pivots that are confirmed, opens at the close that confirmed the last of them, and looks forward
from there: a close beyond the line that counts confirms it, a close beyond the other cancels it, and when its time is
over it was nothing. So what is emitted depends on no bar after its confirmation, and the work is linear in bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.kernels import patterns as kernels
from ots_quant.patterns.model import Events, Pivots, Swings
from ots_quant.patterns.study import Study, shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_BARS = 60  # a formation that has not broken out so long after its last pivot is given up
TWICE_THE_VOLUME = 2.0
_SAME_PIVOTS = 3


class Windows(NamedTuple):
    """Each run of k consecutive pivots, shape (m, k), that ends with a pivot of one kind, seen with that kind as high.

    ``price`` is multiplied by ``sign``, so that a bottom reads as a top. ``opened``: the bar that confirmed the last.
    """

    sign: int
    at: Ints
    price: Floats
    confirmed: Ints
    opened: Ints
    atr: Floats

    def where(self, mask: NDArray[np.bool_]) -> Windows:
        """Those that ``mask`` selects."""
        return Windows._make([self.sign, *(column[mask] for column in self[1:])])


class Lines(NamedTuple):
    """Two lines for each of m candidates, in dollars: their values at the bar ``anchor`` and their slopes a bar."""

    anchor: Ints
    upper: Floats
    upper_slope: Floats
    lower: Floats
    lower_slope: Floats

    def at(self, bar: Ints) -> tuple[Floats, Floats]:
        """The values of the upper and the lower line at ``bar``."""
        away = bar - self.anchor
        return self.upper + self.upper_slope * away, self.lower + self.lower_slope * away

    def where(self, mask: NDArray[np.bool_] | Ints) -> Lines:
        """Those that ``mask`` selects."""
        return Lines._make(column[mask] for column in self)


def windows(study: Study, count: int, sign: int) -> Windows:
    """Each run of ``count`` pivots whose last is a high (``sign`` +1) or a low (-1)."""
    pivots = study.pivots
    m = max(len(pivots.at) - count + 1, 0)
    rows = np.flatnonzero(pivots.kind[len(pivots.kind) - m :] == sign) if m else np.zeros(0, np.int64)
    picked = rows[:, None] + np.arange(count)
    opened = pivots.confirmed[picked[:, -1]]
    return Windows(
        sign,
        pivots.at[picked],
        sign * pivots.price[picked],
        pivots.confirmed[picked],
        opened,
        study.atr[opened],
    )


def flat_lines(found: Windows, above: Floats, below: Floats, below_slope: Floats | None = None) -> Lines:
    """Lines in dollars from oriented ones: ``above`` is flat, ``below`` may slope and is given at the last pivot."""
    flat = np.zeros(len(above))
    slope = flat if below_slope is None else below_slope
    anchor = found.at[:, -1].copy()
    if found.sign > 0:
        return Lines(anchor, above, flat, below, slope)
    return Lines(anchor, -below, -slope, -above, flat)


class Broken(NamedTuple):
    """Candidates whose lines were crossed: which of them (``row``), to which side, and at which bar."""

    row: Ints
    side: Ints
    bar: Ints


def first_break(study: Study, opened: Ints, expires: Ints, lines: Lines, side: int) -> Broken:
    """The candidates that broke out to ``side`` (+1, -1, or 0 for either) before the other side, in order of time.

    Of several that break at one bar the youngest is kept: they are one formation seen from different starts.
    """
    sides, bars = np.empty(len(opened), np.int64), np.empty(len(opened), np.int64)
    kernels.resolve(study.bars.close, np.ascontiguousarray(opened), expires, *_contiguous(lines), sides, bars)
    rows = np.flatnonzero((sides != 0) & ((side == 0) | (sides == side)))
    rows = rows[np.argsort(bars[rows], kind="stable")]
    at = bars[rows]
    rows = np.concatenate([rows[:-1][at[1:] > at[:-1]], rows[-1:]])
    return Broken(rows, sides[rows], bars[rows])


def told_once(events: Events) -> Events:
    """Without those that share three or more pivots with one before them: they are the same formation again.

    What is kept depends only on what was confirmed before it. ``events`` are in order of confirmation.
    """
    if len(events) < 2:
        return events
    kept: list[tuple[int, int, set[int]]] = []
    rows = zip(events.confirmed.tolist(), events.swings.at.tolist(), strict=True)
    for row, (confirmed, at) in enumerate(rows):
        pivots = set(at)
        for known, _, others in reversed(kept):
            if known < at[0]:  # and so were all before it: they have no pivot in common with this one
                kept.append((confirmed, row, pivots))
                break
            if len(pivots & others) >= _SAME_PIVOTS:
                break
        else:
            kept.append((confirmed, row, pivots))
    return events.take(np.array([row for _, row, _ in kept], np.int64))


def _contiguous(lines: Lines) -> Lines:
    return Lines._make(np.ascontiguousarray(column) for column in lines)


def swings(found: Windows, rows: Ints, first: int = 0) -> Swings:
    """The pivots of ``rows`` from the one at ``first`` on."""
    return Swings(found.at[rows, first:], found.sign * found.price[rows, first:], found.confirmed[rows, first:])


def no_swings(m: int) -> Swings:
    """For m events that rest on no pivots."""
    return Swings(np.zeros((m, 0), np.int64), np.zeros((m, 0)), np.zeros((m, 0), np.int64))


def swings_of(pivots: Pivots, rows: Ints) -> Swings:
    """Chosen pivots of shape (m, k), -1 for none."""
    there = rows >= 0
    return Swings(
        np.where(there, pivots.at[rows], -1),
        np.where(there, pivots.price[rows], np.nan),
        np.where(there, pivots.confirmed[rows], -1),
    )


def volume_part(study: Study, bars: Ints) -> Floats:
    """How far the volume of ``bars`` rose above usual: 0.5 at the mean of the 20 bars before, 1 at twice that."""
    return shares(study.volume_ratio[bars], TWICE_THE_VOLUME)


def price_levels(neckline: Floats, target: Floats | None, invalidation: Floats) -> Floats:
    """Columns of `Events.levels`, (m, 3); NaN for what is not there, and for a height that would lead below zero."""
    columns = np.array([neckline, np.full(len(neckline), np.nan) if target is None else target, invalidation]).T
    return np.where(columns > 0, columns, np.nan)


def table(parts: Sequence[Floats]) -> Floats:
    """Columns of shape (m,) beside each other: (m, q)."""
    return np.array(parts).T
