"""Positions of several legs: what they cost to enter, pay, risk, and how likely they are to pay.

`Leg` and `Position` with builders for the usual ones; `entry` at the executable side; `payoff`, `break_evens` and
`extremes` exact where all options expire together, `profit_at_first_expiration` by the model where they do not;
`position_greeks`, `probability_of_profit`, `expected_profit`. Dollars are those of the whole position, the multiplier
applied. Margin is out of scope.
"""

from ots_quant.strategies.builders import (
    butterfly,
    calendar,
    collar,
    condor,
    covered_call,
    custom,
    iron_condor,
    protective_put,
    straddle,
    strangle,
    vertical,
)
from ots_quant.strategies.horizon import HorizonProfit, profit_at_first_expiration, value_at_first_expiration
from ots_quant.strategies.legs import CALL, PUT, STOCK, Entry, Leg, Position, Style, entry
from ots_quant.strategies.market import Market, position_greeks, position_value
from ots_quant.strategies.outlook import ExpectedProfit, ProfitProbability, expected_profit, probability_of_profit
from ots_quant.strategies.payoff import (
    BreakEvens,
    Extremes,
    PiecewiseLinear,
    break_evens,
    extremes,
    payoff,
    profit_line,
)

__all__ = [
    "CALL",
    "PUT",
    "STOCK",
    "BreakEvens",
    "Entry",
    "ExpectedProfit",
    "Extremes",
    "HorizonProfit",
    "Leg",
    "Market",
    "PiecewiseLinear",
    "Position",
    "ProfitProbability",
    "Style",
    "break_evens",
    "butterfly",
    "calendar",
    "collar",
    "condor",
    "covered_call",
    "custom",
    "entry",
    "expected_profit",
    "extremes",
    "iron_condor",
    "payoff",
    "position_greeks",
    "position_value",
    "probability_of_profit",
    "profit_at_first_expiration",
    "profit_line",
    "protective_put",
    "straddle",
    "strangle",
    "value_at_first_expiration",
    "vertical",
]
