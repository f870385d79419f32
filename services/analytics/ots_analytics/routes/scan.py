"""Contracts for which a move of the asked size is plausible, with what it costs."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Literal

import numpy as np
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics.chain_queries import AsOfQuery
from ots_analytics.desk import Desk
from ots_analytics.scan_table import CANDIDATE_COLUMNS, UNITS, candidate_columns
from ots_analytics.scanning import Candidates, RecentScans, Sort, Wanted, ranked
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.stages import stage, state_stages
from ots_chains.chains import Moment
from ots_chains.priced_chains import PricedChain
from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, TableModel, TableRow
from ots_common.tables import columns_response, parse_fields
from ots_common.times import NS_PER_S, rfc3339
from ots_market.instruments import nothing_stored
from ots_market.prices import dollars
from ots_market.symbols import canonical_symbol

_TAG = Tag(name="scan", description="Contracts for which a move of the asked size is plausible, with what it costs")
_MINUTE_NS = 60 * NS_PER_S
_MOST_UNDERLYINGS = 50
_NOTE = (
    "At fair prices the expected value of every candidate is about minus its cost, whatever its probability: a"
    " probable move is bought with a greater loss where it does not come. The probabilities are those that option"
    " prices imply, no forecast, and nothing here says that a contract is cheap."
)


class ScanQuery(AsOfQuery):
    """The move, the horizon, what a contract may cost, and which contracts are looked at."""

    min_move: float = Field(0.05, gt=0, le=10, description="The lesser move of the option's price, net: 0.05 is 5 %.")
    max_move: float = Field(0.10, gt=0, le=10, description="The greater one, not below `min_move`.")
    horizon_minutes: int = Field(
        60, ge=1, le=1440, description="How long the move may take; it ends at the session's close at the latest."
    )
    min_probability: float = Field(
        0.05, ge=0, le=1, description="Plausible: the bid returns `min_move` with at least this probability."
    )
    max_spread_pct: float = Field(10.0, gt=0, le=200, description="The widest spread, in per cent of the mid.")
    fee_per_contract: float = Field(0.65, ge=0, le=100, description="Dollars to buy a contract, and again to sell it.")
    underlyings: str | None = Field(
        None, max_length=1000, pattern=r"^[A-Za-z0-9 ,._-]*$", json_schema_extra={"example": "AAPL,SPY"},
        description="Tickers separated by commas; default all that have options.",
    )  # fmt: skip
    right: Literal["C", "P"] | None = Field(None, description="Only calls (C) or only puts (P).")
    dte_min: int | None = Field(None, ge=0, le=100_000, description="Calendar days to expiration at least.")
    dte_max: int | None = Field(None, ge=0, le=100_000, description="Calendar days to expiration at most.")
    delta_min: float | None = Field(None, ge=0, le=1, description="Of the size of the delta, calls and puts alike.")
    delta_max: float | None = Field(None, ge=0, le=1, description="Of the size of the delta.")
    min_open_interest: int | None = Field(None, ge=0, le=10**12, description="Contracts; unknown is not enough.")
    min_volume: int | None = Field(None, ge=0, le=10**12, description="Contracts traded in this session so far.")
    max_quote_age_s: int | None = Field(
        None, ge=0, le=86_400, description="Quotes older than this are stale; default what all chains take for stale."
    )
    sort: Sort = Field(
        "probability",
        description="`probability` of `min_move` net of cost, the highest first; `cost` and `spread`, the lowest first;"
        " `expected_value`, the least negative first; ties by symbol.",
    )
    fields: str | None = Field(
        None, max_length=4000, description="Fields of a candidate, separated by commas; default all.",
        json_schema_extra={"example": "symbol,ask,min_move_bid,min_move_probability,cost_pct,expected_value_pct"},
    )  # fmt: skip
    limit: int = Field(50, ge=1, le=500, description="Candidates at most.")
    cursor: str | None = Field(None, max_length=512, description="`next` of the page before.")

    def wanted(self) -> Wanted:
        """What is asked of contracts. Raises a 422 problem for a range that is upside down."""
        for low, high in (("min_move", "max_move"), ("dte_min", "dte_max"), ("delta_min", "delta_max")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise invalid(f"#/query/{low}", f"{low} is above {high}")
        return Wanted(
            self.min_move, self.max_move, self.min_probability, self.max_spread_pct, self.fee_per_contract, self.right,
            self.dte_min, self.dte_max, self.delta_min, self.delta_max, self.min_open_interest, self.min_volume,
            self.max_quote_age_s,
        )  # fmt: skip

    def names(self) -> list[str] | None:
        """The underlyings named, None for all. Raises a 422 problem for what is no list of tickers."""
        if self.underlyings is None:
            return None
        named = sorted({canonical_symbol(part) for part in self.underlyings.split(",") if part.strip()})
        if not named or len(named) > _MOST_UNDERLYINGS:
            raise invalid("#/query/underlyings", f"name 1 to {_MOST_UNDERLYINGS} tickers, such as AAPL,SPY")
        return named


def _assumptions(query: ScanQuery, max_quote_age_s: int) -> list[str]:
    """What the figures take for granted, and what is not in them. Chains call quotes stale after so many seconds."""
    oldest = max_quote_age_s if query.max_quote_age_s is None else min(max_quote_age_s, query.max_quote_age_s)
    return [
        f"one contract is bought at the ask of its last quote, which may be {oldest} s old, and sold at the bid; each"
        f" way costs {query.fee_per_contract:g} dollars a contract",
        "the half-spread stays what it is now: the bid is the mid less that, and never below zero; bids are not rounded"
        " to ticks, and sizes are not limited to those quoted",
        "the option keeps its volatility while spot and time move, that of the surface fitted to the whole chain, and"
        " its mid the distance that it has from what it is worth at it; American exercise",
        "the spot is a geometric Brownian motion at that volatility with the drift of rate less dividend yield: no"
        " jumps, no news, nights and hours of trading alike; on a skewed smile strikes that differ in volatility differ"
        " in how lively they take the spot to be",
        "a touch is watched continuously: an order to sell at that price rests at the market and is filled when the bid"
        " arrives there",
        "at_least and at_most hold the level of the spot fixed where it is farthest and nearest within the horizon",
        "expected_value sells at the bid of the horizon's end, undiscounted; any rule of selling earlier has the same"
        " expectation but for interest and early exercise",
        "contracts that expire by the end of the horizon are left out: ask for a shorter one to see them",
    ]


class ScannedModel(BaseModel):
    """One underlying that was looked at."""

    underlying: str
    spot: float | None
    spot_time: str | None
    spot_kind: str | None = Field(description="`quote`, `trade` or `bar`; null: no price, so no candidates")
    rate_kind: str | None
    rate_detail: str
    contracts: int
    candidates: int
    newest_quote: str | None
    stale: bool
    gaps: int


class ScanQualityModel(BaseModel):
    """How many contracts were looked at, and why the others are no candidates: the first reason that applies."""

    looked_at: int
    candidates: int
    left_out: dict[str, int] = Field(
        description="no_quote, no_bid, no_ask, crossed, stale, no_spot, no_rate, no_forward, below_intrinsic,"
        " above_bound, no_volatility: the chain has no volatility; outside_surface: beyond the strikes whose quotes"
        " tell volatility; expires_within_horizon; right, days_to_expiration,"
        " delta, open_interest, volume: not asked for; spread_too_wide; below_min_probability; no_probability"
    )
    stale: list[str] = Field(description="underlyings without a fresh quote")
    gaps: int = Field(description="intervals in which quotes may be missing")


class CandidateModel(TableRow):
    """A contract: those of its fields that are asked for."""

    underlying: str = ""
    symbol: str = Field("", description="OSI, without blanks")
    expiration: str = ""
    days_to_expiration: int = 0
    strike: float = 0
    right: Literal["C", "P"] = "C"
    spot: float = 0
    bid: float = 0
    ask: float = 0
    mid: float = 0
    bid_size: int | None = None
    ask_size: int | None = None
    ask_size_dollars: float | None = None
    spread_pct: float = 0
    quote_time: str = ""
    quote_age_s: float = 0
    volume: int = 0
    open_interest: int | None = None
    delta: float | None = None
    implied_volatility: float = 0
    volatility: float = 0
    theoretical: float = 0
    outlay: float = Field(0, description="(ask * 100 + fee) dollars")
    cost: float = Field(0, description="((ask - bid) * 100 + 2 fees) dollars: lost if nothing moves")
    cost_pct: float = 0
    expected_value: float = Field(
        0, description="of buying at the ask and selling at the bid of the horizon's end, under the fair model"
    )
    expected_value_pct: float = 0
    break_even_bid: float = Field(0, description="at which all costs are returned and nothing more")
    break_even_mid: float = Field(0, description="the middle of the market that comes with it")
    break_even_probability: float = 0
    break_even_underlying: float | None = None
    break_even_underlying_pct: float | None = None
    break_even_deviations: float | None = None
    break_even_underlying_at_horizon: float | None = None
    min_move_bid: float = Field(0, description="at which selling returns the ask, both fees and `min_move` of the ask")
    min_move_mid: float = 0
    min_move_probability: float = 0
    min_move_at_least: float = 0
    min_move_at_most: float = 0
    min_move_frictionless: float = 0
    min_move_underlying: float | None = Field(None, description="null: the option is worth that at no spot")
    min_move_underlying_pct: float | None = None
    min_move_deviations: float | None = None
    min_move_underlying_at_horizon: float | None = None
    max_move_bid: float = 0
    max_move_mid: float = 0
    max_move_probability: float = 0
    max_move_at_least: float = 0
    max_move_at_most: float = 0
    max_move_frictionless: float = 0
    max_move_underlying: float | None = None
    max_move_underlying_pct: float | None = None
    max_move_deviations: float | None = None
    max_move_underlying_at_horizon: float | None = None


_EXAMPLE: dict[str, Any] = {
    "as_of": "2015-12-24T16:00:00Z",
    "newest_input": "2015-12-24T16:00:00Z",
    "session": "2015-12-24",
    "source": "databento",
    "horizon_minutes": 60.0,
    "horizon_ends": "2015-12-24T17:00:00Z",
    "horizon_cut": False,
    "note": _NOTE,
    "assumptions": _assumptions(ScanQuery(), 900),
    "quality": {
        "looked_at": 2192,
        "candidates": 53,
        "left_out": {
            "below_intrinsic": 113,
            "below_min_probability": 508,
            "no_ask": 326,
            "no_bid": 763,
            "no_quote": 2,
            "outside_surface": 88,
            "spread_too_wide": 321,
            "stale": 18,
        },
        "stale": [],
        "gaps": 0,
    },
    "underlyings": [
        {
            "underlying": "GOOG",
            "spot": 749.23,
            "spot_time": "2015-12-24T16:00:00Z",
            "spot_kind": "bar",
            "rate_kind": "curve",
            "rate_detail": "flat, 2015-12-23",
            "contracts": 2192,
            "candidates": 53,
            "newest_quote": "2015-12-24T16:00:00Z",
            "stale": False,
            "gaps": 0,
        }
    ],
    "units": UNITS,
    "candidates": [
        {
            "symbol": "GOOG151231P00727500",
            "bid": 1.15,
            "ask": 1.25,
            "cost": 11.3,
            "expected_value": -11.299957,
            "min_move_bid": 1.3255,
            "min_move_probability": 0.355291,
            "min_move_frictionless": 0.738827,
            "max_move_probability": 0.221053,
        }
    ],
    "next": None,
}
"""Of GOOG, with ``fields``, cut after the first candidate. A test holds it to what is answered."""


class ScanModel(TableModel):
    """The candidates, ranked, with what was taken for granted."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    as_of: str = Field(description="the moment that is answered for")
    newest_input: str | None
    session: str
    source: str
    horizon_minutes: float = Field(description="until `horizon_ends`")
    horizon_ends: str
    horizon_cut: bool = Field(description="true where the session's close comes before the horizon that was asked for")
    note: str
    assumptions: list[str]
    quality: ScanQualityModel
    underlyings: list[ScannedModel]
    units: dict[str, str]
    candidates: list[CandidateModel]
    next: str | None


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The route of the scan."""
    api = APIBlueprint("scan", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])
    recent = RecentScans()

    @api.get(
        "/scan",
        summary="Contracts for which a move of 5 to 10 % is plausible, net of spread and fees",
        responses={200: ScanModel, 404: ProblemModel, 422: ProblemModel},
    )
    def scan_chains(query: ScanQuery) -> Response:
        wanted, names = query.wanted(), query.names()
        fields = parse_fields(query.fields, CANDIDATE_COLUMNS)
        position = _position(query)
        moment = desk.moment(position.at_ns if position else query.as_of)
        ends_ns = _horizon_end(moment, query)

        def made() -> Response:
            chains = desk.chains(moment) if names is None else [desk.chain(name, moment) for name in names]
            if not chains:
                raise _nothing(desk, database, moment, settings)
            with stage("scan"):
                found = recent.of(chains, wanted, (ends_ns - moment.at_ns) / NS_PER_S)
            with stage("encoding"):
                about = _about(chains, found, moment, ends_ns, query, settings)
                page, following = _page(found, query, moment, position)
                return columns_response("candidates", candidate_columns(page), about, following, fields=fields)

        explicit = query.as_of is not None or position is not None
        return state_stages(desk.answer(moment, made, tags=names or ("market",), explicit=explicit))

    return api


class _Position(BaseModel):
    """Where a page begins: behind this key and symbol of the scan of a moment."""

    at_ns: int
    key: float
    symbol: str


def _position(query: ScanQuery) -> _Position | None:
    if query.cursor is None:
        return None
    at_ns, key, symbol, question = decode_cursor(query.cursor, (int, str, str, str))
    wrong = invalid("#/query/cursor", "a cursor of another scan: ask with the same parameters as the page before")
    if question != _question(query) or at_ns < 0:
        raise wrong
    try:
        value = float.fromhex(key)
    except (ValueError, OverflowError):
        raise wrong from None
    if not math.isfinite(value):
        raise wrong
    return _Position(at_ns=at_ns, key=value, symbol=symbol)


def _question(query: ScanQuery) -> str:
    """Of everything that decides which candidates there are, and their order."""
    asked = query.model_dump(exclude={"limit", "cursor", "fields"})
    return hashlib.blake2b(repr(sorted(asked.items())).encode(), digest_size=8).hexdigest()


def _horizon_end(moment: Moment, query: ScanQuery) -> int:
    """The end of the horizon, at the session's close at the latest. Raises a 422 problem outside of a session."""
    if moment.closing:
        example = max(moment.opens_ns, moment.closes_ns - query.horizon_minutes * _MINUTE_NS)
        raise invalid(
            "#/query/as_of",
            f"no session is open then, so nothing can be bought or sold; the last one before closed at"
            f" {rfc3339(moment.closes_ns)}",
            hint='curl -H "Authorization: Bearer $TOKEN"'
            f' "http://localhost:8000/api/v1/analytics/scan?as_of={rfc3339(example)}"',
        )
    return min(moment.at_ns + query.horizon_minutes * _MINUTE_NS, moment.closes_ns)


