"""Where a position's move came from: the spot, its curvature, time, implied volatility, and what is left.

To first order along the path: at each minute the Greeks of the minute before, at the volatility that its mid implied
then, times what changed until this one. Implied volatilities are of European options without rates and dividends: the
entry and the exit are read with the same formula, so what rates and early exercise are worth cancels but for what they
change within the day, which is in the residual.
"""

from __future__ import annotations

import numpy as np

from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS
from ots_quant import european
from ots_signals.decisions import Signal
from ots_signals.market_view import Floats, Ints, Tape
from ots_signals.outcomes import Attribution
from ots_signals.position_values import mids

_YEAR_NS = 365 * DAY_NS
_DOLLAR = 1e9


def expiry_ns(sessions: Sessions, expiration: str) -> int:
    """The close of an expiration's session; of the last one before it where its day is none."""
    at = int(np.searchsorted(sessions.dates, np.datetime64(expiration), side="right")) - 1
    return int(sessions.closes[at])


def attribute(signal: Signal, tape: Tape, rows: Ints, first: int, last: int, sessions: Sessions) -> Attribution | None:
    """Of the mid's move from the event to column ``last``, as returns on the entry's capital.

    ``rows``: of the legs in the tape; ``first``: the first column after the event. Minutes without a spot or without
    the mid of a leg are passed over. None where the entry or the exit has none, or a mid there implies no volatility.
    """
    legs = signal.legs
    columns = slice(first, last + 1)
    bid = np.column_stack(([leg.bid for leg in legs], tape.bid[rows, columns]))
    ask = np.column_stack(([leg.ask for leg in legs], tape.ask[rows, columns]))
    mid = mids(bid, ask) / _DOLLAR
    spot = np.concatenate(([signal.underlying_price], tape.spot[columns]))
    at = np.concatenate(([signal.event_ns], tape.ends[columns]))
    ends = np.array([expiry_ns(sessions, leg.expiration) for leg in legs], np.int64)
    years = (ends[:, None] - at) / _YEAR_NS
    right = np.array([1.0 if leg.right == "C" else -1.0 for leg in legs])[:, None]
    strike = np.array([leg.strike / _DOLLAR for leg in legs])[:, None]
    volatility = european.implied_volatility(mid, right, spot, strike, years, 0.0, 0.0)
    known = np.isfinite(spot) & np.isfinite(volatility).all(axis=0)
    if not (known[0] and known[-1]):
        return None
    mid, volatility, years, spot = mid[:, known], volatility[:, known], years[:, known], spot[known]
    greeks = european.greeks(right, spot, strike, years, 0.0, 0.0, volatility)
    weight = np.array([float(leg.quantity) for leg in legs])[:, None] * _DOLLAR / signal.entry.capital

    def summed(changes: Floats) -> float:
        return float((weight * changes).sum())

    moved, passed = np.diff(spot), -np.diff(years, axis=1)
    parts = (
        summed(greeks.delta[:, :-1] * moved),
        summed(0.5 * greeks.gamma[:, :-1] * moved**2),
        summed(greeks.theta[:, :-1] * passed),
        summed(greeks.vega[:, :-1] * np.diff(volatility, axis=1)),
    )
    return Attribution(*parts, residual=summed(mid[:, -1:] - mid[:, :1]) - sum(parts))
