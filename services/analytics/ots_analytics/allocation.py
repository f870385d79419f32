"""The C library's allocator, told to keep what an array gave back for the next one.

Mathematics over a year of minutes makes some forty arrays of 0.8 MB and frees them. glibc returns such memory to the
kernel at once, and gets it back page by page, each zeroed on first touch: a third of the CPU time of an indicator
request (mallopt(3): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 16 << 20
# what is larger still comes from the kernel, and goes back to it
_LARGE_BYTES = 4 << 20


def keep_freed_memory() -> bool:
    """Have this process keep up to 16 MiB of freed memory an arena; whether its C library (glibc) can be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    told = [mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES), mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)]
    return told == [1, 1]
