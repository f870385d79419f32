"""American options on a Leisen-Reimer tree: cash dividends, and rates with two exercise boundaries.

The European price is exact; the tree adds the premium of early exercise, extrapolated from two trees. See
`ots_quant.kernels.american_tree` for the method and its references. Used through `ots_quant.american`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant import european
from ots_quant.arguments import numbers
from ots_quant.greeks import Greeks
from ots_quant.kernels import american_tree as kernels

Values = NDArray[np.float64]

_STEPS = (201, 401)
_VOLATILITY_BUMP, _RATE_BUMP, _TIME_BUMP = 0.01, 1e-3, 0.01


class CashDividends(NamedTuple):
    """Dividends in dollars a share: ``years`` from now to each ex-date, and ``amounts``; both of shape (m,)."""

    years: ArrayLike
    amounts: ArrayLike


class Terms(NamedTuple):
    """Contracts as vectors of one length, every number of them good: positive spot, strike, years and volatility."""

    right: Values
    spot: Values
    strike: Values
    years: Values
    rate: Values
    dividend_yield: Values
    volatility: Values

    def where(self, chosen: NDArray[np.bool_]) -> Terms:
        """The contracts that a mask chooses."""
        return Terms(*(values[chosen] for values in self))


def checked(dividends: CashDividends | None) -> CashDividends:
    """Dividends as vectors; none where None. Raises ValueError for what cannot be dividends."""
    if dividends is None:
        return CashDividends(np.empty(0), np.empty(0))
    years, amounts = numbers("dividends.years", dividends.years), numbers("dividends.amounts", dividends.amounts)
    if years.ndim != 1 or years.shape != amounts.shape:
        raise ValueError(f"dividends must be two arrays of shape (m,), not {years.shape} and {amounts.shape}")
    if not (np.isfinite(years).all() and np.isfinite(amounts).all() and (amounts >= 0.0).all()):
        raise ValueError("dividends must have finite years and amounts of 0 or more")
    return CashDividends(np.ascontiguousarray(years), np.ascontiguousarray(amounts))


def escrowed(terms: Terms, dividends: CashDividends) -> Values:
    """The present value, at each contract's rate, of the dividends that go ex after now and before it expires."""
    waits, amounts = np.asarray(dividends.years), np.asarray(dividends.amounts)
    total: Values = np.zeros(len(terms.years))
    for wait, amount in zip(waits, amounts, strict=True):
        if wait > 0.0:
            total += np.where(wait < terms.years, amount * np.exp(-terms.rate * wait), 0.0)
    return total


def price(terms: Terms, dividends: CashDividends) -> Values:
    """Prices; NaN where the dividends are worth more than the spot."""
    bare = _bare(terms, dividends)
    value = european.price(*bare) + _premium(bare, dividends)[0]
    return np.maximum(value, terms.right * (terms.spot - terms.strike))


def greeks(terms: Terms, dividends: CashDividends) -> Greeks:
    """Prices and derivatives: delta and gamma from the trees' nodes, theta by the equation that prices obey.

    The derivatives to volatility, rate and time are central differences (1 % of the volatility, 10 basis points, 1 % of
    the time or a day). A contract to be exercised at once has the derivatives of its intrinsic value.
    """
    value, delta, gamma = _by_spot(terms, dividends)
    width = _VOLATILITY_BUMP * terms.volatility
    above = _by_spot(terms._replace(volatility=terms.volatility + width), dividends)
    below = _by_spot(terms._replace(volatility=terms.volatility - width), dividends)
    richer = price(terms._replace(rate=terms.rate + _RATE_BUMP), dividends)
    poorer = price(terms._replace(rate=terms.rate - _RATE_BUMP), dividends)
    later, moved = _later(terms, dividends)
    _, later_delta, _ = _by_spot(terms._replace(years=terms.years - later), moved)
    escrow = escrowed(terms, dividends)
    diffusing = terms.spot - escrow
    theta = terms.rate * (value - terms.spot * delta) + terms.dividend_yield * diffusing * delta
    theta -= 0.5 * (terms.volatility * diffusing) ** 2 * gamma
    alive = value > terms.right * (terms.spot - terms.strike)
    return Greeks(
        price=value,
        delta=delta,
        gamma=gamma,
        theta=np.where(alive, theta, 0.0),
        vega=(above[0] - below[0]) / (2.0 * width),
        rho=(richer - poorer) / (2.0 * _RATE_BUMP),
        vanna=(above[1] - below[1]) / (2.0 * width),
        charm=np.where(alive, (later_delta - delta) / later, 0.0),
        vomma=(above[0] - 2.0 * value + below[0]) / width**2,
    )


def _bare(terms: Terms, dividends: CashDividends) -> Terms:
    """The contracts on the spot that diffuses: NaN where the dividends leave nothing of it."""
    spot = terms.spot - escrowed(terms, dividends)
    return terms._replace(spot=np.where(spot > 0.0, spot, np.nan))


def _by_spot(terms: Terms, dividends: CashDividends) -> tuple[Values, Values, Values]:
    """Price, delta and gamma."""
    bare = _bare(terms, dividends)
    whole = european.greeks(*bare)
    premium, delta, gamma = _premium(bare, dividends)
    value, intrinsic = whole.price + premium, terms.right * (terms.spot - terms.strike)
    alive = ~(value <= intrinsic + 1e-12 * terms.spot)
    return (
        np.where(alive, value, intrinsic),
        np.where(alive, whole.delta + delta, terms.right),
        np.where(alive, whole.gamma + gamma, 0.0),
    )


def _premium(bare: Terms, dividends: CashDividends) -> tuple[Values, Values, Values]:
    """The premium of early exercise and its first two derivatives, their error of first order extrapolated away."""
    coarse, fine = (np.empty((3, len(bare.spot))) for _ in _STEPS)
    for steps, out in zip(_STEPS, (coarse, fine), strict=True):
        kernels.premium(*bare, dividends.years, dividends.amounts, steps, out)
    weight = _STEPS[0] / (_STEPS[1] - _STEPS[0])
    premium, delta, gamma = fine + weight * (fine - coarse)
    return np.maximum(premium, 0.0), delta, gamma


def _later(terms: Terms, dividends: CashDividends) -> tuple[float, CashDividends]:
    """A small step in time that crosses neither an ex-date nor an expiration, and the dividends seen from there."""
    waits = np.asarray(dividends.years)
    step = min(1.0 / 365.0, _TIME_BUMP * terms.years.min(initial=1.0), 0.5 * waits[waits > 0.0].min(initial=1.0))
    return step, CashDividends(waits - step, dividends.amounts)
