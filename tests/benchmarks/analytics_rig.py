"""What the benchmark of analytics runs: databases with two chains and a year of minutes in them, and servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gateway_rig import INTERNAL, Rig, Server, free_port
from pydantic import SecretStr

from conftest import REAL_DATA, MarketDatabase, provisioned
from data_ingestion_support import Ingestion, settings_for
from ots_analytics.settings import AnalyticsSettings
from ots_common.copy_binary import Column, copy_in
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_ingestion.packing import pack_next
from ots_market.sessions import xnys
from ots_native.postgres import PostgresServer
from ots_native.redis import RedisServer
from ots_native.settings import Ports
from ots_simulator.market import MarketSize
from seeded_market import DAY, OPTIONS, TODAY, make_market
from volatility_support import import_close, import_records

GOOG_FILES = (
    "OPRA.PILLAR/GOOG-2015-12-24/definition.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/cbbo-1m.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/ohlcv-1m.dbn.zst",
    "OPRA.PILLAR/GOOG-2015-12-24/statistics.dbn.zst",
    "EQUS.MINI/GOOG-2015-12-24/ohlcv-1m.dbn.zst",
)
NINE = ("AAPL", "GOOGL", "MSFT", "AMZN", "TSLA", "NVDA", "META", "SPY", "QQQ")
YEAR_ENDS = date(2025, 12, 31)
SPY_CLOSE = (TODAY + 1) * DAY


@dataclass
class Market:
    """A market database and the settings of analytics over it."""

    database: MarketDatabase
    settings: AnalyticsSettings


@dataclass
class AnalyticsRig:
    """All that runs. ``real``: GOOG's day, and a year of minutes of nine; ``simulated``: SPY's chain of 11,058."""

    folder: Path
    redis: RedisServer
    accounts_url: str
    real: Market
    simulated: Market

    @contextmanager
    def service(self, market: Market, workers: int) -> Iterator[Server]:
        """Analytics as in production, in front of a market."""
        port = free_port()
        told = market.settings
        metrics = self.folder / f"metrics-{port}"
        metrics.mkdir()
        environment = {
            **os.environ,
            "BIND": f"127.0.0.1:{port}",
            "WORKERS": str(workers),
            "DATABASE_URL": told.database_url.get_secret_value(),
            "REDIS_URL": told.redis_url.get_secret_value(),
            "MARKET_CALENDAR": told.market_calendar,
            "MARKET_SOURCE": told.market_source,
            "ACCEPT_KEYS": json.dumps({"gateway": INTERNAL}),
            "LOG_LEVEL": "WARNING",
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        }
        command = [sys.executable, "-m", "gunicorn", "--config", "python:ots_analytics.gunicorn_conf",
                   "ots_analytics.app:create_app()"]  # fmt: skip
        log = self.folder / f"analytics-{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        server = Server("analytics", port, process, log)
        try:
            _until_it_answers(server, f"{server.url}/health/live")
            yield server
        finally:
            server.stop()

    @contextmanager
    def gateway(self, service: Server) -> Iterator[Server]:
        """The gateway as in production, limits wide open, in front of a service."""
        rig = Rig(self.folder, self.redis, self.accounts_url, upstream=service)
        wide = json.dumps(dict.fromkeys(("read", "compute", "write"), "60000000/60/1000000"))
        try:
            yield rig.ours(f"gateway-{service.port}", RATE_LIMITS=wide)
        finally:
            for server in rig.servers:
                server.stop()


def _until_it_answers(server: Server, url: str) -> None:
    deadline = time.monotonic() + 180  # a first start compiles
    while True:
        try:
            requests.get(url, timeout=2)
            return
        except requests.RequestException:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{server.name} does not answer: {server.log.read_text()[-2000:]}") from None
            time.sleep(0.1)


def pack_bars(market: Market) -> float:
    """Pack all minute bars, as an idle worker of ingestion does; the seconds it took."""
    started = time.perf_counter()
    with market.database.database.connection() as connection:
        while pack_next(connection, now=datetime.now(UTC), settled_s=0):
            pass
    return time.perf_counter() - started


def internal_headers() -> dict[str, str]:
    """Of a request as the gateway sends it on; good for a minute."""
    caller = Caller("gateway", "user-1", "bench", "viewer", "request-0001")
    return {HEADER: sign_internal_token(caller, "analytics", {"analytics": SecretStr(INTERNAL)})}


@contextmanager
def running(*, goog: bool, spy: bool, year: bool) -> Iterator[AnalyticsRig]:
    """The databases, filled with what is asked for."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="analytics-bench-", dir=memory) as name:
        folder = Path(name)
        folder.chmod(0o755)
        # not in memory: a database lives on a disk, and what it reads comes from its cache
        with tempfile.TemporaryDirectory(prefix="analytics-bench-") as disk:
            Path(disk).chmod(0o755)
            postgres = PostgresServer(Path(disk) / "postgres", Ports.free().postgres)
            postgres.start()
            redis = RedisServer(folder / "redis", Ports.free().redis, "bench-password")
            redis.start()
            try:
                with provisioned(postgres) as (real, accounts), provisioned(postgres) as (simulated, _):
                    rig = AnalyticsRig(
                        folder,
                        redis,
                        postgres.url("ots_accounts", "accounts-password", accounts),
                        _market(postgres, real, redis, "xnys", "databento"),
                        _market(postgres, simulated, redis, "around-the-clock", "simulated"),
                    )
                    if goog:
                        _fill_goog(rig)
                    if spy:
                        _fill_spy(rig)
                    if year:
                        _fill_year(rig.real)
                    yield rig
                    for market in (rig.real, rig.simulated):
                        market.database.database.close()
            finally:
                redis.remove()
                postgres.remove()


