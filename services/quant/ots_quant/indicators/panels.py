"""What an indicator is given: one series of bars or a panel of them, checked once and computed row by row."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.arguments import numbers
from ots_quant.kernels import checks

Series = NDArray[np.float64]
Ids = NDArray[np.int64]

_MOST_BARS = 100_000


@dataclass(frozen=True)
class Panel:
    """Arrays of one shape (m,) or (n, m), time on the last axis, oldest first, each row contiguous.

    Rows are checked one by one as they are computed, while they are in the processor's cache: the check of a panel as a
    whole would cost as much as some of the indicators. ``starts`` is None until a row turns out to begin with NaN,
    because its symbol was listed later than others; then it holds the first bar of each row.
    """

    names: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]
    positive: bool = False
    starts: Ids | None = None

    def with_ids(self, **named: ArrayLike) -> Panel:
        """The panel with integer arrays beside the prices; each of shape (m,), shared by all rows, or of the panel's.

        Raises ValueError when an array is not of integers or has another shape.
        """
        shape = self.arrays[0].shape
        ids = tuple([_ids(name, value, shape) for name, value in named.items()])
        return Panel(self.names, self.arrays + ids, self.positive, self.starts)

    def one(self, function: Callable[..., Any], *parameters: float) -> Series:
        """``function(*row of each array, *parameters)`` of every row; of the panel's shape."""
        return self.many(function, 1, *parameters)[0]

    def many(self, function: Callable[..., Any], outputs: int, *parameters: float) -> tuple[Series, ...]:
        """As `one`, of a function with several outputs."""
        # TA-Lib wraps its functions to accept pandas; on short rows that costs as much as the function
        function = getattr(function, "__wrapped__", function)
        shape = self.arrays[0].shape
        out = np.empty((outputs, *shape))
        if not out.size:
            return tuple(out)
        if self.starts is not None:
            return self._many_begun(function, out, parameters)
        faulty = _guard(self.names, self.positive)
        if outputs == 1:
            column = out.reshape(-1, shape[-1])
            for k, inputs in enumerate(self._rows()):
                if faulty(inputs):
                    return self._begun().many(function, outputs, *parameters)
                column[k] = function(*inputs, *parameters)
            return (out[0],)
        columns = out.reshape(outputs, -1, shape[-1])
        for k, inputs in enumerate(self._rows()):
            if faulty(inputs):
                return self._begun().many(function, outputs, *parameters)
            for j, values in enumerate(function(*inputs, *parameters)):
                columns[j, k] = values
        return tuple(out)

    def fill(self, kernel: Callable[..., Any], outputs: int, *parameters: float) -> tuple[Series, ...]:
        """``kernel(*row of each array, *parameters, *row of each output)``, which fills the outputs, of every row."""
        out = np.empty((outputs, *self.arrays[0].shape))
        if not out.size:
            return tuple(out)
        if self.starts is not None:
            return self._fill_begun(kernel, out, parameters)
        faulty = _guard(self.names, self.positive)
        rows = zip(*out.reshape(outputs, -1, out.shape[-1]), strict=True)
        for inputs, outs in zip(self._rows(), rows, strict=True):
            if faulty(inputs):
                return self._begun().fill(kernel, outputs, *parameters)
            kernel(*inputs, *parameters, *outs)
        return tuple(out)

    def _rows(self) -> Iterator[tuple[NDArray[Any], ...]]:
        """The rows of all arrays."""
        if self.arrays[0].ndim == 2:
            return zip(*self.arrays, strict=True)
        return zip(*[array.reshape(-1, array.shape[-1]) for array in self.arrays], strict=True)

    def _many_begun(
        self, function: Callable[..., Any], out: Series, parameters: tuple[float, ...]
    ) -> tuple[Series, ...]:
        columns = out.reshape(len(out), -1, out.shape[-1])
        for k, (inputs, start) in enumerate(zip(self._rows(), self._first_bars(), strict=True)):
            columns[:, k, :start] = np.nan
            if start < out.shape[-1]:
                columns[:, k, start:] = function(*[row[start:] for row in inputs], *parameters)
        return tuple(out)

    def _fill_begun(self, kernel: Callable[..., Any], out: Series, parameters: tuple[float, ...]) -> tuple[Series, ...]:
        columns = out.reshape(len(out), -1, out.shape[-1])
        for k, (inputs, start) in enumerate(zip(self._rows(), self._first_bars(), strict=True)):
            columns[:, k, :start] = np.nan
            kernel(*[row[start:] for row in inputs], *parameters, *columns[:, k, start:])
        return tuple(out)

    def _first_bars(self) -> list[int]:
        return [] if self.starts is None else self.starts.tolist()

    def _begun(self) -> Panel:
        """The panel with ``starts``. Raises ValueError, that begins with a name, for what is wrong beyond NaN there."""
        length = self.arrays[0].shape[-1]
        rows = {name: array.reshape(-1, length) for name, array in zip(self.names, self.arrays, strict=False)}
        missing = np.isnan(np.stack(list(rows.values()))).any(axis=0)
        starts: Ids = np.where(missing.all(axis=1), length, missing.argmin(axis=1))
        begun = np.arange(length) >= starts[:, None]
        for name, values in rows.items():
            # before the start only NaN is no bar: an infinity is an error wherever it stands
            if np.isnan(values[begun]).any() or np.isinf(values).any():
                raise ValueError(f"{name} has a NaN or an infinity in it: leave out or fill those bars first")
            if (np.abs(values) >= checks.LARGEST).any():
                raise ValueError(f"{name} has a number of {checks.LARGEST:g} or more in it")
            if (values[begun] < _least(name, self.positive)).any():
                raise ValueError(f"{name} must {'not be negative' if name == 'volume' else 'be above zero everywhere'}")
        if "high" in rows and "low" in rows and (rows["high"][begun] < rows["low"][begun]).any():
            raise ValueError("high is below low somewhere")
        return replace(self, starts=starts)


