"""How a kernel is compiled: when its module is imported, for one stated signature, never in a request.

``@kernel(signature)`` compiles at once, or takes the machine code of an earlier import from numba's cache. Modules of
``ots_quant.kernels`` are imported on first use, or all at once by ``ots_quant.warm.warm()`` before a process serves.

Processes that start together compile each kernel once: who comes second waits, and loads it.
Where the cache cannot be written (a read-only root without NUMBA_CACHE_DIR) kernels are compiled again by each
process; a cache file cut short by a kill or a full disk is thrown away and made again.

``READ`` and ``WRITE`` are the types of contiguous float64 arrays that a kernel reads and fills: a read-only array (a
caller's constant, a memory map) may be passed for ``READ``.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types

Compiled = TypeVar("Compiled", bound=Callable[..., Any])

FLOAT = types.float64
INT = types.int64
READ = types.Array(types.float64, 1, "C", readonly=True)
READ_TABLE = types.Array(types.float64, 2, "C", readonly=True)
READ_INTS = types.Array(types.int64, 1, "C", readonly=True)
WRITE = types.Array(types.float64, 1, "C")
WRITE_TABLE = types.Array(types.float64, 2, "C")
WRITE_INTS = types.Array(types.int64, 1, "C")

# IEEE arithmetic as written, apart from fused multiply-adds; a division by zero gives inf or NaN, as in numpy
_OPTIONS: dict[str, Any] = {"nopython": True, "error_model": "numpy", "fastmath": {"contract"}, "nogil": True}


def kernel(signature: Any) -> Callable[[Compiled], Compiled]:
    """Compile the decorated function for ``signature``, and for nothing else: another type raises TypeError."""

    def compile_now(function: Compiled) -> Compiled:
        dispatcher = numba.jit(**_OPTIONS)(function)
        try:
            dispatcher.enable_caching()
        except RuntimeError:  # numba: no locator available, which is: nowhere to write
            dispatcher.compile(signature)
        else:
            _compile_cached(dispatcher, signature)
        dispatcher.disable_compile()
        return cast("Compiled", dispatcher)

    return compile_now


def inline(function: Compiled) -> Compiled:
    """Compile the decorated function into each kernel that calls it, so that the loop around it stays one SIMD loop."""
    return cast("Compiled", numba.jit(forceinline=True, **_OPTIONS)(function))


def part(function: Compiled) -> Compiled:
    """Compile the decorated function once for all kernels that call it: for what is too large to be in each."""
    return cast("Compiled", numba.jit(**_OPTIONS)(function))


def _compile_cached(dispatcher: Any, signature: Any) -> None:
    # numba takes a cached kernel for current when its own file is: what it inlined from elsewhere counts here too
    file = dispatcher._cache._cache_file
    file._source_stamp = (file._source_stamp, _inlined_sources())
    with _alone(Path(dispatcher._cache.cache_path), file._index_name):
        try:
            dispatcher.compile(signature)
        except (EOFError, pickle.UnpicklingError):
            dispatcher._cache.flush()
            dispatcher.compile(signature)


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """One process at a time for each name; a process that dies lets go. Without a lock where none can be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{name}.lock").open("w")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def _inlined_sources() -> str:
    """A digest of all kernels' code, and of the options above: any may be part of any other's machine code."""
    here = Path(__file__).resolve().parent
    sources = [here / "compiled.py", *sorted((here / "kernels").glob("*.py"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
