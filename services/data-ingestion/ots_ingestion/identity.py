"""What makes a record itself, so that it is stored once however often it comes.

A record is identified by its content: a 64-bit digest of all its fields but the vendor's daily instrument id. Genuine
records that are equal in every field (two prints of one size at one price in one nanosecond) stand in one stretch of
equal index time; ``ord`` counts them there. Equal records apart from each other are one record that came again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FINISH = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(29)


def digest(schema_id: int, columns: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """A digest of each row over ``columns`` (integers or one-byte strings), int64 of shape (n,)."""
    state = np.full(len(columns[0]), schema_id + 1, np.uint64) * _MULTIPLIER
    for column in columns:
        word = column.view(np.uint8) if column.dtype.kind == "S" else column
        # an odd multiplier and a shift-xor are bijections: two different words never meet here, only by chance later
        state ^= word.astype(np.uint64)
        state *= _MULTIPLIER
        state ^= state >> _SHIFT
    state *= _FINISH
    state ^= state >> _SHIFT
    return state.view(np.int64)


def record_words(records: NDArray[Any]) -> list[NDArray[np.uint64]]:
    """All bytes of each record but its vendor instrument id, as columns for :func:`digest`."""
    raw = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), -1).copy()
    raw[:, 4:8] = 0
    padded = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8)))
    words = np.ascontiguousarray(padded).view(np.uint64)
    return [words[:, i] for i in range(words.shape[1])]


def has_equals(digests: NDArray[np.int64], *others: NDArray[Any]) -> bool:
    """Whether two rows may be equal in all of these columns, each shape (n,): always where two are, and by chance never
    (once in 2**64 pairs). A sort of one word a row is a fraction of one by several columns."""
    return bool(len(_shared(_words(digests, *others))))


def _words(digests: NDArray[np.int64], *others: NDArray[Any]) -> NDArray[np.uint64]:
    """A word for each row: the same for equal ones, and hardly ever for others."""
    words = digests.view(np.uint64)
    for other in others:
        words = (words ^ other.astype(np.uint64)) * _MULTIPLIER
    return words


def _shared(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    ordered = np.sort(words)
    shared: NDArray[np.uint64] = ordered[1:][ordered[1:] == ordered[:-1]]
    return shared


class RepeatCounter:
    """Counts genuine repeats over the batches of one file, for one kind of record.

    Remembers the last stretch of equal index time, because a batch may end inside it.
    """

    def __init__(self) -> None:
        self._last_time: int | None = None
        self._seen: dict[tuple[int, int, int], int] = {}

    def count(
        self, instrument: NDArray[Any], times: NDArray[np.int64], digests: NDArray[np.int64], index: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """``ord`` of each record, shape (n,): how many equal ones came before it in its stretch of equal index time.

        Must be called for every batch in the order of the file.
        """
        n = len(index)
        if not n:
            return np.zeros(0, np.int64)
        rank = np.zeros(n, np.int64)
        same = index[1:] == index[:-1]
        self._rank_within(rank, same, instrument, times, digests)
        self._continue_last_stretch(rank, same, instrument, times, digests, index)
        return rank

    @staticmethod
    def _rank_within(
        rank: NDArray[np.int64],
        same: NDArray[np.bool_],
        instrument: NDArray[Any],
        times: NDArray[np.int64],
        digests: NDArray[np.int64],
    ) -> None:
        """Rank equal records in each stretch. Where no neighbour has its index time, a record has no equal; nor has it
        where no other has its word, which two records share if they are equal, and hardly ever else."""
        if not same.any():
            return
        among = np.concatenate((same, [False])) | np.concatenate(([False], same))
        words = _words(digests, instrument)
        shared = _shared(words[among])
        if not len(shared):
            return
        places = np.flatnonzero(among & np.isin(words, shared))
        stretch = np.cumsum(np.concatenate(([True], ~same)))[places]
        given = (stretch, instrument[places], times[places], digests[places])
        order = np.lexsort(given[::-1])
        keys = [key[order] for key in given]
        new = np.ones(len(places), bool)
        new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
        starts = np.flatnonzero(new)
        rank[places[order]] = np.arange(len(places)) - np.repeat(starts, np.diff(np.append(starts, len(places))))

    def _continue_last_stretch(
        self,
        rank: NDArray[np.int64],
        same: NDArray[np.bool_],
        instrument: NDArray[Any],
        times: NDArray[np.int64],
        digests: NDArray[np.int64],
        index: NDArray[np.int64],
    ) -> None:
        def keys(first: int, last: int) -> Iterator[tuple[int, int, int]]:
            columns = (instrument[first:last].tolist(), times[first:last].tolist(), digests[first:last].tolist())
            return zip(*columns, strict=True)

        borders = np.flatnonzero(~same) + 1
        continues = int(index[0]) == self._last_time
        if continues and self._seen:
            last = int(borders[0]) if len(borders) else len(index)
            rank[:last] += [self._seen.get(key, 0) for key in keys(0, last)]
        if len(borders) or not continues:
            self._seen = {}
        self._last_time = int(index[-1])
        first = int(borders[-1]) if len(borders) else 0
        for key, counted in zip(keys(first, len(index)), rank[first:].tolist(), strict=True):
            self._seen[key] = max(self._seen.get(key, 0), counted + 1)

    def pack(self) -> bytes:
        """What it remembers, so that another process can go on: see :func:`pack_repeats`."""
        table = np.array([(*key, count) for key, count in self._seen.items()], _REMEMBERED)
        return struct.pack("<q", -1 if self._last_time is None else self._last_time) + table.tobytes()

    @classmethod
    def unpack(cls, packed: bytes) -> RepeatCounter:
        """The counter that was packed."""
        counter = cls()
        last_time = struct.unpack_from("<q", packed)[0]
        counter._last_time = None if last_time < 0 else last_time
        table = np.frombuffer(packed, _REMEMBERED, offset=8)
        counter._seen = {(int(i), int(t), int(d)): int(n) for i, t, d, n in table}
        return counter


_REMEMBERED = np.dtype([("instrument", "<i8"), ("time", "<i8"), ("digest", "<i8"), ("count", "<i4")])


def pack_repeats(counters: Mapping[str, RepeatCounter]) -> bytes:
    """The counters of several kinds of record as bytes: small, unless many records share their last index time."""
    parts = []
    for name, counter in counters.items():
        body = counter.pack()
        parts.append(struct.pack("<BI", len(name), len(body)) + name.encode() + body)
    return zlib.compress(b"".join(parts), 1)


def unpack_repeats(packed: bytes) -> dict[str, RepeatCounter]:
    """The counters that were packed, by kind; none from no bytes."""
    counters: dict[str, RepeatCounter] = {}
    raw = zlib.decompress(packed) if packed else b""
    at = 0
    while at < len(raw):
        name_length, length = struct.unpack_from("<BI", raw, at)
        at += 5
        name = raw[at : at + name_length].decode()
        at += name_length
        counters[name] = RepeatCounter.unpack(raw[at : at + length])
        at += length
    return counters
