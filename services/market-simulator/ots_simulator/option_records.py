"""The options' records of OPRA.PILLAR, from their chains and their tape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ots_market.timeframes import DAY_NS, MINUTE_NS
from ots_simulator import records
from ots_simulator.chain import Chains
from ots_simulator.equity_records import between, merged, set_level
from ots_simulator.option_tape import OptionTape
from ots_simulator.paths import HOUR_NS, SECOND_NS, Ints, symbol_index
from ots_simulator.surface import OptionQuotes

Records = NDArray[np.void]
Chosen = Mapping[str, Ints]  # symbol -> places in its chain

_ROWS = 50_000  # of quotes made at once
_BAR_NS = {"ohlcv-1m": MINUTE_NS, "ohlcv-1h": HOUR_NS, "ohlcv-1d": DAY_NS}
# definitions, then open interest, before the open where the day has such a time
_BEFORE_OPEN_NS = 3 * HOUR_NS
_DEFINED_AFTER_NS, _COUNTED_AFTER_NS = 300_000_000, 4_000_000_000
_UNDERLYINGS_APART_NS, _CONTRACTS_APART_NS = 300_000_000, 10_000
OPEN_INTEREST_PUBLISHERS = (37, 31, 23)  # the same number once for each, as OPRA repeats it


class OptionRecords:
    """Makes the records of a day."""

    SCHEMAS = (
        "trades", "tcbbo", "cbbo-1s", "cbbo-1m", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition", "statistics",
    )  # fmt: skip

    COUNTED = frozenset({"cbbo-1m", "definition", "statistics"})

    def __init__(self, tape: OptionTape, chains: Chains) -> None:
        self._tape, self._chains, self._paths = tape, chains, tape.paths

    def of_day(
        self, schema: str, chosen: Chosen, day: int, start_ns: int, end_ns: int, now_ns: int
    ) -> Iterator[Records]:
        """Records of a session's UTC day with index time in [start, end), in order."""
        if not chosen:
            return
        if schema in ("definition", "statistics"):
            make = self._definitions if schema == "definition" else self._statistics
            if start_ns <= self._published_ns(day) + _COUNTED_AFTER_NS + 10 * SECOND_NS:
                made = [make(symbol, day, which) for symbol, which in chosen.items()]
                yield from merged(made, schema, start_ns, end_ns)
        elif schema in _BAR_NS:
            last = min(end_ns, now_ns - _BAR_NS[schema] + 1)
            if last > start_ns:
                made = [self._bars(schema, symbol, day, which, start_ns, last) for symbol, which in chosen.items()]
                yield from merged(made, schema, start_ns, last)
        elif schema == "cbbo-1m":
            yield from self._minutes(chosen, day, start_ns, end_ns)
        elif schema == "cbbo-1s":
            yield from self._seconds(chosen, day, start_ns, end_ns)
        else:
            begin = max(start_ns, day * DAY_NS)
            for hour in range(begin // HOUR_NS, -(-min(end_ns, (day + 1) * DAY_NS) // HOUR_NS)):
                window = max(begin, hour * HOUR_NS), min(end_ns, (hour + 1) * HOUR_NS)
                made = [self._trades(schema, symbol, day, which, *window) for symbol, which in chosen.items()]
                yield from merged(made, schema, *window)

    def count(self, schema: str, chosen: Chosen, day: int, start_ns: int, end_ns: int) -> int:
        """How many records :meth:`of_day` gives of a schema in ``COUNTED``."""
        if schema == "cbbo-1m":
            return _within(self._minute_ends(day), start_ns, end_ns) * sum(len(which) for which in chosen.values())
        at_ns = self._defined_ns if schema == "definition" else self._counted_ns
        each = 1 if schema == "definition" else len(OPEN_INTEREST_PUBLISHERS)
        return each * sum(_within(at_ns(symbol, day, which), start_ns, end_ns) for symbol, which in chosen.items())

    def _defined_ns(self, symbol: str, day: int, which: Ints) -> Ints:
        """When the definitions of contracts are received; later ones of a chain later."""
        at = self._published_ns(day) + _DEFINED_AFTER_NS + symbol_index(symbol) * _UNDERLYINGS_APART_NS
        return at + which * _CONTRACTS_APART_NS

    def _counted_ns(self, symbol: str, day: int, which: Ints) -> Ints:
        """When their open interest is."""
        at = self._published_ns(day) + _COUNTED_AFTER_NS + symbol_index(symbol) * _UNDERLYINGS_APART_NS
        return at + which * _CONTRACTS_APART_NS

    def _minute_ends(self, day: int) -> Ints:
        """The stamps of a session's samples of minutes."""
        first, n = self._paths.minutes_of(day)
        return _stamps(day, day * DAY_NS + (first + np.arange(1, n + 1)) * MINUTE_NS)

    def _published_ns(self, day: int) -> int:
        opened = int(self._paths.daily.opens[self._paths.row(day)])
        return max(day * DAY_NS, opened - _BEFORE_OPEN_NS)

    def _definitions(self, symbol: str, day: int, which: Ints) -> Records:
        chain = self._chains.chain(symbol, day)
        at_ns = self._defined_ns(symbol, day, which)
        return records.definitions(
            len(which),
            publisher_id=records.CONSOLIDATED,
            instrument_id=chain.vendor_ids[which],
            raw_instrument_id=chain.vendor_ids[which],
            ts_event=at_ns - 200_000,
            ts_recv=at_ns,
            raw_symbol=np.array([chain.raw_symbols[i].encode() for i in which.tolist()]),
            instrument_class=np.where(chain.right[which] > 0, b"C", b"P"),
            expiration=chain.expiration[which] * DAY_NS,
            strike_price=chain.strike_price[which],
            underlying_id=records.CONSOLIDATED,
            underlying=symbol.encode(),
            asset=symbol.encode(),
            currency=b"USD",
            strike_price_currency=b"USD",
            unit_of_measure=b"USD",
            exchange=b"OPRA",
            security_type=b"OPT",
            group=b"popra-1",
            channel_id=1,
        )

    def _statistics(self, symbol: str, day: int, which: Ints) -> Records:
        chain = self._chains.chain(symbol, day)
        several = len(OPEN_INTEREST_PUBLISHERS)
        at_ns = np.repeat(self._counted_ns(symbol, day, which), several)
        return records.build(
            "statistics",
            several * len(which),
            publisher_id=np.tile(OPEN_INTEREST_PUBLISHERS, len(which)),
            instrument_id=np.repeat(chain.vendor_ids[which], several),
            ts_event=at_ns - 200_000,
            ts_recv=at_ns,
            ts_ref=np.uint64(records.UNDEF_TIMESTAMP),
            price=records.UNDEF_PRICE,
            quantity=np.repeat(chain.open_interest[which], several),
            sequence=np.repeat(which, several) * several + np.tile(np.arange(several), len(which)) + 1,
            stat_type=records.OPEN_INTEREST,
            channel_id=1,
            update_action=1,
        )

    def _rows(self, symbol: str, day: int, which: Ints, start_ns: int, end_ns: int) -> Ints:
        """The numbers of the chosen contracts' trades received in [start, end)."""
        tape = self._tape.day(symbol, day)
        window = between(tape.received_ns, start_ns, end_ns)
        contract = tape.contract[window]
        if len(contract) and len(which) < len(self._chains.chain(symbol, day).strike):
            mine: Ints = window.start + np.flatnonzero(np.isin(contract, which))
            return mine
        return np.arange(window.start, window.stop)

    def _trades(self, schema: str, symbol: str, day: int, which: Ints, start_ns: int, end_ns: int) -> Records:
        rows = self._rows(symbol, day, which, start_ns, end_ns)
        if not len(rows):
            return records.build(schema, 0)
        tape, chain = self._tape.day(symbol, day), self._chains.chain(symbol, day)
        priced = self._tape.price(symbol, day, rows)
        made = records.build(
            schema,
            len(rows),
            publisher_id=tape.venue[rows] if schema == "trades" else records.CONSOLIDATED,
            instrument_id=chain.vendor_ids[tape.contract[rows]],
            ts_event=tape.at_ns[rows],
            ts_recv=tape.received_ns[rows],
            price=priced.price * records.CENT,
            size=tape.size[rows],
            action=b"T",
            side=b"N",
            flags=records.FLAGS_OPRA,
        )
        if schema == "trades":
            made["sequence"] = tape.sequence[rows]
        else:
            _set_quotes(made, OptionQuotes(*priced[1:]))
        return made

    def _bars(self, schema: str, symbol: str, day: int, which: Ints, start_ns: int, end_ns: int) -> Records:
        """Bars by venue, of intervals that begin in [start, end)."""
        length = _BAR_NS[schema]
        first = max(-(-start_ns // length) * length, day * DAY_NS)
        last = min(-(-end_ns // length) * length, (day + 1) * DAY_NS)
        rows = self._rows(symbol, day, which, first, last)
        tape, chain = self._tape.day(symbol, day), self._chains.chain(symbol, day)
        if not len(rows):
            return records.build(schema, 0)
        price, size = self._tape.price(symbol, day, rows).price, tape.size[rows]
        keys = tape.at_ns[rows] // length * length, tape.contract[rows], tape.venue[rows].astype(np.int64)
        order = np.lexsort(keys[::-1])
        at_ns, contract, venue = (key[order] for key in keys)
        price, size = price[order], size[order]
        new = (np.diff(at_ns) != 0) | (np.diff(contract) != 0) | (np.diff(venue) != 0)
        starts = np.append(0, np.flatnonzero(new) + 1)
        ends = np.append(starts[1:], len(order)) - 1
        return records.build(
            schema,
            len(starts),
            publisher_id=venue[starts],
            instrument_id=chain.vendor_ids[contract[starts]],
            ts_event=at_ns[starts],
            open=price[starts] * records.CENT,
            high=np.maximum.reduceat(price, starts) * records.CENT,
            low=np.minimum.reduceat(price, starts) * records.CENT,
            close=price[ends] * records.CENT,
            volume=np.add.reduceat(size, starts),
        )

    def _minutes(self, chosen: Chosen, day: int, start_ns: int, end_ns: int) -> Iterator[Records]:
        ends_ns = self._minute_ends(day)
        window = between(ends_ns, start_ns, end_ns)
        at_once = max(1, _ROWS // sum(len(which) for which in chosen.values()))
        for begin in range(window.start, window.stop, at_once):
            nodes = np.arange(begin + 1, min(begin + at_once, window.stop) + 1)
            made = []
            for symbol, which in chosen.items():
                quotes = self._tape.minute_quotes(symbol, day, nodes, which)
                made.append(self._quotes("cbbo-1m", symbol, day, which, ends_ns[nodes - 1], quotes))
            yield from merged(made, "cbbo-1m", start_ns, end_ns)

    def _seconds(self, chosen: Chosen, day: int, start_ns: int, end_ns: int) -> Iterator[Records]:
        first, n = self._paths.minutes_of(day)
        opened = day * DAY_NS + first * MINUTE_NS
        begin = max((start_ns - opened - 1) // MINUTE_NS, 0)
        for minute in range(begin, min(-(-(end_ns - opened) // MINUTE_NS), n)):
            ends_ns = _stamps(day, opened + minute * MINUTE_NS + np.arange(1, 61) * SECOND_NS)
            window = between(ends_ns, start_ns, end_ns)
            if window.start == window.stop:
                continue
            # the second before the first is looked at too: only what changed since is sent
            seconds = np.arange(max(window.start - 1, 0), window.stop)
            made = []
            for symbol, which in chosen.items():
                quotes = self._tape.second_quotes(symbol, day, minute, seconds, which)
                made.append(self._changes(symbol, day, which, ends_ns[seconds], quotes))
            yield from merged(made, "cbbo-1s", start_ns, end_ns)

    def _changes(self, symbol: str, day: int, which: Ints, at_ns: Ints, quotes: OptionQuotes) -> Records:
        """Second quotes that changed or in whose second the contract traded; every minute's first second counts so."""
        made = self._quotes("cbbo-1s", symbol, day, which, at_ns, quotes).reshape(len(at_ns), len(which))
        changed = np.ones(made.shape, np.bool_)
        names = ("bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00", "ts_event")
        changed[1:] = np.any([made[name][1:] != made[name][:-1] for name in names], axis=0)
        kept: Records = made[changed]
        return kept

    def _quotes(self, schema: str, symbol: str, day: int, which: Ints, at_ns: Ints, quotes: OptionQuotes) -> Records:
        """Quotes (moments, contracts) as records, moment by moment, with the last trade that each contract had."""
        tape, chain = self._tape.day(symbol, day), self._chains.chain(symbol, day)
        last = tape.last_of(which, at_ns[:, None]).reshape(-1)
        traded = np.flatnonzero(last >= 0)
        rows = last[traded]
        made = records.build(
            schema,
            len(last),
            publisher_id=records.CONSOLIDATED,
            instrument_id=np.tile(chain.vendor_ids[which], len(at_ns)),
            ts_event=np.uint64(records.UNDEF_TIMESTAMP),
            ts_recv=np.repeat(at_ns, len(which)),
            price=records.UNDEF_PRICE,
            side=b"N",
            flags=records.FLAGS_OPRA,
        )
        made["ts_event"][traded] = tape.at_ns[rows]
        made["size"][traded] = tape.size[rows]
        made["price"][traded] = self._tape.price(symbol, day, rows).price * records.CENT
        shape = (len(at_ns), len(which))
        _set_quotes(made, OptionQuotes(*(np.broadcast_to(values, shape).reshape(-1) for values in quotes)))
        return made


def _within(times: Ints, start_ns: int, end_ns: int) -> int:
    """How many of sorted ``times`` lie in [start, end)."""
    return int(np.searchsorted(times, max(end_ns, start_ns)) - np.searchsorted(times, start_ns))


def _stamps(day: int, ends_ns: Ints) -> Ints:
    """The ends of intervals; the id of an instrument ends with the day: its last quote comes a nanosecond before."""
    return np.minimum(ends_ns, (day + 1) * DAY_NS - 1)


def _set_quotes(made: Records, quotes: OptionQuotes) -> None:
    set_level(made, quotes.bid, quotes.ask, quotes.bid_size, quotes.ask_size)
    made["bid_pb_00"], made["ask_pb_00"] = quotes.bid_venue, quotes.ask_venue
