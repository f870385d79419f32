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
from ots_quant.patterns.study import Detector, Direction, Study, shares

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
_LATER_BARS = 3
_CONFIRMED_VALUE = 200


def grid_prices(study: Study) -> tuple[Floats, Floats, Floats, Floats]:
    """Open, high, low, close on a grid of 2^-30 dollars."""
    bars = study.bars
    open_, high, low, close = (np.rint(price * _GRID) / _GRID for price in (bars.open, bars.high, bars.low, bars.close))
    return open_, high, low, close


class _Candles(NamedTuple):
    """The events of all types below each other, and where each type's begin and end."""

    events: Events
    spans: dict[str, slice]


def find_candles(study: Study) -> _Candles:
    """All candles: one call of each of TA-Lib's functions, then what is said of them for all of them at once.

    Invalidation: the extreme of the candle's bars that its direction leaves behind. The parts: its range, 1 at two ATR;
    its context, how far the ten bars before moved against its direction (for a neutral one either way), 1 at four ATR;
    its volume.
    """
    prices = grid_prices(study)
    rows: list[tuple[Candle, str, Ints, Ints]] = []
    for entry in CANDLES if len(study.bars) else ():
        value = getattr(talib, entry.function)(*prices)
        at = value.nonzero()[0]
        value = value[at]
        if entry.name in _CONFIRMED:
            later = np.abs(value) == _CONFIRMED_VALUE
            rows.append((entry, f"confirmed_{entry.name}", at[later], value[later]))
            at, value = at[~later], value[~later]
        rows.append((entry, entry.name, at, value))
    if not rows:
        return _Candles(_events(study, _NONE, _NONE, _NONE, _NONE > 0), {})
    sizes = np.array([len(at) for _, _, at, _ in rows])
    ends = np.cumsum(sizes).tolist()
    spans = {name: slice(end - len(at), end) for (_, name, at, _), end in zip(rows, ends, strict=True)}
    bars = np.array([entry.bars + _LATER_BARS * (name != entry.name) for entry, name, _, _ in rows])
    directed = np.array([entry.direction != "neutral" for entry, _, _, _ in rows])
    at = np.concatenate([at for _, _, at, _ in rows])
    sign = np.sign(np.concatenate([value for _, _, _, value in rows])).astype(np.int64)
    return _Candles(_events(study, at, sign, bars.repeat(sizes), directed.repeat(sizes)), spans)


_NONE = np.zeros(0, np.int64)
_EMPTY = slice(0)


def _events(study: Study, at: Ints, sign: Ints, bars: Ints, directed: NDArray[np.bool_]) -> Events:
    m = len(at)
    high, low = _extremes(study, at, bars)
    levels = np.full((m, 3), np.nan)
    levels[:, 2] = np.where(directed, np.where(sign > 0, low, high), np.nan)
    context = np.where(directed, -sign * _moved(study)[at], np.abs(_moved(study)[at]))
    return Events(
        direction=np.where(directed, sign, 0),
        start=np.maximum(at - bars + 1, 0),
        end=at,
        confirmed=at,
        swings=no_swings(m),
        levels=levels,
        parts=table(
            [
                shares(high - low, _WIDE_ATR * study.atr[at]),
                shares(context, _FAR_ATR * study.atr[at]),
                volume_part(study, at),
            ]
        ),
    )


def _extremes(study: Study, at: Ints, bars: Ints) -> tuple[Floats, Floats]:
    """The highest high and the lowest low of the ``bars`` bars that end at each ``at``."""
    highest, lowest = [study.bars.high], [study.bars.low]
    for back in range(1, int(bars.max(initial=1))):
        high, low = highest[-1].copy(), lowest[-1].copy()
        np.maximum(high[back:], study.bars.high[:-back], out=high[back:])
        np.minimum(low[back:], study.bars.low[:-back], out=low[back:])
        highest.append(high)
        lowest.append(low)
    return np.array(highest)[bars - 1, at], np.array(lowest)[bars - 1, at]


def _moved(study: Study) -> Floats:
    """The change of the close over the ten bars before each bar, shape (n,); NaN for the first eleven."""
    close, n = study.bars.close, len(study.bars)
    moved = np.full(n, np.nan)
    if n > _CONTEXT_BARS + 1:
        moved[_CONTEXT_BARS + 1 :] = close[_CONTEXT_BARS:-1] - close[: n - _CONTEXT_BARS - 1]
    return moved


def candle(study: Study, name: str) -> Events:
    """The candles of one type."""
    candles = study.once(find_candles)
    return candles.events.take(candles.spans.get(name, _EMPTY))


def _detectors() -> tuple[Detector, ...]:
    made = []
    for entry in CANDLES:
        made.append(_detector(entry, entry.name, "the close of its last bar"))
        if entry.name in _CONFIRMED:
            rule = f"a close beyond the inside bar on the other side, within {_LATER_BARS} bars"
            made.append(_detector(entry, f"confirmed_{entry.name}", rule))
    return tuple(made)


def _detector(entry: Candle, name: str, confirmation: str) -> Detector:
    source = f"TA-Lib {entry.function}"
    find = partial(candle, name=name)
    return Detector(name, FAMILY, entry.direction, entry.meaning, confirmation, source, _PARTS, find)


_PARTS = ("range", "context", "volume")

DETECTORS: tuple[Detector, ...] = _detectors()
