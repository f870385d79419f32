"""What a live session asked for, and who that is on a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import databento_dbn as dbn
import numpy as np

from ots_simulator.sources import ALL_SYMBOLS, Interval, Source
from ots_simulator.wire import DAY_NS

_LAYOUT = np.dtype(dbn.SymbolMappingMsg._dtypes)
_RTYPE = 22
STYPES = {"raw_symbol": dbn.SType.RAW_SYMBOL, "parent": dbn.SType.PARENT, "instrument_id": dbn.SType.INSTRUMENT_ID}


@dataclass(frozen=True)
class Subscription:
    """One subscribe call, all its lines together. ``start_ns``: None is live only, 0 is all there is."""

    number: str
    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    start_ns: int | None

    def extended(self, more: Subscription) -> Subscription:
        """With the symbols of a further line of the same call."""
        return replace(self, symbols=self.symbols + more.symbols)


@dataclass(frozen=True, slots=True)
class Identity:
    """``vendor_id`` is ``raw_symbol`` on a day; ``asked``: the symbol of the subscription that led to it."""

    vendor_id: int
    raw_symbol: str
    asked: str
    stype_in: str


class InvalidSubscriptionError(Exception):
    """A line the gateway cannot take; the message says why."""


def parse_subscription(fields: dict[str, str]) -> tuple[Subscription, bool]:
    """The subscription that a line asks for, and whether it is the last line of its call."""
    try:
        symbols = tuple(s.strip() for s in fields["symbols"].split(",") if s.strip())
        start = int(fields["start"]) if fields.get("start") else None
        made = Subscription(fields.get("id", ""), fields["schema"], fields.get("stype_in", ""), symbols, start)
    except (KeyError, ValueError) as error:
        raise InvalidSubscriptionError(f"Invalid subscription request: {error}") from None
    if made.stype_in not in STYPES:
        raise InvalidSubscriptionError(f"Invalid subscription: stype_in {made.stype_in} is not supported")
    if not symbols:
        raise InvalidSubscriptionError("Invalid subscription: no symbols")
    if start is not None and fields.get("snapshot", "0") == "1":
        raise InvalidSubscriptionError("Invalid subscription: snapshot excludes start")
    return made, fields.get("is_last", "1") == "1"


def identify(source: Source, dataset: str, asked: Subscription, first_day: int, end_day: int) -> list[Interval]:
    """Who the symbols of ``asked`` are on the days [``first_day``, ``end_day``)."""
    symbols = list(asked.symbols)
    if ALL_SYMBOLS in symbols:
        return source.resolve(dataset, [ALL_SYMBOLS], "raw_symbol", first_day, end_day)
    if asked.stype_in != "instrument_id":
        return source.resolve(dataset, symbols, asked.stype_in, first_day, end_day)
    ids = {int(s) for s in symbols if s.isascii() and s.isdigit()}
    everything = source.resolve(dataset, [ALL_SYMBOLS], "raw_symbol", first_day, end_day)
    return [one for one in everything if one.vendor_id in ids]


def unresolved(asked: Subscription, found: Sequence[Interval]) -> list[str]:
    """The symbols of ``asked`` that nobody has."""
    if ALL_SYMBOLS in asked.symbols:
        return []
    known = {_name(asked, one) for one in found}
    return [symbol for symbol in asked.symbols if symbol not in known]


def identities(asked: Subscription, found: Sequence[Interval]) -> list[Identity]:
    """``found`` as the gateway tells it."""
    everything = ALL_SYMBOLS in asked.symbols
    return [
        Identity(one.vendor_id, one.raw_symbol, one.raw_symbol if everything else _name(asked, one), asked.stype_in)
        for one in found
    ]


def mapping_messages(told: Sequence[Identity], day: int, at_ns: int) -> bytes:
    """A SymbolMappingMsg for each of ``told``, valid on ``day``."""
    made = np.zeros(len(told), _LAYOUT)
    made["length"], made["rtype"] = _LAYOUT.itemsize // 4, _RTYPE
    made["instrument_id"] = [one.vendor_id for one in told]
    made["ts_event"] = at_ns
    made["stype_in"] = [int(STYPES[one.stype_in]) for one in told]
    made["stype_in_symbol"] = [one.asked.encode() for one in told]
    made["stype_out"] = int(dbn.SType.RAW_SYMBOL)
    made["stype_out_symbol"] = [one.raw_symbol.encode() for one in told]
    made["start_ts"], made["end_ts"] = day * DAY_NS, (day + 1) * DAY_NS
    return made.tobytes()


def _name(asked: Subscription, one: Interval) -> str:
    if asked.stype_in == "parent":
        return f"{one.raw_symbol[:6].rstrip()}.OPT"
    return str(one.vendor_id) if asked.stype_in == "instrument_id" else one.raw_symbol