def _nothing(desk: Desk, database: Database, moment: Moment, settings: AnalyticsSettings) -> Problem:
    """The 404 for a moment at which no option was listed and alive."""
    rows = database.rows("SELECT min(underlying) FROM instruments WHERE expiration IS NOT NULL")
    if rows[0][0] is not None:
        try:
            desk.chain(rows[0][0], moment)
        except Problem as problem:
            return problem
    nothing, hint = nothing_stored(settings.market_source)
    return Problem(404, "no-live-contracts", f"no options are stored; {nothing}", hint=hint, extra={"available": []})


def _page(
    found: Candidates, query: ScanQuery, moment: Moment, position: _Position | None
) -> tuple[Candidates, str | None]:
    order, keys = ranked(found, query.sort)
    start = 0
    if position is not None:
        start = _after(found.quoted.symbol[order], keys, position)
    chosen = order[start : start + query.limit]
    if start + query.limit >= len(order):
        return found.take(chosen), None
    last = start + query.limit - 1
    symbol = str(found.quoted.symbol[order[last]])
    return found.take(chosen), encode_cursor([moment.at_ns, float(keys[last]).hex(), symbol, _question(query)])


def _after(symbols: NDArray[np.str_], keys: NDArray[np.float64], position: _Position) -> int:
    """The first place behind a position in ascending order of key and symbol."""
    start, end = (int(np.searchsorted(keys, position.key, side=side)) for side in ("left", "right"))
    return start + int(np.searchsorted(symbols[start:end], position.symbol, side="right"))


