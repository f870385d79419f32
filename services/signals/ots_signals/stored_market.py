"""A market as it is stored: bars, chains and tapes from PostgreSQL, computed in this process.

Chains are priced by `ots_chains`, as analytics prices them, and told in the same digits, so that a decision is the same
whoever is asked. Tapes are minute by minute, from whatever quotes are stored, sampled or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ots_chains.chains import OPTION_QUOTES, Moment
from ots_chains.priced_chains import QUOTE_SCHEMAS, PricedChain, price_chain, rate_of_all, read_inputs
from ots_chains.told_numbers import ToldNumbers
from ots_common.copy_binary import copy_out
from ots_common.database import Database
from ots_common.memory import Memory
from ots_common.times import NS_PER_S, to_datetime
from ots_market.adjusted_bars import adjusted_columns
from ots_market.adjustments import splits_known_at
from ots_market.bars import read_bars
from ots_market.instruments import PREFERRED_DATASETS
from ots_market.prices import SCALE
from ots_market.sessions import Sessions, sessions_of
from ots_market.symbols import canonical_symbol
from ots_market.timeframes import DAY_NS, MINUTE_NS, Timeframe
from ots_market.versions import data_version
from ots_signals.chain_views import ToldChain, no_chain
from ots_signals.market_view import ChainView, DailyVolatility, Flags, Floats, Ints, Pool, Tape, UnderlyingBars

QUOTE_AGE_NS = 900 * NS_PER_S
"""Older quotes do not count: the default of analytics' SNAPSHOT_QUOTE_AGE_S."""
WORTHLESS_ASK = SCALE // 10
"""Where nobody bids for what is offered at 10 cents or less (one of the wider ticks) it is worth nothing. Above that
a sample without a bid is none: of the real GOOG day's contracts near the money every fifth sample lacks a side."""
POOL_SESSIONS = 5
"""From so many sessions, the decision's own included, matches are drawn."""
_POOL_STEP_NS = 30 * MINUTE_NS
_POOL_MOMENTS = 13  # of a session at most: each half an hour of a session of 390 minutes
_POOL_LAST_NS = 15 * MINUTE_NS  # what begins later has no time to become anything before it must be flat
_DAILY = 300
# rows of quotes in memory at a time: 64 contracts sampled each second for a session are 1.5 million
_CONTRACTS_A_COPY = 64
_CHAINS_KEPT = 200_000  # contracts in them, 0.6 KB each
_MINUTES_KEPT = 96 * 2**20  # bytes
_POOLS_KEPT = 400_000  # candidates, 0.15 KB each
_BARS_KEPT = 400_000
_DAYS_KEPT = 50_000

