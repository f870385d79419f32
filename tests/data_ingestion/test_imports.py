"""Every record once, and every wrong file refused."""

import os
import threading
from datetime import date

import pytest
from databento_dbn import RType, Schema

from backfill_support import eventually
from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, bar, dbn_file, midnight, quote, trade
from ots_ingestion import worker
from ots_ingestion.spool import PARTIAL

DAY0 = date(2024, 3, 4)
OPEN = midnight(DAY0) + 14 * 3600 * 10**9 + 30 * MINUTE


def minute_bars(ingestion, symbol, **query):
    arguments = "&".join(f"{k}={v}" for k, v in {"timeframe": "1m", **query}.items())
    return ingestion.get(f"/bars/{symbol}?{arguments}").json["bars"]


def count(market, table, symbol):
    sql = f"SELECT count(*) FROM {table} JOIN instruments USING (instrument_id) WHERE raw_symbol = %s"
    return market.database.rows(sql, (symbol,))[0][0]


def test_the_same_file_twice_stores_nothing_twice(ingestion, market):
    body = dbn_file(Schema.TRADES, [trade(OPEN + i * 1000, 50, sequence=i) for i in range(2500)], symbols={"TWICE": 1})
    first, second = ingestion.imported(body), ingestion.imported(body)
    assert (first["read"], first["stored"], first["duplicate"]) == (2500, 2500, 0)
    assert (second["read"], second["stored"], second["duplicate"]) == (2500, 0, 2500)
    assert count(market, "trades", "TWICE") == 2500
    assert sum(b["volume"] for b in minute_bars(ingestion, "TWICE")) == 250_000


def test_genuine_equal_trades_are_all_kept(ingestion, market):
    # 1,500 prints alike in every field in one nanosecond, over a border of batches (1,000 records)
    body = dbn_file(Schema.TRADES, [trade(OPEN, 50)] * 1500 + [trade(OPEN + 1, 50)], symbols={"EQUAL": 1})
    assert ingestion.imported(body)["stored"] == 1501
    assert ingestion.imported(body)["duplicate"] == 1501
    assert count(market, "trades", "EQUAL") == 1501


def test_overlapping_files_store_the_overlap_once(ingestion, market):
    records = [trade(OPEN + i, 50, sequence=i) for i in range(300)]
    one = dbn_file(Schema.TRADES, records[:200], symbols={"LAPPED": 1})
    two = dbn_file(Schema.TRADES, records[100:], symbols={"LAPPED": 1})
    ingestion.imported(one)
    run = ingestion.imported(two)
    assert (run["stored"], run["duplicate"]) == (100, 100)
    assert count(market, "trades", "LAPPED") == 300


def test_a_stretch_that_is_replayed_inside_a_file_is_stored_once(ingestion, market):
    records = [trade(OPEN + i, 50, sequence=i) for i in range(50)]
    run = ingestion.imported(dbn_file(Schema.TRADES, records + records[20:], symbols={"REPLAY": 1}))
    assert (run["stored"], run["duplicate"]) == (50, 30)


def test_bars_are_built_from_trades_until_the_vendors_own_come(ingestion):
    trades = [trade(OPEN + s * 10**9, 100 + s % 10, 10, sequence=s) for s in range(150)]
    ingestion.imported(dbn_file(Schema.TRADES, trades[:70], symbols={"BUILT": 1}))
    ingestion.imported(dbn_file(Schema.TRADES, trades, symbols={"BUILT": 1}))
    bars = minute_bars(ingestion, "BUILT")
    assert [(b["origin"], b["volume"]) for b in bars] == [("trades", 600), ("trades", 600), ("trades", 300)]
    assert (bars[0]["open"], bars[0]["high"], bars[0]["low"], bars[0]["close"]) == (100, 109, 100, 109)
    vendor = dbn_file(Schema.OHLCV_1M, [bar(OPEN, (100, 110, 99, 109), 601)], symbols={"BUILT": 1})
    assert ingestion.imported(vendor)["stored"] == 1
    ingestion.imported(dbn_file(Schema.TRADES, trades, symbols={"BUILT": 1}))
    bars = minute_bars(ingestion, "BUILT")
    assert [(b["origin"], b["volume"]) for b in bars] == [("vendor", 601), ("trades", 600), ("trades", 300)]


