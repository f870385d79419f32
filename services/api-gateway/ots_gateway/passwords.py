"""Passwords: argon2id at OWASP's parameters, off the event loop, a few at a time, in a queue that has an end."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import gevent
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from ots_common.problems import Problem, unavailable

T = TypeVar("T")

SHORTEST, LONGEST = 12, 1024
# OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    """The encoded argon2id hash of the password in the one way to write it (NFKC, NIST SP 800-63B)."""
    return _HASHER.hash(normal(password))


def normal(password: str) -> str:
    """NFKC: the same password typed on another keyboard is the same password."""
    return unicodedata.normalize("NFKC", password)


def objection(password: str, username: str) -> str | None:
    """Why this may not be the password of that user; None when it may.

    Length and not the name: rules of composition make passwords worse (NIST SP 800-63B).
    """
    if not SHORTEST <= len(normal(password)) <= LONGEST:
        return f"a password has {SHORTEST} to {LONGEST} characters"
    if normal(password).casefold() == username.casefold():
        return "a password is not the username"
    if len(set(normal(password))) == 1:
        return "a password is more than one character repeated"
    return None


class PasswordChecker:
    """Hashes and checks passwords, ``at_once`` at a time; ``waiting`` more wait, the rest is told to come back."""

    def __init__(self, at_once: int = 4, waiting: int = 32) -> None:
        self._slots = threading.BoundedSemaphore(at_once)
        self._room = threading.BoundedSemaphore(at_once + waiting)
        self._nobodys_hash = hash_password(secrets.token_urlsafe(16))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn to compute. Raises a 503 problem at once when too many wait."""
        if not self._room.acquire(blocking=False):
            raise _busy()
        try:
            with self._slots:
                yield
        finally:
            self._room.release()

    def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password of that hash; None (no such user) takes as long and is False. In a turn only."""
        right = _in_a_real_thread(lambda: _verify(password_hash or self._nobodys_hash, password))
        return right and password_hash is not None

    def hash(self, password: str) -> str:
        """The encoded hash of a new password. In a turn only."""
        return _in_a_real_thread(lambda: hash_password(password))


def _busy() -> Problem:
    return unavailable("too many passwords are being checked; try again in a moment")


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, normal(password))
    except (Argon2Error, InvalidHashError):
        return False


def _in_a_real_thread(work: Callable[[], T]) -> T:
    # argon2 computes for tens of milliseconds: in a greenlet it would stall every other request of the worker
    result: T = gevent.get_hub().threadpool.apply(work)
    return result
