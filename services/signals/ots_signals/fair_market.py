"""A market in which nobody has an edge, in process, from a seed: self-tests and drills of a backtest run in it.

The spot of each underlying is a geometric Brownian motion without drift whose variance a minute follows a schedule: a
level that wanders from session to session (an autoregression of its logarithm), a share of each session's variance
overnight, the rest spread over the minutes, more at the open and the close. The market knows the schedule, so an option
is worth its Black-Scholes value under the variance that is left until its expiration: its mid is a martingale exactly,
and whatever a strategy does it expects to lose the spread. A strategy sees prices only, and its realised volatility
differs from the implied one by the noise of estimation and by the schedule's wandering.

What is simpler than a real market, and said: rates and dividends are 0 (so early exercise is worth nothing), implied
volatility is one number an expiration (no skew), the spread is ``max(floor, share x mid)`` and never stops, quotes are
not rounded to a tick, and all gaps come overnight. No spread is wider than 1.6 mids, so that each bid is above zero.

Sources: F. Black, M. Scholes (1973); the extremes of a bar given its ends: L. Rogers, S. Satchell, Annals of Applied
Probability 1 (1991), equation of the Brownian bridge's maximum; S. Vigna, splitmix64 (2015).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import Sessions, xnys
from ots_market.symbols import option_symbols, parse_option_symbol
from ots_market.timeframes import DAY_NS, MINUTE_NS, Timeframe
from ots_quant import european
from ots_signals.market_view import ChainView, DailyVolatility, Flags, Floats, Ints, Pool, Tape, UnderlyingBars

_YEAR_NS = 365 * DAY_NS
_MINUTES = 390  # of a whole session
_MINUTES_OF = {Timeframe.M1: 1, Timeframe.M5: 5, Timeframe.M15: 15}
_DOLLAR = 1_000_000_000
_MONTHS_AHEAD = 45  # days within which a third Friday is listed
_WEEKS_AHEAD = 15  # days within which the shorter expirations are listed
_EXPIRING_WEEKDAYS = (0, 2, 4)
_WIDEST = 1.6  # of the mid


@dataclass(frozen=True)
class FairSettings:
    """What a fair market is like. Volatilities are decimals a year, spreads dollars and shares of the mid.

    ``sessions``: those to decide in; ``warm_up`` more come before them, for the strategies that look back.
    ``correlation``: between any two underlyings' moves, so that signals of one day are not independent.
    ``overnight``: share of a session's variance between the close before and its open. ``wander``: standard deviation
    of the logarithm of a session's volatility around its level, ``persistence`` its autoregression from day to day.
    ``moments_apart``: minutes between the pool's moments, ``pool_contracts`` drawn at each, ``pool_sessions`` back.
    """

    underlyings: tuple[str, ...] = ("FRA", "FRB", "FRC", "FRD", "FRE", "FRF")
    first_session: date = date(2025, 1, 2)
    sessions: int = 63
    warm_up: int = 25
    least_volatility: float = 0.2
    most_volatility: float = 0.5
    wander: float = 0.3
    persistence: float = 0.95
    correlation: float = 0.4
    overnight: float = 0.25
    spread_share: float = 0.015
    spread_floor: float = 0.02
    strikes: int = 17
    moments_apart: int = 30
    pool_contracts: int = 48
    pool_sessions: int = 10


@dataclass(frozen=True)
class Contracts:
    """Contracts of shape (n,). ``expiration``: index of the market's session, ``right`` +-1, ``strike`` dollars."""

    expiration: Ints
    right: Floats
    strike: Floats


@dataclass(frozen=True)
class _Listing:
    """The contracts listed in a session in the chain's order, and what each keeps all day; shape (n,)."""

    contracts: Contracts
    symbol: NDArray[np.str_]
    dates: NDArray[np.datetime64]
    close_ns: Ints
    open_interest: Ints
    day_volume: Floats
    burst_minute: Ints
    burst: Floats
    sizes: Ints
    ages: Ints


