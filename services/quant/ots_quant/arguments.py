"""What a caller gives, as the formulas take it: float64 arrays of one shape, or an error that names the argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


class Broadcast(NamedTuple):
    """Arguments broadcast against each other: contiguous vectors of one length, and the shape that they had."""

    vectors: tuple[Values, ...]
    shape: tuple[int, ...]


def numbers(name: str, value: ArrayLike) -> Values:
    """``value`` as float64; a masked element becomes NaN. Raises ValueError for what is not real numbers."""
    try:
        array = np.asarray(value.filled(np.nan) if isinstance(value, np.ma.MaskedArray) else value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be numbers in a rectangular array: {error}") from None
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be real numbers, not {array.dtype}")
    return array.astype(np.float64, copy=False)


def broadcast(named: Mapping[str, ArrayLike]) -> Broadcast:
    """The arguments by name, broadcast to one shape and flattened. A ``right`` among them must hold +1 and -1 only.

    Raises ValueError that names the argument that is not real numbers or does not fit the shapes before it.
    """
    arrays = {name: numbers(name, value) for name, value in named.items()}
    shape: tuple[int, ...] = ()
    for name, array in arrays.items():
        if array.shape in ((), shape):
            continue
        try:
            shape = np.broadcast_shapes(shape, array.shape)
        except ValueError:
            raise ValueError(f"{name} has shape {array.shape}, which does not go with {shape} before it") from None
    if "right" in arrays and not (np.abs(arrays["right"]) == 1.0).all():
        raise ValueError("right must be +1 (call) or -1 (put) everywhere")
    return Broadcast(tuple(_vector(array, shape) for array in arrays.values()), shape)


def _vector(array: Values, shape: tuple[int, ...]) -> Values:
    if array.shape != shape:
        array = np.full(shape, array) if array.size == 1 else np.broadcast_to(array, shape)
    return np.ascontiguousarray(array).reshape(-1)


def option_arguments(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
) -> Broadcast:
    """The seven arguments of a price, broadcast. Raises ValueError as `broadcast` does."""
    return broadcast(
        {
            "right": right,
            "spot": spot,
            "strike": strike,
            "years": years,
            "rate": rate,
            "dividend_yield": dividend_yield,
            "volatility": volatility,
        }
    )


def output(out: Values | None, shape: tuple[int, ...], name: str = "out") -> Values:
    """``out``, or a new array where it is None. Raises ValueError when it cannot be filled in place."""
    if out is None:
        return np.empty(shape)
    if not isinstance(out, np.ndarray) or out.dtype != np.float64:
        raise ValueError(f"{name} must be a float64 array")
    if out.shape != shape:
        raise ValueError(f"{name} has shape {out.shape}; the arguments give {shape}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(f"{name} must be writable and C-contiguous")
    return out