def test_a_revised_bar_replaces_the_earlier_one(ingestion):
    ingestion.imported(dbn_file(Schema.OHLCV_1M, [bar(OPEN, (1, 2, 1, 2), 10)], symbols={"REVISED": 1}))
    run = ingestion.imported(dbn_file(Schema.OHLCV_1M, [bar(OPEN, (1, 3, 1, 2), 11)], symbols={"REVISED": 1}))
    assert (run["stored"], run["revised"]) == (0, 1)
    assert [b["high"] for b in minute_bars(ingestion, "REVISED")] == [3]


def test_a_vendor_id_means_another_instrument_the_next_day(ingestion, market):
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN, 10)], symbols={"MONDAY": 7, "OTHER": 1}))
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN + DAY, 20)], day=date(2024, 3, 5), symbols={"TUESDAY": 1}))
    assert count(market, "trades", "OTHER") == 1
    assert count(market, "trades", "TUESDAY") == 1


def test_what_earlier_files_taught_resolves_a_file_that_names_nothing(ingestion, market):
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN, 10, instrument=501)], symbols={"TAUGHT": 501}))
    records = [trade(OPEN + 5, 11, instrument=501), trade(OPEN + 6, 11, instrument=502)]
    run = ingestion.imported(dbn_file(Schema.TRADES, records, symbols={}))
    assert (run["stored"], run["rejected"], run["reasons"]) == (1, 1, {"unknown_instrument": 1})
    assert count(market, "trades", "TAUGHT") == 2


def test_one_sided_and_crossed_quotes_are_kept_as_they_are(ingestion):
    records = [quote(OPEN, None, 2.0), quote(OPEN + MINUTE, 1.5, None), quote(OPEN + 2 * MINUTE, 3.0, 2.0)]
    symbols = {"TSTQ  240315C00100000": 1}
    ingestion.imported(dbn_file(Schema.CBBO_1M, records, symbols=symbols, dataset="OPRA.PILLAR"))
    quotes = ingestion.get("/quotes/TSTQ240315C00100000").json["quotes"]
    assert [(q["bid"], q["ask"]) for q in quotes] == [(None, 2.0), (1.5, None), (3.0, 2.0)]
    page = ingestion.get("/quotes/TSTQ240315C00100000?limit=2").json
    assert " " not in page["next"]
    assert [q["bid"] for q in ingestion.get(page["next"].removeprefix("/api/v1/data")).json["quotes"]] == [3.0]
    contract = ingestion.get("/instruments?underlying=TSTQ").json["instruments"][0]
    assert (contract["expiration"], contract["strike"], contract["right"]) == ("2024-03-15", 100.0, "C")


def test_nanoseconds_and_prices_are_exact(ingestion):
    at = OPEN + 123_456_789
    ingestion.imported(dbn_file(Schema.TRADES, [trade(at, 123.456789012)], symbols={"EXACT": 1}))
    found = ingestion.get("/trades/EXACT").json["trades"][0]
    assert found["time"] == "2024-03-04T14:30:00.123456789Z"
    assert found["price"] == 123.456789012
    assert len(ingestion.get("/trades/EXACT?start=2024-03-04T14:30:00.123456789Z").json["trades"]) == 1
    assert ingestion.get("/trades/EXACT?start=2024-03-04T14:30:00.123456790Z").status_code == 404
    assert ingestion.get("/trades/EXACT?end=2024-03-04T14:30:00.123456789Z").status_code == 404


def test_years_apart_in_one_file(ingestion, market):
    records = [bar(midnight(date(year, 6, 3)), (1, 2, 1, 2), rtype=RType.OHLCV_1M) for year in range(1999, 2025)]
    run = ingestion.imported(
        dbn_file(Schema.OHLCV_1M, records, day=date(1999, 1, 1), days=365 * 30, symbols={"YEARS": 1})
    )
    assert run["stored"] == 26
    assert count(market, "bars_1m", "YEARS") == 26


def test_two_bars_of_one_minute_in_one_file_are_one_bar(ingestion):
    records = [bar(OPEN, (1, 2, 1, 2), 10), bar(OPEN, (1, 2, 1, 2), 10), bar(OPEN, (1, 2, 1, 2), 12)]
    run = ingestion.imported(dbn_file(Schema.OHLCV_1M, records, symbols={"DOUBLE": 1}))
    assert (run["stored"], run["duplicate"]) == (1, 2)
    assert [b["volume"] for b in minute_bars(ingestion, "DOUBLE")] == [12]


