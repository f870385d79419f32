"""All underlyings at a moment: prices, what they moved, how volatile they are, and what their options say.

What can be asked of all at once is one query each: prices, volumes of options, open interest, stored snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2.extras import RealDictCursor

from ots_chains.chains import STOCK_QUOTES, Moment, expiry_ns
from ots_chains.stored_contracts import OPEN_INTEREST_DAYS, PLANNER
from ots_common.database import Database
from ots_common.times import to_datetime
from ots_market.instruments import PREFERRED_DATASETS, Instrument
from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, MINUTE_NS

_YEAR_NS = 365 * DAY_NS

# Every probe is a look into a primary key (instrument_id, ts, ...). Of a minute's bars of several venues the one with
# the largest volume tells the price.
_PRICES = """
    SELECT i.raw_symbol AS symbol, i.instrument_id, i.dataset,
        q.middle AS quote_price, q.at AS quote_at, t.price AS trade_price, t.at AS trade_at,
        b.close AS bar_price, b.at AS bar_at, p.close AS before_price, p.at AS before_at,
        o.open, d.high, d.low, d.volume
    FROM instruments i
    LEFT JOIN LATERAL (
        SELECT (bid + ask) / 2 AS middle, (extract(epoch FROM ts) * 1000000)::bigint * 1000 + ts_ns AS at FROM quotes
        WHERE instrument_id = i.instrument_id AND schema_id = ANY(%(schemas)s) AND bid > 0 AND ask >= bid
          AND ts >= %(since)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns <= %(rest)s)
        ORDER BY ts DESC, ts_ns DESC, sequence DESC, digest, ord LIMIT 1
    ) q ON true
    LEFT JOIN LATERAL (
        SELECT price, (extract(epoch FROM ts) * 1000000)::bigint * 1000 + ts_ns AS at FROM trades
        WHERE instrument_id = i.instrument_id
          AND ts >= %(since)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns <= %(rest)s)
        ORDER BY ts DESC, ts_ns DESC, sequence DESC, digest, ord LIMIT 1
    ) t ON true
    LEFT JOIN LATERAL (
        SELECT close, (extract(epoch FROM ts) * 1000000)::bigint * 1000 + 60000000000 AS at FROM bars_1m
        WHERE instrument_id = i.instrument_id AND ts >= %(since)s AND ts <= %(last_minute)s
        ORDER BY ts DESC, volume DESC, publisher_id LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT close, (extract(epoch FROM ts) * 1000000)::bigint * 1000 + 60000000000 AS at FROM bars_1m
        WHERE instrument_id = i.instrument_id AND ts >= %(before_opened)s AND ts < %(before_closed)s
        ORDER BY ts DESC, volume DESC, publisher_id LIMIT 1
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT open FROM bars_1m
        WHERE instrument_id = i.instrument_id AND ts >= %(opened)s AND ts <= %(last_minute)s
        ORDER BY ts, volume DESC, publisher_id LIMIT 1
    ) o ON true
    LEFT JOIN LATERAL (
        SELECT max(high) AS high, min(low) AS low, sum(volume)::bigint AS volume FROM bars_1m
        WHERE instrument_id = i.instrument_id AND ts >= %(opened)s AND ts <= %(last_minute)s
    ) d ON true
    WHERE i.expiration IS NULL
    ORDER BY i.raw_symbol, array_position(%(preferred)s, i.dataset) NULLS LAST, i.dataset
"""
_VOLUMES = """
    SELECT i.underlying, i."right", sum(b.volume)::bigint
    FROM instruments i JOIN bars_1m b USING (instrument_id)
    WHERE i.expiration >= %(session)s AND left(i.raw_symbol, 6) = rpad(i.underlying, 6)
      AND b.ts >= %(opened)s AND b.ts <= %(last_minute)s
    GROUP BY 1, 2
