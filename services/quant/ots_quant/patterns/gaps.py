"""Gaps between one bar's range and the next, their closing, and islands between two of them.

Source: R. D. Edwards and J. Magee, Technical Analysis of Stock Trends (1948), ch. XII.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.kernels import patterns as kernels
from ots_quant.patterns.candidates import Lines, first_break, no_swings, price_levels, table, volume_part
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Study, shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAMILY = "gaps"
LEAST_ATR = 0.5
MOST_BARS = 20  # a gap that is open after so long is no longer watched
_LARGE_ATR = 2.0


class Gaps(NamedTuple):
    """Gaps to one side, seen with that side as up: the bar after the gap, and the prices between which it lies."""

    bar: Ints
    bottom: Floats
    top: Floats


def find_gaps(study: Study, sign: int) -> Gaps:
    """Bars that lie wholly above (``sign`` +1) or below the bar before, by at least half of that bar's ATR."""
    high, low = _oriented(study, sign)
    size = low[1:] - high[:-1]
    bar = np.flatnonzero((size > 0) & (size >= LEAST_ATR * study.atr[:-1])) + 1
    return Gaps(bar, high[bar - 1], low[bar])


def gap(study: Study, sign: int) -> Events:
    """Gaps; neckline: the price at which the gap closes, which is also what makes it void."""
    found = study.once(find_gaps, sign)
    edge = sign * found.bottom
    return Events(
        direction=np.full(len(edge), sign),
        start=found.bar - 1,
        end=found.bar,
        confirmed=found.bar,
        swings=no_swings(len(edge)),
        levels=price_levels(edge, None, edge),
        parts=table([_size(study, found), volume_part(study, found.bar)]),
    )


def gap_filled(study: Study, sign: int) -> Events:
    """Gaps to the side of ``sign`` that a close within 20 bars takes back whole."""
    found = study.once(find_gaps, sign)
    m = len(found.bar)
    flat, never = np.zeros(m), np.full(m, np.inf)
    edges = (never, found.bottom) if sign > 0 else (-found.bottom, -never)
    lines = Lines(found.bar, edges[0], flat, edges[1], flat)
    closed = first_break(study, found.bar + 1, found.bar + MOST_BARS, lines, -sign)
    rows, bars = closed.row, closed.bar
    quick = 1 - shares((bars - found.bar[rows]).astype(np.float64), float(MOST_BARS))
    top = sign * found.top[rows]
    return Events(
        direction=np.full(len(rows), -sign),
        start=found.bar[rows] - 1,
        end=bars,
        confirmed=bars,
        swings=no_swings(len(rows)),
        levels=price_levels(sign * found.bottom[rows], None, top),
        parts=table([_size(study, found)[rows], quick, volume_part(study, bars)]),
    )


def island(study: Study, sign: int) -> Events:
    """Islands above (``sign`` +1: a top) or below the bars around them, at the close after the second gap."""
    found = study.once(find_gaps, sign)
    high, low = _oriented(study, sign)
    m = len(found.bar)
    gapped, left, bottom = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(m)
    count = kernels.islands(high, low, found.bar, MOST_BARS, gapped, left, bottom)
    rows = np.arange(count)
    # several gaps may lead to one island: the youngest is its own
    rows = rows[np.lexsort((gapped[rows], left[rows]))]
    rows = rows[np.append(np.diff(left[rows]) > 0, True)[: len(rows)]]
    gapped, left, bottom = gapped[rows], left[rows], bottom[rows]
    size = bottom - np.maximum(high[left], high[gapped - 1])
    return Events(
        direction=np.full(len(left), -sign),
        start=gapped,
        end=left - 1,
        confirmed=left,
        swings=no_swings(len(left)),
        levels=price_levels(sign * bottom, None, sign * bottom),
        parts=table([shares(size, _LARGE_ATR * study.atr[gapped - 1]), volume_part(study, left)]),
    )


def _oriented(study: Study, sign: int) -> tuple[Floats, Floats]:
    bars = study.bars
    return (bars.high, bars.low) if sign > 0 else (-bars.low, -bars.high)


def _size(study: Study, found: Gaps) -> Floats:
    return shares(found.top - found.bottom, _LARGE_ATR * study.atr[found.bar - 1])


_SOURCE = "Edwards and Magee (1948), ch. XII"
_BIG = f"by at least {LEAST_ATR} ATR"

DETECTORS: tuple[Detector, ...] = (
    Detector("gap_up", FAMILY, "bullish", f"a bar whose low is above the high of the bar before, {_BIG}",
             "that bar's close", _SOURCE, ("size", "volume"), partial(gap, sign=1)),
    Detector("gap_down", FAMILY, "bearish", f"a bar whose high is below the low of the bar before, {_BIG}",
             "that bar's close", _SOURCE, ("size", "volume"), partial(gap, sign=-1)),
    Detector("gap_up_filled", FAMILY, "bearish", "a gap up that is taken back",
             f"the first close below the gap within {MOST_BARS} bars", _SOURCE, ("size", "speed", "volume"),
             partial(gap_filled, sign=1)),
    Detector("gap_down_filled", FAMILY, "bullish", "a gap down that is taken back",
             f"the first close above the gap within {MOST_BARS} bars", _SOURCE, ("size", "speed", "volume"),
             partial(gap_filled, sign=-1)),
    Detector("island_top", FAMILY, "bearish", "bars cut off by a gap up before and a gap down after them",
             f"the close of the bar wholly below them, within {MOST_BARS} bars of a gap that stayed open", _SOURCE,
             ("size", "volume"), partial(island, sign=1)),
    Detector("island_bottom", FAMILY, "bullish", "bars cut off by a gap down before and a gap up after them",
             f"the close of the bar wholly above them, within {MOST_BARS} bars of a gap that stayed open", _SOURCE,
             ("size", "volume"), partial(island, sign=-1)),
)  # fmt: skip
