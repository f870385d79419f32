"""History through the real client: priced, cut into parts, proved whole, stored exactly once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from backfill_support import (
    CALL,
    DAYS,
    PUT,
    after_the_tape,
    backfilling,
    bars_of,
    body,
    day,
    ended,
    eventually,
    kill,
    leftovers,
    quotes_of,
    spawned,
    tape,
    trades_of,
)
from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, midnight
from ots_ingestion.backfills import request_repair
from ots_ingestion.gaps import gap_by_id, open_gap
from ots_ingestion.vendor import TooCostly, Vendor, VendorUnavailable
from simulator_support import RunningSimulator, running_simulator

ALL_TRADES = sum(len(trades_of(number)) for number in range(DAYS))
TABLES = "backfill_parts, backfills, runs, gaps, trades, quotes, bars_1m, price_latest, quote_latest"


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    with running_simulator(tape=tape(), starts_at_ns=after_the_tape()) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: RunningSimulator) -> RunningSimulator:
    running.clear_faults()
    return running


@pytest.fixture(scope="module")
def service(market, redis_server, running: RunningSimulator, tmp_path_factory) -> Iterator[Ingestion]:
    ingestion = Ingestion(
        settings_for(
            market,
            redis_server,
            tmp_path_factory.mktemp("spool"),
            databento_api_key=running.key,
            databento_historical_url=running.url,
            backfill_part_records=1100,
            vendor_metadata_per_s=500,
        )
    )
    with ingestion.working():
        yield ingestion


@pytest.fixture
def ingestion(service: Ingestion, market, simulator: RunningSimulator) -> Ingestion:
    """With nothing in it."""
    market.database.execute(f"TRUNCATE {TABLES}")
    return service


def count(market, table: str) -> int:
    return market.database.rows(f"SELECT count(*) FROM {table}")[0][0]


def done(ingestion: Ingestion, **more) -> dict:
    """A backfill that must succeed."""
    answer = ingestion.post("/backfills", json=body(**more))
    assert answer.status_code in (200, 202), answer.text
    found = ended(ingestion, answer.json["id"])
    assert found["status"] == "done", found
    return found


# --- the price ---


def test_a_dry_run_says_what_it_would_bring_and_does_nothing(ingestion: Ingestion, market):
    answer = ingestion.post("/backfills", json=body(dry_run=True, max_cost_usd=None))
    assert answer.status_code == 200, answer.text
    estimate = answer.json
    assert estimate["records"] == ALL_TRADES
    assert estimate["bytes"] == ALL_TRADES * 48
    assert estimate["cost_usd"] == pytest.approx(ALL_TRADES * 48 * 2.0 / 2**30)
    assert estimate["parts"] == 2 * DAYS  # a day is twice what a part holds: a part each symbol
    assert [w["schema"] for w in estimate["wanted"]] == ["trades"]
    assert count(market, "backfills") == 0


@pytest.mark.parametrize("cap", [None, 0, 1e-9])
def test_nothing_is_spent_above_the_cap(ingestion: Ingestion, market, cap):
    answer = ingestion.post("/backfills", json=body(max_cost_usd=cap))
    assert answer.status_code == 422
    assert answer.json["type"].endswith("too-costly")
    assert answer.json["estimate"]["cost_usd"] > 0
    assert "max_cost_usd" in answer.json["hint"]
    assert count(market, "backfills") == 0


def test_a_repeated_download_may_not_break_the_cap(ingestion: Ingestion, simulator: RunningSimulator):
    price = ingestion.post("/backfills", json=body(dry_run=True)).json["cost_usd"]
    simulator.fault("truncate", call="timeseries.get_range", after_records=10, times=1)
    with backfilling(ingestion):
        answer = ingestion.post("/backfills", json=body(max_cost_usd=price))
        found = ended(ingestion, answer.json["id"])
        if found["status"] == "done":
            pytest.fail(f"spent {found['cost_usd']}")
        assert found["errors"][0]["kind"] == "too-costly"
        assert found["cost_usd"]["spent"] <= price + 1e-6
        # allowed more, the same question goes on where it was
        again = ingestion.post("/backfills", json=body(max_cost_usd=2 * price))
        assert again.json["id"] == answer.json["id"]
        assert ended(ingestion, again.json["id"])["status"] == "done"


# --- what is stored ---


def test_every_record_is_stored_once(ingestion: Ingestion, market):
    with backfilling(ingestion):
        found = done(ingestion)
    assert found["records"] == {
        "estimated": ALL_TRADES,
        "expected": ALL_TRADES,
        "received": ALL_TRADES,
        "stored": ALL_TRADES,
        "revised": 0,
        "duplicate": 0,
        "rejected": 0,
    }
    assert found["parts"]["done"] == found["parts"]["total"] == 2 * DAYS
    assert found["progress"] == 1.0
    assert 0 < found["cost_usd"]["spent"] == pytest.approx(found["cost_usd"]["estimated"])
    assert count(market, "trades") == ALL_TRADES
    by_size = market.database.rows(
        "SELECT raw_symbol, count(*), sum(size), sum(price) FROM trades JOIN instruments USING (instrument_id)"
        " WHERE raw_symbol IN ('AAPL', 'MSFT') GROUP BY 1 ORDER BY 1"
    )
    one = [(10 + i % 5, (100 + i % 7) * 10**9) for i in range(1000) for _ in range(2 if i % 10 == 0 else 1)]
    expected = (len(one) * DAYS, sum(size for size, _ in one) * DAYS, sum(price for _, price in one) * DAYS)
    assert [(symbol, (n, size, price)) for symbol, n, size, price in by_size] == [
        ("AAPL", expected),
        ("MSFT", expected),
    ]
    assert leftovers(ingestion.settings.spool_dir) == []


def test_backfills_that_overlap_store_nothing_twice(ingestion: Ingestion, market):
    with backfilling(ingestion):
        first = done(ingestion, symbols=["AAPL"], end=day(2).isoformat())
        second = done(ingestion, start=day(1).isoformat())
    overlap = len(trades_of(1)) // 2
    assert first["id"] != second["id"]
    assert second["records"]["duplicate"] == overlap
    assert count(market, "trades") == first["records"]["stored"] + second["records"]["stored"]


def test_the_same_question_is_the_same_backfill(ingestion: Ingestion):
    with backfilling(ingestion):
        first = done(ingestion)
        answer = ingestion.post("/backfills", json=body(symbols=["MSFT", "AAPL", "AAPL"]))
        assert answer.status_code == 200
        assert answer.json["id"] == first["id"]
        assert answer.json["cost_usd"]["spent"] == first["cost_usd"]["spent"]
    assert len(ingestion.get("/backfills").json["backfills"]) == 1


def test_hours_without_a_record_are_an_answer(ingestion: Ingestion):
    with backfilling(ingestion):
        found = done(ingestion, start=f"{day(0)}T02:00:00Z", end=f"{day(0)}T03:00:00Z")
    assert found["records"]["expected"] == found["records"]["received"] == 0
    assert found["parts"] == {**dict.fromkeys(found["parts"], 0), "total": 1, "done": 1}
    assert found["cost_usd"]["spent"] == 0


def test_options_by_parent_at_the_close(ingestion: Ingestion, market):
    with backfilling(ingestion):
        found = done(
            ingestion,
            symbols=["AAPL"],
            schemas=["ohlcv-1m"],
            options={"schemas": ["cbbo-1m"], "closing_minutes": 1},
        )
    assert {(w["schema"], w["stype_in"], w["windows"]) for w in found["wanted"]} == {
        ("ohlcv-1m", "raw_symbol", 1),
        ("cbbo-1m", "parent", DAYS),
    }
    assert count(market, "bars_1m") == len(bars_of(0)) // 2 * DAYS
    # the sample a minute before the close, and the one that is stamped at it
    assert count(market, "quotes") == 2 * 2 * DAYS
    symbols = market.database.rows("SELECT DISTINCT raw_symbol FROM quotes JOIN instruments USING (instrument_id)")
    assert {symbol for (symbol,) in symbols} == {CALL, PUT}


def test_an_asked_schema_that_is_not_there(ingestion: Ingestion):
    answer = ingestion.post("/backfills", json=body(schemas=["tbbo"]))
    assert answer.status_code == 422
    assert answer.json["type"].endswith("schema-not-offered")
    assert answer.json["offered"] == ["ohlcv-1m", "trades"]


def test_an_equivalent_is_taken_and_said(ingestion: Ingestion):
    answer = ingestion.post("/backfills", json=body(symbols=["AAPL.OPT"], schemas=["bbo-1m"], dry_run=True))
    assert answer.status_code == 200, answer.text
    assert answer.json["wanted"][0]["schema"] == "cbbo-1m"
    assert "cbbo-1m" in answer.json["notes"][0]
    assert answer.json["records"] == sum(len(quotes_of(number)) for number in range(DAYS))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"symbols": ["NOPE"]}, "symbols"),
        ({"symbols": ["not a ticker!"]}, "symbols"),
        ({"symbols": []}, "symbols"),
        ({"schemas": []}, ""),
        ({"start": "2031-01-01", "end": "2031-01-02"}, "start"),
        ({"start": "2001-01-01", "end": "2001-01-02"}, "end"),
        ({"start": day(1).isoformat(), "end": day(1).isoformat()}, ""),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_question_says_what_is_wrong(ingestion: Ingestion, change, field):
    answer = ingestion.post("/backfills", json=body(**change))
    assert answer.status_code == 422, answer.text
    assert answer.json["errors"][0]["pointer"].startswith(f"#/body{'/' + field if field else ''}")


# --- what goes wrong ---


@pytest.mark.parametrize("style", ["cut", "unfinished", "short"])
def test_a_truncated_answer_is_never_taken_for_whole(ingestion: Ingestion, market, simulator, style):
    fault = simulator.fault("truncate", call="timeseries.get_range", after_records=100, style=style, times=2)
    with backfilling(ingestion):
        found = done(ingestion, symbols=["AAPL"])
    assert simulator.fired(fault) == 2
    assert count(market, "trades") == ALL_TRADES // 2
    assert found["records"]["received"] == ALL_TRADES // 2
    assert found["cost_usd"]["spent"] > found["cost_usd"]["estimated"]
    assert leftovers(ingestion.settings.spool_dir) == []


def test_a_count_that_does_not_agree_ends_in_a_clear_error(ingestion: Ingestion, market, simulator):
    question = body(symbols=["AAPL"], end=day(1).isoformat())
    ingestion.post("/backfills", json=question)
    simulator.fault("count", delta=3, times=0)
    with backfilling(ingestion):
        backfill = ingestion.get("/backfills").json["backfills"][0]["id"]
        found = eventually(lambda: (found := ingestion.get(f"/backfills/{backfill}").json)["errors"] and found)
        assert found["errors"][0]["kind"] == "count-mismatch"
        assert count(market, "trades") == 0
        simulator.clear_faults()
        assert ended(ingestion, backfill)["status"] == "done"
    assert count(market, "trades") == len(trades_of(0)) // 2


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, "wrong-key", "does not accept the key"),
        (402, "payment-required", "payment"),
        (403, "not-entitled", "not entitled"),
        (422, "vendor-refused", "no such thing"),
    ],
)
def test_what_will_not_pass_ends_the_backfill_at_once(ingestion, simulator, status, kind, words):
    answer = ingestion.post("/backfills", json=body())
    simulator.fault("http", status=status, call="timeseries.get_range", message="no such thing", times=0)
    with backfilling(ingestion):
        found = ended(ingestion, answer.json["id"])
        assert found["status"] == "failed"
        assert found["errors"][0]["kind"] == kind
        assert words in found["error"]
        assert found["parts"]["failed"] == found["parts"]["total"]
        assert found["cost_usd"]["spent"] == pytest.approx(0)
        assert simulator.key not in str(found)
        # what was wrong is right again: the same question goes on
        simulator.clear_faults()
        assert ingestion.post("/backfills", json=body()).json["id"] == answer.json["id"]
        assert ended(ingestion, answer.json["id"])["status"] == "done"


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_what_may_pass_is_tried_again(ingestion, simulator, status):
    answer = ingestion.post("/backfills", json=body(symbols=["AAPL"]))
    fault = simulator.fault("http", status=status, call="timeseries.get_range", retry_after_s=1, times=2)
    with backfilling(ingestion):
        found = ended(ingestion, answer.json["id"])
    assert found["status"] == "done"
    assert simulator.fired(fault) == 2
    assert found["cost_usd"]["spent"] == pytest.approx(found["cost_usd"]["estimated"])


@pytest.mark.parametrize(
    ("status", "ours", "kind"),
    [(401, 502, "wrong-key"), (402, 502, "payment-required"), (403, 422, "not-entitled"), (429, 503, "rate-limited"),
     (503, 503, "vendor-unavailable"), (400, 422, "vendor-refused")],
)  # fmt: skip
def test_an_estimate_that_the_vendor_refuses(ingestion, simulator, status, ours, kind):
    simulator.fault("http", status=status, call="metadata.get_record_count", times=0)
    answer = ingestion.post("/backfills", json=body(dry_run=True))
    assert answer.status_code == ours, answer.text
    assert answer.json["type"].endswith(kind)
    assert simulator.key not in answer.text
    assert ("Retry-After" in answer.headers) == (ours == 503)


def test_a_wrong_key_and_no_key(ingestion, market, redis_server, tmp_path):
    wrong = Ingestion(ingestion.settings.model_copy(update={"databento_api_key": "db-" + "x" * 29}))
    settings = ingestion.settings.model_dump()
    for key, status, kind in (("db-" + "x" * 29, 502, "wrong-key"), (None, 409, "no-key")):
        wrong = Ingestion(type(ingestion.settings)(**{**settings, "databento_api_key": key}))
        answer = wrong.post("/backfills", json=body())
        assert answer.status_code == status, answer.text
        assert answer.json["type"].endswith(kind)
        assert "DATABENTO_API_KEY" in answer.json["hint"]
        assert "x" * 29 not in answer.text


# --- stopping and starting ---


def test_a_cancelled_backfill_goes_on_when_asked_again(ingestion: Ingestion, market):
    answer = ingestion.post("/backfills", json=body())
    cancelled = ingestion.client.delete(f"/api/v1/data/backfills/{answer.json['id']}", headers=ingestion.headers())
    assert cancelled.status_code == 200
    assert cancelled.json["status"] == "cancelled"
    assert cancelled.json["parts"]["cancelled"] == cancelled.json["parts"]["total"]
    with backfilling(ingestion):
        time.sleep(0.5)
        assert count(market, "trades") == 0
        assert ingestion.post("/backfills", json=body()).json["status"] in ("queued", "running", "done")
        assert ended(ingestion, answer.json["id"])["status"] == "done"
    assert count(market, "trades") == ALL_TRADES
    over = ingestion.client.delete(f"/api/v1/data/backfills/{answer.json['id']}", headers=ingestion.headers())
    assert over.status_code == 409


def test_unknown_backfills(ingestion: Ingestion):
    nobody = "00000000-0000-4000-8000-000000000000"
    assert ingestion.get(f"/backfills/{nobody}").status_code == 404
    assert ingestion.client.delete(f"/api/v1/data/backfills/{nobody}", headers=ingestion.headers()).status_code == 404


def test_kill_9_in_the_middle_of_downloads(ingestion: Ingestion, market, simulator):
    answer = ingestion.post("/backfills", json=body())
    for kills in range(4):
        process = spawned(ingestion, simulator)
        eventually(
            lambda: market.database.rows(
                "SELECT 1 FROM backfill_parts WHERE status IN ('downloading', 'storing', 'done')"
            ),
            20,
        )
        time.sleep(0.05 * kills)
        kill(process)
    with backfilling(ingestion):
        found = ended(ingestion, answer.json["id"])
    assert found["status"] == "done"
    assert count(market, "trades") == ALL_TRADES
    assert found["records"]["received"] == found["records"]["expected"] == ALL_TRADES
    eventually(lambda: leftovers(ingestion.settings.spool_dir) == [])


def test_two_backfillers_share_the_work(ingestion: Ingestion, market):
    with backfilling(ingestion), backfilling(ingestion):
        found = done(ingestion)
    assert count(market, "trades") == ALL_TRADES
    assert found["records"]["duplicate"] == 0
    assert found["cost_usd"]["spent"] == pytest.approx(found["cost_usd"]["estimated"])


def test_a_whole_file_that_a_killed_process_left_is_not_bought_again(ingestion: Ingestion, market, simulator):
    question = body(symbols=["AAPL"], end=day(1).isoformat())
    answer = ingestion.post("/backfills", json=question)
    ((part_id,),) = market.database.rows("SELECT part_id FROM backfill_parts")
    whole = ingestion.settings.spool_dir / f"backfill-{part_id}-0123456789ab.dbn"
    simulator.historical().timeseries.get_range(
        "EQUS.MINI", midnight(day(0)), midnight(day(1)), ["AAPL"], "trades", path=whole
    )
    market.database.execute("UPDATE backfill_parts SET expected = %s", (len(trades_of(0)) // 2,))
    (ingestion.settings.spool_dir / f"backfill-{part_id}-fedcba987654.part").write_bytes(b"DBN half")
    simulator.fault("http", status=500, call="timeseries.get_range", times=0)
    with backfilling(ingestion):
        found = ended(ingestion, answer.json["id"])
    assert found["status"] == "done"
    assert found["cost_usd"]["spent"] == 0
    assert count(market, "trades") == len(trades_of(0)) // 2
    eventually(lambda: leftovers(ingestion.settings.spool_dir) == [])


def test_the_database_may_go_away(ingestion: Ingestion, market, postgres):
    answer = ingestion.post("/backfills", json=body())
    with backfilling(ingestion):
        for _ in range(3):
            time.sleep(0.2)
            market.database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'ingestion-%%' AND pid <> pg_backend_pid()"
            )
        found = ended(ingestion, answer.json["id"])
    assert found["status"] == "done"
    assert count(market, "trades") == ALL_TRADES


# --- gaps ---


def test_what_was_received_closes_the_gaps_it_covers(ingestion: Ingestion, market):
    begin, end = midnight(day(0)) + DAY // 2, midnight(day(1)) + DAY // 2
    stated = {
        "covered": ("AAPL", begin, end),
        "half": ("AAPL", begin + 1, midnight(day(DAYS)) + DAY),
        "another": ("TSLA", begin, end),
        "going on": ("MSFT", begin, None),
    }
    with market.database.connection() as connection, connection.cursor() as cursor:
        ids = {
            name: open_gap(
                cursor, dataset="EQUS.MINI", schema="trades", symbol=symbol, starts_ns=start, ends_ns=stop,
                evidence="disconnect", detail=name,
            )
            for name, (symbol, start, stop) in stated.items()
        }  # fmt: skip
    with backfilling(ingestion):
        done(ingestion)
    closed = dict(market.database.rows("SELECT gap_id, closed_by FROM gaps"))
    assert closed == {ids["covered"]: "backfill", ids["half"]: None, ids["another"]: None, ids["going on"]: None}
    ((found,),) = market.database.rows("SELECT found FROM gaps WHERE gap_id = %s", (ids["covered"],))
    assert found > 0


def test_a_gap_is_repaired_from_history(ingestion: Ingestion, market):
    settings = ingestion.settings
    begin = midnight(day(1))
    with market.database.connection() as connection, connection.cursor() as cursor:
        about = {"dataset": "EQUS.MINI", "schema": "trades", "evidence": "disconnect", "detail": "cut"}
        gap_id = open_gap(cursor, symbol="AAPL", starts_ns=begin, ends_ns=begin + DAY, **about)
        later = open_gap(
            cursor,
            symbol="AAPL",
            starts_ns=begin,
            ends_ns=after_the_tape() + 100 * DAY,
            **{**about, "evidence": "mute"},
        )
        gap, not_yet = gap_by_id(cursor, gap_id), gap_by_id(cursor, later)
    vendor = Vendor(settings)
    with pytest.raises(TooCostly, match="max_cost_usd is 0"):
        request_repair(market.database, vendor, settings, gap)
    with pytest.raises(VendorUnavailable, match="history reaches"):
        request_repair(market.database, vendor, settings, not_yet)
    allowed = settings.model_copy(update={"repair_max_cost_usd": 1.0})
    job = request_repair(market.database, vendor, allowed, gap)
    assert request_repair(market.database, vendor, allowed, gap) == job
    with backfilling(ingestion):
        found = ended(ingestion, str(job))
    assert (found["status"], found["origin"]) == ("done", "repair")
    expected = len(trades_of(1)) // 2
    assert market.database.rows("SELECT gap_id, closed_by, found FROM gaps WHERE closed_at IS NOT NULL") == [
        (gap_id, "backfill", expected)
    ]
    # what repairs bring is kept no longer than what is collected
    assert market.database.rows("SELECT DISTINCT keep FROM runs") == [(False,)]


def test_a_fresh_database_asks_for_its_first_history_once(ingestion: Ingestion, market):
    changes = {"backfill_on_first_start_days": 5, "backfill_on_first_start_max_cost_usd": 1.0}
    with backfilling(ingestion, **changes), backfilling(ingestion, **changes):
        (first,) = eventually(lambda: ingestion.get("/backfills").json["backfills"])
        found = ended(ingestion, first["id"])
        assert found["status"] == "done", found
        assert found["origin"] == "first-start"
        # this market has minute bars of two of the nine, and quotes of the options of one
        assert {(w["schema"], w["stype_in"]) for w in found["wanted"]} == {
            ("ohlcv-1m", "raw_symbol"),
            ("cbbo-1m", "parent"),
        }
        assert len(ingestion.get("/backfills").json["backfills"]) == 1
    assert count(market, "bars_1m") == len(bars_of(0)) * DAYS
    with backfilling(ingestion, **changes):
        time.sleep(1)
    assert len(ingestion.get("/backfills").json["backfills"]) == 1
