"""What became of signals, group by group: each figure with its sample size, its interval, its baseline beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_quant.evaluation import (
    clustered_mean,
    day_bootstraps,
    deflated_sharpe,
    drawdown,
    minimum_track_record,
    profit_factor,
    sharpe,
    wilson,
)
from ots_signals.decisions import FillModel, Signal
from ots_signals.market_view import Floats
from ots_signals.outcomes import Barrier, FillOutcome, Outcome, ResolvedSignals
from ots_signals.verdicts import (
    DEFLATED,
    HYPOTHETICAL,
    Judgement,
    counted_net,
    daily_returns,
    judge,
    not_left,
    resolved,
)

GROUPS = ("strategy", "symbol", "dte", "hour")
"""What signals can be grouped by."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEVEL = 0.95  # of every interval

_DTE_EDGES = np.array([1.0, 3.0, 8.0, 22.0, 46.0])
_DTE_NAMES = np.array(["0", "1-2", "3-7", "8-21", "22-45", "46+"])
_EXCHANGE = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval from a bootstrap of whole days; None where there is too little."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Share:
    """A share of ``n``, with Wilson's interval (as if signals were independent) and a bootstrap's of whole days."""

    value: float | None
    n: int
    wilson_low: float
    wilson_high: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class NetReturns:
    """In one fill model, on capital. ``attainable`` is false of the mid: a bound, nothing that can be had.

    ``expectancy``: the mean, of what was entered; what could not be left counts as lost. ``profit_factor``: what was
    gained over what was lost; None without a loss.
    """

    attainable: bool
    expectancy: Estimate
    median: float | None
    p05: float | None
    profit_factor: float | None


@dataclass(frozen=True)
class GroupPerformance:
    """One group. Figures are at touch but where a fill model is named; None where there is too little.

    ``signals`` are all, ``n`` those with a result (``targets`` + ``stops`` + ``timeouts`` + ``not_left``) on ``days``;
    ``effective_n``: how many independent ones would tell as much, ``design_effect`` n over it before it is capped.
    ``indeterminate`` (a gap inside) and ``not_entered`` have no result and are in no share or mean.
    ``hit_rate``: target first. ``base_rate``: the same of matched random contracts, ``fair_rate`` in a market without
    drift; ``hit_lift`` and ``lift`` (of net returns): less the matches', of signals that have any.
    ``best``, ``worst``: quantiles (5, 25, 50, 75, 95 %) of the most favourable and adverse excursion.
    ``drawdown``: of equal stakes in order of exit, in stakes. ``sharpe``: of days, not a year.
    ``minimum_days``: with signals, for a Sharpe ratio above 0 at 95 %; None where it is not above 0.
    """

    group: dict[str, str]
    signals: int
    n: int
    days: int
    effective_n: float | None
    design_effect: float | None
    indeterminate: int
    not_entered: int
    not_left: int
    targets: int
    stops: int
    timeouts: int
    hit_rate: Share
    base_rate: Estimate
    fair_rate: float | None
    hit_lift: Estimate
    lift: Estimate
    with_baseline: int
    percentile: Estimate
    net: dict[str, NetReturns]
    shuffled_mean: float | None
    fair_value: float | None
    stock_return: float | None
    abstaining: float
    best: tuple[float, ...] | None
    worst: tuple[float, ...] | None
    drawdown: float | None
    sharpe: float | None
    deflated_sharpe: float | None
    trials: int
    minimum_days: float | None
    verdict: Judgement


@dataclass(frozen=True)
class Performance:
    """Groups in order of their names. ``statement``: of 17 CFR 4.41(b), stands with every answer."""

    group_by: tuple[str, ...]
    trials: int
    groups: tuple[GroupPerformance, ...]
    statement: str = HYPOTHETICAL


