"""Derivatives are those of the price; implied volatilities give the price back, and say why where there is none."""

from __future__ import annotations

import concurrent.futures

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import quantlib_american
from ots_quant import american, european
from ots_quant.american import CashDividends
from ots_quant.european import NoVolatility
from ots_quant.greeks import Greeks

CONTRACTS = [
    (-1, 100.0, 100.0, 0.5, 0.05, 0.02, 0.3),
    (-1, 90.0, 100.0, 1.0, 0.03, 0.06, 0.25),
    (-1, 84.0, 100.0, 0.25, 0.05, 0.0, 0.3),
    (1, 100.0, 95.0, 0.75, 0.03, 0.06, 0.35),
    (1, 110.0, 95.0, 0.2, 0.02, 0.08, 0.4),
    (-1, 110.0, 100.0, 0.05, 0.05, 0.01, 0.2),
]


def richardson(function, at, width):
    """The derivative from central differences over two widths."""
    near = (function(at + width) - function(at - width)) / (2 * width)
    far = (function(at + 2 * width) - function(at - 2 * width)) / (4 * width)
    return near + (near - far) / 3


@pytest.mark.parametrize("contract", CONTRACTS)
def test_greeks_are_differences_of_prices(contract):
    right, spot, strike, years, rate, dividend_yield, volatility = contract
    mine = american.greeks(*contract)

    def price(spot=spot, years=years, rate=rate, volatility=volatility):
        return float(american.price(right, spot, strike, years, rate, dividend_yield, volatility))

    def delta(spot=spot, years=years, volatility=volatility):
        return float(american.greeks(right, spot, strike, years, rate, dividend_yield, volatility).delta)

    assert mine.price == price()
    assert mine.delta == pytest.approx(richardson(lambda x: price(spot=x), spot, 0.002 * spot), abs=3e-5)
    assert mine.gamma == pytest.approx(richardson(lambda x: delta(spot=x), spot, 0.002 * spot), rel=2e-3)
    assert mine.theta == pytest.approx(-richardson(lambda x: price(years=x), years, 0.004 * years), rel=2e-3, abs=2e-3)
    assert mine.charm == pytest.approx(-richardson(lambda x: delta(years=x), years, 0.004 * years), rel=5e-3, abs=2e-3)
    assert mine.vega == pytest.approx(richardson(lambda x: price(volatility=x), volatility, 0.004), rel=1e-4)
    assert mine.vanna == pytest.approx(richardson(lambda x: delta(volatility=x), volatility, 0.004), rel=5e-3, abs=1e-3)
    assert mine.rho == pytest.approx(richardson(lambda x: price(rate=x), rate, 2e-3), rel=2e-3, abs=2e-3)


def test_greeks_agree_with_quantlibs_finite_differences():
    process = quantlib_american.process(100.0, 0.05, 0.02, 0.3)
    option = quantlib_american.contract(-1, 105.0, 182)
    option.setPricingEngine(ql.FdBlackScholesVanillaEngine(process, 1000, 2000))
    mine = american.greeks(-1, 100.0, 105.0, 182 / 365, 0.05, 0.02, 0.3)
    assert mine.delta == pytest.approx(option.delta(), abs=1e-4)
    assert mine.gamma == pytest.approx(option.gamma(), abs=1e-5)
    assert mine.theta == pytest.approx(option.theta(), abs=0.02)  # QuantLib takes it from one step in time


def test_a_put_to_be_exercised_moves_with_its_intrinsic_value():
    mine = american.greeks(-1, 60.0, 100.0, 0.5, 0.05, 0.0, 0.2)
    assert mine.price == 40.0
    assert mine.delta == -1.0
    for name in ("gamma", "theta", "vega", "rho", "vanna", "charm", "vomma"):
        assert getattr(mine, name) == 0.0, name


def test_delta_and_gamma_meet_the_boundary_as_they_must():
    """Smooth pasting: delta goes to -1; gamma goes to 2 (r K - q B) / (sigma B)^2, by the equation that prices obey."""
    spots = np.linspace(60.0, 100.0, 4001)
    mine = american.greeks(-1, spots, 100.0, 0.5, 0.05, 0.02, 0.3)
    first = int(np.argmax(mine.gamma > 0.0))
    boundary = spots[first]
    assert mine.delta[first] == pytest.approx(-1.0, abs=2e-3)
    assert mine.gamma[first] == pytest.approx(2 * (0.05 * 100 - 0.02 * boundary) / (0.3 * boundary) ** 2, rel=2e-3)
    assert (np.diff(mine.delta) >= -1e-6).all()


