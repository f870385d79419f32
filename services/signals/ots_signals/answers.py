"""Rows of the ledger as answers: times as RFC 3339, prices in dollars, and the hashes by which a row is checked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ots_common.times import NS_PER_S, rfc3339
from ots_market.prices import SCALE
from ots_signals.decisions import Abstention, Barriers, Decision, Leg, Signal
from ots_signals.decisions import Entry as EntryPrices
from ots_signals.ledger import Entry
from ots_signals.outcomes import FillOutcome, Outcome

_ODDS: dict[str, JsonValue] = {
    "p_target": 0.61, "p_stop": 0.2, "p_timeout": 0.19, "p_null": 0.62, "p_null_stop": 0.2, "p_null_timeout": 0.18,
    "fair_value_pct": -0.03, "expected_value_pct": -0.028, "expected_value_low": -0.05, "expected_value_high": -0.006,
    "resolved": 0, "method": "lattice",
}  # fmt: skip


class LegModel(BaseModel):
    """One contract of a position, as it was quoted at the event; prices in dollars a share."""

    symbol: str
    right: Literal["C", "P"]
    strike: float
    expiration: str
    quantity: int = Field(description="contracts: above 0 bought, below 0 sold")
    multiplier: int
    bid: float
    ask: float
    bid_size: int | None = Field(description="contracts; null: not told by the market")
    ask_size: int | None
    quote_age_s: float
    implied_volatility: float | None = Field(description="a decimal a year; null: none could be computed")
    delta: float | None
    gamma: float | None
    theta: float | None = Field(description="dollars a calendar day")
    vega: float | None = Field(description="dollars for a percentage point of volatility")


class EntryModel(BaseModel):
    """What the position costs, dollars a share: paid above 0, received below 0."""

    touch: float = Field(description="all of the spread paid: bought at the ask, sold at the bid")
    partial: float = Field(description="75 % of the half-spread paid")
    mid: float = Field(description="nothing of the spread paid: not attainable, a bound")
    fees: float = Field(description="in and out")
    capital: float = Field(description="what returns are measured against: the debit, or of a credit the most to lose")
    spread_pct: float = Field(description="cost of crossing in and out at once, a share of the capital")
    break_even_pct: float = Field(description="how far the mid must move for a net of zero, a share of the capital")


class BarriersModel(BaseModel):
    """Where the position ends; returns are decimals of the capital."""

    target: float
    stop: float
    time_stop: str
    flat_by: str


class OddsModel(BaseModel):
    """Which barrier is met first. ``p_null``: the same in a market without drift, which is the baseline."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ODDS]})

    p_target: float
    p_stop: float
    p_timeout: float
    p_null: float
    p_null_stop: float
    p_null_timeout: float
    fair_value_pct: float = Field(description="expected net return at full spread in a market without drift")
    expected_value_pct: float = Field(description="as believed, net at full spread")
    expected_value_low: float = Field(description="5 % point of the belief")
    expected_value_high: float = Field(description="95 % point")
    resolved: int = Field(description="outcomes of this strategy that were known at the decision")
    method: str


class FillOutcomeModel(BaseModel):
    """What became of it in one fill model; returns are decimals of the capital, net of spread and fees."""

    model: Literal["touch", "partial", "mid"]
    barrier: Literal["target", "stop", "timeout", "not_filled", "indeterminate"]
    exit_at: str | None
    exit_price: float | None = Field(description="dollars a share")
    net_return: float | None
    best_return: float | None = Field(description="the best on the way (MFE)")
    worst_return: float | None = Field(description="the worst on the way (MAE)")


class AttributionModel(BaseModel):
    """The mid's move from entry to exit, as returns on capital."""

    delta: float
    gamma: float
    theta: float
    volatility: float
    residual: float


class BaselineModel(BaseModel):
    """The same barriers without the strategy: on matched random contracts, and at random moments."""

    n: int = Field(description="matched random contracts that were resolved; 200 are asked for")
    hit_rate: float | None
    mean_net: float | None
    median_net: float | None
    percentile: float | None = Field(description="share of them below this signal's net return")
    shuffled_n: int = Field(description="random moments of the same session")
    shuffled_hit_rate: float | None
    shuffled_mean_net: float | None
    stock_return: float | None = Field(description="a delta-matched position in the stock, on the same capital")


class OutcomeModel(BaseModel):
    """An outcome. Late data add a revision, and the earlier ones stay."""

    seq: int
    signal_id: str
    revision: int
    resolved_up_to: str = Field(description="event time up to which it looked")
    committed_at: str
    fills: list[FillOutcomeModel]
    attribution: AttributionModel | None
    baseline: BaselineModel | None
    gap_minutes: int
    data_digest: str
    detail: str
    hash: str
    previous_hash: str


class EvaluatedModel(BaseModel):
    """What was decided: nothing in it was known later than ``event_at``."""

    id: str
    source: str
    mode: Literal["live", "replay", "backtest"] = Field(description="replay: decided later, of its event's time")
    strategy: str
    strategy_version: str
    code_version: str
    parameters: dict[str, float | int | str | bool]
    parameters_hash: str
    underlying: str
    timeframe: str
    session: str
    event_at: str = Field(description="the cutoff: nothing later was looked at")
    direction: int = Field(description="1 up, -1 down, 0 both ways")
    reasons: list[str]
    features: dict[str, float | None]
    features_hash: str
    quality: dict[str, float | int | str | bool | None]
    regime: dict[str, float | str | None]
    legs: list[LegModel] | None = Field(description="of a signal")
    entry: EntryModel | None
    barriers: BarriersModel | None
    odds: OddsModel | None
    underlying_price: float | None
    days_to_expiration: float | None
    invalidation: str | None = Field(description="what would show, before any barrier, that its reason is gone")
    why: str | None = Field(description="of an abstention: its reason")
    detail: str | None


