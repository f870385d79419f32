"""The live spool: what a feed sent, as files, synced to the disk before anything is stored.

A folder a dataset. Each connection to the feed has a number and leaves behind:
  0000000012.open.json      what was asked of it, written before its first record
  0000000012-000001.dbn     its records, in parts; each part is a DBN file that can be read alone, because it begins
                            with the connection's metadata and the symbol mappings that held when it was begun
  0000000012.end.json       how it ended, written after its last record. A connection without one was killed.

One process at a time writes to the folder (a file lock), one storer reads it. The end of a part that was being written
when a machine died may be torn; what is behind the last whole record there is nothing, and comes again by replay.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import struct
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger(__name__)

SYMBOL_MAPPING, ERROR, SYSTEM = 22, 21, 23
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# what waits for the disk at most; then the connection is read no further until the disk has caught up
_MAX_WAITING_BYTES = 64 * 2**20
_CHUNK_BYTES = 4 * 2**20


class SpoolBusyError(Exception):
    """Another process writes to this spool."""


@dataclass(frozen=True)
class Opening:
    """What was asked of a connection. ``starts``: schema -> index time (ns) from which replay was asked, or None."""

    connection: int
    schemas: tuple[str, ...]
    starts: dict[str, int | None]
    opened_ns: int


@dataclass(frozen=True)
class Ending:
    """How a connection ended. ``evidence``: as in the gap ledger; None when nothing more was wanted of it."""

    evidence: str | None
    detail: str
    ended_ns: int


RESTART = Ending("restart", "the collector stopped without a farewell", 0)


class Spool:
    """The folder of one dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changed = threading.Condition()
        self._tail: _Tail | None = None
        self._lock: int | None = None

    def acquire(self) -> None:
        """Make the folder and lock it. Raises :class:`SpoolBusyError`, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise SpoolBusyError(f"another process writes to {self.folder}") from error
        self._lock = lock

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def spool_id(self) -> str:
        """Names this folder for ever: the cursor of one spool says nothing about another's files."""
        path = self.folder / "id"
        try:
            if found := path.read_text().strip():
                return found
        except FileNotFoundError:
            pass
        _write_synced(path, secrets.token_hex(8).encode())
        return path.read_text().strip()

    def bytes(self) -> int:
        """The size of everything in the folder."""
        total = 0
        for entry in os.scandir(self.folder):
            try:
                total += entry.stat().st_size
            except FileNotFoundError:
                continue
        return total

    def free_bytes(self) -> int:
        """The room left on its disk."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def connections(self) -> list[int]:
        """The numbers of the connections that left something here, in order."""
        names = (path.name for path in self.folder.glob("*.open.json"))
        return sorted(int(name.split(".")[0]) for name in names)

    def begin(self, schemas: tuple[str, ...], starts: dict[str, int | None], after: int) -> Opening:
        """Take the next number, greater than ``after``, and write what is asked. Raises OSError."""
        number = max([after, *self.connections()]) + 1
        opening = Opening(number, schemas, starts, time.time_ns())
        _write_synced(self._path(number, "open.json"), json.dumps(asdict(opening)).encode())
        with self.changed:
            self._tail = _Tail(number)
            self.changed.notify_all()
        return opening

    def opening(self, connection: int) -> Opening | None:
        """What was asked of a connection; None when that was never wholly written."""
        found = _read_json(self._path(connection, "open.json"))
        return None if found is None else Opening(**{**found, "schemas": tuple(found["schemas"])})

    def end(self, connection: int, ending: Ending) -> None:
        """State how a connection ended; its parts grow no more. The statement may fail for want of room: then the
        connection counts as killed, which is evidence enough."""
        try:
            _write_synced(self._path(connection, "end.json"), json.dumps(asdict(ending)).encode())
        except OSError as error:
            log.warning("spool_end_unwritten", connection=connection, error=str(error))
        with self.changed:
            if self._tail is not None and self._tail.connection == connection:
                self._tail = None
            self.changed.notify_all()

    def ending(self, connection: int) -> Ending | None:
        """How a connection ended; None while it lives."""
        with self.changed:
            if self._tail is not None and self._tail.connection == connection:
                return None
        found = _read_json(self._path(connection, "end.json"))
        return RESTART if found is None else Ending(**found)

    def part_path(self, connection: int, part: int) -> Path:
        """The file of one part."""
        return self.folder / f"{connection:010d}-{part:06d}.dbn"

    def readable(self, connection: int, part: int) -> tuple[int, bool]:
        """How many bytes of a part may be read, and whether that is all it will ever have."""
        with self.changed:
            tail = self._tail
            if tail is not None and tail.connection == connection:
                if part == tail.part:
                    return tail.synced, False
                if part > tail.part:
                    return 0, False
        try:
            return self.part_path(connection, part).stat().st_size, True
        except FileNotFoundError:
            return 0, True

    def has_part(self, connection: int, part: int) -> bool:
        """Whether the part was begun."""
        return self.part_path(connection, part).exists()

    def synced(self, connection: int, part: int, length: int) -> None:
        """The writer's word that so much of a part is on the disk."""
        with self.changed:
            if self._tail is not None and self._tail.connection == connection:
                self._tail = _Tail(connection, part, length)
                self.changed.notify_all()

    def remove_part(self, connection: int, part: int) -> None:
        """Remove a part whose every record is stored."""
        self.part_path(connection, part).unlink(missing_ok=True)

    def remove_connection(self, connection: int) -> None:
        """Remove what a connection left, its opening last: without it the rest would be nobody's."""
        for path in self.folder.glob(f"{connection:010d}-*.dbn"):
            path.unlink(missing_ok=True)
        self._path(connection, "end.json").unlink(missing_ok=True)
        self._path(connection, "open.json").unlink(missing_ok=True)

    def oldest_age_s(self) -> float:
        """Since when the oldest part has lain here."""
        times = []
        for path in self.folder.glob("*.dbn"):
            try:
                times.append(path.stat().st_mtime)
            except FileNotFoundError:
                continue
        return max(0.0, time.time() - min(times)) if times else 0.0

    def _path(self, connection: int, ending: str) -> Path:
        return self.folder / f"{connection:010d}.{ending}"


