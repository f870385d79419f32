"""The option chain of an underlying as it was quoted at a moment, and the underlying's own price then."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ots_common.database import Database
from ots_common.times import to_datetime
from ots_market.bars import read_bars
from ots_market.instruments import PREFERRED_DATASETS
from ots_market.prices import SCALE
from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, MINUTE_NS, Timeframe

# Databento's numbers of the schemas (dbn_schemas): consolidated quotes of options, quotes of stocks
OPTION_QUOTES = [14, 15, 16, 17]
STOCK_QUOTES = [1, 3, 18, 19]
_YEAR_NS = 365 * DAY_NS

# Contracts with another deliverable (a root such as GOOG1) are no part of the chain. Of a contract the newest quote of
# the session counts: what was listed, or quoted, later is not there yet.
_CHAIN = """
    SELECT i.instrument_id, i.expiration, i.strike, i."right", q.bid, q.ask,
           (extract(epoch FROM q.ts) * 1000000)::bigint * 1000 + q.ts_ns
    FROM instruments i CROSS JOIN LATERAL (
        SELECT bid, ask, ts, ts_ns FROM quotes
        WHERE instrument_id = i.instrument_id AND schema_id = ANY(%(schemas)s)
          AND ts >= %(opened)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns = 0)
        ORDER BY ts DESC, ts_ns DESC, schema_id, digest, ord LIMIT 1
    ) q
    WHERE i.underlying = %(underlying)s AND i.expiration >= %(session)s
      AND left(i.raw_symbol, 6) = rpad(i.underlying, 6)
    ORDER BY i.expiration, i.strike, i."right", i.instrument_id
"""
_QUOTE = """
    SELECT bid, ask, (extract(epoch FROM ts) * 1000000)::bigint * 1000 + ts_ns FROM quotes
    WHERE instrument_id = %(id)s AND schema_id = ANY(%(schemas)s) AND bid > 0 AND ask >= bid
      AND ts >= %(since)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns = 0)
    ORDER BY ts DESC, ts_ns DESC, sequence DESC, digest, ord LIMIT 1
"""
_TRADE = """
    SELECT price, (extract(epoch FROM ts) * 1000000)::bigint * 1000 + ts_ns FROM trades
    WHERE instrument_id = %(id)s AND ts >= %(since)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns = 0)
    ORDER BY ts DESC, ts_ns DESC, sequence DESC, digest, ord LIMIT 1
"""


@dataclass(frozen=True)
class Moment:
    """A whole second within a session of the calendar, or its close, for which a snapshot is made."""

    at_ns: int
    session: date
    opens_ns: int
    closes_ns: int

    @property
    def closing(self) -> bool:
        """Whether it is the session's close."""
        return self.at_ns == self.closes_ns

    @classmethod
    def at(cls, sessions: Sessions, at_ns: int) -> Moment:
        """The moment of a session that a time means: outside of sessions the close of the last one before it.

        Raises ValueError before the first session.
        """
        # a moment belongs to (open, close], as the snapshots have it: around the clock a close is the next one's open
        index = int(np.searchsorted(sessions.opens, at_ns, side="left")) - 1
        if index < 0:
            raise ValueError("before the calendar's first session")
        opens, closes = int(sessions.opens[index]), int(sessions.closes[index])
        return cls(min(at_ns, closes), sessions.date_at(index), opens, closes)

    @classmethod
    def close_of(cls, sessions: Sessions, index: int) -> Moment:
        """The close of a session."""
        closes = int(sessions.closes[index])
        return cls(closes, sessions.date_at(index), int(sessions.opens[index]), closes)


@dataclass(frozen=True)
class Spot:
    """The underlying's price: 1e-9 dollars."""

    price: int
    at_ns: int
    kind: Literal["quote", "trade", "bar"]


@dataclass(frozen=True)
class Chain:
    """Contracts quoted in the session by ``at_ns``, with their last quotes; arrays of shape (contracts,).

    ``expiration``: datetime64[D]; ``strike``, ``bid``, ``ask``: dollars, NaN for a missing side; ``right``: +1 call, -1
    put; ``quoted_at``: int64 ns; ``instrument_id``: int64; ``years``: to the close of the expiration's session, of 365
    days, not positive once it has expired.
    """

    underlying: str
    moment: Moment
    spot: Spot | None
    expiration: NDArray[np.datetime64]
    right: NDArray[np.float64]
    strike: NDArray[np.float64]
    years: NDArray[np.float64]
    bid: NDArray[np.float64]
    ask: NDArray[np.float64]
    quoted_at: NDArray[np.int64]
    instrument_id: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.strike)

    @property
    def newest_ns(self) -> int:
        """Time of the newest quote, or of the spot. Raises ValueError for an empty chain."""
        return max(int(self.quoted_at.max()), self.spot.at_ns if self.spot else 0)

    def digest(self) -> bytes:
        """Of everything in it: the same for the same inputs."""
        found = hashlib.blake2b(repr((self.underlying, self.moment, self.spot)).encode(), digest_size=16)
        quotes = (self.bid, self.ask, self.quoted_at)
        for array in (self.instrument_id, self.expiration, self.right, self.strike, self.years, *quotes):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.digest()


