"""A market over what is stored: the real GOOG day, and a small one whose quotes are known one by one."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_ingestion_support import Ingestion, settings_for
from dbn import MINUTE, quote
from option_chain_support import (
    CLOSE,
    ELEVEN,
    EXPIRATIONS,
    IDS,
    OPEN,
    RATE,
    SESSION,
    SPOT,
    definitions_at,
    osi,
    quotes_at,
    store,
    store_spot,
)
from ots_common.times import to_datetime
from ots_market.timeframes import Timeframe
from ots_signals.stored_market import QUOTE_AGE_NS, StoredMarket, minutes_of_quotes

SECOND = 10**9
CENT = 10_000_000
LAST = EXPIRATIONS[2]
TICKING, CROSSED = osi(LAST, "C", 100.0), osi(LAST, "P", 100.0)
SILENT, WORTHLESS = osi(LAST, "C", 102.5), osi(LAST, "P", 97.5)
ONE_SIDED = osi(LAST, "C", 97.5)
AT_CLOSE = osi(LAST, "P", 102.5)


def state_rate(market, rate):
    """A flat curve, known before the session."""
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES ('2015-12-23', 'flat', '2015-12-23', 'test') RETURNING curve_id"
        )
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, %s, 'continuous')", (*cursor.fetchone(), rate))


def bare(symbol):
    """As signals name it."""
    return symbol.replace(" ", "")


@pytest.fixture(scope="module")
def service(market, redis_server, tmp_path_factory):
    """The small chain at eleven, and what became of five of its contracts."""
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for minute in (-2, -1, 0, 1):
            store_spot(service, ELEVEN + minute * MINUTE, SPOT + minute)
        store_spot(service, OPEN - MINUTE, 50.0)  # before the session
        store(service, "definition", definitions_at(OPEN))
        named = [TICKING, CROSSED, SILENT, WORTHLESS, ONE_SIDED, AT_CLOSE]
        store(service, "cbbo-1m", quotes_at(ELEVEN - MINUTE, without=named))
        store(service, "cbbo-1s", [
            *(quote(ELEVEN + at * SECOND, bid, bid + 0.1, instrument=IDS[TICKING])
              for at, bid in ((0, 3.0), (10, 3.5), (20, 2.5), (60, 3.1), (150, 3.2))),
            quote(ELEVEN + 30 * SECOND, 5.0, 4.0, instrument=IDS[CROSSED]),
            quote(ELEVEN - 30 * SECOND, None, 0.05, instrument=IDS[WORTHLESS]),
            quote(ELEVEN + 10 * SECOND, None, 4.0, instrument=IDS[ONE_SIDED]),
            quote(ELEVEN + 70 * SECOND, 3.9, None, instrument=IDS[ONE_SIDED]),
            quote(CLOSE, 1.0, 1.1, instrument=IDS[AT_CLOSE]),
        ])  # fmt: skip
        state_rate(market, RATE)
        yield service


@pytest.fixture(scope="module")
def stored(service, market):
    return StoredMarket(market.database, source="databento", calendar="xnys", final=True)


def test_bars_are_those_of_the_session_that_had_closed(stored):
    found = stored.bars("TEST", Timeframe.M1, SESSION, 3, ELEVEN + MINUTE)
    assert found.starts.tolist() == [ELEVEN - 2 * MINUTE, ELEVEN - MINUTE, ELEVEN]
    assert found.close.tolist() == [SPOT - 2, SPOT - 1, SPOT]
    assert (found.known_at == found.starts + MINUTE).all()
    assert {stored.sessions.date_at(k) for k in found.session} == {SESSION}
    # five minutes are known when they are over, and not of the first four
    assert len(stored.bars("TEST", Timeframe.M5, SESSION, 3, ELEVEN + 4 * MINUTE)) == 1
    assert len(stored.bars("TEST", Timeframe.M5, SESSION, 3, ELEVEN + 5 * MINUTE)) == 2
    assert len(stored.bars("NOBODY", Timeframe.M1, SESSION, 3, ELEVEN)) == 0
    with pytest.raises(ValueError, match="no session"):
        stored.bars("TEST", Timeframe.M1, date(2015, 12, 25), 0, ELEVEN)


def test_bars_read_once_or_each_time_are_the_same(stored, market):
    live = StoredMarket(market.database, source="databento", calendar="xnys")
    for minutes in (-60, -1, 0, 1, 2, 60):
        once, each = (one.bars("TEST", Timeframe.M1, SESSION, 2, ELEVEN + minutes * MINUTE) for one in (stored, live))
        assert once.starts.tolist() == each.starts.tolist()
        assert once.close.tolist() == each.close.tolist()


def test_bars_before_a_split_are_told_in_the_shares_of_the_session(service, market):
    stored = StoredMarket(market.database, source="databento", calendar="xnys", final=True)
    before = stored.bars("TEST", Timeframe.M1, SESSION, 0, CLOSE)
    action = (
        "INSERT INTO corporate_actions (symbol, ex_date, kind, numerator, denominator, source, stated_by)"
        " VALUES ('TEST', %s, 'split', 4, 1, 'test', 'test')"
    )
    market.database.execute(action, (date(2015, 12, 28),))
    later = StoredMarket(market.database, source="databento", calendar="xnys", final=True)
    assert later.bars("TEST", Timeframe.M1, SESSION, 0, CLOSE).close.tolist() == before.close.tolist()
    adjusted = later.bars("TEST", Timeframe.M1, date(2015, 12, 28), 1, CLOSE + 5 * 1440 * MINUTE)
    assert adjusted.close.tolist() == (before.close / 4).tolist()
    assert adjusted.volume.tolist() == (before.volume * 4).tolist()
    market.database.execute("DELETE FROM corporate_actions")


def test_days_are_those_that_had_closed_with_what_was_implied_at_their_close(service, market):
    with market.database.connection() as connection, connection.cursor() as cursor:
        for closing, minutes, implied in ((True, 0, 0.31), (False, -60, 0.99)):
            at = to_datetime(CLOSE + minutes * MINUTE)
            cursor.execute("SELECT open_volatility_chunks(%s)", (at,))
            cursor.execute(
                "INSERT INTO volatility_snapshots (underlying, ts, session_date, closing, rate_detail, volatility_30d,"
                " contracts_used, contracts_refused, newest_at_ns, method, data_version)"
                " VALUES ('TEST', %s, %s, %s, '', %s, 1, '{}', 1, 'test', '')",
                (at, SESSION, closing, implied),
            )
    for final in (True, False):
        stored = StoredMarket(market.database, source="databento", calendar="xnys", final=final)
        assert len(stored.daily_volatility("TEST", CLOSE - 1).dates) == 0
        for _ in range(2):
            found = stored.daily_volatility("TEST", CLOSE)
            assert found.dates.tolist() == [SESSION]
            assert found.close.tolist() == [SPOT + 1]
            assert found.implied_30d.tolist() == [0.31]
        assert len(stored.daily_volatility("NOBODY", CLOSE).dates) == 0
    market.database.execute("DELETE FROM volatility_snapshots")


def test_the_chain_has_no_side_that_could_not_be_traded(stored):
    chain = stored.chain("TEST", ELEVEN + MINUTE)
    row = {symbol: k for k, symbol in enumerate(chain.symbol.tolist())}
    assert (chain.bid[row[bare(TICKING)]], chain.ask[row[bare(TICKING)]]) == (310 * CENT, 320 * CENT)
    assert (chain.bid[row[bare(CROSSED)]], chain.ask[row[bare(CROSSED)]]) == (0, 0)
    assert (chain.bid[row[bare(WORTHLESS)]], chain.ask[row[bare(WORTHLESS)]]) == (0, 5 * CENT)
    assert (chain.bid[row[bare(SILENT)]], chain.reason[row[bare(SILENT)]]) == (0, "no_quote")
    assert chain.spot == SPOT
    assert len(stored.chain("NOBODY", ELEVEN)) == 0
    # what is quoted a minute too long ago is no quote
    old = stored.chain("TEST", ELEVEN - MINUTE + QUOTE_AGE_NS + SECOND)
    aged = old.quoted_at == ELEVEN - MINUTE
    assert aged.sum() > 20
    assert not old.bid[aged].any()


def test_the_tape_tells_what_stood_at_the_end_of_each_minute_and_what_was_within_it(stored):
    named = [*map(bare, (WORTHLESS, TICKING, CROSSED, SILENT)), "NOBODY151224C00100000"]
    tape = stored.tape("TEST", named, ELEVEN, ELEVEN + 4 * MINUTE)
    assert tape.ends.tolist() == [ELEVEN + k * MINUTE for k in (1, 2, 3, 4)]
    assert tape.complete
    assert (tape.bid[1] / CENT).tolist() == [310, 310, 320, 320]
    assert (tape.bid_low[1] / CENT).tolist() == [250, 310, 320, 320]
    assert (tape.bid_high[1] / CENT).tolist() == [350, 310, 320, 320]
    assert (tape.ask_low[1] / CENT).tolist() == [260, 320, 330, 330]
    assert (tape.age_ns[1] / SECOND).tolist() == [0, 60, 30, 90]
    assert tape.bid[0].tolist() == [0] * 4
    assert (tape.ask[0] / CENT).tolist() == [5] * 4
    assert not tape.bid[2:].any()
    assert not tape.ask[2:].any()
    assert (tape.age_ns[3:] == -1).all()
    assert tape.spot.tolist() == [SPOT, SPOT + 1, SPOT + 1, SPOT + 1]
    assert not tape.gap.any()


def test_a_sample_without_a_bid_is_none_but_of_what_is_worth_nothing(stored):
    tape = stored.tape("TEST", [bare(ONE_SIDED)], ELEVEN, ELEVEN + 3 * MINUTE)
    # offered at 4 dollars and not bid for: nobody knows; bid for and not offered: it can be sold
    for bid, ask in ((tape.bid, tape.ask), (tape.bid_low, tape.ask_low), (tape.bid_high, tape.ask_high)):
        assert (bid / CENT).tolist() == [[0, 390, 390]]
        assert ask.tolist() == [[0, 0, 0]]


def test_a_tape_ends_with_its_session_and_a_quote_with_its_age(stored):
    tape = stored.tape("TEST", [bare(TICKING), bare(AT_CLOSE)], CLOSE - 2 * MINUTE, CLOSE + 60 * MINUTE)
    assert tape.ends.tolist() == [CLOSE - MINUTE, CLOSE]
    assert tape.bid[0].tolist() == [0, 0]
    assert (tape.age_ns[0] > QUOTE_AGE_NS).all()
    assert (tape.bid[1] / CENT).tolist() == [0, 100]
    assert np.isnan(tape.spot).all()


def test_an_open_gap_shows_in_the_minutes_that_it_touches(service, market):
    rows = (ELEVEN + 90 * SECOND, ELEVEN + 120 * SECOND)
    market.database.execute(
        "INSERT INTO gaps (dataset, schema, symbol, starts_ns, ends_ns, evidence, detail)"
        " VALUES ('OPRA.PILLAR', 'cbbo-1s', 'TEST.OPT', %s, %s, 'disconnect', 'test'),"
        " ('OPRA.PILLAR', 'cbbo-1s', 'OTHER.OPT', %s, %s, 'disconnect', 'test')",
        rows * 2,
    )
    stored = StoredMarket(market.database, source="databento", calendar="xnys", final=True)
    tape = stored.tape("TEST", [bare(TICKING)], ELEVEN, ELEVEN + 4 * MINUTE)
    # a gap that ends with the second minute hides nothing of the third
    assert tape.gap.tolist() == [False, True, False, False]
    market.database.execute("DELETE FROM gaps")
    assert not stored.tape("TEST", [bare(TICKING)], ELEVEN, ELEVEN + 4 * MINUTE).gap.any()


def test_while_the_market_goes_on_a_tape_is_as_long_as_what_is_stored(service, market):
    live = StoredMarket(market.database, source="databento", calendar="xnys")
    until = live.stored_until("TEST", ELEVEN)
    assert until == CLOSE
    short = live.tape("TEST", [bare(TICKING)], ELEVEN, CLOSE + MINUTE)
    assert not short.complete
    assert short.ends[-1] == CLOSE
    assert live.tape("TEST", [bare(TICKING)], ELEVEN, CLOSE).complete
    before = live.tape("TEST", [bare(SILENT)], ELEVEN, ELEVEN + 2 * MINUTE)
    store(service, "cbbo-1s", [quote(ELEVEN + 70 * SECOND, 1.0, 1.2, instrument=IDS[SILENT])])
    after = live.tape("TEST", [bare(SILENT)], ELEVEN, ELEVEN + 2 * MINUTE)
    assert before.bid.tolist() == [[0, 0]]
    assert (after.bid / CENT).tolist() == [[0, 100]]


def test_the_pool_holds_what_could_be_traded_and_nothing_later(stored):
    pool = stored.pool("TEST", CLOSE - MINUTE)
    assert len(pool.at_ns)
    assert (np.diff(pool.at_ns) >= 0).all()
    assert (pool.minute == (pool.at_ns - OPEN) // MINUTE).all()
    assert set(pool.minute.tolist()) <= {30, 60, 90, 120, 150, 180}
    assert (pool.bid > 0).all()
    assert (pool.ask >= pool.bid).all()
    assert np.isfinite(pool.delta).all()
    assert (pool.years > 0).all()
    early = stored.pool("TEST", ELEVEN + 5 * MINUTE)
    assert set(early.at_ns.tolist()) == {at for at in pool.at_ns.tolist() if at <= ELEVEN + 5 * MINUTE}


quotes = st.lists(st.tuples(st.integers(0, 12 * 60), st.integers(-1, 6), st.integers(-1, 6)), max_size=40).map(sorted)


@given(quotes)
def test_minutes_are_those_of_a_plain_reading(found):
    times, bid, ask = (np.array([one[k] for one in found], np.int64) for k in range(3))
    times = times * SECOND
    bid, ask = np.maximum(bid, 0) * CENT, np.maximum(ask, 0) * CENT
    ends = np.arange(1, 11) * MINUTE
    made = minutes_of_quotes(times, bid, ask, ends)
    for j, end in enumerate(ends):
        sides = [(0, 0) if 0 < a < b else (b, a) for b, a in zip(bid.tolist(), ask.tolist(), strict=True)]
        standing = [k for k in range(len(times)) if times[k] <= end]
        expected = sides[standing[-1]] if standing else (0, 0)
        assert (made.bid[j], made.ask[j]) == expected
        assert made.quoted_at[j] == (times[standing[-1]] if standing else 0)
        within = [k for k in standing if times[k] > end - MINUTE]
        for side, low, high in ((0, made.bid_low, made.bid_high), (1, made.ask_low, made.ask_high)):
            prices = [sides[k][side] for k in within if sides[k][side] > 0] if len(within) > 1 else []
            assert (low[j], high[j]) == ((min(prices), max(prices)) if prices else (expected[side],) * 2)
