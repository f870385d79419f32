"""Indicators of a symbol, and the list of those there are."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ots_analytics.adjusted_bars import read_adjusted_bars
from ots_analytics.answers import Answers
from ots_analytics.histories import history_of, most_bars_per_day
from ots_analytics.requests import Wanted, parse_indicators
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database
from ots_common.memory import Memory
from ots_common.problems import Problem
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.times import Moment, rfc3339
from ots_market.bars import Bars
from ots_market.instruments import Instrument, find_instrument
from ots_market.sessions import sessions_of
from ots_market.symbols import Symbol, canonical_symbol
from ots_market.timeframes import DAY_NS, Timeframe
from ots_quant.indicators.history import History
from ots_quant.registry import INDICATORS, Indicator

_TAG = Tag(name="indicators", description="Technical indicators of stored bars")
_LAST_NS = 2**63 - 1
# an anchor further back is refused: a year of minutes, extended hours included, is a quarter of this
_MOST_BARS = 1_000_000
_LONGEST_YEAR_NS = 366 * DAY_NS


class SymbolPath(RequestModel):
    """A ticker, or an option as OSI writes it."""

    symbol: Symbol


class IndicatorsQuery(RequestModel):
    """Which indicators, over which bars."""

    indicators: str = Field(
        "sma,rsi,macd",
        max_length=500,
        description="Names, each with its own parameters where wanted: sma:50,macd:12:26:9",
    )
    period: int | None = Field(None, ge=1, le=5000, description="The period of those that name none themselves.")
    timeframe: Timeframe = Timeframe.D1
    as_of: Moment | None = Field(None, description="Only bars that had closed by then; default now.")
    series: int = Field(0, ge=0, le=5000, description="Also the last N values with their times.")
    adjusted: bool = Field(True, description="Apply the splits in force at `as_of`, so that a split is no crash.")
    anchor: Moment | None = Field(
        None, description="Where an anchored average begins; default the first bar of the newest bar's year (UTC)."
    )
    dataset: str | None = Field(None, pattern=r"^[A-Z0-9.]{1,20}$")


class QualityModel(BaseModel):
    """The bars behind the answer."""

    bars: int
    missing: int = Field(description="intervals of regular sessions without a bar, between the first bar and the last")
    stale: bool
    sessions_behind: int = Field(description="sessions that closed after the newest bar and before as_of")
    origins: dict[str, int]


class IndicatorsModel(BaseModel):
    """The newest values; ``as_of`` is when the newest bar used had closed."""

    symbol: str
    timeframe: str
    as_of: str
    source: str
    dataset: str
    quality: QualityModel
    adjustment: dict[str, Any]
    parameters: dict[str, dict[str, float]]
    first_bar: str
    last_bar: str
    indicators: dict[str, float | dict[str, float | None] | None]
    reasons: dict[str, str] = Field(description="why a value is null, by the indicator's key")
    since_first_bar: list[str] = Field(
        description="keys whose values depend on every bar since `first_bar`, so on where the stored bars begin"
    )
    anchor: str | None = Field(None, description="the start of the bar with which the anchored ones begin")
    series: dict[str, Any] | None = Field(None, description="`times` (starts of the bars) and one list a value")


class ParameterModel(BaseModel):
    """A parameter, in the order in which `name:value:value` gives them."""

    name: str
    default: float
    least: float
    most: float
    whole: bool


class IndicatorModel(BaseModel):
    """An indicator; `lookback` is what lies before its first value with the default parameters."""

    name: str
    meaning: str
    source: str
    inputs: list[str]
    parameters: list[ParameterModel]
    rules: list[str] = Field(description="what must hold between parameters")
    outputs: list[str]
    lookback: dict[str, int] = Field(description="`bars`, and whole `sessions` before the bar's own")
    bounded_memory: bool = Field(description="false: its values depend on all bars since the first")


class IndicatorListModel(BaseModel):
    """The indicators there are."""

    indicators: list[IndicatorModel]


def blueprint(settings: AnalyticsSettings, database: Database, answers: Answers, memory: Memory[Bars]) -> APIBlueprint:
    """The routes of indicators."""
    api = APIBlueprint("indicators", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])
    sessions = sessions_of(settings.market_calendar)

    @api.get("/indicators", summary="The indicators there are", responses={200: IndicatorListModel})
    def list_indicators() -> Response:
        entries = [_described(entry) for entry in INDICATORS.values()]
        return Response(json.dumps({"indicators": entries}), mimetype="application/json")

    @api.get(
        "/indicators/<symbol>",
        summary="Indicators of a symbol",
        responses={200: IndicatorsModel, 404: ProblemModel, 422: ProblemModel},
    )
    def indicators(path: SymbolPath, query: IndicatorsQuery) -> Response:
        wanted = parse_indicators(query.indicators, query.period)
        as_of = min(query.as_of if query.as_of is not None else _LAST_NS, time.time_ns())

        def made() -> Response:
            instrument = find_instrument(database, path.symbol, query.dataset, source=settings.market_source)
            body = _body(instrument, wanted, query, as_of)
            return Response(json.dumps(body), mimetype="application/json")

        return answers.of(as_of, made, explicit=query.as_of == as_of, tags=[canonical_symbol(path.symbol)])

    def _body(instrument: Instrument, wanted: list[Wanted], query: IndicatorsQuery, as_of: int) -> dict[str, Any]:
        limit = max(settings.history_bars, _needed(wanted, query))
        anchored = any("anchor" in one.indicator.inputs for one in wanted)
        if anchored:
            limit = max(limit, _bars_since(query, as_of))
        chosen = read_adjusted_bars(
            database,
            instrument,
            query.timeframe,
            sessions,
            as_of_ns=as_of,
            limit=limit,
            adjusted=query.adjusted,
            memory=memory,
        )
        bars = chosen.stored
        _check_enough(bars, wanted, instrument, query.timeframe)
        anchor = _anchor(bars, query.anchor, limit) if anchored else 0
        history = history_of(chosen, sessions, anchor)
        computed = {one.key: _compute(one, history, instrument) for one in wanted}
        newest = {one.key: _shape(one, [_numbers(a[-1:])[0] for a in computed[one.key]]) for one in wanted}
        body: dict[str, Any] = {
            **chosen.heading(settings.market_source),
            "parameters": {one.key: _parameters(one, history) for one in wanted},
            "first_bar": rfc3339(int(bars.starts[0])),
            "last_bar": rfc3339(int(bars.starts[-1])),
            "indicators": newest,
            "reasons": {
                one.key: one.indicator.unknown or "not defined for these bars"
                for one in wanted
                if any(math.isnan(a[-1]) for a in computed[one.key])
            },
            "since_first_bar": [
                one.key
                for one in wanted
                if one.indicator.memory(one.parameters) is None and "anchor" not in one.indicator.inputs
            ],
        }
        if anchored:
            body["anchor"] = rfc3339(int(bars.starts[anchor]))
        if query.series:
            body["series"] = {
                "times": [rfc3339(t) for t in bars.starts[-query.series :].tolist()],
                **{one.key: _shape(one, [_numbers(a[-query.series :]) for a in computed[one.key]]) for one in wanted},
            }
        return body

    return api


def _described(entry: Indicator) -> dict[str, Any]:
    """An entry of the registry as the list shows it."""
    lookback = entry.lookback(entry.defaults())
    return {
        "name": entry.name,
        "meaning": entry.meaning,
        "source": entry.source,
        "inputs": list(entry.inputs),
        "parameters": [
            {"name": p.name, "default": p.default, "least": p.least, "most": p.most, "whole": p.whole}
            for p in entry.parameters
        ],
        "rules": [rule.says for rule in entry.rules],
        "outputs": list(entry.outputs),
        "lookback": {"bars": lookback.bars, "sessions": lookback.sessions},
        "bounded_memory": entry.memory(entry.defaults()) is not None,
    }


def _needed(wanted: list[Wanted], query: IndicatorsQuery) -> int:
    """The bars that what is wanted looks at, as far as that is bounded."""
    memories = [one.indicator.memory(one.parameters) for one in wanted]
    per_day = most_bars_per_day(query.timeframe)
    return query.series + max((memory.in_bars(per_day) for memory in memories if memory is not None), default=0)


def _bars_since(query: IndicatorsQuery, as_of_ns: int) -> int:
    """The most bars that can lie between the anchor and ``as_of``; at most `_MOST_BARS`."""
    span = _LONGEST_YEAR_NS if query.anchor is None else max(0, as_of_ns - query.anchor)
    return min(_MOST_BARS, span // query.timeframe.nanoseconds + 1)


def _year_of(time_ns: int) -> int:
    """When the year of a moment began, UTC."""
    year = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).year
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000_000


def _anchor(bars: Bars, asked_ns: int | None, limit: int) -> int:
    """The index of the first bar at or after the anchor. Raises a 422 problem where it is not among the bars."""
    since = asked_ns if asked_ns is not None else _year_of(int(bars.starts[-1]))
    index = int(np.searchsorted(bars.starts, since))
    if index == len(bars):
        raise Problem(
            422, "anchor-too-late", f"anchor lies after the newest bar, which began at {rfc3339(int(bars.starts[-1]))}"
        )
    if index == 0 and len(bars) == limit and bars.starts[0] > since:
        raise Problem(
            422, "anchor-too-early", f"more than {limit} bars lie after the anchor: choose a longer timeframe"
        )
    return index


def _compute(one: Wanted, history: History, instrument: Instrument) -> tuple[NDArray[np.float64], ...]:
    """The values at each bar. Raises a 422 problem where stored bars are such that they would be wrong."""
    try:
        return one.indicator.compute(history, one.parameters)
    except ValueError as error:
        raise Problem(
            422, "unusable-bars", f"{one.key} cannot be computed of the bars of {instrument.raw_symbol}: {error}"
        ) from error


def _parameters(one: Wanted, history: History) -> dict[str, float]:
    """As answered: the parameters, and what the timeframe adds to them."""
    annual = {"bars_per_year": history.bars_per_year} if "bars_per_year" in one.indicator.inputs else {}
    return {**one.stated_parameters(), **annual}


def _shape(one: Wanted, values: list[Any]) -> Any:
    """One value by itself, several by their names."""
    return values[0] if len(values) == 1 else dict(zip(one.indicator.outputs, values, strict=True))


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(v) else v for v in values.tolist()]


def _check_enough(bars: Bars, wanted: list[Wanted], instrument: Instrument, timeframe: Timeframe) -> None:
    needs = {one.key: one.indicator.lookback(one.parameters).bars + 1 for one in wanted}
    if short := {key: need for key, need in needs.items() if need > len(bars)}:
        listed = ", ".join(f"{key} needs {need}" for key, need in short.items())
        raise Problem(
            422,
            "too-few-bars",
            f"{listed}; {len(bars)} {timeframe.value} bars of {instrument.raw_symbol} are there, from "
            f"{rfc3339(int(bars.starts[0]))} to {rfc3339(int(bars.starts[-1]))}",
            extra={"bars": len(bars), "needed": short},
        )
