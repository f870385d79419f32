"""The data quality of a symbol on one session."""

from __future__ import annotations

import time
from datetime import date
from typing import Any, Literal
from urllib.parse import quote

import psycopg2.errors
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_common.database import Connection, Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.times import rfc3339, to_datetime
from ots_ingestion import quality
from ots_ingestion.market_status import OutsideCalendar, Session, current_or_last, local_day, session_of_date
from ots_ingestion.quality import Latency
from ots_ingestion.quality_report import Report, SchemaQuality, Scope, newest_ns, option_contracts, report
from ots_ingestion.routes.gaps import GapModel
from ots_ingestion.routes.gaps import shape as shape_gap
from ots_ingestion.routes.market_data import Dataset, SymbolPath
from ots_ingestion.settings import IngestionSettings
from ots_market.instruments import PREFERRED_DATASETS, find_instrument, unknown_symbol
from ots_market.sessions import Sessions, sessions_of
from ots_market.symbols import canonical_symbol
from ots_market.timeframes import MINUTE_NS

_TAG = Tag(name="quality", description="What the stored data are worth")
_PARENT = ".OPT"
_PERCENTILES = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
_NO_STORE_TIME = (
    "rows carry no time of storage; the collector counts that lag by dataset, in its metric ots_live_lag_seconds"
)
_NOT_BY_SYMBOL = "duplicates are counted by run and by collection, of all their symbols together"


class QualityQuery(RequestModel):
    """Which session, and of what."""

    day: date | None = Field(
        None, alias="date", description="A session's date; default the current session, or else the last."
    )
    dataset: Dataset | None = None
    asset: Literal["symbol", "options"] = Field(
        "symbol", description="`options`: all contracts on the symbol together; a parent (`AAPL.OPT`) means that too."
    )


class QualitySessionModel(BaseModel):
    """The session that was looked at; ``until``: its close, or the last whole minute while it is on."""

    date: str
    opens_at: str
    closes_at: str
    half_day: bool
    until: str
    calendar: str


class CompletenessModel(BaseModel):
    """Minutes of the session with at least one record, summed over instruments."""

    expected_minutes: int
    present_minutes: int
    share: float | None


class OrderModel(BaseModel):
    """Records that came late or after their successors."""

    late: int
    late_after_ms: float
    out_of_order_by_event: int
    out_of_order_by_sequence: int | None = Field(description="null: the schema has no sequence numbers")


class QuoteQualityModel(BaseModel):
    """Quotes in the session; shares are of them."""

    quotes: int
    crossed: int
    crossed_share: float | None
    locked: int
    locked_share: float | None
    one_sided: int
    one_sided_share: float | None
    empty: int
    empty_share: float | None
    stale: int
    stale_share: float | None
    stale_after_s: float


class LatencyModel(BaseModel):
    """Event to receipt by the vendor, milliseconds; percentiles are observed values."""

    records: int
    negative: int = Field(description="received before they happened, by two clocks that disagree")
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class OutliersModel(BaseModel):
    """Prints far from their neighbours; counted, never removed."""

    count: int
    evaluated: int
    rule: str


class SchemaModel(BaseModel):
    """One schema's figures; null with ``reason`` where a figure has no meaning or was not counted."""

    schema_: str = Field(alias="schema")
    instruments: int
    records: int
    outside_session: int
    completeness: CompletenessModel
    order: OrderModel | None
    quotes: QuoteQualityModel | None
    latency_event_to_receive: LatencyModel | None
    outliers: OutliersModel | None
    reason: str | None


class DuplicatesModel(BaseModel):
    """Records that were there already."""

    count: int | None
    reason: str
    in_runs: int = Field(description="of the dataset, all symbols, in runs that reach into the day")
    runs: int


class UnknownModel(BaseModel):
    """Figures that are not known, and why."""

    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    reason: str


class SessionGapsModel(BaseModel):
    """The gap ledger within the session."""

    open: list[GapModel]
    closed: int
    missing_s: float = Field(description="how long open gaps are within the session, overlaps counted once")


