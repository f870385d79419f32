"""Prices, implied volatilities and strategies of terms that the request states."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from pydantic import SecretStr

import quantlib_american
from ots_analytics.app import create_app
from ots_analytics.routes import calculator_examples
from ots_analytics.routes.calculators import MOST_CONTRACTS, MOST_ON_TREE
from ots_analytics.settings import AnalyticsSettings
from ots_common.times import to_nanoseconds
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_quant import american, european
from ots_quant.american import CashDividends
from ots_quant.strategies import Leg, Market, custom, position_greeks, probability_of_profit, profit_at_first_expiration
from ots_quant.strategies import calendar as calendar_of

KEY = SecretStr("a" * 40)
ROW = {"right": "P", "spot": 100, "strike": 105, "years": 0.25, "rate": 0.04, "volatility": 0.3}
TERMS = (100.0, 105.0, 0.25, 0.04, 0.0)
FIRST_ORDER = ("price", "delta", "gamma", "theta", "vega", "rho")


@pytest.fixture(scope="module")
def client():
    """No database is behind it: what a request states needs none."""
    settings = AnalyticsSettings(
        database_url="postgresql://nobody@127.0.0.1:1/none", accept_keys={"gateway": KEY}, log_level="ERROR",
        market_source="databento", market_calendar="xnys",
    )  # fmt: skip
    return create_app(settings).test_client()


def headers() -> dict[str, str]:
    caller = Caller("gateway", "u", "u", "viewer", "request-01")
    return {HEADER: sign_internal_token(caller, "analytics", {"analytics": KEY})}


@pytest.fixture
def post(client):
    def posted(path, body, accept="application/json"):
        sent = {"data": body, "content_type": "application/json"} if isinstance(body, str) else {"json": body}
        return client.post(f"/api/v1/analytics/options/{path}", headers=headers() | {"Accept": accept}, **sent)

    return posted


def rounded(value):
    """As the examples have it: floats of six digits."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return pytest.approx(value, rel=1e-5, abs=1e-9) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("path", "name"),
    [("price", "PRICE"), ("price", "PRICE_COLUMNS"), ("implied-volatility", "IMPLIED"),
     ("strategies/analyze", "STRATEGY")],
)  # fmt: skip
def test_the_examples_are_true(post, path, name):
    answer = post(path, getattr(calculator_examples, name))
    assert answer.status_code == 200
    told = getattr(calculator_examples, f"{name}_ANSWER")
    assert told == rounded({key: value for key, value in answer.json.items() if key not in ("units", "assumptions")})


def test_the_document_holds_the_examples(client):
    schemas = client.get("/openapi/openapi.json", headers=headers()).json["components"]["schemas"]
    assert schemas["PriceAnswer"]["example"]["units"]["theta"]
    assert schemas["StrategyModel"]["example"]["assumptions"]


def pointers(answer) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["pointer"] for error in answer.json["errors"]]


@pytest.mark.parametrize(
    ("right", "strike", "days", "dividend_yield", "volatility"),
    [("P", 105.0, 91, 0.0, 0.3), ("C", 95.0, 182, 0.06, 0.25), ("P", 120.0, 30, 0.02, 0.5)],
)
def test_an_american_price_is_quantlibs(post, right, strike, days, dividend_yield, volatility):
    row = {
        "right": right, "spot": 100, "strike": strike, "years": days / 365, "rate": 0.04,
        "dividend_yield": dividend_yield, "volatility": volatility,
    }  # fmt: skip
    sign = 1 if right == "C" else -1
    peer = quantlib_american.price(sign, 100.0, strike, days, 0.04, dividend_yield, volatility)
    (found,) = post("price", {"contracts": [row]}).json["contracts"]
    assert found["price"] == pytest.approx(peer, abs=1e-4)
    back = {name: value for name, value in row.items() if name != "volatility"} | {"price": peer}
    (implied,) = post("implied-volatility", {"contracts": [back]}).json["contracts"]
    assert implied == {"implied_volatility": pytest.approx(volatility, abs=1e-6), "years": days / 365, "reason": None}


