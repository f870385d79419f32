"""One dataset's collection: lease, spool, storer, and connections to the feed, each with its end and its consequence.

States: stopped, waiting (for the lease, the spool or the database), connecting, authenticating, subscribing,
replaying, streaming, mute, backing_off, failed (tried again rarely: it cannot work as it is), disk_full.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import structlog

from ots_ingestion import gaps, metrics, verdicts
from ots_ingestion.collection import Collection
from ots_ingestion.lease import Lease
from ots_ingestion.live_session import ACK, REPLAY_COMPLETED, ConnectError, LiveSession
from ots_ingestion.live_store import AfterCommit, Batching, Storer
from ots_ingestion.segments import NO_ROOM, Ending, Limits, Spool, SpoolBusyError, SpoolStream, has_room
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.verdicts import Verdict
from ots_market.sessions import sessions_of

log = structlog.get_logger(__name__)

_TICK_S = 0.05
_IDLE_S = 0.2
_REPORT_S = 1.0
_STOREKEEPING_S = 5.0
_DRAIN_S = 2.0
# how much later than a heartbeat was due its absence means that the connection is dead
_SILENCE_MARGIN_S = 5.0
# a feed whose clock differs by more is not on our time (a tape)
_SAME_CLOCK_NS = 60_000_000_000
# at what part of its bound a spool that was full is written again
_ROOM_AGAIN = 0.8
_SYMBOLS_HINT = "what else was asked for is collected; start it again with symbols that the dataset knows"
_ROOM_HINT = "make room, or raise LIVE_SPOOL_MAX_BYTES; it goes on by itself"
# schemas that say something all the time in a session; those sampled a minute are given longer
_STEADY = frozenset({"trades", "tbbo", "tcbbo", "mbp-1", "cmbp-1", "bbo-1s", "cbbo-1s"})
_BY_THE_MINUTE = frozenset({"bbo-1m", "cbbo-1m", "ohlcv-1m"})
_LEAST_MINUTE_S = 150.0
_FIRST_MINUTES_NS = 120_000_000_000
# delivered once a day: whoever comes later wants them from the day's beginning
_DAILY = frozenset({"definition", "statistics"})
STATES = (
    "stopped", "waiting", "connecting", "authenticating", "subscribing", "replaying", "streaming", "mute",
    "backing_off", "failed", "disk_full",
)  # fmt: skip


_REPORT = """
    INSERT INTO collection_states (dataset, state, since, reason, hint, attempts, next_retry_at, holder, session_id,
        connections, received, last_received_at, spool_bytes, store_error, clock_offset_ns)
    VALUES (%(dataset)s, %(state)s, %(since)s, %(reason)s, %(hint)s, %(attempts)s, %(next_retry_at)s, %(holder)s,
        %(session_id)s, %(connections)s, %(received)s, %(last_received_at)s, %(spool_bytes)s, %(store_error)s,
        %(offset)s)
    ON CONFLICT (dataset) DO UPDATE SET state = excluded.state, since = excluded.since, reason = excluded.reason,
        hint = excluded.hint, attempts = excluded.attempts, next_retry_at = excluded.next_retry_at,
        holder = excluded.holder, session_id = excluded.session_id, connections = excluded.connections,
        received = excluded.received, last_received_at = excluded.last_received_at, spool_bytes = excluded.spool_bytes,
        store_error = excluded.store_error, clock_offset_ns = excluded.clock_offset_ns, reported_at = now()