"""
# of several publishers' figures the newest counts; one that was withdrawn is none
_OPEN_INTEREST = """
    SELECT i.underlying, i."right", sum(o.quantity)::bigint AS quantity, max(o.at) AS at
    FROM instruments i CROSS JOIN LATERAL (
        SELECT CASE WHEN update_action = 2 THEN NULL ELSE quantity END AS quantity,
               (extract(epoch FROM ts) * 1000000)::bigint * 1000 + ts_ns AS at
        FROM statistics
        WHERE instrument_id = i.instrument_id AND stat_type = 9 AND quantity IS NOT NULL
          AND ts >= %(counted_since)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns <= %(rest)s)
        ORDER BY ts DESC, ts_ns DESC, sequence DESC, publisher_id, digest, ord LIMIT 1
    ) o
    WHERE i.expiration >= %(session)s AND left(i.raw_symbol, 6) = rpad(i.underlying, 6) AND o.quantity IS NOT NULL
    GROUP BY 1, 2
"""
_SNAPSHOTS = """
    WITH newest AS (
        SELECT DISTINCT ON (underlying) underlying, ts, volatility_30d, volatility_30d_reason
        FROM volatility_snapshots WHERE ts > %(fresh)s AND ts <= %(at)s ORDER BY underlying, ts DESC
    )
    SELECT n.underlying, (extract(epoch FROM n.ts) * 1000000)::bigint * 1000, n.volatility_30d,
           n.volatility_30d_reason, e.expiration, e.at_the_money, e.rate - e.dividend_yield
    FROM newest n LEFT JOIN volatility_expirations e
        ON e.underlying = n.underlying AND e.ts = n.ts AND e.at_the_money IS NOT NULL
       AND e.dividend_yield IS NOT NULL AND e.rate IS NOT NULL
    ORDER BY n.underlying, e.expiration
"""


@dataclass(frozen=True)
class Price:
    """Of an underlying: 1e-9 dollars."""

    price: int
    at_ns: int
    kind: str


@dataclass(frozen=True)
class Quoted:
    """A stock at a moment: prices in 1e-9 dollars as they traded, None where nothing is stored.

    ``newest``: the middle of a two-sided quote of the last minute, else the newest of quote, trade and minute bar since
    the session before opened. ``before``: the last minute bar of the session before. The range is of the session's
    minute bars that had closed.
    """

    instrument: Instrument
    newest: Price | None
    before: Price | None
    open: int | None
    high: int | None
    low: int | None
    volume: int | None


@dataclass(frozen=True)
class PutsAndCalls:
    """Contracts; None where nothing of that side is stored. ``newest_ns``: of the newest open interest."""

    puts: int | None
    calls: int | None
    newest_ns: int | None = None


@dataclass(frozen=True)
class NearestExpiration:
    """``volatility`` at the forward, a decimal a year; ``carry``: rate less dividend yield."""

    expiration: date
    years: float
    volatility: float
    carry: float


@dataclass(frozen=True)
class ImpliedNow:
    """What the options of an underlying imply; ``volatility_30d`` None where ``reason`` says why."""

    at_ns: int
    origin: str
    volatility_30d: float | None
    reason: str | None
    nearest: NearestExpiration | None


def read_prices(database: Database, sessions: Sessions, moment: Moment) -> list[Quoted]:
    """Every stock of which something is stored, in order of symbol; of several datasets the first that has a price."""
    index = session_index(sessions, moment)
    before = max(0, index - 1)
    rows = _probe(
        database,
        _PRICES,
        {
            **_moments(moment),
            "schemas": STOCK_QUOTES,
            "preferred": list(PREFERRED_DATASETS),
            "since": to_datetime(int(sessions.opens[before])),
            "before_opened": to_datetime(int(sessions.opens[before])),
            "before_closed": to_datetime(int(sessions.closes[before]) if index else int(sessions.opens[before])),
        },
    )
    chosen: dict[str, Quoted] = {}
    for row in rows:
        quoted = _quoted(row, moment)
        kept = chosen.get(row["symbol"])
        if kept is None or (kept.newest is None and quoted.newest is not None):
            chosen[row["symbol"]] = quoted
    return list(chosen.values())


def session_index(sessions: Sessions, moment: Moment) -> int:
    """Which of the calendar's sessions the moment's is."""
    return int(np.searchsorted(sessions.dates, np.datetime64(moment.session, "D")))


def read_volumes(database: Database, moment: Moment) -> dict[str, PutsAndCalls]:
    """Contracts traded in the session's minutes that had closed, by underlying."""
    found: dict[str, dict[str, int]] = {}
    for underlying, right, volume in database.rows(_VOLUMES, _moments(moment)):
        found.setdefault(underlying, {})[right] = volume
    # a side without a trade, of options that did trade, has none: that is known
    return {name: PutsAndCalls(sides.get("P", 0), sides.get("C", 0)) for name, sides in found.items()}