@pytest.mark.parametrize(("style", "model"), [("american", american), ("european", european)])
def test_greeks_have_the_units_that_are_stated(post, style, model):
    body = post("price", {"style": style, "contracts": [ROW], "second_order": True}).json
    (found,) = body["contracts"]
    greeks = model.greeks(-1, *TERMS, 0.3)
    scales = {"theta": 1 / 365, "vega": 0.01, "rho": 0.01, "vanna": 0.01, "charm": 1 / 365, "vomma": 1e-4}
    for name, value in greeks._asdict().items():
        assert found[name] == pytest.approx(float(value) * scales.get(name, 1.0), rel=1e-12), name
    assert set(greeks._fields) <= set(body["units"])
    # a day later it is worth that much less
    later = model.price(-1, 100.0, 105.0, 0.25 - 1 / 365, 0.04, 0.0, 0.3)
    assert later - greeks.price == pytest.approx(found["theta"], rel=0.02)


def test_columns_come_back_as_columns_with_the_same_values(post):
    strikes = [95.0, 100.0, 105.0]
    rows = post("price", {"contracts": [ROW | {"strike": strike} for strike in strikes]}).json["contracts"]
    body = post("price", {"columns": ROW | {"strike": strikes}}).json
    assert "contracts" not in body
    assert body["columns"] == {name: [row[name] for row in rows] for name in rows[0]}
    assert body["quality"] == {"contracts": 3, "calculated": 3, "reasons": {}}


@pytest.mark.parametrize("form", ["contracts", "columns"])
def test_csv_has_the_same_values(post, form):
    given = {"contracts": [ROW, ROW | {"volatility": None}]}
    if form == "columns":
        given = {"columns": ROW | {"volatility": [0.3, None]}}
    rows = post("price", {"contracts": [ROW, ROW | {"volatility": None}]}).json["contracts"]
    found = list(csv.DictReader(io.StringIO(post("price", given, "text/csv").text)))
    assert [row["reason"] for row in found] == ["", "unknown_volatility"]
    assert [float(found[0][name]) for name in FIRST_ORDER] == [rows[0][name] for name in FIRST_ORDER]
    assert [found[1][name] for name in FIRST_ORDER] == [""] * 6


def test_what_cannot_be_priced_has_a_reason_and_spoils_no_other(post):
    changes = [{}, {"strike": None}, {"strike": -5}, {"volatility": 0}, {"right": None}, {"years": 0}]
    body = post("price", {"contracts": [ROW | change for change in changes]}).json
    found = body["contracts"]
    reasons = [row["reason"] for row in found]
    assert reasons == [None, "unknown_strike", "bad_input", "undefined_greeks", "unknown_right", None]
    assert found[0]["price"] == pytest.approx(float(american.price(-1, *TERMS, 0.3)))
    assert [row["price"] for row in found[1:3]] == [None, None]
    assert found[3]["price"] == 5.0
    assert found[3]["vega"] is None
    assert set(body["reasons"]) == set(reasons) - {None}
    assert body["quality"]["calculated"] == 3


def test_numbers_beyond_the_formulas_are_answered_too(post):
    wild = [0, -1, 1, 1e-300, 5e-324, 1e300, -1e300, 1e9]
    rows = [
        ROW | {one: first, other: second}
        for one, other in (("spot", "strike"), ("years", "rate"), ("volatility", "years"), ("strike", "volatility"))
        for first in wild
        for second in wild
    ]
    for style in ("american", "european"):
        answer = post("price", {"style": style, "contracts": rows, "second_order": True})
        assert answer.status_code == 200
        for row in answer.json["contracts"]:
            unknown = any(value is None for name, value in row.items() if name != "reason")
            assert unknown == (row["reason"] is not None)
        prices = [{("price" if name == "volatility" else name): row[name] for name in row} for row in rows]
        assert post("implied-volatility", {"style": style, "contracts": prices}).status_code == 200


