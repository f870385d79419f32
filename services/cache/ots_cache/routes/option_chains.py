"""Whole option chains as analytics answers them, kept here."""

from __future__ import annotations

import time
from datetime import date
from typing import Any, Literal
from urllib.parse import quote, urlencode

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from ots_cache.other_services import OtherService
from ots_cache.relayed import relay
from ots_cache.settings import CacheSettings
from ots_common.database import Database
from ots_common.schemas import ProblemModel, RequestModel, TableModel
from ots_common.shared_cache import SharedCache
from ots_common.times import Moment
from ots_market.symbols import Symbol, canonical_symbol
from ots_market.versions import data_version

_TAG = Tag(name="option chains", description="As analytics answers them, kept")


class UnderlyingPath(RequestModel):
    """The ticker of an underlying."""

    underlying: Symbol = Field(json_schema_extra={"example": "AAPL"})


class OptionChainQuery(RequestModel):
    """Which contracts, and what of them: the parameters of ``/api/v1/analytics/options/{underlying}``."""

    as_of: Moment | None = Field(
        None,
        description="Only what had happened by then; outside of sessions the close of the last one before. Default"
        " now.",
    )
    expiration: date | None = Field(None, description="Only contracts of this expiration.")
    right: Literal["C", "P"] | None = Field(None, description="Only calls (C) or only puts (P).")
    strike_min: float | None = Field(None, ge=0, allow_inf_nan=False, description="Dollars.")
    strike_max: float | None = Field(None, ge=0, allow_inf_nan=False, description="Dollars.")
    delta_min: float | None = Field(None, ge=0, le=1, description="Of the size of the delta.")
    delta_max: float | None = Field(None, ge=0, le=1, description="Of the size of the delta.")
    dte_max: int | None = Field(None, ge=0, le=100_000, description="Calendar days to expiration at most.")
    fields: str | None = Field(
        None,
        max_length=2000,
        description="The wanted fields of a contract, separated by commas; default all.",
        json_schema_extra={"example": "symbol,bid,ask,implied_volatility,reason"},
    )
    limit: int | None = Field(None, ge=1, le=20_000, description="Contracts at most; default the whole chain.")
    cursor: str | None = Field(None, max_length=512, description="`next` of the page before.")


class OptionChainModel(TableModel):
    """As ``/api/v1/analytics/options/{underlying}`` answers; its description says what each field is."""

    underlying: str
    as_of: str
    newest_input: str | None
    session: str
    source: str
    spot: dict[str, Any] | None
    rate: dict[str, Any]
    quality: dict[str, Any]
    units: dict[str, str]
    expirations: list[dict[str, Any]]
    contracts: list[dict[str, Any]]
    next: str | None = Field(description="the next page, which analytics answers")


def blueprint(settings: CacheSettings, database: Database, cache: SharedCache, analytics: OtherService) -> APIBlueprint:
    """The route of whole chains."""
    api = APIBlueprint("option_chains", __name__, url_prefix="/api/v1/cache", abp_tags=[_TAG])

    @api.get(
        "/option-chains/<underlying>",
        summary="The whole option chain, priced, kept while it is true",
        responses={
            200: OptionChainModel, 404: ProblemModel, 406: ProblemModel, 422: ProblemModel, 502: ProblemModel,
            503: ProblemModel, 504: ProblemModel,
        },
    )  # fmt: skip
    def option_chain(path: UnderlyingPath, query: OptionChainQuery) -> Response:
        underlying = canonical_symbol(path.underlying)
        asked = urlencode(sorted(request.args.items(multi=True), key=lambda item: item[0]))
        target = f"/api/v1/analytics/options/{quote(underlying, safe='')}" + (f"?{asked}" if asked else "")
        # a moment that is over: true for as long as nothing of what had happened by then comes in
        over = query.as_of is not None and query.as_of <= time.time_ns()
        version = data_version(database, until_ns=query.as_of) if over and query.as_of is not None else "now"
        return relay(
            cache,
            "cache-option-chain",
            [underlying, version],
            analytics,
            target,
            ttl_s=settings.chain_ttl_s if over else settings.now_ttl_s,
            tags=[underlying],
        )

    return api
