"""A circuit breaker for each service: one that fails again and again is left alone for a moment, then tried by one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal

import structlog

from ots_common.problems import Problem
from ots_gateway.metrics import BREAKER_OPEN, BREAKER_TRANSITIONS

log = structlog.get_logger(__name__)

_LONGEST_S = 30.0


class Breaker:
    """Opens after ``failures`` in a row for ``open_s``, twice as long each time the one that tries fails too.

    A failure is no connection, a broken answer or none in time; what a service answers, a 500 too, is none.
    """

    def __init__(self, service: str, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._allowed = failures
        self._first_s = open_s
        self._clock = clock
        self._failures = 0
        self._open_s = open_s
        self._open_until = 0.0
        self._trying = False
        BREAKER_OPEN.labels(service).set(0)
        for state in ("open", "half_open", "closed"):
            BREAKER_TRANSITIONS.labels(service, state)

    def enter(self) -> None:
        """Called before a request. Raises a 503 problem while the service is left alone."""
        if self._failures < self._allowed:
            return
        left = self._open_until - self._clock()
        if left > 0 or self._trying:
            raise Problem(
                503,
                "service-unavailable",
                f"the service {self._service} failed {self._failures} times in a row and is left alone for a moment",
                headers={"Retry-After": str(max(1, math.ceil(left)))},
            )
        self._trying = True
        BREAKER_TRANSITIONS.labels(self._service, "half_open").inc()

    def succeeded(self) -> None:
        """The service answered."""
        if self._failures:
            if self._failures >= self._allowed:
                log.info("breaker_closed", upstream=self._service)
                self._became("closed")
            self._failures = 0
            self._open_s = self._first_s
        self._trying = False

    def failed(self) -> None:
        """It did not."""
        self._failures += 1
        if self._failures < self._allowed:
            return
        if self._trying:
            self._open_s = min(2 * self._open_s, _LONGEST_S)
            self._trying = False
        elif self._failures > self._allowed:
            return  # others that were under way when it opened
        log.warning("breaker_opened", upstream=self._service, seconds=self._open_s)
        self._open_until = self._clock() + self._open_s
        self._became("open")

    def abandoned(self) -> None:
        """The client left before the service could answer: that says nothing of the service."""
        self._trying = False

    def _became(self, state: Literal["open", "closed"]) -> None:
        BREAKER_OPEN.labels(self._service).set(state == "open")
        BREAKER_TRANSITIONS.labels(self._service, state).inc()
