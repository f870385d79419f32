"""Chains as decisions see them, made of the columns in which every answer tells them, wherever they come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ots_chains.told_numbers import DAYS_A_YEAR
from ots_market.prices import SCALE
from ots_signals.market_view import ChainView, Floats, Ints

_INPUTS = (
    "symbol", "years", "bid", "ask", "bid_size", "ask_size", "quoted_at", "volume", "open_interest", "forward", "rate",
)  # fmt: skip


@dataclass(frozen=True)
class ToldChain:
    """A chain in the units of answers: prices in dollars, NaN for a missing side; ``theta`` dollars per calendar day,
    ``vega`` dollars per percentage point; the rest as in `ChainView`."""

    symbol: NDArray[np.str_]
    expiration: NDArray[np.datetime64]
    right: Floats
    strike: Floats
    years: Floats
    bid: Floats
    ask: Floats
    bid_size: Ints
    ask_size: Ints
    quoted_at: Ints
    volume: Ints
    open_interest: Ints
    forward: Floats
    rate: Floats
    dividend_yield: Floats
    implied_volatility: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    theoretical: Floats
    reason: NDArray[np.str_]

    def view(
        self, underlying: str, at_ns: int, source: str, spot: tuple[float, int] | None, quote_age_ns: int, gaps: int
    ) -> ChainView:
        """``spot``: dollars, and its time in ns; ``quote_age_ns``: older quotes do not count."""
        price, spot_at_ns = spot or (float("nan"), 0)
        fresh = (self.quoted_at > 0) & (self.quoted_at >= at_ns - quote_age_ns)
        bid, ask = (np.where(fresh & (side > 0), np.rint(side * SCALE), 0.0) for side in (self.bid, self.ask))
        crossed = (bid > 0) & (ask > 0) & (bid > ask)
        columns = {f.name: getattr(self, f.name) for f in fields(self)} | {
            "bid": np.where(crossed, 0.0, bid).astype(np.int64),
            "ask": np.where(crossed, 0.0, ask).astype(np.int64),
            "theta": self.theta * DAYS_A_YEAR,
            "vega": self.vega * 100,
        }
        digest = hashlib.blake2b(repr((underlying, at_ns, source, price, spot_at_ns, gaps)).encode(), digest_size=16)
        for name in _INPUTS:
            digest.update(np.ascontiguousarray(columns[name]).tobytes())
        return ChainView(
            underlying=underlying,
            at_ns=at_ns,
            source=source,
            spot=price,
            spot_at_ns=spot_at_ns,
            **columns,
            gaps=gaps,
            digest=digest.hexdigest(),
        )


def no_chain(underlying: str, at_ns: int, source: str) -> ChainView:
    """That of a moment at which no contract was listed."""
    text, day, whole, number = (np.zeros(0, kind) for kind in ("U1", "datetime64[D]", np.int64, np.float64))
    nothing = ToldChain(
        symbol=text, expiration=day, right=number, strike=number, years=number, bid=number, ask=number, bid_size=whole,
        ask_size=whole, quoted_at=whole, volume=whole, open_interest=whole, forward=number, rate=number,
        dividend_yield=number, implied_volatility=number, delta=number, gamma=number, theta=number, vega=number,
        theoretical=number, reason=text,
    )  # fmt: skip
    return nothing.view(underlying, at_ns, source, None, 0, 0)
