"""What may be said of the record: performance and calibration, each figure with its sample and its baseline."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any, Literal

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field, JsonValue

from ots_common.conditional import not_modified, version_etag
from ots_common.database import Database
from ots_common.problems import invalid
from ots_common.schemas import PlainText, ProblemModel, RequestModel
from ots_common.times import rfc3339
from ots_quant.evaluation import Brier
from ots_signals import ledger
from ots_signals.calibration import Bin, calibration
from ots_signals.outcomes import ResolvedSignals
from ots_signals.performance import GROUPS, Estimate, GroupPerformance, performance
from ots_signals.settings import SignalsSettings
from ots_signals.strategies import Strategy, registered
from ots_signals.track_record import MOST, Chosen, resolved_signals, trials

_TAG = Tag(name="statistics", description="What may be said of the record, and of which strategies")


class RecordQuery(RequestModel):
    """Which signals; all that have an outcome by default."""

    strategy: PlainText | None = Field(None, max_length=64, description="Of one strategy, by its id.")
    underlying: PlainText | None = Field(None, max_length=16, description="Of one underlying.")
    mode: Literal["live", "replay"] | None = Field(None, description="Decided in time, or later.")
    start: date | None = Field(None, description="First session.")
    end: date | None = Field(None, description="Last session.")

    def chosen(self) -> Chosen:
        """As the record is asked."""
        return Chosen(self.strategy, self.underlying, self.mode, self.start, self.end)


class PerformanceQuery(RecordQuery):
    """Which signals, and how they are put together."""

    group_by: str = Field(
        "strategy",
        pattern=r"^[a-z]+(,[a-z]+){0,3}$",
        description="Some of strategy, symbol, dte, hour, comma-separated.",
    )


class CalibrationQuery(RecordQuery):
    """Which signals, and in how many bins."""

    bins: int = Field(10, ge=1, le=50, description="Bins of about as many signals each.")


class PerformanceModel(BaseModel):
    """Performance by group. Returns are decimals of the capital, net of spread and fees, of positions nobody took."""

    source: str
    as_of: str | None = Field(description="the newest event among them; null: there are none")
    group_by: list[str]
    trials: int = Field(description="strategies and sets of parameters ever tried, over which luck is counted")
    signals: int = Field(description="that have an outcome")
    truncated: bool = Field(description=f"whether there are more than {MOST}, of which these are the oldest")
    groups: list[GroupPerformance]
    verdict: str | None = Field(description="insufficient_data where there is no signal at all; else see the groups")
    units: dict[str, str]
    statement: str


class CalibrationModel(BaseModel):
    """Whether the stated probability of the target came true."""

    source: str
    as_of: str | None = Field(description="the newest event among them; null: there are none")
    n: int
    days: int
    effective_n: float | None
    hit_rate: float | None
    said: float | None
    brier: Brier | None
    brier_implied: float | None
    log_loss: float | None
    log_loss_implied: float | None
    bins: list[Bin]
    n_base_rate: int
    skill_over_base_rate: Estimate
    skill_over_implied: Estimate
    statement: str


class ParameterModel(BaseModel):
    """A parameter and its bounds."""

    name: str
    type: str
    default: float | int | bool | str
    minimum: float | None
    maximum: float | None
    description: str


class StrategyModel(BaseModel):
    """A declared strategy. None of them is said to have an edge."""

    id: str
    version: str
    title: str
    family: str
    timeframe: str
    inputs: list[str]
    history_sessions: int
    horizon: str
    invalidation: str
    sources: str
    parameters: list[ParameterModel]


class StrategiesModel(BaseModel):
    """All strategies."""

    source: str
    strategies: list[StrategyModel]


_UNITS = {
    "net, best, worst, lift, drawdown": "decimals of the capital of one position",
    "hit_rate, base_rate, fair_rate": "shares of 1",
    "sharpe": "of daily sums of net returns, not made annual",
}


def blueprint(settings: SignalsSettings, database: Database) -> APIBlueprint:
    """The routes of statistics."""
    api = APIBlueprint("statistics", __name__, url_prefix="/api/v1/signals", abp_tags=[_TAG])

    @api.get("/strategies", summary="The strategies and their parameters", responses={200: StrategiesModel})
    def strategies() -> Any:
        found = [_strategy(one) for one in registered().values()]
        return {"source": settings.market_source, "strategies": found}

    @api.get(
        "/performance",
        summary="What became of signals, group by group, beside their baselines, with a verdict",
        responses={200: PerformanceModel, 422: ProblemModel},
    )
    def performances(query: PerformanceQuery) -> Any:
        names = tuple(query.group_by.split(","))
        if unknown := [name for name in names if name not in GROUPS]:
            raise invalid("#/query/group_by", f"{unknown[0]}: there is {', '.join(GROUPS)}")
        if len(set(names)) < len(names):
            raise invalid("#/query/group_by", "each at most once")
        if (unchanged := not_modified(_etag(database, query))) is not None:
            return unchanged
        signals = resolved_signals(database, query.chosen())
        found = performance(signals, names, trials=trials(database))
        return {
            "source": settings.market_source,
            "as_of": _newest(signals),
            "group_by": list(names),
            "trials": found.trials,
            "signals": len(signals),
            "truncated": len(signals) == MOST,
            "groups": [asdict(group) for group in found.groups],
            "verdict": None if len(signals) else "insufficient_data",
            "units": _UNITS,
            "statement": found.statement,
        }

    @api.get(
        "/calibration",
        summary="Whether the stated probabilities came true",
        responses={200: CalibrationModel, 422: ProblemModel},
    )
    def calibrations(query: CalibrationQuery) -> Any:
        if (unchanged := not_modified(_etag(database, query))) is not None:
            return unchanged
        signals = resolved_signals(database, query.chosen())
        found = calibration(signals, bins=query.bins)
        return {"source": settings.market_source, "as_of": _newest(signals), **asdict(found)}

    return api


def _etag(database: Database, query: RecordQuery) -> str:
    """All of it follows from the ledger, from the trials, and from what was asked."""
    tried = database.rows("SELECT coalesce(max(trial_id), 0) FROM signal_trials")[0][0]
    return version_etag(ledger.head(database).hash, tried, query.model_dump_json())


def _newest(signals: ResolvedSignals) -> str | None:
    return rfc3339(int(signals.event_ns.max())) if len(signals) else None


def _strategy(strategy: type[Strategy]) -> dict[str, Any]:
    made = strategy()
    return {
        "id": strategy.id,
        "version": strategy.version,
        "title": strategy.title,
        "family": strategy.family,
        "timeframe": strategy.timeframe.value,
        "inputs": list(strategy.inputs),
        "history_sessions": strategy.history_sessions,
        "horizon": made.horizon,
        "invalidation": strategy.invalidation,
        "sources": strategy.sources,
        "parameters": _parameters(strategy),
    }


def _parameters(strategy: type[Strategy]) -> list[dict[str, Any]]:
    schema: dict[str, dict[str, JsonValue]] = strategy.Parameters.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "type": said.get("type", "number"),
            "default": said["default"],
            "minimum": said.get("minimum"),
            "maximum": said.get("maximum"),
            "description": said.get("description", ""),
        }
        for name, said in schema.items()
    ]
