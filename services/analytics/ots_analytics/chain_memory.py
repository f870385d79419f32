"""Priced chains in the memory of a process: made once by whoever comes first, and bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from ots_analytics.priced_chains import PricedChain


class ChainMemory:
    """The chains used last, ``contracts`` of them in all at most; for threads.

    Who asks for one that is being made waits for it; an exception is raised to all who waited, and not kept.
    """

    def __init__(self, contracts: int) -> None:
        self._most = contracts
        self._held = 0
        self._kept: OrderedDict[Hashable, PricedChain] = OrderedDict()
        self._making: dict[Hashable, Future[PricedChain]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], PricedChain]) -> PricedChain:
        """The chain of ``key``, made now if it is not there."""
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
            making = self._making.get(key)
            mine: Future[PricedChain] = Future()
            if making is None:
                self._making[key] = mine
        return self._made(key, mine, make) if making is None else making.result()

    def _made(self, key: Hashable, future: Future[PricedChain], make: Callable[[], PricedChain]) -> PricedChain:
        try:
            chain = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._kept[key] = chain
            self._held += len(chain)
            # the newest stays, however large: others may be waiting for it
            while self._held > self._most and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._held -= len(oldest)
        future.set_result(chain)
        return chain
