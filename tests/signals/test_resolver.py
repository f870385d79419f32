"""What became of a signal: each rule on a tape of a few minutes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_market.timeframes import MINUTE_NS
from ots_quant import european
from ots_signals.outcomes import Barrier
from ots_signals.resolver import resolve, resolve_many, revised, span
from resolved_signals_support import (
    DOLLAR,
    EVENT_NS,
    SESSIONS,
    leg,
    priced_tape,
    signal,
    tape,
)


def fills(one, minutes):
    found = resolve(one, minutes, SESSIONS)
    return {fill.model: fill for fill in found.fills}


def test_a_target_sells_at_its_level_and_the_net_is_less_the_fees():
    found = fills(signal(fees=0.02), tape([[1.9, 2.1, 2.3, 1.0]], [[2.0, 2.2, 2.4, 1.1]]))["touch"]
    assert found.barrier is Barrier.TARGET
    assert found.exit_ns == EVENT_NS + 3 * MINUTE_NS
    assert found.exit_price == round(2.2 * DOLLAR)  # 2.00 paid, +10 %: not the 2.30 that stood at the minute's end
    assert found.net_return == pytest.approx(0.1 - 0.01)
    assert found.best_return == pytest.approx(0.1)
    assert found.worst_return == pytest.approx(-0.05)


def test_a_stop_sells_at_what_is_bid():
    found = fills(signal(), tape([[1.9, 1.4]], [[2.0, 1.5]]))["touch"]
    assert found.barrier is Barrier.STOP
    assert found.net_return == pytest.approx(-0.3)  # through the stop at -20 %


def test_a_minute_that_touched_both_is_a_stop():
    found = fills(signal(), tape([[1.9]], [[2.0]], lows=[[1.5]], highs=[[2.5]]))["touch"]
    assert found.barrier is Barrier.STOP
    assert found.net_return == pytest.approx(-0.25)


def test_each_fill_model_has_its_own_path():
    found = fills(signal(target=0.05), tape([[2.02] + [1.9] * 10], [[2.12] + [2.0] * 10]))
    assert found["touch"].barrier is Barrier.TIMEOUT
    # paid 1.9875, 2.0325 to be had; 5 % of the capital of 2.00 is 2.0875
    assert found["partial"].barrier is Barrier.TIMEOUT
    assert found["mid"].barrier is Barrier.TARGET  # paid 1.95, 2.07 to be had
    assert found["mid"].net_return == pytest.approx(0.05)
    assert found["partial"].net_return == pytest.approx((1.9125 - 1.9875) / 2.0)
    assert found["touch"].net_return == pytest.approx(-0.05)


def test_the_time_stop_waits_five_minutes_for_a_quote_and_no_longer():
    for waited, barrier in ((5, Barrier.TIMEOUT), (6, Barrier.NOT_FILLED)):
        bids, asks = ([*[x] * 9, *[None] * waited, x] for x in (1.9, 2.0))
        found = fills(signal(), tape([bids], [asks]))["touch"]
        assert found.barrier is barrier
        assert (found.net_return is None) == (barrier is Barrier.NOT_FILLED)
    assert found.worst_return == pytest.approx(-0.05)  # it was entered: statistics count it as lost


def test_nobody_bids_is_worth_nothing_and_no_quote_is_no_price():
    found = fills(signal(stop=-0.99), tape([[0.0]], [[0.05]]))["touch"]
    assert found.barrier is Barrier.STOP
    assert found.net_return == -1.0


def test_without_a_valid_quote_at_the_event_nothing_was_entered():
    found = fills(signal(leg(2.1, 2.0)), tape([[2.5]], [[2.6]]))
    assert {fill.barrier for fill in found.values()} == {Barrier.NOT_FILLED}
    assert {fill.worst_return for fill in found.values()} == {None}


def test_a_gap_before_the_exit_makes_it_indeterminate_and_one_after_it_nothing():
    quotes = ([[1.9, 2.3, 1.9]], [[2.0, 2.4, 2.0]])
    assert fills(signal(), tape(*quotes, gap=[0]))["touch"].barrier is Barrier.INDETERMINATE
    assert fills(signal(), tape(*quotes, gap=[1]))["touch"].barrier is Barrier.INDETERMINATE
    assert fills(signal(), tape(*quotes, gap=[2]))["touch"].barrier is Barrier.TARGET
    assert resolve(signal(), tape(*quotes, gap=[2]), SESSIONS).gap_minutes == 1


def test_the_forced_flat_comes_before_the_time_stop():
    one = signal(minutes=100)
    one = replace(one, barriers=replace(one.barriers, flat_ns=EVENT_NS + 2 * MINUTE_NS))
    found = fills(one, tape([[1.9, 1.95, 2.5]], [[2.0, 2.05, 2.6]]))["touch"]
    assert found.barrier is Barrier.TIMEOUT
    assert found.exit_ns == EVENT_NS + 2 * MINUTE_NS
    assert span(one) == (EVENT_NS, EVENT_NS + 7 * MINUTE_NS)


def test_the_events_own_minute_is_not_looked_at():
    before = tape([[9.0, 1.9, 1.9]], [[9.1, 2.0, 2.0]], start_ns=EVENT_NS - MINUTE_NS)
    assert fills(signal(minutes=2), before)["touch"].barrier is Barrier.TIMEOUT


def test_not_resolved_before_the_tape_reaches_over_it():
    quotes = ([[1.9, 2.3]], [[2.0, 2.4]])
    assert resolve(signal(), tape(*quotes, complete=False), SESSIONS) is None
    assert resolve(signal(), tape(*quotes), SESSIONS) is not None
    far = ([[1.9] * 15], [[2.0] * 15])
    assert resolve(signal(), tape(*far, complete=False), SESSIONS).fills[0].barrier is Barrier.TIMEOUT


def test_a_credit_is_measured_against_the_most_that_can_be_lost():
    legs = (leg(2.0, 2.1, strike=100.0, quantity=-1), leg(0.9, 1.0, strike=105.0))
    one = signal(*legs, capital=4.0, target=0.1, stop=-0.2)  # 1.00 received of a width of 5
    minutes = tape([[2.0, 1.5], [0.9, 0.9]], [[2.1, 1.5], [1.0, 1.0]], symbols=[x.symbol for x in legs])
    found = fills(one, minutes)["touch"]
    assert found.barrier is Barrier.TARGET
    assert found.exit_price == round(-0.6 * DOLLAR)  # bought back for 0.60: 0.40 kept, 10 % of 4.00
    nobody_sells = tape([[1.5], [0.9]], [[0.0], [1.0]], symbols=[x.symbol for x in legs])
    assert fills(one, nobody_sells)["touch"].barrier is Barrier.NOT_FILLED


def test_late_data_is_a_revision_and_the_same_data_none():
    first = resolve(signal(), tape([[1.9, 2.3]], [[2.0, 2.4]]), SESSIONS)
    assert revised(first, resolve(signal(), tape([[1.9, 2.3]], [[2.0, 2.4]]), SESSIONS)) is None
    late = revised(first, resolve(signal(), tape([[1.5, 2.3]], [[1.6, 2.4]]), SESSIONS))
    assert late.revision == 1
    assert late.fills[0].barrier is Barrier.STOP
    closed_gap = revised(first, resolve(signal(), tape([[1.9, 2.3]], [[2.0, 2.4]], gap=[0]), SESSIONS))
    assert closed_gap.fills[0].barrier is Barrier.INDETERMINATE


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_outcome_follows_from_its_own_minutes_alone(seed):
    """Whatever comes before the event, more than five minutes after the time stop, or of other contracts."""
    rng = np.random.default_rng(seed)
    bid = 1.9 * np.exp(np.cumsum(0.03 * rng.standard_normal((2, 40)), axis=1))
    missing = rng.random(bid.shape) < 0.1
    quotes = tape(
        np.where(missing, 0.0, bid), np.where(missing, 0.0, bid + 0.1), symbols=[leg(1, 1).symbol, "OTHER"],
        gap=np.flatnonzero(rng.random(40) < 0.02), start_ns=EVENT_NS - 10 * MINUTE_NS,
    )  # fmt: skip
    first = resolve(signal(), quotes, SESSIONS)
    outside = np.ones(40, np.bool_)
    outside[10:25] = False  # ten minutes, and five
    noise = np.where(outside, rng.integers(0, 5 * DOLLAR, 40), quotes.bid[0])
    changed = replace(
        quotes,
        bid=np.vstack((noise, 0 * noise)),
        ask=np.vstack((np.where(outside, noise + DOLLAR, quotes.ask[0]), 0 * noise)),
        spot=np.where(outside, 5.0, quotes.spot),
        gap=np.where(outside, rng.random(40) < 0.5, quotes.gap),
    )
    changed = replace(changed, bid_low=changed.bid, bid_high=changed.bid, ask_low=changed.ask, ask_high=changed.ask)
    assert resolve(signal(), changed, SESSIONS) == first
    assert first.resolved_of_ns == quotes.ends[24]


def test_many_on_one_tape_are_as_each_alone():
    straddle = (leg(1.9, 2.0), leg(1.9, 2.0, right="P"))
    many = [
        signal(straddle[0]),
        signal(*straddle, minutes=5),
        signal(straddle[1], at_ns=EVENT_NS + 2 * MINUTE_NS, minutes=3),
        signal(straddle[0], target=5.0, stop=-0.9),
    ]
    spots = 100.0 * np.exp(np.cumsum(0.002 * np.random.default_rng(3).standard_normal(20)))
    minutes = priced_tape(many[1], spots)
    together = resolve_many(many, minutes, SESSIONS)
    assert together == [resolve(one, minutes, SESSIONS) for one in many]
    assert len({found.fills[0].exit_ns for found in together}) > 1


@pytest.mark.parametrize("volatility", [0.3, 0.33])
def test_the_parts_of_a_move_add_up_to_it_and_name_its_cause(volatility):
    years = (SESSIONS.closes[np.searchsorted(SESSIONS.dates, np.datetime64("2026-06-26"))] - EVENT_NS) / (
        365 * 1440 * MINUTE_NS
    )
    mid = float(european.price(1.0, 100.0, 100.0, years, 0.0, 0.0, 0.3))
    one = signal(leg(mid - 0.01, mid + 0.01), target=9.0, stop=-0.99, minutes=30)
    spots = np.linspace(100.0, 101.5, 31)[1:]
    found = resolve(one, priced_tape(one, spots, volatility=volatility), SESSIONS).attribution
    after = float(european.price(1.0, 101.5, 100.0, years - 30 / (365 * 1440), 0.0, 0.0, volatility))
    moved = (after - mid) / (mid + 0.01)
    total = found.delta + found.gamma + found.theta + found.volatility + found.residual
    assert total == pytest.approx(moved, abs=1e-6)
    assert abs(found.residual) < 0.02 * abs(moved)
    assert found.theta < 0.0
    if volatility == 0.3:
        assert found.volatility == pytest.approx(0.0, abs=1e-6)
        assert found.delta > 0.9 * moved
    else:
        assert found.volatility == pytest.approx(0.03 * 8.4 / mid, rel=0.1)


def test_a_jump_within_a_minute_is_delta_and_half_of_gamma():
    close = SESSIONS.closes[np.searchsorted(SESSIONS.dates, np.datetime64("2026-06-26"))]
    known = european.greeks(1.0, 100.0, 100.0, (close - EVENT_NS) / (365 * 1440 * MINUTE_NS), 0.0, 0.0, 0.3)
    mid = float(known.price)
    one = signal(leg(mid - 0.01, mid + 0.01), target=9.0, stop=-0.99, minutes=1)
    found = resolve(one, priced_tape(one, np.array([101.5])), SESSIONS).attribution
    assert found.delta == pytest.approx(float(known.delta) * 1.5 / (mid + 0.01), rel=1e-6)
    assert found.gamma == pytest.approx(0.5 * float(known.gamma) * 1.5**2 / (mid + 0.01), rel=1e-6)
    assert found.theta == pytest.approx(float(known.theta) / (365 * 1440) / (mid + 0.01), rel=1e-6)


def test_no_attribution_where_a_price_implies_no_volatility():
    found = resolve(
        signal(leg(0.01, 0.02, strike=50.0)), tape([[1.0]], [[1.1]], symbols=[leg(1, 1, strike=50.0).symbol]), SESSIONS
    )
    assert found.attribution is None
    assert "implies no volatility" in found.detail
