"""Implied volatility and Greeks of one contract as they were stored."""

from __future__ import annotations

import time
from collections import Counter
from datetime import date
from typing import Any, Literal

import numpy as np
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics.chain_queries import UnderlyingPath
from ots_analytics.contract_terms import GREEK_UNITS
from ots_analytics.desk import Desk
from ots_analytics.routes.volatility_history import no_snapshots
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.snapshot_store import read_contract_history
from ots_analytics.table_queries import TableQuery
from ots_analytics.volatility import METHOD
from ots_chains.chains import expiry_ns
from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, TableModel, TableRow
from ots_common.tables import Times, columns_response, parse_fields
from ots_common.times import rfc3339
from ots_market.prices import dollars
from ots_market.sessions import Sessions
from ots_market.symbols import OptionSymbol, Symbol, canonical_symbol, parse_option_symbol
from ots_market.timeframes import DAY_NS

_TAG = Tag(name="contract history", description="Implied volatility and Greeks of one contract as they were stored")
_MOST_DAYS_OF_ALL = 7
_FIGURES = ("mid", "implied_volatility", "delta", "gamma", "theta", "vega")
_COLUMNS = ("at", "session", "closing", "spot", *_FIGURES, "reason")
_UNITS = {
    "spot, mid": "dollars",
    "implied_volatility": "a decimal a year; American exercise, middle of bid and ask, years of 365 days",
    **{name: GREEK_UNITS[name] for name in _FIGURES[2:]},
    "precision": "figures are stored with seven digits",
}

_EXAMPLE: dict[str, Any] = {
    "symbol": "GOOG151231C00750000",
    "underlying": "GOOG",
    "expiration": "2015-12-31",
    "strike": 750.0,
    "right": "C",
    "as_of": "2015-12-24T18:00:00Z",
    "source": "databento",
    "quality": {
        "snapshots": 1,
        "with_volatility": 1,
        "without_volatility": {},
        "sessions_missing": 1,
        "stale": False,
    },
    "units": _UNITS,
    "history": [
        {
            "at": "2015-12-24T18:00:00Z",
            "session": "2015-12-24",
            "closing": True,
            "spot": 748.4,
            "mid": 4.95,
            "implied_volatility": 0.13751557,
            "delta": 0.4579647,
            "gamma": 0.02761108,
            "theta": -0.39639276,
            "vega": 0.41475675,
            "reason": None,
        }
    ],
    "next": None,
}


class ContractHistoryQuery(TableQuery):
    """Which contract, how far back, and at which moments."""

    symbol: Symbol = Field(
        description="OSI symbol; blanks may be left out", json_schema_extra={"example": "AAPL260320C00250000"}
    )
    days: int = Field(30, ge=1, le=1000, description="Calendar days back from `as_of`.")
    moments: Literal["close", "all"] = Field(
        "close", description="`all`: also the snapshots within sessions, of at most 7 days."
    )


class ContractHistoryQualityModel(BaseModel):
    """What the answer rests on."""

    snapshots: int
    with_volatility: int
    without_volatility: dict[str, int] = Field(description="counts of snapshots by `reason`")
    sessions_missing: int = Field(
        description="sessions that closed in the days asked for, up to the expiration, and have no snapshot"
    )
    stale: bool = Field(description="true when the newest of those sessions has no snapshot")


class ContractMomentModel(TableRow):
    """A contract in a snapshot; what is null has a `reason`."""

    at: str
    session: str
    closing: bool
    spot: float | None
    mid: float | None
    implied_volatility: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None
    reason: str | None = Field(
        description="as the chain gives it; `expired`: at the close that ended it; `no_quote`: not quoted in the"
        " session by then; `not_stored`: the snapshot is from before contracts were stored; `no_greeks`: too near its"
        " expiration for derivatives"
    )


