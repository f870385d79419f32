"""The scan over HTTP: options of the seeded market at noon, paged, filtered, refused; and where nothing is stored."""

from __future__ import annotations

import csv
import io
import re
import time
from datetime import date
from itertools import pairwise
from types import SimpleNamespace

import jsonschema_rs
import pytest
from redis import Redis

from analytics_support import Analytics
from data_ingestion_support import Ingestion, settings_for
from ots_analytics.scan_table import CANDIDATE_COLUMNS
from ots_common.times import rfc3339, to_nanoseconds
from ots_simulator.underlyings import RATE
from priced_chain_support import check_finite
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, SECOND, TODAY, make_market
from volatility_support import import_records

UNDERLYINGS = ("AAPL", "SPY", "TSLA")
NOON = TODAY * DAY + 12 * HOUR
AS_OF = f"as_of={rfc3339(NOON)}"


SIMULATED = {"market_source": "simulated", "market_calendar": "around-the-clock"}
TWO = "underlyings=AAPL,SPY&limit=500"


@pytest.fixture(scope="module")
def of_nothing(market, redis_server):
    """The answer before anything is stored."""
    return Analytics(market, redis_url=redis_server.url, **SIMULATED).get("/scan", 404)


@pytest.fixture(scope="module")
def stored(market, of_nothing, redis_server, tmp_path_factory):
    """Quotes of the minutes around noon, the next minute's among them, and a curve."""
    seeded = make_market(now=NOON + HOUR)
    settings = settings_for(
        market, redis_server, tmp_path_factory.mktemp("spool"), market_calendar="around-the-clock"
    )  # fmt: skip
    service = Ingestion(settings)
    with service.working():
        for schema, dataset in (("cbbo-1m", OPTIONS), ("ohlcv-1m", EQUITIES)):
            import_records(service, seeded, dataset, schema, TODAY, NOON - 3 * MINUTE, NOON + 2 * MINUTE, UNDERLYINGS)
        import_records(service, seeded, OPTIONS, "statistics", TODAY, TODAY * DAY, NOON, UNDERLYINGS)
        import_records(service, seeded, OPTIONS, "trades", TODAY, NOON - 5 * MINUTE, NOON + 2 * MINUTE, UNDERLYINGS)
        curve = {"source": "test", "date": "2026-03-09", "curve": [{"tenor": "1Y", "rate": RATE}]}
        assert service.post("/rates", json={**curve, "known_at": "2026-03-10"}).status_code < 300
    return market


@pytest.fixture(scope="module")
def analytics(stored, redis_server):
    return Analytics(stored, redis_url=redis_server.url, **SIMULATED)


@pytest.fixture(scope="module")
def schema(analytics):
    document = analytics.document()
    answer = document["paths"]["/api/v1/analytics/scan"]["get"]["responses"]["200"]["content"]["application/json"]
    return {**answer["schema"], "components": document["components"]}


@pytest.fixture(scope="module")
def ask(analytics, schema):
    def ask(query: str = "", status: int = 200, **headers: str):
        answer = analytics.get(
            f"/scan?{AS_OF}&{query}" if "as_of" not in query else f"/scan?{query}", status, **headers
        )
        if status == 200 and not isinstance(answer, str):
            jsonschema_rs.validate(schema, answer)
            check_finite(answer)
        return answer

    return ask


def follow(ask, query):
    """All pages of a scan."""
    pages = [ask(query)]
    while pages[-1]["next"]:
        pages.append(ask(pages[-1]["next"].split("?", 1)[1]))
    return pages


