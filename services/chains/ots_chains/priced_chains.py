"""A whole chain at a moment, priced: every live contract with its volatilities, Greeks and value, or a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_chains.chain_rates import Rate, rate_of
from ots_chains.chains import Chain, Moment, Spot, read_chain, read_spot, underlyings_of
from ots_chains.stored_contracts import Contracts, Dates, Floats, Ints, read_contracts
from ots_common.database import Database
from ots_common.times import rfc3339, to_datetime
from ots_market.prices import SCALE
from ots_market.rates import RateAnswer, curve_known_at
from ots_market.sessions import Sessions
from ots_quant import american
from ots_quant.european import NoVolatility
from ots_quant.greeks import Greeks
from ots_quant.parity import Forwards, implied_forwards
from ots_quant.pooled_rate import PooledRate
from ots_quant.surface import Surface, fit_surface

_NS = 1_000_000_000
_BOUNDS = {
    NoVolatility.BELOW_INTRINSIC: "below_intrinsic",
    NoVolatility.ABOVE_BOUND: "above_bound",
}
# of the newest snapshot: its rate is pooled from all chains of its moment
_POOLED = """
    SELECT e.rate, e.rate_low, e.rate_high, s.rate_detail, (extract(epoch FROM s.ts) * 1000000)::bigint * 1000
    FROM volatility_snapshots s JOIN volatility_expirations e USING (underlying, ts)
    WHERE s.underlying = %(underlying)s AND s.ts > %(opened)s AND s.ts <= %(at)s
      AND e.ts > %(opened)s AND e.ts <= %(at)s AND s.rate_kind = 'parity' AND e.rate IS NOT NULL
    ORDER BY s.ts DESC, e.expiration LIMIT 1
"""
_GAPS = """
    SELECT count(*) FROM gaps
    WHERE dataset = 'OPRA.PILLAR' AND closed_at IS NULL AND starts_ns <= %(at)s
      AND (ends_ns IS NULL OR ends_ns > %(since)s) AND (symbol IS NULL OR symbol = ANY(%(symbols)s))
      AND schema = ANY(%(schemas)s)
"""
QUOTE_SCHEMAS = ["cmbp-1", "cbbo-1s", "cbbo-1m", "tcbbo"]
"""By name, those of `OPTION_QUOTES`."""


@dataclass(frozen=True)
class PricedChain:
    """Live contracts in order of expiration, strike, right (call first): arrays of shape (contracts,).

    ``symbol``: OSI without blanks; ``expiration``, ``open_interest_date``: datetime64[D], NaT unknown; ``strike``,
    ``bid``, ``ask``, ``last``, ``mid`` (of quotes that are two-sided and not crossed), ``forward``, ``theoretical``:
    dollars, NaN unknown; ``right``: +1 call, -1 put; ``years``: of 365 days to the close of the expiration's session;
    ``quoted_at``, ``last_at``: int64 ns, 0 never in this session; sizes and ``open_interest``: -1 unknown;
    ``volume``: of this session so far. Rates, yields and volatilities: decimals a year, American exercise, NaN none;
    ``greeks``: at ``implied_volatility``, in the units of `Greeks`; ``theoretical``: the American value at the
    surface's volatility, NaN beyond the quoted strikes. ``reason``: empty where there is an implied volatility.

    ``forwards`` and ``surface`` have a row an expiration; None without a spot, or for the surface without a rate.
    """

    underlying: str
    moment: Moment
    spot: Spot | None
    rate: Rate
    instrument_id: Ints
    symbol: NDArray[np.str_]
    expiration: Dates
    strike: Floats
    right: Floats
    years: Floats
    bid: Floats
    ask: Floats
    bid_size: Ints
    ask_size: Ints
    quoted_at: Ints
    last: Floats
    last_at: Ints
    volume: Ints
    open_interest: Ints
    open_interest_date: Dates
    mid: Floats
    forward: Floats
    carry_rate: Floats
    dividend_yield: Floats
    implied_volatility: Floats
    bid_volatility: Floats
    ask_volatility: Floats
    greeks: Greeks
    theoretical: Floats
    reason: NDArray[np.str_]
    forwards: Forwards | None
    surface: Surface | None
    quality: dict[str, Any]

    def __len__(self) -> int:
        return len(self.strike)

    @property
    def newest_ns(self) -> int:
        """Time of the newest quote, trade or price of the underlying in it; 0 for none."""
        times = [int(values.max()) for values in (self.quoted_at, self.last_at) if values.size]
        return max([*times, self.spot.at_ns if self.spot else 0])

    def take(self, which: NDArray[Any] | slice) -> PricedChain:
        """The contracts that ``which`` selects; forwards, surface and quality stay those of the whole chain."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values = {k: v[which] if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return PricedChain(**{**values, "greeks": Greeks(*(column[which] for column in self.greeks))})


