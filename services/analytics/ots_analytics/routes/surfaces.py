"""The volatility surface of a chain: its fit and certificate, a grid, skew, term structure."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics import reading_examples as goog
from ots_analytics.chain_answers import chain_answer, table_answer
from ots_analytics.chain_expirations import columns_of
from ots_analytics.chain_queries import ChainHeadingModel, UnderlyingPath, chain_heading
from ots_analytics.desk import Desk
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.surface_readings import (
    certificate_of,
    constant_maturities,
    grid_columns,
    skew_columns,
    slice_columns,
    term_structure_columns,
    why_no_surface,
)
from ots_analytics.table_queries import ExpirationQuery, TableQuery, parse_maturities
from ots_chains.priced_chains import PricedChain
from ots_common.database import Database
from ots_common.problems import invalid
from ots_common.schemas import ProblemModel, TableModel, TableRow

TAG = Tag(
    name="surfaces",
    description="What the chain implies: surface, skew, term structure, expected move, exposure, open interest",
)
_MOST_POINTS = 5000
_OF_THE_GRID = {"moneyness_from", "moneyness_to", "moneyness_steps", "days"}
_UNITS = {
    "volatility": "a decimal a year; American exercise, middles of bid and ask, years of 365 days",
    "forward, strike": "dollars",
    "rate, dividend_yield": "continuously compounded decimals a year",
    "days_to_expiration": "calendar days from the session's date to the expiration's",
    "years": "from `as_of` to the close of the expiration's session, of 365 days",
}
_SURFACE_UNITS = _UNITS | {
    "svi": "total variance w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)), k = ln(strike / forward)",
    "butterfly, between": "worst: -g(k), how far the implied density is below zero (Gatheral and Jacquier 2014, 2.1)",
    "calendar": "worst: how far volatility would have to rise for total variance not to fall with time",
    "rms_half_spreads": "errors over each contract's half-spread",
}
_GRID_UNITS = {
    "moneyness": "strike over the forward of that day",
    "days": "calendar days from `as_of`, of 24 hours",
    "total_variance": "volatility^2 * days / 365",
    "inside": "between the quoted strikes of the expirations around the day; elsewhere the fit goes on unwatched",
}
_DELTA_UNITS = {
    "delta": "forward delta N(d1): 0.25 and 0.10 of the call, -0.25 and -0.10 of the put",
    "risk_reversal": "volatility of the call less that of the put",
    "butterfly": "mean volatility of the call and the put less that at the money",
    "slope": "d volatility / d ln(strike / forward) at the forward: negative where puts are dearer",
}
_TERM_UNITS = {
    "at_the_money": "volatility at the forward",
    "total_variance": "at_the_money^2 * years",
    "forward_volatility": "between `from_expiration` (null: `as_of`) and the expiration: the square root of the rise of"
    " total variance over that time",
}


class SurfaceQuery(ExpirationQuery):
    """The moment, the expiration or a grid, and the columns."""

    grid: bool = Field(False, description="Answer a grid of moneyness and days, in place of the expirations.")
    moneyness_from: float = Field(0.8, ge=0.01, le=100, description="Strike over forward: the least of the grid.")
    moneyness_to: float = Field(1.2, ge=0.01, le=100, description="The greatest.")
    moneyness_steps: int = Field(9, ge=2, le=501, description="How many, evenly spaced, both ends among them.")
    days: str = Field(
        "7,30,60,90,180,365", max_length=500, description="Calendar days from `as_of`, comma-separated, 50 at most."
    )


class TermStructureQuery(TableQuery):
    """The moment, constant maturities, and the columns."""

    days: str = Field(
        "7,30,60,90,180,365",
        max_length=500,
        description="Constant maturities in calendar days, comma-separated, 50 at most.",
    )


class ViolationsModel(BaseModel):
    """How many points of how many fail, and by how much at worst: 0 where none does, null where w <= 0."""

    failing: int
    points: int
    worst: float | None


class WhereModel(BaseModel):
    """Inside: between the quoted strikes. Outside: as far again on either side."""

    inside: ViolationsModel
    outside: ViolationsModel


class CertificateModel(BaseModel):
    """What the whole surface was checked for on a dense grid, and how well it fits the contracts it was fitted to."""

    arbitrage_free_inside: bool = Field(description="no violation of any kind between the quoted strikes")
    butterfly: WhereModel = Field(description="points of an expiration at which the implied density is negative")
    calendar: WhereModel = Field(description="points at which total variance falls from an expiration to the next")
    between: WhereModel = Field(description="as butterfly, halfway in time between two expirations")
    rms_volatility: float | None
    max_volatility: float | None = Field(description="largest error of a contract")
    rms_half_spreads: float | None
    share_within_spread: float | None = Field(description="of the contracts used: those whose spread holds the fit")
    contracts_used: int
    contracts_left_out: dict[str, int] = Field(
        description="by reason; `in_the_money`: sound, but the other leg of the strike tells more"
    )


class SliceRow(TableRow):
    """An expiration."""

    expiration: str
    days_to_expiration: int
    years: float
    forward: float | None
    shape: Literal["fitted", "borrowed", "flat"] | None = Field(
        description="`borrowed`: of the nearest fitted expiration, scaled, for want of five strikes; `flat`: one"
        " volatility, where there is none to borrow from"
    )
    forward_low: float | None = Field(description="executable prices contradict no forward from here")
    forward_high: float | None = Field(description="to here")
    rate: float | None
    dividend_yield: float | None = Field(description="rate - ln(forward / spot) / years: dividends, borrow, and errors")
    at_the_money: float | None = Field(description="volatility at the forward")
    svi_a: float | None
    svi_b: float | None
    svi_rho: float | None
    svi_m: float | None
    svi_sigma: float | None
    strike_low: float | None = Field(description="lowest strike that was fitted")
    strike_high: float | None = Field(description="highest strike that was fitted")
    contracts_used: int
    contracts_left_out: int
    rms_volatility: float | None = Field(description="fit less implied volatility, over the contracts used")
    reason: str | None = Field(description="why there is no fit")


class GridRow(TableRow):
    """A point."""

    days: float
    moneyness: float
    forward: float | None
    strike: float | None
    volatility: float | None
    total_variance: float | None
    inside: bool
    reason: str | None = Field(description="why it is not inside")


_SURFACE_EXAMPLE: dict[str, Any] = {
    **goog.HEADING,
    "units": _SURFACE_UNITS,
    "certificate": goog.CERTIFICATE,
    "reason": None,
    "expirations": goog.SLICES,
    "next": None,
}


class SurfaceModel(ChainHeadingModel, TableModel):
    """The fit per expiration, or the grid that was asked for, with the certificate of the whole surface."""

    model_config = ConfigDict(json_schema_extra={"example": _SURFACE_EXAMPLE})

    units: dict[str, str]
    certificate: CertificateModel | None
    reason: str | None = Field(description="why there is no surface")
    expirations: list[SliceRow] = Field([], description="absent where a grid was asked for")
    grid: list[GridRow] = Field([], description="absent where none was asked for")
    next: None


class SkewRow(TableRow):
    """An expiration; what lies beyond its quoted strikes is null, and `reason` names it."""

    expiration: str
    days_to_expiration: int
    years: float
    forward: float | None
    shape: Literal["fitted", "borrowed", "flat"] | None
    at_the_money: float | None
    slope: float | None
    risk_reversal_25_delta: float | None
    butterfly_25_delta: float | None
    call_25_delta: float | None
    call_25_delta_strike: float | None
    put_25_delta: float | None
    put_25_delta_strike: float | None
    risk_reversal_10_delta: float | None
    butterfly_10_delta: float | None
    call_10_delta: float | None
    call_10_delta_strike: float | None
    put_10_delta: float | None
    put_10_delta_strike: float | None
    reason: str | None


_SKEW_EXAMPLE: dict[str, Any] = {
    **goog.HEADING,
    "units": {**_UNITS, **_DELTA_UNITS},
    "expirations": goog.SKEW,
    "next": None,
}


class SkewModel(ChainHeadingModel, TableModel):
    """The skew of each expiration."""

    model_config = ConfigDict(json_schema_extra={"example": _SKEW_EXAMPLE})

    units: dict[str, str]
    expirations: list[SkewRow]
    next: None


class MaturityModel(BaseModel):
    """Volatility at the forward so many days on; total variance is linear in time between expirations."""

    days: float
    at_the_money: float | None
    reason: str | None


class TermRow(TableRow):
    """An expiration."""

    expiration: str
    days_to_expiration: int
    years: float
    forward: float | None
    shape: Literal["fitted", "borrowed", "flat"] | None
    at_the_money: float | None
    total_variance: float | None
    from_expiration: str | None
    forward_volatility: float | None
    reason: str | None


_TERM_STRUCTURE_EXAMPLE: dict[str, Any] = {
    **goog.HEADING,
    "units": {**_UNITS, **_TERM_UNITS},
    "constant_maturities": goog.CONSTANT_MATURITIES,
    "expirations": goog.TERMS,
    "next": None,
}


class TermStructureModel(ChainHeadingModel, TableModel):
    """Volatility at the forward by expiration, between expirations, and at constant maturities."""

    model_config = ConfigDict(json_schema_extra={"example": _TERM_STRUCTURE_EXAMPLE})

    units: dict[str, str]
    constant_maturities: list[MaturityModel]
    expirations: list[TermRow]
    next: None


def blueprint(settings: AnalyticsSettings, _database: Database, desk: Desk) -> APIBlueprint:
    """The routes of surfaces."""
    api = APIBlueprint("surfaces", __name__, url_prefix="/api/v1/analytics", abp_tags=[TAG])

    @api.get(
        "/options/<underlying>/surface",
        summary="The fitted volatility surface with its certificate",
        responses={200: SurfaceModel, 404: ProblemModel, 422: ProblemModel},
    )
    def surface(path: UnderlyingPath, query: SurfaceQuery) -> Response:
        grid = _grid(query)

        def made(chain: PricedChain) -> Response:
            about = chain_heading(chain, settings) | {
                "units": _SURFACE_UNITS if grid is None else _SURFACE_UNITS | _GRID_UNITS,
                "certificate": certificate_of(chain.surface) if chain.surface is not None else None,
                "reason": why_no_surface(chain),
            }
            if grid is not None:
                return table_answer("grid", grid_columns(chain, *grid), about, query)
            return table_answer("expirations", columns_of(slice_columns(chain), chain, query.expiration), about, query)

        return chain_answer(desk, path, query, made)

    @api.get(
        "/options/<underlying>/skew",
        summary="Risk reversals, butterflies and the slope of each expiration",
        responses={200: SkewModel, 404: ProblemModel, 422: ProblemModel},
    )
    def skew(path: UnderlyingPath, query: ExpirationQuery) -> Response:
        def made(chain: PricedChain) -> Response:
            about = chain_heading(chain, settings) | {"units": _UNITS | _DELTA_UNITS}
            return table_answer("expirations", columns_of(skew_columns(chain), chain, query.expiration), about, query)

        return chain_answer(desk, path, query, made)

    @api.get(
        "/options/<underlying>/term-structure",
        summary="Volatility at the money and forward volatility by expiration",
        responses={200: TermStructureModel, 404: ProblemModel, 422: ProblemModel},
    )
    def term_structure(path: UnderlyingPath, query: TermStructureQuery) -> Response:
        maturities = parse_maturities(query.days)

        def made(chain: PricedChain) -> Response:
            about = chain_heading(chain, settings) | {
                "units": _UNITS | _TERM_UNITS,
                "constant_maturities": constant_maturities(chain, maturities),
            }
            return table_answer("expirations", term_structure_columns(chain), about, query)

        return chain_answer(desk, path, query, made)

    return api


def _grid(query: SurfaceQuery) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Moneyness and days; None where no grid was asked for."""
    if not query.grid:
        if given := sorted(query.model_fields_set & _OF_THE_GRID):
            raise invalid("#/query/grid", f"{', '.join(given)}: only with grid=true")
        return None
    if query.expiration is not None:
        raise invalid("#/query/expiration", "a grid is of days, not of an expiration")
    if not query.moneyness_from < query.moneyness_to:
        raise invalid("#/query/moneyness_to", f"must be above moneyness_from, {query.moneyness_from:g}")
    days = parse_maturities(query.days)
    if len(days) * query.moneyness_steps > _MOST_POINTS:
        raise invalid("#/query/moneyness_steps", f"with {len(days)} days at most {_MOST_POINTS // len(days)}")
    moneyness = np.linspace(query.moneyness_from, query.moneyness_to, query.moneyness_steps)
    return np.round(moneyness, 12), np.array(days)