@dataclass(frozen=True)
class Spot:
    """Paths of all underlyings; arrays of shape (underlyings, sessions, 390), NaN after a half day's close.

    ``high`` and ``low`` of a minute, its ``close`` and ``volume``; ``open`` (underlyings, sessions) of each session.
    ``variance``: of the logarithm, from the market's beginning to the end of each minute; ``opening`` (underlyings,
    sessions): to each open, ``closing`` (underlyings, sessions + those until the last expiration): to each close.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    variance: Floats
    opening: Floats
    closing: Floats


class FairMarket:
    """`MarketView` and `TapeView` of an invented market, the same for the same seed and settings.

    ``dates``, ``opens``, ``closes`` (ns), ``lengths`` (minutes): its sessions, and those until the last expiration;
    ``count``: how many have a path; ``spacing``: of each underlying's strikes, dollars. ``spot`` may be given: another
    path through the same schedule, which is how an edge is planted. Raises ValueError
    for sessions that the calendar does not have.
    """

    def __init__(self, seed: int, settings: FairSettings | None = None, spot: Spot | None = None) -> None:
        self.seed = seed
        self.settings = settings or FairSettings()
        calendar = xnys()
        first = int(np.searchsorted(calendar.dates, np.datetime64(self.settings.first_session)))
        self._from = first - self.settings.warm_up
        count = self.settings.warm_up + self.settings.sessions
        if self._from < 0 or first + self.settings.sessions + _MONTHS_AHEAD > len(calendar.dates):
            raise ValueError(f"the calendar does not have {count} sessions around {self.settings.first_session}")
        self._calendar = calendar
        self.dates = calendar.dates[self._from : self._from + count + _MONTHS_AHEAD]
        self.opens = calendar.opens[self._from : self._from + count + _MONTHS_AHEAD]
        self.closes = calendar.closes[self._from : self._from + count + _MONTHS_AHEAD]
        self.lengths = ((self.closes - self.opens) // MINUTE_NS).astype(np.int64)
        self.count = count
        self._expirations = _expirations(self.dates)
        self.spot = spot or _paths(seed, self.settings, self.lengths, count)
        self.spacing = np.array([_spacing(price) for price in self.spot.open[:, 0]])
        path = hashlib.sha256(np.ascontiguousarray(self.spot.close[:, -1, :5]).tobytes()).hexdigest()
        self._version = f"{self.source}|{self.settings}|{path}"
        self._bars: dict[tuple[int, Timeframe], UnderlyingBars] = {}
        self._listing = lru_cache(maxsize=64)(self._make_listing)
        self._pool_of = lru_cache(maxsize=256)(self._make_pool)

    def with_spot(self, spot: Spot) -> FairMarket:
        """The same market on another path."""
        return FairMarket(self.seed, self.settings, spot)

    @property
    def source(self) -> str:
        """``fair:SEED``: an invented market, named so that nobody takes it for another."""
        return f"fair:{self.seed}"

    @property
    def sessions(self) -> Sessions:
        """XNYS, real holidays and half days included."""
        return self._calendar

    @property
    def underlyings(self) -> tuple[str, ...]:
        """Their invented names."""
        return self.settings.underlyings

    @property
    def trading_dates(self) -> tuple[date, ...]:
        """The sessions to decide in, oldest first: the warm-up is not among them."""
        return tuple(day.astype(object) for day in self.dates[self.settings.warm_up : self.count])

    def expirations(self, day: int) -> Ints:
        """The sessions on which what is listed in session ``day`` expires; indices like ``day``, ascending."""
        return self._expirations[day]

    def session_index(self, session: date) -> int:
        """Of a date among `dates`. Raises KeyError where the market has no such session."""
        at = int(np.searchsorted(self.dates[: self.count], np.datetime64(session)))
        if at >= self.count or self.dates[at] != np.datetime64(session):
            raise KeyError(f"{self.source} has no session on {session}")
        return at

    def bars(
        self, underlying: str, timeframe: Timeframe, session: date, history_sessions: int, at_ns: int
    ) -> UnderlyingBars:
        """As `MarketView.bars`, of 1, 5 or 15 minutes. Raises KeyError for another underlying, session or timeframe."""
        whole = self._all_bars(self.underlying_index(underlying), timeframe)
        day = self.session_index(session)
        first = int(np.searchsorted(whole.starts, self.opens[max(0, day - history_sessions)]))
        last = int(np.searchsorted(whole.known_at, min(at_ns, int(self.closes[day])), side="right"))
        part = slice(first, max(first, last))
        return replace(
            whole,
            **{
                name: getattr(whole, name)[part]
                for name in ("starts", "known_at", "open", "high", "low", "close", "volume", "session")
            },
        )

    def chain(self, underlying: str, at_ns: int) -> ChainView:
        """The chain at a moment, priced now: nothing is made before it is asked for."""
        u = self.underlying_index(underlying)
        day, minute = self._moment(at_ns)
        listing = self._listing(u, day)
        # all but the contracts whose session has closed, which are the first
        alive = slice(int(np.searchsorted(listing.close_ns, at_ns, side="right")), None)
        spot, used = self._spot_at(u, day, minute)
        years = (listing.close_ns - at_ns)[alive] / _YEAR_NS
        contracts = Contracts(*(getattr(listing.contracts, n)[alive] for n in ("expiration", "right", "strike")))
        volatility = np.sqrt((self.spot.closing[u, contracts.expiration] - used) / years)
        found = european.greeks(contracts.right, spot, contracts.strike, years, 0.0, 0.0, volatility)
        bid, ask = self.quotes(found.price)
        elapsed = max(minute, 0) / self.lengths[day]
        volume = listing.day_volume * elapsed + np.where(minute >= listing.burst_minute, listing.burst, 0.0)
        n = len(bid)
        return ChainView(
            underlying=underlying,
            at_ns=at_ns,
            source=self.source,
            spot=spot,
            spot_at_ns=at_ns,
            symbol=listing.symbol[alive],
            expiration=listing.dates[alive],
            right=contracts.right,
            strike=contracts.strike,
            years=years,
            bid=bid,
            ask=ask,
            bid_size=listing.sizes[alive],
            ask_size=listing.sizes[alive][::-1],
            quoted_at=at_ns - listing.ages[alive],
            volume=volume.astype(np.int64)[alive],
            open_interest=listing.open_interest[alive],
            forward=np.full(n, spot),
            rate=np.zeros(n),
            dividend_yield=np.zeros(n),
            implied_volatility=volatility,
            delta=found.delta,
            gamma=found.gamma,
            theta=found.theta,
            vega=found.vega,
            theoretical=found.price,
            reason=np.full(n, ""),
            gaps=0,
            digest=self._digest(underlying, at_ns),
        )

    def daily_volatility(self, underlying: str, at_ns: int) -> DailyVolatility:
        """Closes of the sessions before, and the implied volatility of the 30 days after each of them."""
        u = self.underlying_index(underlying)
        closed = min(int(np.searchsorted(self.closes, at_ns, side="right")), self.count)
        last = np.searchsorted(self.dates, self.dates[:closed] + 30, side="right") - 1
        variance = self.spot.closing[u, last] - self.spot.closing[u, :closed]
        rows = np.arange(closed)
        return DailyVolatility(
            dates=self.dates[:closed],
            close=self.spot.close[u, rows, self.lengths[:closed] - 1],
            implied_30d=np.sqrt(variance * 365 / 30),
        )

    def tape(self, underlying: str, symbols: Sequence[str], start_ns: int, end_ns: int) -> Tape:
        """Minute ends within the session of ``start_ns``; quotes stand all minute, so that extremes are they."""
        u = self.underlying_index(underlying)
        day, minute = self._moment(start_ns)
        last = min(int((end_ns - self.opens[day]) // MINUTE_NS), int(self.lengths[day]))
        minutes = np.arange(max(minute, 0) + 1, last + 1)
        parsed = [parse_option_symbol(str(symbol)) for symbol in symbols]
        if None in parsed:
            raise ValueError(f"{symbols[parsed.index(None)]} is no option")
        contracts = Contracts(
            expiration=np.searchsorted(self.dates, np.array([p.expiration for p in parsed if p], "datetime64[D]")),
            right=np.array([1.0 if p.right == "C" else -1.0 for p in parsed if p]),
            strike=np.array([p.strike / _DOLLAR for p in parsed if p]),
        )
        rows = len(contracts.right)
        mid = self.mids(np.full(rows, u), np.full(rows, day), np.broadcast_to(minutes, (rows, len(minutes))), contracts)
        bid, ask = self.quotes(mid)
        return Tape(
            underlying=underlying,
            symbol=np.array(list(symbols), np.str_),
            ends=self.opens[day] + minutes * MINUTE_NS,
            bid=bid,
            ask=ask,
            bid_low=bid,
            bid_high=bid,
            ask_low=ask,
            ask_high=ask,
            age_ns=np.zeros(bid.shape, np.int64),
            spot=self.spot.close[u, day, minutes - 1],
            gap=np.zeros(len(minutes), np.bool_),
            complete=True,
        )

    def pool(self, underlying: str, at_ns: int) -> Pool:
        """Contracts at regular moments of this session and those before it, drawn once a session."""
        u = self.underlying_index(underlying)
        day, _ = self._moment(at_ns)
        first = max(0, day - self.settings.pool_sessions + 1)
        parts = [self._pool_of(u, d) for d in range(first, day + 1)]
        return Pool(*(np.concatenate([getattr(part, name) for part in parts]) for name in Pool.__dataclass_fields__))

    def mids(self, underlying: Ints, day: Ints, minutes: Ints, contracts: Contracts) -> Floats:
        """Fair values of n contracts, each at m minutes of its own session: (n, m) dollars; 0 minutes is the open.

        ``underlying``, ``day`` (n,): indices; ``minutes`` (n, m): ended minutes since the open, clipped to the session.
        """
        u, d = underlying[:, None], day[:, None]
        column = np.clip(minutes, 1, self.lengths[day][:, None]) - 1
        opened = minutes > 0
        spot = np.where(opened, self.spot.close[u, d, column], self.spot.open[underlying, day][:, None])
        left = self.spot.closing[underlying, contracts.expiration][:, None] - np.where(
            opened, self.spot.variance[u, d, column], self.spot.opening[underlying, day][:, None]
        )
        deviation = np.sqrt(np.maximum(left, 0.0))
        # a year of the whole variance: rates are 0, so only volatility x root of time matters
        return european.price(contracts.right[:, None], spot, contracts.strike[:, None], 1.0, 0.0, 0.0, deviation)

    def quotes(self, mid: Floats) -> tuple[Ints, Ints]:
        """Bid and ask around fair values by the spread's model, 1e-9 dollars, of the shape of ``mid`` (dollars)."""
        s = self.settings
        half = np.minimum(np.maximum(s.spread_floor, s.spread_share * mid), _WIDEST * mid) / 2
        middle, reach = np.rint(mid * _DOLLAR), np.rint(half * _DOLLAR)
        return (middle - reach).astype(np.int64), (middle + reach).astype(np.int64)

    def underlying_index(self, underlying: str) -> int:
        """Raises KeyError for a name that the market does not have."""
        if underlying not in self.settings.underlyings:
            raise KeyError(f"{self.source} has no {underlying}; it has {', '.join(self.underlyings)}")
        return self.settings.underlyings.index(underlying)

    def _moment(self, at_ns: int) -> tuple[int, int]:
        """The session of a time, and how many minutes of it had ended: the whole last one after its close."""
        day = int(np.searchsorted(self.opens, at_ns, side="right")) - 1
        if not 0 <= day < self.count:
            raise KeyError(f"{self.source} does not reach to {np.datetime64(at_ns, 'ns')}")
        return day, min(int((at_ns - self.opens[day]) // MINUTE_NS), int(self.lengths[day]))

    def _spot_at(self, u: int, day: int, minute: int) -> tuple[float, float]:
        """The spot, and the variance used up, when ``minute`` minutes had ended."""
        if minute < 1:
            return float(self.spot.open[u, day]), float(self.spot.opening[u, day])
        return float(self.spot.close[u, day, minute - 1]), float(self.spot.variance[u, day, minute - 1])

    def _all_bars(self, u: int, timeframe: Timeframe) -> UnderlyingBars:
        found = self._bars.get((u, timeframe))
        if found is None:
            found = self._bars[u, timeframe] = self._make_bars(u, timeframe)
        return found

    def _make_bars(self, u: int, timeframe: Timeframe) -> UnderlyingBars:
        step = _MINUTES_OF[timeframe]
        columns = np.arange(0, _MINUTES, step)
        inside: Flags = columns[None, :] < self.lengths[: self.count, None]
        s = self.spot
        shaped = (self.count, len(columns), step)
        before = np.concatenate([s.open[u][:, None], s.close[u][:, :-1]], axis=1)
        starts = self.opens[: self.count, None] + columns[None, :] * MINUTE_NS
        day = np.broadcast_to(self._from + np.arange(self.count)[:, None], inside.shape)
        return UnderlyingBars(
            underlying=self.underlyings[u],
            timeframe=timeframe,
            starts=starts[inside],
            known_at=(starts + timeframe.nanoseconds)[inside],
            open=before[:, ::step][inside],
            high=s.high[u].reshape(shaped).max(axis=2)[inside],
            low=s.low[u].reshape(shaped).min(axis=2)[inside],
            close=s.close[u][:, step - 1 :: step][inside],
            volume=s.volume[u].reshape(shaped).sum(axis=2)[inside],
            session=day[inside],
        )

    def _make_listing(self, u: int, day: int) -> _Listing:
        """Strikes around the close before (known at the open), expirations from the session's own on."""
        centre = float(self.spot.close[u, day - 1, self.lengths[day - 1] - 1]) if day else float(self.spot.open[u, 0])
        spacing = self.spacing[u]
        strikes = (np.rint(centre / spacing) + np.arange(self.settings.strikes) - self.settings.strikes // 2) * spacing
        expirations = self._expirations[day]
        e, k, w = (a.ravel() for a in np.meshgrid(expirations, strikes[strikes > 0], [1.0, -1.0], indexing="ij"))
        e = e.astype(np.int64)
        contract = _mixed(self.seed, u, e, np.rint(k / spacing).astype(np.int64), w.astype(np.int64))
        today = _mixed(day, 1, contract.astype(np.int64), 0, 0)
        near = np.exp(-np.abs(np.log(k / centre)) * 12)
        normal = np.sqrt(-2 * np.log(_uniform(contract, 1))) * np.cos(2 * np.pi * _uniform(contract, 2))
        open_interest = np.rint(4000 * near * np.exp(0.8 * normal)).astype(np.int64) + 10
        bursting = _uniform(today, 3) < 0.02
        usual = 600 * near * (0.3 + 1.4 * _uniform(today, 4))
        dates = self.dates[e]
        return _Listing(
            contracts=Contracts(e, w, k),
            symbol=option_symbols(self.underlyings[u], dates, w, np.rint(k * _DOLLAR).astype(np.int64)),
            dates=dates,
            close_ns=self.closes[e],
            open_interest=open_interest,
            day_volume=usual,
            burst_minute=(5 + (self.lengths[day] - 60) * _uniform(today, 5)).astype(np.int64),
            burst=np.where(bursting, open_interest * (1 + 3 * _uniform(today, 6)) + 500, 0.0),
            sizes=(5 + 60 * _uniform(today, 7)).astype(np.int64),
            ages=(2e9 * _uniform(today, 8)).astype(np.int64),
        )

    def _make_pool(self, u: int, day: int) -> Pool:
        """Of one session: at each moment so many of its contracts, by lot, without those next to 0 or 1 of delta."""
        listing = self._listing(u, day)
        moments = np.arange(self.settings.moments_apart, int(self.lengths[day]) - 15, self.settings.moments_apart)
        contracts, n = listing.contracts, len(listing.symbol)
        today = _mixed(self.seed + 17, u, np.arange(n), day, 0)
        lots = np.stack([_uniform(today, 100 + int(m)) for m in moments])
        drawn = np.sort(np.argsort(lots, axis=1, kind="stable")[:, : self.settings.pool_contracts], axis=1)
        minute, which = np.repeat(moments, drawn.shape[1]), drawn.ravel()
        at_ns = self.opens[day] + minute * MINUTE_NS
        years = (listing.close_ns[which] - at_ns) / _YEAR_NS
        used = self.spot.variance[u, day, minute - 1]
        left = np.maximum(self.spot.closing[u, contracts.expiration[which]] - used, 0.0)
        right, strike = contracts.right[which], contracts.strike[which]
        spot = self.spot.close[u, day, minute - 1]
        found = european.greeks(right, spot, strike, years, 0.0, 0.0, np.sqrt(left / np.maximum(years, 1e-12)))
        bid, ask = self.quotes(found.price)
        kept = (years > 0) & (np.abs(found.delta) > 0.05) & (np.abs(found.delta) < 0.95)
        return Pool(
            at_ns=at_ns[kept],
            minute=minute[kept],
            symbol=listing.symbol[which][kept],
            right=right[kept],
            years=years[kept],
            delta=found.delta[kept],
            bid=bid[kept],
            ask=ask[kept],
        )

    def _digest(self, underlying: str, at_ns: int) -> str:
        return hashlib.sha256(f"{self._version}|{underlying}|{at_ns}".encode()).hexdigest()


def _spacing(price: float) -> float:
    """A strike's distance from the next: about a hundredth of the price, a number that exchanges use."""
    usual = np.array([0.5, 1.0, 2.5, 5.0, 10.0, 25.0])
    return float(usual[np.abs(np.log(usual / (price / 100))).argmin()])


def _expirations(dates: NDArray[np.datetime64]) -> list[Ints]:
    """For each session, the sessions on which something listed then expires: Monday, Wednesday, Friday and monthly."""
    days = [day.astype(object) for day in dates]
    third = {i for i, day in enumerate(days) if day.weekday() == 4 and 15 <= day.day <= 21}
    usual = {i for i, day in enumerate(days) if day.weekday() in _EXPIRING_WEEKDAYS}
    found = []
    for i, day in enumerate(days):
        weekly, monthly = day + timedelta(days=_WEEKS_AHEAD), day + timedelta(days=_MONTHS_AHEAD)
        found.append(
            np.array(
                [
                    j
                    for j in range(i, len(days))
                    if (j in usual and days[j] <= weekly) or (j in third and days[j] <= monthly)
                ],
                np.int64,
            )
        )
    return found


def _night(settings: FairSettings, lengths: Ints) -> Floats:
    """The night's share of each session's variance: more of it where the day is short."""
    day = (1 - settings.overnight) * lengths / _MINUTES
    share: Floats = settings.overnight / (settings.overnight + day)
    return share


def _paths(seed: int, s: FairSettings, lengths: Ints, count: int) -> Spot:
    """Schedule first, then the path through it."""
    random = np.random.default_rng([seed, 20_26])
    n, total = len(s.underlyings), len(lengths)
    level = s.least_volatility * (s.most_volatility / s.least_volatility) ** random.random(n)
    shocks = random.standard_normal((n, total))
    wander = np.empty((n, total))
    wander[:, 0] = shocks[:, 0]
    for d in range(1, total):
        wander[:, d] = s.persistence * wander[:, d - 1] + np.sqrt(1 - s.persistence**2) * shocks[:, d]
    night_share = _night(s, lengths)
    whole = (level[:, None] * np.exp(s.wander * wander)) ** 2 / 252
    whole *= s.overnight + (1 - s.overnight) * lengths / _MINUTES
    # minutes: the middle of the day moves half as much as its ends
    inside = np.arange(_MINUTES) < lengths[:, None]
    place = (np.arange(_MINUTES) + 0.5) / lengths[:, None]
    weight = np.where(inside, 0.6 + 1.2 * (2 * place - 1) ** 2, 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    closing = np.cumsum(whole, axis=1)
    minute_variance = whole[:, :count, None] * ((1 - night_share)[:count, None] * weight[:count])
    night_variance = whole[:, :count] * night_share[:count]
    start = closing[:, :count] - whole[:, :count]
    variance = (start + night_variance)[:, :, None] + np.cumsum(minute_variance, axis=2)
    variance[:, :, -1] = closing[:, :count]
    for d in np.flatnonzero(lengths[:count] < _MINUTES).tolist():
        variance[:, d, lengths[d] - 1 :] = closing[:, d, None]
    moves = _together(random, (n, count, _MINUTES), s.correlation) * np.sqrt(minute_variance) - minute_variance / 2
    nights = _together(random, (n, count), s.correlation) * np.sqrt(night_variance) - night_variance / 2
    first = np.log(80 * 5 ** random.random(n))
    opens = np.cumsum(nights + np.concatenate([np.zeros((n, 1)), moves[:, :-1].sum(axis=2)], axis=1), axis=1)
    opens += first[:, None]
    volume = _volumes(random, moves, minute_variance, weight[:count])
    lots = random.random((2, n, count, _MINUTES))
    open_, high, low, close = _prices(opens, moves, minute_variance, lots, inside[:count])
    volume = np.where(inside[:count], volume, 0.0)
    return Spot(open_, high, low, close, volume, variance, start + night_variance, closing)


def _together(random: np.random.Generator, shape: tuple[int, ...], correlation: float) -> Floats:
    """Standard normal numbers that share a factor along the first axis."""
    shared = random.standard_normal(shape[1:])
    together: Floats = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * random.standard_normal(shape)
    return together


def _volumes(random: np.random.Generator, moves: Floats, variance: Floats, weight: Floats) -> Floats:
    """Shares a minute: as the session's shape has it, more where the price moved more, noise beside."""
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.where(variance > 0, np.abs(moves) / np.sqrt(variance), 0.0)
    noise = np.exp(0.4 * random.standard_normal(moves.shape))
    volume: Floats = np.rint(4e6 * weight * noise * np.exp(0.5 * size - 0.5))
    return volume


def _prices(
    opens: Floats, moves: Floats, variance: Floats, lots: Floats, inside: Flags
) -> tuple[Floats, Floats, Floats, Floats]:
    """Open, high, low, close from log moves; a minute's extremes are drawn as those of a bridge between its ends."""
    ends = opens[:, :, None] + np.cumsum(moves, axis=2)
    starts = np.concatenate([opens[:, :, None], ends[:, :, :-1]], axis=2)
    reach = np.sqrt(moves**2 - 2 * variance * np.log(1 - lots))
    open_, close, start = np.exp(opens), np.exp(ends), np.exp(starts)
    high = np.maximum(np.exp((starts + ends + reach[0]) / 2), np.maximum(close, start))
    low = np.minimum(np.exp((starts + ends - reach[1]) / 2), np.minimum(close, start))
    outside = ~np.broadcast_to(inside, ends.shape)
    for array in (close, high, low):
        array[outside] = np.nan
    return open_, high, low, close


def _mixed(a: int, b: int, c: Ints, d: Ints | int, e: Ints | int) -> NDArray[np.uint64]:
    """A number of 64 bits that belongs to these five."""
    with np.errstate(over="ignore"):
        state = np.zeros(np.shape(c), np.uint64)
        for part in (a, b, c, d, e):
            state = _splitmix(state ^ np.asarray(part, np.int64).astype(np.uint64))
    return state


def _splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _uniform(state: NDArray[np.uint64], which: int) -> Floats:
    """In (0, 1), the ``which``-th number of each state."""
    mixed = _splitmix(state ^ np.uint64(which * 0x2545F491))
    uniform: Floats = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return uniform