"""


class _Report:
    """What is shown of a collection. ``received`` and ``connections`` count since this process began."""

    def __init__(self) -> None:
        self.state = "waiting"
        self.since = datetime.now(UTC)
        self.reason: str | None = None
        self.hint: str | None = None
        self.session_id: str | None = None
        self.connections = 0
        self.received = 0
        self.of_session = 0
        self.last_received_at: datetime | None = None
        self.next_retry_at: datetime | None = None

    def change(self, state: str, reason: str | None, hint: str | None) -> bool:
        """Take in where it stands; whether the state is another."""
        changed = state != self.state
        if changed:
            self.since = datetime.now(UTC)
        self.state, self.reason, self.hint = state, reason, hint
        return changed

    @property
    def lasted_s(self) -> float:
        """How long the state has held."""
        return (datetime.now(UTC) - self.since).total_seconds()


class Supervisor:
    """Collects one dataset while it is wanted and its lease is ours, in a thread of its own, until stopped."""

    def __init__(
        self,
        settings: IngestionSettings,
        dataset: str,
        wanted: Callable[[], Collection | None],
        after_commit: AfterCommit,
    ) -> None:
        self._settings = settings
        self.dataset = dataset
        self._wanted = wanted
        self._after_commit = after_commit
        self._sessions = sessions_of(settings.market_calendar)
        dsn = settings.database_url.get_secret_value()
        self._dsn = dsn
        self._lease = Lease(dsn, dataset)
        self._spool = Spool(settings.spool_dir / "live" / dataset)
        self._spool_locked = False
        self._storer: Storer | None = None
        self._stop = threading.Event()
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._report = _Report()
        self._next_report = 0.0
        self._attempts = 0
        self._retry_at = 0.0
        self._retry_revision = -1
        self._without_replay = False
        self._clock_offset_ns = 0
        self._full = False
        gaps.count_from_the_start(dataset)
        # the connection that is on, and when a record last came in this session (monotonic)
        self._session: LiveSession | None = None
        self._heard: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"supervisor-{dataset}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; see :meth:`join`."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False when it did not come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def state(self) -> str:
        """Where it stands."""
        return self._report.state

    # -- the loop --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception:
                log.exception("supervisor_failed", dataset=self.dataset)
                self._show("backing_off", "an error in the collector; the log has it")
                self._stop.wait(1.0)
        if self._storer is not None:
            # what is left in the spool after that is stored by the next collector
            self._storer.drain(_DRAIN_S)
            self._storer.stop(_STOREKEEPING_S)
        self._show("waiting", "the collector was stopped", force=True)
        self._spool.release()
        self._lease.release()

    def _turn(self) -> None:
        """One step: make sure of what is needed, then collect until something ends it."""
        if not self._ready():
            self._stop.wait(_IDLE_S)
            return
        wanted = self._wanted()
        if wanted is None or not wanted.wanted:
            self._attempts = 0
            if self._report.state != "stopped" and self._storer is not None:
                self._storer.wind_up()
            self._show("stopped", "nothing is asked for")
            self._stop.wait(_IDLE_S)
        elif not self._room():
            self._show("disk_full", self._full_reason(), hint=_ROOM_HINT)
            self._stop.wait(_IDLE_S)
        elif time.monotonic() < self._retry_at and wanted.revision == self._retry_revision:
            self._show(self._report.state, self._report.reason, hint=self._report.hint)
            self._stop.wait(min(_IDLE_S, max(0.0, self._retry_at - time.monotonic())))
        else:
            self._collect(wanted)

    def _ready(self) -> bool:
        """Lease, spool and storer; what is in the spool is stored as soon as they are there."""
        if not self._lease.hold():
            if self._storer is not None:
                self._storer.stop(_STOREKEEPING_S)
                self._storer = None
            self._spool.release()
            self._spool_locked = False
            self._report.change("waiting", self._lease.error or "another collector has the lease", None)
            return False
        if not self._spool_locked:
            try:
                self._spool.acquire()
            except (SpoolBusyError, OSError) as error:
                self._show("waiting", str(error), hint="SPOOL_DIR must be writable, and used by one collector")
                return False
            self._spool_locked = True
        if self._storer is None:
            self._storer = self._make_storer()
            self._storer.start()
        if not self._storer.ready.is_set():
            self._show("waiting", self._storer.error or "reading where the last collector stopped")
            return False
        if not self._clock_offset_ns:
            self._clock_offset_ns = self._storer.clock_offset_ns
        return True

    def _make_storer(self) -> Storer:
        settings = self._settings
        return Storer(
            self._dsn,
            self.dataset,
            self._spool,
            Batching(settings.live_batch_records, settings.live_batch_ms / 1000, settings.live_max_batch_records),
            self._sessions,
            self._after_commit,
        )

    # -- one connection --------------------------------------------------------------------------------------------

    def _collect(self, wanted: Collection) -> None:
        assert self._storer is not None  # noqa: S101
        self._retry_revision = wanted.revision
        if self._settings.databento_api_key is None:
            self._back_off(verdicts.fatal("no API key", "set DATABENTO_API_KEY and start the collector again", 5.0))
            return
        starts = {schema: self._start_of(schema, wanted) for schema in wanted.schemas}
        try:
            opening = self._spool.begin(wanted.schemas, starts, self._storer.cursor.connection)
        except OSError as error:
            state = "disk_full" if error.errno in NO_ROOM else "backing_off"
            self._back_off(Verdict("no_spool", None, f"the spool cannot be written: {error}", state, least_wait_s=1.0))
            return
        self._without_replay = False
        stream = SpoolStream(self._spool, opening, self._limits())
        self._report.connections += 1
        self._report.of_session = 0
        self._show("connecting", None)
        try:
            verdict = self._hold(wanted, starts, stream)
        except Exception as error:
            # a fault of ours; the connection has ended all the same, and its end must be known
            log.exception("connection_failed", dataset=self.dataset)
            verdict = verdicts.disconnected(f"{type(error).__name__}: {error}")
        finally:
            stream.close()
        if stream.failure == "disk-full":
            verdict = self._disk_full()
        self._spool.end(opening.connection, Ending(verdict.evidence, verdict.reason, time.time_ns()))
        metrics.LIVE_CONNECTIONS.labels(self.dataset, verdict.end).inc()
        log.info("connection_ended", dataset=self.dataset, end=verdict.end, reason=verdict.reason)
        self._back_off(verdict)

    def _hold(self, wanted: Collection, starts: dict[str, int | None], stream: SpoolStream) -> Verdict:
        session = self._session = LiveSession(self._settings, self.dataset, stream)
        try:
            return self._watch(session, wanted, starts)
        finally:
            self._session = None
            session.close()
            self._count_received(session)

    def _start_of(self, schema: str, wanted: Collection) -> int | None:
        """From where to ask for replay: where storing stands, a little before it; None: from now."""
        assert self._storer is not None  # noqa: S101
        if self._without_replay:
            return None
        settings = self._settings
        resume = self._storer.resume.get(schema)
        if resume is None:
            start = self._first_start(schema, wanted)
        else:
            start = resume - int(settings.replay_overlap_s * 1e9)
        if not start:
            return start
        oldest = self._feed_now() - int(settings.replay_window_s * 1e9)
        return max(start, oldest, 1)

    def _first_start(self, schema: str, wanted: Collection) -> int | None:
        """From where to collect what never was; 0: from the beginning of what the feed can replay."""
        if wanted.replay_from_ns is not None:
            return wanted.replay_from_ns
        if schema in _DAILY:
            return 0
        asked_ns = wanted.requested_ns + self._clock_offset_ns
        if schema in _BY_THE_MINUTE:
            # so that nobody waits a minute for a first quote
            return asked_ns - _FIRST_MINUTES_NS
        # after failures: the feed was not there when it was asked for, and what came since is wanted too
        return asked_ns if self._attempts else None

    def _of_another_time(self, wanted: Collection, starts: dict[str, int | None], feed_ns: int) -> bool:
        """Whether our clock asked a feed whose clock is behind it (a tape) for what is its future."""
        assert self._storer is not None  # noqa: S101
        return wanted.replay_from_ns is None and any(
            start is not None and start > feed_ns + _SAME_CLOCK_NS and self._storer.resume.get(schema) is None
            for schema, start in starts.items()
        )

    def _limits(self) -> Limits:
        settings = self._settings
        return Limits(
            settings.live_part_bytes,
            settings.live_part_s,
            settings.live_sync_ms / 1000,
            settings.live_spool_max_bytes,
            settings.live_spool_min_free_bytes,
        )

    def _watch(self, session: LiveSession, wanted: Collection, starts: dict[str, int | None]) -> Verdict:
        """Stay with a connection until something ends it."""
        connecting = session.connect(wanted.schemas, wanted.symbols, wanted.stype_in, starts)
        replays = sum(start is not None for start in starts.values())
        completed = 0
        note: str | None = None
        while not connecting.done():
            if verdict := self._outside(session, wanted):
                return verdict
            self._show("authenticating" if session.authenticating else "connecting", None)
            self._stop.wait(_TICK_S)
        if error := connecting.exception():
            if not isinstance(error, ConnectError):
                raise error
            return verdicts.of_connect_error(error, **self._patience())
        self._report.session_id = session.session_id
        self._show("subscribing", None)
        while True:
            for control in session.controls():
                if not control.error:
                    self._learn_clock(control.at_ns)
                    completed += control.code == REPLAY_COMPLETED
                    if control.code == ACK and self._of_another_time(wanted, starts, control.at_ns):
                        return Verdict("clock", None, "the feed's clock is not ours", state="connecting", counts=False)
                    if control.code == ACK and self._report.state == "subscribing":
                        self._show("replaying" if completed < replays else "streaming", note)
                    continue
                if verdict := verdicts.of_error_message(control, **self._patience()):
                    return verdict
                note = control.text
            if verdict := self._outside(session, wanted) or self._inside(session, wanted):
                return verdict
            self._count_received(session)
            if self._report.state == "replaying" and completed >= replays:
                self._show("streaming", note)
            self._show(self._report.state, note, hint=_SYMBOLS_HINT if note else None)
            if self._report.state == "streaming" and self._report.lasted_s >= self._settings.stable_after_s:
                self._attempts = 0
            self._stop.wait(_TICK_S)

    def _patience(self) -> dict[str, float]:
        return {
            "fatal_retry_s": self._settings.fatal_retry_s,
            "limit_wait_s": self._settings.connection_limit_wait_s,
        }

    def _outside(self, session: LiveSession, wanted: Collection) -> Verdict | None:
        """What ends a connection for reasons that are not the feed's."""
        if self._stop.is_set():
            return Verdict("shutdown", "restart", "the collector was stopped", state="waiting", counts=False)
        now_wanted = self._wanted()
        if now_wanted is not None and now_wanted.revision != wanted.revision:
            if now_wanted.wanted:
                return Verdict("changed", "restart", "the collection was changed", state="connecting", counts=False)
            return Verdict("stopped", None, "stopped on request", state="stopped", counts=False)
        if not self._lease.hold():
            return Verdict("lease", "restart", "another collector took over", state="waiting", counts=False)
        if session.stream.failure is not None:
            if session.stream.failure == "disk-full":
                return self._disk_full()
            return verdicts.disconnected(session.stream.failure)
        return None

    def _inside(self, session: LiveSession, wanted: Collection) -> Verdict | None:
        """What ends a connection because of the feed."""
        if session.closed:
            # what it said last may explain its end
            for control in session.controls():
                if control.error and (verdict := verdicts.of_error_message(control, **self._patience())):
                    return verdict
            return verdicts.disconnected(session.cause)
        silence = session.silence_s
        if silence > self._settings.heartbeat_s + _SILENCE_MARGIN_S:
            return Verdict("mute", "mute", f"nothing came for {silence:.0f} s, not even a heartbeat", state="mute")
        limit = self._drought_limit_s(wanted.schemas)
        drought = session.drought_s
        if limit is not None and drought > limit and self._in_session(limit):
            return Verdict("mute", "mute", f"no record came for {drought:.0f} s in a session", state="mute")
        return None

    def _drought_limit_s(self, schemas: Sequence[str]) -> float | None:
        """How long a session may go without any record of these schemas; None: for as long as it likes."""
        if _STEADY.intersection(schemas):
            return self._settings.mute_after_s
        if _BY_THE_MINUTE.intersection(schemas):
            return max(self._settings.mute_after_s, _LEAST_MINUTE_S)
        return None

    def _in_session(self, since_s: float) -> bool:
        """Whether the market is open, and has been for so long."""
        now = self._feed_now()
        times = np.array([now - int(since_s * 1e9), now])
        index = self._sessions.index_of(times)
        around_the_clock = self._sessions.regular_ns >= 86_400_000_000_000
        return bool(index[1] >= 0 and (index[0] == index[1] or (around_the_clock and index[0] >= 0)))

    def _silence_s(self) -> float:
        """How long no record has come, over all connections, of the session that is on; 0 when none is wanted."""
        now_ns = self._feed_now()
        index = int(self._sessions.index_of(np.array([now_ns]))[0])
        wanted = self._wanted()
        if index < 0 or wanted is None or not wanted.wanted:
            self._heard = None
            return 0.0
        now = time.monotonic()
        if self._heard is None:
            self._heard = now
        if self._session is not None and self._session.stream.last_data is not None:
            self._heard = max(self._heard, self._session.stream.last_data)
        return min(now - self._heard, (now_ns - int(self._sessions.opens[index])) / 1e9)

    def _disk_full(self) -> Verdict:
        self._full = True
        return Verdict("disk_full", "disk-full", self._full_reason(), state="disk_full", counts=False)

    def _back_off(self, verdict: Verdict) -> None:
        wait = 0.0
        if verdict.counts:
            self._attempts += 1
            settings = self._settings
            wait = verdicts.jittered(self._attempts, settings.reconnect_base_s, settings.reconnect_cap_s)
        wait = max(wait, verdict.least_wait_s)
        self._without_replay = verdict.without_replay
        self._retry_at = time.monotonic() + wait
        self._report.session_id = None
        self._report.next_retry_at = datetime.now(UTC) + timedelta(seconds=wait) if verdict.counts else None
        self._show(verdict.state, verdict.reason, hint=verdict.hint, force=True, keep_retry=True)

    # -- room, clock, reports --------------------------------------------------------------------------------------

    def _room(self) -> bool:
        """Whether the spool may grow; after it was full only once a good part of it is free again."""
        limits = self._limits()
        if self._full:
            more = int(limits.max_bytes * (1 - _ROOM_AGAIN))
            self._full = not has_room(self._spool, limits, more)
        elif not has_room(self._spool, limits):
            self._full = True
        return not self._full

    def _full_reason(self) -> str:
        used, most, free = self._spool.bytes(), self._settings.live_spool_max_bytes, self._spool.free_bytes()
        text = f"no room for the live spool: it holds {used} of {most} bytes, {free} are free"
        if self._storer is not None and self._storer.error:
            text += f"; storing fails: {self._storer.error}"
        return text

    def _feed_now(self) -> int:
        return time.time_ns() + self._clock_offset_ns

    def _learn_clock(self, at_ns: int) -> None:
        offset = at_ns - time.time_ns()
        self._clock_offset_ns = offset if abs(offset) > _SAME_CLOCK_NS else 0
        if self._storer is not None:
            self._storer.clock_offset_ns = self._clock_offset_ns

    def _count_received(self, session: LiveSession) -> None:
        new = session.stream.received - self._report.of_session
        if new:
            metrics.LIVE_RECEIVED.labels(self.dataset).inc(new)
            self._report.received += new
            self._report.last_received_at = datetime.now(UTC)
        self._report.of_session = session.stream.received

    def _show(
        self,
        state: str,
        reason: str | None,
        *,
        hint: str | None = None,
        force: bool = False,
        keep_retry: bool = False,
    ) -> None:
        """Report the state: at once when it changed, else once a second."""
        report = self._report
        if not keep_retry and state not in ("backing_off", "failed", "mute"):
            report.next_retry_at = None
        changed = report.change(state, reason, hint)
        now = time.monotonic()
        if not changed and not force and now < self._next_report:
            return
        self._next_report = now + _REPORT_S
        if changed:
            log.info("collection_state", dataset=self.dataset, state=state, reason=reason)
        for name in STATES:
            metrics.LIVE_STATE.labels(self.dataset, name).set(name == state)
        size = self._spool.bytes() if self._spool_locked else 0
        metrics.LIVE_SPOOL_BYTES.labels(self.dataset).set(size)
        metrics.LIVE_SILENCE.labels(self.dataset).set(self._silence_s())
        metrics.LIVE_SPOOL_AGE.labels(self.dataset).set(self._spool.oldest_age_s() if self._spool_locked else 0)
        self._lease.execute(
            _REPORT,
            {
                "dataset": self.dataset,
                "state": report.state,
                "since": report.since,
                "reason": report.reason,
                "hint": report.hint,
                "attempts": self._attempts,
                "next_retry_at": report.next_retry_at,
                "holder": self._holder,
                "session_id": report.session_id,
                "connections": report.connections,
                "received": report.received,
                "last_received_at": report.last_received_at,
                "spool_bytes": size,
                "store_error": self._storer.error if self._storer is not None else None,
                "offset": self._clock_offset_ns,
            },
        )
