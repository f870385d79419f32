"""Compiled kernels: contiguous float64 arrays in, filled arrays out, no checks. Their callers check; see `compiled`.

Importing a module of this package compiles it, or loads it from numba's cache.
"""
