"""What the open contracts of a chain are: their exposures, open interest and put/call ratios."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics import exposures, open_interest
from ots_analytics import reading_examples as goog
from ots_analytics.chain_answers import chain_answer, table_answer
from ots_analytics.chain_expirations import only_expiration
from ots_analytics.chain_queries import ChainHeadingModel, UnderlyingPath, chain_heading
from ots_analytics.desk import Desk
from ots_analytics.routes.surfaces import TAG
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.table_queries import ExpirationQuery
from ots_chains.priced_chains import PricedChain
from ots_common.database import Database
from ots_common.schemas import ProblemModel, TableModel, TableRow

_OPEN_INTEREST_UNITS = {
    "open_interest, volume": "contracts; volume of the session up to `as_of`",
    "put_call_ratio": "contracts of puts over those of calls",
    "max_pain": "dollars: the strike at which holders are paid least; that spots are drawn to it is a claim of others",
}


class ExposureQuery(ExpirationQuery):
    """The moment, the rows, the assumption, the volatilities."""

    by: exposures.By = Field("strike", description="A row a strike, or an expiration.")
    side: exposures.Side = Field(
        "calls_long_puts_short",
        description="Of `gamma`, `delta`, `vanna`, `charm` and `zero_gamma`: what the dealers are assumed to hold. The"
        " default is the usual guess, and a guess.",
    )
    volatility: exposures.Volatility = Field(
        "filled",
        description="`quoted`: each contract at its own implied volatility, those without one left out; `filled`: those"
        " at the fitted surface's, within its quoted strikes.",
    )
    profile: bool = Field(False, description="Also total gamma over the spots that were searched for its zero.")


class OpenInterestQuery(ExpirationQuery):
    """The moment, and the rows."""

    by: open_interest.By = Field("strike", description="A row a strike, an expiration, or a contract.")


class OpenInterestDateModel(BaseModel):
    """Of which day the open interest is."""

    date: str | None = Field(description="the day at whose end it was counted; the newest where contracts differ")
    oldest_date: str | None
    contracts: int = Field(description="of which it is known")
    contracts_without: int
    meaning: str
    reason: str | None


class GreeksInDollarsModel(BaseModel):
    """Null where every contract is left out."""

    gamma: float | None
    delta: float | None
    vanna: float | None
    charm: float | None


class AssumptionsModel(BaseModel):
    """By what the dealers are assumed to hold."""

    calls_long_puts_short: GreeksInDollarsModel
    calls_short_puts_long: GreeksInDollarsModel
    all_short: GreeksInDollarsModel
    all_long: GreeksInDollarsModel


class TotalsModel(BaseModel):
    """Of all contracts: under each assumption, and the least and the greatest of those."""

    assumptions: AssumptionsModel
    least: GreeksInDollarsModel
    greatest: GreeksInDollarsModel


class LeftOutModel(BaseModel):
    """Contracts whose open interest is unknown, or whose Greeks are, and which are in no sum."""

    contracts: int
    reasons: dict[str, int]
    open_interest: int = Field(description="that they hold, as far as it is known")
    of_open_interest: int = Field(description="of all contracts")
    at_the_surfaces_volatility: int = Field(description="contracts in the sums that have no implied volatility")


class SearchedModel(BaseModel):
    """The spots that were looked at, evenly spaced."""

    model_config = ConfigDict(populate_by_name=True)

    from_: float = Field(alias="from")
    to: float
    points: int


class GammaAtSpotModel(BaseModel):
    """Total gamma were the spot there; European Greeks."""

    spot: float
    gamma: float


class ZeroGammaModel(BaseModel):
    """The spot at which total gamma changes sign under the assumption asked for."""

    spot: float | None = Field(description="the one next to the spot")
    all: list[float] = Field(description="all within the grid, by European Greeks")
    exercise: str | None = Field(description="of `spot`: american, or european where American Greeks show no zero near")
    reason: str | None = Field(description="why there is none")
    assumption: str
    searched: SearchedModel | None
    profile: list[GammaAtSpotModel] | None


class MaxPainModel(BaseModel):
    """The strike at which the contracts of one expiration pay their holders least."""

    strike: float | None
    highest: float | None = Field(description="the highest such strike, where several pay the same")
    reason: str | None


class ExposureRow(TableRow):
    """A strike, or an expiration: under the assumption asked for, and the least and greatest under all."""

    strike: float = Field(description="by=strike")
    expiration: str = Field(description="by=expiration")
    days_to_expiration: int
    max_pain: float | None
    max_pain_highest: float | None
    gamma: float | None
    gamma_least: float | None
    gamma_greatest: float | None
    delta: float | None
    delta_least: float | None
    delta_greatest: float | None
    vanna: float | None
    vanna_least: float | None
    vanna_greatest: float | None
    charm: float | None
    charm_least: float | None
    charm_greatest: float | None
    left_out: int = Field(description="contracts that are in no sum")
    reason: str | None


_EXPOSURE_EXAMPLE: dict[str, Any] = {
    **goog.HEADING,
    "units": exposures.UNITS,
    "who_is_long": exposures.WHO_IS_LONG,
    "side": "calls_long_puts_short",
    "volatility": "filled",
    "open_interest": {**goog.OPEN_INTEREST, "meaning": open_interest.DATE_OF_FIGURES},
    "totals": goog.TOTALS,
    "contracts_left_out": goog.CONTRACTS_LEFT_OUT,
    "zero_gamma": goog.ZERO_GAMMA,
    "max_pain": goog.MAX_PAIN,
    "strikes": goog.EXPOSURES,
    "next": None,
}


class ExposureModel(ChainHeadingModel, TableModel):
    """Exposures in total, and by strike or expiration."""

    model_config = ConfigDict(json_schema_extra={"example": _EXPOSURE_EXAMPLE})

    units: dict[str, str]
    who_is_long: str
    side: exposures.Side
    volatility: exposures.Volatility
    open_interest: OpenInterestDateModel
    totals: TotalsModel
    contracts_left_out: LeftOutModel
    zero_gamma: ZeroGammaModel
    max_pain: MaxPainModel
    strikes: list[ExposureRow] = Field([], description="by=strike")
    expirations: list[ExposureRow] = Field([], description="by=expiration")
    next: None


class PutCallModel(BaseModel):
    """``put_call_ratio`` is null where there are no calls."""

    put_call_ratio: float | None
    puts: int | None
    calls: int | None
    reason: str | None


class PutCallTotalsModel(BaseModel):
    """Of all contracts."""

    open_interest: PutCallModel
    volume: PutCallModel


class OpenInterestRow(TableRow):
    """A strike, an expiration, or a contract."""

    symbol: str = Field(description="by=contract")
    expiration: str
    strike: float
    right: str
    open_interest: int | None
    open_interest_date: str | None
    volume: int
    days_to_expiration: int
    call_open_interest: int | None
    put_open_interest: int | None
    open_interest_put_call_ratio: float | None
    call_volume: int
    put_volume: int
    volume_put_call_ratio: float | None
    contracts: int
    contracts_without_open_interest: int
    max_pain: float | None
    max_pain_highest: float | None
    reason: str | None


_OPEN_INTEREST_EXAMPLE: dict[str, Any] = {
    **goog.HEADING,
    "units": _OPEN_INTEREST_UNITS,
    "open_interest": {**goog.OPEN_INTEREST, "meaning": open_interest.DATE_OF_FIGURES},
    "totals": goog.PUT_CALL,
    "max_pain": goog.MAX_PAIN,
    "expirations": goog.OPEN_INTERESTS,
    "next": None,
}


class OpenInterestModel(ChainHeadingModel, TableModel):
    """Open interest and volume."""

    model_config = ConfigDict(json_schema_extra={"example": _OPEN_INTEREST_EXAMPLE})

    units: dict[str, str]
    open_interest: OpenInterestDateModel
    totals: PutCallTotalsModel
    max_pain: MaxPainModel
    strikes: list[OpenInterestRow] = Field([], description="by=strike")
    expirations: list[OpenInterestRow] = Field([], description="by=expiration")
    contracts: list[OpenInterestRow] = Field([], description="by=contract")
    next: None


def blueprint(settings: AnalyticsSettings, _database: Database, desk: Desk) -> APIBlueprint:
    """The routes of open contracts."""
    api = APIBlueprint("exposures", __name__, url_prefix="/api/v1/analytics", abp_tags=[TAG])

    @api.get(
        "/options/<underlying>/exposure",
        summary="Gamma, delta, vanna and charm of all open contracts, with the band of assumptions",
        responses={200: ExposureModel, 404: ProblemModel, 422: ProblemModel},
    )
    def exposure(path: UnderlyingPath, query: ExposureQuery) -> Response:
        def made(whole: PricedChain) -> Response:
            chain = only_expiration(whole, query.expiration)
            held = exposures.held_by(chain, query.volatility)
            columns = exposures.exposure_columns(chain, held, query.by, query.side)
            about = chain_heading(whole, settings) | {
                "units": exposures.UNITS,
                "who_is_long": exposures.WHO_IS_LONG,
                "side": query.side,
                "volatility": query.volatility,
                "open_interest": open_interest.dates_of(chain),
                "totals": exposures.totals_of(held),
                "contracts_left_out": exposures.left_out_of(chain, held),
                "zero_gamma": exposures.zero_gamma_of(chain, held, query.side, profile=query.profile),
                "max_pain": open_interest.max_pain_answer(chain),
            }
            return table_answer(f"{query.by}s", columns, about, query)

        return chain_answer(desk, path, query, made)

    @api.get(
        "/options/<underlying>/open-interest",
        summary="Open interest and volume with put/call ratios",
        responses={200: OpenInterestModel, 404: ProblemModel, 422: ProblemModel},
    )
    def open_contracts(path: UnderlyingPath, query: OpenInterestQuery) -> Response:
        def made(whole: PricedChain) -> Response:
            chain = only_expiration(whole, query.expiration)
            columns = open_interest.open_interest_columns(chain, query.by)
            about = chain_heading(whole, settings) | {
                "units": _OPEN_INTEREST_UNITS,
                "open_interest": open_interest.dates_of(chain),
                "totals": open_interest.totals_of(chain),
                "max_pain": open_interest.max_pain_answer(chain),
            }
            return table_answer(f"{query.by}s", columns, about, query)

        return chain_answer(desk, path, query, made)

    return api
