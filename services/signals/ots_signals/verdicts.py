"""What may be said of a strategy: five words, each with the conditions it stands for. Nothing else says more.

``insufficient_data`` -> ``no_edge`` -> ``candidate`` -> ``paper_confirmed`` -> ``decayed``. The thresholds were fixed
before any strategy was looked at, and have their reasons beside them; docs/SIGNALS.md repeats them for readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ots_quant.evaluation import (
    clustered_mean,
    deflated_sharpe,
    expected_maximum_sharpe,
    sharpe,
    signals_needed,
)
from ots_signals.decisions import Mode
from ots_signals.market_view import Flags, Floats
from ots_signals.outcomes import Barrier, ResolvedSignals

LEAST_SIGNALS = 300
"""The returns of a bracket of +7.5/-30 % have a standard deviation of some 15 to 20 %: an edge of 4 % needs about as
many signals to be told from luck among a dozen strategies, an edge of 1 % fifteen times as many."""

LEAST_DAYS = 60
"""A quarter. Signals of one day share its market: errors are of days, and those of few days are poorly known."""

LEVEL = 0.05
"""Chance that any of the strategies shown is called a candidate where none has an edge; each has its share of it."""

DEFLATED = 0.95
"""Probability, at least, that the Sharpe ratio exceeds what the best of all trials ever logged would show by luck."""

MOST_INDETERMINATE = 0.20
"""Share of signals with a gap inside: beyond it, what is missing may be what matters."""

LEAST_MATCHED = 0.80
"""Share of resolved signals that have a baseline: without one there is nothing to be better than."""

LOOK_EVERY_DAYS = 30
"""Who looks again and again finds a day on which luck looks like skill: for each further such stretch of days with
signals beyond LEAST_DAYS the level is shared once more, and the date of a candidate is that of a look at its end."""

LIVE_SIGNALS = 100
LIVE_DAYS = 20
"""Recorded live, after the look at which it became a candidate: a month that no choice of rules has seen."""

LIVE_LEVEL = 0.05
"""One question that was asked before its data existed: there is nothing to share the level with."""


_LEAST_EDGE = 1e-5  # below it nobody would wait for the signals that it needs


class Verdict(StrEnum):
    """See the module; `rank` orders them by how much they claim."""

    INSUFFICIENT_DATA = "insufficient_data"
    NO_EDGE = "no_edge"
    CANDIDATE = "candidate"
    PAPER_CONFIRMED = "paper_confirmed"
    DECAYED = "decayed"

    @property
    def claims(self) -> bool:
        """Whether it says that there is something."""
        return self in (Verdict.CANDIDATE, Verdict.PAPER_CONFIRMED)


SAID = {
    Verdict.INSUFFICIENT_DATA: "Too little is known to say anything.",
    Verdict.NO_EDGE: "Nothing here can be told from luck after costs; that is the usual answer.",
    Verdict.CANDIDATE: (
        "Net returns and their lift over matched random contracts exceed what luck among all that was tried explains. "
        "It was chosen for that: only signals recorded live from here on can confirm it."
    ),
    Verdict.PAPER_CONFIRMED: (
        "Signals recorded live after it became a candidate are consistent with an edge after costs. Nothing was traded."
    ),
    Verdict.DECAYED: "It was a candidate, and what came later falls short of what made it one.",
}

HYPOTHETICAL = (
    "These results are based on simulated or hypothetical performance results that have certain inherent limitations. "
    "Unlike the results shown in an actual performance record, these results do not represent actual trading. Also, "
    "because these trades have not actually been executed, these results may have under-or over-compensated for the "
    "impact, if any, of certain market factors, such as lack of liquidity. Simulated or hypothetical trading programs "
    "in general are also subject to the fact that they are designed with the benefit of hindsight. No representation "
    "is being made that any account will or is likely to achieve profits or losses similar to these being shown."
)
"""17 CFR 4.41(b)(1)(i), word for word; it stands with every answer about results."""


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on: of all signals given, at touch. None where there is too little.

    ``n``, ``days``: resolved ones. ``net_bound``, ``lift_bound``: one-sided lower bounds at 1 - ``level``, by days.
    ``signals_needed``: for the edge as measured to be found with a probability of 80 %.
    """

    n: int
    days: int
    level: float
    trials: int
    net_mean: float | None
    net_bound: float | None
    lift_mean: float | None
    lift_bound: float | None
    deflated_sharpe: float | None
    signals_needed: int | None


@dataclass(frozen=True)
class Judgement:
    """``said``: the sentence of the verdict; ``reasons``: the conditions that decided it, with their numbers.

    ``candidate_since``: the day of the look at which it became one. ``live``: what was recorded live after that.
    """

    verdict: Verdict
    said: str
    reasons: tuple[str, ...]
    evidence: Evidence
    candidate_since: str | None = None
    live: Evidence | None = None


