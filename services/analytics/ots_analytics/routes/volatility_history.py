"""The stored implied volatility of an underlying, a row a session's close or a row an expiration."""

from __future__ import annotations

import time
from typing import Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_analytics.answers import Answers
from ots_analytics.chain_queries import UnderlyingPath
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.snapshot_store import read_history, underlyings_with_snapshots
from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel, TableModel
from ots_common.tables import Kind, table_response
from ots_common.times import Moment, rfc3339
from ots_market.prices import dollars
from ots_market.sessions import Sessions, sessions_of
from ots_market.symbols import canonical_symbol
from ots_market.timeframes import DAY_NS

_TAG = Tag(name="options", description="Implied volatility of stored option chains")
_LAST_NS = 2**63 - 1
_MOST_DAYS_OF_ALL = 7
_SNAPSHOT_COLUMNS: dict[str, Kind] = {
    "at": "time", "session": "date", "closing": "flag", "spot": "number", "spot_time": "time", "spot_kind": "text",
    "rate_kind": "text", "rate_detail": "text", "volatility_30d": "number", "reason": "text",
    "contracts_used": "integer", "contracts_refused": "json", "newest_input": "time", "method": "text",
}  # fmt: skip
_EXPIRATION_COLUMNS: dict[str, Kind] = {
    "at": "time", "session": "date", "closing": "flag", "spot": "number", "expiration": "date",
    "days_to_expiration": "integer", "years": "number", "forward": "number", "forward_low": "number",
    "forward_high": "number", "rate": "number", "rate_kind": "text", "rate_low": "number", "rate_high": "number",
    "dividend_yield": "number", "at_the_money": "number", "call_25_delta": "number", "put_25_delta": "number",
    "shape": "text", "reason": "text", "contracts_used": "integer", "contracts_refused": "json",
}  # fmt: skip
_UNITS = {
    "spot, forward": "dollars",
    "volatility": "a decimal a year; American exercise, years of 365 days",
    "volatility_30d": "at the forward, 30 calendar days ahead, interpolated in total variance",
    "rate, dividend_yield": "continuously compounded decimals a year",
    "days_to_expiration": "calendar days from the session's date to the expiration's",
}


class VolatilityHistoryQuery(RequestModel):
    """How far back, and in which rows."""

    days: int = Field(30, ge=1, le=1000, description="Calendar days back from `as_of`.")
    as_of: Moment | None = Field(None, description="Only snapshots of moments up to then; default now.")
    by: Literal["session", "expiration"] = Field(
        "session", description="`session`: a row a snapshot; `expiration`: a row each of its expirations."
    )
    moments: Literal["close", "all"] = Field(
        "close", description="`all`: also the snapshots within sessions, of at most 7 days."
    )


class VolatilityHistoryQualityModel(BaseModel):
    """What the answer rests on."""

    snapshots: int
    without_volatility_30d: int
    sessions_missing: int = Field(description="sessions that closed in the days asked for and have no snapshot")
    stale: bool = Field(description="true when the newest session that closed by as_of has no snapshot")


class VolatilityHistoryModel(TableModel):
    """Snapshots, the oldest first; ``as_of`` is the time of the newest quote or price in them."""

    underlying: str
    as_of: str
    source: str
    quality: VolatilityHistoryQualityModel
    units: dict[str, str]
    history: list[dict[str, Any]] = Field(
        description="what is null has a `reason`; `contracts_refused` counts contracts by why they have no part"
    )
    next: str | None


