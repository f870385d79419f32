"""The self-check: no difference while all is well, whatever came in and however often; and nothing that it misses."""

from __future__ import annotations

import threading
import uuid
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import psycopg2
import pytest
from databento_dbn import InstrumentDefMsg, RType, Schema, StatMsg
from prometheus_client import REGISTRY
from psycopg2.extensions import make_dsn

from backfill_support import eventually
from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, PRICE, bar, dbn_file, midnight, quote, trade
from ots_common.database import connect
from ots_common.migrations import migrate
from ots_common.paging import encode_cursor
from ots_ingestion import measures, self_check, worker
from ots_ingestion.__main__ import main
from ots_ingestion.maintenance import Maintenance
from ots_ingestion.retention import maintain, set_retention, upkeep_lease
from ots_ingestion.routes.self_checks import ChecksModel
from ots_ingestion.self_check import CheckIsGoingOn, Stretch, choose
from ots_ingestion.spool import PARTIAL
from ots_market.sessions import around_the_clock, xnys
from ots_native.postgres import SUPERUSER
from places import MIGRATIONS

DAY0 = date(2024, 3, 4)
OPEN = midnight(DAY0) + 14 * 3600 * 10**9 + 30 * MINUTE
EVERYTHING = 10**12
OPTION = "CHEK  240315C00100000"
# so many of each are stored by `filled`
TRADES, QUOTES, STATISTICS, DEFINITIONS, MINUTES, HOURS, DAYS = 2503, 40, 30, 3, 25, 6, 300


