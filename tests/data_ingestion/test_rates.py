"""Rates: what was said, when it was known, and what it means between the lengths that were said."""

import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_ingestion.rates import public_from, tenor_days
from ots_market.rates import COMPOUNDINGS, RateCurve, curve_known_at, log_discount


@pytest.fixture(autouse=True)
def _no_curves(market):
    market.database.execute("DELETE FROM rate_curves")


def state(ingestion, day, points, *, source="Treasury", **more):
    body = {"source": source, "date": day, "curve": points, **more}
    return ingestion.post("/rates", json=body)


def curve_of(days, zero_rates):
    days, rates = np.array(days), np.array(zero_rates, float)
    logs = log_discount(days, rates, "continuous")
    return RateCurve(date(2024, 3, 4), "x", 0, "me", 0, days, rates, ("continuous",) * len(days), logs)


def test_what_was_stated_is_answered_with_what_it_means(ingestion):
    answer = state(
        ingestion, "2015-12-23",
        [{"tenor": "1Y", "rate": 0.0067, "compounding": "semiannual"}, {"days": 30, "rate": 0.0018}],
    )  # fmt: skip
    assert answer.status_code == 201, answer.text
    assert answer.json["known_at"] == "2015-12-24T05:00:00Z"  # the end of its date in New York
    assert answer.json["stated_by"] == "somebody"
    found = ingestion.get("/rates?as_of=2015-12-24T16:00:00Z&days=30").json
    month, year = found["curve"]
    assert (month["days"], month["rate"], month["compounding"]) == (30, 0.0018, "continuous")
    assert month["zero_rate"] == pytest.approx(0.0018, rel=1e-14)
    assert month["discount_factor"] == pytest.approx(math.exp(-0.0018 * 30 / 365), rel=1e-15)
    assert (year["days"], year["rate"], year["compounding"]) == (366, 0.0067, "semiannual")
    assert year["discount_factor"] == pytest.approx((1 + 0.0067 / 2) ** (-2 * 366 / 365), rel=1e-14)
    assert found["interpolated"]["zero_rate"] == pytest.approx(0.0018, rel=1e-14)
    assert found["interpolated"]["extrapolated"] is False
    assert ingestion.get("/rates?as_of=2015-12-24T16:00:00Z&days=400").json["interpolated"]["extrapolated"] is True


def test_nothing_is_known_before_it_was_public(ingestion):
    state(ingestion, "2015-12-23", [{"days": 30, "rate": 0.01}])
    before = ingestion.get("/rates?as_of=2015-12-24T04:59:59Z")
    assert before.status_code == 404
    assert "curl -X POST" in before.json["hint"]
    assert ingestion.get("/rates?as_of=2015-12-24T05:00:00Z").json["curve"][0]["rate"] == 0.01


def test_a_revision_is_known_from_its_statement_and_the_first_word_stays(ingestion):
    state(ingestion, "2015-12-23", [{"days": 30, "rate": 0.01}])
    state(ingestion, "2015-12-23", [{"days": 30, "rate": 0.02}], known_at="2015-12-26T12:00:00Z")
    assert ingestion.get("/rates?as_of=2015-12-26T11:59:59Z").json["curve"][0]["rate"] == 0.01
    assert ingestion.get("/rates?as_of=2015-12-26T12:00:00Z").json["curve"][0]["rate"] == 0.02
    # without a word on when it was known, a revision was not known before now
    state(ingestion, "2015-12-23", [{"days": 30, "rate": 0.03}])
    assert ingestion.get("/rates?as_of=2015-12-27").json["curve"][0]["rate"] == 0.02
    assert ingestion.get("/rates?max_age_days=3660&as_of=2015-12-30").json["curve"][0]["rate"] == 0.02


def test_a_newer_date_wins_over_a_later_word_and_sources_stand_apart(ingestion):
    state(ingestion, "2015-12-21", [{"days": 30, "rate": 0.01}], known_at="2015-12-23T12:00:00Z")
    state(ingestion, "2015-12-22", [{"days": 30, "rate": 0.02}], source="other")
    at = "as_of=2015-12-24"
    assert ingestion.get(f"/rates?{at}").json["curve_source"] == "other"
    assert ingestion.get(f"/rates?{at}&source=Treasury").json["curve"][0]["rate"] == 0.01
    assert ingestion.get(f"/rates?{at}&source=nobody").status_code == 404