@dataclass(frozen=True)
class ChainInputs:
    """All that is stored and that a chain is priced from. ``gaps``: in which quotes of late may be missing."""

    contracts: Contracts
    spot: Spot | None
    rate: Rate | None
    no_curve: str | None
    gaps: int


def read_inputs(
    database: Database, sessions: Sessions, underlying: str, moment: Moment, max_age_ns: int
) -> ChainInputs:
    """What is known at the moment; without live contracts nothing else is looked for."""
    contracts = read_contracts(database, sessions, underlying, moment)
    if not len(contracts):
        return ChainInputs(contracts, None, None, None, 0)
    spot = read_spot(database, sessions, underlying, moment.at_ns, max_age_ns)
    known = curve_known_at(database, moment.at_ns)
    rate = rate_of(known, []) if known.curve is not None else _pooled_rate(database, underlying, moment)
    asked = {
        "at": moment.at_ns,
        "since": moment.at_ns - max_age_ns,
        "symbols": [underlying, f"{underlying}.OPT"],
        "schemas": QUOTE_SCHEMAS,
    }
    return ChainInputs(contracts, spot, rate, known.reason, database.rows(_GAPS, asked)[0][0])


def _pooled_rate(database: Database, underlying: str, moment: Moment) -> Rate | None:
    asked = {"underlying": underlying, "opened": to_datetime(moment.opens_ns), "at": to_datetime(moment.at_ns)}
    for rate, low, high, detail, at_ns in database.rows(_POOLED, asked):
        return Rate("parity", f"{detail}; as stored at {rfc3339(at_ns)}", pooled=PooledRate(rate, low, high, 1))
    return None


def price_chain(
    underlying: str,
    moment: Moment,
    inputs: ChainInputs,
    max_age_ns: int,
    *,
    pooled: Callable[[], Rate | None] = lambda: None,
) -> PricedChain:
    """The chain of stored inputs; quotes older than ``max_age_ns`` are shown, and not used.

    ``pooled`` is asked for the rate that all chains imply together where the inputs have none and this one tells none.
    """
    contracts, spot = inputs.contracts, inputs.spot
    fresh = (contracts.quoted_at > 0) & (contracts.quoted_at >= moment.at_ns - max_age_ns)
    with np.errstate(invalid="ignore"):  # a missing side compares false, which is what is meant
        has_bid, has_ask = contracts.bid > 0, contracts.ask > 0
        crossed = has_bid & has_ask & (contracts.bid > contracts.ask)
    two_sided = has_bid & has_ask & ~crossed
    mid = np.where(two_sided, (contracts.bid + contracts.ask) / 2, np.nan)
    # a quote that does not count is one without sides
    bid, ask = np.where(fresh, contracts.bid, np.nan), np.where(fresh, contracts.ask, np.nan)
    rate = inputs.rate or _own_rate(underlying, moment, inputs, bid, ask)
    if rate.kind is None and spot is not None:
        rate = pooled() or rate
    priced = _priced(contracts, spot, rate, bid, ask, np.where(fresh, mid, np.nan))
    reason = np.select(
        [
            contracts.quoted_at == 0,
            ~fresh,
            crossed,
            ~has_bid & ~has_ask,
            ~has_bid,
            ~has_ask,
            np.full(len(contracts), spot is None),
            np.full(len(contracts), rate.kind is None),
            ~np.isfinite(priced.forward),
        ],
        ["no_quote", "stale", "crossed", "no_quote", "no_bid", "no_ask", "no_spot", "no_rate", "no_forward"],
        priced.bounds,
    )
    values = {f.name: getattr(contracts, f.name) for f in fields(contracts) if f.name != "other_deliverables"}
    return PricedChain(
        underlying,
        moment,
        spot,
        rate,
        **values,
        mid=mid,
        forward=priced.forward,
        carry_rate=priced.carry_rate,
        dividend_yield=priced.dividend_yield,
        implied_volatility=priced.implied_volatility,
        bid_volatility=priced.bid_volatility,
        ask_volatility=priced.ask_volatility,
        greeks=priced.greeks,
        theoretical=priced.theoretical,
        reason=reason,
        forwards=priced.forwards,
        surface=priced.surface,
        quality={
            "contracts": len(contracts),
            "with_volatility": int((reason == "").sum()),
            "without_volatility": dict(sorted(Counter(one for one in reason.tolist() if one).items())),
            "crossed": int((crossed & fresh).sum()),
            "stale": not bool(fresh.any()),
            "stale_quotes": int(((contracts.quoted_at > 0) & ~fresh).sum()),
            "max_quote_age_s": max_age_ns // _NS,
            "newest_quote": rfc3339(int(contracts.quoted_at.max())) if contracts.quoted_at.any() else None,
            "no_spot": None if spot else f"no price of {underlying} in the {max_age_ns // _NS} s before",
            "other_deliverables": contracts.other_deliverables,
            "gaps": inputs.gaps,
        },
    )