def _about(
    chains: list[PricedChain],
    found: Candidates,
    moment: Moment,
    ends_ns: int,
    query: ScanQuery,
    settings: AnalyticsSettings,
) -> dict[str, Any]:
    newest = max(chain.newest_ns for chain in chains)
    names, counts = np.unique(found.quoted.underlying, return_counts=True)
    candidates = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return {
        "as_of": rfc3339(moment.at_ns),
        "newest_input": rfc3339(newest) if newest else None,
        "session": moment.session.isoformat(),
        "source": settings.market_source,
        "horizon_minutes": (ends_ns - moment.at_ns) / _MINUTE_NS,
        "horizon_ends": rfc3339(ends_ns),
        "horizon_cut": ends_ns < moment.at_ns + query.horizon_minutes * _MINUTE_NS,
        "note": _NOTE,
        "assumptions": _assumptions(query, settings.snapshot_quote_age_s),
        "quality": {
            "looked_at": found.looked_at,
            "candidates": len(found),
            "left_out": found.left_out,
            "stale": [chain.underlying for chain in chains if chain.quality["stale"]],
            "gaps": sum(chain.quality["gaps"] for chain in chains),
        },
        "underlyings": [_scanned(chain, candidates.get(chain.underlying, 0)) for chain in chains],
        "units": UNITS,
    }


def _scanned(chain: PricedChain, candidates: int) -> dict[str, Any]:
    spot = chain.spot
    return {
        "underlying": chain.underlying,
        "spot": dollars(spot.price) if spot else None,
        "spot_time": rfc3339(spot.at_ns) if spot else None,
        "spot_kind": spot.kind if spot else None,
        "rate_kind": chain.rate.kind,
        "rate_detail": chain.rate.detail,
        "contracts": len(chain),
        "candidates": candidates,
        "newest_quote": chain.quality["newest_quote"],
        "stale": chain.quality["stale"],
        "gaps": chain.quality["gaps"],
    }
