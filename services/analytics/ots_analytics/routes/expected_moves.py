"""How far the options say that the spot will move until each expiration."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import ConfigDict, Field

from ots_analytics import reading_examples as goog
from ots_analytics.chain_answers import chain_answer, table_answer
from ots_analytics.chain_expirations import only_expiration
from ots_analytics.chain_queries import ChainHeadingModel, UnderlyingPath, chain_heading
from ots_analytics.desk import Desk
from ots_analytics.expected_moves import ASSUMPTIONS, QUANTITIES, move_columns
from ots_analytics.routes.surfaces import TAG
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.table_queries import ExpirationQuery
from ots_chains.priced_chains import PricedChain
from ots_common.database import Database
from ots_common.schemas import ProblemModel, TableModel, TableRow

_UNITS = {
    "moves, prices, lower, upper": "dollars, until the expiration's close",
    "at_the_money": "volatility at the forward, a decimal a year, years of 365 days",
    "straddle": "one call and one put: sold at the bids, bought at the asks",
    "days_to_expiration": "calendar days from the session's date to the expiration's",
}


class MoveRow(TableRow):
    """An expiration. A name ends with the quantity: see `quantities` and `assumptions`."""

    expiration: str
    days_to_expiration: int
    years: float
    forward: float | None
    at_the_money: float | None
    straddle_strike: float | None = Field(description="nearest to the forward, both legs quoted on two sides")
    straddle_bid: float | None = Field(description="what selling it brings")
    straddle_mid: float | None
    straddle_ask: float | None = Field(description="what buying it costs")
    straddle_mean_absolute_at_bid: float | None
    straddle_mean_absolute_at_mid: float | None
    straddle_mean_absolute_at_ask: float | None
    straddle_standard_deviation_at_mid: float | None
    straddle_desk_convention_at_mid: float | None
    flat_mean_absolute: float | None
    flat_standard_deviation: float | None
    flat_lower: float | None
    flat_upper: float | None
    smile_mean_absolute: float | None
    smile_standard_deviation: float | None
    smile_lower: float | None
    smile_upper: float | None
    smile_probability_between_quoted_strikes: float | None = Field(
        description="how much of the distribution quotes tell of; the rest lies in the fitted wings"
    )
    reason: str | None = Field(description="of each part that is null, or of which something must be known")


_EXPECTED_MOVE_EXAMPLE: dict[str, Any] = {
    **goog.HEADING,
    "units": _UNITS,
    "quantities": QUANTITIES,
    "assumptions": ASSUMPTIONS,
    "expirations": goog.MOVES,
    "next": None,
}


class ExpectedMoveModel(ChainHeadingModel, TableModel):
    """Two quantities by three assumptions, for each expiration."""

    model_config = ConfigDict(json_schema_extra={"example": _EXPECTED_MOVE_EXAMPLE})

    units: dict[str, str]
    quantities: dict[str, str]
    assumptions: dict[str, str]
    expirations: list[MoveRow]
    next: None


def blueprint(settings: AnalyticsSettings, _database: Database, desk: Desk) -> APIBlueprint:
    """The route of expected moves."""
    api = APIBlueprint("expected_moves", __name__, url_prefix="/api/v1/analytics", abp_tags=[TAG])

    @api.get(
        "/options/<underlying>/expected-move",
        summary="The expected move until each expiration",
        responses={200: ExpectedMoveModel, 404: ProblemModel, 422: ProblemModel},
    )
    def expected_move(path: UnderlyingPath, query: ExpirationQuery) -> Response:
        def made(chain: PricedChain) -> Response:
            columns = move_columns(only_expiration(chain, query.expiration))
            about = chain_heading(chain, settings) | {
                "units": _UNITS,
                "quantities": QUANTITIES,
                "assumptions": ASSUMPTIONS,
            }
            return table_answer("expirations", columns, about, query)

        return chain_answer(desk, path, query, made)

    return api
