"""From the live spool into the database: rows, cursor, resume points and gap ledger in one transaction.

The storer reads files, never memory, and only what is synced. It is the one that knows, in the order of the feed, up to
which index time everything is stored; so it opens and closes the gaps of the feed: at the end of a connection
(stated in the spool, or missing there after a kill), at the feed's word that it skipped records, that a replay is
complete, or that it reaches back no further.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import psycopg2
import psycopg2.errors
import structlog
from numpy.typing import NDArray

from ots_common.database import Connection, connect
from ots_ingestion import dead_letters, gaps, metrics
from ots_ingestion.batch_store import SYMBOL_MAPPING, BatchStore, Outcome
from ots_ingestion.dbn_file import group_records, layouts_of, read_header, walk_whole
from ots_ingestion.identity import pack_repeats, unpack_repeats
from ots_ingestion.layouts import schema_of
from ots_ingestion.live_session import ACK, REPLAY_COMPLETED, SKIPPED, Control, read_control
from ots_ingestion.segments import ERROR, SYSTEM, Opening, Spool, header_length, read_part
from ots_ingestion.symbology import Symbology
from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS

log = structlog.get_logger(__name__)

_RECORD_BYTES = 80  # a quote; how many bytes so many records are, about
_MAX_BACKOFF_S = 5.0
_ACK_LATE_NS = 5_000_000_000
_TRANSIENT = (
    psycopg2.errors.DiskFull,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.SerializationFailure,
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.QueryCanceled,
)

# (dataset, instruments touched, their minute bars as in Outcome.bars, newest index time) after each commit
AfterCommit = Callable[[str, set[int], set[int], int], None]


class CursorMovedError(Exception):
    """Somebody else stored from this spool."""


class RecordBuried(Exception):
    """A record that cannot be stored lies among the dead letters; to go on, the cursor must be read again."""


@dataclass(frozen=True)
class Batching:
    """When a transaction is begun: at so many records or after so long; and how many records it takes at most."""

    records: int
    wait_s: float
    most: int


@dataclass(frozen=True)
class Cursor:
    """How far the spool is stored; see the table ``collection_cursors``."""

    connection: int = 0
    part: int = 1
    position: int = 0
    ended: bool = True
    stopped: bool = True
    broken: bool = False
    repeats: bytes = b""


@dataclass
class _Reading:
    """What is held in memory about the connection that is being stored."""

    opening: Opening
    batches: BatchStore
    symbology: Symbology
    layouts: dict[int, np.dtype[Any]] | None = None
    # schemas whose replay did not reach back to where they were left; settled at the feed's first word of its time
    unsettled: set[str] = field(default_factory=set)
    completed: int = 0


class Storer:
    """Stores one dataset's spool, in a thread of its own, until stopped. The database may come and go."""

    def __init__(
        self,
        dsn: str,
        dataset: str,
        spool: Spool,
        batching: Batching,
        sessions: Sessions,
        after_commit: AfterCommit,
    ) -> None:
        self._dsn = dsn
        self._dataset = dataset
        self._spool = spool
        self._batching = batching
        self._sessions = sessions
        self._after_commit = after_commit
        self._stop = threading.Event()
        self._winding_up = threading.Event()
        self._most = batching.most
        self._waiting_since: float | None = None
        self._read_at = 0.0
        self.ready = threading.Event()
        self.error: str | None = None
        # schema -> where a replay must begin (ns), as committed; None: nothing was ever stored
        self.resume: dict[str, int | None] = {}
        self.cursor = Cursor()
        # the feed's clock less ours
        self.clock_offset_ns = 0
        self._thread = threading.Thread(target=self._run, name=f"store-{dataset}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that is in the spool is stored; False when the time was too short for it."""
        deadline = time.monotonic() + timeout_s
        while not self.cursor.ended or any(n > self.cursor.connection for n in self._spool.connections()):
            if self.error is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def wind_up(self) -> None:
        """Nothing more is wanted for now: what is missing ends here, and may be repaired."""
        self._winding_up.set()
        with self._spool.changed:
            self._spool.changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """End after the transaction in hand."""
        self._stop.set()
        with self._spool.changed:
            self._spool.changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        backoff = 0.1
        while not self._stop.is_set():
            moved = self.cursor
            try:
                self._follow()
            except (psycopg2.OperationalError, psycopg2.InterfaceError, *_TRANSIENT) as error:
                self._failed(error)
            except (OSError, CursorMovedError) as error:
                self._failed(error)
            except RecordBuried:
                continue
            except Exception as error:
                # the batch holds something that cannot be stored: look for it in ever smaller ones
                # as text: a console's traceback shows locals, and writing a batch of records out takes half a minute
                log.error("live_batch_failed", dataset=self._dataset, records=self._most, trace=traceback.format_exc())
                self._failed(error)
                self._most = max(1, self._most // 8)
                continue
            backoff = 0.1 if self.cursor != moved else min(backoff * 2, _MAX_BACKOFF_S)
            self._stop.wait(backoff)

    def _failed(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {str(error).strip()}"
        if text != self.error:
            log.warning("live_store_failed", dataset=self._dataset, error=text)
        self.error = text
        metrics.LIVE_STORE_FAILURES.labels(self._dataset, type(error).__name__).inc()

    def _follow(self) -> None:
        connection = connect(self._dsn, application="collector-storer")
        try:
            self._load(connection)
            reading = self._open(self.cursor) if not self.cursor.ended else None
            self.error = None
            self.ready.set()
            while not self._stop.is_set():
                reading = self._step(connection, reading)
                self.error = None
        finally:
            connection.close()

    def _load(self, connection: Connection) -> None:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT connection, part, position, ended, stopped, broken, repeats FROM collection_cursors"
                " WHERE dataset = %s AND spool_id = %s",
                (self._dataset, self._spool.spool_id),
            )
            row = cursor.fetchone()
            self.cursor = Cursor() if row is None else _cursor_of(row)
            cursor.execute("SELECT schema, resume_ns FROM collection_schemas WHERE dataset = %s", (self._dataset,))
            self.resume = dict(cursor.fetchall())
            cursor.execute("SELECT clock_offset_ns FROM collection_states WHERE dataset = %s", (self._dataset,))
            self.clock_offset_ns = int((cursor.fetchone() or (0,))[0])
        self._take_over(connection)

    def _take_over(self, connection: Connection) -> None:
        """State what a collector with another spool left when it died: its files may never be seen again."""
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT ended, stopped FROM collection_cursors WHERE dataset = %(dataset)s AND spool_id <> %(spool)s"
                " AND moved_at > coalesce((SELECT moved_at FROM collection_cursors WHERE dataset = %(dataset)s"
                " AND spool_id = %(spool)s), '-infinity') ORDER BY moved_at DESC LIMIT 1",
                {"dataset": self._dataset, "spool": self._spool.spool_id},
            )
            row = cursor.fetchone()
            if row is None:
                return
            ended, stopped = row
            moved = replace(self.cursor, stopped=bool(ended and stopped))
            self._set_cursor(connection, moved)
            if not ended:
                cursor.execute("SELECT schemas FROM collections WHERE dataset = %s", (self._dataset,))
                for schema in (cursor.fetchone() or ([],))[0]:
                    self._open_gap(cursor, schema, None, "restart", "a collector on another machine stopped")
        self.cursor = moved

    # -- reading ---------------------------------------------------------------------------------------------------

    def _step(self, connection: Connection, reading: _Reading | None) -> _Reading | None:
        """Store one batch, or pass on to the next part or connection, or wait for more."""
        cursor = self.cursor
        if reading is None:
            return self._next_connection(connection)
        readable, final = self._spool.readable(cursor.connection, cursor.part)
        path = self._spool.part_path(cursor.connection, cursor.part)
        position = cursor.position
        if position == 0 and readable:
            position = header_length(path) or 0
        if reading.layouts is None and position:
            reading.layouts = layouts_of(read_header(path))
        if position and readable > position:
            return self._take(connection, reading, replace(cursor, position=position), readable, final)
        if not final:
            self._wait()
            return reading
        return self._pass_on(connection, reading)

    def _take(
        self, connection: Connection, reading: _Reading, cursor: Cursor, readable: int, final: bool
    ) -> _Reading | None:
        enough = min(self._batching.records, self._most) * _RECORD_BYTES
        if not final and readable - cursor.position < enough and not self._waited_long_enough():
            self._wait()
            return reading
        self._waiting_since = None
        self._read_at = time.monotonic()
        path = self._spool.part_path(cursor.connection, cursor.part)
        data = read_part(path, cursor.position, min(readable, cursor.position + self._most * 2 * _RECORD_BYTES + 4096))
        buffer = np.frombuffer(data, np.uint8)
        offsets, end, sound = walk_whole(buffer)
        if len(offsets) > self._most:
            end = int(offsets[self._most])
            offsets = offsets[: self._most]
        if len(offsets):
            self._store(connection, reading, buffer, offsets, replace(cursor, position=cursor.position + end))
            return reading
        if final and (not sound or readable - cursor.position == len(data)):
            log.warning("live_spool_torn", dataset=self._dataset, path=path.name, bytes=readable - cursor.position)
            return self._pass_on(connection, reading)
        self._wait()
        return reading

    def _pass_on(self, connection: Connection, reading: _Reading) -> _Reading | None:
        """Everything of a part is stored: to the next part, or to the end of the connection."""
        cursor = self.cursor
        if self._spool.has_part(cursor.connection, cursor.part + 1):
            self._move(connection, replace(cursor, part=cursor.part + 1, position=0))
            reading.layouts = None
            self._spool.remove_part(cursor.connection, cursor.part)
            return reading
        ending = self._spool.ending(cursor.connection)
        if ending is None:
            self._wait()
            return reading
        with connection, connection.cursor() as database:
            stopped = ending.evidence is None
            moved = replace(cursor, ended=True, stopped=stopped, repeats=b"")
            self._set_cursor(connection, moved)
            if ending.evidence is not None:
                for schema in reading.opening.schemas:
                    began_ns = self._began(reading.opening, schema)
                    self._open_gap(database, schema, None, ending.evidence, ending.detail, began_ns=began_ns)
            else:
                # what is missing is known now, and may be repaired; should collection go on, replay closes it
                for gap in self._pending(database):
                    gaps.end_gap(database, gap, ending.ended_ns + self.clock_offset_ns)
        self.cursor = moved
        self._spool.remove_connection(cursor.connection)
        return None

    def _next_connection(self, connection: Connection) -> _Reading | None:
        following = [number for number in self._spool.connections() if number > self.cursor.connection]
        if not following:
            if self._winding_up.is_set():
                self._end_pending(connection)
            self._wait()
            return None
        opening = self._spool.opening(following[0])
        if opening is None:
            # killed while it was written: the connection was never made
            self._spool.remove_connection(following[0])
            return None
        moved = Cursor(opening.connection, 1, 0, ended=False, stopped=self.cursor.stopped)
        with connection, connection.cursor() as database:
            self._set_cursor(connection, moved)
            self._leave_to_repair(database, opening)
        self.cursor = moved
        return self._open(self.cursor)

    def _open(self, cursor: Cursor) -> _Reading | None:
        """Take up a connection where the cursor stands in it."""
        opening = self._spool.opening(cursor.connection)
        if opening is None:
            raise FileNotFoundError(f"connection {cursor.connection} of {self._dataset} is gone from the spool")
        symbology = Symbology(self._dataset, [])
        batches = BatchStore(
            symbology,
            _schemas_of(opening),
            keep=False,
            origin=f"live {self._dataset} connection {opening.connection}",
        )
        batches.repeats.update(unpack_repeats(cursor.repeats))
        reading = _Reading(opening, batches, symbology)
        reading.unsettled = {schema for schema in opening.schemas if not self._reaches_back(opening, schema)}
        path = self._spool.part_path(cursor.connection, cursor.part)
        if cursor.position:
            reading.layouts = layouts_of(read_header(path))
            self._recall(reading, header_length(path) or 0, cursor.position)
        return reading

    def _reaches_back(self, opening: Opening, schema: str) -> bool:
        start, resume = opening.starts.get(schema), self.resume.get(schema)
        return start is not None and (resume is None or start <= resume)

    def _recall(self, reading: _Reading, begin: int, end: int) -> None:
        """Learn the mappings that were stored already; the counters of repeats came with the cursor."""
        path = self._spool.part_path(reading.opening.connection, self.cursor.part)
        at = begin
        while at < end:
            buffer = np.frombuffer(read_part(path, at, min(end, at + 4 * 2**20)), np.uint8)
            offsets, length, _ = walk_whole(buffer)
            if not len(offsets):
                raise OSError(f"{path.name} has changed before byte {end}")
            mappings = offsets[buffer[offsets + 1] == SYMBOL_MAPPING]
            assert reading.layouts is not None  # noqa: S101
            if len(mappings):
                reading.batches.learn_mappings(group_records(buffer, mappings, reading.layouts))
            at += length

    def _waited_long_enough(self) -> bool:
        now = time.monotonic()
        if self._waiting_since is None:
            # what came while the last batch was stored waits since then
            self._waiting_since = self._read_at
        return now - self._waiting_since >= self._batching.wait_s

    def _wait(self) -> None:
        pause = self._batching.wait_s
        if self._waiting_since is not None:
            pause = max(0.001, self._waiting_since + self._batching.wait_s - time.monotonic())
        with self._spool.changed:
            if not self._stop.is_set():
                self._spool.changed.wait(pause)

    # -- storing ---------------------------------------------------------------------------------------------------

    def _store(
        self,
        connection: Connection,
        reading: _Reading,
        buffer: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        moved: Cursor,
    ) -> None:
        began = time.monotonic()
        outcomes: list[Outcome] = []
        resume = dict(self.resume)
        assert reading.layouts is not None  # noqa: S101
        try:
            with connection, connection.cursor() as database:
                for piece, controls in self._pieces(reading, buffer, offsets):
                    groups = group_records(buffer, piece, reading.layouts) if len(piece) else {}
                    outcome = reading.batches.store(connection, groups)
                    outcomes.append(outcome)
                    self._advance(database, reading, outcome, moved, resume)
                    for control in controls:
                        moved = self._heed(database, reading, control, moved, resume)
                moved = replace(moved, repeats=pack_repeats(reading.batches.repeats))
                self._set_cursor(connection, moved)
        except (psycopg2.OperationalError, psycopg2.InterfaceError, CursorMovedError, OSError, *_TRANSIENT):
            raise
        except Exception as error:
            if len(offsets) > 1:
                raise
            log.error("live_record_refused", dataset=self._dataset, error=f"{type(error).__name__}: {error}".strip())
            self._bury(connection, buffer, offsets, moved, error)
            # what the batch left in memory belongs to rows that were rolled back
            raise RecordBuried from error
        self.cursor, self.resume = moved, resume
        self._most = min(self._batching.most, self._most * 2)
        self._committed(reading, outcomes, began)

    def _committed(self, reading: _Reading, outcomes: list[Outcome], began: float) -> None:
        now = time.time_ns() + self.clock_offset_ns
        touched: set[int] = set()
        bars: set[int] = set()
        newest = 0
        for outcome in outcomes:
            metrics.count_batch(self._dataset, outcome.counts)
            touched |= outcome.touched
            bars |= outcome.bars
            newest = max([newest, *outcome.newest.values()])
            for index_ns in outcome.index_ns:
                metrics.LIVE_LAG.observe(self._dataset, index_ns, now)
        metrics.LIVE_BATCH_SECONDS.labels(self._dataset).set(time.monotonic() - began)
        if newest:
            reading.symbology.forget_before(newest // DAY_NS - 2)
            self._after_commit(self._dataset, touched, bars, newest)

    def _pieces(
        self, reading: _Reading, buffer: NDArray[np.uint8], offsets: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], list[Control]]]:
        """A batch cut where what was said of an id changes, and behind each message that changes the ledger.

        A piece is yielded when the ones before it are stored, so that it is cut by what they taught.
        """
        kinds = buffer[offsets + 1]
        watched = np.flatnonzero((kinds == SYMBOL_MAPPING) | (kinds == ERROR) | (kinds == SYSTEM))
        first = 0
        said: dict[tuple[int, int], str] = {}
        for at in watched.tolist():
            start = int(offsets[at])
            record = buffer[start : start + int(buffer[start]) * 4].tobytes()
            if record[1] != SYMBOL_MAPPING:
                control = read_control(record)
                if _matters(control):
                    yield offsets[first : at + 1], [control]
                    first, said = at + 1, {}
                continue
            assert reading.layouts is not None  # noqa: S101
            mapping = np.frombuffer(record, reading.layouts[SYMBOL_MAPPING])[0]
            key = int(mapping["instrument_id"]), int(mapping["start_ts"]) // DAY_NS
            symbol = mapping["stype_out_symbol"].decode()
            if said.get(key, reading.symbology.mapped(*key) or symbol) != symbol:
                yield offsets[first:at], []
                first, said = at, {}
            said[key] = symbol
        if first < len(offsets):
            yield offsets[first:], []

    def _advance(
        self,
        database: psycopg2.extensions.cursor,
        reading: _Reading,
        outcome: Outcome,
        moved: Cursor,
        resume: dict[str, int | None],
    ) -> None:
        """What is known of each schema after a piece. Behind a skip of the feed nothing moves where replay begins."""
        if reading.unsettled & outcome.newest.keys():
            # a feed that acknowledges nothing: its first record says where it begins
            self._settle(database, reading, min(int(t.min()) for t in outcome.index_ns), moved, resume)
        for schema, newest in outcome.newest.items():
            before = resume.get(schema)
            resume[schema] = before if moved.broken else max(before or 0, newest)
            database.execute(
                "INSERT INTO collection_schemas AS c (dataset, schema, resume_ns, last_ns, records, replayed)"
                " VALUES (%(dataset)s, %(schema)s, %(resume)s, %(newest)s, %(stored)s, %(stored)s)"
                " ON CONFLICT (dataset, schema) DO UPDATE SET resume_ns = excluded.resume_ns,"
                " last_ns = greatest(c.last_ns, excluded.last_ns), records = c.records + excluded.records,"
                " replayed = c.replayed + excluded.replayed",
                {
                    "dataset": self._dataset,
                    "schema": schema,
                    "resume": resume[schema],
                    "newest": newest,
                    "stored": outcome.stored.get(schema, 0),
                },
            )

    # -- the ledger ------------------------------------------------------------------------------------------------

    def _heed(
        self,
        database: psycopg2.extensions.cursor,
        reading: _Reading,
        control: Control,
        moved: Cursor,
        resume: dict[str, int | None],
    ) -> Cursor:
        """Do what a message of the feed means for the ledger."""
        if not control.error and control.code == ACK:
            self._settle(database, reading, control.at_ns, moved, resume)
        elif not control.error and control.code == REPLAY_COMPLETED:
            reading.completed += 1
            for schema in self._completed(reading, control):
                if not moved.broken:
                    self._close_gaps(database, schema, control.at_ns)
        elif control.error and control.code == SKIPPED:
            for schema in reading.opening.schemas:
                began_ns = self._began(reading.opening, schema)
                self._open_gap(database, schema, None, "skipped", control.text, resume, began_ns=began_ns)
            return replace(moved, broken=True)
        return moved

    def _completed(self, reading: _Reading, control: Control) -> list[str]:
        """The schemas whose replay is complete: the one that the message names, else all when each has been said."""
        asked = [schema for schema in reading.opening.schemas if reading.opening.starts.get(schema) is not None]
        words = control.text.replace(",", " ").split()
        if named := [schema for schema in asked if schema in words]:
            return named
        return asked if reading.completed >= len(asked) else []

    def _settle(
        self,
        database: psycopg2.extensions.cursor,
        reading: _Reading,
        feed_ns: int,
        moved: Cursor,
        resume: dict[str, int | None],
    ) -> None:
        """What lies between where a schema was left and where this connection begins does not come by replay."""
        for schema in sorted(reading.unsettled):
            start = reading.opening.starts.get(schema)
            boundary = feed_ns if start is None else start
            left_at = resume.get(schema)
            pending = self._pending(database, schema)
            if left_at is None and pending:
                database.execute("SELECT min(starts_ns) FROM gaps WHERE gap_id = ANY(%s)", (pending,))
                left_at = (database.fetchone() or (None,))[0]
            if left_at is not None and left_at < boundary and (pending or not moved.stopped):
                nothing_traded = self._sessions.between(left_at, boundary)
                empty = nothing_traded.start == nothing_traded.stop
                detail = "the feed's replay does not reach back so far"
                found = [*pending, self._state_gap(database, schema, left_at, boundary, "aged-out", detail)]
                for gap in found:
                    gaps.end_gap(database, gap, boundary)
                    if empty:
                        gaps.close_gap(database, gap, closed_by="session", found=0)
                database.execute("DELETE FROM collection_pending_gaps WHERE gap_id = ANY(%s)", (found,))
            # the feed takes its time to acknowledge what it already sends
            resume[schema] = boundary if start is not None else max(boundary - _ACK_LATE_NS, left_at or 0)
            database.execute(
                "INSERT INTO collection_schemas (dataset, schema, resume_ns) VALUES (%s, %s, %s)"
                " ON CONFLICT (dataset, schema) DO UPDATE SET resume_ns = excluded.resume_ns, replayed = 0",
                (self._dataset, schema, resume[schema]),
            )
        reading.unsettled.clear()

    def _open_gap(
        self,
        database: psycopg2.extensions.cursor,
        schema: str,
        ends_ns: int | None,
        evidence: str,
        detail: str,
        resume: dict[str, int | None] | None = None,
        *,
        began_ns: int | None = None,
    ) -> None:
        """State that what comes after the last record stored is missing, until a replay has brought it.

        ``began_ns``: from when on it was asked for; that counts when nothing of it ever came.
        """
        starts_ns = (self.resume if resume is None else resume).get(schema)
        if starts_ns is None:
            starts_ns = began_ns
        if starts_ns is None:
            return
        if not self._pending(database, schema):
            database.execute(
                "UPDATE collection_schemas SET replayed = 0 WHERE dataset = %s AND schema = %s", (self._dataset, schema)
            )
        gap = self._state_gap(database, schema, starts_ns, ends_ns, evidence, detail)
        database.execute(
            "INSERT INTO collection_pending_gaps (gap_id, dataset, schema) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (gap, self._dataset, schema),
        )

    def _state_gap(
        self,
        database: psycopg2.extensions.cursor,
        schema: str,
        starts_ns: int,
        ends_ns: int | None,
        evidence: str,
        detail: str,
    ) -> int:
        metrics.LIVE_GAPS.labels(self._dataset, evidence, "opened").inc()
        return gaps.open_gap(
            database,
            dataset=self._dataset,
            schema=schema,
            symbol=None,
            starts_ns=starts_ns,
            ends_ns=ends_ns,
            evidence=evidence,
            detail=detail,
        )

    def _close_gaps(self, database: psycopg2.extensions.cursor, schema: str, ends_ns: int) -> None:
        """The replay has passed: all that was pending of this schema is stored."""
        pending = self._pending(database, schema)
        if not pending:
            return
        database.execute(
            "SELECT replayed FROM collection_schemas WHERE dataset = %s AND schema = %s", (self._dataset, schema)
        )
        found = int((database.fetchone() or (0,))[0])
        for gap in pending:
            gaps.end_gap(database, gap, ends_ns)
            gaps.close_gap(database, gap, closed_by="replay", found=found)
            metrics.LIVE_GAPS.labels(self._dataset, "any", "closed").inc()
        database.execute("DELETE FROM collection_pending_gaps WHERE gap_id = ANY(%s)", (pending,))

    def _leave_to_repair(self, database: psycopg2.extensions.cursor, opening: Opening) -> None:
        """No replay will come of a schema that is not subscribed any more: its gaps are over, and stay open."""
        database.execute(
            "DELETE FROM collection_pending_gaps WHERE dataset = %s AND schema <> ALL(%s) RETURNING gap_id",
            (self._dataset, list(opening.schemas)),
        )
        for row in database.fetchall():
            gaps.end_gap(database, int(row[0]), opening.opened_ns + self.clock_offset_ns)

    def _began(self, opening: Opening, schema: str) -> int:
        """From when on a connection was asked for a schema, by the feed's clock (0 asks for whatever it can replay)."""
        return opening.starts.get(schema) or opening.opened_ns + self.clock_offset_ns

    def _end_pending(self, connection: Connection) -> None:
        with connection, connection.cursor() as database:
            database.execute(
                "SELECT g.gap_id FROM collection_pending_gaps p JOIN gaps g USING (gap_id)"
                " WHERE p.dataset = %s AND g.ends_ns IS NULL",
                (self._dataset,),
            )
            for (gap,) in database.fetchall():
                gaps.end_gap(database, int(gap), time.time_ns() + self.clock_offset_ns)
        self._winding_up.clear()

    def _pending(self, database: psycopg2.extensions.cursor, schema: str | None = None) -> list[int]:
        database.execute(
            "SELECT gap_id FROM collection_pending_gaps WHERE dataset = %(dataset)s"
            " AND (%(schema)s::text IS NULL OR schema = %(schema)s) ORDER BY gap_id",
            {"dataset": self._dataset, "schema": schema},
        )
        return [int(row[0]) for row in database.fetchall()]

    # -- the cursor ------------------------------------------------------------------------------------------------

    def _move(self, connection: Connection, moved: Cursor) -> None:
        with connection:
            self._set_cursor(connection, moved)
        self.cursor = moved

    def _set_cursor(self, connection: Connection, moved: Cursor) -> None:
        """Move the cursor from where this storer knows it. Raises :class:`CursorMovedError` when it is not there."""
        old = self.cursor
        with connection.cursor() as database:
            database.execute(
                "INSERT INTO collection_cursors AS c"
                " (dataset, spool_id, connection, part, position, ended, stopped, broken, repeats)"
                " VALUES (%(dataset)s, %(spool)s, %(connection)s, %(part)s, %(position)s, %(ended)s, %(stopped)s,"
                " %(broken)s, %(repeats)s) ON CONFLICT (dataset, spool_id) DO UPDATE SET"
                " connection = excluded.connection, part = excluded.part, position = excluded.position,"
                " ended = excluded.ended, stopped = excluded.stopped, broken = excluded.broken,"
                " repeats = excluded.repeats, moved_at = now()"
                " WHERE (c.connection, c.part, c.position) = (%(old_connection)s, %(old_part)s, %(old_position)s)",
                {
                    "dataset": self._dataset,
                    "spool": self._spool.spool_id,
                    "connection": moved.connection,
                    "part": moved.part,
                    "position": moved.position,
                    "ended": moved.ended,
                    "stopped": moved.stopped,
                    "broken": moved.broken,
                    "repeats": psycopg2.Binary(moved.repeats),
                    "old_connection": old.connection,
                    "old_part": old.part,
                    "old_position": old.position,
                },
            )
            if database.rowcount != 1:
                raise CursorMovedError(f"the cursor of {self._dataset} is not at {old}")

    def _bury(
        self,
        connection: Connection,
        buffer: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        moved: Cursor,
        error: Exception,
    ) -> None:
        """Keep the one record that the database refuses, and go on behind it."""
        start = int(offsets[0])
        record = buffer[start : start + int(buffer[start]) * 4].tobytes()
        with connection, connection.cursor() as database:
            dead_letters.bury(
                database,
                dataset=self._dataset,
                schema=schema_of(record[1], None) or f"rtype-{record[1]}",
                reason=f"refused: {type(error).__name__}",
                records=record,
                origin=f"live {self._dataset} connection {moved.connection}",
                first_ns=None,
            )
            self._set_cursor(connection, moved)
        self.cursor = moved


def _cursor_of(row: tuple[Any, ...]) -> Cursor:
    connection, part, position, ended, stopped, broken, repeats = row
    return Cursor(connection, part, position, ended, stopped, broken, bytes(repeats))


def _schemas_of(opening: Opening) -> Callable[[int], str | None]:
    """What record types mean on a connection: a live stream does not say, but what was asked of it does."""
    own = {}
    if "tbbo" in opening.schemas:
        own[1] = "tbbo"
    if "tcbbo" in opening.schemas:
        own[177] = "tcbbo"

    def schema(rtype: int) -> str | None:
        return own.get(rtype) or schema_of(rtype, None)

    return schema


def _matters(control: Control) -> bool:
    return control.code == SKIPPED if control.error else control.code in (ACK, REPLAY_COMPLETED)
