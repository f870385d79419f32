"""What every streaming indicator is, and what carries those of TA-Lib."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import talib
import talib.abstract
import talib.stream

from ots_quant.indicators.history import Bar, History

Value = float | tuple[float, ...]


class Stream(ABC):
    """An indicator's state after the bars so far; ``value`` is its value at the last of them."""

    def __init__(self, inputs: tuple[str, ...], outputs: int = 1, *, positive: bool = False) -> None:
        self._inputs = inputs
        self._at = tuple(Bar._fields.index(name) for name in inputs)
        self._ranged = "high" in inputs and "low" in inputs
        self._positive = positive
        self.value: Value = math.nan if outputs == 1 else (math.nan,) * outputs

    def update(self, bar: Bar) -> Value:
        """The value at ``bar``, the bar after the last. Raises ValueError, and changes nothing, for a bad bar."""
        inputs = tuple([bar[at] for at in self._at])
        self._check(bar, inputs)
        self.value = self._next(bar, inputs)
        return self.value

    def seed(self, history: History) -> Stream:
        """Itself, after all bars of ``history``; these are of shape (m,). Raises ValueError for a bad one."""
        for bar in history.bars():
            self.update(bar)
        return self

    def copy(self) -> Stream:
        """An independent state at the same bar."""
        return copy.deepcopy(self)

    @abstractmethod
    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        """The value at a bar that is right; ``inputs`` are its fields that the indicator looks at."""

    def _check(self, bar: Bar, inputs: tuple[float, ...]) -> None:
        for name, value in zip(self._inputs, inputs, strict=True):
            if not -1e100 < value < 1e100:
                raise ValueError(f"{name} is NaN, infinite or too large")
            if name == "volume":
                if value < 0:
                    raise ValueError("volume must not be negative")
            elif self._positive and value <= 0:
                raise ValueError(f"{name} must be above zero")
        if self._ranged and bar.high < bar.low:
            raise ValueError("high is below low")


class Handle:
    """A stream of TA-Lib: opened once there are enough bars, which are kept until then."""

    def __init__(self, name: str, **parameters: float) -> None:
        function = talib.abstract.Function(name)  # type: ignore[attr-defined]  # its stub leaves this name out
        function.set_parameters(parameters)
        self._name, self._parameters = name, parameters
        self._lookback: int = function.lookback
        outputs = len(function.output_names)
        self.unknown: Value = math.nan if outputs == 1 else (math.nan,) * outputs
        self._waiting: list[tuple[float, ...]] = []
        self._stream: Any = None

    def update(self, *values: float) -> Any:
        """The value after one more bar, a number or a tuple; NaN until there are enough."""
        if self._stream is not None:
            return self._stream.update(*values)
        self._waiting.append(values)
        if len(self._waiting) <= self._lookback:
            return self.unknown
        arrays = [np.array(column, np.float64) for column in zip(*self._waiting, strict=True)]
        try:
            self._stream = getattr(talib.stream, self._name)(*arrays, **self._parameters)
        except talib.InsufficientHistory:  # type: ignore[attr-defined]  # exported, its stub does not say so
            # a few open one bar after their first value
            found = getattr(talib, self._name)(*arrays, **self._parameters)
            return tuple(float(array[-1]) for array in found) if isinstance(found, tuple) else float(found[-1])
        self._waiting = []
        return self._stream.value

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        twin = copy.copy(self)
        twin._waiting = list(self._waiting)
        twin._stream = None if self._stream is None else self._stream.copy()
        return twin
