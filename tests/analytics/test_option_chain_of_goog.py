"""The real chain of GOOG on 2015-12-24 at 11:00 New York, over HTTP: all 2,192 contracts, priced or with a reason."""

from __future__ import annotations

import numpy as np
import pytest

import quantlib_american as peer
from data_ingestion_support import Ingestion, settings_for
from option_chain_support import Analytics, desk_of
from ots_analytics.routes.options import ChainModel
from ots_common.times import to_nanoseconds
from ots_quant import american
from table_formats import FORMATS, assert_same

AT = "2015-12-24T16:00:00Z"
RATE = 0.003
FILES = [
    "OPRA.PILLAR/GOOG-2015-12-24/definition.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/cbbo-1m.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/ohlcv-1m.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/statistics.dbn.zst",
    "EQUS.MINI/GOOG-2015-12-24/ohlcv-1m.dbn.zst",
]


@pytest.fixture(scope="module")
def goog(market, redis_server, tmp_path_factory, real_data):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for file in FILES:
            service.imported((real_data / file).read_bytes())
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES ('2015-12-23', 'flat', '2015-12-23', 'test') RETURNING curve_id"
        )
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, %s, 'continuous')", (*cursor.fetchone(), RATE))
    return market


@pytest.fixture(scope="module")
def analytics(goog, redis_server):
    return Analytics(goog, redis_server)


@pytest.fixture(scope="module")
def answer(analytics):
    return analytics.answer(f"/options/GOOG?as_of={AT}")


@pytest.fixture(scope="module")
def priced(analytics):
    with desk_of(analytics.settings) as desk:
        return desk.chain("GOOG", desk.moment(to_nanoseconds(AT)))


def test_every_contract_of_the_day_is_there(answer):
    assert len(answer["contracts"]) == len({row["symbol"] for row in answer["contracts"]}) == 2192
    assert len(answer["expirations"]) == 12
    assert answer["expirations"][0]["years"] == pytest.approx(2 / 24 / 365)


def test_the_documented_example_is_what_is_answered(answer):
    example = ChainModel.model_config["json_schema_extra"]["example"]
    for name in ("as_of", "spot", "rate", "quality", "units"):
        assert answer[name] == example[name]
    for table, key in (("expirations", "expiration"), ("contracts", "symbol")):
        (shown,) = example[table]
        (row,) = (one for one in answer[table] if one[key] == shown[key])
        assert list(row) == list(shown) if table == "contracts" else set(row) == set(shown)
        assert row == {k: pytest.approx(v, rel=1e-6) if isinstance(v, float) else v for k, v in shown.items()}


def test_whatever_has_a_volatility_is_priced_and_all_else_has_a_reason(answer, priced):
    spot = answer["spot"]["price"]
    carried = {one["expiration"]: one for one in answer["expirations"]}
    without = 0
    for row in answer["contracts"]:
        assert (row["reason"] is None) == (row["implied_volatility"] is not None)
        one = carried[row["expiration"]]
        sided = row["bid"] is not None and row["ask"] is not None and 0 < row["bid"] <= row["ask"]
        if row["reason"] == "below_intrinsic":
            # worth no more than without any volatility
            terms = (1 if row["right"] == "C" else -1, spot, row["strike"], one["years"], RATE, one["dividend_yield"])
            assert row["mid"] <= float(american.price(*terms, 0.0)) + 1e-9
            without += 1
        elif row["reason"] == "stale":
            assert row["quote_age_s"] > 900
        else:
            assert (row["reason"] is None) == sided, row
    assert 0 < without < 150
    assert answer["quality"]["with_volatility"] > 950


def test_bid_mid_and_ask_stand_in_order(answer):
    rows = [row for row in answer["contracts"] if row["implied_volatility"]]
    for row in rows:
        below, above = row["bid_implied_volatility"], row["ask_implied_volatility"]
        assert below is None or below <= row["implied_volatility"]
        assert above is None or row["implied_volatility"] <= above


def test_call_and_put_at_the_money_agree_within_the_spread(answer):
    pairs = {}
    for row in answer["contracts"]:
        if row["implied_volatility"]:
            pairs.setdefault((row["expiration"], row["strike"]), {})[row["right"]] = row
    seen = 0
    for one in answer["expirations"]:
        strikes = [k for (day, k), pair in pairs.items() if day == one["expiration"] and len(pair) == 2]
        for strike in sorted(strikes, key=lambda k: abs(k - one["forward"]))[:3]:
            call, put = (pairs[one["expiration"], strike][right] for right in "CP")
            sides = [(row["bid_implied_volatility"] or 0.0, row["ask_implied_volatility"]) for row in (call, put)]
            assert max(low for low, _ in sides) <= min(high for _, high in sides), (call, put)
            seen += 1
    assert seen >= 30


def test_the_surface_has_no_arbitrage_within_the_quoted_strikes(priced):
    certificate = priced.surface.certificate
    assert certificate.arbitrage_free_inside
    assert certificate.butterfly_inside.points > 4000
    assert certificate.share_within_spread > 0.95


def test_theoretical_values_lie_where_quotes_are(answer):
    within, told = 0, 0
    for row in answer["contracts"]:
        if row["theoretical"] is not None and row["implied_volatility"]:
            told += 1
            within += row["bid"] - 1e-9 <= row["theoretical"] <= row["ask"] + 1e-9
    assert told > 800
    assert within / told > 0.9