def _market(postgres: PostgresServer, name: str, redis: RedisServer, calendar: str, source: str) -> Market:
    database = MarketDatabase(postgres, name)
    settings: dict[str, Any] = {"market_calendar": calendar, "market_source": source}
    return Market(
        database,
        AnalyticsSettings(
            database_url=SecretStr(database.reader),
            redis_url=SecretStr(redis.url),
            accept_keys={"gateway": SecretStr(INTERNAL)},
            log_level="ERROR",
            **settings,
        ),
    )


def _state_rate(market: Market, day: str, rate: float) -> None:
    database = market.database.database
    database.execute(
        "WITH stated AS (INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
        " VALUES (%s, 'flat', %s, 'bench') RETURNING curve_id)"
        " INSERT INTO rate_points SELECT curve_id, 30, %s, 'continuous' FROM stated",
        (day, day, rate),
    )


def _fill_goog(rig: AnalyticsRig) -> None:
    service = Ingestion(settings_for(rig.real.database, rig.redis, rig.folder / "spool-real"))
    with service.working():
        for file in GOOG_FILES:
            service.imported((REAL_DATA / file).read_bytes())
    _state_rate(rig.real, "2015-12-23", 0.003)


def _fill_spy(rig: AnalyticsRig) -> None:
    """Definitions, open interest and the last two minutes of a day."""
    service = Ingestion(settings_for(rig.simulated.database, rig.redis, rig.folder / "spool-simulated"))
    seeded = make_market(size=MarketSize.FULL)
    with service.working():
        for schema in ("definition", "statistics"):
            import_records(service, seeded, OPTIONS, schema, TODAY, TODAY * DAY, SPY_CLOSE, {"SPY"})
        import_close(service, seeded, TODAY, {"SPY"}, minutes=2)
    _state_rate(rig.simulated, "2026-03-10", 0.04)


def _fill_year(market: Market) -> None:
    """A bar for each minute of 252 sessions, of nine symbols."""
    sessions = xnys()
    last = int(np.searchsorted(sessions.dates, np.datetime64(YEAR_ENDS), side="right"))
    minute = 60 * 10**9
    chosen = range(last - 252, last)
    starts = np.concatenate([np.arange(sessions.opens[i], sessions.closes[i], minute) for i in chosen])
    random = np.random.default_rng(3)
    with market.database.database.connection() as connection, connection.cursor() as cursor:
        days = np.unique(starts // DAY) * DAY
        cursor.execute(
            "SELECT note_stored('bars_1m', ARRAY(SELECT to_timestamp(d) FROM unnest(%s) d))",
            ((days // 10**9).tolist(),),
        )
        cursor.execute(
            "SELECT open_chunks('bars_1m', ARRAY(SELECT to_timestamp(d) FROM unnest(%s) d), true)",
            ((days // 10**9).tolist(),),
        )
        for symbol in NINE:
            cursor.execute(
                "INSERT INTO instruments (dataset, raw_symbol, underlying) VALUES ('EQUS.MINI', %s, %s)"
                " ON CONFLICT (dataset, raw_symbol) DO UPDATE SET underlying = excluded.underlying"
                " RETURNING instrument_id",
                (symbol, symbol),
            )
            (instrument,) = cursor.fetchone() or (0,)
            close = np.round(200 * np.exp(np.cumsum(random.normal(0, 5e-4, len(starts)))), 2)
            opened = np.concatenate([close[:1], close[:-1]])
            prices = {
                "open": opened,
                "high": np.maximum(opened, close),
                "low": np.minimum(opened, close),
                "close": close,
            }
            n = len(starts)
            copy_in(connection, "bars_1m", [
                Column("instrument_id", "int4", np.full(n, instrument)),
                Column("ts", "timestamptz", starts // 1000),
                Column("publisher_id", "int4", np.full(n, 95)),
                *(Column(key, "int8", np.rint(value * 1e9).astype(np.int64)) for key, value in prices.items()),
                Column("volume", "int8", random.integers(100, 10_000, n)),
                Column("origin", "char", np.full(n, b"v")),
            ])  # fmt: skip