def test_what_is_answered_adds_up_and_names_its_assumptions(ask):
    answer = ask(TWO)
    quality = answer["quality"]
    assert [one["underlying"] for one in answer["underlyings"]] == ["AAPL", "SPY"]
    assert [one["underlying"] for one in ask("limit=1&fields=symbol")["underlyings"]] == list(UNDERLYINGS)
    assert quality["looked_at"] == sum(one["contracts"] for one in answer["underlyings"])
    assert quality["looked_at"] == quality["candidates"] + sum(quality["left_out"].values())
    assert quality["candidates"] == len(answer["candidates"]) == sum(one["candidates"] for one in answer["underlyings"])
    assert quality["candidates"] > 50
    assert (answer["as_of"], answer["source"]) == (rfc3339(NOON), "simulated")
    assert to_nanoseconds(answer["newest_input"]) <= NOON
    assert (answer["horizon_minutes"], answer["horizon_cut"]) == (60, False)
    assert answer["horizon_ends"] == rfc3339(NOON + HOUR)
    assert len(answer["assumptions"]) >= 6
    assert "minus its cost, whatever its probability" in answer["note"]
    assert not re.search(r"profit|signal|edge|opportunit", str(answer), re.IGNORECASE)


def test_a_candidate_says_what_must_happen_and_what_it_costs(ask):
    for row in ask(f"{TWO}&fee_per_contract=0.5")["candidates"]:
        assert tuple(row) == CANDIDATE_COLUMNS
        half = (row["ask"] - row["bid"]) / 2
        for name, move in (("min_move", 0.05), ("max_move", 0.10)):
            assert row[f"{name}_bid"] * 100 - 0.5 == pytest.approx(row["ask"] * 100 * (1 + move) + 0.5, abs=1e-3)
            assert row[f"{name}_mid"] == pytest.approx(row[f"{name}_bid"] + half, abs=1e-5)
            assert row[f"{name}_at_least"] <= row[f"{name}_probability"] <= row[f"{name}_at_most"]
            assert row[f"{name}_probability"] < row[f"{name}_frictionless"]
        assert 0.05 <= row["min_move_probability"] <= row["break_even_probability"]
        assert row["max_move_probability"] <= row["min_move_probability"]
        assert row["cost"] == pytest.approx(200 * half + 1.0, abs=1e-3)
        # at fair prices: a bid that cannot be below zero, interest and early exercise give or take very little
        assert row["expected_value"] == pytest.approx(-row["cost"], rel=0.03)
        assert row["spread_pct"] <= 10
        assert (row["min_move_underlying"] > 0) == (row["right"] == "C")
        assert row["quote_age_s"] <= 180
        assert row["ask_size_dollars"] == pytest.approx(row["ask_size"] * row["ask"] * 100)


