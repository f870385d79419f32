"""The ledger itself: its head, whether it is whole, and the stream of its rows."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field

from ots_common.conditional import not_modified, version_etag
from ots_common.database import Database
from ots_common.problems import invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_signals import ledger
from ots_signals.settings import SignalsSettings
from ots_signals.stream import Pace, Streams

_TAG = Tag(name="ledger", description="The chain that every decision and every outcome is a row of")
_HASH = "5d3c9a0c4f4b6c51e0c8a2b2f3f2a4c6b7e9d1a0938475665748392011223344"


class HeadModel(BaseModel):
    """The newest row. Whoever keeps it can later ask whether the ledger still holds it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"seq": 1204, "hash": _HASH, "source": "databento"}]})

    seq: int = Field(description="0: there is no row yet")
    hash: str = Field(description="SHA-256 of the hash before and the row's body, in hexadecimal")
    source: str


class VerifyQuery(RequestModel):
    """A head that was noted earlier; without it the chain is verified by itself."""

    seq: int | None = Field(None, ge=1, lt=2**63, description="Number of the row that was noted.")
    hash: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="Its hash, in hexadecimal.")


class FaultModel(BaseModel):
    """The first row that is not as it was written."""

    seq: int
    detail: str


class VerificationModel(BaseModel):
    """Whether every row is as it was written."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "whole": True,
                    "rows": 1204,
                    "head": {"seq": 1204, "hash": _HASH},
                    "fault": None,
                    "source": "databento",
                }
            ]
        }
    )

    whole: bool
    rows: int = Field(description="rows that are as they were written, up to the fault")
    head: dict[str, str | int] = Field(description="the newest of them: seq and hash")
    fault: FaultModel | None
    source: str


def blueprint(settings: SignalsSettings, database: Database) -> APIBlueprint:
    """The routes of the ledger."""
    api = APIBlueprint("ledger", __name__, url_prefix="/api/v1/signals", abp_tags=[_TAG])
    pace = Pace(settings.stream_poll_s, settings.stream_heartbeat_s, settings.stream_lasts_s, settings.stream_behind)
    streams = Streams(database, settings.streams, pace)

    @api.get("/ledger/head", summary="The newest row of the ledger", responses={200: HeadModel})
    def head() -> Any:
        found = ledger.head(database)
        if (unchanged := not_modified(version_etag(found.seq, found.hash))) is not None:
            return unchanged
        return {"seq": found.seq, "hash": found.hash, "source": settings.market_source}

    @api.get(
        "/verify",
        summary="Whether every row of the ledger is as it was written",
        responses={200: VerificationModel, 422: ProblemModel},
    )
    def verify(query: VerifyQuery) -> Any:
        if (query.seq is None) != (query.hash is None):
            missing = "seq" if query.seq is None else "hash"
            raise invalid(f"#/query/{missing}", "seq and hash of a noted head belong together")
        noted = ledger.Head(query.seq, query.hash) if query.seq is not None and query.hash is not None else None
        with database.connection() as connection:
            found = ledger.verify(connection, noted)
        return {
            "whole": found.fault is None,
            "rows": found.rows,
            "head": {"seq": found.head.seq, "hash": found.head.hash},
            "fault": None if found.fault is None else {"seq": found.fault.seq, "detail": found.fault.detail},
            "source": settings.market_source,
        }

    @api.get(
        "/stream",
        summary="Rows of the ledger as they are added, as server-sent events",
        description="With `Last-Event-ID`, the number of a row, it goes on after that row; else from now on. Each event"
        " is `signal`, `abstention` or `outcome` with the row's number as its id, without a hole between them; or"
        " `gap`, which names the numbers that are left out.",
        responses={
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
            422: ProblemModel,
            503: ProblemModel,
        },
    )
    def stream() -> Response:
        response = Response(streams.open(_last_seen()), mimetype="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        return response

    return api


def _last_seen() -> int | None:
    given = request.headers.get("Last-Event-ID", "").strip()
    if not given:
        return None
    if not given.isdecimal() or not given.isascii() or int(given) >= 2**63:
        raise invalid("#/header/Last-Event-ID", "the number of a row of the ledger, such as 1204")
    return int(given)
