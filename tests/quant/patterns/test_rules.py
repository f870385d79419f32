"""What the table says of each type is what the detectors do."""

import math

import numpy as np
import pytest
import talib

from ots_quant.patterns import DETECTORS, Study, current_levels, current_trend, price_bars, scan
from ots_quant.patterns.candidates import MOST_BARS, windows
from ots_quant.patterns.converging import find_shapes
from pattern_series import first, random_walk

SEEDS = range(8)


def path(*knots, wick=0.3, flat=40):
    """Bars along straight legs: (height, bars) after a flat start at the first height."""
    closes = [np.full(flat, float(knots[0]))]
    for height, bars in knots[1:]:
        closes.append(np.linspace(closes[-1][-1], height, bars + 1)[1:])
    close = np.concatenate(closes)
    open_ = np.append(close[0], close[:-1])
    high, low = np.maximum(open_, close) + wick, np.minimum(open_, close) - wick
    return price_bars(open_, high, low, close, np.full(len(close), 1000.0))


def mirrored(bars, around=200.0):
    return price_bars(around - bars.open, around - bars.low, around - bars.high, around - bars.close, bars.volume)


def found(bars, *names):
    return scan(bars, [DETECTORS[name] for name in names]).events()


TOP = ((100, 20), (92, 10), (100, 10))
FORMATIONS = {
    "double_top": (80, *TOP, (85, 15)),
    "triple_top": (80, *TOP, (92, 10), (100, 10), (85, 15)),
    "head_and_shoulders": (80, (96, 16), (90, 8), (104, 12), (90, 12), (96, 8), (80, 16)),
    "rising_wedge": (80, (90, 10), (84, 10), (94, 10), (91, 10), (98, 10), (80, 15)),
    "falling_channel": (110, (100, 10), (106, 10), (97, 10), (103, 10), (94, 10), (98, 6)),
}
MIRRORED = {
    "double_top": "double_bottom",
    "triple_top": "triple_bottom",
    "head_and_shoulders": "inverse_head_and_shoulders",
    "rising_wedge": "falling_wedge",
    "falling_channel": "rising_channel",
}


@pytest.mark.parametrize("name", FORMATIONS)
def test_a_clean_formation_is_found_once_and_so_is_its_mirror_image(name):
    bars = path(*FORMATIONS[name])
    (event,) = found(bars, name)
    (image,) = found(mirrored(bars), MIRRORED[name])
    assert image.direction == -event.direction
    assert image[2:5] == event[2:5]
    assert [p.price for p in image.pivots] == pytest.approx([200 - p.price for p in event.pivots])
    assert image[6:9] == pytest.approx([200 - level for level in event[6:9]])
    assert image.score == pytest.approx(event.score)


def test_the_levels_of_a_double_top():
    (event,) = found(path(*FORMATIONS["double_top"]), "double_top")
    assert [p.price for p in event.pivots] == pytest.approx([100.3, 91.7, 100.3])
    assert event[6:9] == pytest.approx((91.7, 91.7 - 8.6, 100.3))
    close = path(*FORMATIONS["double_top"]).close
    assert close[event.confirmed] < 91.7 <= close[event.confirmed - 1]


def test_the_parts_of_a_double_tops_quality():
    bars = path(*FORMATIONS["double_top"])
    (event,) = found(bars, "double_top")
    parts = dict(event.parts)
    atr = Study(bars).atr[event.pivots[-1].confirmed]
    assert parts == pytest.approx({"level": 1.0, "symmetry": 1.0, "height": min(8.6 / (6 * atr), 1.0), "volume": 0.5})
    assert event.score == pytest.approx(sum(parts.values()) / 4)
    uneven = path(80, (100, 20), (92, 10), (100.8, 20), (85, 15))
    (event,) = found(uneven, "double_top")
    parts = dict(event.parts)
    assert parts["symmetry"] == pytest.approx(0.5)
    assert parts["level"] == pytest.approx(1 - 0.8 / (0.2 * 9.0))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_candidate_opens_when_its_last_pivot_is_known(sign):
    study = Study(random_walk(4, 2000))
    for count in (4, 5, 6):
        some = windows(study, count, sign)
        assert len(some.opened) > 20
        np.testing.assert_array_equal(some.opened, some.confirmed[:, -1])
        assert (some.opened > some.at[:, -1]).any()
        assert (np.diff(some.at, axis=1) >= 0).all()
        assert (sign * np.diff(some.price, axis=1)[:, -1] * sign > 0).all()  # seen so that the last is a high
    shapes = find_shapes(study)
    np.testing.assert_array_equal(shapes.opened, shapes.confirmed.max(axis=1))


def test_a_height_that_leads_below_zero_is_no_target():
    (event,) = found(path(1, (20, 20), (8, 10), (20, 10), (2, 15), wick=0.1), "double_top")
    assert math.isnan(event.target)
    assert event.neckline > 0