def test_greeks_with_cash_dividends():
    cash = CashDividends([0.15, 0.4], [1.0, 1.0])
    for right, strike in ((1, 95.0), (-1, 105.0)):
        arguments = (right, 100.0, strike, 0.5, 0.05, 0.0, 0.3)
        mine = american.greeks(*arguments, dividends=cash)
        assert mine.price == american.price(*arguments, dividends=cash)
        bump = [float(american.price(right, 100.0 + d, *arguments[2:], dividends=cash)) for d in (-2.0, 0.0, 2.0)]
        assert mine.delta == pytest.approx((bump[2] - bump[0]) / 4.0, abs=2e-3)
        assert mine.gamma == pytest.approx((bump[2] - 2 * bump[1] + bump[0]) / 4.0, abs=1e-3)
        around = []
        for step in (-0.02, 0.02):
            moved = CashDividends([0.15 - step, 0.4 - step], [1.0, 1.0])
            around.append(float(american.price(right, 100.0, strike, 0.5 - step, 0.05, 0.0, 0.3, dividends=moved)))
        assert mine.theta == pytest.approx((around[1] - around[0]) / 0.04, abs=0.15)
        volatility = american.implied_volatility(bump[1], right, 100.0, strike, 0.5, 0.05, 0.0, dividends=cash)
        assert volatility == pytest.approx(0.3, abs=1e-6)


@given(
    right=st.sampled_from([1.0, -1.0]),
    m=st.floats(-0.6, 0.6),
    years=st.floats(1 / 365, 3.0),
    rate=st.sampled_from([0.0, 0.003, 0.02, 0.05, 0.1]),
    dividend_yield=st.sampled_from([0.0, 0.003, 0.02, 0.05, 0.1]),
    volatility=st.floats(0.03, 4.0),
)
@settings(max_examples=400, deadline=None)
def test_implied_volatility_gives_the_volatility_back(right, m, years, rate, dividend_yield, volatility):
    contract = (right, 100.0, 100.0 * np.exp(m), years, rate, dividend_yield)
    mine = american.greeks(*contract, volatility)
    assume(mine.vega > 1.0)
    assert american.implied_volatility(mine.price, *contract) == pytest.approx(volatility, abs=1e-6)


def test_implied_volatility_of_quantlibs_prices():
    chance = np.random.default_rng(23)
    rows = []
    for _ in range(80):
        volatility, days = float(chance.uniform(0.1, 1.2)), int(chance.integers(5, 700))
        strike = 100.0 * float(np.exp(chance.normal(0, 0.8) * volatility * np.sqrt(days / 365)))
        rows.append((int(chance.choice([1, -1])), 100.0, strike, days, 0.043, 0.012, volatility))
    columns = np.array(rows).T
    peer = np.array([quantlib_american.price(*row) for row in rows])
    right, spot, strike, days, rate, dividend_yield, volatility = columns
    contract = (right, spot, strike, days / 365, rate, dividend_yield)
    found = american.implied_volatility(peer, *contract)
    well = american.greeks(*contract, volatility).vega > 1.0
    assert well.sum() > 60
    assert np.abs(found - volatility)[well].max() < 1e-6


def test_why_there_is_no_volatility():
    price = [5.0, 4.99, 0.0, -1.0, 100.0, 200.0, 5.0, np.nan, 5.1]
    years = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    reasons = american.why_no_volatility(price, -1, 95.0, 100.0, years, 0.05, 0.02)
    below, above = NoVolatility.BELOW_INTRINSIC, NoVolatility.ABOVE_BOUND
    expected = [below, below, below, below, above, above, NoVolatility.EXPIRED, NoVolatility.BAD_INPUT, 0]
    assert reasons.tolist() == expected
    found = american.implied_volatility(price, -1, 95.0, 100.0, years, 0.05, 0.02)
    np.testing.assert_array_equal(np.isnan(found), reasons != NoVolatility.HAS_ONE)


def test_a_european_contract_has_the_european_bounds_and_volatility():
    arguments = (1, 100.0, 90.0, 0.5, 0.05, 0.0)
    for price in (12.0, 12.2, 12.3, 15.0, 99.9, 100.0):
        np.testing.assert_array_equal(
            american.implied_volatility(price, *arguments), european.implied_volatility(price, *arguments)
        )
        assert american.why_no_volatility(price, *arguments) == european.why_no_volatility(price, *arguments)


