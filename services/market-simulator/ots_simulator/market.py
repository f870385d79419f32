"""The seeded market: nine underlyings and their option chains, made up, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS
from ots_simulator.bars import Bars
from ots_simulator.chain import Chains
from ots_simulator.equity_records import EquityRecords
from ots_simulator.option_records import OptionRecords
from ots_simulator.option_tape import OptionTape
from ots_simulator.paths import BASE_DAY, Paths
from ots_simulator.sources import ALL_SYMBOLS, Interval
from ots_simulator.tape import Tape
from ots_simulator.truth import Truth
from ots_simulator.underlyings import UNDERLYINGS, MarketSize

__all__ = ["EQUITIES", "OPTIONS", "MarketSize", "SeededMarket"]

EQUITIES, OPTIONS = "EQUS.MINI", "OPRA.PILLAR"
CHUNK = 100_000

Records = NDArray[np.void]


class SeededMarket:
    """A :class:`~ots_simulator.sources.Source`: any instrument, day and minute alone, whatever was asked before.

    ``now`` gives ns since 1970: nothing later leaves, and a bar leaves only when its interval is over. Not thread-safe
    in its cost (two threads may draw the same block twice), but in its answers.
    """

    name = "seeded"

    def __init__(self, seed: int, sessions: Sessions, size: MarketSize, now: Callable[[], int]) -> None:
        self.seed, self.size, self.sessions = seed, size, sessions
        self._now = now
        self.paths = Paths(seed, sessions)
        self.bars = Bars(self.paths)
        self.tape = Tape(self.paths, self.bars)
        self.chains = Chains(self.paths, sessions, size.value)
        self.option_tape = OptionTape(self.paths, self.chains)
        self._equities = EquityRecords(self.tape, self.bars, seed)
        self._options = OptionRecords(self.option_tape, self.chains)
        self.true = Truth(self.paths, self.chains)
        self._selected = lru_cache(maxsize=64)(self._select)

    def schemas(self) -> Mapping[str, tuple[str, ...]]:
        """Dataset -> the schemas it has."""
        return {EQUITIES: EquityRecords.SCHEMAS, OPTIONS: OptionRecords.SCHEMAS}

    def span(self, dataset: str) -> tuple[int, int]:
        """[first, now) ns since 1970. Raises KeyError for a dataset that there is not."""
        self.schemas()[dataset]
        return BASE_DAY * DAY_NS, max(BASE_DAY * DAY_NS, self._now())

    def truth(self, what: str, query: Mapping[str, str]) -> dict[str, Any] | None:
        """What the simulator's route ``/simulator/truth/...`` answers: see :meth:`Truth.answer`."""
        return self.true.answer(what, query, self._now())

    def resolve(
        self, dataset: str, symbols: Sequence[str], stype_in: str, first_day: int, end_day: int
    ) -> list[Interval]:
        """Who ``symbols`` are on the UTC days [``first_day``, ``end_day``): an interval a day, as ids change daily.

        Days without a session, before the first or after today have none. Raises KeyError for an unknown dataset and
        ValueError for an ``stype_in`` that is neither ``raw_symbol`` nor ``parent``.
        """
        self.schemas()[dataset]
        if stype_in not in ("raw_symbol", "parent"):
            raise ValueError(f"stype_in: {stype_in!r} is neither raw_symbol nor parent")
        wanted = None if ALL_SYMBOLS in symbols else frozenset(symbols)
        found: list[Interval] = []
        for day in range(max(first_day, BASE_DAY), min(end_day, self._now() // DAY_NS + 1)):
            if self.paths.has_session(day):
                found += self._resolve_day(dataset, wanted, stype_in, day)
        return found

    def _resolve_day(self, dataset: str, wanted: frozenset[str] | None, stype_in: str, day: int) -> list[Interval]:
        if dataset == EQUITIES:
            if stype_in == "parent":
                return []
            ids = self._equities.vendor_ids(day)
            return [
                Interval(u.symbol, ids[u.symbol], day, day + 1)
                for u in UNDERLYINGS
                if wanted is None or u.symbol in wanted
            ]
        found: list[Interval] = []
        for underlying in UNDERLYINGS:
            whole = wanted is None or (stype_in == "parent" and f"{underlying.symbol}.OPT" in wanted)
            if not whole and (stype_in == "parent" or not _any_of(underlying.symbol, wanted)):
                continue
            chain = self.chains.chain(underlying.symbol, day)
            found += [
                Interval(raw_symbol, vendor_id, day, day + 1)
                for raw_symbol, vendor_id in zip(chain.raw_symbols, chain.vendor_ids.tolist(), strict=True)
                if whole or (wanted is not None and raw_symbol in wanted)
            ]
        return found

    def records(
        self, dataset: str, schema: str, raw_symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> Iterator[Records]:
        """Records with index time in [``start_ns``, ``end_ns``) that have happened by now, in order, <= 100k a chunk.

        Raises KeyError for a dataset or a schema that there is not.
        """
        if schema not in self.schemas()[dataset]:
            raise KeyError(schema)
        wanted = None if raw_symbols is None else frozenset(raw_symbols)
        return self._records(dataset, schema, wanted, max(start_ns, BASE_DAY * DAY_NS), end_ns)

    def _records(
        self, dataset: str, schema: str, wanted: frozenset[str] | None, start_ns: int, end_ns: int
    ) -> Iterator[Records]:
        now = self._now()
        made: Any = self._equities if dataset == EQUITIES else self._options
        for day in range(start_ns // DAY_NS, -(-min(end_ns, now) // DAY_NS)):
            if not self.paths.has_session(day):
                continue
            chosen = self._selected(dataset, wanted, day)
            for piece in made.of_day(schema, chosen, day, start_ns, min(end_ns, now), now):
                for at in range(0, len(piece), CHUNK):
                    yield piece[at : at + CHUNK]

    def count(
        self, dataset: str, schema: str, raw_symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> int | None:
        """How many records :meth:`records` gives; None where only making them tells. Raises KeyError as that does.

        Samples of each minute, definitions and open interest are as many as there are contracts and moments.
        """
        if schema not in self.schemas()[dataset]:
            raise KeyError(schema)
        made: Any = self._equities if dataset == EQUITIES else self._options
        if schema not in made.COUNTED:
            return None
        wanted = None if raw_symbols is None else frozenset(raw_symbols)
        start, end = max(start_ns, BASE_DAY * DAY_NS), min(end_ns, self._now())
        days = (day for day in range(start // DAY_NS, -(-end // DAY_NS)) if self.paths.has_session(day))
        counts = (made.count(schema, self._selected(dataset, wanted, day), day, start, end) for day in days)
        return sum(int(count) for count in counts)

    def _select(self, dataset: str, wanted: frozenset[str] | None, day: int) -> Any:
        """What of a day is asked for: symbols, or symbol -> places in its chain."""
        if dataset == EQUITIES:
            return [u.symbol for u in UNDERLYINGS if wanted is None or u.symbol in wanted]
        chosen: dict[str, NDArray[np.int64]] = {}
        for underlying in UNDERLYINGS:
            if wanted is not None and not _any_of(underlying.symbol, wanted):
                continue
            raw_symbols = self.chains.chain(underlying.symbol, day).raw_symbols
            mine = [i for i, raw_symbol in enumerate(raw_symbols) if wanted is None or raw_symbol in wanted]
            if mine:
                chosen[underlying.symbol] = np.array(mine)
        return chosen


def _any_of(symbol: str, wanted: frozenset[str] | None) -> bool:
    return wanted is None or any(raw_symbol[:6].rstrip() == symbol for raw_symbol in wanted)
