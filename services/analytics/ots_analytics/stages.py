"""How long the stages of an answer took, for its ``Server-Timing`` and the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response, g, has_request_context

from ots_analytics.metrics import observe_stage


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Counts the time spent within, and adds it to the stage ``name`` of the request, if there is one."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        observe_stage(name, seconds)
        if has_request_context():
            stages: dict[str, float] = g.setdefault("stages", {})
            stages[name] = stages.get(name, 0.0) + seconds


def state_stages(response: Response) -> Response:
    """``response`` with the stages of its request in ``Server-Timing``; what was found ready took none."""
    for name, seconds in g.get("stages", {}).items():
        response.headers.add("Server-Timing", f"{name};dur={seconds * 1000:.2f}")
    return response
