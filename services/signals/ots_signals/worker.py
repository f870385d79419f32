"""The process that decides and resolves, until it is stopped; as many of them as one likes.

Redis wakes, PostgreSQL remembers: a message on the stream of closed bars makes it look at once, and without any it
looks each ``wake_s`` anyway. What is closed and not decided, who decides about it, what was decided and what became of
it are rows of PostgreSQL, so any of analytics, Redis, PostgreSQL and this process may vanish at any moment and come
again: no event is lost, and none is decided twice.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import numpy as np
import psycopg2
import redis
import structlog

from ots_common import redis_client
from ots_common.cache_keys import cache_key
from ots_common.database import Connection, Database, connect
from ots_common.metrics import serve_process
from ots_common.problems import Problem
from ots_common.times import NS_PER_S
from ots_market.timeframes import MINUTE_NS
from ots_market.underlyings import counted_as
from ots_signals import cursors, ledger, metrics
from ots_signals.analytics_market import AnalyticsMarket
from ots_signals.backtests import Backtester
from ots_signals.code_version import code_version
from ots_signals.cursors import Due
from ots_signals.deciding import Decider
from ots_signals.ledger import Entry
from ots_signals.market_view import MarketView, NotYet
from ots_signals.resolutions import Resolutions, settled_at
from ots_signals.settings import SignalsSettings
from ots_signals.stored_market import StoredMarket
from ots_signals.strategies import Strategy, registered

log = structlog.get_logger(__name__)

APPLICATION = "signals-worker"
_FIRST_WAIT_S = 0.2
_LONGEST_DATABASE_WAIT_S = 10.0
_NAMES_S = 30.0
_LOOK_S = 5.0
_SHOWN_S = 5.0
_OVERDUE_NS = 10 * MINUTE_NS
_PROGRESS = """
    SELECT (SELECT coalesce(max(seq), 0) FROM signal_ledger), count(*), count(*) FILTER (WHERE settles_ns < %s)
    FROM signal_resolutions WHERE revision < 0