def read_open_interest(database: Database, moment: Moment) -> dict[str, PutsAndCalls]:
    """Open contracts as they were published last, by underlying."""
    asked = {**_moments(moment), "counted_since": to_datetime(moment.at_ns - OPEN_INTEREST_DAYS * DAY_NS)}
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for row in _probe(database, _OPEN_INTEREST, asked):
        found.setdefault(row["underlying"], {})[row["right"]] = (row["quantity"], row["at"])
    return {
        name: PutsAndCalls(
            sides["P"][0] if "P" in sides else None,
            sides["C"][0] if "C" in sides else None,
            max(at_ns for _, at_ns in sides.values()),
        )
        for name, sides in found.items()
    }


def read_implied(database: Database, sessions: Sessions, moment: Moment, max_age_ns: int) -> dict[str, ImpliedNow]:
    """The newest snapshot of each underlying that is not older than ``max_age_ns``."""
    rows = database.rows(_SNAPSHOTS, {**_moments(moment), "fresh": to_datetime(moment.at_ns - max_age_ns)})
    found: dict[str, ImpliedNow] = {}
    for underlying, at_ns, volatility, reason, expiration, at_the_money, carry in rows:
        nearest = None
        if expiration is not None:
            years = years_to(sessions, expiration, moment)
            nearest = NearestExpiration(expiration, years, at_the_money, carry) if years > 0 else None
        kept = found.get(underlying)
        # expirations come in order: the first that has not expired is the nearest
        if kept is None or kept.nearest is None:
            found[underlying] = ImpliedNow(at_ns, "snapshot", volatility, reason, nearest)
    return found


def years_to(sessions: Sessions, expiration: date, moment: Moment) -> float:
    """Of 365 days, to the close of the expiration's session."""
    return (int(expiry_ns(sessions, np.array([expiration], "datetime64[D]"))[0]) - moment.at_ns) / _YEAR_NS


def share_of_today(sessions: Sessions, expiration: date, moment: Moment) -> float:
    """Of the hours that the exchange is open from the moment to the expiration, the share in the moment's session."""
    until = int(expiry_ns(sessions, np.array([expiration], "datetime64[D]"))[0])
    today = min(moment.closes_ns, until) - moment.at_ns
    later: NDArray[np.bool_] = (sessions.opens >= moment.closes_ns) & (sessions.closes <= until)
    rest = int((sessions.closes[later] - sessions.opens[later]).sum())
    return today / (today + rest) if today > 0 else 0.0


def _probe(database: Database, sql: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a query of single looks into primary keys: without being told so the planner reads whole sessions."""
    with database.connection() as connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(PLANNER)
        cursor.execute(sql, asked)
        return [dict(row) for row in cursor.fetchall()]


def _moments(moment: Moment) -> dict[str, Any]:
    """The moments of a session as the queries name them."""
    return {
        "session": moment.session,
        "opened": to_datetime(moment.opens_ns),
        "at": to_datetime(moment.at_ns),
        "rest": moment.at_ns % 1000,
        # the newest minute that had closed began then
        "last_minute": to_datetime(moment.at_ns - MINUTE_NS),
    }


def _quoted(row: dict[str, Any], moment: Moment) -> Quoted:
    found = [
        Price(row[f"{kind}_price"], row[f"{kind}_at"], kind)
        for kind in ("quote", "trade", "bar")
        if row[f"{kind}_price"] is not None
    ]
    fresh = [one for one in found if one.kind == "quote" and one.at_ns >= moment.at_ns - MINUTE_NS]
    newest = fresh[0] if fresh else max(found, key=lambda one: one.at_ns) if found else None
    symbol = row["symbol"]
    return Quoted(
        Instrument(row["instrument_id"], row["dataset"], symbol, symbol, is_option=False),
        newest,
        Price(row["before_price"], row["before_at"], "bar") if row["before_price"] is not None else None,
        row["open"],
        row["high"],
        row["low"],
        row["volume"],
    )
