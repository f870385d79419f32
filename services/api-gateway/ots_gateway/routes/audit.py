"""The audit log, for administrators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, StringConstraints

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.tables import table_response, wants_csv
from ots_common.times import Moment, rfc3339, to_datetime
from ots_gateway.audit_log import FIELDS

_TAG = Tag(name="audit", description="Who did what")
_COLUMNS = (*FIELDS, "hash")
Event = Literal[
    "login", "login_failed", "refresh", "refresh_failed", "refresh_reused", "logout", "password_change",
    "password_reset", "user_create", "user_change", "user_remove", "key_create", "key_revoke", "signing_key", "write",
    "refused",
]  # fmt: skip


class AuditQuery(RequestModel):
    """Which rows, the newest first; ``start`` is in, ``end`` is out."""

    user: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._@-]{1,64}$")] | None = Field(None, description="a name")
    event: Event | None = None
    start: Moment | None = None
    end: Moment | None = None
    limit: int = Field(100, ge=1, le=10_000, description="Rows at most.")
    cursor: str | None = Field(None, max_length=512, description="`next` of the page before.")


class AuditRow(BaseModel):
    """A row. ``detail`` is JSON: what was changed."""

    entry_id: int
    at: str
    request_id: str
    user_id: str | None
    username: str | None
    role: str | None
    credential: str | None = Field(description="`token:` and its jti, or `key:` and its id")
    address: str
    method: str
    path: str
    status: int
    event: Event
    detail: str | None
    hash: str


class AuditModel(BaseModel):
    """Rows, the newest first."""

    entries: list[AuditRow]
    next: str | None


def blueprint(database: Database) -> APIBlueprint:
    """The route of the audit log."""
    api = APIBlueprint("audit", __name__, url_prefix="/api/v1", abp_tags=[_TAG])

    @api.get("/audit", summary="Who did what", responses={200: AuditModel, 422: ProblemModel})
    def audit(query: AuditQuery) -> Response:
        if query.start is not None and query.end is not None and query.start >= query.end:
            raise invalid("#/query/end", "must be after start")
        rows = database.rows(*_question(query))
        page = [_row(row) for row in rows[: query.limit]]
        cursor = encode_cursor([page[-1]["entry_id"]]) if len(rows) > query.limit else None
        if wants_csv():
            page = [{name: _harmless(value) for name, value in row.items()} for row in page]
        return table_response("entries", page, _COLUMNS, {}, cursor)

    return api


def _question(query: AuditQuery) -> tuple[str, dict[str, Any]]:
    parameters: dict[str, Any] = {"limit": query.limit + 1}
    conditions = ["true"]
    if query.cursor:
        parameters["before"] = decode_cursor(query.cursor, (int,))[0]
        conditions.append("entry_id < %(before)s")
    if query.user is not None:
        parameters["user"] = query.user
        conditions.append("username = %(user)s")
    if query.event is not None:
        parameters["event"] = query.event
        conditions.append("event = %(event)s")
    if query.start is not None:
        parameters["start"] = to_datetime(query.start)
        conditions.append("at >= %(start)s")
    if query.end is not None:
        parameters["end"] = to_datetime(query.end)
        conditions.append("at < %(end)s")
    columns = ", ".join(
        "(extract(epoch FROM at) * 1000000)::bigint" if name == "at" else f"{name}::text" if name == "user_id" else name
        for name in FIELDS
    )
    where = " AND ".join(conditions)
    return (
        f"SELECT {columns}, encode(hash, 'hex') FROM audit.entries WHERE {where}"
        " ORDER BY entry_id DESC LIMIT %(limit)s",
        parameters,
    )


def _row(row: tuple[Any, ...]) -> dict[str, Any]:
    made = dict(zip(_COLUMNS, row, strict=True))
    made["at"] = rfc3339(int(made["at"]) * 1000)
    return made


def _harmless(value: Any) -> Any:
    """A spreadsheet takes what begins so for a formula, and some of it was typed by whoever was refused."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
