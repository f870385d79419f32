"""Reading DBN files whole and in batches, with the checks that Databento's own readers leave out.

The vendor's client decodes a truncated file silently, so before anything is stored a file is walked from end to end:
every zstd frame must be finished, every record must have its type's length, and the last byte must be a record's last.
What cannot be detected: a plain (uncompressed) file cut exactly between two records, and wrong values inside a record.

Layouts come from ``databento_dbn``, frames from the Zstandard format (RFC 8878, section 3.1.1).
"""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import databento_dbn as dbn
import numpy as np
import zstandard
from numpy.typing import NDArray

_ZSTD_MAGIC = 0xFD2FB528
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_MAX_METADATA_BYTES = 256 * 2**20
_HEADER_BYTES = 16
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_SYMBOL_MAPPING = 22
# small enough to stay in the processor's cache from one step to the next
_CHUNK_BYTES = 2**20
_MAX_WINDOW_BYTES = 128 * 2**20

Records = NDArray[Any]


class InvalidDbnError(Exception):
    """The bytes are not a whole DBN file; the message says where and why."""


@dataclass(frozen=True)
class Interval:
    """A vendor id meant ``symbol`` on the days from ``starts`` to before ``ends`` (days since 1970, UTC)."""

    vendor_id: int
    symbol: str
    starts: int
    ends: int


@dataclass(frozen=True)
class FileHeader:
    """What a file says of itself. ``schema``: Databento's name, None for mixed records (a live capture)."""

    dataset: str
    schema: str | None
    version: int
    ts_out: bool
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Summary:
    """A file that was walked to its end."""

    header: FileHeader
    records: int
    rtypes: frozenset[int]


@dataclass(frozen=True)
class Batch:
    """Consecutive records of a file, apart by type: rtype -> structured array in the file's order."""

    first: int
    count: int
    groups: dict[int, Records]


def verify(path: Path, *, max_decompressed_bytes: int) -> Summary:
    """Walk the whole file. Raises :class:`InvalidDbnError`."""
    if _is_zstd(path):
        _check_zstd_frames(path)
    count = 0
    rtypes: set[int] = set()
    with _open(path) as stream:
        header = _read_header(stream, with_intervals=False)
        layouts = _layouts(header)
        for buffer, offsets in _split(stream, max_decompressed_bytes):
            kinds = buffer[offsets + 1]
            lengths = buffer[offsets].astype(np.int64) * 4
            for rtype in np.unique(kinds):
                _check_lengths(layouts.get(int(rtype)), int(rtype), lengths, kinds, count)
                rtypes.add(int(rtype))
            count += len(offsets)
    return Summary(header, count, frozenset(rtypes))


def read_batches(path: Path, batch_records: int, cut_at: int = 0) -> Iterator[Batch]:
    """The records of a verified file in batches of about ``batch_records``; the cuts depend on nothing but the file.

    A batch has just as many, but the last: that has what is left, which may be an eighth more, so that no small rest is
    a batch of its own. A batch also ends before symbol mappings that follow other records, so that what a mapping says
    holds for every other record of its batch. ``cut_at``: the number of a record that begins a batch in any case, as it
    did for whoever stored those before it.
    """
    with _open(path) as stream:
        layouts = _layouts(_read_header(stream, with_intervals=False))
        gathered = _Gathered(batch_records, cut_at, layouts)
        mapping = True
        for buffer, offsets in _split(stream, None):
            is_mapping = buffer[offsets + 1] == _SYMBOL_MAPPING
            begins = np.flatnonzero(is_mapping & ~np.concatenate(([mapping], is_mapping[:-1])))
            mapping = bool(is_mapping[-1])
            for first, last in itertools.pairwise([0, *begins.tolist(), len(offsets)]):
                if first in begins:
                    yield from gathered.rest()
                yield from gathered.add(buffer, offsets[first:last])
        yield from gathered.rest()