def test_quantlib_prices_the_same(answer):
    """Its American engine, at our volatility and carry, gives back the mid."""
    spot = answer["spot"]["price"]
    rows = [row for row in answer["contracts"] if row["implied_volatility"] and row["days_to_expiration"] > 3]
    carried = {one["expiration"]: one for one in answer["expirations"]}
    for row in rows[:: len(rows) // 60]:
        one, sign = carried[row["expiration"]], 1 if row["right"] == "C" else -1
        theirs = _quantlib(sign, spot, row["strike"], one["years"], one["dividend_yield"], row["implied_volatility"])
        assert abs(theirs - row["mid"]) < 5e-5 * spot, row


def _quantlib(right, spot, strike, years, dividend_yield, volatility) -> float:
    """It counts whole days: what is left of one is stretched over the rates and the variance."""
    days = max(1, round(years * 365))
    stretch = years / (days / 365)
    return peer.price(right, spot, strike, days, RATE * stretch, dividend_yield * stretch, volatility * stretch**0.5)


def test_open_interest_and_trades_are_those_of_the_files(answer):
    counted = [row for row in answer["contracts"] if row["open_interest"] is not None]
    assert len(counted) == 2058
    assert {row["open_interest_date"] for row in counted} == {"2015-12-23"}
    traded = [row for row in answer["contracts"] if row["volume"]]
    assert len(traded) > 100
    assert all(row["last"] > 0 and row["last_time"] <= AT for row in traded)


@pytest.mark.parametrize("accept", FORMATS)
def test_every_format_has_all_contracts_and_the_same_values(analytics, answer, accept):
    found = analytics.get(f"/options/GOOG?as_of={AT}", Accept=accept)
    assert found.content_type.startswith(accept)
    assert_same(found.content_type, found.data, answer["contracts"])


def test_what_is_read_is_the_same_by_latest_quotes_as_by_looking_back(goog, priced, analytics):
    """The newest quotes of all are asked where they are old enough, else the session is: no answer depends on which."""
    with goog.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT * FROM quote_latest")
        cursor.execute("UPDATE quote_latest l SET ts = q.ts, ts_ns = q.ts_ns, bid = q.bid, ask = q.ask,"
                       " bid_size = q.bid_size, ask_size = q.ask_size FROM instruments i CROSS JOIN LATERAL ("
                       " SELECT * FROM quotes q WHERE q.instrument_id = i.instrument_id AND q.ts <= %s"
                       " ORDER BY ts DESC LIMIT 1) q WHERE i.instrument_id = l.instrument_id", (AT,))  # fmt: skip
        assert cursor.rowcount == 2192
    with desk_of(analytics.settings) as desk:
        again = desk.chain("GOOG", desk.moment(to_nanoseconds(AT)))
    for name in ("symbol", "bid", "ask", "bid_size", "quoted_at", "implied_volatility", "theoretical", "reason"):
        np.testing.assert_array_equal(getattr(again, name), getattr(priced, name))
    with goog.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE quote_latest; INSERT INTO quote_latest SELECT * FROM kept; DROP TABLE kept")


def test_the_scan_of_eleven_leaves_what_costs_allow(analytics):
    answer = analytics.answer(f"/scan?as_of={AT}&limit=500")
    quality, rows = answer["quality"], answer["candidates"]
    assert quality["looked_at"] == 2192 == quality["candidates"] + sum(quality["left_out"].values())
    # on a quiet half day, at 5 % net of these spreads, few of 2,192 are plausible within the hour
    assert 20 < len(rows) < 150
    for row in rows:
        assert row["min_move_probability"] < row["min_move_frictionless"] - 0.05
        assert row["expected_value"] == pytest.approx(-row["cost"], rel=0.02)
        assert abs(row["volatility"] - row["implied_volatility"]) < 0.06
        assert abs(row["delta"]) < 0.95  # deep contracts do not move by that much
        assert row["spread_pct"] <= 10
        assert row["open_interest"] is None or row["open_interest"] >= 0
    assert any(row["open_interest"] for row in rows)
    assert any(row["volume"] for row in rows)
    # the document's example is this answer
    example = analytics.app.api_doc["components"]["schemas"]["ScanModel"]["example"]
    for name, value in example.items():
        if name == "candidates":
            assert value == [{field: rows[0][field] for field in value[0]}]
        elif name != "next":
            assert value == answer[name], name
    # the move of the underlying that is named lifts the option by what the costs and the move ask for
    first = rows[0]
    expires = np.datetime64(f"{first['expiration']}T21:00:00") - np.datetime64(AT[:-1])
    spots = first["spot"] + np.array([0.0, first["min_move_underlying"]])
    terms = (1.0 if first["right"] == "C" else -1.0, spots, first["strike"], expires / np.timedelta64(365, "D"))
    now, then = american.price(*terms, RATE, 0.0, first["volatility"])
    assert then - now == pytest.approx(first["min_move_mid"] - first["mid"], rel=0.02)


def test_the_horizon_of_the_half_day_ends_at_its_close(analytics):
    answer = analytics.answer("/scan?as_of=2015-12-24T17:30:00Z&horizon_minutes=60&limit=5")
    assert (answer["horizon_ends"], answer["horizon_minutes"]) == ("2015-12-24T18:00:00Z", 30)
    assert answer["horizon_cut"] is True
    assert answer["quality"]["left_out"]["expires_within_horizon"] > 0
    for closed in ("2015-12-24T18:00:00Z", "2015-12-25T16:00:00Z"):
        assert analytics.get(f"/scan?as_of={closed}").status_code == 422
