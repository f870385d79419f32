"""A seeded tape: what the feed will say, as files for the simulator and as the multiset that must be stored."""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import databento_dbn as dbn
import numpy as np
from numpy.typing import NDArray

from dbn import DAY, dbn_file

OPEN = 1_709_562_600_000_000_000  # 2024-03-04 14:30 UTC
SECOND = 1_000_000_000
STOCKS = {"AAPL": 101, "MSFT": 102, "TSLA": 103}
OPTIONS = {"AAPL  240315C00180000": 201, "AAPL  240315P00180000": 202, "TSLA  240308C00190000": 203}
EQUITIES, OPRA = "EQUS.MINI", "OPRA.PILLAR"

# dataset, schema, symbol, and every field by which two records may differ
Key = tuple[Any, ...]


@dataclass
class Tape:
    """``files``: by name, for the simulator. ``expected``: how often each record is in them. Times in ns."""

    files: dict[str, bytes]
    begins_ns: int
    ends_ns: int
    expected: Counter[Key] = field(default_factory=Counter)
    # key -> index time, by which the ledger counts
    index_ns: dict[Key, int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """How many in all."""
        return sum(self.expected.values())


def make_tape(seed: int, seconds: float, per_second: int) -> Tape:
    """Trades and sampled quotes of three stocks and trades of three options, over ``seconds`` of the feed.

    Some trades are equal in every field, in stretches that a batch, a kill or a disconnect may cut.
    """
    generator = np.random.default_rng(seed)
    tape = Tape({}, OPEN, OPEN + int(seconds * SECOND))
    for dataset, ids, share in ((EQUITIES, STOCKS, 0.8), (OPRA, OPTIONS, 0.2)):
        _add_trades(tape, generator, dataset, ids, max(1, int(per_second * share * seconds)))
    _add_quotes(tape, generator, int(seconds))
    return tape


def _add_trades(tape: Tape, generator: np.random.Generator, dataset: str, ids: dict[str, int], n: int) -> None:
    records = np.zeros(n, np.dtype(dbn.TradeMsg._dtypes))
    # bursts: the feed is not even
    gaps = generator.exponential(1.0, n) * np.where(generator.random(n) < 0.5, 0.05, 1.95)
    times = tape.begins_ns + (np.cumsum(gaps) / gaps.sum() * (tape.ends_ns - tape.begins_ns)).astype(np.int64)
    records["ts_event"], records["ts_recv"] = times, times + generator.integers(1000, 2000)
    records["length"], records["publisher_id"] = records.dtype.itemsize // 4, 95
    records["instrument_id"] = generator.choice(list(ids.values()), n)
    records["price"] = generator.integers(100, 105, n) * SECOND
    records["size"] = generator.integers(1, 4, n)
    records["action"], records["side"], records["flags"] = b"T", b"N", 128
    records["sequence"] = np.arange(n)
    # genuine repeats: the record before it once more, up to eight in a row
    for first in np.flatnonzero(generator.random(n - 8) < 0.03):
        records[first + 1 : first + 1 + generator.integers(1, 8)] = records[first]
    records = records[np.argsort(records["ts_recv"], kind="stable")]
    names = {vendor_id: symbol for symbol, vendor_id in ids.items()}
    for r in records:
        key = trade_key(dataset, names[int(r["instrument_id"])], r["ts_event"], r["ts_recv"], r["price"], r["size"],
                        r["sequence"])  # fmt: skip
        tape.expected[key] += 1
        tape.index_ns[key] = int(r["ts_recv"])
    tape.files[f"{dataset}-trades.dbn.zst"] = _file(dataset, dbn.Schema.TRADES, records, ids)


def _add_quotes(tape: Tape, generator: np.random.Generator, seconds: int) -> None:
    records = np.zeros((seconds, len(STOCKS)), np.dtype(dbn.BBOMsg._dtypes))
    times = tape.begins_ns + np.arange(1, seconds + 1) * SECOND
    records["length"], records["rtype"], records["publisher_id"] = records.dtype.itemsize // 4, 195, 95
    records["instrument_id"] = list(STOCKS.values())
    records["ts_recv"] = times[:, None]
    records["ts_event"] = times[:, None] - generator.integers(0, SECOND, records.shape)
    bid = generator.integers(100, 105, records.shape)
    records["bid_px_00"], records["ask_px_00"] = bid * SECOND, (bid + 1) * SECOND
    records["bid_sz_00"], records["ask_sz_00"] = generator.integers(1, 9, (2, *records.shape))
    records["price"], records["size"], records["side"] = bid * SECOND, 1, b"N"
    names = {vendor_id: symbol for symbol, vendor_id in STOCKS.items()}
    records = records.reshape(-1)
    for r in records:
        key = quote_key(EQUITIES, names[int(r["instrument_id"])], r["ts_recv"], r["ts_event"], r["bid_px_00"],
                        r["ask_px_00"], r["bid_sz_00"], r["ask_sz_00"])  # fmt: skip
        tape.expected[key] += 1
        tape.index_ns[key] = int(r["ts_recv"])
    tape.files["quotes.dbn.zst"] = _file(EQUITIES, dbn.Schema.BBO_1S, records, STOCKS)


def trade_key(dataset: str, symbol: str, event: int, recv: int, price: int, size: int, sequence: int) -> Key:
    """A trade's identity."""
    return dataset, "trades", symbol, int(event), int(recv), int(price), int(size), int(sequence)


def quote_key(
    dataset: str, symbol: str, recv: int, event: int, bid: int, ask: int, bid_size: int, ask_size: int
) -> Key:
    """A sampled quote's identity."""
    return dataset, "bbo-1s", symbol, int(recv), int(event), int(bid), int(ask), int(bid_size), int(ask_size)


def _file(dataset: str, schema: dbn.Schema, records: NDArray[np.void], ids: dict[str, int]) -> bytes:
    day = datetime.date(1970, 1, 1) + datetime.timedelta(days=OPEN // DAY)
    return dbn_file(schema, [records.tobytes()], day=day, symbols=ids, dataset=dataset)
