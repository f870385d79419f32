"""Bars as indicators are given them: all at once, or one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ots_quant.indicators.panels import Ids, Series


class Bar(NamedTuple):
    """One closed bar. ``session`` and ``slot`` as in `ots_quant.indicators.sessions`."""

    open: float
    high: float
    low: float
    close: float
    volume: float = 0.0
    session: int = 0
    slot: int = 0


@dataclass(frozen=True)
class History:
    """Bars of shape (m,) or (n, m), oldest first, and what the caller knows about them; None is what it does not know.

    ``session`` and ``slot``: integers as in `ots_quant.indicators.sessions`. ``anchor``: index of the bar with which an
    anchored average begins. ``bars_per_year``: how many such bars a year of trading has, to annualise.
    """

    open: Series | None = None
    high: Series | None = None
    low: Series | None = None
    close: Series | None = None
    volume: Series | None = None
    session: Ids | None = None
    slot: Ids | None = None
    anchor: int = 0
    bars_per_year: float = 252.0

    def bars(self) -> Iterator[Bar]:
        """One bar after the other, of bars of shape (m,); NaN where a price is not known."""
        prices = [self.open, self.high, self.low, self.close, self.volume]
        known = [values for values in (*prices, self.session, self.slot) if values is not None]
        if not known or any(values.ndim != 1 or len(values) != len(known[0]) for values in known):
            raise ValueError("bars must be of shape (m,) each, of one length")
        unknown = np.full(len(known[0]), np.nan)
        zeros = np.zeros(len(known[0]), np.int64)
        columns = [unknown if values is None else values for values in prices]
        ids = [zeros if values is None else values for values in (self.session, self.slot)]
        return map(Bar, *(values.tolist() for values in (*columns, *ids)))
