"""What returns say about each other, and how a realised volatility lies among those of its past.

Returns are log returns, so that those of consecutive bars add up. Nothing here knows a time: whoever calls chooses bars
that are common to all series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.arguments import Values, numbers
from ots_quant.indicators.volatility import close_to_close

CONE_LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class Betas(NamedTuple):
    """Ordinary least squares of each row of returns on the benchmark's, each of shape (m,), and what they rest on.

    beta: the slope; alpha: the intercept, a log return a bar
    standard_error: of beta, as for residuals of one variance that do not depend on each other
    r_squared: share of the row's variance that the line explains
    observations: returns
    """

    beta: Values
    alpha: Values
    standard_error: Values
    r_squared: Values
    observations: int


class VolatilityCone(NamedTuple):
    """Realised volatilities over all windows of each length; rows of one length are NaN where no window fits.

    levels: the quantiles' probabilities, shape (q,); quantiles: annualised, shape (w, q)
    current: the newest window's volatility, shape (w,)
    share_below: of the windows before the newest, how many were below it, shape (w,); NaN where there is none
    windows: how many there are, shape (w,): each begins a bar after the one before, so they share most of their returns
    independent: how many fit without sharing a return, shape (w,): the sample is worth hardly more than so many
    """

    lengths: tuple[int, ...]
    levels: Values
    quantiles: Values
    current: Values
    share_below: Values
    windows: tuple[int, ...]
    independent: tuple[int, ...]


def log_returns(close: ArrayLike) -> Values:
    """ln(close[i] / close[i - 1]) along the last axis: (..., n) to (..., n - 1).

    Raises ValueError where a close is not above zero or not finite.
    """
    prices = numbers("close", close)
    if not (np.isfinite(prices) & (prices > 0)).all():
        raise ValueError("close must be above zero and finite everywhere")
    found: Values = np.diff(np.log(prices), axis=-1)
    return found


def correlation_matrix(returns: ArrayLike) -> Values:
    """Pearson's correlation of every pair of rows of ``returns`` (m, n): shape (m, m), symmetric, 1 on the diagonal.

    NaN in the row and column of a series that does not move. Raises ValueError for returns that are not finite, or
    fewer than three of them.
    """
    centred = _centred("returns", returns, 2)
    length = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):  # a series that does not move becomes NaN
        unit = np.where(_moves(centred, returns)[:, None], centred / length[:, None], np.nan)
        found: Values = np.clip(unit @ unit.T, -1.0, 1.0)
    # the sum of squares of a unit vector is 1 but for rounding
    diagonal = np.diagonal(found)
    np.fill_diagonal(found, np.where(np.isnan(diagonal), np.nan, 1.0))
    return found


def betas(returns: ArrayLike, benchmark: ArrayLike) -> Betas:
    """The line of each row of ``returns`` (m, n) over ``benchmark`` (n,).

    NaN throughout where the benchmark does not move; R squared is NaN for a row that does not. Raises ValueError for
    returns that are not finite, fewer than three of them, or of another number than the benchmark's.
    """
    rows, by = numbers("returns", returns), numbers("benchmark", benchmark)
    y, x = _centred("returns", rows, 2), _centred("benchmark", by, 1)
    if y.shape[1] != x.size:
        raise ValueError(f"returns has {y.shape[1]} columns, benchmark {x.size} returns")
    squares = (x**2).sum() if _moves(x[None], by[None])[0] else np.nan
    slope = (y @ x) / squares
    residual = ((y - slope[:, None] * x) ** 2).sum(axis=1)
    total = np.where(_moves(y, rows), (y**2).sum(axis=1), np.nan)
    return Betas(
        beta=slope,
        alpha=rows.mean(axis=1) - slope * by.mean(),
        standard_error=np.sqrt(residual / (x.size - 2) / squares),
        r_squared=np.clip(1.0 - residual / total, 0.0, 1.0),
        observations=x.size,
    )


def volatility_cone(
    close: ArrayLike, lengths: Sequence[int], bars_per_year: float, levels: Sequence[float] = CONE_LEVELS
) -> VolatilityCone:
    """Quantiles of the close-to-close volatility of every window of each length, in returns, over ``close`` (n,).

    Quantiles are interpolated linearly between observed volatilities. Nothing is corrected for windows that overlap;
    ``independent`` says how few of them are not the same again. Source: G. Burghardt, M. Lane, How to tell if options
    are cheap, Journal of Portfolio Management 16 (1990). Raises ValueError as `close_to_close` does.
    """
    prices, at = numbers("close", close), numbers("levels", levels)
    returns = max(0, prices.size - 1)
    quantiles = np.full((len(lengths), at.size), np.nan)
    current, below = np.full(len(lengths), np.nan), np.full(len(lengths), np.nan)
    counts = []
    for row, length in enumerate(lengths):
        series = close_to_close(prices, length, bars_per_year)[length:] if returns >= length else np.empty(0)
        counts.append(len(series))
        if not len(series):
            continue
        quantiles[row] = np.quantile(series, at)
        current[row] = series[-1]
        if len(series) > 1:
            below[row] = (series[:-1] < series[-1]).mean()
    independent = tuple(returns // length for length in lengths)
    return VolatilityCone(tuple(lengths), at, quantiles, current, below, tuple(counts), independent)


def _centred(name: str, returns: ArrayLike, dimensions: int) -> Values:
    """``returns`` less their means along the last axis."""
    values = numbers(name, returns)
    if values.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, not {values.ndim}")
    if values.shape[-1] < 3:
        raise ValueError(f"{name} must hold three returns or more, not {values.shape[-1]}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite everywhere")
    centred: Values = values - values.mean(axis=-1, keepdims=True)
    return centred


def _moves(centred: Values, returns: ArrayLike) -> NDArray[np.bool_]:
    """Which rows differ from their mean by more than its rounding."""
    size = np.abs(numbers("returns", returns)).max(axis=-1)
    found: NDArray[np.bool_] = np.abs(centred).max(axis=-1) > 1e-12 * size
    return found