_STOCK = """
    SELECT instrument_id FROM instruments WHERE raw_symbol = %s AND expiration IS NULL
    ORDER BY array_position(%s, dataset) NULLS LAST, dataset LIMIT 1
"""
_OPTIONS = """
    SELECT raw_symbol, instrument_id FROM instruments
    WHERE raw_symbol = ANY(%s) AND expiration IS NOT NULL
    ORDER BY raw_symbol, array_position(%s, dataset) NULLS LAST, dataset
"""
# the last of several of one time is the one that a chain would take
_QUOTES = """
    SELECT instrument_id, ts, ts_ns, coalesce(bid, 0) AS bid, coalesce(ask, 0) AS ask FROM quotes
    WHERE instrument_id = ANY(%(ids)s) AND schema_id = ANY(%(schemas)s) AND ts >= %(opened)s AND ts <= %(closed)s
    ORDER BY instrument_id, ts, ts_ns, schema_id DESC, digest DESC, ord DESC
"""
_QUOTE_COLUMNS = (
    ("instrument_id", "int4"), ("ts", "timestamptz"), ("ts_ns", "int2"), ("bid", "int8"), ("ask", "int8"),
)  # fmt: skip
_GAPS = """
    SELECT starts_ns, coalesce(ends_ns, %(never)s) FROM gaps
    WHERE dataset = 'OPRA.PILLAR' AND closed_at IS NULL AND starts_ns <= %(until)s
      AND (ends_ns IS NULL OR ends_ns > %(since)s) AND schema = ANY(%(schemas)s)
      AND (symbol IS NULL OR symbol = ANY(%(symbols)s))
"""
# of the underlying's own bars, of its options' quotes: what came in last of either
_STORED_UNTIL = """
    SELECT greatest(
        (SELECT max(ts) + interval '1 minute' FROM bars_1m b WHERE b.instrument_id = %(stock)s AND ts >= %(since)s),
        (SELECT max(l.ts) FROM instruments i JOIN quote_latest l USING (instrument_id)
         WHERE i.underlying = %(underlying)s AND i.expiration >= %(session)s AND l.schema_id = ANY(%(schemas)s)))
"""
_IMPLIED = """
    SELECT session_date, volatility_30d FROM volatility_snapshots
    WHERE underlying = %s AND closing AND volatility_30d IS NOT NULL AND ts >= %s AND ts <= %s ORDER BY session_date
"""
_UNDERLYINGS = """
    SELECT DISTINCT o.underlying FROM instruments o
    WHERE o.expiration >= %s
      AND EXISTS (SELECT FROM instruments s WHERE s.raw_symbol = o.underlying AND s.expiration IS NULL) ORDER BY 1
"""
_HAS_BARS = "SELECT 1 FROM bars_1m WHERE instrument_id = %s AND ts >= %s AND ts < %s LIMIT 1"
_NEVER = 2**63 - 1
_SAME = (
    "symbol", "expiration", "right", "strike", "years", "bid", "ask", "bid_size", "ask_size", "quoted_at", "volume",
    "open_interest", "reason",
)  # fmt: skip
_TOLD = ("implied_volatility", "delta", "gamma", "theta", "vega", "theoretical")
_BAR_ARRAYS = ("starts", "known_at", "open", "high", "low", "close", "volume", "session")


@dataclass(frozen=True)
class _Minutes:
    """A contract's minutes of a session, each array of shape (minutes,), as in `Tape` but for the age at which a quote
    is none: ``quoted_at`` ns, 0 never."""

    bid: Ints
    ask: Ints
    bid_low: Ints
    bid_high: Ints
    ask_low: Ints
    ask_high: Ints
    quoted_at: Ints

    def __len__(self) -> int:
        """Bytes, each array counted once."""
        return sum({id(array): array.nbytes for array in (getattr(self, f.name) for f in fields(self))}.values())


@dataclass(frozen=True)
class _SizedDaily:
    daily: DailyVolatility

    def __len__(self) -> int:
        return len(self.daily.dates)


@dataclass(frozen=True)
class _SizedPool:
    pool: Pool

    def __len__(self) -> int:
        return len(self.pool.at_ns)


