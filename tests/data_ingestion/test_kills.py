"""Killed at any moment: a worker, the database. Every record is there once afterwards."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

from databento_dbn import Schema

from data_ingestion_support import Ingestion, settings_for
from dbn import dbn_file, trade
from ots_common.database import connect
from ots_ingestion.self_check import check

OPEN = 1_709_562_600_000_000_000
RECORDS = 60_000


def start_worker(settings) -> subprocess.Popen:
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "SPOOL_DIR": str(settings.spool_dir),
        "LOG_LEVEL": "ERROR",
    }
    return subprocess.Popen([sys.executable, "-m", "ots_ingestion", "worker"], env=environment)


def read_of(service, run_id) -> dict:
    return service.get(f"/runs/{run_id}").json


def test_kills_lose_nothing_and_double_nothing(market, postgres, redis_server, tmp_path):
    service = Ingestion(settings_for(market, redis_server, tmp_path, batch_records=1000))
    # equal trades among them, so that a doubled or a lost one shows in the counts and in the volume
    records = [trade(OPEN + (i // 3) * 1_000_000, 100 + i % 2, 1, sequence=i // 4) for i in range(RECORDS)]
    run_id = service.upload(dbn_file(Schema.TRADES, records, symbols={"KILLED": 1}), wait=0).json["id"]
    kills = 0
    deadline = time.monotonic() + 120
    while read_of(service, run_id)["status"] != "done":
        assert time.monotonic() < deadline, read_of(service, run_id)
        worker = start_worker(service.settings)
        before = read_of(service, run_id)["read"]
        while kills < 6 and read_of(service, run_id)["read"] < before + 3000 and worker.poll() is None:
            time.sleep(0.01)
        if kills < 6:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            kills += 1
            if kills % 3 == 0:
                postgres.kill()
                postgres.start()
        else:
            while read_of(service, run_id)["status"] != "done" and time.monotonic() < deadline:
                time.sleep(0.05)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
    run = read_of(service, run_id)
    assert kills == 6
    assert (run["read"], run["stored"], run["duplicate"]) == (RECORDS, RECORDS, 0)
    counted = market.database.rows(
        "SELECT count(*), sum(size) FROM trades JOIN instruments USING (instrument_id) WHERE raw_symbol = 'KILLED'"
    )
    assert counted[0][0] == RECORDS
    volume = market.database.rows(
        "SELECT sum(volume) FROM bars_1m JOIN instruments USING (instrument_id) WHERE raw_symbol = 'KILLED'"
    )
    assert volume[0][0] == RECORDS
    # what the killed ones had counted and not committed is counted once too
    with closing(connect(market.owner, application="tests")) as connection:
        done = check(connection, asked_by="test", most_rows=10**9)
    assert (done.rows, done.difference) == (RECORDS, 0)
    assert list(tmp_path.iterdir()) == []
