"""DBN version 3 on the wire: layouts by schema, the time that orders records, and the gateway's own messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import databento_dbn as dbn
import numpy as np
from databento_dbn.metadata import MappingInterval
from numpy.typing import NDArray

DAY_NS = 86_400_000_000_000
UNDEFINED_TIME = 2**64 - 1
EPOCH = date(1970, 1, 1)

Records = NDArray[np.void]
Times = NDArray[np.int64]

_MESSAGES: dict[str, Any] = {
    "mbo": dbn.MBOMsg,
    "mbp-1": dbn.MBP1Msg,
    "mbp-10": dbn.MBP10Msg,
    "tbbo": dbn.MBP1Msg,
    "trades": dbn.TradeMsg,
    "definition": dbn.InstrumentDefMsg,
    "statistics": dbn.StatMsg,
    "status": dbn.StatusMsg,
    "imbalance": dbn.ImbalanceMsg,
    **dict.fromkeys(("cmbp-1", "tcbbo"), dbn.CMBP1Msg),
    **dict.fromkeys(("cbbo-1s", "cbbo-1m"), dbn.CBBOMsg),
    **dict.fromkeys(("bbo-1s", "bbo-1m"), dbn.BBOMsg),
    **dict.fromkeys(("ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "ohlcv-eod"), dbn.OHLCVMsg),
}
LAYOUTS: dict[str, np.dtype[np.void]] = {schema: np.dtype(message._dtypes) for schema, message in _MESSAGES.items()}
# what a record is where its file does not say: types 1 and 177 also carry tbbo and tcbbo
SCHEMA_OF_RTYPE = {
    0: "trades",
    1: "mbp-1",
    10: "mbp-10",
    18: "status",
    19: "definition",
    20: "imbalance",
    24: "statistics",
    32: "ohlcv-1s",
    33: "ohlcv-1m",
    34: "ohlcv-1h",
    35: "ohlcv-1d",
    36: "ohlcv-eod",
    160: "mbo",
    177: "cmbp-1",
    192: "cbbo-1s",
    193: "cbbo-1m",
    194: "tcbbo",
    195: "bbo-1s",
    196: "bbo-1m",
}
SYMBOL_MAPPING = 22
INSTRUMENT_ID = dbn.SType.from_str("instrument_id")
HEARTBEAT = dbn.SystemCode.from_str("heartbeat")
SUBSCRIPTION_ACK = dbn.SystemCode.from_str("subscription_ack")
SLOW_READER = dbn.SystemCode.from_str("slow_reader_warning")
REPLAY_COMPLETED = dbn.SystemCode.from_str("replay_completed")
# a bar is known when its interval is over; its index time is the interval's beginning
BAR_NS = {
    "ohlcv-1s": 10**9,
    "ohlcv-1m": 60 * 10**9,
    "ohlcv-1h": 3600 * 10**9,
    "ohlcv-1d": DAY_NS,
    "ohlcv-eod": DAY_NS,
}
# of these the gateway may leave records out for a reader that is too slow, never of trades
SKIPPABLE = frozenset({"mbp-1", "cmbp-1", "bbo-1s", "bbo-1m", "cbbo-1s", "cbbo-1m"})


def index_times(records: Records) -> Times:
    """The time that orders each record, ns; ``ts_recv`` where the schema has it, else ``ts_event``; shape (n,)."""
    names = records.dtype.names or ()
    return records["ts_recv" if "ts_recv" in names else "ts_event"].astype(np.int64)


def wire_bytes(records: Records) -> NDArray[np.uint8]:
    """The bytes of ``records``, shape (n, record size)."""
    packed = np.ascontiguousarray(records)
    return packed.view(np.uint8).reshape(len(packed), packed.dtype.itemsize)


@dataclass(slots=True)
class DatedSymbol:
    """One interval of a mapping, as the encoder takes it."""

    start_date: date
    end_date: date
    symbol: str


@dataclass(slots=True)
class Mapping:
    """Who ``raw_symbol`` was and when, as the encoder takes it."""

    raw_symbol: str
    intervals: Sequence[MappingInterval]


def day_of(number: int) -> date:
    """The date that is ``number`` days after 1970-01-01."""
    return EPOCH + timedelta(days=number)


def live_metadata(dataset: str, start_ns: int, *, ts_out: bool) -> bytes:
    """What opens a live session."""
    return dbn.Metadata(
        dataset=dataset,
        start=start_ns,
        stype_in=None,
        stype_out=INSTRUMENT_ID,
        schema=None,
        ts_out=ts_out,
        version=3,
    ).encode()


def system_message(at_ns: int, text: str, code: dbn.SystemCode) -> bytes:
    """A SystemMsg."""
    return bytes(dbn.SystemMsg(at_ns, text, code))


def error_message(at_ns: int, text: str, code: int) -> bytes:
    """An ErrorMsg with one of Databento's codes."""
    return bytes(dbn.ErrorMsg(at_ns, text, True, dbn.ErrorCode.from_int(code)))
