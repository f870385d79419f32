"""A file is taken whole or not at all."""

import random
import struct

import numpy as np
import pytest
import zstandard
from databento_dbn import RType, Schema
from hypothesis import given, settings
from hypothesis import strategies as st

from dbn import MINUTE, bar, dbn_file, quote, trade
from ots_ingestion.dbn_file import InvalidDbnError, group_records, read_batches, verify, walk_whole

START = 1_709_562_600_000_000_000
TRADES = [trade(START + i, 100 + i % 7, sequence=i) for i in range(500)]
FILE = dbn_file(Schema.TRADES, TRADES)
PLAIN = dbn_file(Schema.TRADES, TRADES, compress=False)
LIMIT = 10**9


def check(tmp_path_factory, body, limit=LIMIT):
    path = tmp_path_factory.mktemp("dbn") / "file"
    path.write_bytes(body)
    return verify(path, max_decompressed_bytes=limit), path


@pytest.mark.parametrize("body", [FILE, PLAIN], ids=["zstd", "plain"])
def test_a_whole_file(tmp_path_factory, body):
    summary, path = check(tmp_path_factory, body)
    assert summary.records == 500
    assert summary.header.dataset == "EQUS.MINI"
    assert summary.header.schema == "trades"
    records = np.concatenate([batch.groups[0] for batch in read_batches(path, 64)])
    assert records["sequence"].tolist() == list(range(500))


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(FILE) - 1))
def test_a_cut_zstd_file_is_refused_wherever_it_is_cut(tmp_path_factory, cut):
    with pytest.raises(InvalidDbnError):
        check(tmp_path_factory, FILE[:cut])


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(PLAIN) - 1))
def test_a_cut_plain_file_is_refused_unless_cut_between_records(tmp_path_factory, cut):
    at_a_border = cut >= len(PLAIN) - 48 * 500 and (len(PLAIN) - cut) % 48 == 0
    if at_a_border:
        summary, _ = check(tmp_path_factory, PLAIN[:cut])
        assert summary.records == 500 - (len(PLAIN) - cut) // 48
    else:
        with pytest.raises(InvalidDbnError):
            check(tmp_path_factory, PLAIN[:cut])


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=400), prefix=st.sampled_from([b"", b"DBN\x03", b"\x28\xb5\x2f\xfd", PLAIN[:120]]))
def test_garbage_is_refused_with_a_reason_and_never_crashes(tmp_path_factory, prefix, body):
    with pytest.raises(InvalidDbnError):
        check(tmp_path_factory, prefix + body)


def test_several_frames_and_skippable_ones_are_one_file(tmp_path_factory):
    compress = zstandard.ZstdCompressor(write_checksum=True).compress
    skippable = struct.pack("<II", 0x184D2A53, 5) + b"aside"
    body = compress(PLAIN[:1000]) + skippable + compress(PLAIN[1000:])
    summary, _ = check(tmp_path_factory, body)
    assert summary.records == 500


def test_a_flipped_bit_under_a_checksum_is_refused(tmp_path_factory):
    body = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN))
    body[len(body) // 2] ^= 1
    with pytest.raises(InvalidDbnError):
        check(tmp_path_factory, bytes(body))


def test_a_bomb_is_refused_before_it_unfolds(tmp_path_factory):
    bomb = zstandard.ZstdCompressor(level=19).compress(PLAIN + bytes(200 * 2**20))
    assert len(bomb) < 100_000
    with pytest.raises(InvalidDbnError):
        check(tmp_path_factory, bomb, limit=16 * 2**20)


def test_a_record_of_the_wrong_length_is_named(tmp_path_factory):
    wrong = bytearray(TRADES[3])
    wrong[0] = 80 // 4
    body = dbn_file(Schema.TRADES, [*TRADES[:3], bytes(wrong) + bytes(32)], compress=False)
    with pytest.raises(InvalidDbnError, match="record 3 of type 0 is 80 bytes long; that type has 48"):
        check(tmp_path_factory, body)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_mixed_records_come_apart_by_type_and_in_order(tmp_path_factory, size):
    chance = random.Random(size)
    makers = [
        lambda i: trade(START + i, 100, sequence=i),
        lambda i: bar(START + i * MINUTE, (1, 2, 0.5, 1)),
        lambda i: quote(START + i, 1, 2),
    ]
    records = [chance.choice(makers)(i) for i in range(300)]
    summary, path = check(tmp_path_factory, dbn_file(None, records, symbols={}))
    assert summary.records == 300
    batches = list(read_batches(path, size))
    assert sum(batch.count for batch in batches) == 300
    assert [batch.first for batch in batches] == list(range(0, 300, size))
    for rtype in (0, int(RType.OHLCV_1M), int(RType.CBBO_1M)):
        expected = [record for record in records if record[1] == rtype]
        found = [row.tobytes() for batch in batches for row in batch.groups.get(rtype, ())]
        assert found == expected


def test_an_empty_file_is_a_file(tmp_path_factory):
    summary, path = check(tmp_path_factory, dbn_file(Schema.TRADES, []))
    assert summary.records == 0
    assert list(read_batches(path, 10)) == []


@settings(deadline=None)
@given(
    kinds=st.lists(st.sampled_from("tbq"), max_size=40),
    behind=st.integers(0, 79),
    length=st.integers(0, 255),
)
def test_mixed_records_are_found_one_by_one_whatever_is_behind_them(kinds, behind, length):
    """``behind``: bytes of a record that is not whole yet, or, when it claims fewer than its header, never will be."""
    made = {
        "t": lambda i: trade(START + i, 100, sequence=i),
        "b": lambda i: bar(START + i * MINUTE, (1, 2, 1, 2)),
        "q": lambda i: quote(START + i, 1.0, 1.1),
    }
    records = [made[kind](i) for i, kind in enumerate(kinds)]
    body = b"".join(records)
    rest = (bytes([length]) + bytes(79))[: min(behind, max(length * 4 - 1, 1))]
    buffer = np.frombuffer(body + rest, np.uint8)
    offsets, end, sound = walk_whole(buffer)
    starts = np.cumsum([0, *map(len, records)])
    assert offsets.tolist() == starts[:-1].tolist()
    assert end == len(body)
    assert sound == (not rest or length >= 4)
    if kinds:
        layouts = {rtype: np.dtype((np.void, len(one))) for one in records for rtype in [one[1]]}
        found = group_records(buffer, offsets, layouts)
        for rtype, group in found.items():
            assert [one.tobytes() for one in group] == [one for one in records if one[1] == rtype]


@pytest.mark.parametrize(
    ("number", "size", "cut_at", "firsts"),
    [
        (300, 100, 0, [0, 100, 200]),
        (312, 100, 0, [0, 100, 200]),  # an eighth more, in the last
        (313, 100, 0, [0, 100, 200, 300]),
        (312, 100, 300, [0, 100, 200, 300]),  # somebody stored the first 300
        (312, 100, 250, [0, 100, 200, 250]),
        (450, 100, 200, [0, 100, 200, 300, 400]),
        (5, 100, 3, [0, 3]),
        (5, 100, 5, [0]),
    ],
)
def test_where_batches_are_cut(tmp_path_factory, number, size, cut_at, firsts):
    records = [trade(START + i, 100, sequence=i) for i in range(number)]
    _, path = check(tmp_path_factory, dbn_file(Schema.TRADES, records))
    batches = list(read_batches(path, size, cut_at))
    assert [batch.first for batch in batches] == firsts
    assert b"".join(batch.groups[0].tobytes() for batch in batches) == b"".join(records)
