"""The real half day of GOOG, 2015-12-24: what its quotes say at 11:00 New York and at the early close."""

from __future__ import annotations

from contextlib import closing
from datetime import date

import numpy as np
import pytest

from data_ingestion_support import Ingestion, settings_for
from ots_analytics.snapshots import Snapshotter
from ots_chains.chains import Moment, read_chain
from ots_common.database import connect
from ots_common.times import to_nanoseconds
from ots_market.sessions import xnys
from ots_quant import american
from volatility_support import catch_up, settings_of

DAY = date(2015, 12, 24)
ELEVEN, CLOSE = to_nanoseconds("2015-12-24T16:00:00Z"), to_nanoseconds("2015-12-24T18:00:00Z")
FILES = [
    "OPRA.PILLAR/GOOG-2015-12-24/cbbo-1m.dbn.zst",
    "EQUS.MINI/GOOG-2015-12-24/ohlcv-1m.dbn.zst",
]
AGE = 900 * 10**9


@pytest.fixture(scope="module")
def goog(market, redis_server, tmp_path_factory, real_data):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for file in FILES:
            service.imported((real_data / file).read_bytes())
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rate_curves (curve_date, source, known_at, stated_by)"
            " VALUES ('2015-12-23', 'flat', '2015-12-23', 'test') RETURNING curve_id"
        )
        cursor.execute("INSERT INTO rate_points VALUES (%s, 30, 0.003, 'continuous')", cursor.fetchone())
    return market


def taken_at(market, at_ns: int) -> list[dict]:
    snapshotter = Snapshotter(settings_of(market, market_calendar="xnys", market_source="databento"))
    sessions = xnys()
    index = int(sessions.dates.searchsorted(DAY))
    moment = Moment(at_ns, DAY, int(sessions.opens[index]), int(sessions.closes[index]))
    with closing(connect(market.snapshots, application="tests")) as connection:
        assert snapshotter.take(connection, moment) == 1
    return market.database.dicts(
        "SELECT * FROM volatility_expirations WHERE ts = to_timestamp(%s) ORDER BY expiration", (at_ns // 10**9,)
    )


def quoted_volatilities(market, row) -> tuple[float, float]:
    """The lowest of a bid and the highest of an ask, of calls and puts at the two strikes around the forward."""
    sessions = xnys()
    index = int(sessions.dates.searchsorted(DAY))
    moment = Moment(ELEVEN, DAY, int(sessions.opens[index]), int(sessions.closes[index]))
    chain = read_chain(market.database, sessions, "GOOG", moment, AGE)
    own = np.flatnonzero(chain.expiration == np.datetime64(row["expiration"]))
    near = own[np.argsort(np.abs(chain.strike[own] - row["forward"]))[:4]]
    terms = (
        chain.right[near],
        chain.spot.price / 1e9,
        chain.strike[near],
        chain.years[near],
        0.003,
        row["dividend_yield"],
    )
    low, high = (american.implied_volatility(side[near], *terms) for side in (chain.bid, chain.ask))
    return float(np.nanmin(low)), float(np.nanmax(high))


def test_at_eleven_the_volatilities_are_those_that_are_known(goog):
    rows = taken_at(goog, ELEVEN)
    assert len(rows) == 12
    # two hours before its close, which on a half day is 13:00
    assert rows[0]["years"] == pytest.approx(2 / 24 / 365)
    # at the strikes around the forward each volatility lies within those of what is bid and asked, of both legs
    for row in rows[:5]:
        low, high = quoted_volatilities(goog, row)
        assert low < row["at_the_money"] < high
    # the figures that are known of this data (the 750 call and put at this rate); the surface is smooth to .005
    found = {row["expiration"]: row["at_the_money"] for row in rows}
    assert found[date(2015, 12, 31)] == pytest.approx((0.163 + 0.161) / 2, abs=0.006)
    assert found[date(2016, 1, 15)] == pytest.approx((0.189 + 0.188) / 2, abs=0.006)
    (snapshot,) = goog.database.dicts("SELECT * FROM volatility_snapshots WHERE NOT closing")
    assert snapshot["contracts_used"] + sum(snapshot["contracts_refused"].values()) <= 2192
    assert snapshot["contracts_used"] > 550
    assert 0.15 < snapshot["volatility_30d"] < 0.30


def test_every_two_sided_quote_of_the_real_chain_has_its_volatility_stored(goog):
    rows = goog.database.dicts("SELECT * FROM volatility_contracts WHERE ts = to_timestamp(%s)", (ELEVEN // 10**9,))
    reasons = [reason for row in rows for reason in row["reason"]]
    volatilities = [value for row in rows for value in row["implied_volatility"]]
    assert len(rows) == 12
    assert 2150 < len(reasons) <= 2192
    assert [value is None for value in volatilities] == [reason is not None for reason in reasons]
    assert sum(value is not None for value in volatilities) > 950
    assert set(reasons) - {None} <= {"no_bid", "no_ask", "no_quote", "stale", "below_intrinsic", "crossed"}
    # call and put of the strike at the money tell one volatility, which is that of the smile there
    symbols = dict(goog.database.rows("SELECT instrument_id, replace(raw_symbol, ' ', '') FROM instruments"))
    found = {
        symbols[one]: (row["implied_volatility"][i], row["delta"][i])
        for row in rows
        for i, one in enumerate(row["instrument_ids"])
    }
    (call, up), (put, down) = (found[f"GOOG160115{right}00750000"] for right in "CP")
    assert call == pytest.approx(put, abs=0.01)
    assert up - down == pytest.approx(1.0, abs=0.01)


def test_the_close_is_thirteen_hours_and_its_expiration_is_over(goog):
    assert catch_up(goog, CLOSE + 60 * 10**9, market_calendar="xnys", market_source="databento") == 1
    (snapshot,) = goog.database.dicts("SELECT * FROM volatility_snapshots WHERE closing")
    assert snapshot["ts"].isoformat() == "2015-12-24T18:00:00+00:00"
    assert snapshot["contracts_refused"]["expired"] > 0
    days = goog.database.rows("SELECT min(expiration) FROM volatility_expirations WHERE ts = %s", (snapshot["ts"],))
    assert days == [(date(2015, 12, 31),)]


def test_no_quote_after_the_moment_is_seen(goog):
    sessions = xnys()
    index = int(sessions.dates.searchsorted(DAY))
    for at in (ELEVEN, ELEVEN - 1_000_000_000):
        moment = Moment(at, DAY, int(sessions.opens[index]), int(sessions.closes[index]))
        chain = read_chain(goog.database, sessions, "GOOG", moment, AGE)
        assert chain.quoted_at.max() <= at
        assert chain.spot.at_ns <= at
