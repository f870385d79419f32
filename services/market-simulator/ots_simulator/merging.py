"""Records of several schemas in one order: that of their index time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ots_simulator.wire import Records, index_times, wire_bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records. ``data``: their bytes; ``ends`` (of each), ``times`` (ns) and ``streams``: shape (n,).

    ``times``: when each is known, by which they are ordered: its index time, or the end of a bar.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    times: NDArray[np.int64]
    streams: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each record starts."""
        return np.concatenate(([0], self.ends[:-1])) if len(self.ends) else self.ends

    def part(self, first: int, last: int) -> Batch:
        """The records ``first`` to before ``last``."""
        begin = int(self.ends[first - 1]) if first else 0
        end = int(self.ends[last - 1]) if last else 0
        inside = slice(first, last)
        return Batch(self.data[begin:end], self.ends[inside] - begin, self.times[inside], self.streams[inside])

    def where(self, mask: NDArray[np.bool_]) -> Batch:
        """The records that ``mask`` selects."""
        sizes = np.diff(self.ends, prepend=0)
        data = self.data[np.repeat(mask, sizes)]
        return Batch(data, np.cumsum(sizes[mask]), self.times[mask], self.streams[mask])

    def with_ids(self, exchanged: Mapping[int, int]) -> Batch:
        """The same with the instrument ids that ``exchanged`` gives for those it has."""
        data = self.data.copy()
        where = self.starts[:, None] + np.arange(4, 8)
        ids = data[where].view("<u4")[:, 0]
        changed = ids.copy()
        for old, new in exchanged.items():
            changed[ids == old] = new
        data[where] = changed[:, None].view(np.uint8)
        return replace(self, data=data)


EMPTY = Batch(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def merge(streams: Sequence[Iterator[Records]], delays: Sequence[int]) -> Iterator[Batch]:
    """All records in order of index time plus the ``delays`` (ns) of their streams; at most a chunk a stream is held.

    Equal times are in the order of the streams.
    """
    heads: dict[int, Records] = {}
    for number, stream in enumerate(streams):
        _refill(heads, number, stream)
    while heads:
        times = {number: index_times(head) + delays[number] for number, head in heads.items()}
        # what comes later in any stream lies at or behind the last time of its head
        bound = min(int(one[-1]) for one in times.values())
        taken: list[tuple[int, Records, NDArray[np.int64]]] = []
        for number in sorted(heads):
            count = int(np.searchsorted(times[number], bound, side="right"))
            if not count:
                continue
            taken.append((number, heads[number][:count], times[number][:count]))
            if count == len(heads[number]):
                _refill(heads, number, streams[number])
            else:
                heads[number] = heads[number][count:]
        yield _interleave(taken)


def _refill(heads: dict[int, Records], number: int, stream: Iterator[Records]) -> None:
    heads.pop(number, None)
    for chunk in stream:
        if len(chunk):
            heads[number] = chunk
            return


def _interleave(taken: list[tuple[int, Records, NDArray[np.int64]]]) -> Batch:
    if len(taken) == 1:
        number, records, times = taken[0]
        rows = wire_bytes(records)
        ends = np.arange(1, len(rows) + 1, dtype=np.int64) * rows.shape[1]
        return Batch(rows.reshape(-1), ends, times, np.full(len(rows), number))
    times = np.concatenate([times for _, _, times in taken])
    sizes = np.concatenate([np.full(len(r), r.dtype.itemsize) for _, r, _ in taken])
    numbers = np.concatenate([np.full(len(r), number) for number, r, _ in taken])
    order = np.argsort(times, kind="stable")
    ends = np.cumsum(sizes[order])
    data = np.empty(int(ends[-1]), np.uint8)
    starts = np.empty(len(order), np.int64)
    starts[order] = ends - sizes[order]
    at = 0
    for _, records, _ in taken:
        rows = wire_bytes(records)
        data[starts[at : at + len(rows), None] + np.arange(rows.shape[1])] = rows
        at += len(rows)
    return Batch(data, ends, times[order], numbers[order])
