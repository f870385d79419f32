"""One contract over time, and positions of stored contracts: the closes of two sessions and a minute between."""

from __future__ import annotations

import csv
import io
from contextlib import closing

import numpy as np
import pytest
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from ots_analytics.app import create_app
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.snapshots import Snapshotter
from ots_analytics.strategy_analysis import executable
from ots_chains.chains import Moment
from ots_common.database import connect
from ots_common.times import rfc3339, to_datetime
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_market.sessions import sessions_of
from ots_quant import american
from ots_quant.density import risk_neutral
from ots_quant.strategies import Leg, Market, custom, probability_of_profit, profit_at_first_expiration
from seeded_market import DAY, EQUITIES, MINUTE, TODAY, make_market
from volatility_support import catch_up, import_close, import_records, settings_of

KEY = SecretStr("a" * 40)
CLOSE = (TODAY + 1) * DAY
EARLIER = CLOSE - 2 * MINUTE
NOW = CLOSE + 5 * MINUTE
RATE = 0.0425
FIGURES = ("mid", "implied_volatility", "delta", "gamma", "theta", "vega")


@pytest.fixture(scope="module")
def stored(market, redis_server, tmp_path_factory):
    seeded = make_market(now=NOW)
    service = Ingestion(
        settings_for(market, redis_server, tmp_path_factory.mktemp("spool"), market_calendar="around-the-clock")
    )
    with service.working():
        import_close(service, seeded, TODAY - 1, ["AAPL"])
        import_close(service, seeded, TODAY, ["AAPL"], minutes=4)
        import_records(service, seeded, EQUITIES, "bbo-1m", TODAY, EARLIER, CLOSE, ["AAPL"])
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES ('2026-03-10', 'flat', '2026-03-10', 'test') RETURNING curve_id"
        )
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, %s, 'continuous')", (*cursor.fetchone(), RATE))
    assert catch_up(market, NOW) == 2
    sessions = sessions_of("around-the-clock")
    index = int(np.searchsorted(sessions.dates, np.datetime64(TODAY, "D")))
    moment = Moment(EARLIER, sessions.date_at(index), int(sessions.opens[index]), int(sessions.closes[index]))
    with closing(connect(market.snapshots, application="tests")) as connection:
        assert Snapshotter(settings_of(market), lambda: NOW).take(connection, moment) == 1
    return market.database


@pytest.fixture(scope="module")
def client(stored, market):
    settings = AnalyticsSettings(
        database_url=market.reader, accept_keys={"gateway": KEY}, log_level="ERROR", market_source="simulated",
        market_calendar="around-the-clock",
    )  # fmt: skip
    return create_app(settings).test_client()


@pytest.fixture(scope="module")
def ask(client):
    def asked(path, body=None, accept="application/json"):
        token = sign_internal_token(
            Caller("gateway", "u", "u", "viewer", "request-01"), "analytics", {"analytics": KEY}
        )
        headers = {HEADER: token, "Accept": accept}
        url = f"/api/v1/analytics/options/{path}"
        return client.get(url, headers=headers) if body is None else client.post(url, headers=headers, json=body)

    return asked


@pytest.fixture(scope="module")
def chain(ask):
    """The contracts at the close with a volatility, of the third expiration and the fifth, by symbol."""
    return ask(f"AAPL?as_of={rfc3339(CLOSE)}").json


def near_the_money(chain, expiration: int, right: str, offset: int = 0) -> dict:
    days = sorted({one["expiration"] for one in chain["contracts"]})
    own = [
        one
        for one in chain["contracts"]
        if one["expiration"] == days[expiration] and one["right"] == right and one["theoretical"] is not None
    ]
    nearest = min(range(len(own)), key=lambda i: abs(own[i]["strike"] - chain["spot"]["price"]))
    return own[nearest + offset]


