"""Floods of one event: its first lines of a second, then one of many, and every one that is left out is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_EVENTS_AT_MOST = 1000
_OTHERS = "(others)"

Name = tuple[str, str]  # logger, event


@dataclass
class _Bucket:
    left: float
    at: float
    over: int = 0
    suppressed: int = 0
    since_s: float = 0.0


class Flood:
    """``per_second`` lines of an event, as a token bucket of one second; then one in ``keep_one_in``.

    ``per_second`` 0: no event is a flood.
    """

    def __init__(self, per_second: int, keep_one_in: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._keep_one_in = keep_one_in
        self._clock = clock
        self._buckets: dict[Name, _Bucket] = {}
        self._lock = threading.Lock()

    def admit(self, name: Name) -> int | None:
        """None when a line is one too many; else how many were left out since the last that was written."""
        if not self._per_second:
            return 0
        with self._lock:
            now = self._clock()
            bucket = self._bucket(name, now)
            bucket.left = min(self._per_second, bucket.left + (now - bucket.at) * self._per_second)
            bucket.at = now
            if bucket.left >= 1:
                bucket.left -= 1
                bucket.over = 0
            else:
                bucket.over += 1
                if bucket.over % self._keep_one_in:
                    bucket.suppressed += 1
                    bucket.since_s = bucket.since_s or now
                    return None
            suppressed, bucket.suppressed, bucket.since_s = bucket.suppressed, 0, 0.0
            return suppressed

    def left_out(self, *, older_than_s: float = 1.0) -> list[tuple[Name, int]]:
        """What was left out that long ago and no line has told yet; it counts as told from here on."""
        with self._lock:
            now = self._clock()
            told = []
            for name, bucket in self._buckets.items():
                if bucket.suppressed and now - bucket.since_s >= older_than_s:
                    told.append((name, bucket.suppressed))
                    bucket.suppressed, bucket.since_s = 0, 0.0
            return told

    def _bucket(self, name: Name, now: float) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= _EVENTS_AT_MOST:
                quiet = [key for key, kept in self._buckets.items() if not kept.suppressed and now - kept.at > 1.0]
                for key in quiet:
                    del self._buckets[key]
                if not quiet:
                    name = (name[0], _OTHERS)
            bucket = self._buckets.setdefault(name, _Bucket(float(self._per_second), now))
        return bucket