def test_an_old_curve_is_no_answer_but_null_with_a_reason(ingestion, market):
    state(ingestion, "2015-12-23", [{"days": 30, "rate": 0.01}])
    late = int(datetime(2016, 1, 3, 12, tzinfo=UTC).timestamp()) * 10**9
    answer = curve_known_at(market.database, late)
    assert answer.curve is None
    assert "11 days before" in answer.reason
    assert curve_known_at(market.database, late, max_age_days=11).curve is not None
    assert "no rate curve was known" in curve_known_at(market.database, 0).reason
    assert ingestion.get("/rates").status_code == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"curve": []}, "#/body/curve"),
        ({"curve": [{"days": 30, "rate": 0.51}]}, "#/body/curve/0/rate"),
        ({"curve": [{"days": 30, "rate": -0.051}]}, "#/body/curve/0/rate"),
        ({"curve": [{"days": 30, "rate": "NaN"}]}, "#/body/curve/0/rate"),
        ({"curve": [{"days": 0, "rate": 0.01}]}, "#/body/curve/0/days"),
        ({"curve": [{"rate": 0.01}]}, "#/body/curve/0"),
        ({"curve": [{"days": 30, "tenor": "1M", "rate": 0.01}]}, "#/body/curve/0"),
        ({"curve": [{"tenor": "1Q", "rate": 0.01}]}, "#/body/curve/0/tenor"),
        ({"curve": [{"tenor": "99Y", "rate": 0.01}]}, "#/body/curve/0/tenor"),
        ({"curve": [{"days": 30, "rate": 0.01, "compounding": "weekly"}]}, "#/body/curve/0/compounding"),
        ({"curve": [{"days": 31, "rate": 0.01}, {"tenor": "1M", "rate": 0.01}]}, "#/body/curve/1"),
        ({"date": "2999-01-01"}, "#/body/date"),
        ({"date": "1900-01-01"}, "#/body/date"),
        ({"known_at": "2999-01-01T00:00:00Z"}, "#/body/known_at"),
        ({"known_at": "2015-12-01T00:00:00Z"}, "#/body/known_at"),
        ({"source": ""}, "#/body/source"),
        ({"sauce": "x"}, "#/body/sauce"),
    ],
)
def test_a_wrong_curve_is_refused_where_it_is_wrong(ingestion, market, change, pointer):
    body = {"source": "s", "date": "2015-12-24", "curve": [{"days": 30, "rate": 0.01}], **change}
    answer = ingestion.post("/rates", json=body)
    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json["errors"]]
    assert market.database.rows("SELECT count(*) FROM rate_curves") == [(0,)]


@pytest.mark.parametrize(
    ("tenor", "day", "days"),
    [
        ("1D", "2024-01-31", 1), ("2W", "2024-01-31", 14), ("1M", "2024-01-31", 29), ("1m", "2023-01-31", 28),
        ("12M", "2024-02-29", 365), ("1Y", "2024-02-29", 365), ("10Y", "2024-03-01", 3652),
    ],
)  # fmt: skip
def test_tenors_end_on_calendar_days(tenor, day, days):
    assert tenor_days(tenor, date.fromisoformat(day)) == days


def test_a_curve_of_today_is_known_when_it_is_stated():
    now = datetime(2024, 3, 4, 20, tzinfo=UTC)
    assert public_from(date(2024, 3, 4), revision=False, now=now) == now
    assert public_from(date(2024, 3, 1), revision=False, now=now) == datetime(2024, 3, 2, 5, tzinfo=UTC)
    assert public_from(date(2024, 3, 1), revision=True, now=now) == now
    # the day on which New York's clocks change is an hour short
    assert public_from(date(2024, 3, 10), revision=False, now=now + timedelta(30)) == datetime(
        2024, 3, 11, 4, tzinfo=UTC
    )


@settings(deadline=None)
@given(
    days=st.lists(st.integers(1, 4000), min_size=1, max_size=8, unique=True),
    data=st.data(),
)
def test_the_log_discount_is_linear_between_the_stated_days(days, data):
    days = sorted(days)
    rates = data.draw(st.lists(st.floats(-0.05, 0.5), min_size=len(days), max_size=len(days)))
    curve = curve_of(days, rates)
    knots, logs = [0, *days], [0.0, *(-r * d / 365 for r, d in zip(rates, days, strict=True))]
    np.testing.assert_allclose(curve.zero_rates(days), rates, rtol=1e-9, atol=1e-12)
    for i in range(len(days)):
        middle = (knots[i] + knots[i + 1]) / 2
        expected = -(logs[i] + logs[i + 1]) / 2 / middle * 365
        assert curve.zero_rates(middle) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(curve.zero_rates([days[-1] * 2, days[-1] * 9]), rates[-1], rtol=1e-9, atol=1e-12)


def test_no_rate_for_no_time():
    curve = curve_of([30, 90], [0.01, 0.02])
    asked = np.array([[np.nan, -1, 0], [np.inf, 30, 1e-9]])
    found = curve.zero_rates(asked)
    assert found.shape == (2, 3)
    assert np.isnan(found).tolist() == [[True, True, True], [True, False, False]]
    assert curve.zero_rates([]).shape == (0,)


@pytest.mark.parametrize("compounding", COMPOUNDINGS)
def test_every_compounding_grows_one_dollar_as_its_name_says(compounding):
    years, rate = 2.0, 0.04
    grown = {
        "continuous": math.exp(rate * years),
        "annual": (1 + rate) ** years,
        "semiannual": (1 + rate / 2) ** (2 * years),
        "simple": 1 + rate * years,
        "simple-360": 1 + rate * 730 / 360,
    }[compounding]
    assert math.exp(-log_discount(730, rate, compounding)) == pytest.approx(grown, rel=1e-14)


def test_a_rate_that_eats_the_capital_is_nan_and_an_unknown_name_an_error():
    assert np.isnan(log_discount(36_500, -0.05, "simple"))
    assert np.isnan(log_discount(30, np.nan, "annual"))
    with pytest.raises(ValueError, match="compounding"):
        log_discount(30, 0.01, "weekly")