@pytest.mark.parametrize("style", ["european", "american"])
@pytest.mark.parametrize(("path", "last"), [("price", "volatility"), ("implied-volatility", "price")])
def test_in_columns_no_infinity_becomes_a_null_without_a_reason(post, style, path, last):
    chance = np.random.default_rng(11)
    count = 300
    wild = {
        name: np.where(
            chance.random(count) < 0.5, 10.0 ** chance.uniform(-307, 307, count), chance.uniform(0, 99, count)
        )
        for name in ("spot", "strike", "years", last)
    }
    columns = {
        **{name: values.tolist() for name, values in wild.items()},
        "right": chance.choice(["C", "P"], count).tolist(),
        "rate": chance.choice([0.04, 0.0, -0.01, 700.0, 1e300, -1e300], count).tolist(),
        "dividend_yield": chance.choice([0.0, 0.02, 800.0, 1e300], count).tolist(),
    }
    answer = post(path, {"style": style, "columns": columns})
    assert answer.status_code == 200, answer.text
    found = answer.json["columns"]
    reasons = found.pop("reason")
    assert all(reason for row, reason in zip(zip(*found.values(), strict=True), reasons, strict=True) if None in row)
    assert {"bad_input", None} <= set(reasons)


def test_a_price_without_a_volatility_says_why(post):
    row = {name: value for name, value in ROW.items() if name != "volatility"}
    prices = [6.0, 5.0, 4.0, 105.0, None]
    contracts = [row | {"price": price} for price in prices] + [row | {"price": 6.0, "years": 0}]
    found = post("implied-volatility", {"contracts": contracts}).json["contracts"]
    assert [one["reason"] for one in found] == [
        None, "below_intrinsic", "below_intrinsic", "above_bound", "unknown_price", "expired",
    ]  # fmt: skip
    assert found[0]["implied_volatility"] == pytest.approx(float(american.implied_volatility(6.0, -1, *TERMS)))
    european_put = post("implied-volatility", {"style": "european", "contracts": contracts[1:2]}).json["contracts"][0]
    assert european_put["implied_volatility"] > 0.05  # its bound is the discounted one


def test_an_expiration_ends_with_its_session(post):
    eleven = "2015-12-24T16:00:00Z"  # two hours before the close of a half day
    row = {name: value for name, value in ROW.items() if name != "years"}
    dates = ["2015-12-24", "2015-12-31", "2015-12-26", "2015-12-23", "2090-01-01", None]
    body = post("price", {"as_of": eleven, "columns": row | {"expiration": dates}}).json
    years = body["columns"]["years"]
    close = to_nanoseconds("2015-12-31T21:00:00Z")
    assert years[0] == pytest.approx(2 / 24 / 365)
    assert years[1] == pytest.approx((close - to_nanoseconds(eleven)) / 1e9 / 86400 / 365)
    assert years[2] == years[0]  # a Saturday's contracts end with the session before
    assert body["columns"]["reason"][3:] == ["expired", "beyond_calendar", "unknown_expiration"]
    assert body["as_of"] == eleven
    assert body["calendar"] == "XNYS"


def test_cash_dividends_move_the_price(post):
    dividends = [{"years": 0.1, "amount": 2.0}]
    (found,) = post("price", {"contracts": [ROW], "dividends": dividends}).json["contracts"]
    cash = CashDividends([0.1], [2.0])
    assert found["price"] == pytest.approx(float(american.price(-1, *TERMS, 0.3, dividends=cash)))
    assert found["price"] > float(american.price(-1, *TERMS, 0.3)) + 0.5
    # it goes ex with the open of that session
    asked = {"as_of": "2015-12-24T16:00:00Z", "contracts": [ROW]}
    opens = to_nanoseconds("2016-01-04T14:30:00Z") - to_nanoseconds("2015-12-24T16:00:00Z")
    by_date = post("price", asked | {"dividends": [{"ex_date": "2016-01-02", "amount": 2.0}]}).json["contracts"]
    by_years = post("price", asked | {"dividends": [{"years": opens / 365 / 86400e9, "amount": 2.0}]}).json["contracts"]
    assert by_date == by_years