class ContractHistoryModel(TableModel):
    """Snapshots, the oldest first; ``as_of`` is the time of the newest quote or price in them."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    symbol: str
    underlying: str
    expiration: str
    strike: float
    right: Literal["C", "P"]
    as_of: str
    source: str
    quality: ContractHistoryQualityModel
    units: dict[str, str]
    history: list[ContractMomentModel]
    next: str | None


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The routes of contract history."""
    api = APIBlueprint("contract_history", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])

    @api.get(
        "/options/<underlying>/contract-history",
        summary="One contract's implied volatility and Greeks as they were stored",
        responses={200: ContractHistoryModel, 404: ProblemModel, 422: ProblemModel},
    )
    def contract_history(path: UnderlyingPath, query: ContractHistoryQuery) -> Response:
        if query.moments == "all" and query.days > _MOST_DAYS_OF_ALL:
            raise invalid("#/query/days", f"with moments=all at most {_MOST_DAYS_OF_ALL}")
        chosen = parse_fields(query.fields, _COLUMNS)
        underlying = canonical_symbol(path.underlying)
        option = _option(query.symbol, underlying)
        now_ns = time.time_ns()
        as_of = min(query.as_of if query.as_of is not None else now_ns, now_ns)
        since = max(0, as_of - query.days * DAY_NS)

        def made() -> Response:
            found = _read(database, desk.sessions, underlying, query, option, since, as_of)
            about = {
                "symbol": canonical_symbol(query.symbol).replace(" ", ""),
                "underlying": underlying,
                "expiration": option.expiration.isoformat(),
                "strike": dollars(option.strike),
                "right": option.right,
                "as_of": rfc3339(max(row["newest_at_ns"] for row in found)),
                "source": settings.market_source,
                "quality": _quality(found, desk.sessions, option.expiration, since, as_of),
                "units": _UNITS,
            }
            return columns_response("history", _columns(found), about, fields=chosen)

        return desk.answers.of(as_of, made, explicit=query.as_of is not None, since_ns=since, tags=(underlying,))

    return api


def _option(symbol: str, underlying: str) -> OptionSymbol:
    option = parse_option_symbol(canonical_symbol(symbol))
    if option is None:
        raise invalid("#/query/symbol", "expected an OSI symbol such as AAPL260320C00250000")
    if option.root != underlying:
        raise invalid("#/query/symbol", f"is an option on {option.root}, and {underlying} is asked about")
    return option


def _read(
    database: Database,
    sessions: Sessions,
    underlying: str,
    query: ContractHistoryQuery,
    option: OptionSymbol,
    since_ns: int,
    as_of_ns: int,
) -> list[dict[str, Any]]:
    """The snapshots with each row's reason. Raises a 404 problem for an unknown contract, or when there is none."""
    ids = database.rows(
        "SELECT instrument_id FROM instruments WHERE raw_symbol = %s AND underlying = %s",
        (canonical_symbol(query.symbol), underlying),
    )
    if not ids:
        raise Problem(
            404,
            "unknown-contract",
            f"no contract {query.symbol} of {underlying} is stored",
            hint='curl -H "Authorization: Bearer $TOKEN"'
            f' "http://localhost:8000/api/v1/analytics/options/{underlying}?fields=symbol"',
        )
    found = read_contract_history(
        database,
        underlying,
        ids[0][0],
        option.expiration,
        since_ns=since_ns,
        as_of_ns=as_of_ns,
        closing_only=query.moments == "close",
    )
    if not found:
        raise no_snapshots(database, underlying, query.days, as_of_ns)
    expires_ns = int(expiry_ns(sessions, np.array([option.expiration], "datetime64[D]"))[0])
    return [{**row, "reason": _reason(row, expires_ns)} for row in found]


def _reason(row: dict[str, Any], expires_ns: int) -> str | None:
    if row["at_ns"] >= expires_ns:
        return "expired"
    if not row["quoted"]:
        return "no_quote" if row["method"] == METHOD else "not_stored"
    if row["reason"] is None and any(row[name] is None for name in _FIGURES):
        return "no_greeks"
    reason: str | None = row["reason"]
    return reason


def _columns(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "at": Times(np.array([row["at_ns"] for row in found], np.int64)),
        "session": np.array([row["session_date"] for row in found], "datetime64[D]"),
        "closing": np.array([row["closing"] for row in found], bool),
        "spot": np.array([dollars(row["spot"]) for row in found], np.float64),
        **{name: np.array([row[name] for row in found], np.float64) for name in _FIGURES},
        "reason": [row["reason"] for row in found],
    }


def _quality(
    found: list[dict[str, Any]], sessions: Sessions, expiration: date, since_ns: int, as_of_ns: int
) -> dict[str, Any]:
    closed = (sessions.closes > since_ns) & (sessions.closes <= as_of_ns)
    closed &= sessions.dates <= np.datetime64(expiration, "D")
    dates = {day.astype(object) for day in sessions.dates[closed]}
    missing = dates - {row["session_date"] for row in found if row["closing"]}
    reasons = Counter(row["reason"] for row in found if row["implied_volatility"] is None)
    return {
        "snapshots": len(found),
        "with_volatility": sum(row["implied_volatility"] is not None for row in found),
        "without_volatility": dict(sorted(reasons.items())),
        "sessions_missing": len(missing),
        "stale": bool(dates) and max(dates) in missing,
    }
