"""How likely a position is to end with a profit, and what it is worth to own: by a flat volatility and by a smile.

Risk-neutral: the probability that the options' prices imply, which is not a forecast. A position bought at fair prices
has an expected profit of zero at every probability of profit; what is left is the cost of crossing the spread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ots_quant.density import RiskNeutral
from ots_quant.strategies.horizon import profit_at_first_expiration, value_at_first_expiration
from ots_quant.strategies.legs import Entry, Position
from ots_quant.strategies.market import Market, position_greeks
from ots_quant.strategies.payoff import profit_line, zeros

Values = NDArray[np.float64]


class ProfitProbability(NamedTuple):
    """The probability of a profit above zero at the first expiration.

    lognormal: the spot is lognormal with one volatility
    smile: by the distribution that was given, which takes the skew into account; NaN where none was
    """

    lognormal: float
    smile: float


class ExpectedProfit(NamedTuple):
    """Dollars for the whole position: model value now, cost of entry, and their difference."""

    profit: float
    value: float
    cost: float


def probability_of_profit(
    position: Position,
    market: Market,
    cost: float,
    volatility: float,
    distribution: RiskNeutral | None = None,
) -> ProfitProbability:
    """The probability that the position ends above its ``cost`` at its first expiration.

    ``volatility``: one for the lognormal distribution, that at the money as a rule. ``distribution``: of a smile, for
    that same expiration. Break-evens are exact where all options expire together; otherwise the later legs are valued
    by the model (see `horizon`). Raises ValueError that names the argument: a volatility that is not positive, a
    distribution of another expiration, a cost that is not finite, a position of stock alone.
    """
    if not 0.0 < volatility < np.inf:
        raise ValueError(f"volatility must be positive and finite, not {volatility}")
    if not position.options:
        raise ValueError("position must hold an option")
    years = position.first_expiration
    if distribution is not None and abs(distribution.years - years) > 1e-9:
        raise ValueError(f"distribution is of {distribution.years:.10g} years, the position of {years:.10g}")
    edges, gains = _profitable(position, market, cost)
    deviation = volatility * np.sqrt(years)
    forward = market.spot * np.exp((market.rate - market.dividend_yield) * years)

    def lognormal_above(levels: Values) -> Values:
        with np.errstate(divide="ignore"):  # log(0) is minus infinity: everything is above
            return np.asarray(ndtr((np.log(forward / levels)) / deviation - 0.5 * deviation))

    smile = np.nan if distribution is None else _mass(distribution.probability_above, edges, gains)
    return ProfitProbability(_mass(lognormal_above, edges, gains), smile)


def expected_profit(position: Position, market: Market, bought: Entry) -> ExpectedProfit:
    """The model's value of the position now less what entering costs.

    With the legs' own implied volatilities at mid prices the model value is the mid price, and the expected profit is
    about minus the half-spreads and fees: a fair market pays for no pattern of payoff. More than that, up or down,
    says that the volatilities given differ from those in the quotes. Later costs (closing, assignment) are not in it.
    NaN where a leg has no volatility or no executable quote.
    """
    value = float(position_greeks(position, market).price)
    return ExpectedProfit(value - bought.cost, value, bought.cost)


def _profitable(position: Position, market: Market, cost: float) -> tuple[Values, NDArray[np.bool_]]:
    """Edges from 0 to inf between which the profit keeps its sign, and whether it is above zero in each interval."""
    if position.one_expiration:
        line = profit_line(position, cost)
        found = zeros(line)
        edges = np.unique(np.concatenate(([0.0], found.spots, found.flat.ravel(), [np.inf])))
        return edges, line(_between(edges)) > line.noise
    profit = profit_at_first_expiration(position, market, cost)
    edges = np.unique(np.concatenate(([0.0], profit.break_evens.spots, [np.inf])))
    return edges, value_at_first_expiration(position, market, _between(edges)) > cost


def _between(edges: Values) -> Values:
    """A spot inside each interval."""
    last = edges[-2] * 2.0 if edges[-2] > 0.0 else 1.0
    return np.append(0.5 * (edges[:-2] + edges[1:-1]), last)


def _mass(above: Callable[[Values], Values], edges: Values, gains: NDArray[np.bool_]) -> float:
    beyond = np.append(above(edges[:-1]), 0.0)
    return float(np.clip(np.sum((beyond[:-1] - beyond[1:])[gains]), 0.0, 1.0))
