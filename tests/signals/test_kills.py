"""kill -9 of the worker, of analytics and of Redis at random points: nothing is lost, nothing is there twice.

The same market is decided about twice: once by a worker that nobody disturbs, with chains priced in its own process;
and once by workers that are killed while analytics and Redis are killed too. Both ledgers say the same. The long form
is by command::

    OTS_SIGNALS_KILLS=200 pytest -n0 tests/signals/test_kills.py
"""

from __future__ import annotations

import os
import random
import time
from contextlib import closing

import pytest

from data_ingestion_support import Ingestion, settings_for
from ots_common.cache_keys import cache_key
from ots_common.database import Database, connect
from ots_common.provision import with_database
from ots_common.redis_client import connect as connect_redis
from ots_native.redis import RedisServer
from ots_native.settings import Ports
from ots_signals import cursors, ledger
from ots_signals.canonical import canonical
from ots_signals.resolver import span
from signals_worker_support import (
    BEGIN,
    END,
    UNDERLYINGS,
    Often,
    Process,
    make_worker,
    run_worker,
    serve_analytics,
    settings_of,
    store_market,
    wait_until,
)

KILLS_A_RUN = 8
KILLS = int(os.environ.get("OTS_SIGNALS_KILLS", str(KILLS_A_RUN)))


@pytest.fixture(scope="module")
def stored(market, redis_server, tmp_path_factory):
    store_market(market, Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool"))))
    return market


@pytest.fixture(scope="module")
def database(stored):
    pool = Database(stored.signals, application="tests", size=2)
    yield pool
    pool.close()


def begin_anew(postgres, market, database):
    """No decision yet, and all of the two hours before the cursors."""
    with (
        closing(connect(with_database(postgres.admin_url, market.name), application="tests")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("TRUNCATE signal_ledger, signal_cursors, signal_resolutions")
    cursors.begin(database, UNDERLYINGS, BEGIN)


def said(entries):
    """By id what was recorded, but when."""
    return {entry.id: canonical(entry.record) for entry in entries}


@pytest.fixture(scope="module")
def undisturbed(postgres, stored, database, redis_server):
    begin_anew(postgres, stored, database)
    worker = make_worker(settings_of(stored, redis_server.url), [Often()], over_http=False)
    with closing(connect(stored.signals, application="tests")) as connection:
        while worker.decide_due(connection):
            pass
    worker.resolve_due()
    return ledger.after(database, 0, 100_000)


def test_undisturbed_every_event_is_decided_and_every_outcome_known(undisturbed):
    signals = [entry.record for entry in undisturbed if entry.kind == "signal"]
    outcomes = {entry.record.signal_id: entry.record for entry in undisturbed if entry.kind == "outcome"}
    events = {(one.underlying, one.event_ns) for one in (e.record for e in undisturbed if e.kind != "outcome")}
    assert {underlying for underlying, _ in events} == set(UNDERLYINGS)
    assert len(events) == 24
    assert len(signals) > 10
    assert set(outcomes) == {one.id for one in signals if span(one)[1] <= END}
    assert len({fill.barrier for one in outcomes.values() for fill in one.fills}) > 1


@pytest.mark.parametrize("seed", range(1, 1 + max(1, KILLS // KILLS_A_RUN)))
def test_killed_at_random_points_it_records_the_same(postgres, stored, database, undisturbed, tmp_path, seed):
    rng = random.Random(seed)
    begin_anew(postgres, stored, database)
    ports = Ports.free()
    redis = RedisServer(tmp_path / "redis", ports.redis, "test-password")
    redis.start()
    settings = settings_of(stored, redis.url, f"http://127.0.0.1:{ports.analytics}")
    told = {**settings.model_dump(), "database_url": stored.signals, "redis_url": redis.url}
    analytics = Process(serve_analytics, stored.reader, redis.url, ports.analytics)
    worker = Process(run_worker, {**told, "signing_keys": settings.signing_keys})
    expected = len(undisturbed)

    def rows():
        return database.rows("SELECT count(*) FROM signal_ledger")[0][0]

    def over():
        return rows() >= expected and min(cursors.positions(database).values()) >= END

    def kill_redis():
        redis.kill()
        redis.start()

    def wake():
        with closing(connect_redis(redis.url)) as client:
            client.xadd(cache_key("simulated", "closed-bars"), {"symbol": "AAPL"})

    try:
        at_work = 0
        for k in range(KILLS_A_RUN):
            at = rows() + rng.randrange(1, max(2, expected // KILLS_A_RUN))
            wait_until(lambda at=at: over() or rows() >= at)
            wake()
            # between two rows, and within the transaction of the next
            time.sleep(rng.uniform(0.0, 0.1))
            at_work += not over()
            victim = ("worker", "analytics", "worker", "redis")[k % 4]
            {"worker": worker.again, "analytics": analytics.again, "redis": kill_redis}[victim]()
        assert at_work > KILLS_A_RUN // 2  # not of those who had nothing left to do
        wait_until(over)
        with closing(connect(stored.signals, application="tests")) as connection:
            assert ledger.verify(connection).fault is None
        disturbed = ledger.after(database, 0, 100_000)
        assert len({entry.id for entry in disturbed}) == len(disturbed) == expected
        assert said(disturbed) == said(undisturbed)
        assert database.rows("SELECT count(*) FROM signal_resolutions WHERE revision < 0")[0][0] == len(
            [e for e in undisturbed if e.kind == "signal"]
        ) - len([e for e in undisturbed if e.kind == "outcome"])
    finally:
        worker.kill()
        analytics.kill()
        redis.remove()
