"""The simulator's time: real time, or faster, or that of a tape recorded long ago."""

from __future__ import annotations

import time


class Clock:
    """Starts at ``starts_ns`` (ns since 1970; None: now) and then runs ``speed`` times as fast as the wall's."""

    def __init__(self, speed: float = 1.0, starts_ns: int | None = None) -> None:
        if not speed > 0:
            raise ValueError("speed must be positive")
        self.speed = speed
        self._follows_wall = speed == 1.0 and starts_ns is None
        self._starts_ns = time.time_ns() if starts_ns is None else starts_ns
        self._began = time.monotonic_ns()

    def start(self) -> None:
        """Begin anew: preparations take no time of the market's. No effect where the clock follows the wall."""
        self._began = time.monotonic_ns()

    def now(self) -> int:
        """Nanoseconds since 1970."""
        if self._follows_wall:
            return time.time_ns()  # an adjusted system clock is followed
        return self._starts_ns + int((time.monotonic_ns() - self._began) * self.speed)