@dataclass(frozen=True)
class _Tail:
    """The connection that is being written, and how much of its newest part is on the disk."""

    connection: int
    part: int = 0
    synced: int = 0


@dataclass(frozen=True)
class Limits:
    """When a part ends, how often the disk is synced, how large the spool may grow and what must stay free."""

    part_bytes: int
    part_s: float
    sync_s: float
    max_bytes: int
    min_free_bytes: int


@dataclass
class _Mappings:
    """Who each id is, as of the records written so far. Each mapping waits until its own record is written."""

    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    current: dict[int, bytes] = field(default_factory=dict)

    def advance(self, written: int) -> None:
        while self.waiting and self.waiting[0][0] <= written:
            _, record = self.waiting.popleft()
            self.current[struct.unpack_from("<I", record, 4)[0]] = record


class SpoolStream:
    """The stream that Databento's client writes its records to; a thread of its own takes them to the disk.

    ``write`` is called once a record, on the client's event loop, and does next to nothing. It blocks, and with it
    the reading of the socket, when the disk does not keep up: the feed then waits in TCP, and memory stays bounded.
    ``controls`` holds the system and error messages for whoever watches over the connection.
    """

    __name__ = "spool"
    closed = False

    def __init__(self, spool: Spool, opening: Opening, limits: Limits) -> None:
        self._spool = spool
        self._connection = opening.connection
        self._limits = limits
        self._metadata = b""
        self._waiting: list[bytes] = []
        self._mappings = _Mappings()
        self._records_written = 0
        self._bytes_written = 0
        self._bytes_received = 0
        self._file: FileIO | None = None
        self._part = 0
        self._part_bytes = 0
        self._part_began = 0.0
        self._stop = threading.Event()
        self._room = threading.Condition()
        self.failure: str | None = None
        self.received = 0
        self.controls: deque[bytes] = deque()
        # of the last data record and of the last message of any kind, time.monotonic(); None before the first
        self.last_data: float | None = None
        self.last_any: float | None = None
        self._next_check = 0.0
        self._thread = threading.Thread(target=self._run, name=f"spool-{spool.folder.name}", daemon=True)
        self._thread.start()

    def writable(self) -> bool:
        """As a stream must have it."""
        return True

    def flush(self) -> None:
        """As a stream must have it; the thread flushes."""

    def write(self, data: bytes) -> int:
        """Take in the metadata (the first call), then one record a call."""
        size = len(data)
        if self.failure is not None:
            return size  # nothing is promised about it: the connection is being given up
        now = time.monotonic()
        self.last_any = now
        if not self._metadata:
            self._metadata = data
            return size
        rtype = data[1]
        self.received += 1
        if rtype == SYMBOL_MAPPING:
            self._mappings.waiting.append((self.received, data))
        elif rtype in (ERROR, SYSTEM):
            self.controls.append(data)
        else:
            self.last_data = now
        self._waiting.append(data)
        self._bytes_received += size
        if self._bytes_received - self._bytes_written > _MAX_WAITING_BYTES:
            self._wait_for_room()
        return size

    def close(self) -> None:
        """Write and sync what is in hand, and end; again: nothing."""
        self._stop.set()
        self._thread.join()

    def _wait_for_room(self) -> None:
        with self._room:
            while self.failure is None and self._bytes_received - self._bytes_written > _MAX_WAITING_BYTES // 2:
                self._room.wait(0.1)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._limits.sync_s):
                self._write_waiting()
            self._write_waiting()
        except OSError as error:
            no_room = error.errno in NO_ROOM
            self.failure = "disk-full" if no_room else f"the spool cannot be written: {error}"
            log.error("spool_failed", folder=str(self._spool.folder), error=str(error))
        finally:
            if self._file is not None:
                self._file.close()
            with self._room:
                self._room.notify_all()

    def _write_waiting(self) -> None:
        self._check_room()
        if self.failure is not None:
            return
        number = len(self._waiting)
        if not number:
            return
        # only this thread removes, only the loop appends: both see whole records
        chunk = b"".join(self._waiting[:number])
        del self._waiting[:number]
        self._rotate()
        assert self._file is not None  # noqa: S101  (rotate made it)
        _write_all(self._file, chunk)
        os.fdatasync(self._file.fileno())
        self._records_written += number
        self._mappings.advance(self._records_written)
        self._part_bytes += len(chunk)
        with self._room:
            self._bytes_written += len(chunk)
            self._room.notify_all()
        self._spool.synced(self._connection, self._part, self._part_bytes)

    def _rotate(self) -> None:
        if self._file is not None:
            due = self._part_bytes >= self._limits.part_bytes or (
                time.monotonic() - self._part_began >= self._limits.part_s
            )
            if not due:
                return
            self._file.close()
            self._file = None
        self._part += 1
        path = self._spool.part_path(self._connection, self._part)
        head = self._metadata + b"".join(self._mappings.current.values())
        self._file = path.open("xb", buffering=0)
        _write_all(self._file, head)
        sync_folder(path.parent)
        self._part_bytes = len(head)
        self._part_began = time.monotonic()

    def _check_room(self) -> None:
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + 0.5
        waiting = self._bytes_received - self._bytes_written
        if not has_room(self._spool, self._limits, waiting):
            self.failure = "disk-full"


def _write_all(file: FileIO, data: bytes) -> None:
    # unbuffered, so that nothing is tried again behind our back when the disk is full
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def has_room(spool: Spool, limits: Limits, more: int = 0) -> bool:
    """Whether the spool may grow by ``more`` bytes."""
    return spool.bytes() + more <= limits.max_bytes and spool.free_bytes() - more >= limits.min_free_bytes


def header_length(path: Path) -> int | None:
    """Where the records of a part begin; None when its header was not wholly written."""
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8 or start[:3] != b"DBN":
            return None
        length = 8 + int(struct.unpack("<I", start[4:])[0])
        return length if path.stat().st_size >= length else None


def read_part(path: Path, position: int, end: int) -> bytes:
    """The bytes [position, end) of a part."""
    with path.open("rb") as file:
        file.seek(position)
        return file.read(end - position)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found
