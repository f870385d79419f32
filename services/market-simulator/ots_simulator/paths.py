"""The price paths: a daily path made once from a base day, then refined to minutes and to seconds by bridges.

Daily: correlated Gaussian returns with a market and a technology factor; the logarithm of volatility is a first-order
autoregression with a common and an own part, whose common innovations go against the market's return (exponential
Ornstein-Uhlenbeck volatility: Scott 1987, "Option pricing when the variance changes randomly"); compound Poisson jumps
(Merton 1976). A pull of the log price towards its base level (Schwartz 1997, "The stochastic behavior of commodity
prices", model 1) with a half-life of 120 sessions keeps prices of a sane size over years.

Minutes: given the day's ends, a Brownian bridge in the day's variance time, whose clock runs in a U over the session
and by an intraday activity factor; the volatility is bridged likewise with correlated innovations. The extremes of a
minute follow the law of the maximum of a Brownian bridge, drawn by inversion (Asmussen, Glynn and Pitman 1995);
maximum and minimum are drawn independently, which is an approximation. Seconds: a bridge between the minute's ends,
stretched to touch the minute's extremes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, MINUTE_NS
from ots_simulator.randomness import stream
from ots_simulator.underlyings import UNDERLYINGS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BASE_DAY = int(np.datetime64("2024-01-01").astype(np.int64))
SECOND_NS = 1_000_000_000
HOUR_NS = 60 * MINUTE_NS

_N = len(UNDERLYINGS)
_INDEX = {underlying.symbol: i for i, underlying in enumerate(UNDERLYINGS)}
_MARKET = np.array([u.market for u in UNDERLYINGS])
_TECHNOLOGY = np.array([u.technology for u in UNDERLYINGS])
_OWN = np.sqrt(np.maximum(0.0, 1.0 - _MARKET**2 - _TECHNOLOGY**2))
_LOG_LONG_RUN = np.log([u.volatility for u in UNDERLYINGS])
_LOG_BASE_PRICE = np.log([u.price for u in UNDERLYINGS])

LEVERAGE = -0.6  # correlation of the market's return and the common innovation of volatility
_COMMON_PERSISTENCE, _COMMON_NOISE, _COMMON_SHARE = 0.97, 0.075, 0.8
_OWN_PERSISTENCE, _OWN_NOISE = 0.90, 0.06
_PULL = np.log(2.0) / 120.0  # of the log price towards its base, a session
_OVERNIGHT_SHARE = 0.2  # of a day's variance, where the market closes between sessions
_JUMPS_A_SESSION, _MARKET_JUMPS_A_SESSION = 0.02, 0.006
_JUMP_SIZE = 2.5  # standard deviation, in standard deviations of a day
_ACTIVITY_PERSISTENCE, _ACTIVITY_NOISE = 0.97, 0.06


class DailyPath(NamedTuple):
    """Sessions since the base day; arrays (sessions,) or (sessions, 9).

    ``days``: UTC day of each. ``open_log``, ``close_log``: log price. ``deviation``: standard deviation of the
    session's diffusive return. ``common``, ``own``: the two parts of log volatility at each session's open, one row
    more than sessions. ``jump``: log size; ``jump_at``: where in the session, in [0, 1).
    """

    days: Ints
    opens: Ints
    closes: Ints
    open_log: Floats
    close_log: Floats
    deviation: Floats
    common: Floats
    own: Floats
    jump: Floats
    jump_at: Floats


class Minutes(NamedTuple):
    """A symbol's session by minutes; ``n`` minutes from minute ``first`` of the UTC day.

    ``log_price``: (n + 1,) at the minutes' ends. ``high``, ``low``: (n,) extremes of the log price within.
    ``variance``: (n,) of each minute's diffusion. ``activity``: (n,) about one, of the tape. ``normal``: (2, n) and
    ``uniform``: (5, n), independent numbers for the bars.
    """

    first: int
    log_price: Floats
    high: Floats
    low: Floats
    variance: Floats
    activity: Floats
    normal: Floats
    uniform: Floats


class _Shared(NamedTuple):
    """What all underlyings share on a day, by minute, arrays (n,): the factors' innovations, and the day's clock.

    ``activity``: mean about one. ``share``: of the day's variance; ``root``: its square root; ``clock``: its running
    sum.
    """

    market: Floats
    technology: Floats
    volatility: Floats
    activity: Floats
    share: Floats
    root: Floats
    clock: Floats


@dataclass(frozen=True)
class Clock:
    """Which minutes of each UTC day the market is open, from its sessions."""

    sessions: Sessions

    def session(self, day: int) -> tuple[int, int] | None:
        """[open, close) in ns of the session of a UTC day; None when it has none. No session of ours spans midnight."""
        found = self.sessions.between(day * DAY_NS, (day + 1) * DAY_NS)
        if found.start == found.stop:
            return None
        return int(self.sessions.opens[found.start]), int(self.sessions.closes[found.start])


@lru_cache(maxsize=8)
def u_shape(n: int) -> Floats:
    """Relative activity over ``n`` minutes of a session: high at both ends, mean one (Wood, McInish and Ord 1985)."""
    position = (np.arange(n) + 0.5) / n
    shape = 0.45 + 1.6 * np.exp(-position / 0.07) + 1.1 * np.exp(-(1.0 - position) / 0.07) + 0.6 * (position - 0.5) ** 2
    mean_one: Floats = shape / shape.mean()
    return mean_one


class Paths:
    """The price and volatility paths of one seed over one calendar."""

    def __init__(self, seed: int, sessions: Sessions) -> None:
        self.seed = seed
        self.clock = Clock(sessions)
        self.continuous = bool(np.all(sessions.opens[1:] == sessions.closes[:-1]))
        self.sessions_a_year = sessions.sessions_a_year
        self.daily = self._daily(sessions)
        self._row = {int(day): i for i, day in enumerate(self.daily.days)}
        self._shared = lru_cache(maxsize=8)(self._draw_shared)
        self.minutes = lru_cache(maxsize=96)(self._draw_minutes)
        self.volatility = lru_cache(maxsize=32)(self._draw_volatility)
        self.seconds = lru_cache(maxsize=96)(self._draw_seconds)

    def row(self, day: int) -> int:
        """The row of a UTC day in the daily path. Raises KeyError when the market has no session that day."""
        return self._row[day]

    def has_session(self, day: int) -> bool:
        """Whether the market opens on a UTC day."""
        return day in self._row

    def _daily(self, sessions: Sessions) -> DailyPath:
        since = slice(int(np.searchsorted(sessions.opens, BASE_DAY * DAY_NS)), None)
        opens, closes = sessions.opens[since], sessions.closes[since]
        n = len(opens)
        # a longer path begins with the same numbers: rows are drawn in the order of days
        normal = stream(self.seed, "daily", "normal").standard_normal((n, 2 * _N + 4))
        uniform = stream(self.seed, "daily", "uniform").random((n, 2 * _N + 2))
        overnight = stream(self.seed, "daily", "overnight").standard_normal((n, _N + 1))
        market, technology = normal[:, :1], normal[:, 1:2]
        z = _MARKET * market + _TECHNOLOGY * technology + _OWN * normal[:, 2 : 2 + _N]
        common, own = self._log_volatility(normal, n)
        sigma = np.exp(_LOG_LONG_RUN + _COMMON_SHARE * common[:-1, None] + own[:-1]) / np.sqrt(self.sessions_a_year)
        open_share = 1.0 if self.continuous else 1.0 - _OVERNIGHT_SHARE
        deviation = sigma * np.sqrt(open_share)
        gap = (
            sigma
            * np.sqrt(1.0 - open_share)
            * (_MARKET * overnight[:, -1:] + np.sqrt(1 - _MARKET**2) * overnight[:, :_N])
        )
        size = _JUMP_SIZE * stream(self.seed, "daily", "jump").standard_normal((n, _N + 1))
        own_jump = np.where(uniform[:, :_N] < _JUMPS_A_SESSION, size[:, :_N], 0.0)
        market_jump = np.where(uniform[:, -2:-1] < _MARKET_JUMPS_A_SESSION, size[:, -1:], 0.0)
        jump = sigma * (own_jump + _MARKET * market_jump)
        jump_at = np.where(market_jump != 0.0, uniform[:, -1:], uniform[:, _N : 2 * _N])
        open_log, close_log = np.empty((n, _N)), np.empty((n, _N))
        last = _LOG_BASE_PRICE
        for i in range(n):
            open_log[i] = last + gap[i]
            last = open_log[i] + deviation[i] * z[i] + jump[i] - _PULL * (last - _LOG_BASE_PRICE)
            close_log[i] = last
        days = opens // DAY_NS
        return DailyPath(days, opens, closes, open_log, close_log, deviation, common, own, jump, jump_at)

    def _log_volatility(self, normal: Floats, n: int) -> tuple[Floats, Floats]:
        """The two parts of log volatility at each session's open, (n + 1,) and (n + 1, 9)."""
        common_noise = LEVERAGE * normal[:, 0] + np.sqrt(1.0 - LEVERAGE**2) * normal[:, -1]
        common, own = np.zeros(n + 1), np.zeros((n + 1, _N))
        common[1:] = _autoregression(common_noise, _COMMON_PERSISTENCE, _COMMON_NOISE)
        for i in range(_N):
            own[1:, i] = _autoregression(normal[:, 2 + _N + i], _OWN_PERSISTENCE, _OWN_NOISE)
        return common, own

    def minutes_of(self, day: int) -> tuple[int, int]:
        """First minute of the session within its UTC day, and the number of minutes."""
        row = self._row[day]
        first = (int(self.daily.opens[row]) - day * DAY_NS) // MINUTE_NS
        return first, int(self.daily.closes[row] - self.daily.opens[row]) // MINUTE_NS

    def _draw_shared(self, day: int) -> _Shared:
        _, n = self.minutes_of(day)
        normal = stream(self.seed, "minutes", "market", day).standard_normal((4, n))
        volatility = LEVERAGE * normal[0] + np.sqrt(1.0 - LEVERAGE**2) * normal[2]
        busy = _autoregression(normal[3], _ACTIVITY_PERSISTENCE, _ACTIVITY_NOISE)
        activity = u_shape(n) * np.exp(busy)
        share = activity / activity.sum()
        return _Shared(normal[0], normal[1], volatility, activity, share, np.sqrt(share), np.cumsum(share))

    def _draw_minutes(self, symbol: str, day: int) -> Minutes:
        i, row, path = _INDEX[symbol], self._row[day], self.daily
        first, n = self.minutes_of(day)
        shared = self._shared(day)
        draw = stream(self.seed, "minutes", symbol, day)
        normal, uniform = draw.standard_normal((3, n)), draw.random((7, n))
        sigma = float(path.deviation[row, i])
        z = _MARKET[i] * shared.market + _TECHNOLOGY[i] * shared.technology + _OWN[i] * normal[0]
        opened, jump = float(path.open_log[row, i]), float(path.jump[row, i])
        diffusive = float(path.close_log[row, i]) - jump - opened
        log_price = np.empty(n + 1)
        log_price[0] = opened
        log_price[1:] = opened + _bridged(sigma * shared.root * z, shared.clock, diffusive)
        log_price[1 + int(path.jump_at[row, i] * n) :] += jump
        variance = sigma**2 * shared.share
        before, after = log_price[:-1], log_price[1:]
        # the maximum of a bridge from a to b is (a + b + sqrt((b - a)^2 - 2 variance ln U)) / 2
        reach = np.sqrt((after - before) ** 2 - 2.0 * variance * np.log1p(-uniform[:2]))
        middle = before + after
        high, low = 0.5 * (middle + reach[0]), 0.5 * (middle - reach[1])
        return Minutes(first, log_price, high, low, variance, shared.activity, normal[1:], uniform[2:])

    def _draw_volatility(self, symbol: str, day: int) -> Floats:
        """Annual volatility at the ends of a session's minutes (n + 1,), bridged between this open and the next."""
        i, row, path = _INDEX[symbol], self._row[day], self.daily
        shared = self._shared(day)
        own_z = stream(self.seed, "volatility", symbol, day).standard_normal(len(shared.root))
        common_change = float(path.common[row + 1] - path.common[row])
        common = _bridged(_COMMON_NOISE * shared.root * shared.volatility, shared.clock, common_change)
        own_change = float(path.own[row + 1, i] - path.own[row, i])
        own = _bridged(_OWN_NOISE * shared.root * own_z, shared.clock, own_change)
        level = float(_LOG_LONG_RUN[i] + _COMMON_SHARE * path.common[row] + path.own[row, i])
        return np.exp(level + np.append(0.0, _COMMON_SHARE * common + own))

    def _draw_seconds(self, symbol: str, day: int, hour: int) -> Floats:
        """Prices in dollars at the ends of the seconds of the session's minutes in a UTC hour, (minutes, 60).

        Shape (0, 60) when the session has no minute in that hour. The last second of a minute is the minute's end.
        """
        minutes = self.minutes(symbol, day)
        part = minutes_in_hour(minutes, hour)
        before, after = minutes.log_price[:-1][part, None], minutes.log_price[1:][part, None]
        n = len(before)
        step = np.sqrt(minutes.variance[part, None] / 60.0)
        walk = np.cumsum(stream(self.seed, "seconds", symbol, day, hour).standard_normal((n, 60)) * step, axis=1)
        fraction = np.arange(1, 61) / 60.0
        path = before + (after - before) * fraction + walk - fraction * walk[:, -1:]
        upper, lower = np.maximum(before, after), np.minimum(before, after)
        path = upper + _stretched(path - upper, minutes.high[part, None] - upper)
        path = lower - _stretched(lower - path, lower - minutes.low[part, None])
        path[:, -1] = after[:, 0]
        return np.exp(path)


