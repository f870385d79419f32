"""Indicators of a symbol, and the list of those there are."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ots_analytics.quality import bar_quality
from ots_analytics.requests import Wanted, parse_indicators
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database
from ots_common.problems import Problem
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.times import Moment, rfc3339
from ots_market.adjustments import Split, split_factors, splits_known_at
from ots_market.bars import Bars, read_bars
from ots_market.instruments import Instrument, find_instrument
from ots_market.prices import SCALE
from ots_market.sessions import xnys
from ots_market.symbols import Symbol
from ots_market.timeframes import Timeframe
from ots_quant.registry import INDICATORS

_TAG = Tag(name="indicators", description="Technical indicators of stored bars")
_LAST_NS = 2**63 - 1
_INPUTS = ("open", "high", "low", "close")

Values = float | dict[str, float]


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
    indicators: dict[str, float | dict[str, float]]
    series: dict[str, Any] | None = Field(None, description="`times` (starts of the bars) and one list a value")


class IndicatorListModel(BaseModel):
    """The indicators there are."""

    indicators: list[dict[str, Any]]


def blueprint(settings: AnalyticsSettings, database: Database) -> APIBlueprint:
    """The routes of indicators."""
    api = APIBlueprint("indicators", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])

    @api.get("/indicators", summary="The indicators there are", responses={200: IndicatorListModel})
    def list_indicators() -> Response:
        entries = [
            {
                "name": entry.name,
                "meaning": entry.meaning,
                "source": entry.source,
                "inputs": list(entry.inputs),
                "parameters": [
                    {"name": p.name, "default": p.default, "least": p.least, "most": p.most, "whole": p.whole}
                    for p in entry.parameters
                ],
                "outputs": list(entry.outputs),
            }
            for entry in INDICATORS.values()
        ]
        return Response(json.dumps({"indicators": entries}), mimetype="application/json")

    @api.get(
        "/indicators/<symbol>",
        summary="Indicators of a symbol",
        responses={200: IndicatorsModel, 404: ProblemModel, 422: ProblemModel},
    )
    def indicators(path: SymbolPath, query: IndicatorsQuery) -> Response:
        wanted = parse_indicators(query.indicators, query.period)
        instrument = find_instrument(database, path.symbol, query.dataset)
        as_of = min(query.as_of if query.as_of is not None else _LAST_NS, time.time_ns())
        memory = max(one.indicator.memory(one.parameters) for one in wanted)
        bars = read_bars(
            database,
            instrument.instrument_id,
            query.timeframe,
            xnys(),
            start_ns=0,
            end_ns=_LAST_NS,
            as_of_ns=as_of,
            limit=max(settings.history_bars, memory + query.series),
            newest=True,
        )
        _check_enough(bars, wanted, instrument, query.timeframe)
        splits = splits_known_at(database, instrument.raw_symbol, as_of) if query.adjusted else []
        inputs = _inputs(bars, splits, query.timeframe)
        computed = {one.key: one.indicator.compute(inputs, one.parameters) for one in wanted}
        body: dict[str, Any] = {
            "symbol": instrument.raw_symbol,
            "timeframe": query.timeframe.value,
            "as_of": rfc3339(int(bars.known_at[-1])),
            "source": settings.market_source,
            "dataset": instrument.dataset,
            "quality": bar_quality(bars, query.timeframe, xnys(), as_of),
            "adjustment": {
                "applied": query.adjusted,
                "splits": [split.stated() for split in splits],
            },
            "parameters": {one.key: one.stated_parameters() for one in wanted},
            "first_bar": rfc3339(int(bars.starts[0])),
            "last_bar": rfc3339(int(bars.starts[-1])),
            "indicators": {one.key: _shape(one, [a[-1] for a in computed[one.key]]) for one in wanted},
        }
        if query.series:
            body["series"] = {
                "times": [rfc3339(t) for t in bars.starts[-query.series :].tolist()],
                **{one.key: _shape(one, [_numbers(a[-query.series :]) for a in computed[one.key]]) for one in wanted},
            }
        return Response(json.dumps(body), mimetype="application/json")

    return api


def _inputs(bars: Bars, splits: list[Split], timeframe: Timeframe) -> dict[str, NDArray[np.float64]]:
    factors = split_factors(splits, bars.starts, daily=timeframe is Timeframe.D1)
    prices = {name: getattr(bars, name) / SCALE / factors for name in _INPUTS}
    return {**prices, "volume": bars.volume * factors}


def _shape(one: Wanted, values: list[Any]) -> Any:
    """One value by itself, several by their names; a number is a plain float."""
    plain = [v if isinstance(v, list) else float(v) for v in values]
    return plain[0] if len(plain) == 1 else dict(zip(one.indicator.outputs, plain, strict=True))


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(v) else v for v in values.tolist()]


def _check_enough(bars: Bars, wanted: list[Wanted], instrument: Instrument, timeframe: Timeframe) -> None:
    if not len(bars):
        raise Problem(
            404,
            "no-bars",
            f"no {timeframe.value} bars of {instrument.raw_symbol} had closed by then",
            hint=f'curl -H "Authorization: Bearer $TOKEN" '
            f'"http://localhost:8000/api/v1/data/bars/{instrument.raw_symbol.replace(" ", "")}?timeframe=1d&limit=1"',
        )
    needs = {one.key: one.indicator.lookback(one.parameters) + 1 for one in wanted}
    if short := {key: need for key, need in needs.items() if need > len(bars)}:
        listed = ", ".join(f"{key} needs {need}" for key, need in short.items())
        raise Problem(
            422,
            "too-few-bars",
            f"{listed}; {len(bars)} {timeframe.value} bars of {instrument.raw_symbol} are there, from "
            f"{rfc3339(int(bars.starts[0]))} to {rfc3339(int(bars.starts[-1]))}",
            extra={"bars": len(bars), "needed": short},
        )
