"""The same question has the same answer, to the byte: in any order, in any pieces, in any process."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_market.sessions import around_the_clock
from ots_simulator.market import MarketSize, SeededMarket
from ots_simulator.randomness import salt, stream, uniforms
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, SCHEMAS, SECOND, TODAY, ask, make_market, shared_market

# around a border of hours, where pieces are made apart
START = TODAY * DAY + 15 * HOUR - 90 * SECOND
SPAN = {"cbbo-1s": 3 * MINUTE, "ohlcv-1d": 2 * DAY, "ohlcv-1h": 5 * HOUR}


@pytest.mark.parametrize(("dataset", "schema"), SCHEMAS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_pieces_are_the_whole(dataset: str, schema: str, data: st.DataObject):
    market = shared_market()
    start = TODAY * DAY if schema in ("definition", "statistics") else START
    end = start + SPAN.get(schema, 5 * MINUTE)
    if schema.startswith("ohlcv-1d"):
        start -= DAY
    whole = ask(market, dataset, schema, start, end)
    times = whole["ts_recv" if "ts_recv" in whole.dtype.names else "ts_event"].astype(np.int64)
    anywhere = st.integers(start, end)
    # cuts at records' own times, and just after, are where a record would be lost or doubled
    near = anywhere if not len(times) else st.one_of(anywhere, st.sampled_from(sorted(set(times.tolist()))))
    cuts = sorted(data.draw(st.lists(near, max_size=6)))
    borders = [start, *cuts, end]
    pieces = [ask(market, dataset, schema, a, b) for a, b in pairwise(borders)]
    assert b"".join(piece.tobytes() for piece in pieces) == whole.tobytes()


def test_two_markets_asked_in_another_order_agree():
    questions = [(dataset, schema, START, START + 2 * MINUTE) for dataset, schema in SCHEMAS]
    questions += [(dataset, schema, START - 3 * DAY, START - 3 * DAY + 2 * MINUTE) for dataset, schema in SCHEMAS]
    one, other = make_market(), make_market()
    answers = {question: ask(one, *question).tobytes() for question in questions}
    random.Random(3).shuffle(questions)
    assert all(ask(other, *question).tobytes() == answers[question] for question in questions)
    assert sum(map(len, answers.values())) > 1_000_000


@pytest.mark.parametrize(("dataset", "schema"), SCHEMAS)
def test_a_few_symbols_are_the_rows_of_all(dataset: str, schema: str):
    market = shared_market()
    start, end = (
        (TODAY * DAY, TODAY * DAY + MINUTE)
        if schema in ("definition", "statistics")
        else (START - DAY * (schema == "ohlcv-1d"), START + 3 * MINUTE)
    )
    day = market.resolve(dataset, ["ALL_SYMBOLS"], "raw_symbol", TODAY, TODAY + 1)
    some = day[:: max(2, len(day) // 40)]
    whole = ask(market, dataset, schema, start, end)
    mine = ask(market, dataset, schema, start, end, {one.raw_symbol for one in some})
    if schema != "ohlcv-1d":  # whose day before has other ids
        kept = whole[np.isin(whole["instrument_id"], [one.vendor_id for one in some])]
        assert mine.tobytes() == kept.tobytes()
    assert len(mine) < len(whole)
    assert len(mine) or dataset == OPTIONS


def test_another_seed_is_another_market():
    one, other = shared_market(), make_market(seed=8)
    for dataset, schema in [(EQUITIES, "trades"), (OPTIONS, "cbbo-1m")]:
        a, b = (ask(market, dataset, schema, START, START + 2 * MINUTE) for market in (one, other))
        assert a.tobytes() != b.tobytes()


def test_a_calendar_that_ends_later_begins_the_same():
    whole = around_the_clock()
    until = int(np.searchsorted(whole.opens, (TODAY + 5) * DAY))
    cut = replace(whole, dates=whole.dates[:until], opens=whole.opens[:until], closes=whole.closes[:until])
    short = SeededMarket(7, cut, MarketSize.LAPTOP, lambda: (TODAY + 1) * DAY)
    question = (EQUITIES, "ohlcv-1m", START - 30 * DAY, START - 29 * DAY)
    assert ask(short, *question).tobytes() == ask(shared_market(), *question).tobytes()


def test_threads_that_ask_at_once_get_what_one_gets():
    fresh = make_market()
    expected = {s: ask(shared_market(), OPTIONS, s, START, START + MINUTE).tobytes() for s in ("tcbbo", "cbbo-1m")}
    wrong: list[str] = []

    def run(schema: str) -> None:
        if ask(fresh, OPTIONS, schema, START, START + MINUTE).tobytes() != expected[schema]:
            wrong.append(schema)

    threads = [threading.Thread(target=run, args=(s,)) for s in ("tcbbo", "cbbo-1m") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class TestTime:
    """Nothing from the future leaves."""

    @pytest.mark.parametrize(("dataset", "schema"), SCHEMAS)
    def test_what_is_given_is_what_the_market_gives_later_cut_at_now(self, dataset: str, schema: str):
        now = START + 100 * SECOND + 1
        early = make_market(now=now)
        seen = ask(early, dataset, schema, now - 2 * HOUR if "1s" not in schema else now - MINUTE, now + DAY)
        if not len(seen):
            assert schema in ("ohlcv-1d", "definition", "statistics", "ohlcv-1h")
            return
        times = seen["ts_event" if schema.startswith("ohlcv") else "ts_recv"].astype(np.int64)
        length = {"ohlcv-1m": MINUTE, "ohlcv-1h": HOUR, "ohlcv-1d": DAY}.get(schema, 0)
        assert int(times[-1]) + length <= now
        later = ask(shared_market(), dataset, schema, int(times[0]), int(times[-1]) + 1)
        assert later.tobytes() == seen.tobytes()

    def test_a_bar_comes_when_its_interval_is_over_and_not_before(self):
        end = START - START % MINUTE + MINUTE
        before, after = (make_market(now=now) for now in (end - 1, end))
        window = (EQUITIES, "ohlcv-1m", end - MINUTE, end)
        assert len(ask(before, *window)) == 0
        assert len(ask(after, *window)) == 9

    def test_the_span_ends_now(self):
        market = make_market(now=START)
        first, end = market.span(EQUITIES)
        assert end == START
        assert (end - first) // DAY > 730
        with pytest.raises(KeyError):
            market.span("XNAS.ITCH")

    def test_what_does_not_exist_is_an_error_or_nothing(self):
        market = shared_market()
        with pytest.raises(KeyError):
            market.records(EQUITIES, "mbo", None, START, START + MINUTE)
        with pytest.raises(KeyError):
            market.records("XNAS.ITCH", "trades", None, START, START + MINUTE)
        with pytest.raises(ValueError, match="stype_in"):
            market.resolve(EQUITIES, ["AAPL"], "continuous", TODAY, TODAY + 1)
        assert market.resolve(OPTIONS, ["IBM.OPT", "AAPL"], "parent", TODAY, TODAY + 1) == []
        for symbols, start, end in [(["IBM"], START, START + DAY), ([], START, START + DAY), (None, START, START - 5)]:
            assert len(ask(market, EQUITIES, "trades", start, max(start, end), symbols)) == 0
        assert len(ask(market, EQUITIES, "ohlcv-1d", 0, 1000 * DAY)) == 0


class TestRandomness:
    def test_a_stream_is_its_name(self):
        a, b, c, d = (
            stream(1, "tape", "AAPL", 5, 3).random(4),
            stream(1, "tape", "AAPL", 5, 3).random(4),
            stream(1, "tape", "AAPL", 5, 4).random(4),
            stream(1, "tape", "AAPL", 6, 3).random(4),
        )
        assert (a == b).all()
        assert (a != c).all()
        assert (a != d).all()

    def test_numbers_of_words_are_uniform_and_apart(self):
        key = salt(1, "x", "y")
        numbers = uniforms(key, np.arange(200_000, dtype=np.uint64), 5)
        assert abs(numbers.mean() - 0.5) < 0.005
        assert abs(numbers.std() - 12**-0.5) < 0.005
        assert len(np.unique(numbers)) > 199_990
        assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.01
        assert uniforms(key, np.array([7], np.uint64), 5)[0] == numbers[7]
