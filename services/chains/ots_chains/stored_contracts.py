"""The contracts of an underlying that were listed at a moment, with what was quoted, traded and counted by then."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_chains.chains import OPTION_QUOTES, Moment, expiry_ns
from ots_common.copy_binary import copy_out
from ots_common.database import Database
from ots_common.times import to_datetime
from ots_market.prices import SCALE
from ots_market.sessions import Sessions
from ots_market.symbols import option_symbols
from ots_market.timeframes import DAY_NS, MINUTE_NS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Dates = NDArray[np.datetime64]

OPEN_INTEREST_DAYS = 10
"""An open interest that was published longer ago is not told: a contract that still exists is counted each session."""
_UNKNOWN = -(2**63)
_OPEN_INTEREST = 9  # Databento's StatType
_DELETED = 2  # of an update_action: the figure was withdrawn

# Every probe is a look into a primary key (instrument_id, ts, ...). Where the newest quote of all is no later than the
# moment it is the one; else the session is probed. Trades make minute bars on their way in, so that a session's volume
# is that of its closed bars and of the trades since. Of several publishers' open interest the newest counts.
_CONTRACTS = """
    SELECT i.instrument_id, i.expiration - date '1970-01-01' AS expiration, i.strike, i."right",
        left(i.raw_symbol, 6) = rpad(i.underlying, 6) AS standard,
        l.instrument_id IS NOT NULL OR q.ts IS NOT NULL OR t.ts IS NOT NULL OR b.ts IS NOT NULL OR d.listed IS NOT NULL
            AS listed,
        coalesce(l.ts, q.ts, 'epoch') AS quote_ts, coalesce(l.ts_ns, q.ts_ns, 0::int2) AS quote_ts_ns,
        coalesce(l.bid, q.bid, %(unknown)s) AS bid, coalesce(l.ask, q.ask, %(unknown)s) AS ask,
        coalesce(l.bid_size, q.bid_size, -1) AS bid_size, coalesce(l.ask_size, q.ask_size, -1) AS ask_size,
        coalesce(t.price, %(unknown)s) AS trade_price, coalesce(t.ts, 'epoch') AS trade_ts,
        coalesce(t.ts_ns, 0::int2) AS trade_ts_ns, coalesce(s.size, 0) AS trades_since,
        coalesce(b.close, %(unknown)s) AS bar_close, coalesce(b.ts, 'epoch') AS bar_ts,
        coalesce(b.volume, 0) AS bars_volume,
        coalesce(o.quantity, -1) AS open_interest, coalesce(o.ts, 'epoch') AS counted_ts,
        coalesce(o.ref_at_ns, -1) AS counted_for
    FROM instruments i
    LEFT JOIN quote_latest l ON l.instrument_id = i.instrument_id AND l.schema_id = ANY(%(schemas)s)
        AND (l.ts < %(at)s OR l.ts = %(at)s AND l.ts_ns <= %(rest)s)
    LEFT JOIN LATERAL (
        SELECT bid, ask, bid_size, ask_size, ts, ts_ns FROM quotes
        WHERE l.instrument_id IS NULL AND instrument_id = i.instrument_id AND schema_id = ANY(%(schemas)s)
          AND ts >= %(opened)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns <= %(rest)s)
        ORDER BY ts DESC, ts_ns DESC, schema_id, digest, ord LIMIT 1
    ) q ON true
    LEFT JOIN LATERAL (
        SELECT price, ts, ts_ns FROM trades
        WHERE instrument_id = i.instrument_id
          AND ts >= %(opened)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns <= %(rest)s)
        ORDER BY ts DESC, ts_ns DESC, sequence DESC, digest, ord LIMIT 1
    ) t ON true
    LEFT JOIN LATERAL (
        SELECT sum(size)::bigint AS size FROM trades
        WHERE t.ts >= %(minute)s AND instrument_id = i.instrument_id
          AND ts >= %(minute)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns <= %(rest)s)
    ) s ON true
    LEFT JOIN LATERAL (
        SELECT sum(volume)::bigint AS volume, max(ts) AS ts,
               (array_agg(close ORDER BY ts DESC, volume DESC))[1] AS close FROM bars_1m
        WHERE instrument_id = i.instrument_id AND ts >= %(opened)s AND ts < %(minute)s
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT CASE WHEN update_action = %(deleted)s THEN -1 ELSE quantity END AS quantity, ts, ref_at_ns
        FROM statistics
        WHERE instrument_id = i.instrument_id AND stat_type = %(open_interest)s AND quantity IS NOT NULL
          AND ts >= %(counted_since)s AND ts <= %(at)s AND (ts < %(at)s OR ts_ns <= %(rest)s)
        ORDER BY ts DESC, ts_ns DESC, sequence DESC, publisher_id, digest, ord LIMIT 1
    ) o ON true
    LEFT JOIN LATERAL (
        SELECT true AS listed FROM definitions
        WHERE l.instrument_id IS NULL AND q.ts IS NULL AND instrument_id = i.instrument_id
          AND ts <= %(at)s AND (ts < %(at)s OR ts_ns <= %(rest)s)
        ORDER BY ts DESC LIMIT 1
    ) d ON true
    WHERE i.underlying = %(underlying)s AND i.expiration >= %(session)s
    ORDER BY i.expiration, i.strike, i."right", i.instrument_id