class QualityModel(BaseModel):
    """What is stored of a symbol for one session, counted."""

    symbol: str
    asset: Literal["symbol", "options"]
    dataset: str
    source: str
    as_of: str | None = Field(description="the newest record that was counted; a bar counts from its end")
    contracts: int | None = Field(description="contracts that had not expired; null for a single symbol")
    session: QualitySessionModel
    schemas: list[SchemaModel]
    duplicates: DuplicatesModel
    latency_event_to_store: UnknownModel
    gaps: SessionGapsModel


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The route of data quality."""
    api = APIBlueprint("quality", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.get(
        "/quality/<symbol>",
        summary="What is stored for a session, and how good it is",
        responses={200: QualityModel, 404: ProblemModel, 422: ProblemModel},
    )
    def read(path: SymbolPath, query: QualityQuery) -> Response:
        sessions = sessions_of(settings.market_calendar)
        now = time.time_ns()
        session = _session(sessions, query.day, now)
        symbol = canonical_symbol(path.symbol)
        options = query.asset == "options" or symbol.endswith(_PARENT)
        symbol = symbol.removesuffix(_PARENT) if options else symbol
        with database.connection() as connection:
            found = _scope(
                connection, database, symbol, query.dataset, options, sessions, session, now, settings.market_source
            )
            try:
                figures = report(connection, found)
            except psycopg2.errors.QueryCanceled as error:
                raise Problem(
                    503,
                    "too-much-data",
                    "counting that day takes too long here",
                    hint="ask for one contract instead of all, or when the database is less busy",
                ) from error
            if not figures.schemas:
                raise _nothing(connection, symbol, options, sessions, session, found)
        body = {
            "symbol": symbol,
            "asset": "options" if options else "symbol",
            "dataset": found.dataset,
            "source": settings.market_source,
            "as_of": None if figures.as_of_ns is None else rfc3339(figures.as_of_ns),
            "contracts": len(found.instruments) if options else None,
            "session": _shape_session(sessions, found),
            **_shape(figures),
        }
        return Response(json.dumps(body), mimetype="application/json")

    return api


def _session(sessions: Sessions, day: date | None, now: int) -> Session:
    if day is None:
        return current_or_last(sessions, now)
    try:
        session = session_of_date(sessions, day)
    except OutsideCalendar as error:
        raise invalid("#/query/date", str(error)) from error
    if session is None:
        last = current_or_last(sessions, local_day(sessions, day)[0])
        raise invalid("#/query/date", f"{day} has no session", hint=f"the last one before was on {last.date}")
    if session.opens_ns > now:
        raise invalid("#/query/date", f"the session of {day} has not begun")
    return session


def _scope(
    connection: Connection,
    database: Database,
    symbol: str,
    dataset: str | None,
    options: bool,
    sessions: Sessions,
    session: Session,
    now: int,
    source: str,
) -> Scope:
    day = local_day(sessions, session.date)
    until = min(session.closes_ns, now // MINUTE_NS * MINUTE_NS)
    if not options:
        instrument = find_instrument(database, symbol, dataset, source=source)
        names = (instrument.raw_symbol, *([instrument.underlying + _PARENT] if instrument.is_option else []))
        return Scope(instrument.dataset, (instrument.instrument_id,), names, session, day, until)
    contracts = option_contracts(connection, symbol, session.date, dataset)
    if not contracts:
        raise _no_contracts(database, symbol, dataset, session, source)
    datasets = sorted({c[1] for c in contracts}, key=lambda name: (name not in PREFERRED_DATASETS, name))
    mine = tuple(contract for contract, its in contracts if its == datasets[0])
    return Scope(datasets[0], mine, (symbol + _PARENT,), session, day, until)


def _no_contracts(database: Database, symbol: str, dataset: str | None, session: Session, source: str) -> Problem:
    known = database.rows(
        "SELECT count(*), max(expiration) FROM instruments WHERE underlying = %s AND strike > 0", (symbol,)
    )
    count, last = known[0]
    if not count:
        return unknown_symbol(database, f"options on {symbol}", dataset, source=source)
    return Problem(
        404,
        "no-data",
        f"no option on {symbol} that lived on {session.date} is known; the last known expired on {last}",
        hint=f'curl -H "Authorization: Bearer $TOKEN" "http://localhost:8000/api/v1/data/instruments?underlying={symbol}"',
    )


def _nothing(
    connection: Connection, symbol: str, options: bool, sessions: Sessions, session: Session, scope: Scope
) -> Problem:
    newest = newest_ns(connection, scope.instruments)
    hint = "nothing of it is stored that could be counted: collect it, or ask for a backfill"
    if newest is not None:
        try:
            day = current_or_last(sessions, newest).date
        except OutsideCalendar:
            day = to_datetime(newest).date()
        asset = "&asset=options" if options else ""
        hint = (
            'curl -H "Authorization: Bearer $TOKEN" '
            f'"http://localhost:8000/api/v1/data/quality/{quote(symbol)}?date={day}{asset}"'
        )
    what = f"options on {symbol}" if options else symbol
    return Problem(404, "no-data", f"nothing of {what} is stored for {session.date}", hint=hint)


def _shape_session(sessions: Sessions, scope: Scope) -> dict[str, Any]:
    session = scope.session
    return {
        "date": session.date.isoformat(),
        "opens_at": rfc3339(session.opens_ns),
        "closes_at": rfc3339(session.closes_ns),
        "half_day": session.half_day,
        "until": rfc3339(max(scope.until_ns, session.opens_ns)),
        "calendar": sessions.name,
    }


def _shape(figures: Report) -> dict[str, Any]:
    return {
        "schemas": [_shape_schema(schema) for schema in figures.schemas],
        "duplicates": {
            "count": None,
            "reason": _NOT_BY_SYMBOL,
            "in_runs": figures.duplicates.records,
            "runs": figures.duplicates.runs,
        },
        "latency_event_to_store": {**dict.fromkeys(_PERCENTILES), "reason": _NO_STORE_TIME},
        "gaps": {
            "open": [shape_gap(gap) for gap in figures.gaps.open],
            "closed": figures.gaps.closed,
            "missing_s": figures.gaps.missing_ns / 1e9,
        },
    }


def _share(number: int, of: int) -> float | None:
    return number / of if of else None


def _shape_schema(found: SchemaQuality) -> dict[str, Any]:
    return {
        "schema": found.schema,
        "instruments": found.instruments,
        "records": found.records,
        "outside_session": found.outside_session,
        "completeness": {
            "expected_minutes": found.expected_minutes,
            "present_minutes": found.present_minutes,
            "share": _share(found.present_minutes, found.expected_minutes),
        },
        "order": None
        if found.order is None
        else {
            "late": found.order.late,
            "late_after_ms": quality.LATE_AFTER_NS / 1e6,
            "out_of_order_by_event": found.order.by_event,
            "out_of_order_by_sequence": found.order.by_sequence,
        },
        "quotes": _shape_quotes(found),
        "latency_event_to_receive": _shape_latency(found.latency),
        "outliers": None
        if found.outliers is None
        else {
            "count": found.outliers.count,
            "evaluated": found.outliers.evaluated,
            "rule": f"log price more than {quality.OUTLIER_DEVIATIONS:g} robust deviations (1.4826 MAD) and"
            f" {quality.OUTLIER_FLOOR:.1%} from the median of {2 * quality.OUTLIER_NEIGHBOURS + 1} prints around it",
        },
        "reason": found.reason,
    }


def _shape_quotes(found: SchemaQuality) -> dict[str, Any] | None:
    if found.quotes is None:
        return None
    number = found.quotes.records
    body: dict[str, Any] = {"quotes": number}
    for name in ("crossed", "locked", "one_sided", "empty", "stale"):
        count = getattr(found.quotes, name)
        body[name] = count
        body[f"{name}_share"] = _share(count, number)
    return {**body, "stale_after_s": quality.STALE_AFTER_NS / 1e9}


def _shape_latency(latency: Latency | None) -> dict[str, Any] | None:
    if latency is None:
        return None
    return {
        "records": latency.records,
        "negative": latency.negative,
        **{f"{name}_ms": getattr(latency, name) / 1e6 for name in ("p50", "p90", "p99", "max")},
    }
