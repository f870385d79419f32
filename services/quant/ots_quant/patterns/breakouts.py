"""Breakouts from the range of the last 20 bars, confirmed by volume.

Source: R. Donchian's channel; that a breakout without volume does not count is Edwards and Magee's rule (1948, ch. VI).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import talib
from numpy.typing import NDArray

from ots_quant.patterns.candidates import no_swings, price_levels, table
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Study, shares

Floats = NDArray[np.float64]

FAMILY = "breakouts"
RANGE_BARS = 20
LEAST_VOLUME_RATIO = 1.5
_MUCH_VOLUME_RATIO = 3.0


def breakout(study: Study, sign: int) -> Events:
    """The first close outside the range of the 20 bars before it, on at least 1.5 times their mean volume."""
    bars = study.bars
    if len(bars) <= RANGE_BARS:
        highest = lowest = np.full(len(bars), np.nan)
    else:
        highest, lowest = before(talib.MAX(bars.high, RANGE_BARS)), before(talib.MIN(bars.low, RANGE_BARS))
    edge = highest if sign > 0 else lowest
    outside = sign * (bars.close - edge) > 0
    first = outside & ~np.append(False, outside[:-1])[: len(outside)]
    at = np.flatnonzero(first & (study.volume_ratio >= LEAST_VOLUME_RATIO))
    beyond = sign * (bars.close[at] - edge[at])
    atr = study.atr[at - 1]
    height = highest[at] - lowest[at]
    return Events(
        direction=np.full(len(at), sign),
        start=at - RANGE_BARS,
        end=at - 1,
        confirmed=at,
        swings=no_swings(len(at)),
        levels=price_levels(edge[at], edge[at] + sign * height, edge[at] - sign * np.minimum(atr, 0.5 * height)),
        parts=table(
            [
                shares(study.volume_ratio[at], _MUCH_VOLUME_RATIO),
                shares(beyond, atr),
                # a random walk covers about 4 ATR in 20 bars: half of that is tight, twice is not
                1 - shares(height, 8 * atr),
            ]
        ),
    )


def before(values: Floats) -> Floats:
    """Each bar's value as of the bar before it; NaN for the first."""
    return np.append(np.nan, values[:-1])


def _detector(name: str, sign: int) -> Detector:
    above, high = ("above", "highest high") if sign > 0 else ("below", "lowest low")
    return Detector(
        name,
        FAMILY,
        "bullish" if sign > 0 else "bearish",
        f"a close {above} the {high} of the {RANGE_BARS} bars before, where the close before was not",
        f"that close, on a volume of at least {LEAST_VOLUME_RATIO} times the mean of those bars",
        "Donchian; Edwards and Magee (1948)",
        ("volume", "penetration", "tightness"),
        partial(breakout, sign=sign),
    )


DETECTORS: tuple[Detector, ...] = (_detector("breakout_up", 1), _detector("breakout_down", -1))
