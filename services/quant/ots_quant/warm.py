"""All kernels ready before a process serves, so that no request waits for a compiler."""

from __future__ import annotations

import importlib
import pkgutil

from ots_quant import kernels


def warm() -> None:
    """Compile every kernel, or load it from numba's cache (NUMBA_CACHE_DIR). Raises ImportError without numba."""
    for module in pkgutil.iter_modules(kernels.__path__):
        importlib.import_module(f"{kernels.__name__}.{module.name}")
