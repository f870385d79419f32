"""The self-checks, in pages: whether what is stored is what was counted when it was stored."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.schemas import PageQuery, ProblemModel, TableModel
from ots_common.tables import Kind, table_response
from ots_ingestion.self_check import Check, checks_page
from ots_ingestion.settings import IngestionSettings

_TAG = Tag(name="self-checks", description="Whether what is stored is what was stored")
_COLUMNS: dict[str, Kind] = {
    "id": "integer", "started_at": "time", "finished_at": "time", "asked_by": "text", "stretches": "integer",
    "left_over": "integer", "rows": "integer", "difference_rows": "integer", "schemas": "json", "differences": "json",
}  # fmt: skip
_OF_SCHEMA: dict[str, JsonValue] = {
    "dataset": "EQUS.MINI",
    "schema": "trades",
    "rows": 250601,
    "missing": 1,
    "surplus": 0,
    "altered": 0,
}
_DIFFERENCE: dict[str, JsonValue] = {
    "table": "trades",
    "dataset": "EQUS.MINI",
    "schema": "trades",
    "day": "2025-09-22",
    "counted": 250601,
    "stored": 250600,
    "missing": 1,
    "surplus": 0,
    "altered": 0,
}


class ChecksQuery(PageQuery):
    """A page of self-checks, the newest first."""

    limit: int = Field(100, ge=1, le=1000, description="Self-checks at most.")


class SchemaCheckModel(BaseModel):
    """What was found of one dataset and schema."""

    model_config = ConfigDict(json_schema_extra={"examples": [_OF_SCHEMA]})

    dataset: str = Field(description="empty: rows of instruments that are not known")
    schema_: str = Field(alias="schema")
    rows: int = Field(description="rows that this check compared")
    missing: int = Field(description="rows that were counted and are not there")
    surplus: int = Field(description="rows that are there and were not counted")
    altered: int = Field(description="days of as many rows but other values, and bars that differ from their trades")


class DifferenceModel(BaseModel):
    """A day of which what is stored is not what was counted, as its last comparison found it, in whichever check."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DIFFERENCE]})

    table: str
    dataset: str
    schema_: str = Field(alias="schema")
    day: str | None = Field(description="UTC; null: minute bars that are not what the stored trades make")
    counted: int | None
    stored: int | None
    missing: int
    surplus: int
    altered: int


class CheckModel(BaseModel):
    """A comparison of what is stored with what was counted as it was stored."""

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "id": 12,
                    "started_at": "2026-12-01T17:00:00.104501Z",
                    "finished_at": "2026-12-01T17:00:01.352007Z",
                    "asked_by": "maintenance",
                    "stretches": 9,
                    "left_over": 0,
                    "rows": 250600,
                    "difference_rows": 1,
                    "schemas": [{**_OF_SCHEMA, "rows": 250600}],
                    "differences": [_DIFFERENCE],
                }
            ]
        }
    }

    id: int
    started_at: str
    finished_at: str
    asked_by: str = Field(description="maintenance, or cli:<user>")
    stretches: int = Field(description="days, or longer chunks of a table, that were compared")
    left_over: int = Field(description="stretches that had changed and were too many: the next checks take them")
    rows: int = Field(description="rows that were compared")
    difference_rows: int = Field(description="rows by which what is stored and what was counted differ; 0 is right")
    schemas: list[SchemaCheckModel]
    differences: list[DifferenceModel] = Field(description="the first 200 that stand, those of earlier checks included")


class ChecksModel(TableModel):
    """Self-checks, the newest first."""

    source: str
    self_checks: list[CheckModel]
    next: str | None


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The route of self-checks."""
    api = APIBlueprint("self_checks", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.get(
        "/self-checks",
        summary="Whether what is stored is what was stored",
        responses={200: ChecksModel, 422: ProblemModel},
    )
    def self_checks(query: ChecksQuery) -> Response:
        before = decode_cursor(query.cursor, (int,))[0] if query.cursor else None
        with database.connection() as connection, connection.cursor() as cursor:
            found = checks_page(cursor, before=before, limit=query.limit + 1)
        page = found[: query.limit]
        cursor_after = encode_cursor([page[-1].check_id]) if len(found) > query.limit else None
        about = {"source": settings.market_source}
        return table_response("self_checks", [_shape(one) for one in page], _COLUMNS, about, cursor_after)

    return api


def _shape(check: Check) -> dict[str, Any]:
    return {
        "id": check.check_id,
        "started_at": _moment(check.started_at),
        "finished_at": _moment(check.finished_at),
        "asked_by": check.asked_by,
        "stretches": check.stretches,
        "left_over": check.left_over,
        "rows": check.rows,
        "difference_rows": check.difference,
        "schemas": [asdict(one) for one in check.schemas],
        "differences": [asdict(one) for one in check.differences],
    }


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