def test_nothing_after_the_moment_is_seen(ask, stored):
    """Quotes of the minutes after are stored, and no answer about noon knows them."""
    found = ask("limit=500")
    assert all(to_nanoseconds(row["quote_time"]) <= NOON for row in found["candidates"])
    newer = stored.database.rows("SELECT count(*) FROM quotes WHERE ts > to_timestamp(%s)", (NOON // 10**9,))
    assert newer[0][0] > 0
    later = ask(f"as_of={rfc3339(NOON + 2 * MINUTE)}&limit=500")
    assert later["candidates"] != found["candidates"]


@pytest.mark.parametrize("sort", ["probability", "cost", "spread", "expected_value"])
def test_pages_hold_every_candidate_once_in_the_order_of_the_whole(ask, sort):
    query = f"sort={sort}&fields=symbol,min_move_probability,cost_pct,spread_pct,expected_value_pct"
    whole = ask(f"{query}&{TWO}")["candidates"]
    pages = follow(ask, f"{query}&underlyings=AAPL,SPY&limit=37")
    assert [row for page in pages for row in page["candidates"]] == whole
    assert all(len(page["candidates"]) == 37 for page in pages[:-1])
    column, sign = {
        "probability": ("min_move_probability", -1), "cost": ("cost_pct", 1), "spread": ("spread_pct", 1),
        "expected_value": ("expected_value_pct", -1),
    }[sort]  # fmt: skip
    keys = [sign * row[column] for row in whole]
    assert all(before <= after + 1e-6 for before, after in pairwise(keys))


def test_pages_belong_to_the_moment_of_the_first(analytics, ask, monkeypatch):
    """Without a moment named the pages that follow are of the second in which the first was answered."""
    now = NOON + 300_000_000
    clock = SimpleNamespace(time_ns=lambda: now, monotonic_ns=time.monotonic_ns)
    for module in ("desk", "answers"):
        monkeypatch.setattr(f"ots_analytics.{module}.time", clock)
    first = analytics.get("/scan?limit=40&underlyings=spy")
    now += 90 * SECOND
    assert analytics.get("/scan?limit=40&underlyings=spy")["as_of"] == rfc3339(NOON + 90 * SECOND)
    second = analytics.get(f"/scan?{first['next'].split('?', 1)[1]}")
    assert first["as_of"] == second["as_of"] == rfc3339(NOON)
    whole = ask("limit=80&underlyings=SPY")["candidates"]
    assert first["candidates"] + second["candidates"] == whole


def test_filters(ask):
    whole = ask(f"{TWO}&min_probability=0")
    for query, holds, reason in (
        ("right=P", lambda row: row["right"] == "P", "right"),
        ("dte_min=3&dte_max=20", lambda row: 3 <= row["days_to_expiration"] <= 20, "days_to_expiration"),
        ("delta_min=0.3&delta_max=0.6", lambda row: 0.3 <= abs(row["delta"]) <= 0.6, "delta"),
        ("min_volume=1", lambda row: row["volume"] >= 1, "volume"),
        ("min_open_interest=500", lambda row: row["open_interest"] >= 500, "open_interest"),
        ("max_spread_pct=3", lambda row: row["spread_pct"] <= 3, "spread_too_wide"),
        ("min_probability=0.3", lambda row: row["min_move_probability"] >= 0.3, "below_min_probability"),
        (f"as_of={rfc3339(NOON + 20 * SECOND)}&max_quote_age_s=10", lambda row: row["quote_age_s"] <= 10, "stale"),
    ):
        found = ask(f"{TWO}&{query}" if "probability" in query else f"{TWO}&min_probability=0&{query}")
        assert 0 <= len(found["candidates"]) < whole["quality"]["candidates"], query
        assert all(map(holds, found["candidates"])), query
        assert found["quality"]["left_out"][reason] > 0, query
        assert found["quality"]["looked_at"] == whole["quality"]["looked_at"]
    one = ask("underlyings=tsla, AAPL&limit=500")
    assert {row["underlying"] for row in one["candidates"]} == {"AAPL", "TSLA"}
    # a greater move is less probable, and a longer horizon makes it more so
    ordered = [ask(f"{TWO}&min_probability=0.1&{query}")["quality"]["candidates"] for query in (
        "horizon_minutes=15", "horizon_minutes=60", "horizon_minutes=240")]  # fmt: skip
    assert ordered == sorted(ordered)
    assert ordered[0] < ordered[-1]


def test_the_horizon_ends_at_the_close(ask):
    answer = ask("horizon_minutes=1440&limit=1")
    assert answer["horizon_ends"] == rfc3339((TODAY + 1) * DAY)
    assert (answer["horizon_minutes"], answer["horizon_cut"]) == (720, True)
    # what expires today at the close does so by the end of that horizon
    assert answer["quality"]["left_out"]["expires_within_horizon"] > 0


def test_csv_has_the_same_candidates(ask):
    whole = ask("limit=20")["candidates"]
    rows = list(csv.DictReader(io.StringIO(ask("limit=20", Accept="text/csv"))))
    assert [row["symbol"] for row in rows] == [row["symbol"] for row in whole]
    assert [float(row["min_move_probability"]) for row in rows] == [row["min_move_probability"] for row in whole]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("min_move=0.2&max_move=0.1", "#/query/min_move"),
        ("min_move=0", "#/query/min_move"),
        ("min_move=nan", "#/query/min_move"),
        ("max_move=inf", "#/query/max_move"),
        ("dte_min=9&dte_max=3", "#/query/dte_min"),
        ("delta_min=0.5&delta_max=0.4", "#/query/delta_min"),
        ("delta_max=2", "#/query/delta_max"),
        ("horizon_minutes=0", "#/query/horizon_minutes"),
        ("fee_per_contract=-1", "#/query/fee_per_contract"),
        ("max_spread_pct=0", "#/query/max_spread_pct"),
        ("underlyings=,", "#/query/underlyings"),
        ("underlyings=%00", "#/query/underlyings"),
        ("sort=best", "#/query/sort"),
        ("right=X", "#/query/right"),
        ("fields=symbol,profit", "#/query/fields"),
        ("limit=501", "#/query/limit"),
        ("unknown=1", "#/query/unknown"),
        ("cursor=nonsense", "#/query/cursor"),
        ("as_of=yesterday", "#/query/as_of"),
    ],
)
def test_what_is_wrong_is_named(ask, query, pointer):
    problem = ask(query, 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_cursor_of_another_scan_is_refused(ask):
    following = ask("limit=5")["next"].split("cursor=")[1]
    assert ask(f"cursor={following}&limit=7")["candidates"]
    for query in ("min_move=0.06", "sort=cost", "underlyings=SPY", f"as_of={rfc3339(NOON - MINUTE)}"):
        problem = ask(f"{query}&cursor={following}", 422)
        assert problem["errors"][0]["pointer"] == "#/query/cursor"


def test_an_underlying_without_options_is_404_with_what_there_is(ask):
    problem = ask("underlyings=SPY,NOPE", 404)
    assert problem["available"] == list(UNDERLYINGS)
    assert "NOPE" in problem["detail"]


@pytest.fixture(scope="module")
def exchange(stored, redis_server):
    """The same stored data, by the calendar of the exchange."""
    return Analytics(stored, redis_url=redis_server.url, market_source="databento", market_calendar="xnys")


def test_outside_of_a_session_it_is_said_when_the_last_one_was(exchange):
    for moment in ("2026-03-11T20:00:00Z", "2026-03-11T20:30:00Z", "2026-03-12T08:00:00Z"):
        problem = exchange.get(f"/scan?as_of={moment}&horizon_minutes=30", 422)
        assert problem["errors"][0]["pointer"] == "#/query/as_of"
        assert "closed at 2026-03-11T20:00:00Z" in problem["detail"]
        assert "as_of=2026-03-11T19:30:00Z" in problem["hint"]


@pytest.mark.parametrize("moment", ["1970-01-01T00:00:00Z", "2000-01-03T16:00:00Z"])
def test_before_anything_was_listed_there_is_nothing(exchange, moment):
    problem = exchange.get(f"/scan?as_of={moment}", 422 if moment < "1980" else 404)
    assert problem["detail"]
    assert date.fromisoformat(moment[:10])


def test_an_empty_market_is_404_with_what_to_do(of_nothing):
    assert of_nothing["available"] == []
    assert of_nothing["hint"]


OF_A_CHAIN = (
    "", "/surface", "/skew", "/term-structure", "/expected-move", "/exposure", "/open-interest", "/unusual",
    "/volatility",
)  # fmt: skip


def test_no_answer_about_a_moment_changes_with_what_happens_after(stored, redis_server):
    """Every answer is the same when all that came later is gone. It comes last: it takes the later records away."""
    now_ns = NOON - 22 * SECOND
    asked = [f"/options/SPY{reading}?as_of={rfc3339(now_ns)}" for reading in OF_A_CHAIN]
    asked += [f"/{name}?as_of={rfc3339(now_ns)}" for name in ("market", "scan")]

    def answers():
        with Redis.from_url(redis_server.url) as redis:
            redis.flushdb()
        service = Analytics(stored, redis_url=redis_server.url, **SIMULATED)
        return [service.get(path) for path in asked]

    before = answers()
    removed = 0
    with stored.database.connection() as connection, connection.cursor() as cursor:
        for table, ends in (("quotes", "ts"), ("trades", "ts"), ("quote_latest", "ts"), ("price_latest", "ts"),
                            ("bars_1m", "ts + interval '1 minute'")):  # fmt: skip
            cursor.execute(f"DELETE FROM {table} WHERE {ends} > to_timestamp(%s)", (now_ns / 10**9,))
            assert cursor.rowcount > 0, table
            removed += cursor.rowcount
    assert removed > 1000
    for path, one, other in zip(asked, before, answers(), strict=True):
        assert one == other, path
