"""The memory of a running server."""

from __future__ import annotations

from pathlib import Path


def memory_kib(pid: int) -> int:
    """Of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    pids = [pid, *map(int, children.read_text().split())]
    found = 0
    for each in pids:
        status = Path(f"/proc/{each}/status").read_text()
        found += int(status.split("VmRSS:")[1].split()[0])
    return found