def blueprint(settings: AnalyticsSettings, database: Database, answers: Answers) -> APIBlueprint:
    """The route of stored implied volatility."""
    api = APIBlueprint("volatility_history", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])
    sessions = sessions_of(settings.market_calendar)

    @api.get(
        "/options/<underlying>/volatility-history",
        summary="Implied volatility as it was stored, session by session",
        responses={200: VolatilityHistoryModel, 404: ProblemModel, 422: ProblemModel},
    )
    def volatility_history(path: UnderlyingPath, query: VolatilityHistoryQuery) -> Response:
        if query.moments == "all" and query.days > _MOST_DAYS_OF_ALL:
            raise invalid("#/query/days", f"with moments=all at most {_MOST_DAYS_OF_ALL}")
        underlying = canonical_symbol(path.underlying)
        as_of = min(query.as_of if query.as_of is not None else _LAST_NS, time.time_ns())

        def made() -> Response:
            return _history(underlying, query, as_of)

        return answers.of(as_of, made, explicit=query.as_of == as_of, tags=[underlying])

    def _history(underlying: str, query: VolatilityHistoryQuery, as_of: int) -> Response:
        since = max(0, as_of - query.days * DAY_NS)
        found = read_history(
            database, underlying, since_ns=since, as_of_ns=as_of, closing_only=query.moments == "close"
        )
        if not found:
            raise no_snapshots(database, underlying, query.days, as_of)
        about = {
            "underlying": underlying,
            "as_of": rfc3339(max(row["newest_at_ns"] for row in found)),
            "source": settings.market_source,
            "quality": _quality(found, sessions, since, as_of),
            "units": _UNITS,
        }
        by_session = query.by == "session"
        rows = [_session(row) for row in found] if by_session else [e for row in found for e in _expirations(row)]
        columns = _SNAPSHOT_COLUMNS if by_session else _EXPIRATION_COLUMNS
        return table_response("history", rows, columns, about, None)

    return api


def no_snapshots(database: Database, underlying: str, days: int, as_of_ns: int) -> Problem:
    """The 404 where none is stored of those days, with the underlyings of which some are."""
    available = underlyings_with_snapshots(database)
    there = f"there are some of {', '.join(available)}" if available else "there are none of anything yet"
    return Problem(
        404,
        "no-snapshots",
        f"no implied volatility of {underlying} is stored in the {days} days to {rfc3339(as_of_ns)}; {there}",
        hint="snapshots are made of stored option quotes: ask for more days, or see whether quotes come in with"
        ' curl -H "Authorization: Bearer $TOKEN" "http://localhost:8000/api/v1/data/collection/status"',
        extra={"available": available},
    )


def _quality(found: list[dict[str, Any]], sessions: Sessions, since_ns: int, as_of_ns: int) -> dict[str, Any]:
    closed = (sessions.closes > since_ns) & (sessions.closes <= as_of_ns)
    dates = {day.astype(object) for day in sessions.dates[closed]}
    missing = dates - {row["session_date"] for row in found if row["closing"]}
    return {
        "snapshots": len(found),
        "without_volatility_30d": sum(row["volatility_30d"] is None for row in found),
        "sessions_missing": len(missing),
        "stale": bool(dates) and max(dates) in missing,
    }


def _session(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "at": _moment(row["ts"]),
        "session": row["session_date"].isoformat(),
        "closing": row["closing"],
        "spot": dollars(row["spot"]),
        "spot_time": None if row["spot_at_ns"] is None else rfc3339(row["spot_at_ns"]),
        "spot_kind": row["spot_kind"],
        "rate_kind": row["rate_kind"],
        "rate_detail": row["rate_detail"],
        "volatility_30d": row["volatility_30d"],
        "reason": row["volatility_30d_reason"],
        "contracts_used": row["contracts_used"],
        "contracts_refused": row["contracts_refused"],
        "newest_input": rfc3339(row["newest_at_ns"]),
        "method": row["method"],
    }


def _expirations(row: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {key: value for key, value in _session(row).items() if key in ("at", "session", "closing", "spot")}
    return [
        {
            **shared,
            "expiration": one["expiration"].isoformat(),
            "days_to_expiration": (one["expiration"] - row["session_date"]).days,
            "rate_kind": row["rate_kind"],
            **{name: one[name] for name in _EXPIRATION_COLUMNS if name in one and name not in ("expiration", "at")},
        }
        for one in row["expirations"]
    ]


def _moment(value: Any) -> str:
    text: str = value.isoformat().replace("+00:00", "Z")
    return text
