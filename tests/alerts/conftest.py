"""Prometheus' and Alertmanager's own tools: on PATH, or fetched from Debian's packages once and kept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ots_native.errors import NativeError
from ots_native.tools import fetch_tools, find_tool

Tool = Callable[..., subprocess.CompletedProcess[str]]


def tool_or_skip(name: str) -> Path:
    """The program of that name. Skips where it is neither here nor to be had."""
    try:
        fetch_tools(print, (name,))
    except NativeError as error:
        pytest.skip(f"no {name}: {error}")
    found = find_tool(name)
    assert found
    return found


def _runner(name: str) -> Tool:
    program = tool_or_skip(name)

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        words = [str(program), *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.fixture(scope="session")
def promtool() -> Tool:
    """Runs promtool."""
    return _runner("promtool")


@pytest.fixture(scope="session")
def amtool() -> Tool:
    """Runs amtool."""
    return _runner("amtool")
