"""One run from its cursor to its end: batches of a spooled file into the database, each batch in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import structlog
from numpy.typing import NDArray

from ots_common.database import Connection
from ots_ingestion import metrics, runs
from ots_ingestion.dbn_file import Batch, FileHeader, read_batches, read_header
from ots_ingestion.identity import RepeatCounter
from ots_ingestion.layouts import CONTROL_RTYPES, Rows, schema_of, to_rows
from ots_ingestion.runs import Run, Tally
from ots_ingestion.store import store
from ots_ingestion.symbology import Symbology

log = structlog.get_logger(__name__)

_SYMBOL_MAPPING = 22

AfterCommit = Callable[[set[int]], None]


class Importer:
    """Stores one file. ``after_commit`` is told, after each batch, which instruments it touched."""

    def __init__(self, connection: Connection, run: Run, after_commit: AfterCommit) -> None:
        self._connection = connection
        self._run = run
        self._after_commit = after_commit
        self._header: FileHeader = read_header(run.path)
        self._symbology = Symbology(self._header.dataset, self._header.intervals)
        self._repeats: defaultdict[str, RepeatCounter] = defaultdict(RepeatCounter)

    def run(self, stopping: Callable[[], bool]) -> bool:
        """Store every batch behind the cursor; False when ``stopping()`` ended it between two batches.

        Raises what the database raises, with nothing of the batch in hand stored.
        """
        for batch in read_batches(self._run.path, self._run.batch_records):
            if batch.first < self._run.records_done:
                self._recall(batch)
                continue
            if stopping():
                return False
            with self._connection:
                tally, touched = self._store(batch)
                runs.advance(self._connection, self._run.run_id, batch.first, tally)
            metrics.count_batch(self._header.dataset, tally)
            self._after_commit(touched)
        return True

    def _recall(self, batch: Batch) -> None:
        """Learn from a batch that is stored already what later ones need to know."""
        self._learn_mappings(batch)
        for rows in self._rows(batch, Tally()):
            if rows.schema == "definition":
                with self._connection:
                    self._symbology.learn_definitions(self._connection, rows.source, rows.days)
            self._count_repeats(rows)

    def _store(self, batch: Batch) -> tuple[Tally, set[int]]:
        tally = Tally()
        touched: set[int] = set()
        self._learn_mappings(batch)
        for rows in self._rows(batch, tally):
            if rows.schema == "definition":
                self._symbology.learn_definitions(self._connection, rows.source, rows.days)
            ords = self._count_repeats(rows)
            instruments = self._symbology.resolve(self._connection, rows.vendor_ids, rows.days)
            known = instruments >= 0
            tally.reject("unknown_instrument", int((~known).sum()))
            if not known.all():
                rows, instruments = rows.take(known), instruments[known]
                ords = None if ords is None else ords[known]
            result = store(self._connection, rows, instruments, ords, keep=True)
            tally.stored += result.stored
            tally.revised += result.revised
            tally.duplicate += result.duplicate
            if len(rows):
                tally.first_ns = min(int(rows.own_ns.min()), tally.first_ns or 2**63)
                tally.last_ns = max(int(rows.own_ns.max()), tally.last_ns or 0)
            touched.update(np.unique(instruments).tolist())
        if tally.records != batch.count:
            raise RuntimeError(f"{batch.count} records came in, {tally.records} were accounted for")
        return tally, touched

    def _learn_mappings(self, batch: Batch) -> None:
        if _SYMBOL_MAPPING in batch.groups:
            self._symbology.learn_mappings(batch.groups[_SYMBOL_MAPPING])

    def _rows(self, batch: Batch, tally: Tally) -> list[Rows]:
        """The rows of a batch, definitions first; the rest is tallied."""
        found = []
        for rtype, records in batch.groups.items():
            schema = schema_of(rtype, self._header.schema)
            if rtype in CONTROL_RTYPES:
                tally.control += len(records)
            elif schema is None:
                tally.reject(f"unsupported_record_type_{rtype}", len(records))
            else:
                rows = to_rows(schema, records)
                for reason, number in rows.rejected.items():
                    tally.reject(reason, number)
                found.append(rows)
        # always the same order, so that two workers take their locks alike
        return sorted(found, key=lambda rows: (rows.schema != "definition", rows.table != "quotes", rows.schema))

    def _count_repeats(self, rows: Rows) -> NDArray[np.int64] | None:
        if rows.digests is None:
            return None
        return self._repeats[rows.schema].count(rows.vendor_ids, rows.own_ns, rows.digests, rows.index_ns)
