"""From DBN records to the columns of our tables: one function a kind of record, numpy in and numpy out.

Undefined values become NULL where a value may be missing; a record that lacks what its table cannot do without is
rejected with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.copy_binary import Column
from ots_ingestion.identity import digest, record_words
from ots_market.prices import UNDEFINED
from ots_market.timeframes import DAY_NS

UNDEFINED_SIZE = 2**32 - 1
_UNDEFINED_I32 = 2**31 - 1
_LAST_TIME = 2**63 - 1

# Databento's numbers of the schemas stored here, as in the table dbn_schemas
SCHEMA_IDS = {
    "mbp-1": 1,
    "tbbo": 3,
    "trades": 4,
    "ohlcv-1m": 6,
    "ohlcv-1h": 7,
    "ohlcv-1d": 8,
    "definition": 9,
    "statistics": 10,
    "cmbp-1": 14,
    "cbbo-1s": 15,
    "cbbo-1m": 16,
    "tcbbo": 17,
    "bbo-1s": 18,
    "bbo-1m": 19,
}
# what a record type is where the file does not say; 1 and 194 also carry tbbo and tcbbo, whose records look the same
_SCHEMA_OF_RTYPE = {
    0: "trades",
    1: "mbp-1",
    19: "definition",
    24: "statistics",
    33: "ohlcv-1m",
    34: "ohlcv-1h",
    35: "ohlcv-1d",
    177: "cmbp-1",
    192: "cbbo-1s",
    193: "cbbo-1m",
    194: "tcbbo",
    195: "bbo-1s",
    196: "bbo-1m",
}
CONTROL_RTYPES = {18: "status", 21: "error", 22: "symbol_mapping", 23: "system"}
_TABLES = {"trades": "trades", "statistics": "statistics", "definition": "definitions"}
BAR_TABLES = {"ohlcv-1m": "bars_1m", "ohlcv-1h": "bars_1h", "ohlcv-1d": "bars_1d"}

Int64 = NDArray[np.int64]

# of the word that holds a vendor's id and a day, those of the day
DAY_BITS = 20


@dataclass(frozen=True)
class Rows:
    """Records of one schema on their way into ``table``; every array has shape (n,).

    ``own_ns``: the record's own time. ``index_ns``: the time the vendor orders and dates the file by. ``rejected``:
    reason -> number of records left out. ``source``: the records themselves, in step with the rows.
    """

    schema: str
    table: str
    vendor_ids: Int64
    own_ns: Int64
    index_ns: Int64
    columns: list[Column]
    digests: Int64 | None
    rejected: dict[str, int]
    source: NDArray[Any] = field(repr=False)

    @property
    def days(self) -> Int64:
        """The UTC day of each record, by which the vendor's ids are valid."""
        return days_of(self.index_ns)

    def __len__(self) -> int:
        return len(self.own_ns)

    def take(self, which: NDArray[Any]) -> Rows:
        """The rows that ``which`` (mask or indices) selects."""
        return replace(
            self,
            vendor_ids=self.vendor_ids[which],
            own_ns=self.own_ns[which],
            index_ns=self.index_ns[which],
            columns=[column.take(which) for column in self.columns],
            digests=None if self.digests is None else self.digests[which],
            source=self.source[which],
        )


def schema_of(rtype: int, file_schema: str | None) -> str | None:
    """The schema of records of ``rtype`` in a file of ``file_schema``; None when it is not stored here."""
    if file_schema in ("tbbo", "tcbbo") and rtype in (1, 177, 194):
        return file_schema
    return _SCHEMA_OF_RTYPE.get(rtype)


def to_rows(schema: str, records: NDArray[Any]) -> Rows:
    """The rows that ``records`` become. Raises KeyError for a schema that is not stored."""
    return _CONVERTERS[schema](schema, records)


