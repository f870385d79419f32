"""Double and triple tops and bottoms, head and shoulders: formations that end a trend, broken at their neckline.

Written for tops; a bottom is a top of the mirrored prices. The heights that count are measured in the formation's own
height, which the zigzag keeps at two ATR or more: so the rules are the same for a quiet and a wild instrument.

Source: R. D. Edwards and J. Magee, Technical Analysis of Stock Trends (1948), ch. VI-IX; the geometry on consecutive
extremes as in A. Lo, H. Mamaysky and J. Wang, "Foundations of Technical Analysis", J. Finance 55(4), 2000, Definitions
1-5, with tolerances relative to the height in place of their fixed 1.5 %.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ots_quant.patterns.candidates import (
    MOST_BARS,
    Lines,
    Windows,
    first_break,
    flat_lines,
    price_levels,
    swings,
    table,
    told_once,
    volume_part,
    windows,
)
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Direction, Study, shares

Floats = NDArray[np.float64]

FAMILY = "reversals"

_LEVEL = 0.2  # two tops are at one height when they differ by less than this part of the formation's height
_SHOULDERS = 0.35  # the same for shoulders and for the two lows between them, as a part of the head's height
_HEAD = 0.2  # how far the head stands out above the higher shoulder at least, as a part of its height
_LOPSIDED = 4.0  # one half of a formation lasts at most this many times as long as the other
_LEAST_BARS, _LONGEST_BARS = 6, 150  # between the first and the last top
_TALL_ATR = 6.0

_SOURCE = "Edwards and Magee (1948); Lo, Mamaysky and Wang (2000)"


def double_top(study: Study, sign: int) -> Events:
    """Two tops at one height, after a rise at least as large as the fall between them."""
    found = study.once(windows, 4, sign)
    low, first, between, second = found.price.T
    height = 0.5 * (first + second) - between
    halves = np.diff(found.at[:, 1:], axis=1)
    apart = np.abs(first - second)
    good = (apart <= _LEVEL * height) & (low <= between) & _lasting(found, 1) & (_evenness(halves) >= 1 / _LOPSIDED)
    found, height, apart, halves = found.where(good), height[good], apart[good], halves[good]
    top, neckline = np.maximum(first, second)[good], between[good]
    parts = [1 - apart / (_LEVEL * height), _evenness(halves), shares(height, _TALL_ATR * found.atr)]
    return _broken(study, found, 1, flat_lines(found, top, neckline), height, parts)


def triple_top(study: Study, sign: int) -> Events:
    """Three tops at one height; the neckline is the lower of the two lows between them."""
    found = study.once(windows, 6, sign)
    low, tops, lows = found.price[:, 0], found.price[:, 1::2], found.price[:, 2::2]
    height = tops.mean(axis=1) - lows.mean(axis=1)
    halves = np.diff(found.at[:, 1::2], axis=1)
    apart, uneven = np.ptp(tops, axis=1), np.ptp(lows, axis=1)
    good = (apart <= _LEVEL * height) & (uneven <= _SHOULDERS * height) & (low <= lows.min(axis=1))
    good &= _lasting(found, 1) & (_evenness(halves) >= 1 / _LOPSIDED)
    found, height, apart, halves = found.where(good), height[good], apart[good], halves[good]
    lines = flat_lines(found, tops[good].max(axis=1), lows[good].min(axis=1))
    parts = [1 - apart / (_LEVEL * height), _evenness(halves), shares(height, _TALL_ATR * found.atr)]
    return _broken(study, found, 1, lines, height, parts)


def head_and_shoulders(study: Study, sign: int) -> Events:
    """A head between two lower shoulders at one height; the neckline goes through the two lows beside the head."""
    found = study.once(windows, 6, sign)
    low, left, dip, head, rally, right = found.price.T
    at = found.at
    height = head - 0.5 * (dip + rally)
    slope = (rally - dip) / np.maximum(at[:, 4] - at[:, 2], 1)
    halves = np.diff(at[:, 1::2], axis=1)
    apart, uneven = np.abs(left - right), np.abs(dip - rally)
    good = (head - np.maximum(left, right) >= _HEAD * height) & (apart <= _SHOULDERS * height)
    good &= (uneven <= _SHOULDERS * height) & (np.minimum(left, right) > np.maximum(dip, rally)) & (low <= dip)
    good &= _lasting(found, 1) & (_evenness(halves) >= 1 / _LOPSIDED)
    found, height, apart, uneven, halves = found.where(good), height[good], apart[good], uneven[good], halves[good]
    neckline = (rally + slope * (at[:, 5] - at[:, 4]))[good]
    lines = flat_lines(found, right[good], neckline, slope[good])
    parts = [
        1 - apart / (_SHOULDERS * height),
        1 - uneven / (_SHOULDERS * height),
        _evenness(halves),
        shares(height, _TALL_ATR * found.atr),
    ]
    return _broken(study, found, 1, lines, height, parts)


def _lasting(found: Windows, first: int) -> NDArray[np.bool_]:
    bars = found.at[:, -1] - found.at[:, first]
    lasting: NDArray[np.bool_] = (bars >= _LEAST_BARS) & (bars <= _LONGEST_BARS)
    return lasting


def _evenness(halves: NDArray[np.int64]) -> Floats:
    """The shorter half over the longer, shape (m,)."""
    return shares(halves.min(axis=1).astype(np.float64), halves.max(axis=1).astype(np.float64))


def _broken(study: Study, found: Windows, first: int, lines: Lines, height: Floats, parts: list[Floats]) -> Events:
    broken = first_break(study, found.opened, found.at[:, -1] + MOST_BARS, lines, -found.sign)
    rows, bars = broken.row, broken.bar
    upper, lower = lines.where(rows).at(bars)
    neckline, limit = (lower, upper) if found.sign > 0 else (upper, lower)
    events = Events(
        direction=np.full(len(rows), -found.sign),
        start=found.at[rows, first],
        end=found.at[rows, -1],
        confirmed=bars,
        swings=swings(found, rows, first),
        levels=price_levels(neckline, neckline - found.sign * height[rows], limit),
        parts=table([*(part[rows] for part in parts), volume_part(study, bars)]),
    )
    return told_once(events)


class _Find(Protocol):
    def __call__(self, study: Study, sign: int) -> Events: ...


def _detector(name: str, sign: int, meaning: str, confirmation: str, parts: tuple[str, ...], find: _Find) -> Detector:
    direction: Direction = "bearish" if sign > 0 else "bullish"
    return Detector(name, FAMILY, direction, meaning, confirmation, _SOURCE, parts, partial(find, sign=sign))


_LEVEL_PARTS = ("level", "symmetry", "height", "volume")
_HEAD_PARTS = ("shoulders", "neckline", "symmetry", "height", "volume")

DETECTORS: tuple[Detector, ...] = (
    _detector("double_top", 1, "two highs at one height, after a rise as large as the fall between them",
              "a close below the low between them, before one above both", _LEVEL_PARTS, double_top),
    _detector("double_bottom", -1, "two lows at one depth, after a fall as large as the rise between them",
              "a close above the high between them, before one below both", _LEVEL_PARTS, double_top),
    _detector("triple_top", 1, "three highs at one height, after a rise as large as the falls between them",
              "a close below both lows between them, before one above all three", _LEVEL_PARTS, triple_top),
    _detector("triple_bottom", -1, "three lows at one depth, after a fall as large as the rises between them",
              "a close above both highs between them, before one below all three", _LEVEL_PARTS, triple_top),
    _detector("head_and_shoulders", 1,
              f"three highs, the middle one above the others by {_HEAD:.0%} of the height, these at about one height",
              "a close below the line through the two lows between them, before one above the last high",
              _HEAD_PARTS, head_and_shoulders),
    _detector("inverse_head_and_shoulders", -1,
              f"three lows, the middle one below the others by {_HEAD:.0%} of the height, these at about one depth",
              "a close above the line through the two highs between them, before one below the last low",
              _HEAD_PARTS, head_and_shoulders),
)  # fmt: skip