def underlyings_of(database: Database, moment: Moment) -> list[str]:
    """Whose options had not expired before that session."""
    rows = database.rows(
        "SELECT DISTINCT underlying FROM instruments WHERE expiration >= %s ORDER BY underlying", (moment.session,)
    )
    return [row[0] for row in rows]


def read_chain(database: Database, sessions: Sessions, underlying: str, moment: Moment, max_age_ns: int) -> Chain:
    """The chain at a moment from stored quotes at or before it; a spot older than ``max_age_ns`` counts as none."""
    rows = database.rows(
        _CHAIN,
        {
            "underlying": underlying,
            "schemas": OPTION_QUOTES,
            "session": moment.session,
            "opened": to_datetime(moment.opens_ns),
            "at": to_datetime(moment.at_ns),
        },
    )
    ids, expiration, strike, right, bid, ask, quoted_at = zip(*rows, strict=True) if rows else ((),) * 7
    dates = np.array(expiration, "datetime64[D]")
    return Chain(
        underlying,
        moment,
        read_spot(database, sessions, underlying, moment.at_ns, max_age_ns) if rows else None,
        dates,
        np.where(np.array(right, "U1") == "C", 1.0, -1.0),
        np.array(strike, np.float64) / SCALE,
        (expiry_ns(sessions, dates) - moment.at_ns) / _YEAR_NS,
        np.array(bid, np.float64) / SCALE,
        np.array(ask, np.float64) / SCALE,
        np.array(quoted_at, np.int64),
        np.array(ids, np.int64),
    )


def expiry_ns(sessions: Sessions, dates: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """The close of each date's session; of a date without one, that of the session before."""
    closes: NDArray[np.int64] = sessions.closes[np.searchsorted(sessions.dates, dates, side="right") - 1]
    return closes


def read_spot(database: Database, sessions: Sessions, underlying: str, at_ns: int, max_age_ns: int) -> Spot | None:
    """The middle of a two-sided quote of the last minute, else the newest of quote, trade and minute bar's close.

    None when all are older than ``max_age_ns``. Of several datasets the preferred one that has a price answers.
    """
    for instrument_id in _stocks(database, underlying):
        found = _prices(database, sessions, instrument_id, at_ns, max_age_ns)
        fresh = [one for one in found if one.kind == "quote" and one.at_ns >= at_ns - MINUTE_NS]
        if fresh or found:
            return fresh[0] if fresh else max(found, key=lambda one: one.at_ns)
    return None


def read_stock_quote(database: Database, underlying: str, at_ns: int) -> tuple[int, int] | None:
    """The newest two-sided quote of the stock in the last minute, (bid, ask) 1e-9 dollars; datasets as `read_spot`."""
    asked = {"schemas": STOCK_QUOTES, "since": to_datetime(at_ns - MINUTE_NS), "at": to_datetime(at_ns)}
    for instrument_id in _stocks(database, underlying):
        for bid, ask, _ in database.rows(_QUOTE, {**asked, "id": instrument_id}):
            return bid, ask
    return None


def _stocks(database: Database, underlying: str) -> list[int]:
    """The underlying's instruments, that of the preferred dataset first."""
    rows = database.rows(
        "SELECT instrument_id FROM instruments WHERE raw_symbol = %s AND expiration IS NULL"
        " ORDER BY array_position(%s, dataset) NULLS LAST, dataset",
        (underlying, list(PREFERRED_DATASETS)),
    )
    return [row[0] for row in rows]


def _prices(database: Database, sessions: Sessions, instrument_id: int, at_ns: int, max_age_ns: int) -> list[Spot]:
    since_ns = at_ns - max_age_ns
    asked = {"id": instrument_id, "schemas": STOCK_QUOTES, "since": to_datetime(since_ns), "at": to_datetime(at_ns)}
    found = [Spot((bid + ask) // 2, when, "quote") for bid, ask, when in database.rows(_QUOTE, asked)]
    found += [Spot(price, when, "trade") for price, when in database.rows(_TRADE, asked)]
    bars = read_bars(
        database, instrument_id, Timeframe.M1, sessions,
        start_ns=since_ns, end_ns=at_ns, as_of_ns=at_ns, limit=1, newest=True,
    )  # fmt: skip
    if len(bars):
        found.append(Spot(int(bars.close[-1]), int(bars.known_at[-1]), "bar"))
    return found
