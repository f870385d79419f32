"""Patterns of a symbol's bars: events, each with the moment from which it was known."""

from __future__ import annotations

import math
import time
from typing import Any, Literal

import numpy as np
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_analytics.adjusted_bars import AdjustedBars, read_adjusted_bars
from ots_analytics.answers import Answers
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database
from ots_common.memory import Memory
from ots_common.problems import FieldError, Problem
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.times import Moment, rfc3339
from ots_market.bars import Bars
from ots_market.instruments import find_instrument
from ots_market.sessions import sessions_of
from ots_market.symbols import Symbol, canonical_symbol
from ots_market.timeframes import DAY_NS, Timeframe
from ots_quant.patterns import (
    DETECTORS,
    FAMILIES,
    MEMORY_BARS,
    Detector,
    Event,
    Level,
    Study,
    TrendNow,
    current_levels,
    current_trend,
    named,
    price_bars,
    scan,
    usable,
)

_TAG = Tag(name="patterns", description="Patterns of stored bars, never looking ahead")
_LAST_NS = 2**63 - 1
_MOST_BARS = 50_000  # a window of more bars is refused: 30 days of minutes around the clock fit
_FEW_BARS = 100
_WORDS = {1: "bullish", -1: "bearish", 0: "neutral"}
_TREND_WORDS = {1: "up", -1: "down", 0: "none"}


class PatternsPath(RequestModel):
    """A ticker, or an option as OSI writes it."""

    symbol: Symbol


class PatternsQuery(RequestModel):
    """Which patterns, over which bars."""

    days: int = Field(30, ge=1, le=3650, description="Events confirmed in so many days before the newest bar's close.")
    timeframe: Timeframe = Timeframe.D1
    types: str | None = Field(
        None,
        max_length=2000,
        description=f"Types or families ({', '.join(FAMILIES)}), comma-separated; default all. docs/PATTERNS.md "
        "describes each.",
    )
    as_of: Moment | None = Field(None, description="Only bars that had closed by then; default now.")
    limit: int = Field(500, ge=1, le=5000, description="Events at most; `total` says how many there are.")
    order: Literal["newest", "oldest"] = Field("newest", description="Which come first, by `confirmed_at`.")
    adjusted: bool = Field(True, description="Apply the splits in force at `as_of`, so that a split is no pattern.")
    dataset: str | None = Field(None, pattern=r"^[A-Z0-9.]{1,20}$")


class PatternQualityModel(BaseModel):
    """The bars behind the answer; ``unusable`` ones (a high below a low, no price) were left out."""

    bars: int
    missing: int
    stale: bool
    sessions_behind: int
    origins: dict[str, int]
    unusable: int


class WindowModel(BaseModel):
    """Events confirmed after ``after`` and up to ``until``; ``bars_before``: earlier bars that the detectors saw."""

    days: int
    after: str
    until: str
    bars_before: int


class PivotModel(BaseModel):
    """``time``: start of the bar of the extreme; ``confirmed_at``: from when it was known to be one."""

    time: str
    price: float
    confirmed_at: str


class PatternLevelsModel(BaseModel):
    """In dollars; null where the type has none (docs/PATTERNS.md says which)."""

    neckline: float | None
    target: float | None
    invalidation: float | None


class PatternScoreModel(BaseModel):
    """``score``: the mean of those parts, each 0 to 1, that are known; a measure of shape, not of profit."""

    score: float | None
    parts: dict[str, float | None]


class PatternModel(BaseModel):
    """One event. ``start`` and ``end`` are the starts of its first and last bar."""

    type: str
    family: str
    direction: Literal["bullish", "bearish", "neutral"]
    start: str
    end: str
    confirmed_at: str
    pivots: list[PivotModel]
    levels: PatternLevelsModel
    quality: PatternScoreModel


class CurrentLevelModel(BaseModel):
    """A price at which swings of the last 250 bars turned."""

    price: float
    side: Literal["support", "resistance"]
    touches: int
    strength: float
    first: str
    last: str


class CurrentTrendModel(BaseModel):
    """The line through the last 50 log closes; ``p_value`` of a mean return of zero."""

    direction: Literal["up", "down", "none"]
    since: str | None
    slope_per_bar: float
    r_squared: float
    p_value: float
    line: float


class PatternsModel(BaseModel):
    """Events of the window, and the levels and the trend at the newest bar."""

    symbol: str
    timeframe: str
    as_of: str
    source: str
    dataset: str
    quality: PatternQualityModel
    adjustment: dict[str, Any]
    window: WindowModel
    note: str | None = Field(None, description="why there may be less than expected")
    total: int
    patterns: list[PatternModel]
    levels: list[CurrentLevelModel]
    trend: CurrentTrendModel | None


def blueprint(settings: AnalyticsSettings, database: Database, answers: Answers, memory: Memory[Bars]) -> APIBlueprint:
    """The route of patterns."""
    api = APIBlueprint("patterns", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])
    sessions = sessions_of(settings.market_calendar)

    @api.get(
        "/patterns/<symbol>",
        summary="Patterns of a symbol",
        responses={200: PatternsModel, 404: ProblemModel, 422: ProblemModel},
    )
    def patterns(path: PatternsPath, query: PatternsQuery) -> Response:
        detectors = parse_types(query.types)
        limit = _bars_to_read(query.days, query.timeframe)
        as_of = min(query.as_of if query.as_of is not None else _LAST_NS, time.time_ns())

        def made() -> Response:
            instrument = find_instrument(database, path.symbol, query.dataset, source=settings.market_source)
            read = read_adjusted_bars(
                database,
                instrument,
                query.timeframe,
                sessions,
                as_of_ns=as_of,
                limit=limit,
                adjusted=query.adjusted,
                memory=memory,
            )
            body = _body(read, detectors, query, settings.market_source)
            return Response(json.dumps(body), mimetype="application/json")

        return answers.of(as_of, made, explicit=query.as_of == as_of, tags=[canonical_symbol(path.symbol)])

    return api


