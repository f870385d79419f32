"""How long the first history takes after the processes start, from a database that is empty.

``python tests/benchmarks/bench_first_history.py [DAYS]``: the simulator, the import worker and the backfiller as
processes that start at once, on a PostgreSQL and a Redis of their own; when which bars are there, when everything is,
and the processor time of each process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import MarketDatabase, provisioned
from ots_native.postgres import PostgresServer
from ots_native.redis import RedisServer
from ots_native.settings import Ports
from simulator_support import KEY

_PATIENCE_S = 600.0


def main(days: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="ots-first-history-") as scratch:
        folder, ports = Path(scratch), Ports.free()
        postgres = PostgresServer(folder / "postgres", ports.postgres)
        redis = RedisServer(folder / "redis", ports.redis, "password")
        postgres.start()
        redis.start()
        try:
            with provisioned(postgres) as (name, _):
                market = MarketDatabase(postgres, name)
                _measure(market, redis, folder, ports, days)
                market.database.close()
        finally:
            redis.stop()
            postgres.stop()


def _measure(market: MarketDatabase, redis: RedisServer, folder: Path, ports: Ports, days: int) -> None:
    environment = {
        **os.environ,
        "OTS_ENVIRONMENT": "development",
        "SIMULATOR_KEY": KEY,
        "SIMULATOR_HTTP_PORT": str(ports.simulator),
        "SIMULATOR_LIVE_PORT": str(ports.simulator_live),
        "SIMULATOR_TLS_DIR": str(folder / "tls"),
        "MARKET_SOURCE": "simulated",
        "MARKET_CALENDAR": "around-the-clock",
        "DATABASE_URL": market.owner,
        "REDIS_URL": redis.url,
        "SPOOL_DIR": str(folder / "spool"),
        "DATABENTO_API_KEY": KEY,
        "DATABENTO_HISTORICAL_URL": f"https://localhost:{ports.simulator}",
        "REQUESTS_CA_BUNDLE": str(folder / "tls" / "ca.pem"),
        "BACKFILL_ON_FIRST_START_DAYS": str(days),
    }
    commands = {
        "simulator": ["ots_simulator"],
        "worker": ["ots_ingestion", "worker"],
        "backfiller": ["ots_ingestion", "backfiller"],
    }
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    began = time.monotonic()
    processes = {}
    for process, words in commands.items():
        with (folder / f"{process}.log").open("wb") as log:
            processes[process] = subprocess.Popen(
                [sys.executable, "-m", *words], env=environment, stdout=log, stderr=log
            )
    try:
        _watch(market, began, days)
    finally:
        for name, running in processes.items():
            running.terminate()
            _, _, used = os.wait4(running.pid, 0)
            print(f"{name}: {used.ru_utime + used.ru_stime:.1f} s of processor time, {used.ru_maxrss // 1024} MB")
        keep = os.environ.get("BENCH_LOGS")
        if keep:
            subprocess.run(["cp", *map(str, folder.glob("*.log")), keep], check=True)


def _watch(market: MarketDatabase, began: float, days: int) -> None:
    seen: dict[str, float] = {}
    wanted = {
        "asked": "SELECT count(*) FROM backfills",
        "first minute bar": "SELECT count(*) FROM (SELECT FROM bars_1m LIMIT 1) AS one",
        "minute bars of the nine": (
            "SELECT 1 FROM backfill_parts WHERE schema = 'ohlcv-1m' HAVING bool_and(status = 'done') AND count(*) > 0"
        ),
        f"daily bars of {days} days": (
            "SELECT 1 FROM backfill_parts p WHERE schema = 'ohlcv-1d' AND status = 'done'"
            " AND ends_ns = (SELECT max(ends_ns) FROM backfill_parts WHERE schema = 'ohlcv-1d')"
        ),
        "all daily bars": (
            "SELECT 1 FROM backfill_parts WHERE schema = 'ohlcv-1d' HAVING bool_and(status = 'done') AND count(*) > 0"
        ),
        "everything": "SELECT 1 FROM backfills WHERE status IN ('done', 'failed')",
    }
    while len(seen) < len(wanted) and time.monotonic() - began < _PATIENCE_S:
        for what, query in wanted.items():
            if what not in seen and (rows := market.database.rows(query)) and rows[0][0]:
                seen[what] = time.monotonic() - began
                print(f"{seen[what]:7.1f} s  {what}", flush=True)
        time.sleep(0.2)
    for row in market.database.rows(
        "SELECT p.schema, count(*), sum(received), min(p.started_at - b.created_at), max(p.finished_at - b.created_at)"
        " FROM backfill_parts p JOIN backfills b USING (backfill_id) GROUP BY 1 ORDER BY 4"
    ):
        print("  ".join(map(str, row)))
    print(market.database.rows("SELECT status, error FROM backfills"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
