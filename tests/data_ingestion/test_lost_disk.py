"""The collector's disk dies with it, as a Fargate task's own does: no record is lost without a gap that names when, and
the gap is closed by the feed's replay, or by history where the feed no longer has it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from databento_dbn import Schema

from backfill_support import backfilling
from collector_support import OPEN, CollectorProcess, collecting, counts, eventually, running_collector
from data_ingestion_support import Ingestion
from dbn import dbn_file, trade
from ots_common.database import connect
from ots_common.times import rfc3339
from ots_ingestion.self_check import check
from simulator_support import RunningSimulator, running_simulator

RECORDS, STEP_NS = 2000, 1_000_000
FIRST = 500
TIMES = [OPEN + i * STEP_NS for i in range(RECORDS)]


@dataclass(frozen=True)
class Task:
    """A collector, the spool that is its task's disk, and the symbol it collects."""

    market: Any
    simulator: RunningSimulator
    service: Ingestion
    collector: CollectorProcess
    spool: Path
    symbol: str

    def stored(self) -> list[int]:
        """When the stored records happened."""
        return [
            at
            for (at,) in self.market.database.rows(
                "SELECT (extract(epoch FROM ts) * 1000000)::bigint * 1000 FROM trades"
                " JOIN instruments USING (instrument_id) WHERE raw_symbol = %s ORDER BY 1",
                (self.symbol,),
            )
        ]

    def gaps(self) -> list[dict[str, Any]]:
        return self.market.database.dicts("SELECT * FROM gaps ORDER BY gap_id")

    def spooled(self) -> int:
        """Bytes on the disk that dies."""
        return sum(file.stat().st_size for file in (self.spool / "live").rglob("*.dbn*"))

    def die(self) -> None:
        """With records on the disk that are nowhere else yet, and the disk with it."""
        with closing(connect(self.market.owner, application="tests")) as elsewhere:
            with elsewhere.cursor() as cursor:
                # whoever would store waits, for as long as this transaction
                cursor.execute("LOCK TABLE trades IN SHARE ROW EXCLUSIVE MODE")
            before = self.spooled()
            self.simulator.clear_faults()
            eventually(self.spooled, lambda now: now > before + 500 * 48)
            self.collector.kill()
            shutil.rmtree(self.spool)


@pytest.fixture
def task(request, market, redis_server, tmp_path) -> Iterator[Task]:
    symbol: str = request.param
    for table in ("collection_pending_gaps", "collection_states", "collection_cursors", "collection_schemas"):
        market.database.execute(f"DELETE FROM {table}")
    for table in ("gaps", "collections", "vendor_schemas"):
        market.database.execute(f"DELETE FROM {table}")
    made = [trade(at, 100 + i % 2, 1, sequence=i) for i, at in enumerate(TIMES)]
    tape = {"trades.dbn.zst": dbn_file(Schema.TRADES, made, symbols={symbol: 1})}
    with running_simulator(tape=tape, starts_at_ns=OPEN) as simulator:
        # then it says nothing but heartbeats, until the fault is cleared, and goes on where it stopped
        simulator.fault("mute", after_records=FIRST, heartbeats=True)
        service = collecting(market, redis_server, tmp_path / "spool", simulator)
        with running_collector(service, tmp_path / "log", heartbeat_s=5) as collector:
            answer = service.post(
                "/collection/start", json={"symbols": [symbol], "schemas": ["trades"], "start": rfc3339(OPEN)}
            )
            assert answer.status_code == 202, answer.text
            eventually(lambda: counts(market, symbol)[0], lambda n: n >= FIRST // 2)
            yield Task(market, simulator, service, collector, tmp_path / "spool", symbol)


@pytest.fixture(autouse=True)
def nothing_differs(market) -> Iterator[None]:
    """What was counted as stored is there, after everything."""
    yield
    with closing(connect(market.owner, application="tests")) as connection:
        assert check(connection, asked_by="test", most_rows=10**9).difference == 0


@pytest.mark.parametrize("task", ["REPLAYED"], indirect=True)
def test_the_feeds_replay_gives_again_what_the_disk_took_along(task):
    task.die()
    assert len(task.stored()) < RECORDS - 400
    task.collector.start()
    eventually(lambda: counts(task.market, task.symbol), (RECORDS, RECORDS))
    assert task.stored() == TIMES
    gaps = eventually(task.gaps, lambda found: found and all(gap["closed_at"] for gap in found))
    assert {(gap["evidence"], gap["closed_by"]) for gap in gaps} == {("restart", "replay")}
    # each of the two has said that it lives: infrastructure/terraform/observability.tf listens for it
    assert task.collector.log.read_text().count("collector_alive") >= 2


@pytest.mark.parametrize("task", ["BOUGHT"], indirect=True)
def test_what_the_feed_no_longer_has_is_a_gap_until_history_gives_it(task):
    task.die()
    # it was away for longer than the feed goes back
    task.simulator.fault("aged-out")
    task.collector.start()
    gaps = eventually(
        task.gaps,
        lambda found: any(gap["evidence"] == "aged-out" for gap in found) and all(gap["ends_ns"] for gap in found),
    )
    eventually(lambda: task.simulator.now_ns(), lambda now: now > TIMES[-1] + 10**9)
    missing = sorted(set(TIMES) - set(task.stored()))
    assert len(missing) > 400
    named = [(gap["starts_ns"], gap["ends_ns"]) for gap in gaps if gap["closed_at"] is None]
    assert [at for at in missing if not any(start <= at <= end for start, end in named)] == []

    # history is asked a few minutes after a gap was stated; here at once
    task.market.database.execute("UPDATE gaps SET opened_at = now() - interval '1 hour', repair_after = now()")
    with task.service.working(), backfilling(task.service):
        eventually(lambda: counts(task.market, task.symbol), (RECORDS, RECORDS), timeout=90)
        eventually(lambda: [gap["closed_by"] for gap in task.gaps()], lambda how: "backfill" in how and None not in how)
    assert task.stored() == TIMES
