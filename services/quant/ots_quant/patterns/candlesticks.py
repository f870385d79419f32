"""Candlesticks: TA-Lib's 61 functions, one call each, under plain names.

A candle is known at the close of its last bar. TA-Lib gives +100 and -100 (80 for an engulfing or harami whose bodies
share an end); Hikkake alone also gives +200 and -200, when a later close confirms it: that is a type of its own here.
Where the sign says only the body's colour (doji, spinning top, ...) the type is neutral.

TA-Lib keeps running sums. Prices are rounded to multiples of 2^-30 dollars before, so that below 2^23 dollars those
sums are exact and a candle does not depend on where the series starts.

Source: TA-Lib (https://ta-lib.org/functions), pattern recognition, with its default penetrations; S. Nison, Japanese
Candlestick Charting Techniques (1991); T. Bulkowski, Encyclopedia of Candlestick Charts (2008).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import talib
from numpy.typing import NDArray

from ots_quant.patterns.candidates import no_swings, table, volume_part
from ots_quant.patterns.model import Events
from ots_quant.patterns.study import Detector, Direction, Find, Study, shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAMILY = "candlesticks"
_GRID = 2.0**30
_CONTEXT_BARS = 10
_WIDE_ATR, _FAR_ATR = 2.0, 4.0


class Candle(NamedTuple):
    """A TA-Lib function: its plain name, the direction of its events, its bars, and what it looks like."""

    function: str
    name: str
    direction: Direction
    bars: int
    meaning: str


CANDLES: tuple[Candle, ...] = (
    Candle("CDL2CROWS", "two_crows", "bearish", 3, "a long white, a black above it, a black that closes within it"),
    Candle("CDL3BLACKCROWS", "three_black_crows", "bearish", 4, "three long blacks, each closing lower"),
    Candle("CDL3INSIDE", "three_inside", "either", 3, "a harami, and a close beyond its first body"),
    Candle("CDL3LINESTRIKE", "three_line_strike", "either", 4, "three alike, and one that takes them all back"),
    Candle("CDL3OUTSIDE", "three_outside", "either", 3, "an engulfing, and a close further on"),
    Candle("CDL3STARSINSOUTH", "three_stars_in_the_south", "bullish", 3, "three blacks, each within the one before"),
    Candle("CDL3WHITESOLDIERS", "three_white_soldiers", "bullish", 3, "three long whites, each closing higher"),
    Candle("CDLABANDONEDBABY", "abandoned_baby", "either", 3, "a doji that gaps away on both sides"),
    Candle("CDLADVANCEBLOCK", "advance_block", "bearish", 3, "three whites that weaken"),
    Candle("CDLBELTHOLD", "belt_hold", "either", 1, "a long body that opens at its extreme"),
    Candle("CDLBREAKAWAY", "breakaway", "either", 5, "a gap, three more the same way, and a close back in the gap"),
    Candle("CDLCLOSINGMARUBOZU", "closing_marubozu", "either", 1, "a long body that closes at its extreme"),
    Candle("CDLCONCEALBABYSWALL", "concealing_baby_swallow", "bullish", 4, "four blacks, the last engulfing the third"),
    Candle("CDLCOUNTERATTACK", "counterattack", "either", 2, "two long bodies of opposite colour with one close"),
    Candle("CDLDARKCLOUDCOVER", "dark_cloud_cover", "bearish", 2, "an open above a long white, a close well within it"),
    Candle("CDLDOJI", "doji", "neutral", 1, "an open and a close at nearly one price"),
    Candle("CDLDOJISTAR", "doji_star", "either", 2, "a long body, and a doji that gaps away from it"),
    Candle("CDLDRAGONFLYDOJI", "dragonfly_doji", "neutral", 1, "a doji with a long lower shadow only"),
    Candle("CDLENGULFING", "engulfing", "either", 2, "a body that holds the opposite one before it"),
    Candle("CDLEVENINGDOJISTAR", "evening_doji_star", "bearish", 3, "a long white, a doji above, a black well into it"),
    Candle("CDLEVENINGSTAR", "evening_star", "bearish", 3, "a long white, a short body above, a black well into it"),
    Candle("CDLGAPSIDESIDEWHITE", "side_by_side_white_lines", "either", 3, "two like whites after a gap"),
    Candle("CDLGRAVESTONEDOJI", "gravestone_doji", "neutral", 1, "a doji with a long upper shadow only"),
    Candle("CDLHAMMER", "hammer", "bullish", 2, "a short body with a long lower shadow, near the low before"),
    Candle("CDLHANGINGMAN", "hanging_man", "bearish", 2, "a short body with a long lower shadow, near the high before"),
    Candle("CDLHARAMI", "harami", "either", 2, "a long body that holds the short one after it"),
    Candle("CDLHARAMICROSS", "harami_cross", "either", 2, "a long body that holds the doji after it"),
    Candle("CDLHIGHWAVE", "high_wave", "neutral", 1, "a short body with very long shadows"),
    Candle("CDLHIKKAKE", "hikkake", "either", 3, "an inside bar, and a bar that leaves it (it is taken to fail)"),
    Candle("CDLHIKKAKEMOD", "modified_hikkake", "either", 4, "two inside bars, and a bar that leaves them"),
    Candle("CDLHOMINGPIGEON", "homing_pigeon", "bullish", 2, "a short black within a long black"),
    Candle("CDLIDENTICAL3CROWS", "identical_three_crows", "bearish", 3, "three blacks, each opening at the last close"),
    Candle("CDLINNECK", "in_neck", "bearish", 2, "a long black, and a white that closes just within it"),
    Candle("CDLINVERTEDHAMMER", "inverted_hammer", "bullish", 2, "a short body, a long upper shadow, a gap down"),
    Candle("CDLKICKING", "kicking", "either", 2, "two opposite marubozu with a gap between"),
    Candle(
        "CDLKICKINGBYLENGTH", "kicking_by_length", "either", 2, "the same, the longer marubozu giving the direction"
    ),
    Candle(
        "CDLLADDERBOTTOM", "ladder_bottom", "bullish", 5, "four blacks, the last with an upper shadow, a white above"
    ),
    Candle("CDLLONGLEGGEDDOJI", "long_legged_doji", "neutral", 1, "a doji with a long shadow"),
    Candle("CDLLONGLINE", "long_line", "either", 1, "a long body with short shadows"),
    Candle("CDLMARUBOZU", "marubozu", "either", 1, "a long body without shadows"),
    Candle("CDLMATCHINGLOW", "matching_low", "bullish", 2, "two blacks with one close"),
    Candle("CDLMATHOLD", "mat_hold", "bullish", 5, "a long white, three small above its middle, a white beyond"),
    Candle("CDLMORNINGDOJISTAR", "morning_doji_star", "bullish", 3, "a long black, a doji below, a white well into it"),
    Candle("CDLMORNINGSTAR", "morning_star", "bullish", 3, "a long black, a short body below, a white well into it"),
    Candle("CDLONNECK", "on_neck", "bearish", 2, "a long black, and a white that closes at its low"),
    Candle("CDLPIERCING", "piercing", "bullish", 2, "an open below a long black, a close above its middle"),
    Candle("CDLRICKSHAWMAN", "rickshaw_man", "neutral", 1, "a long-legged doji with its body in the middle"),
    Candle("CDLRISEFALL3METHODS", "three_methods", "either", 5, "a long body, three small against it, one beyond"),
    Candle("CDLSEPARATINGLINES", "separating_lines", "either", 2, "two opposite bodies with one open"),
    Candle("CDLSHOOTINGSTAR", "shooting_star", "bearish", 2, "a short body, a long upper shadow, a gap up"),
    Candle("CDLSHORTLINE", "short_line", "neutral", 1, "a short body with short shadows"),
    Candle("CDLSPINNINGTOP", "spinning_top", "neutral", 1, "a short body with shadows longer than it"),
    Candle("CDLSTALLEDPATTERN", "stalled_pattern", "bearish", 3, "two long whites, and a short one on top"),
    Candle("CDLSTICKSANDWICH", "stick_sandwich", "bullish", 3, "two blacks with one close, a white between"),
    Candle("CDLTAKURI", "takuri", "bullish", 1, "a dragonfly doji with a very long lower shadow"),
    Candle("CDLTASUKIGAP", "tasuki_gap", "either", 3, "a gap, one the same way, and one back into the gap"),
    Candle("CDLTHRUSTING", "thrusting", "bearish", 2, "a long black, and a white that closes below its middle"),
    Candle("CDLTRISTAR", "tristar", "either", 3, "three doji, the middle one gapping away"),
    Candle("CDLUNIQUE3RIVER", "unique_three_river", "bullish", 3, "a long black, a harami with a new low, a white"),
    Candle("CDLUPSIDEGAP2CROWS", "upside_gap_two_crows", "bearish", 3, "a long white, and two blacks above its gap"),
    Candle("CDLXSIDEGAP3METHODS", "gap_three_methods", "either", 3, "two alike with a gap, and one that closes it"),
)

# a later close confirms these: TA-Lib gives 200 there
_CONFIRMED = ("hikkake", "modified_hikkake")
_CONFIRMATION_BARS = 3


def grid_prices(study: Study) -> tuple[Floats, Floats, Floats, Floats]:
    """Open, high, low, close on a grid of 2^-30 dollars."""
    bars = study.bars
    open_, high, low, close = (np.rint(price * _GRID) / _GRID for price in (bars.open, bars.high, bars.low, bars.close))
    return open_, high, low, close


def candle(study: Study, function: str, bars: int, *, directed: bool, confirmed: bool | None = None) -> Events:
    """The events of one of TA-Lib's functions, of either direction.

    ``confirmed`` picks Hikkake's 200s (True) or 100s (False). Invalidation: the extreme of the candle's bars that its
    direction leaves behind.
    """
    found = getattr(talib, function)(*study.once(grid_prices)) if len(study.bars) else np.zeros(0, np.int32)
    at = np.flatnonzero(found if confirmed is None else (np.abs(found) == 200) == confirmed) if len(found) else _NONE
    value = found[at].astype(np.int64)
    at, value = at[value != 0], value[value != 0]
    sign = np.sign(value)
    start = np.maximum(at - bars + 1, 0)
    high, low = _extremes(study, at, bars)
    limit = np.where(sign > 0, low, high) if directed else np.full(len(at), np.nan)
    unknown = np.full(len(at), np.nan)
    return Events(
        direction=sign if directed else np.zeros(len(at), np.int64),
        start=start,
        end=at,
        confirmed=at,
        swings=no_swings(len(at)),
        levels=table([unknown, unknown, limit]),
        parts=table([shares(high - low, _WIDE_ATR * study.atr[at]), _against(study, at, sign), volume_part(study, at)]),
    )


_NONE = np.zeros(0, np.int64)


def _extremes(study: Study, at: Ints, bars: int) -> tuple[Floats, Floats]:
    """The highest high and lowest low of the ``bars`` bars that end at ``at``."""
    window = np.maximum(at[:, None] - np.arange(bars), 0)
    return study.bars.high[window].max(axis=1), study.bars.low[window].min(axis=1)


def _against(study: Study, at: Ints, sign: Ints) -> Floats:
    """How far the ten bars before moved against ``sign``, in ATR, cut to 0 to 1; NaN where they are not there."""
    close = study.bars.close
    there = at > _CONTEXT_BARS
    before = np.where(there, at - 1, 0)
    moved = -sign * (close[before] - close[np.where(there, before - _CONTEXT_BARS, 0)])
    return np.where(there, shares(moved, _FAR_ATR * study.atr[at]), np.nan)


def _detectors() -> tuple[Detector, ...]:
    made = []
    for entry in CANDLES:
        directed = entry.direction != "neutral"
        twice = entry.name in _CONFIRMED
        find = partial(candle, function=entry.function, bars=entry.bars, directed=directed)
        first = partial(find, confirmed=False) if twice else find
        made.append(_detector(entry, entry.name, "the close of its last bar", first))
        if twice:
            rule = f"a close beyond the inside bar on the other side, within {_CONFIRMATION_BARS} bars"
            longer = partial(find, bars=entry.bars + _CONFIRMATION_BARS, confirmed=True)
            made.append(_detector(entry, f"confirmed_{entry.name}", rule, longer))
    return tuple(made)


def _detector(entry: Candle, name: str, confirmation: str, find: Find) -> Detector:
    source = f"TA-Lib {entry.function}"
    return Detector(name, FAMILY, entry.direction, entry.meaning, confirmation, source, _PARTS, find)


_PARTS = ("range", "context", "volume")

DETECTORS: tuple[Detector, ...] = _detectors()