PRICE = {"contracts": [ROW]}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ('{"contracts": [{"right": "P", "spot": NaN, "strike": 1, "years": 1, "rate": 0, "volatility": 0.2}]}',
         "#/body/contracts/0/spot"),
        ('{"columns": {"right": "P", "spot": 1, "strike": [1, 1e999], "years": 1, "rate": 0, "volatility": 0.2}}',
         "#/body/columns/strike/1"),
        ({"contracts": [ROW, ROW | {"strike": True}]}, "#/body/contracts/1/strike"),
        ({"contracts": [ROW, ROW | {"strike": "5"}]}, "#/body/contracts/1/strike"),
        ({"contracts": [ROW | {"right": "call"}]}, "#/body/contracts/0/right"),
        ({"contracts": [ROW | {"expiration": 20260320}]}, "#/body/contracts/0/expiration"),
        ({"contracts": [ROW | {"expiration": "2026-03-20"}]}, "#/body/contracts/0/years"),
        ({"contracts": [ROW | {"sigma": 1}]}, "#/body/contracts/0/sigma"),
        ({"contracts": []}, "#/body/contracts"),
        ({"contracts": [ROW] * (MOST_CONTRACTS + 1)}, "#/body/contracts"),
        ({"columns": ROW | {"strike": [1.0] * (MOST_CONTRACTS + 1)}}, "#/body/columns/strike"),
        ({"columns": ROW | {"spot": [1, 2, 3], "strike": [1, 2]}}, "#/body/columns/strike"),
        ({"columns": {name: value for name, value in ROW.items() if name != "years"}}, "#/body/columns"),
        ({"columns": ROW, "contracts": [ROW]}, "#/body"),
        ({}, "#/body"),
        (PRICE | {"style": "bermudan"}, "#/body/style"),
        (PRICE | {"as_of": "yesterday"}, "#/body/as_of"),
        (PRICE | {"style": "european", "dividends": [{"years": 0.1, "amount": 1}]}, "#/body/dividends"),
        (PRICE | {"dividends": [{"amount": 1}]}, "#/body/dividends/0"),
        (PRICE | {"dividends": [{"years": 0.1, "amount": -1}]}, "#/body/dividends/0/amount"),
        (PRICE | {"dividends": [{"ex_date": "2190-01-01", "amount": 1}]}, "#/body/dividends/0/ex_date"),
        ({"columns": ROW | {"strike": [90.0] * (MOST_ON_TREE + 1)}, "dividends": [{"years": 0.1, "amount": 1}]},
         "#/body/dividends"),
        ({"columns": ROW | {"rate": -0.01, "dividend_yield": -0.02, "strike": [90.0] * (MOST_ON_TREE + 1)}},
         "#/body/columns"),
    ],
)  # fmt: skip
def test_a_body_that_is_wrong_names_the_field(post, body, where):
    assert pointers(post("price", body)) == [where]


def test_what_is_no_object_is_told(post):
    for body in ("[]", "{", "1", '"text"', "null"):
        assert pointers(post("price", body)) == ["#/body"]


LONG = {"right": "C", "strike": 100, "years": 0.25, "bid": 6.3, "ask": 6.5, "quantity": 1}
SHORT = {"right": "C", "strike": 110, "years": 0.25, "bid": 2.5, "ask": 2.6, "quantity": -1}
VERTICAL = {"spot": 100, "rate": 0.04, "fee_per_contract": 0.65, "legs": [LONG, SHORT]}


def test_a_vertical_by_hand(post):
    found = post("strategies/analyze", VERTICAL).json
    # bought at 6.50, sold at 2.50, a hundred shares each; two fees
    assert found["cost"]["executable"] == pytest.approx(100 * (6.5 - 2.5) + 2 * 0.65)
    assert found["cost"]["mid"] == pytest.approx(100 * (6.4 - 2.55))
    assert found["cost"]["half_spreads"] == pytest.approx(100 * (0.1 + 0.05))
    assert found["cost"]["fees"] == pytest.approx(1.3)
    assert found["break_evens"] == {"spots": [pytest.approx(100 + 4.013)], "flat": []}
    extremes = found["extremes"]
    assert (extremes["greatest_gain"], extremes["gain_at"]) == (pytest.approx(1000 - 401.3), 110)
    assert (extremes["greatest_loss"], extremes["loss_at"]) == (pytest.approx(401.3), 0)
    assert (extremes["gain_unlimited"], extremes["loss_unlimited"]) == (False, False)
    assert [(knot["spot"], knot["payoff"]) for knot in found["payoff"]["knots"]] == [(0, 0), (100, 0), (110, 1000)]
    assert found["payoff"]["slope_above"] == 0
    # worth the mid at the volatilities of the mids, so that what is expected is what entry costs beyond it
    assert found["expected_profit"]["at_mid"]["value"] == pytest.approx(385.0, abs=1e-6)
    assert found["expected_profit"]["at_mid"]["profit"] == pytest.approx(-15 - 1.3, abs=1e-6)
    assert found["expected_profit"]["at_surface"]["value"] is None
    assert found["expected_profit"]["at_surface"]["reason"]
    assert found["source"] == "request"


