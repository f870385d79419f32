"""Two hours of a seeded market in PostgreSQL, a strategy that acts often, and the processes that are killed over it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr
from werkzeug.serving import WSGIRequestHandler, make_server

from ots_analytics.app import create_app as create_analytics
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database
from ots_market.timeframes import Timeframe
from ots_signals.analytics_market import AnalyticsMarket
from ots_signals.market_view import DailyVolatility, UnderlyingBars
from ots_signals.settings import SignalsSettings
from ots_signals.stored_market import StoredMarket
from ots_signals.strategies.base import Strategy, StrategyParameters, Study, clock
from ots_signals.strategies.directional import Directional
from ots_signals.worker import Worker
from seeded_market import DAY, EQUITIES, HOUR, OPTIONS, TODAY, make_market
from volatility_support import import_records

KEY = SecretStr("k" * 40)
UNDERLYINGS = ("AAPL", "TSLA")
BEGIN, END = TODAY * DAY + 14 * HOUR, TODAY * DAY + 16 * HOUR
FORK = multiprocessing.get_context("fork")
PATIENCE_S = 300.0


class OftenParameters(StrategyParameters):
    """Narrow barriers, so that each of them is met."""

    target: float = 0.03
    stop: float = 0.05
    time_stop_minutes: int = 20


class Often(Directional):
    """Buys a call each ten minutes, whatever the market does."""

    id = "often"
    version = "1"
    title = "Each ten minutes"
    family = "tests"
    sources = "none"
    timeframe = Timeframe.M1
    history_sessions = 0
    invalidation = "nothing"
    reason_up = reason_down = "ten minutes are over"
    Parameters = OftenParameters

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Any) -> Study:
        """+1 each ten minutes."""
        return Study((clock(bars, sessions, 10, 10) > 0).astype("int8"), {"close": bars.close})


class Broken(Often):
    """Cannot be computed."""

    id = "broken"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Any) -> Study:
        """Raises at each ten minutes."""
        if (clock(bars, sessions, 10, 10) > 0)[-1]:
            raise ZeroDivisionError("no such number")
        return Study((bars.close * 0).astype("int8"), {})


def store_market(market: Any, service: Any, *, quotes_from: int = BEGIN, quotes_to: int = END) -> None:
    """The stocks' minute bars, their options as sampled each minute, and a rate."""
    seeded = make_market()
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES ('2026-03-10', 'flat', '2026-03-10', 'test') RETURNING curve_id"
        )
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, 0.03, 'continuous')", cursor.fetchone())
    with service.working():
        import_records(service, seeded, OPTIONS, "definition", TODAY, TODAY * DAY, TODAY * DAY + HOUR, UNDERLYINGS)
        import_records(service, seeded, EQUITIES, "ohlcv-1m", TODAY, TODAY * DAY, END, UNDERLYINGS)
        import_records(service, seeded, OPTIONS, "cbbo-1m", TODAY, quotes_from, quotes_to, UNDERLYINGS)


def settings_of(market: Any, redis_url: str, analytics: str = "http://127.0.0.1:1", **more: Any) -> SignalsSettings:
    """Those of a worker."""
    return SignalsSettings(
        database_url=market.signals,
        redis_url=redis_url,
        market_source="simulated",
        market_calendar="around-the-clock",
        underlyings=list(UNDERLYINGS),
        upstreams={"analytics": analytics},
        signing_keys={"analytics": KEY},
        log_level="ERROR",
        **{"wake_s": 0.05, "retry_s": 0.5, "deciders": 2, "revise_s": 3600, "resolve_s": 0.2, **more},
    )


def make_worker(settings: SignalsSettings, strategies: list[Strategy], *, over_http: bool, view: Any = None) -> Worker:
    """One over what is stored, with chains from analytics or priced in process."""
    database = Database(settings.database_url.get_secret_value(), application="tests", size=4)
    stored = StoredMarket(database, source="simulated", calendar="around-the-clock")
    if over_http:
        view = AnalyticsMarket(stored, settings.upstreams["analytics"], settings.signing_keys, timeout_s=5)
    return Worker(settings, database, stored, view or stored, strategies, code_version="test")


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing: tests print what matters."""


def serve_analytics(reader: str, redis_url: str, port: int) -> None:
    """The analytics service, until it is killed."""
    app = create_analytics(
        AnalyticsSettings(
            database_url=reader, redis_url=redis_url, accept_keys={"signals": KEY}, log_level="ERROR",
            market_source="simulated", market_calendar="around-the-clock",
        )
    )  # fmt: skip
    make_server("127.0.0.1", port, app, threaded=True, request_handler=_Silent).serve_forever()


def run_worker(settings: dict[str, Any]) -> None:
    """A worker, until it is killed."""
    make_worker(SignalsSettings(**settings), [Often()], over_http=True).run()


class Process:
    """A process that is killed with SIGKILL and made anew."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._target, self._arguments = target, arguments
        self._process = self._begin()

    def _begin(self) -> Any:
        process = FORK.Process(target=self._target, args=self._arguments)
        process.start()
        return process

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    def again(self) -> None:
        """Another one."""
        self.kill()
        self._process = self._begin()


def wait_until(condition: Callable[[], bool]) -> None:
    """For as long as a slow machine may need."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, "it does not come to pass"
        time.sleep(0.02)
