"""Profit at the first expiration of a position with several: calendars and diagonals.

Legs that expire then are worth their payoff, and the others their model price at their own volatility, which is
assumed to be the same then as now. That assumption decides the figures: a calendar is a position in volatility.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar

from ots_quant.strategies.legs import PUT, Leg, Position, Style
from ots_quant.strategies.market import Market, position_value
from ots_quant.strategies.payoff import BreakEvens, Extremes

Values = NDArray[np.float64]

_POINTS = 801
_DEVIATIONS = 8.0
_FLAT = 1e-9  # dollars per dollar of spot and share: a slope below it is rounding


class HorizonProfit(NamedTuple):
    """Profit at the first expiration over a wide grid of spots (m,), with break-evens and extremes.

    Break-evens are sign changes on the grid, refined to 1e-10 of the spot: roots that only touch zero, or two within a
    grid step, are not found. Extremes are refined the same way. Outside the grid, eight standard deviations from the
    strikes, the curve is straight, down to what is left at a spot of zero.
    """

    spots: Values
    profit: Values
    break_evens: BreakEvens
    extremes: Extremes


def value_at_first_expiration(position: Position, market: Market, spot: ArrayLike) -> Values:
    """Dollars that the position is worth at its first expiration if the spot (any shape) is there then."""
    return position_value(position, market, spot, _first(position))


def profit_at_first_expiration(position: Position, market: Market, cost: float) -> HorizonProfit:
    """Profit, break-evens, greatest gain and loss at the first expiration, for ``cost`` in dollars.

    Raises ValueError for a position of stock alone, a cost that is not finite, or a leg without a volatility.
    """
    if not np.isfinite(cost):
        raise ValueError(f"cost must be finite, not {cost}: is a quote missing?")
    _first(position)
    spots = _wide_grid(position, market)
    profit = value_at_first_expiration(position, market, spots) - cost
    if not np.isfinite(profit).all():
        raise ValueError("volatilities must be positive numbers for every option leg")

    def at(spot: float) -> float:
        return float(value_at_first_expiration(position, market, spot) - cost)

    slope = _slope_above(position, market)
    at_zero = _value_at_zero(position, market) - cost
    roots = [
        brentq(at, spots[i], spots[i + 1], xtol=1e-10 * market.spot)
        for i in np.flatnonzero(profit[:-1] * profit[1:] < 0.0)
    ]
    roots += list(spots[profit == 0.0])
    if profit[-1] * slope < 0.0:
        roots.append(spots[-1] - profit[-1] / slope)
    if at_zero * profit[0] < 0.0:
        roots.append(spots[0] * at_zero / (at_zero - profit[0]))
    highest, highest_at = _refined(at, spots, profit, at_zero, 1.0)
    lowest, lowest_at = _refined(at, spots, profit, at_zero, -1.0)
    if slope > 0.0:
        highest, highest_at = np.inf, np.inf
    elif slope < 0.0:
        lowest, lowest_at = -np.inf, np.inf
    return HorizonProfit(
        spots,
        profit,
        BreakEvens(np.sort(np.array(roots, np.float64)), np.empty((0, 2))),
        Extremes(highest, 0.0 - lowest, highest_at, lowest_at, at_zero, slope),
    )


def _first(position: Position) -> float:
    if not position.options:
        raise ValueError("position must hold an option")
    return position.first_expiration


def _wide_grid(position: Position, market: Market) -> Values:
    """Even in the logarithm, some deviations beyond the strikes, with the strikes, where payoffs have corners."""
    strikes = [leg.strike for leg in position.options]
    years = max(leg.years for leg in position.options)
    volatilities = [volatility for leg, volatility in market.pairs(position) if leg.is_option]
    if not all(0.0 < v < np.inf for v in volatilities):
        raise ValueError("volatilities must be positive numbers for every option leg")
    spread = max(volatilities) * np.sqrt(years)
    drift = (abs(market.rate) + abs(market.dividend_yield)) * years
    reach = min(_DEVIATIONS * spread + 0.5 * spread**2 + drift + 0.5, 300.0)
    low, high = np.log(min(*strikes, market.spot)) - reach, np.log(max(*strikes, market.spot)) + reach
    return np.union1d(np.exp(np.linspace(low, high, _POINTS)), strikes)


def _slope_above(position: Position, market: Market) -> float:
    """Dollars per dollar of spot far above all strikes: a call moves like a share, paid for later or at once."""
    first = _first(position)
    slope = 0.0
    for leg in position.legs:
        if leg.is_option:
            held = np.exp(-market.dividend_yield * (leg.years - first))
            each = 0.0 if leg.right == PUT else max(held, 1.0) if leg.style == Style.AMERICAN else held
        else:
            each = 1.0
        slope += leg.units * each
    size = sum(abs(leg.units) for leg in position.legs)
    return 0.0 if abs(slope) <= _FLAT * size else float(slope)


def _value_at_zero(position: Position, market: Market) -> float:
    """What is left when the stock is worth nothing: puts pay their strikes, at once or at their expiration."""
    first = _first(position)

    def worth(leg: Leg) -> float:
        if leg.right != PUT:
            return 0.0
        later = float(np.exp(-market.rate * (leg.years - first)))
        return leg.strike * (max(later, 1.0) if leg.style == Style.AMERICAN else later)

    return float(sum(leg.units * worth(leg) for leg in position.legs))


def _refined(
    at: Callable[[float], float], spots: Values, profit: Values, at_zero: float, sign: float
) -> tuple[float, float]:
    """The extreme between the neighbours of the grid's best point, or at zero; ``sign`` -1 seeks the lowest."""
    best = int(np.argmax(sign * profit))
    value, where = float(profit[best]), float(spots[best])
    if 0 < best < len(spots) - 1:
        found = minimize_scalar(
            lambda spot: -sign * at(spot),
            bounds=(spots[best - 1], spots[best + 1]),
            method="bounded",
            options={"xatol": 1e-9 * where},
        )
        if -found.fun > sign * value:
            value, where = float(sign * -found.fun), float(found.x)
    return (at_zero, 0.0) if sign * at_zero > sign * value else (value, where)
