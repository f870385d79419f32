"""Triangles, rectangles, wedges and channels: two lines through the last five pivots.

One line is fitted to three of them, the other goes through the two between. How much each rises over the formation, in
units of its height at the start, says what it is: flat, up or down; parallel or closing.

Source: R. D. Edwards and J. Magee, Technical Analysis of Stock Trends (1948), ch. VIII-X, XIV; A. Lo, H. Mamaysky and
J. Wang, J. Finance 55(4), 2000, Definitions 3 (triangles) and 4 (rectangles).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.patterns.candidates import (
    MOST_BARS,
    Lines,
    Windows,
    first_break,
    price_levels,
    table,
    told_once,
    volume_part,
    windows,
)
from ots_quant.patterns.model import Events, Swings
from ots_quant.patterns.study import Detector, Direction, Find, Study, shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_FLAT = 0.2  # a line is flat when it rises or falls by less than this part of the height
_SLOPING = 0.3  # and slopes when by more than this
_PARALLEL = 0.25  # the height of a channel changes by less than this part from its first pivot to its last
_OFF_LINE = 0.12  # pivots lie at most this part of the height off their line
_LEAST_BARS, _LONGEST_BARS = 12, 200
_SOURCE = "Edwards and Magee (1948); Lo, Mamaysky and Wang (2000)"
_PARTS = ("fit", "height", "volume")
_TALL_ATR = 6.0


class Shapes(NamedTuple):
    """m runs of five pivots between two lines: ``rise_*`` over the run in units of ``height``, that of its start."""

    at: Ints
    price: Floats
    confirmed: Ints
    atr: Floats
    lines: Lines
    height: Floats
    rise_upper: Floats
    rise_lower: Floats
    fit: Floats

    def where(self, mask: Mask | Ints) -> Shapes:
        """Those that ``mask`` selects."""
        return Shapes._make(column.where(mask) if isinstance(column, Lines) else column[mask] for column in self)

    @property
    def opened(self) -> Ints:
        """The bar that confirmed the last pivot."""
        last: Ints = self.confirmed[:, -1]
        return last


def find_shapes(study: Study) -> Shapes:
    """Every run of five pivots whose lines fit and do not cross, in order of time."""
    highs, lows = (_shapes(windows(study, 5, sign)) for sign in (1, -1))
    lines = Lines._make(np.concatenate(pair) for pair in zip(highs.lines, lows.lines, strict=True))
    plain = {
        name: np.concatenate([getattr(highs, name), getattr(lows, name)]) for name in Shapes._fields if name != "lines"
    }
    both = Shapes(lines=lines, **plain)
    return both.where(np.argsort(both.opened, kind="stable"))


def _shapes(found: Windows) -> Shapes:
    """The line of the outer three pivots is fitted, that of the inner two goes through them."""
    x = (found.at - found.at[:, -1:]).astype(np.float64)
    outer_x, outer = x[:, ::2], found.price[:, ::2]
    mean_x, mean = outer_x.mean(axis=1), outer.mean(axis=1)
    away = outer_x - mean_x[:, None]
    outer_slope = (away * (outer - mean[:, None])).sum(axis=1) / (away * away).sum(axis=1)
    outer_last = mean - outer_slope * mean_x
    inner_slope = (found.price[:, 3] - found.price[:, 1]) / (x[:, 3] - x[:, 1])
    inner_last = found.price[:, 3] - inner_slope * x[:, 3]
    length = -x[:, 0]
    height = (outer_last - outer_slope * length) - (inner_last - inner_slope * length)
    off = np.abs(outer - mean[:, None] - outer_slope[:, None] * away).max(axis=1)
    good = (height > 0) & (outer_last > inner_last) & (off <= _OFF_LINE * height)
    good &= (length >= _LEAST_BARS) & (length <= _LONGEST_BARS)
    height, length, off = height[good], length[good], off[good]
    sides = [(outer_last[good], outer_slope[good]), (inner_last[good], inner_slope[good])]
    if found.sign < 0:
        sides = [(-level, -slope) for level, slope in reversed(sides)]
    (upper, upper_slope), (lower, lower_slope) = sides
    return Shapes(
        found.at[good],
        found.sign * found.price[good],
        found.confirmed[good],
        found.atr[good],
        Lines(found.at[good, -1], upper, upper_slope, lower, lower_slope),
        height,
        upper_slope * length / height,
        lower_slope * length / height,
        1 - off / (_OFF_LINE * height),
    )


def ascending(shape: Shapes) -> Mask:
    """Flat above, rising below."""
    return (np.abs(shape.rise_upper) <= _FLAT) & (shape.rise_lower >= _SLOPING)


def descending(shape: Shapes) -> Mask:
    """Falling above, flat below."""
    return (shape.rise_upper <= -_SLOPING) & (np.abs(shape.rise_lower) <= _FLAT)


def symmetrical(shape: Shapes) -> Mask:
    """Falling above, rising below."""
    return (shape.rise_upper < -_FLAT) & (shape.rise_lower > _FLAT)


def rectangle(shape: Shapes) -> Mask:
    """Flat above and below."""
    return (np.abs(shape.rise_upper) <= _FLAT) & (np.abs(shape.rise_lower) <= _FLAT)


def rising_wedge(shape: Shapes) -> Mask:
    """Both rising, the lower one faster."""
    return (shape.rise_upper > _FLAT) & (shape.rise_lower - shape.rise_upper >= _SLOPING)


def falling_wedge(shape: Shapes) -> Mask:
    """Both falling, the upper one faster."""
    return (shape.rise_lower < -_FLAT) & (shape.rise_lower - shape.rise_upper >= _SLOPING)


def rising_channel(shape: Shapes) -> Mask:
    """Both rising alike."""
    parallel = np.abs(shape.rise_upper - shape.rise_lower) <= _PARALLEL
    return parallel & (np.minimum(shape.rise_upper, shape.rise_lower) >= _SLOPING)


def falling_channel(shape: Shapes) -> Mask:
    """Both falling alike."""
    parallel = np.abs(shape.rise_upper - shape.rise_lower) <= _PARALLEL
    return parallel & (np.maximum(shape.rise_upper, shape.rise_lower) <= -_SLOPING)


def broken(study: Study, is_it: Callable[[Shapes], Mask], side: int, *, back_to_start: bool = False) -> Events:
    """Shapes of one kind, at the first close outside their lines, to ``side`` or (0) to either.

    The target is the height at the start beyond the broken line, or for wedges (``back_to_start``) the extreme from
    which they began to close. They are given up where their lines meet.
    """
    every = study.once(find_shapes)
    shape = every.where(is_it(every))
    upper, lower = shape.lines.at(shape.lines.anchor)
    closing = shape.lines.lower_slope - shape.lines.upper_slope
    to_apex = np.full(len(closing), float(MOST_BARS))
    np.divide(upper - lower, closing, out=to_apex, where=closing > 0)
    expires = shape.lines.anchor + np.minimum(to_apex, MOST_BARS).astype(np.int64)
    outside = first_break(study, shape.opened, expires, shape.lines, side)
    kept, up = shape.where(outside.row), outside.side > 0
    upper, lower = kept.lines.at(outside.bar)
    neckline, limit = np.where(up, upper, lower), np.where(up, lower, upper)
    if back_to_start:
        target = np.where(up, kept.price.max(axis=1, initial=-np.inf), kept.price.min(axis=1, initial=np.inf))
    else:
        target = neckline + outside.side * kept.height
    return _events(study, kept, outside.bar, outside.side, (neckline, target, limit))


def channel(study: Study, is_it: Callable[[Shapes], Mask], direction: int) -> Events:
    """Channels, at the close that confirms their fifth pivot, if it lies inside and the run before was none.

    Neckline: the line that carries the trend; target: the other line; invalidation: a quarter of the height beyond.
    """
    every = study.once(find_shapes)
    shape = every.where(is_it(every))
    new = np.append(True, shape.confirmed[1:, -2] != shape.opened[:-1])[: len(shape.height)]
    upper, lower = shape.lines.at(shape.opened)
    close = study.bars.close[shape.opened]
    mask = new & (close <= upper) & (close >= lower)
    kept, upper, lower = shape.where(mask), upper[mask], lower[mask]
    neckline, target = (lower, upper) if direction > 0 else (upper, lower)
    levels = (neckline, target, neckline - direction * _PARALLEL * kept.height)
    return _events(study, kept, kept.opened, np.full(len(neckline), direction), levels)


def _events(study: Study, shape: Shapes, bars: Ints, direction: Ints, levels: tuple[Floats, Floats, Floats]) -> Events:
    events = Events(
        direction=direction,
        start=shape.at[:, 0],
        end=shape.at[:, -1],
        confirmed=bars,
        swings=Swings(shape.at, shape.price, shape.confirmed),
        levels=price_levels(*levels),
        parts=table([shape.fit, shares(shape.height, _TALL_ATR * shape.atr), volume_part(study, bars)]),
    )
    return told_once(events)


def _detector(name: str, family: str, direction: Direction, meaning: str, confirmation: str, find: Find) -> Detector:
    return Detector(name, family, direction, meaning, confirmation, _SOURCE, _PARTS, find)


_EITHER = "the first close outside the lines before they meet; its side is the direction"
_ESTABLISHED = "the close that confirms the fifth pivot, if it lies between the lines"

DETECTORS: tuple[Detector, ...] = (
    _detector("ascending_triangle", "triangles", "either", "flat above, rising below", _EITHER,
              partial(broken, is_it=ascending, side=0)),
    _detector("descending_triangle", "triangles", "either", "falling above, flat below", _EITHER,
              partial(broken, is_it=descending, side=0)),
    _detector("symmetrical_triangle", "triangles", "either", "falling above, rising below", _EITHER,
              partial(broken, is_it=symmetrical, side=0)),
    _detector("rectangle", "rectangles", "either", "flat above and below", _EITHER,
              partial(broken, is_it=rectangle, side=0)),
    _detector("rising_wedge", "wedges", "bearish", "both lines rising, the lower one faster",
              "a close below the lower line, before one above the upper and before they meet",
              partial(broken, is_it=rising_wedge, side=-1, back_to_start=True)),
    _detector("falling_wedge", "wedges", "bullish", "both lines falling, the upper one faster",
              "a close above the upper line, before one below the lower and before they meet",
              partial(broken, is_it=falling_wedge, side=1, back_to_start=True)),
    _detector("rising_channel", "channels", "bullish", "both lines rising alike", _ESTABLISHED,
              partial(channel, is_it=rising_channel, direction=1)),
    _detector("falling_channel", "channels", "bearish", "both lines falling alike", _ESTABLISHED,
              partial(channel, is_it=falling_channel, direction=-1)),
)  # fmt: skip
