"""Keeps programs running: a supervisord of our own for a folder, and talk with it.

supervisord starts again what dies; every program is told by the kernel when supervisord itself dies, so that none is
orphaned; and the guard, one of its programs, then starts supervisord again (see `guard`).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ots_native.errors import NativeError
from ots_native.private_files import locked, make_socket_folder, socket_folder, write_private
from ots_native.processes import MARK, end_processes

GUARD = "guard"
_SOCKET = "supervisor.sock"
_NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.Error)
# what programs inherit of the environment that `up` was called with; nothing else leaks in
_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|\w+_proxy|\w+_PROXY|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|LD_LIBRARY_PATH"
)

_SUPERVISORD = """\
[supervisord]
nodaemon=true
{user}logfile={folder}/logs/supervisord.log
logfile_maxbytes=2MB
logfile_backups=1
pidfile={folder}/supervisord.pid
childlogdir={folder}/logs
umask=077

[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
_PROGRAM = """
[program:{name}]
command={command}
directory={folder}
environment={environment}
priority={priority}
autostart={autostart}
autorestart=true
startsecs=1
startretries=3
stopsignal={stop_signal}
stopwaitsecs={stop_wait_s}
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


@dataclass(frozen=True)
class Program:
    """One program to keep running; `priority` orders starts (low first) and stops (high first)."""

    name: str
    command: Sequence[str]
    folder: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=dict)
    priority: int = 100
    stop_signal: str = "TERM"
    stop_wait_s: int = 12


@dataclass(frozen=True)
class State:
    """What supervisord says of a program: RUNNING, STARTING, BACKOFF, FATAL, EXITED, STOPPED, ..."""

    name: str
    state: str
    pid: int
    uptime_s: int
    problem: str

    @property
    def runs(self) -> bool:
        """Whether it has come up."""
        return self.state == "RUNNING"


class Supervisor:
    """The supervisord of `folder`.

    data_folders: where the database servers among its programs work, by which their processes are known
    environment: what the programs may inherit of (see `_INHERITED`)
    """

    def __init__(
        self, folder: Path, data_folders: Sequence[Path] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.data_folders = tuple(data_folders)
        self._environment = environment or {}
        self._socket = socket_folder(folder, _SOCKET) / _SOCKET
        self._stopping = folder / "stopping"
        self._configuration = folder / "supervisord.conf"

    def log(self, name: str) -> Path:
        """The log file of a program."""
        return self.folder / "logs" / f"{name}.log"

    def write_configuration(self, programs: Sequence[Program], autostart: Collection[str] | None = None) -> None:
        """Write what the next start of supervisord runs: `programs` and the guard.

        `autostart` names those that it starts by itself (None: all).
        Raises NativeError for a value that supervisord's configuration cannot carry.
        """
        (self.folder / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
        make_socket_folder(self._socket.parent, os.geteuid())
        write_private(self._configuration, self._text(programs, autostart))

    def differing(self, programs: Sequence[Program]) -> set[str]:
        """The names of those that the configuration written last does not hold as they are here, or holds besides.

        Whether they are started by themselves is no difference; supervisord's own part is called "".
        """
        try:
            written = self._configuration.read_text(encoding="utf-8")
        except FileNotFoundError:
            written = ""
        earlier = _by_name(re.sub("autostart=false", "autostart=true", written))
        now = _by_name(self._text(programs, None))
        return {name for name in {*earlier, *now} if earlier.get(name) != now.get(name)}

    def replace(self, names: Collection[str]) -> None:
        """End those of `names` that run, start those that the configuration written last holds; others run on."""
        if not names:
            return
        while self._ask_to_stop(names):
            time.sleep(0.05)
        for name in names:
            with contextlib.suppress(xmlrpc.client.Fault):  # it is not known yet
                self._rpc().supervisor.removeProcessGroup(name)
        self._rpc().supervisor.reloadConfig()
        for name in names:
            with contextlib.suppress(xmlrpc.client.Fault):  # it is no more
                self._rpc().supervisor.addProcessGroup(name)

    def _text(self, programs: Sequence[Program], autostart: Collection[str] | None) -> str:
        user = "user=root\n" if os.geteuid() == 0 else ""
        text = _SUPERVISORD.format(user=user, folder=_percent(self.folder), socket=_percent(self._socket))
        for program in (*programs, self._guard()):
            text += self._section(program, autostart is None or program.name in {*autostart, GUARD})
        return text

    def _section(self, program: Program, autostart: bool) -> str:
        for name, value in program.environment.items():
            # what supervisord's parser would cut, split or strip
            if re.search(r"['\n\r\0]|(^|\s)[;#]|^\"|\"$", value):
                raise NativeError(
                    f"{name} of {program.name} has a quote, a line break or a comment sign where none may be."
                )
        return _PROGRAM.format(
            name=program.name,
            command=_percent(shlex.join(program.command)),
            folder=_percent(program.folder),
            environment=_percent(",".join(f"{name}='{value}'" for name, value in program.environment.items())),
            priority=program.priority,
            autostart=str(autostart).lower(),
            stop_signal=program.stop_signal,
            stop_wait_s=program.stop_wait_s,
            log=_percent(self.log(program.name)),
        )

    def _guard(self) -> Program:
        folders = [str(folder) for folder in (self.folder, *self.data_folders)]
        command = [sys.executable, "-I", "-m", "ots_native.guard", *folders]
        return Program(GUARD, command, self.folder, priority=1)

    def start(self, timeout_s: float = 20.0) -> None:
        """Start supervisord with the configuration written, unless it runs; return when it answers.

        Raises NativeError with the last lines of its log when it does not.
        """
        with locked(self.folder / "start.lock"):
            if self.answers():
                return
            self._stopping.unlink(missing_ok=True)
            output = (self.folder / "logs" / "supervisord.out").open("wb")
            with output:
                # -I keeps PYTHON* variables and the working folder out; a session of its own keeps Ctrl-C away
                process = subprocess.Popen(
                    [sys.executable, "-I", "-m", "supervisor.supervisord", "-c", str(self._configuration)],
                    cwd=self.folder,
                    env=self.inherited(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            deadline = time.monotonic() + timeout_s
            while not self.answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = (self.folder / "logs" / "supervisord.out").read_text(errors="replace").splitlines()
                    raise NativeError("supervisord did not start:\n" + "\n".join(lines[-10:]))
                time.sleep(0.05)

    def inherited(self) -> dict[str, str]:
        """The environment that every program starts from, with the mark by which its processes are known."""
        inherited = {name: value for name, value in self._environment.items() if _INHERITED.fullmatch(name)}
        return {"PATH": os.defpath, **inherited, MARK: str(self.folder)}

    def answers(self) -> bool:
        """Whether our supervisord runs, and is not about to end."""
        try:
            self._rpc().supervisor.getState()
        except _NO_ANSWER:
            return False
        return True

    def is_stopping(self) -> bool:
        """Whether `stop` was asked for: what dies then is not to be started again."""
        return self._stopping.exists()

    def states(self) -> list[State]:
        """Every program but the guard; empty when supervisord does not run."""
        try:
            found: Any = self._rpc().supervisor.getAllProcessInfo()
        except _NO_ANSWER:
            return []
        return [_state(entry) for entry in found if entry["name"] != GUARD]

    def start_programs(self, names: Collection[str] | None = None) -> list[str]:
        """Start those of `names` (None: all) that do not run, without waiting; return which those were."""
        asked = []
        for state in self.states():
            wanted = names is None or state.name in names
            if wanted and state.state in ("STOPPED", "EXITED", "FATAL"):
                # somebody else may have been faster
                with contextlib.suppress(xmlrpc.client.Fault):
                    self._rpc().supervisor.startProcess(state.name, False)
                    asked.append(state.name)
        return asked

    def start_failed_programs(self) -> None:
        """Give those another chance that supervisord has given up."""
        self.start_programs({state.name for state in self.states() if state.state == "FATAL"})

    def stop(self, first: Collection[str] = (), last: Collection[str] = (), timeout_s: float = 30.0) -> None:
        """Stop everything and return when no process is left, those of a killed supervisord included.

        All programs stop together, but those named `first` have ended before them, and those named `last` are asked
        when they have ended: a service that is slow to hear of it still has its storage. `timeout_s` is for supervisord
        itself with those named `last`; the others have their own `stop_wait_s`.
        """
        if self.folder.exists():
            self._stopping.touch()
        with contextlib.suppress(*_NO_ANSWER):
            names = {state.name for state in self.states()}
            for together in (names & {*first}, names - {*last}):
                while self._ask_to_stop(together):
                    time.sleep(0.05)
            self._rpc().supervisor.shutdown()
        deadline = time.monotonic() + timeout_s
        while self._listens() and time.monotonic() < deadline:
            time.sleep(0.1)
        end_processes(self.folder, self.data_folders)

    def _ask_to_stop(self, names: Collection[str]) -> bool:
        """Ask all before any has ended (supervisord would wait for each), and return whether any has yet to end.

        One that failed and is about to be tried again is asked too: it would otherwise start while the others end.
        """
        running = [state for state in self.states() if state.name in names and (state.pid or state.state == "BACKOFF")]
        for state in running:
            if state.state != "STOPPING":
                with contextlib.suppress(xmlrpc.client.Fault):  # it has just ended by itself
                    self._rpc().supervisor.stopProcess(state.name, False)
        return bool(running)

    def remove_socket(self) -> None:
        """Delete the socket, and the short folder that it may have under /tmp."""
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self.folder:
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._socket)) == 0

    def _rpc(self) -> xmlrpc.client.ServerProxy:
        return xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_UnixTransport(self._socket))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)


def _by_name(configuration: str) -> dict[str, str]:
    head, *sections = configuration.split("\n[program:")
    return {"": head.rstrip("\n"), **{section.partition("]")[0]: section.rstrip("\n") for section in sections}}


def _state(entry: Mapping[str, Any]) -> State:
    runs = entry["statename"] == "RUNNING"
    uptime = entry["now"] - entry["start"] if runs else 0
    return State(entry["name"], entry["statename"], entry["pid"], uptime, "" if runs else entry["description"])


def _percent(value: object) -> str:
    """supervisord expands %(...)s everywhere."""
    return str(value).replace("%", "%%")