def test_odds_and_greeks_are_those_of_the_library(post):
    found = post("strategies/analyze", VERTICAL).json
    legs = [Leg(1, 100.0, 0.25, 6.3, 6.5, 1), Leg(1, 110.0, 0.25, 2.5, 2.6, -1)]
    terms = (1, 100.0, np.array([100.0, 110.0]), 0.25, 0.04, 0.0)
    volatilities = american.implied_volatility([6.4, 2.55], *terms)
    assert [leg["volatility"] for leg in found["legs"]] == pytest.approx(volatilities.tolist())
    market = Market(100.0, 0.04, 0.0, tuple(volatilities.tolist()))
    position = custom(*legs)
    greeks = position_greeks(position, market)
    for name, scale in {"delta": 1, "gamma": 1, "theta": 1 / 365, "vega": 0.01, "rho": 0.01}.items():
        assert found["greeks"][name] == pytest.approx(float(getattr(greeks, name)) * scale), name
    odds = probability_of_profit(position, market, 401.3, float(volatilities[0]))
    assert found["probability_of_profit"]["flat"] == pytest.approx(odds.lognormal)
    assert found["probability_of_profit"]["flat_volatility"] == pytest.approx(volatilities[0])
    assert found["probability_of_profit"]["smile"] is None
    stated = post("strategies/analyze", VERTICAL | {"volatility": 0.5}).json["probability_of_profit"]
    assert stated["flat"] == pytest.approx(probability_of_profit(position, market, 401.3, 0.5).lognormal)


def test_a_calendar_is_judged_at_its_first_expiration(post):
    near = {"right": "C", "strike": 100, "years": 0.25, "bid": 6.3, "ask": 6.5, "quantity": -1, "volatility": 0.28}
    far = {"right": "C", "strike": 100, "years": 0.5, "bid": 9.1, "ask": 9.3, "quantity": 1, "volatility": 0.31}
    body = {"spot": 100, "rate": 0.04, "dividend_yield": 0.01, "legs": [near, far], "points": 21}
    found = post("strategies/analyze", body).json
    position = calendar_of(Leg(1, 100.0, 0.25, 6.3, 6.5), Leg(1, 100.0, 0.5, 9.1, 9.3))
    market = Market(100.0, 0.04, 0.01, (0.28, 0.31))
    cost = 100 * (9.3 - 6.3)
    peer = profit_at_first_expiration(position, market, cost)
    assert found["cost"]["executable"] == pytest.approx(cost)
    assert found["break_evens"]["spots"] == pytest.approx(peer.break_evens.spots.tolist())
    assert found["extremes"]["greatest_gain"] == pytest.approx(peer.extremes.maximum_gain)
    assert found["payoff"] is None
    assert "payoff" in found["reasons"]
    assert found["horizon"]["one_expiration"] is False
    assert any("first expiration" in one for one in found["assumptions"])
    assert len(found["profile"]) == 21
    middle = found["profile"][10]
    assert middle["spot"] == pytest.approx(found["horizon"]["forward"], rel=0.1)
    assert middle["at_horizon"] > found["profile"][0]["at_horizon"]


