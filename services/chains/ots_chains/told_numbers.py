"""The computed numbers of a priced chain as every answer tells them: the units that people read, and a few digits.

Whoever prices a chain in process and whoever is told it over HTTP then hold the very same numbers, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ots_chains.priced_chains import PricedChain

DAYS_A_YEAR = 365.0
# digits after the point: far below what quotes tell and the mathematics promises, and a third of the bytes
_DIGITS = 8

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ToldNumbers:
    """Arrays of shape (contracts,), NaN for none.

    ``theta``: dollars per calendar day; ``vega`` and ``rho``: dollars per percentage point; ``delta`` and ``gamma``:
    per dollar of the underlying; the rest as in `PricedChain`.
    """

    mid: Floats
    implied_volatility: Floats
    bid_implied_volatility: Floats
    ask_implied_volatility: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    rho: Floats
    theoretical: Floats

    @classmethod
    def of(cls, chain: PricedChain) -> ToldNumbers:
        """Those of a chain."""
        greeks = chain.greeks
        return cls(
            mid=np.round(chain.mid, _DIGITS),
            implied_volatility=np.round(chain.implied_volatility, _DIGITS),
            bid_implied_volatility=np.round(chain.bid_volatility, _DIGITS),
            ask_implied_volatility=np.round(chain.ask_volatility, _DIGITS),
            delta=np.round(greeks.delta, _DIGITS),
            gamma=np.round(greeks.gamma, _DIGITS + 2),
            theta=np.round(greeks.theta / DAYS_A_YEAR, _DIGITS),
            vega=np.round(greeks.vega / 100, _DIGITS),
            rho=np.round(greeks.rho / 100, _DIGITS),
            theoretical=np.round(chain.theoretical, _DIGITS),
        )
