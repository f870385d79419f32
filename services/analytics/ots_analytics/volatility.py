"""The implied volatility of a chain at a moment: per contract, per expiration, and at a constant 30 days."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ots_analytics.contract_terms import STATED
from ots_analytics.fit_quality import observe_fit
from ots_analytics.metrics import count_chain
from ots_chains.chain_rates import Rate
from ots_chains.chains import Chain
from ots_chains.priced_chains import ChainInputs, PricedChain, price_chain
from ots_chains.stored_contracts import Contracts
from ots_market.prices import SCALE
from ots_market.symbols import option_symbols
from ots_quant.parity import Forwards, Reason
from ots_quant.surface.build import Shape, fit_surface
from ots_quant.surface.model import Surface
from ots_quant.surface.quotes import LeftOut

METHOD = "american parity svi 2"
"""Changes with every change of this computation, so that what was stored is computed anew."""
CONSTANT_YEARS = 30 / 365
WHY_NO_FORWARD = {
    Reason.EXPIRED: "it has expired",
    Reason.NO_PAIRS: "no strike has a two-sided call and put",
    Reason.NO_RATE: "no rate",
    Reason.PAIRS_DISAGREE: "no forward agrees with half of the pairs",
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
class ExpirationContracts:
    """The living contracts of an expiration that were quoted in the session: arrays of shape (contracts,).

    ``mid``, ``implied_volatility``, ``delta``, ``gamma``, ``theta`` (a calendar day), ``vega`` (a percentage point): as
    the chain at that moment answers, NaN where there is none; ``reason``: why, empty where there is a volatility.
    """

    expiration: date
    instrument_id: NDArray[np.int64]
    mid: NDArray[np.float64]
    implied_volatility: NDArray[np.float64]
    delta: NDArray[np.float64]
    gamma: NDArray[np.float64]
    theta: NDArray[np.float64]
    vega: NDArray[np.float64]
    reason: NDArray[np.str_]


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
    contracts: tuple[ExpirationContracts, ...]
    data_version: bytes


def data_version(chain: Chain, rate_inputs: bytes, max_age_ns: int) -> bytes:
    """A digest of the inputs and the method."""
    said = repr((METHOD, max_age_ns)).encode()
    return hashlib.blake2b(said + rate_inputs + chain.digest(), digest_size=16).digest()


def take_snapshot(chain: Chain, rate: Rate, max_age_ns: int, version: bytes) -> Snapshot:
    """The snapshot of a chain that is not empty; a quote older than ``max_age_ns`` has no part in it."""
    priced = price_quotes(chain, rate, max_age_ns)
    count_chain(priced)
    observe_fit(priced)
    expired = {"expired": len(chain) - len(priced)} if len(priced) < len(chain) else {}
    contracts = _contracts(priced)
    if priced.forwards is None:
        fresh = priced.quoted_at >= chain.moment.at_ns - max_age_ns
        refused = np.where(fresh, "no_spot", "stale")
        return Snapshot(
            chain, rate, None, priced.quality["no_spot"], 0, _counts(refused, expired), (), contracts, version
        )
    surface = priced.surface or _no_surface(priced)
    refused = _refusals(priced, surface)
    _, volatilities = delta_volatilities(surface, (0.25, -0.25))
    expirations = tuple(
        _expiration(priced, priced.forwards, surface, volatilities, refused, day)
        for day in np.unique(priced.expiration)
    )
    constant, why = constant_maturity(surface, rate)
    return Snapshot(
        chain,
        rate,
        constant,
        why,
        int((refused == "").sum()),
        _counts(refused, expired),
        expirations,
        contracts,
        version,
    )


def price_quotes(chain: Chain, rate: Rate, max_age_ns: int) -> PricedChain:
    """The contracts of ``chain`` that have not expired, priced as the chain's own route prices them."""
    alive = chain.years > 0
    n = int(alive.sum())
    unknown, never, uncounted = np.full(n, np.nan), np.zeros(n, np.int64), np.full(n, -1)
    expiration, right, strike = chain.expiration[alive], chain.right[alive], chain.strike[alive]
    contracts = Contracts(
        instrument_id=chain.instrument_id[alive],
        symbol=option_symbols(chain.underlying, expiration, right, np.rint(strike * SCALE).astype(np.int64)),
        expiration=expiration,
        right=right,
        strike=strike,
        years=chain.years[alive],
        bid=chain.bid[alive],
        ask=chain.ask[alive],
        bid_size=uncounted,
        ask_size=uncounted,
        quoted_at=chain.quoted_at[alive],
        last=unknown,
        last_at=never,
        volume=never,
        open_interest=uncounted,
        open_interest_date=np.full(n, "NaT", "datetime64[D]"),
        other_deliverables=0,
    )
    inputs = ChainInputs(contracts, chain.spot, rate, None, 0)
    return price_chain(chain.underlying, chain.moment, inputs, max_age_ns)


