"""The options' trades and quotes: who traded when is drawn for a day at once, what it cost only when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_market.timeframes import DAY_NS, MINUTE_NS
from ots_simulator.chain import Chain, Chains
from ots_simulator.paths import SECOND_NS, Floats, Ints, Paths
from ots_simulator.randomness import salt, stream
from ots_simulator.records import OPTION_PUBLISHERS
from ots_simulator.surface import NONE, Contracts, OptionQuotes, deltas, disturb, quote, values
from ots_simulator.underlyings import BY_SYMBOL, UNDERLYINGS

EQUAL_TRADES = 3e-3  # share of which every byte equals the trade before
MIDPOINT_TRADES = 0.2

_FIRST_NS, _SPREAD_NS = 2_000_000, 990_000_000
_LATENCY_NS = 200_000
_INDEX = {underlying.symbol: i for i, underlying in enumerate(UNDERLYINGS)}


class Priced(NamedTuple):
    """Prices of trades, in cents, and the quotes just before them; arrays in step with the rows asked for."""

    price: Ints
    bid: Ints
    ask: Ints
    bid_size: Ints
    ask_size: Ints
    bid_venue: Ints
    ask_venue: Ints


@dataclass(frozen=True)
class OptionDay:
    """An underlying's option trades of a session by time, arrays (n,).

    ``contract``: its place in the chain. ``minute``: of the session; ``second``: of the minute. ``taker``: uniform,
    says at which side. ``by_contract``: the trades' numbers by contract, then time. ``prices``: filled as they are
    asked for.
    """

    at_ns: Ints
    contract: Ints
    minute: Ints
    second: Ints
    size: Ints
    venue: NDArray[np.uint16]
    taker: Floats
    sequence: Ints
    by_contract: Ints
    contract_order: Ints  # contract * (n + 1) + number, of by_contract: sorted
    prices: NDArray[np.int64] = field(repr=False)  # (7, n)
    known: NDArray[np.bool_] = field(repr=False)

    @property
    def received_ns(self) -> Ints:
        """When each trade was received."""
        return self.at_ns + _LATENCY_NS

    def last_of(self, contracts: Ints, before_ns: Ints) -> Ints:
        """Each contract's last trade received before moments, broadcast; -1 where there is none."""
        n = len(self.at_ns)
        if not n:
            return np.full(np.broadcast_shapes(contracts.shape, before_ns.shape), -1)
        happened = np.searchsorted(self.at_ns, before_ns - _LATENCY_NS)
        place = np.searchsorted(self.contract_order, contracts * (n + 1) + happened) - 1
        found = self.by_contract[np.maximum(place, 0)]
        return np.where((place >= 0) & (self.contract[found] == contracts), found, -1)


class Nodes(NamedTuple):
    """A chain at the end of a minute: dollars, and European deltas."""

    value: Floats
    delta: Floats


