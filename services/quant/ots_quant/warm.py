"""All kernels ready before a process serves, so that no request waits for a compiler."""

from __future__ import annotations

import importlib
import pkgutil

from ots_quant import kernels


def warm(*, backwards: bool = False) -> None:
    """Compile every kernel, or load it from numba's cache (NUMBA_CACHE_DIR). Raises ImportError without numba.

    Two processes that start together, one of them ``backwards``, compile half of the kernels each.
    """
    for module in sorted(pkgutil.iter_modules(kernels.__path__), key=lambda found: found.name, reverse=backwards):
        importlib.import_module(f"{kernels.__name__}.{module.name}")
