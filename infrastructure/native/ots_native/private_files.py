"""Files that only their owner may read, written in one step, and locks between processes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ots_native.errors import NativeError

# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included
_LONGEST_SOCKET_PATH = 103


def write_private(path: Path, text: str) -> None:
    """Put `text` at `path` in one step, mode 600."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock `path` alone, calling `on_wait` once if another process has it. The lock ends with its process.

    Its folder is made when missing; a lock that was deleted while we waited for it is made anew.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still_at(path, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def short_hash(path: Path) -> str:
    """Twelve hexadecimal digits that stand for a path."""
    return hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:12]


def socket_folder(preferred: Path, socket_name: str) -> Path:
    """`preferred`, or a folder of its own under /tmp where a socket's path in `preferred` would be too long."""
    if len(os.fsencode(preferred / socket_name)) <= _LONGEST_SOCKET_PATH:
        return preferred
    return Path("/tmp") / f"ai-ots-{short_hash(preferred)}"  # noqa: S108 - made by make_socket_folder, which verifies its owner


def make_socket_folder(folder: Path, owner: int) -> None:
    """Make `folder`, mode 700, for the user id `owner`. Raises NativeError when somebody else made it before us."""
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid not in (os.geteuid(), owner):
        raise NativeError(f"{folder} belongs to another user; remove it, or set OTS_STATE_DIR to a shorter path.")
    os.chown(folder, owner, -1)
    folder.chmod(0o700)
