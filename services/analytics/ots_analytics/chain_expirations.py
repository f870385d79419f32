"""The live expirations of a priced chain, one row each: where they stand in its forwards and in its surface."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ots_analytics.volatility import WHY_NO_FORWARD
from ots_common.problems import FieldError, Problem
from ots_market.prices import SCALE
from ots_quant.parity import Reason
from ots_quant.surface.build import Shape

if TYPE_CHECKING:
    from ots_chains.priced_chains import PricedChain

Columns = dict[str, Any]
"""Of a table, by name: what `ots_common.tables.columns_response` takes."""

_SHAPES = {int(shape): shape.name.lower() for shape in Shape}
_SAME_YEARS = 1e-7  # three seconds, as ots_quant.parity groups them


@dataclass(frozen=True)
class Expirations:
    """Arrays of shape (expirations,), nearest first; NaN and -1 where there is nothing, and ``reason`` says why.

    ``date``: datetime64[D]; ``days``: calendar days from the session's date; ``slice_row``: row of the surface;
    ``reason``: why there is no slice, None where there is one.
    """

    date: NDArray[np.datetime64]
    days: NDArray[np.int64]
    years: NDArray[np.float64]
    forward: NDArray[np.float64]
    forward_low: NDArray[np.float64]
    forward_high: NDArray[np.float64]
    rate: NDArray[np.float64]
    dividend_yield: NDArray[np.float64]
    slice_row: NDArray[np.intp]
    shape: list[str | None]
    reason: list[str | None]

    def __len__(self) -> int:
        return len(self.date)

    @property
    def has_slice(self) -> NDArray[np.bool_]:
        """Where the surface has a smile of its own."""
        return self.slice_row >= 0

    def of_slices(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """``values`` (slices, ...) of each expiration's own slice, NaN where there is none."""
        missing = np.full((1, *values.shape[1:]), np.nan)
        return np.concatenate([values, missing])[self.slice_row]


def expirations_of(chain: PricedChain) -> Expirations:
    """The expirations of all contracts of ``chain``."""
    dates, first = np.unique(chain.expiration, return_index=True)
    years = chain.years[first]
    nowhere = np.full(len(dates), -1)
    surface, forwards = chain.surface, chain.forwards
    slice_row = _rows_near(surface.years, years) if surface is not None else nowhere
    forward_row = forwards.rows_of(years) if forwards is not None else nowhere

    def of_forwards(name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = np.append(getattr(forwards, name, ()), np.nan)[forward_row]
        return values

    return Expirations(
        date=dates,
        days=days_from(chain, dates),
        years=years,
        forward=of_forwards("forward"),
        forward_low=of_forwards("forward_low"),
        forward_high=of_forwards("forward_high"),
        rate=of_forwards("rate"),
        dividend_yield=of_forwards("dividend_yield"),
        slice_row=slice_row,
        shape=[
            None if surface is None or row < 0 else Shape(int(surface.shape[row])).name.lower() for row in slice_row
        ],
        reason=[_why_no_slice(chain, int(of), int(row)) for of, row in zip(forward_row, slice_row, strict=True)],
    )


def days_from(chain: PricedChain, dates: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Calendar days from the date of the chain's session."""
    return (dates - np.datetime64(chain.moment.session, "D")).astype(np.int64)


def _rows_near(known: NDArray[np.float64], years: NDArray[np.float64]) -> NDArray[np.intp]:
    """The row of ``known`` (rising) at each time, -1 where it has none."""
    padded = np.concatenate([[-np.inf], known, [np.inf]])
    right = np.searchsorted(padded[:-1], years)
    nearest = np.where(padded[right] - years < years - padded[right - 1], right, right - 1)
    return np.where(np.abs(padded[nearest] - years) <= _SAME_YEARS, nearest - 1, -1)


def _why_no_slice(chain: PricedChain, forward_row: int, slice_row: int) -> str | None:
    if slice_row >= 0:
        return None
    if (nothing := why_unpriced(chain)) is not None:
        return nothing
    codes = chain.forwards.reason if chain.forwards is not None and forward_row >= 0 else [Reason.NO_PAIRS]
    why = WHY_NO_FORWARD.get(Reason(int(codes[max(forward_row, 0)])))
    return f"no_forward: {why}" if why is not None else "no contract tells its volatility"


def why_unpriced(chain: PricedChain) -> str | None:
    """Why nothing of the chain has a volatility: no spot, or no rate; None where both are known."""
    if chain.spot is None:
        return f"no_spot: {chain.quality['no_spot']}"
    return f"no_rate: {chain.rate.detail}" if chain.rate.kind is None else None


def only_expiration(chain: PricedChain, wanted: date | None) -> PricedChain:
    """The contracts of one expiration, or of all for None. Raises a 404 problem with those that there are."""
    return chain if wanted is None else chain.take(_expiring(chain, chain.expiration, wanted))


def columns_of(columns: Columns, chain: PricedChain, wanted: date | None) -> Columns:
    """The row of one expiration, or all for None. Raises a 404 problem with those that there are."""
    if wanted is None:
        return columns
    row = int(np.flatnonzero(_expiring(chain, columns["expiration"], wanted))[0])
    return {name: values[row : row + 1] for name, values in columns.items()}


def _expiring(chain: PricedChain, dates: NDArray[np.datetime64], wanted: date) -> NDArray[np.bool_]:
    own: NDArray[np.bool_] = dates == np.datetime64(wanted, "D")
    if own.any():
        return own
    available = [str(day) for day in np.unique(chain.expiration)]
    detail = f"no live contract of {chain.underlying} expires on {wanted}"
    raise Problem(
        404,
        "no-such-expiration",
        detail,
        errors=[FieldError("#/query/expiration", detail)],
        hint=f"take one of `available`, such as expiration={available[0]}",
        extra={"available": available},
    )


def spot_of(chain: PricedChain) -> float:
    """The price of the underlying in dollars, NaN where there is none."""
    return chain.spot.price / SCALE if chain.spot is not None else math.nan


def known(value: float) -> float | None:
    """A number that JSON can hold: None for what is not finite."""
    return float(value) if math.isfinite(value) else None
