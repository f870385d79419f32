"""The entry of a detector in the table, and the study that it reads: the bars with what several detectors need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from ots_quant import indicators
from ots_quant.kernels import patterns as kernels
from ots_quant.patterns.model import Events, Pivots, PriceBars
from ots_quant.patterns.pivots import find_pivots

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ATR_PERIOD = 14
VOLUME_PERIOD = 20
Made = TypeVar("Made")
Given = ParamSpec("Given")
Direction = Literal["bullish", "bearish", "neutral", "either"]


@dataclass(frozen=True)
class Study:
    """The bars, and what several detectors need of them, computed once when first asked for."""

    bars: PriceBars
    _made: dict[tuple[Any, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, make: Callable[Concatenate[Study, Given], Made], *given: Given.args, **named: Given.kwargs) -> Made:
        """``make(study, ...)``, computed when first asked for: what several detectors of one family share."""
        key = (make, given, *named.items())
        if key not in self._made:
            self._made[key] = make(self, *given, **named)
        made: Made = self._made[key]
        return made

    @cached_property
    def atr(self) -> Floats:
        """Wilder's average true range over 14 bars, shape (n,); NaN for the first 14."""
        return indicators.atr(self.bars.high, self.bars.low, self.bars.close, ATR_PERIOD)

    @cached_property
    def usual_volume(self) -> Floats:
        """The mean volume of the 20 bars before, shape (n,); NaN where they are not there or had none."""
        before = np.empty(len(self.bars))
        kernels.mean_before(self.bars.volume, VOLUME_PERIOD, before)
        return np.where(before > 0, before, np.nan)

    @cached_property
    def volume_ratio(self) -> Floats:
        """Volume over the usual one, shape (n,); NaN where that is."""
        ratio: Floats = self.bars.volume / self.usual_volume
        return ratio

    @cached_property
    def pivots(self) -> Pivots:
        """The zigzag's pivots (see `ots_quant.patterns.pivots`)."""
        return find_pivots(self.bars, self.atr)


Find = Callable[[Study], Events]


@dataclass(frozen=True)
class Detector:
    """An entry of the table: ``find(study)`` gives all events of this type in order of confirmation.

    ``direction``: that of its events, or ``either`` where each event has its own. ``parts`` names the columns of
    `Events.parts`.
    """

    name: str
    family: str
    direction: Direction
    meaning: str
    confirmation: str
    source: str
    parts: tuple[str, ...]
    find: Find


def shares(values: Floats, of: Floats | float) -> Floats:
    """``values / of`` cut to 0 to 1, for a part of the quality; NaN where ``of`` is not positive."""
    ratio = values / np.where(np.greater(of, 0.0), of, np.nan)
    clipped: Floats = np.minimum(np.maximum(ratio, 0.0), 1.0)
    return clipped
