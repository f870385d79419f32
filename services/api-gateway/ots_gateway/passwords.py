"""Passwords: argon2id at OWASP's parameters, off the event loop, a few at a time."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

import gevent
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

# OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_AT_ONCE = 4


def hash_password(password: str) -> str:
    """The encoded argon2id hash."""
    return _HASHER.hash(password)


class PasswordChecker:
    """Checks passwords in the same time whether the user exists or not."""

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._nobodys_hash = hash_password(secrets.token_urlsafe(16))

    def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password of that hash; None (no such user) takes as long and is False."""
        with self._slots:
            right = _in_a_real_thread(lambda: _verify(password_hash or self._nobodys_hash, password))
        return right and password_hash is not None


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False


def _in_a_real_thread(work: Callable[[], bool]) -> bool:
    # argon2 computes for tens of milliseconds: in a greenlet it would stall every other request of the worker
    result: bool = gevent.get_hub().threadpool.apply(work)
    return result
