"""DBN version 3 records as packed little-endian structured arrays: their bytes are the wire's bytes.

Field names are those of databento_dbn, so that the arrays read as ``DBNStore.to_ndarray`` gives them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from databento_dbn import InstrumentDefMsg
from numpy.typing import NDArray

UNDEF_PRICE = 2**63 - 1
UNDEF_TIMESTAMP = 2**64 - 1
UNDEF_I32 = 2**31 - 1
PRICE = 1_000_000_000
CENT = 10_000_000

EQUITY_PUBLISHER = 95  # EQUS.MINI
CONSOLIDATED = 30  # OPRA's national best bid and offer
# the option exchanges, by Databento's numbers (AMXO, XBOX, XCBO, EMLD, EDGO, GMNI, XISX, ... MXOP)
OPTION_PUBLISHERS = np.array([20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 31, 32, 33, 34, 35, 36, 37], np.uint16)
FLAG_LAST = 128
FLAGS_OPRA = 194  # LAST, TOB, PUBLISHER_SPECIFIC
OPEN_INTEREST = 9

_HEADER = [("length", "u1"), ("rtype", "u1"), ("publisher_id", "<u2"), ("instrument_id", "<u4"), ("ts_event", "<u8")]
_TRADE = [
    ("price", "<i8"), ("size", "<u4"), ("action", "S1"), ("side", "S1"), ("flags", "u1"), ("depth", "u1"),
    ("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4"),
]  # fmt: skip
_LEVEL = [("bid_px_00", "<i8"), ("ask_px_00", "<i8"), ("bid_sz_00", "<u4"), ("ask_sz_00", "<u4")]
_COUNTS = [("bid_ct_00", "<u4"), ("ask_ct_00", "<u4")]
_VENUES = [("bid_pb_00", "<u2"), ("_reserved1_00", "S2"), ("ask_pb_00", "<u2"), ("_reserved2_00", "S2")]

TRADE = np.dtype([*_HEADER, *_TRADE])
TBBO = np.dtype([*_HEADER, *_TRADE, *_LEVEL, *_COUNTS])
BBO = np.dtype(
    [
        *_HEADER, ("price", "<i8"), ("size", "<u4"), ("_reserved1", "u1"), ("side", "S1"), ("flags", "u1"),
        ("_reserved2", "u1"), ("ts_recv", "<u8"), ("_reserved3", "S4"), ("sequence", "<u4"), *_LEVEL, *_COUNTS,
    ]
)  # fmt: skip
CBBO = np.dtype(
    [
        *_HEADER, ("price", "<i8"), ("size", "<u4"), ("_reserved1", "u1"), ("side", "S1"), ("flags", "u1"),
        ("_reserved2", "u1"), ("ts_recv", "<u8"), ("_reserved3", "S8"), *_LEVEL, *_VENUES,
    ]
)  # fmt: skip
TCBBO = np.dtype(
    [
        *_HEADER, ("price", "<i8"), ("size", "<u4"), ("action", "S1"), ("side", "S1"), ("flags", "u1"),
        ("_reserved1", "u1"), ("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("_reserved2", "S4"), *_LEVEL, *_VENUES,
    ]
)  # fmt: skip
OHLCV = np.dtype([*_HEADER, *((name, "<i8") for name in ("open", "high", "low", "close")), ("volume", "<u8")])
STATISTICS = np.dtype(
    [
        *_HEADER, ("ts_recv", "<u8"), ("ts_ref", "<u8"), ("price", "<i8"), ("quantity", "<i8"), ("sequence", "<u4"),
        ("ts_in_delta", "<i4"), ("stat_type", "<u2"), ("channel_id", "<u2"), ("update_action", "u1"),
        ("stat_flags", "u1"), ("_reserved", "S18"),
    ]
)  # fmt: skip
DEFINITION = np.dtype(InstrumentDefMsg._dtypes)

RTYPES = {
    "trades": 0,
    "tbbo": 1,
    "definition": 19,
    "statistics": 24,
    "ohlcv-1m": 33,
    "ohlcv-1h": 34,
    "ohlcv-1d": 35,
    "cbbo-1s": 192,
    "cbbo-1m": 193,
    "tcbbo": 194,
    "bbo-1s": 195,
    "bbo-1m": 196,
}
DTYPES = {
    "trades": TRADE,
    "tbbo": TBBO,
    "definition": DEFINITION,
    "statistics": STATISTICS,
    "ohlcv-1m": OHLCV,
    "ohlcv-1h": OHLCV,
    "ohlcv-1d": OHLCV,
    "cbbo-1s": CBBO,
    "cbbo-1m": CBBO,
    "tcbbo": TCBBO,
    "bbo-1s": BBO,
    "bbo-1m": BBO,
}
INDEX_TIMES = {schema: "ts_event" if schema.startswith("ohlcv") else "ts_recv" for schema in DTYPES}


def build(schema: str, n: int, **fields: Any) -> NDArray[np.void]:
    """``n`` records of ``schema``; fields that are not given are zero bytes. Raises KeyError for an unknown schema."""
    records = np.zeros(n, DTYPES[schema])
    records["length"] = records.dtype.itemsize // 4
    records["rtype"] = RTYPES[schema]
    for name, values in fields.items():
        records[name] = values
    return records


def _blank_definition() -> NDArray[np.void]:
    """A definition with every field undefined, as databento's own encoder has undefined values."""
    blank = np.zeros(1, DEFINITION)
    for name in DEFINITION.names or ():
        kind, size = DEFINITION[name].kind, DEFINITION[name].itemsize
        if kind in "iu" and name not in _ZERO_BY_DEFAULT:
            # undefined is the largest value of the field's own type
            blank[name] = 2 ** (8 * size - (kind == "i")) - 1
    blank["match_algorithm"] = b" "
    blank["user_defined_instrument"] = b"N"
    blank["leg_side"] = b"N"
    blank["security_update_action"] = b"A"
    blank["length"] = DEFINITION.itemsize // 4
    blank["rtype"] = RTYPES["definition"]
    return blank


_ZERO_BY_DEFAULT = frozenset(
    {
        "underlying_id", "raw_instrument_id", "leg_count", "leg_index", "leg_instrument_id",
        "leg_ratio_price_numerator", "leg_ratio_price_denominator", "leg_ratio_qty_numerator",
        "leg_ratio_qty_denominator", "leg_underlying_id", "channel_id", "publisher_id", "instrument_id",
    }
)  # fmt: skip
_BLANK = _blank_definition()


def definitions(n: int, **fields: Any) -> NDArray[np.void]:
    """``n`` definitions; fields that are not given are undefined."""
    records = np.repeat(_BLANK, n)
    for name, values in fields.items():
        records[name] = values
    return records
