"""Correlation, beta and volatility cones over chosen symbols."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics.chain_expirations import known
from ots_analytics.desk import Desk
from ots_analytics.histories import bars_per_year
from ots_analytics.quality import bar_quality
from ots_analytics.return_series import Closes, common_closes, read_closes
from ots_analytics.routes import activity_examples
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.times import NS_PER_S, Moment, rfc3339
from ots_market.instruments import find_instrument
from ots_market.sessions import Sessions, sessions_of
from ots_market.symbols import Symbol, canonical_symbol
from ots_market.timeframes import Timeframe
from ots_quant.return_statistics import betas, correlation_matrix, log_returns, volatility_cone

_TAG = Tag(name="statistics", description="Statistics over chosen symbols")
_LEAST_RETURNS = 20
_MOST_BARS = 20_000
_MOST_WINDOWS = 12
_QUANTILES = ("lowest", "tenth", "quarter", "median", "three_quarters", "nine_tenths", "highest")
_UNITS = {
    "correlation": f"Pearson's, of log returns between bars that all symbols have; {_LEAST_RETURNS} returns at least",
    "beta": "slope of the symbol's log returns over the benchmark's, least squares, between bars that both have",
    "standard_error": "of beta, as for residuals of one variance that do not depend on each other",
    "volatility_cone": "decimals a year: standard deviation of the log returns in a window, of all windows; each begins"
    " a bar after the one before, so that they share most of their returns",
    "independent_windows": "how many windows fit without sharing a return: the sample is worth hardly more",
    "share_below": "of the windows before the newest, how many had a lower volatility; 0 to 1",
    "returns": "of consecutive bars of regular sessions; on bars shorter than a day those over night are among them",
}
_EXAMPLE = {**activity_examples.CUSTOM, "units": _UNITS}


class CustomBody(RequestModel):
    """What to compute, over which bars."""

    model_config = ConfigDict(json_schema_extra={"example": {"symbols": ["AAPL", "QQQ"], "windows": [20]}})

    symbols: list[Symbol] = Field(min_length=2, max_length=20, description="Tickers, or options as OSI writes them.")
    timeframe: Timeframe = Timeframe.D1
    bars: int = Field(
        250, ge=_LEAST_RETURNS + 1, le=_MOST_BARS, description="The newest bars of regular sessions of each symbol."
    )
    as_of: Moment | None = Field(None, description="Only bars that had closed by then; default now.")
    measures: list[Literal["correlation", "beta", "volatility_cone"]] = Field(
        ["correlation", "beta", "volatility_cone"], min_length=1, max_length=3
    )
    benchmark: Symbol = Field("SPY", description="What beta is taken against.")
    windows: list[int] = Field(
        [10, 20, 60, 120],
        min_length=1,
        max_length=_MOST_WINDOWS,
        description="Lengths of the cone's windows, in returns: 2 or more, less than `bars`.",
    )


class InputModel(BaseModel):
    """The bars of a symbol behind the answer."""

    symbol: str
    dataset: str
    bars: int
    first_bar: str | None
    last_bar: str | None
    quality: dict[str, Any]
    splits: list[dict[str, str]] = Field(description="the splits in force at `as_of`, which prices are adjusted for")


class CorrelationModel(BaseModel):
    """Rows and columns in the order of ``symbols``."""

    symbols: list[str]
    matrix: list[list[float | None]] | None = Field(description="null in it: a price that did not move")
    common_bars: int
    returns: int
    first_bar: str | None
    last_bar: str | None
    reason: str | None = Field(description="why `matrix` is null")


class BetaModel(BaseModel):
    """One symbol against the benchmark."""

    symbol: str
    beta: float | None
    standard_error: float | None
    r_squared: float | None
    common_bars: int
    returns: int
    first_bar: str | None
    last_bar: str | None
    reason: str | None


class ConeWindowModel(BaseModel):
    """How the volatilities of all windows of one length lie, and the newest among them."""

    window: int
    lowest: float | None
    tenth: float | None
    quarter: float | None
    median: float | None
    three_quarters: float | None
    nine_tenths: float | None
    highest: float | None
    current: float | None
    share_below: float | None
    windows: int
    independent_windows: int
    reason: str | None


class ConeModel(BaseModel):
    """The cone of one symbol."""

    symbol: str
    bars_per_year: float
    windows: list[ConeWindowModel]


class CustomModel(BaseModel):
    """What was asked for; a measure that was not is null."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    symbols: list[str]
    timeframe: str
    as_of: str
    newest_input: str
    source: str
    benchmark: str | None
    units: dict[str, str]
    inputs: list[InputModel]
    correlation: CorrelationModel | None
    beta: list[BetaModel] | None
    volatility_cone: list[ConeModel] | None


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The route of statistics over chosen symbols."""
    api = APIBlueprint("custom", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])
    sessions = sessions_of(settings.market_calendar)

    @api.post(
        "/custom",
        summary="Correlation, beta and volatility cones over chosen symbols",
        responses={200: CustomModel, 404: ProblemModel, 422: ProblemModel},
    )
    def custom(body: CustomBody) -> Response:
        symbols = _checked(body)
        now = time.time_ns() // NS_PER_S * NS_PER_S
        as_of = min(body.as_of, now) if body.as_of is not None else now

        def made() -> Response:
            return Response(json.dumps(answer(body, symbols, as_of)), mimetype="application/json")

        return desk.answers.of(as_of, made, explicit=body.as_of is not None, tags=symbols)

    def answer(body: CustomBody, symbols: list[str], as_of: int) -> dict[str, Any]:
        benchmark = canonical_symbol(body.benchmark) if "beta" in body.measures else None
        wanted = [*symbols, *([benchmark] if benchmark and benchmark not in symbols else [])]
        instruments = [find_instrument(database, name, source=settings.market_source) for name in wanted]
        read = {
            one.raw_symbol: read_closes(database, one, body.timeframe, sessions, as_of_ns=as_of, bars=body.bars)
            for one in instruments
        }
        chosen = [read[name] for name in symbols]
        a_year = bars_per_year(body.timeframe, sessions)
        cones = "volatility_cone" in body.measures
        try:
            return {
                "symbols": symbols,
                "timeframe": body.timeframe.value,
                "as_of": rfc3339(as_of),
                "newest_input": rfc3339(max(int(one.bars.stored.known_at[-1]) for one in read.values())),
                "source": settings.market_source,
                "benchmark": benchmark,
                "units": _UNITS,
                "inputs": [_input(one, sessions) for one in read.values()],
                "correlation": _correlation(chosen) if "correlation" in body.measures else None,
                "beta": [_beta(one, read[benchmark]) for one in chosen] if benchmark else None,
                "volatility_cone": [_cone(one, body.windows, a_year) for one in chosen] if cones else None,
            }
        except ValueError as error:
            raise Problem(422, "unusable-bars", f"the stored bars cannot be used: {error}") from error

    return api


def _checked(body: CustomBody) -> list[str]:
    """The symbols as they are stored. Raises a 422 problem for what the fields' own types do not see."""
    symbols = [canonical_symbol(one) for one in body.symbols]
    if twice := sorted({one for one in symbols if symbols.count(one) > 1}):
        raise invalid("#/body/symbols", f"named twice: {', '.join(twice)}")
    if len(set(body.measures)) < len(body.measures):
        raise invalid("#/body/measures", "the same measure is asked for twice")
    if "volatility_cone" in body.measures:
        if wrong := sorted({w for w in body.windows if not 2 <= w < body.bars}):
            detail = (
                f"a window has 2 returns or more and fewer than bars ({body.bars}): not {', '.join(map(str, wrong))}"
            )
            raise invalid("#/body/windows", detail)
        if len(set(body.windows)) < len(body.windows):
            raise invalid("#/body/windows", "the same window is asked for twice")
    return symbols


