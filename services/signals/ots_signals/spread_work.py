"""Work spread over processes, or over machines by an engine that is installed there: the same results, in order.

What is spread is a pure function of small descriptions; each worker opens the market for itself, from its own
environment, so that no secret travels. Which engine does it changes nothing but the time.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from typing import Any, Literal, Protocol, TypeVar

Engine = Literal["local", "dask", "ray"]

Job = TypeVar("Job")
Done = TypeVar("Done")

_AHEAD = 2  # jobs a process that are handed out before they are wanted: results wait, in bounds


class MissingEngine(Exception):
    """The engine is not installed, or does not start; says what to do."""


class Spread(Protocol):
    """Somewhere to work."""

    def each(self, function: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """The results in the order of the jobs, each as soon as those before it are there.

        ``function`` is of a module, jobs and results can be pickled. Raises what the function raises. Whoever stops
        asking stops the rest.
        """
        ...


class Here:
    """In this process, one job after the other."""

    def each(self, function: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """As `Spread.each`."""
        return map(function, jobs)


class LocalProcesses:
    """So many processes of this machine, started anew: they inherit neither connections nor threads."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def each(self, function: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """As `Spread.each`."""
        pool = ProcessPoolExecutor(self._processes, mp_context=multiprocessing.get_context("spawn"))
        try:
            waiting = deque(pool.submit(function, job) for job in jobs[: self._processes * _AHEAD])
            for job in [*jobs[self._processes * _AHEAD :], *[None] * len(waiting)]:
                done = waiting.popleft().result()
                if job is not None:
                    waiting.append(pool.submit(function, job))
                yield done
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Dask:
    """A cluster of Dask (https://distributed.dask.org), by its scheduler's address; without one, processes here."""

    def __init__(self, processes: int, address: str | None = None) -> None:
        if find_spec("distributed") is None:
            raise MissingEngine("dask is not installed: pip install 'distributed>=2025'")
        self._processes = processes
        self._address = address

    def each(self, function: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """As `Spread.each`."""
        distributed: Any = __import__("distributed")
        if self._address:
            cluster, client = None, distributed.Client(self._address)
        else:
            cluster = distributed.LocalCluster(
                n_workers=self._processes, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
            )
            client = distributed.Client(cluster)
        try:
            # what a job returns is a function of it, yet the market behind may have changed: nothing is remembered
            futures = client.map(function, jobs, pure=False)
            for future in futures:
                yield future.result()
                future.release()
        finally:
            client.close()
            if cluster is not None:
                cluster.close()


class Ray:
    """A cluster of Ray (https://docs.ray.io), by its address; without one, processes here."""

    def __init__(self, processes: int, address: str | None = None) -> None:
        if find_spec("ray") is None:
            raise MissingEngine("ray is not installed: pip install 'ray>=2.40'")
        self._processes = processes
        self._address = address

    def each(self, function: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """As `Spread.each`."""
        ray: Any = __import__("ray")
        count = None if self._address else self._processes
        ray.init(address=self._address, num_cpus=count, include_dashboard=False, log_to_driver=False)
        try:
            remote = ray.remote(function)
            for reference in [remote.remote(job) for job in jobs]:
                yield ray.get(reference)
        finally:
            ray.shutdown()


def spread_of(engine: Engine, processes: int, address: str | None = None) -> Spread:
    """Raises `MissingEngine`; ValueError for an address of local processes."""
    if engine == "dask":
        return Dask(processes, address)
    if engine == "ray":
        return Ray(processes, address)
    if address is not None:
        raise ValueError("local processes have no address")
    return LocalProcesses(processes) if processes > 1 else Here()
