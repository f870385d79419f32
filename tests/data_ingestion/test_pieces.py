"""An import's batch goes to the server in pieces: wherever those begin, what is stored is what the file says."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import numpy as np
import psycopg2
import pytest
from databento_dbn import Schema, TradeMsg

from dbn import dbn_file, quote, trade
from ots_common.database import connect
from ots_ingestion import batch_store, runs, spool, store
from ots_ingestion.dbn_file import verify
from ots_ingestion.importer import Importer
from ots_ingestion.layouts import to_rows
from ots_ingestion.store import Writing, _joined, sort_rows
from ots_market.timeframes import MINUTE_NS

OPEN = 1_709_562_600_000_000_000
BATCH = 150
PIECE = 16


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(batch_store, "PIECE_RECORDS", PIECE)


class Imports:
    """Runs of one database, each by an importer of its own."""

    def __init__(self, market, folder) -> None:
        self.market = market
        self.folder = folder

    def queue(self, body: bytes) -> uuid.UUID:
        run_id = uuid.uuid4()
        path = self.folder / f"{run_id}.dbn"
        path.write_bytes(body)
        summary = verify(path, max_decompressed_bytes=2**30)
        upload = spool.Upload(path, len(body), "0" * 64)
        runs.create_run(self.market.database, run_id, upload, path, summary, "tests", BATCH)
        return run_id

    def work(self, run_id: uuid.UUID) -> dict:
        connection = connect(self.market.owner, application="tests")
        try:
            run = runs.claim_next(connection, self.folder)
            assert run is not None
            assert run.run_id == run_id
            Importer(connection, run, lambda _: None).run(lambda: False)
            runs.finish(connection, run_id)
        finally:
            connection.close()
        return self.read(run_id)

    def read(self, run_id: uuid.UUID) -> dict:
        found = runs.get_run(self.market.database, run_id)
        assert found is not None
        return found

    def imported(self, body: bytes) -> dict:
        run = self.work(self.queue(body))
        assert run["read"] == run["total"] == run["stored"] + run["duplicate"]
        return run

    def rows(self, columns: str, table: str, symbol: str, order: str = "1, 2, 3") -> list[tuple]:
        whose = "JOIN instruments USING (instrument_id) WHERE raw_symbol = %s"
        return self.market.database.rows(f"SELECT {columns} FROM {table} {whose} ORDER BY {order}", (symbol,))

    def bars(self, symbol: str) -> dict[tuple[int, int], tuple[int, ...]]:
        columns = "(extract(epoch FROM ts) / 60)::bigint, publisher_id, open, high, low, close, volume"
        return {row[:2]: row[2:] for row in self.rows(columns, "bars_1m", symbol)}


@pytest.fixture
def imports(market, tmp_path) -> Imports:
    return Imports(market, tmp_path)


def records_of(generator: np.random.Generator, n: int) -> tuple[list[bytes], dict[int, list[tuple]]]:
    """Trades of three vendor ids as a feed brings them, late ones and equal ones among them; by id what they say."""
    times = np.sort(OPEN + generator.integers(0, 4 * 60, n) * 1_000_000_000 + generator.integers(0, 2, n) * 300)
    late = np.where(generator.random(n) < 0.2, generator.integers(0, 90, n) * 1_000_000_000, 0)
    raw, said = [], {1: [], 2: [], 3: []}
    for i in range(n):
        vendor, publisher = int(generator.integers(1, 4)), int(generator.integers(94, 96))
        price, size = int(generator.integers(90, 110)), int(generator.integers(1, 9))
        for _ in range(3 if i % 10 == 0 else 1):
            raw.append(trade(int(times[i] - late[i]), price, size, sequence=i, instrument=vendor, publisher=publisher))
            said[vendor].append((int(times[i] - late[i]), i, price * 10**9, size, publisher))
    return raw, said


def bars_of(said: list[tuple]) -> dict[tuple[int, int], tuple[int, ...]]:
    bars: dict[tuple[int, int], tuple[int, ...]] = {}
    for at, _, price, size, publisher in sorted(said):
        key = (at // MINUTE_NS, publisher)
        opened, high, low, _, volume = bars.get(key, (price, price, price, price, 0))
        bars[key] = (opened, max(high, price), min(low, price), price, volume + size)
    return bars


@pytest.mark.parametrize(("seed", "few_values"), [(0, 20_000), (1, 20_000), (2, 0)])
@pytest.mark.parametrize("there_before", ["nothing", "a stretch", "every seventh"])
def test_late_and_equal_trades_over_pieces_and_what_was_there_before(
    imports, monkeypatch, seed, few_values, there_before
):
    # 0: all that would go with its statement goes through temporary tables, as much does
    monkeypatch.setattr(store, "_FEW_VALUES", few_values)
    raw, said = records_of(np.random.default_rng(seed), 400)
    names = {vendor: f"{there_before[:3]}{seed}V{vendor}".upper().replace(" ", "") for vendor in said}
    symbols = {name: vendor for vendor, name in names.items()}
    before = {"nothing": [], "a stretch": raw[190:260], "every seventh": raw[::7]}[there_before]
    if before:
        imports.imported(dbn_file(Schema.TRADES, before, symbols=symbols))
    body = dbn_file(Schema.TRADES, raw, symbols=symbols)
    imports.imported(body)
    for vendor, name in names.items():
        stored = imports.rows("sequence, price, size, publisher_id", "trades", name, "1, 2, 3, 4")
        assert stored == sorted(
            (sequence, price, size, publisher) for _, sequence, price, size, publisher in said[vendor]
        )
        assert imports.bars(name) == bars_of(said[vendor])
        newest = max(said[vendor])
        assert imports.rows("sequence, price, size", "price_latest", name) == [newest[1:4]]
    again = imports.imported(body)
    assert (again["stored"], again["duplicate"]) == (0, len(raw))
    for vendor, name in names.items():
        assert imports.bars(name) == bars_of(said[vendor])


def test_a_stretch_that_comes_again_in_a_later_piece_of_its_batch_is_stored_once(imports):
    raw = [trade(OPEN + i * 10**9, 50 + i, 1, sequence=i) for i in range(100)]
    run = imports.work(imports.queue(dbn_file(Schema.TRADES, raw[:70] + raw[30:], symbols={"AGAIN": 1})))
    assert (run["read"], run["stored"], run["duplicate"]) == (140, 100, 40)
    assert imports.rows("sequence", "trades", "AGAIN", "1") == [(i,) for i in range(100)]
    assert [values[-1] for _, values in sorted(imports.bars("AGAIN").items())] == [60, 40]


def test_the_latest_quote_is_the_last_of_all_pieces(imports):
    raw = [quote(OPEN + i // 40 * MINUTE_NS, 1 + i / 100, 2 + i / 100, instrument=i % 40 + 1) for i in range(400)]
    imports.imported(dbn_file(Schema.CBBO_1M, raw, symbols={f"Q{i}": i + 1 for i in range(40)}, dataset="OPRA.PILLAR"))
    for i in range(40):
        [(at, bid)] = imports.rows("ts, bid", "quote_latest", f"Q{i}", "1")
        assert (at, bid) == (datetime.fromtimestamp(OPEN // 10**9 + 9 * 60, UTC), round((1 + (360 + i) / 100) * 10**9))
        assert len(imports.rows("ts, digest, ord", "quotes", f"Q{i}")) == 10


def test_a_vendors_id_that_changes_is_one_instrument_in_each_piece(imports):
    # one id over midnight, and other ids the next day: blocks of a piece that come together
    midnight = OPEN // (1440 * MINUTE_NS) * 1440 * MINUTE_NS + 1440 * MINUTE_NS
    raw = [trade(midnight + (i - 40) * 10**9, 50 + i, 1, sequence=i, instrument=1 + i % 2) for i in range(80)]
    imports.imported(dbn_file(Schema.TRADES, raw, symbols={"EVE": 1, "ODD": 2}, days=2))
    for name, first in (("EVE", 0), ("ODD", 1)):
        assert imports.rows("sequence", "trades", name, "1") == [(i,) for i in range(first, 80, 2)]
        volumes = [values[-1] for _, values in sorted(imports.bars(name).items())]
        assert volumes == [20, 20]


def test_a_connection_lost_between_pieces_leaves_nothing_and_the_next_try_stores_all(imports, monkeypatch):
    raw, said = records_of(np.random.default_rng(7), 330)
    run_id = imports.queue(dbn_file(Schema.TRADES, raw, symbols={"LOST1": 1, "LOST2": 2, "LOST3": 3}))
    write, written = Writing.write, []

    def cut_off(self, piece):
        written.append(len(piece))
        if len(written) == 14:  # the second transaction has begun, and has some pieces
            pid = self._connection.info.backend_pid
            imports.market.database.rows("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        write(self, piece)

    monkeypatch.setattr(Writing, "write", cut_off)
    with pytest.raises((psycopg2.OperationalError, psycopg2.InterfaceError)):
        imports.work(run_id)
    left = imports.read(run_id)
    assert (left["status"], left["read"]) == ("running", BATCH)
    assert sum(len(imports.rows("ts", "trades", f"LOST{v}", "1")) for v in said) == BATCH
    monkeypatch.setattr(Writing, "write", write)
    done = imports.work(run_id)
    assert (done["read"], done["stored"]) == (len(raw), len(raw))
    for vendor in said:
        assert len(imports.rows("ts", "trades", f"LOST{vendor}", "1")) == len(said[vendor])
        assert imports.bars(f"LOST{vendor}") == bars_of(said[vendor])


@pytest.mark.parametrize("seed", range(20))
def test_blocks_under_new_owners_are_as_if_sorted_by_them(seed):
    generator = np.random.default_rng(seed)
    raw, _ = records_of(generator, 90)
    records = np.frombuffer(b"".join(raw), np.dtype(TradeMsg._dtypes))[:100]
    # equal rows under several owners, which one owner then has twice
    records = records[np.sort(generator.integers(0, 100, 120))]
    rows = to_rows("trades", records)
    owners, ords = generator.integers(0, 5, 120), np.zeros(120, np.int64)
    if seed % 2:
        owners = np.sort(owners)  # an instrument's days, one behind the other
    new = generator.integers(0, 3 + seed % 3, 5) if seed % 3 else np.sort(generator.integers(0, 3, 5))
    given = sort_rows(rows, owners, ords)
    found, expected = given.owned_by(new[given.owners]), sort_rows(rows, new[owners], ords)
    assert found.offered == expected.offered
    assert rows_of(found) == rows_of(expected)
    assert len(set(found.owners.tolist())) == len(found.owners)
    assert values_of(_joined([found.bars])) == values_of(expected.bars)


def values_of(bars) -> dict[tuple[int, ...], tuple[int, ...]]:
    keys = zip(bars.instruments.tolist(), bars.minutes.tolist(), bars.publishers.tolist(), strict=True)
    return dict(zip(keys, zip(*(value.tolist() for value in bars.values), strict=True), strict=True))


def rows_of(ordered) -> dict[int, tuple]:
    """Owner -> its rows in order and its newest."""
    found = {}
    for owner, start, length, newest in zip(
        ordered.owners, ordered.starts, ordered.lengths, ordered.newest, strict=True
    ):
        block = slice(start, start + length)
        rows = sorted(zip(ordered.own_ns[block].tolist(), ordered.digests[block].tolist(), strict=True))
        assert (np.diff(ordered.own_ns[block]) >= 0).all()
        found[int(owner)] = (rows, int(ordered.own_ns[newest]), int(ordered.digests[newest]))
    return found