class DecisionModel(EvaluatedModel):
    """A signal or an abstention as a row of the ledger."""

    seq: int
    kind: Literal["signal", "abstention"]
    decided_at: str
    committed_at: str
    hash: str
    previous_hash: str


def shape_decision(entry: Entry) -> dict[str, Any]:
    """A `DecisionModel`. Raises TypeError for an outcome."""
    record = entry.record
    if isinstance(record, Outcome):
        raise TypeError("an outcome is no decision")
    return {
        "seq": entry.seq,
        "kind": entry.kind,
        **shape_record(record),
        "decided_at": rfc3339(entry.decided_ns),
        "committed_at": rfc3339(entry.committed_ns),
        "hash": entry.hash,
        "previous_hash": entry.previous_hash,
    }


def shape_record(record: Decision) -> dict[str, Any]:
    """What a decision says itself, whether it is in a ledger or not."""
    signal = record if isinstance(record, Signal) else None
    abstention = record if isinstance(record, Abstention) else None
    return {
        "id": record.id,
        "source": record.source,
        "mode": record.mode.value,
        "strategy": record.strategy,
        "strategy_version": record.strategy_version,
        "code_version": record.code_version,
        "parameters": dict(record.parameters),
        "parameters_hash": record.parameters_hash,
        "underlying": record.underlying,
        "timeframe": record.timeframe,
        "session": record.session,
        "event_at": rfc3339(record.event_ns),
        "direction": record.direction,
        "reasons": list(record.reasons),
        "features": dict(record.features),
        "features_hash": record.features_hash,
        "quality": dict(record.quality),
        "regime": dict(record.regime),
        "legs": [_leg(leg) for leg in signal.legs] if signal else None,
        "entry": _entry(signal.entry) if signal else None,
        "barriers": _barriers(signal.barriers) if signal else None,
        "odds": dict(vars(signal.odds)) if signal else None,
        "underlying_price": signal.underlying_price if signal else None,
        "days_to_expiration": signal.days_to_expiration if signal else None,
        "invalidation": signal.invalidation if signal else None,
        "why": str(abstention.why) if abstention else None,
        "detail": abstention.detail if abstention else None,
    }


def shape_outcome(entry: Entry) -> dict[str, Any]:
    """An `OutcomeModel`. Raises TypeError for a decision."""
    record = entry.record
    if not isinstance(record, Outcome):
        raise TypeError("a decision is no outcome")
    return {
        "seq": entry.seq,
        "signal_id": record.signal_id,
        "revision": record.revision,
        "resolved_up_to": rfc3339(record.resolved_of_ns),
        "committed_at": rfc3339(entry.committed_ns),
        "fills": [_fill(fill) for fill in record.fills],
        "attribution": dict(vars(record.attribution)) if record.attribution else None,
        "baseline": dict(vars(record.baseline)) if record.baseline else None,
        "gap_minutes": record.gap_minutes,
        "data_digest": record.data_digest,
        "detail": record.detail,
        "hash": entry.hash,
        "previous_hash": entry.previous_hash,
    }


def shape(entry: Entry) -> dict[str, Any]:
    """Either."""
    return shape_outcome(entry) if isinstance(entry.record, Outcome) else shape_decision(entry)


def _leg(leg: Leg) -> dict[str, Any]:
    return {
        "symbol": leg.symbol,
        "right": leg.right,
        "strike": leg.strike / SCALE,
        "expiration": leg.expiration,
        "quantity": leg.quantity,
        "multiplier": leg.multiplier,
        "bid": leg.bid / SCALE,
        "ask": leg.ask / SCALE,
        "bid_size": leg.bid_size if leg.bid_size >= 0 else None,
        "ask_size": leg.ask_size if leg.ask_size >= 0 else None,
        "quote_age_s": leg.quote_age_ns / NS_PER_S,
        "implied_volatility": leg.implied_volatility,
        "delta": leg.delta,
        "gamma": leg.gamma,
        "theta": None if leg.theta is None else leg.theta / 365,
        "vega": None if leg.vega is None else leg.vega / 100,
    }


def _entry(entry: EntryPrices) -> dict[str, Any]:
    prices = {name: getattr(entry, name) / SCALE for name in ("touch", "partial", "mid", "fees", "capital")}
    return {**prices, "spread_pct": entry.spread_pct, "break_even_pct": entry.break_even_pct}


def _barriers(barriers: Barriers) -> dict[str, Any]:
    return {
        "target": barriers.target,
        "stop": barriers.stop,
        "time_stop": rfc3339(barriers.time_ns),
        "flat_by": rfc3339(barriers.flat_ns),
    }


def _fill(fill: FillOutcome) -> dict[str, Any]:
    return {
        "model": fill.model,
        "barrier": fill.barrier.value,
        "exit_at": None if fill.exit_ns is None else rfc3339(fill.exit_ns),
        "exit_price": None if fill.exit_price is None else fill.exit_price / SCALE,
        "net_return": fill.net_return,
        "best_return": fill.best_return,
        "worst_return": fill.worst_return,
    }