"""
_DATABASE = (psycopg2.OperationalError, psycopg2.InterfaceError, Problem)


class Worker:
    """Decides with ``view`` and resolves with ``stored``; ``now`` gives ns since 1970."""

    def __init__(
        self,
        settings: SignalsSettings,
        database: Database,
        stored: StoredMarket,
        view: MarketView,
        strategies: Iterable[Strategy],
        *,
        code_version: str,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings = settings
        self._dsn = settings.database_url.get_secret_value()
        self._database = database
        # whoever shows does not wait for the locks that it is to show
        self._watching = Database(self._dsn, application="signals-watch", size=1, lock_s=_SHOWN_S)
        self._stored = stored
        self._now = now
        self._decider = Decider(
            view,
            tuple(strategies),
            database,
            code_version=code_version,
            late_ns=int(settings.late_s * NS_PER_S),
            now=now,
        )
        self._resolutions = Resolutions(self._dsn, database, stored, now)
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._looks = 0
        self._stocks: dict[str, int] = {}
        self._names_at = 0.0
        self._session_ready: int | None = None
        self._ready_lock = threading.Lock()

    def stop(self) -> None:
        """End soon; what is being decided is decided."""
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """There may be something to decide."""
        with self._news:
            self._looks += 1
            self._news.notify_all()

    def run(self) -> None:
        """Work until stopped."""
        threads = [
            threading.Thread(target=self._listen, name="listener", daemon=True),
            threading.Thread(target=self._keep_resolving, name="resolver", daemon=True),
            threading.Thread(target=self._keep_verifying, name="verifier", daemon=True),
            threading.Thread(target=self._keep_showing, name="shower", daemon=True),
            threading.Thread(
                target=Backtester(self._settings, self._database, self._stopping).run, name="backtester", daemon=True
            ),
            *(
                threading.Thread(target=self._keep_deciding, name=f"decider-{i}", daemon=True)
                for i in range(self._settings.deciders)
            ),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not self._stopping.is_set():
                thread.join(0.5)
        for thread in threads[1:]:
            thread.join(10.0)

    # --- deciding ---

    def _keep_deciding(self) -> None:
        backoff = _FIRST_WAIT_S
        while not self._stopping.is_set():
            try:
                with closing(connect(self._dsn, application=APPLICATION)) as connection:
                    _bounded(connection)
                    self._begin()
                    while not self._stopping.is_set():
                        looks = self._looks
                        if not self.decide_due(connection):
                            self._wait(looks)
                        backoff = _FIRST_WAIT_S
            except _DATABASE as error:
                log.warning("database_unavailable", error=str(error).strip(), retry_in_s=backoff)
            except Exception:
                log.exception("decider_failed", retry_in_s=backoff)
            self._stopping.wait(backoff)
            backoff = min(backoff * 2, _LONGEST_DATABASE_WAIT_S)

    def _wait(self, looks: int) -> None:
        """Until there are news since ``looks``, or for ``wake_s``."""
        with self._news:
            if self._looks == looks and not self._stopping.is_set():
                self._news.wait(self._settings.wake_s)

    def _begin(self) -> None:
        """Cursors for those that have none: from now on, or from the open of an earlier session."""
        sessions, from_ns = self._stored.sessions, self._now()
        if self._settings.first_sessions:
            current = int(np.searchsorted(sessions.opens, from_ns, side="right")) - 1
            from_ns = int(sessions.opens[max(0, current + 1 - self._settings.first_sessions)])
        cursors.begin(self._database, self._settings.underlyings, from_ns // MINUTE_NS * MINUTE_NS)

    def decide_due(self, connection: Connection) -> int:
        """Decide about the oldest closed minute of each underlying that nobody else decides about; how many."""
        closed_ns = cursors.closed_until(self._database, self._now(), self._settings.settle_s)
        waiting = cursors.due(self._database, self._known_stocks(), closed_ns)
        return sum(self._decide_one(connection, one) for one in waiting if not self._stopping.is_set())

    def _decide_one(self, connection: Connection, due: Due) -> bool:
        began = time.perf_counter()
        added: list[Entry] = []
        try:
            session = self._decider.session_of(due.at_ns)
            if session is not None:
                self._outcomes_before(session)
            with connection:
                tries = cursors.lease(connection, due)
                if tries is None:
                    return False
                if session is not None:
                    alone = tries >= self._settings.decide_tries
                    decided = self._decider.decide(due.underlying, session, due.at_ns, alone=alone)
                    if alone:
                        metrics.POISONED.labels(counted_as(due.underlying)).inc()
                        log.error("event_given_up", underlying=due.underlying, event_ns=due.at_ns, tries=tries)
                    decided_ns = self._now()
                    added = ledger.append(connection, [(one, decided_ns) for one in decided], self._now)
                cursors.move(connection, due)
        except _DATABASE:
            raise
        except NotYet as error:
            self._put_off(due, error, counts=False)
            return False
        except Exception as error:
            log.exception("not_decided", underlying=due.underlying, event_ns=due.at_ns)
            metrics.FAILURES.labels("decide").inc()
            self._put_off(due, error, counts=True)
            return False
        self._count(due, added, time.perf_counter() - began)
        return True

    def _put_off(self, due: Due, error: Exception, *, counts: bool) -> None:
        """Longer each time: as long as it has waited already, so what is down for a minute is asked a few times."""
        waited_s = max(0.0, (self._now() - due.at_ns) / NS_PER_S)
        wait_s = min(self._settings.retry_s, max(_FIRST_WAIT_S, waited_s * 0.5))
        log.info(
            "put_off", underlying=due.underlying, event_ns=due.at_ns, error=str(error), retry_in_s=round(wait_s, 2)
        )
        cursors.put_off(self._database, due, f"{type(error).__name__}: {error}", wait_s, counts=counts)

    def _count(self, due: Due, added: Iterable[Entry], seconds: float) -> None:
        underlying = counted_as(due.underlying)
        metrics.DECIDE_SECONDS.observe(seconds)
        metrics.CURSOR_SECONDS.labels(underlying).set(due.at_ns / NS_PER_S)
        for entry in added:
            metrics.count_entry(entry)
        latency_s = max(0, self._now() - due.at_ns) / NS_PER_S
        if latency_s <= self._settings.late_s:
            metrics.LATENCY_SECONDS.labels("yes" if added else "no").observe(latency_s)

    def _known_stocks(self) -> dict[str, int]:
        if len(self._stocks) < len(self._settings.underlyings) and time.monotonic() >= self._names_at:
            self._stocks = cursors.stocks(self._database, self._settings.underlyings)
            self._names_at = time.monotonic() + _NAMES_S
        return self._stocks

    def _outcomes_before(self, session: int) -> None:
        """What a session's decisions know of outcomes is what had ended before it opened: so that is resolved first.

        Of what cannot be resolved now, because its data never came, nothing is known.
        """
        with self._ready_lock:
            if self._session_ready == session:
                return
            opens_ns = int(self._stored.sessions.opens[session])
            waiting = self._database.rows(
                "SELECT count(*) FROM signal_resolutions WHERE revision < 0 AND settles_ns <= %s", (opens_ns,)
            )[0][0]
            if waiting:
                self._resolutions.resolve(opens_ns)
            self._session_ready = session

    # --- what became of it ---

    def _keep_resolving(self) -> None:
        next_revision = 0.0
        while not self._stopping.wait(self._settings.resolve_s):
            try:
                self.resolve_due()
                if time.monotonic() >= next_revision:
                    self.revise_due()
                    next_revision = time.monotonic() + self._settings.revise_s
            except _DATABASE as error:
                log.warning("database_unavailable", error=str(error).strip())
            except Exception:
                log.exception("resolver_failed")
                metrics.FAILURES.labels("resolve").inc()

    def resolve_due(self) -> int:
        """Outcomes of all signals whose minutes are stored; how many were added."""
        closed_ns = cursors.closed_until(self._database, self._now(), self._settings.settle_s)
        return self._resolutions.resolve(settled_at(closed_ns))

    def revise_due(self) -> int:
        """Revisions of outcomes whose data changed, in the newest sessions that are closed; how many were added."""
        sessions = self._stored.sessions
        closed = int(np.searchsorted(sessions.closes, self._now(), side="right"))
        first = max(0, closed - self._settings.revise_sessions)
        if first >= closed:
            return 0
        return self._resolutions.revise(sessions.date_at(first), sessions.date_at(closed - 1))

    def _keep_verifying(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = self._settings.ledger_verify_every_s
            try:
                self.verify()
            except _DATABASE as error:
                log.warning("database_unavailable", error=str(error).strip())
                wait_s = min(60.0, wait_s)
            except Exception:
                log.exception("verifier_failed")
                metrics.FAILURES.labels("verify").inc()

    def verify(self) -> bool:
        """Whether the ledger is whole; says so in the metrics, and in the log where it is not."""
        with closing(connect(self._dsn, application="signals-verifier")) as connection:
            found = ledger.verify(connection)
        metrics.FAULTS.set(0 if found.fault is None else 1)
        if found.fault is None:
            metrics.VERIFIED.set(self._now() / NS_PER_S)
        else:
            log.error("ledger_is_not_whole", seq=found.fault.seq, detail=found.fault.detail)
        return found.fault is None

    # --- being watched ---

    def _keep_showing(self) -> None:
        """By a thread of its own, which only reads: what keeps the others waiting is what is to be seen."""
        while not self._stopping.wait(_SHOWN_S):
            try:
                self.show()
            except _DATABASE as error:
                log.info("not_shown", error=str(error).strip())
            except Exception:
                log.exception("shower_failed")

    def show(self) -> None:
        """How far all is, as the metrics have it."""
        closed_ns = cursors.closed_until(self._watching, self._now(), self._settings.settle_s)
        behind = cursors.oldest_undecided(self._watching, self._known_stocks(), closed_ns)
        for underlying in self._stocks:
            at_ns = behind.get(underlying, closed_ns)
            metrics.LAG_SECONDS.labels(counted_as(underlying)).set(max(0, closed_ns - at_ns) / NS_PER_S)
        row = self._watching.rows(_PROGRESS, (self._now() - _OVERDUE_NS,))[0]
        for gauge, value in zip((metrics.ROWS, metrics.OPEN, metrics.OVERDUE), row, strict=True):
            gauge.set(value)

    # --- being woken ---

    def _listen(self) -> None:
        client = redis_client.connect(self._settings.redis_url.get_secret_value(), timeout_s=_LOOK_S + 2)
        key = cache_key(self._settings.market_source, "closed-bars")
        last: Any = "$"
        while not self._stopping.is_set():
            try:
                read: Any = client.xread({key: last}, count=1000, block=int(_LOOK_S * 1000))
                if read:
                    last = read[0][1][-1][0]
                    self.wake()
            except redis.RedisError as error:
                log.info("not_woken", error=str(error))
                self.wake()
                self._stopping.wait(1.0)
                last = "$"


def _bounded(connection: Connection) -> None:
    """A machine that vanished is noticed within half a minute, and a decision that hangs is given up, its lock too."""
    with connection, connection.cursor() as cursor:
        for setting, value in (("idle", 10), ("interval", 5), ("count", 3)):
            cursor.execute(f"SET tcp_keepalives_{setting} = {value}")
        cursor.execute("SET idle_in_transaction_session_timeout = '120s'")


def main(settings: SignalsSettings) -> int:
    """Decide and resolve until SIGTERM or SIGINT; 2 when it may not call analytics."""
    database = Database.of_service(APPLICATION, settings)
    stored = StoredMarket(database, source=settings.market_source, calendar=settings.market_calendar)
    if "analytics" not in settings.upstreams or "analytics" not in settings.signing_keys:
        print("worker: the environment is not complete: UPSTREAMS and SIGNING_KEYS need analytics", file=sys.stderr)
        return 2
    view = AnalyticsMarket(
        stored, settings.upstreams["analytics"], settings.signing_keys, timeout_s=settings.upstream_timeout_s
    )
    strategies = [strategy() for strategy in registered().values()]
    worker = Worker(settings, database, stored, view, strategies, code_version=settings.code_version or code_version())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    metrics.begin(settings.underlyings)
    serve_process(APPLICATION, settings, settings.signals_metrics_port, settings.metrics_bind)
    worker.run()
    return 0
