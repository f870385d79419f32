"""The live gateway, met by the real client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import databento
import databento_dbn as dbn
import numpy as np
import pytest
from databento.common.cram import get_challenge_response
from databento_dbn import OHLCVMsg, RType, Schema, SymbolMappingMsg, SystemMsg, TradeMsg

from dbn import MINUTE, bar, dbn_file, midnight, quote, trade
from ots_simulator.clock import Clock
from ots_simulator.faults import Faults
from ots_simulator.live import LiveGateway
from ots_simulator.replay import TapeSource
from ots_simulator.settings import SimulatorSettings
from simulator_support import KEY, Listener, RunningSimulator, running_simulator

DAY = date(2024, 3, 4)
OPEN = midnight(DAY) + 15 * 60 * MINUTE
SECOND = 10**9
COUNT = 600
IDS = {"AAA": 1, "BBB": 2}
TRADES = [trade(OPEN + i * SECOND // 2, 100 + i / 100, sequence=i, instrument=1 + i % 2) for i in range(COUNT)]
BARS = [bar(OPEN + i * MINUTE, (1, 2, 0.5, 1), volume=1 + i) for i in range(5)]
QUOTES = [quote(OPEN + i * MINUTE, 99, 101) for i in range(5)]
CALL, PUT = "AAA   240315C00100000", "AAA   240315P00100000"
END = OPEN + 10 * MINUTE


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """Ten minutes after the beginning of a tape that lasts five."""
    tape = {
        "trades.dbn.zst": dbn_file(Schema.TRADES, TRADES, symbols=IDS),
        "bars.dbn.zst": dbn_file(Schema.OHLCV_1M, BARS, symbols=IDS),
        "options.dbn": dbn_file(
            Schema.CBBO_1M, QUOTES, symbols={CALL: 1, PUT: 2}, dataset="OPRA.PILLAR", compress=False
        ),
    }
    with running_simulator(tape=tape, starts_at_ns=END, max_sessions=4) as running:
        yield running


@pytest.fixture
def listener(simulator: RunningSimulator) -> Iterator[Listener]:
    one = Listener(simulator)
    yield one
    one.close()


def test_a_wrong_key_is_told_so(simulator: RunningSimulator):
    with pytest.raises(databento.BentoError, match="Authentication failed"):
        simulator.live(key="db-" + "x" * 29).subscribe("EQUS.MINI", "trades")


def test_an_unknown_dataset_is_told_so(simulator: RunningSimulator):
    with pytest.raises(databento.BentoError, match="Unknown dataset"):
        simulator.live().subscribe("XNAS.ITCH", "trades")


def test_replay_from_the_beginning_gives_the_tape_byte_for_byte(listener: Listener):
    listener.subscribe("trades", start=0).start()
    assert [bytes(one) for one in listener.until_count(TradeMsg, COUNT)] == TRADES


def test_schemas_are_interleaved_by_the_time_a_record_is_known(listener: Listener):
    listener.subscribe("trades", start=0).subscribe("ohlcv-1m", start=0).start()
    listener.until_count(OHLCVMsg, 5)
    listener.until_count(TradeMsg, COUNT)
    market = [one for one in listener.records if isinstance(one, TradeMsg | OHLCVMsg)]
    known = [one.ts_event + MINUTE * isinstance(one, OHLCVMsg) for one in market]
    assert len(known) == COUNT + 5
    assert known == sorted(known)


def test_replay_starts_where_asked_and_says_when_it_is_done(listener: Listener):
    listener.subscribe("trades", "BBB", start=OPEN + 100 * SECOND).start()
    listener.until(lambda records: any(isinstance(r, SystemMsg) and str(r.code) == "replay_completed" for r in records))
    assert [bytes(one) for one in listener.of(TradeMsg)] == TRADES[201::2]


def test_replay_of_what_is_gone_ends_the_session(listener: Listener):
    listener.subscribe("trades", start=END - 25 * 60 * MINUTE).start()
    assert "no longer retained" in str(listener.until_closed())
    assert [int(one.code) for one in listener.of(databento.ErrorMsg)] == [8]


def test_an_unknown_symbol_does_not_end_the_session(listener: Listener):
    listener.subscribe("trades", ["AAA", "NOPE"], start=0).start()
    assert len(listener.until_count(TradeMsg, COUNT // 2)) == COUNT // 2
    assert [(int(one.code), one.err) for one in listener.of(databento.ErrorMsg)] == [
        (4, "Failed to resolve symbols: NOPE")
    ]


def test_a_schema_that_the_dataset_lacks_ends_the_session(listener: Listener):
    listener.subscribe("mbo").start()
    assert "mbo is not available" in str(listener.until_closed())
    assert [int(one.code) for one in listener.of(databento.ErrorMsg)] == [5]


def test_each_subscription_is_acknowledged_and_each_symbol_mapped_before_its_records(listener: Listener):
    listener.subscribe("trades", "AAA", start=0).subscribe("ohlcv-1m", "AAA", start=0).start()
    listener.until_count(TradeMsg, 1)
    assert len(listener.system("subscription_ack")) == 2
    mappings = listener.of(SymbolMappingMsg)
    assert [(one.instrument_id, one.stype_out_symbol) for one in mappings] == [(1, "AAA")]
    assert listener.records.index(mappings[0]) < listener.records.index(listener.of(TradeMsg)[0])
    assert listener.client.symbology_map == {1: "AAA"}


def test_a_parent_stands_for_its_contracts(simulator: RunningSimulator):
    options = Listener(simulator, "OPRA.PILLAR").subscribe("cbbo-1m", "AAA.OPT", stype_in="parent", start=0).start()
    assert [bytes(one) for one in options.until_count(databento.CBBOMsg, 5)] == QUOTES
    told = [(one.stype_in_symbol, one.stype_out_symbol) for one in options.of(SymbolMappingMsg)]
    assert told == [("AAA.OPT", CALL), ("AAA.OPT", PUT)]
    options.close()


def test_a_list_longer_than_a_line_is_one_subscription(listener: Listener):
    listener.subscribe("trades", [*(f"X{i}" for i in range(900)), "AAA"], start=0).start()
    assert len(listener.until_count(TradeMsg, COUNT // 2)) == COUNT // 2
    assert len(listener.system("subscription_ack")) == 1


def test_overlapping_subscriptions_do_not_double_records(listener: Listener):
    listener.subscribe("trades", "AAA", start=0).subscribe("trades", start=0).start()
    listener.until(lambda records: sum(isinstance(r, SystemMsg) and "Finished" in r.msg for r in records) == 2)
    assert sorted(bytes(one) for one in listener.of(TradeMsg)) == sorted(TRADES)


def test_a_subscription_of_a_running_session_gets_no_replay(listener: Listener):
    listener.subscribe("ohlcv-1m", start=0).start().until_count(OHLCVMsg, 5)
    listener.subscribe("trades", start=0)
    listener.until(lambda records: sum("succeeded" in getattr(r, "msg", "") for r in records) == 2)
    assert not listener.of(TradeMsg)


@pytest.mark.parametrize("compression", [databento.Compression.NONE, databento.Compression.ZSTD])
def test_a_session_may_be_compressed_and_stamped(simulator: RunningSimulator, compression: databento.Compression):
    stamped = Listener(simulator, ts_out=True, compression=compression).subscribe("trades", start=0).start()
    received = stamped.until_count(TradeMsg, COUNT)
    assert [(one.ts_recv, one.sequence) for one in received] == [(OPEN + i * SECOND // 2, i) for i in range(COUNT)]
    assert all(END < one.ts_out < END + 60 * 60 * SECOND for one in received)
    stamped.close()


def test_silence_is_filled_with_heartbeats(simulator: RunningSimulator):
    quiet = Listener(simulator, heartbeat_interval_s=1).subscribe("trades").start()
    began = time.monotonic()
    quiet.until(lambda records: sum(isinstance(r, SystemMsg) and r.is_heartbeat() for r in records) >= 2)
    assert 1.5 < time.monotonic() - began < 5
    quiet.close()


def test_clients_do_not_disturb_each_other(simulator: RunningSimulator):
    both = [Listener(simulator).subscribe("trades", start=0).start() for _ in range(2)]
    for one in both:
        assert [bytes(record) for record in one.until_count(TradeMsg, COUNT)] == TRADES
        one.close()


def test_sessions_are_limited(simulator: RunningSimulator):
    some = [Listener(simulator).subscribe("trades").start() for _ in range(4)]
    with pytest.raises(databento.BentoError, match="connection limit"):
        simulator.live().subscribe("EQUS.MINI", "trades")
    for one in some:
        one.close()


def test_records_come_when_their_time_has_come_and_bars_when_they_end():
    tape = {
        "trades.dbn": dbn_file(Schema.TRADES, TRADES[:240], symbols=IDS, compress=False),
        "bars.dbn": dbn_file(Schema.OHLCV_1M, BARS[:2], symbols=IDS, compress=False),
    }
    with running_simulator(tape=tape, speed=60, starts_at_ns=OPEN - 60 * SECOND) as simulator:
        live = Listener(simulator, ts_out=True).subscribe("trades").subscribe("ohlcv-1m").start()
        bars = live.until_count(OHLCVMsg, 2)
        assert len(live.until_count(TradeMsg, 240)) == 240
        assert all(one.ts_recv < one.ts_out < one.ts_recv + 30 * SECOND for one in live.of(TradeMsg))
        assert all(MINUTE <= one.ts_out - one.ts_event < 1.5 * MINUTE for one in bars)
        live.close()


def test_ids_that_change_at_midnight_are_told_before_their_records():
    second = DAY + timedelta(days=1)
    night = midnight(second)
    tape = {
        "one.dbn": dbn_file(Schema.TRADES, [trade(night - SECOND, 1, instrument=1)], symbols=IDS),
        "two.dbn": dbn_file(
            Schema.TRADES, [trade(night + SECOND, 2, instrument=1)], symbols={"AAA": 7, "BBB": 1}, day=second
        ),
    }
    with running_simulator(tape=tape, starts_at_ns=night + 10 * SECOND) as simulator:
        live = Listener(simulator).subscribe("trades", "BBB,AAA", start=0).start()
        live.until_count(TradeMsg, 2)
        told = [
            (type(one).__name__, one.instrument_id, getattr(one, "stype_out_symbol", None))
            for one in live.records
            if isinstance(one, SymbolMappingMsg | TradeMsg)
        ]
        assert told[:2] == [("SymbolMappingMsg", 1, "AAA"), ("SymbolMappingMsg", 2, "BBB")]
        assert told[2] == ("TradeMsg", 1, None)
        assert sorted(told[3:5]) == [("SymbolMappingMsg", 1, "BBB"), ("SymbolMappingMsg", 7, "AAA")]
        assert told[5:] == [("TradeMsg", 1, None)]
        live.close()
        # of a symbol that is asked for by itself, only its own records on either day
        alone = Listener(simulator).subscribe("trades", "BBB", start=0).start()
        assert [one.price for one in alone.until_count(TradeMsg, 1)] == [2 * 10**9]
        alone.close()


def test_the_last_bar_of_a_day_comes_under_the_ids_of_its_day():
    second = DAY + timedelta(days=1)
    night = midnight(second)
    tape = {
        "one.dbn": dbn_file(Schema.OHLCV_1M, [bar(night - MINUTE, (1, 1, 1, 1), instrument=1)], symbols=IDS),
        "two.dbn": dbn_file(Schema.OHLCV_1M, [bar(night, (2, 2, 2, 2), instrument=1)], symbols={"BBB": 1}, day=second),
    }
    with running_simulator(tape=tape, starts_at_ns=night + 10 * MINUTE) as simulator:
        live = Listener(simulator).subscribe("ohlcv-1m", "AAA,BBB", start=0).start()
        live.until_count(OHLCVMsg, 2)
        told = [
            getattr(one, "stype_out_symbol", None) or one.open // 10**9
            for one in live.records
            if isinstance(one, SymbolMappingMsg | OHLCVMsg)
        ]
        assert told == ["AAA", "BBB", 1, "BBB", 2]
        live.close()


def test_a_market_that_fails_says_so_before_it_hangs_up(tmp_path: Path):
    (tmp_path / "a.dbn").write_bytes(dbn_file(Schema.TRADES, TRADES[:1], symbols=IDS))

    class Broken(TapeSource):
        def records(self, *_: object) -> Iterator[np.ndarray]:
            raise RuntimeError("no market today")

    async def conversation() -> list[object]:
        settings = SimulatorSettings(simulator_key=KEY, simulator_tls_dir=tmp_path, simulator_live_port=0)
        gateway = LiveGateway(Broken(tmp_path), Clock(1.0, END), Faults(), settings)
        reader, writer = await asyncio.open_connection("127.0.0.1", await gateway.start())
        await reader.readline()
        challenge = (await reader.readline()).decode().strip().removeprefix("cram=")
        answer = get_challenge_response(challenge, KEY)
        writer.write(f"auth={answer}|dataset=EQUS.MINI|encoding=dbn\n".encode())
        writer.write(b"schema=trades|stype_in=raw_symbol|symbols=AAA|start=0|id=0\nstart_session=0\n")
        await reader.readline()
        told = await reader.read()
        writer.close()
        await gateway.stop()
        return dbn.DBNDecoder().write_and_decode(told)

    assert int(asyncio.run(conversation())[-1].code) == 6


def test_hour_bars_are_told_apart_by_type_in_one_file():
    mixed = dbn_file(None, [bar(OPEN, (1, 1, 1, 1)), bar(OPEN, (1, 1, 1, 1), rtype=RType.OHLCV_1H)], symbols=IDS)
    with running_simulator(tape={"mixed.dbn": mixed}, starts_at_ns=OPEN + 61 * MINUTE) as simulator:
        live = Listener(simulator).subscribe("ohlcv-1h", start=0).start()
        assert [one.rtype for one in live.until_count(OHLCVMsg, 1)] == [RType.OHLCV_1H]
        live.close()


def test_terminated_it_ends_its_sessions_cleanly_and_soon():
    with running_simulator(tape={"t.dbn": dbn_file(Schema.TRADES, TRADES, symbols=IDS)}, starts_at_ns=END) as simulator:
        live = Listener(simulator).subscribe("trades", start=0).start()
        live.until_count(TradeMsg, COUNT)
        began = time.monotonic()
        assert simulator.stop() == 0
        assert time.monotonic() - began < 2
        assert live.until_closed() is None
