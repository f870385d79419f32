"""What the registry promises of each indicator: lookback, memory, no look ahead, panels, and a refusal of bad bars."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indicator_bars import histories, history, parameters, part, row
from ots_quant import indicators
from ots_quant.registry import INDICATORS

every = pytest.mark.parametrize("indicator", INDICATORS.values(), ids=INDICATORS)
BOUNDED = {name: indicator for name, indicator in INDICATORS.items() if indicator.memory(indicator.defaults())}
PRICES = ("open", "high", "low", "close", "volume")


def test_every_function_is_registered_by_its_name():
    assert set(INDICATORS) == set(indicators.__all__) - {"streaming"}
    for name, indicator in INDICATORS.items():
        assert indicator.function is getattr(indicators, name)


@every
def test_an_entry_describes_its_function(indicator):
    names = [*inspect.signature(indicator.function).parameters]
    assert sorted(names) == sorted([*indicator.inputs, *(p.name for p in indicator.parameters)])
    indicator.check(indicator.defaults())
    assert indicator.meaning
    assert indicator.source
    assert indicator.function.__doc__
    found = indicator.function(
        **{name: getattr(history(1, 100), name) for name in indicator.inputs}, **indicator.defaults()
    )
    fields = getattr(found, "_fields", (indicator.name,))
    assert indicator.outputs == fields


@every
def test_lookback_is_what_it_says(indicator):
    values = indicator.defaults()
    lookback = indicator.lookback(values)
    # whole sessions of five bars, each traded, from the first bar on
    bars = history(2, 400)
    bars = replace(bars, session=np.arange(400) // 5, slot=np.arange(400) % 5, anchor=0)
    first = lookback.in_bars(5)
    arrays = indicator.compute(bars, values)
    assert len(arrays) == len(indicator.outputs)
    missing = np.isnan(np.stack(arrays)).any(axis=0)
    assert missing[:first].all()
    assert not missing[first:].any()


@every
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_lookback_holds_for_all_parameters(indicator, data):
    values = data.draw(parameters(indicator))
    bars = data.draw(st.integers(1, 200))
    whole = replace(history(3, bars), session=np.arange(bars), slot=np.zeros(bars, np.int64), anchor=0)
    if indicator.name == "opening_range":
        values = {"slots": 1}
    first = indicator.lookback(values).in_bars(1)
    missing = np.isnan(np.stack(indicator.compute(whole, values))).any(axis=0)
    np.testing.assert_array_equal(missing, np.arange(bars) < first)


@pytest.mark.parametrize("indicator", BOUNDED.values(), ids=BOUNDED)
@pytest.mark.parametrize("seed", [4, 5])
def test_memory_is_enough_for_the_last_value(indicator, seed):
    values = indicator.defaults()
    memory = indicator.memory(values)
    bars = history(seed, 10_000)
    first = len(bars.close) - memory.in_bars(0)
    if memory.sessions:
        sessions = np.unique(bars.session)
        first = int(np.flatnonzero(bars.session >= sessions[-memory.sessions])[0])
    whole = indicator.compute(bars, values)
    recent = indicator.compute(part(bars, first, None), values)
    for a, b in zip(whole, recent, strict=True):
        # a volume at a slot of which no past session had a bar is not known either way
        assert b[-1] == pytest.approx(a[-1], rel=1e-9, abs=1e-9, nan_ok=True)
    assert 0 <= first < len(bars.close) - 1


@pytest.mark.parametrize("indicator", BOUNDED.values(), ids=BOUNDED)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_memory_is_enough_for_all_parameters(indicator, data):
    values = data.draw(parameters(indicator))
    memory = indicator.memory(values)
    # twice what it remembers, in sessions of one bar
    count = 2 * memory.in_bars(1) + 10
    bars = replace(
        history(data.draw(st.integers(0, 2**32)), count), session=np.arange(count), slot=np.zeros(count, np.int64)
    )
    whole = indicator.compute(bars, values)
    recent = indicator.compute(part(bars, -memory.in_bars(1), None, anchor=0), values)
    for a, b in zip(whole, recent, strict=True):
        assert b[-1] == pytest.approx(a[-1], rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    "indicator", [INDICATORS[name] for name in INDICATORS if name not in BOUNDED], ids=lambda i: i.name
)
def test_without_a_bound_the_past_does_matter(indicator):
    """Of 20 histories at least one ends otherwise than its newest 30 bars alone."""
    differs = 0
    for seed in range(20):
        bars = history(seed, 4000)
        a = indicator.compute(bars, indicator.defaults())
        b = indicator.compute(part(bars, -30, None), indicator.defaults())
        differs += any(abs(x[-1] - y[-1]) > 1e-9 for x, y in zip(a, b, strict=True))
    assert differs > 0


@every
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_appending_bars_changes_no_earlier_value(indicator, data):
    values = data.draw(parameters(indicator))
    bars = data.draw(histories(least=3))
    cut = data.draw(st.integers(3, len(bars.close)))
    whole = indicator.compute(bars, values)
    prefix = indicator.compute(part(bars, 0, cut), values)
    for a, b in zip(whole, prefix, strict=True):
        np.testing.assert_array_equal(a[:cut], b)


@every
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_panel_is_its_rows(indicator, data):
    values = data.draw(parameters(indicator))
    panel = data.draw(histories(rows=3))
    together = indicator.compute(panel, values)
    for index in range(3):
        alone = indicator.compute(row(panel, index), values)
        for a, b in zip(together, alone, strict=True):
            assert a.shape == panel.close.shape
            np.testing.assert_array_equal(a[index], b)


@every
def test_a_row_may_begin_later(indicator):
    values = indicator.defaults()
    panel = replace(history(6, 200, rows=3), anchor=0)
    session = np.broadcast_to(panel.session, (3, 200))
    late = {name: getattr(panel, name).copy() for name in PRICES}
    for values_of in late.values():
        values_of[1, :37] = np.nan
        values_of[2, :] = np.nan
    arrays = indicator.compute(replace(panel, **late, session=session), values)
    begun = part(row(panel, 1), 37, None)
    for a, b in zip(arrays, indicator.compute(begun, values), strict=True):
        assert np.isnan(a[1, :37]).all()
        np.testing.assert_array_equal(a[1, 37:], b)
        assert np.isnan(a[2]).all()


@every
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e200])
def test_a_hole_inside_is_refused_by_name(indicator, wrong):
    bars = history(7, 100)
    for name in set(indicator.inputs) & set(PRICES):
        for at in (1, 50, 99):
            holed = getattr(bars, name).copy()
            holed[at] = wrong
            with pytest.raises(ValueError, match=f"^{name} has a"):
                indicator.compute(replace(bars, **{name: holed}), indicator.defaults())


@every
def test_shapes_and_types_that_do_not_fit_are_refused_by_name(indicator):
    bars = history(8, 60)
    for name in set(indicator.inputs) & set(PRICES):
        good = getattr(bars, name)
        wrong = {"text": good.astype(str), "complex": good.astype(complex), "scalar": 1.0, "ragged": [[1.0], [1.0, 2]]}
        if len(set(indicator.inputs) & (set(PRICES) | {"session"})) > 1:
            wrong["short"] = good[:-1]
        for kind, values in wrong.items():
            with pytest.raises(ValueError, match="must be|must have|has shape"):
                indicator.compute(replace(bars, **{name: values}), indicator.defaults())
            assert kind


@every
def test_memory_layout_does_not_matter_and_inputs_stay(indicator):
    values = indicator.defaults()
    bars = history(9, 120, rows=2)
    expected = indicator.compute(bars, values)
    spread = {}
    for name in PRICES:
        column_major = np.asfortranarray(getattr(bars, name))
        column_major.flags.writeable = False
        spread[name] = column_major
    for a, b in zip(expected, indicator.compute(replace(bars, **spread), values), strict=True):
        np.testing.assert_array_equal(a, b)
    backwards = {name: getattr(bars, name)[:, ::-1].copy()[:, ::-1] for name in PRICES}
    for a, b in zip(expected, indicator.compute(replace(bars, **backwards), values), strict=True):
        np.testing.assert_array_equal(a, b)


@every
@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0), (1,), (2, 1), (2,)])
def test_few_or_no_bars_give_no_value_and_no_error(indicator, shape):
    bars = replace(history(10, shape[-1]), **{name: np.full(shape, 7.0) for name in PRICES})
    arrays = indicator.compute(bars, indicator.defaults())
    for array in arrays:
        assert array.shape == shape
        assert array.dtype == np.float64


@every
@given(data=st.data())
@settings(max_examples=8, deadline=None)
@pytest.mark.filterwarnings("error")
def test_extreme_numbers_give_no_warning(indicator, data):
    bars = data.draw(histories(most=40))
    scale = data.draw(st.sampled_from([1e-9, 1.0, 1e12]))
    scaled = {name: getattr(bars, name) * scale for name in ("open", "high", "low", "close")}
    for array in indicator.compute(replace(bars, **scaled), data.draw(parameters(indicator))):
        assert not np.isinf(array).any()


@every
def test_parameters_out_of_bounds_are_refused_by_registry_and_function(indicator):
    bars = history(11, 60)
    for parameter in indicator.parameters:
        wrongs = [parameter.least - 1, np.nan, np.inf] if not parameter.whole else [parameter.least - 1, 10**9]
        for wrong in wrongs:
            values = {**indicator.defaults(), parameter.name: wrong}
            with pytest.raises(ValueError, match=parameter.name):
                indicator.check(values)
            with pytest.raises(ValueError):
                indicator.function(**{name: getattr(bars, name) for name in indicator.inputs}, **values)


def test_rules_between_parameters():
    for name, values in (
        ("macd", {"fast": 26, "slow": 12, "signal": 9}),
        ("psar", {"acceleration": 0.3, "maximum": 0.2}),
        ("ichimoku", {"conversion": 26, "base": 26, "span": 52, "displacement": 26}),
        ("ichimoku", {"conversion": 9, "base": 52, "span": 52, "displacement": 26}),
    ):
        with pytest.raises(ValueError, match="below|above"):
            INDICATORS[name].check(values)
        with pytest.raises(ValueError, match="below|above"):
            INDICATORS[name].compute(history(12, 100), values)


def test_an_input_that_the_caller_does_not_know_is_named():
    bars = replace(history(13, 30), session=None)
    with pytest.raises(ValueError, match="session is needed for vwap"):
        INDICATORS["vwap"].compute(bars, {"deviations": 2.0})
