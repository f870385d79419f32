"""The live spool and what carries over: parts that stand alone, torn ends, a full disk, counters of equal records."""

import errno
import itertools
import json
import os
import threading
import time

import numpy as np
import pytest
from databento_dbn import Metadata, SType, SymbolMappingMsg
from hypothesis import given
from hypothesis import strategies as st

from dbn import trade
from ots_ingestion import segments
from ots_ingestion.collection import Collection, collections, want
from ots_ingestion.dbn_file import read_batches, walk_whole
from ots_ingestion.identity import RepeatCounter, pack_repeats, unpack_repeats
from ots_ingestion.live_store import Batching, Storer
from ots_ingestion.segments import Ending, Limits, Spool, SpoolBusyError, SpoolStream
from ots_ingestion.verdicts import jittered
from ots_market.sessions import around_the_clock

AT = 1_709_562_600_000_000_000
METADATA = Metadata(
    dataset="EQUS.MINI", start=AT, stype_in=None, stype_out=SType.INSTRUMENT_ID, schema=None, version=3
).encode()


def limits(**more) -> Limits:
    return Limits(
        **{"part_bytes": 10**9, "part_s": 10**9, "sync_s": 0.01, "max_bytes": 10**9, "min_free_bytes": 0} | more
    )


def mapping(symbol: str, vendor_id: int = 1) -> bytes:
    return bytes(SymbolMappingMsg(0, vendor_id, AT, SType.RAW_SYMBOL, symbol, SType.RAW_SYMBOL, symbol, AT, AT + 1))


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "EQUS.MINI")
    made.acquire()
    yield made
    made.release()


def fill(spool, records, *, ending=None, pause_s=0.0, **more):
    """One connection with these records; its number."""
    opening = spool.begin(("trades",), {"trades": None}, 0)
    stream = SpoolStream(spool, opening, limits(**more))
    for record in [METADATA, *records]:
        stream.write(record)
        time.sleep(pause_s)
    stream.close()
    if ending is not None:
        spool.end(opening.connection, ending)
    return opening.connection, stream


def test_each_part_can_be_read_alone(spool):
    records = [mapping("ONE"), *(trade(AT + i, 1, sequence=i) for i in range(40)), mapping("TWO")]
    records += [trade(AT + i, 1, sequence=i) for i in range(40, 80)]
    connection, _ = fill(spool, records, pause_s=0.002, part_bytes=1000)
    parts = list(itertools.takewhile(lambda p: spool.has_part(connection, p), itertools.count(1)))
    assert len(parts) > 3
    sequences = []
    for part in parts:
        groups = [batch.groups for batch in read_batches(spool.part_path(connection, part), 10**6)]
        first_mapping = next(g[22] for g in groups if 22 in g)[0]["stype_out_symbol"].decode()
        found = [s for g in groups if 0 in g for s in g[0]["sequence"].tolist()]
        assert found[0] < 40 or first_mapping == "TWO"
        sequences += found
    assert sequences == list(range(80))


def test_only_what_is_synced_may_be_read(spool, monkeypatch):
    go = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(segments.os, "fdatasync", lambda handle: (go.wait(5), sync(handle)))
    opening = spool.begin(("trades",), {"trades": None}, 0)
    stream = SpoolStream(spool, opening, limits())
    stream.write(METADATA)
    stream.write(trade(AT, 1))
    time.sleep(0.1)
    assert spool.readable(opening.connection, 1) == (0, False)
    go.set()
    stream.close()
    assert spool.readable(opening.connection, 1) == (len(METADATA) + 48, False)


