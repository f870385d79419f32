"""Asking history: the price first, then a job that can be watched, cancelled and gone on with."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem, invalid
from ots_common.schemas import PageQuery, ProblemModel, RequestModel, TableModel
from ots_common.service import caller
from ots_common.tables import Kind, table_response
from ots_common.times import Moment, rfc3339
from ots_ingestion.backfill_status import get_backfill, list_backfills, shape
from ots_ingestion.backfills import Asked, OverTheCap, ask, cancel, shape_wants
from ots_ingestion.questions import InvalidQuestion, Question
from ots_ingestion.routes.vendor_problems import problem_of
from ots_ingestion.schemas_offered import SchemaNotOffered
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import HURRIED, Vendor, VendorError
from ots_market.symbols import Symbol

_TAG = Tag(name="backfills", description="History from the vendor: priced first, then downloaded and stored once")
_COLUMNS: dict[str, Kind] = {
    "id": "text", "status": "text", "origin": "text", "requested_by": "text", "start": "time", "end": "time",
    "progress": "number", "eta_s": "number", "created_at": "time", "finished_at": "time", "error": "text",
}  # fmt: skip
_CURL = (
    'curl -X POST -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" '
    '-d \'{"symbols":["AAPL"],"schemas":["ohlcv-1d"],"start":"2024-01-02","end":"2024-02-01","dry_run":true}\' '
    '"http://localhost:8000/api/v1/data/backfills"'
)


class OptionsBody(RequestModel):
    """Options of the symbols: what is asked of their whole chains."""

    schemas: list[str] = Field(min_length=1, max_length=20, description="Such as definition, cbbo-1m, statistics.")
    symbols: list[Symbol] | None = Field(
        None, min_length=1, max_length=2000, description="Tickers or parents (`AAPL.OPT`); default: `symbols`."
    )
    closing_minutes: int | None = Field(
        None, ge=1, le=390, description="Sampled quotes only of the last minutes of each session."
    )


class BackfillBody(RequestModel):
    """What is wanted: [start, end) of some symbols, and what it may cost.

    The same question again is the same backfill: one that failed or was cancelled goes on with what it lacks.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "symbols": ["AAPL"],
                    "schemas": ["ohlcv-1d"],
                    "start": "2024-01-02",
                    "end": "2024-02-01",
                    "dry_run": True,
                }
            ]
        }
    )

    symbols: list[Symbol] = Field(
        min_length=1, max_length=20_000, description="Tickers, parents (`AAPL.OPT`: all its options), OSI symbols."
    )
    schemas: list[str] = Field(
        default_factory=list, max_length=20, description="Databento's names: ohlcv-1m, ohlcv-1d, trades, tbbo, ..."
    )
    start: Moment
    end: Moment | None = Field(None, description="Default: up to what history has now.")
    max_cost_usd: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Without it only what is free is asked for."
    )
    dry_run: bool = Field(False, description="Answer the estimate and do nothing.")
    options: OptionsBody | None = None

    @model_validator(mode="after")
    def _something(self) -> BackfillBody:
        if not self.schemas and self.options is None:
            raise ValueError("name schemas, or options with schemas")
        if self.end is not None and self.start >= self.end:
            raise ValueError("end must be later than start")
        return self


class BackfillPath(RequestModel):
    """A backfill."""

    backfill_id: UUID


class WantModel(BaseModel):
    """One schema of one dataset; ``windows``: how many intervals between start and end (1: all of it)."""

    dataset: str
    schema_: str = Field(alias="schema")
    stype_in: str
    symbols: list[str]
    start: str
    end: str
    windows: int
    records: int
    bytes: int = Field(description="without compression")
    cost_usd: float
    sampled: bool = Field(description="estimated from some of the windows")


class EstimateModel(BaseModel):
    """What it would bring and cost."""

    dry_run: bool
    start: str
    end: str
    cost_usd: float
    records: int
    bytes: int
    parts: int
    wanted: list[WantModel]
    notes: list[str]
    source: str


class PartsModel(BaseModel):
    """How many parts are where."""

    total: int
    waiting: int
    downloading: int
    storing: int
    done: int
    failed: int
    cancelled: int


class RecordsModel(BaseModel):
    """Records: ``expected`` by the vendor's own count, ``received`` whole, and what became of them."""

    estimated: int
    expected: int
    received: int
    stored: int
    revised: int
    duplicate: int
    rejected: int


class BytesModel(BaseModel):
    """Bytes."""

    estimated_uncompressed: int
    received: int = Field(description="as compressed by the vendor")


class CostModel(BaseModel):
    """US dollars."""

    estimated: float
    spent: float = Field(description="of every download that was begun")
    max: float | None = Field(description="null: history is free here")


class PartErrorModel(BaseModel):
    """What keeps a part, or ended it."""

    part: int
    dataset: str
    schema_: str = Field(alias="schema")
    symbols: list[str]
    start: str
    end: str
    status: str
    attempts: int
    kind: str | None
    error: str
    retry_at: str | None


class BackfillModel(BaseModel):
    """A backfill."""

    id: str
    status: str = Field(description="queued, running, done, failed or cancelled")
    origin: str = Field(description="request, first-start or repair")
    requested_by: str
    start: str
    end: str
    wanted: list[WantModel]
    notes: list[str]
    progress: float
    eta_s: float | None
    parts: PartsModel
    records: RecordsModel
    bytes: BytesModel
    cost_usd: CostModel
    gap_id: int | None
    error: str | None
    hint: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    source: str


