"""Columns of a table out of numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ots_common.tables import (
    Kind,
    TableColumn,
    Times,
    Whole,
    csv_texts,
    json_texts,
    list_column,
    scalar_texts,
)
from ots_common.times import NS_PER_S

if TYPE_CHECKING:
    import pyarrow as pa

_DAY_S = 86_400


@dataclass(frozen=True)
class ArrayColumn:
    """``array``: float64, int64, bool, <U, datetime64[D], or int64 nanoseconds; ``unknown`` of the same length."""

    kind: Kind
    array: NDArray[Any]
    unknown: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.array)

    def json(self, part: slice) -> list[bytes]:
        """Its values as JSON."""
        if self.kind == "text":
            return json_texts(self.array[part].tolist())
        return self._texts(part, b'"', b"null")

    def csv(self, part: slice) -> list[bytes]:
        """Its values as CSV."""
        if self.kind == "text":
            return csv_texts(self.array[part].tolist())
        return self._texts(part, b"", b"")

    def arrow(self, part: slice) -> pa.Array:
        """Its values as Arrow has them."""
        from ots_common.table_arrow import array_of_array

        return array_of_array(self.kind, self.array[part], None if self.unknown is None else self.unknown[part])

    def _texts(self, part: slice, mark: bytes, null: bytes) -> list[bytes]:
        rows = self.array[part]
        if self.kind == "time":
            texts = rfc3339_texts(rows, mark)
        elif self.kind == "date":
            texts = _iso_texts(rows, mark)
        else:
            texts = scalar_texts(np.ascontiguousarray(rows), null, orjson.OPT_SERIALIZE_NUMPY)
        if self.unknown is not None:
            for i in np.flatnonzero(self.unknown[part]).tolist():
                texts[i] = null
        return texts


def column_of(given: NDArray[Any] | Times | Whole | Sequence[Any]) -> TableColumn:
    """The column that ``given`` is. Raises ValueError on infinity, on several dimensions, and on what JSON lacks."""
    if isinstance(given, Times):
        return ArrayColumn("time", given.values, _some(given.values == 0))
    if isinstance(given, Whole):
        if len(given.values) != len(given.unknown):
            raise ValueError("columns differ in length: values and unknown")
        return ArrayColumn("integer", given.values.astype(np.int64, copy=False), _some(given.unknown))
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


def rfc3339_texts(nanoseconds: NDArray[np.int64], mark: bytes = b"") -> list[bytes]:
    """RFC 3339 UTC of moments since 1970, each as :func:`ots_common.times.rfc3339` writes it, between two ``mark``.

    Digits are computed for all at once; only days, of which there are few, are texts made one by one.
    """
    rows = len(nanoseconds)
    seconds, fraction = np.divmod(nanoseconds, NS_PER_S)
    days, clock = np.divmod(seconds, _DAY_S)
    clock = clock.astype(np.int32)
    text = np.zeros((rows, 30), np.uint8)
    day_texts = np.frombuffer(b"".join(_iso_texts(days.astype("datetime64[D]"), b"")), np.uint8)
    text[:, :10] = day_texts.reshape(-1, 10)
    text[:, 10] = ord("T")
    for start, number in ((11, clock // 3600), (14, clock // 60 % 60), (17, clock % 60)):
        text[:, start] = ord("0") + number // 10
        text[:, start + 1] = ord("0") + number % 10
    text[:, 13] = text[:, 16] = ord(":")
    end = np.full(rows, 19)
    broken = np.flatnonzero(fraction)
    if len(broken):
        left = fraction[broken].astype(np.int32)
        digits = np.where(left % 1_000_000 == 0, 3, np.where(left % 1_000 == 0, 6, 9))
        text[broken, 19] = ord(".")
        for place in range(28, 19, -1):
            left, digit = np.divmod(left, 10)
            text[broken, place] = ord("0") + digit
        end[broken] = 20 + digits
    # what stands behind the end of a text is cut off: trailing zero bytes are no part of a numpy text
    text[np.arange(30) > end[:, None]] = 0
    text[np.arange(rows), end] = ord("Z")
    if mark:
        marked = np.zeros((rows, 32), np.uint8)
        marked[:, 0] = marked[np.arange(rows), end + 2] = ord(mark)
        marked[:, 1:31] |= text
        text = marked
    texts: list[bytes] = text.view(f"S{text.shape[1]}").ravel().tolist()
    return texts


def _iso_texts(days: NDArray[np.datetime64], mark: bytes) -> list[bytes]:
    """Dates as ISO texts, each different one made once."""
    different, places = np.unique(days, return_inverse=True)
    iso = np.datetime_as_string(different, unit="D").tolist()
    made = np.array([mark + text.encode() + mark for text in iso], object)
    texts: list[bytes] = made[places].tolist()
    return texts


def _some(unknown: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return unknown if unknown.any() else None
