"""Divergences: two successive pivots of one kind at which price and an oscillator disagree.

Regular: the price makes a new extreme, the oscillator does not (against the trend). Hidden: the oscillator makes a new
extreme, the price does not (with the trend). Both are read at the pivots' own bars.

Source: W. Wilder, New Concepts in Technical Trading Systems (1978), on RSI; J. Granville (1963) on OBV; the hidden form
is later practice (C. Brown, Technical Analysis for the Trading Professional, 1999).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import talib
from numpy.typing import NDArray

from ots_quant.patterns.candidates import price_levels, swings_of, table
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Study, shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAMILY = "divergences"
LONGEST_BARS = 100
LEAST_ATR = 0.25
_CLEAR = 8.0  # times the least change that counts: a clear divergence


class Oscillator(NamedTuple):
    """Values, and the least change that counts, each of shape (n,)."""

    values: Floats
    least: Floats


def rsi(study: Study) -> Oscillator:
    """RSI of 14 bars; three points count."""
    return Oscillator(_from_talib(study, talib.RSI(study.bars.close, 14)), np.full(len(study.bars), 3.0))


def macd(study: Study) -> Oscillator:
    """MACD's line (12, 26, 9), in dollars; a tenth of the ATR counts."""
    line = talib.MACD(study.bars.close, 12, 26, 9)[0]
    return Oscillator(_from_talib(study, line), 0.1 * study.atr)


def obv(study: Study) -> Oscillator:
    """On-balance volume; one bar's usual volume (the mean of 20) counts."""
    return Oscillator(_from_talib(study, talib.OBV(study.bars.close, study.bars.volume)), study.usual_volume)


class Pairs(NamedTuple):
    """Each pivot and the one of its kind before it, as rows of the pivots; ``price``: the change, in the least change
    that counts, positive where the second is further out. Each of shape (m,).
    """

    first: Ints
    second: Ints
    kind: Ints
    price: Floats


def find_pairs(study: Study) -> Pairs:
    """The pairs no more than 100 bars apart."""
    pivots = study.pivots
    second = np.arange(2, len(pivots.at))
    second = second[pivots.at[second] - pivots.at[second - 2] <= LONGEST_BARS]
    kind = pivots.kind[second]
    change = kind * (pivots.price[second] - pivots.price[second - 2])
    return Pairs(second - 2, second, kind, change / (LEAST_ATR * study.atr[pivots.confirmed[second]]))


def find_changes(study: Study, oscillator: Callable[[Study], Oscillator]) -> Floats:
    """The oscillator's change over each pair, in the least change that counts, positive where the second is further
    out; NaN where the oscillator is not known yet.
    """
    pairs, at = study.once(find_pairs), study.pivots.at
    values, least = oscillator(study)
    change = pairs.kind * (values[at[pairs.second]] - values[at[pairs.first]])
    return change / np.where(least > 0, least, np.nan)[at[pairs.second]]


def divergence(study: Study, oscillator: Callable[[Study], Oscillator], kind: int, *, hidden: bool) -> Events:
    """Divergences at highs (``kind`` +1, bearish) or lows (-1, bullish), at the close that confirms the second."""
    pivots, pairs = study.pivots, study.once(find_pairs)
    price, change = pairs.price, study.once(find_changes, oscillator)
    apart = (price <= -1) & (change >= 1) if hidden else (price >= 1) & (change <= -1)
    rows = np.flatnonzero(apart & (pairs.kind == kind))
    first, second = pairs.first[rows], pairs.second[rows]
    return Events(
        direction=np.full(len(rows), -kind),
        start=pivots.at[first],
        end=pivots.at[second],
        confirmed=pivots.confirmed[second],
        swings=swings_of(pivots, np.array([first, second]).T),
        levels=price_levels(pivots.price[second - 1], None, pivots.price[second]),
        parts=table([shares(np.abs(price[rows]), _CLEAR), shares(np.abs(change[rows]), _CLEAR)]),
    )


def _from_talib(study: Study, values: Floats) -> Floats:
    return values if len(values) == len(study.bars) else np.full(len(study.bars), np.nan)


def _detectors() -> tuple[Detector, ...]:
    made = []
    for name, oscillator in (("rsi", rsi), ("macd", macd), ("obv", obv)):
        for hidden in (False, True):
            for kind in (1, -1):
                direction, extreme = ("bearish", "high") if kind > 0 else ("bullish", "low")
                rises, falls = ("higher", "lower") if (kind > 0) != hidden else ("lower", "higher")
                made.append(
                    Detector(
                        f"{'hidden_' if hidden else ''}{direction}_divergence_{name}",
                        FAMILY,
                        "bearish" if kind > 0 else "bullish",
                        f"a {rises} {extreme} of the price than the one before, a {falls} one of {name.upper()}",
                        f"the close that confirms the second {extreme}",
                        {"rsi": "Wilder (1978)", "macd": "Appel (1979)", "obv": "Granville (1963)"}[name],
                        ("price", "oscillator"),
                        partial(divergence, oscillator=oscillator, kind=kind, hidden=hidden),
                    )
                )
    return tuple(made)


DETECTORS: tuple[Detector, ...] = _detectors()
