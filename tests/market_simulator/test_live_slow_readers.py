"""A reader that does not read: held back by default, told, and of quotes left behind."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import databento_dbn as dbn
import numpy as np
import pytest

from dbn import MINUTE, dbn_file, midnight, quote, trade
from simulator_support import KEY, RunningSimulator, running_simulator

DAY = date(2024, 3, 4)
OPEN = midnight(DAY) + 15 * 60 * MINUTE
SECOND = 10**9
# a minute of the market, a second here: more than loopback's buffers hold
COUNT = 150_000
STEP = 60 * SECOND // COUNT


def many(record: bytes, message: type) -> bytes:
    """``record``, ``COUNT`` times over a minute."""
    made = np.repeat(np.frombuffer(record, np.dtype(message._dtypes)), COUNT)
    made["ts_recv"] = OPEN + np.arange(COUNT) * STEP
    if "sequence" in made.dtype.names:
        made["ts_event"], made["sequence"] = made["ts_recv"], np.arange(COUNT)
    return made.tobytes()


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    tape = {
        "trades.dbn": dbn_file(dbn.Schema.TRADES, [many(trade(OPEN, 1), dbn.TradeMsg)]),
        "quotes.dbn": dbn_file(dbn.Schema.CBBO_1S, [many(quote(OPEN, 1, 2), dbn.CBBOMsg)]),
    }
    # the market begins ten seconds of its own after the simulator
    with running_simulator(
        tape=tape, starts_at_ns=OPEN - 120 * SECOND, speed=60, slow_reader_s=0.3, send_buffer_bytes=65536
    ) as running:
        yield running


@contextmanager
def session(simulator: RunningSimulator, schema: str, behavior: str) -> Iterator[socket.socket]:
    """A client that says hello and then reads nothing."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", simulator.live_port))
        lines = connection.makefile("rb", buffering=0)
        lines.readline()
        challenge = lines.readline().decode().strip().removeprefix("cram=")
        answer = hashlib.sha256(f"{challenge}|{KEY}".encode()).hexdigest() + f"-{KEY[-5:]}"
        slow = f"|slow_reader_behavior={behavior}" if behavior else ""
        connection.sendall(f"auth={answer}|dataset=EQUS.MINI|encoding=dbn{slow}\n".encode())
        assert lines.readline().startswith(b"success=1")
        subscription = f"schema={schema}|stype_in=raw_symbol|symbols=TEST|id=0|is_last=1\nstart_session=0\n"
        connection.sendall(subscription.encode())
        yield connection


def drained(connection: socket.socket, until_ns: int, simulator: RunningSimulator) -> list[object]:
    """All that comes until the market's time is ``until_ns`` and the wire is silent."""
    decoder, found = dbn.DBNDecoder(), []
    connection.settimeout(0.5)
    while True:
        try:
            data = connection.recv(2**20)
        except TimeoutError:
            if simulator.now_ns() > until_ns:
                return found
            continue
        found += decoder.write(data) or decoder.decode()


def wait_until(simulator: RunningSimulator, at_ns: int) -> None:
    while simulator.now_ns() < at_ns:
        time.sleep(0.05)


def test_a_reader_that_sleeps(simulator: RunningSimulator):
    cases = [("trades", ""), ("cbbo-1s", ""), ("cbbo-1s", "warn")]
    with (
        session(simulator, *cases[0]) as trades,
        session(simulator, *cases[1]) as skipping,
        session(simulator, *cases[2]) as warned,
    ):
        wait_until(simulator, OPEN + 150 * SECOND)
        later = OPEN + 200 * SECOND
        # of trades none is ever left out
        found = drained(trades, later, simulator)
        assert [one.sequence for one in found if isinstance(one, dbn.TradeMsg)] == list(range(COUNT))
        assert not [one for one in found if isinstance(one, dbn.ErrorMsg)]
        # quotes are, and it is said
        found = drained(skipping, later, simulator)
        got = [one.ts_recv for one in found if isinstance(one, dbn.CBBOMsg)]
        assert 0 < len(got) < COUNT
        assert {int(one.code) for one in found if isinstance(one, dbn.ErrorMsg)} == {7}
        # unless one asked for a warning instead
        found = drained(warned, later, simulator)
        assert len([one for one in found if isinstance(one, dbn.CBBOMsg)]) == COUNT
        assert 2 in {int(one.code) for one in found if isinstance(one, dbn.SystemMsg)}


def test_a_reader_that_a_fault_keeps_waiting_is_not_slow():
    with running_simulator(
        tape={"quotes.dbn": dbn_file(dbn.Schema.CBBO_1S, [many(quote(OPEN, 1, 2), dbn.CBBOMsg)[: 80 * 600]])},
        starts_at_ns=OPEN - SECOND,
        slow_reader_s=0.2,
    ) as running:
        number = running.fault("mute", seconds=1.0)
        with session(running, "cbbo-1s", "") as waiting:
            found = drained(waiting, OPEN + 2 * SECOND, running)
        assert running.fired(number) == 1
        assert len([one for one in found if isinstance(one, dbn.CBBOMsg)]) == 600
        assert not [one for one in found if isinstance(one, dbn.ErrorMsg)]
