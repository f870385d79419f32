"""What could not be stored, in pages; the bytes stay in the database."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.schemas import PageQuery, PlainText, ProblemModel, TableModel
from ots_common.tables import Kind, table_response
from ots_common.times import rfc3339
from ots_ingestion.dead_letters import Letter, letters_page
from ots_ingestion.routes.market_data import Dataset
from ots_ingestion.settings import IngestionSettings

_TAG = Tag(name="dead letters", description="Records that could not be stored")
_COLUMNS: dict[str, Kind] = {
    "id": "integer", "dataset": "text", "schema": "text", "reason": "text", "origin": "text", "number": "integer",
    "bytes": "integer", "whole": "flag", "first_time": "time", "state": "text", "buried_at": "time", "seen": "integer",
    "attempts": "integer", "tried_at": "time", "stored": "integer", "note": "text", "replayed_at": "time",
}  # fmt: skip


class LettersQuery(PageQuery):
    """A page of dead letters, the newest first."""

    reason: PlainText | None = Field(None, max_length=100)
    dataset: Dataset | None = None
    state: Literal["waiting", "replayed", "all"] = "all"


class LetterModel(BaseModel):
    """Records of one schema that were refused for one reason."""

    id: int
    dataset: str
    schema_: str = Field(alias="schema")
    reason: str
    origin: str = Field(description="where they came from")
    number: int = Field(description="records in it now")
    bytes: int
    whole: bool = Field(description="false: the bytes are no whole records, and no replay can read them")
    first_time: str | None
    state: Literal["waiting", "replayed"]
    buried_at: str
    seen: int = Field(description="how often the same bytes came for the same reason")
    attempts: int
    tried_at: str | None
    stored: int = Field(description="records of it that replays have stored")
    note: str | None = Field(description="why the last replay could not store what is left")
    replayed_at: str | None


class LettersModel(TableModel):
    """Dead letters, the newest first."""

    source: str
    dead_letters: list[LetterModel]
    next: str | None


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The route of dead letters."""
    api = APIBlueprint("dead_letters", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.get("/dead-letters", summary="What could not be stored", responses={200: LettersModel, 422: ProblemModel})
    def letters(query: LettersQuery) -> Response:
        after = decode_cursor(query.cursor, (int,))[0] if query.cursor else None
        with database.connection() as connection, connection.cursor() as cursor:
            found = letters_page(
                cursor,
                reason=query.reason,
                dataset=query.dataset,
                state=query.state,
                after=after,
                limit=query.limit + 1,
            )
        page = found[: query.limit]
        cursor_after = encode_cursor([page[-1].dead_letter_id]) if len(found) > query.limit else None
        about = {"source": settings.market_source}
        return table_response("dead_letters", [_shape(letter) for letter in page], _COLUMNS, about, cursor_after)

    return api


def _shape(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.dead_letter_id,
        "dataset": letter.dataset,
        "schema": letter.schema,
        "reason": letter.reason,
        "origin": letter.origin,
        "number": letter.number,
        "bytes": letter.bytes,
        "whole": letter.whole,
        "first_time": None if letter.first_at_ns is None else rfc3339(letter.first_at_ns),
        "state": "waiting" if letter.replayed_at is None else "replayed",
        "buried_at": _moment(letter.buried_at),
        "seen": letter.seen,
        "attempts": letter.attempts,
        "tried_at": _moment(letter.tried_at),
        "stored": letter.stored,
        "note": letter.note,
        "replayed_at": _moment(letter.replayed_at),
    }


def _moment(value: Any) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")
