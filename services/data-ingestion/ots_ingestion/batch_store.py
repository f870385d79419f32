"""A batch of records into the database: what imports and live collection share.

All of it happens in the caller's transaction, beside the caller's cursor. After a failure the object must be thrown
away: what it remembers (repeats, instruments) may belong to rows that were rolled back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_common.database import Connection
from ots_ingestion import dead_letters
from ots_ingestion.identity import RepeatCounter
from ots_ingestion.layouts import CONTROL_RTYPES, Rows, to_rows
from ots_ingestion.runs import Tally
from ots_ingestion.store import store
from ots_ingestion.symbology import Symbology
from ots_market.timeframes import MINUTE_NS

SYMBOL_MAPPING = 22

Groups = Mapping[int, NDArray[Any]]


@dataclass
class Outcome:
    """What became of a batch. ``newest``: schema -> the newest index time (ns) among its records that are rows;
    ``stored``: schema -> rows stored for the first time; ``index_ns``: the index times of all rows; ``bars``: which
    minute bars the rows belong to, as ``minute since 1970 << 32 | instrument``.
    """

    tally: Tally = field(default_factory=Tally)
    touched: set[int] = field(default_factory=set)
    newest: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    index_ns: list[NDArray[np.int64]] = field(default_factory=list)
    bars: set[int] = field(default_factory=set)


class BatchStore:
    """Stores the batches of one file, or of one live connection, in their order.

    ``schema_of`` says what a record type is there, None when it is not stored. ``keep`` exempts the rows from
    retention. ``origin`` names the source in dead letters.
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
        outcome = Outcome()
        self.learn_mappings(groups)
        for rows, records in self._rows(groups, outcome.tally):
            self._bury_rejected(connection, rows, records)
            if rows.schema == "definition":
                self._symbology.learn_definitions(connection, rows.source, rows.days)
            self._store_rows(connection, rows, outcome)
        expected = sum(len(records) for records in groups.values())
        if outcome.tally.records != expected:
            raise RuntimeError(f"{expected} records came in, {outcome.tally.records} were accounted for")
        return outcome

    def recall(self, connection: Connection, groups: Groups) -> None:
        """Learn from a batch that is stored already what later ones need to know."""
        self.learn_mappings(groups)
        for rows, _ in self._rows(groups, Tally()):
            if rows.schema == "definition":
                with connection:
                    self._symbology.learn_definitions(connection, rows.source, rows.days)
            self._count_repeats(rows)

    def learn_mappings(self, groups: Groups) -> None:
        """Take in the symbol mappings of a batch."""
        if SYMBOL_MAPPING in groups:
            self._symbology.learn_mappings(groups[SYMBOL_MAPPING])

    def _store_rows(self, connection: Connection, rows: Rows, outcome: Outcome) -> None:
        tally = outcome.tally
        if len(rows):
            outcome.newest[rows.schema] = int(rows.index_ns.max())
            outcome.index_ns.append(rows.index_ns)
        ords = self._count_repeats(rows)
        instruments = self._symbology.resolve(connection, rows.vendor_ids, rows.days)
        known = instruments >= 0
        if not known.all():
            tally.reject("unknown_instrument", int((~known).sum()))
            self._bury(connection, rows.schema, "unknown_instrument", rows.source[~known], ords, ~known)
            rows, instruments = rows.take(known), instruments[known]
            ords = None if ords is None else ords[known]
        result = store(connection, rows, instruments, ords, keep=self._keep)
        tally.stored += result.stored
        tally.revised += result.revised
        tally.duplicate += result.duplicate
        outcome.stored[rows.schema] = result.stored + result.revised
        if len(rows):
            tally.first_ns = min(int(rows.own_ns.min()), tally.first_ns or 2**63)
            tally.last_ns = max(int(rows.own_ns.max()), tally.last_ns or 0)
        outcome.touched.update(np.unique(instruments).tolist())
        if rows.table in ("trades", "bars_1m"):
            outcome.bars.update(np.unique(rows.own_ns // MINUTE_NS << 32 | instruments).tolist())

    def _rows(self, groups: Groups, tally: Tally) -> list[tuple[Rows, NDArray[Any]]]:
        """The rows of a batch with the records they come from, definitions first; the rest is tallied."""
        found = []
        for rtype, records in groups.items():
            schema = self._schema_of(rtype)
            if rtype in CONTROL_RTYPES:
                tally.control += len(records)
            elif schema is None:
                tally.reject(f"unsupported_record_type_{rtype}", len(records))
            else:
                rows = to_rows(schema, records)
                for reason, number in rows.rejected.items():
                    tally.reject(reason, number)
                found.append((rows, records))
        # always the same order, so that two writers take their locks alike
        return sorted(found, key=lambda one: (one[0].schema != "definition", one[0].table != "quotes", one[0].schema))

    def _count_repeats(self, rows: Rows) -> NDArray[np.int64] | None:
        if rows.digests is None:
            return None
        return self.repeats[rows.schema].count(rows.vendor_ids, rows.own_ns, rows.digests, rows.index_ns)

    def _bury_rejected(self, connection: Connection, rows: Rows, records: NDArray[Any]) -> None:
        if rows.rejected:
            for refused in dead_letters.find_rejected(rows.schema, records):
                self._bury(connection, rows.schema, refused.reason, refused.records, None, None)

    def _bury(
        self,
        connection: Connection,
        schema: str,
        reason: str,
        records: NDArray[Any],
        ords: NDArray[np.int64] | None,
        which: NDArray[np.bool_] | None,
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
                ords=None if ords is None or which is None else ords[which].tolist(),
            )
