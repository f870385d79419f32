"""After a commit: latest prices and closed bars into Redis, in a thread of its own, so that Redis delays nothing.

Redis wakes, PostgreSQL remembers: what is announced here can be read there, and what a crash or an outage of Redis
swallows is not announced again, but for the latest prices, which are put there anew.
"""

from __future__ import annotations

import threading
from collections import defaultdict

import psycopg2
import redis
import structlog

from ots_common.cache_keys import cache_key
from ots_common.database import Database
from ots_common.problems import Problem
from ots_common.times import rfc3339, to_datetime
from ots_ingestion.publisher import LatestPublisher
from ots_market.prices import dollars
from ots_market.timeframes import MINUTE_NS

log = structlog.get_logger(__name__)

CLOSED_BARS_KEPT = 20_000
_MINUTES_HELD = 10
_EVERY_S = 0.2


def closed_bars_key(source: str) -> str:
    """The Redis stream of closed minute bars."""
    return cache_key(source, "closed-bars")


class Announcer:
    """Told of commits by the storers; announces until stopped."""

    def __init__(self, database: Database, client: redis.Redis, source: str) -> None:
        self._database = database
        self._client = client
        self._source = source
        self._publisher = LatestPublisher(database, client, source)
        self._lock = threading.Lock()
        self._touched: set[int] = set()
        # dataset -> minute -> instruments whose bar of it may be new
        self._minutes: defaultdict[str, defaultdict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        self._newest: dict[str, int] = {}
        self._stop = threading.Event()
        self._bar_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()
        self._bar_closed.set()
        self._thread.join(3.0)

    def committed(self, dataset: str, touched: set[int], bars: set[int], newest_ns: int) -> None:
        """A batch is committed; ``bars`` as in :class:`~ots_ingestion.batch_store.Outcome`. Quick, and never raises."""
        with self._lock:
            self._touched |= touched
            for bar in bars:
                self._minutes[dataset][bar >> 32].add(bar & 0xFFFFFFFF)
            self._newest[dataset] = max(self._newest.get(dataset, 0), newest_ns)
            now = self._newest[dataset] // MINUTE_NS
            if any(minute < now for minute in self._minutes[dataset]):
                self._bar_closed.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            # prices are told a few times a second, closed bars at once
            self._bar_closed.wait(_EVERY_S)
            self._bar_closed.clear()
            if self._stop.is_set():
                return
            try:
                self._announce()
            except (psycopg2.Error, redis.RedisError, Problem) as error:
                log.info("not_announced", error=str(error).strip())
                self._publisher.behind = True
                self._stop.wait(1.0)
            except Exception:
                log.exception("announcer_failed")

    def _announce(self) -> None:
        with self._lock:
            touched, self._touched = self._touched, set()
            closed = self._take_closed()
        if touched:
            self._publisher.publish(touched)
        self._publisher.catch_up()
        for dataset, minute, instruments in closed:
            self._announce_bars(dataset, minute, instruments)

    def _take_closed(self) -> list[tuple[str, int, set[int]]]:
        """The minutes that are over in the feed's own time; a late trade makes its minute's bar anew, and tells it."""
        found = []
        for dataset, minutes in self._minutes.items():
            now = self._newest[dataset] // MINUTE_NS
            over = sorted(minute for minute in minutes if minute < now)
            for minute in over:
                instruments = minutes.pop(minute)
                if minute >= now - _MINUTES_HELD:
                    found.append((dataset, minute, instruments))
        return found

    def _announce_bars(self, dataset: str, minute: int, instruments: set[int]) -> None:
        bars = self._database.rows(
            "SELECT raw_symbol, (extract(epoch FROM ts) * 1000000)::bigint * 1000, publisher_id, open, high, low,"
            " close, volume, origin FROM bars_1m JOIN instruments USING (instrument_id)"
            " WHERE ts = %s AND instrument_id = ANY(%s) ORDER BY raw_symbol, publisher_id",
            (to_datetime(minute * MINUTE_NS), list(instruments)),
        )
        pipeline = self._client.pipeline(transaction=False)
        for symbol, starts, publisher, opened, high, low, close, volume, origin in bars:
            pipeline.xadd(
                closed_bars_key(self._source),
                {
                    "symbol": symbol,
                    "dataset": dataset,
                    "publisher_id": publisher,
                    "start": rfc3339(starts),
                    "timeframe": "1m",
                    "open": dollars(opened) or 0.0,
                    "high": dollars(high) or 0.0,
                    "low": dollars(low) or 0.0,
                    "close": dollars(close) or 0.0,
                    "volume": volume,
                    "origin": origin,
                },
                maxlen=CLOSED_BARS_KEPT,
                approximate=True,
            )
        if bars:
            pipeline.execute()
