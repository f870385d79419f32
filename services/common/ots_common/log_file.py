"""A file of log lines that several processes write and any of them rotates: nothing is lost, and nothing is torn.

Each piece is appended by one write of a file opened for appending, which the kernel does whole. Whoever finds the file
too large renames it under a lock; the others notice by its inode, and what one of them still writes to the renamed
file is kept with it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path


class SharedFile:
    """``path`` up to about ``most_bytes``, then as ``path.1``, and so on up to ``path.<backups>``.

    Raises OSError when its folder cannot be written.
    """

    def __init__(self, path: Path, *, most_bytes: int, backups: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._backups = backups
        self._turn = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, text: str) -> None:
        """Append whole lines."""
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        with self._turn:
            self._follow()
            while data:
                data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Close it."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._inode = os.fstat(self._file).st_ino

    def _follow(self) -> None:
        """Be in the file that has the name now, and in a new one when that is too large."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            self._again()
            return
        if now.st_ino != self._inode:
            self._again()
        elif now.st_size >= self._most_bytes:
            self._rotate()
            self._again()

    def _again(self) -> None:
        os.close(self._file)
        self._open()

    def _rotate(self) -> None:
        lock = os.open(f"{self._path}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            now = self._path.stat()
            if now.st_ino != self._inode or now.st_size < self._most_bytes:
                return  # another did it meanwhile
            names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, self._backups + 1))]
            for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
                if newer.exists():
                    newer.replace(older)
            if not self._backups:
                self._path.unlink()
        except FileNotFoundError:
            return  # taken away by hand
        finally:
            os.close(lock)