@pytest.fixture(scope="module")
def ingestion(market, redis_server, tmp_path_factory):
    """As everywhere, but that nobody else sets the gauges of this process."""
    idle = SimpleNamespace(start=lambda: None, stop=lambda: None)
    spool = tmp_path_factory.mktemp("spool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "Maintenance", lambda _: idle)
        service = Ingestion(settings_for(market, redis_server, spool, batch_records=1000))
        with service.working():
            yield service


@pytest.fixture
def connection(market):
    with closing(connect(market.owner, application="tests")) as found:
        yield found


def check(connection, most_rows=EVERYTHING, **more):
    return self_check.check(connection, asked_by="test", most_rows=most_rows, **more)


def found(connection):
    """(dataset, schema) -> missing, surplus, altered, where anything differs."""
    return {
        (one.dataset, one.schema): (one.missing, one.surplus, one.altered)
        for one in check(connection).schemas
        if one.difference
    }


def definition(at):
    made = np.zeros(1, np.dtype(InstrumentDefMsg._dtypes))
    made["length"], made["rtype"] = made.dtype.itemsize // 4, 19
    made["publisher_id"], made["instrument_id"], made["ts_event"], made["ts_recv"] = 30, 9, at, at
    made["raw_symbol"], made["underlying"], made["instrument_class"] = OPTION.encode(), b"CHEK", b"C"
    made["strike_price"], made["expiration"] = 100 * PRICE, midnight(date(2024, 3, 15))
    made["activation"], made["contract_multiplier"] = made["expiration"], 2**31 - 1
    made["security_update_action"] = b"A"
    return made.tobytes()


def statistic(at):
    made = np.zeros(1, np.dtype(StatMsg._dtypes))
    made["length"], made["rtype"] = made.dtype.itemsize // 4, 24
    made["publisher_id"], made["instrument_id"], made["ts_event"], made["ts_recv"] = 30, 9, at, at
    made["ts_ref"], made["price"], made["quantity"], made["stat_type"] = 2**64 - 1, 2**63 - 1, 100, 9
    return made.tobytes()


@pytest.fixture(scope="module")
def filled(ingestion):
    """Some of everything: repeated, overlapping, revised, refused, over a border of days and of batches (1,000)."""
    trades = [trade(OPEN + i // 2 * 7 * 10**8, 100 + i % 11, 10, sequence=i // 3) for i in range(2500)]
    for part in (trades[:900], trades[500:], trades):
        ingestion.imported(dbn_file(Schema.TRADES, part, symbols={"CHECKED": 1}))
    late = [trade(midnight(DAY0) + DAY + i - 1, 50, sequence=i) for i in range(3)]
    ingestion.imported(dbn_file(Schema.TRADES, late, days=2, symbols={"CHECKED": 1}))
    unknown = dbn_file(Schema.TRADES, [trade(OPEN, 1, instrument=77)] * 4, symbols={})
    assert ingestion.imported(unknown)["rejected"] == 4
    minutes = [bar(OPEN + i * MINUTE, (100, 105, 99, 101), 5) for i in range(MINUTES)]
    ingestion.imported(dbn_file(Schema.OHLCV_1M, minutes[:20], symbols={"BARRED": 1}))
    revised = [bar(OPEN + i * MINUTE, (100, 106, 99, 101), 6) for i in range(5)]
    run = ingestion.imported(dbn_file(Schema.OHLCV_1M, [*minutes[3:], *revised], symbols={"BARRED": 1}))
    assert (run["stored"], run["revised"] > 0, run["duplicate"] > 0) == (5, True, True)
    # the vendor's own take the place of those that trades made
    ingestion.imported(dbn_file(Schema.OHLCV_1M, minutes[:2], symbols={"CHECKED": 1}))
    hours = [
        bar(OPEN // (60 * MINUTE) * 60 * MINUTE + i * 60 * MINUTE, (1, 2, 1, 2), rtype=RType.OHLCV_1H)
        for i in range(HOURS)
    ]
    ingestion.imported(dbn_file(Schema.OHLCV_1H, hours, symbols={"BARRED": 1}))
    days = [bar(midnight(DAY0) - i * DAY, (1, 2, 1, 2), rtype=RType.OHLCV_1D) for i in range(DAYS)]
    ingestion.imported(dbn_file(Schema.OHLCV_1D, days, day=date(2023, 1, 1), days=900, symbols={"BARRED": 1}))
    of_options = {"dataset": "OPRA.PILLAR", "symbols": {OPTION: 9}}
    quotes = [quote(OPEN + i * MINUTE, None if i % 4 == 0 else 1.0, 2.0, instrument=9) for i in range(QUOTES)]
    ingestion.imported(dbn_file(Schema.CBBO_1M, quotes, **of_options))
    ingestion.imported(dbn_file(Schema.CBBO_1M, quotes[7:], **of_options))
    ingestion.imported(dbn_file(Schema.STATISTICS, [statistic(OPEN + i) for i in range(STATISTICS)], **of_options))
    definitions = [definition(OPEN + i) for i in range(DEFINITIONS)]
    ingestion.imported(dbn_file(Schema.DEFINITION, definitions, **of_options))
    return ingestion


def test_what_came_in_in_every_way_differs_in_nothing(filled, connection):
    done = check(connection)
    assert {(one.dataset, one.schema): one.rows for one in done.schemas} == {
        ("EQUS.MINI", "trades"): TRADES,
        ("EQUS.MINI", "ohlcv-1m"): MINUTES + 2,
        ("EQUS.MINI", "ohlcv-1h"): HOURS,
        ("EQUS.MINI", "ohlcv-1d"): DAYS,
        ("OPRA.PILLAR", "cbbo-1m"): QUOTES,
        ("OPRA.PILLAR", "statistics"): STATISTICS,
        ("OPRA.PILLAR", "definition"): DEFINITIONS,
    }
    assert (done.difference, done.differences, done.left_over) == (0, (), 0)
    assert done.rows == sum(one.rows for one in done.schemas)


TRADE, BAR, OPTIONS_QUOTE = ("EQUS.MINI", "trades"), ("EQUS.MINI", "ohlcv-1m"), ("OPRA.PILLAR", "cbbo-1m")
_TICK, _BAR = "instrument_id, ts, digest, ord", "instrument_id, ts, publisher_id"
# the first minutes of CHECKED hold the vendor's bars: what happens to their trades does not show in them
_EARLY = "ts < '2024-03-04 14:31+00' AND ts >= '2024-03-04 14:30+00'"


def one(table, condition):
    """One row of a table, the first in the order of its key that is as it is asked for."""
    key = _BAR if table.startswith("bars") else _TICK
    return f"({key}) = (SELECT {key} FROM {table} WHERE {condition} ORDER BY {key} LIMIT 1)"


CHANGES = {
    "a trade is gone": (
        "trades",
        f"DELETE FROM trades WHERE {one('trades', _EARLY)}",
        {TRADE: (1, 0, 0)},
    ),
    "a trade is doubled": (
        "trades",
        "INSERT INTO trades SELECT instrument_id, ts, ts_ns, digest, ord + 1000, sequence, price, size, side, action,"
        f" flags, depth, publisher_id, recv_at_ns, ts_in_delta FROM trades WHERE {_EARLY} LIMIT 1",
        {TRADE: (0, 1, 0)},
    ),
    "a price is another": (
        "trades",
        f"UPDATE trades SET price = price + 1 WHERE {one('trades', _EARLY)}",
        {TRADE: (0, 0, 1)},
    ),
    "a side is another": (
        "trades",
        f"UPDATE trades SET side = 'B' WHERE {one('trades', _EARLY)}",
        {TRADE: (0, 0, 1)},
    ),
    "a microsecond later": (
        "trades",
        "UPDATE trades SET ts = ts + interval '1 microsecond' WHERE " + one("trades", _EARLY),
        {TRADE: (0, 0, 1)},
    ),
    "one is gone and another too many": (
        "trades",
        f"UPDATE trades SET ts = ts + interval '3 days' WHERE {one('trades', _EARLY)}",
        {TRADE: (1, 1, 0), BAR: (1, 0, 0)},
    ),
    "a trade on which a bar rests": (
        "trades",
        "UPDATE trades SET size = size + 1 WHERE " + one("trades", "ts >= '2024-03-04 14:35+00'"),
        {TRADE: (0, 0, 1), BAR: (0, 0, 1)},
    ),
    "a bar of trades is gone": (
        "bars_1m",
        f"DELETE FROM bars_1m WHERE {one('bars_1m', 'origin = $$t$$')}",
        {BAR: (1, 0, 0)},
    ),
    "a bar of trades is another": (
        "bars_1m",
        f"UPDATE bars_1m SET high = high + 1 WHERE {one('bars_1m', 'origin = $$t$$')}",
        {BAR: (0, 0, 1)},
    ),
    "a bar of no trades": (
        "bars_1m",
        "INSERT INTO bars_1m SELECT instrument_id, ts + interval '5 hours', publisher_id, open, high, low, close,"
        " volume, origin FROM bars_1m WHERE origin = 't' AND ts < '2024-03-04 15:00+00' LIMIT 1",
        {BAR: (0, 1, 0)},
    ),
    "a vendor's bar is gone": (
        "bars_1m",
        f"DELETE FROM bars_1m WHERE {one('bars_1m', 'origin = $$v$$ AND ts > $$2024-03-04 14:40+00$$')}",
        {BAR: (1, 0, 0)},
    ),
    "a daily bar is another": (
        "bars_1d",
        f"UPDATE bars_1d SET volume = 1 WHERE {one('bars_1d', 'true')}",
        {("EQUS.MINI", "ohlcv-1d"): (0, 0, 1)},
    ),
    "no bid is now a bid of nothing": (
        "quotes",
        f"UPDATE quotes SET bid = 0 WHERE {one('quotes', 'bid IS NULL')}",
        {OPTIONS_QUOTE: (0, 0, 1)},
    ),
    "all of a day's quotes are gone": ("quotes", "DELETE FROM quotes", {OPTIONS_QUOTE: (QUOTES, 0, 0)}),
    "a definition is gone": (
        "definitions",
        f"DELETE FROM definitions WHERE {one('definitions', 'true')}",
        {("OPRA.PILLAR", "definition"): (1, 0, 0)},
    ),
    "a statistic is another": (
        "statistics",
        f"UPDATE statistics SET quantity = quantity - 1 WHERE {one('statistics', 'true')}",
        {("OPRA.PILLAR", "statistics"): (0, 0, 1)},
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_happens_behind_its_back_is_found_and_stands_until_it_is_mended(filled, market, connection, change):
    table, statement, expected = change
    database = market.database
    database.execute("SELECT open_chunks('trades', ARRAY['2024-03-07'::timestamptz])")
    database.execute(f"CREATE TABLE as_it_was AS SELECT * FROM {table}")
    try:
        assert database.execute(statement) != 0
        assert found(connection) == expected
        # what differs is looked at each time, however little may be read
        again = check(connection, most_rows=1)
        assert again.difference == sum(map(sum, expected.values()))
    finally:
        database.execute(f"DELETE FROM {table}")
        database.execute(f"INSERT INTO {table} SELECT * FROM as_it_was")
        database.execute("DROP TABLE as_it_was")
    assert check(connection).difference == 0


def test_what_was_changed_on_purpose_can_be_accepted(filled, market, connection):
    database = market.database
    database.execute("CREATE TABLE as_it_was AS SELECT * FROM bars_1d")
    ledger = "SELECT * FROM stored_rows WHERE table_name = 'bars_1d' ORDER BY day"
    before = [row[:6] for row in database.rows(ledger)]
    database.execute("DELETE FROM bars_1d WHERE ts < '2024-01-01'")
    assert found(connection) == {("EQUS.MINI", "ohlcv-1d"): (DAYS - 64, 0, 0)}
    assert self_check.accept(connection) == 1
    done = check(connection)
    assert (done.difference, {one.schema: one.rows for one in done.schemas}["ohlcv-1d"]) == (0, 64)
    database.execute("INSERT INTO bars_1d SELECT * FROM as_it_was ON CONFLICT DO NOTHING")
    database.execute("DROP TABLE as_it_was")
    assert found(connection) == {("EQUS.MINI", "ohlcv-1d"): (0, DAYS - 64, 0)}
    self_check.accept(connection)
    assert [row[:6] for row in database.rows(ledger)] == before
    assert check(connection).difference == 0


def test_nothing_differs_while_a_file_is_being_stored(filled, market, connection):
    records = [trade(OPEN + i * 10**7, 100 + i % 7, 1, sequence=i) for i in range(15_000)]
    files = [dbn_file(Schema.TRADES, part, symbols={"LOADED": 1}) for part in (records[:9000], records)]
    storing = threading.Thread(target=lambda: [filled.imported(body) for body in files])
    storing.start()
    while storing.is_alive():
        done = check(connection)
        assert done.difference == 0, done.differences
    storing.join()
    counted = "SELECT rows FROM stored_rows WHERE schema = 'trades' AND day = '2024-03-04'"
    assert market.database.rows(counted) == [(TRADES - 2 + 15_000,)]
    assert check(connection).difference == 0


def test_what_retention_dropped_is_not_missing(filled, market, connection):
    """Nor is what is stored of such a day later compared with bars of which the trades are gone."""
    day = datetime.now(UTC).date() - timedelta(days=70)
    noon = midnight(day) + DAY // 2
    stored = [trade(noon + i * 10**9, 10 + i, sequence=i) for i in range(90)]
    filled.imported(dbn_file(Schema.TRADES, stored, day=day, symbols={"COLLECTED": 1}))
    market.database.execute("DELETE FROM kept_chunks WHERE starts > now() - interval '100 days'")
    before = check(connection).rows
    try:
        set_retention(connection, "trades", timedelta(days=30))
        assert any(line.startswith("trades: dropped") for line in maintain(connection))
        assert check(connection).difference == 0
        gone = "SELECT rows, dropped_at IS NOT NULL FROM stored_rows WHERE table_name = 'trades' AND day = %s"
        assert set(market.database.rows(gone, (day,))) == {(0, True)}
        late = dbn_file(Schema.TRADES, [*stored[:1], trade(noon + 3600 * 10**9, 9)], day=day, symbols={"COLLECTED": 1})
        assert filled.imported(late)["stored"] == 2
        done = check(connection)
        assert (done.difference, done.rows) == (0, before - 88)
    finally:
        set_retention(connection, "trades", None)


def test_rows_of_before_are_taken_as_they_are(postgres):
    """An installation that is older than the count: its rows are counted when the count is introduced."""
    name = f"older_{uuid.uuid4().hex[:8]}"
    with closing(psycopg2.connect(postgres.admin_url)) as administrator:
        administrator.autocommit = True
        administrator.cursor().execute(f"CREATE DATABASE {name} TEMPLATE template0")
    url = make_dsn(postgres.admin_url, dbname=name)
    try:
        folder = MIGRATIONS / "market"
        migrate(url, folder, role=SUPERUSER, last="0010.packed-bars.sql")
        with closing(connect(url, application="tests")) as old:
            with old, old.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO instruments (dataset, raw_symbol, underlying) VALUES ('EQUS.MINI', 'A', 'A')"
                )
                for moment in ("2024-03-04 23:59:59.123456+00", "2024-03-05 00:00+00"):
                    cursor.execute("SELECT open_chunks('trades', ARRAY[%s::timestamptz])", (moment,))
                    cursor.execute("SELECT open_chunks('bars_1m', ARRAY[%s::timestamptz])", (moment,))
                    cursor.execute(
                        "INSERT INTO trades SELECT 1, %s, 0, -5, 0, 0, 7, 1, 'N', 'T', 0, 0, 1, 0, 0", (moment,)
                    )
                    cursor.execute(
                        "INSERT INTO bars_1m SELECT 1, date_trunc('minute', %s::timestamptz), 1, 7, 7, 7, 7, 1, 't'",
                        (moment,),
                    )
                cursor.execute("INSERT INTO bars_1d VALUES (1, '2024-03-04', 1, 7, 7, 7, 7, 1, 'v')")
            migrate(url, folder, role=SUPERUSER)
            done = check(old)
            assert (done.difference, done.rows) == (0, 3)
            with old, old.cursor() as cursor:
                cursor.execute("UPDATE trades SET price = 8, size = 2 WHERE ts >= '2024-03-05'")
            assert {one.schema: one.altered for one in check(old).schemas} == {
                "trades": 1, "ohlcv-1m": 1, "ohlcv-1d": 0,
            }  # fmt: skip
    finally:
        with closing(psycopg2.connect(postgres.admin_url)) as administrator:
            administrator.autocommit = True
            administrator.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_upkeep_and_check_wait_for_each_other(market, connection):
    with closing(connect(market.owner, application="tests")) as other, upkeep_lease(other) as ours:
        assert ours
        with pytest.raises(CheckIsGoingOn):
            check(connection)
    assert check(connection).difference == 0


def stretch(table, rows, *, differed=False, changed=False):
    return Stretch(table, date(2024, 3, 4), rows, 1, "", "", differed, changed)


def test_a_check_reads_only_so_much():
    bad, big, small = (
        stretch("bad", 500, differed=True),
        stretch("big", 900, changed=True),
        stretch("small", 5, changed=True),
    )
    old = [stretch(f"old{i}", 30) for i in range(9)]
    assert choose([bad, big, small, *old], 1000) == ([bad, *old[:3]], 2)
    assert choose([bad, big, small, *old], 1400) == ([bad, big, *old[:4]], 1)
    # never nothing: what is too large for any check is read all the same
    assert choose([big, *old], 1) == ([big, old[0]], 0)
    assert choose([], 1000) == ([], 0)


def test_all_is_looked_at_in_turn(filled, market, connection):
    """However little a check may read, a change that nobody noted is found in the end."""
    check(connection)
    market.database.execute("UPDATE bars_1h SET volume = volume + 1 WHERE ts = (SELECT max(ts) FROM bars_1h)")
    try:
        checks = 0
        while not check(connection, most_rows=1).difference:
            checks += 1
            assert checks < 100
    finally:
        market.database.execute("UPDATE bars_1h SET volume = volume - 1 WHERE ts = (SELECT max(ts) FROM bars_1h)")
    assert check(connection, most_rows=1).difference == 0


def test_the_command(filled, market, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", market.owner)
    monkeypatch.setenv("SPOOL_DIR", str(tmp_path))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["ots_ingestion", "self-check", *arguments])
        status = main()
        return status, capsys.readouterr()

    status, said = run("--all")
    assert (status, "no difference" in said.out) == (0, True)
    assert f"{'OPRA.PILLAR':<14} {'cbbo-1m':<11} {QUOTES:>14,} {0:>9,} {0:>9,} {0:>9,}" in said.out.splitlines()
    market.database.execute("UPDATE quotes SET ask_size = ask_size + 1 WHERE ts = (SELECT max(ts) FROM quotes)")
    status, said = run()
    assert status == 1
    assert f"quotes OPRA.PILLAR cbbo-1m of 2024-03-04: {QUOTES:,} counted, {QUOTES:,} stored" in said.out
    with closing(connect(market.owner, application="tests")) as other, upkeep_lease(other):
        status, said = run()
        assert (status, "try again soon" in said.err) == (3, True)
    assert run("--accept")[0] == 0
    market.database.execute("UPDATE quotes SET ask_size = ask_size - 1 WHERE ts = (SELECT max(ts) FROM quotes)")
    assert run("--all")[0] == 1
    assert run("--accept")[0] == 0


def test_each_is_kept_and_answered_in_pages(filled, market, connection):
    market.database.execute("CREATE TABLE as_it_was AS SELECT * FROM definitions")
    market.database.execute(f"DELETE FROM definitions WHERE {one('definitions', 'true')}")
    ids = [check(connection).check_id for _ in range(3)]
    answer = filled.get("/self-checks?limit=2").json
    assert [one["id"] for one in answer["self_checks"]] == [ids[2], ids[1]]
    newest = answer["self_checks"][0]
    assert newest["difference_rows"] == 1
    assert newest["differences"] == [
        {
            "table": "definitions", "dataset": "OPRA.PILLAR", "schema": "definition", "day": "2024-03-04",
            "counted": DEFINITIONS, "stored": DEFINITIONS - 1, "missing": 1, "surplus": 0, "altered": 0,
        }
    ]  # fmt: skip
    assert sum(one["rows"] for one in newest["schemas"]) == newest["rows"]
    assert [one["missing"] for one in newest["schemas"] if one["schema"] == "definition"] == [1]
    following = filled.get(answer["next"].removeprefix("/api/v1/data")).json["self_checks"]
    assert following[0]["id"] == ids[0]
    ChecksModel.model_validate(answer)  # what is documented is what is answered
    for cursor in ("nonsense", encode_cursor([10**30]), encode_cursor(["1"])):
        assert filled.get(f"/self-checks?cursor={cursor}").status_code == 422
    assert filled.get(f"/self-checks?cursor={encode_cursor([1])}").json["self_checks"] == []
    table = filled.get("/self-checks?limit=1", Accept="text/csv").text.splitlines()
    assert table[0].startswith("id,started_at,finished_at,asked_by")
    assert table[1].startswith(f"{ids[2]},")
    with connection, connection.cursor() as cursor:
        measures.measure_self_checks(cursor)
    labels = {"dataset": "OPRA.PILLAR", "schema": "definition"}
    assert value("ots_selfcheck_difference_rows", **labels) == 1
    assert value("ots_selfcheck_checked_rows", **labels) == DEFINITIONS - 1
    assert value("ots_selfcheck_difference_rows", dataset="EQUS.MINI", schema="trades") == 0
    market.database.execute("DELETE FROM definitions")
    market.database.execute("INSERT INTO definitions SELECT * FROM as_it_was")
    market.database.execute("DROP TABLE as_it_was")
    assert check(connection).difference == 0


def test_comparisons_of_long_ago_are_forgotten_but_never_the_newest(filled, market, connection):
    kept = [check(connection).check_id for _ in range(4)]
    set_back = "UPDATE self_checks SET finished_at = finished_at - interval '%s days' WHERE check_id = ANY(%s)"
    market.database.execute(set_back, (91, kept[:2]))
    market.database.execute(set_back, (89, kept[2:3]))
    assert "self_checks: deleted 2 older than 90 days" in maintain(connection)
    found = {row[0] for row in market.database.rows("SELECT check_id FROM self_checks")}
    assert found & set(kept) == set(kept[2:])
    market.database.execute("UPDATE self_checks SET finished_at = finished_at - interval '200 days'")
    maintain(connection)
    assert market.database.rows("SELECT check_id FROM self_checks") == [(kept[3],)]
    assert check(connection).difference == 0


def value(metric, **labels):
    return REGISTRY.get_sample_value(metric, labels)


def test_what_is_stored_is_measured(filled, market, connection, tmp_path):
    check(connection)
    (tmp_path / "live").mkdir()
    for name, size in (("a.dbn", 10), (f"b{PARTIAL}", 5), ("c.dbn", 7)):
        (tmp_path / name).write_bytes(b"x" * size)
    market.database.execute(
        "INSERT INTO runs (run_id, requested_by, spool_file, bytes, sha256, dataset, total, batch_records, status)"
        " VALUES (gen_random_uuid(), 'test', 'c.dbn', 7, '', 'EQUS.MINI', 0, 1, 'failed')"
    )
    with connection, connection.cursor() as cursor:
        measures.measure_self_checks(cursor)
        measures.measure_watermarks(cursor)
        measures.measure_backfills(cursor)
        measures.measure_spool(cursor, tmp_path)
        measures.measure_quality(cursor, xnys())
    newest = market.database.rows("SELECT extract(epoch FROM max(finished_at))::float8 FROM self_checks")[0][0]
    assert value("ots_selfcheck_last_timestamp_seconds") == pytest.approx(newest, abs=0.001)
    files = {
        state: value("ots_ingestion_spool_files", state=state) for state in ("uploading", "waiting", "storing", "kept")
    }
    assert files == {"uploading": 1, "waiting": 1, "storing": 0, "kept": 1}
    assert value("ots_ingestion_spool_bytes") == 22
    assert value("ots_ingestion_backfill_parts", state="failed") == 0
    quoted = market.database.rows("SELECT extract(epoch FROM max(ts))::float8 FROM quote_latest")[0][0]
    assert value("ots_ingestion_watermark_timestamp_seconds", dataset="OPRA.PILLAR", symbol="other") == quoted


def test_the_quality_of_the_newest_session(ingestion, market, connection):
    """Minutes with a bar and crossed quotes of the nine; a symbol without any has none covered."""
    day = date(2024, 3, 5)  # later than anything else of this module but what retention tried
    opens = midnight(day) + 14 * 3600 * 10**9 + 30 * MINUTE
    market.database.execute("DELETE FROM price_latest")
    market.database.execute("DELETE FROM quote_latest")
    bars = [bar(opens + i * MINUTE, (1, 2, 1, 2)) for i in (0, 1, 3)]
    daily = bar(midnight(DAY0), (1, 2, 1, 2), rtype=RType.OHLCV_1D)
    ingestion.imported(dbn_file(Schema.OHLCV_1D, [daily], symbols={"MSFT": 1}))
    ingestion.imported(dbn_file(Schema.OHLCV_1M, bars, day=day, symbols={"AAPL": 1}))
    ingestion.imported(dbn_file(Schema.OHLCV_1M, bars[:1], day=day, symbols={"AAPL": 1}))
    names = [f"AAPL  240315C00{strike}000" for strike in (100, 200, 300, 400)]
    quotes = [quote(opens + MINUTE, bid, 2.0, instrument=i + 1) for i, bid in enumerate((1.0, 2.0, 2.5, None))]
    symbols = {name: i + 1 for i, name in enumerate(names)}
    ingestion.imported(dbn_file(Schema.CBBO_1M, quotes, day=day, symbols=symbols, dataset="OPRA.PILLAR"))
    with connection, connection.cursor() as cursor:
        measures.measure_quality(cursor, xnys())
    # the newest is the end of the fourth minute: three of four minutes have a bar
    assert value("ots_quality_coverage_ratio", symbol="AAPL") == 0.75
    assert value("ots_quality_coverage_ratio", symbol="MSFT") == 0
    # one of three that have both sides
    assert value("ots_quality_crossed_ratio", underlying="AAPL") == pytest.approx(1 / 3)
    # while it is wanted, now counts: nothing of today's session is there
    market.database.execute(
        "INSERT INTO collections (dataset, wanted, stype_in, symbols, schemas, requested_by)"
        " VALUES ('EQUS.MINI', true, 'raw_symbol', '{AAPL}', '{trades}', 'test')"
    )
    try:
        with connection, connection.cursor() as cursor:
            measures.measure_quality(cursor, around_the_clock())
        assert value("ots_quality_coverage_ratio", symbol="AAPL") in (0, 0.75)  # none is over in the first minutes
        assert value("ots_quality_crossed_ratio", underlying="AAPL") is None
    finally:
        market.database.execute("DELETE FROM collections")


def test_records_are_counted_by_schema(ingestion):
    def counted():
        return {
            (schema, outcome): value("ots_ingestion_records_total", dataset="EQUS.MINI", schema=schema, outcome=outcome)
            or 0
            for schema in ("trades", "ohlcv-1m", "other")
            for outcome in ("stored", "revised", "duplicate", "rejected", "control")
        }

    before = counted()
    records = [trade(OPEN + i, 10, sequence=i) for i in range(5)]
    records += [trade(OPEN, 1, instrument=99), trade(2**64 - 1, 1)]  # nobody's, and of no time
    run = ingestion.imported(dbn_file(Schema.TRADES, records + records[:2], symbols={"BYSCHEMA": 1}))
    assert (run["stored"], run["duplicate"], run["rejected"]) == (5, 2, 2)
    grown = {key: number - before[key] for key, number in counted().items() if number != before[key]}
    assert grown == {("trades", "stored"): 5, ("trades", "duplicate"): 2, ("trades", "rejected"): 2}


def test_maintenance_checks_when_it_is_due(filled, market, redis_server, tmp_path):
    """An hour after the last one, whoever made it; of several workers one."""
    settings = settings_for(market, redis_server, tmp_path, self_check_every_s=3600)
    number = "SELECT count(*) FROM self_checks WHERE asked_by = 'maintenance'"
    tasks = [Maintenance(settings) for _ in range(2)]
    market.database.execute("UPDATE self_checks SET finished_at = now() - interval '3601 s'")
    for task in tasks:
        task.start()
    try:
        eventually(lambda: market.database.rows(number)[0][0] == 1)
        eventually(lambda: value("ots_maintenance_last_timestamp_seconds", task="self-check") is not None)
        eventually(lambda: value("ots_maintenance_last_timestamp_seconds", task="measures") is not None)
    finally:
        for task in tasks:
            task.stop()
    assert market.database.rows(number) == [(1,)]


def test_real_files_differ_in_nothing(filled, connection, real_data):
    files = [path for name in ("ohlcv-1m", "definition", "statistics") for path in real_data.rglob(f"{name}.dbn.zst")]
    stored = 0
    for path in files:
        run = filled.imported(path.read_bytes())
        stored += run["stored"]
        assert run["rejected"] == 0
    assert stored > 10_000
    assert check(connection).difference == 0
