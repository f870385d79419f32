"""The implied volatility of a chain at a moment: per expiration, and at a constant 30 days."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ots_analytics.chain_rates import Rate
from ots_analytics.chains import Chain
from ots_market.prices import SCALE
from ots_quant import american
from ots_quant.european import NoVolatility
from ots_quant.parity import Forwards, Reason, implied_forwards
from ots_quant.surface.build import Shape, fit_surface
from ots_quant.surface.model import Surface
from ots_quant.surface.quotes import LeftOut

METHOD = "american parity svi 1"
"""Changes with every change of this computation, so that what was stored is computed anew."""
CONSTANT_YEARS = 30 / 365
WHY_NO_FORWARD = {
    Reason.EXPIRED: "it has expired",
    Reason.NO_PAIRS: "no strike has a two-sided call and put",
    Reason.NO_RATE: "no rate",
    Reason.PAIRS_DISAGREE: "no forward agrees with half of the pairs",
}
_BOUNDS = {
    NoVolatility.BELOW_INTRINSIC: "below_intrinsic",
    NoVolatility.ABOVE_BOUND: "above_bound",
}


@dataclass(frozen=True)
class Expiration:
    """An expiration of a snapshot; None where ``reason`` says why. Volatilities and rates: decimals a year."""

    expiration: date
    years: float
    forward: float | None
    forward_low: float | None
    forward_high: float | None
    rate: float | None
    rate_low: float | None
    rate_high: float | None
    dividend_yield: float | None
    at_the_money: float | None
    call_25_delta: float | None
    put_25_delta: float | None
    shape: str | None
    reason: str | None
    contracts_used: int
    contracts_refused: dict[str, int]


@dataclass(frozen=True)
class Snapshot:
    """The implied volatility of an underlying at a moment."""

    chain: Chain
    rate: Rate
    volatility_30d: float | None
    volatility_30d_reason: str | None
    contracts_used: int
    contracts_refused: dict[str, int]
    expirations: tuple[Expiration, ...]
    data_version: bytes


def data_version(chain: Chain, rate_inputs: bytes, max_age_ns: int) -> bytes:
    """A digest of the inputs and the method."""
    said = repr((METHOD, max_age_ns)).encode()
    return hashlib.blake2b(said + rate_inputs + chain.digest(), digest_size=16).digest()


def take_snapshot(chain: Chain, rate: Rate, max_age_ns: int, version: bytes) -> Snapshot:
    """The snapshot of a chain that is not empty; a quote older than ``max_age_ns`` has no part in it."""
    fresh = chain.quoted_at >= chain.moment.at_ns - max_age_ns
    alive = chain.years > 0
    if chain.spot is None:
        refused = np.where(~alive, "expired", np.where(fresh, "no_spot", "stale"))
        reason = f"no price of {chain.underlying} in the {max_age_ns // 10**9} s before"
        return Snapshot(chain, rate, None, reason, 0, _counts(refused), (), version)
    spot = chain.spot.price / SCALE
    # a quote that does not count is one without sides
    bid, ask = np.where(fresh, chain.bid, np.nan), np.where(fresh, chain.ask, np.nan)
    rates = rate.of(chain.years)
    forwards = implied_forwards(chain.right, chain.strike, chain.years, bid, ask, spot, rate=rates)
    carry = forwards.carry_of(chain.years)
    surface = fit_surface(chain.right, chain.strike, chain.years, bid, ask, spot, carry.forward, carry.rate)
    refused = _refusals(chain, surface, fresh, (bid + ask) / 2, carry.rate, carry.dividend_yield)
    volatilities = _volatilities(surface)
    expirations = tuple(
        _expiration(chain, rate, forwards, surface, volatilities, refused, day)
        for day in np.unique(chain.expiration[alive])
    )
    constant, why = constant_maturity(surface, rate)
    return Snapshot(chain, rate, constant, why, int((refused == "").sum()), _counts(refused), expirations, version)


def _refusals(
    chain: Chain,
    surface: Surface,
    fresh: NDArray[np.bool_],
    mid: NDArray[np.float64],
    rate: NDArray[np.float64],
    dividend_yield: NDArray[np.float64],
) -> NDArray[np.str_]:
    """Why each contract is not in the fit, empty where it is. Of those in the money it is told who breaks a bound."""
    codes = surface.left_out
    names = np.array([code.name.lower() for code in LeftOut])
    names[LeftOut.USED] = ""
    found = names[codes].astype("U20")
    asked = (codes == LeftOut.IN_THE_MONEY) | (codes == LeftOut.NO_VOLATILITY)
    spot = chain.spot.price / SCALE if chain.spot else math.nan
    contract = (array[asked] for array in (chain.strike, chain.years, rate, dividend_yield))
    why = american.why_no_volatility(mid[asked], chain.right[asked], spot, *contract)
    bounds = np.full(len(chain), "", "U20")
    bounds[asked] = [_BOUNDS.get(NoVolatility(int(code)), "") for code in why]
    found = np.where(bounds != "", bounds, found)
    return np.where(chain.years <= 0, "expired", np.where(fresh, found, "stale"))


def _counts(refused: NDArray[np.str_]) -> dict[str, int]:
    return dict(sorted(Counter(reason for reason in refused.tolist() if reason).items()))


def _expiration(
    chain: Chain,
    rate: Rate,
    forwards: Forwards,
    surface: Surface,
    volatilities: NDArray[np.float64],
    refused: NDArray[np.str_],
    day: np.datetime64,
) -> Expiration:
    own = chain.expiration == day
    years = float(chain.years[own][0])
    row = int(forwards.rows_of(np.array([years]))[0])
    fitted = np.flatnonzero(np.abs(surface.years - years) < 1e-7)
    at_the_money, call, put = (_known(value) for value in volatilities[fitted[0]]) if fitted.size else (None,) * 3
    if fitted.size:
        named = {"at the money": at_the_money, "25-delta call": call, "25-delta put": put}
        beyond = ", ".join(name for name, value in named.items() if value is None)
        reason = f"beyond the quoted strikes: {beyond}" if beyond else None
    else:
        no_forward = WHY_NO_FORWARD.get(Reason(int(forwards.reason[row])))
        reason = rate.detail if rate.kind is None else no_forward or "no contract tells its volatility"
    own_rate = _known(forwards.rate[row])
    low, high = rate.interval(own_rate) if own_rate is not None else (math.nan, math.nan)
    return Expiration(
        expiration=day.astype(object),
        years=years,
        forward=_known(forwards.forward[row]),
        forward_low=_known(forwards.forward_low[row]),
        forward_high=_known(forwards.forward_high[row]),
        rate=own_rate,
        rate_low=_known(low),
        rate_high=_known(high),
        dividend_yield=_known(forwards.dividend_yield[row]),
        at_the_money=at_the_money,
        call_25_delta=call,
        put_25_delta=put,
        shape=Shape(int(surface.shape[fitted[0]])).name.lower() if fitted.size else None,
        reason=reason,
        contracts_used=int((refused[own] == "").sum()),
        contracts_refused=_counts(refused[own]),
    )


def _volatilities(surface: Surface) -> NDArray[np.float64]:
    """At the forward, of the 25-delta call and put: shape (slices, 3); NaN beyond the quoted strikes."""
    years = surface.years[:, None]
    forward = surface.forward_at(surface.years)[:, None]
    strikes = np.concatenate([forward, surface.strike_of_delta(years, np.array([0.25, -0.25]))], axis=1)
    inside = surface.inside(years, strikes) & np.isfinite(strikes)
    return np.where(inside, surface.volatility(years, strikes), np.nan)


def constant_maturity(surface: Surface, rate: Rate) -> tuple[float | None, str | None]:
    """Volatility at the forward in 30 days, total variance being linear in time between expirations; or why not."""
    if rate.kind is None:
        return None, rate.detail
    if surface.years.size == 0:
        return None, "no expiration tells its volatility"
    if not surface.years[0] <= CONSTANT_YEARS <= surface.years[-1]:
        days = surface.years[[0, -1]] * 365
        return None, f"30 days lie outside the expirations, which are {days[0]:.1f} to {days[1]:.1f} days away"
    found = _known(math.sqrt(float(surface.total_variance(CONSTANT_YEARS, 0.0).w) / CONSTANT_YEARS))
    return found, None if found is not None else "the surface has no variance there"


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
