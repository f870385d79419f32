"""Which contracts of a chain a strategy takes: by delta, days to expiration, spread, age of the quote, size, interest.

Each choice begins with all contracts and drops those that do not serve, for one reason after the other; where none is
left, the reason that dropped the last is why there is no position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ots_signals.decisions import Entry, Leg, Why
from ots_signals.market_view import ChainView, Flags, Floats

if TYPE_CHECKING:  # the strategies import this module
    from ots_signals.strategies.base import StrategyParameters

_SECOND_NS = 1_000_000_000
_DOLLAR = 1_000_000_000
_MULTIPLIER = 100
_PARTIAL = 0.75  # of the half-spread, see `FillModel`

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class NoChoice(Exception):
    """No contract serves: why, and the sentence."""

    why: Why
    detail: str


def days(chain: ChainView) -> Floats:
    """To each contract's expiration."""
    return chain.years * 365.0


def serving(chain: ChainView, parameters: StrategyParameters, *, by_spread: bool = True) -> Rows:
    """Rows with an expiration in the window, a volatility, and a quote that is fresh, narrow and large enough.

    ``by_spread`` off: where the position's own cost decides. Raises NoChoice.
    """
    if not len(chain):
        raise NoChoice(Why.NO_CHAIN, f"nothing was quoted on {chain.underlying}")
    p, until = parameters, days(chain)
    two_sided = (chain.bid > 0) & (chain.ask > chain.bid)
    spread = (chain.ask - chain.bid) / np.maximum(chain.ask, 1)
    age = (chain.at_ns - chain.quoted_at) / _SECOND_NS
    size = np.minimum(
        np.where(chain.bid_size < 0, p.least_size, chain.bid_size),
        np.where(chain.ask_size < 0, p.least_size, chain.ask_size),
    )
    held = np.where(chain.open_interest < 0, p.least_open_interest, chain.open_interest)
    steps: list[tuple[Flags, Why, Callable[[Rows], str]]] = [
        (
            (until >= p.least_days) & (until <= p.most_days),
            Why.NO_CONTRACT,
            lambda rows: (
                f"no expiration within {p.least_days:g} to {p.most_days:g} days; "
                f"the nearest has {until[rows].min():.1f}"
            ),
        ),
        (
            two_sided & (age <= p.most_quote_age_s),
            Why.STALE_QUOTES,
            lambda rows: f"of {len(rows)} contracts none has a two-sided quote younger than {p.most_quote_age_s:g} s",
        ),
        (
            np.isfinite(chain.delta) & np.isfinite(chain.implied_volatility),
            Why.NO_VOLATILITY,
            lambda rows: f"none of {len(rows)} quoted contracts has an implied volatility",
        ),
        (
            (spread <= p.most_spread) | (not by_spread),
            Why.SPREAD_TOO_WIDE,
            lambda rows: f"the narrowest spread is {spread[rows].min():.1%} of the ask, more than {p.most_spread:.1%}",
        ),
        (
            (size >= p.least_size) & (held >= p.least_open_interest),
            Why.NO_CONTRACT,
            lambda rows: (
                f"none of {len(rows)} contracts shows {p.least_size} and has an open interest of "
                f"{p.least_open_interest}"
            ),
        ),
    ]
    return _narrowed(np.arange(len(chain)), steps)


def single(chain: ChainView, parameters: StrategyParameters, right: int) -> int:
    """The contract of a right (+1, -1) nearest to the delta wanted. Raises NoChoice."""
    rows = serving(chain, parameters)
    off = np.abs(np.abs(chain.delta[rows]) - parameters.delta)
    fits = (chain.right[rows] == right) & (off <= parameters.delta_tolerance)
    if not fits.any():
        name = "call" if right > 0 else "put"
        raise NoChoice(
            Why.NO_CONTRACT,
            f"no {name} within {parameters.delta_tolerance:g} of a delta of {parameters.delta:g} has a usable quote",
        )
    rows, off = rows[fits], off[fits]
    # deltas within a twentieth of each other serve alike: then the cheapest to cross
    spread = (chain.ask[rows] - chain.bid[rows]) / chain.ask[rows]
    return int(rows[np.lexsort((chain.years[rows], spread, np.floor(off / 0.05)))[0]])


def at_strike(chain: ChainView, rows: Rows, expiration: np.datetime64, strike: float, right: int) -> int:
    """One contract among ``rows``. Raises NoChoice where it is not among them."""
    found = rows[
        (chain.expiration[rows] == expiration)
        & (np.abs(chain.strike[rows] - strike) < 1e-6)
        & (chain.right[rows] == right)
    ]
    if not len(found):
        name = "call" if right > 0 else "put"
        raise NoChoice(Why.NO_CONTRACT, f"the {name} at {strike:g} of {expiration} has no usable quote")
    return int(found[0])


def straddle(chain: ChainView, parameters: StrategyParameters) -> tuple[int, int]:
    """Call and put at the strike nearest to the spot, of the expiration nearest to the middle. Raises NoChoice."""
    rows = serving(chain, parameters)
    middle = (parameters.least_days + parameters.most_days) / 2
    off = np.abs(days(chain)[rows] - middle)
    expiration = chain.expiration[rows[off.argmin()]]
    of_it = rows[chain.expiration[rows] == expiration]
    strikes = np.intersect1d(chain.strike[of_it[chain.right[of_it] > 0]], chain.strike[of_it[chain.right[of_it] < 0]])
    if not len(strikes):
        raise NoChoice(Why.NO_CONTRACT, f"no strike of {expiration} has a usable call and put")
    strike = float(strikes[np.abs(strikes - chain.spot).argmin()])
    return at_strike(chain, of_it, expiration, strike, 1), at_strike(chain, of_it, expiration, strike, -1)


