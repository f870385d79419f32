"""What holds at the last bar: the levels around the price, and the trend."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ots_quant.patterns.levels import LOOKBACK_BARS, find_touches, strength
from ots_quant.patterns.study import Study
from ots_quant.patterns.trend import WINDOW, find_trend, line_value, p_value

_LEAST_TOUCHES = 2
_MOST_LEVELS = 12


class Level(NamedTuple):
    """A price at which pivots of the last 250 bars turned. ``side``: +1 it lies above the last close (resistance), -1.

    ``first`` and ``last``: the bars of its first and newest touch; ``strength``: the mean of touches, tightness, age.
    """

    price: float
    side: int
    touches: int
    first: int
    last: int
    strength: float


class TrendNow(NamedTuple):
    """The line through the last 50 log closes. ``state`` +1, -1, or 0 for none, ``since`` the bar that established it.

    ``slope`` in log price a bar, ``fit`` R², ``p_value`` of the mean return being zero, ``line`` its value in dollars.
    """

    state: int
    since: int | None
    slope: float
    fit: float
    p_value: float
    line: float


def current_levels(study: Study) -> list[Level]:
    """The levels of at least two touches, at most twelve, by price. Of overlapping ones the newest is kept."""
    touches, pivots = study.once(find_touches), study.pivots
    last = len(study.bars) - 1
    recent = (pivots.at >= last - LOOKBACK_BARS) & (touches.number >= _LEAST_TOUCHES)
    kept: list[int] = []
    for row in np.flatnonzero(recent)[::-1].tolist():
        apart = np.abs(touches.price[kept] - touches.price[row])
        if not (apart <= touches.tolerance[kept]).any():
            kept.append(row)
    rows = np.array(sorted(kept[:_MOST_LEVELS], key=lambda row: touches.price[row]), np.int64)
    scores = strength(study, rows).mean(axis=1)
    return [
        Level(
            price=float(touches.price[row]),
            side=1 if touches.price[row] > study.bars.close[last] else -1,
            touches=int(touches.number[row]),
            first=int(pivots.at[touches.first[row]]),
            last=int(pivots.at[row]),
            strength=float(score),
        )
        for row, score in zip(rows, scores, strict=True)
    ]


def current_trend(study: Study) -> TrendNow | None:
    """The trend at the last bar; None with fewer than 50 bars."""
    last = len(study.bars) - 1
    if last < WINDOW - 1:
        return None
    found = study.once(find_trend)
    state = int(found.state[last])
    return TrendNow(
        state=state,
        since=int(found.began[-1]) if state else None,
        slope=float(found.slope[last]),
        fit=float(found.fit[last]),
        p_value=float(p_value(found.t_value[[last]])[0]),
        line=float(line_value(study, found, np.array([last]))[0]),
    )