def test_a_disk_that_does_not_keep_up_holds_the_reader_and_not_the_memory(spool, monkeypatch):
    go = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(segments, "_MAX_WAITING_BYTES", 48 * 10)
    monkeypatch.setattr(segments.os, "fdatasync", lambda handle: (go.wait(5), sync(handle)))
    opening = spool.begin(("trades",), {"trades": None}, 0)
    stream = SpoolStream(spool, opening, limits())

    def send():
        for record in [METADATA, *(trade(AT + i, 1) for i in range(100))]:
            stream.write(record)

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.2)
    assert stream.received < 15
    go.set()
    sender.join(10)
    stream.close()
    assert stream.received == 100
    assert spool.part_path(opening.connection, 1).stat().st_size == len(METADATA) + 4800


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_left_is_a_full_disk(spool, monkeypatch, code):
    def refuse(_file, _data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(segments, "_write_all", refuse)
    _, stream = fill(spool, [trade(AT, 1)])
    assert stream.failure == "disk-full"


def test_a_spool_over_its_bound_is_a_full_disk(spool):
    _, stream = fill(spool, [trade(AT + i, 1) for i in range(100)], max_bytes=2000)
    assert stream.failure == "disk-full"


def test_one_process_writes_to_a_spool(spool):
    with pytest.raises(SpoolBusyError):
        Spool(spool.folder).acquire()


def test_a_connection_without_a_farewell_was_killed(spool):
    connection, _ = fill(spool, [trade(AT, 1)])
    assert Spool(spool.folder).ending(connection).evidence == "restart"
    spool.end(connection, Ending(None, "stopped", 1))
    assert Spool(spool.folder).ending(connection).evidence is None


def test_numbers_are_never_used_again(spool):
    first, _ = fill(spool, [], ending=Ending(None, "", 1))
    spool.remove_connection(first)
    assert spool.begin((), {}, first).connection == first + 1
    assert json.loads((spool.folder / f"{first + 1:010d}.open.json").read_text())["connection"] == first + 1


@given(st.integers(0, 400), st.binary(max_size=60))
def test_whatever_is_torn_off_whole_records_remain(cut, garbage):
    whole = b"".join(trade(AT + i, 1) for i in range(8))
    data = np.frombuffer(whole[:cut] + garbage if cut < len(whole) else whole, np.uint8)
    offsets, end, _ = walk_whole(data)
    kept = min(cut, len(whole)) // 48
    assert offsets[:kept].tolist() == [48 * i for i in range(kept)]
    assert end <= len(data)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 1)), max_size=40), st.integers(0, 40))
def test_counters_go_on_where_they_were_packed(records, cut):
    def count(counter, part):
        rows = np.array(part, np.int64).reshape(-1, 3)
        return counter.count(rows[:, 1], rows[:, 0], rows[:, 2], rows[:, 0]).tolist()

    whole = count(RepeatCounter(), records)
    first = RepeatCounter()
    begun = count(first, records[:cut])
    second = unpack_repeats(pack_repeats({"trades": first}))["trades"]
    assert begun + count(second, records[cut:]) == whole
    assert unpack_repeats(b"") == {}


@given(st.integers(1, 10_000))
def test_waits_are_bounded(attempts):
    assert 0 <= jittered(attempts, 0.5, 30.0) <= min(30.0, 0.5 * 2.0 ** min(attempts - 1, 30))


def store(market, spool, done):
    """Let a storer of its own work on the spool until ``done()``."""
    storer = Storer(market.owner, "EQUS.MINI", spool, Batching(10, 0.02, 1000), around_the_clock(), lambda *_: None)
    storer.start()
    deadline = time.monotonic() + 15
    while not done(storer):
        assert time.monotonic() < deadline, (storer.cursor, storer.error)
        time.sleep(0.02)
    storer.stop(5)
    return storer


def trades_of(market, symbol):
    return market.database.rows(
        "SELECT count(*) FROM trades JOIN instruments USING (instrument_id) WHERE raw_symbol = %s", (symbol,)
    )[0][0]


def test_another_machine_takes_over_and_says_what_is_missing(market, tmp_path):
    with market.database.connection() as connection, connection.cursor() as cursor:
        want(cursor, Collection("EQUS.MINI", True, "raw_symbol", ("MOVED",), ("trades",), requested_by="test"))
        assert [one.dataset for one in collections(cursor)] == ["EQUS.MINI"]
    first = Spool(tmp_path / "first")
    first.acquire()
    connection, _stream = fill(first, [mapping("MOVED"), *(trade(AT + i, 1, sequence=i) for i in range(20))])
    store(market, first, lambda storer: trades_of(market, "MOVED") == 20)
    second = Spool(tmp_path / "second")
    second.acquire()
    storer = store(market, second, lambda storer: storer.ready.is_set())
    assert storer.resume["trades"] == AT + 19
    assert storer.cursor.connection == 0
    gaps = market.database.rows("SELECT schema, evidence, starts_ns, ends_ns FROM gaps WHERE closed_at IS NULL")
    assert gaps == [("trades", "restart", AT + 19, None)]
    # said once, however often it begins
    store(market, second, lambda storer: storer.ready.is_set())
    assert len(market.database.rows("SELECT FROM gaps")) == 1


def test_torn_zeros_after_a_crash_end_a_part(market, spool):
    connection, _ = fill(spool, [mapping("TORN"), *(trade(AT + i, 1, sequence=i) for i in range(20))])
    with spool.part_path(connection, 1).open("ab") as file:
        file.write(bytes(4096))
    again = Spool(spool.folder)
    store(market, again, lambda storer: storer.cursor.ended and trades_of(market, "TORN") == 20)
