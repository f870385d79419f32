"""How long the stages of an answer took, for its ``Server-Timing``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response, g, has_request_context


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Adds the time spent within to the stage ``name`` of the request, if there is one."""
    started = time.perf_counter()
    try:
        yield
    finally:
        if has_request_context():
            stages: dict[str, float] = g.setdefault("stages", {})
            stages[name] = stages.get(name, 0.0) + time.perf_counter() - started


def state_stages(response: Response) -> Response:
    """``response`` with the stages of its request in ``Server-Timing``; what was found ready took none."""
    for name, seconds in g.get("stages", {}).items():
        response.headers.add("Server-Timing", f"{name};dur={seconds * 1000:.2f}")
    return response
