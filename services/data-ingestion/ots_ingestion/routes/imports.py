"""Importing DBN files, and the runs that come of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from flask import Response, json, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem, invalid
from ots_common.schemas import PageQuery, ProblemModel, RequestModel, TableModel
from ots_common.service import caller
from ots_common.tables import Kind, table_response
from ots_ingestion import runs
from ots_ingestion.intake import check_source, take_in
from ots_ingestion.settings import IngestionSettings

MEDIA_TYPE = "application/vnd.databento.dbn"
_TAG = Tag(name="imports", description="Databento's DBN files, stored record by record, each once")


class ImportQuery(RequestModel):
    """How long to wait for the end of the run."""

    wait: float = Field(0, description="Seconds to wait for the run to end, at most 300; 0 answers at once.")


class RunPath(RequestModel):
    """A run."""

    run_id: UUID


_COLUMNS: dict[str, Kind] = {
    "id": "text", "status": "text", "dataset": "text", "schema": "text", "total": "integer", "read": "integer",
    "stored": "integer", "revised": "integer", "duplicate": "integer", "rejected": "integer", "control": "integer",
    "reasons": "json", "first_time": "time", "last_time": "time", "bytes": "integer", "sha256": "text",
    "requested_by": "text", "created_at": "time", "started_at": "time", "finished_at": "time", "error": "text",
}  # fmt: skip


class RunModel(BaseModel):
    """A run; counts are of records: ``read`` = stored + revised + duplicate + rejected + control."""

    id: str
    status: str = Field(description="queued, running, done or failed")
    dataset: str
    schema_: str = Field(alias="schema", description="Databento's name, or `mixed`")
    total: int
    read: int
    stored: int = Field(description="stored now, for the first time")
    revised: int = Field(description="vendor's bars that replaced an earlier, different version")
    duplicate: int = Field(description="already there")
    rejected: int = Field(description="could not be stored; see `reasons`")
    control: int = Field(description="system, mapping, status and error messages: no market data")
    reasons: dict[str, int]
    first_time: str | None
    last_time: str | None
    bytes: int
    sha256: str
    requested_by: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: str | None


class RunsModel(TableModel):
    """Runs, the newest first."""

    runs: list[RunModel]
    next: str | None


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The routes of imports and runs."""
    api = APIBlueprint("imports", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.post(
        "/imports",
        summary="Import a DBN file, sent as the body",
        responses={
            200: RunModel,
            202: RunModel,
            409: ProblemModel,
            413: ProblemModel,
            415: ProblemModel,
            422: ProblemModel,
        },
        openapi_extensions={
            "requestBody": {
                "required": True,
                "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    def import_file(query: ImportQuery) -> Response:
        _check_request(settings)
        run_id = take_in(request.stream, database, settings, caller().username)
        wait = min(max(query.wait, 0.0), settings.max_wait_s) if query.wait == query.wait else 0.0
        run = runs.wait_for_run(database, run_id, wait)
        ended = run is not None and run["status"] in ("done", "failed")
        return Response(
            json.dumps(run),
            200 if ended else 202,
            mimetype="application/json",
            headers={"Location": f"/api/v1/data/runs/{run_id}"},
        )

    @api.get("/runs/<uuid:run_id>", summary="One run", responses={200: RunModel, 404: ProblemModel})
    def get_run(path: RunPath) -> Response:
        run = runs.get_run(database, path.run_id)
        if run is None:
            raise Problem(404, "unknown-run", f"there is no run {path.run_id}", hint="GET /api/v1/data/runs lists them")
        return Response(json.dumps(run), mimetype="application/json")

    @api.get("/runs", summary="The runs, the newest first", responses={200: RunsModel})
    def list_runs(query: PageQuery) -> Response:
        before = _position(query.cursor) if query.cursor else None
        rows = runs.list_runs(database, before, query.limit + 1)
        page = rows[: query.limit]
        more = len(rows) > query.limit
        cursor = encode_cursor([page[-1]["created_at"].isoformat(), str(page[-1]["run_id"])]) if more else None
        shaped = [runs.shape(row) for row in page]
        return table_response("runs", shaped, _COLUMNS, {}, cursor)

    return api


def _position(cursor: str) -> tuple[datetime, UUID]:
    created_at, run_id = decode_cursor(cursor, (str, str))
    try:
        return datetime.fromisoformat(created_at), UUID(run_id)
    except ValueError as error:
        raise invalid("#/query/cursor", "not a cursor of this list") from error


def _check_request(settings: IngestionSettings) -> None:
    check_source(settings)
    if request.mimetype != MEDIA_TYPE:
        raise Problem(
            415,
            "media-type",
            f"the body must be a DBN file sent as {MEDIA_TYPE}, not {request.mimetype or 'nothing'}",
            hint=f'curl -X POST --data-binary @FILE -H "Content-Type: {MEDIA_TYPE}" -H "Authorization: Bearer $TOKEN" '
            '"http://localhost:8000/api/v1/data/imports?wait=60"',
        )
    if request.content_encoding:
        raise Problem(415, "content-encoding", "send the file as it is, without Content-Encoding; .zst is welcome")
    if request.content_length is not None and request.content_length > settings.max_upload_bytes:
        raise Problem(413, "too-large", f"the upload is larger than {settings.max_upload_bytes} bytes; split the file")
