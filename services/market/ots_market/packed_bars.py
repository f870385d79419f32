"""Minute bars packed: the rows of an instrument and of a month or a day that is over, in one row as arrays.

A copy of ``bars_1m`` and nothing more. It is used only while the version that it was made of is that of its stretch
(``minutes_version``), which every transaction that stores, replaces or drops minute bars changes; so it is never stale,
and without it the same rows come from ``bars_1m``, more slowly: PostgreSQL and the client both pay by the row.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.copy_binary import copy_fields
from ots_common.database import Connection

BAR_COLUMNS = (
    ("ts", "timestamptz"),
    ("publisher_id", "int4"),
    ("open", "int8"),
    ("high", "int8"),
    ("low", "int8"),
    ("close", "int8"),
    ("volume", "int8"),
    ("origin", "char"),
)
"""What is read of a bar, by column and kind, whichever way it comes."""

LAYOUT = 1
"""Of what :func:`pack` makes; another number when that changes, so that what older code packed is packed anew."""

# of a column: its least value, the unit of what is above it, the width of a value in bytes
_COLUMN = struct.Struct("<qQB")
_WIDTHS = (1, 2, 4, 8)
_TYPES = {"origin": np.dtype("S1"), "publisher_id": np.dtype(np.int32)}

BarRows = Mapping[str, NDArray[Any]]
"""Rows of ``bars_1m`` by column, each of shape (n,), by time and publisher: as copy_out has them."""


@dataclass(frozen=True)
class Pack:
    """The bars of [starts, ends) (µs since 1970)."""

    starts_us: int
    ends_us: int
    rows: int
    moments: int
    packed: bytes

    def __len__(self) -> int:
        return self.rows

    def unpack(self) -> BarRows:
        """Its rows, just as they were packed."""
        return concatenated([self])

    def write(self, rows: BarRows) -> None:
        """Fill ``rows``, as many as it has."""
        at = 0
        for name, _ in BAR_COLUMNS if self.rows else ():
            least, unit, width = _COLUMN.unpack_from(self.packed, at)
            at += _COLUMN.size
            into = rows[name]
            if not width:
                into[:] = bytes([least]) if name == "origin" else least
                continue
            above = np.frombuffer(self.packed, f"<u{width}", self.rows, at)
            at += width * self.rows
            # modulo 2**64, as it was taken off
            values = into.view(np.uint64) if into.dtype == np.int64 else np.empty(self.rows, np.uint64)
            np.multiply(above, np.uint64(unit), out=values)
            values += np.int64(least).view(np.uint64)
            if into.dtype != np.int64:
                into[:] = values.astype(np.uint8).view("S1") if name == "origin" else values.view(np.int64)


def pack(rows: BarRows) -> bytes:
    """``rows`` as bytes: of each column how far its values are above the least, in the largest unit they share.

    Exact whatever they are. A minute of a liquid stock takes a dozen bytes.
    """
    if not len(rows["ts"]):
        return b""
    parts = []
    for name, _ in BAR_COLUMNS:
        column = np.ascontiguousarray(rows[name])
        values = (column.view(np.uint8) if name == "origin" else column).astype(np.int64)
        least = values.min()
        # modulo 2**64: right whatever int64 they are
        above = values.view(np.uint64) - least.view(np.uint64)
        unit = int(np.gcd.reduce(above))
        above //= np.uint64(unit or 1)
        most = int(above.max())
        width = next(width for width in _WIDTHS if most < 1 << 8 * width) if most else 0
        parts.append(_COLUMN.pack(int(least), unit or 1, width))
        if width:
            parts.append(above.astype(f"<u{width}").tobytes())
    return b"".join(parts)


def count_moments(times_us: NDArray[np.int64]) -> int:
    """How many different times there are in ``times_us``, which are in order."""
    return int(np.count_nonzero(times_us[1:] != times_us[:-1])) + 1 if len(times_us) else 0


# Packs that lie in the window, from its new or its old end on, until they have `limit` moments by themselves. One that
# only overlaps the window may have any number of them in it.
_CURRENT = """
    SELECT starts, ends, rows, moments, packed FROM (
        SELECT *, coalesce(sum(CASE WHEN starts >= %(start)s AND ends <= %(end)s THEN moments ELSE 0 END) OVER (
                   ORDER BY starts {direction} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS nearer
        FROM packed_bars p
        WHERE instrument_id = %(id)s AND layout = %(layout)s AND ends > %(start)s AND starts < %(end)s
          AND version = minutes_version(span, starts)
    ) current WHERE nearer < %(limit)s ORDER BY starts, ends DESC
"""
_KINDS = ("timestamptz", "timestamptz", "int4", "int4", "bytea")


def read_packs(
    connection: Connection, instrument_id: int, start: datetime, end: datetime, limit: int, *, newest: bool
) -> list[Pack]:
    """The current packs that ``limit`` moments of [start, end) may lie in, in order of time, none overlapping another.

    Whoever reads the rest from ``bars_1m`` must read it in the same snapshot (REPEATABLE READ).
    """
    with connection.cursor() as cursor:
        query = cursor.mogrify(
            _CURRENT.format(direction="DESC" if newest else "ASC"),
            {"id": instrument_id, "start": start, "end": end, "limit": limit, "layout": LAYOUT},
        ).decode()
    packs: list[Pack] = []
    for row in copy_fields(connection, query, _KINDS):
        found = Pack(*row)
        if not packs or found.starts_us >= packs[-1].ends_us:
            packs.append(found)
    return packs


def concatenated(parts: Sequence[BarRows | Pack]) -> BarRows:
    """Rows of stretches one behind the other."""
    sizes = [len(part) if isinstance(part, Pack) else len(part["ts"]) for part in parts]
    found = {name: np.empty(sum(sizes), _TYPES.get(name, np.int64)) for name, _ in BAR_COLUMNS}
    end = 0
    for part, size in zip(parts, sizes, strict=True):
        end += size
        into = {name: column[end - size : end] for name, column in found.items()}
        if isinstance(part, Pack):
            part.write(into)
            continue
        for name, column in into.items():
            column[:] = part[name]
    return found
