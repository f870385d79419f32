"""A batch of records into the database: what imports and live collection share.

All of it happens in the caller's transaction, beside the caller's cursor. After a failure the object must be thrown
away: what it remembers (repeats, instruments) may belong to rows that were rolled back.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.database import Connection
from ots_ingestion import dead_letters
from ots_ingestion.identity import RepeatCounter
from ots_ingestion.layouts import (
    BAR_TABLES,
    CONTROL_RTYPES,
    Extent,
    Rows,
    day_keys,
    extent_of,
    index_days,
    table_of,
    to_rows,
)
from ots_ingestion.runs import Tally
from ots_ingestion.store import Sorted, Stored, Writing, sort_rows, store
from ots_ingestion.symbology import Symbology
from ots_market.timeframes import MINUTE_NS

SYMBOL_MAPPING = 22

# records made ready at a time, while the server stores those before: few enough that it starts soon, many enough that
# rows which lie together in the index come together
PIECE_RECORDS = 65_536
_UNKNOWN = "unknown_instrument"

Groups = Mapping[int, NDArray[Any]]


@dataclass
class Outcome:
    """What became of a batch. ``counts``: (schema, outcome) -> records, which add up to the tally, without a schema for
    what is of none that is stored; ``newest``: schema -> the newest index time (ns) among its records that are rows;
    ``stored``: schema -> rows stored for the first time; ``index_ns``: the index times of all rows; ``bars``: which
    minute bars the rows belong to, as ``minute since 1970 << 32 | instrument``.
    """

    tally: Tally = field(default_factory=Tally)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    touched: set[int] = field(default_factory=set)
    newest: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    index_ns: list[NDArray[np.int64]] = field(default_factory=list)
    bars: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Group:
    """The records of one schema in a batch that become rows, in their order; ``came``: all that came of that type."""

    schema: str
    came: NDArray[Any] = field(repr=False)
    records: NDArray[Any] = field(repr=False)
    extent: Extent

    @property
    def pieces(self) -> list[slice]:
        """How the records are cut: into pieces of about one size, but the vendor's bars, which are stored at once."""
        n = len(self.records)
        if n == 0 or self.schema in BAR_TABLES:
            return [slice(0, n)]
        number = -(-n // PIECE_RECORDS)
        cuts = [n * i // number for i in range(number + 1)]
        return [slice(first, last) for first, last in itertools.pairwise(cuts)]


@dataclass(frozen=True)
class Prepared:
    """A batch that was looked over. ``groups`` in the order in which they are stored."""

    records: int
    mappings: NDArray[Any] | None
    groups: list[Group]
    tally: Tally
    counts: Counter[tuple[str, str]]


@dataclass(frozen=True)
class Piece:
    """Some rows of a group. ``owners``: for each the place of its vendor's id and day among the group's keys.

    ``ordered``: None where there are no rows, and for the vendor's bars.
    """

    rows: Rows
    owners: NDArray[np.int64]
    ords: NDArray[np.int64] | None
    ordered: Sorted | None

    def take(self, which: NDArray[np.bool_]) -> Piece:
        """The rows that ``which`` selects, sorted anew."""
        rows, owners = self.rows.take(which), self.owners[which]
        ords = None if self.ords is None else self.ords[which]
        return Piece(rows, owners, ords, _ordered(rows, owners, ords))


class BatchStore:
    """Stores the batches of one file, or of one live connection, in their order.

    ``schema_of`` says what a record type is there, None when it is not stored. ``keep`` exempts the rows from
    retention. ``origin`` names the source in dead letters.

    A batch is made ready by :meth:`prepare` and :meth:`pieces`, which need no database and so may run in another thread
    while an earlier one is stored, batch by batch in their order.
    """

    def __init__(
        self, symbology: Symbology, schema_of: Callable[[int], str | None], *, keep: bool, origin: str
    ) -> None:
        self._symbology = symbology
        self._schema_of = schema_of
        self._keep = keep
        self._origin = origin
        self.repeats: defaultdict[str, RepeatCounter] = defaultdict(RepeatCounter)

    def store(self, connection: Connection, groups: Groups) -> Outcome:
        """Store a batch (rtype -> records). Every record is accounted for in the tally; those refused are buried."""
        batch = self.prepare(groups)
        return self.store_prepared(connection, batch, self.pieces(batch))

    def prepare(self, groups: Groups) -> Prepared:
        """Look a batch (rtype -> records) over: what of it becomes rows, and what must be known before it does."""
        found = []
        tally = Tally()
        counts: Counter[tuple[str, str]] = Counter()
        for rtype, records in groups.items():
            schema = self._schema_of(rtype)
            if rtype in CONTROL_RTYPES:
                tally.control += len(records)
                counts["", "control"] += len(records)
            elif schema is None:
                tally.reject(f"unsupported_record_type_{rtype}", len(records))
                counts["", "rejected"] += len(records)
            else:
                extent = extent_of(schema, records)
                for reason, number in extent.rejected.items():
                    tally.reject(reason, number)
                    counts[schema, "rejected"] += number
                kept = records if extent.accepted is None else records[extent.accepted]
                found.append(Group(schema, records, kept, extent))
        # always the same order, so that two writers take their locks alike
        found.sort(key=lambda g: (g.schema != "definition", table_of(g.schema) != "quotes", g.schema))
        number = sum(len(records) for records in groups.values())
        return Prepared(number, groups.get(SYMBOL_MAPPING), found, tally, counts)

    def pieces(self, batch: Prepared) -> Iterator[Piece]:
        """The rows of a batch, group by group, ready to be stored. Every batch's must be taken, in their order."""
        for group in batch.groups:
            for piece in group.pieces:
                rows = to_rows(group.schema, group.records[piece])
                owners = np.searchsorted(group.extent.keys, day_keys(rows.vendor_ids, rows.days))
                ords = self._count_repeats(rows)
                yield Piece(rows, owners, ords, _ordered(rows, owners, ords))

    def skip(self, batch: Prepared) -> None:
        """Count what later batches must know, as :meth:`pieces` does: for a batch that is stored already."""
        for group in batch.groups:
            for piece in group.pieces:
                self._count_repeats(to_rows(group.schema, group.records[piece]))

    def store_prepared(self, connection: Connection, batch: Prepared, pieces: Iterator[Piece]) -> Outcome:
        """Store a batch that was prepared. Takes its own from ``pieces``, which may go on with those of later ones."""
        outcome = Outcome(batch.tally, batch.counts)
        self._learn_mappings(batch)
        for group in batch.groups:
            if group.extent.rejected:
                for refused in dead_letters.find_rejected(group.schema, group.came):
                    self._bury(connection, group.schema, refused.reason, refused.records, None)
            self._learn_definitions(connection, group)
            own = itertools.islice(pieces, len(group.pieces))
            if group.schema in BAR_TABLES:
                self._store_bars(connection, group, own, outcome)
            else:
                self._store_rows(connection, group, own, outcome)
        if outcome.tally.records != batch.records:
            raise RuntimeError(f"{batch.records} records came in, {outcome.tally.records} were accounted for")
        return outcome

    def recall(self, connection: Connection, batch: Prepared) -> None:
        """Learn from a batch that is stored already what later ones need to know, beside :meth:`skip`."""
        self._learn_mappings(batch)
        with connection:
            for group in batch.groups:
                self._learn_definitions(connection, group)

    def learn_mappings(self, groups: Groups) -> None:
        """Take in the symbol mappings of a batch."""
        if SYMBOL_MAPPING in groups:
            self._symbology.learn_mappings(groups[SYMBOL_MAPPING])

    def _learn_mappings(self, batch: Prepared) -> None:
        if batch.mappings is not None:
            self._symbology.learn_mappings(batch.mappings)

    def _learn_definitions(self, connection: Connection, group: Group) -> None:
        if group.schema == "definition":
            days = index_days(group.schema, group.records)
            self._symbology.learn_definitions(connection, group.records, days)

    def _store_rows(self, connection: Connection, group: Group, pieces: Iterator[Piece], outcome: Outcome) -> None:
        instruments = self._symbology.resolve_keys(connection, group.extent.keys)
        known = instruments >= 0
        extent = group.extent
        if not known.all():
            keys = day_keys(group.records["instrument_id"].astype(np.int64), index_days(group.schema, group.records))
            extent = extent_of(group.schema, group.records[known[np.searchsorted(extent.keys, keys)]])
        writing = Writing(connection, table_of(group.schema), instruments, keep=self._keep)
        if known.any():
            writing.open(extent.first_ns, extent.last_ns, extent.days)
        unknown = []
        for piece in pieces:
            _note_times(outcome, piece.rows)
            ordered = piece.ordered
            there = known[piece.owners]
            if not there.all():
                unknown.append((piece.rows.source[~there], None if piece.ords is None else piece.ords[~there]))
                ordered = piece.take(there).ordered
            if ordered is not None:
                writing.write(ordered)
        self._bury_unknown(connection, group, unknown, outcome)
        self._note(outcome, group, writing.finish(), extent, writing.touched)
        outcome.bars.update(writing.minutes)

    def _store_bars(self, connection: Connection, group: Group, pieces: Iterator[Piece], outcome: Outcome) -> None:
        for piece in pieces:
            _note_times(outcome, piece.rows)
            rows = piece.rows
            instruments = self._symbology.resolve_keys(connection, group.extent.keys)[piece.owners]
            known = instruments >= 0
            if not known.all():
                self._bury_unknown(connection, group, [(rows.source[~known], None)], outcome)
                rows, instruments = rows.take(known), instruments[known]
            done = store(connection, rows, instruments, None, keep=self._keep)
            touched = set(np.unique(instruments).tolist())
            extent = extent_of(group.schema, rows.source)
            self._note(outcome, group, done, extent, touched)
            if rows.table == "bars_1m":
                outcome.bars.update(np.unique(rows.own_ns // MINUTE_NS << 32 | instruments).tolist())

    @staticmethod
    def _note(outcome: Outcome, group: Group, done: Stored, extent: Extent, touched: set[int]) -> None:
        """What became of a group's rows; ``extent`` is that of those whose instrument is known."""
        tally = outcome.tally
        tally.stored += done.stored
        tally.revised += done.revised
        tally.duplicate += done.duplicate
        for kind in ("stored", "revised", "duplicate"):
            outcome.counts[group.schema, kind] += getattr(done, kind)
        outcome.stored[group.schema] = done.stored + done.revised
        outcome.touched |= touched
        if len(extent.keys):
            tally.first_ns = min(extent.first_ns, tally.first_ns or 2**63)
            tally.last_ns = max(extent.last_ns, tally.last_ns or 0)

    def _count_repeats(self, rows: Rows) -> NDArray[np.int64] | None:
        if rows.digests is None:
            return None
        return self.repeats[rows.schema].count(rows.vendor_ids, rows.own_ns, rows.digests, rows.index_ns)

    def _bury_unknown(
        self,
        connection: Connection,
        group: Group,
        unknown: list[tuple[NDArray[Any], NDArray[np.int64] | None]],
        outcome: Outcome,
    ) -> None:
        if not unknown:
            return
        records = np.concatenate([one for one, _ in unknown])
        counted = [ords for _, ords in unknown if ords is not None]
        outcome.tally.reject(_UNKNOWN, len(records))
        outcome.counts[group.schema, "rejected"] += len(records)
        self._bury(connection, group.schema, _UNKNOWN, records, np.concatenate(counted) if counted else None)

    def _bury(
        self,
        connection: Connection,
        schema: str,
        reason: str,
        records: NDArray[Any],
        ords: NDArray[np.int64] | None,
    ) -> None:
        times = records["ts_event"][records["ts_event"] < 2**63]
        with connection.cursor() as cursor:
            dead_letters.bury(
                cursor,
                dataset=self._symbology.dataset,
                schema=schema,
                reason=reason,
                records=records.tobytes(),
                origin=self._origin,
                first_ns=int(times.min()) if len(times) else None,
                ords=None if ords is None else ords.tolist(),
            )


def _ordered(rows: Rows, owners: NDArray[np.int64], ords: NDArray[np.int64] | None) -> Sorted | None:
    return sort_rows(rows, owners, ords) if len(rows) and ords is not None else None


def _note_times(outcome: Outcome, rows: Rows) -> None:
    if len(rows):
        newest = int(rows.index_ns.max())
        outcome.newest[rows.schema] = max(newest, outcome.newest.get(rows.schema, newest))
        outcome.index_ns.append(rows.index_ns)
