"""Whatever comes in whatever order and however often: each row is there once, and the bars are those of all rows."""

from __future__ import annotations

import uuid

import databento_dbn as dbn
import numpy as np
import pytest

from ots_common.database import connect
from ots_ingestion.layouts import to_rows
from ots_ingestion.store import _in_order, store
from ots_market.timeframes import MINUTE_NS

OPEN = 1_709_562_600_000_000_000
MINUTES = 6


def some_trades(generator: np.random.Generator, instruments: list[int], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Trades in order of time, many at the same microsecond and at the borders of minutes; their instruments."""
    records = np.zeros(n, np.dtype(dbn.TradeMsg._dtypes))
    edges = OPEN + generator.integers(0, MINUTES, n) * MINUTE_NS + generator.integers(-3, 3, n)
    inside = OPEN + generator.integers(0, MINUTES * 60, n) * 1_000_000_000 + generator.integers(0, 3, n) * 400
    records["ts_event"] = np.sort(np.where(generator.random(n) < 0.3, edges, inside))
    records["ts_recv"] = records["ts_event"] + 1000
    records["price"] = generator.integers(90, 110, n) * 1_000_000_000
    records["size"] = generator.integers(1, 9, n)
    records["action"], records["side"] = b"T", b"N"
    records["publisher_id"] = generator.integers(1, 3, n)
    records["sequence"] = np.arange(n)
    return records, generator.choice(instruments, n)


def expected_bars(records: np.ndarray, instruments: np.ndarray) -> dict[tuple[int, int, int], tuple[int, ...]]:
    """By instrument, publisher and minute: open, high, low, close, volume, as a person would add them up."""
    bars: dict[tuple[int, int, int], tuple[int, ...]] = {}
    for record, instrument in zip(records, instruments, strict=True):
        key = (int(instrument), int(record["publisher_id"]), int(record["ts_event"]) // MINUTE_NS)
        price, size = int(record["price"]), int(record["size"])
        opened, high, low, _, volume = bars.get(key, (price, price, price, price, 0))
        bars[key] = (opened, max(high, price), min(low, price), price, volume + size)
    return bars


@pytest.mark.parametrize("seed", range(4))
def test_pieces_in_any_order_come_to_the_same(market, seed):
    generator = np.random.default_rng(seed)
    made = market.database.rows(
        "INSERT INTO instruments (dataset, raw_symbol, underlying)"
        " SELECT 'TEST', s, s FROM unnest(%s) s RETURNING instrument_id",
        ([f"S{uuid.uuid4().hex[:10]}" for _ in range(4)],),
    )
    ids = [row[0] for row in made]
    records, instruments = some_trades(generator, ids, 400)
    pieces = [np.arange(first, min(first + size, 400)) for size in (40, 90) for first in range(0, 400, size)]
    generator.shuffle(pieces)
    connection = connect(market.owner, application="tests")
    seen: set[int] = set()
    for piece in pieces:
        rows = to_rows("trades", records[piece])
        ords = np.zeros(len(piece), np.int64)
        with connection:
            done = store(connection, rows, instruments[piece].astype(np.int64), ords, keep=True)
        assert (done.stored, done.duplicate) == (len(set(piece.tolist()) - seen), len(seen & set(piece.tolist())))
        seen |= set(piece.tolist())
        # after each piece: a later one would mend a bar that was wrong for a while
        so_far = sorted(seen)
        assert bars_stored(market, ids) == expected_bars(records[so_far], instruments[so_far])
    connection.close()
    assert market.database.rows("SELECT count(*) FROM trades WHERE instrument_id = ANY(%s)", (ids,))[0][0] == 400


def test_a_live_feed_continues_its_bars_also_where_the_vendor_has_one_and_where_one_is_gone(market):
    """In order of time, as a feed comes: a vendor's bar stays, one that was deleted is made from all its trades."""
    [(instrument,)] = market.database.rows(
        "INSERT INTO instruments (dataset, raw_symbol, underlying) VALUES ('TEST', %s, 'S') RETURNING instrument_id",
        (f"S{uuid.uuid4().hex[:10]}",),
    )
    records, instruments = some_trades(np.random.default_rng(9), [instrument], 300)
    connection = connect(market.owner, application="tests")

    def put(first: int, last: int) -> None:
        rows = to_rows("trades", records[first:last])
        with connection:
            store(
                connection, rows, instruments[first:last].astype(np.int64), np.zeros(last - first, np.int64), keep=True
            )

    for first in range(0, 150, 10):
        put(first, first + 10)
    minute = int(records["ts_event"][149]) // MINUTE_NS
    publisher = int(records["publisher_id"][149])
    where = f"instrument_id = {instrument} AND ts = to_timestamp({minute * 60})"
    market.database.execute(f"DELETE FROM bars_1m WHERE {where} AND publisher_id <> {publisher}")
    market.database.execute(f"UPDATE bars_1m SET origin = 'v', volume = 1 WHERE {where} AND publisher_id = {publisher}")
    vendors = bars_stored(market, [instrument])[instrument, publisher, minute]
    for first in range(150, 300, 10):
        put(first, first + 10)
    connection.close()
    expected = expected_bars(records, instruments)
    assert sum(key[2] == minute for key in expected) == 2
    assert bars_stored(market, [instrument]) == {**expected, (instrument, publisher, minute): vendors}


def bars_stored(market, ids: list[int]) -> dict[tuple[int, int, int], tuple[int, ...]]:
    rows = market.database.rows(
        "SELECT instrument_id, publisher_id, (extract(epoch FROM ts) / 60)::bigint, open, high, low, close, volume"
        " FROM bars_1m WHERE instrument_id = ANY(%s)",
        (ids,),
    )
    return {row[:3]: row[3:] for row in rows}


@pytest.mark.parametrize("values", [1, 2, 5, 10**6])
def test_ties_alone_are_sorted_by_all_keys(values):
    keys = tuple(np.random.default_rng(3).integers(0, values, (4, 500)))
    assert (_in_order(keys) == np.lexsort(keys)).all()
