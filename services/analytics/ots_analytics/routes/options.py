"""Every contract of an underlying, priced."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import numpy as np
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics import reading_examples as goog
from ots_analytics.chain_queries import AsOfQuery, ChainHeadingModel, UnderlyingPath, chain_heading
from ots_analytics.chain_table import CONTRACT_COLUMNS, UNITS, contract_columns, days_to_expiration, expiration_rows
from ots_analytics.desk import Desk
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.stages import stage, state_stages
from ots_chains.priced_chains import PricedChain
from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import invalid
from ots_common.schemas import ProblemModel
from ots_common.tables import columns_response, parse_fields
from ots_market.prices import SCALE
from ots_market.symbols import canonical_symbol

_TAG = Tag(name="option chains", description="Every contract of an underlying, priced")
_MOST = 20_000


class ChainQuery(AsOfQuery):
    """Which contracts, and what of them."""

    expiration: date | None = Field(None, description="Only contracts of this expiration.")
    right: Literal["C", "P"] | None = Field(None, description="Only calls (C) or only puts (P).")
    strike_min: float | None = Field(None, ge=0, allow_inf_nan=False, description="Dollars.")
    strike_max: float | None = Field(None, ge=0, allow_inf_nan=False, description="Dollars.")
    delta_min: float | None = Field(
        None, ge=0, le=1, description="Of the size of the delta, so that 0.2 to 0.4 finds puts too; with any of the"
        " two, contracts without a delta are left out.",
    )  # fmt: skip
    delta_max: float | None = Field(None, ge=0, le=1, description="Of the size of the delta.")
    dte_max: int | None = Field(None, ge=0, le=100_000, description="Calendar days to expiration at most.")
    fields: str | None = Field(
        None, max_length=2000, description="The wanted fields of a contract, separated by commas; default all.",
        json_schema_extra={"example": "symbol,bid,ask,implied_volatility,reason"},
    )  # fmt: skip
    limit: int = Field(_MOST, ge=1, le=_MOST, description="Contracts at most; default the whole chain.")
    cursor: str | None = Field(None, max_length=512, description="`next` of the page before.")


class ExpirationModel(BaseModel):
    """What the contracts of an expiration were priced with; what is null has a `reason`, or there is no rate."""

    expiration: str
    days_to_expiration: int
    years: float
    forward: float | None
    forward_low: float | None = Field(description="to `forward_high`: what executable prices do not contradict")
    forward_high: float | None
    forward_method: str | None
    rate: float | None
    rate_low: float | None
    rate_high: float | None
    rate_method: str | None = Field(description="`curve` or `parity`; `rate.detail` of the answer says more")
    dividend_yield: float | None
    dividend_yield_method: str | None
    shape: str | None = Field(description="of the surface's smile: `fitted`, `borrowed` or `flat`")
    contracts: int
    with_volatility: int
    without_volatility: dict[str, int] = Field(description="counts of the others by `reason`")
    reason: str | None = Field(description="why the surface has no smile of its own here")


class ContractModel(BaseModel):
    """A contract: those of its fields that are asked for."""

    symbol: str = Field("", description="OSI, without blanks")
    expiration: str = ""
    days_to_expiration: int = 0
    strike: float = 0
    right: Literal["C", "P"] = "C"
    bid: float | None = None
    ask: float | None = None
    bid_size: int | None = None
    ask_size: int | None = None
    mid: float | None = Field(None, description="of quotes that are two-sided and not crossed")
    spread_pct: float | None = None
    quote_time: str | None = None
    quote_age_s: float | None = None
    last: float | None = Field(None, description="the last trade of the session, else the last minute bar's close")
    last_time: str | None = None
    volume: int = Field(0, description="of this session so far")
    open_interest: int | None = None
    open_interest_date: str | None = Field(None, description="the session at whose end it was counted")
    implied_volatility: float | None = Field(None, description="of the mid")
    bid_implied_volatility: float | None = None
    ask_implied_volatility: float | None = None
    delta: float | None = None
    gamma: float | None = None
    theta: float | None = None
    vega: float | None = None
    rho: float | None = None
    theoretical: float | None = Field(None, description="at the volatility of the fitted surface")
    model: str | None = None
    reason: str | None = Field(
        None,
        description="why there is no implied volatility: no_quote (of this session), stale, no_bid, no_ask, crossed,"
        " no_spot, no_rate, no_forward, below_intrinsic, above_bound, no_volatility",
    )


_EXAMPLE: dict[str, Any] = {
    **goog.HEADING,
    "units": UNITS,
    "expirations": [
        {
            "expiration": "2015-12-24", "days_to_expiration": 0, "years": 0.00022831050228310502,
            "forward": 749.0556976064925, "forward_low": 748.6925867127912, "forward_high": 749.4918308703044,
            "forward_method": "put-call parity of 2 of 2 pairs quoted on two sides", "rate": 0.003, "rate_low": 0.003,
            "rate_high": 0.003, "rate_method": "curve", "dividend_yield": 1.02209066905828,
            "dividend_yield_method": "rate - ln(forward / spot) / years", "shape": "borrowed", "contracts": 176,
            "with_volatility": 16, "reason": None,
            "without_volatility": {"below_intrinsic": 33, "no_ask": 29, "no_bid": 94, "no_quote": 1, "stale": 3},
        },
    ],
    "contracts": [
        {
            "symbol": "GOOG160219P00715000", "expiration": "2016-02-19", "days_to_expiration": 57, "strike": 715.0,
            "right": "P", "bid": 18.8, "ask": 19.4, "bid_size": 18, "ask_size": 42, "mid": 19.1, "spread_pct": 3.1414,
            "quote_time": "2015-12-24T16:00:00Z", "quote_age_s": 0.0, "last": None, "last_time": None, "volume": 0,
            "open_interest": 72, "open_interest_date": "2015-12-23", "implied_volatility": 0.29033608,
            "bid_implied_volatility": 0.28750656, "ask_implied_volatility": 0.29316109, "delta": -0.32035386,
            "gamma": 0.0041553477, "theta": -0.26798382, "vega": 1.06110711, "rho": -0.38030277,
            "theoretical": 19.08301534, "model": "american", "reason": None,
        },
    ],
    "next": None,
}  # fmt: skip


class ChainModel(ChainHeadingModel):
    """The chain, in order of expiration, strike and right."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    units: dict[str, str]
    expirations: list[ExpirationModel] = Field(description="those of the contracts that match")
    contracts: list[ContractModel]
    next: str | None


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The route of whole chains."""
    api = APIBlueprint("options", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])

    @api.get(
        "/options/<underlying>",
        summary="The whole option chain, priced",
        responses={200: ChainModel, 404: ProblemModel, 422: ProblemModel},
    )
    def option_chain(path: UnderlyingPath, query: ChainQuery) -> Response:
        wanted = parse_fields(query.fields, CONTRACT_COLUMNS)
        # a page belongs to the moment of the first one
        position = decode_cursor(query.cursor, (int, int, int, int)) if query.cursor else None
        moment = desk.moment(position[0] if position and query.as_of is None else query.as_of)

        def made() -> Response:
            chain = desk.chain(canonical_symbol(path.underlying), moment)
            with stage("encoding"):
                return _chain_response(chain, query, wanted, position, settings)

        explicit = query.as_of is not None or position is not None
        return state_stages(desk.answer(moment, made, tags=(path.underlying.upper(),), explicit=explicit))

    return api


def _chain_response(
    chain: PricedChain,
    query: ChainQuery,
    wanted: list[str] | None,
    position: list[int] | None,
    settings: AnalyticsSettings,
) -> Response:
    matching = _matching(chain, query)
    chosen = chain if matching.all() else chain.take(matching)
    page = chosen
    if position is not None:
        page = chosen.take(_after(chosen, position))
    more = len(page) > query.limit
    page = page.take(slice(query.limit)) if more else page
    about = {**chain_heading(chain, settings), "units": UNITS, "expirations": expiration_rows(chosen)}
    cursor = encode_cursor([chain.moment.at_ns, *_position(page, len(page) - 1)]) if more else None
    return columns_response("contracts", contract_columns(page), about, cursor, fields=wanted)


def _matching(chain: PricedChain, query: ChainQuery) -> NDArray[np.bool_]:
    """The contracts that a query asks for. Raises a 422 problem for a range that is upside down."""
    keep = np.ones(len(chain), bool)
    if query.expiration is not None:
        keep &= chain.expiration == np.datetime64(query.expiration, "D")
    if query.right is not None:
        keep &= chain.right == (1 if query.right == "C" else -1)
    if query.dte_max is not None:
        keep &= days_to_expiration(chain) <= query.dte_max
    ranges: tuple[tuple[str, NDArray[Any], float | None, float | None], ...] = (
        ("strike", chain.strike, query.strike_min, query.strike_max),
        ("delta", np.abs(chain.greeks.delta), query.delta_min, query.delta_max),
    )
    for name, values, least, most in ranges:
        if least is not None and most is not None and least > most:
            raise invalid(f"#/query/{name}_min", f"{name}_min is above {name}_max")
        with np.errstate(invalid="ignore"):  # a contract without a delta is in no range
            if least is not None:
                keep &= values >= least
            if most is not None:
                keep &= values <= most
    return keep


def _keys(chain: PricedChain) -> tuple[NDArray[np.int64], ...]:
    """What contracts are in order of; puts come after calls."""
    strikes = np.rint(chain.strike * SCALE).astype(np.int64)
    return chain.expiration.astype(np.int64), strikes, -chain.right.astype(np.int64)


def _position(chain: PricedChain, index: int) -> list[int]:
    return [int(values[index]) for values in _keys(chain)]


def _after(chain: PricedChain, position: list[int]) -> NDArray[np.bool_]:
    """The contracts behind a position of `_position`, which begins with the moment."""
    after = np.zeros(len(chain), bool)
    level = np.ones(len(chain), bool)
    for values, at in zip(_keys(chain), position[1:], strict=True):
        after |= level & (values > at)
        level &= values == at
    return after