"""
_COLUMNS = (
    ("instrument_id", "int4"), ("expiration", "int4"), ("strike", "int8"), ("right", "char"), ("standard", "bool"),
    ("listed", "bool"), ("quote_ts", "timestamptz"), ("quote_ts_ns", "int2"), ("bid", "int8"), ("ask", "int8"),
    ("bid_size", "int8"), ("ask_size", "int8"), ("trade_price", "int8"), ("trade_ts", "timestamptz"),
    ("trade_ts_ns", "int2"), ("trades_since", "int8"), ("bar_close", "int8"), ("bar_ts", "timestamptz"),
    ("bars_volume", "int8"), ("open_interest", "int8"), ("counted_ts", "timestamptz"), ("counted_for", "int8"),
)  # fmt: skip
# without a partition's statistics the planner takes a bitmap and a sort of the whole session for each contract, and
# compiles a plan that runs for milliseconds
PLANNER = "SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off"


@dataclass(frozen=True)
class Contracts:
    """Live contracts in order of expiration, strike, right (call first): arrays of shape (contracts,).

    ``symbol``: OSI without blanks; ``expiration``, ``open_interest_date``: datetime64[D], NaT unknown; ``strike``,
    ``bid``, ``ask``, ``last``: dollars, NaN unknown; ``right``: +1 call, -1 put; ``years``: of 365 days to the close
    of the expiration's session; ``quoted_at``, ``last_at``: int64 ns, 0 never in this session; sizes and
    ``open_interest``: -1 unknown; ``volume``: of this session so far. ``other_deliverables`` counts what was left out.
    """

    instrument_id: Ints
    symbol: NDArray[np.str_]
    expiration: Dates
    right: Floats
    strike: Floats
    years: Floats
    bid: Floats
    ask: Floats
    bid_size: Ints
    ask_size: Ints
    quoted_at: Ints
    last: Floats
    last_at: Ints
    volume: Ints
    open_interest: Ints
    open_interest_date: Dates
    other_deliverables: int

    def __len__(self) -> int:
        return len(self.strike)

    def take(self, which: NDArray[Any]) -> Contracts:
        """The contracts that ``which`` (mask or indices) selects."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Contracts(**{k: v[which] if isinstance(v, np.ndarray) else v for k, v in values.items()})


