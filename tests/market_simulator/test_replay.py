"""A tape is its files, merged, and nothing else."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from databento_dbn import RType, Schema

from dbn import DAY as DAY_NS
from dbn import MINUTE, bar, dbn_file, midnight, quote, trade
from ots_simulator.replay import TapeSource
from ots_simulator.sources import Interval, Source
from ots_simulator.wire import LAYOUTS

DAY = date(2024, 3, 4)
OPEN = midnight(DAY) + 15 * 60 * MINUTE
NUMBER = midnight(DAY) // DAY_NS
ALWAYS = 2**62


def tape(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        (folder / f"{name}.dbn.zst").write_bytes(data)
    return folder


def records_of(source: Source, schema: str, symbols: list[str] | None = None, dataset: str = "EQUS.MINI") -> bytes:
    return b"".join(chunk.tobytes() for chunk in source.records(dataset, schema, symbols, 0, ALWAYS))


def test_it_is_a_source(tmp_path: Path):
    assert isinstance(TapeSource(tape(tmp_path, a=dbn_file(Schema.TRADES, [trade(OPEN, 1)]))), Source)


def test_files_are_merged_by_index_time_and_keep_their_order_within_it(tmp_path: Path):
    early = [trade(OPEN + i, 1, sequence=i) for i in range(5)]
    late = [trade(OPEN + 2, 2, sequence=9), trade(OPEN + 9, 2)]
    source = TapeSource(tape(tmp_path, a=dbn_file(Schema.TRADES, late), b=dbn_file(Schema.TRADES, early)))
    assert records_of(source, "trades") == b"".join([*early[:2], late[0], *early[2:], late[1]])


def test_a_record_belongs_to_who_had_its_id_that_day(tmp_path: Path):
    second = DAY + timedelta(days=1)
    one, two = trade(OPEN, 1, instrument=5), trade(OPEN + DAY_NS, 2, instrument=5)
    source = TapeSource(
        tape(
            tmp_path,
            a=dbn_file(Schema.TRADES, [one], symbols={"AAA": 5}),
            b=dbn_file(Schema.TRADES, [two], symbols={"BBB": 5}, day=second),
        )
    )
    assert records_of(source, "trades", ["AAA"]) == one
    assert records_of(source, "trades", ["BBB"]) == two
    assert source.resolve("EQUS.MINI", ["BBB", "CCC"], "raw_symbol", 0, 10**6) == [
        Interval("BBB", 5, NUMBER + 1, NUMBER + 2)
    ]


def test_intervals_are_cut_to_the_days_asked_and_joined_across_files(tmp_path: Path):
    files = {
        f"f{n}": dbn_file(Schema.TRADES, [trade(OPEN + n * DAY_NS, 1)], day=DAY + timedelta(days=n)) for n in range(3)
    }
    source = TapeSource(tape(tmp_path, **files))
    assert source.resolve("EQUS.MINI", ["TEST"], "raw_symbol", 0, NUMBER + 2) == [
        Interval("TEST", 1, NUMBER, NUMBER + 2)
    ]
    assert source.resolve("EQUS.MINI", ["ALL_SYMBOLS"], "raw_symbol", NUMBER + 3, NUMBER + 9) == []


def test_mixed_files_are_taken_apart_by_type(tmp_path: Path):
    mixed = [trade(OPEN, 1), bar(OPEN, (1, 1, 1, 1)), trade(OPEN + 1, 1), bar(OPEN, (2, 2, 2, 2), rtype=RType.OHLCV_1D)]
    source = TapeSource(tape(tmp_path, a=dbn_file(None, mixed)))
    assert source.schemas() == {"EQUS.MINI": ("ohlcv-1d", "ohlcv-1m", "trades")}
    assert records_of(source, "trades") == mixed[0] + mixed[2]
    assert records_of(source, "ohlcv-1d") == mixed[3]


def test_a_shift_by_minutes_moves_every_time_and_keeps_the_ids(tmp_path: Path):
    begins = midnight(date(2026, 6, 1)) + 23 * 60 * MINUTE + 59 * MINUTE + 30 * 10**9
    records = [quote(OPEN + i * MINUTE, 1, 2, instrument=3) for i in range(4)]
    folder = tape(tmp_path, a=dbn_file(Schema.CBBO_1M, records, symbols={"AAA": 3}))
    source = TapeSource(folder, shift="minutes", begins_ns=begins)
    moved = next(source.records("EQUS.MINI", "cbbo-1m", ["AAA"], 0, ALWAYS))
    assert begins - MINUTE < int(moved["ts_recv"][0]) <= begins
    assert (np.diff(moved["ts_recv"].astype(np.int64)) == MINUTE).all()
    assert (moved["ts_recv"] % MINUTE == OPEN % MINUTE).all()
    assert (moved["ts_event"] == 2**64 - 1).all()  # undefined stays so
    assert len(moved) == 4  # on either side of midnight


def test_a_shift_by_days_keeps_the_time_of_day_and_moves_the_mappings(tmp_path: Path):
    folder = tape(tmp_path, a=dbn_file(Schema.OHLCV_1D, [bar(midnight(DAY), (1, 1, 1, 1), rtype=RType.OHLCV_1D)]))
    new = midnight(date(2026, 6, 1))
    source = TapeSource(folder, shift="days", begins_ns=new + 5 * MINUTE)
    assert int(next(source.records("EQUS.MINI", "ohlcv-1d", ["TEST"], 0, ALWAYS))["ts_event"][0]) == new
    assert source.resolve("EQUS.MINI", ["TEST"], "raw_symbol", 0, 10**6)[0].starts == new // DAY_NS


@pytest.mark.parametrize(
    "files",
    [
        {"a": dbn_file(Schema.OHLCV_1H, [bar(OPEN, (1, 1, 1, 1), rtype=RType.OHLCV_1H)])},
        {
            "a": dbn_file(Schema.TRADES, [trade(OPEN, 1)], symbols={"AAA": 1}),
            "b": dbn_file(Schema.TRADES, [trade(OPEN + DAY_NS, 1)], symbols={"BBB": 1}, day=DAY + timedelta(days=1)),
        },
    ],
)
def test_a_shift_that_would_falsify_is_refused(tmp_path: Path, files: dict[str, bytes]):
    with pytest.raises(ValueError, match="shift this tape by days"):
        TapeSource(tape(tmp_path, **files), shift="minutes", begins_ns=OPEN + 1)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (None, "no files"),
        (b"", "whole DBN file"),
        (b"nonsense" * 9, "DBN|magic|decoding"),
        (dbn_file(Schema.TRADES, [trade(OPEN, 1)], compress=False)[:-5], "inside a record"),
        (dbn_file(Schema.TRADES, [trade(OPEN, 1)])[:-5], "inside a zstd frame"),
        (dbn_file(Schema.TRADES, []), "no records"),
    ],
)
def test_what_is_no_tape_is_refused(tmp_path: Path, data: bytes | None, complaint: str):
    folder = tape(tmp_path, **({} if data is None else {"a": data}))
    with pytest.raises(Exception, match=complaint):
        TapeSource(folder)


def test_databentos_own_files_of_every_version(real_data: Path):
    source = TapeSource(real_data / "databento-samples")
    for dataset, schemas in source.schemas().items():
        for schema in schemas:
            for chunk in source.records(dataset, schema, None, 0, ALWAYS):
                assert chunk.dtype == LAYOUTS[schema]
                assert (chunk["length"].astype(int) * 4 == LAYOUTS[schema].itemsize).all()
    # a file of version 1 with the ids of a month
    spy = source.resolve("OPRA.PILLAR", ["SPY.OPT"], "parent", 19570, 19571)
    assert len({one.vendor_id for one in spy}) == len(spy) > 5000
