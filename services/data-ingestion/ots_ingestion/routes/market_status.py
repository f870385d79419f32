"""Whether the market is open, was open, or will be."""

from __future__ import annotations

import time
from typing import Any, Literal

from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_common.problems import invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.times import Moment, rfc3339
from ots_ingestion.market_status import OutsideCalendar, Session, status_at
from ots_ingestion.settings import IngestionSettings
from ots_market.sessions import sessions_of

_TAG = Tag(name="market status", description="The exchange calendar")


class StatusQuery(RequestModel):
    """When."""

    at: Moment | None = Field(None, description="Any time the calendar reaches; default now.")


class SessionModel(BaseModel):
    """A regular session."""

    date: str
    opens_at: str
    closes_at: str
    half_day: bool


class StatusModel(BaseModel):
    """The market at ``at``."""

    source: str
    calendar: str = Field(description="XNYS, or SIM24 for a simulated market that never closes")
    at: str
    date: str = Field(description="the market's own date then")
    open: bool = Field(description="the regular session is on")
    phase: Literal["regular", "pre-market", "post-market", "closed"]
    why_closed: Literal["holiday", "weekend", "out of hours"] | None
    half_day: bool | None = Field(description="of the session of that date; null when it has none")
    current: SessionModel | None
    previous: SessionModel | None
    next: SessionModel | None


def blueprint(settings: IngestionSettings) -> APIBlueprint:
    """The route of the exchange calendar."""
    api = APIBlueprint("market_status", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.get("/market-status", summary="Open or closed", responses={200: StatusModel, 422: ProblemModel})
    def status(query: StatusQuery) -> Response:
        sessions = sessions_of(settings.market_calendar)
        at = query.at if query.at is not None else time.time_ns()
        try:
            found = status_at(sessions, at)
        except OutsideCalendar as error:
            raise invalid("#/query/at", str(error)) from error
        of_date = next(
            (s for s in (found.current, found.previous, found.next) if s is not None and s.date == found.local_date),
            None,
        )
        body = {
            "source": settings.market_source,
            "calendar": sessions.name,
            "at": rfc3339(at),
            "date": found.local_date.isoformat(),
            "open": found.open,
            "phase": found.phase,
            "why_closed": found.why_closed,
            "half_day": None if of_date is None else of_date.half_day,
            "current": _shape(found.current),
            "previous": _shape(found.previous),
            "next": _shape(found.next),
        }
        return Response(json.dumps(body), mimetype="application/json")

    return api


def _shape(session: Session | None) -> dict[str, Any] | None:
    if session is None:
        return None
    return {
        "date": session.date.isoformat(),
        "opens_at": rfc3339(session.opens_ns),
        "closes_at": rfc3339(session.closes_ns),
        "half_day": session.half_day,
    }
