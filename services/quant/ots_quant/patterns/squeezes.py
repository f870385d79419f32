"""Squeezes: a volatility that has shrunk, and the move that ends it.

Source: J. Bollinger, Bollinger on Bollinger Bands (2001), ch. 15; the comparison with Keltner's channel is J. Carter's
(Mastering the Trade, 2005, ch. 11); the narrowest range of seven bars is T. Crabel's NR7 (Day Trading with Short Term
Price Patterns, 1990).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import talib
from numpy.typing import NDArray

from ots_quant.kernels import patterns as kernels
from ots_quant.patterns.candidates import no_swings, price_levels, table, volume_part
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Study, shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAMILY = "squeezes"
PERIOD = 20
LEAST_BARS = 6
_BOLLINGER, _KELTNER = 2.0, 1.5
_LONG_BARS = 20.0
_NARROW_BARS = 7


class Squeezes(NamedTuple):
    """Squeezes that lasted: their first bar, the sixth, and the first bar after them (n while they last)."""

    first: Ints
    established: Ints
    released: Ints
    tightness: Floats


def find_squeezes(study: Study) -> Squeezes:
    """Runs of at least six bars whose Bollinger bands (20, 2) lie within Keltner's channel (20, 1.5 ATR)."""
    bars = study.bars
    n = len(bars)
    spread = np.empty(n)
    kernels.deviation(bars.close, PERIOD, spread)
    width = _KELTNER * talib.ATR(bars.high, bars.low, bars.close, PERIOD) if n else spread
    inside = np.concatenate([[False], _BOLLINGER * spread < width, [False]]).astype(np.int8)
    edges = np.diff(inside)
    first, released = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lasted = released - first >= LEAST_BARS
    first, released = first[lasted], released[lasted]
    established = first + LEAST_BARS - 1
    tightness = 1 - shares(_BOLLINGER * spread[established], width[established])
    return Squeezes(first, established, released, tightness)


def squeeze(study: Study) -> Events:
    """Squeezes, at the close of their sixth bar: nothing is known of the direction."""
    found = study.once(find_squeezes)
    m = len(found.first)
    return Events(
        direction=np.zeros(m, np.int64),
        start=found.first,
        end=found.established,
        confirmed=found.established,
        swings=no_swings(m),
        levels=np.full((m, 3), np.nan),
        parts=table([found.tightness]),
    )


def squeeze_release(study: Study) -> Events:
    """The end of a squeeze, in the direction of the close from the middle of its range.

    Neckline: the side of the squeeze's range that the price leaves by; invalidation: the other side.
    """
    found = study.once(find_squeezes)
    over = found.released < len(study.bars)
    first, bar, tightness = found.first[over], found.released[over], found.tightness[over]
    high, low = _range(study, first, bar)
    sign = np.where(study.bars.close[bar] >= 0.5 * (high + low), 1, -1)
    near, far = np.where(sign > 0, high, low), np.where(sign > 0, low, high)
    return Events(
        direction=sign,
        start=first,
        end=bar - 1,
        confirmed=bar,
        swings=no_swings(len(bar)),
        levels=price_levels(near, near + sign * (high - low), far),
        parts=table([tightness, shares((bar - first).astype(np.float64), _LONG_BARS), volume_part(study, bar)]),
    )


def _range(study: Study, first: Ints, after: Ints) -> tuple[Floats, Floats]:
    """The highest high and lowest low of the bars from ``first`` up to ``after``, which is not one of them."""
    if not len(first):
        return np.zeros(0), np.zeros(0)
    borders = np.stack([first, after], axis=1).ravel()
    return np.maximum.reduceat(study.bars.high, borders)[::2], np.minimum.reduceat(study.bars.low, borders)[::2]


def narrow_range(study: Study) -> Events:
    """Bars with the narrowest range of seven (NR7)."""
    size = study.bars.high - study.bars.low
    n, before = len(size), _NARROW_BARS - 1
    at = np.flatnonzero(size[1:] < talib.MIN(size, before)[:-1]) + 1 if n > before else np.zeros(0, np.int64)
    return Events(
        direction=np.zeros(len(at), np.int64),
        start=at - _NARROW_BARS + 1,
        end=at,
        confirmed=at,
        swings=no_swings(len(at)),
        levels=np.full((len(at), 3), np.nan),
        parts=table([1 - shares(size[at], study.atr[at])]),
    )


DETECTORS: tuple[Detector, ...] = (
    Detector("squeeze", FAMILY, "neutral", f"Bollinger's bands ({PERIOD}, 2) within Keltner's channel ({PERIOD}, 1.5)",
             f"the close of the {LEAST_BARS}th bar in a row", "Carter (2005)", ("tightness",), squeeze),
    Detector("squeeze_release", FAMILY, "either", f"the end of a squeeze of at least {LEAST_BARS} bars",
             "the first close with the bands outside again; its side of the middle of the range is the direction",
             "Carter (2005)", ("tightness", "duration", "volume"), squeeze_release),
    Detector("narrow_range_7", FAMILY, "neutral", "a bar whose range is narrower than each of the six before",
             "that bar's close", "Crabel (1990)", ("narrowness",), narrow_range),
)  # fmt: skip