def history(ask, symbol, query="") -> dict:
    answer = ask(f"AAPL/contract-history?symbol={symbol}&as_of={rfc3339(NOW)}&{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def test_a_contract_over_time_is_what_its_chain_answered_then(ask, chain):
    contract = near_the_money(chain, 3, "C")
    body = history(ask, contract["symbol"], "moments=all&days=3")
    assert [row["at"] for row in body["history"]] == [rfc3339(at) for at in (CLOSE - DAY, EARLIER, CLOSE)]
    assert [row["closing"] for row in body["history"]] == [True, False, True]
    for row in body["history"]:
        then = ask(f"AAPL?as_of={row['at']}").json
        (answered,) = [one for one in then["contracts"] if one["symbol"] == contract["symbol"]]
        assert row["spot"] == then["spot"]["price"]
        assert row["reason"] is None
        for name in FIGURES:
            # stored as float4 and told in its fewest digits; answered with eight decimals
            assert row[name] == pytest.approx(answered[name], abs=6e-9 + 1.3e-7 * abs(answered[name])), name
    assert (body["strike"], body["expiration"], body["right"]) == (contract["strike"], contract["expiration"], "C")
    assert body["quality"] == {
        "snapshots": 3, "with_volatility": 3, "without_volatility": {}, "sessions_missing": 1, "stale": False,
    }  # fmt: skip
    assert body["as_of"] <= rfc3339(CLOSE)
    assert set(FIGURES) <= {name for names in body["units"] for name in names.split(", ")}


def test_only_closes_are_the_days_values(ask, chain):
    symbol = near_the_money(chain, 3, "P")["symbol"]
    assert [row["closing"] for row in history(ask, symbol)["history"]] == [True, True]
    # nothing later is told
    early = ask(f"AAPL/contract-history?symbol={symbol}&as_of={rfc3339(CLOSE - 1)}&moments=all&days=2").json
    assert [row["at"] for row in early["history"]] == [rfc3339(CLOSE - DAY), rfc3339(EARLIER)]


def test_what_has_no_volatility_has_a_reason(ask, chain, stored):
    without = next(one for one in chain["contracts"] if one["reason"] not in (None, "no_quote"))
    row = history(ask, without["symbol"])["history"][-1]
    assert row["reason"] == without["reason"]
    assert (row["implied_volatility"], row["delta"]) == (None, None)
    # of a contract that was not quoted there is nothing in a snapshot
    contract = near_the_money(chain, 3, "C")["symbol"]
    (number,) = stored.rows(
        "SELECT instrument_id FROM instruments WHERE replace(raw_symbol, ' ', '') = %s", (contract,)
    )
    at = to_datetime(CLOSE - DAY)
    kept = stored.rows("SELECT instrument_ids, expiration FROM volatility_contracts WHERE ts = %s", (at,))
    try:
        stored.execute(
            "UPDATE volatility_contracts SET instrument_ids = array_replace(instrument_ids, %s, -1) WHERE ts = %s",
            (number[0], at),
        )
        body = history(ask, contract)
        assert [row["reason"] for row in body["history"]] == ["no_quote", None]
        assert body["history"][0]["mid"] is None
        assert body["history"][0]["spot"] is not None
        assert body["quality"]["without_volatility"] == {"no_quote": 1}
        stored.execute("UPDATE volatility_snapshots SET method = 'older' WHERE ts = %s", (at,))
        assert history(ask, contract)["history"][0]["reason"] == "not_stored"
    finally:
        for ids, expiration in kept:
            stored.execute(
                "UPDATE volatility_contracts SET instrument_ids = %s WHERE ts = %s AND expiration = %s",
                (ids, at, expiration),
            )


def test_csv_and_chosen_fields_have_the_same_values(ask, chain):
    symbol = near_the_money(chain, 4, "C")["symbol"]
    rows = history(ask, symbol, "fields=at,delta")["history"]
    assert [list(row) for row in rows] == [["at", "delta"]] * 2
    url = f"AAPL/contract-history?symbol={symbol}&as_of={rfc3339(NOW)}&fields=at,delta"
    found = list(csv.DictReader(io.StringIO(ask(url, accept="text/csv").text)))
    assert [(row["at"], float(row["delta"])) for row in found] == [(row["at"], row["delta"]) for row in rows]


@pytest.mark.parametrize(
    ("path", "status", "names"),
    [
        ("AAPL/contract-history", 422, "symbol"),
        ("AAPL/contract-history?symbol=AAPL", 422, "OSI"),
        ("AAPL/contract-history?symbol=GOOG260320C00100000", 422, "GOOG"),
        ("AAPL/contract-history?symbol=AAPL260320C00100000&fields=price", 422, "price"),
        ("AAPL/contract-history?symbol=AAPL260320C00100000&moments=all", 422, "7"),
        ("AAPL/contract-history?symbol=AAPL990320C00100000", 404, "AAPL990320C00100000"),
        ("IBM/contract-history?symbol=IBM260320C00100000", 404, "IBM"),
    ],
)
def test_a_question_without_an_answer_says_why(ask, path, status, names):
    answer = ask(path)
    assert answer.status_code == status
    assert names in answer.text


def test_without_snapshots_it_says_what_there_is(ask, chain):
    symbol = near_the_money(chain, 3, "C")["symbol"]
    answer = ask(f"AAPL/contract-history?symbol={symbol}&as_of=2026-01-01")
    assert answer.status_code == 404
    assert answer.json["available"] == ["AAPL"]


def analyzed(ask, legs, **more) -> dict:
    answer = ask("strategies/analyze", {"as_of": rfc3339(CLOSE), "legs": legs, **more})
    assert answer.status_code == 200, answer.text
    return answer.json


def test_a_spread_of_stored_contracts_costs_what_their_quotes_say(ask, chain):
    bought, sold = near_the_money(chain, 3, "C"), near_the_money(chain, 3, "C", 2)
    legs = [{"symbol": bought["symbol"], "quantity": 2}, {"symbol": sold["symbol"], "quantity": -2}]
    found = analyzed(ask, legs, fee_per_contract=0.5)
    cost = 200 * (bought["ask"] - sold["bid"]) + 4 * 0.5
    assert found["cost"]["executable"] == pytest.approx(cost)
    assert found["cost"]["mid"] == pytest.approx(200 * (bought["mid"] - sold["mid"]))
    assert found["break_evens"]["spots"] == [pytest.approx(bought["strike"] + cost / 200)]
    assert found["extremes"]["greatest_gain"] == pytest.approx(200 * (sold["strike"] - bought["strike"]) - cost)
    for name in ("delta", "gamma", "theta", "vega", "rho"):
        assert found["greeks"][name] == pytest.approx(200 * (bought[name] - sold[name]), abs=1e-4), name
    at_mid, at_surface = found["expected_profit"]["at_mid"], found["expected_profit"]["at_surface"]
    assert at_mid["profit"] == pytest.approx(-found["cost"]["half_spreads"] - 2.0, abs=1e-4)
    fair = 200 * (bought["theoretical"] - sold["theoretical"])
    assert at_surface["profit"] == pytest.approx(fair - cost, abs=1e-4)
    assert (found["underlying"], found["source"], found["rate"]["kind"]) == ("AAPL", "simulated", "curve")
    assert found["quality"] == chain["quality"]


def test_the_odds_are_those_of_the_surface(ask, chain):
    bought = near_the_money(chain, 3, "C")
    found = analyzed(ask, [{"symbol": bought["symbol"], "quantity": 1}])
    horizon = found["horizon"]
    market = Market(found["spot"]["price"], horizon["rate"], horizon["dividend_yield"], (0.3,))
    leg = Leg(1, bought["strike"], horizon["years"], bought["bid"], bought["ask"])
    odds = found["probability_of_profit"]
    peer = probability_of_profit(custom(leg), market, found["cost"]["executable"], odds["flat_volatility"])
    assert odds["flat"] == pytest.approx(peer.lognormal)
    # by the smile of the same expiration, through its own quotes
    own = [
        one
        for one in chain["contracts"]
        if one["expiration"] == bought["expiration"]
        and one["implied_volatility"]
        and (one["right"] == "C") == (one["strike"] > horizon["forward"])
    ]
    smile = [one["strike"] for one in own], [one["implied_volatility"] for one in own]
    above = risk_neutral(smile, horizon["forward"], horizon["years"]).probability_above(found["break_evens"]["spots"])
    assert odds["smile"] == pytest.approx(float(above[0]), abs=0.02)
    assert abs(odds["smile"] - odds["flat"]) > 1e-4


def test_a_calendar_of_stored_contracts_keeps_the_prices_of_both(ask, chain):
    near, far = near_the_money(chain, 3, "C"), near_the_money(chain, 4, "C")
    assert far["expiration"] > near["expiration"]
    legs = [{"symbol": near["symbol"], "quantity": -1}, {"symbol": far["symbol"], "quantity": 1}]
    found = analyzed(ask, legs, points=11)
    horizon, years = found["horizon"], [leg["years"] for leg in found["legs"]]
    strikes = np.array([near["strike"], far["strike"]])
    # one rate and one dividend yield for both, at which the later leg is worth its mid again
    terms = (found["spot"]["price"], strikes, np.array(years), horizon["rate"], horizon["dividend_yield"])
    volatilities = american.implied_volatility([near["mid"], far["mid"]], 1, *terms)
    market = Market(found["spot"]["price"], horizon["rate"], horizon["dividend_yield"], tuple(volatilities.tolist()))
    position = custom(
        Leg(1, near["strike"], years[0], near["bid"], near["ask"], -1.0),
        Leg(1, far["strike"], years[1], far["bid"], far["ask"], 1.0),
    )
    peer = profit_at_first_expiration(position, market, 100 * (far["ask"] - near["bid"]))
    assert found["extremes"]["greatest_gain"] == pytest.approx(peer.extremes.maximum_gain, rel=1e-6)
    assert found["break_evens"]["spots"] == pytest.approx(peer.break_evens.spots.tolist(), rel=1e-6)
    assert found["horizon"]["expiration"] == near["expiration"]
    # Greeks are those of the legs as their chain gives them
    assert found["greeks"]["vega"] == pytest.approx(100 * (far["vega"] - near["vega"]), abs=1e-4)


def test_stock_is_sold_at_its_bid(ask, chain, stored):
    contract = near_the_money(chain, 3, "C")
    found = analyzed(ask, [{"symbol": contract["symbol"], "quantity": 1}, {"type": "stock", "quantity": -50}])
    ((bid, offer),) = stored.rows(
        "SELECT bid, ask FROM quotes JOIN instruments USING (instrument_id) WHERE raw_symbol = 'AAPL' AND ts <= %s"
        " ORDER BY ts DESC LIMIT 1",
        (to_datetime(CLOSE),),
    )
    stock = found["legs"][1]
    assert (stock["bid"], stock["ask"]) == (bid / 1e9, offer / 1e9)
    assert bid < offer
    assert found["cost"]["executable"] == pytest.approx(100 * contract["ask"] - 50 * bid / 1e9)
    assert not any("spot" in one for one in found["assumptions"])
    given = [{"symbol": contract["symbol"], "quantity": 1}, {"type": "stock", "quantity": -50, "bid": 1, "ask": 2}]
    assert analyzed(ask, given)["legs"][1]["bid"] == 1


def test_a_leg_that_is_not_stored_is_named(ask, chain):
    good = near_the_money(chain, 3, "C")["symbol"]
    legs = [{"symbol": good, "quantity": 1}, {"symbol": "AAPL990320C00100000", "quantity": -1}]
    answer = ask("strategies/analyze", {"as_of": rfc3339(CLOSE), "legs": legs})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["#/body/legs/1/symbol"]
    unknown = ask("strategies/analyze", {"legs": [{"symbol": "IBM260320C00100000", "quantity": 1}]})
    assert unknown.status_code == 404
    assert unknown.json["available"] == ["AAPL"]


def test_without_a_bid_nothing_is_sold(ask, chain):
    without = next(one for one in chain["contracts"] if one["reason"] == "no_bid")
    found = analyzed(ask, [{"symbol": without["symbol"], "quantity": -1}])
    assert found["legs"][0]["reason"] == "no_bid"
    assert not found["cost"]["executable"]
    assert found["cost"]["problems"]


def test_nobody_trades_at_an_old_quote():
    leg = Leg(1, 100.0, 0.1, 1.0, 1.1)
    assert executable(leg, fresh=True) == leg
    assert np.isnan([executable(leg, fresh=False).bid, executable(leg, fresh=False).ask]).all()
