"""From the vendor's daily instrument ids to our own lasting ones.

An id is resolved by the day of its record, in this order: what the file's own metadata says, definitions and symbol
mappings inside the file, then what earlier files taught (the table ``vendor_ids``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.copy_binary import array_literal
from ots_common.database import Connection
from ots_ingestion.dbn_file import Interval
from ots_ingestion.layouts import DAY_BITS, day_keys
from ots_market.prices import UNDEFINED
from ots_market.symbols import parse_option_symbol

_EPOCH = date(1970, 1, 1)
# days since 1970 of the last date that Python, and so whoever reads, can name
_LAST_DAY = (date.max - _EPOCH).days
_NS_PER_DAY = 86_400_000_000_000
_UNDEFINED_I32 = 2**31 - 1
_STANDARD_MULTIPLIER = 100


@dataclass(frozen=True)
class Contract:
    """What is known of an instrument: a row of ``instruments`` without its id."""

    raw_symbol: str
    underlying: str
    expiration: date | None
    strike: int | None
    right: str | None
    multiplier: int | None


def contract_of_symbol(raw_symbol: str) -> Contract:
    """What the symbol alone says: an OSI symbol names its contract, anything else only itself."""
    option = parse_option_symbol(raw_symbol)
    if option is None:
        return Contract(raw_symbol, raw_symbol, None, None, None, None)
    return Contract(raw_symbol, option.root, option.expiration, option.strike, option.right, _STANDARD_MULTIPLIER)


def contracts_of_definitions(records: NDArray[Any]) -> list[Contract]:
    """The contracts that definition records describe, the last word on each symbol."""
    latest: dict[str, Contract] = {}
    for record in records:
        raw_symbol = record["raw_symbol"].decode()
        right = record["instrument_class"].decode()
        strike, expiration = int(record["strike_price"]), int(record["expiration"])
        if right not in ("C", "P") or strike == UNDEFINED or expiration >= 2**63:
            latest[raw_symbol] = contract_of_symbol(raw_symbol)
            continue
        multiplier = int(record["contract_multiplier"])
        latest[raw_symbol] = Contract(
            raw_symbol,
            record["underlying"].decode() or contract_of_symbol(raw_symbol).underlying,
            # the vendor's expiration is midnight UTC of the expiry date
            _EPOCH + timedelta(days=expiration // _NS_PER_DAY),
            strike,
            right,
            _STANDARD_MULTIPLIER if multiplier == _UNDEFINED_I32 else multiplier,
        )
    return list(latest.values())


class Symbology:
    """Resolves the vendor ids of one dataset over the batches of one file."""

    def __init__(self, dataset: str, intervals: Iterable[Interval]) -> None:
        self.dataset = dataset
        self._by_id: defaultdict[int, list[Interval]] = defaultdict(list)
        for interval in intervals:
            self._by_id[interval.vendor_id].append(interval)
        self._mapped_now: dict[int, str] = {}
        self._instruments: dict[str, int] = {}
        self._remembered: set[tuple[int, int, str]] = set()
        self._looked_up: dict[tuple[int, int], int | None] = {}

    def learn_mappings(self, records: NDArray[Any]) -> None:
        """Take in symbol mapping records: each holds for its id until the next one, or for the days that it names."""
        for record in records:
            vendor_id, text = int(record["instrument_id"]), record["stype_out_symbol"].decode()
            starts, ends = int(record["start_ts"]), int(record["end_ts"])
            if not text:
                continue
            if 0 < starts < ends < 2**63:
                # the newest word on a day is the first to be asked
                days = Interval(vendor_id, text, starts // _NS_PER_DAY, -(-ends // _NS_PER_DAY))
                self._by_id[vendor_id] = [days, *(one for one in self._by_id[vendor_id] if one != days)]
            else:
                self._mapped_now[vendor_id] = text

    def mapped(self, vendor_id: int, day: int) -> str | None:
        """What a vendor's id means on that day, as far as this source has said."""
        found = self._symbol(vendor_id, day)
        return None if found is None else found.symbol

    def forget_before(self, day: int) -> None:
        """Drop what concerns earlier days only: a connection may last for weeks."""
        for vendor_id, intervals in list(self._by_id.items()):
            if left := [one for one in intervals if one.ends > day]:
                self._by_id[vendor_id] = left
            else:
                del self._by_id[vendor_id]
        self._remembered = {one for one in self._remembered if one[1] >= day}
        self._looked_up = {pair: found for pair, found in self._looked_up.items() if pair[1] >= day}

    def forget_stored(self) -> None:
        """What was stored since is rolled back: our ids must be asked for again."""
        self._instruments.clear()
        self._remembered.clear()
        self._looked_up.clear()

    def learn_definitions(self, connection: Connection, records: NDArray[Any], days: NDArray[np.int64]) -> None:
        """Take in definition records: they name, describe and date their instruments."""
        self._save(connection, contracts_of_definitions(records))
        for vendor_id, symbol, day in zip(records["instrument_id"], records["raw_symbol"], days, strict=True):
            interval = Interval(int(vendor_id), symbol.decode(), int(day), int(day) + 1)
            if interval not in self._by_id[int(vendor_id)]:
                self._by_id[int(vendor_id)].append(interval)

    def resolve(
        self, connection: Connection, vendor_ids: NDArray[np.int64], days: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Our instrument id of each record, shape (n,); -1 where nothing says what the vendor's id meant that day.

        New instruments and what the file says of vendor ids are stored, in the caller's transaction.
        """
        keys, inverse = np.unique(day_keys(vendor_ids, days), return_inverse=True)
        return self.resolve_keys(connection, keys)[inverse]

    def resolve_keys(self, connection: Connection, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same for ids and days as :func:`~ots_ingestion.layouts.day_keys` packs them, each once; shape (n,)."""
        pairs = zip((keys >> DAY_BITS).tolist(), (keys & ((1 << DAY_BITS) - 1)).tolist(), strict=True)
        named = [(v, d, self._symbol(v, d)) for v, d in pairs]
        missing = {s.symbol for _, _, s in named if s is not None and s.symbol not in self._instruments}
        # asked first: an insert that finds its row there still uses up an id
        self._find(sorted(missing), connection)
        new = sorted(missing - self._instruments.keys())
        self._save(connection, [contract_of_symbol(symbol) for symbol in new], only_new=True)
        self._remember(connection, [s for _, _, s in named if s is not None])
        self._look_up(connection, [(v, d) for v, d, s in named if s is None])
        ids = [self._instruments[s.symbol] if s is not None else self._looked_up.get((v, d)) for v, d, s in named]
        return np.array([-1 if i is None else i for i in ids], np.int64)

    def _symbol(self, vendor_id: int, day: int) -> Interval | None:
        for interval in self._by_id.get(vendor_id, ()):
            if interval.starts <= day < interval.ends:
                return interval
        if symbol := self._mapped_now.get(vendor_id):
            return Interval(vendor_id, symbol, day, day + 1)
        return None

    def _save(self, connection: Connection, contracts: Sequence[Contract], *, only_new: bool = False) -> None:
        """Store instruments; what a definition says replaces what was guessed from a symbol.

        ``only_new``: nothing is known of them but their symbols, which says nothing of those that are there.
        """
        if not contracts:
            return
        contracts = sorted(contracts, key=lambda c: c.raw_symbol)
        update = (
            "DO NOTHING"
            if only_new
            else """DO UPDATE SET underlying = excluded.underlying, expiration = excluded.expiration,
                strike = excluded.strike, "right" = excluded."right", multiplier = excluded.multiplier
            WHERE (i.underlying, i.expiration, i.strike, i."right", i.multiplier)
                IS DISTINCT FROM
                (excluded.underlying, excluded.expiration, excluded.strike, excluded."right", excluded.multiplier)"""
        )
        symbols = [c.raw_symbol for c in contracts]
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO instruments AS i"
                ' (dataset, raw_symbol, underlying, expiration, strike, "right", multiplier)'
                " SELECT %s, k.* FROM unnest(%s::text[], %s::text[], %s::date[], %s::bigint[], %s::char(1)[],"
                " %s::integer[]) AS k (raw_symbol, underlying, expiration, strike, side, multiplier)"
                f" ORDER BY k.raw_symbol ON CONFLICT (dataset, raw_symbol) {update}",
                (
                    self.dataset,
                    symbols,
                    [c.underlying for c in contracts],
                    [c.expiration for c in contracts],
                    [c.strike for c in contracts],
                    [c.right for c in contracts],
                    [c.multiplier for c in contracts],
                ),
            )
        self._find(symbols, connection)

    def _find(self, symbols: Sequence[str], connection: Connection) -> None:
        if not symbols:
            return
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT raw_symbol, instrument_id FROM instruments WHERE dataset = %s AND raw_symbol = ANY(%s)",
                (self.dataset, list(symbols)),
            )
            self._instruments.update(cursor.fetchall())

    def _remember(self, connection: Connection, intervals: Sequence[Interval]) -> None:
        new: dict[tuple[int, int], Interval] = {}
        for interval in sorted(intervals, key=lambda i: i.ends):
            if (interval.vendor_id, interval.starts, interval.symbol) not in self._remembered:
                new[interval.vendor_id, interval.starts] = interval
        if not new:
            return
        known = list(new.values())
        columns = np.array(
            [(i.vendor_id, i.starts, min(i.ends, _LAST_DAY), self._instruments[i.symbol]) for i in known]
        )
        with connection.cursor() as cursor:
            # what is there already is left alone: an upsert would lock each row of it
            cursor.execute(
                "INSERT INTO vendor_ids AS v (dataset, vendor_id, starts, ends, instrument_id)"
                " SELECT n.* FROM (SELECT %s AS dataset, k.vendor_id, date '1970-01-01' + k.starts AS starts,"
                " date '1970-01-01' + k.ends AS ends, k.instrument_id"
                " FROM unnest(%s::bigint[], %s::integer[], %s::integer[], %s::integer[])"
                " AS k (vendor_id, starts, ends, instrument_id)) n"
                " LEFT JOIN vendor_ids h USING (dataset, vendor_id, starts, ends, instrument_id)"
                " WHERE h.dataset IS NULL ORDER BY n.vendor_id, n.starts"
                " ON CONFLICT (dataset, vendor_id, starts) DO UPDATE"
                " SET ends = excluded.ends, instrument_id = excluded.instrument_id"
                " WHERE (v.ends, v.instrument_id) <> (excluded.ends, excluded.instrument_id)",
                (self.dataset, *(array_literal(column) for column in columns.T)),
            )
        self._remembered.update((i.vendor_id, i.starts, i.symbol) for i in new.values())

    def _look_up(self, connection: Connection, pairs: Sequence[tuple[int, int]]) -> None:
        unknown = [pair for pair in pairs if pair not in self._looked_up]
        if not unknown:
            return
        self._looked_up.update(dict.fromkeys(unknown))
        asked = np.array(unknown)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT k.vendor_id, k.day, m.instrument_id"
                " FROM unnest(%s::bigint[], %s::integer[]) AS k (vendor_id, day)"
                " JOIN vendor_ids m ON m.dataset = %s AND m.vendor_id = k.vendor_id"
                " AND m.starts <= date '1970-01-01' + k.day AND m.ends > date '1970-01-01' + k.day",
                (*(array_literal(column) for column in asked.T), self.dataset),
            )
            found = cursor.fetchall()
        self._looked_up.update({(vendor_id, day): instrument_id for vendor_id, day, instrument_id in found})
