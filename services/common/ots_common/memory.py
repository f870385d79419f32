"""What requests have in common, in the memory of a process: made once by whoever comes first, and bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar


class Measured(Protocol):
    """What has a length: rows, bytes."""

    def __len__(self) -> int: ...


Kept = TypeVar("Kept", bound=Measured)


class Memory(Generic[Kept]):
    """What was used last, up to a length of ``most`` in all; for threads.

    Who asks for something that is being made waits for it; an exception is raised to all who waited, and not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._making: dict[Hashable, Future[Kept]] = {}
        self._lock = threading.Lock()

    def peek(self, key: Hashable) -> Kept | None:
        """What ``key`` stands for, None if it is not there."""
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
            return kept

    def put(self, key: Hashable, made: Kept) -> None:
        """Keep what was made together with others; what is there already stays."""
        with self._lock:
            if key not in self._kept:
                self._keep(key, made)

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """What ``key`` stands for, made now if it is not there."""
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
            making = self._making.get(key)
            mine: Future[Kept] = Future()
            if making is None:
                self._making[key] = mine
        return self._made(key, mine, make) if making is None else making.result()

    def _made(self, key: Hashable, future: Future[Kept], make: Callable[[], Kept]) -> Kept:
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            if (other := self._kept.pop(key, None)) is not None:  # put meanwhile
                self._held -= len(other)
            self._keep(key, made)
        future.set_result(made)
        return made

    def _keep(self, key: Hashable, made: Kept) -> None:
        self._kept[key] = made
        self._held += len(made)
        # the newest stays, however large: others may be waiting for it
        while self._held > self._most and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._held -= len(oldest)
