"""Backtests: asked for, waited for, read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, JsonValue

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem
from ots_common.schemas import PageQuery, ProblemModel, RequestModel
from ots_common.service import caller
from ots_common.tables import next_url
from ots_signals import backtests as queue
from ots_signals.backtest import BacktestRequest
from ots_signals.settings import SignalsSettings
from ots_signals.verdicts import HYPOTHETICAL

_TAG = Tag(name="backtests", description="Strategies over stored data, as they would have decided")


class BacktestsQuery(PageQuery):
    """A page of backtests, the newest first."""

    limit: int = Field(50, ge=1, le=500, description="Backtests at most.")


class BacktestPath(RequestModel):
    """A backtest."""

    backtest_id: UUID


class BacktestModel(BaseModel):
    """A backtest and where it stands."""

    id: str
    source: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    requested_by: str
    requested_at: str
    started_at: str | None
    finished_at: str | None
    attempts: int = Field(description="how often it was begun: what dies is begun again")
    error: str | None
    request: dict[str, JsonValue]
    statement: str = Field(description="17 CFR 4.41(b)")


class ReportedBacktestModel(BacktestModel):
    """A backtest with its report."""

    report: dict[str, JsonValue] | None = Field(description="null: it is not done")


class BacktestsModel(BaseModel):
    """Backtests, the newest first."""

    source: str
    backtests: list[BacktestModel]
    next: str | None


_MAY_CANCEL_ANY = ("operator", "admin")


def blueprint(settings: SignalsSettings, database: Database) -> APIBlueprint:
    """The routes of backtests."""
    api = APIBlueprint("backtests", __name__, url_prefix="/api/v1/signals", abp_tags=[_TAG])

    def shaped(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": row["backtest_id"],
            "source": settings.market_source,
            "state": row["state"],
            "requested_by": row["requested_by"],
            "requested_at": _moment(row["requested_at"]),
            "started_at": _moment(row["started_at"]),
            "finished_at": _moment(row["finished_at"]),
            "attempts": row["attempts"],
            "error": row["error"],
            "request": row["request"],
            "statement": HYPOTHETICAL,
        }

    @api.post(
        "/backtests",
        summary="Ask for a backtest; the worker runs one at a time",
        responses={202: BacktestModel, 422: ProblemModel, 503: ProblemModel},
    )
    def ask(body: BacktestRequest) -> Any:
        backtest_id = queue.submit(database, body, caller().username, settings.backtests_queued)
        row = _found(database, backtest_id)
        return shaped(row), 202, {"Location": f"/api/v1/signals/backtests/{backtest_id}"}

    @api.get("/backtests", summary="Backtests, the newest first", responses={200: BacktestsModel, 422: ProblemModel})
    def backtests(query: BacktestsQuery) -> Any:
        before = None
        if query.cursor:
            requested_us, backtest_id = decode_cursor(query.cursor, (int, str))
            before = (datetime.fromtimestamp(requested_us / 1e6, UTC).isoformat(), backtest_id)
        found = queue.listed(database, before, query.limit + 1)
        page = found[: query.limit]
        following = None
        if len(found) > query.limit:
            last = page[-1]
            following = next_url(encode_cursor([_microseconds(last["requested_at"]), last["backtest_id"]]))
        return {"source": settings.market_source, "backtests": [shaped(row) for row in page], "next": following}

    @api.get(
        "/backtests/<uuid:backtest_id>",
        summary="One backtest with its report",
        responses={200: ReportedBacktestModel, 404: ProblemModel, 422: ProblemModel},
    )
    def backtest(path: BacktestPath) -> Any:
        row = _found(database, str(path.backtest_id))
        report = queue.result(database, str(path.backtest_id), "report")
        said = api_json(shaped(row))
        # the report is text already, and the very bytes of it
        return Response(f'{said[:-1]},"report":{report or "null"}}}', mimetype="application/json")

    @api.delete(
        "/backtests/<uuid:backtest_id>",
        summary="Take a backtest of one's own out of the queue, or end it; operators any",
        responses={200: BacktestModel, 403: ProblemModel, 404: ProblemModel, 409: ProblemModel, 422: ProblemModel},
    )
    def cancel(path: BacktestPath) -> Any:
        row = _found(database, str(path.backtest_id))
        if row["requested_by"] != caller().username and caller().role not in _MAY_CANCEL_ANY:
            raise Problem(403, "not-yours", f"it was asked for by {row['requested_by']}; an operator may end it")
        if not queue.cancel(database, str(path.backtest_id)):
            raise Problem(409, "backtest-is-over", f"it is {row['state']}")
        return shaped(_found(database, str(path.backtest_id)))

    @api.get(
        "/backtests/<uuid:backtest_id>/report.html",
        summary="The report of a backtest as one page",
        responses={
            200: {"content": {"text/html": {"schema": {"type": "string"}}}},
            404: ProblemModel,
            409: ProblemModel,
            422: ProblemModel,
        },
    )
    def page(path: BacktestPath) -> Response:
        row = _found(database, str(path.backtest_id))
        found = queue.result(database, str(path.backtest_id), "page")
        if found is None:
            raise Problem(409, "no-report", f"it is {row['state']}, and has no report")
        response = Response(found, mimetype="text/html")
        # it brings its own style and pictures, and nothing else may run in it
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
        )
        return response

    return api


def api_json(value: dict[str, Any]) -> str:
    """As the service writes JSON."""
    from flask import json

    text: str = json.dumps(value)
    return text


def _found(database: Database, backtest_id: str) -> dict[str, Any]:
    row = queue.found(database, backtest_id)
    if row is None:
        raise Problem(
            404,
            "unknown-backtest",
            f"there is no backtest {backtest_id}",
            hint='curl -H "Authorization: Bearer $TOKEN" "http://localhost:8000/api/v1/signals/backtests"',
        )
    return row


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _microseconds(value: datetime) -> int:
    return round(value.timestamp() * 1e6)
