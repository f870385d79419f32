"""A data version changes whenever records of its interval did, whichever way they came or went, and else stays."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import databento_dbn as dbn
import numpy as np
import psycopg2
import pytest
from databento_dbn import Schema
from psycopg2.extras import Json

from backfill_support import after_the_tape, backfilling, body, day, ended, tape
from collector_support import OPEN, collecting, counts, eventually, running_collector
from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, bar, dbn_file, midnight, quote, trade
from ots_common.database import Database, connect
from ots_common.times import rfc3339
from ots_ingestion.dead_letters import bury, replay
from ots_ingestion.rates import Point, state_curve
from ots_ingestion.retention import maintain, parse_period, set_retention
from ots_market.versions import data_version
from simulator_support import running_simulator

T0 = midnight(date(2024, 3, 4)) + 15 * 3600 * 10**9
OPTION = "VERS  240315C00100000"


@pytest.fixture(scope="module")
def ingestion(market, redis_server, tmp_path_factory):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        # instruments that are known: a stock that comes in for the first time changes every version
        long_ago = [trade(T0 - 50 * DAY, 1, instrument=n) for n in (1, 9)]
        service.imported(
            dbn_file(Schema.TRADES, long_ago, symbols={"VERS": 1, "LATE": 9}, day=date(2024, 1, 1), days=60)
        )
        yield service


@pytest.fixture
def connection(market):
    found = connect(market.owner, application="tests")
    yield found
    found.close()


@pytest.fixture(scope="module")
def reader(market):
    database = Database(market.reader, application="tests", size=2)
    yield database
    database.close()


EVERY = {"before", "at", "after", "only the next day", "the day before"}


class Watched:
    """Versions of the minutes before T0, of T0, of the day after, and of the day before."""

    def __init__(self, database):
        self.database = database
        self.seen = self.now()

    def now(self):
        spans = {
            "before": (T0 - DAY, T0 - 20 * MINUTE),
            "at": (T0 - 5 * DAY, T0),
            "after": (T0 - DAY, T0 + 30 * MINUTE),
            "only the next day": (T0 + DAY, T0 + 2 * DAY),
            "the day before": (0, T0 - DAY),
            "the month after": (0, T0 + 40 * DAY),
        }
        return {
            name: data_version(self.database, since_ns=since, until_ns=until) for name, (since, until) in spans.items()
        }

    def changed(self):
        """Which of the versions did; whoever looks back from a later month sees every change."""
        before, self.seen = self.seen, self.now()
        found = {name for name in before if before[name] != self.seen[name]}
        assert ("the month after" in found) == bool(found)
        return found - {"the month after"}


@pytest.fixture
def watched(reader, ingestion):
    return Watched(reader)


def test_an_import_changes_what_lies_at_or_after_its_records_and_nothing_else(ingestion, watched):
    file = dbn_file(Schema.TRADES, [trade(T0, 100, sequence=1)], symbols={"VERS": 1})
    ingestion.imported(file)
    assert watched.changed() == {"at", "after"}
    assert ingestion.imported(file)["duplicate"] == 1
    assert watched.changed() == set()
    ingestion.imported(dbn_file(Schema.TRADES, [trade(T0 - DAY, 99)], symbols={"VERS": 1}, day=date(2024, 3, 3)))
    assert watched.changed() == {"before", "at", "after", "the day before"}


def test_a_stock_that_is_new_may_be_preferred_to_the_one_that_answered(ingestion, watched):
    made = [trade(T0 + DAY + n, 100, instrument=3) for n in range(2)]
    for one, changed in zip(made, (EVERY, {"only the next day"}), strict=True):
        ingestion.imported(
            dbn_file(Schema.TRADES, [one], symbols={"VERS": 3}, dataset="XNAS.ITCH", day=date(2024, 3, 5))
        )
        assert watched.changed() == changed


def test_bars_quotes_and_statistics_count_and_so_does_a_revision(ingestion, watched):
    bars = [bar(T0 + 16 * MINUTE, (1, 2, 1, 2), volume=volume) for volume in (10, 11)]
    for one in bars:
        ingestion.imported(dbn_file(Schema.OHLCV_1M, [one], symbols={"VERS": 1}))
        assert watched.changed() == {"after"}
    ingestion.imported(dbn_file(Schema.OHLCV_1M, bars[1:], symbols={"VERS": 1}))
    assert watched.changed() == set()
    made = dbn_file(Schema.CBBO_1M, [quote(T0, 1.0, 1.1, instrument=7)], symbols={OPTION: 7}, dataset="OPRA.PILLAR")
    ingestion.imported(made)
    assert watched.changed() == {"at", "after"}
    figure = np.zeros(1, np.dtype(dbn.StatMsg._dtypes))
    figure["length"], figure["rtype"], figure["publisher_id"] = figure.dtype.itemsize // 4, 24, 30
    figure["instrument_id"], figure["stat_type"], figure["quantity"], figure["price"] = 7, 9, 5, 2**63 - 1
    figure["ts_event"], figure["ts_recv"], figure["ts_ref"] = T0, T0, T0 - DAY
    figure["update_action"] = 1
    made = dbn_file(Schema.STATISTICS, [figure.tobytes()], symbols={OPTION: 7}, dataset="OPRA.PILLAR")
    ingestion.imported(made)
    assert watched.changed() == {"at", "after"}


def test_what_a_definition_corrects_of_an_instrument_changes_every_version(ingestion, watched, market):
    made = np.zeros(1, np.dtype(dbn.InstrumentDefMsg._dtypes))
    made["length"], made["rtype"], made["publisher_id"], made["instrument_id"] = made.dtype.itemsize // 4, 19, 30, 7
    made["ts_event"] = made["ts_recv"] = T0 + DAY + 1
    made["raw_symbol"], made["underlying"], made["instrument_class"] = OPTION.encode(), b"VERS", b"C"
    made["strike_price"], made["expiration"] = 100 * 10**9, midnight(date(2024, 3, 15))
    made["activation"], made["contract_multiplier"], made["security_update_action"] = made["expiration"], 10, b"A"
    ingestion.imported(
        dbn_file(Schema.DEFINITION, [made.tobytes()], symbols={OPTION: 7}, dataset="OPRA.PILLAR", day=date(2024, 3, 5))
    )
    row = market.database.rows("SELECT multiplier FROM instruments WHERE raw_symbol = %s", (OPTION,))
    assert row == [(10,)]
    assert watched.changed() == EVERY
    made["ts_event"] = made["ts_recv"] = T0 + DAY + 2  # the same again says nothing new of the instrument
    ingestion.imported(
        dbn_file(Schema.DEFINITION, [made.tobytes()], symbols={OPTION: 7}, dataset="OPRA.PILLAR", day=date(2024, 3, 5))
    )
    assert watched.changed() == {"only the next day"}


def test_a_dead_letter_that_is_stored_after_all(connection, ingestion, watched):
    ingestion.imported(dbn_file(Schema.TRADES, [trade(T0 - 1, 9, instrument=9)], symbols={"LATE": 9}))
    watched.changed()
    with connection, connection.cursor() as cursor:
        bury(
            cursor, dataset="EQUS.MINI", schema="trades", reason="unknown_instrument",
            records=trade(T0, 9, instrument=9), origin="run 1", first_ns=T0,
        )  # fmt: skip
    assert watched.changed() == set()
    assert replay(connection).stored == 1
    assert watched.changed() == {"at", "after"}


def test_a_rate_curve_from_when_it_was_known_and_a_split_from_its_date(connection, ingestion, watched):
    with connection, connection.cursor() as cursor:
        known = datetime(2024, 3, 4, 14, 50, tzinfo=UTC)
        points = [Point(30, 0.05, "continuous")]
        state_curve(cursor, curve_date=known.date(), source="test", points=points, known_at=known, stated_by="somebody")
    assert watched.changed() == {"at", "after", "only the next day"}
    for denominator in (1, 3):  # the second takes the first one's place
        split = {"kind": "split", "ex_date": "2024-03-06", "numerator": 2, "denominator": denominator}
        answer = ingestion.post("/corporate-actions", json={"symbol": "VERS", "source": "test", "actions": [split]})
        assert answer.status_code == 201, answer.text
        assert watched.changed() == {"only the next day"}


def test_a_gap_that_is_stated_and_one_that_closes_with_nothing_found(connection, watched):
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO gaps (dataset, schema, starts_ns, ends_ns, evidence, detail)"
            " VALUES ('EQUS.MINI', 'trades', %s, %s, 'mute', 'a test') RETURNING gap_id",
            (T0, T0 + MINUTE),
        )
        (gap_id,) = cursor.fetchone()
    assert watched.changed() == {"at", "after", "only the next day"}
    with connection, connection.cursor() as cursor:
        closed = "UPDATE gaps SET closed_at = now(), closed_by = 'replay', found = 0 WHERE gap_id = %s"
        cursor.execute(closed, (gap_id,))
    assert watched.changed() == {"at", "after", "only the next day"}


def test_a_snapshot_of_volatility_notes_itself(market, watched):
    put = (
        "INSERT INTO volatility_snapshots (underlying, ts, session_date, closing, rate_detail, volatility_30d_reason,"
        " contracts_used, contracts_refused, newest_at_ns, method, data_version)"
        " VALUES ('VERS', %s, '2024-03-04', false, '', 'none', 0, %s, 0, 'test', %s)"
        " ON CONFLICT (underlying, ts) DO UPDATE SET data_version = excluded.data_version"
        " WHERE volatility_snapshots.data_version <> excluded.data_version"
    )
    at = datetime(2024, 3, 4, 15, 0, tzinfo=UTC)
    database = Database(market.snapshots, application="tests", size=1)
    for version, expected in ((b"1", {"at", "after"}), (b"1", set()), (b"2", {"at", "after"})):
        with database.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT open_volatility_chunks(%s)", (at,))
            cursor.execute(put, (at, Json({}), version))
        assert watched.changed() == expected
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        database.rows("SELECT note_stored('trades', ARRAY[now()])")
    database.close()


def test_what_retention_drops(connection, reader):
    old = datetime.now(UTC).replace(hour=15, minute=0, second=0, microsecond=0) - timedelta(days=40)
    at_ns = int(old.timestamp()) * 10**9
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT open_chunks('trades', ARRAY[%s], false)", (old,))
        cursor.execute("INSERT INTO trades SELECT 1, %s, 0, 1, 0, 0, 1, 1, 'N', 'T', 0, 0, 1, 0, 0", (old,))
    spans = [(at_ns - DAY, at_ns - DAY), (at_ns, at_ns), (at_ns + DAY, at_ns + DAY), (0, time.time_ns())]
    before = [data_version(reader, since_ns=a, until_ns=b) for a, b in spans]
    set_retention(connection, "trades", parse_period("30d"))
    try:
        assert any("dropped" in line for line in maintain(connection))
    finally:
        set_retention(connection, "trades", None)
    after = [data_version(reader, since_ns=a, until_ns=b) for a, b in spans]
    assert [a != b for a, b in zip(before, after, strict=True)] == [False, True, False, True]


def test_a_batch_of_many_days_changes_each_of_them_from_its_start(ingestion, reader):
    first = midnight(date(2023, 1, 2)) + 15 * 3600 * 10**9
    days = range(0, 60, 2)
    untils = [first + n * DAY - 3600 * 10**9 for n in range(60)]
    before = [data_version(reader, since_ns=until, until_ns=until) for until in untils]
    records = [bar(first + n * DAY, (1, 2, 1, 2), rtype=dbn.RType.OHLCV_1H) for n in days]
    ingestion.imported(dbn_file(Schema.OHLCV_1H, records, symbols={"VERS": 1}, day=date(2023, 1, 2), days=70))
    after = [data_version(reader, since_ns=until, until_ns=until) for until in untils]
    assert [a != b for a, b in zip(before, after, strict=True)] == [n in days for n in range(60)]


def test_a_part_of_a_backfill(market, redis_server, reader, tmp_path):
    with running_simulator(tape=tape(), starts_at_ns=after_the_tape()) as simulator:
        service = Ingestion(
            settings_for(
                market, redis_server, tmp_path / "spool", databento_api_key=simulator.key,
                databento_historical_url=simulator.url, vendor_metadata_per_s=500,
            )
        )  # fmt: skip
        close = midnight(day(0)) + 22 * 3600 * 10**9
        before = data_version(reader, since_ns=midnight(day(0)), until_ns=close)
        with service.working(), backfilling(service):
            answer = service.post("/backfills", json=body(end=day(1).isoformat()))
            assert answer.status_code in (200, 202), answer.text
            assert ended(service, answer.json["id"])["status"] == "done"
        assert data_version(reader, since_ns=midnight(day(0)), until_ns=close) != before


def test_live_records_and_the_replay_that_closes_a_gap(market, redis_server, reader, ingestion, tmp_path):
    ids = {"LIVEV": 1}
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN - 2 * DAY, 1)], symbols=ids, day=date(2024, 3, 2)))
    records = [trade(OPEN + i * MINUTE, 100 + i % 2, 1, sequence=i) for i in range(900)]
    file = {"trades.dbn.zst": dbn_file(Schema.TRADES, records, symbols=ids)}

    def version(until):
        return data_version(reader, since_ns=OPEN - DAY, until_ns=until)

    earlier, later = version(OPEN - 20 * MINUTE), version(OPEN + 60 * MINUTE)
    with running_simulator(tape=file, starts_at_ns=OPEN, speed=120) as simulator:  # two minutes a second
        service = collecting(market, redis_server, tmp_path / "spool", simulator)
        with running_collector(service, tmp_path / "log") as collector:
            asked = {"symbols": ["LIVEV"], "schemas": ["trades"], "start": rfc3339(OPEN)}
            assert service.post("/collection/start", json=asked).status_code == 202
            eventually(lambda: counts(market, "LIVEV")[0], lambda number: number > 5)
            collector.kill()
        newest = market.database.rows(
            "SELECT (extract(epoch FROM max(ts)) * 1000000)::bigint * 1000, count(*) FROM trades"
            " JOIN instruments USING (instrument_id) WHERE raw_symbol = 'LIVEV'"
        )[0]
        assert newest[1] < 850
        assert version(OPEN - 20 * MINUTE) == earlier
        assert version(OPEN + 60 * MINUTE) != later
        missing = version(newest[0] + 5 * MINUTE)
        with running_collector(service, tmp_path / "log"):
            eventually(lambda: counts(market, "LIVEV")[0], lambda number: number > newest[1] + 5)
            eventually(lambda: market.database.rows("SELECT count(*) FROM gaps WHERE closed_by = 'replay'")[0][0] > 0)
            assert version(newest[0] + 5 * MINUTE) != missing
            assert version(OPEN - 20 * MINUTE) == earlier
            service.post("/collection/stop", json={})