class _Gathered:
    """Records on their way into a batch."""

    def __init__(self, batch_records: int, cut_at: int, layouts: dict[int, np.dtype[Any]]) -> None:
        self._size = batch_records
        self._most = batch_records + batch_records // 8
        self._cut_at = cut_at
        self._layouts = layouts
        self._first = 0
        self._held: deque[tuple[NDArray[np.uint8], NDArray[np.int64]]] = deque()
        self._waiting = 0

    def add(self, buffer: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Iterator[Batch]:
        """Take in the records that start at ``offsets``; the batches that are full with them."""
        if len(offsets):
            self._held.append((buffer, offsets))
            self._waiting += len(offsets)
        while self._waiting > self._most or self._first < self._cut_at <= self._first + self._waiting:
            to_cut = self._cut_at - self._first
            yield self._take(to_cut if 0 < to_cut <= self._size else self._size)

    def rest(self) -> Iterator[Batch]:
        """The last batch before an end."""
        if self._waiting:
            yield self._take(self._waiting)

    def _take(self, count: int) -> Batch:
        parts = []
        missing = count
        while missing:
            buffer, offsets = self._held.popleft()
            if len(offsets) > missing:
                self._held.appendleft((buffer, offsets[missing:]))
                offsets = offsets[:missing]
            parts.append((buffer, offsets))
            missing -= len(offsets)
        batch = _batch(parts, self._first, count, self._layouts)
        self._first += count
        self._waiting -= count
        return batch


def read_header(path: Path) -> FileHeader:
    """The header alone. Raises :class:`InvalidDbnError`."""
    with _open(path) as stream:
        return _read_header(stream)


def layouts_of(header: FileHeader) -> dict[int, np.dtype[Any]]:
    """rtype -> layout of one record in that file."""
    return _layouts(header)


def group_records(
    buffer: NDArray[np.uint8], offsets: NDArray[np.int64], layouts: dict[int, np.dtype[Any]]
) -> dict[int, Records]:
    """The records that start at ``offsets`` of ``buffer``, apart by type."""
    return _batch([(buffer, offsets)], 0, len(offsets), layouts).groups


def walk_whole(buffer: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int, bool]:
    """Where the whole records at the beginning of ``buffer`` start, where the last of them ends, and whether what is
    behind it can still become a record. Never raises: what a crash tore ends the walk."""
    if not len(buffer):
        return np.zeros(0, np.int64), 0, True
    try:
        return *_walk(buffer), True
    except InvalidDbnError:
        starts = []
        at, view = 0, buffer.tobytes()
        while view[at] * 4 >= _HEADER_BYTES:
            starts.append(at)
            at += view[at] * 4
        return np.array(starts, np.int64), at, False


def _batch(
    parts: list[tuple[NDArray[np.uint8], NDArray[np.int64]]], first: int, count: int, layouts: dict[int, np.dtype[Any]]
) -> Batch:
    found: dict[int, list[Records]] = {}
    for buffer, offsets in parts:
        kinds = buffer[offsets + 1]
        for rtype in np.unique(kinds):
            mine = offsets[kinds == rtype]
            layout = layouts.get(int(rtype), _HEADER_ONLY)
            found.setdefault(int(rtype), []).append(_gather(buffer, mine, layout))
    return Batch(first, count, {rtype: _joined(arrays) for rtype, arrays in found.items()})


def _joined(arrays: list[Records]) -> Records:
    """One array of its own, copied as bytes: records would be copied field by field."""
    return np.concatenate([one.view(np.uint8) for one in arrays]).view(arrays[0].dtype)


def _gather(buffer: NDArray[np.uint8], offsets: NDArray[np.int64], layout: np.dtype[Any]) -> Records:
    size = layout.itemsize
    steps = np.diff(offsets)
    if not len(steps) or (steps == steps[0]).all():
        # evenly spaced: as they are, or a strided view that is copied once
        step = int(steps[0]) if len(steps) else size
        if step == size:
            return buffer[offsets[0] : offsets[0] + len(offsets) * size].view(layout)
        rows = np.lib.stride_tricks.as_strided(buffer[offsets[0] :], (len(offsets), size), (step, 1))
        return np.ascontiguousarray(rows).view(layout)[:, 0]
    # a record at each byte, as far as the bytes reach: taking some of them copies each at once
    everywhere = np.ndarray((len(buffer) - size + 1,), np.dtype((np.void, size)), buffer, strides=(1,))
    return everywhere[offsets].view(layout)


_HEADER_ONLY = np.dtype(
    [("length", "u1"), ("rtype", "u1"), ("publisher_id", "u2"), ("instrument_id", "u4"), ("ts_event", "u8")]
)


def _layouts(header: FileHeader) -> dict[int, np.dtype[Any]]:
    """rtype -> layout of one record in this file's version; with ``ts_out`` the layout covers all but those bytes."""
    old = header.version == 1
    definition = {1: dbn.InstrumentDefMsgV1, 2: dbn.InstrumentDefMsgV2}.get(header.version, dbn.InstrumentDefMsg)
    messages: dict[int, Any] = {
        0: dbn.TradeMsg,
        1: dbn.MBP1Msg,
        10: dbn.MBP10Msg,
        18: dbn.StatusMsg,
        19: definition,
        20: dbn.ImbalanceMsg,
        21: dbn.ErrorMsgV1 if old else dbn.ErrorMsg,
        22: dbn.SymbolMappingMsgV1 if old else dbn.SymbolMappingMsg,
        23: dbn.SystemMsgV1 if old else dbn.SystemMsg,
        24: dbn.StatMsg if header.version >= 3 else dbn.StatMsgV1,
        160: dbn.MBOMsg,
        177: dbn.CMBP1Msg,
        192: dbn.CBBOMsg,
        193: dbn.CBBOMsg,
        194: dbn.CMBP1Msg,
        195: dbn.BBOMsg,
        196: dbn.BBOMsg,
        **dict.fromkeys((17, 32, 33, 34, 35, 36), dbn.OHLCVMsg),
    }
    layouts = {rtype: np.dtype(message._dtypes) for rtype, message in messages.items()}
    if header.ts_out:
        return {rtype: np.dtype([*layout.descr, ("ts_out", "u8")]) for rtype, layout in layouts.items()}
    return layouts


def _check_lengths(
    layout: np.dtype[Any] | None, rtype: int, lengths: NDArray[np.int64], kinds: NDArray[np.uint8], before: int
) -> None:
    mine = np.flatnonzero(kinds == rtype)
    if layout is None:
        return  # a type of a later version: its own length is all that is known
    wrong = mine[lengths[mine] != layout.itemsize]
    if len(wrong):
        at = int(wrong[0])
        raise InvalidDbnError(
            f"record {before + at} of type {rtype} is {lengths[at]} bytes long; that type has {layout.itemsize}"
        )


def _is_zstd(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    return len(start) == 4 and struct.unpack("<I", start)[0] == _ZSTD_MAGIC


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        if not _is_zstd(path):
            yield file
            return
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        with decompressor.stream_reader(file, read_across_frames=True, closefd=False) as stream:
            yield stream


def _read(stream: BinaryIO, size: int) -> bytes:
    parts = []
    while size:
        try:
            part = stream.read(size)
        except zstandard.ZstdError as error:
            raise InvalidDbnError(f"the zstd data is damaged: {error}") from error
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _read_header(stream: BinaryIO, *, with_intervals: bool = True) -> FileHeader:
    start = _read(stream, 8)
    if len(start) < 8 or start[:3] != b"DBN":
        raise InvalidDbnError("this is no DBN file: it does not start with `DBN`, compressed or not")
    version, length = start[3], struct.unpack("<I", start[4:])[0]
    if not 1 <= version <= 3:
        raise InvalidDbnError(f"DBN version {version} is not known here; 1 to 3 are")
    if length > _MAX_METADATA_BYTES:
        raise InvalidDbnError(f"the metadata claims {length} bytes")
    body = _read(stream, length)
    if len(body) < length:
        raise InvalidDbnError("the file ends inside its metadata")
    try:
        metadata = dbn.Metadata.decode(start + body)
    except dbn.DBNError as error:
        raise InvalidDbnError(f"the metadata cannot be read: {error}") from error
    return FileHeader(
        dataset=metadata.dataset,
        schema=None if metadata.schema is None else str(metadata.schema),
        version=version,  # the file's own: the decoder reports the version it upgrades to
        ts_out=metadata.ts_out,
        intervals=tuple(_intervals(metadata)) if with_intervals else (),
    )


def _intervals(metadata: dbn.Metadata) -> Iterator[Interval]:
    by_id = str(metadata.stype_out) == "instrument_id"
    for name, mapped in metadata.mappings.items():
        for interval in mapped:
            vendor_id, symbol = (interval["symbol"], name) if by_id else (name, interval["symbol"])
            if not vendor_id.isdigit():
                continue  # nothing was found under that name in that interval
            yield Interval(int(vendor_id), symbol, _day(interval["start_date"]), _day(interval["end_date"]))


def _day(value: date) -> int:
    return value.toordinal() - _EPOCH_ORDINAL


def _split(stream: BinaryIO, max_bytes: int | None) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Buffers of whole records and where each record starts. Raises :class:`InvalidDbnError` at a partial record."""
    rest = b""
    seen = 0
    while True:
        data = _read(stream, _CHUNK_BYTES)
        seen += len(data)
        if max_bytes is not None and seen > max_bytes:
            raise InvalidDbnError(f"the file unfolds to more than {max_bytes} bytes")
        buffer = np.frombuffer(rest + data, np.uint8)
        if not len(buffer):
            return
        offsets, end = _walk(buffer)
        if len(offsets):
            yield buffer, offsets
        rest = buffer[end:].tobytes()
        if not data:
            if rest:
                raise InvalidDbnError(f"the file ends inside a record: {len(rest)} bytes are left over")
            return


def _walk(buffer: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """Where the whole records of ``buffer`` start, and where the last of them ends."""
    size = int(buffer[0]) * 4
    if size >= _HEADER_BYTES:
        # the usual file has records of one size: compare every header at once, that of the piece at the end too, which
        # may be a whole record of a smaller size
        whole = len(buffer) // size
        if (buffer[::size] == buffer[0]).all():
            return np.arange(whole, dtype=np.int64) * size, whole * size
    starts = []
    at, length = 0, len(buffer)
    view = buffer.tobytes()
    while at < length:
        size = view[at] * 4
        if size < _HEADER_BYTES:
            raise InvalidDbnError(f"a record claims to be {size} bytes long; its header alone has {_HEADER_BYTES}")
        if at + size > length:
            break
        starts.append(at)
        at += size
    return np.array(starts, np.int64), at


def _check_zstd_frames(path: Path) -> None:
    """Follow frame and block headers to the end of the file: a decompressor says nothing when the last frame is cut."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            _skip_frame(file, size)


def _skip_frame(file: BinaryIO, size: int) -> None:
    cut = InvalidDbnError("the file ends inside a zstd frame: it was not transferred whole")

    def take(count: int) -> bytes:
        data = file.read(count)
        if len(data) < count:
            raise cut
        return data

    def skip(count: int) -> None:
        if file.seek(count, 1) > size:
            raise cut

    magic = struct.unpack("<I", take(4))[0]
    if magic in _SKIPPABLE:
        skip(struct.unpack("<I", take(4))[0])
        return
    if magic != _ZSTD_MAGIC:
        raise InvalidDbnError("there is something other than a zstd frame behind the zstd data")
    descriptor = take(1)[0]
    single_segment = descriptor >> 5 & 1
    content_size = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    dictionary_id = (0, 1, 2, 4)[descriptor & 3]
    skip((0 if single_segment else 1) + dictionary_id + content_size)
    last = False
    while not last:
        header = int.from_bytes(take(3), "little")
        last, kind, block = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == 3:
            raise InvalidDbnError("the zstd data is damaged: a reserved block type")
        skip(1 if kind == 1 else block)
    if descriptor >> 2 & 1:
        skip(4)