def read_contracts(database: Database, sessions: Sessions, underlying: str, moment: Moment) -> Contracts:
    """The contracts listed (defined, or quoted or traded in the session) by the moment and not expired at it."""
    minute_ns = max(moment.at_ns // MINUTE_NS * MINUTE_NS, moment.opens_ns)
    asked = {
        "underlying": underlying,
        "session": moment.session,
        "schemas": OPTION_QUOTES,
        "opened": to_datetime(moment.opens_ns),
        "minute": to_datetime(minute_ns),
        "at": to_datetime(moment.at_ns),
        "rest": moment.at_ns % 1000,
        "counted_since": to_datetime(moment.at_ns - OPEN_INTEREST_DAYS * DAY_NS),
        "open_interest": _OPEN_INTEREST,
        "deleted": _DELETED,
        "unknown": _UNKNOWN,
    }
    with database.connection() as connection:
        with connection.cursor() as cursor:
            cursor.execute(PLANNER)
            text = cursor.mogrify(_CONTRACTS, asked).decode()
        rows = copy_out(connection, text, _COLUMNS)
    dates = rows["expiration"].astype("datetime64[D]")
    years = (expiry_ns(sessions, dates) - moment.at_ns) / (365 * DAY_NS)
    alive = (rows["listed"] > 0) & (years > 0)
    standard = rows["standard"] > 0
    other = int((alive & ~standard).sum())
    return _contracts(rows[alive & standard], years[alive & standard], sessions, underlying, moment, other)


def _contracts(
    rows: NDArray[Any], years: Floats, sessions: Sessions, underlying: str, moment: Moment, other: int
) -> Contracts:
    dates = rows["expiration"].astype("datetime64[D]")
    right = np.where(rows["right"] == b"C", 1.0, -1.0)
    quoted_at = rows["quote_ts"] * 1000 + rows["quote_ts_ns"]
    quoted = quoted_at >= moment.opens_ns  # the newest of all may be one of an earlier session
    last, last_at = _last(rows)
    return Contracts(
        instrument_id=rows["instrument_id"].astype(np.int64),
        symbol=option_symbols(underlying, dates, right, rows["strike"]),
        expiration=dates,
        right=right,
        strike=rows["strike"] / SCALE,
        years=years,
        bid=np.where(quoted, _dollars(rows["bid"]), np.nan),
        ask=np.where(quoted, _dollars(rows["ask"]), np.nan),
        bid_size=np.where(quoted, rows["bid_size"], -1),
        ask_size=np.where(quoted, rows["ask_size"], -1),
        quoted_at=np.where(quoted, quoted_at, 0),
        last=last,
        last_at=last_at,
        volume=rows["bars_volume"] + rows["trades_since"],
        open_interest=rows["open_interest"],
        open_interest_date=_counted_date(rows, sessions),
        other_deliverables=other,
    )


def _dollars(prices: Ints) -> Floats:
    return np.where(prices == _UNKNOWN, np.nan, prices / SCALE)


def _last(rows: NDArray[Any]) -> tuple[Floats, Ints]:
    """The newest trade, or a bar's close at the bar's end where that bar began after it."""
    traded_at = rows["trade_ts"] * 1000 + rows["trade_ts_ns"]
    bar_starts = rows["bar_ts"] * 1000
    barred = bar_starts > traded_at
    price = np.where(barred, _dollars(rows["bar_close"]), _dollars(rows["trade_price"]))
    return price, np.where(barred, bar_starts + MINUTE_NS, traded_at)


def _counted_date(rows: NDArray[Any], sessions: Sessions) -> Dates:
    """The date that the publisher names, else that of the last session that had closed when it was published."""
    before = np.searchsorted(sessions.closes, rows["counted_ts"] * 1000, side="right") - 1
    dates = sessions.dates[np.maximum(before, 0)]
    named = rows["counted_for"] >= 0
    dates = np.where(named, (rows["counted_for"] // DAY_NS).astype("datetime64[D]"), dates)
    return np.where((rows["open_interest"] >= 0) & (named | (before >= 0)), dates, np.datetime64("NaT"))
