"""Support and resistance: prices at which earlier swings turned.

Each newly confirmed pivot looks back over the pivots of a year of bars: those within three quarters of an ATR of its
price are touches of one level. The level is established, or confirmed again, at the close that confirms its third or a
later touch. So a level depends on the bars of its window alone.

Source: the practice; C. L. Osler, "Support for Resistance: Technical Analysis and Intraday Exchange Rates", FRBNY
Economic Policy Review 6(2), 2000, on what such levels are worth.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.patterns.candidates import price_levels, swings_of, table
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Study, shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAMILY = "levels"
TOLERANCE_ATR = 0.75
LOOKBACK_BARS = 250
LEAST_TOUCHES = 3
_LOOKBACK_PIVOTS = 48  # a bound on the work; a year of bars has about 20 to 35
_SHOWN = 7
_MANY = 6.0


class Touches(NamedTuple):
    """For each of m pivots, the pivots up to it that touch its level: ``rows`` (m, 48), -1 where none, and counts."""

    rows: Ints
    number: Ints
    price: Floats
    spread: Floats
    first: Ints
    tolerance: Floats


def find_touches(study: Study) -> Touches:
    """The touches of each pivot's level, itself included; ``price`` is their mean."""
    pivots = study.pivots
    m = len(pivots.at)
    rows = np.arange(m)[:, None] + np.arange(1 - _LOOKBACK_PIVOTS, 1)
    there = np.maximum(rows, 0)
    tolerance = TOLERANCE_ATR * study.atr[pivots.confirmed]
    near = (rows >= 0) & (np.abs(pivots.price[there] - pivots.price[:, None]) <= tolerance[:, None])
    near &= pivots.at[:, None] - pivots.at[there] <= LOOKBACK_BARS
    count = near.sum(axis=1)
    price = np.where(near, pivots.price[there], 0.0).sum(axis=1) / np.maximum(count, 1)
    squares = np.where(near, pivots.price[there] - price[:, None], 0.0) ** 2
    spread = np.sqrt(squares.sum(axis=1) / np.maximum(count, 1))
    first = np.where(near, there, m).min(axis=1, initial=m)
    return Touches(np.where(near, rows, -1), count, price, spread, first, tolerance)


def level(study: Study, kind: int) -> Events:
    """Levels whose newest touch is a high (``kind`` +1: resistance) or a low (-1: support)."""
    touches, pivots = study.once(find_touches), study.pivots
    chosen = np.flatnonzero((touches.number >= LEAST_TOUCHES) & (pivots.kind == kind))
    # the newest touches last, whatever lies between them
    rows = np.sort(touches.rows[chosen], axis=1)[:, -_SHOWN:]
    price, tolerance = touches.price[chosen], touches.tolerance[chosen]
    return Events(
        direction=np.full(len(chosen), -kind),
        start=pivots.at[touches.first[chosen]],
        end=pivots.at[chosen],
        confirmed=pivots.confirmed[chosen],
        swings=swings_of(pivots, rows),
        levels=price_levels(price, None, price + kind * 2 * tolerance),
        parts=strength(study, chosen),
    )


def strength(study: Study, chosen: Ints) -> Floats:
    """The parts of a level's strength: its touches, how close together they are, how long it has held; (m, 3)."""
    touches, pivots = study.once(find_touches), study.pivots
    held = pivots.at[chosen] - pivots.at[touches.first[chosen]]
    return table(
        [
            shares(touches.number[chosen].astype(np.float64), _MANY),
            1 - shares(touches.spread[chosen], touches.tolerance[chosen]),
            shares(held.astype(np.float64), float(LOOKBACK_BARS)),
        ]
    )


def _detector(name: str, kind: int, word: str) -> Detector:
    return Detector(
        name,
        FAMILY,
        "bearish" if kind > 0 else "bullish",
        f"a {word} at the price of at least two earlier pivots of the last {LOOKBACK_BARS} bars",
        "the close that confirms the pivot of the newest touch",
        "Osler (2000)",
        ("touches", "tightness", "age"),
        partial(level, kind=kind),
    )


DETECTORS: tuple[Detector, ...] = (
    _detector("resistance_level", 1, "high"),
    _detector("support_level", -1, "low"),
)