def condor(chain: ChainView, parameters: StrategyParameters, wing_delta: float) -> tuple[int, int, int, int]:
    """Long put, short put, short call, long call: short at ``parameters.delta``, long at ``wing_delta``.

    The widths are what the listed strikes allow. Raises NoChoice.
    """
    rows = serving(chain, parameters, by_spread=False)
    middle = (parameters.least_days + parameters.most_days) / 2
    expiration = chain.expiration[rows[np.abs(days(chain)[rows] - middle).argmin()]]
    of_it = rows[chain.expiration[rows] == expiration]
    puts, calls = of_it[chain.right[of_it] < 0], of_it[chain.right[of_it] > 0]
    found = []
    for side in (puts, calls):
        if len(side) < 2:
            raise NoChoice(Why.NO_CONTRACT, f"{expiration} has fewer than two usable strikes on a side")
        depth = np.abs(chain.delta[side])
        short = side[np.abs(depth - parameters.delta).argmin()]
        farther = side[depth < np.abs(chain.delta[short])]
        if not len(farther) or abs(abs(chain.delta[short]) - parameters.delta) > parameters.delta_tolerance:
            raise NoChoice(
                Why.NO_CONTRACT,
                f"no strikes of {expiration} near deltas of {parameters.delta:g} and {wing_delta:g} on both sides",
            )
        wing = farther[np.abs(np.abs(chain.delta[farther]) - wing_delta).argmin()]
        found.append((int(short), int(wing)))
    (short_put, long_put), (short_call, long_call) = found
    return long_put, short_put, short_call, long_call


def iron_butterfly(
    chain: ChainView, parameters: StrategyParameters, expiration: np.datetime64, strike: float, width: float
) -> tuple[int, int, int, int]:
    """Long put, short put, short call, long call around ``strike``, wings at least ``width`` dollars out. NoChoice."""
    rows = serving(chain, parameters, by_spread=False)
    strikes = np.unique(chain.strike[rows[chain.expiration[rows] == expiration]])
    below, above = strikes[strikes <= strike - width + 1e-9], strikes[strikes >= strike + width - 1e-9]
    if not len(below) or not len(above):
        raise NoChoice(Why.NO_CONTRACT, f"{expiration} has no usable strikes {width:g} away from {strike:g}")
    return (
        at_strike(chain, rows, expiration, float(below[-1]), -1),
        at_strike(chain, rows, expiration, strike, -1),
        at_strike(chain, rows, expiration, strike, 1),
        at_strike(chain, rows, expiration, float(above[0]), 1),
    )


def leg(chain: ChainView, row: int, quantity: int) -> Leg:
    """A row of a chain as it was quoted."""

    def number(values: Floats) -> float | None:
        return float(values[row]) if np.isfinite(values[row]) else None

    return Leg(
        symbol=str(chain.symbol[row]),
        right="C" if chain.right[row] > 0 else "P",
        strike=round(float(chain.strike[row]) * _DOLLAR),
        expiration=str(chain.expiration[row]),
        quantity=quantity,
        bid=int(chain.bid[row]),
        ask=int(chain.ask[row]),
        bid_size=int(chain.bid_size[row]),
        ask_size=int(chain.ask_size[row]),
        quote_age_ns=int(chain.at_ns - chain.quoted_at[row]),
        implied_volatility=number(chain.implied_volatility),
        delta=number(chain.delta),
        gamma=number(chain.gamma),
        theta=number(chain.theta),
        vega=number(chain.vega),
        multiplier=_MULTIPLIER,
    )


def entry(legs: tuple[Leg, ...], fee_per_contract: float) -> Entry:
    """What the legs cost in each fill model. The capital is what is paid at touch less the worst that they pay back.

    Of bought options that is the debit; of a defined-risk credit the width less the credit. Raises ValueError for a
    position whose loss has no bound, or that costs nothing.
    """
    touch = sum(one.quantity * (one.ask if one.quantity > 0 else one.bid) for one in legs)
    leave = sum(one.quantity * (one.bid if one.quantity > 0 else one.ask) for one in legs)
    mid = round(sum(one.quantity * (one.bid + one.ask) for one in legs) / 2)
    contracts = sum(abs(one.quantity) for one in legs)
    fees = round(2 * contracts * fee_per_contract * _DOLLAR / legs[0].multiplier)
    capital = touch - _worst(legs)
    if capital <= 0:
        raise ValueError("a position that cannot lose has no capital to measure a return against")
    return Entry(
        touch=touch,
        partial=round(mid + _PARTIAL * (touch - mid)),
        mid=mid,
        fees=fees,
        capital=capital,
        spread_pct=(touch - leave) / capital,
        break_even_pct=(touch - leave + fees) / capital,
    )


def _worst(legs: tuple[Leg, ...]) -> int:
    """The least that the legs pay at their expiration, 1e-9 dollars: at a strike, at zero, or without bound."""
    calls = sum(one.quantity for one in legs if one.right == "C")
    if calls < 0:
        raise ValueError("more calls sold than bought: the loss has no bound")
    prices = [0, *(one.strike for one in legs)]
    return min(
        sum(one.quantity * max(price - one.strike if one.right == "C" else one.strike - price, 0) for one in legs)
        for price in prices
    )


def _narrowed(rows: Rows, steps: list[tuple[Flags, Why, Callable[[Rows], str]]]) -> Rows:
    for keep, why, sentence in steps:
        left = rows[keep[rows]]
        if not len(left):
            raise NoChoice(why, sentence(rows))
        rows = left
    return rows