def test_a_sloping_neckline_is_read_at_the_bar_that_breaks_it():
    bars = path(80, (96, 16), (90, 8), (104, 12), (92, 12), (97, 8), (80, 20))
    (event,) = found(bars, "head_and_shoulders")
    dip, rally = event.pivots[1], event.pivots[3]
    slope = (rally.price - dip.price) / (rally.at - dip.at)
    assert slope > 0
    at = event.confirmed
    assert event.neckline == pytest.approx(rally.price + slope * (at - rally.at))
    assert bars.close[at] < event.neckline
    assert bars.close[at - 1] >= rally.price + slope * (at - 1 - rally.at)


@pytest.mark.parametrize("name", ["double_top", "triple_top", "head_and_shoulders"])
def test_what_breaks_the_wrong_way_is_never_told(name):
    knots = FORMATIONS[name]
    # the last fall stops short of the neckline; then the price leaves on top, and only later falls
    short = path(*knots[:-1], (94.5, 4), (120, 20), (60, 60))
    assert [e for e in found(short, name) if e.start < 130 and e.pivots[-1].price < 110] == []
    whole = found(path(*knots), name)
    assert len(whole) == 1


def test_what_takes_too_long_is_given_up():
    waits = [(95.5, 5)] + [(95.0 + i % 2, 4) for i in range(MOST_BARS // 4 + 4)]
    assert found(path(80, *TOP, *waits, (80, 10)), "double_top") == []
    assert len(found(path(80, *TOP, *waits[:3], (80, 10)), "double_top")) == 1


@pytest.mark.parametrize(("last", "direction"), [((112, 10), 1), ((80, 15), -1)])
def test_a_triangle_breaks_either_way(last, direction):
    bars = path(80, (100, 20), (86, 12), (100, 12), (90, 12), (100, 12), (96, 4), last)
    (event,) = found(bars, "ascending_triangle")
    assert event.direction == direction
    assert {round(p.price, 1) for p in event.pivots} <= {100.3, 85.7, 89.7, 95.7}
    assert direction * (event.target - event.neckline) > 0 > direction * (event.invalidation - event.neckline)
    assert direction * (bars.close[event.confirmed] - event.neckline) > 0


def test_a_formation_seen_again_from_a_later_pivot_is_not_told_again():
    bars = path(80, (100, 20), (88, 12), (100, 12), (94, 12), (100, 12), (96.5, 4), (112, 10))
    (event,) = found(bars, "ascending_triangle")
    assert event.direction == -1  # it first left downwards; that it then left upwards is the same triangle


def test_one_channel_is_told_when_it_is_there_and_not_again_at_each_turn():
    events = found(path(110, (97, 10), *[(height, 10) for height in (103, 94, 100, 91, 97, 88, 94)]), "falling_channel")
    assert len(events) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_breakouts(seed):
    bars = random_walk(seed, 1500)
    expected = []
    beyond = [None, None]
    for t in range(20, len(bars)):
        window = slice(t - 20, t)
        now = [bars.close[t] > bars.high[window].max(), bars.close[t] < bars.low[window].min()]
        ratio = bars.volume[t] / bars.volume[window].mean()
        for side, sign in enumerate((1, -1)):
            if now[side] and not beyond[side] and ratio >= 1.5:
                expected.append((t, sign))
        beyond = now
    events = found(bars, "breakout_up", "breakout_down")
    assert sorted((e.confirmed, e.direction) for e in events) == sorted(expected)
    assert len(expected) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_gaps_and_their_filling(seed):
    bars = random_walk(seed, 1500, gaps=0.3, flat=0)
    atr = talib.ATR(bars.high, bars.low, bars.close, 14)
    up = [t for t in range(15, 1500) if 0 < bars.low[t] - bars.high[t - 1] >= 0.5 * atr[t - 1]]
    down = [t for t in range(15, 1500) if 0 < bars.low[t - 1] - bars.high[t] >= 0.5 * atr[t - 1]]
    assert [e.confirmed for e in found(bars, "gap_up")] == up
    assert [e.confirmed for e in found(bars, "gap_down")] == down
    filled = {}
    for gap in up:
        later = range(gap + 1, min(gap + 21, 1500))
        closing = next((t for t in later if bars.close[t] < bars.high[gap - 1]), None)
        if closing is not None:
            filled[closing] = gap  # of several closed at once the youngest is told
    assert {e.confirmed: e.start + 1 for e in found(bars, "gap_up_filled")} == filled
    assert len(filled) > 3


@pytest.mark.parametrize("seed", SEEDS)
def test_narrow_ranges(seed):
    bars = random_walk(seed, 600)
    size = bars.high - bars.low
    expected = [t for t in range(6, 600) if size[t] < size[t - 6 : t].min()]
    assert [e.confirmed for e in found(bars, "narrow_range_7")] == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_squeezes_and_their_release(seed):
    bars = random_walk(seed, 2000, flat=0.0)
    spread = np.array([np.nan] * 19 + [bars.close[t - 19 : t + 1].std() for t in range(19, 2000)])
    with np.errstate(invalid="ignore"):
        inside = 2 * spread < 1.5 * talib.ATR(bars.high, bars.low, bars.close, 20)
    began, released, run = [], [], 0
    for t in range(2000):
        if not inside[t] and run >= 6:
            released.append(t)
        run = run + 1 if inside[t] else 0
        if run == 6:
            began.append(t)
    assert [e.confirmed for e in found(bars, "squeeze")] == began
    events = found(bars, "squeeze_release")
    assert [e.confirmed for e in events] == released
    assert released
    for e in events:
        bars_in = slice(e.start, e.confirmed)
        high, low = bars.high[bars_in].max(), bars.low[bars_in].min()
        assert e.direction == (1 if bars.close[e.confirmed] >= (high + low) / 2 else -1)
        assert {e.neckline, e.invalidation} == {high, low}


@pytest.mark.parametrize("seed", SEEDS)
def test_divergences(seed):
    bars = random_walk(seed, 3000, flat=0.0)
    study = Study(bars)
    pivots, rsi = study.pivots, talib.RSI(bars.close, 14)
    expected = {1: [], -1: []}
    for i in range(2, len(pivots.at)):
        kind, now, was = int(pivots.kind[i]), pivots.at[i], pivots.at[i - 2]
        price = kind * (pivots.price[i] - pivots.price[i - 2])
        if price >= 0.25 * study.atr[pivots.confirmed[i]] and kind * (rsi[now] - rsi[was]) <= -3 and now - was <= 100:
            expected[kind].append(int(pivots.confirmed[i]))
    assert [e.confirmed for e in found(bars, "bearish_divergence_rsi")] == expected[1]
    assert [e.confirmed for e in found(bars, "bullish_divergence_rsi")] == expected[-1]
    assert expected[1]
    assert expected[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_levels_are_prices_at_which_pivots_turned(seed):
    bars = random_walk(seed, 2000)
    study = Study(bars)
    pivots = study.pivots
    events = found(bars, "support_level", "resistance_level")
    assert len(events) > 20
    by_pivot = {event.confirmed: event for event in events}
    for i in range(len(pivots.at)):
        near = 0.75 * study.atr[pivots.confirmed[i]]
        touches = [
            j for j in range(max(0, i - 47), i + 1)
            if abs(pivots.price[j] - pivots.price[i]) <= near and pivots.at[i] - pivots.at[j] <= 250
        ]  # fmt: skip
        event = by_pivot.get(int(pivots.confirmed[i]))
        assert (event is not None) == (len(touches) >= 3)
        if event is not None:
            assert event.direction == -pivots.kind[i]
            assert event.neckline == pytest.approx(pivots.price[touches].mean())
            assert event.start == pivots.at[touches[0]]
            assert [p.at for p in event.pivots] == pivots.at[touches[-7:]].tolist()
            assert dict(event.parts)["touches"] == pytest.approx(min(len(touches) / 6, 1))
    levels = current_levels(study)
    assert levels == sorted(levels)
    for level in levels:
        assert level.touches >= 2
        assert level.side == (1 if level.price > bars.close[-1] else -1)
        assert level.first <= level.last
        assert 0 <= level.strength <= 1


def test_a_trend_is_established_once_and_ends():
    chance = np.random.default_rng(1)
    moves = np.concatenate([chance.normal(0, 0.01, 150), chance.normal(0.006, 0.01, 120), chance.normal(0, 0.01, 200)])
    close = 100 * np.exp(np.cumsum(moves))
    bars = price_bars(close, close * 1.005, close * 0.995, close, np.ones(len(close)))
    events = [e for e in found(bars, "uptrend") if 150 < e.confirmed < 270]
    assert len(events) == 1
    event = events[0]
    assert event.end - event.start == 49
    window = np.log(close[event.start : event.end + 1])
    slope, level = np.polyfit(np.arange(-49, 1), window, 1)
    assert slope > 0
    assert event.neckline == pytest.approx(math.exp(level))
    assert event.invalidation < event.neckline
    now = current_trend(Study(first(bars, 230)))
    assert (now.state, now.since) == (1, event.confirmed)
    assert now.slope > 0
    assert now.p_value <= 0.2
    still = np.full(100, 5.0)
    flat = current_trend(Study(price_bars(still, still, still, still, still)))
    assert (flat.state, flat.since, flat.line) == (0, None, pytest.approx(5.0))


def test_a_bull_flag_and_a_bear_flag():
    pole = (100, (100, 20), (115, 7), (112, 10), (122, 6))
    (event,) = found(path(*pole, wick=0.5), "bull_flag")
    assert event.direction == 1
    assert [p.price for p in event.pivots] == pytest.approx([99.5, 115.5])
    assert event.target - event.neckline == pytest.approx(16.0)
    assert event.invalidation == pytest.approx(111.5)
    assert dict(event.parts)["shallowness"] == pytest.approx(1 - 4 / 16)
    (image,) = found(mirrored(path(*pole, wick=0.5)), "bear_flag")
    assert image[2:5] == event[2:5]
    deep = path(100, (100, 20), (115, 7), (104, 10), (122, 6), wick=0.5)
    assert [e for e in found(deep, "bull_flag") if e.pivots[1].at == event.pivots[1].at] == []
