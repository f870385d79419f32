"""What a backtest found, as one mapping for machines; `ots_signals.report_page` shows the same to people.

It is a function of the backtest and nothing else. What is told of a strategy that had several sets of parameters is of
the stretches for which the set was chosen before (`Backtest.told`); all sets are listed as trials.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from ots_signals.backtest import Backtest, Trial
from ots_signals.calibration import calibration
from ots_signals.canonical import canonical, digest, plain
from ots_signals.decisions import Abstention, Signal
from ots_signals.market_view import Floats
from ots_signals.outcomes import Outcome, ResolvedSignals
from ots_signals.performance import GroupPerformance, performance, side_by_side
from ots_signals.strategies import registered
from ots_signals.verdicts import HYPOTHETICAL, counted_net, resolved

FORMAT = "ots_signals backtest 1"
_DRAWS = 1000
_LEVELS = (0.05, 0.95)
_MOST_POINTS = 1500
_INVENTED = (
    "Every price here is invented: {source} is a market made by a program. It says something about the strategies and "
    "the statistics, and nothing about any real market."
)


def report_of(backtest: Backtest) -> dict[str, Any]:
    """The whole report as plain values, in an order of its own; see docs/SIGNALS.md."""
    tried = backtest.manifest.trials_before + len(backtest.trials)
    told = {one: backtest.told(one) for one in backtest.request.strategies}
    pairs = {
        one: [(d, o) for d, o in decided if isinstance(d, Signal) and o is not None] for one, decided in told.items()
    }
    every = side_by_side(pair for found in pairs.values() for pair in found)
    groups = {
        group.group["strategy"]: group
        for group in performance(every, ("strategy",), trials=tried, seed=backtest.request.seed).groups
    }
    return {
        "format": FORMAT,
        "id": backtest.id,
        "statement": HYPOTHETICAL,
        "invented": _INVENTED.format(source=backtest.manifest.source) if backtest.manifest.invented else None,
        "request": backtest.request.model_dump(mode="json"),
        "sessions": {"first": backtest.sessions[0], "last": backtest.sessions[-1], "count": len(backtest.sessions)},
        "underlyings": list(backtest.underlyings),
        "trials": {
            "before": backtest.manifest.trials_before,
            "counted": tried,
            "sets": [_trial(trial) for trial in backtest.trials],
        },
        "strategies": [
            _strategy(backtest, one, told[one], side_by_side(pairs[one]), groups.get(one))
            for one in backtest.request.strategies
        ],
        "manifest": plain(replace(backtest.manifest, data=())) | {"data": _runs_of_data(backtest)},
        "decisions_sha256": digest([digest([one, outcome]) for one, outcome in all_decisions(backtest)]),
        "units": {
            "returns": "of capital: the debit paid, or the most that a credit can lose; sums are of equal stakes",
            "sharpe": "of the sums of sessions with signals, not made annual",
        },
    }


def all_decisions(backtest: Backtest) -> list[tuple[Signal | Abstention, Outcome | None]]:
    """Of all trials, trial by trial in order of time."""
    return [(one, trial.outcomes.get(one.id)) for trial in backtest.trials for one in trial.decisions]


def as_json(report: dict[str, Any]) -> str:
    """The text of a report, one and the same for the same report."""
    return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def decision_lines(backtest: Backtest) -> str:
    """Every decision with its outcome, a line of canonical JSON each."""
    return "".join(canonical({"decision": one, "outcome": outcome}) + "\n" for one, outcome in all_decisions(backtest))


def _trial(trial: Trial) -> dict[str, Any]:
    nets = list(trial.daily.values())
    return {
        "strategy": trial.strategy,
        "parameters": trial.parameters,
        "parameters_hash": trial.parameters_hash,
        "signals": len(trial.signals),
        "abstentions": len(trial.decisions) - len(trial.signals),
        "days": len(trial.daily),
        "net_sum": float(np.sum(nets)) if nets else None,
        "sharpe": trial.sharpe(),
    }


def _runs_of_data(backtest: Backtest) -> list[dict[str, str]]:
    """Sessions in a row with the same version as one line."""
    rows: list[dict[str, str]] = []
    for one in backtest.manifest.data:
        if rows and rows[-1]["version"] == one.version:
            rows[-1]["last"] = one.session
        else:
            rows.append({"first": one.session, "last": one.session, "version": one.version})
    return rows


def _strategy(
    backtest: Backtest,
    name: str,
    told: list[tuple[Signal | Abstention, Outcome | None]],
    signals: ResolvedSignals,
    group: GroupPerformance | None,
) -> dict[str, Any]:
    declared = registered()[name]
    decided = [one for one, _ in told]
    folds = [plain(fold) for fold in backtest.folds if fold.strategy == name]
    calibrated = calibration(signals, seed=backtest.request.seed)
    brier = None if calibrated.brier is None else calibrated.brier._asdict()
    return {
        "strategy": name,
        "version": declared.version,
        "title": declared.title,
        "told_of": "out_of_sample" if folds else "all_sessions",
        "signals": sum(isinstance(one, Signal) for one in decided),
        "abstentions": dict(sorted(Counter(one.why for one in decided if isinstance(one, Abstention)).items())),
        "unresolved": sum(isinstance(one, Signal) and outcome is None for one, outcome in told),
        "performance": None if group is None else plain(group),
        "calibration": plain(replace(calibrated, brier=None)) | {"brier": brier},
        "walk_forward": [fold | {"sessions": len(fold["sessions"])} for fold in folds],
        "equity": _equity(signals, backtest.request.seed),
        "excursions": _excursions(signals),
    }


def _equity(signals: ResolvedSignals, seed: int) -> dict[str, Any]:
    """Sums of net returns by session in each fill model, and where they would be with the matches' returns.

    ``matched``: each signal with the mean of its matches in its place (its own where it has none); ``low`` and
    ``high`` hold 90 % of the curves that would come of it with the days' scatter around it, drawn by whole days.
    """
    part = signals.take(np.flatnonzero(resolved(signals)))
    days, place = np.unique(part.day, return_inverse=True)

    def by_day(values: Floats) -> Floats:
        return np.bincount(place, values, len(days)).astype(np.float64)

    columns = {"touch": part.net_touch, "partial": part.net_partial, "mid": part.net_mid}
    net = {name: counted_net(part, values) for name, values in columns.items()}
    curves = {name: np.cumsum(by_day(np.where(np.isfinite(one), one, 0.0))) for name, one in net.items()}
    matched = np.isfinite(part.baseline_mean)
    instead = np.where(matched, part.baseline_mean, net["touch"])
    lift = (net["touch"] - instead)[matched]
    scatter = np.zeros(len(part))
    if matched.any():
        scatter[matched] = lift - lift.mean()
    centre, scattered = np.cumsum(by_day(instead)), by_day(scatter)
    low = high = centre
    if len(days) > 1:
        rng = np.random.default_rng([seed, len(days)])
        drawn = scattered[rng.integers(0, len(days), (_DRAWS, len(days)))]
        low, high = centre + np.quantile(np.cumsum(drawn, axis=1), _LEVELS, axis=0)
    return {
        "session": [str(day) for day in days],
        **{name: _rounded(values) for name, values in curves.items()},
        "matched": _rounded(centre),
        "low": _rounded(low),
        "high": _rounded(high),
        "with_matches": int(matched.sum()),
    }


def _excursions(signals: ResolvedSignals) -> dict[str, Any]:
    """Of positions that were entered (some, of very many): worst and best that could be had, and how each ended."""
    known = np.flatnonzero(resolved(signals) & np.isfinite(signals.best) & np.isfinite(signals.worst))
    if len(known) > _MOST_POINTS:
        known = known[np.linspace(0, len(known) - 1, _MOST_POINTS).astype(np.int64)]
    part = signals.take(known)
    return {"worst": _rounded(part.worst), "best": _rounded(part.best), "barrier": part.barrier.tolist()}


def _rounded(values: Floats) -> list[float]:
    return [float(one) for one in np.round(values, 6)]
