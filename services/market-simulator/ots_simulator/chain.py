"""The option chains: which contracts are listed on a day, with their ids and open interest.

An expiration is listed when it comes within reach of one of its underlying's rules (dailies, Fridays, third Fridays).
Its strikes then cover every opening price since, a number of steps each side: new strikes appear as the price moves,
none is delisted before it expires.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import Sessions
from ots_simulator.paths import BASE_DAY, Floats, Ints, Paths, symbol_index
from ots_simulator.randomness import salt, stream, uniforms
from ots_simulator.records import PRICE
from ots_simulator.underlyings import BY_SYMBOL, UNDERLYINGS, ChainSize

_FIRST_OPTION_ID = 1 << 24
_IDS_APART = 1 << 18
_FRIDAY = 4


class Chain(NamedTuple):
    """The contracts of one underlying on one day, arrays (n,), by expiration, strike, right.

    ``expiration``: UTC day. ``closes_ns``: when it expires. ``strike``: dollars; ``right``: +1 call, -1 put. ``key``:
    the contract's own number for random draws. ``open_interest``: contracts, as of the session before.
    """

    raw_symbols: list[str]
    vendor_ids: Ints
    expiration: Ints
    closes_ns: Ints
    strike: Floats
    right: Ints
    key: NDArray[np.uint64]
    open_interest: Ints

    @property
    def strike_price(self) -> Ints:
        """Strikes in 1e-9 dollars."""
        return np.rint(self.strike * 1000.0).astype(np.int64) * (PRICE // 1000)


class _Expiration(NamedTuple):
    day: int
    listed: int  # the first day
    step: float  # dollars between strikes


def _listed_from(expirations: Ints, ahead: int) -> Ints:
    """The day from which each expiration is among the next ``ahead`` of its rule."""
    listed = np.full(len(expirations), BASE_DAY)
    listed[ahead:] = expirations[:-ahead] + 1
    return listed


class Chains:
    """The chains of every underlying and day, for one seed, calendar and size."""

    def __init__(self, paths: Paths, sessions: Sessions, size: ChainSize) -> None:
        self.paths, self.size = paths, size
        self._salts = {u.symbol: salt(paths.seed, "open-interest", u.symbol) for u in UNDERLYINGS}
        days = paths.daily.days
        self._days = days
        weekdays = days[(days + 3) % 7 <= _FRIDAY]
        fridays = np.arange(BASE_DAY, days[-1] - 7)
        fridays = fridays[(fridays + 3) % 7 == _FRIDAY]
        dates = fridays.astype("datetime64[D]")
        day_of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64) + 1
        # a holiday on Friday: the session before it
        self._fridays = np.unique(_session_on_or_before(days, fridays))
        self._monthlies = np.unique(_session_on_or_before(days, fridays[(day_of_month >= 15) & (day_of_month <= 21)]))
        self._dailies = weekdays
        self._expirations = {u.symbol: self._expirations_of(u.symbol) for u in UNDERLYINGS}
        self.chain = lru_cache(maxsize=40)(self._chain)

    def _expirations_of(self, symbol: str) -> list[_Expiration]:
        underlying, size = BY_SYMBOL[symbol], self.size
        rules = [
            (self._monthlies, size.monthlies, size.monthly_step),
            (self._fridays, size.weeklies_beside_dailies if underlying.daily_expirations else size.weeklies, 1.0),
        ]
        if underlying.daily_expirations:
            rules.append((self._dailies, size.dailies, size.daily_step))
        found: dict[int, _Expiration] = {}
        for expirations, ahead, step in rules:
            for day, listed in zip(expirations.tolist(), _listed_from(expirations, ahead).tolist(), strict=True):
                known = found.get(day, _Expiration(day, listed, step * underlying.strike_step))
                found[day] = known._replace(listed=min(known.listed, listed))
        return sorted(found.values())

    def _chain(self, symbol: str, day: int) -> Chain:
        """The contracts that are listed on a session's UTC day."""
        row, column = self.paths.row(day), symbol_index(symbol)
        opens = np.exp(self.paths.daily.open_log[:, column])
        parts = []
        for expiration in self._expirations[symbol]:
            if expiration.listed <= day <= expiration.day:
                first = int(np.searchsorted(self._days, expiration.listed))
                parts.append(self._strikes(expiration, opens[first : row + 1], first))
        expirations, strikes, listed = (np.concatenate(values) for values in zip(*parts, strict=True))
        n = 2 * len(strikes)
        expirations, strikes, listed = np.repeat(expirations, 2), np.repeat(strikes, 2), np.repeat(listed, 2)
        right = np.tile([1, -1], n // 2)
        key = (expirations.astype(np.uint64) << np.uint64(40)) | (
            np.rint(strikes * 1000).astype(np.uint64) << np.uint64(1)
        )
        key |= (right > 0).astype(np.uint64)
        closes = self.paths.daily.closes[np.searchsorted(self._days, expirations)]
        return Chain(
            raw_symbols=_osi(symbol, expirations, strikes, right),
            vendor_ids=self._vendor_ids(symbol, day, n),
            expiration=expirations,
            closes_ns=closes,
            strike=strikes,
            right=right,
            key=key,
            open_interest=self._open_interest(symbol, day, float(opens[row]), expirations, strikes, key, row - listed),
        )

    def _strikes(self, expiration: _Expiration, opens: Floats, first: int) -> tuple[Ints, Floats, Ints]:
        """(expiration, strikes, row of the day that each was listed) given the opening prices since the listing."""
        step, reach = expiration.step, self.size.steps_each_side
        highest = np.maximum.accumulate(np.rint(opens / step)).astype(np.int64) + reach
        lowest = np.minimum.accumulate(np.rint(opens / step)).astype(np.int64) - reach
        steps: Ints = np.arange(max(1, int(lowest[-1])), int(highest[-1]) + 1)
        since: Ints = np.maximum(np.searchsorted(highest, steps), np.searchsorted(-lowest, -steps))
        strikes: Floats = steps.astype(np.float64) * step
        return np.full(len(steps), expiration.day), strikes, first + since

    def _vendor_ids(self, symbol: str, day: int, n: int) -> Ints:
        """Other ids every day, out of a pool so small that they come back as other contracts."""
        pool = max(self.size.ids, 1 << n.bit_length())
        base = _FIRST_OPTION_ID + _IDS_APART * symbol_index(symbol)
        ids: Ints = base + stream(self.paths.seed, "ids", symbol, day).permutation(pool)[:n]
        return ids

    def _open_interest(
        self, symbol: str, day: int, spot: float, expiration: Ints, strike: Floats, key: NDArray[np.uint64], age: Ints
    ) -> Ints:
        """Heavy-tailed by contract, largest near the money and at round strikes; none on the day of listing."""
        underlying, salt_ = BY_SYMBOL[symbol], self._salts[symbol]
        width = underlying.volatility * np.sqrt((expiration - day + 3.0) / 365.0)
        near = 0.15 + np.exp(-0.5 * (np.log(strike / spot) / (1.5 * width)) ** 2)
        round_strike = np.where(np.mod(strike, 4.0 * underlying.strike_step) == 0.0, 2.0, 1.0)
        level = 0.05 * underlying.option_trades * (1.0 - uniforms(salt_, key)) ** -0.6
        grown = 1.0 - np.exp(-age / 8.0)
        daily = 0.92 + 0.16 * uniforms(salt_, key, day)
        contracts: Ints = (level * near * round_strike * grown * daily).astype(np.int64)
        return contracts


def _session_on_or_before(days: Ints, wanted: Ints) -> Ints:
    found: Ints = days[np.maximum(np.searchsorted(days, wanted, side="right") - 1, 0)]
    return found


def _osi(symbol: str, expirations: Ints, strikes: Floats, right: Ints) -> list[str]:
    """OSI symbols, 21 characters."""
    dates = {day: str(np.datetime64(day, "D")).replace("-", "")[2:] for day in np.unique(expirations).tolist()}
    thousandths = np.rint(strikes * 1000.0).astype(np.int64).tolist()
    return [
        f"{symbol:<6}{dates[day]}{'C' if side > 0 else 'P'}{strike:08d}"
        for day, strike, side in zip(expirations.tolist(), thousandths, right.tolist(), strict=True)
    ]