def _contracts(priced: PricedChain) -> tuple[ExpirationContracts, ...]:
    stated = {name: getattr(priced.greeks, name) * STATED[name] for name in ("delta", "gamma", "theta", "vega")}
    columns = {
        "instrument_id": priced.instrument_id,
        "mid": priced.mid,
        "implied_volatility": priced.implied_volatility,
        **stated,
        "reason": priced.reason,
    }
    found = []
    for day in np.unique(priced.expiration):
        own = priced.expiration == day
        found.append(ExpirationContracts(day.astype(object), **{name: values[own] for name, values in columns.items()}))
    return tuple(found)


def _no_surface(priced: PricedChain) -> Surface:
    """Of a chain without a rate: nothing is fitted, and each contract has its code."""
    unknown = np.full(len(priced), np.nan)
    spot = priced.spot.price / SCALE if priced.spot else math.nan
    terms = (priced.right, priced.strike, priced.years)
    return fit_surface(*terms, unknown, unknown, spot, unknown, unknown)


def _refusals(priced: PricedChain, surface: Surface) -> NDArray[np.str_]:
    """Why each contract is not in the fit, empty where it is. Of those in the money it is told who breaks a bound."""
    codes = surface.left_out
    names = np.array([code.name.lower() for code in LeftOut])
    names[LeftOut.USED] = ""
    found = names[codes].astype("U20")
    in_doubt = (codes == LeftOut.IN_THE_MONEY) | (codes == LeftOut.NO_VOLATILITY)
    bounds = in_doubt & np.isin(priced.reason, ("below_intrinsic", "above_bound"))
    return np.where(priced.reason == "stale", "stale", np.where(bounds, priced.reason, found))


def _counts(refused: NDArray[np.str_], more: dict[str, int] | None = None) -> dict[str, int]:
    return dict(sorted((Counter(reason for reason in refused.tolist() if reason) + Counter(more or {})).items()))


def _expiration(
    priced: PricedChain,
    forwards: Forwards,
    surface: Surface,
    volatilities: NDArray[np.float64],
    refused: NDArray[np.str_],
    day: np.datetime64,
) -> Expiration:
    rate = priced.rate
    own = priced.expiration == day
    years = float(priced.years[own][0])
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


def delta_volatilities(surface: Surface, deltas: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Strikes and volatilities at the forward and at each forward delta: shape (slices, 1 + deltas).

    Volatilities are NaN beyond the quoted strikes, strikes are not.
    """
    years = surface.years[:, None]
    forward = surface.forward_at(surface.years)[:, None]
    strikes = np.concatenate([forward, surface.strike_of_delta(years, np.array(deltas, np.float64)[None])], axis=1)
    inside = surface.inside(years, strikes) & np.isfinite(strikes)
    return strikes, np.where(inside, surface.volatility(years, strikes), np.nan)


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
