"""DBN files for tests, made by Databento's own encoder."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from types import SimpleNamespace

import zstandard
from databento_dbn import (
    UNDEF_PRICE,
    UNDEF_TIMESTAMP,
    Action,
    CBBOMsg,
    ConsolidatedBidAskPair,
    Metadata,
    OHLCVMsg,
    RType,
    Schema,
    Side,
    SType,
    TradeMsg,
)

MINUTE = 60_000_000_000
DAY = 86_400_000_000_000
PRICE = 1_000_000_000


def midnight(day: date) -> int:
    """Midnight UTC, ns."""
    return (day - date(1970, 1, 1)).days * DAY


def trade(
    at: int, price: float, size: int = 100, *, sequence: int = 0, instrument: int = 1, publisher: int = 95
) -> bytes:
    """A trade record."""
    return bytes(
        TradeMsg(
            publisher_id=publisher,
            instrument_id=instrument,
            ts_event=at,
            ts_recv=at,
            price=round(price * PRICE),
            size=size,
            action=Action.TRADE,
            side=Side.NONE,
            depth=0,
            flags=128,
            ts_in_delta=0,
            sequence=sequence,
        )
    )


def bar(
    at: int,
    prices: tuple[float, float, float, float],
    volume: int = 1000,
    *,
    rtype: RType = RType.OHLCV_1M,
    instrument: int = 1,
    publisher: int = 95,
) -> bytes:
    """A bar record."""
    opened, high, low, close = (round(p * PRICE) for p in prices)
    return bytes(
        OHLCVMsg(
            rtype=rtype,
            publisher_id=publisher,
            instrument_id=instrument,
            ts_event=at,
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=volume,
        )
    )


def quote(at: int, bid: float | None, ask: float | None, *, instrument: int = 1) -> bytes:
    """A consolidated one-minute quote before the first trade."""
    return bytes(
        CBBOMsg(
            rtype=RType.CBBO_1M,
            publisher_id=30,
            instrument_id=instrument,
            ts_event=UNDEF_TIMESTAMP,
            price=UNDEF_PRICE,
            size=0,
            side=Side.NONE,
            ts_recv=at,
            flags=194,
            levels=ConsolidatedBidAskPair(
                bid_px=UNDEF_PRICE if bid is None else round(bid * PRICE),
                ask_px=UNDEF_PRICE if ask is None else round(ask * PRICE),
                bid_sz=0 if bid is None else 10,
                ask_sz=0 if ask is None else 20,
                bid_pb=0,
                ask_pb=0,
            ),
        )
    )


def dbn_file(
    schema: Schema | None,
    records: Iterable[bytes],
    *,
    day: date = date(2024, 3, 4),
    days: int = 1,
    symbols: dict[str, int] | None = None,
    dataset: str = "EQUS.MINI",
    compress: bool = True,
) -> bytes:
    """A whole file; ``symbols``: symbol -> the vendor's id on those days."""
    ids = {"TEST": 1} if symbols is None else symbols
    mappings = [
        SimpleNamespace(
            raw_symbol=symbol,
            intervals=[SimpleNamespace(start_date=day, end_date=day + timedelta(days=days), symbol=str(vendor_id))],
        )
        for symbol, vendor_id in ids.items()
    ]
    metadata = Metadata(
        dataset=dataset,
        start=midnight(day),
        end=midnight(day) + days * DAY,
        stype_in=None if schema is None else SType.RAW_SYMBOL,
        stype_out=SType.INSTRUMENT_ID,
        schema=schema,
        symbols=list(ids),
        partial=[],
        not_found=[],
        mappings=mappings,
        ts_out=False,
        version=3,
    )
    plain = metadata.encode() + b"".join(records)
    return zstandard.ZstdCompressor(level=3).compress(plain) if compress else plain
