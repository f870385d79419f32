"""Columns of a table out of numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ots_common.tables import Kind, TableColumn, Times, Whole, list_column
from ots_common.times import NS_PER_S

_DIGITS: tuple[tuple[Literal["s", "ms", "us", "ns"], int], ...] = (
    ("s", NS_PER_S), ("ms", 1_000_000), ("us", 1_000), ("ns", 1),
)  # fmt: skip


@dataclass(frozen=True)
class ArrayColumn:
    """``array``: float64, int64, bool, <U, datetime64[D], or int64 nanoseconds; ``unknown`` of the same length."""

    kind: Kind
    array: NDArray[Any]
    unknown: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.array)

    def values(self, part: slice) -> list[Any]:
        """Rows of it as JSON has them; NaN is left to who writes."""
        rows = self.array[part]
        made: list[Any] = []
        if self.kind == "time":
            made += rfc3339_texts(rows)
        elif self.kind == "date":
            made = np.datetime_as_string(rows, unit="D").tolist()
        else:
            made = rows.tolist()
        if self.unknown is not None:
            for i in np.flatnonzero(self.unknown[part]).tolist():
                made[i] = None
        return made


def column_of(given: NDArray[Any] | Times | Whole | Sequence[Any]) -> TableColumn:
    """The column that ``given`` is. Raises ValueError on infinity, on several dimensions, and on what JSON lacks."""
    if isinstance(given, Times):
        return ArrayColumn("time", given.values, _some(given.values == 0))
    if isinstance(given, Whole):
        return ArrayColumn("integer", given.values, _some(given.unknown))
    if not isinstance(given, np.ndarray):
        return list_column(given)
    if given.ndim != 1:
        raise ValueError(f"a column has one dimension, not {given.ndim}")
    match given.dtype.kind:
        case "f":
            if np.isinf(given).any():
                raise ValueError("infinity in a column of numbers")
            return ArrayColumn("number", given.astype(np.float64, copy=False))
        case "i":
            return ArrayColumn("integer", given.astype(np.int64, copy=False))
        case "u":
            if given.dtype.itemsize == 8 and (given > np.uint64(2**63 - 1)).any():
                raise ValueError("an integer above 63 bits")
            return ArrayColumn("integer", given.astype(np.int64))
        case "b":
            return ArrayColumn("flag", given)
        case "U":
            return ArrayColumn("text", given)
        case "M":
            dates = given.astype("datetime64[D]", copy=False)
            return ArrayColumn("date", dates, _some(np.isnat(dates)))
        case "O":
            return list_column(given.tolist())
    raise ValueError(f"no column is made of {given.dtype}")


def rfc3339_texts(nanoseconds: NDArray[np.int64]) -> list[str]:
    """RFC 3339 UTC of each, as :func:`ots_common.times.rfc3339` writes one: 0, 3, 6 or 9 digits of a second."""
    moments = nanoseconds.astype("datetime64[ns]")
    fraction = nanoseconds % NS_PER_S
    made = np.empty(len(moments), object)
    left = np.ones(len(moments), bool)
    for unit, step in _DIGITS:
        these = left & (fraction % step == 0)
        if these.any():
            texts = np.datetime_as_string(moments[these], unit=unit).tolist()
            made[these] = [text + "Z" for text in texts]
            left &= ~these
    texts_of_all: list[str] = made.tolist()
    return texts_of_all


def _some(unknown: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return unknown if unknown.any() else None
