"""What is stored, counted as it is stored: rows and a checksum of their values by day, in the storing transaction.

The table ``stored_rows`` keeps it, and the self-check compares the rows with it. The checksum is the sum of all
columns, each times a number of its own, modulo 2^64: it can be added to and subtracted from, in any order. See
migration 0011, where ``row_checksum`` does the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ots_common.copy_binary import Column
from ots_common.database import Connection
from ots_common.times import to_datetime
from ots_ingestion.layouts import BAR_TABLES, SCHEMA_IDS
from ots_market.timeframes import DAY_NS

Int64 = NDArray[np.int64]

SCHEMAS = {"trades": "trades", "statistics": "statistics", "definitions": "definition"} | {
    table: schema for schema, table in BAR_TABLES.items()
}
"""Table -> its schema; each row of ``quotes`` has its own."""
_QUOTES = {number: schema for schema, number in SCHEMA_IDS.items()}
# how many values are there, of all columns: NULL and 0 have the same sum
_PRESENT = ""
_BLANK = ord(" ")
_MODULUS = 1 << 64
_DAY_US = DAY_NS // 1000
_DAY = f"div(extract(epoch FROM ts) * 1000000, {_DAY_US})::integer"


class RowLedger:
    """Counts the rows that a transaction stores in one table, all of one dataset and schema."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._schema = SCHEMAS.get(table)
        self._instrument: int | None = None
        # day since 1970 -> rows and checksum
        self._days: dict[int, tuple[int, int]] = {}

    def add(self, columns: Sequence[Column]) -> None:
        """Count rows that are stored now: all columns of the table, ``ts`` and ``instrument_id`` among them."""
        n = len(columns[0].values)
        if not n:
            return
        self._learn(columns)
        days = next(column.values for column in columns if column.name == "ts") // _DAY_US
        if int(days.min()) == int(days.max()):
            order, starts = None, np.zeros(1, np.int64)
        else:
            order = np.argsort(days - days.min(), kind="stable")
            days = days[order]
            starts = np.flatnonzero(np.concatenate(([True], days[1:] != days[:-1])))
        numbers = np.diff(np.append(starts, n))
        present = numbers * len(columns)
        checksums = np.zeros(len(starts), np.uint64)
        for column in columns:
            values = _numbers(column)
            sums = np.add.reduceat(values if order is None else values[order], starts)
            checksums += sums.view(np.uint64) * np.uint64(_factor(column.name))
            if column.null is not None:
                null = column.null.astype(np.int64)
                present -= np.add.reduceat(null if order is None else null[order], starts)
        checksums += present.view(np.uint64) * np.uint64(_factor(_PRESENT))
        for day, number, checksum in zip(days[starts].tolist(), numbers.tolist(), checksums.tolist(), strict=True):
            self._put(day, number, checksum)

    def insert(self, connection: Connection, insert: str, parameters: Sequence[str], columns: Sequence[Column]) -> int:
        """Carry out an ``INSERT`` of some of ``columns`` into the table and count what it stored; how many rows."""
        counted = f"WITH stored AS ({insert} RETURNING *) SELECT {_DAY}, {_sums(columns)} FROM stored GROUP BY 1"
        return self._ask(connection, counted, parameters, columns, 1)

    def withdraw(self, connection: Connection, rows: str, columns: Sequence[Column]) -> None:
        """Take back stored rows (an item of ``FROM``, in SQL) that others are about to replace."""
        self._ask(connection, f"SELECT {_DAY}, {_sums(columns)} FROM {rows} GROUP BY 1", (), columns, -1)

    def write(self, connection: Connection) -> None:
        """Write down what was counted. The caller holds the table's write lock."""
        days = sorted(day for day, counted in self._days.items() if counted != (0, 0))
        if not days:
            return
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT note_rows(%s, %s, %s, %s::date[], %s::bigint[], %s::numeric[])",
                (
                    self._table,
                    self._schema,
                    self._instrument,
                    [to_datetime(day * DAY_NS).date() for day in days],
                    [self._days[day][0] for day in days],
                    [self._days[day][1] for day in days],
                ),
            )
        self._days.clear()

    def _learn(self, columns: Sequence[Column]) -> None:
        """Whose rows they are: the dataset is that of any instrument, the schema of quotes is in the rows."""
        if self._instrument is None:
            first = {c.name: int(c.values[0]) for c in columns if c.name in ("instrument_id", "schema_id")}
            self._instrument = first["instrument_id"]
            self._schema = self._schema or _QUOTES[first["schema_id"]]

    def _ask(
        self, connection: Connection, query: str, parameters: Sequence[str], columns: Sequence[Column], sign: int
    ) -> int:
        self._learn(columns)
        factors = [_factor(name) for name in (_PRESENT, *(column.name for column in columns))]
        number = 0
        with connection.cursor() as cursor:
            cursor.execute(query, parameters)
            for day, rows, *sums in cursor.fetchall():
                number += rows
                weighed = sum(int(value or 0) * factor for value, factor in zip(sums, factors, strict=True))
                self._put(day, sign * rows, sign * weighed)
        return number

    def _put(self, day: int, number: int, checksum: int) -> None:
        rows, before = self._days.get(day, (0, 0))
        self._days[day] = rows + number, (before + checksum) % _MODULUS


@lru_cache
def _factor(name: str) -> int:
    """Odd: no change of one value leaves the checksum as it was."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") | 1


def _numbers(column: Column) -> Int64:
    """The values as whole numbers, as :func:`_sums` takes them; what is NULL is 0. Sums of them are modulo 2^64."""
    if column.kind == "char":
        codes = column.values.view(np.uint8).astype(np.int64)
        return np.where(codes == _BLANK, 0, codes)
    values = column.values.astype(np.int64, copy=False)
    return values if column.null is None else np.where(column.null, 0, values)


def _sums(columns: Sequence[Column]) -> str:
    """The number of rows, of values that are not NULL, and the sum of each column, in SQL; see ``count_rows``."""
    in_sql = {"timestamptz": "sum((extract(epoch FROM {}) * 1000000)::bigint)", "char": "sum(ascii({}))"}
    terms = [in_sql.get(column.kind, "sum({})").format(column.name) for column in columns]
    return f"count(*), sum(num_nonnulls({', '.join(column.name for column in columns)})), {', '.join(terms)}"
