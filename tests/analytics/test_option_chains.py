"""A chain over HTTP whose every quote is made by hand: what is answered of each contract, and what is not yet known."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from databento_dbn import Schema
from prometheus_client import REGISTRY

from data_ingestion_support import Ingestion, settings_for
from dbn import MINUTE, bar, dbn_file, midnight, quote, trade
from option_chain_support import (
    CLOSE,
    CONTRACTS,
    ELEVEN,
    EXPIRATIONS,
    HALF_SPREAD,
    IDS,
    OPEN,
    RATE,
    SESSION,
    SPOT,
    STRIKES,
    VOLATILITY,
    YIELD,
    Analytics,
    definitions_at,
    open_interest_at,
    osi,
    quotes_at,
    store,
    store_spot,
    value_of,
    worth_quoting,
    years_of,
)
from ots_common.times import rfc3339
from ots_quant import american

SECOND = 10**9
LAST = EXPIRATIONS[2]
AT_ELEVEN = f"as_of={rfc3339(ELEVEN)}"

# what is wrong with the quote of each: (bid, ask, quoted at) or None where there is none
WRONG = {
    osi(LAST, "P", 90.0): ("no_bid", None, 0.4, ELEVEN - MINUTE),
    osi(LAST, "C", 110.0): ("no_ask", 0.5, None, ELEVEN - MINUTE),
    osi(LAST, "C", 107.5): ("crossed", 1.0, 0.9, ELEVEN - MINUTE),
    osi(LAST, "P", 92.5): ("stale", 0.7, 0.8, ELEVEN - 901 * SECOND),
    osi(LAST, "C", 90.0): ("below_intrinsic", 9.0, 9.2, ELEVEN - MINUTE),
    osi(LAST, "P", 110.0): ("above_bound", 120.0, 121.0, ELEVEN - MINUTE),
}
UNQUOTED = osi(LAST, "P", 107.5)
TRADED, BARRED, COUNTED = osi(LAST, "C", 100.0), osi(LAST, "P", 100.0), osi(LAST, "C", 102.5)
ADJUSTED = osi(LAST, "C", 100.0, root="TEST1")
LISTED_LATER = osi(date(2016, 3, 18), "C", 100.0)


@pytest.fixture(scope="module")
def service(market, redis_server, tmp_path_factory):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        store_spot(service, ELEVEN - MINUTE, SPOT)
        store(service, "definition", definitions_at(midnight(SESSION) + 540 * MINUTE))
        store(service, "cbbo-1m", quotes_at(ELEVEN - MINUTE, without=[*WRONG, UNQUOTED]))
        wrong = [quote(at, bid, ask, instrument=IDS[symbol]) for symbol, (_, bid, ask, at) in WRONG.items()]
        store(service, "cbbo-1m", wrong)
        store(service, "trades", [
            trade(ELEVEN - 50 * MINUTE, 3.9, 2, instrument=IDS[TRADED], publisher=20),
            trade(ELEVEN - 30 * MINUTE, 4.0, 3, instrument=IDS[TRADED], publisher=20),
            trade(ELEVEN - 30 * MINUTE + SECOND, 4.1, 4, instrument=IDS[TRADED], publisher=21),
        ])  # fmt: skip
        bars = [bar(ELEVEN - 20 * MINUTE, (3.0, 3.2, 2.9, 3.1), 11, instrument=IDS[BARRED], publisher=22)]
        store(service, "ohlcv-1m", bars)
        counted = midnight(SESSION) + 690 * MINUTE
        store(service, "statistics", open_interest_at(counted, COUNTED, 77))
        adjusted = definitions_at(midnight(SESSION) + 540 * MINUTE, {ADJUSTED: (9, LAST, "C", 100.0)})
        store(service, "definition", adjusted, {ADJUSTED: 9})
        yield service


@pytest.fixture(scope="module")
def analytics(market, redis_server, service):
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES ('2015-12-23', 'flat', '2015-12-23', 'test') RETURNING curve_id"
        )
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, %s, 'continuous')", (*cursor.fetchone(), RATE))
    return Analytics(market, redis_server)


@pytest.fixture(scope="module")
def chain(analytics):
    return analytics.answer(f"/options/test?{AT_ELEVEN}")


@pytest.fixture(scope="module")
def rows(chain):
    return {row["symbol"]: row for row in chain["contracts"]}


def plain(symbol: str) -> str:
    return symbol.replace(" ", "")


def test_every_live_contract_is_there_once_and_in_order(chain):
    expected = sorted(CONTRACTS.values(), key=lambda c: (c[1], c[3], c[2]))
    found = [(row["expiration"], row["strike"], row["right"]) for row in chain["contracts"]]
    assert found == [(day.isoformat(), strike, right) for _, day, right, strike in expected]
    assert [row["symbol"] for row in chain["contracts"]] == [
        plain(osi(day, right, strike)) for _, day, right, strike in expected
    ]
    assert chain["next"] is None
    assert chain["quality"]["contracts"] == len(CONTRACTS)
    assert chain["quality"]["other_deliverables"] == 1


def test_the_heading_says_what_it_rests_on(chain):
    assert chain["underlying"] == "TEST"
    assert chain["as_of"] == "2015-12-24T16:00:00Z"
    assert chain["session"] == "2015-12-24"
    assert chain["spot"] == {"price": SPOT, "time": "2015-12-24T16:00:00Z", "kind": "bar"}
    assert chain["newest_input"] == "2015-12-24T16:00:00Z"
    assert chain["rate"] == {"kind": "curve", "detail": "flat, 2015-12-23"}
    assert chain["quality"]["newest_quote"] == "2015-12-24T15:59:00Z"


def test_known_volatilities_come_back_with_their_greeks(rows):
    quoted = [s for s in CONTRACTS if worth_quoting(s) and s not in WRONG and s != UNQUOTED and CONTRACTS[s][1] == LAST]
    assert len(quoted) > 8
    for symbol in quoted:
        _, day, right, strike = CONTRACTS[symbol]
        row, terms = rows[plain(symbol)], (1.0 if right == "C" else -1.0, SPOT, strike, years_of(day), RATE, YIELD)
        assert row["implied_volatility"] == pytest.approx(VOLATILITY, abs=0.01)
        assert row["bid_implied_volatility"] < row["implied_volatility"] < row["ask_implied_volatility"]
        greeks = american.greeks(*terms, row["implied_volatility"])
        # the forward is found by parity, which quotes of whole cents leave a little open
        assert row["delta"] == pytest.approx(float(greeks.delta), abs=0.01)
        assert row["gamma"] == pytest.approx(float(greeks.gamma), rel=0.05)
        assert row["theta"] == pytest.approx(float(greeks.theta) / 365, rel=0.1)
        assert row["vega"] == pytest.approx(float(greeks.vega) / 100, rel=0.05)
        assert row["rho"] == pytest.approx(float(greeks.rho) / 100, rel=0.1, abs=1e-4)
        if 95 <= strike <= 105:  # beyond these a leg out of the money is not quoted, and the surface ends
            assert row["theoretical"] == pytest.approx(value_of(symbol), abs=0.05)
        assert row["reason"] is None
        assert row["model"] == "american"
        assert row["mid"] == pytest.approx(value_of(symbol))
        assert row["spread_pct"] == pytest.approx(2 * HALF_SPREAD / row["mid"] * 100, abs=1e-3)
        assert (row["bid_size"], row["ask_size"]) == (10, 20)
        assert (row["quote_time"], row["quote_age_s"]) == ("2015-12-24T15:59:00Z", 60.0)


def test_what_is_wrong_with_a_quote_is_said(rows):
    for symbol, (reason, bid, ask, _) in WRONG.items():
        row = rows[plain(symbol)]
        assert (row["reason"], row["bid"], row["ask"]) == (reason, bid, ask)
        assert all(row[name] is None for name in ("implied_volatility", "delta", "vega", "model"))
    assert rows[plain(osi(LAST, "P", 90.0))]["ask_implied_volatility"] > 0
    assert rows[plain(osi(LAST, "P", 90.0))]["theoretical"] is None
    for name in ("stale", "crossed"):
        (symbol,) = (s for s, (reason, *_) in WRONG.items() if reason == name)
        assert rows[plain(symbol)]["ask_implied_volatility"] is None
    unquoted = rows[plain(UNQUOTED)]
    assert unquoted["reason"] == "no_quote"
    assert all(unquoted[name] is None for name in ("bid", "ask", "bid_size", "quote_time", "quote_age_s", "mid"))


def test_counts_and_reasons_agree(chain):
    reasons = [row["reason"] for row in chain["contracts"] if row["reason"]]
    quality = chain["quality"]
    assert quality["without_volatility"] == {name: reasons.count(name) for name in sorted(set(reasons))}
    assert quality["with_volatility"] == len(chain["contracts"]) - len(reasons)
    assert (quality["crossed"], quality["stale_quotes"], quality["stale"]) == (1, 1, False)
    assert sum(one["contracts"] for one in chain["expirations"]) == len(chain["contracts"])


def test_an_option_of_a_half_day_expires_at_its_early_close(chain, analytics):
    first, second, _ = chain["expirations"]
    assert first["years"] == pytest.approx(2 / 24 / 365)
    assert second["years"] == pytest.approx((7 + 5 / 24) / 365)
    at_close = analytics.answer(f"/options/TEST?as_of={rfc3339(CLOSE)}")
    assert [one["expiration"] for one in at_close["expirations"]] == ["2015-12-31", "2016-01-15"]
    just_before = analytics.answer(f"/options/TEST?as_of={rfc3339(CLOSE - 1)}")
    assert just_before["expirations"][0]["expiration"] == "2015-12-24"
    # an afternoon later it is still that close that is answered for
    assert analytics.answer("/options/TEST?as_of=2015-12-24T20:00:00Z")["as_of"] == rfc3339(CLOSE)


def test_an_expiration_says_what_it_was_priced_with(chain):
    for one in chain["expirations"][1:]:
        assert one["forward_low"] <= one["forward"] <= one["forward_high"]
        assert one["forward"] == pytest.approx(SPOT * np.exp((RATE - YIELD) * one["years"]), abs=0.02)
        assert one["rate"] == pytest.approx(RATE)
        assert (one["rate_method"], one["reason"]) == ("curve", None)
        assert one["dividend_yield"] == pytest.approx(one["rate"] - np.log(one["forward"] / SPOT) / one["years"])
        assert one["forward_method"].startswith("put-call parity of")


def test_volume_and_last_are_those_of_the_session_so_far(rows, analytics):
    assert (rows[plain(TRADED)]["volume"], rows[plain(TRADED)]["last"]) == (9, 4.1)
    assert rows[plain(TRADED)]["last_time"] == rfc3339(ELEVEN - 30 * MINUTE + SECOND)
    assert (rows[plain(BARRED)]["volume"], rows[plain(BARRED)]["last"]) == (11, 3.1)
    assert rows[plain(BARRED)]["last_time"] == rfc3339(ELEVEN - 19 * MINUTE)
    assert (rows[plain(COUNTED)]["volume"], rows[plain(COUNTED)]["last"]) == (0, None)
    # in the middle of a minute its own trades count, and its bar is not over
    for at, volume, last in (
        (ELEVEN - 30 * MINUTE, 5, 4.0),
        (ELEVEN - 30 * MINUTE + SECOND - 1, 5, 4.0),
        (ELEVEN - 30 * MINUTE + SECOND, 9, 4.1),
        (ELEVEN - 50 * MINUTE - 1, 0, None),
    ):
        row = one_contract(analytics, TRADED, at)
        assert (row["volume"], row["last"]) == (volume, last)
    for at, volume in ((ELEVEN - 19 * MINUTE - 1, 0), (ELEVEN - 19 * MINUTE, 11)):
        assert one_contract(analytics, BARRED, at)["volume"] == volume


def one_contract(analytics, symbol: str, at_ns: int) -> dict:
    _, day, right, strike = CONTRACTS[symbol]
    asked = f"expiration={day}&right={right}&strike_min={strike}&strike_max={strike}"
    (row,) = analytics.answer(f"/options/TEST?as_of={rfc3339(at_ns)}&{asked}")["contracts"]
    return row


def test_open_interest_is_that_of_one_publisher_and_says_its_date(rows):
    assert (rows[plain(COUNTED)]["open_interest"], rows[plain(COUNTED)]["open_interest_date"]) == (77, "2015-12-23")
    assert (rows[plain(TRADED)]["open_interest"], rows[plain(TRADED)]["open_interest_date"]) == (None, None)


def test_nothing_that_came_later_changes_what_was_known(analytics, service, chain):
    later = ELEVEN + 10 * SECOND
    with_nanoseconds = ELEVEN + 1
    store(service, "cbbo-1m", quotes_at(later, volatility=0.6))
    store(service, "cbbo-1m", [quote(with_nanoseconds, 5.0, 5.1, instrument=IDS[TRADED])])
    store(service, "trades", [trade(with_nanoseconds, 9.9, 1000, instrument=IDS[TRADED], publisher=20)])
    store(service, "statistics", open_interest_at(later, COUNTED, 99) + open_interest_at(later, TRADED, 5))
    listed = definitions_at(later, {LISTED_LATER: (999, date(2016, 3, 18), "C", 100.0)})
    store(service, "definition", listed, {LISTED_LATER: 999})
    store_spot(service, ELEVEN, SPOT + 5)
    assert analytics.answer(f"/options/TEST?{AT_ELEVEN}&limit=10000")["contracts"] == chain["contracts"]
    again = analytics.answer(f"/options/test?{AT_ELEVEN}")
    assert again == chain
    # and a moment later it is there
    row = one_contract(analytics, TRADED, with_nanoseconds)
    assert (row["bid"], row["volume"], row["last"]) == (5.0, 1009, 9.9)
    after = analytics.answer(f"/options/TEST?as_of={rfc3339(later)}")
    assert after["quality"]["contracts"] == len(CONTRACTS) + 1
    found = {one["symbol"]: one for one in after["contracts"]}
    assert found[plain(COUNTED)]["open_interest"] == 99
    assert found[plain(LISTED_LATER)]["reason"] == "no_quote"
    assert after["spot"]["price"] == SPOT
    at_the_money = found[plain(osi(LAST, "P", 100.0))]
    assert at_the_money["implied_volatility"] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        ("expiration=2015-12-31", lambda row: row["expiration"] == "2015-12-31"),
        ("right=P", lambda row: row["right"] == "P"),
        ("strike_min=95&strike_max=100", lambda row: 95 <= row["strike"] <= 100),
        ("dte_max=7", lambda row: row["days_to_expiration"] <= 7),
        ("delta_min=0.2&delta_max=0.6", lambda row: row["delta"] is not None and 0.2 <= abs(row["delta"]) <= 0.6),
    ],
)
def test_filters_leave_just_what_is_asked_for(analytics, chain, asked, holds):
    found = analytics.answer(f"/options/TEST?{AT_ELEVEN}&{asked}")
    expected = [row for row in chain["contracts"] if holds(row)]
    assert 0 < len(expected) < len(chain["contracts"])
    assert found["contracts"] == expected
    days = {row["expiration"] for row in expected}
    assert [one["expiration"] for one in found["expirations"]] == sorted(days)
    assert found["quality"] == chain["quality"]  # of the whole chain, whatever is shown of it


def test_fields_choose_columns_and_their_order(analytics):
    found = analytics.answer(f"/options/TEST?{AT_ELEVEN}&fields=strike,symbol&limit=1")
    assert list(found["contracts"][0].items()) == [("strike", STRIKES[0]), ("symbol", "TEST151224C00090000")]
    wrong = analytics.get(f"/options/TEST?{AT_ELEVEN}&fields=strike,colour")
    assert wrong.status_code == 422
    assert wrong.json["errors"][0]["pointer"] == "#/query/fields"
    assert "colour" in wrong.json["errors"][0]["detail"]


def test_pages_hold_every_contract_once(analytics, chain):
    url, pages = f"/options/TEST?{AT_ELEVEN}&limit=7&right=C", []
    while url:
        page = analytics.answer(url)
        pages.append([row["symbol"] for row in page["contracts"]])
        url = page["next"] and page["next"].removeprefix("/api/v1/analytics")
    assert [len(page) for page in pages] == [7, 7, 7, 6]
    assert [symbol for page in pages for symbol in page] == [
        row["symbol"] for row in chain["contracts"] if row["right"] == "C"
    ]


def test_a_page_without_a_moment_belongs_to_the_moment_of_the_first(analytics):
    # nothing of this chain lives now, so the first page is asked of its moment, and the others by their cursor alone
    first = analytics.answer(f"/options/TEST?{AT_ELEVEN}&limit=5")
    url = first["next"].removeprefix("/api/v1/analytics").replace("as_of=2015-12-24T16%3A00%3A00Z&", "")
    assert "as_of" not in url
    second = analytics.answer(url)
    assert second["as_of"] == first["as_of"]
    assert second["contracts"][0]["symbol"] > first["contracts"][-1]["symbol"]


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ("strike_min=5&strike_max=4", "#/query/strike_min"),
        ("delta_min=2", "#/query/delta_min"),
        ("right=X", "#/query/right"),
        ("expiration=soon", "#/query/expiration"),
        ("cursor=nonsense", "#/query/cursor"),
        ("colour=red", "#/query/colour"),
        ("strike_min=nan", "#/query/strike_min"),
        ("as_of=1980-01-01", "#/query/as_of"),
    ],
)
def test_what_is_wrong_with_a_question_is_said(analytics, asked, pointer):
    query = asked if asked.startswith("as_of") else f"{AT_ELEVEN}&{asked}"
    found = analytics.get(f"/options/TEST?{query}")
    assert found.status_code == 422
    assert found.json["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("/options/NOPE", "unknown-underlying"),
        ("/options/TEST", "no-live-contracts"),  # all have expired
        (f"/options/TEST?as_of={rfc3339(OPEN - 10 * 1440 * MINUTE)}", "no-live-contracts"),  # none is listed
    ],
)
def test_nothing_is_a_404_with_a_hint_that_works(analytics, url, kind):
    found = analytics.get(url)
    assert found.status_code == 404
    assert found.json["type"].endswith(kind)
    assert found.json["available"] == ["TEST"]
    (working,) = (word for word in found.json["hint"].split('"') if word.startswith("http"))
    assert analytics.get(working.split("/api/v1/analytics")[1]).status_code == 200


def test_without_a_price_of_the_underlying_quotes_are_shown_and_nothing_is_priced(analytics):
    found = analytics.answer(f"/options/TEST?as_of={rfc3339(ELEVEN - 2 * SECOND)}")
    assert found["spot"] is None
    assert "no price of TEST" in found["quality"]["no_spot"]
    row = next(one for one in found["contracts"] if one["symbol"] == plain(TRADED))
    assert row["mid"] == pytest.approx(value_of(TRADED))
    assert (row["reason"], row["implied_volatility"], row["delta"]) == ("no_spot", None, None)
    assert found["expirations"][2]["forward"] is None


def test_a_table_as_csv_has_the_same_values(analytics, chain):
    found = analytics.get(f"/options/TEST?{AT_ELEVEN}", Accept="text/csv")
    assert found.mimetype == "text/csv"
    lines = found.text.split("\r\n")
    names = lines[0].split(",")
    for line, row in zip(lines[1:-1], chain["contracts"], strict=True):
        for name, text in zip(names, line.split(","), strict=True):
            value = row[name]
            assert (
                text == ""
                if value is None
                else (float(text) == value if isinstance(value, float) else text == str(value))
            )


def test_an_unlisted_contract_that_is_quoted_is_live_from_its_quote_on(analytics, service):
    symbol = osi(date(2016, 2, 19), "P", 95.0)
    quoted_at = ELEVEN + 30 * SECOND + 1
    store(service, "cbbo-1m", [quote(quoted_at, 1.0, 1.1, instrument=998)], {symbol: 998})
    for at, there in ((quoted_at - 1, False), (quoted_at, True)):
        found = analytics.answer(f"/options/TEST?as_of={rfc3339(at)}&fields=symbol")
        assert ({"symbol": plain(symbol)} in found["contracts"]) is there


def test_a_minute_of_the_underlying_counts_from_its_end(analytics, service):
    made = [bar(ELEVEN + MINUTE, (150.0, 150.0, 150.0, 150.0), instrument=7)]
    service.imported(dbn_file(Schema.OHLCV_1M, made, day=SESSION, symbols={"TEST": 7}))
    at = ELEVEN + 2 * MINUTE
    assert analytics.answer(f"/options/TEST?as_of={rfc3339(at - 1)}")["spot"]["price"] == SPOT + 5
    assert analytics.answer(f"/options/TEST?as_of={rfc3339(at)}")["spot"]["price"] == 150.0


def counted(name, **labels):
    return REGISTRY.get_sample_value(f"ots_analytics_{name}", labels) or 0


def test_a_chain_that_is_computed_is_counted_once_however_often_it_is_answered(analytics):
    before = counted("chains_total", underlying="other", outcome="priced")
    stages = {name: counted("stage_seconds_count", stage=name) for name in ("sql", "mathematics", "encoding")}
    priced = counted("contracts_total", underlying="other", outcome="priced")
    for _ in range(3):
        found = analytics.answer(f"/options/TEST?as_of={rfc3339(ELEVEN + 7 * SECOND)}")
    assert counted("chains_total", underlying="other", outcome="priced") == before + 1
    assert (
        counted("contracts_total", underlying="other", outcome="priced") - priced == found["quality"]["with_volatility"]
    )
    assert {name: counted("stage_seconds_count", stage=name) - number for name, number in stages.items()} == {
        "sql": 1, "mathematics": 1, "encoding": 1
    }  # fmt: skip


def test_whatever_underlying_is_asked_for_makes_no_series(analytics):
    def ask(mark):
        for i in range(25):
            for reading in ("", "/surface", "/exposures", "/expected-moves"):
                analytics.get(f"/options/{mark}{i}{reading}?{AT_ELEVEN}")
            analytics.get(f"/indicators/{mark}{i}?indicators=sma:5")
            analytics.get(f"/volatility/{mark}{i}?{AT_ELEVEN}")

    def series():
        return {
            (sample.name, *sample.labels.items())
            for family in REGISTRY.collect()
            if family.name.startswith("ots_")
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        }

    empty = counted("chains_total", underlying="other", outcome="empty")
    ask("FIRST")
    assert counted("chains_total", underlying="other", outcome="empty") >= empty + 25
    before = series()
    ask("ZQX")
    found = series()
    assert not [one for one in found if "zqx" in str(one).lower()]
    # a label with a value of those would have made hundreds; some come with time, such as a level of the log
    assert len(found - before) < 10