def pooled_rate_of(
    database: Database, sessions: Sessions, underlyings: Sequence[str], moment: Moment, max_age_ns: int
) -> Rate:
    """What the chains of ``underlyings`` imply together, from fresh quotes: as a snapshot would pool it."""
    read = (read_chain(database, sessions, name, moment, max_age_ns) for name in underlyings)
    chains = [chain for chain in read if len(chain) and chain.quoted_at.max() >= moment.at_ns - max_age_ns]
    return rate_of(curve_known_at(database, moment.at_ns), chains)


def rate_of_all(
    database: Database,
    sessions: Sessions,
    underlying: str,
    moment: Moment,
    max_age_ns: int,
    keep: Callable[[Callable[[], Rate]], Rate] = lambda make: make(),
) -> Rate | None:
    """What all chains of the moment imply together; None where there is no other than this underlying's to ask.

    ``keep`` may remember what it is given to make: it is the same for all underlyings of the moment.
    """
    names = underlyings_of(database, moment)
    if names == [underlying]:
        return None
    return keep(lambda: pooled_rate_of(database, sessions, names, moment, max_age_ns))


def _own_rate(underlying: str, moment: Moment, inputs: ChainInputs, bid: Floats, ask: Floats) -> Rate:
    """What this chain implies alone."""
    c = inputs.contracts
    terms = (c.expiration, c.right, c.strike, c.years)
    chain = Chain(underlying, moment, inputs.spot, *terms, bid, ask, c.quoted_at, c.instrument_id)
    return rate_of(RateAnswer(None, inputs.no_curve), [chain])


@dataclass(frozen=True)
class _Priced:
    """What mathematics makes of quotes; ``bounds``: why a two-sided quote has no volatility, empty where it has."""

    forward: Floats
    carry_rate: Floats
    dividend_yield: Floats
    implied_volatility: Floats
    bid_volatility: Floats
    ask_volatility: Floats
    greeks: Greeks
    theoretical: Floats
    bounds: NDArray[np.str_]
    forwards: Forwards | None
    surface: Surface | None


def _priced(contracts: Contracts, spot: Spot | None, rate: Rate, bid: Floats, ask: Floats, mid: Floats) -> _Priced:
    """``bid``, ``ask``, ``mid``: of fresh quotes; ``mid`` only where two-sided and not crossed."""
    nothing = np.full(len(contracts), np.nan)
    if spot is None:
        none = Greeks(*(nothing for _ in Greeks._fields))
        no_bounds = np.full(len(contracts), "no_spot")
        return _Priced(*(nothing,) * 6, none, nothing, no_bounds, None, None)
    price, right, strike, years = spot.price / SCALE, contracts.right, contracts.strike, contracts.years
    forwards = implied_forwards(right, strike, years, bid, ask, price, rate=rate.of(years))
    forward, carry_rate, dividend_yield = forwards.carry_of(years)
    # all three sides at once: contracts of one expiration share their exercise boundaries
    terms = (right, price, strike, years, carry_rate, dividend_yield)
    volatility, bid_volatility, ask_volatility = american.implied_volatility(np.stack([mid, bid, ask]), *terms)
    crossed = np.isnan(mid) & (bid > 0) & (ask > 0)
    bid_volatility[crossed] = ask_volatility[crossed] = np.nan
    surface, theoretical = None, nothing
    if rate.kind is not None:
        surface = fit_surface(right, strike, years, bid, ask, price, forward, carry_rate, volatility=volatility)
        fitted = np.where(surface.inside(years, strike), surface.volatility(years, strike), np.nan)
        theoretical = american.price(*terms, fitted)
    return _Priced(
        forward,
        carry_rate,
        dividend_yield,
        volatility,
        bid_volatility,
        ask_volatility,
        american.greeks(*terms, volatility),
        theoretical,
        _bounds(mid, terms, volatility),
        forwards,
        surface,
    )


def _bounds(mid: Floats, terms: tuple[Any, ...], volatility: Floats) -> NDArray[np.str_]:
    """Why a mid has no volatility, empty where it has one."""
    why = american.why_no_volatility(mid, *terms)
    names = np.full(len(mid), "no_volatility", "U20")
    for code, name in _BOUNDS.items():
        names[why == code] = name
    return np.where(np.isfinite(volatility), "", names)
