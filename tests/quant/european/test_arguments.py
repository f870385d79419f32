"""Bad elements are NaN, bad arguments are named, limits are limits, and nothing warns."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ots_quant import european
from ots_quant.european import NoVolatility
from ots_quant.greeks import Greeks

GOOD = {
    "right": 1.0,
    "spot": 100.0,
    "strike": 105.0,
    "years": 0.5,
    "rate": 0.03,
    "dividend_yield": 0.01,
    "volatility": 0.2,
}
QUOTE = {"price": 4.0, **{name: value for name, value in GOOD.items() if name != "volatility"}}
NAN, INF = np.nan, np.inf
BAD_NUMBERS = [
    ("spot", [NAN, INF, -INF, -1.0, 0.0, 1e-310, 1e300]),
    ("strike", [NAN, INF, -INF, -1.0, 0.0, 1e-310, 1e300]),
    ("years", [NAN, INF, -INF, -1e-9, 1e5]),
    ("rate", [NAN, INF, -INF, 1e9]),
    ("dividend_yield", [NAN, INF, -INF, -1e9]),
]


@pytest.fixture(autouse=True)
def _no_warning_leaks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def arrays_of(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(("name", "values"), [*BAD_NUMBERS, ("volatility", [NAN, INF, -INF, -1e-9, 1e5])])
@pytest.mark.parametrize("function", [european.price, european.greeks])
def test_a_bad_number_is_nan_and_its_neighbours_are_not(function, name, values):
    good = function(**GOOD)
    result = function(**{**GOOD, name: [GOOD[name], *values, GOOD[name]]})
    for array, alone in zip(arrays_of(result), arrays_of(good), strict=True):
        assert np.isnan(array[1:-1]).all()
        assert array[0] == array[-1] == alone


@pytest.mark.parametrize(("name", "values"), [*BAD_NUMBERS, ("price", [NAN, INF, -INF])])
def test_a_bad_number_has_no_volatility(name, values):
    quote = {**QUOTE, name: [QUOTE[name], *values]}
    assert np.isnan(european.implied_volatility(**quote)[1:]).all()
    codes = european.why_no_volatility(**quote)
    assert codes[0] == NoVolatility.HAS_ONE
    assert (codes[1:] == NoVolatility.BAD_INPUT).all()


@pytest.mark.parametrize(
    ("price", "years", "code"),
    [
        (-1.0, 0.5, NoVolatility.BELOW_INTRINSIC),
        (0.0, 0.5, NoVolatility.BELOW_INTRINSIC),
        (100.0, 0.5, NoVolatility.ABOVE_BOUND),
        (4.0, 0.0, NoVolatility.EXPIRED),
        (0.0, 0.0, NoVolatility.EXPIRED),
        (4.0, -0.5, NoVolatility.BAD_INPUT),
    ],
)
def test_the_code_says_why_there_is_no_volatility(price, years, code):
    quote = {**QUOTE, "price": price, "years": years, "dividend_yield": 0.0}
    assert np.isnan(european.implied_volatility(**quote))
    assert european.why_no_volatility(**quote) == code


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("right", 0.0),
        ("right", [1.0, 2.0, 1.0]),
        ("right", NAN),
        ("right", "call"),
        ("spot", "100"),
        ("strike", [None]),
        ("strike", [[1.0], [1.0, 2.0]]),
        ("years", 1j),
        ("rate", [True]),
        ("dividend_yield", {}),
        ("dividend_yield", np.ones((2, 3, 4))),
    ],
)
@pytest.mark.parametrize("function", [european.price, european.greeks, european.implied_volatility])
def test_a_bad_argument_is_named(function, name, value):
    arguments = {**(QUOTE if function is european.implied_volatility else GOOD), "spot": np.full((2, 3, 3), 100.0)}
    with pytest.raises(ValueError, match=f"^{name} "):
        function(**{**arguments, name: value})


@pytest.mark.parametrize(
    "out",
    [np.empty(3), np.empty(4, np.float32), np.empty((4, 1)), np.empty(8)[::2], [0.0] * 4, np.broadcast_to(0.0, 4)],
)
def test_an_out_that_cannot_be_filled_is_named(out):
    with pytest.raises(ValueError, match="^out "):
        european.price(**{**GOOD, "strike": np.full(4, 100.0)}, out=out)
    with pytest.raises(ValueError, match=r"^out\.vanna "):
        european.greeks(**{**GOOD, "strike": np.full(4, 100.0)}, out=Greeks.empty(4)._replace(vanna=out))
    with pytest.raises(ValueError, match="^out "):
        european.greeks(**{**GOOD, "strike": np.full(4, 100.0)}, out=out)


def test_out_is_filled_and_given_back():
    strikes = np.linspace(80.0, 120.0, 12).reshape(3, 4)
    out, prices = Greeks.empty((3, 4)), np.empty((3, 4))
    found = european.greeks(**{**GOOD, "strike": strikes}, out=out)
    assert all(filled is given for filled, given in zip(found, out, strict=True))
    assert european.price(**{**GOOD, "strike": strikes}, out=prices) is prices
    np.testing.assert_array_equal(prices, european.price(**{**GOOD, "strike": strikes}))
    np.testing.assert_allclose(out.price, prices, rtol=1e-13)
    volatility = np.empty((3, 4))
    quote = {**QUOTE, "strike": strikes, "price": prices}
    assert european.implied_volatility(**quote, out=volatility) is volatility
    np.testing.assert_allclose(volatility, 0.2, rtol=1e-12)


def test_shapes_and_kinds_of_arrays_mix():
    strikes = np.array([[90, 100, 110]], np.int32)
    spots = np.linspace(99.0, 101.0, 8, dtype=np.float32)[::2, None]
    spots.flags.writeable = False
    table = european.greeks(**{**GOOD, "strike": strikes, "spot": spots, "right": np.array(-1, np.int8)})
    for i in range(4):
        for j in range(3):
            cell = european.greeks(**{**GOOD, "strike": strikes[0, j], "spot": float(spots[i, 0]), "right": -1})
            for array, alone in zip(table, cell, strict=True):
                assert array.shape == (4, 3)
                assert alone.shape == ()
                assert array[i, j] == pytest.approx(float(alone), rel=1e-13)
    assert european.price(**{**GOOD, "strike": []}).shape == (0,)
    assert european.implied_volatility(**{**QUOTE, "strike": np.empty((0, 3))}).shape == (0, 3)
    assert european.why_no_volatility(**{**QUOTE, "strike": []}).shape == (0,)
    masked = np.ma.MaskedArray([100.0, 100.0], [False, True])
    assert np.isnan(european.price(**{**GOOD, "strike": masked})).tolist() == [False, True]


def test_the_arguments_are_left_as_they_were():
    given = {name: np.full(5, value) for name, value in GOOD.items()}
    kept = {name: array.copy() for name, array in given.items()}
    european.greeks(**given)
    european.price(**given)
    for name, array in given.items():
        np.testing.assert_array_equal(array, kept[name])


@pytest.mark.parametrize(("years", "volatility"), [(0.0, 0.2), (0.5, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("right", [1.0, -1.0])
@pytest.mark.parametrize("strike", [90.0, 110.0])
def test_zero_time_and_zero_volatility_are_limits(years, volatility, right, strike):
    rate, dividend_yield = 0.03, 0.01
    at = european.greeks(right, 100.0, strike, years, rate, dividend_yield, volatility)
    near = european.greeks(right, 100.0, strike, max(years, 1e-9), rate, dividend_yield, max(volatility, 1e-6))
    intrinsic = max(right * (100.0 * np.exp(-dividend_yield * years) - strike * np.exp(-rate * years)), 0.0)
    assert at.price == pytest.approx(intrinsic, abs=1e-13)
    for limit, value in zip(at, near, strict=True):
        assert limit == pytest.approx(float(value), rel=1e-6, abs=1e-6)


def test_at_the_kink_only_what_exists_is_a_number():
    expired = european.greeks(1, 100.0, 100.0, 0.0, 0.0, 0.0, 0.2)
    still = european.greeks(-1, 100.0, 100.0, 1.0, 0.02, 0.02, 0.0)
    assert {name for name, value in expired._asdict().items() if not np.isnan(value)} == {"price", "vega", "rho"}
    assert {name for name, value in still._asdict().items() if not np.isnan(value)} == {"price"}
    assert (expired.price, expired.vega, expired.rho, still.price) == (0.0, 0.0, 0.0, 0.0)


def test_extremes_do_not_overflow():
    right = [1.0, -1.0]
    found = european.greeks(right, 100.0, [[50.0], [200.0]], 100.0, [[[1.0]], [[-1.0]]], 0.5, 10.0)
    assert all(np.isfinite(array).all() for array in found)
    large = european.greeks(right, 1e150, 1e-150, 1.0, 0.0, 0.0, 0.2)
    assert np.isfinite(large.price).all()