def symbol_index(symbol: str) -> int:
    """The column of an underlying in the daily path. Raises KeyError."""
    return _INDEX[symbol]


def minutes_in_hour(minutes: Minutes, hour: int) -> slice:
    """Which of a session's minutes lie in a UTC hour of its day."""
    n = len(minutes.variance)
    return slice(min(max(60 * hour - minutes.first, 0), n), min(max(60 * (hour + 1) - minutes.first, 0), n))


def _autoregression(noise: Floats, persistence: float, scale: float) -> Floats:
    """y[i] = persistence y[i - 1] + scale noise[i], from 0: of first order.

    A loop, since importing ``scipy.signal`` for its filter costs the simulator's start a second.
    """
    scaled = (scale * noise).tolist()
    return np.fromiter(accumulate(scaled, lambda before, new: persistence * before + new), np.float64, len(scaled))


def _bridged(steps: Floats, clock: Floats, total: float) -> Floats:
    """The walk of ``steps``, bent along ``clock`` (0 to 1) so that it ends at ``total``."""
    walk = np.cumsum(steps)
    bent: Floats = walk + clock * (total - walk[-1])
    return bent


def _stretched(beyond: Floats, reach: Floats) -> Floats:
    """Rows whose positive values are scaled so that the largest is ``reach``; the others stay."""
    largest = beyond.max(axis=1, keepdims=True)
    scale = np.divide(reach, largest, out=np.zeros_like(reach), where=largest > 0.0)
    return np.where(beyond > 0.0, beyond * scale, beyond)
