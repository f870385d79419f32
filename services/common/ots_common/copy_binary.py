"""numpy arrays to and from PostgreSQL by ``COPY ... (FORMAT BINARY)``, without a Python object per value.

The format (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"): an 11-byte signature, flags and an
extension length of 4 bytes each; then per row an int16 count of fields and per field an int32 length (-1: NULL) and the
value, all big-endian; at the end the int16 -1.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.database import Connection

# rows encoded at a time: the server stores the ones before while these are made. It waits for the first alone
_FIRST_ROWS = 2_048
_PIECE_ROWS = 16_384
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_FIELDS = struct.Struct(">h")
_LENGTH = struct.Struct(">i")
# microseconds between 1970-01-01 and PostgreSQL's epoch, 2000-01-01
_EPOCH_US = 946_684_800_000_000

_WIRE = {
    "int2": ">i2",
    "int4": ">i4",
    "int8": ">i8",
    "float8": ">f8",
    "timestamptz": ">i8",
    "char": "S1",
    "bool": "u1",
}


@dataclass(frozen=True)
class Column:
    """One column of a COPY. ``values``: shape (n,); for ``timestamptz`` int64 microseconds since 1970.

    ``null``: shape (n,) bool, True where the value is NULL; None when there is none.
    """

    name: str
    kind: str
    values: NDArray[Any]
    null: NDArray[np.bool_] | None = None

    def take(self, which: NDArray[Any] | slice) -> Column:
        """The rows that ``which`` (mask, indices or slice) selects."""
        return Column(self.name, self.kind, self.values[which], None if self.null is None else self.null[which])


def encode(columns: Sequence[Column]) -> bytes:
    """The whole binary COPY stream of ``columns``, all of one length. Raises ValueError for what does not fit."""
    return b"".join(_pieces(columns))


def _pieces(columns: Sequence[Column]) -> Iterator[bytes]:
    """The stream piece by piece."""
    n = len(columns[0].values)
    if unknown := {c.kind for c in columns} - _WIRE.keys():
        raise ValueError(f"no wire format for {sorted(unknown)}")
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for i, column in enumerate(columns):
        fields += [(f"length{i}", ">i4"), (f"value{i}", _WIRE[column.kind])]
    dtype = np.dtype(fields)
    for i, column in enumerate(columns):
        _check_fits(column, n, dtype[f"value{i}"].itemsize)
    rows = np.empty(min(n, _PIECE_ROWS), dtype)
    rows["fields"] = len(columns)
    yield _HEADER
    for first in (0, *range(min(_FIRST_ROWS, n), n, _PIECE_ROWS)):
        piece = slice(first, min(first + (_PIECE_ROWS if first else _FIRST_ROWS), n))
        yield _encode_rows(rows[: piece.stop - first], [column.take(piece) for column in columns])
    yield _TRAILER


def _encode_rows(rows: NDArray[np.void], columns: Sequence[Column]) -> bytes:
    """``rows`` is written over: only its field counts are kept."""
    keep: NDArray[np.bool_] | None = None
    for i, column in enumerate(columns):
        width = rows.dtype[f"value{i}"].itemsize
        rows[f"value{i}"] = column.values - _EPOCH_US if column.kind == "timestamptz" else column.values
        rows[f"length{i}"] = width
        if column.null is not None and column.null.any():
            rows[f"length{i}"][column.null] = -1
            if keep is None:
                keep = np.ones((len(rows), rows.dtype.itemsize), bool)
            start = rows.dtype.fields[f"value{i}"][1]  # type: ignore[index]
            keep[column.null, start : start + width] = False
    return rows.tobytes() if keep is None else rows.view(np.uint8).reshape(len(rows), -1)[keep].tobytes()


def _check_fits(column: Column, n: int, width: int) -> None:
    """numpy would wrap a number, cut a text and repeat a single value without a word."""
    values = column.values
    if len(values) != n or (column.null is not None and len(column.null) != n):
        raise ValueError(f"column {column.name} has {len(values)} values, the first column {n}")
    if column.kind == "char" and values.dtype.itemsize != width:
        raise ValueError(f"column {column.name} holds texts longer than one byte")
    if column.kind in ("int2", "int4") and n and values.dtype.itemsize > width:
        limit = 1 << (8 * width - 1)
        if int(values.min()) < -limit or int(values.max()) >= limit:
            raise ValueError(f"column {column.name} has a value that does not fit {column.kind}")


def array_literal(values: NDArray[Any], null: NDArray[np.bool_] | None = None) -> str:
    """Whole numbers or one-letter codes as PostgreSQL's text of an array, to be cast (``%s::bigint[]``).

    ``null``: where the value is NULL. One literal, where a list becomes an expression of as many elements, each of
    which the client writes and the server reads by itself.
    """
    if values.dtype.kind == "S":
        # whatever came off the wire: quotes and backslashes mean something in that text
        texts = ['"' + re.sub(r'(["\\\\])', r"\\\1", one.decode()) + '"' for one in values.tolist()]
    else:
        texts = [str(one) for one in values.tolist()]
    if null is not None:
        texts = ["NULL" if missing else text for text, missing in zip(texts, null.tolist(), strict=True)]
    return "{" + ",".join(texts) + "}"


def copy_in(connection: Connection, table: str, columns: Sequence[Column]) -> None:
    """COPY ``columns`` into ``table``; raises what PostgreSQL raises."""
    names = ", ".join(c.name for c in columns)
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)", _Pieces(columns))


class _Pieces:
    """The stream as a file: the client encodes a piece while the server stores those before it."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._pieces = _pieces(columns)

    def read(self, size: int = -1, /) -> bytes:
        """The next piece, of whatever size (psycopg2 sends what it gets); empty at the end."""
        return next(self._pieces, b"")

    # psycopg2 reads; its type asks for both
    readline = read


