"""Faults happen where they were asked for, as often as asked, and are counted."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import date, timedelta

import databento
import pytest
import requests
import zstandard
from databento_dbn import ErrorMsg, OHLCVMsg, Schema, SymbolMappingMsg, SystemMsg, TradeMsg

from dbn import MINUTE, bar, dbn_file, midnight, trade
from simulator_support import KEY, Listener, RunningSimulator, running_simulator

DAY = date(2024, 3, 4)
OPEN = midnight(DAY) + 15 * 60 * MINUTE
SECOND = 10**9
COUNT = 400
DATASET = "EQUS.MINI"
TRADES = [trade(OPEN + i * SECOND, 100 + i / 100, sequence=i, instrument=1 + i % 2) for i in range(COUNT)]
BARS = [bar(OPEN + i * MINUTE, (1, 2, 0.5, 1)) for i in range(5)]


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    tape = {
        "trades.dbn": dbn_file(Schema.TRADES, TRADES, symbols={"AAA": 1, "BBB": 2}),
        "bars.dbn": dbn_file(Schema.OHLCV_1M, BARS, symbols={"AAA": 1, "BBB": 2}),
    }
    with running_simulator(tape=tape, starts_at_ns=OPEN + 10 * MINUTE) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: RunningSimulator) -> RunningSimulator:
    running.clear_faults()
    return running


def replayed(simulator: RunningSimulator, **options: object) -> Listener:
    return Listener(simulator, **options).subscribe("trades", start=0).start()


def sequences(listener: Listener) -> list[int]:
    return [one.sequence for one in listener.of(TradeMsg)]


def test_a_drop_is_a_clean_end_after_exactly_so_many_records(simulator: RunningSimulator):
    number = simulator.fault("drop", after_records=123)
    one = replayed(simulator)
    assert one.until_closed() is None
    assert sequences(one) == list(range(123))
    assert simulator.fired(number) == 1
    again = replayed(simulator)
    again.until_count(TradeMsg, COUNT)
    again.close()


def test_a_fault_fires_as_often_as_asked(simulator: RunningSimulator):
    number = simulator.fault("drop", after_records=10, times=2)
    for _ in range(2):
        assert replayed(simulator).until_closed() is None
    third = replayed(simulator)
    third.until_count(TradeMsg, COUNT)
    assert simulator.fired(number) == 2
    third.close()


def test_a_fault_counts_the_records_of_its_schema_only(simulator: RunningSimulator):
    simulator.fault("drop", after_records=2, schema="ohlcv-1m")
    one = Listener(simulator).subscribe("trades", start=0).subscribe("ohlcv-1m", start=0).start()
    one.until_closed()
    assert len(one.of(OHLCVMsg)) == 2
    # the second bar is known two minutes after the open
    assert len(one.of(TradeMsg)) in (120, 121)


def test_a_fault_of_another_dataset_is_none_of_ours(simulator: RunningSimulator):
    simulator.fault("drop", after_records=2, dataset="OPRA.PILLAR")
    one = replayed(simulator)
    one.until_count(TradeMsg, COUNT)
    one.close()


def test_a_fault_may_wait_for_a_time(simulator: RunningSimulator):
    simulator.fault("drop", at_ns=OPEN + 50 * SECOND)
    one = replayed(simulator)
    one.until_closed()
    assert sequences(one) == list(range(50))


def test_a_reset_cuts_a_record_in_two(simulator: RunningSimulator):
    simulator.fault("reset", after_records=77)
    one = replayed(simulator)
    assert one.until_closed() is not None
    assert sequences(one) == list(range(77))


def test_mute_is_connected_without_a_word(simulator: RunningSimulator):
    number = simulator.fault("mute", after_records=30)
    one = replayed(simulator, heartbeat_interval_s=1)
    one.until_count(TradeMsg, 30)
    time.sleep(1.5)  # longer than a heartbeat takes
    assert len(one.of(TradeMsg)) == 30
    assert not one.system("heartbeat")
    simulator.call("DELETE", f"/faults/{number}")
    one.until_count(TradeMsg, COUNT)
    one.close()


def test_mute_may_keep_its_heart_beating(simulator: RunningSimulator):
    simulator.fault("mute", after_records=30, heartbeats=True)
    one = replayed(simulator, heartbeat_interval_s=1)
    one.until(lambda records: any(isinstance(r, SystemMsg) and r.is_heartbeat() for r in records))
    assert len(one.of(TradeMsg)) == 30
    one.close()


@pytest.mark.parametrize("compression", [databento.Compression.NONE, databento.Compression.ZSTD])
def test_one_byte_at_a_time_splits_records_anywhere(simulator: RunningSimulator, compression: databento.Compression):
    simulator.fault("trickle", after_records=10, records=40)
    one = replayed(simulator, compression=compression)
    one.until_count(TradeMsg, COUNT)
    assert [bytes(record) for record in one.of(TradeMsg)] == TRADES
    one.close()


def test_slow_takes_its_time(simulator: RunningSimulator):
    simulator.fault("slow", after_records=10, records=20, bytes_per_s=960)
    began = time.monotonic()
    one = replayed(simulator)
    one.until_count(TradeMsg, COUNT)
    assert time.monotonic() - began > 0.9  # 20 records of 48 bytes
    assert [bytes(record) for record in one.of(TradeMsg)] == TRADES
    one.close()


def test_an_error_ends_the_session_if_its_code_is_fatal(simulator: RunningSimulator):
    simulator.fault("error", after_records=5, code=6, message="Something broke")
    one = replayed(simulator)
    assert "Something broke" in str(one.until_closed())
    assert [(int(e.code), e.err) for e in one.of(ErrorMsg)] == [(6, "Something broke")]
    assert sequences(one) == list(range(5))


def test_an_error_that_is_not_fatal_does_not(simulator: RunningSimulator):
    simulator.fault("error", after_records=5, code=7)
    one = replayed(simulator)
    one.until_count(TradeMsg, COUNT)
    assert len(one.of(ErrorMsg)) == 1
    one.close()


def test_who_resumes_from_the_last_time_seen_misses_nothing(simulator: RunningSimulator):
    simulator.fault("drop", after_records=150, times=2)
    seen: list[bytes] = []
    start = 0
    for rest in (None, None, COUNT - 2 * 149):
        one = Listener(simulator).subscribe("trades", start=start).start()
        if rest is None:
            one.until_closed()
        else:
            one.until_count(TradeMsg, rest)
            one.close()
        # what was seen at the last time comes again
        seen += [bytes(record) for record in one.of(TradeMsg) if bytes(record) not in seen[-1:]]
        start = one.of(TradeMsg)[-1].ts_recv
    assert seen == TRADES


def test_skipped_records_are_left_out_and_said(simulator: RunningSimulator):
    simulator.fault("skip", after_records=100, records=25)
    one = replayed(simulator)
    one.until_count(TradeMsg, COUNT - 25)
    assert sequences(one) == [*range(100), *range(125, COUNT)]
    assert [int(e.code) for e in one.of(ErrorMsg)] == [7]
    one.close()
    # history has them all
    store = simulator.historical().timeseries.get_range(DATASET, start="2024-03-04", end=OPEN + COUNT * SECOND)
    assert len(list(store)) == COUNT


def test_ids_may_be_exchanged_in_the_middle_of_a_day(simulator: RunningSimulator):
    simulator.fault("remap", after_records=200)
    one = replayed(simulator)
    one.until_count(TradeMsg, COUNT)
    assert [record.instrument_id for record in one.of(TradeMsg)] == [1 + (i + (i >= 200)) % 2 for i in range(COUNT)]
    told = [(m.instrument_id, m.stype_out_symbol) for m in one.of(SymbolMappingMsg)]
    assert told == [(1, "AAA"), (2, "BBB"), (2, "AAA"), (1, "BBB")]
    place = {id(record): at for at, record in enumerate(one.records)}
    trades = one.of(TradeMsg)
    assert place[id(trades[199])] < place[id(one.of(SymbolMappingMsg)[2])] < place[id(trades[200])]
    one.close()


def test_exchanged_ids_are_given_back_at_midnight():
    night = midnight(DAY + timedelta(days=1))
    records = [trade(night + i * SECOND, 1, instrument=1) for i in (-2, -1, 1)]
    tape = {"t.dbn": dbn_file(Schema.TRADES, records, symbols={"AAA": 1, "BBB": 2}, days=2)}
    with running_simulator(tape=tape, starts_at_ns=night + MINUTE) as simulator:
        simulator.fault("remap", after_records=1)
        one = replayed(simulator)
        one.until_count(TradeMsg, 3)
        assert [record.instrument_id for record in one.of(TradeMsg)] == [1, 2, 1]
        assert [m.instrument_id for m in one.of(SymbolMappingMsg) if m.stype_out_symbol == "AAA"] == [1, 2, 1]
        one.close()


def test_replay_data_may_have_aged_out(simulator: RunningSimulator):
    simulator.fault("aged-out")
    one = replayed(simulator)
    one.until_closed()
    assert [int(e.code) for e in one.of(ErrorMsg)] == [8]


def test_the_door_may_be_shut(simulator: RunningSimulator):
    simulator.fault("auth", message="Key deactivated.")
    with pytest.raises(databento.BentoError, match="Key deactivated"):
        simulator.live().subscribe(DATASET, "trades")
    simulator.fault("refuse")
    with socket.create_connection(("127.0.0.1", simulator.live_port), 5) as connection:
        assert connection.recv(100) == b""


@pytest.mark.parametrize(("status", "error"), [(429, databento.BentoClientError), (503, databento.BentoServerError)])
def test_history_may_answer_any_error(simulator: RunningSimulator, status: int, error: type[databento.BentoHttpError]):
    simulator.fault("http", status=status, retry_after_s=3, call="metadata.list_datasets")
    client = simulator.historical()
    client.metadata.list_schemas(DATASET)
    with pytest.raises(error) as failed:
        client.metadata.list_datasets()
    assert failed.value.http_status == status
    assert failed.value.headers["Retry-After"] == "3"
    assert client.metadata.list_datasets() == [DATASET]


def test_a_transfer_may_be_cut(simulator: RunningSimulator):
    simulator.fault("truncate", after_records=50, style="cut")
    with pytest.raises(databento.BentoError, match="streaming"):
        simulator.historical().timeseries.get_range(DATASET, start="2024-03-04", end=OPEN + MINUTE)


def test_a_transfer_may_end_early_and_not_say_so(simulator: RunningSimulator):
    simulator.fault("truncate", after_records=50, style="short")
    client = simulator.historical()
    asked = {"dataset": DATASET, "start": "2024-03-04", "end": OPEN + 200 * SECOND}
    assert len(list(client.timeseries.get_range(**asked))) == 50
    assert client.metadata.get_record_count(**asked) == 200
    assert len(list(client.timeseries.get_range(**asked))) == 200


def test_a_transfer_may_end_inside_a_frame(simulator: RunningSimulator):
    simulator.fault("truncate", at_ns=OPEN + 50 * SECOND, style="unfinished")
    form = {"dataset": DATASET, "start": "2024-03-04", "symbols": "AAA,BBB"}
    url = f"{simulator.url}/v0/timeseries.get_range"
    answer = requests.post(url, data=form, auth=(KEY, ""), timeout=5)
    frame = zstandard.ZstdDecompressor().decompressobj()
    assert frame.decompress(answer.content).endswith(b"".join(TRADES[:50]))
    assert not frame.eof


def test_a_count_may_be_wrong(simulator: RunningSimulator):
    simulator.fault("count", delta=-3)
    client = simulator.historical()
    asked = {"dataset": DATASET, "start": "2024-03-04", "end": OPEN + 200 * SECOND}
    assert [client.metadata.get_record_count(**asked) for _ in range(2)] == [197, 200]


def test_faults_take_the_key_and_sense(simulator: RunningSimulator):
    url = f"{simulator.url}/simulator/faults"
    assert requests.post(url, json={"kind": "drop"}, timeout=5).status_code == 401
    for nonsense in (
        {"kind": "explode"},
        {"kind": "drop", "after": 3},
        {"kind": "drop", "at_ns": 1, "after_records": 1},
        [],
    ):
        assert requests.post(url, json=nonsense, auth=(KEY, ""), timeout=5).status_code == 422
    assert simulator.call("DELETE", "/faults/999").status_code == 404
    number = simulator.fault("drop", after_records=7, schema="trades")
    assert simulator.call("GET", "/faults").json() == [
        {
            "id": number,
            "fired": 0,
            "spent": False,
            "fault": {"kind": "drop", "after_records": 7, "schema": "trades"},
        }
    ]
