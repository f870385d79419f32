"""Splits and dividends: dated, with their source; splits are applied to bars on reading."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, Literal

from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from psycopg2.extras import execute_values
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ots_common.database import Database
from ots_common.problems import Problem
from ots_common.schemas import PlainText, ProblemModel, RequestModel
from ots_common.service import caller
from ots_ingestion.settings import IngestionSettings
from ots_market.prices import dollars, from_dollars
from ots_market.symbols import Symbol, canonical_symbol

_TAG = Tag(name="corporate actions", description="Splits and dividends")


class ActionBody(RequestModel):
    """A split (``numerator`` new shares for ``denominator`` old) or a cash dividend (``amount`` dollars a share)."""

    kind: Literal["split", "dividend"]
    ex_date: date
    numerator: int | None = Field(None, ge=1, le=1_000_000)
    denominator: int | None = Field(None, ge=1, le=1_000_000)
    amount: Decimal | None = Field(None, gt=0)

    @field_validator("amount")
    @classmethod
    def _exact(cls, value: Decimal | None) -> Decimal | None:
        if value is not None:
            from_dollars(value)
        return value

    @model_validator(mode="after")
    def _whole(self) -> ActionBody:
        split = self.numerator is not None and self.denominator is not None and self.amount is None
        dividend = self.amount is not None and self.numerator is None and self.denominator is None
        if not (split if self.kind == "split" else dividend):
            raise ValueError(
                "a split has numerator and denominator, a dividend has amount, and neither has the other's"
            )
        return self


class ActionsBody(RequestModel):
    """Corporate actions of one symbol. One that is known already (same kind and ex_date) is replaced."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "symbol": "AAPL",
                    "source": "Apple Inc., press release of 2020-07-30",
                    "actions": [{"kind": "split", "ex_date": "2020-08-31", "numerator": 4, "denominator": 1}],
                }
            ]
        }
    )

    symbol: Symbol
    source: PlainText = Field(min_length=1, max_length=200, description="Where this comes from, for whoever doubts it.")
    actions: list[ActionBody] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _distinct(self) -> ActionsBody:
        keys = [(a.kind, a.ex_date) for a in self.actions]
        if len(set(keys)) < len(keys):
            raise ValueError("two actions of one kind on one ex_date")
        return self


class SymbolPath(RequestModel):
    """A ticker."""

    symbol: Symbol


class ActionModel(BaseModel):
    """A corporate action as stored."""

    kind: str
    ex_date: str
    numerator: int | None
    denominator: int | None
    amount: float | None
    source: str
    stated_by: str
    stated_at: str


class ActionsModel(BaseModel):
    """The corporate actions of a symbol, the oldest first."""

    symbol: str
    source: str
    corporate_actions: list[ActionModel]


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The routes of corporate actions."""
    api = APIBlueprint("corporate_actions", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.post(
        "/corporate-actions",
        summary="State splits and dividends of a symbol",
        responses={201: ActionsModel, 422: ProblemModel},
    )
    def state(body: ActionsBody) -> Response:
        symbol = canonical_symbol(body.symbol)
        rows = [
            (
                symbol,
                action.ex_date,
                action.kind,
                action.numerator,
                action.denominator,
                None if action.amount is None else from_dollars(action.amount),
                body.source,
                caller().username,
            )
            for action in body.actions
        ]
        with database.connection() as connection, connection.cursor() as cursor:
            execute_values(
                cursor,
                "INSERT INTO corporate_actions"
                " (symbol, ex_date, kind, numerator, denominator, amount, source, stated_by) VALUES %s"
                " ON CONFLICT (symbol, ex_date, kind) DO UPDATE SET numerator = excluded.numerator,"
                " denominator = excluded.denominator, amount = excluded.amount, source = excluded.source,"
                " stated_by = excluded.stated_by, stated_at = now()",
                rows,
            )
        return _answer(database, symbol, settings.market_source, 201)

    @api.get(
        "/corporate-actions/<symbol>",
        summary="The splits and dividends of a symbol",
        responses={200: ActionsModel, 404: ProblemModel},
    )
    def read(path: SymbolPath) -> Response:
        return _answer(database, canonical_symbol(path.symbol), settings.market_source, 200)

    return api


def _answer(database: Database, symbol: str, source: str, status: int) -> Response:
    rows = database.dicts("SELECT * FROM corporate_actions WHERE symbol = %s ORDER BY ex_date, kind", (symbol,))
    if not rows:
        raise Problem(404, "no-corporate-actions", f"no corporate action of {symbol} is known here")
    body = {"symbol": symbol, "source": source, "corporate_actions": [_shape(row) for row in rows]}
    return Response(json.dumps(body), status, mimetype="application/json")


def _shape(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": row["kind"],
        "ex_date": row["ex_date"].isoformat(),
        "numerator": row["numerator"],
        "denominator": row["denominator"],
        "amount": dollars(row["amount"]),
        "source": row["source"],
        "stated_by": row["stated_by"],
        "stated_at": row["stated_at"].isoformat().replace("+00:00", "Z"),
    }
