"""Tables as Arrow and Parquet; imported where a client asks for them, in services that have pyarrow."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ots_common.tables import Kind, TableColumn

_TYPES: Mapping[Kind, pa.DataType] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "flag": pa.bool_(),
    "text": pa.string(),
    "date": pa.date32(),
    "time": pa.timestamp("ns", tz="UTC"),
    "json": pa.string(),
}


def arrow_pieces(
    columns: Mapping[str, TableColumn], parts: Sequence[slice], metadata: Mapping[str, str]
) -> Iterator[bytes]:
    """The Arrow IPC stream of a table: the schema, then a record batch for each of ``parts``."""
    schema = _schema(columns, metadata)
    sink = _Sink()
    with pa.ipc.new_stream(sink, schema) as writer:
        yield sink.taken()
        for part in parts:
            writer.write_batch(_batch(columns, schema, part))
            yield sink.taken()
    yield sink.taken()


def parquet_bytes(columns: Mapping[str, TableColumn], metadata: Mapping[str, str]) -> bytes:
    """The Parquet file of a table."""
    schema = _schema(columns, metadata)
    sink = io.BytesIO()
    table = pa.Table.from_batches([_batch(columns, schema, slice(None))])
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def array_of_array(kind: Kind, values: NDArray[Any], unknown: NDArray[np.bool_] | None) -> pa.Array:
    """An Arrow array of a numpy array; NaN and what is ``unknown`` are null."""
    if kind == "number":
        unknown = np.isnan(values)
    return pa.array(values, _TYPES[kind], mask=unknown)


def array_of_items(kind: Kind, items: Sequence[Any]) -> pa.Array:
    """An Arrow array of Python values; None is null."""
    if kind == "number":
        items = [None if item is None else float(item) for item in items]
    elif kind in ("time", "date"):
        texts = [None if item is None else item.removesuffix("Z") for item in items]
        return pa.array(np.array(texts, "datetime64[ns]" if kind == "time" else "datetime64[D]"), _TYPES[kind])
    return pa.array(items, _TYPES[kind])


class _Sink(io.RawIOBase):
    """Takes what is written until it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        """All that came since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _schema(columns: Mapping[str, TableColumn], metadata: Mapping[str, str]) -> pa.Schema:
    return pa.schema([(name, _TYPES[column.kind]) for name, column in columns.items()], metadata=dict(metadata))


def _batch(columns: Mapping[str, TableColumn], schema: pa.Schema, part: slice) -> pa.RecordBatch:
    return pa.record_batch([column.arrow(part) for column in columns.values()], schema=schema)
