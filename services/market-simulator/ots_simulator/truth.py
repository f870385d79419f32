"""What the seeded market knows and no feed says: the true spot, volatility, rates and implied volatilities, by time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ots_market.symbols import parse_option_symbol
from ots_market.timeframes import DAY_NS
from ots_simulator.chain import Chains
from ots_simulator.paths import SECOND_NS, Floats, Paths
from ots_simulator.surface import Contracts, implied_volatility, values, years_to
from ots_simulator.underlyings import BY_SYMBOL, RATE


class Contract(NamedTuple):
    """A contract at a moment: ``value`` in dollars, ``years`` of 365 days, all of the model that made the quotes."""

    raw_symbol: str
    value: float
    implied_volatility: float
    years: float
    spot: float


class Truth:
    """The truth at a time, ns since 1970: that of the last whole second of the session, which quotes stamped then show.

    Volatility moves by the minute: within one it is the minute's beginning's. Raises KeyError for an unknown symbol,
    and LookupError outside of the sessions' hours (a session's own close is within).
    """

    def __init__(self, paths: Paths, chains: Chains) -> None:
        self._paths, self._chains = paths, chains

    def _place(self, at_ns: int) -> tuple[int, int]:
        """(UTC day, seconds since its session's open)."""
        for day in (at_ns // DAY_NS, (at_ns - 1) // DAY_NS):
            if self._paths.has_session(day):
                row = self._paths.row(day)
                opened, closed = int(self._paths.daily.opens[row]), int(self._paths.daily.closes[row])
                if opened <= at_ns <= closed:
                    return day, (at_ns - opened) // SECOND_NS
        raise LookupError("the market is closed at that time")

    def spot(self, symbol: str, at_ns: int) -> float:
        """The true price in dollars."""
        BY_SYMBOL[symbol]
        day, second = self._place(at_ns)
        minutes = self._paths.minutes(symbol, day)
        if second == 0:
            return float(np.exp(minutes.log_price[0]))
        minute = (second - 1) // 60
        hour = (minutes.first + minute) // 60
        began = max(60 * hour - minutes.first, 0)
        return float(self._paths.seconds(symbol, day, hour)[minute - began, (second - 1) % 60])

    def volatility(self, symbol: str, at_ns: int) -> float:
        """The annual volatility of the path: the state that the surface hangs on."""
        BY_SYMBOL[symbol]
        day, second = self._place(at_ns)
        return float(self._paths.volatility(symbol, day)[second // 60])

    def rate(self, at_ns: int) -> float:
        """The interest rate, continuously compounded; always the same."""
        return RATE

    def dividend_yield(self, symbol: str, at_ns: int) -> float:
        """The dividend yield, continuously compounded; always the same. Dividends are paid continuously."""
        return BY_SYMBOL[symbol].dividend_yield

    def contract(self, raw_symbol: str, at_ns: int) -> Contract:
        """An option's true value and implied volatility. Raises KeyError when it is not listed at that time."""
        option = parse_option_symbol(raw_symbol)
        if option is None:
            raise KeyError(raw_symbol)
        underlying = BY_SYMBOL[option.root]
        day, second = self._place(at_ns)
        chain = self._chains.chain(option.root, day)
        if raw_symbol not in chain.raw_symbols:
            raise KeyError(raw_symbol)
        place = chain.raw_symbols.index(raw_symbol)
        one = slice(place, place + 1)
        contract = Contracts(chain.strike[one], chain.right[one], chain.closes_ns[one], chain.key[one])
        spot, sigma = self.spot(option.root, at_ns), self.volatility(option.root, at_ns)
        row = self._paths.row(day)
        at = np.array([int(self._paths.daily.opens[row]) + second * SECOND_NS])
        state: tuple[Floats, Floats] = np.array([spot]), np.array([sigma])
        years = years_to(contract.closes_ns, at)
        volatility = implied_volatility(underlying, contract.strike, years, *state)
        value = values(underlying, contract, *state, at)
        return Contract(raw_symbol, float(value[0]), float(volatility[0]), float(years[0]), spot)

    def answer(self, what: str, query: Mapping[str, str], now_ns: int) -> dict[str, Any] | None:
        """The truth as JSON for ``what`` = ``SYMBOL`` (a stock or an option) at ``?at=`` ns (default now).

        None where there is none: an unknown symbol, a closed market, a time to come or that is no number.
        """
        text = query.get("at", str(now_ns))
        at_ns = int(text) if text.isdigit() else now_ns + 1
        if at_ns > now_ns:
            return None
        try:
            if what in BY_SYMBOL:
                return self._stock(what, at_ns)
            contract = self.contract(what, at_ns)
        except LookupError:
            return None
        return {**contract._asdict(), "at": at_ns, "simulated": True}

    def _stock(self, symbol: str, at_ns: int) -> dict[str, Any]:
        return {
            "symbol": symbol,
            "at": at_ns,
            "spot": self.spot(symbol, at_ns),
            "volatility": self.volatility(symbol, at_ns),
            "rate": self.rate(at_ns),
            "dividend_yield": self.dividend_yield(symbol, at_ns),
            "simulated": True,
        }
