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

from ots_quant.patterns.candidates import swings_of, table
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Study, shares

Floats = NDArray[np.float64]

FAMILY = "divergences"
LONGEST_BARS = 100
LEAST_ATR = 0.25
_CLEAR_ATR = 2.0


class Oscillator(NamedTuple):
    """Values of shape (n,), and the least change (shape (n,) or a number) that counts; a clear one is four times it."""

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


def divergence(study: Study, oscillator: Callable[[Study], Oscillator], kind: int, *, hidden: bool) -> Events:
    """Divergences at highs (``kind`` +1, bearish) or lows (-1, bullish), at the close that confirms the second."""
    pivots = study.pivots
    second = np.flatnonzero(pivots.kind == kind)[1:]
    first = second - 2
    values, least = study.once(oscillator)
    at, was = pivots.at[second], pivots.at[first]
    price = kind * (pivots.price[second] - pivots.price[first])
    change = kind * (values[at] - values[was])
    price_least = LEAST_ATR * study.atr[pivots.confirmed[second]]
    wanted = -1.0 if hidden else 1.0
    with np.errstate(invalid="ignore"):  # the first bars have no oscillator yet: NaN compares as False
        good = (wanted * price >= price_least) & (-wanted * change >= least[at]) & (at - was <= LONGEST_BARS)
    second, first = second[good], first[good]
    price, change, price_least = price[good], change[good], price_least[good]
    m = len(second)
    neckline = pivots.price[second - 1]
    return Events(
        direction=np.full(m, -kind),
        start=pivots.at[first],
        end=pivots.at[second],
        confirmed=pivots.confirmed[second],
        swings=swings_of(pivots, np.stack([first, second], axis=1)),
        levels=table([neckline, np.full(m, np.nan), pivots.price[second]]),
        parts=table(
            [
                shares(np.abs(price), _CLEAR_ATR / LEAST_ATR * price_least),
                shares(np.abs(change), 4 * least[pivots.at[second]]),
            ]
        ),
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
