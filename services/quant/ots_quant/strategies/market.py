"""What a position is worth, and its Greeks, by the model: each leg with its own volatility and style of exercise.

European legs by Black-Scholes-Merton (`ots_quant.european`), American ones with early exercise (`ots_quant.american`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant import american, european
from ots_quant.arguments import numbers
from ots_quant.greeks import Greeks
from ots_quant.strategies.legs import Leg, Position, Style
from ots_quant.strategies.payoff import intrinsic

Values = NDArray[np.float64]

_GREEKS: dict[Style, Callable[..., Greeks]] = {Style.EUROPEAN: european.greeks, Style.AMERICAN: american.greeks}
_PRICE: dict[Style, Callable[..., Values]] = {Style.EUROPEAN: european.price, Style.AMERICAN: american.price}


@dataclass(frozen=True)
class Market:
    """The underlying now, and the implied volatility of each leg of a position in its order (stock legs: ignored).

    rate, dividend_yield: continuously compounded decimals. Volatilities stay with their legs when the spot or time
    moves (sticky strike). Raises ValueError that names the field for a spot that is not positive, a rate or yield that
    is not finite, or volatilities that are not numbers in one row.
    """

    spot: float
    rate: float
    dividend_yield: float
    volatilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0.0 < self.spot < np.inf:
            raise ValueError(f"spot must be positive and finite, not {self.spot}")
        for name, value in (("rate", self.rate), ("dividend_yield", self.dividend_yield)):
            if not np.isfinite(value):
                raise ValueError(f"{name} must be finite, not {value}")
        if numbers("volatilities", self.volatilities).ndim != 1:
            raise ValueError("volatilities must be a row of numbers, one per leg")

    def pairs(self, position: Position) -> list[tuple[Leg, float]]:
        """The legs with their volatilities. Raises ValueError when these are not one per leg."""
        if len(self.volatilities) != len(position.legs):
            raise ValueError(f"volatilities must be one per leg: {len(position.legs)}, not {len(self.volatilities)}")
        return list(zip(position.legs, self.volatilities, strict=True))


def position_greeks(position: Position, market: Market, spot: ArrayLike | None = None) -> Greeks:
    """Value and Greeks of the whole position: units times those of a share's option, summed over the legs.

    ``spot``: where (any shape), the market's spot by default; volatilities stay with the legs. Units as in `Greeks`,
    times shares: a delta of 100 is that of 100 shares. A leg without a volatility makes all NaN. Raises ValueError
    when the volatilities are not one per leg.
    """
    spots = numbers("spot", market.spot if spot is None else spot)
    totals = np.zeros((len(Greeks._fields), spots.size))
    shares = sum(leg.units for leg in position.legs if not leg.is_option)
    totals[0], totals[1] = shares * spots.reshape(-1), shares
    for style, units, (right, strike, years, volatility) in _by_style(position, market):
        greeks = _GREEKS[style](
            right[:, None],
            spots.reshape(-1),
            strike[:, None],
            years[:, None],
            market.rate,
            market.dividend_yield,
            volatility[:, None],
        )
        totals += np.stack([units @ each for each in greeks])
    return Greeks(*totals.reshape(-1, *spots.shape))


def position_value(position: Position, market: Market, spot: ArrayLike, after: float = 0.0) -> Values:
    """Dollars that the position is worth at ``spot`` (any shape) when ``after`` years have passed.

    Legs that expire just then are worth their payoff. Raises ValueError when ``after`` is negative or a leg has
    expired before it, and as `position_greeks`.
    """
    if not 0.0 <= after <= position.first_expiration:
        raise ValueError(f"after must be from 0 to the first expiration, {position.first_expiration:.10g} years")
    spots = numbers("spot", spot)
    total = np.zeros(spots.shape)
    for leg in position.legs:
        if not leg.is_option or leg.years == after:
            total += leg.units * intrinsic(leg, spots)
    for style, units, (right, strike, years, volatility) in _by_style(position, market, later_than=after):
        value = _PRICE[style](
            right[:, None],
            spots.reshape(-1),
            strike[:, None],
            (years - after)[:, None],
            market.rate,
            market.dividend_yield,
            volatility[:, None],
        )
        total += (units @ np.asarray(value)).reshape(spots.shape)
    return total


def _by_style(
    position: Position, market: Market, later_than: float = 0.0
) -> list[tuple[Style, Values, tuple[Values, Values, Values, Values]]]:
    """The living options of each style: units, and (right, strike, years, volatility), each (legs,)."""
    groups = []
    pairs = market.pairs(position)
    for style in Style:
        chosen = [(leg, v) for leg, v in pairs if leg.is_option and leg.style == style and leg.years > later_than]
        if chosen:
            units = np.array([leg.units for leg, _ in chosen], np.float64)
            table = np.array([(leg.right, leg.strike, leg.years, v) for leg, v in chosen], np.float64)
            right, strike, years, volatility = np.ascontiguousarray(table.T)
            groups.append((style, units, (right, strike, years, volatility)))
    return groups