class StoredMarket:
    """`MarketView` and `TapeView` over a market database.

    ``source``: MARKET_SOURCE, ``calendar``: MARKET_CALENDAR. ``final``: what is stored is all there will ever be, as in
    a backtest: then a tape is complete where the stored ends, and nothing is looked up twice. ``pool_sessions``: see
    `POOL_SESSIONS`. Memory is bounded; the parts of it that later data could change are kept by the data's version.
    """

    def __init__(
        self,
        database: Database,
        *,
        source: str,
        calendar: str,
        quote_age_ns: int = QUOTE_AGE_NS,
        final: bool = False,
        pool_sessions: int = POOL_SESSIONS,
    ) -> None:
        self._database = database
        self._source = source
        self._sessions = sessions_of(calendar)
        self._quote_age_ns = quote_age_ns
        self._final = final
        self._pool_sessions = pool_sessions
        self._chains = Memory[ChainView](_CHAINS_KEPT)
        self._minutes = Memory[_Minutes](_MINUTES_KEPT)
        self._pools = Memory[_SizedPool](_POOLS_KEPT)
        self._daily = Memory[_SizedDaily](_DAYS_KEPT)
        self._stocks: dict[str, int | None] = {}
        self._bars = Memory[UnderlyingBars](_BARS_KEPT)

    @property
    def database(self) -> Database:
        """Where it is stored."""
        return self._database

    @property
    def source(self) -> str:
        """MARKET_SOURCE."""
        return self._source

    @property
    def sessions(self) -> Sessions:
        """The source's calendar."""
        return self._sessions

    def moment_ns(self, at_ns: int) -> int:
        """The moment that a chain asked for at ``at_ns`` is of: after a session's close the close."""
        return Moment.at(self._sessions, at_ns).at_ns

    def bars(
        self, underlying: str, timeframe: Timeframe, session: date, history_sessions: int, at_ns: int
    ) -> UnderlyingBars:
        """As `MarketView.bars`. Raises ValueError for a date without a session, and for daily bars."""
        if timeframe is Timeframe.D1:
            raise ValueError("daily bars are no bars of a session: see daily_volatility")
        index = self._index(session)
        if not self._final:
            return self._read_bars(underlying, timeframe, index, history_sessions, at_ns)
        key = (underlying, timeframe, index, history_sessions)
        close_ns = int(self._sessions.closes[index])
        whole = self._bars.get(key, lambda: self._read_bars(underlying, timeframe, index, history_sessions, close_ns))
        return _first_bars(whole, int(np.searchsorted(whole.known_at, at_ns, side="right")))

    def chain(self, underlying: str, at_ns: int) -> ChainView:
        """As `MarketView.chain`; after a session's close the chain at the close. Raises ValueError before the first."""
        moment = Moment.at(self._sessions, at_ns)
        key = (underlying, moment.at_ns, self._version(moment.opens_ns, moment.at_ns))
        return self._chains.get(key, lambda: self._price(underlying, moment))

    def daily_volatility(self, underlying: str, at_ns: int) -> DailyVolatility:
        """As `MarketView.daily_volatility`, of 300 sessions at most."""
        since_ns = max(0, at_ns - 2 * _DAILY * DAY_NS)
        key = (underlying, at_ns, self._version(since_ns, at_ns))
        return self._daily.get(key, lambda: _SizedDaily(self._read_daily(underlying, since_ns, at_ns))).daily

    def tape(self, underlying: str, symbols: Sequence[str], start_ns: int, end_ns: int) -> Tape:
        """As `TapeView.tape`; a contract that is not stored has no quotes."""
        stored_ns = end_ns if self._final else self.stored_until(underlying, start_ns)
        until_ns = min(end_ns, stored_ns)
        instruments = self._instruments(symbols)
        parts = [
            self._session_tape(underlying, instruments, index, start_ns, until_ns)
            for index in range(*self._sessions.between(start_ns, until_ns).indices(len(self._sessions.dates)))
        ]
        names = ("ends", "bid", "ask", "bid_low", "bid_high", "ask_low", "ask_high", "age_ns", "spot", "gap")
        empty = self._no_minutes(len(symbols))
        joined = {name: np.concatenate([getattr(part, name) for part in [empty, *parts]], axis=-1) for name in names}
        named = np.array([str(symbol) for symbol in symbols], np.str_)
        return Tape(underlying=underlying, symbol=named, **joined, complete=self._final or end_ns <= stored_ns)

    def pool(self, underlying: str, at_ns: int) -> Pool:
        """As `TapeView.pool`: two-sided contracts with a delta, each half an hour or so of the last sessions.

        Of the session of ``at_ns`` only what came before: so the pool is the same whenever it is asked for, and what
        its candidates became is known when it is known of the decision itself.
        """
        moment = Moment.at(self._sessions, at_ns)
        index = self._index(moment.session)
        parts = [self._pool_of(underlying, one) for one in range(max(0, index - self._pool_sessions + 1), index + 1)]
        parts[-1] = _pool_until(parts[-1], at_ns)
        return Pool(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Pool)})

    def stored_until(self, underlying: str, since_ns: int) -> int:
        """Up to which moment something of the underlying or its options is stored, ns; ``since_ns`` for nothing later.

        What is asked about was stored at or before it, or lies in a gap that the ledger names.
        """
        asked = {
            "stock": self._stock(underlying),
            "since": to_datetime(since_ns),
            "underlying": underlying,
            "session": Moment.at(self._sessions, since_ns).session,
            "schemas": OPTION_QUOTES,
        }
        (newest,) = self._database.rows(_STORED_UNTIL, asked)[0]
        return since_ns if newest is None else max(since_ns, int(newest.timestamp()) * NS_PER_S)

    def underlyings(self, first: date) -> list[str]:
        """Those of which a stock is stored, and options that had not expired before ``first``."""
        return [row[0] for row in self._database.rows(_UNDERLYINGS, (first,))]

    def stored_sessions(self, underlying: str, first: date, last: date) -> list[date]:
        """The sessions of [first, last] of which minute bars of the underlying are stored."""
        stock = self._stock(underlying)
        low, high = np.searchsorted(self._sessions.dates, [np.datetime64(first), np.datetime64(last) + 1])
        found = []
        for index in range(int(low), int(high)) if stock is not None else ():
            opens_ns, closes_ns = int(self._sessions.opens[index]), int(self._sessions.closes[index])
            if self._database.rows(_HAS_BARS, (stock, to_datetime(opens_ns), to_datetime(closes_ns))):
                found.append(self._sessions.date_at(index))
        return found

    def _version(self, since_ns: int, until_ns: int) -> str:
        return "" if self._final else data_version(self._database, since_ns=since_ns, until_ns=until_ns)

    def _index(self, session: date) -> int:
        index = int(np.searchsorted(self._sessions.dates, np.datetime64(session)))
        if index >= len(self._sessions.dates) or self._sessions.date_at(index) != session:
            raise ValueError(f"{session} is no session of {self._sessions.name}")
        return index

    def _stock(self, underlying: str) -> int | None:
        if underlying not in self._stocks:
            rows = self._database.rows(_STOCK, (underlying, list(PREFERRED_DATASETS)))
            if not self._final:
                return rows[0][0] if rows else None
            self._stocks[underlying] = rows[0][0] if rows else None
        return self._stocks[underlying]

    def _instruments(self, symbols: Sequence[str]) -> list[int | None]:
        wanted = [canonical_symbol(str(symbol)) for symbol in symbols]
        found: dict[str, int] = {}
        for raw, instrument_id in self._database.rows(_OPTIONS, (sorted(set(wanted)), list(PREFERRED_DATASETS))):
            found.setdefault(raw, instrument_id)
        return [found.get(one) for one in wanted]

    def _read_bars(
        self, underlying: str, timeframe: Timeframe, index: int, history_sessions: int, at_ns: int
    ) -> UnderlyingBars:
        stock = self._stock(underlying)
        opens_ns = int(self._sessions.opens[max(0, index - history_sessions)])
        closes_ns = int(self._sessions.closes[index])
        if stock is None:
            return _no_bars(underlying, timeframe)
        bars = read_bars(
            self._database, stock, timeframe, self._sessions,
            start_ns=opens_ns, end_ns=closes_ns, as_of_ns=at_ns,
            limit=(closes_ns - opens_ns) // timeframe.nanoseconds + 1, newest=True,
        )  # fmt: skip
        session = self._sessions.index_of(bars.starts)
        regular = session >= 0
        bars, session = bars.take(regular), session[regular]
        # within a session nothing splits: what was in force at its open is in force all day
        splits = splits_known_at(self._database, underlying, int(self._sessions.opens[index]))
        return UnderlyingBars(
            underlying,
            timeframe,
            bars.starts,
            bars.known_at,
            **adjusted_columns(bars, splits, timeframe),
            session=session,
        )

    def _read_daily(self, underlying: str, since_ns: int, at_ns: int) -> DailyVolatility:
        stock = self._stock(underlying)
        if stock is None:
            return DailyVolatility(np.zeros(0, "datetime64[D]"), np.zeros(0), np.zeros(0))
        days = read_bars(
            self._database, stock, Timeframe.D1, self._sessions,
            start_ns=since_ns, end_ns=at_ns, as_of_ns=at_ns, limit=_DAILY, newest=True,
        )  # fmt: skip
        dates = (days.starts // DAY_NS).astype("datetime64[D]")
        close = adjusted_columns(days, splits_known_at(self._database, underlying, at_ns), Timeframe.D1)["close"]
        rows = self._database.rows(_IMPLIED, (underlying, to_datetime(since_ns), to_datetime(at_ns)))
        told = np.array([row[0] for row in rows], "datetime64[D]")
        volatility = np.array([row[1] for row in rows], np.float64)
        every = np.union1d(dates, told)[-_DAILY:]
        return DailyVolatility(every, _placed(every, dates, close), _placed(every, told, volatility))

    def _price(self, underlying: str, moment: Moment) -> ChainView:
        inputs = read_inputs(self._database, self._sessions, underlying, moment, self._quote_age_ns)
        if not len(inputs.contracts):
            return no_chain(underlying, moment.at_ns, self._source)
        priced = price_chain(
            underlying,
            moment,
            inputs,
            self._quote_age_ns,
            pooled=lambda: rate_of_all(self._database, self._sessions, underlying, moment, self._quote_age_ns),
        )
        return view_of(priced, self._source, self._quote_age_ns)

    def _session_tape(
        self, underlying: str, instruments: Sequence[int | None], index: int, start_ns: int, until_ns: int
    ) -> Tape:
        """The minutes of one session that end in (start, until]."""
        opens_ns, closes_ns = int(self._sessions.opens[index]), int(self._sessions.closes[index])
        ends = np.arange(opens_ns + MINUTE_NS, closes_ns + 1, MINUTE_NS)
        part = slice(*np.searchsorted(ends, [start_ns, until_ns], side="right").tolist())
        wanted = ends[part]
        minutes = self._minutes_of(index, [one for one in instruments if one is not None])
        columns = {}
        for name in ("bid", "ask", "bid_low", "bid_high", "ask_low", "ask_high", "quoted_at"):
            columns[name] = np.zeros((len(instruments), len(wanted)), np.int64)
            for row, one in enumerate(instruments):
                if one is not None:
                    columns[name][row] = getattr(minutes[one], name)[part]
        quoted_at = columns.pop("quoted_at")
        age_ns = np.where(quoted_at > 0, wanted - quoted_at, -1)
        stale = (age_ns < 0) | (age_ns > self._quote_age_ns)
        for bid, ask in (("bid", "ask"), ("bid_low", "ask_low"), ("bid_high", "ask_high")):
            no_quote = stale | ((columns[bid] == 0) & (columns[ask] > WORTHLESS_ASK))
            columns[bid][no_quote] = columns[ask][no_quote] = 0
        spot = self._spots(underlying, index, ends)[part]
        gap = self._gaps(underlying, wanted)
        return Tape(
            underlying, np.zeros(0, np.str_), wanted, **columns, age_ns=age_ns, spot=spot, gap=gap, complete=False
        )

    def _no_minutes(self, contracts: int) -> Tape:
        none = np.zeros((contracts, 0), np.int64)
        return Tape(
            "", np.zeros(0, np.str_), np.zeros(0, np.int64), *(none,) * 7, np.zeros(0), np.zeros(0, np.bool_), False
        )

    def _minutes_of(self, index: int, instruments: Sequence[int]) -> dict[int, _Minutes]:
        """Of each instrument, read with those beside it that are not in memory, so many at a time."""
        opens_ns, closes_ns = int(self._sessions.opens[index]), int(self._sessions.closes[index])
        version = self._version(opens_ns, closes_ns)
        found: dict[int, _Minutes] = {}
        missing = []
        for one in sorted(set(instruments)):
            if (kept := self._minutes.peek((one, index, version))) is None:
                missing.append(one)
            else:
                found[one] = kept
        for first in range(0, len(missing), _CONTRACTS_A_COPY):
            some = missing[first : first + _CONTRACTS_A_COPY]
            for one, minutes in self._read_minutes(some, opens_ns, closes_ns).items():
                self._minutes.put((one, index, version), minutes)
                found[one] = minutes
        return found

    def _read_minutes(self, instruments: Sequence[int], opens_ns: int, closes_ns: int) -> dict[int, _Minutes]:
        asked = {
            "ids": list(instruments),
            "schemas": OPTION_QUOTES,
            "opened": to_datetime(opens_ns),
            "closed": to_datetime(closes_ns),
        }
        with self._database.connection() as connection:
            with connection.cursor() as cursor:
                text = cursor.mogrify(_QUOTES, asked).decode()
            rows = copy_out(connection, text, _QUOTE_COLUMNS)
        ends = np.arange(opens_ns + MINUTE_NS, closes_ns + 1, MINUTE_NS)
        times = rows["ts"] * 1000 + rows["ts_ns"]
        bounds = np.searchsorted(rows["instrument_id"], [*instruments, instruments[-1] + 1])
        return {
            one: minutes_of_quotes(times[a:b], rows["bid"][a:b], rows["ask"][a:b], ends)
            for one, a, b in zip(instruments, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        }

    def _spots(self, underlying: str, index: int, ends: Ints) -> Floats:
        """The last minute bar's close at each minute's end, dollars; NaN where it is older than a quote may be."""
        bars = self.bars(underlying, Timeframe.M1, self._sessions.date_at(index), 0, int(ends[-1]))
        last = np.searchsorted(bars.known_at, ends, side="right") - 1
        known = last >= 0
        last = np.maximum(last, 0)
        if not len(bars):
            return np.full(len(ends), np.nan)
        known &= ends - bars.known_at[last] <= self._quote_age_ns
        return np.where(known, bars.close[last], np.nan)

    def _gaps(self, underlying: str, ends: Ints) -> Flags:
        """Whether quotes may be missing in the minute before each end."""
        hidden = np.zeros(len(ends), np.bool_)
        if not len(ends):
            return hidden
        asked = {
            "since": int(ends[0]) - MINUTE_NS,
            "until": int(ends[-1]),
            "never": _NEVER,
            "symbols": [underlying, f"{underlying}.OPT"],
            "schemas": QUOTE_SCHEMAS,
        }
        for starts_ns, ends_ns in self._database.rows(_GAPS, asked):
            hidden |= (starts_ns <= ends) & (ends_ns > ends - MINUTE_NS)
        return hidden

    def _pool_of(self, underlying: str, index: int) -> Pool:
        """All candidates of one session."""
        opens_ns, closes_ns = int(self._sessions.opens[index]), int(self._sessions.closes[index])
        key = (underlying, index, self._version(opens_ns, closes_ns))
        return self._pools.get(key, lambda: _SizedPool(self._make_pool(underlying, opens_ns, closes_ns))).pool

    def _make_pool(self, underlying: str, opens_ns: int, closes_ns: int) -> Pool:
        shortest = -(-(closes_ns - opens_ns) // _POOL_MOMENTS // MINUTE_NS) * MINUTE_NS
        step = max(_POOL_STEP_NS, shortest)
        stored_ns = closes_ns if self._final else self.stored_until(underlying, opens_ns)
        moments = np.arange(opens_ns + step, min(closes_ns - _POOL_LAST_NS, stored_ns) + 1, step).tolist()
        parts = [_candidates(self.chain(underlying, at_ns), opens_ns) for at_ns in moments]
        parts.append(_candidates(no_chain(underlying, opens_ns, self._source), opens_ns))
        return Pool(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Pool)})


def _placed(every: NDArray[np.datetime64], dates: NDArray[np.datetime64], values: Floats) -> Floats:
    """``values`` of ``dates`` at their places among ``every``, NaN elsewhere."""
    found = np.full(len(every), np.nan)
    kept = np.isin(dates, every)
    found[np.searchsorted(every, dates[kept])] = values[kept]
    return found


def _no_bars(underlying: str, timeframe: Timeframe) -> UnderlyingBars:
    whole, part = np.zeros(0, np.int64), np.zeros(0)
    return UnderlyingBars(underlying, timeframe, whole, whole, part, part, part, part, part, whole)


def _first_bars(bars: UnderlyingBars, count: int) -> UnderlyingBars:
    return replace(bars, **{name: getattr(bars, name)[:count] for name in _BAR_ARRAYS})


def view_of(chain: PricedChain, source: str, quote_age_ns: int) -> ChainView:
    """A priced chain as decisions see it: its numbers in the digits that answers have, so that both are the same."""
    told = ToldNumbers.of(chain)
    carried = {name: np.full(len(chain), np.nan) for name in ("forward", "rate", "dividend_yield")}
    if chain.forwards is not None:
        row = chain.forwards.rows_of(chain.years)
        carried = {name: np.append(getattr(chain.forwards, name), np.nan)[row] for name in carried}
    spot = (chain.spot.price / SCALE, chain.spot.at_ns) if chain.spot else None
    return ToldChain(
        **{name: getattr(chain, name) for name in _SAME},
        **{name: getattr(told, name) for name in _TOLD},
        **carried,
    ).view(chain.underlying, chain.moment.at_ns, source, spot, quote_age_ns, int(chain.quality["gaps"]))


def minutes_of_quotes(times: Ints, bid: Ints, ask: Ints, ends: Ints) -> _Minutes:
    """One contract's quotes in order of time (ns), 0 for a missing side, as minutes that end at ``ends``.

    The extremes of a minute are those of the valid quotes that came in it; where none did, or one, what stands at its
    end. A crossed quote is none, with no side.
    """
    crossed = (bid > 0) & (ask > 0) & (bid > ask)
    bid, ask = np.where(crossed, 0, np.maximum(bid, 0)), np.where(crossed, 0, np.maximum(ask, 0))
    standing = np.searchsorted(times, ends, side="right") - 1
    quoted = standing >= 0
    at = np.maximum(standing, 0)
    if not len(times):
        none = np.zeros(len(ends), np.int64)
        return _Minutes(none, none, none, none, none, none, none)
    stands_bid, stands_ask = np.where(quoted, bid[at], 0), np.where(quoted, ask[at], 0)
    quoted_at = np.where(quoted, times[at], 0)
    first = np.searchsorted(times, ends - MINUTE_NS, side="right")
    if (standing + 1 - first <= 1).all():
        return _Minutes(stands_bid, stands_ask, stands_bid, stands_bid, stands_ask, stands_ask, quoted_at)
    low_bid, high_bid = _extremes(bid, first, standing + 1, stands_bid)
    low_ask, high_ask = _extremes(ask, first, standing + 1, stands_ask)
    return _Minutes(stands_bid, stands_ask, low_bid, high_bid, low_ask, high_ask, quoted_at)


def _extremes(side: Ints, first: Ints, last: Ints, standing: Ints) -> tuple[Ints, Ints]:
    """Lowest and highest of ``side[first:last]`` that are prices, each minute; what stands where there is none."""
    low, high = standing.copy(), standing.copy()
    for minute in np.flatnonzero(last - first > 1):
        prices = side[first[minute] : last[minute]]
        prices = prices[prices > 0]
        if prices.size:
            low[minute], high[minute] = prices.min(), prices.max()
    return low, high


def _candidates(chain: ChainView, opens_ns: int) -> Pool:
    """The contracts of a chain that could be bought and sold, and whose delta is known."""
    good = (chain.bid > 0) & (chain.ask > 0) & np.isfinite(chain.delta)
    count = int(good.sum())
    return Pool(
        at_ns=np.full(count, chain.at_ns),
        minute=np.full(count, (chain.at_ns - opens_ns) // MINUTE_NS),
        **{name: getattr(chain, name)[good] for name in ("symbol", "right", "years", "delta", "bid", "ask")},
    )


def _pool_until(pool: Pool, at_ns: int) -> Pool:
    return Pool(**{f.name: getattr(pool, f.name)[pool.at_ns <= at_ns] for f in fields(Pool)})
