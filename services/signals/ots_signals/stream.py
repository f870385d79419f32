"""The ledger as it grows, as server-sent events: each row once and in order, or a gap that says which are left out.

An event's id is the row's number, so that a client that comes again with ``Last-Event-ID`` gets what follows it. The
event ``gap`` names numbers that are not sent: a client that was too far behind, or that has seen more rows than there
are, which then is another ledger. (HTML Standard, 9.2 Server-sent events.)
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from ots_common.database import Database
from ots_common.problems import Problem
from ots_signals import ledger
from ots_signals.answers import shape

_AT_ONCE = 200


@dataclass(frozen=True)
class Pace:
    """How often a stream looks, how often it says something, how long it lasts (s), and what is too far behind."""

    poll_s: float
    heartbeat_s: float
    lasts_s: float
    behind: int


class Streams:
    """The streams of one process, a bounded number of them."""

    def __init__(self, database: Database, most: int, pace: Pace) -> None:
        self._database = database
        self._most = most
        self._free = threading.BoundedSemaphore(most) if most else None
        self._pace = pace

    def open(self, last_seen: int | None) -> Iterator[bytes]:
        """Events after the row ``last_seen``, or from now on; raises a 503 problem when too many follow already."""
        if self._free is None or not self._free.acquire(blocking=False):
            raise Problem(
                503,
                "too-many-streams",
                f"{self._most} clients of this process follow the stream already",
                headers={"Retry-After": "5"},
                hint="GET /api/v1/signals lists what was decided, in pages",
            )
        try:
            begin = ledger.head(self._database).seq
        except BaseException:
            self._free.release()
            raise
        return _Events(self._database, self._pace, begin if last_seen is None else last_seen, begin, self._free.release)


class _Events(Iterator[bytes]):
    """One client's events. Whoever reads it closes it: gunicorn does so also when the client has gone."""

    def __init__(self, database: Database, pace: Pace, last_seen: int, head: int, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._events = follow(database, pace, last_seen, head)

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """Give the place to another."""
        release, self._release = self._release, None
        if release is not None:
            self._events.close()
            release()

    def __del__(self) -> None:
        self.close()


def follow(database: Database, pace: Pace, last_seen: int, head: int) -> Generator[bytes]:
    """The events of a client that has seen the rows up to ``last_seen``, where ``head`` is the newest."""
    ends = time.monotonic() + pace.lasts_s
    yield b": the ledger of signals\nretry: 2000\n\n"
    if last_seen > head:
        yield gap(head + 1, last_seen, "this ledger has not that many rows: it is another one")
        last_seen = head
    elif head - last_seen > pace.behind:
        until = head - pace.behind
        yield gap(last_seen + 1, until, "too far behind: GET /api/v1/signals lists them")
        last_seen = until
    said = time.monotonic()
    while time.monotonic() < ends:
        entries = ledger.after(database, last_seen, _AT_ONCE)
        for entry in entries:
            last_seen = entry.seq
            yield event(entry)
        now = time.monotonic()
        if entries:
            said = now
        elif now - said >= pace.heartbeat_s:
            said = now
            yield b": nothing new\n\n"
        if len(entries) < _AT_ONCE:
            time.sleep(pace.poll_s)


def event(entry: ledger.Entry) -> bytes:
    """One row."""
    data = json.dumps(shape(entry), separators=(",", ":"), allow_nan=False)
    return f"id: {entry.seq}\nevent: {entry.kind}\ndata: {data}\n\n".encode()


def gap(first: int, last: int, reason: str) -> bytes:
    """Rows that are not sent, both ends included."""
    data = json.dumps({"from": first, "to": last, "reason": reason}, separators=(",", ":"))
    return f"id: {last}\nevent: gap\ndata: {data}\n\n".encode()
