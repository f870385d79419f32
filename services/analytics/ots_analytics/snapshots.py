"""The process that stores implied volatility: of every close that has quotes, and of the session that is on.

One process at a time, by an advisory lock of the very connection that writes: who has lost the lock cannot write. It
may be killed at any moment; a snapshot is one transaction, and the next process finds by the versions of what is stored
what is left to do.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import psycopg2
import structlog

from ots_analytics import snapshot_store, snapshots_metrics
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.volatility import data_version, take_snapshot
from ots_chains.chain_rates import rate_inputs, rate_of
from ots_chains.chains import Moment, read_chain, underlyings_of
from ots_common.database import Connection, Database, connect
from ots_common.metrics import serve_process
from ots_market.rates import MAX_AGE_DAYS, curve_known_at
from ots_market.sessions import sessions_of
from ots_market.timeframes import DAY_NS
from ots_market.underlyings import counted_as

log = structlog.get_logger(__name__)

APPLICATION = "analytics-snapshots"
LEASE = 0x534E4150
_NS = 1_000_000_000
_TICK_S = 1.0
_NEWS_S = 10.0
_LEASE_RETRY_S = 2.0
_MAX_BACKOFF_S = 10.0
_REVIEWED_SESSIONS = 3


class Snapshotter:
    """Takes snapshots until :meth:`stop`; ``now`` gives ns since 1970."""

    def __init__(self, settings: AnalyticsSettings, now: Callable[[], int] = time.time_ns) -> None:
        self._settings = settings
        self._dsn = settings.database_url.get_secret_value()
        self._database = Database(self._dsn, application=f"{APPLICATION}-reads", size=1)
        self._sessions = sessions_of(settings.market_calendar)
        self._max_age_ns = settings.snapshot_quote_age_s * _NS
        self._now = now
        self._stopping = threading.Event()
        self._pending: set[int] = set()
        self._newest = snapshots_metrics.Newest()
        self._runs_seen = datetime(1970, 1, 1, tzinfo=UTC)
        self._curve_seen = 0
        self._last_minute_ns = 0
        self._next_news = self._next_review = 0.0

    def stop(self) -> None:
        """End soon; the snapshot that is being written is written."""
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped; the database may come and go."""
        backoff = 0.2
        while not self._stopping.is_set():
            try:
                with closing(connect(self._dsn, application=APPLICATION)) as connection:
                    if not _leased(connection):
                        self._stopping.wait(_LEASE_RETRY_S)
                        continue
                    log.info("snapshots_begin")
                    backoff = 0.2
                    self._work(connection)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                log.warning("database_unavailable", error=str(error).strip(), retry_in_s=backoff)
                self._stopping.wait(backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF_S)

    def catch_up(self) -> int:
        """Take what is due now, and end; how many snapshots were stored. Raises RuntimeError when another is at it."""
        with closing(connect(self._dsn, application=APPLICATION)) as connection:
            if not _leased(connection):
                raise RuntimeError("another process takes snapshots")
            self._begin()
            stored = self._take_minute(connection)
            while self._pending:
                stored += self._take_newest_close(connection)
            return stored

    def take(self, connection: Connection, moment: Moment) -> int:
        """Take the snapshots of a moment whose inputs are new; how many were stored."""
        began = time.monotonic()
        names = underlyings_of(self._database, moment)
        read = [read_chain(self._database, self._sessions, name, moment, self._max_age_ns) for name in names]
        chains = [c for c in read if len(c) and c.quoted_at.max() >= moment.at_ns - self._max_age_ns]
        fresh = {chain.underlying for chain in chains}
        for name in names:
            if name not in fresh:
                _count(name, "stale")
        if not chains:
            return 0
        known = curve_known_at(self._database, moment.at_ns)
        inputs = rate_inputs(known, chains)
        stored = snapshot_store.versions_at(self._database, moment)
        versions = {chain.underlying: data_version(chain, inputs, self._max_age_ns) for chain in chains}
        new = [chain for chain in chains if stored.get(chain.underlying) != versions[chain.underlying]]
        for name in fresh - {chain.underlying for chain in new}:
            _count(name, "current")
        if not new:
            return 0
        rate = rate_of(known, chains)
        taken = [take_snapshot(chain, rate, self._max_age_ns, versions[chain.underlying]) for chain in new]
        done = 0
        for snapshot in taken:
            if snapshot_store.put_snapshot(connection, snapshot):
                self._newest.stored(snapshot)
                _count(snapshot.chain.underlying, "stored")
                done += 1
            else:
                _count(snapshot.chain.underlying, "current")
        snapshots_metrics.SECONDS.observe(time.monotonic() - began)
        return done

    def _begin(self) -> None:
        """Everything may be missing, and nothing is known of what came in meanwhile."""
        self._newest.read(self._database)
        closed_by = self._settled()
        self._runs_seen, _ = snapshot_store.runs_since(
            self._database, self._sessions, datetime(1970, 1, 1, tzinfo=UTC), closed_by
        )
        self._curve_seen, _ = snapshot_store.newest_curve(self._database)
        self._pending = snapshot_store.sessions_with_quotes(self._database, self._sessions, closed_by)
        self._last_minute_ns = 0
        self._next_news = time.monotonic() + _NEWS_S
        self._next_review = time.monotonic() + self._settings.snapshot_review_s

    def _work(self, connection: Connection) -> None:
        self._begin()
        while not self._stopping.is_set():
            _still_leased(connection)
            self._notice()
            stored = self._take_minute(connection)
            if self._pending:
                stored += self._take_newest_close(connection)
            else:
                self._stopping.wait(_TICK_S)
            if stored:
                log.info("snapshots_stored", snapshots=stored, closes_left=len(self._pending))

    def _settled(self) -> int:
        """Up to when what happened can be expected to be stored."""
        return self._now() - int(self._settings.snapshot_settle_s * _NS)

    def _take_minute(self, connection: Connection) -> int:
        """The newest whole interval of the session that is on; and when one has closed, that it has."""
        settled = self._settled()
        interval = self._settings.snapshot_interval_s * _NS
        at = settled // interval * interval
        if at <= self._last_minute_ns:
            return 0
        # (open, close]: what was the last interval of a session is its close
        index = int(self._sessions.index_of(np.array([at - 1]))[0])
        previous, self._last_minute_ns = self._last_minute_ns, at
        if previous:
            just_closed = (self._sessions.closes > previous) & (self._sessions.closes <= settled)
            self._pending |= {int(i) for i in just_closed.nonzero()[0]}
        if index < 0:
            return 0
        opens, closes = int(self._sessions.opens[index]), int(self._sessions.closes[index])
        if at == closes:
            self._pending.add(index)
            return 0
        return self.take(connection, Moment(at, self._sessions.date_at(index), opens, closes))

    def _take_newest_close(self, connection: Connection) -> int:
        index = max(self._pending)
        stored = self.take(connection, Moment.close_of(self._sessions, index))
        self._pending.discard(index)
        return stored

    def _notice(self) -> None:
        """What came in since: runs that ended, curves that were stated; and now and then the newest closes anyway."""
        if time.monotonic() < self._next_news:
            return
        self._next_news = time.monotonic() + _NEWS_S
        settled = self._settled()
        self._runs_seen, touched = snapshot_store.runs_since(self._database, self._sessions, self._runs_seen, settled)
        self._pending |= touched
        curve, known_ns = snapshot_store.newest_curve(self._database)
        with_quotes: set[int] = set()
        review = time.monotonic() >= self._next_review
        if curve != self._curve_seen or review:
            with_quotes = snapshot_store.sessions_with_quotes(self._database, self._sessions, settled)
        if curve != self._curve_seen:
            self._curve_seen = curve
            closes = self._sessions.closes
            last_ns = settled + MAX_AGE_DAYS * DAY_NS
            self._pending |= {i for i in with_quotes if known_ns <= closes[i] <= last_ns}
        if review:
            self._next_review = time.monotonic() + self._settings.snapshot_review_s
            self._pending |= set(sorted(with_quotes)[-_REVIEWED_SESSIONS:])


def _count(underlying: str, outcome: str) -> None:
    snapshots_metrics.SNAPSHOTS.labels(counted_as(underlying), outcome).inc()


def _leased(connection: Connection) -> bool:
    with connection, connection.cursor() as cursor:
        # a machine that vanished is noticed within half a minute, and its lock with it
        for setting, value in (("idle", 10), ("interval", 5), ("count", 3)):
            cursor.execute(f"SET tcp_keepalives_{setting} = {value}")
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (LEASE,))
        return bool((cursor.fetchone() or (False,))[0])


def _still_leased(connection: Connection) -> None:
    """Raises psycopg2.Error when the connection, and the lock with it, is gone."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def main(settings: AnalyticsSettings, *, once: bool) -> int:
    """Take snapshots until SIGTERM or SIGINT, or what is due once."""
    snapshotter = Snapshotter(settings)
    if once:
        try:
            print(f"{snapshotter.catch_up()} snapshots stored")
        except RuntimeError as error:
            print(f"snapshots: {error}")
            return 1
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: snapshotter.stop())
    serve_process(APPLICATION, settings, settings.snapshots_metrics_port, settings.metrics_bind)
    snapshotter.run()
    return 0