def performance(
    signals: ResolvedSignals, group_by: Sequence[str] = ("strategy",), *, trials: int, seed: int = 0
) -> Performance:
    """Of all groups. ``trials``: strategies and sets of parameters ever tried, as logged; at least 1.

    By ``strategy`` each of its versions is a group, named by ``strategy_version`` beside it. ``seed``: of the
    bootstraps. The same for the same signals in any order. Raises ValueError that names what cannot be
    grouped by.
    """
    unknown = [name for name in group_by if name not in GROUPS]
    if unknown or len(set(group_by)) != len(group_by):
        raise ValueError(f"group_by must hold {', '.join(GROUPS)}, each at most once, not {', '.join(group_by)}")
    ordered = signals.take(np.lexsort((signals.id, signals.event_ns)))
    # other rules are another strategy, whatever its name: their records are never added up
    names_of = [key for name in group_by for key in ((name, "strategy_version") if name == "strategy" else (name,))]
    columns = [_labels(ordered, name) for name in names_of]
    if columns:
        labels = np.array(["\0".join(row) for row in zip(*columns, strict=True)], np.str_)
    else:
        labels = np.full(len(ordered), "")
    names, first = np.unique(labels, return_index=True)
    groups = tuple(
        _group(
            {name: str(column[at]) for name, column in zip(names_of, columns, strict=True)},
            ordered.take(np.flatnonzero(labels == label)),
            trials,
            len(names),
            seed,
        )
        for label, at in zip(names.tolist(), first.tolist(), strict=True)
    )
    return Performance(tuple(group_by), trials, groups)


def side_by_side(pairs: Iterable[tuple[Signal, Outcome]]) -> ResolvedSignals:
    """Signals and their outcomes (the newest revision of each) as arrays, in order of event and id."""
    rows = [_row(signal, outcome) for signal, outcome in pairs]
    rows.sort(key=lambda row: (row[_EVENT], row[0]))
    names = tuple(ResolvedSignals.__dataclass_fields__)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return ResolvedSignals(*(np.array(column, _TYPES[name]) for name, column in zip(names, columns, strict=True)))


_EVENT = tuple(ResolvedSignals.__dataclass_fields__).index("event_ns")
_TEXT = ("id", "strategy", "strategy_version", "mode", "underlying", "barrier")
_TYPES: dict[str, Any] = {
    name: np.str_ if name in _TEXT else np.int64 if name in ("hour", "event_ns", "exit_ns") else np.float64
    for name in ResolvedSignals.__dataclass_fields__
} | {"day": "datetime64[D]"}