def test_stock_is_a_leg_and_unlimited_is_said(post):
    covered = {"spot": 100, "rate": 0.04, "legs": [{"type": "stock", "quantity": 100}, SHORT]}
    found = post("strategies/analyze", covered).json
    assert found["cost"]["executable"] == pytest.approx(100 * 100 - 250)
    assert found["greeks"]["delta"] == pytest.approx(100 - 100 * found["legs"][1]["delta"])
    assert found["extremes"]["greatest_gain"] == pytest.approx(11_000 - 9_750)
    assert any("spot" in one for one in found["assumptions"])
    naked = post("strategies/analyze", VERTICAL | {"legs": [SHORT]}).json["extremes"]
    assert (naked["greatest_loss"], naked["loss_unlimited"], naked["loss_at"]) == (None, True, None)
    with_quote = post(
        "strategies/analyze",
        VERTICAL | {"legs": [{"type": "stock", "quantity": 100, "bid": 99.9, "ask": 100.1}, SHORT]},
    ).json
    assert with_quote["cost"]["half_spreads"] == pytest.approx(100 * 0.1 + 100 * 0.05)


def test_a_missing_side_leaves_the_rest(post):
    one_sided = {name: value for name, value in LONG.items() if name != "ask"} | {"volatility": 0.3}
    found = post("strategies/analyze", VERTICAL | {"legs": [one_sided, SHORT]}).json
    assert found["cost"]["executable"] is None
    assert "leg 1" in found["cost"]["reason"]
    assert (found["break_evens"], found["extremes"], found["profile"]) == (None, None, None)
    assert set(found["reasons"]) == {"break_evens", "extremes", "profile"}
    assert found["probability_of_profit"]["flat"] is None
    assert found["greeks"]["delta"] is not None
    assert found["payoff"]["knots"][-1] == {"spot": 110, "payoff": 1000, "profit": None}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"legs": []}, "#/body/legs"),
        ({"legs": [LONG] * 41}, "#/body/legs"),
        ({"legs": [{"type": "stock", "quantity": 1}]}, "#/body/legs"),
        ({"legs": [LONG, SHORT | {"quantity": 0}]}, "#/body/legs/1/quantity"),
        ({"legs": [LONG, SHORT | {"strike": -1}]}, "#/body/legs/1/strike"),
        ({"legs": [LONG, {"right": "C", "years": 1, "quantity": 1}]}, "#/body/legs/1/strike"),
        ({"legs": [LONG, {"right": "C", "strike": 1, "quantity": 1}]}, "#/body/legs/1/years"),
        ({"legs": [LONG, SHORT | {"expiration": "2030-01-01"}]}, "#/body/legs/1/years"),
        ({"legs": [LONG, {"right": "C", "strike": 1, "quantity": 1, "expiration": "2015-12-24"}]},
         "#/body/legs/1/expiration"),
        ({"legs": [LONG, {"symbol": "GOOG151231C00750000", "quantity": 1}]}, "#/body/legs/0/symbol"),
        ({"legs": [{"symbol": "GOOG", "quantity": 1}], "spot": None, "rate": None}, "#/body/legs/0/symbol"),
        ({"legs": [{"symbol": "GOOG151231C00750000", "quantity": 1}]}, "#/body/spot"),
        ({"legs": [{"symbol": "GOOG151231C00750000", "strike": 750, "quantity": 1}]}, "#/body/legs/0/strike"),
        ({"legs": [LONG, {"type": "stock", "strike": 1, "quantity": 1}]}, "#/body/legs/1/strike"),
        ({"spot": None}, "#/body/spot"),
        ({"rate": None}, "#/body/rate"),
        ({"fee_per_contract": -1}, "#/body/fee_per_contract"),
        ({"points": 1002}, "#/body/points"),
    ],
)  # fmt: skip
def test_a_position_that_is_none_names_the_leg(post, change, where):
    answer = post("strategies/analyze", VERTICAL | change)
    assert pointers(answer) == [where]


def test_legs_on_two_underlyings_are_no_position(post):
    legs = [{"symbol": symbol, "quantity": 1} for symbol in ("GOOG151231C00750000", "AAPL151231C00100000")]
    assert pointers(post("strategies/analyze", {"legs": legs})) == ["#/body/legs/1/symbol"]
