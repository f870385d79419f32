"""Counts are exact, and what was made to count is not made again."""

from __future__ import annotations

import numpy as np
import pytest

from ots_simulator.query import Query
from ots_simulator.resolution import History, Remembered
from ots_simulator.sources import Counting
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, TODAY, ask, make_market

START = TODAY * DAY - DAY


def query(dataset: str, schema: str, symbols: tuple[str, ...], start: int, end: int, limit: int | None = None) -> Query:
    stype = "parent" if symbols[0].endswith(".OPT") else "raw_symbol"
    return Query(dataset, schema, symbols, stype, start, end, end, limit)


@pytest.mark.parametrize("calendar", ["around-the-clock", "xnys"])
@pytest.mark.parametrize(
    ("dataset", "schema"),
    [(EQUITIES, "definition"), (OPTIONS, "definition"), (OPTIONS, "statistics"), (OPTIONS, "cbbo-1m")],
)
def test_what_is_counted_without_making_it_is_what_is_made(calendar: str, dataset: str, schema: str):
    market = make_market(calendar=calendar)
    assert isinstance(market, Counting)
    day = TODAY - 1
    # a chain has millions of samples a day: those about the close will do
    closes = int(market.paths.daily.closes[market.paths.row(day)])
    first, last = (closes - 3 * MINUTE, closes + 2 * MINUTE) if schema == "cbbo-1m" else (day * DAY, (day + 1) * DAY)
    sent = ask(market, dataset, schema, first, last)
    some = int(sent["ts_recv"][len(sent) // 3])
    for start, end in [
        (first, last), (first, some), (some, some + 1), (some + 1, last), (last, first), (some, some),
        (first - 40 * DAY, first - 40 * DAY + MINUTE), ((TODAY + 1) * DAY, (TODAY + 2) * DAY),
    ]:  # fmt: skip
        assert market.count(dataset, schema, None, start, end) == len(ask(market, dataset, schema, start, end))
    names = ["SPY", "AAPL"]
    if dataset == OPTIONS:
        names = [one.raw_symbol for one in market.resolve(OPTIONS, ["SPY.OPT"], "parent", day, day + 1)][5::7]
    picked = ask(market, dataset, schema, first, last, names)
    assert 0 < len(picked) < len(sent)
    assert market.count(dataset, schema, names, first, last) == len(picked)
    assert market.count(dataset, schema, ["NOPE"], first, last) == 0


def test_others_are_not_guessed():
    market = make_market()
    assert market.count(EQUITIES, "ohlcv-1m", None, START, START + DAY) is None
    with pytest.raises(KeyError):
        market.count(EQUITIES, "cbbo-1m", None, START, START + DAY)
    with pytest.raises(KeyError):
        market.count("NOPE", "cbbo-1m", None, START, START + DAY)


class Watched:
    """A market that notes what it is made to make."""

    def __init__(self) -> None:
        self.market = make_market()
        self.name, self.schemas, self.resolve, self.span = (
            "w",
            self.market.schemas,
            self.market.resolve,
            self.market.span,
        )
        self.made: list[str] = []

    def records(self, dataset, schema, raw_symbols, start_ns, end_ns):
        self.made.append(schema)
        return self.market.records(dataset, schema, raw_symbols, start_ns, end_ns)


def test_a_count_makes_the_records_and_the_download_takes_them():
    source = Watched()
    history = History(source, source.market.sessions)
    asked = query(EQUITIES, "trades", ("AAPL",), START, START + HOUR)
    count = history.count(asked)
    first = b"".join(chunk.tobytes() for chunk in history.records(asked, history.resolution(asked)))
    assert source.made == ["trades"]
    again = b"".join(chunk.tobytes() for chunk in history.records(asked, history.resolution(asked)))
    assert source.made == ["trades"] * 2
    expected = ask(source.market, EQUITIES, "trades", START, START + HOUR, ["AAPL"])
    assert first == again == expected.tobytes()
    assert count == len(expected) > 0


@pytest.mark.parametrize("limit", [1, 5, 10**6])
def test_limits_count(limit):
    market = make_market()
    history = History(market, market.sessions)
    for dataset, schema, symbol in [(EQUITIES, "trades", "AAPL"), (OPTIONS, "definition", "AAPL.OPT")]:
        asked = query(dataset, schema, (symbol,), START, START + HOUR, limit)
        count = history.count(asked)
        assert count == sum(len(chunk) for chunk in history.records(asked, history.resolution(asked)))
        assert 0 < count <= limit


def test_no_more_is_remembered_than_allowed():
    chunk = np.zeros(100, np.dtype("V10"))
    queries = [query(EQUITIES, "trades", ("AAPL",), i, i + 1) for i in range(4)]
    remembered = Remembered(2500)
    for one in queries[:3]:
        remembered.keep(one, [chunk])
    remembered.keep(queries[1], [chunk, chunk])  # known already
    remembered.keep(queries[3], [chunk] * 3)  # too much at once
    found = [remembered.take(one) for one in queries]
    assert [None if chunks is None else len(chunks) for chunks in found] == [None, 1, 1, None]
    assert [remembered.take(one) for one in queries] == [None] * 4
