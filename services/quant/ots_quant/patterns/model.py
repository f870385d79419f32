"""What detectors read and give: bars, pivots, and events in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.arguments import numbers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


_SMALLEST, _LARGEST = 1e-12, 1e15


@dataclass(frozen=True)
class PriceBars:
    """Bars in order of time, each field float64 of shape (n,): prices positive, adjusted for splits; volume in shares.

    Make one with `price_bars`, which checks them.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.close)


def usable(open: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike) -> NDArray[np.bool_]:
    """Which bars can be read: the high the highest, the low the lowest, prices from 1e-12 dollars, volume from 0.

    Prices and volumes end below 1e15: beyond lie no market's numbers, and the squares of sums.
    """
    o, h, lo, c, v = (np.asarray(values, np.float64) for values in (open, high, low, close, volume))
    with np.errstate(invalid="ignore"):  # a NaN compares as False, which is the answer wanted
        ordered: NDArray[np.bool_] = (lo <= np.minimum(o, c)) & (h >= np.maximum(o, c))
        return ordered & (lo >= _SMALLEST) & (h < _LARGEST) & (v >= 0) & (v < _LARGEST)


def price_bars(open: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike) -> PriceBars:
    """The bars, checked and contiguous.

    Raises ValueError that names the argument: not real numbers, not of shape (n,), not of one length, or the first
    bar that is not `usable`. A series with a hole must be mended or cut by the caller: a detector cannot guess.
    """
    given = {"open": open, "high": high, "low": low, "close": close, "volume": volume}
    arrays = {name: numbers(name, values) for name, values in given.items()}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise ValueError(f"{name} must have shape (n,), not {array.shape}")
        if len(array) != len(arrays["open"]):
            raise ValueError(f"{name} has {len(array)} bars, open has {len(arrays['open'])}")
    bad = np.flatnonzero(~usable(**arrays))
    if len(bad):
        i = int(bad[0])
        prices = ", ".join(f"{name} {array[i]:g}" for name, array in arrays.items())
        raise ValueError(f"open, high, low, close, volume of bar {i} are not those of a bar: {prices}")
    return PriceBars(**{name: np.ascontiguousarray(array) for name, array in arrays.items()})


class Pivots(NamedTuple):
    """Alternating highs (``kind`` +1) and lows (-1) in order of time, each of shape (m,).

    ``at`` is the bar of the extreme, ``confirmed`` the bar at whose close it was known to be one.
    """

    at: Ints
    price: Floats
    kind: Ints
    confirmed: Ints


class Swings(NamedTuple):
    """The pivots that m events rest on, at most k each: shape (m, k), bars -1 and price NaN where there are fewer."""

    at: Ints
    price: Floats
    confirmed: Ints


@dataclass(frozen=True)
class Events:
    """m events of one type, in columns. Bars are named by their index.

    ``direction``: +1 bullish, -1 bearish, 0 neither. ``confirmed``: the bar at whose close the event was known; the
    event depends on no bar after it. ``levels``: shape (m, 3), neckline, target, invalidation, NaN where there is none.
    ``parts``: shape (m, q), what speaks for the event, each from 0 to 1, NaN where unknown (no volume).
    """

    direction: Ints
    start: Ints
    end: Ints
    confirmed: Ints
    swings: Swings
    levels: Floats
    parts: Floats

    def __len__(self) -> int:
        return len(self.confirmed)

    def take(self, which: NDArray[np.bool_] | Ints | slice) -> Events:
        """The events that a mask, indices or a slice select."""
        return Events(
            self.direction[which],
            self.start[which],
            self.end[which],
            self.confirmed[which],
            Swings(self.swings.at[which], self.swings.price[which], self.swings.confirmed[which]),
            self.levels[which],
            self.parts[which],
        )

    def score(self) -> Floats:
        """The mean of the parts that are known, shape (m,); NaN where none is."""
        known = ~np.isnan(self.parts)
        count = known.sum(axis=1)
        total = np.where(known, self.parts, 0.0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
