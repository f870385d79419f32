"""Buying an option at its ask and selling it again at its bid: what must happen first, and what to expect of it.

An order to buy now is filled at the ask, one to sell later at the bid. Both fees and the whole spread are lost unless
the price moves. A model gives the middle of the market; here the half-spread is taken to stay what it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ots_quant import european
from ots_quant.arguments import broadcast
from ots_quant.density.assumptions import Values, usable
from ots_quant.density.option_touch import PriceFunction, spot_at_price

# Of early exercise's premium at the horizon, which bends little within a horizon: more points change nothing.
_HERMITE = np.polynomial.hermite_e.hermegauss(9)
# of the stretch, seven standard deviations long at least, in which the option is worth less than half the spread
_LEGENDRE = np.polynomial.legendre.leggauss(32)
_FARTHEST = 7.0


class RoundTrip(NamedTuple):
    """Quotes and a fee of one way, all in dollars a share: arrays of one shape."""

    bid: Values
    ask: Values
    fee: Values | float

    @property
    def mid(self) -> Values:
        """The middle of the quote."""
        return 0.5 * (self.bid + self.ask)

    @property
    def half_spread(self) -> Values:
        """What selling loses against the middle, now and, as is assumed, later."""
        return 0.5 * (self.ask - self.bid)

    @property
    def cost(self) -> Values:
        """What buying and selling again loses if nothing moves: the spread and two fees."""
        return self.ask - self.bid + 2.0 * self.fee

    def bid_for(self, move: float) -> Values:
        """The bid at which selling returns the ask, both fees, and ``move`` times the ask."""
        return self.ask * (1.0 + move) + 2.0 * self.fee

    def mid_for(self, move: float) -> Values:
        """The middle of the market that comes with this bid."""
        return self.bid_for(move) + self.half_spread


def expected_bid(
    right: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    volatility: ArrayLike,
    half_spread: ArrayLike,
    horizon: ArrayLike,
    *,
    price: PriceFunction = european.price,
) -> Values:
    """The risk-neutral expectation of the bid at the horizon, not discounted: max(price - half_spread, 0).

    ``half_spread``: what the bid is below the model's price, negative where it is above. ``horizon``: years, less than
    the option's own, at which it keeps its implied volatility. The European price is a
    martingale but for interest, so its expectation is exact; what ``price`` has beyond it (early exercise) is
    integrated over the spot at the horizon, and so is what a bid of zero spares a seller whose option is then worth
    less than half the spread. At fair prices the result is about the middle of the market now, less half the spread.
    Error, of the price: below 1e-7 for European exercise; for American 1e-5 up to a tenth of the option's life, 1e-3 up
    to nine tenths.
    NaN where an argument but rates and the half-spread is not positive, where the horizon is not below years, or
    anything is not finite. Raises ValueError for what `arguments.broadcast` refuses.
    """
    columns, shape = broadcast(
        {
            "right": right,
            "spot": spot,
            "strike": strike,
            "years": years,
            "rate": rate,
            "dividend_yield": dividend_yield,
            "volatility": volatility,
            "half_spread": half_spread,
            "horizon": horizon,
        }
    )
    w, s, k, t, r, q, v, half, h = columns
    result = np.full(w.shape, np.nan)
    with np.errstate(all="ignore"):  # bad elements are not valid
        valid = usable(positive=(s, k, t, v, h), finite=(r, q, half)) & (h < t)
        result[valid] = _expected_bid(tuple(x[valid] for x in columns), price)
    return result.reshape(shape)


def _expected_bid(columns: tuple[Values, ...], price: PriceFunction) -> Values:
    w, s, k, t, r, q, v, half, h = columns
    deviation, left = v * np.sqrt(h), t - h

    def spot_at(z: Values) -> Values:
        return np.asarray(s * np.exp((r - q - 0.5 * v * v) * h + deviation * z))

    expected = np.exp(r * h) * european.price(w, s, k, t, r, q, v)
    if price is not european.price:
        points, weights = _HERMITE
        at_horizon = (w, spot_at(points[:, None]), k, left, r, q, v)
        premium = np.asarray(price(*at_horizon), np.float64) - european.price(*at_horizon)
        expected = expected + weights @ premium / weights.sum()
    # beyond this spot, in standard deviations towards worthlessness, the option is worth less than half the spread
    worthless = spot_at_price(np.maximum(half, 1e-9 * k), w, k, left, r, q, v)
    start = w * ((r - q - 0.5 * v * v) * h - np.log(worthless / s)) / deviation
    start = np.clip(start, -_FARTHEST, _FARTHEST)
    points, weights = _LEGENDRE
    length = 0.5 * (_FARTHEST + 1.0 - start)
    z = start + length * (points[:, None] + 1.0)
    density = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    worth = european.price(w, spot_at(-w * z), k, left, r, q, v)
    spared = length * (weights @ (density * (half - worth)))
    return np.asarray(expected - half + np.maximum(spared, 0.0))
