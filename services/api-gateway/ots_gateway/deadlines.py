"""Deadlines without timers: what may wait says until when, and one look four times a second ends what is late.

A timer for each wait would cost more than all other bookkeeping of a request; a quarter of a second late is no harm.
"""

from __future__ import annotations

import time
from typing import Protocol

import gevent

TICK_S = 0.25


class Watched(Protocol):
    """Something with a deadline; it is looked at until it is removed."""

    deadline: float

    def look(self, now: float) -> None:
        """Called each tick, ``now`` in the time of :func:`time.monotonic`."""


class Watch:
    """Looks after everything that was added, from a greenlet of its own that starts with the first."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._greenlet: gevent.Greenlet | None = None

    def add(self, watched: Watched) -> None:
        """Look after ``watched`` from now on."""
        self._watched.add(watched)
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def remove(self, watched: Watched) -> None:
        """Let it be."""
        self._watched.discard(watched)

    def _run(self) -> None:
        while True:
            gevent.sleep(TICK_S)
            now = time.monotonic()
            for watched in tuple(self._watched):
                watched.look(now)
