"""What a market must answer, so that the servers can offer it over Databento's protocols.

The servers never ask where records come from: a folder of DBN files (:mod:`ots_simulator.replay`) and the seeded market
(``ots_simulator.market``) are both a :class:`Source`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

ALL_SYMBOLS = "ALL_SYMBOLS"


@dataclass(frozen=True, slots=True)
class Interval:
    """``raw_symbol`` has ``vendor_id`` on the UTC days [``starts``, ``ends``), days since 1970."""

    raw_symbol: str
    vendor_id: int
    starts: int
    ends: int


@runtime_checkable
class Source(Protocol):
    """A market, by random access: the same question always has the same answer."""

    name: str

    def schemas(self) -> Mapping[str, tuple[str, ...]]:
        """Dataset -> Databento's names of the schemas it has."""

    def span(self, dataset: str) -> tuple[int, int]:
        """[first, end) of what exists, ns since 1970; the end of a market that runs is now. Raises KeyError."""

    def resolve(
        self, dataset: str, symbols: Sequence[str], stype_in: str, first_day: int, end_day: int
    ) -> list[Interval]:
        """Who ``symbols`` are on the UTC days [``first_day``, ``end_day``); intervals are cut to those days.

        ``stype_in``: ``raw_symbol``, or ``parent`` (``AAPL.OPT``). ``["ALL_SYMBOLS"]`` is everything. A symbol that is
        not known is simply absent.
        """

    def records(
        self, dataset: str, schema: str, raw_symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> Iterator[NDArray[np.void]]:
        """The records of one schema with index time in [``start_ns``, ``end_ns``), in its order, in chunks of <= 100k.

        Index time is ``ts_recv`` where the schema has it, else ``ts_event``. Each chunk is a packed little-endian
        structured array of DBN version 3 records, header included: its bytes are the wire's bytes. ``raw_symbols``
        None: every instrument.
        """


@runtime_checkable
class Counting(Protocol):
    """A :class:`Source` that knows how many records there are without making them, of some schemas."""

    def count(
        self, dataset: str, schema: str, raw_symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> int | None:
        """How many records :meth:`Source.records` would give, exactly; None: only those can tell."""