def test_venues_of_one_minute_are_joined_on_reading(ingestion):
    records = [bar(OPEN, (1, 5, 1, 2), 10, publisher=20), bar(OPEN, (2, 4, 0.5, 3), 90, publisher=21)]
    symbols = {"TSTV  240315C00100000": 1}
    ingestion.imported(dbn_file(Schema.OHLCV_1M, records, symbols=symbols, dataset="OPRA.PILLAR"))
    (joined,) = minute_bars(ingestion, "TSTV240315C00100000")
    assert (joined["open"], joined["high"], joined["low"], joined["close"], joined["volume"], joined["publishers"]) == (
        2, 5, 0.5, 3, 100, 2,
    )  # fmt: skip


def test_eight_uploads_of_one_file_at_once(ingestion, market):
    body = dbn_file(Schema.TRADES, [trade(OPEN + i, 5, sequence=i) for i in range(500)], symbols={"ATONCE": 1})
    runs = []

    def one():
        runs.append(ingestion.imported(body))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(run["stored"] for run in runs) == 500
    assert sum(run["duplicate"] for run in runs) == 3500
    assert count(market, "trades", "ATONCE") == 500


def test_an_empty_file_is_a_run_of_nothing(ingestion):
    run = ingestion.imported(dbn_file(Schema.TRADES, []))
    assert (run["read"], run["first_time"]) == (0, None)


def test_the_answer_of_an_import_and_its_run(ingestion):
    answer = ingestion.upload(dbn_file(Schema.TRADES, [trade(OPEN, 1)], symbols={"ANSWER": 1}), wait=0)
    assert answer.status_code in (200, 202)
    assert answer.headers["Location"] == f"/api/v1/data/runs/{answer.json['id']}"
    run = ingestion.get(f"/runs/{answer.json['id']}")
    assert run.status_code == 200
    assert run.json["requested_by"] == "somebody"
    assert ingestion.get("/runs?limit=1").json["next"]
    assert ingestion.get("/runs/6f3c0c8e-0000-4000-8000-000000000000").status_code == 404


@pytest.mark.parametrize("wait", ["-5", "0", "0.5", "1e9"])
def test_a_wait_is_clamped_never_refused(ingestion, wait):
    body = dbn_file(Schema.TRADES, [trade(OPEN, 1)], symbols={"CLAMPED": 1})
    assert ingestion.upload(body, wait=wait).status_code in (200, 202)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"hello", "no DBN file"),
        (dbn_file(Schema.TRADES, [trade(OPEN, 1)] * 50)[:-4], "zstd"),
        (dbn_file(Schema.TRADES, [trade(OPEN, 1)] * 50, compress=False)[:-4], "inside a record"),
        (dbn_file(Schema.MBO, []), "mbo"),
        (dbn_file(Schema.OHLCV_1S, [bar(OPEN, (1, 1, 1, 1), rtype=RType.OHLCV_1S)]), "ohlcv-1s"),
    ],
    ids=["empty", "text", "cut zstd", "cut record", "mbo", "ohlcv-1s"],
)
def test_a_wrong_file_is_refused_and_leaves_nothing(ingestion, body, says):
    before = sorted(path.name for path in ingestion.settings.spool_dir.iterdir())
    runs = len(ingestion.get("/runs?limit=10000").json["runs"])
    answer = ingestion.upload(body)
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"
    assert says in answer.json["detail"]
    assert len(ingestion.get("/runs?limit=10000").json["runs"]) == runs
    assert sorted(path.name for path in ingestion.settings.spool_dir.iterdir()) == before


def test_another_media_type_is_refused_with_the_line_that_works(ingestion):
    answer = ingestion.post("/imports", data=b"x", headers={"Content-Type": "application/json"})
    assert answer.status_code == 415
    assert "application/vnd.databento.dbn" in answer.json["hint"]


def test_without_an_internal_token_nothing_is_answered(ingestion):
    for path in ("/api/v1/data/runs", "/api/v1/data/imports", "/openapi/openapi.json", "/nothing"):
        answer = ingestion.client.get(path)
        assert answer.status_code == 401, path
        assert answer.mimetype == "application/problem+json"


def test_an_upload_that_never_became_a_run_goes_also_where_nothing_else_comes(
    market, redis_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "_SWEEP_EVERY_S", 0.0)
    monkeypatch.setattr(worker, "_IDLE_S", 0.05)
    spool = tmp_path / "spool"
    with Ingestion(settings_for(market, redis_server, spool)).working():
        # it makes its spool when it begins, and looks at it
        eventually(spool.is_dir)
        left, young = spool / f"left{PARTIAL}", spool / f"young{PARTIAL}"
        for path in (left, young):
            path.write_bytes(b"DBN")
        os.utime(left, (0, 0))
        eventually(lambda: not left.exists())
        assert young.exists()
