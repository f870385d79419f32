"""One run from its cursor to its end: batches of a spooled file into the database, each batch in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from ots_common.database import Connection
from ots_ingestion import metrics, runs
from ots_ingestion.batch_store import BatchStore
from ots_ingestion.dbn_file import Batch, FileHeader, read_batches, read_header
from ots_ingestion.layouts import schema_of
from ots_ingestion.runs import Run
from ots_ingestion.symbology import Symbology

AfterCommit = Callable[[set[int]], None]


class Importer:
    """Stores one file. ``after_commit`` is told, after each batch, which instruments it touched."""

    def __init__(self, connection: Connection, run: Run, after_commit: AfterCommit) -> None:
        self._connection = connection
        self._run = run
        self._after_commit = after_commit
        self._header: FileHeader = read_header(run.path)
        self._batches = BatchStore(
            Symbology(self._header.dataset, self._header.intervals),
            lambda rtype: schema_of(rtype, self._header.schema),
            keep=run.keep,
            origin=f"run {run.run_id}",
        )

    def run(self, stopping: Callable[[], bool]) -> bool:
        """Store every batch behind the cursor; False when ``stopping()`` ended it between two batches.

        Raises what the database raises, with nothing of the batch in hand stored.
        """
        for batch in _one_ahead(read_batches(self._run.path, self._run.batch_records)):
            if batch.first < self._run.records_done:
                self._batches.recall(self._connection, batch.groups)
                continue
            if stopping():
                return False
            with self._connection:
                outcome = self._batches.store(self._connection, batch.groups)
                runs.advance(self._connection, self._run.run_id, batch.first, outcome.tally)
            metrics.count_batch(self._header.dataset, outcome.tally)
            self._after_commit(outcome.touched)
        return True


def _one_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches: the next is read and unpacked while the one before is stored."""
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch
