"""What a scan found as a table: a row a contract, in the units that clients read."""

from __future__ import annotations

from typing import Any

import numpy as np

from ots_analytics.scanning import SHARES, Candidates, Move
from ots_common.tables import Times, Whole

UNITS = {
    "spot, strike, bid, ask, mid, theoretical, _bid, _mid": "dollars a share",
    "spread_pct": "per cent of the mid",
    "quote_age_s": "seconds before as_of",
    "bid_size, ask_size, volume, open_interest": "contracts; volume of this session so far",
    "ask_size_dollars": "dollars that the size at the ask costs",
    "delta": "per dollar of the underlying",
    "implied_volatility": "of the mid, a decimal a year, American exercise",
    "volatility": "of the surface fitted to the whole chain, which the probabilities rest on; theoretical: worth at it",
    "days_to_expiration": "calendar days from the session's date",
    "cost, outlay, expected_value": "dollars a contract; cost: the spread and both fees, outlay: the ask and one fee",
    "_pct": "cost and expected_value in per cent of the outlay, _underlying in per cent of the spot",
    "_underlying": "dollars by which the spot must move at once, up or down; _at_horizon: if it does so at the end",
    "_deviations": "that move in standard deviations of the horizon, at `volatility`",
    "_probability": "of touching within the horizon, a decimal; _at_least and _at_most bound it",
    "_frictionless": "the same for the mid of now raised by the move, without spread and fees: the baseline",
}
# digits after the point: far below what quotes tell, and a third of the bytes
_DIGITS = 6

_HEAD = (
    "underlying", "symbol", "expiration", "days_to_expiration", "strike", "right", "spot", "bid", "ask", "mid",
    "bid_size", "ask_size", "ask_size_dollars", "spread_pct", "quote_time", "quote_age_s", "volume", "open_interest",
    "delta", "implied_volatility", "volatility", "theoretical", "outlay", "cost", "cost_pct", "expected_value",
    "expected_value_pct",
)  # fmt: skip
_OF_A_MOVE = (
    "bid", "mid", "probability", "at_least", "at_most", "frictionless", "underlying", "underlying_pct", "deviations",
    "underlying_at_horizon",
)  # fmt: skip
_OF_BREAK_EVEN = tuple(name for name in _OF_A_MOVE if name not in ("at_least", "at_most", "frictionless"))
CANDIDATE_COLUMNS = (
    *_HEAD,
    *(f"break_even_{name}" for name in _OF_BREAK_EVEN),
    *(f"{move}_{name}" for move in ("min_move", "max_move") for name in _OF_A_MOVE),
)


def candidate_columns(found: Candidates) -> dict[str, Any]:
    """The columns of `CANDIDATE_COLUMNS`, for `ots_common.tables.columns_response`."""
    quoted, outlay = found.quoted, found.outlay
    head = {
        "underlying": quoted.underlying,
        "symbol": quoted.symbol,
        "expiration": quoted.expiration,
        "days_to_expiration": quoted.days,
        "strike": quoted.strike,
        "right": np.where(quoted.right > 0, "C", "P"),
        "spot": quoted.spot,
        "bid": quoted.bid,
        "ask": quoted.ask,
        "mid": found.trip.mid,
        "bid_size": Whole(quoted.bid_size, quoted.bid_size < 0),
        "ask_size": Whole(quoted.ask_size, quoted.ask_size < 0),
        "ask_size_dollars": np.where(quoted.ask_size < 0, np.nan, SHARES * quoted.ask * quoted.ask_size),
        "spread_pct": quoted.spread_pct,
        "quote_time": Times(quoted.quoted_at),
        "quote_age_s": quoted.quote_age_s,
        "volume": quoted.volume,
        "open_interest": Whole(quoted.open_interest, quoted.open_interest < 0),
        "delta": quoted.delta,
        "implied_volatility": quoted.implied_volatility,
        "volatility": quoted.volatility,
        "theoretical": quoted.theoretical,
        "outlay": outlay,
        "cost": found.cost,
        "cost_pct": 100.0 * found.cost / outlay,
        "expected_value": found.expected_value,
        "expected_value_pct": 100.0 * found.expected_value / outlay,
    }
    moves = (
        ("break_even", found.break_even, _OF_BREAK_EVEN),
        ("min_move", found.lesser, _OF_A_MOVE),
        ("max_move", found.greater, _OF_A_MOVE),
    )
    columns = head | {
        f"{prefix}_{name}": values
        for prefix, move, names in moves
        for name, values in _move_columns(found, move).items()
        if name in names
    }
    return {name: _rounded(values) for name, values in columns.items()}


def _move_columns(found: Candidates, move: Move) -> dict[str, Any]:
    spot = found.quoted.spot
    return {
        "bid": move.bid,
        "mid": move.mid,
        "probability": move.probability,
        "at_least": move.at_least,
        "at_most": move.at_most,
        "frictionless": move.frictionless,
        "underlying": move.level - spot,
        "underlying_pct": 100.0 * (move.level / spot - 1.0),
        "deviations": np.log(move.level / spot) / found.deviation,
        "underlying_at_horizon": move.level_at_horizon - spot,
    }


def _rounded(values: Any) -> Any:
    return np.round(values, _DIGITS) if isinstance(values, np.ndarray) and values.dtype.kind == "f" else values
