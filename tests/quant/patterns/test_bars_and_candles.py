"""What is no bar is refused by name; candles are TA-Lib's, one for one."""

import math

import numpy as np
import pytest
import talib

from ots_quant.patterns import DETECTORS, FAMILIES, current_levels, current_trend, named, price_bars, scan, usable
from ots_quant.patterns.candlesticks import CANDLES
from pattern_series import FIELDS, comparable, random_walk

BARS = random_walk(7, 3000, tick=0.01)


def columns():
    return [getattr(BARS, name).copy() for name in FIELDS]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -1.0, 1e15])
def test_a_bar_that_is_none_is_named(name, wrong):
    given = columns()
    given[FIELDS.index(name)][17] = wrong
    with pytest.raises(ValueError, match="of bar 17 are not those of a bar"):
        price_bars(*given)
    assert np.flatnonzero(~usable(*given)).tolist() == [17]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    "wrong", [np.ones((3000, 1)), np.ones(2999), 5.0, ["a"] * 3000, np.ones(3000, complex), [[1.0], [1.0, 2.0]], None]
)
def test_an_argument_that_is_no_series_is_named(name, wrong):
    given = columns()
    given[FIELDS.index(name)] = wrong
    with pytest.raises(ValueError, match=f"^({name}|high has 3000 bars, open) "):
        price_bars(*given)


def test_a_high_below_the_close_and_a_price_of_zero_are_none():
    given = columns()
    given[1][5] = given[3][5] / 2
    given[2][6] = 0.0
    assert np.flatnonzero(~usable(*given)).tolist() == [5, 6]


def test_any_memory_layout_will_do():
    whole = [comparable(event) for event in scan(BARS).events()]
    table = np.array(columns()).T
    table.setflags(write=False)
    assert [comparable(event) for event in scan(price_bars(*table.T)).events()] == whole
    assert [comparable(e) for e in scan(price_bars(*(column.tolist() for column in table.T))).events()] == whole


@pytest.mark.parametrize("bars", range(0, 60, 3))
def test_a_few_bars_are_no_error(bars):
    some = price_bars(*(column[:bars] for column in columns()))
    found = scan(some)
    assert all(event.confirmed < bars for event in found.events())
    assert current_levels(found.study) == [] or bars > 14
    assert (current_trend(found.study) is None) == (bars < 50)


@pytest.mark.parametrize("extreme", [1e-9, 1e9])
def test_prices_of_any_size(extreme):
    given = [column * extreme for column in columns()[:4]]
    assert len(scan(price_bars(*given, columns()[4])).events()) > 100


def test_nothing_happens_where_nothing_moves():
    still = np.full(1000, 12.34)
    events = scan(price_bars(still, still, still, still, np.zeros(1000))).events()
    assert {event.detector.family for event in events} <= {"candlesticks"}  # a doji is one even so


@pytest.mark.parametrize("entry", CANDLES, ids=lambda entry: entry.name)
def test_candles_are_talibs(entry):
    prices = [np.rint(column * 2.0**30) / 2.0**30 for column in columns()[:4]]
    value = getattr(talib, entry.function)(*prices)
    names = [entry.name, f"confirmed_{entry.name}"] if "hikkake" in entry.name else [entry.name]
    events = [event for name in names for event in scan(BARS, [DETECTORS[name]]).events()]
    found = np.zeros(len(BARS), np.int64)
    for event in events:
        found[event.confirmed] = event.direction if entry.direction != "neutral" else 1
        assert event.detector.name.startswith("confirmed") == (abs(value[event.confirmed]) == 200)
        assert event.pivots == ()
    expected = np.sign(value) if entry.direction != "neutral" else value != 0
    np.testing.assert_array_equal(found, expected)
    if entry.direction in ("bullish", "bearish"):
        assert set(np.sign(value)) <= {0, 1 if entry.direction == "bullish" else -1}


def test_all_of_talibs_candles_are_there():
    assert {entry.function for entry in CANDLES} == set(talib.get_function_groups()["Pattern Recognition"])
    assert len({entry.name for entry in CANDLES}) == 61


def test_the_invalidation_of_a_candle_is_the_extreme_of_its_bars():
    for event in scan(BARS, [DETECTORS["engulfing"]]).events():
        bars = slice(event.start, event.end + 1)
        assert event.end - event.start == 1
        assert event.invalidation == (BARS.low[bars].min() if event.direction > 0 else BARS.high[bars].max())


def test_some_events_are_a_part_of_all_in_their_order():
    found = scan(BARS)
    whole = found.events()
    assert [event.confirmed for event in whole] == sorted(event.confirmed for event in whole)
    assert len(whole) == found.number() == sum(len(events) for _, events in found.found)
    late = [comparable(event) for event in whole if event.confirmed >= 2500]
    assert found.number(2500) == len(late)
    assert [comparable(event) for event in found.events(2500)] == late
    assert [comparable(event) for event in found.events(2500, most=40)] == late[:40]
    assert [comparable(event) for event in found.events(2500, most=40, newest=True)] == late[::-1][:40]
    assert found.events(3000) == scan(BARS, []).events() == []


def test_names_and_families():
    assert named("double_top") == (DETECTORS["double_top"],)
    assert {detector.family for name in FAMILIES for detector in named(name)} == set(FAMILIES)
    assert sum(len(named(family)) for family in FAMILIES) == len(DETECTORS)
    assert named("nosuch") == ()
    for name, detector in DETECTORS.items():
        assert name == detector.name
        assert detector.meaning
        assert detector.confirmation
        assert detector.source
        assert detector.parts
    assert not set(FAMILIES) & set(DETECTORS)
