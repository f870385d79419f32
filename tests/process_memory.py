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


def forget_peak(pid: int) -> None:
    """Let the highest memory of a process be what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_kib(pid: int) -> int:
    """The highest memory of a process since then."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0])
