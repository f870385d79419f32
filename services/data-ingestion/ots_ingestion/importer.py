"""One run from its cursor to its end: batches of a spooled file into the database, each batch in one transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from ots_common.database import Connection
from ots_ingestion import metrics, runs
from ots_ingestion.batch_store import BatchStore, Piece, Prepared
from ots_ingestion.dbn_file import FileHeader, read_batches, read_header
from ots_ingestion.layouts import schema_of
from ots_ingestion.runs import Run
from ots_ingestion.symbology import Symbology

AfterCommit = Callable[[set[int]], None]

_T = TypeVar("_T")
# pieces that wait for the server: more would only be memory
_AHEAD = 2


@dataclass(frozen=True)
class _Begun:
    """A batch of which the first record is number ``first`` of the file; its pieces follow."""

    first: int
    batch: Prepared


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
        with closing(_ahead(self._prepared())) as coming:
            pieces = _pieces(coming)
            for one in coming:
                if isinstance(one, Piece):
                    raise RuntimeError("a piece came after the last of its batch")
                if one.first < self._run.records_done:
                    self._batches.recall(self._connection, one.batch)
                    continue
                if stopping():
                    return False
                with self._connection:
                    outcome = self._batches.store_prepared(self._connection, one.batch, pieces)
                    runs.advance(self._connection, self._run.run_id, one.first, outcome.tally)
                metrics.count_batch(self._header.dataset, outcome.counts)
                self._after_commit(outcome.touched)
        return True

    def _prepared(self) -> Iterator[_Begun | Piece]:
        """Each batch of the file, and behind it its pieces, but those of a batch that is stored already."""
        for read in read_batches(self._run.path, self._run.batch_records, cut_at=self._run.records_done):
            batch = self._batches.prepare(read.groups)
            yield _Begun(read.first, batch)
            if read.first < self._run.records_done:
                self._batches.skip(batch)
            else:
                yield from self._batches.pieces(batch)


def _pieces(coming: Iterator[_Begun | Piece]) -> Iterator[Piece]:
    for one in coming:
        if not isinstance(one, Piece):
            raise RuntimeError("a batch ended before its last piece")
        yield one


def _ahead(items: Iterator[_T]) -> Generator[_T, None, None]:
    """The same items: the next ones are made in a thread while the one before is stored."""
    with ThreadPoolExecutor(1, "read-ahead") as maker:
        coming = deque(maker.submit(next, items, None) for _ in range(_AHEAD))
        try:
            while (item := coming.popleft().result()) is not None:
                coming.append(maker.submit(next, items, None))
                yield item
        finally:
            for one in coming:
                one.cancel()
