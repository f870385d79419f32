"""What a surface promises, counted: arbitrage on a dense grid, inside the quoted strikes and outside, and fit error.

The grid is checked with the raw SVI parameters, by formulas of their own, not with what the fit minimised.

Inside: between the lowest and the highest strike of the fit, for two expirations between those that both have. Outside:
beyond them, as far as the quoted range is wide, and at least one standard deviation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_quant.surface.slices import Slices, butterfly, total_variance

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Violations(NamedTuple):
    """How many points of how many fail, and by how much at worst (0 where none does)."""

    failing: int
    points: int
    worst: float


class Certificate(NamedTuple):
    """Of the grid and of the quotes that were fitted.

    ``butterfly``: g(k) < 0, worst as -g. ``calendar``: total variance that falls from one expiration to the next at the
    same forward moneyness, worst as the fall in volatility of the later one. ``between``: g(k) < 0 halfway in time
    between two expirations, where the surface interpolates.
    """

    butterfly_inside: Violations
    butterfly_outside: Violations
    calendar_inside: Violations
    calendar_outside: Violations
    between_inside: Violations
    between_outside: Violations
    rms_volatility: float
    """Root mean square of model less mid volatility over the contracts used, NaN without any."""
    max_volatility: float
    rms_half_spreads: float
    """The same in units of each contract's half-spread."""
    share_within_spread: float
    """Of the contracts used, those whose bid and ask enclose the model."""
    contracts_used: int
    contracts_left_out: NDArray[np.int64]
    """Counts by the codes of `LeftOut`, shape (codes,); the first, those used, is 0."""

    @property
    def arbitrage_free_inside(self) -> bool:
        """No violation of any kind between the quoted strikes."""
        return self.butterfly_inside.failing + self.calendar_inside.failing + self.between_inside.failing == 0


class Range(NamedTuple):
    """Log-moneyness that is quoted, and as far out as is looked at: arrays of shape (slices,)."""

    low: Values
    high: Values
    far_low: Values
    far_high: Values

    @classmethod
    def of(cls, low: Values, high: Values, theta: Values) -> Range:
        """The range of strikes fitted, and as much again on each side, at least a standard deviation."""
        width = np.maximum(high - low, np.sqrt(theta))
        return cls(low, high, low - width, high + width)


class Grid(NamedTuple):
    """Log-moneyness to look at, (rows, points), and which of it is inside the quoted strikes."""

    k: Values
    inside: Mask


def slice_grid(quoted: Range, slices: Slices, inside: int, outside: int) -> Grid:
    """Points of every slice: even inside, even outside, and close ones where the smile bends."""
    k = np.concatenate(
        [
            np.linspace(quoted.low, quoted.high, inside, axis=1),
            np.linspace(quoted.far_low, quoted.low, outside, endpoint=False, axis=1),
            np.linspace(quoted.far_high, quoted.high, outside, endpoint=False, axis=1),
            _bends(quoted, slices),
        ],
        axis=1,
    )
    return Grid(k, (k >= quoted.low[:, None]) & (k <= quoted.high[:, None]))


def pair_grid(quoted: Range, slices: Slices, inside: int, outside: int) -> Grid:
    """Points of every expiration and the next: even where both are quoted and beyond, close where either bends."""
    low, high = np.maximum(quoted.low[:-1], quoted.low[1:]), np.minimum(quoted.high[:-1], quoted.high[1:])
    far_low = np.minimum(quoted.far_low[:-1], quoted.far_low[1:])
    far_high = np.maximum(quoted.far_high[:-1], quoted.far_high[1:])
    bends = _bends(quoted, slices)
    k = np.concatenate(
        [
            np.linspace(low, high, inside, axis=1),
            np.linspace(far_low, low, outside, endpoint=False, axis=1),
            np.linspace(far_high, high, outside, endpoint=False, axis=1),
            bends[:-1],
            bends[1:],
        ],
        axis=1,
    )
    return Grid(k, (k >= low[:, None]) & (k <= high[:, None]))


def _bends(quoted: Range, slices: Slices) -> Values:
    steps = np.sinh(np.linspace(-4.0, 4.0, 33)) / 4.0  # within 7 sigma of the centre, most of them within one
    k = slices.m[:, None] + slices.sigma[:, None] * steps
    return np.clip(k, quoted.far_low[:, None], quoted.far_high[:, None])


class ArbitrageScan(NamedTuple):
    """The six counts of a `Certificate`."""

    butterfly_inside: Violations
    butterfly_outside: Violations
    calendar_inside: Violations
    calendar_outside: Violations
    between_inside: Violations
    between_outside: Violations

    @property
    def failing(self) -> int:
        """Violations of any kind anywhere."""
        return sum(violations.failing for violations in self)


def scan(slices: Slices, years: Values, quoted: Range, inside: int = 401, outside: int = 101) -> ArbitrageScan:
    """All that the grids show. ``years`` ascending, one per slice."""
    with np.errstate(all="ignore"):  # a planted or broken slice may have w <= 0: then g is NaN or inf, and it counts
        grid = slice_grid(quoted, slices, inside, outside)
        variance = total_variance(slices, grid.k)
        density = np.where(variance.w > 0, butterfly(grid.k, variance), -np.inf)
        pairs = pair_grid(quoted, slices, inside, outside)
        earlier = total_variance(Slices(*(values[:-1] for values in slices)), pairs.k)
        later = total_variance(Slices(*(values[1:] for values in slices)), pairs.k)
        fall = _fall_in_volatility(earlier.w, later.w, years[1:])
        middle = type(earlier)(*((one + other) / 2.0 for one, other in zip(earlier, later, strict=True)))
        between = np.where(middle.w > 0, butterfly(pairs.k, middle), -np.inf)
    return ArbitrageScan(
        *_counted(-density, grid.inside),
        *_counted(fall, pairs.inside),
        *_counted(-between, pairs.inside),
    )


def _fall_in_volatility(earlier: Values, later: Values, years: Values) -> Values:
    """Positive where the later total variance is below the earlier; rounding of the two is no fall."""
    fall = np.sqrt(np.maximum(earlier, 0.0) / years[:, None]) - np.sqrt(np.maximum(later, 0.0) / years[:, None])
    return np.where(later >= earlier * (1.0 - 1e-12), np.minimum(fall, 0.0), fall)


def _counted(excess: Values, inside: Mask) -> tuple[Violations, Violations]:
    fails = ~(excess <= 0)  # NaN fails
    worst = np.where(np.isnan(excess), np.inf, excess)
    within, beyond = (
        Violations(int((fails & part).sum()), int(part.sum()), float(worst[fails & part].max(initial=0.0)))
        for part in (inside, ~inside)
    )
    return within, beyond
