"""The gap ledger, in pages."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import invalid
from ots_common.schemas import PageQuery, ProblemModel, TableModel
from ots_common.tables import Kind, table_response
from ots_common.times import Moment, rfc3339
from ots_ingestion.gaps import Gap, gaps_page
from ots_ingestion.routes.market_data import Dataset
from ots_ingestion.settings import IngestionSettings
from ots_market.symbols import Symbol, canonical_symbol

_TAG = Tag(name="gaps", description="What may be missing, and what became of it")
_LAST_NS = 2**63 - 1
_COLUMNS: dict[str, Kind] = {
    "id": "integer", "start": "time", "end": "time", "dataset": "text", "schema": "text", "symbol": "text",
    "evidence": "text", "detail": "text", "state": "text", "opened_at": "time", "closed_at": "time",
    "closed_by": "text", "found": "integer", "repair_attempts": "integer", "repair_after": "time",
    "repair_note": "text",
}  # fmt: skip


class GapsQuery(PageQuery):
    """A page of gaps that overlap [start, end)."""

    start: Moment = Field(0, description="Gaps that end after this time.")
    end: Moment = Field(_LAST_NS, description="Gaps that start before this time.")
    dataset: Dataset | None = None
    gap_schema: str | None = Field(None, alias="schema", max_length=20, pattern=r"^[a-z0-9-]+$")
    symbol: Symbol | None = Field(
        None, description="A ticker or a parent (`AAPL.OPT`); gaps of a whole subscription are always among the answer."
    )
    state: Literal["open", "closed", "all"] = "all"


class GapModel(BaseModel):
    """An interval [start, end) of which records may be missing; ``end`` null: not over yet."""

    id: int
    start: str
    end: str | None
    dataset: str
    schema_: str = Field(alias="schema")
    symbol: str | None = Field(description="null: everything collected of that dataset and schema")
    evidence: str
    detail: str
    state: Literal["open", "closed"]
    opened_at: str
    closed_at: str | None
    closed_by: str | None = Field(description="replay, backfill, or session (nothing had been missing)")
    found: int | None = Field(description="records that the closing brought in")
    repair_attempts: int
    repair_after: str | None
    repair_note: str | None


class GapsModel(TableModel):
    """Gaps in order of their start."""

    source: str
    gaps: list[GapModel]
    next: str | None


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The route of the gap ledger."""
    api = APIBlueprint("gaps", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.get("/gaps", summary="The gap ledger", responses={200: GapsModel, 422: ProblemModel})
    def gaps(query: GapsQuery) -> Response:
        if query.start >= query.end:
            raise invalid("#/query/end", "must be later than start")
        after = decode_cursor(query.cursor, (int, int)) if query.cursor else None
        with database.connection() as connection, connection.cursor() as cursor:
            found = gaps_page(
                cursor,
                dataset=query.dataset,
                schema=query.gap_schema,
                symbols=[canonical_symbol(query.symbol)] if query.symbol else None,
                state=query.state,
                start_ns=query.start,
                end_ns=query.end,
                after=after,
                limit=query.limit + 1,
            )
        page = found[: query.limit]
        cursor_after = encode_cursor([page[-1].starts_ns, page[-1].gap_id]) if len(found) > query.limit else None
        about = {"source": settings.market_source}
        return table_response("gaps", [shape(gap) for gap in page], _COLUMNS, about, cursor_after)

    return api


def shape(gap: Gap) -> dict[str, Any]:
    """A gap as JSON."""
    return {
        "id": gap.gap_id,
        "start": rfc3339(gap.starts_ns),
        "end": None if gap.ends_ns is None else rfc3339(gap.ends_ns),
        "dataset": gap.dataset,
        "schema": gap.schema,
        "symbol": gap.symbol,
        "evidence": gap.evidence,
        "detail": gap.detail,
        "state": "open" if gap.closed_at is None else "closed",
        "opened_at": _moment(gap.opened_at),
        "closed_at": _moment(gap.closed_at),
        "closed_by": gap.closed_by,
        "found": gap.found,
        "repair_attempts": gap.repair_attempts,
        "repair_after": _moment(gap.repair_after),
        "repair_note": gap.repair_note,
    }


def _moment(value: Any) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")
