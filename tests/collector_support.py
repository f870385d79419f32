"""The collector as a process, against a simulator, a PostgreSQL and a Redis; and what a tape must have become."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_ingestion_support import Ingestion, settings_for
from simulator_support import RunningSimulator

OPEN = 1_709_562_600_000_000_000  # 2024-03-04 14:30 UTC


def collecting(market, redis_server, spool: Path, simulator: RunningSimulator, **more: Any) -> Ingestion:
    """The web side, with the simulator as its vendor."""
    return Ingestion(
        settings_for(
            market,
            redis_server,
            spool,
            market_source="simulated",
            market_calendar="around-the-clock",
            databento_api_key=more.pop("key", simulator.key),
            databento_historical_url=simulator.url,
            databento_live_host="127.0.0.1",
            databento_live_port=simulator.live_port,
            **more,
        )
    )


class CollectorProcess:
    """``python -m ots_ingestion collector``, which may be killed."""

    def __init__(self, service: Ingestion, log: Path, **environment: object) -> None:
        settings = service.settings
        self._environment = {
            **os.environ,
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "SPOOL_DIR": str(settings.spool_dir),
            "MARKET_SOURCE": "simulated",
            "MARKET_CALENDAR": settings.market_calendar,
            "DATABENTO_API_KEY": settings.databento_api_key.get_secret_value(),
            "DATABENTO_HISTORICAL_URL": settings.databento_historical_url,
            "DATABENTO_LIVE_HOST": settings.databento_live_host,
            "DATABENTO_LIVE_PORT": str(settings.databento_live_port),
            "RECONNECT_BASE_S": "0.1",
            "RECONNECT_CAP_S": "0.5",
            "LIVE_BATCH_MS": "50",
            "LIVE_SYNC_MS": "20",
            "REPLAY_WINDOW_S": str(10**9),
            "LOG_LEVEL": "INFO",
            "LOG_FORMAT": "console",
            **{name.upper(): str(value) for name, value in environment.items()},
        }
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> CollectorProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ots_ingestion", "collector"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(12)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.terminate()


@contextmanager
def running_collector(service: Ingestion, log: Path, **environment: object) -> Iterator[CollectorProcess]:
    collector = CollectorProcess(service, log, **environment).start()
    try:
        yield collector
    finally:
        collector.stop()
        print(log.read_text()[-6000:], file=sys.stderr)


def eventually(question: Callable[[], Any], wanted: Any = True, timeout: float = 60.0) -> Any:
    """The answer once it is ``wanted`` (a value, or a test of one)."""
    deadline = time.monotonic() + timeout
    while True:
        answer = question()
        if wanted(answer) if callable(wanted) else answer == wanted:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r}"
        time.sleep(0.05)


def status(service: Ingestion, dataset: str = "EQUS.MINI") -> dict[str, Any]:
    answer = service.get("/collection/status")
    assert answer.status_code == 200, answer.text
    return next(one for one in answer.json["collections"] if one["dataset"] == dataset)


def counts(market, symbol: str, table: str = "trades") -> tuple[int, int]:
    """Rows of a symbol, and the sum of their sizes."""
    rows = market.database.rows(
        f"SELECT count(*), coalesce(sum(size), 0)::bigint FROM {table} JOIN instruments USING (instrument_id)"
        " WHERE raw_symbol = %s",
        (symbol,),
    )
    return rows[0][0], rows[0][1]
