"""Indicators keep TA-Lib's conventions and refuse what TA-Lib would get wrong silently."""

import numpy as np
import pytest
import talib

from ots_quant import indicators
from ots_quant.registry import INDICATORS

CHANCE = np.random.default_rng(11)
CLOSE = 100 * np.exp(np.cumsum(CHANCE.normal(0, 0.01, 4000)))
INPUTS = {"open": CLOSE, "close": CLOSE, "high": CLOSE * 1.01, "low": CLOSE * 0.99, "volume": CLOSE}


def defaults(indicator):
    return {parameter.name: parameter.default for parameter in indicator.parameters}


@pytest.mark.parametrize("name", INDICATORS)
def test_lookback_is_what_it_says(name):
    indicator = INDICATORS[name]
    arrays = indicator.compute(INPUTS, defaults(indicator))
    assert len(arrays) == len(indicator.outputs)
    for array in arrays:
        assert np.isnan(array).sum() == indicator.lookback(defaults(indicator))


@pytest.mark.parametrize("name", INDICATORS)
def test_memory_is_enough_for_the_last_value(name):
    indicator = INDICATORS[name]
    last = indicator.memory(defaults(indicator))
    whole = indicator.compute(INPUTS, defaults(indicator))
    part = indicator.compute({key: values[-last:] for key, values in INPUTS.items()}, defaults(indicator))
    for a, b in zip(whole, part, strict=True):
        assert b[-1] == pytest.approx(a[-1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", INDICATORS)
def test_appending_bars_changes_no_earlier_value(name):
    indicator = INDICATORS[name]
    whole = indicator.compute(INPUTS, defaults(indicator))
    prefix = indicator.compute({key: values[:1000] for key, values in INPUTS.items()}, defaults(indicator))
    for a, b in zip(whole, prefix, strict=True):
        np.testing.assert_array_equal(a[:1000], b)


def test_they_are_talibs():
    np.testing.assert_array_equal(indicators.rsi(CLOSE, 14), talib.RSI(CLOSE, 14))
    np.testing.assert_array_equal(
        indicators.atr(INPUTS["high"], INPUTS["low"], CLOSE, 14), talib.ATR(INPUTS["high"], INPUTS["low"], CLOSE, 14)
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_hole_inside_is_refused(wrong):
    holed = CLOSE.copy()
    holed[50] = wrong
    for call in (
        lambda: indicators.rsi(holed, 14),
        lambda: indicators.sma(holed, 14),
        lambda: indicators.atr(CLOSE, CLOSE, holed, 14),
    ):
        with pytest.raises(ValueError, match="NaN"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: indicators.sma(CLOSE, 1),
        lambda: indicators.sma(CLOSE, 10**9),
        lambda: indicators.sma(100.0, 5),
        lambda: indicators.macd(CLOSE, 26, 12, 9),
        lambda: indicators.bollinger(CLOSE, 20, 0),
        lambda: indicators.atr(CLOSE[:5], CLOSE, CLOSE, 14),
    ],
)
def test_wrong_arguments_are_named(call):
    with pytest.raises(ValueError):
        call()


def test_no_bars_no_values():
    assert len(indicators.sma([], 5)) == 0