def panel(*, positive: bool = False, **named: ArrayLike) -> Panel:
    """The arrays by name. Raises ValueError that begins with the name of one that is not of numbers, or of other shape.

    When it is computed, it raises ValueError that begins with a name for anything that is not finite, but NaN before
    the first bar of a row, which stays NaN; for a high below its low, for a negative volume, and with ``positive`` for
    a price that is not above zero.
    """
    arrays: list[Series] = []
    for name, value in named.items():
        array = numbers(name, value)
        if not array.ndim:
            raise ValueError(f"{name} must have time as its last axis, not be one number")
        if arrays and array.shape != arrays[0].shape:
            raise ValueError(f"{name} has shape {array.shape}, {next(iter(named))} has {arrays[0].shape}")
        arrays.append(np.ascontiguousarray(array))
    return Panel(tuple(named), tuple(arrays), positive)


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
    array = numbers(name, value)
    if array.ndim:
        raise ValueError(f"{name} must be one number")
    number = float(array)
    if not 0 < number <= most or math.isinf(number):
        raise ValueError(f"{name} must be positive{'' if math.isinf(most) else f' and at most {most:g}'}, not {value}")
    return number


def _least(name: str, positive: bool) -> float:
    if name == "volume":
        return 0.0
    return checks.SMALLEST if positive else -checks.LARGEST


@lru_cache
def _guard(names: tuple[str, ...], positive: bool) -> Callable[[tuple[NDArray[Any], ...]], int]:
    """What tells of a row of the named arrays, and of ids after them, how much in it is wrong or missing."""
    price = _least("close", positive)
    if names in _TOGETHER:
        kernel, count = _TOGETHER[names], len(names)
        return lambda row: kernel(*row[:count], price)
    bounds = [(i, _least(name, positive)) for i, name in enumerate(names)]
    if "high" not in names or "low" not in names:
        return lambda row: any(checks.outside(row[i], least) for i, least in bounds)
    high, low = names.index("high"), names.index("low")
    return lambda row: (
        any(checks.outside(row[i], least) for i, least in bounds) or checks.ranges(row[high], row[low], price)
    )


# the usual sets of arrays, each checked in one pass
_TOGETHER: dict[tuple[str, ...], Callable[..., int]] = {
    ("close",): checks.outside,
    ("high", "low"): checks.ranges,
    ("high", "low", "close"): checks.bars,
    ("high", "low", "close", "volume"): checks.traded_bars,
}


def _ids(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Ids:
    array = np.asarray(value)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, not {array.dtype}")
    array = np.ascontiguousarray(array, np.int64)
    if array.shape == shape:
        return array
    if array.shape != shape[-1:]:
        raise ValueError(f"{name} has shape {array.shape}; the bars have {shape}")
    return np.broadcast_to(array, shape)