@dataclass(frozen=True)
class Extent:
    """What must be known of records before the first of them is stored.

    ``accepted``: which become rows, shape (n,); None when all do. ``rejected``: reason -> number of the others. Of
    those that become rows: ``keys``, which vendor's ids on which days, as :func:`day_keys` packs them, each once and in
    order; ``first_ns`` and ``last_ns``, the stretch of their own times; ``days`` (since 1970), on which those are.
    """

    accepted: NDArray[np.bool_] | None
    rejected: dict[str, int]
    keys: Int64
    first_ns: int
    last_ns: int
    days: Int64


def table_of(schema: str) -> str:
    """The table that rows of this schema go into."""
    return BAR_TABLES.get(schema) or _TABLES.get(schema, "quotes")


def index_days(schema: str, records: NDArray[Any]) -> Int64:
    """The UTC day (since 1970) of each record, by which the vendor's ids are valid."""
    return days_of(_times(schema, records)[1])


def extent_of(schema: str, records: NDArray[Any]) -> Extent:
    """The extent of ``records`` of one schema. Without one that becomes a row there are no keys and no times."""
    accepted, rejected = _accept(schema, records)
    kept = records if accepted is None else records[accepted]
    if not len(kept):
        return Extent(accepted, rejected, np.zeros(0, np.int64), 0, 0, np.zeros(0, np.int64))
    own, index = _times(schema, kept)
    keys = day_keys(_signed(kept["instrument_id"]), days_of(index))
    # many records of one instrument may follow each other
    keys = np.unique(keys[np.concatenate(([True], keys[1:] != keys[:-1]))])
    return Extent(accepted, rejected, keys, int(own.min()), int(own.max()), unique_days(own))


def days_of(times_ns: Int64) -> Int64:
    """The UTC day (since 1970) of each time."""
    return times_ns // DAY_NS


def unique_days(times_ns: Int64) -> Int64:
    """The UTC days (since 1970) that these times are on, each once and in order."""
    first, last = int(times_ns.min()) // DAY_NS, int(times_ns.max()) // DAY_NS
    return np.array([first]) if first == last else np.unique(days_of(times_ns))


def day_keys(vendor_ids: Int64, days: Int64) -> Int64:
    """A vendor's id and a day in one word, which sorts six times as fast as a pair: ids have 32 bits, days 17."""
    return vendor_ids << DAY_BITS | days


def _times(schema: str, records: NDArray[Any]) -> tuple[Int64, Int64]:
    """The records' own times and those that the vendor orders by (see :class:`Rows`)."""
    if schema in BAR_TABLES:
        own = _signed(records["ts_event"])
        return own, own
    index = _signed(records["ts_recv"])
    return (index if schema == "definition" or _is_sampled(schema) else _signed(records["ts_event"])), index


def _is_sampled(schema: str) -> bool:
    return schema.startswith(("bbo", "cbbo"))