def _input(one: Closes, sessions: Sessions) -> dict[str, Any]:
    return {
        "symbol": one.symbol,
        "dataset": one.bars.instrument.dataset,
        "bars": len(one),
        **_span(one.starts),
        "quality": bar_quality(
            one.regular if len(one) else one.bars.stored, one.bars.timeframe, sessions, one.bars.as_of_ns
        ),
        "splits": [split.stated() for split in one.bars.splits],
    }


def _span(starts: NDArray[np.int64]) -> dict[str, str | None]:
    first, last = (rfc3339(int(starts[0])), rfc3339(int(starts[-1]))) if len(starts) else (None, None)
    return {"first_bar": first, "last_bar": last}


def _counted(starts: NDArray[np.int64], of: str) -> dict[str, Any]:
    """How much there is in common, and why it is too little."""
    returns = max(0, len(starts) - 1)
    short = f"{of} have {len(starts)} bars in common; {_LEAST_RETURNS + 1} are the fewest"
    reason = None if returns >= _LEAST_RETURNS else short
    return {"common_bars": len(starts), "returns": returns, **_span(starts), "reason": reason}


def _correlation(chosen: list[Closes]) -> dict[str, Any]:
    starts, closes = common_closes(chosen)
    counted = _counted(starts, "the symbols")
    matrix = None
    if counted["reason"] is None:
        matrix = [[known(value) for value in row] for row in correlation_matrix(log_returns(closes)).tolist()]
    return {"symbols": [one.symbol for one in chosen], "matrix": matrix, **counted}


def _beta(one: Closes, benchmark: Closes) -> dict[str, Any]:
    starts, closes = common_closes([one, benchmark])
    counted = _counted(starts, f"{one.symbol} and {benchmark.symbol}")
    values: dict[str, float | None] = dict.fromkeys(("beta", "standard_error", "r_squared"))
    if counted["reason"] is None:
        returns = log_returns(closes)
        found = betas(returns[:1], returns[1])
        values = {name: known(float(getattr(found, name)[0])) for name in values}
        if values["beta"] is None:
            counted["reason"] = f"{benchmark.symbol} did not move"
        elif values["r_squared"] is None:
            counted["reason"] = f"{one.symbol} did not move, so that there is nothing to explain"
    return {"symbol": one.symbol, **values, **counted}


def _cone(one: Closes, windows: list[int], a_year: float) -> dict[str, Any]:
    found = volatility_cone(one.close, windows, a_year)
    rows = []
    for row, window in enumerate(found.lengths):
        short = f"{len(one)} bars have {max(0, len(one) - 1)} returns, fewer than the window"
        only = "there is one window only, so that there is none to compare it with"
        rows.append(
            {
                "window": window,
                **{name: known(value) for name, value in zip(_QUANTILES, found.quantiles[row].tolist(), strict=True)},
                "current": known(float(found.current[row])),
                "share_below": known(float(found.share_below[row])),
                "windows": found.windows[row],
                "independent_windows": found.independent[row],
                "reason": short if not found.windows[row] else only if found.windows[row] == 1 else None,
            }
        )
    return {"symbol": one.symbol, "bars_per_year": a_year, "windows": rows}