def parse_types(text: str | None) -> list[Detector]:
    """The detectors that ``text`` names, in the table's order. Raises a 422 problem that names every wrong part."""
    if text is None:
        return list(DETECTORS.values())
    parts = [part.strip().lower() for part in text.split(",") if part.strip()]
    wrong = [f"there is no type or family {part!r}" for part in parts if not named(part)]
    if not parts:
        wrong = ["name at least one type or family, such as double_top,gaps"]
    if wrong:
        raise Problem(
            422,
            "invalid-types",
            "; ".join(wrong),
            errors=[FieldError("#/query/types", detail) for detail in wrong],
            hint="leave types out for all of them; docs/PATTERNS.md describes each",
            extra={"families": list(FAMILIES), "available": list(DETECTORS)},
        )
    chosen = {detector.name for part in parts for detector in named(part)}
    return [detector for name, detector in DETECTORS.items() if name in chosen]


def _bars_to_read(days: int, timeframe: Timeframe) -> int:
    """The bars that ``days`` can hold at most, and those before that the detectors need. Raises a 422 problem."""
    a_day = DAY_NS // timeframe.nanoseconds
    if days * a_day > _MOST_BARS:
        most = _MOST_BARS // a_day
        detail = f"{days} days of {timeframe.value} bars are too many; {most} days are the most"
        raise Problem(
            422,
            "invalid-input",
            detail,
            errors=[FieldError("#/query/days", detail)],
            hint="take fewer days, or a longer timeframe",
        )
    # a day more: the window opens within one
    return (days + 1) * a_day + MEMORY_BARS


def _body(read: AdjustedBars, detectors: list[Detector], query: PatternsQuery, source: str) -> dict[str, Any]:
    inputs = read.inputs()
    good = usable(**inputs)
    stored = read.stored.take(good)
    until = int(read.stored.known_at[-1])
    after = until - query.days * DAY_NS
    first = int(np.searchsorted(stored.known_at, after, side="right"))
    found = scan(price_bars(**{name: values[good] for name, values in inputs.items()}), detectors)
    events = found.events(first, most=query.limit, newest=query.order == "newest")
    body = read.heading(source)
    body["quality"]["unusable"] = int((~good).sum())
    return {
        **body,
        "window": {"days": query.days, "after": rfc3339(max(after, 0)), "until": rfc3339(until), "bars_before": first},
        "note": _note(len(stored), first),
        "total": found.number(first),
        "patterns": [_pattern(event, stored) for event in events],
        **_now(found.study, stored),
    }


def _note(bars: int, before: int) -> str | None:
    if before >= MEMORY_BARS:
        return None
    text = f"{before} bars before the window, where {MEMORY_BARS} are wanted: its first events rest on little history"
    return text if bars > _FEW_BARS else f"{bars} bars are few: most patterns take 50 to 150; {text}"


def _pattern(event: Event, bars: Bars) -> dict[str, Any]:
    return {
        "type": event.detector.name,
        "family": event.detector.family,
        "direction": _WORDS[event.direction],
        "start": _start(bars, event.start),
        "end": _start(bars, event.end),
        "confirmed_at": rfc3339(int(bars.known_at[event.confirmed])),
        "pivots": [
            {
                "time": _start(bars, pivot.at),
                "price": _dollars(pivot.price),
                "confirmed_at": rfc3339(int(bars.known_at[pivot.confirmed])),
            }
            for pivot in event.pivots
        ],
        "levels": {
            "neckline": _dollars(event.neckline),
            "target": _dollars(event.target),
            "invalidation": _dollars(event.invalidation),
        },
        "quality": {"score": _share(event.score), "parts": {name: _share(value) for name, value in event.parts}},
    }


def _now(study: Study, bars: Bars) -> dict[str, Any]:
    if not len(bars):
        return {"levels": [], "trend": None}
    trend = current_trend(study)
    return {
        "levels": [_level(level, bars) for level in current_levels(study)],
        "trend": None if trend is None else _trend(trend, bars),
    }


def _level(level: Level, bars: Bars) -> dict[str, Any]:
    return {
        "price": _dollars(level.price),
        "side": "resistance" if level.side > 0 else "support",
        "touches": level.touches,
        "strength": _share(level.strength),
        "first": _start(bars, level.first),
        "last": _start(bars, level.last),
    }


def _trend(trend: TrendNow, bars: Bars) -> dict[str, Any]:
    return {
        "direction": _TREND_WORDS[trend.state],
        "since": None if trend.since is None else rfc3339(int(bars.known_at[trend.since])),
        "slope_per_bar": trend.slope,
        "r_squared": _share(trend.fit),
        "p_value": trend.p_value,
        "line": _dollars(trend.line),
    }


def _start(bars: Bars, index: int) -> str:
    return rfc3339(int(bars.starts[index]))


def _dollars(value: float) -> float | None:
    """To a millionth: what adjusting for splits and fitting lines adds beyond is noise."""
    return None if math.isnan(value) else round(value, 6)


def _share(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
