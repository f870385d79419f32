"""Tables of answers read back, whatever their format, for comparison with the JSON of the same."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ots_common.media_types import ARROW, CSV, PARQUET
from ots_common.times import rfc3339

FORMATS = (CSV, ARROW, PARQUET)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


def arrow_table(media_type: str, body: bytes) -> pa.Table:
    """The table of an Arrow stream or a Parquet file."""
    if media_type.startswith(PARQUET):
        return pq.read_table(io.BytesIO(body))
    return pa.ipc.open_stream(body).read_all()


def rows_of(media_type: str, body: bytes) -> list[dict[str, Any]]:
    """The rows, values as JSON has them: numbers, texts, RFC 3339 times, ISO dates, null; objects as their text."""
    if media_type.startswith(CSV):
        return list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    table = arrow_table(media_type, body)
    columns = {
        name: [None if ns is None else rfc3339(ns) for ns in table[name].cast(pa.int64()).to_pylist()]
        if pa.types.is_timestamp(table.schema.field(name).type)
        else [value.isoformat() if isinstance(value, datetime.date) else value for value in table[name].to_pylist()]
        for name in table.schema.names
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def assert_same(media_type: str, body: bytes, expected: Sequence[dict[str, Any]]) -> None:
    """Fails unless a table has these rows of JSON, number for number to the last bit."""
    found = rows_of(media_type, body)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert set(mine) <= set(theirs)
        for name, value in mine.items():
            wanted = theirs[name]
            if media_type.startswith(CSV):
                assert _of_text(value, wanted) == wanted, name
            elif isinstance(wanted, dict | list):
                assert json.loads(value) == wanted, name
            else:
                assert value == wanted, name


def _of_text(text: str, like: Any) -> Any:
    """A value of CSV as JSON has it, of the sort of ``like``."""
    if like is None:
        return None if text == "" else text
    if isinstance(like, bool | dict | list):
        return json.loads(text)
    if isinstance(like, int | float):
        assert _NUMBER.fullmatch(text), text
        return type(like)(text)
    return text
