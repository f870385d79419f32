"""What a position costs at the executable side, and builders that refuse what they are not for."""

from __future__ import annotations

import numpy as np
import pytest

from ots_quant.strategies import (
    CALL,
    PUT,
    Leg,
    Position,
    butterfly,
    calendar,
    collar,
    condor,
    covered_call,
    custom,
    entry,
    iron_condor,
    payoff,
    protective_put,
    straddle,
    strangle,
    vertical,
)


def call(strike, years=0.25, bid=1.0, ask=1.2):
    return Leg(CALL, strike, years, bid, ask)


def put(strike, years=0.25, bid=1.0, ask=1.2):
    return Leg(PUT, strike, years, bid, ask)


STOCK = Leg.stock(99.9, 100.1)


def test_entry_buys_at_the_ask_and_sells_at_the_bid():
    spread = vertical(call(100.0, bid=3.0, ask=3.2), call(110.0, bid=1.0, ask=1.1))
    bought = entry(spread, fee_per_contract=0.65)
    assert bought.cost == pytest.approx((3.2 - 1.0) * 100 + 1.30)
    assert bought.mid == pytest.approx((3.1 - 1.05) * 100)
    assert bought.half_spreads == pytest.approx((0.1 + 0.05) * 100)
    assert bought.fees == 1.30
    assert bought.problems == ()
    sold = entry(vertical(call(100.0, bid=3.0, ask=3.2), call(110.0, bid=1.0, ask=1.1), -2))
    assert sold.cost == pytest.approx(2 * (1.1 - 3.0) * 100)
    assert bought.cost / 2 + sold.cost / 4 > 0  # in and out again is never free


def test_stock_trades_by_the_share_and_without_fee():
    bought = entry(covered_call(STOCK, call(105.0)), fee_per_contract=1.0)
    assert bought.cost == pytest.approx(100 * 100.1 - 100 * 1.0 + 1.0)
    assert bought.fees == 1.0


def test_a_missing_side_has_no_price_and_says_so():
    one_sided = entry(vertical(call(100.0, ask=np.nan), call(110.0)))
    assert np.isnan(one_sided.cost)
    assert one_sided.problems == ("leg 1: no ask, cannot be bought at once",)
    other_side = entry(vertical(call(100.0, bid=np.nan), call(110.0)))
    assert other_side.cost == pytest.approx(20.0)
    assert np.isnan(other_side.mid)
    assert np.isnan(other_side.half_spreads)
    assert other_side.problems == ("leg 1: no bid, one-sided quote, no mid",)
    assert entry(vertical(call(100.0), call(110.0, bid=0.0))).problems == ("leg 2: bid of 0",)
    crossed = entry(custom(call(100.0, bid=1.5, ask=1.2)))
    assert crossed.problems == ("leg 1: crossed quote, bid 1.5 over ask 1.2",)
    nothing = entry(custom(call(100.0, bid=np.nan, ask=np.nan)))
    assert len(nothing.problems) == 2


@pytest.mark.parametrize("fee", [-1.0, np.nan, np.inf])
def test_a_fee_is_a_number(fee):
    with pytest.raises(ValueError, match="^fee_per_contract"):
        entry(custom(call(100.0)), fee_per_contract=fee)


def test_names():
    assert vertical(call(100.0), call(110.0)).name == "bull call spread"
    assert vertical(call(110.0), call(100.0)).name == "bear call spread"
    assert vertical(put(100.0), put(110.0)).name == "bull put spread"
    assert vertical(put(110.0), put(100.0)).name == "bear put spread"
    assert vertical(put(110.0), put(100.0), -1).name == "bull put spread"
    assert iron_condor(put(90.0), put(100.0), call(100.0), call(110.0)).name == "iron butterfly"
    assert iron_condor(put(90.0), put(95.0), call(105.0), call(110.0)).name == "iron condor"
    assert butterfly(call(90.0), call(100.0), call(115.0)).name == "broken-wing butterfly"
    assert calendar(call(100.0), call(100.0, 0.5)).name == "calendar"
    assert calendar(call(100.0), call(105.0, 0.5)).name == "diagonal"


def test_payoffs_of_what_is_built():
    spots = np.array([80.0, 95.0, 100.0, 105.0, 120.0])
    assert payoff(strangle(put(95.0), call(105.0)), spots) == pytest.approx([1500, 0, 0, 0, 1500])
    assert payoff(condor(call(90.0), call(95.0), call(105.0), call(110.0)), spots) == pytest.approx(
        [0, 500, 500, 500, 0]
    )
    assert payoff(protective_put(STOCK, put(95.0)), spots) == pytest.approx([9500, 9500, 10000, 10500, 12000])
    assert payoff(collar(STOCK, put(95.0), call(105.0)), spots) == pytest.approx([9500, 9500, 10000, 10500, 10500])
    assert payoff(iron_condor(put(90.0), put(95.0), call(105.0), call(110.0)), spots) == pytest.approx(
        [-500, 0, 0, 0, -500]
    )
    long_and_short = straddle(call(100.0), put(100.0), 3).legs + straddle(call(100.0), put(100.0), -3).legs
    assert payoff(Position("nothing", long_and_short), spots) == pytest.approx(np.zeros(5))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: vertical(call(100.0), put(110.0)), "sold"),
        (lambda: vertical(call(100.0), call(100.0)), "sold"),
        (lambda: vertical(call(100.0), call(110.0, 0.5)), "sold"),
        (lambda: vertical(STOCK, STOCK), "sold"),
        (lambda: straddle(put(100.0), put(100.0)), "call"),
        (lambda: straddle(call(100.0), put(101.0)), "put"),
        (lambda: strangle(put(110.0), call(100.0)), "call"),
        (lambda: iron_condor(put(95.0), put(90.0), call(105.0), call(110.0)), "short_put"),
        (lambda: iron_condor(put(90.0), put(106.0), call(105.0), call(110.0)), "short_call"),
        (lambda: iron_condor(put(90.0), put(95.0), call(105.0), call(110.0, 0.5)), "long_call"),
        (lambda: butterfly(call(90.0), put(100.0), call(110.0)), "body"),
        (lambda: butterfly(call(90.0), call(110.0), call(100.0)), "high"),
        (lambda: condor(call(90.0), call(95.0), call(95.0), call(110.0)), "high"),
        (lambda: calendar(call(100.0, 0.5), call(100.0)), "far"),
        (lambda: calendar(call(100.0), put(100.0, 0.5)), "far"),
        (lambda: calendar(STOCK, STOCK), "far"),
        (lambda: covered_call(call(100.0), call(105.0)), "stock"),
        (lambda: covered_call(STOCK, put(105.0)), "call"),
        (lambda: collar(STOCK, put(105.0), call(95.0)), "call"),
        (lambda: custom(), "legs"),
    ],
)
def test_a_builder_names_what_does_not_fit(build, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        build()


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("right", 2),
        ("strike", 0.0),
        ("strike", np.nan),
        ("years", 0.0),
        ("years", np.inf),
        ("quantity", 0.0),
        ("quantity", np.nan),
        ("multiplier", -100.0),
        ("bid", -0.01),
        ("ask", np.inf),
        ("bid", None),
        ("strike", "100"),
        ("years", np.ones(2)),
        ("style", "bermudan"),
    ],
)
def test_what_cannot_be_a_leg(field, bad):
    good = {"right": CALL, "strike": 100.0, "years": 0.25, "bid": 1.0, "ask": 1.1}
    with pytest.raises(ValueError, match=f"^{field}"):
        Leg(**{**good, field: bad})