def copy_out(connection: Connection, query: str, columns: Sequence[tuple[str, str]]) -> NDArray[Any]:
    """The rows of ``query`` as a structured array with the native types of ``columns`` (name, kind).

    ``query`` must be a complete SQL text (``cursor.mogrify`` it) whose columns are NOT NULL and of just these kinds;
    ``timestamptz`` comes as int64 microseconds since 1970. Raises ValueError when the widths do not fit.
    """
    buffer = io.BytesIO()
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", buffer)
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in columns:
        fields += [(f"{name} length", ">i4"), (name, _WIRE[kind])]
    dtype = np.dtype(fields)
    raw = buffer.getbuffer()
    size = len(raw) - len(_HEADER) - len(_TRAILER)
    if size % dtype.itemsize:
        raise ValueError("a column is NULL or of another width than said")
    wire = np.frombuffer(raw, dtype, offset=len(_HEADER), count=size // dtype.itemsize)
    out = np.empty(len(wire), [(name, np.dtype(_WIRE[kind]).newbyteorder("=")) for name, kind in columns])
    for name, kind in columns:
        if (wire[f"{name} length"] != dtype[name].itemsize).any():
            raise ValueError(f"column {name} is NULL or of another width than {kind}")
        out[name] = wire[name]
        if kind == "timestamptz":
            out[name] += _EPOCH_US
    return out


def copy_fields(connection: Connection, query: str, kinds: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows of ``query``, few and wide, as tuples: ``bytea`` as bytes, which would come as twice as much text.

    Otherwise as :func:`copy_out`, for whole numbers of 2, 4 or 8 bytes and ``timestamptz``.
    """
    buffer = io.BytesIO()
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", buffer)
    raw = buffer.getbuffer()
    rows = []
    at = len(_HEADER)
    while (fields := _FIELDS.unpack_from(raw, at)[0]) >= 0:
        at += _FIELDS.size
        if fields != len(kinds):
            raise ValueError(f"the query has {fields} columns, not {len(kinds)}")
        row: list[Any] = []
        for kind in kinds:
            length = _LENGTH.unpack_from(raw, at)[0]
            at += _LENGTH.size
            if length < 0:
                raise ValueError("a column is NULL")
            value = raw[at : at + length]
            at += length
            row.append(bytes(value) if kind == "bytea" else _whole(value, kind))
        rows.append(tuple(row))
    return rows


def _whole(value: memoryview, kind: str) -> int:
    if len(value) != np.dtype(_WIRE[kind]).itemsize:
        raise ValueError(f"a column is of another width than {kind}")
    number = int.from_bytes(value, "big", signed=True)
    return number + _EPOCH_US if kind == "timestamptz" else number
