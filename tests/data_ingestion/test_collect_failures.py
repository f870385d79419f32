"""Live collection while things break: every record once, every hole in the ledger, the reason in the status."""

import random
import time
from contextlib import closing

import pytest
from databento_dbn import Schema

from collector_support import OPEN, CollectorProcess, collecting, counts, eventually, running_collector, status
from dbn import dbn_file, trade
from ots_common.database import connect
from ots_common.times import rfc3339
from ots_ingestion.self_check import check
from simulator_support import running_simulator

RECORDS = 6000
SECOND = 1_000_000_000


def tape(symbol: str, records: int = RECORDS, seconds: float = 3.0) -> dict[str, bytes]:
    """Trades over some seconds; stretches of equal ones among them."""
    step = int(seconds * SECOND) // records
    made = [trade(OPEN + i // 7 * 7 * step, 100 + i // 3 % 2, 1, sequence=i // 30) for i in range(records)]
    return {"trades.dbn.zst": dbn_file(Schema.TRADES, made, symbols={symbol: 1})}


@pytest.fixture(scope="module", autouse=True)
def nothing_differs(market):
    """After all of it every row that was counted is there as it came, and no other."""
    yield
    with closing(connect(market.owner, application="tests")) as connection:
        done = check(connection, asked_by="test", most_rows=10**9)
    assert done.rows > RECORDS
    assert done.difference == 0, done.differences


class Place:
    """A simulator, a service and a collector, for one symbol."""

    def __init__(self, simulator, service, collector, market, symbol):
        self.simulator = simulator
        self.service = service
        self.collector = collector
        self.market = market
        self.symbol = symbol

    def start(self, schemas=("trades",)):
        answer = self.service.post(
            "/collection/start",
            json={"symbols": [self.symbol], "schemas": list(schemas), "start": rfc3339(OPEN)},
        )
        assert answer.status_code == 202, answer.text

    @property
    def status(self):
        return status(self.service)

    def stored(self):
        return counts(self.market, self.symbol)[0]

    def until(self, records, timeout=60.0):
        eventually(self.stored, lambda n: n >= records, timeout)

    def until_whole(self, records=RECORDS, timeout=60.0):
        self.until(records, timeout)
        assert counts(self.market, self.symbol) == (records, records)

    def until_state(self, *states, timeout=60.0):
        return eventually(lambda: self.status, lambda found: found["state"] in states, timeout)

    def gaps(self):
        return self.market.database.rows(
            "SELECT evidence, closed_by, starts_ns, ends_ns, found FROM gaps ORDER BY gap_id"
        )

    def all_closed(self):
        gaps = self.gaps()
        return bool(gaps) and all(gap[1] == "replay" for gap in gaps)


@pytest.fixture
def place(market, redis_server, tmp_path, request):
    """``@pytest.mark.parametrize("place", [{...}], indirect=True)``: the simulator's settings, and more."""
    asked = dict(getattr(request, "param", {}))
    environment = {"heartbeat_s": 5, "stable_after_s": 0.5, **asked.pop("collector", {})}
    symbol = asked.pop("symbol", "S" + "".join(random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=9)))
    records, seconds = asked.pop("records", RECORDS), asked.pop("seconds", 3.0)
    for table in ("pending_gaps", "states", "cursors", "schemas"):
        market.database.execute(f"DELETE FROM collection_{table}")
    for table in ("gaps", "collections", "vendor_schemas"):
        market.database.execute(f"DELETE FROM {table}")
    made = asked.pop("tape", None) or tape(symbol, records, seconds)
    with running_simulator(tape=made, starts_at_ns=OPEN, **asked) as simulator:
        service = collecting(market, redis_server, tmp_path / "spool", simulator)
        with running_collector(service, tmp_path / "log", **environment) as collector:
            yield Place(simulator, service, collector, market, symbol)


@pytest.mark.parametrize("place", [{}, {"collector": {"live_part_bytes": 20_000}}], indirect=True)
def test_killed_again_and_again(place):
    place.start()
    for part in range(1, 6):
        place.until(RECORDS * part // 7)
        place.collector.kill()
        place.collector.start()
    place.until_whole()
    eventually(place.all_closed)
    assert {gap[0] for gap in place.gaps()} == {"restart"}


@pytest.mark.parametrize(
    "place",
    [{"records": 1500, "seconds": 1.0, "collector": {"live_batch_records": 5, "live_max_batch_records": 11}}],
    indirect=True,
)
def test_equal_records_across_a_drop_a_kill_and_small_batches(place):
    place.simulator.fault("drop", after_records=301, times=3)
    place.start()
    place.until(400)
    place.collector.kill()
    place.collector.start()
    place.until_whole(1500)


def poisoned() -> dict[str, bytes]:
    """Trades, one of which has an action that is no text in any encoding PostgreSQL takes."""
    made = [bytearray(trade(OPEN + i * 1_000_000, 100, 1, sequence=i)) for i in range(3000)]
    made[1234][28] = 0xFF
    return {"trades.dbn.zst": dbn_file(Schema.TRADES, map(bytes, made), symbols={"POISONED": 1})}


@pytest.mark.parametrize("place", [{"tape": poisoned(), "symbol": "POISONED"}], indirect=True)
def test_a_poison_record_is_buried_and_its_neighbours_are_stored(place):
    place.start()
    place.until_whole(2999)
    [(number, reason)] = place.market.database.rows("SELECT number, reason FROM dead_letters")
    assert number == 1
    assert "refused" in reason
    assert place.until_state("streaming")["dead_letters"] == 1


def test_the_wire_drops_resets_and_trickles(place):
    place.simulator.fault("drop", after_records=1000)
    place.simulator.fault("reset", after_records=2000)
    place.simulator.fault("trickle", after_records=2500, records=20)
    place.start()
    place.until_whole()
    eventually(place.all_closed)
    assert [gap[0] for gap in place.gaps()] == ["disconnect", "disconnect"]


def test_postgres_killed_and_back(place, postgres):
    place.start()
    place.until(500)
    postgres.kill()
    time.sleep(1.0)
    postgres.start()
    place.until_whole()
    assert place.until_state("streaming")["open_gaps"] == 0


def test_without_redis(place, redis_server):
    place.start()
    place.until(500)
    redis_server.kill()
    try:
        place.until_whole()
    finally:
        redis_server.start()


def test_skipped_records_are_a_gap_that_replay_closes(place):
    place.simulator.fault("skip", after_records=2000, records=500)
    place.start()
    place.until_whole()
    eventually(place.all_closed)
    assert "skipped" in {gap[0] for gap in place.gaps()}


@pytest.mark.parametrize("place", [{"seconds": 1.0}], indirect=True)
def test_what_cannot_be_replayed_stays_a_gap(place):
    place.start()
    place.until_whole()
    place.simulator.fault("aged-out")
    place.simulator.fault("drop")
    gaps = eventually(place.gaps, lambda found: any(gap[0] == "aged-out" for gap in found))
    place.until_state("streaming")
    assert all(gap[1] is None and gap[3] is not None for gap in gaps if gap[0] in ("aged-out", "disconnect"))
    assert place.status["open_gaps"] == len(gaps)


@pytest.mark.parametrize("heartbeats", [True, False])
@pytest.mark.parametrize("place", [{"collector": {"mute_after_s": 1}}], indirect=True)
def test_a_mute_feed_is_left(place, heartbeats):
    place.simulator.fault("mute", after_records=2000, heartbeats=heartbeats)
    place.start()
    place.until_whole()
    assert "mute" in {gap[0] for gap in place.gaps()}


@pytest.mark.parametrize(("code", "words"), [(1, "API key"), (2, "API key"), (5, "subscription")])
def test_fatal_errors_fail_with_a_reason(place, code, words):
    place.simulator.fault("error", code=code, message="no", times=0)
    place.start()
    found = place.until_state("failed")
    assert words in found["reason"]
    assert found["hint"]
    assert found["next_retry_at"]


def test_other_errors_pass(place):
    place.simulator.fault("error", code=4, message="Failed to resolve symbols: XXX", after_records=500)
    place.simulator.fault("error", code=6, message="internal", after_records=1500)
    place.start()
    place.until_whole()
    eventually(place.all_closed)


@pytest.mark.parametrize("place", [{"max_sessions": 1}], indirect=True)
def test_connection_limit_is_said(place):
    other = place.simulator.live()
    other.subscribe("EQUS.MINI", "trades", "ALL_SYMBOLS")
    other.start()
    place.start()
    found = place.until_state("backing_off")
    assert "too many sessions" in found["reason"]
    assert found["next_retry_at"]
    other.terminate()


def test_wrong_key(place, market, redis_server, tmp_path):
    place.collector.stop()
    service = collecting(market, redis_server, tmp_path / "wrong", place.simulator, key="db-" + "x" * 29)
    with running_collector(service, tmp_path / "log-wrong"):
        answer = service.post("/collection/start", json={"symbols": ["AAPL"], "schemas": ["trades"]})
        assert answer.status_code == 202, answer.text
        assert answer.json["notes"]
        found = eventually(lambda: status(service), lambda s: s["state"] == "failed")
        assert "API key" in found["reason"]
        assert "DATABENTO_API_KEY" in found["hint"]


@pytest.mark.parametrize("place", [{"denied_datasets": '["EQUS.MINI"]'}], indirect=True)
def test_missing_entitlement(place):
    place.start()
    found = place.until_state("failed")
    assert "not entitled" in found["reason"]
    assert "live access" in found["hint"]


def test_a_torn_part_is_cut_and_nothing_lost(place, tmp_path):
    place.start()
    place.until(1000)
    place.collector.kill()
    folder = tmp_path / "spool" / "live" / "EQUS.MINI"
    last = max(folder.glob("*.dbn"))
    with last.open("ab") as file:
        file.write(trade(OPEN, 1.0)[:29])
    place.collector.start()
    place.until_whole()
    eventually(place.all_closed)


def test_a_second_collector_takes_over(place, tmp_path):
    place.start()
    place.until(500)
    second = CollectorProcess(place.service, tmp_path / "log-second", heartbeat_s=5).start()
    try:
        holder = place.status["lease_holder"]
        killed = time.monotonic()
        place.collector.kill()
        eventually(lambda: place.status["lease_holder"], lambda found: found and found != holder)
        assert time.monotonic() - killed < 15  # it may still be starting, on a machine that does much else
        place.until_whole()
    finally:
        second.stop()


@pytest.mark.parametrize(
    "place", [{"collector": {"live_spool_max_bytes": 120_000, "live_spool_min_free_bytes": 0}}], indirect=True
)
def test_disk_full_pauses_and_recovers_by_itself(place, postgres, tmp_path):
    place.start()
    place.until(200)
    # what cannot be stored fills the spool
    postgres.stop()
    eventually(lambda: sum(file.stat().st_size for file in (tmp_path / "spool").rglob("*.dbn*")), lambda n: n > 110_000)
    time.sleep(1.0)  # for what comes then to be noticed
    postgres.start()
    place.until_whole()
    eventually(place.all_closed)
    assert "disk-full" in {gap[0] for gap in place.gaps()}
    place.until_state("streaming")


def test_stopped_and_started_again(place):
    place.start()
    place.until(1000)
    assert place.service.post("/collection/stop", json={"dataset": "EQUS.MINI"}).json["stopped"] == ["EQUS.MINI"]
    place.until_state("stopped")
    place.start()
    place.until_whole()
    assert place.gaps() == []


def test_sigterm_ends_soon_and_loses_nothing(place):
    place.start()
    place.until(1000)
    began = time.monotonic()
    assert place.collector.terminate() == 0
    assert time.monotonic() - began < 6
    assert place.status["state"] == "waiting"
    place.collector.start()
    place.until_whole()


def open_gaps(place):
    return place.market.database.rows("SELECT evidence, starts_ns, ends_ns FROM gaps WHERE closed_at IS NULL")


def test_a_feed_that_never_came_is_in_the_ledger_and_ends_with_the_wish(place):
    fault = place.simulator.fault("refuse", times=0)
    place.start()
    assert eventually(lambda: open_gaps(place), bool) == [("disconnect", OPEN, None)]
    place.service.post("/collection/stop", json={})
    ended = eventually(lambda: open_gaps(place)[0][2], lambda end: end is not None)
    assert ended > OPEN
    assert place.stored() == 0
    assert place.simulator.fired(fault) > 0
    place.simulator.clear_faults()
    place.start()
    place.until_whole()
    eventually(place.all_closed)


@pytest.mark.parametrize("place", [{"collector": {"connection_limit_wait_s": 0.5}}], indirect=True)
def test_a_drop_before_the_first_record_is_in_the_ledger_until_replay(place):
    place.simulator.fault("error", code=3, times=2)
    place.start()
    place.until_whole()
    eventually(place.all_closed)
    assert place.gaps()[0][:3] == ("disconnect", "replay", OPEN)
