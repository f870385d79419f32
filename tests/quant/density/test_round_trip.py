"""Buying at the ask and selling at the bid: what must be bid, and what to expect of it at fair prices."""

from __future__ import annotations

import numpy as np
import pytest

from ots_quant import american, european
from ots_quant.density import RoundTrip, expected_bid

DAY = 1 / 365


def test_the_bid_asked_for_returns_the_move_after_all_costs():
    trip = RoundTrip(np.array([1.90, 0.45]), np.array([2.00, 0.50]), 0.0065)
    for move in (0.0, 0.05, 0.10):
        gained = (trip.bid_for(move) - trip.fee) - (trip.ask + trip.fee)
        assert gained == pytest.approx(move * trip.ask)
        assert trip.mid_for(move) - trip.half_spread == pytest.approx(trip.bid_for(move))
    # a market that does not move gives back the bid of now: the cost is what is then lost
    assert (trip.bid - trip.fee) - (trip.ask + trip.fee) == pytest.approx(-trip.cost)
    assert trip.mid_for(0.0) - trip.mid == pytest.approx(trip.cost)


def by_trapezoids(contract, half_spread, horizon, price):
    """The expectation of the bid over a fine grid of spots."""
    right, spot, strike, years, rate, dividend_yield, sigma = contract
    z = np.linspace(-8.5, 8.5, 8001)
    spots = spot * np.exp((rate - dividend_yield - 0.5 * sigma**2) * horizon + sigma * np.sqrt(horizon) * z)
    bid = np.maximum(price(right, spots, strike, years - horizon, rate, dividend_yield, sigma) - half_spread, 0.0)
    return np.trapezoid(bid * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi), z)


@pytest.mark.parametrize("price", [european.price, american.price])
def test_the_expected_bid_is_the_integral_over_the_spots_at_the_horizon(price):
    contracts = [
        # right, spot, strike, years, rate, yield, volatility; half-spread over price, horizon over years
        ((1.0, 100.0, 100.0, 0.4 * DAY, 0.04, 0.0, 0.30), 0.02, 0.50),
        ((1.0, 100.0, 101.0, 0.2 * DAY, 0.04, 0.01, 0.25), 0.30, 0.90),
        ((-1.0, 100.0, 98.0, 2 * DAY, 0.05, 0.0, 0.50), 0.10, 0.20),
        ((-1.0, 100.0, 112.0, 20 * DAY, 0.06, 0.0, 0.25), 0.01, 0.05),  # next to its exercise boundary
        ((1.0, 100.0, 90.0, 60 * DAY, 0.02, 0.08, 0.20), 0.01, 0.02),
        ((-1.0, 100.0, 130.0, 60 * DAY, 0.08, 0.0, 0.20), 0.00, 0.05),  # better exercised at once
        ((1.0, 100.0, 103.0, 3 * DAY, 0.02, 0.0, 0.30), -0.10, 0.30),
    ]
    for contract, share, part in contracts:
        worth = price(*contract)
        half, horizon = share * worth, part * contract[3]
        found = expected_bid(*contract, half, horizon, price=price)
        assert found == pytest.approx(by_trapezoids(contract, half, horizon, price), abs=1e-4 * float(worth))


def test_at_fair_prices_the_expectation_is_the_cost_whatever_the_contract():
    """The spread is lost, the price itself is a martingale; only a bid that cannot fall below zero gives some back."""
    strike, sigma = np.array([[95.0], [100.0], [104.0]]), np.array([0.1, 0.3, 0.8])
    contract = (1.0, 100.0, strike, 10 * DAY, 0.0, 0.0, sigma)
    worth = european.price(*contract)
    half = 0.05 * worth
    for horizon in (0.1 * DAY, 2 * DAY):
        lost = expected_bid(*contract, half, horizon) - (worth + half)
        assert (lost >= -2.0 * half - 1e-9).all()
        assert lost[:2] == pytest.approx(-2.0 * half[:2], rel=0.02, abs=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("place", "bad"), [(1, -1.0), (2, np.nan), (4, np.inf), (6, 0.0), (7, np.nan), (8, 0.1), (8, 0.0)]
)
def test_a_bad_element_is_nan_and_its_neighbour_is_not(place, bad):
    arguments = [np.full(2, x) for x in (1.0, 100.0, 100.0, 0.1, 0.01, 0.0, 0.3, 0.05, 0.01)]
    arguments[place][1] = bad
    result = expected_bid(*arguments, price=american.price)
    assert np.isnan(result[1])
    assert np.isfinite(result[0])
    assert expected_bid(*(x[:0] for x in arguments)).shape == (0,)
