"""A market that is a recording: a folder of DBN files, of any datasets, schemas and DBN versions, merged.

The files are unfolded once, at the start, into one plain file a schema beside an index of times; both are
memory-mapped, so that a tape of any length takes little memory.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

import databento_dbn as dbn
import numpy as np
import zstandard
from numpy.typing import NDArray

from ots_simulator.sources import ALL_SYMBOLS, Interval
from ots_simulator.wire import DAY_NS, EPOCH, LAYOUTS, SCHEMA_OF_RTYPE, SYMBOL_MAPPING, Records, Times, index_times

_log = logging.getLogger(__name__)

CHUNK_RECORDS = 20_000
_READ_BYTES = 2**18
_LAST_TIME = 2**63 - 1
_MINUTE_NS = 60_000_000_000
_OSI_CHARACTERS = 21
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

Shift = Literal["none", "minutes", "days"]


@dataclass(frozen=True)
class Series:
    """The records of one schema in order of index time; ``times``: int64 ns, in step."""

    records: Records
    times: Times

    def between(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """Where the records of [start, end) lie."""
        first, last = np.searchsorted(self.times, [start_ns, end_ns], side="left")
        return int(first), int(last)


class TapeSource:
    """A :class:`~ots_simulator.sources.Source` over the DBN files in ``folder`` and below.

    ``shift`` moves the tape in time so that it begins at ``begins_ns``: by whole ``minutes`` (its first record lies
    less than a minute before), or by whole ``days`` (its first day becomes that day, the time of day stays). Times of
    expiry stay as they are. Raises ValueError for a folder without DBN files, and for a tape that a shift by minutes
    would falsify: one whose ids change from day to day, or one with bars of an hour or more.
    """

    name = "tape"

    def __init__(self, folder: Path, *, shift: Shift = "none", begins_ns: int = 0) -> None:
        self._store = tempfile.TemporaryDirectory(prefix="ots-tape-")
        writers: dict[tuple[str, str], _Writer] = {}
        intervals: dict[str, list[Interval]] = {}
        files = sorted(path for path in folder.rglob("*") if path.name.endswith((".dbn", ".dbn.zst")))
        if not files:
            raise ValueError(f"{folder} holds no files named *.dbn or *.dbn.zst")
        for path in files:
            dataset, found = _unfold(path, writers, Path(self._store.name))
            intervals.setdefault(dataset, []).extend(found)
        series = {key: writer.finish() for key, writer in writers.items()}
        self._series = {key: one for key, one in series.items() if len(one.times)}
        if not self._series:
            raise ValueError(f"the files in {folder} hold no records with a time")
        self._intervals = {dataset: _joined(found) for dataset, found in intervals.items()}
        self.shift_ns = self._shift(shift, begins_ns)
        self._ids = lru_cache(maxsize=256)(self._ids_of)

    @property
    def first_ns(self) -> int:
        """The index time of the first record of all."""
        return min(int(one.times[0]) for one in self._series.values())

    @property
    def last_ns(self) -> int:
        """The index time of the last record of all."""
        return max(int(one.times[-1]) for one in self._series.values())

    def schemas(self) -> Mapping[str, tuple[str, ...]]:
        """See :class:`~ots_simulator.sources.Source`."""
        found: dict[str, list[str]] = {}
        for dataset, schema in sorted(self._series):
            found.setdefault(dataset, []).append(schema)
        return {dataset: tuple(schemas) for dataset, schemas in found.items()}

    def span(self, dataset: str) -> tuple[int, int]:
        """From midnight UTC of the tape's first day to just behind its last record."""
        mine = [one for (name, _), one in self._series.items() if name == dataset]
        if not mine:
            raise KeyError(dataset)
        first, last = min(int(one.times[0]) for one in mine), max(int(one.times[-1]) for one in mine)
        return first // DAY_NS * DAY_NS, last + 1

    def resolve(
        self, dataset: str, symbols: Sequence[str], stype_in: str, first_day: int, end_day: int
    ) -> list[Interval]:
        """See :class:`~ots_simulator.sources.Source`. Raises ValueError for another ``stype_in``."""
        if stype_in not in ("raw_symbol", "parent"):
            raise ValueError(f"a tape cannot resolve {stype_in}")
        known = self._intervals.get(dataset, {})
        wanted: Iterable[str] = known
        if list(symbols) != [ALL_SYMBOLS]:
            asked = set(symbols)
            wanted = asked & known.keys() if stype_in == "raw_symbol" else (s for s in known if parent_of(s) in asked)
        return [
            replace(one, starts=max(one.starts, first_day), ends=min(one.ends, end_day))
            for symbol in sorted(wanted)
            for one in known[symbol]
            if one.starts < end_day and one.ends > first_day
        ]

    def records(
        self, dataset: str, schema: str, raw_symbols: Collection[str] | None, start_ns: int, end_ns: int
    ) -> Iterator[Records]:
        """See :class:`~ots_simulator.sources.Source`."""
        series = self._series.get((dataset, schema))
        if series is None:
            return
        wanted = None if raw_symbols is None else frozenset(raw_symbols)
        first, last = series.between(start_ns, end_ns)
        for at in range(first, last, CHUNK_RECORDS):
            piece = slice(at, min(at + CHUNK_RECORDS, last))
            chunk = np.array(series.records[piece])
            if wanted is not None:
                chunk = chunk[self._is_wanted(dataset, wanted, chunk, series.times[piece])]
            if len(chunk):
                yield chunk

    def _is_wanted(self, dataset: str, wanted: frozenset[str], chunk: Records, times: Times) -> NDArray[np.bool_]:
        days = times // DAY_NS
        mask = np.zeros(len(chunk), bool)
        for day in range(int(days[0]), int(days[-1]) + 1):
            lo, hi = np.searchsorted(days, [day, day + 1])
            if hi > lo:
                mask[lo:hi] = np.isin(chunk["instrument_id"][lo:hi], self._ids(dataset, wanted, day))
        return mask

    def _ids_of(self, dataset: str, wanted: frozenset[str], day: int) -> NDArray[np.uint32]:
        known = self._intervals.get(dataset, {})
        ids = [one.vendor_id for s in wanted for one in known.get(s, ()) if one.starts <= day < one.ends]
        return np.array(ids, np.uint32)

    def _shift(self, shift: Shift, begins_ns: int) -> int:
        if shift == "none":
            return 0
        if shift == "days":
            moved = (begins_ns // DAY_NS - self.first_ns // DAY_NS) * DAY_NS
        else:
            moved = (begins_ns - self.first_ns) // _MINUTE_NS * _MINUTE_NS
            self._refuse_minutes()
        for one in self._series.values():
            _move(one, moved)
        first_day, end_day = self.first_ns // DAY_NS, self.last_ns // DAY_NS + 1
        for known in self._intervals.values():
            for symbol, mapped in known.items():
                known[symbol] = [
                    replace(one, starts=one.starts + moved // DAY_NS, ends=one.ends + moved // DAY_NS)
                    if shift == "days"
                    # the one id of a symbol holds wherever the tape now lies
                    else replace(one, starts=first_day, ends=end_day)
                    for one in mapped
                ]
        return moved

    def _refuse_minutes(self) -> None:
        coarse = sorted({schema for _, schema in self._series} & {"ohlcv-1h", "ohlcv-1d", "ohlcv-eod"})
        if coarse:
            raise ValueError(f"shift: bars of {', '.join(coarse)} keep their hours; shift this tape by days")
        for dataset, known in self._intervals.items():
            ids = [{one.vendor_id for one in mapped} for mapped in known.values()]
            if any(len(one) > 1 for one in ids) or len(set().union(*ids)) < len(ids):
                raise ValueError(f"shift: ids of {dataset} change from day to day; shift this tape by days")


def parent_of(raw_symbol: str) -> str | None:
    """``AAPL.OPT`` of an option's OSI symbol; None for anything else."""
    return f"{raw_symbol[:6].rstrip()}.OPT" if len(raw_symbol) == _OSI_CHARACTERS else None


class _Writer:
    """Records of one schema on their way to disk."""

    def __init__(self, stem: Path, layout: np.dtype[np.void]) -> None:
        self._layout = layout
        self._paths = stem.with_suffix(".records"), stem.with_suffix(".times")
        self._files: tuple[IO[bytes], ...] = tuple(path.open("wb") for path in self._paths)
        self._last = -1
        self._in_order = True

    def add(self, records: Records) -> None:
        times = records["ts_recv" if "ts_recv" in self._layout.fields else "ts_event"]  # type: ignore[operator]
        timed = times <= _LAST_TIME
        if not timed.all():
            _log.warning("%d records without a time are left out", int((~timed).sum()))
            records = records[timed]
        if not len(records):
            return
        found = index_times(records)
        self._in_order &= bool(found[0] >= self._last and (np.diff(found) >= 0).all())
        self._last = max(self._last, int(found.max()))
        self._files[0].write(records.tobytes())
        self._files[1].write(found.tobytes())

    def finish(self) -> Series:
        for file in self._files:
            file.close()
        if not self._paths[1].stat().st_size:
            return Series(np.zeros(0, self._layout), np.zeros(0, np.int64))
        series = Series(
            np.memmap(self._paths[0], self._layout, "r+"),
            np.memmap(self._paths[1], np.int64, "r+"),
        )
        return series if self._in_order else self._sorted(series)

    def _sorted(self, series: Series) -> Series:
        order = np.argsort(series.times, kind="stable")
        path = self._paths[0].with_suffix(".sorted")
        with path.open("wb") as file:
            for at in range(0, len(order), CHUNK_RECORDS):
                file.write(series.records[order[at : at + CHUNK_RECORDS]].tobytes())
        series.times[:] = series.times[order]
        self._paths[0].unlink()
        return Series(np.memmap(path, self._layout, "r+"), series.times)


def _move(series: Series, by_ns: int) -> None:
    """Shift every time of a record, in place."""
    series.times[:] += by_ns
    for name in ("ts_event", "ts_recv", "ts_ref"):
        if name not in (series.records.dtype.names or ()):
            continue
        for at in range(0, len(series.records), CHUNK_RECORDS):
            column = series.records[name][at : at + CHUNK_RECORDS]
            defined = column <= _LAST_TIME
            column[defined] = (column[defined].astype(np.int64) + by_ns).astype(np.uint64)


def _joined(intervals: list[Interval]) -> dict[str, list[Interval]]:
    """By symbol: what several files say, without repetition, adjacent days joined."""
    found: dict[str, list[Interval]] = {}
    for one in sorted(intervals, key=lambda i: (i.raw_symbol, i.vendor_id, i.starts)):
        mine = found.setdefault(one.raw_symbol, [])
        if mine and mine[-1].vendor_id == one.vendor_id and mine[-1].ends >= one.starts:
            mine[-1] = replace(mine[-1], ends=max(mine[-1].ends, one.ends))
        else:
            mine.append(one)
    return {symbol: sorted(mine, key=lambda i: i.starts) for symbol, mine in found.items()}


def _unfold(path: Path, writers: dict[tuple[str, str], _Writer], store: Path) -> tuple[str, list[Interval]]:
    """Write the records of one file to the writers of their schemas; its dataset, and whom its ids name."""
    plain = _Plain(path)
    metadata = plain.metadata
    schema = None if metadata.schema is None else str(metadata.schema)
    intervals = list(_intervals(metadata))
    for kind, records in plain.groups():
        if kind == SYMBOL_MAPPING:
            intervals.extend(_told(records))
            continue
        mine = schema if schema is not None and LAYOUTS[schema].itemsize == records.dtype.itemsize else None
        mine = mine or SCHEMA_OF_RTYPE.get(kind)
        if mine is None:
            continue  # the gateway's own messages are no part of a market
        key = metadata.dataset, mine
        if key not in writers:
            writers[key] = _Writer(store / f"{len(writers)}", LAYOUTS[mine])
        typed = records.view(LAYOUTS[mine])
        writers[key].add(typed)
        if mine == "definition":
            intervals.extend(_defined(typed))
    return metadata.dataset, intervals


class _Plain:
    """A DBN file unfolded and brought to version 3, in pieces."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = bytearray()
        self._pieces = self._read()
        while len(self._buffer) < 8 or len(self._buffer) < self._header_bytes:
            if not next(self._pieces, False):
                raise ValueError(f"{path} is no whole DBN file")
        self.metadata = dbn.Metadata.decode(bytes(self._buffer[: self._header_bytes]))
        del self._buffer[: self._header_bytes]

    @property
    def _header_bytes(self) -> int:
        return 8 + int.from_bytes(self._buffer[4:8], "little")

    def groups(self) -> Iterator[tuple[int, Records]]:
        """Record type and records of that type (untyped, ``ts_out`` cut off), in the file's order within a type."""
        extra = 8 if self.metadata.ts_out else 0
        more = True
        while more:
            more = bool(next(self._pieces, False))
            data = np.frombuffer(bytes(self._buffer), np.uint8)
            starts, end = _walk(data)
            del self._buffer[:end]
            kinds = data[starts + 1]
            for kind in dict.fromkeys(kinds.tolist()):
                mine = starts[kinds == kind]
                size = int(data[mine[0]]) * 4
                rows = data[mine[:, None] + np.arange(size - extra)]
                rows[:, 0] = (size - extra) // 4
                yield kind, rows.view(np.dtype((np.void, size - extra)))[:, 0]
        if self._buffer:
            raise ValueError(f"{self._path} ends inside a record")

    def _read(self) -> Iterator[bool]:
        """Each step adds to the buffer; truthy while there is more."""
        sink = io.BytesIO()
        upgrade = dbn.Transcoder(sink, dbn.Encoding.from_str("dbn"), dbn.Compression.from_str("none"))
        for data in _decompressed(self._path):
            upgrade.write(data)
            upgrade.flush()
            self._buffer += sink.getvalue()
            sink.seek(0)
            sink.truncate()
            yield True
        if upgrade.buffer():
            raise ValueError(f"{self._path} ends inside a record")


def _decompressed(path: Path) -> Iterator[bytes]:
    """What a file holds, plain or zstd. Raises ValueError when its last frame is not whole."""
    with path.open("rb") as file:
        data = file.read(_READ_BYTES)
        if not data.startswith(_ZSTD_MAGIC):
            while data:
                yield data
                data = file.read(_READ_BYTES)
            return
        frame = zstandard.ZstdDecompressor().decompressobj()
        while data:
            yield frame.decompress(data)
            data = frame.unused_data or file.read(_READ_BYTES)
            if frame.eof and data:
                frame = zstandard.ZstdDecompressor().decompressobj()
        if not frame.eof:
            raise ValueError(f"{path} ends inside a zstd frame")


def _walk(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """Where the whole records of ``data`` start, and where the last of them ends."""
    if not len(data):
        return np.zeros(0, np.int64), 0
    size = int(data[0]) * 4
    if size >= 16:
        # the usual file has records of one size; what is left at the end may be a whole record of a smaller one
        whole = len(data) // size
        if (data[::size] == data[0]).all():
            return np.arange(whole, dtype=np.int64) * size, whole * size
    view, starts, at = data.tobytes(), [], 0
    while at < len(view):
        size = view[at] * 4
        if size < 16:
            raise ValueError(f"a record claims to be {size} bytes long")
        if at + size > len(view):
            break
        starts.append(at)
        at += size
    return np.array(starts, np.int64), at


def _intervals(metadata: dbn.Metadata) -> Iterator[Interval]:
    by_id = str(metadata.stype_out) == "instrument_id"
    for name, mapped in metadata.mappings.items():
        for one in mapped:
            vendor_id, symbol = (one["symbol"], name) if by_id else (name, one["symbol"])
            if vendor_id.isdigit():
                yield Interval(symbol, int(vendor_id), (one["start_date"] - EPOCH).days, (one["end_date"] - EPOCH).days)


def _told(records: Records) -> Iterator[Interval]:
    """What the mappings of a live capture say; each holds on its day."""
    for one in records.view(np.dtype(dbn.SymbolMappingMsg._dtypes)):
        day = int(one["ts_event"]) // DAY_NS
        yield Interval(one["stype_out_symbol"].decode(), int(one["instrument_id"]), day, day + 1)


def _defined(records: Records) -> Iterator[Interval]:
    """Whom definitions name; each holds on its day."""
    for one in records[["raw_symbol", "instrument_id", "ts_recv"]]:
        day = int(one["ts_recv"]) // DAY_NS
        yield Interval(one["raw_symbol"].decode(), int(one["instrument_id"]), day, day + 1)
