"""What an indicator is given: one series of bars or a panel of them, checked once and computed row by row."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.arguments import numbers

Series = NDArray[np.float64]
Ids = NDArray[np.int64]

_MOST_BARS = 100_000
# beyond these no product of prices and volumes is certain to stay a finite number
_LARGEST, _SMALLEST = 1e100, 1e-100


class Panel(NamedTuple):
    """Arrays of one shape (m,) or (n, m), time on the last axis, oldest first; row-contiguous.

    ``starts``: where rows begin with NaN, because a symbol was listed later than others, the first bar of each row;
    else None.
    """

    arrays: tuple[NDArray[Any], ...]
    starts: Ids | None = None

    def with_ids(self, **named: ArrayLike) -> Panel:
        """The panel with integer arrays beside the prices; each of shape (m,), shared by all rows, or of the panel's.

        Raises ValueError when an array is not of integers or has another shape.
        """
        shape = self.arrays[0].shape
        return Panel(self.arrays + tuple(_ids(name, value, shape) for name, value in named.items()), self.starts)

    def one(self, function: Callable[..., Any], *parameters: float) -> Series:
        """``function(*row of each array, *parameters)`` of every row; of the panel's shape."""
        return self.many(function, 1, *parameters)[0]

    def many(self, function: Callable[..., Any], outputs: int, *parameters: float) -> tuple[Series, ...]:
        """As `one`, of a function with several outputs."""
        if self.arrays[0].ndim == 1 and self.starts is None and len(self.arrays[0]):
            found = function(*self.arrays, *parameters)
            return found if isinstance(found, tuple) else (found,)

        def compute(inputs: tuple[NDArray[Any], ...], outs: tuple[Series, ...]) -> None:
            found = function(*inputs, *parameters)
            if outputs == 1:
                outs[0][...] = found
            else:
                for out, values in zip(outs, found, strict=True):
                    out[...] = values

        return self._each(compute, outputs)

    def fill(self, kernel: Callable[..., Any], outputs: int, *parameters: float) -> tuple[Series, ...]:
        """``kernel(*row of each array, *parameters, *row of each output)``, which fills the outputs, of every row."""
        return self._each(lambda inputs, outs: kernel(*inputs, *parameters, *outs), outputs)

    def _each(
        self, compute: Callable[[tuple[NDArray[Any], ...], tuple[Series, ...]], None], outputs: int
    ) -> tuple[Series, ...]:
        shape = self.arrays[0].shape
        out = np.empty((outputs, *shape))
        if not out.size:
            return tuple(out)
        rows = zip(zip(*map(_rows, self.arrays), strict=True), zip(*map(_rows, out), strict=True), strict=True)
        if self.starts is None:
            for inputs, outs in rows:
                compute(inputs, outs)
            return tuple(out)
        for (inputs, outs), start in zip(rows, self.starts.tolist(), strict=True):
            for row in outs:
                row[:start] = np.nan
            if start < shape[-1]:
                compute(tuple(row[start:] for row in inputs), tuple(row[start:] for row in outs))
        return tuple(out)


def panel(*, positive: bool = False, **named: ArrayLike) -> Panel:
    """The arrays by name, checked: numbers, of one shape with time on the last axis, finite.

    NaN before the first bar of a row is allowed (it stays NaN). Raises ValueError that begins with the argument's name
    for anything else that is not finite, for a high below its low, for a negative volume, and with ``positive`` for a
    price that is not above zero.
    """
    arrays = tuple(np.ascontiguousarray(numbers(name, value)) for name, value in named.items())
    names = tuple(named)
    for name, array, value in zip(names, arrays, named.values(), strict=True):
        if np.ndim(value) == 0:
            raise ValueError(f"{name} must have time as its last axis, not be one number")
        if array.shape != arrays[0].shape:
            raise ValueError(f"{name} has shape {array.shape}, {names[0]} has {arrays[0].shape}")
    if not arrays[0].size:
        return Panel(arrays)
    # NaN and infinities show in the extremes, which is cheaper than looking at each element
    least = [float(array.min()) for array in arrays]
    most = [float(array.max()) for array in arrays]
    if all(low > -_LARGEST and high < _LARGEST for low, high in zip(least, most, strict=True)):
        starts = None
        _check_values(names, arrays, least, positive)
    else:
        starts = _starts(names, arrays)
        for row, start in zip(zip(*map(_rows, arrays), strict=True), starts.tolist(), strict=True):
            live = tuple(values[start:] for values in row)
            if len(live[0]):
                _check_values(names, live, [float(values.min()) for values in live], positive)
    return Panel(arrays, starts)


def whole(name: str, value: int, least: int, most: int = _MOST_BARS) -> int:
    """A number of bars. Raises ValueError when it is not a whole number from ``least`` to ``most``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, not {value!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{name} must be from {least} to {most:,}, not {value}")
    return number


def above_zero(name: str, value: float, most: float = math.inf) -> float:
    """A finite number above zero. Raises ValueError when it is not, or above ``most``."""
    if np.ndim(value):
        raise ValueError(f"{name} must be one number")
    number = float(numbers(name, value))
    if not 0 < number <= most or math.isinf(number):
        raise ValueError(f"{name} must be positive{'' if math.isinf(most) else f' and at most {most:g}'}, not {value}")
    return number


def _rows(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    if array.ndim == 1:
        return iter((array,))
    if array.ndim == 2:
        return iter(array)
    return iter(array.reshape(-1, array.shape[-1]))


def _starts(names: tuple[str, ...], arrays: tuple[Series, ...]) -> Ids:
    """The first bar of each row at which every array has a number; refuses what is not finite after it."""
    length = arrays[0].shape[-1]
    missing = np.isnan(np.stack(arrays)).any(axis=0).reshape(-1, length)
    starts: Ids = np.where(missing.all(axis=1), length, missing.argmin(axis=1))
    after = np.arange(length) >= starts[:, None]
    for name, array in zip(names, arrays, strict=True):
        rows = array.reshape(-1, length)
        # before the start only NaN is no bar: an infinity is an error wherever it stands
        if (np.isnan(rows) & after).any() or np.isinf(rows).any():
            raise ValueError(f"{name} has a NaN or an infinity in it: leave out or fill those bars first")
        if (np.abs(rows) >= _LARGEST).any():
            raise ValueError(f"{name} has a number of {_LARGEST:g} or more in it")
    return starts


def _check_values(names: tuple[str, ...], arrays: tuple[Series, ...], least: list[float], positive: bool) -> None:
    by_name = dict(zip(names, zip(arrays, least, strict=True), strict=True))
    for name, (_, smallest) in by_name.items():
        if name == "volume":
            if smallest < 0:
                raise ValueError("volume must not be negative")
        elif positive and smallest < _SMALLEST:
            raise ValueError(f"{name} must be above zero everywhere")
    if "high" in by_name and "low" in by_name and (by_name["high"][0] < by_name["low"][0]).any():
        raise ValueError("high is below low somewhere")


def _ids(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Ids:
    array = np.asarray(value)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, not {array.dtype}")
    if array.shape not in (shape, shape[-1:]):
        raise ValueError(f"{name} has shape {array.shape}; the bars have {shape}")
    return np.broadcast_to(np.ascontiguousarray(array, np.int64), shape)
