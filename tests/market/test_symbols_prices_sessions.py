"""Symbols, prices and sessions: what every service must mean alike."""

from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ots_common.times import to_nanoseconds
from ots_market.prices import dollars, from_dollars
from ots_market.sessions import xnys
from ots_market.symbols import canonical_symbol, option_symbols, parse_option_symbol


def test_an_option_symbol_names_its_contract():
    option = parse_option_symbol("GOOG  151224C00750500")
    assert (option.root, option.expiration, option.right, option.strike) == (
        "GOOG", date(2015, 12, 24), "C", 750_500_000_000,
    )  # fmt: skip
    assert canonical_symbol("goog151224c00750500") == "GOOG  151224C00750500"


def test_symbols_of_many_contracts_name_each_of_them():
    days = np.array(["2015-12-24", "2016-01-15", "2015-12-24"], "datetime64[D]")
    strikes = np.array([750_500_000_000, 5_000_000_000, 99_999_999_000_000])
    found = option_symbols("GOOG", days, np.array([1.0, -1.0, -1.0]), strikes)
    assert found.tolist() == ["GOOG151224C00750500", "GOOG160115P00005000", "GOOG151224P99999999"]
    for symbol, day, strike in zip(found.tolist(), days.tolist(), strikes.tolist(), strict=True):
        option = parse_option_symbol(canonical_symbol(symbol))
        assert (option.root, option.expiration, option.strike) == ("GOOG", day, strike)
    assert option_symbols("GOOG", days[:0], strikes[:0], strikes[:0]).tolist() == []


@pytest.mark.parametrize(
    "text", ["AAPL", "GOOG  151324C00750500", "GOOG  151224X00750500", "TOOLONG151224C00750500", ""]
)
def test_what_is_no_option_symbol(text):
    assert parse_option_symbol(text) is None


@given(st.integers(0, 10**7), st.integers(0, 10**9 - 1))
def test_a_price_shows_as_it_is(whole, fraction):
    price = whole * 10**9 + fraction
    shown = dollars(price)
    if whole < 10**5:  # 15 significant digits survive a float
        assert round(Decimal(repr(shown)) * 10**9) == price
    assert from_dollars(Decimal(price) / 10**9) == price


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e30", "0.0000000001", "abc"])
def test_an_amount_that_cannot_be_exact_is_refused(amount):
    with pytest.raises(ValueError):
        from_dollars(amount)


def session(day):
    sessions = xnys()
    index = int(np.searchsorted(sessions.dates, np.datetime64(day)))
    assert sessions.date_at(index) == date.fromisoformat(day)
    return sessions.opens[index], sessions.closes[index]


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        ("2015-12-24", "14:30", "18:00"),  # a half day
        ("2024-03-08", "14:30", "21:00"),  # before daylight saving
        ("2024-03-11", "13:30", "20:00"),  # after it
        ("2013-10-07", "13:30", "20:00"),
    ],
)
def test_a_sessions_hours(day, opens, closes):
    assert session(day) == (to_nanoseconds(f"{day}T{opens}:00Z"), to_nanoseconds(f"{day}T{closes}:00Z"))


@pytest.mark.parametrize("day", ["2024-07-04", "2024-03-09", "2012-10-29", "2001-09-12"])
def test_a_day_without_a_session(day):
    assert np.datetime64(day) not in xnys().dates


def test_times_find_their_session():
    sessions = xnys()
    opened, closed = session("2015-12-24")
    found = sessions.index_of(np.array([opened - 1, opened, closed - 1, closed]))
    assert (found >= 0).tolist() == [False, True, True, False]
    assert sessions.between(opened, closed).stop - sessions.between(opened, closed).start == 1