def judge(signals: ResolvedSignals, *, trials: int, shown: int = 1) -> Judgement:
    """The verdict on one strategy's signals, or on any other group of them.

    ``trials``: how many strategies and sets of parameters were ever tried, all logged ones; ``shown``: how many groups
    are judged side by side. The level is shared by the greater of both. Order and names of the signals do not matter.
    Raises ValueError for fewer than one trial or group.
    """
    if trials < 1 or shown < 1:
        raise ValueError("trials and shown must be 1 or more")
    tests = max(trials, shown)
    ordered = signals.take(np.lexsort((signals.id, signals.event_ns)))
    days = np.unique(ordered.day[resolved(ordered)])
    looks = max(0, len(days) - LEAST_DAYS) // LOOK_EVERY_DAYS + 1
    evidence = _weigh(ordered, LEVEL / tests / looks, tests)
    missing = _insufficient(ordered, evidence)
    if missing:
        return _judgement(Verdict.INSUFFICIENT_DATA, missing, evidence)
    since = _candidate_since(ordered, days, tests)
    if since is not None:
        return _after(ordered, evidence, since)
    failed = _failed(ordered, evidence)
    if failed:
        return _judgement(Verdict.NO_EDGE, failed, evidence)
    to_go = LEAST_DAYS + looks * LOOK_EVERY_DAYS - len(days)
    reason = f"the conditions hold, and must again after {to_go} more days with signals, from which live ones count"
    return _judgement(Verdict.CANDIDATE, (reason,), evidence)


def resolved(signals: ResolvedSignals) -> Flags:
    """Which have a result: those that touched a barrier or the time, and those that were entered and never left."""
    ended = np.isin(signals.barrier, (Barrier.TARGET, Barrier.STOP, Barrier.TIMEOUT))
    found: Flags = (ended & np.isfinite(signals.net_touch)) | not_left(signals)
    return found


def not_left(signals: ResolvedSignals) -> Flags:
    """Which were entered and had no quote to be left at."""
    found: Flags = (signals.barrier == Barrier.NOT_FILLED) & np.isfinite(signals.worst)
    return found


def counted_net(signals: ResolvedSignals, net: Floats) -> Floats:
    """Net returns as they count: what could not be left is the loss of its capital."""
    return np.where(not_left(signals), -1.0, net)


def _weigh(signals: ResolvedSignals, level: float, trials: int) -> Evidence:
    known = resolved(signals)
    n, days = int(known.sum()), len(np.unique(signals.day[known]))
    if days < 2:
        return Evidence(n, days, level, trials, None, None, None, None, None, None)
    net, day = counted_net(signals, signals.net_touch)[known], signals.day[known]
    baseline = signals.baseline_mean[known]
    matched = np.isfinite(baseline)
    mean = clustered_mean(net, day)
    lift_mean = lift_bound = None
    if len(np.unique(day[matched])) > 1:
        lift = clustered_mean((net - baseline)[matched], day[matched])
        lift_mean, lift_bound = lift.mean, _number(lift.bound(1.0 - level))
    daily = sharpe(daily_returns(net, day))
    needed = None
    if mean.mean > _LEAST_EDGE and mean.error > 0.0 and daily.spread > 0.0:
        # the deviation and the days' effect together: of the mean's error as it is
        needed = signals_needed(
            mean.mean,
            mean.error * np.sqrt(n),
            level=level,
            hurdle=expected_maximum_sharpe(trials, 1.0),
            hurdle_level=1.0 - DEFLATED,
            spread=daily.spread,
        )
    return Evidence(
        n=n,
        days=days,
        level=level,
        trials=trials,
        net_mean=mean.mean,
        net_bound=_number(mean.bound(1.0 - level)),
        lift_mean=lift_mean,
        lift_bound=lift_bound,
        deflated_sharpe=_number(deflated_sharpe(daily, trials)),
        signals_needed=needed,
    )


def daily_returns(net: Floats, day: NDArray[np.datetime64]) -> Floats:
    """Sums by day, of equal stakes, over the mean number of signals a day; in order of day."""
    found, at = np.unique(day, return_inverse=True)
    return np.bincount(at, net, len(found)) * len(found) / max(len(net), 1)


def _insufficient(signals: ResolvedSignals, evidence: Evidence) -> tuple[str, ...]:
    reasons = []
    if evidence.n < LEAST_SIGNALS:
        reasons.append(f"{evidence.n} resolved signals of {LEAST_SIGNALS}")
    if evidence.days < LEAST_DAYS:
        reasons.append(f"{evidence.days} days with signals of {LEAST_DAYS}")
    gone = float((signals.barrier == Barrier.INDETERMINATE).mean()) if len(signals) else 0.0
    if gone > MOST_INDETERMINATE:
        reasons.append(f"{gone:.0%} of the signals are indeterminate, {MOST_INDETERMINATE:.0%} are allowed")
    return tuple(reasons)