def _row(signal: Signal, outcome: Outcome) -> tuple[object, ...]:
    by_model = {fill.model: fill for fill in outcome.fills}
    touch, baseline = by_model[FillModel.TOUCH], outcome.baseline
    of_baseline = (
        (np.nan,) * 5
        if baseline is None
        else tuple(
            _or_nan(x)
            for x in (
                baseline.mean_net,
                baseline.hit_rate,
                baseline.percentile,
                baseline.shuffled_mean_net,
                baseline.stock_return,
            )
        )
    )
    return (
        signal.id,
        signal.strategy,
        signal.strategy_version,
        signal.mode.value,
        signal.underlying,
        np.datetime64(signal.session),
        datetime.fromtimestamp(signal.event_ns // 1_000_000_000, UTC).astimezone(_EXCHANGE).hour,
        signal.days_to_expiration,
        signal.event_ns,
        touch.exit_ns if touch.exit_ns is not None else outcome.resolved_of_ns,
        touch.barrier.value,
        *(_or_nan(_net(by_model, model)) for model in (FillModel.TOUCH, FillModel.PARTIAL, FillModel.MID)),
        _or_nan(touch.best_return),
        _or_nan(touch.worst_return),
        signal.odds.p_target,
        signal.odds.p_null,
        signal.odds.fair_value_pct,
        *of_baseline,
    )


def _net(by_model: dict[str, FillOutcome], model: FillModel) -> float | None:
    return by_model[model].net_return


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _labels(signals: ResolvedSignals, name: str) -> NDArray[np.str_]:
    if name == "dte":
        return _DTE_NAMES[np.searchsorted(_DTE_EDGES, signals.days_to_expiration, side="right")]
    if name == "hour":
        return np.array([f"{hour:02d}" for hour in signals.hour.tolist()], np.str_)
    column: NDArray[np.str_] = getattr(signals, "underlying" if name == "symbol" else name)
    return column


def _group(group: dict[str, str], signals: ResolvedSignals, trials: int, shown: int, seed: int) -> GroupPerformance:
    known, lost = resolved(signals), not_left(signals)
    part = signals.take(np.flatnonzero(known))
    net, day = counted_net(part, part.net_touch), part.day
    hit = part.barrier == Barrier.TARGET
    n, days = len(part), len(np.unique(day))
    spread = clustered_mean(net, day) if n else None
    daily = sharpe(daily_returns(net, day)) if n else None
    low, high = (float(x) for x in wilson(hit.sum(), n))
    minimum = minimum_track_record(daily, 0.0, DEFLATED) if daily else np.nan
    # a model may have found a gap where touch had left before it: NaN
    fills = {
        FillModel.TOUCH: net,
        FillModel.PARTIAL: counted_net(part, part.net_partial),
        FillModel.MID: counted_net(part, part.net_mid),
    }
    columns = {
        "hit_rate": hit.astype(np.float64),
        "base_rate": part.baseline_hit_rate,
        "hit_lift": hit - part.baseline_hit_rate,
        "lift": net - part.baseline_mean,
        "percentile": part.percentile,
        **{model.value: values for model, values in fills.items()},
    }
    mean = dict(zip(columns, _estimates(np.column_stack(list(columns.values())), day, seed), strict=True))

    return GroupPerformance(
        group=group,
        signals=len(signals),
        n=n,
        days=days,
        effective_n=_known(spread.effective) if spread else None,
        design_effect=_known(spread.design_effect) if spread else None,
        indeterminate=int((signals.barrier == Barrier.INDETERMINATE).sum()),
        not_entered=int(((signals.barrier == Barrier.NOT_FILLED) & ~lost).sum()),
        not_left=int(lost.sum()),
        targets=int(hit.sum()),
        stops=int((part.barrier == Barrier.STOP).sum()),
        timeouts=int((part.barrier == Barrier.TIMEOUT).sum()),
        hit_rate=Share(mean["hit_rate"].value, n, low, high, mean["hit_rate"].low, mean["hit_rate"].high),
        base_rate=mean["base_rate"],
        fair_rate=_mean(part.p_null),
        hit_lift=mean["hit_lift"],
        lift=mean["lift"],
        with_baseline=int(np.isfinite(part.baseline_mean).sum()),
        percentile=mean["percentile"],
        net={model.value: _net_returns(model, values, mean[model.value]) for model, values in fills.items()},
        shuffled_mean=_mean(part.shuffled_mean),
        fair_value=_mean(part.fair_value),
        stock_return=_mean(part.stock_return),
        abstaining=0.0,
        best=_quantiles(part.best),
        worst=_quantiles(part.worst),
        drawdown=drawdown(net[np.lexsort((part.id, part.exit_ns))]) if n else None,
        sharpe=_known(daily.ratio) if daily else None,
        deflated_sharpe=_known(deflated_sharpe(daily, max(trials, shown))) if daily else None,
        trials=trials,
        minimum_days=_known(minimum),
        verdict=judge(signals, trials=trials, shown=shown),
    )


def _net_returns(model: FillModel, values: Floats, mean: Estimate) -> NetReturns:
    known = values[np.isfinite(values)]
    return NetReturns(
        attainable=model is not FillModel.MID,
        expectancy=mean,
        median=_number(np.median, known),
        p05=_number(lambda x: np.quantile(x, 0.05), known),
        profit_factor=_known(profit_factor(known)),
    )


def _estimates(columns: Floats, day: NDArray[np.datetime64], seed: int) -> list[Estimate]:
    """Of each column (n, k); NaN is missing."""
    intervals = day_bootstraps(columns, day, LEVEL, seed=seed)
    return [
        Estimate(_mean(column), _known(interval.low), _known(interval.high))
        for column, interval in zip(columns.T, intervals, strict=True)
    ]


def _quantiles(values: Floats) -> tuple[float, ...] | None:
    known = values[np.isfinite(values)]
    return tuple(np.quantile(known, QUANTILES).tolist()) if len(known) else None


def _mean(values: Floats) -> float | None:
    return _number(np.mean, values[np.isfinite(values)])


def _number(statistic: Callable[[Floats], ArrayLike], values: Floats) -> float | None:
    return float(np.asarray(statistic(values))) if len(values) else None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