class OptionTape:
    """Trades and quotes of the options."""

    def __init__(self, paths: Paths, chains: Chains) -> None:
        self.paths, self.chains = paths, chains
        self._salts = {u.symbol: salt(paths.seed, "option-quotes", u.symbol) for u in UNDERLYINGS}
        self.day = lru_cache(maxsize=18)(self._day)
        self._nodes = lru_cache(maxsize=40)(self._value_nodes)

    def _day(self, symbol: str, day: int) -> OptionDay:
        """Who traded when on a session's UTC day."""
        minutes, chain = self.paths.minutes(symbol, day), self.chains.chain(symbol, day)
        draw = stream(self.paths.seed, "option-tape", symbol, day)
        mean = BY_SYMBOL[symbol].option_trades * self.chains.size.option_trades
        n = int(mean * np.exp(0.25 * draw.standard_normal() - 0.03))
        popularity = self._popularity(symbol, day, chain, draw.standard_normal(len(chain.strike)))
        when, which, lot, venue, taker, again, within = draw.random((7, n))
        clock = np.cumsum(minutes.activity)
        minute = np.sort(np.searchsorted(clock, when * clock[-1]))
        contract = np.searchsorted(popularity, which * popularity[-1])
        at = 60.0 * np.sort(minute + within)
        second = np.minimum(at.astype(np.int64), 60 * minute + 59)
        start = day * DAY_NS + minutes.first * MINUTE_NS
        at_ns = start + second * SECOND_NS + _FIRST_NS + ((at - second) * _SPREAD_NS).astype(np.int64)
        size = np.minimum((1.0 - lot) ** -0.85, 3_000.0).astype(np.int64)
        # a trade that repeats the one before it in every byte is the same row once more
        origin = np.where(again < EQUAL_TRADES, np.maximum(np.arange(n) - 1, 0), np.arange(n))
        contract = contract[origin]
        by_contract = np.argsort(contract, kind="stable")
        return OptionDay(
            at_ns=at_ns[origin],
            contract=contract,
            minute=minute[origin],
            second=(second - 60 * minute)[origin],
            size=size[origin],
            venue=OPTION_PUBLISHERS[(venue * len(OPTION_PUBLISHERS)).astype(np.int64)][origin],
            taker=taker[origin],
            sequence=16 * (origin + 1) + _INDEX[symbol],
            by_contract=by_contract,
            contract_order=contract[by_contract] * (n + 1) + by_contract,
            prices=np.zeros((7, n), np.int64),
            known=np.zeros(n, np.bool_),
        )

    def _popularity(self, symbol: str, day: int, chain: Chain, normal: Floats) -> Floats:
        """Running sums of how often each contract trades: near the money and short-dated most."""
        spot = float(np.exp(self.paths.minutes(symbol, day).log_price[0]))
        days = chain.expiration - day
        width = BY_SYMBOL[symbol].volatility * np.sqrt((days + 0.7) / 365.0)
        out_of_money = chain.right * np.log(chain.strike / spot) / width
        near = np.exp(-0.5 * np.where(out_of_money > 0, out_of_money / 1.2, out_of_money / 0.7) ** 2)
        popular: Floats = np.cumsum((near + 0.01) * (np.exp(-days / 9.0) + 0.08) * np.exp(0.7 * normal))
        return popular

    def price(self, symbol: str, day: int, rows: Ints) -> Priced:
        """What the trades ``rows`` of a day cost."""
        tape = self.day(symbol, day)
        missing = np.unique(rows[~tape.known[rows]])
        if len(missing):
            tape.prices[:, missing] = self._priced(symbol, day, tape, missing)
            tape.known[missing] = True
        return Priced(*tape.prices[:, rows])

    def _priced(self, symbol: str, day: int, tape: OptionDay, rows: Ints) -> Ints:
        chain, minutes = self.chains.chain(symbol, day), self.paths.minutes(symbol, day)
        contracts = _contracts(chain, tape.contract[rows])
        minute, second = tape.minute[rows], tape.second[rows]
        # both ends of the minute at once: they share their exercise boundaries
        ends = self._at_node(symbol, day, contracts, np.stack([minute, minute + 1]))
        before, after = Nodes(ends.value[0], ends.delta[0]), ends.value[1]
        spot = self._spots(symbol, day, minute, second)
        value = self._within(symbol, day, minute, second, spot, before, after)
        number = (day * DAY_NS + (minutes.first + minute) * MINUTE_NS) // SECOND_NS + second
        quotes = quote(
            BY_SYMBOL[symbol], self._salts[symbol], contracts, value, minutes.activity[minute], number
        )  # fmt: skip
        taker = tape.taker[rows]
        bid = np.where(quotes.bid == NONE, quotes.ask, quotes.bid)
        middle = (bid + quotes.ask) // 2
        half = 0.5 * (1.0 - MIDPOINT_TRADES)
        price = np.where(taker < half, quotes.ask, np.where(taker < 2.0 * half, bid, middle))
        return np.stack([price, *(np.asarray(column, np.int64) for column in quotes)])

    def _at_node(self, symbol: str, day: int, contracts: Contracts, node: Ints) -> Nodes:
        """Values and deltas of contracts at the ends of minutes (node 0: the open)."""
        minutes, underlying = self.paths.minutes(symbol, day), BY_SYMBOL[symbol]
        at_ns = day * DAY_NS + (minutes.first + node) * MINUTE_NS
        state = (np.exp(minutes.log_price[node]), self.paths.volatility(symbol, day)[node], at_ns)
        return Nodes(values(underlying, contracts, *state), deltas(underlying, contracts, *state))

    def _value_nodes(self, symbol: str, day: int, node: int) -> Nodes:
        chain = self.chains.chain(symbol, day)
        everyone = _contracts(chain, np.arange(len(chain.strike)))
        return self._at_node(symbol, day, everyone, np.full(len(chain.strike), node))

    def _spots(self, symbol: str, day: int, minute: Ints, second: Ints) -> Floats:
        """The stock's price at the ends of seconds of the session's minutes."""
        first = self.paths.minutes(symbol, day).first
        hours = (first + minute) // 60
        spots = np.empty(len(minute))
        for hour in np.unique(hours).tolist():
            mine = hours == hour
            began = max(60 * hour - first, 0)
            spots[mine] = self.paths.seconds(symbol, day, hour)[minute[mine] - began, second[mine]]
        return spots

    def _within(
        self, symbol: str, day: int, minute: Ints, second: Ints, spot: Floats, before: Nodes, after: Floats
    ) -> Floats:
        """Values within minutes: between the two ends' by time, and by delta as far as the spot strays."""
        log_price = self.paths.minutes(symbol, day).log_price
        part = (second + 1) / 60.0
        straight = (1.0 - part) * np.exp(log_price[minute]) + part * np.exp(log_price[minute + 1])
        value = (1.0 - part) * before.value + part * after + before.delta * (spot - straight)
        return np.maximum(value, 0.0)

    def minute_quotes(self, symbol: str, day: int, nodes: Ints, contracts: Ints) -> OptionQuotes:
        """Quotes at the ends of minutes, (nodes, contracts); node 1 is the end of the session's first minute."""
        chain, minutes = self.chains.chain(symbol, day), self.paths.minutes(symbol, day)
        picked = _contracts(chain, contracts)
        underlying = BY_SYMBOL[symbol]
        at_ns = (day * DAY_NS + (minutes.first + nodes) * MINUTE_NS)[:, None]
        spot, volatility = np.exp(minutes.log_price[nodes])[:, None], self.paths.volatility(symbol, day)[nodes][:, None]
        value = values(underlying, picked, spot, volatility, at_ns)
        second = at_ns // SECOND_NS - 1
        found = quote(
            underlying, self._salts[symbol], picked, value, minutes.activity[nodes - 1][:, None], second
        )  # fmt: skip
        return disturb(self._salts[symbol], picked, second, found)

    def second_quotes(self, symbol: str, day: int, minute: int, seconds: Ints, contracts: Ints) -> OptionQuotes:
        """Quotes at the ends of seconds of one minute of the session, (seconds, contracts)."""
        chain, minutes = self.chains.chain(symbol, day), self.paths.minutes(symbol, day)
        picked = _contracts(chain, contracts)
        before, after = (self._nodes(symbol, day, minute + step) for step in (0, 1))
        there = Nodes(before.value[contracts], before.delta[contracts])
        repeated = np.full(len(seconds), minute)
        spot = self._spots(symbol, day, repeated, seconds)[:, None]
        value = self._within(symbol, day, repeated[:, None], seconds[:, None], spot, there, after.value[contracts])
        number = (day * DAY_NS + (minutes.first + minute) * MINUTE_NS) // SECOND_NS + seconds[:, None]
        found = quote(
            BY_SYMBOL[symbol], self._salts[symbol], picked, value, minutes.activity[minute], number
        )  # fmt: skip
        return disturb(self._salts[symbol], picked, number, found)


def _contracts(chain: Chain, which: Ints) -> Contracts:
    return Contracts(chain.strike[which], chain.right[which], chain.closes_ns[which], chain.key[which])
