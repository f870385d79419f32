"""Who runs what: the owner of a port, the processes of one platform, and ending them for sure."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

MARK = "OTS_PLATFORM"
_SERVERS = ("postgres", "redis-server", "valkey-server")


def owner_of_port(port: int) -> str | None:
    """Words for whoever listens on `port`: pid and command line where they may be seen; None when the port is free."""
    try:
        listening = [
            c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        ]
    except psutil.AccessDenied:  # macOS shows other people's connections to root only
        listening = []
    for connection in listening:
        if connection.pid is not None:
            return f"pid {connection.pid}: {command_line(connection.pid)}"
    if listening or not _can_listen(port):
        return "a process of another user (`sudo ss -ltnp` names it)"
    return None


def _can_listen(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def command_line(pid: int) -> str:
    """The command line of `pid`, at most 120 characters; empty when it is gone or hidden."""
    try:
        line = shlex.join(psutil.Process(pid).cmdline()) or psutil.Process(pid).name()
    except psutil.Error:
        return ""
    return str(line) if len(line) <= 120 else f"{line[:117]}..."


def working_folder_of(pid: int) -> Path | None:
    """Where `pid` runs; None when it is gone or hidden."""
    try:
        return Path(psutil.Process(pid).cwd())
    except (psutil.Error, OSError):
        return None


def processes_of(mark: Path, data_folders: Sequence[Path] = ()) -> list[int]:
    """The pids, our own apart, that carry `OTS_PLATFORM=mark`, and the database servers that run in `data_folders`.

    PostgreSQL and Redis write their titles over their environment: their working folder gives them away.
    """
    folders = {os.path.realpath(folder) for folder in data_folders}
    return [
        process.pid
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _belongs(process, str(mark), folders)
    ]


def _belongs(process: psutil.Process, mark: str, folders: set[str]) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.name() in _SERVERS and process.cwd() in folders:
            return True
        return bool(process.environ().get(MARK) == mark)
    except (psutil.Error, OSError):
        return False


def end_processes(
    mark: Path, data_folders: Sequence[Path] = (), *, patience_s: float = 5.0, asked: bool = True
) -> None:
    """Return when no process of `processes_of` is left: ask them to stop, and after `patience_s` kill them.

    With `asked=False` they are only waited for before they are killed.
    """
    if asked:
        for pid in processes_of(mark, data_folders):
            _send(pid, signal.SIGINT if _name(pid) == "postgres" else signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while remaining := processes_of(mark, data_folders):
        if time.monotonic() > deadline:
            for pid in remaining:
                _send(pid, signal.SIGKILL)
        time.sleep(0.1)


def _name(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return ""


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
