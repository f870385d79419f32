"""What all open contracts of a chain hold in stock, under every assumption about who holds them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ots_analytics.chain_expirations import Columns, days_from, known, spot_of, why_unpriced
from ots_analytics.open_interest import max_pain_columns, max_pains_of, published, why_no_max_pain
from ots_quant import american
from ots_quant.exposure import (
    Contracts,
    DealerSide,
    Exposure,
    exposure,
    exposure_band,
    exposure_by_strike,
    zero_gamma,
)
from ots_quant.greeks import Greeks

if TYPE_CHECKING:
    from ots_chains.priced_chains import PricedChain

Side = Literal["calls_long_puts_short", "calls_short_puts_long", "all_short", "all_long"]
Volatility = Literal["filled", "quoted"]
By = Literal["strike", "expiration"]

SIDES: dict[Side, DealerSide] = {
    "calls_long_puts_short": DealerSide.CALLS_LONG_PUTS_SHORT,
    "calls_short_puts_long": DealerSide.CALLS_SHORT_PUTS_LONG,
    "all_short": DealerSide.ALL_SHORT,
    "all_long": DealerSide.ALL_LONG,
}
UNITS = {
    "delta": "dollars of stock that the open contracts stand for",
    "gamma": "dollars of stock per 1 % rise of the spot",
    "vanna": "dollars of stock per rise of volatility by one percentage point",
    "charm": "dollars of stock per calendar day that passes",
    "strike, zero_gamma, max_pain": "dollars",
}
WHO_IS_LONG = (
    "Open interest does not say who is long. Each figure takes one assumption about the dealers; `least` and `greatest`"
    " span all four. Where they span zero, as in total they always do, the sign of a figure is the assumption"
)
_NAMES = ("gamma", "delta", "vanna", "charm")
_ALL_LEFT_OUT = "all of its contracts are left out"
_WIDTHS = (0.01, 0.002, 0.0004)  # around a level found with European Greeks, where American ones look again


@dataclass(frozen=True)
class Held:
    """The contracts of a chain with a spot, the volatility each is taken at, and their Greeks at the spot.

    ``filled``: where the volatility is the surface's, shape (contracts,).
    """

    chain: PricedChain
    contracts: Contracts
    greeks: Greeks
    filled: NDArray[np.bool_]

    @property
    def spot(self) -> float:
        """In dollars."""
        return spot_of(self.chain)

    def of_spot(self, *_: Any) -> Greeks:
        """The Greeks at the spot, computed once."""
        return self.greeks


def held_by(chain: PricedChain, volatility: Volatility) -> Held | None:
    """``quoted``: each contract at its own implied volatility; ``filled``: one without it at that of the surface.

    The surface speaks within its quoted strikes only. None for a chain without a spot.
    """
    if chain.spot is None:
        return None
    own = chain.implied_volatility
    filled = np.zeros(own.shape, np.bool_)
    if volatility == "filled" and chain.surface is not None and chain.surface.years.size:
        filled = ~np.isfinite(own) & chain.surface.inside(chain.years, chain.strike)
        own = np.where(filled, chain.surface.volatility(chain.years, chain.strike), own)
    terms = (chain.strike, chain.years, chain.carry_rate, chain.dividend_yield, own)
    greeks = american.greeks(chain.right, spot_of(chain), *terms)
    return Held(chain, Contracts(chain.right, *terms, published(chain)), greeks, filled)


def totals_of(held: Held | None) -> dict[str, Any]:
    """Of all contracts, under each assumption, and the least and the greatest of them; None where nothing is known."""
    if held is None:
        nothing: dict[str, float | None] = dict.fromkeys(_NAMES)
        return {"assumptions": dict.fromkeys(SIDES, nothing), "least": nothing, "greatest": nothing}
    band = exposure_band(held.spot, held.contracts, greeks=held.of_spot)
    return {
        "assumptions": {
            name: _numbers(exposure(held.spot, held.contracts, side, greeks=held.of_spot)[1])
            for name, side in SIDES.items()
        },
        "least": _numbers(band.total_low),
        "greatest": _numbers(band.total_high),
    }


def _numbers(total: Exposure) -> dict[str, float | None]:
    return {name: known(float(getattr(total, name))) for name in _NAMES}


def left_out_of(chain: PricedChain, held: Held | None) -> dict[str, Any]:
    """Contracts, with open interest or unknown open interest, that are in no sum, by reason; and what they hold."""
    out, interest = _left_out(chain, held), np.nan_to_num(published(chain))
    why = np.where(chain.reason == "", "no_greeks", chain.reason)
    reasons = np.where(chain.open_interest < 0, "no_open_interest", why)
    filled = held.filled if held is not None else np.zeros(len(chain), np.bool_)
    return {
        "contracts": int(out.sum()),
        "reasons": dict(sorted(Counter(reasons[out].tolist()).items())),
        "open_interest": int(interest[out].sum()),
        "of_open_interest": int(interest.sum()),
        "at_the_surfaces_volatility": int((filled & ~out & (interest > 0)).sum()),
    }


def _left_out(chain: PricedChain, held: Held | None) -> NDArray[np.bool_]:
    if held is None:
        unknown: NDArray[np.bool_] = chain.open_interest != 0
        return unknown
    each, _ = exposure(held.spot, held.contracts, DealerSide.ALL_LONG, greeks=held.of_spot)
    return each.left_out > 0


def exposure_columns(chain: PricedChain, held: Held | None, by: By, side: Side) -> Columns:
    """A row a strike or an expiration: under ``side``, and the least and greatest under all assumptions."""
    key, row = np.unique(getattr(chain, by), return_inverse=True)
    columns: Columns = {by: key}
    pains = max_pains_of(chain, row, len(key)) if by == "expiration" else []
    if by == "expiration":
        columns |= {"days_to_expiration": days_from(chain, key), **max_pain_columns(pains)}
    columns |= _by_key(held, row, len(key), side)
    columns["left_out"] = np.bincount(row, _left_out(chain, held), len(key)).astype(np.int64)
    said = [[] if one else [_ALL_LEFT_OUT] for one in np.isfinite(columns["gamma"]).tolist()]
    for reasons, pain in zip(said, pains, strict=False):
        reasons += why_no_max_pain(pain)
    columns["reason"] = ["; ".join(reasons) or None for reasons in said]
    return columns


def _by_key(held: Held | None, row: NDArray[np.intp], keys: int, side: Side) -> Columns:
    """Sums over the contracts of each key, NaN where all are left out."""
    if held is None:
        return {f"{name}{end}": np.full(keys, np.nan) for name in _NAMES for end in ("", "_least", "_greatest")}
    # the Greeks are computed already: a strike is here but the key that is summed by
    keyed = held.contracts._replace(strike=row.astype(np.float64))
    profile = exposure_by_strike(held.spot, keyed, SIDES[side], greeks=held.of_spot)
    band = exposure_band(held.spot, keyed, greeks=held.of_spot)
    columns: Columns = {}
    for name in _NAMES:
        columns[name] = getattr(profile.exposure, name)
        columns[f"{name}_least"] = getattr(band.low, name)
        columns[f"{name}_greatest"] = getattr(band.high, name)
    return columns


def zero_gamma_of(chain: PricedChain, held: Held | None, side: Side, *, profile: bool) -> dict[str, Any]:
    """Where total gamma changes sign as the spot moves, each contract keeping its volatility; None, and why.

    Found on a grid with European Greeks, and the level next to the spot then once more with American ones.
    """
    answer: dict[str, Any] = {
        "spot": None,
        "all": [],
        "exercise": None,
        "reason": why_unpriced(chain),
        "assumption": f"{side}; each contract keeps its volatility while the spot moves (sticky strike)",
        "searched": None,
        "profile": [] if profile else None,
    }
    if held is None or not (np.isfinite(held.greeks.gamma) & (chain.open_interest > 0)).any():
        return answer | {"reason": why_unpriced(chain) or "no contract has both a volatility and open interest"}
    found = zero_gamma(held.spot, held.contracts, SIDES[side])
    answer |= {
        "all": [float(level) for level in found.levels],
        "reason": found.reason or None,
        "searched": {"from": float(found.spots[0]), "to": float(found.spots[-1]), "points": len(found.spots)},
    }
    if profile:
        pairs = zip(found.spots, found.gamma, strict=True)
        answer["profile"] = [{"spot": float(spot), "gamma": float(gamma)} for spot, gamma in pairs]
    if found.levels.size:
        answer["spot"], answer["exercise"] = _refined(held, SIDES[side], found.nearest)
    return answer


def _refined(held: Held, side: DealerSide, level: float) -> tuple[float, Literal["american", "european"]]:
    """A level once more with American Greeks, closer and closer; as it was where those show none near it."""
    exercise: Literal["american", "european"] = "european"
    for width in _WIDTHS:
        spots = level * np.linspace(1.0 - width, 1.0 + width, 5)
        near = zero_gamma(held.spot, held.contracts, side, spots=spots, greeks=american.greeks)
        if not near.levels.size:
            break
        level, exercise = float(near.levels[np.argmin(np.abs(near.levels - level))]), "american"
    return level, exercise