class OneBackfillModel(BackfillModel):
    """A backfill with what is wrong with its parts."""

    errors: list[PartErrorModel]


class BackfillsModel(TableModel):
    """Backfills, the newest first."""

    source: str
    backfills: list[BackfillModel]
    next: str | None


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The routes of backfills."""
    api = APIBlueprint("backfills", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.post(
        "/backfills",
        summary="Estimate, and unless it is a dry run start, a backfill",
        responses={
            200: EstimateModel,
            202: OneBackfillModel,
            409: ProblemModel,
            422: ProblemModel,
            502: ProblemModel,
            503: ProblemModel,
        },
    )
    def post(body: BackfillBody) -> Response:
        asked = _asked(settings, database, body)
        if asked.backfill_id is None:
            answer = {"dry_run": True, **estimate_shape(asked), "source": settings.market_source}
            return Response(json.dumps(answer), mimetype="application/json")
        status = 202 if asked.created else 200
        response = _one(database, settings, asked.backfill_id, status)
        response.headers["Location"] = f"/api/v1/data/backfills/{asked.backfill_id}"
        return response

    @api.get("/backfills", summary="The backfills, the newest first", responses={200: BackfillsModel})
    def list_all(query: PageQuery) -> Response:
        before = _position(query.cursor) if query.cursor else None
        rows = list_backfills(database, before, query.limit + 1)
        page = rows[: query.limit]
        more = len(rows) > query.limit
        cursor = encode_cursor([page[-1]["created_at"].isoformat(), str(page[-1]["backfill_id"])]) if more else None
        shaped = [{**shape(row), "source": settings.market_source} for row in page]
        return table_response("backfills", shaped, _COLUMNS, {"source": settings.market_source}, cursor)

    @api.get(
        "/backfills/<uuid:backfill_id>",
        summary="One backfill: progress, cost, and errors of its parts",
        responses={200: OneBackfillModel, 404: ProblemModel},
    )
    def get(path: BackfillPath) -> Response:
        return _one(database, settings, path.backfill_id, 200)

    @api.delete(
        "/backfills/<uuid:backfill_id>",
        summary="Cancel a backfill; what is downloaded already is still stored",
        responses={200: OneBackfillModel, 404: ProblemModel, 409: ProblemModel},
    )
    def delete(path: BackfillPath) -> Response:
        before = cancel(database, path.backfill_id)
        if before is None:
            raise _unknown(path.backfill_id)
        if before in ("done", "failed"):
            raise Problem(409, "backfill-ended", f"backfill {path.backfill_id} has ended already: {before}")
        return _one(database, settings, path.backfill_id, 200)

    return api


def _asked(settings: IngestionSettings, database: Database, body: BackfillBody) -> Asked:
    options = body.options
    question = Question(
        symbols=tuple(body.symbols),
        schemas=tuple(dict.fromkeys(body.schemas)),
        start_ns=body.start,
        end_ns=body.end,
        option_symbols=tuple(options.symbols or body.symbols) if options else (),
        option_schemas=tuple(dict.fromkeys(options.schemas)) if options else (),
        closing_minutes=options.closing_minutes if options else None,
    )
    try:
        return ask(
            database,
            Vendor(settings, patience=HURRIED),
            settings,
            question,
            user=caller().username,
            max_cost_usd=body.max_cost_usd,
            dry_run=body.dry_run,
        )
    except OverTheCap as error:
        raise _too_costly(error) from error
    except VendorError as error:
        raise problem_of(error) from error
    except SchemaNotOffered as error:
        raise Problem(
            422,
            "schema-not-offered",
            str(error),
            hint=_CURL,
            extra={"dataset": error.dataset, "offered": error.offered},
        ) from error
    except InvalidQuestion as error:
        raise invalid(f"#/body/{error.field}", str(error)) from error


def estimate_shape(asked: Asked) -> dict[str, Any]:
    """An estimate as JSON."""
    start, end = asked.wanted.span
    estimate = asked.total
    return {
        "start": rfc3339(start),
        "end": rfc3339(end),
        "cost_usd": estimate.usd,
        "records": estimate.records,
        "bytes": estimate.bytes,
        "parts": len(asked.parts),
        "wanted": shape_wants(asked.estimated),
        "notes": list(asked.wanted.notes),
    }


def _too_costly(error: OverTheCap) -> Problem:
    return Problem(
        422,
        error.kind,
        str(error),
        hint=error.hint,
        extra={"max_cost_usd": error.cap_usd, "estimate": estimate_shape(error.asked)},
    )


def _one(database: Database, settings: IngestionSettings, backfill_id: UUID, status: int) -> Response:
    found = get_backfill(database, backfill_id)
    if found is None:
        raise _unknown(backfill_id)
    body = json.dumps({**found, "source": settings.market_source})
    return Response(body, status, mimetype="application/json")


def _unknown(backfill_id: UUID) -> Problem:
    return Problem(
        404, "unknown-backfill", f"there is no backfill {backfill_id}", hint="GET /api/v1/data/backfills lists them"
    )


def _position(cursor: str) -> tuple[datetime, UUID]:
    created_at, backfill_id = decode_cursor(cursor, (str, str))
    try:
        return datetime.fromisoformat(created_at), UUID(backfill_id)
    except ValueError as error:
        raise invalid("#/query/cursor", "not a cursor of this list") from error
