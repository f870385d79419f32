"""Cutting a question into downloads: nothing left out, nothing twice, the most recent first."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbn import DAY, MINUTE
from ots_ingestion.backfill_plan import Estimate, Want, by_groups, closing_windows, fingerprint, plan
from ots_ingestion.schemas_offered import SchemaNotOffered, choose
from ots_market.sessions import around_the_clock, xnys

START = 19_786 * DAY  # Monday, 4 March 2024


def want(windows, symbols=("AAPL", "MSFT", "SPY")) -> Want:
    return Want("EQUS.MINI", "trades", "raw_symbol", tuple(symbols), tuple(windows))


@settings(max_examples=200, deadline=None)
@given(
    begin=st.integers(0, 10 * DAY),
    length=st.integers(1, 60 * DAY),
    records=st.integers(0, 10**9),
    part_records=st.integers(1, 10**6),
    symbols=st.integers(1, 5),
)
def test_the_parts_are_the_question(begin, length, records, part_records, symbols):
    names = tuple("ABCDE"[:symbols])
    whole = (START + begin, START + begin + length)
    parts = plan([(want([whole], names), Estimate(records, 0, 0.0))], xnys(), part_records)
    for name in names:
        windows = sorted((p.request.start_ns, p.request.end_ns) for p in parts if name in p.request.symbols)
        assert windows[0][0] == whole[0]
        assert windows[-1][1] == whole[1]
        assert all(a[1] == b[0] for a, b in pairwise(windows))
    ends = [part.request.end_ns for part in parts]
    assert ends == sorted(ends, reverse=True)


def test_small_days_are_bought_together_and_large_ones_apart():
    window = (START, START + 30 * DAY)
    small = plan([(want([window]), Estimate(30_000, 0, 0.0))], around_the_clock(), 200_000)
    assert len(small) == 1
    medium = plan([(want([window]), Estimate(600_000, 0, 0.0))], around_the_clock(), 200_000)
    assert len(medium) == 3
    assert all(part.estimated_records == 200_000 for part in medium)
    large = plan([(want([window]), Estimate(30 * 600_000, 0, 0.0))], around_the_clock(), 200_000)
    assert len(large) == 3 * 30  # a symbol and a day each
    huge = plan([(want([window], ["SPY"]), Estimate(30 * 24_000_000, 0, 0.0))], around_the_clock(), 200_000)
    assert len(huge) == 30 * 24  # no less than an hour


def test_an_earlier_stage_comes_first_however_old():
    recent, old = (START + DAY, START + 2 * DAY), (START - 60 * DAY, START)
    later = Want("OPRA.PILLAR", "cbbo-1m", "parent", ("SPY.OPT",), (recent,), stage=1)
    wants = [
        (later, Estimate(1000, 0, 0.0)),
        (want([old]), Estimate(1000, 0, 0.0)),
        (want([recent]), Estimate(10, 0, 0.0)),
    ]
    windows = [(p.request.start_ns, p.request.end_ns) for p in plan(wants, around_the_clock(), 200_000)]
    assert windows == [recent, old, recent]
    # the stage is no part of the question
    assert fingerprint([later]) == fingerprint([replace(later, stage=0)])


def test_a_minute_at_each_close():
    windows = closing_windows(xnys(), START, START + 7 * DAY, 1)
    assert len(windows) == 5
    close = START + 21 * 60 * MINUTE
    assert windows[0] == (close - MINUTE, close + 1)
    assert len(plan([(want(windows), Estimate(9000, 0, 0.0))], xnys(), 200_000)) == 5
    # midnight's stamp is the next day's, and so are its ids
    assert closing_windows(around_the_clock(), START, START + DAY, 1) == ((START + DAY - MINUTE, START + DAY),)
    # a session that is not over has no close yet
    assert closing_windows(xnys(), START, close - 1, 1) == ()


def test_at_most_two_thousand_symbols_a_request():
    many = [f"S{i}" for i in range(4500)]
    groups = by_groups([want([(START, START + DAY)], many)])
    assert [len(group.symbols) for group in groups] == [2000, 2000, 500]
    assert [symbol for group in groups for symbol in group.symbols] == many


def test_the_same_question_has_the_same_fingerprint():
    window = (START, START + DAY)
    one = [want([window], ("AAPL", "SPY"))]
    assert fingerprint(one) == fingerprint([want([window], ("SPY", "AAPL"))])
    assert fingerprint(one) != fingerprint([want([(START, START + DAY + 1)], ("AAPL", "SPY"))])
    assert fingerprint(one) != fingerprint([want([window], ("AAPL",))])


def test_equivalents_and_what_is_not_offered():
    offered = ["trades", "tcbbo", "cbbo-1m", "mbo", "ohlcv-1d"]
    chosen = choose(["tbbo", "trades", "tcbbo", "bbo-1m"], "OPRA.PILLAR", offered)
    assert chosen.schemas == ("tcbbo", "trades", "cbbo-1m")
    assert len(chosen.notes) == 2
    with pytest.raises(SchemaNotOffered, match="not stored here; OPRA.PILLAR offers cbbo-1m, ohlcv-1d, tcbbo, trades"):
        choose(["mbo"], "OPRA.PILLAR", offered)
    with pytest.raises(SchemaNotOffered, match="has no schema definition"):
        choose(["definition"], "OPRA.PILLAR", offered)