def _refusals(schema: str, r: NDArray[Any]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Why a record of this schema can not be a row, the first reason first, and which records that concerns."""
    if schema in BAR_TABLES:
        yield "undefined_time", r["ts_event"] > _LAST_TIME
        yield "undefined_price", np.any([r[p] == UNDEFINED for p in ("open", "high", "low", "close")], axis=0)
        yield "undefined_volume", r["volume"] > _LAST_TIME
        return
    if schema == "definition" or _is_sampled(schema):
        yield "undefined_time", r["ts_recv"] > _LAST_TIME
    else:
        yield "undefined_time", (r["ts_event"] > _LAST_TIME) | (r["ts_recv"] > _LAST_TIME)
    if schema == "trades":
        yield "undefined_price", r["price"] == UNDEFINED
        yield "undefined_size", r["size"] == UNDEFINED_SIZE
    elif schema == "definition":
        yield "no_symbol", r["raw_symbol"] == b""
    elif schema == "statistics":
        yield "unknown_statistic", r["stat_type"] > np.iinfo(np.int16).max


def _acceptable(schema: str, records: NDArray[Any]) -> tuple[NDArray[Any], dict[str, int]]:
    accepted, rejected = _accept(schema, records)
    return (records if accepted is None else records[accepted]), rejected


def _accept(schema: str, records: NDArray[Any]) -> tuple[NDArray[np.bool_] | None, dict[str, int]]:
    """Which records can be rows (None: all), and how many cannot, by the first reason."""
    accepted: NDArray[np.bool_] | None = None
    rejected: dict[str, int] = {}
    for reason, wrong in _refusals(schema, records):
        if not wrong.any():
            continue
        accepted = np.ones(len(records), bool) if accepted is None else accepted
        if number := int((wrong & accepted).sum()):
            rejected[reason] = number
            accepted &= ~wrong
    return accepted, rejected


def _signed(values: NDArray[Any]) -> Int64:
    return values.astype(np.int64)


def _nullable(name: str, kind: str, values: NDArray[Any], undefined: int) -> Column:
    missing = values == undefined
    return Column(name, kind, _signed(np.where(missing, 0, values)), missing if missing.any() else None)


def _time(name: str, values: NDArray[Any]) -> Column:
    missing = values > _LAST_TIME
    return Column(name, "int8", _signed(np.where(missing, 0, values)), missing if missing.any() else None)


def _whole(name: str, kind: str, values: NDArray[Any]) -> Column:
    return Column(name, kind, _signed(values))


def _char(name: str, values: NDArray[Any]) -> Column:
    """A one-character code; an unset one (NUL, which PostgreSQL's text cannot hold) is Databento's N, none."""
    return Column(name, "char", np.where(values == b"", b"N", values).astype("S1"))


def _zeros(name: str, kind: str, n: int) -> Column:
    return Column(name, kind, np.zeros(n, np.int64))


def _identity(schema: str, own_ns: Int64, columns: list[Column]) -> Int64:
    # which columns have NULLs at all must not matter: fold the flags into one word
    flags = np.zeros(len(own_ns), np.int64)
    for i, column in enumerate(columns):
        if column.null is not None:
            flags |= column.null.astype(np.int64) << i
    return digest(SCHEMA_IDS[schema], [own_ns, flags, *(column.values for column in columns)])


def _trades(schema: str, records: NDArray[Any]) -> Rows:
    r, rejected = _acceptable(schema, records)
    columns = [
        _whole("sequence", "int8", r["sequence"]),
        _whole("price", "int8", r["price"]),
        _whole("size", "int8", r["size"]),
        _char("side", r["side"]),
        _char("action", r["action"]),
        _whole("flags", "int2", r["flags"]),
        _whole("depth", "int2", r["depth"]),
        _whole("publisher_id", "int4", r["publisher_id"]),
        _whole("recv_at_ns", "int8", r["ts_recv"]),
        _whole("ts_in_delta", "int4", r["ts_in_delta"]),
    ]
    own, index = _times(schema, r)
    return Rows(
        schema, "trades", _signed(r["instrument_id"]), own, index, columns,
        _identity(schema, own, columns), rejected, r,
    )  # fmt: skip


def _quotes(schema: str, records: NDArray[Any]) -> Rows:
    r, rejected = _acceptable(schema, records)
    names = set(r.dtype.names or ())
    n = len(r)
    detail = "ct" if "bid_ct_00" in names else "pb"
    columns = [
        Column("schema_id", "int2", np.full(n, SCHEMA_IDS[schema], np.int64)),
        _whole("sequence", "int8", r["sequence"]) if "sequence" in names else _zeros("sequence", "int8", n),
        _nullable("bid", "int8", r["bid_px_00"], UNDEFINED),
        _nullable("ask", "int8", r["ask_px_00"], UNDEFINED),
        _nullable("bid_size", "int8", r["bid_sz_00"], UNDEFINED_SIZE),
        _nullable("ask_size", "int8", r["ask_sz_00"], UNDEFINED_SIZE),
        _whole("bid_detail", "int8", r[f"bid_{detail}_00"]),
        _whole("ask_detail", "int8", r[f"ask_{detail}_00"]),
        _nullable("price", "int8", r["price"], UNDEFINED),
        _nullable("size", "int8", r["size"], UNDEFINED_SIZE),
        _char("side", r["side"]),
        _char("action", r["action"]) if "action" in names else Column("action", "char", np.full(n, b"N", "S1")),
        _whole("flags", "int2", r["flags"]),
        _whole("depth", "int2", r["depth"]) if "depth" in names else _zeros("depth", "int2", n),
        _whole("publisher_id", "int4", r["publisher_id"]),
        _time("event_at_ns", r["ts_event"]),
        _whole("recv_at_ns", "int8", r["ts_recv"]),
        _whole("ts_in_delta", "int4", r["ts_in_delta"]) if "ts_in_delta" in names else _zeros("ts_in_delta", "int4", n),
    ]
    own, index = _times(schema, r)
    return Rows(
        schema, "quotes", _signed(r["instrument_id"]), own, index, columns,
        _identity(schema, own, columns), rejected, r,
    )  # fmt: skip


def _statistics(schema: str, records: NDArray[Any]) -> Rows:
    r, rejected = _acceptable(schema, records)
    undefined_quantity = UNDEFINED if r.dtype["quantity"].itemsize == 8 else _UNDEFINED_I32
    columns = [
        _whole("sequence", "int8", r["sequence"]),
        _whole("stat_type", "int2", r["stat_type"]),
        _nullable("price", "int8", r["price"], UNDEFINED),
        _nullable("quantity", "int8", r["quantity"], undefined_quantity),
        _time("ref_at_ns", r["ts_ref"]),
        _whole("update_action", "int2", r["update_action"]),
        _whole("stat_flags", "int2", r["stat_flags"]),
        _whole("channel_id", "int4", r["channel_id"]),
        _whole("publisher_id", "int4", r["publisher_id"]),
        _whole("recv_at_ns", "int8", r["ts_recv"]),
        _whole("ts_in_delta", "int4", r["ts_in_delta"]),
    ]
    own, index = _times(schema, r)
    return Rows(
        schema, "statistics", _signed(r["instrument_id"]), own, index, columns,
        _identity(schema, own, columns), rejected, r,
    )  # fmt: skip


def _definitions(schema: str, records: NDArray[Any]) -> Rows:
    r, rejected = _acceptable(schema, records)
    columns = [
        _whole("vendor_id", "int8", r["instrument_id"]),
        _char("instrument_class", r["instrument_class"]),
        _time("expiration_at_ns", r["expiration"]),
        _time("activation_at_ns", r["activation"]),
        _nullable("strike", "int8", r["strike_price"], UNDEFINED),
        _nullable("contract_multiplier", "int4", r["contract_multiplier"], _UNDEFINED_I32),
        _nullable("min_price_increment", "int8", r["min_price_increment"], UNDEFINED),
        _char("update_action", r["security_update_action"]),
        _whole("publisher_id", "int4", r["publisher_id"]),
        _whole("recv_at_ns", "int8", r["ts_recv"]),
    ]
    own, index = _times(schema, r)
    # a definition has more fields than are stored: all of its bytes make it itself
    digests = digest(SCHEMA_IDS[schema], record_words(r)) if len(r) else np.zeros(0, np.int64)
    return Rows(schema, "definitions", _signed(r["instrument_id"]), own, index, columns, digests, rejected, r)


def _bars(schema: str, records: NDArray[Any]) -> Rows:
    r, rejected = _acceptable(schema, records)
    columns = [
        _whole("publisher_id", "int4", r["publisher_id"]),
        *(_whole(name, "int8", r[name]) for name in ("open", "high", "low", "close", "volume")),
        Column("origin", "char", np.full(len(r), b"v", "S1")),
    ]
    own, index = _times(schema, r)
    # a bar is identified by its venue and its interval: a second one is a revision, not a second bar
    return Rows(schema, BAR_TABLES[schema], _signed(r["instrument_id"]), own, index, columns, None, rejected, r)


_CONVERTERS: dict[str, Callable[[str, NDArray[Any]], Rows]] = {
    "trades": _trades,
    "definition": _definitions,
    "statistics": _statistics,
    **dict.fromkeys(BAR_TABLES, _bars),
    **dict.fromkeys(("mbp-1", "tbbo", "tcbbo", "cmbp-1", "cbbo-1s", "cbbo-1m", "bbo-1s", "bbo-1m"), _quotes),
}
