"""Packed minute bars are the rows of bars_1m, whatever happens to those: the same answers come without any pack."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime, timedelta

import numpy as np
import psycopg2
import pytest
from databento_dbn import Schema
from hypothesis import given, settings
from hypothesis import strategies as st

import ots_ingestion.maintenance
import ots_market.bars
from collector_support import eventually
from data_ingestion_support import Ingestion, settings_for
from dbn import MINUTE, bar, dbn_file, midnight, trade
from ots_common.copy_binary import copy_fields, copy_out
from ots_common.database import Database, connect
from ots_ingestion import packing
from ots_ingestion.packing import pack_next
from ots_ingestion.retention import maintain, set_retention
from ots_market.bars import Bars, read_bars
from ots_market.packed_bars import BAR_COLUMNS, Pack, pack, read_packs
from ots_market.sessions import around_the_clock
from ots_market.timeframes import MINUTE_NS, Timeframe

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 4, 20, 12, 0, tzinfo=UTC)
FIRST_NS, NOW_NS = (int(moment.timestamp()) * 10**9 for moment in (FIRST, NOW))
TYPES = {"ts": np.int64, "publisher_id": np.int32, "origin": "S1"}
BIG = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3), st.integers(0, 400).map(lambda n: n * 10**7))
COLUMNS = {"ts": st.integers(0, 4 * 10**15), "publisher_id": st.integers(0, 2**31 - 1),
           "origin": st.sampled_from([b"v", b"t"])}  # fmt: skip


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


@pytest.fixture
def always(monkeypatch):
    """Packs serve however few bars are asked for."""
    monkeypatch.setattr(ots_market.bars, "_WORTH_PACKS", 0)


def without_packs(monkeypatch, read):
    with monkeypatch.context() as patch:
        patch.setattr(ots_market.bars, "_WORTH_PACKS", 2**62)
        return read()


def assert_same(found: Bars, expected: Bars) -> None:
    for field in fields(Bars):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.dtype == other.dtype, field.name
        np.testing.assert_array_equal(one, other, field.name)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.fixed_dictionaries({name: COLUMNS.get(name, BIG) for name, _ in BAR_COLUMNS}), max_size=30))
def test_what_is_packed_is_unpacked_as_it_was(rows):
    columns = {name: np.array([row[name] for row in rows], TYPES.get(name, np.int64)) for name, _ in BAR_COLUMNS}
    found = Pack(0, 0, len(rows), len(rows), pack(columns)).unpack()
    for name, values in columns.items():
        assert found[name].dtype == values.dtype
        assert found[name].tolist() == values.tolist()


def test_a_minute_takes_little_room():
    n = 20 * 390
    random = np.random.default_rng(1)
    price = 200 * 10**9 + random.integers(-2000, 2000, n) * 10**7
    rows = {"ts": 10**15 + np.arange(n) * 60 * 10**6, "publisher_id": np.full(n, 95, np.int32),
            **dict.fromkeys(("open", "high", "low", "close"), price), "volume": random.integers(0, 60_000, n),
            "origin": np.full(n, b"v")}  # fmt: skip
    assert len(pack(rows)) < 13 * n


class History:
    """Bars of two instruments that come, are revised and go, each with the note that its writer makes."""

    def __init__(self, market, connection, seed):
        self.connection = connection
        self.random = np.random.default_rng(seed)
        self.ids = [self._instrument(f"H{seed}{n}", None) for n in range(2)]

    def _instrument(self, symbol, expiration):
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(
                'INSERT INTO instruments (dataset, raw_symbol, underlying, expiration, strike, "right")'
                " VALUES ('X', %s, %s, %s, %s, %s) RETURNING instrument_id",
                (symbol, symbol, expiration, expiration and 1, expiration and "C"),
            )
            return cursor.fetchone()[0]

    def minutes(self, most):
        """Some that lie together, as likely as not across a border of days or months."""
        at = int(self.random.integers(0, (NOW_NS - FIRST_NS) // MINUTE_NS))
        if self.random.random() < 0.5:
            at = int(self.random.integers(0, 111)) * 1440 - 5
        step = int(self.random.choice([1, 7, 400]))
        every = FIRST_NS // MINUTE_NS + max(0, at) + step * np.arange(int(self.random.integers(1, most)))
        return [FIRST + timedelta(minutes=int(m - FIRST_NS // MINUTE_NS)) for m in every if m < NOW_NS // MINUTE_NS]

    def noted(self, minutes, statement, rows):
        if not minutes:
            return
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("SELECT open_chunks('bars_1m', %s::timestamptz[], true)", (minutes,))
            cursor.executemany(statement, rows)
            table = str(self.random.choice(["bars_1m", "trades"]))
            cursor.execute("SELECT note_stored(%s, %s::timestamptz[])", (table, minutes))

    def store(self):
        minutes, which = self.minutes(60), int(self.random.choice(self.ids))
        publisher, origin = int(self.random.integers(1, 3)), str(self.random.choice(["v", "t"]))
        values = [[int(v) for v in self.random.integers(1, 10**6, 5)] for _ in minutes]
        self.noted(
            minutes,
            "INSERT INTO bars_1m VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (instrument_id, ts, publisher_id) DO UPDATE SET close = excluded.close,"
            " volume = excluded.volume, origin = excluded.origin",
            [(which, at, publisher, *value, origin) for at, value in zip(minutes, values, strict=True)],
        )

    def remove(self):
        minutes, which = self.minutes(200), int(self.random.choice(self.ids))
        rows = [(which, at) for at in minutes]
        self.noted(minutes, "DELETE FROM bars_1m WHERE instrument_id = %s AND ts = %s", rows)

    def pack(self):
        for _ in range(int(self.random.integers(1, 20))):
            pack_next(self.connection, now=NOW - timedelta(days=int(self.random.choice([0, 0, 0, 21]))), settled_s=0)

    def lose(self):
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM packed_bars WHERE hashint8extended(extract(epoch FROM starts)::bigint, %s) %% 5 = 0",
                (int(self.random.integers(1, 10**6)),),
            )

    def question(self):
        start, end = np.sort(self.random.integers(FIRST_NS, NOW_NS, 2))
        wide = self.random.random() < 0.5
        timeframe = Timeframe(self.random.choice(["1m", "1m", "1m", "5m", "1h", "1d"]))
        return {
            "instrument_id": int(self.random.choice(self.ids)), "timeframe": timeframe,
            "sessions": around_the_clock(), "start_ns": 0 if wide else int(start),
            "end_ns": 2**63 - 1 if wide else int(end), "limit": int(self.random.choice([1, 5, 40, 200, 10_000])),
            "as_of_ns": int(self.random.choice([NOW_NS, end])), "newest": bool(self.random.integers(0, 2)),
        }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_the_same_bars_come_from_packs_and_from_rows(market, connection, reader, always, monkeypatch, seed):
    history = History(market, connection, seed)
    served = []

    def counted(*arguments, **named):
        served.append(read_packs(*arguments, **named))
        return served[-1]

    monkeypatch.setattr(ots_market.bars, "read_packs", counted)
    for _ in range(40):
        step = history.random.choice(["store", "store", "store", "remove", "pack", "pack", "pack", "lose"])
        getattr(history, step)()
        for _ in range(4):
            asked = history.question()
            found = read_bars(reader, **asked)
            assert_same(found, without_packs(monkeypatch, lambda asked=asked: read_bars(reader, **asked)))
    # it was about something: packs served, and not for everything
    assert sum(len(packs) > 1 for packs in served) > 20
    assert sum(sum(pack.rows for pack in packs) for packs in served) > 1000


def last_month(day):
    return datetime(2024, 3, day, 15, 0, tzinfo=UTC)


def bars_of(reader, symbol, limit=10_000):
    ((instrument, *_),) = reader.rows("SELECT instrument_id FROM instruments WHERE raw_symbol = %s", (symbol,))
    return read_bars(
        reader, instrument, Timeframe.M1, around_the_clock(), start_ns=0, end_ns=2**63 - 1, as_of_ns=NOW_NS,
        limit=limit, newest=True,
    )  # fmt: skip


def packed(market, symbol):
    """The stretches packed of a symbol in which it has bars, with how many."""
    return market.database.rows(
        "SELECT span, to_char(starts, 'MM-DD'), rows FROM packed_bars JOIN instruments USING (instrument_id)"
        " WHERE raw_symbol = %s AND rows > 0 ORDER BY starts, span",
        (symbol,),
    )


def pack_all(connection, now=NOW, settled_s=0.0):
    done = []
    while (one := pack_next(connection, now=now, settled_s=settled_s)) is not None:
        done.append(one)
    return done


@pytest.fixture(scope="module")
def ingestion(market, redis_server, tmp_path_factory):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with pytest.MonkeyPatch.context() as patch:
        # nobody but these tests packs, who say when
        patch.setattr(ots_ingestion.maintenance, "pack_next", lambda *_, **__: None)
        with service.working():
            yield service


def imported(ingestion, symbol, records, day=date(2024, 2, 1), schema=Schema.OHLCV_1M):
    ingestion.imported(dbn_file(schema, records, symbols={symbol: 1}, day=day, days=79))


def test_what_is_over_is_packed_days_until_their_month_is(market, connection, ingestion):
    stored = [datetime(2024, 2, 29, 23, 59, tzinfo=UTC), last_month(1), last_month(4), last_month(5)]
    imported(ingestion, "OVER", [bar(int(at.timestamp()) * 10**9, (1, 2, 1, 2)) for at in stored])
    pack_all(connection, now=last_month(5) + timedelta(hours=1))
    assert packed(market, "OVER") == [("month", "02-01", 1), ("day", "03-01", 1), ("day", "03-04", 1)]
    pack_all(connection, now=last_month(31))
    assert packed(market, "OVER")[1:] == [("day", "03-01", 1), ("day", "03-04", 1), ("day", "03-05", 1)]
    pack_all(connection)
    assert packed(market, "OVER") == [("month", "02-01", 1), ("month", "03-01", 3)]
    assert pack_all(connection) == []


def test_a_revision_a_late_trade_and_a_pack_that_is_lost(market, connection, reader, ingestion, always):
    at = int(last_month(12).timestamp()) * 10**9
    imported(ingestion, "LATER", [bar(at + n * MINUTE, (1, 2, 1, 2), volume=10) for n in range(3)])
    for change, expected in (
        (lambda: None, [10, 10, 10]),
        (lambda: imported(ingestion, "LATER", [bar(at, (1, 2, 1, 2), volume=11)]), [11, 10, 10]),
        (lambda: imported(ingestion, "LATER", [trade(at + 3 * MINUTE, 2, 5)], schema=Schema.TRADES), [11, 10, 10, 5]),
        (lambda: market.database.execute("DELETE FROM packed_bars"), [11, 10, 10, 5]),
    ):
        change()
        assert bars_of(reader, "LATER").volume.tolist() == expected  # of a pack of before, or of none
        pack_all(connection)
        assert ("month", "03-01", len(expected)) in packed(market, "LATER")
        assert bars_of(reader, "LATER").volume.tolist() == expected


def test_what_retention_drops_is_in_no_pack(market, connection, reader, ingestion, always):
    at = last_month(20)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT open_chunks('bars_1m', ARRAY[%s], false)", (at - timedelta(days=1000),))
    old = int((at - timedelta(days=1000)).timestamp()) * 10**9
    ingestion.imported(dbn_file(Schema.TRADES, [trade(old, 1)], symbols={"GONE": 1}, day=date(2021, 6, 1), days=60))
    market.database.execute("DELETE FROM kept_chunks WHERE starts < '2022-01-01'")
    pack_all(connection)
    assert len(bars_of(reader, "GONE")) == 1
    set_retention(connection, "bars_1m", timedelta(days=1000))
    try:
        assert any("dropped" in line for line in maintain(connection))
    finally:
        set_retention(connection, "bars_1m", None)
    assert len(bars_of(reader, "GONE")) == 0
    pack_all(connection)
    assert packed(market, "GONE") == []
    # its trades are still there, so the same file brings nothing new but the bar
    ingestion.imported(dbn_file(Schema.TRADES, [trade(old, 1)], symbols={"GONE": 1}, day=date(2021, 6, 1), days=60))
    assert len(bars_of(reader, "GONE")) == 1


def test_what_packs_have_and_what_they_lack_are_of_one_moment(
    market, connection, reader, ingestion, always, monkeypatch
):
    days = [int(last_month(day).timestamp()) * 10**9 for day in (13, 14)]
    imported(ingestion, "TORN", [bar(at, (1, 2, 1, 2), volume=10) for at in days])
    pack_all(connection, now=last_month(14))

    def interrupted(*arguments, **named):
        found = read_packs(*arguments, **named)
        assert any(pack.rows for pack in found)
        imported(ingestion, "TORN", [bar(at, (1, 2, 1, 2), volume=11) for at in days])
        return found

    monkeypatch.setattr(ots_market.bars, "read_packs", interrupted)
    assert bars_of(reader, "TORN").volume.tolist() == [10, 10]
    monkeypatch.undo()
    assert bars_of(reader, "TORN").volume.tolist() == [11, 11]


@pytest.mark.parametrize("when", ["before its rows are read", "after"])
def test_what_is_stored_while_its_stretch_is_packed(market, connection, reader, ingestion, always, monkeypatch, when):
    at = int(last_month(18).timestamp()) * 10**9
    symbol = f"RACE{when[0].upper()}"
    imported(ingestion, symbol, [bar(at, (1, 2, 1, 2), volume=10)])
    pack_all(connection)
    imported(ingestion, symbol, [bar(at, (1, 2, 1, 2), volume=11)])

    def interrupted(*arguments):
        found = copy_out(*arguments) if when == "after" else None
        imported(ingestion, symbol, [bar(at, (1, 2, 1, 2), volume=12)])
        return copy_out(*arguments) if found is None else found

    with monkeypatch.context() as patch:
        patch.setattr(packing, "copy_out", interrupted)
        patch.setattr(packing, "_MOST_INSTRUMENTS", 1000)
        assert "month from 2024-03-01" in str(pack_next(connection, now=NOW, settled_s=0))
    assert bars_of(reader, symbol).volume.tolist() == [12]
    assert pack_all(connection) != []
    assert bars_of(reader, symbol).volume.tolist() == [12]


def test_a_few_bars_of_a_pack_do_not_keep_all_of_it(market, connection, reader, ingestion, always):
    at = int(last_month(19).timestamp()) * 10**9
    imported(ingestion, "SLIM", [bar(at + n * MINUTE, (1, 2, 1, 2)) for n in range(500)])
    pack_all(connection)
    found = bars_of(reader, "SLIM", limit=5)
    assert len(found) == 5
    for field in fields(Bars):
        values = getattr(found, field.name)
        assert (values if values.base is None else values.base).nbytes < 500, field.name


def test_options_are_not_packed_nor_what_has_just_changed_nor_by_two_at_once(market, connection, ingestion):
    at = int(last_month(6).timestamp()) * 10**9
    option = "PACK  240621C00100000"
    imported(ingestion, "PACK", [bar(at, (1, 2, 1, 2))])
    ingestion.imported(
        dbn_file(Schema.OHLCV_1M, [bar(at, (1, 2, 1, 2), publisher=30)], symbols={option: 1}, dataset="OPRA.PILLAR",
                 day=date(2024, 3, 1), days=30)
    )  # fmt: skip
    assert pack_all(connection, settled_s=3600) == []
    other = connect(market.owner, application="tests")
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", (packing._PACKING_LOCK,))
    assert pack_all(connection) == []
    other.rollback()
    other.close()
    assert pack_all(connection) != []
    assert packed(market, "PACK")[-1] == ("month", "03-01", 1)
    assert packed(market, option) == []


def test_a_pack_of_another_layout_is_not_read_but_made_anew(market, connection, reader, ingestion, always):
    at = int(last_month(7).timestamp()) * 10**9
    imported(ingestion, "LAYOUT", [bar(at, (1, 2, 1, 2))])
    pack_all(connection)
    market.database.execute("UPDATE packed_bars SET layout = 0, packed = 'nonsense' WHERE rows > 0")
    assert len(bars_of(reader, "LAYOUT")) == 1
    assert pack_all(connection) != []
    assert market.database.rows("SELECT count(*) FROM packed_bars WHERE layout = 0") == [(0,)]
    assert len(bars_of(reader, "LAYOUT")) == 1


@pytest.mark.parametrize("query", ["SELECT 1::int4", "SELECT NULL::int8", "SELECT 1::int8, 2::int8"])
def test_fields_of_other_kinds_than_said_are_refused(market, query):
    with market.database.connection() as connection, pytest.raises(ValueError, match="column"):
        copy_fields(connection, query, ["int8"])


def test_a_reader_reads_packs_and_writes_none(reader):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        reader.rows("DELETE FROM packed_bars RETURNING 1")


def test_a_worker_packs(market, redis_server, tmp_path, ingestion, monkeypatch):
    for name, value in (("pack_next", pack_next), ("_SETTLED_S", 0.0), ("_PACKING_EVERY_S", 1.0)):
        monkeypatch.setattr(ots_ingestion.maintenance, name, value)
    at = midnight(date(2024, 3, 8)) + 15 * 60 * MINUTE
    imported(ingestion, "IDLE", [bar(at, (1, 2, 1, 2))])
    service = Ingestion(settings_for(market, redis_server, tmp_path))
    with service.working():
        eventually(lambda: packed(market, "IDLE"), lambda found: ("month", "03-01", 1) in found)
