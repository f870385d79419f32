"""A market of three days on a tape, the simulator that sells its history, and ingestion that buys it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from databento_dbn import Schema

from data_ingestion_support import Ingestion
from dbn import DAY, MINUTE, bar, dbn_file, midnight, quote, trade
from ots_ingestion.backfiller import Backfiller
from simulator_support import RunningSimulator

FIRST = date(2024, 3, 4)  # a Monday
DAYS = 3
IDS = {"AAPL": 1, "MSFT": 2}
CALL, PUT = "AAPL  240315C00170000", "AAPL  240315P00170000"
NINE = 9 * 3600 * 10**9


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def trades_of(number: int) -> list[bytes]:
    """1000 of each symbol; every tenth is twice the same."""
    begin = midnight(day(number)) + 15 * 3600 * 10**9
    return [
        trade(begin + i // 2 * 10**9, 100 + i % 7, size=10 + i % 5, sequence=0 if i % 10 == 0 else i, instrument=who)
        for i in range(1000)
        for who in IDS.values()
        for _ in range(2 if i % 10 == 0 else 1)
    ]


def bars_of(number: int) -> list[bytes]:
    """390 minutes of each symbol."""
    begin = midnight(day(number)) + 14 * 3600 * 10**9 + 30 * MINUTE
    return [
        bar(begin + i * MINUTE, (100.0 + i, 101.0 + i, 99.0, 100.5), volume=10 + i, instrument=who)
        for i in range(390)
        for who in IDS.values()
    ]


def quotes_of(number: int) -> list[bytes]:
    """The minutes of the session, 21:00 UTC its close, of one call and one put."""
    begin = midnight(day(number)) + 14 * 3600 * 10**9 + 30 * MINUTE
    return [
        quote(begin + (i + 1) * MINUTE, 1.0 + i / 100, 1.1 + i / 100, instrument=who)
        for i in range(390)
        for who in (7, 8)
    ]


def tape() -> dict[str, bytes]:
    """File name -> DBN file. Ids change daily for the options."""
    files = {}
    for number in range(DAYS):
        files[f"trades{number}.dbn.zst"] = dbn_file(Schema.TRADES, trades_of(number), symbols=IDS, day=day(number))
        files[f"bars{number}.dbn.zst"] = dbn_file(Schema.OHLCV_1M, bars_of(number), symbols=IDS, day=day(number))
        files[f"quotes{number}.dbn.zst"] = dbn_file(
            Schema.CBBO_1M, quotes_of(number), symbols={CALL: 7, PUT: 8}, day=day(number), dataset="OPRA.PILLAR"
        )
    return files


def after_the_tape() -> int:
    """A moment two days after it."""
    return midnight(day(DAYS + 2)) + DAY // 2


def body(**more: Any) -> dict[str, Any]:
    """All trades of both."""
    return {
        "symbols": ["AAPL", "MSFT"],
        "schemas": ["trades"],
        "start": day(0).isoformat(),
        "end": day(DAYS).isoformat(),
        "max_cost_usd": 1.0,
        **more,
    }


@contextmanager
def backfilling(ingestion: Ingestion, **changes: Any) -> Iterator[Backfiller]:
    """A backfiller in this process."""
    backfiller = Backfiller(ingestion.settings.model_copy(update=changes))
    thread = threading.Thread(target=backfiller.run)
    thread.start()
    try:
        yield backfiller
    finally:
        backfiller.stop()
        thread.join(30)


def spawned(ingestion: Ingestion, simulator: RunningSimulator, **changes: str) -> subprocess.Popen[bytes]:
    """A backfiller as a process of its own."""
    settings = ingestion.settings
    environment = {
        **os.environ,
        **simulator.environment,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "SPOOL_DIR": str(settings.spool_dir),
        "BACKFILL_PART_RECORDS": str(settings.backfill_part_records),
        "MARKET_SOURCE": settings.market_source,
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "console",
        **changes,
    }
    return subprocess.Popen([sys.executable, "-m", "ots_ingestion", "backfiller"], env=environment)


def kill(process: subprocess.Popen[bytes]) -> None:
    """As a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def eventually(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true answer of ``what``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


def ended(ingestion: Ingestion, backfill_id: str, seconds: float = 60.0) -> dict[str, Any]:
    """The backfill once it is over."""

    def look() -> dict[str, Any] | None:
        found = ingestion.get(f"/backfills/{backfill_id}").json
        return found if found["status"] in ("done", "failed", "cancelled") else None

    return eventually(look, seconds)


def leftovers(spool: Path) -> list[str]:
    """What downloads left in the spool."""
    return sorted(path.name for path in spool.glob("backfill-*"))