def _failed(signals: ResolvedSignals, evidence: Evidence) -> tuple[str, ...]:
    """The conditions of a candidate that do not hold."""
    reasons = []
    at = f"one-sided at {1.0 - evidence.level:.2%}, by days"
    if evidence.net_bound is None or not evidence.net_bound > 0.0:
        reasons.append(f"net at touch: lower bound {_percent(evidence.net_bound)}, {at}; it must be above 0")
    matched = float(np.isfinite(signals.baseline_mean[resolved(signals)]).mean())
    if matched < LEAST_MATCHED:
        reasons.append(f"{matched:.0%} of the signals have a matched baseline, {LEAST_MATCHED:.0%} must")
    elif evidence.lift_bound is None or not evidence.lift_bound > 0.0:
        reasons.append(f"lift over matched contracts: lower bound {_percent(evidence.lift_bound)}, {at}")
    if evidence.deflated_sharpe is None or not evidence.deflated_sharpe > DEFLATED:
        reasons.append(
            f"deflated Sharpe ratio {_percent(evidence.deflated_sharpe)} after {evidence.trials} trials, above "
            f"{DEFLATED:.0%} is asked"
        )
    return tuple(reasons)


def _candidate_since(signals: ResolvedSignals, days: NDArray[np.datetime64], tests: int) -> np.datetime64 | None:
    """The day of the first look at which the conditions held."""
    for look, end in enumerate(range(LEAST_DAYS - 1, len(days), LOOK_EVERY_DAYS)):
        seen = signals.take(np.flatnonzero(signals.day <= days[end]))
        evidence = _weigh(seen, LEVEL / tests / (look + 1), tests)
        if not _insufficient(seen, evidence) and not _failed(seen, evidence):
            found: np.datetime64 = days[end]
            return found
    return None


def _after(signals: ResolvedSignals, evidence: Evidence, since: np.datetime64) -> Judgement:
    """Of what was once a candidate: confirmed, decayed, or what it is now."""
    then = _weigh(signals.take(np.flatnonzero(signals.day <= since)), evidence.level, evidence.trials)
    later = (signals.day > since) & (signals.mode == Mode.LIVE)
    live = _weigh(signals.take(np.flatnonzero(later)), LIVE_LEVEL, 1)
    enough = live.n >= LIVE_SIGNALS and live.days >= LIVE_DAYS
    known = f"live since {since}: {live.n} signals on {live.days} days"
    if not enough:
        failed = _failed(signals, evidence)
        if failed:
            return _judgement(Verdict.NO_EDGE, (*failed, f"it was a candidate on {since}"), evidence, since, live)
        asked = f"{LIVE_SIGNALS} signals on {LIVE_DAYS} days are asked to confirm it"
        return _judgement(Verdict.CANDIDATE, (f"{known}; {asked}",), evidence, since, live)
    matched = float(np.isfinite(signals.baseline_mean[later & resolved(signals)]).mean())
    held = (live.net_bound or 0.0) > 0.0 and (live.lift_bound or 0.0) > 0.0 and matched >= LEAST_MATCHED
    bounds = f"lower bounds of net {_percent(live.net_bound)} and lift {_percent(live.lift_bound)} at 95 %"
    if held:
        return _judgement(Verdict.PAPER_CONFIRMED, (f"{known}; {bounds}",), evidence, since, live)
    of_later = clustered_mean(counted_net(signals, signals.net_touch)[later & resolved(signals)],
                              signals.day[later & resolved(signals)])  # fmt: skip
    ceiling = of_later.bound(LIVE_LEVEL)
    if ceiling < (then.net_mean or 0.0):
        reason = f"{known}; upper bound of net {_percent(ceiling)}, below the {_percent(then.net_mean)} of {since}"
        return _judgement(Verdict.DECAYED, (reason,), evidence, since, live)
    failed = _failed(signals, evidence)
    if failed:
        return _judgement(Verdict.NO_EDGE, (*failed, f"it was a candidate on {since}"), evidence, since, live)
    return _judgement(Verdict.CANDIDATE, (f"{known}; {bounds}: neither confirmed nor gone",), evidence, since, live)


def _judgement(
    verdict: Verdict,
    reasons: tuple[str, ...],
    evidence: Evidence,
    since: np.datetime64 | None = None,
    live: Evidence | None = None,
) -> Judgement:
    return Judgement(verdict, SAID[verdict], reasons, evidence, None if since is None else str(since), live)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2%}"
