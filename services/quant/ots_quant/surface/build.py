"""From a chain's quotes to a fitted `Surface` with its certificate."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.arguments import broadcast, numbers
from ots_quant.surface import normal
from ots_quant.surface.certificate import Certificate, Range, scan
from ots_quant.surface.coupling import without_arbitrage
from ots_quant.surface.fit import Targets, fit_independent
from ots_quant.surface.model import Surface
from ots_quant.surface.quotes import LeftOut, Points, Quotes, points_of
from ots_quant.surface.slices import Slices, total_variance

Values = NDArray[np.float64]

LEAST_STRIKES = 5
"""An expiration with fewer strikes borrows the shape of its smile; SVI has five parameters."""

_TIGHTEST, _LOWEST = 1e-4, 0.2  # half-spread and volatility in a weight, at least, as shares of that near the money
_BORROWED_POINTS = 9  # of the borrowed smile, together weighing as much as one contract


class Shape(IntEnum):
    """Where the shape of a slice comes from."""

    FITTED = 0
    BORROWED = 1
    """Fewer than five strikes: the smile of the nearest fitted expiration, scaled to the quotes that there are."""
    FLAT = 2
    """Fewer than five strikes and no expiration to borrow from: one volatility for all strikes."""


def fit_surface(
    right: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    bid: ArrayLike,
    ask: ArrayLike,
    spot: float,
    forward: ArrayLike,
    rate: ArrayLike,
    *,
    american: bool = True,
    volatility: ArrayLike | None = None,
) -> Surface:
    """The volatility surface of one underlying's chain.

    All but ``spot`` are per contract and broadcast to shape (contracts,): ``right`` +1 call or -1 put, ``years`` of 365
    days to expiration, ``forward`` and ``rate`` of the contract's expiration (see `ots_quant.parity`). A contract that
    does not tell about the smile is left out, with a reason in ``Surface.left_out``. An expiration without any contract
    left has no slice; without any slice the surface answers NaN. ``volatility``: what the mids imply at this forward
    and rate, NaN for nothing, from whoever has inverted them already.

    Raises ValueError that names an argument of a wrong shape or kind, or a spot that is not positive.
    """
    if not (np.ndim(spot) == 0 and np.isfinite(numbers("spot", spot)) and spot > 0):
        raise ValueError(f"spot must be a positive number, not {spot!r}")
    named = {
        "right": right,
        "strike": strike,
        "years": years,
        "bid": bid,
        "ask": ask,
        "forward": forward,
        "rate": rate,
    }
    vectors, shape = broadcast(named if volatility is None else {**named, "volatility": volatility})
    quotes = Quotes(*vectors[:7])
    points = points_of(quotes, float(spot), american, None if volatility is None else vectors[7])
    rows = _rows_of(points)
    fitted = _fit(points, rows)
    return Surface(
        spot=float(spot),
        years=points.expirations[rows.expirations],
        forward=_of_expiration(quotes.forward, points, rows),
        rate=_of_expiration(quotes.rate, points, rows),
        slices=fitted.slices,
        quoted=fitted.quoted,
        shape=fitted.shape,
        left_out=points.left_out.reshape(shape),
        certificate=_certified(fitted, points, rows),
    )


class _Rows(NamedTuple):
    """The contracts that are fitted, one row for each expiration that has any."""

    expirations: NDArray[np.intp]
    contracts: NDArray[np.intp]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    width: int

    def padded(self, values: Values) -> Values:
        table = np.zeros((self.expirations.size, self.width))
        table[self.row, self.column] = values[self.contracts]
        return table


class _Fitted(NamedTuple):
    slices: Slices
    quoted: Range
    shape: NDArray[np.int64]


def _rows_of(points: Points) -> _Rows:
    contracts = np.flatnonzero(points.weight > 0)
    contracts = contracts[np.lexsort((points.k[contracts], points.expiration[contracts]))]
    expirations, row, counts = np.unique(points.expiration[contracts], return_inverse=True, return_counts=True)
    column = np.arange(contracts.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return _Rows(expirations, contracts, row, column, int(counts.max(initial=0)))


def _of_expiration(values: Values, points: Points, rows: _Rows) -> Values:
    result = np.empty(rows.expirations.size)
    result[rows.row] = values[rows.contracts]
    return result


def _fit(points: Points, rows: _Rows) -> _Fitted:
    years = points.expirations[rows.expirations]
    used = rows.padded(np.ones(points.k.shape)) > 0
    k, volatility = rows.padded(points.k), rows.padded(points.volatility)
    quoted = _quoted(k, used)
    theta = points.theta[rows.expirations]
    # d(volatility)/dw, of a volatility that is not so far below the others that the line is no likeness
    middle = np.sqrt(theta / years)[:, None]
    half_spread = np.where(used, np.maximum(rows.padded(points.half_spread), _TIGHTEST * middle), 1.0)
    per_variance = theta[:, None] / (2.0 * np.maximum(volatility, _LOWEST * middle) * years[:, None] * half_spread)
    targets = Targets(
        x=k / np.sqrt(theta)[:, None],
        v=volatility**2 * years[:, None] / theta[:, None],
        weight=per_variance * np.sqrt(rows.padded(points.weight)),
        theta=theta,
    )
    distinct = (used & (np.diff(k, axis=1, prepend=-np.inf) != 0)).sum(axis=1)
    shape = np.where(distinct >= LEAST_STRIKES, Shape.FITTED, Shape.BORROWED).astype(np.int64)
    if not (shape == Shape.FITTED).any():
        shape[:] = Shape.FLAT
    ranges = Range.of(*quoted, theta)
    targets, parameters, trust = _fit_shapes(targets, shape, years)
    parameters = without_arbitrage(parameters, targets, trust, years, ranges)
    return _Fitted(normal.raw(parameters, theta), ranges, shape)


def _quoted(k: Values, used: NDArray[np.bool_]) -> tuple[Values, Values]:
    return (
        np.where(used, k, np.inf).min(axis=1, initial=np.inf),
        np.where(used, k, -np.inf).max(axis=1, initial=-np.inf),
    )


def _fit_shapes(targets: Targets, shape: NDArray[np.int64], years: Values) -> tuple[Targets, Values, Values]:
    """Slices with enough strikes first; the others with points of a borrowed smile added to theirs."""
    full = shape == Shape.FITTED
    if not full.any():
        weights = targets.weight**2
        level = (weights * targets.v).sum(axis=1) / weights.sum(axis=1)
        return targets, normal.flat(level), np.ones(targets.x.shape)
    parameters, trust = fit_independent(Targets(*(values[full] for values in targets)))
    if full.all():
        return targets, parameters, trust
    every = np.zeros((full.size, 5))
    every[full] = parameters
    every[~full] = _lent(parameters, years[full], years[~full])
    extended = _with_borrowed(targets, ~full, every)
    thin_parameters, thin_trust = fit_independent(Targets(*(values[~full] for values in extended)))
    every[~full] = thin_parameters
    every_trust = np.ones(extended.x.shape)
    every_trust[np.ix_(full, np.arange(trust.shape[1]))] = trust
    every_trust[~full] = thin_trust
    return extended, every, every_trust


def _lent(parameters: Values, lenders: Values, borrowers: Values) -> Values:
    """The scaled smile of the fitted expiration that is nearest in the logarithm of time."""
    distance = np.abs(np.log(borrowers)[:, None] - np.log(lenders))
    lent: Values = parameters[np.argmin(distance, axis=1)]
    return lent


def _with_borrowed(targets: Targets, thin: NDArray[np.bool_], parameters: Values) -> Targets:
    """Targets with points of a given smile among those of the rows that are ``thin``, scaled to the row's own quotes.

    Scaling by s in variance and sqrt(s) in moneyness keeps the shape: v(x) becomes s v(x / sqrt(s)).
    """
    x = np.broadcast_to(np.linspace(-2.0, 2.0, _BORROWED_POINTS), (thin.size, _BORROWED_POINTS))
    weights = targets.weight**2
    total = np.where(weights.sum(axis=1) > 0, weights.sum(axis=1), 1.0)
    scale = np.ones(thin.size)
    for _ in range(20):
        model = scale[:, None] * normal.values(parameters, targets.x / np.sqrt(scale)[:, None])
        scale = scale * (weights * targets.v).sum(axis=1) / np.where(total > 0, (weights * model).sum(axis=1), 1.0)
        scale = np.clip(np.where(thin & np.isfinite(scale), scale, 1.0), 1e-2, 1e2)
    v = scale[:, None] * normal.values(parameters, x / np.sqrt(scale)[:, None])
    counts = np.maximum((weights > 0).sum(axis=1), 1)
    weight = np.where(thin, np.sqrt(total / counts / _BORROWED_POINTS), 0.0)
    extended = (
        np.concatenate([targets.x, np.where(thin[:, None], x, 0.0)], axis=1),
        np.concatenate([targets.v, np.where(thin[:, None], v, 0.0)], axis=1),
        np.concatenate([targets.weight, np.broadcast_to(weight[:, None], x.shape)], axis=1),
    )
    order = np.argsort(np.where(extended[2] > 0, extended[0], np.inf), axis=1, kind="stable")
    x, v, weights = (np.take_along_axis(values, order, axis=1) for values in extended)
    return Targets(x, v, weights, targets.theta)


def _certified(fitted: _Fitted, points: Points, rows: _Rows) -> Certificate:
    years = points.expirations[rows.expirations]
    w = total_variance(fitted.slices, rows.padded(points.k)).w
    model = np.sqrt(w / years[:, None])[rows.row, rows.column]
    error = model - points.volatility[rows.contracts]
    in_spreads = error / points.half_spread[rows.contracts]
    counts = np.bincount(points.left_out, minlength=len(LeftOut))
    used, counts[LeftOut.USED] = int(counts[LeftOut.USED]), 0
    found = scan(fitted.slices, years, fitted.quoted)
    if used == 0:
        return Certificate(*found, np.nan, np.nan, np.nan, np.nan, 0, counts)
    return Certificate(
        *found,
        rms_volatility=float(np.sqrt(np.mean(error**2))),
        max_volatility=float(np.abs(error).max()),
        rms_half_spreads=float(np.sqrt(np.mean(in_spreads**2))),
        share_within_spread=float(np.mean(np.abs(in_spreads) <= 1.0)),
        contracts_used=used,
        contracts_left_out=counts,
    )
