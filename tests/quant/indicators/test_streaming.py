"""A streaming state gives at each bar what the batch function gives there, and refuses what it refuses."""

import math
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indicator_bars import histories, history, parameters, part
from ots_quant.indicators import streaming
from ots_quant.indicators.streaming import Bar
from ots_quant.registry import INDICATORS

STREAMED = {name: indicator for name, indicator in INDICATORS.items() if indicator.stream}
every = pytest.mark.parametrize("indicator", STREAMED.values(), ids=STREAMED)


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-9 * max(1.0, abs(b))


def same_but_for_a_root(a, b, largest):
    """The root of a variance: rounding leaves of a rolling sum a part of the largest variance that went through it."""
    return same(a, b) or abs(a * a - b * b) <= 1e-13 * largest * largest


def assert_follows(indicator, values, bars):
    """Bar by bar, from the first on."""
    bars = replace(bars, anchor=0)
    batch = indicator.compute(bars, values)
    state = indicator.begin(values)
    for i, bar in enumerate(bars.bars()):
        given_value = as_tuple(state.update(bar))
        assert len(given_value) == len(indicator.outputs)
        expected = [array[i] for array in batch]
        if "bars_per_year" in indicator.inputs:
            largest = np.nanmax(batch[0][: i + 1], initial=0.0)
            assert same_but_for_a_root(given_value[0], expected[0], largest), (i, given_value, expected)
        else:
            assert all(map(same, given_value, expected)), (indicator.name, i, given_value, expected)
        assert state.value is given_value or as_tuple(state.value) == given_value or math.isnan(given_value[0])


def test_all_but_the_volume_profile_stream():
    assert set(INDICATORS) - set(STREAMED) == {"volume_profile"}
    for name, indicator in STREAMED.items():
        assert indicator.stream is getattr(streaming, name)


@every
@pytest.mark.parametrize("seed", [21, 22])
def test_it_follows_the_batch_over_a_long_history(indicator, seed):
    assert_follows(indicator, indicator.defaults(), history(seed, 3000, silent=0.02, outside=0.02))


@every
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_it_follows_the_batch_of_any_bars(indicator, data):
    assert_follows(indicator, data.draw(parameters(indicator)), data.draw(histories()))


@every
def test_seeded_and_carried_on_it_is_the_batch(indicator):
    values = indicator.defaults()
    bars = replace(history(23, 700), anchor=0)
    state = indicator.begin(values).seed(part(bars, 0, 600))
    for bar in part(bars, 600, None).bars():
        value = state.update(bar)
    assert all(map(same, as_tuple(value), [array[-1] for array in indicator.compute(bars, values)]))


@every
@pytest.mark.parametrize("bars", [3, 300])
def test_a_copy_goes_its_own_way(indicator, bars):
    values = indicator.defaults()
    history_bars = history(24, bars + 20)
    state = indicator.begin(values).seed(part(history_bars, 0, bars))
    rest = list(part(history_bars, bars, None).bars())
    twin = state.copy()
    high, low = 500.0, 1.0
    for bar in rest:
        twin.update(bar._replace(open=100.0, high=high, low=low, close=200.0, volume=1e6))
    for bar in rest:
        value = state.update(bar)
    straight = indicator.begin(values).seed(history_bars)
    assert all(map(same, as_tuple(value), as_tuple(straight.value)))


@every
def test_a_bad_bar_is_refused_and_leaves_the_state(indicator):
    values = indicator.defaults()
    bars = history(25, 200)
    state = indicator.begin(values).seed(part(bars, 0, 150))
    good = list(part(bars, 150, None).bars())
    bad = [good[0]._replace(**{name: wrong}) for name in indicator.inputs if name in Bar._fields
           for wrong in (math.nan, math.inf, 1e200) if name not in ("session", "slot")]  # fmt: skip
    if "volume" in indicator.inputs:
        bad.append(good[0]._replace(volume=-1.0))
    if {"high", "low"} <= set(indicator.inputs):
        bad.append(good[0]._replace(high=good[0].low / 2))
    if "session" in indicator.inputs:
        bad.append(good[0]._replace(session=0))
    if "slot" in indicator.inputs:
        bad.append(good[0]._replace(session=good[0].session + 1, slot=-1))
    before = state.value
    for bar in bad:
        with pytest.raises(ValueError):
            state.update(bar)
        assert state.value == before or math.isnan(as_tuple(before)[0])
    for bar in good:
        state.update(bar)
    straight = indicator.begin(values).seed(bars)
    assert all(map(same, as_tuple(state.value), as_tuple(straight.value)))


@pytest.mark.parametrize("name", ["close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang"])
def test_volatilities_are_annualised_alike(name):
    indicator = INDICATORS[name]
    bars = replace(history(26, 100), bars_per_year=98_280.0)
    state = indicator.begin(indicator.defaults(), bars_per_year=98_280.0).seed(bars)
    assert same(state.value, indicator.compute(bars, indicator.defaults())[0][-1])


def test_what_a_function_refuses_its_stream_refuses():
    for wrong in (
        lambda: streaming.sma(1),
        lambda: streaming.sma(2.5),
        lambda: streaming.macd(26, 12, 9),
        lambda: streaming.psar(0.3, 0.2),
        lambda: streaming.ichimoku(26, 9, 52, 26),
        lambda: streaming.vwap(0.0),
        lambda: streaming.parkinson(20, 0.0),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_a_history_that_is_a_panel_does_not_seed():
    with pytest.raises(ValueError, match="shape"):
        streaming.sma(3).seed(history(27, 10, rows=2))
    with pytest.raises(ValueError, match="close"):
        streaming.sma(3).seed(replace(history(27, 10), close=None))


@every
def test_an_update_costs_no_more_after_a_long_history(indicator):
    """What it holds does not grow: ten times the bars leave a state of the same size."""

    def elements(value):
        if isinstance(value, dict):
            return sum(map(elements, value.values()))
        if isinstance(value, list | tuple | deque):
            return sum(map(elements, value))
        return elements(vars(value)) if type(value).__module__.startswith("ots_quant") else 1

    def size(bars):
        return elements(indicator.begin(indicator.defaults()).seed(history(28, bars)))

    assert size(20_000) <= size(2_000) + 32


def test_numpy_numbers_are_numbers():
    state = streaming.atr(2)
    for bar in history(29, 5).bars():
        value = state.update(Bar(*map(np.float64, bar[:5])))
    assert value > 0


@given(seed=st.integers(0, 2**32), period=st.integers(2, 30), multiplier=st.sampled_from([0.5, 1.0, 2.0, 3.0]))
@settings(max_examples=60, deadline=None)
def test_supertrend_falls_on_the_same_side_of_a_tie(seed, period, multiplier):
    """Prices on a coarse grid meet the bands exactly: bit by bit the same, or the side could differ for long."""
    bars = history(seed, 300, tick=2.0)
    line, direction = INDICATORS["supertrend"].compute(bars, {"period": period, "multiplier": multiplier})
    state = streaming.supertrend(period, multiplier)
    found = np.array([state.update(bar) for bar in bars.bars()])
    np.testing.assert_array_equal(found, np.column_stack((line, direction)))
