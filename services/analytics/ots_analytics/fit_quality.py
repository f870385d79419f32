"""How well the newest snapshot's surface fits the contracts that it was fitted to, as metrics by underlying."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from ots_market.underlyings import counted_as

if TYPE_CHECKING:
    from ots_chains.priced_chains import PricedChain

FIT_ERROR = Gauge(
    "ots_snapshots_fit_error_ratio",
    "Of the newest snapshot: surface less implied volatility over the contracts fitted, a decimal a year: rms or max;"
    " NaN without a surface",
    ["underlying", "kind"],
)
FIT_WITHIN_SPREAD = Gauge(
    "ots_snapshots_fit_within_spread_ratio",
    "Of the newest snapshot: part of the contracts fitted whose bid and ask enclose the surface; NaN without a surface",
    ["underlying"],
)
_newest_ns: dict[str, int] = {}


def observe_fit(chain: PricedChain) -> None:
    """Show the fit of a snapshot's chain, unless a later moment's is shown: closes are caught up with in between."""
    underlying = counted_as(chain.underlying)
    if chain.moment.at_ns < _newest_ns.get(underlying, 0):
        return
    _newest_ns[underlying] = chain.moment.at_ns
    found = chain.surface.certificate if chain.surface is not None and chain.surface.years.size else None
    FIT_ERROR.labels(underlying, "rms").set(found.rms_volatility if found else math.nan)
    FIT_ERROR.labels(underlying, "max").set(found.max_volatility if found else math.nan)
    FIT_WITHIN_SPREAD.labels(underlying).set(found.share_within_spread if found else math.nan)
