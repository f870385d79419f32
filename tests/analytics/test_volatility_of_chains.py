"""Chains whose volatilities are known: what a snapshot says of them, and why of the rest it says nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from ots_analytics.volatility import data_version, take_snapshot
from ots_chains.chain_rates import Rate, rate_of
from ots_chains.chains import Chain, Moment, Spot
from ots_market.rates import RateAnswer, RateCurve
from ots_quant import american
from ots_quant.pooled_rate import PooledRate

TODAY = date(2026, 3, 11)
CLOSE = 1_773_273_600 * 10**9
MINUTE = 60 * 10**9
AGE = 900 * 10**9
SPOT, RATE, YIELD = 200.0, 0.04, 0.01
DAYS = (0, 2, 16, 44, 100)
PARITY = Rate("parity", "as pooled", pooled=PooledRate(RATE, 0.035, 0.045, 9))


def smile(k, years):
    """Volatility by log-moneyness of the forward."""
    return 0.25 + 0.05 * np.sqrt(years) - 0.1 * k + 0.3 * k**2


def made_up(half_spread: float = 0.01) -> Chain:
    """Calls and puts of 25 strikes and five expirations, the first of which has just expired."""
    days, strike, right = (
        grid.reshape(-1)
        for grid in np.meshgrid(np.array(DAYS), np.arange(140.0, 265.0, 5.0), [1.0, -1.0], indexing="ij")
    )
    years = days / 365
    k = np.log(strike / (SPOT * np.exp((RATE - YIELD) * years)))
    value = american.price(right, SPOT, strike, years, RATE, YIELD, smile(k, years))
    return Chain(
        "TEST",
        Moment(CLOSE, TODAY, CLOSE - 1440 * MINUTE, CLOSE),
        Spot(round(SPOT * 1e9), CLOSE - MINUTE, "bar"),
        np.array([TODAY + timedelta(days=int(d)) for d in days], "datetime64[D]"),
        right,
        strike,
        years,
        np.where(value > half_spread + 0.01, value - half_spread, np.nan),  # nobody bids for what is worth nothing
        value + half_spread,
        np.full(days.size, CLOSE - 1, np.int64),
        np.arange(days.size),
    )


def snapshot_of(chain: Chain, rate: Rate = PARITY):
    return take_snapshot(chain, rate, AGE, b"version")


def test_known_volatilities_come_back():
    found = snapshot_of(made_up())
    assert [one.expiration for one in found.expirations] == [TODAY + timedelta(days=d) for d in DAYS[1:]]
    for one in found.expirations[1:]:
        assert one.reason is None
        assert one.forward == pytest.approx(SPOT * np.exp((RATE - YIELD) * one.years), rel=2e-4)
        assert one.at_the_money == pytest.approx(smile(0.0, one.years), abs=1e-3)
        assert one.dividend_yield == pytest.approx(YIELD, abs=5e-3)
        width = one.at_the_money * np.sqrt(one.years)
        assert one.call_25_delta == pytest.approx(smile(0.68 * width, one.years), abs=2e-3)
        assert one.put_25_delta == pytest.approx(smile(-0.66 * width, one.years), abs=2e-3)
        assert (one.rate, one.rate_low, one.rate_high) == (RATE, 0.035, 0.045)


def test_thirty_days_lie_between_expirations_in_total_variance():
    found = snapshot_of(made_up())
    near, far = (smile(0.0, days / 365) ** 2 * days for days in (16, 44))
    assert found.volatility_30d == pytest.approx(np.sqrt((near + (far - near) * 14 / 28) / 30), abs=1e-3)
    assert found.volatility_30d_reason is None


def test_thirty_days_beyond_the_expirations_have_none():
    chain = made_up()
    found = snapshot_of(taken(chain, chain.years < 20 / 365))
    assert found.volatility_30d is None
    assert "2.0 to 16.0 days" in found.volatility_30d_reason
    assert found.expirations[-1].at_the_money is not None


def taken(chain: Chain, which) -> Chain:
    arrays = ("expiration", "right", "strike", "years", "bid", "ask", "quoted_at", "instrument_id")
    return replace(chain, **{name: getattr(chain, name)[which] for name in arrays})


def changed(chain: Chain, name: str, where, value) -> Chain:
    array = getattr(chain, name).copy()
    array[where] = value
    return replace(chain, **{name: array})


def at(chain: Chain, days: int, strike: float, right: float) -> int:
    (index,) = np.flatnonzero(
        (chain.strike == strike) & (chain.right == right) & (np.abs(chain.years * 365 - days) < 0.1)
    )
    return int(index)


@pytest.mark.parametrize(
    ("reason", "strike", "right", "bid", "ask", "age"),
    [
        ("one_sided", 180.0, -1.0, np.nan, 1.0, 0),
        ("one_sided", 220.0, 1.0, 1.0, np.nan, 0),
        ("crossed", 180.0, -1.0, 2.0, 1.9, 0),
        ("stale", 180.0, -1.0, 1.0, 1.1, AGE + 1),
        ("below_intrinsic", 160.0, 1.0, 38.0, 38.4, 0),
        ("below_intrinsic", 215.0, -1.0, 14.0, 14.2, 0),
        ("above_bound", 160.0, 1.0, 210.0, 211.0, 0),
        ("above_bound", 180.0, -1.0, 190.0, 191.0, 0),
        ("bad_numbers", 180.0, -1.0, -1.0, 1.0, 0),
    ],
)
def test_a_bad_quote_is_counted_and_spoils_nothing(reason, strike, right, bid, ask, age):
    chain = made_up()
    whole = snapshot_of(chain)
    index = at(chain, 44, strike, right)
    bad = chain
    for name, value in (("bid", bid), ("ask", ask), ("quoted_at", CLOSE - 1 - age)):
        bad = changed(bad, name, index, value)
    found = snapshot_of(bad)
    before, after = whole.expirations[2], found.expirations[2]
    assert after.contracts_refused.get(reason, 0) == before.contracts_refused.get(reason, 0) + 1
    assert after.contracts_used + sum(after.contracts_refused.values()) == 50
    assert after.at_the_money == pytest.approx(before.at_the_money, abs=1e-3)
    assert found.contracts_used + sum(found.contracts_refused.values()) == len(chain)


def test_what_has_expired_is_counted():
    assert snapshot_of(made_up()).contracts_refused["expired"] == 50


def test_without_a_price_of_the_underlying_there_is_none():
    found = snapshot_of(replace(made_up(), spot=None))
    assert found.volatility_30d is None
    assert "no price of TEST in the 900 s before" in found.volatility_30d_reason
    assert found.contracts_refused == {"expired": 50, "no_spot": 200}
    assert found.expirations == ()


def test_without_a_rate_there_is_none_and_it_is_said():
    unknown = RateAnswer(None, "no rate curve was known")
    blurred = rate_of(unknown, [made_up(half_spread=0.5)])
    assert blurred.kind is None
    assert blurred.detail.startswith("no rate curve was known; parity")
    found = snapshot_of(made_up(), blurred)
    assert found.volatility_30d is None
    assert found.contracts_used == 0
    assert all(
        one.rate is None and one.at_the_money is None and one.reason == blurred.detail for one in found.expirations
    )
    assert found.contracts_refused["no_forward"] == 200
    assert rate_of(unknown, [replace(made_up(), spot=None)]).kind is None


def test_the_rate_is_the_curves_or_else_what_the_chains_imply():
    chains = [made_up()] * 4
    implied = rate_of(RateAnswer(None, "none"), chains)
    assert implied.kind == "parity"
    assert implied.pooled.rate == pytest.approx(RATE, abs=5e-3)
    days, rates = np.array([30, 360]), np.array([0.03, 0.05])
    curve = RateCurve(TODAY, "stated", 0, "who", 0, days, rates, ("continuous",) * 2, -rates * days / 365)
    stated = rate_of(RateAnswer(curve, None), chains)
    assert (stated.kind, stated.detail) == ("curve", f"stated, {TODAY}")
    found = snapshot_of(made_up(), stated)
    assert found.expirations[1].rate == pytest.approx(0.03)
    assert 0.03 < found.expirations[3].rate < 0.05


def test_a_version_changes_with_every_input():
    chain = made_up()
    versions = [data_version(chain, b"rate", AGE), data_version(chain, b"other", AGE), data_version(chain, b"rate", 1)]
    changes = [
        changed(chain, "bid", 3, 0.5),
        changed(chain, "quoted_at", 3, 1),
        replace(chain, spot=None),
        replace(chain, spot=Spot(1, 1, "bar")),
        replace(chain, underlying="OTHER"),
        taken(chain, slice(1, None)),
    ]
    versions += [data_version(one, b"rate", AGE) for one in changes]
    assert len(set(versions)) == len(versions)
    assert data_version(made_up(), b"rate", AGE) == versions[0]
