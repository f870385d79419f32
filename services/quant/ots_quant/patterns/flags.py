"""Flags: a short, sharp move (the pole), a shallow pause against it, and its resumption.

Source: R. D. Edwards and J. Magee, Technical Analysis of Stock Trends (1948), ch. XI. The pause is shorter than the
zigzag's swings, so flags are found bar by bar, not from pivots.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ots_quant.kernels import patterns as kernels
from ots_quant.patterns.candidates import price_levels, table, volume_part
from ots_quant.patterns.model import Events, Swings
from ots_quant.patterns.study import Detector, Study, shares

FAMILY = "flags"
POLE_BARS, LEAST_BARS, MOST_BARS = 10, 4, 25
POLE_ATR, MOST_RETRACED = 5.0, 0.5
_STEEP_ATR = 10.0


def flag(study: Study, sign: int) -> Events:
    """Bull flags (``sign`` +1) or bear flags (-1), at the close beyond the line through the pause's highs (lows)."""
    bars = study.bars
    n = len(bars)
    high, low = (bars.high, bars.low) if sign > 0 else (-bars.low, -bars.high)
    base, top, broke = (np.empty(n, np.int64) for _ in range(3))
    line, floor = np.empty(n), np.empty(n)
    count = kernels.flags(
        high, low, sign * bars.close, study.atr, POLE_BARS, LEAST_BARS, MOST_BARS, POLE_ATR, MOST_RETRACED,
        base, top, broke, line, floor,
    )  # fmt: skip
    base, top, broke = base[:count], top[:count], broke[:count]
    line, floor = line[:count], floor[:count]
    pole = high[top] - low[base]
    retraced = high[top] - floor
    return Events(
        direction=np.full(count, sign),
        start=base,
        end=broke - 1,
        confirmed=broke,
        # the pole's ends are known to be that when the flag breaks
        swings=Swings(
            np.stack([base, top], axis=1),
            sign * np.stack([low[base], high[top]], axis=1),
            np.stack([broke, broke], axis=1),
        ),
        levels=price_levels(sign * line, sign * (line + pole), sign * floor),
        parts=table(
            [
                shares(pole, _STEEP_ATR * study.atr[base - 1]),
                1 - shares(retraced, 2 * MOST_RETRACED * pole),
                volume_part(study, broke),
            ]
        ),
    )


def _detector(name: str, sign: int) -> Detector:
    up, top, highs = ("rise", "top", "highs") if sign > 0 else ("fall", "bottom", "lows")
    return Detector(
        name,
        FAMILY,
        "bullish" if sign > 0 else "bearish",
        f"a {up} of {POLE_ATR:g} ATR in {POLE_BARS} bars, then a pause that gives back no more than half of it",
        f"a close beyond the least-squares line through the pause's {highs}, which leads away from the {top}",
        "Edwards and Magee (1948), ch. XI",
        ("pole", "shallowness", "volume"),
        partial(flag, sign=sign),
    )


DETECTORS: tuple[Detector, ...] = (_detector("bull_flag", 1), _detector("bear_flag", -1))
