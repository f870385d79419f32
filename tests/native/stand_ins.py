"""Programs small enough to be killed at will, and how to wait for what they bring about."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from ots_native.account import launch_prefix
from ots_native.supervision import Program

CHECKOUT = Path(__file__).resolve().parents[2]


def sleeper(name: str, **environment: str) -> Program:
    """A program that runs until it is stopped, and dies with supervisord as the services do."""
    code = "import os, time; print(dict(os.environ), flush=True); time.sleep(600)"
    command = [*launch_prefix("KILL"), sys.executable, "-I", "-c", code]
    return Program(name, command, environment=environment, stop_wait_s=2)


def eventually(holds: Callable[[], object], within_s: float = 30.0) -> None:
    """Return as soon as `holds()` is true; fail after `within_s`."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
