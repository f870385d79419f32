"""How far the spot is expected to move until each expiration: by the straddle, by one volatility, by the smile."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ots_analytics.chain_expirations import Columns, Expirations, expirations_of, spot_of
from ots_analytics.volatility import delta_volatilities
from ots_quant.density import Assumption, RiskNeutral, flat_move, risk_neutral, smile_move, straddle_move
from ots_quant.parity import two_sided
from ots_quant.surface.model import Surface

if TYPE_CHECKING:
    from ots_chains.priced_chains import PricedChain

QUANTITIES = {
    "mean_absolute": "E|S - F|, the mean distance of the spot at expiration from its forward; of the straddle E|S - K|,"
    " from its strike: what it costs, carried to the expiration",
    "standard_deviation": "of the spot at expiration; of a normal law sqrt(pi / 2) = 1.2533 mean absolute moves",
    "lower, upper": "below, and above, which the spot ends with probability 15.87 % each",
    "desk_convention": "85 % of the straddle's price: in use, without a derivation",
}
ASSUMPTIONS = {
    "straddle": str(Assumption.STRADDLE),
    "flat": f"{Assumption.FLAT_VOLATILITY}, that at the money",
    "smile": f"{Assumption.SMILE}; beyond the quoted strikes by the fitted wings",
    "all": "risk-neutral: what prices imply, no forecast",
}
_SIDES = ("bid", "mid", "ask")
_FAR = 0.15  # standard deviations from the forward to a strike whose straddle costs over 1 % more than one at it
_NO_STRADDLE = "straddle: no strike has a call and a put that are both quoted on two sides"
_LEAST_NEGATIVE = 1e-6

Values = NDArray[np.float64]


class _Straddles(NamedTuple):
    """Of each expiration, shape (expirations,); ``call`` and ``put``: (bid, mid and ask, expirations) dollars."""

    strike: Values
    call: Values
    put: Values


def move_columns(chain: PricedChain) -> Columns:
    """A row an expiration; all moves in dollars until it, NaN where ``reason`` says why."""
    rows = expirations_of(chain)
    surface, spot = chain.surface, spot_of(chain)
    at_the_money = rows.of_slices(delta_volatilities(surface, ())[1][:, 0] if surface is not None else np.empty(0))
    straddles = _straddles(chain, rows, np.where(np.isfinite(rows.forward), rows.forward, spot))
    smiles = [_distribution(surface, int(row)) if surface is not None else None for row in rows.slice_row]
    flat = flat_move(spot, rows.years, rows.rate, rows.dividend_yield, at_the_money)
    columns: Columns = {
        "expiration": rows.date,
        "days_to_expiration": rows.days,
        "years": rows.years,
        "forward": rows.forward,
        "at_the_money": at_the_money,
    }
    columns |= _straddle_columns(straddles, rows)
    columns |= {
        "flat_mean_absolute": flat.mean_absolute,
        "flat_standard_deviation": flat.standard_deviation,
        "flat_lower": flat.lower,
        "flat_upper": flat.upper,
    }
    columns |= _smile_columns(smiles, rows, surface)
    deviation = at_the_money * np.sqrt(rows.years)
    with np.errstate(invalid="ignore"):  # no straddle or no forward: NaN is not far
        distance = np.abs(np.log(straddles.strike / rows.forward)) / deviation
    columns["reason"] = [
        _reason(why, bool(np.isfinite(strike)), float(off), bool(np.isfinite(volatility)), smile)
        for why, strike, off, volatility, smile in zip(
            rows.reason, straddles.strike, distance, at_the_money, smiles, strict=True
        )
    ]
    return columns


def _straddles(chain: PricedChain, rows: Expirations, target: Values) -> _Straddles:
    """At the strike nearest to ``target`` of which both legs are quoted on two sides."""
    strike = np.full(len(rows), np.nan)
    call, put = np.full((2, len(_SIDES), len(rows)), np.nan)
    of_contract = np.searchsorted(rows.date, chain.expiration)
    executable = two_sided(chain.bid, chain.ask) & (chain.reason != "stale")
    for row in np.flatnonzero(np.isfinite(target)):
        own = np.flatnonzero(executable & (of_contract == row))
        calls, puts = own[chain.right[own] > 0], own[chain.right[own] < 0]
        strikes, of_call, of_put = np.intersect1d(chain.strike[calls], chain.strike[puts], return_indices=True)
        if strikes.size:
            nearest = int(np.argmin(np.abs(strikes - target[row])))
            strike[row] = strikes[nearest]
            for leg, contract in ((call, calls[of_call[nearest]]), (put, puts[of_put[nearest]])):
                bid, ask = chain.bid[contract], chain.ask[contract]
                leg[:, row] = bid, (bid + ask) / 2, ask
    return _Straddles(strike, call, put)


def _straddle_columns(straddles: _Straddles, rows: Expirations) -> Columns:
    columns: Columns = {"straddle_strike": straddles.strike}
    # what a straddle costs needs no rate, and so no interest here
    price = straddle_move(straddles.call, straddles.put, rows.years, 0.0)
    move = straddle_move(straddles.call, straddles.put, rows.years, rows.rate)
    columns |= dict(zip((f"straddle_{side}" for side in _SIDES), price.straddle, strict=True))
    columns |= dict(zip((f"straddle_mean_absolute_at_{side}" for side in _SIDES), move.mean_absolute, strict=True))
    middle = _SIDES.index("mid")
    columns["straddle_standard_deviation_at_mid"] = move.standard_deviation[middle]
    columns["straddle_desk_convention_at_mid"] = price.desk_convention[middle]
    return columns


def _distribution(surface: Surface, row: int) -> RiskNeutral | None:
    """What the smile of an expiration implies; None where there is none, or it has no positive volatility somewhere."""
    if row < 0:
        return None
    years = float(surface.years[row])
    try:
        return risk_neutral(lambda strike: surface.volatility(years, strike), float(surface.forward[row]), years)
    except ValueError:
        return None


def _smile_columns(smiles: list[RiskNeutral | None], rows: Expirations, surface: Surface | None) -> Columns:
    found = np.full((5, len(smiles)), np.nan)
    for row, (smile, slice_row) in enumerate(zip(smiles, rows.slice_row, strict=True)):
        if smile is None or surface is None:
            continue
        move = smile_move(smile)
        ends = smile.forward * np.exp([surface.quoted.low[slice_row], surface.quoted.high[slice_row]])
        below = smile.probability_below(ends)
        found[:, row] = move.mean_absolute, move.standard_deviation, move.lower, move.upper, below[1] - below[0]
    names = ("mean_absolute", "standard_deviation", "lower", "upper", "probability_between_quoted_strikes")
    return {f"smile_{name}": values for name, values in zip(names, found, strict=True)}


def _reason(
    why: str | None, straddle: bool, distance: float, at_the_money: bool, smile: RiskNeutral | None
) -> str | None:
    said = [] if straddle else [_NO_STRADDLE]
    if distance > _FAR:
        told = f"its strike lies {distance:.2f} standard deviations from the forward"
        said.append(f"straddle: {told}, so that E|S - K| is more than E|S - F|")
    if why is not None:
        said.append(why)
    else:
        said += [] if at_the_money else ["flat: the forward lies beyond the quoted strikes"]
        if smile is None:
            said.append("smile: it has no positive volatility somewhere")
        elif smile.negative_mass > _LEAST_NEGATIVE:
            said.append(f"smile: it admits arbitrage, negative probability {smile.negative_mass:.2g}")
    return "; ".join(said) or None