BAD = {
    "spot": [np.nan, 0.0, -1.0, np.inf],
    "strike": [np.nan, 0.0, -1.0, np.inf],
    "years": [np.nan, -0.1, np.inf],
    "rate": [np.nan, np.inf, 1e6],
    "dividend_yield": [np.nan, -np.inf, -1e6],
    "volatility": [np.nan, -0.2, np.inf, 1e4],
}
GOOD = {
    "right": -1, "spot": 100.0, "strike": 100.0, "years": 0.5, "rate": 0.05, "dividend_yield": 0.02, "volatility": 0.3,
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_number_spoils_its_own_element_only(name, value):
    arguments = {**GOOD, name: np.array([GOOD[name], value, GOOD[name]])}
    prices = american.price(**arguments)
    assert np.isnan(prices).tolist() == [False, True, False]
    greeks = american.greeks(**arguments)
    assert all(np.isnan(column).tolist() == [False, True, False] for column in greeks)
    if name != "volatility":
        del arguments["volatility"]
        assert np.isnan(american.implied_volatility(8.0, **arguments)).tolist() == [False, True, False]
        codes = american.why_no_volatility(8.0, **arguments)
        assert codes.tolist() == [0, NoVolatility.BAD_INPUT, 0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("right", 0),
        ("right", "C"),
        ("spot", "100"),
        ("strike", None),
        ("years", [0.1, 0.2, 0.3]),
        ("rate", 1j),
        ("volatility", [[0.1], [0.2, 0.3]]),
        ("dividend_yield", np.array(["2024-01-01"], "datetime64[D]")),
    ],
)
def test_an_argument_of_no_use_is_named(name, value):
    arguments = {**GOOD, "spot": [100.0, 101.0], name: value}
    with pytest.raises(ValueError, match=f"^{name}"):
        american.price(**arguments)


@pytest.mark.parametrize(
    "dividends",
    [
        CashDividends([0.1], [1.0, 2.0]),
        CashDividends([0.1], [-1.0]),
        CashDividends([np.nan], [1.0]),
        CashDividends(0.1, 1.0),
    ],
)
def test_dividends_of_no_use_are_refused(dividends):
    with pytest.raises(ValueError, match="^dividends"):
        american.price(**GOOD, dividends=dividends)


def test_shapes_scalars_and_outputs():
    assert american.price(**GOOD).shape == ()
    strikes = np.linspace(80.0, 120.0, 5)
    grid = american.price(**{**GOOD, "strike": strikes[:, None], "years": np.array([0.1, 0.5, 1.0])})
    assert grid.shape == (5, 3)
    assert grid[2, 1] == american.price(**GOOD)
    assert american.price(**{**GOOD, "strike": np.empty((0, 3))}).shape == (0, 3)
    out = Greeks.empty((5, 3))
    result = american.greeks(**{**GOOD, "strike": strikes[:, None], "years": np.array([0.1, 0.5, 1.0])}, out=out)
    assert result is out
    np.testing.assert_array_equal(out.price, grid)
    read_only = strikes.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(
        american.price(**{**GOOD, "strike": read_only[::2]}), american.price(**GOOD | {"strike": strikes[::2].copy()})
    )
    with pytest.raises(ValueError, match="^out"):
        american.price(**GOOD, out=np.empty(3))


def test_threads_get_the_same_answers():
    strikes = np.linspace(60.0, 150.0, 400)
    expected = american.price(**{**GOOD, "strike": strikes})
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: american.price(**{**GOOD, "strike": strikes}), range(40)):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("right", [1, -1])
@pytest.mark.parametrize("volatility", [1e-9, 1e-3, 0.2, 5.0, 900.0])
@pytest.mark.parametrize("years", [1e-12, 0.5, 100.0])
def test_the_absurd_overflows_nowhere(right, volatility, years):
    scales = np.array([1e-300, 1e-150, 1e-10, 1.0, 100.0, 1e10, 1e150, 1e300])
    spot, strike = np.meshgrid(scales, scales)
    for rate, dividend_yield in ((0.05, 0.02), (0.0, 0.03), (-0.02, -0.05), (0.05, -0.02), (9.0, 9.0), (-0.3, 0.1)):
        prices = american.price(right, spot, strike, years, rate, dividend_yield, volatility)
        known = ~np.isnan(prices)
        # the domain ends at |rate * years| = 300, and the tree of two boundaries where its probabilities are 0 or 1
        two_boundaries = dividend_yield < rate < 0.0
        assert known.sum() >= 6 or rate * years > 300.0 or (two_boundaries and not 0.01 <= volatility <= 1.0)
        assert np.isfinite(prices[known]).all()
        assert (prices[known] >= np.maximum(right * (spot - strike), 0.0)[known]).all()
        greeks = american.greeks(right, spot, strike, years, rate, dividend_yield, volatility)
        assert not [name for name, column in greeks._asdict().items() if np.isinf(column).any()]
        american.implied_volatility(prices, right, spot, strike, years, rate, dividend_yield)
