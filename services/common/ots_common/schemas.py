"""What the request models of all services share."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from flask_openapi3.models.media_type import MediaType
from flask_openapi3.models.schema import Schema
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ots_common.media_types import ARROW, CSV, JSON, PARQUET, table_types

# text that PostgreSQL can hold, and that does not break a line of a log
PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", strip_whitespace=True)]


class RequestModel(BaseModel):
    """A path, query or body. A parameter that is not known is an error: a typo must not pass for the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def model_json_schema(cls, *arguments: Any, **more: Any) -> dict[str, Any]:
        """As pydantic's. Without arguments it is kept, not to be changed: flask-openapi3 reads it with each request."""
        return super().model_json_schema(*arguments, **more) if arguments or more else _json_schema(cls)


@cache
def _json_schema(model: type[RequestModel]) -> dict[str, Any]:
    return super(RequestModel, model).model_json_schema()


class PageQuery(RequestModel):
    """The part of a query that asks for one page of a list."""

    limit: int = Field(1000, ge=1, le=10_000, description="Rows at most.")
    cursor: str | None = Field(None, max_length=512, description="`next` of the page before.")


def _as_table() -> dict[str, Any]:
    """What a table may be instead of JSON, for flask-openapi3."""
    said = {
        CSV: Schema(type="string", description='RFC 4180 with a header; null is nothing, an empty text `""`'),
        ARROW: Schema(type="string", format="binary", description="Arrow IPC stream; `ots.about` in its metadata"),
        PARQUET: Schema(type="string", format="binary", description="Parquet; `ots.about` in its metadata"),
    }
    return {"content": {kind: MediaType(schema=said[kind]) for kind in table_types() if kind != JSON}}


class TableModel(BaseModel):
    """An answer around a table, which the client may have as CSV, Arrow or Parquet instead."""

    model_config = ConfigDict(openapi_extra=_as_table())  # type: ignore[typeddict-unknown-key]


def _any_part(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


class TableRow(BaseModel):
    """A row of a table of which ``fields`` may leave out any column."""

    model_config = ConfigDict(json_schema_extra=_any_part)


class TablePageQuery(PageQuery):
    """One page of a table, and its columns."""

    fields: str | None = Field(
        None, max_length=500, description="Columns of the table, comma-separated, in that order; default all."
    )


class ProblemModel(BaseModel):
    """An error (RFC 9457). ``errors`` names each wrong field; ``hint`` is something that works."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
