"""The interest rate that the chains of a moment are priced with: a stated curve, or what they imply together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ots_chains.chains import Chain
from ots_market.prices import SCALE
from ots_market.rates import DAYS_A_YEAR, RateAnswer, RateCurve
from ots_quant.parity import RATE_HALF_WIDTH, Forwards, group_expirations, implied_forwards
from ots_quant.pooled_rate import PooledRate, pooled_rate

# where a rate tells: in a shorter time it moves prices by less than their spread, and so far from the money an
# early exercised leg knows nothing of it
_SHORTEST_YEARS = 25 / 365
_WIDEST_MONEYNESS = 0.25
# estimates enough to pool: of nine chains one each, of one chain its three longest expirations
_ESTIMATES, _MOST_OF_A_CHAIN = 9, 3


@dataclass(frozen=True)
class Rate:
    """``kind`` None: no rate, and ``detail`` says why. A curve's has a term structure, a pooled one is flat."""

    kind: Literal["curve", "parity"] | None
    detail: str
    curve: RateCurve | None = None
    pooled: PooledRate | None = None

    def of(self, years: NDArray[np.float64]) -> NDArray[np.float64]:
        """Continuously compounded, for each time; NaN where there is none."""
        if self.curve is not None:
            return self.curve.zero_rates(years * DAYS_A_YEAR)
        return np.full(years.shape, self.pooled.rate if self.kind and self.pooled else np.nan)

    def interval(self, rate: float) -> tuple[float, float]:
        """Around a rate of this source: a curve is taken as stated."""
        return (self.pooled.low, self.pooled.high) if self.pooled and self.kind else (rate, rate)


def rate_inputs(known: RateAnswer, chains: Sequence[Chain]) -> bytes:
    """A digest of what `rate_of` would use: the curve, or all the chains."""
    if known.curve is not None:
        points = (known.curve.source, known.curve.curve_date, known.curve.known_at_ns)
        return hashlib.blake2b(repr(points).encode() + known.curve.log_discounts.tobytes(), digest_size=16).digest()
    return hashlib.blake2b(b"".join(chain.digest() for chain in chains), digest_size=16).digest()


def rate_of(known: RateAnswer, chains: Sequence[Chain]) -> Rate:
    """The curve that was known then, else the rate that the chains of the moment imply together."""
    if known.curve is not None:
        return Rate("curve", f"{known.curve.source}, {known.curve.curve_date}", curve=known.curve)
    each = min(_MOST_OF_A_CHAIN, -(-_ESTIMATES // max(1, len(chains))))
    estimates = [found for chain in chains if (found := _own_rates(chain, each)) is not None]
    columns = ([getattr(one, name) for one in estimates] for name in ("rate", "rate_low", "rate_high"))
    rate, low, high = (np.concatenate([[], *column]) for column in columns)
    pooled = pooled_rate(rate, low, high)
    if not pooled.identified:
        told = f"parity leaves {pooled.low:.4f} to {pooled.high:.4f}" if pooled.estimates else "parity tells nothing"
        detail = f"{known.reason}; {told} ({pooled.estimates} expirations), wider than {2 * RATE_HALF_WIDTH}"
        return Rate(None, detail, pooled=pooled)
    return Rate(
        "parity",
        f"put-call parity of {pooled.estimates} expirations of {len(estimates)} underlyings:"
        f" {pooled.low:.4f} to {pooled.high:.4f}",
        pooled=pooled,
    )


def _own_rates(chain: Chain, expirations: int) -> Forwards | None:
    """What the longest expirations of a chain imply, each for itself; None where nothing can be told."""
    if chain.spot is None:
        return None
    spot = chain.spot.price / SCALE
    times, _ = group_expirations(chain.years[chain.years > 0])
    telling = times[times >= _SHORTEST_YEARS]
    longest = (telling if telling.size else times)[-expirations:]
    if not longest.size:
        return None
    near = (chain.years >= longest[0] - 1e-9) & (np.abs(np.log(chain.strike / spot)) < _WIDEST_MONEYNESS)
    return implied_forwards(
        chain.right[near],
        chain.strike[near],
        chain.years[near],
        chain.bid[near],
        chain.ask[near],
        spot,
        rate_within=np.inf,
    )
