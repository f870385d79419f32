"""Priced chains and bars in the memory of a process: one makes, others wait, and there is an end to what is kept."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ots_common.memory import Memory


class Sized:
    """As much of a chain as the memory looks at."""

    def __init__(self, contracts: int) -> None:
        self.contracts = contracts

    def __len__(self) -> int:
        return self.contracts


def test_one_thread_makes_and_the_others_wait():
    memory, begun, go = Memory(100), threading.Event(), threading.Event()
    made = []

    def make():
        begun.set()
        assert go.wait(10)
        made.append(Sized(5))
        return made[-1]

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(memory.get, "key", make) for _ in range(8)]
        assert begun.wait(10)
        go.set()
        found = {id(one.result(10)) for one in waiting}
    assert len(made) == 1
    assert found == {id(made[0])}


def test_a_failure_reaches_all_who_waited_and_is_not_kept():
    memory, begun, go = Memory(100), threading.Event(), threading.Event()

    def fail():
        begun.set()
        assert go.wait(10)
        raise LookupError("nothing there")

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(memory.get, "key", fail) for _ in range(3)]
        assert begun.wait(10)
        go.set()
        for one in waiting:
            with pytest.raises(LookupError):
                one.result(10)
    assert len(memory.get("key", lambda: Sized(3))) == 3


def test_what_was_used_last_is_kept():
    memory = Memory(10)
    for name in ("a", "b"):
        memory.get(name, lambda: Sized(4))
    memory.get("a", lambda: pytest.fail("a is kept"))
    memory.get("c", lambda: Sized(4))  # too many: b was used longest ago
    memory.get("a", lambda: pytest.fail("a is kept"))
    again = []
    memory.get("b", lambda: again.append(1) or Sized(4))
    assert again


def test_a_chain_larger_than_all_room_is_kept_alone():
    memory = Memory(10)
    memory.get("small", lambda: Sized(4))
    large = memory.get("large", lambda: Sized(50))
    assert memory.get("large", lambda: pytest.fail("it is kept")) is large
    again = []
    memory.get("small", lambda: again.append(1) or Sized(4))
    assert again
