"""Strategies over sessions that are over: the engine, the resolver and the baselines of every day, in event time.

``python -m ots_signals backtest --strategy ID[,ID] --start DATE --end DATE`` writes a report as JSON and as a page, and
everything that was decided with its outcome. The same request over the same data has the same bytes, however the work
was spread and whenever it was done.

**Two passes.** What a strategy would take, its fair odds and what became of it follow from one session and those before
it in the market: sessions are worked on apart, in any order, anywhere. What was believed follows from the outcomes
before: a second pass in order of time gives each decision what was known at its session's open, as it is live.

**Walk-forward.** The sessions are cut into ``folds`` + 1 blocks. In every block but the first a strategy runs with the
set of parameters that was best in all sessions before it, by the Sharpe ratio of its daily net returns at touch; what
is told of a strategy that was given several sets is told of these stretches only. Each set is a trial, and is counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, model_validator

from ots_common.database import Database
from ots_common.schemas import PlainText, RequestModel
from ots_market.timeframes import DAY_NS
from ots_signals.baselines import Baselines, net_at_touch
from ots_signals.canonical import digest
from ots_signals.code_version import code_version
from ots_signals.decisions import Abstention, FillModel, Mode, Signal
from ots_signals.engine import Draft, Run, drafts, fair_of, finish, session_index
from ots_signals.fair_market import FairMarket, FairSettings
from ots_signals.manifest import Manifest, SessionData, manifest_of, stored_data
from ots_signals.market_view import Market
from ots_signals.odds import FairOdds, TrackRecords
from ots_signals.outcomes import Outcome
from ots_signals.resolver import resolve_many, span
from ots_signals.settings import SignalsSettings
from ots_signals.spread_work import Here, MissingEngine, Spread, spread_of
from ots_signals.stored_market import StoredMarket
from ots_signals.strategies import registered
from ots_signals.strategies.base import Strategy

REPORT, PAGE, DECISIONS = "report.json", "report.html", "decisions.jsonl"
"""The files of a run."""
MOST_SETS = 500
"""Of parameters, of all strategies of a request together."""
_SESSIONS_A_JOB = 5
_LEAST_DAYS = 10  # with signals, before a set of parameters may be preferred to the declared one
_HISTORY_NS = 40 * DAY_NS  # no strategy looks at bars of more than 20 sessions before

Value = Annotated[float, Field(allow_inf_nan=False)] | int | bool
Values = tuple[tuple[str, Value], ...]


class BacktestRequest(RequestModel):
    """What is to be run."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "strategies": ["opening_range"],
                    "start": "2026-10-05",
                    "end": "2026-11-27",
                    "underlyings": ["AAPL"],
                    "parameters": {"target": [0.05, 0.075, 0.1]},
                }
            ]
        }
    )

    strategies: list[PlainText] = Field(min_length=1, max_length=50, description="Ids of strategies; see /strategies.")
    start: date = Field(description="The first session, or a day before it.")
    end: date = Field(description="The last session, or a day after it.")
    underlyings: list[PlainText] = Field(
        default_factory=list, max_length=100, description="By default all that have options in that time."
    )
    parameters: dict[PlainText, Annotated[list[Value], Field(min_length=1, max_length=100)]] = Field(
        default_factory=dict, max_length=20,
        description="Values to try, by parameter; all combinations are tried of the strategies that have it.",
    )  # fmt: skip
    market: str = Field(
        "stored", pattern=r"^(stored|fair:[0-9]{1,9})$",
        description="`stored`: what is stored here; `fair:SEED`: an invented market in which nobody has an edge.",
    )  # fmt: skip
    folds: int = Field(4, ge=1, le=50, description="Blocks of sessions for which parameters are chosen before them.")
    seed: int = Field(1, ge=0, le=2**31 - 1, description="Of what statistics draw by lot.")

    @model_validator(mode="after")
    def _possible(self) -> BacktestRequest:
        if self.start > self.end:
            raise ValueError("start must not be after end")
        known = registered()
        if unknown := [one for one in self.strategies if one not in known]:
            raise ValueError(f"unknown strategies: {', '.join(unknown)}; there is {', '.join(known)}")
        if len(set(self.strategies)) < len(self.strategies):
            raise ValueError("a strategy is named twice")
        counts = [_combinations(known[one], self.parameters) for one in self.strategies]
        if sum(counts) > MOST_SETS:
            raise ValueError(f"{sum(counts)} sets of parameters; {MOST_SETS} at most")
        sets_of(self)
        if unused := set(self.parameters) - {name for one in self.strategies for name in _names(known[one])}:
            raise ValueError(f"no such parameter: {', '.join(sorted(unused))}")
        return self


@dataclass(frozen=True)
class MarketSpec:
    """Which market: enough for another process to open the same one, and no secret.

    A stored one is that of the process's own environment.
    """

    kind: Literal["stored", "fair"]
    seed: int = 0
    settings: FairSettings | None = None


@dataclass(frozen=True)
class Job:
    """Some sessions of one underlying, and what to try on them: (strategy id, its parameters but the defaults)."""

    market: MarketSpec
    underlying: str
    sessions: tuple[date, ...]
    sets: tuple[tuple[str, Values], ...]
    run: Run


@dataclass(frozen=True)
class Worked:
    """Of one underlying, session and set: what was found, the fair odds of its drafts, and what became of them."""

    underlying: str
    session: date
    which: int
    found: tuple[Draft | Abstention, ...]
    fair: FairOdds
    outcomes: dict[str, Outcome | None]


@dataclass(frozen=True)
class Trial:
    """One set of parameters of one strategy over all sessions. ``daily``: net returns at touch, summed by session."""

    strategy: str
    parameters: dict[str, Value | str]
    parameters_hash: str
    decisions: tuple[Signal | Abstention, ...]
    outcomes: dict[str, Outcome | None]
    daily: dict[str, float]

    @property
    def signals(self) -> list[Signal]:
        """In order of time."""
        return [one for one in self.decisions if isinstance(one, Signal)]

    def sharpe(self, sessions: Sequence[str] | None = None) -> float | None:
        """Of the daily returns of ``sessions``, by default all, not made annual; None for fewer than ten days."""
        chosen = self.daily if sessions is None else {day: self.daily[day] for day in sessions if day in self.daily}
        values = np.array(list(chosen.values()))
        if len(values) < _LEAST_DAYS or (spread := float(values.std(ddof=1))) < 1e-12:
            return None
        return float(values.mean()) / spread


@dataclass(frozen=True)
class Fold:
    """One out-of-sample stretch of a strategy: the trial that was best before it, and its Sharpe ratios both times."""

    strategy: str
    chosen: int
    in_sample: tuple[str, str]
    out_of_sample: tuple[str, str]
    sessions: tuple[str, ...]
    sharpe_before: float | None
    sharpe_after: float | None


@dataclass(frozen=True)
class Backtest:
    """All of a run. ``folds``: of the strategies that were given several sets of parameters."""

    request: BacktestRequest
    manifest: Manifest
    sessions: tuple[str, ...]
    underlyings: tuple[str, ...]
    trials: tuple[Trial, ...]
    folds: tuple[Fold, ...]

    @property
    def id(self) -> str:
        """Of the request and all that it rests on: the same again is the same run."""
        return digest([self.request.model_dump(mode="json"), self.manifest])[:32]

    def told(self, strategy: str) -> list[tuple[Signal | Abstention, Outcome | None]]:
        """What counts for a strategy: all of its one set, or what was decided out of sample."""
        own = [k for k, trial in enumerate(self.trials) if trial.strategy == strategy]
        if len(own) == 1:
            (trial,) = (self.trials[k] for k in own)
            return [(one, trial.outcomes.get(one.id)) for one in trial.decisions]
        found = []
        for fold in self.folds:
            if fold.strategy == strategy:
                trial, days = self.trials[fold.chosen], set(fold.sessions)
                found += [(one, trial.outcomes.get(one.id)) for one in trial.decisions if one.session in days]
        return found


def run_backtest(
    request: BacktestRequest,
    *,
    spread: Spread | None = None,
    trials_before: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
    most_sessions: int = 5000,
    fair_settings: FairSettings | None = None,
) -> Backtest:
    """Run it. A stored market is that of the environment (`SignalsSettings`).

    ``trials_before``: sets of any strategy that were tried before, this run's apart. ``progress`` is called after each
    part, and may raise to give up. Raises ValueError where there is nothing to run on, or more than ``most_sessions``.
    """
    spec = market_spec(request, fair_settings)
    market = opened(spec)
    by_underlying = _sessions(request, market, most_sessions)
    days = sorted({day for found in by_underlying.values() for day in found})
    sets = tuple(sets_of(request))
    run = Run(Mode.BACKTEST, code_version(), digest(request.model_dump(mode="json"))[:16])
    jobs = [
        Job(spec, underlying, tuple(found[k : k + _SESSIONS_A_JOB]), sets, run)
        for underlying, found in by_underlying.items()
        for k in range(0, len(found), _SESSIONS_A_JOB)
    ]
    parts: list[Worked] = []
    progress(0, len(jobs))
    for k, part in enumerate((spread or Here()).each(work, jobs), start=1):
        parts += part
        progress(k, len(jobs))
    trials = tuple(_trial(one, which, parts, market) for which, one in enumerate(sets))
    names = tuple(str(day) for day in days)
    manifest = manifest_of(
        market.source,
        market.sessions,
        _data(spec, market, days),
        trials_before,
    )
    folds = tuple(fold for one in request.strategies for fold in _folds(one, trials, names, request.folds))
    return Backtest(request, manifest, names, tuple(by_underlying), trials, folds)


def sets_of(request: BacktestRequest) -> list[tuple[str, Values]]:
    """All sets of parameters of a request: strategies with what is not as declared."""
    known = registered()
    return [(one, values) for one in request.strategies for values in parameter_sets(known[one], request.parameters)]


def own_trials(request: BacktestRequest) -> frozenset[tuple[str, str]]:
    """The sets of a request as the log of trials names them: strategies with the hashes of their parameters."""
    return frozenset((name, _hash(_strategy(name, values))) for name, values in sets_of(request))


def work(job: Job) -> list[Worked]:
    """The first pass over a job: a pure function of it and of the market."""
    market, baselines = opened(job.market), _baselines(job.market)
    strategies = [_strategy(name, values) for name, values in job.sets]
    places = {(one.id, _hash(one)): which for which, one in enumerate(strategies)}
    worked = []
    for session in job.sessions:
        found = drafts(market, strategies, job.underlying, session, job.run)
        fair = fair_of(found, market.sessions)
        outcomes = _outcomes(finish(found, market.sessions, TrackRecords(), fair), market, baselines)
        apart: dict[int, list[int]] = defaultdict(list)
        row: dict[int, int] = {}  # of a draft in the odds
        for k, one in enumerate(found):
            decision = one.decision if isinstance(one, Draft) else one
            apart[places[decision.strategy, decision.parameters_hash]].append(k)
            if isinstance(one, Draft):
                row[k] = len(row)
        for which, rows in sorted(apart.items()):
            odds = np.array([row[k] for k in rows if k in row], np.int64)
            worked.append(
                Worked(
                    job.underlying,
                    session,
                    which,
                    tuple(found[k] for k in rows),
                    FairOdds(*(getattr(fair, name)[odds] for name in FairOdds.__dataclass_fields__)),
                    {one: outcomes[one] for one in (_id(found[k]) for k in rows) if one in outcomes},
                )
            )
    return worked


def _outcomes(
    decided: Sequence[Signal | Abstention], market: Market, baselines: Baselines
) -> dict[str, Outcome | None]:
    """Of one underlying's session; None for what the market's end left open."""
    signals = [one for one in decided if isinstance(one, Signal)]
    if not signals:
        return {}
    symbols = sorted({leg.symbol for signal in signals for leg in signal.legs})
    starts, ends = zip(*(span(signal) for signal in signals), strict=True)
    tape = market.tape(signals[0].underlying, symbols, min(starts), max(ends))
    found: dict[str, Outcome | None] = {}
    for signal, outcome in zip(signals, resolve_many(signals, tape, market.sessions), strict=True):
        found[signal.id] = outcome and replace(outcome, baseline=baselines.of(signal, outcome, tape))
    return found


def _id(one: Draft | Abstention) -> str:
    return one.decision.id if isinstance(one, Draft) else one.id


def _trial(one: tuple[str, Values], which: int, parts: Sequence[Worked], market: Market) -> Trial:
    """The second pass over one set of parameters: in order of time, with what was known then."""
    strategy = _strategy(*one)
    records = TrackRecords()
    own = sorted((part for part in parts if part.which == which), key=lambda part: (part.session, part.underlying))
    decisions: list[Signal | Abstention] = []
    outcomes: dict[str, Outcome | None] = {}
    daily: dict[str, float] = {}
    for session, together in itertools.groupby(own, key=lambda part: part.session):
        of_session = list(together)
        decided = [done for part in of_session for done in finish(part.found, market.sessions, records, part.fair)]
        decided.sort(key=lambda done: (done.event_ns, done.underlying, done.id))
        decisions += decided
        known = {name: outcome for part in of_session for name, outcome in part.outcomes.items()}
        for done in decided:
            if not isinstance(done, Signal):
                continue
            outcome = outcomes[done.id] = known[done.id]
            net = None if outcome is None else net_at_touch(outcome)
            if outcome is None or net is None:
                continue
            daily[str(session)] = daily.get(str(session), 0.0) + net
            (touch,) = (fill for fill in outcome.fills if fill.model == FillModel.TOUCH)
            if touch.exit_ns is not None:
                records.add(done.strategy, touch.exit_ns, touch.barrier, net)
    return Trial(strategy.id, strategy.parameters.model_dump(), _hash(strategy), tuple(decisions), outcomes, daily)


def _folds(strategy: str, trials: Sequence[Trial], sessions: Sequence[str], folds: int) -> Iterator[Fold]:
    """The stretches of a strategy with several sets, each with the set that was best before it."""
    own = [k for k, trial in enumerate(trials) if trial.strategy == strategy]
    if len(own) < 2:
        return
    blocks = [block.tolist() for block in np.array_split(np.array(sessions, np.str_), folds + 1) if len(block)]
    for k in range(1, len(blocks)):
        before = [day for block in blocks[:k] for day in block]
        sharpes = {which: trials[which].sharpe(before) for which in own}
        known = {which: sharpe for which, sharpe in sharpes.items() if sharpe is not None}
        # of equals the first, and where nothing can be told the first of all: the order is that of the request
        chosen = max(known, key=lambda which: known[which]) if known else own[0]
        yield Fold(
            strategy,
            chosen,
            (before[0], before[-1]),
            (blocks[k][0], blocks[k][-1]),
            tuple(blocks[k]),
            sharpes[chosen],
            trials[chosen].sharpe(blocks[k]),
        )


def parameter_sets(strategy: type[Strategy], grid: Mapping[str, Sequence[Value]]) -> list[Values]:
    """All combinations of the values of those parameters that a strategy has; the declared one alone without any.

    Raises ValueError where a value is out of its bounds.
    """
    names = sorted(set(grid) & set(_names(strategy)))
    found: dict[str, Values] = {}
    for values in itertools.product(*(grid[name] for name in names)):
        one = tuple(zip(names, values, strict=True))
        try:
            made = strategy.with_values(**dict(one))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ValueError(f"{strategy.id}: {wrong}") from error
        found.setdefault(_hash(made), one)
    return list(found.values())


def _combinations(strategy: type[Strategy], grid: Mapping[str, Sequence[Value]]) -> int:
    return math.prod(len(grid[name]) for name in set(grid) & set(_names(strategy)))


def market_spec(request: BacktestRequest, settings: FairSettings | None = None) -> MarketSpec:
    """Of a request."""
    if request.market == "stored":
        return MarketSpec("stored")
    return MarketSpec("fair", int(request.market.partition(":")[2]), settings)


@lru_cache(maxsize=2)
def opened(spec: MarketSpec) -> Market:
    """The market, one for a process."""
    if spec.kind == "fair":
        return FairMarket(spec.seed, spec.settings)
    settings = SignalsSettings()
    return StoredMarket(
        Database(settings.database_url.get_secret_value(), application="signals-backtest", size=2),
        source=settings.market_source,
        calendar=settings.market_calendar,
        final=True,
    )


@lru_cache(maxsize=2)
def _baselines(spec: MarketSpec) -> Baselines:
    market = opened(spec)
    return Baselines(market, market.sessions)


def _strategy(name: str, values: Values) -> Strategy:
    return registered()[name].with_values(**dict(values))


def _names(strategy: type[Strategy]) -> list[str]:
    return list(strategy.Parameters.model_fields)


def _hash(strategy: Strategy) -> str:
    return digest(strategy.parameters.model_dump())


def _sessions(request: BacktestRequest, market: Market, most: int) -> dict[str, list[date]]:
    """The sessions of each underlying that there is something of."""
    if isinstance(market, FairMarket):
        available: Sequence[str] = market.underlyings
        days = [day for day in market.trading_dates if request.start <= day <= request.end]
        sessions = dict.fromkeys(available, days)
    else:
        stored = cast(StoredMarket, market)
        available = stored.underlyings(request.start)
        wanted = request.underlyings or available
        sessions = {one: stored.stored_sessions(one, request.start, request.end) for one in wanted if one in available}
    if unknown := [one for one in request.underlyings if one not in available]:
        raise ValueError(f"no options of {', '.join(unknown)} in that time; there are some of {', '.join(available)}")
    chosen = {one: sessions[one] for one in sorted(request.underlyings or available) if sessions.get(one)}
    if not chosen:
        raise ValueError(f"no session between {request.start} and {request.end} has anything to run on")
    if (count := max(map(len, chosen.values()))) > most:
        raise ValueError(f"{count} sessions; {most} at most")
    return chosen


def _data(spec: MarketSpec, market: Market, days: Sequence[date]) -> tuple[str, tuple[SessionData, ...]]:
    if isinstance(market, StoredMarket):
        first_ns = int(market.sessions.opens[session_index(market.sessions, days[0])])
        return stored_data(market.database, market.sessions, days, max(0, first_ns - _HISTORY_NS))
    made = digest(repr(spec))
    return made, tuple(SessionData(str(day), made) for day in days)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m ots_signals backtest``; 0 done, 2 for what cannot be run."""
    arguments = _arguments(argv)
    try:
        request = _request(arguments)
        spread = spread_of(arguments.engine, arguments.processes, arguments.address)
        return _run(request, spread, arguments.out)
    except ValidationError as error:
        found = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors())
        wrong = "; ".join(found)
    except (ValueError, MissingEngine) as error:
        wrong = str(error)
    print(f"backtest: {wrong}", file=sys.stderr)
    return 2


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ots_signals backtest",
        description="Strategies over sessions that are over, as a report. A stored market is that of the environment: "
        "DATABASE_URL, MARKET_SOURCE, MARKET_CALENDAR.",
    )
    parser.add_argument("--strategy", required=True, help="ids, separated by commas; `all` for every one")
    parser.add_argument("--start", required=True, type=date.fromisoformat)
    parser.add_argument("--end", required=True, type=date.fromisoformat)
    parser.add_argument("--underlying", default="", help="separated by commas; default all that there are")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE[,VALUE]", help="values to try; all combinations are"
    )
    parser.add_argument("--market", default="stored", help="`stored`, or `fair:SEED` for one without any edge")
    parser.add_argument("--folds", type=int, default=4, help="blocks out of sample, where several sets are tried")
    parser.add_argument("--seed", type=int, default=1, help="of what statistics draw by lot")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--engine", choices=["local", "dask", "ray"], default="local")
    parser.add_argument("--address", help="of the cluster's scheduler; default: processes of this machine")
    parser.add_argument("--out", type=Path, default=Path("backtest"), help="the folder of the results")
    return parser.parse_args(argv)


def _request(arguments: argparse.Namespace) -> BacktestRequest:
    named = [one for one in arguments.strategy.split(",") if one]
    return BacktestRequest(
        strategies=list(registered()) if named == ["all"] else named,
        start=arguments.start,
        end=arguments.end,
        underlyings=[one.upper() for one in arguments.underlying.split(",") if one],
        parameters=dict(map(_given, arguments.set)),
        market=arguments.market,
        folds=arguments.folds,
        seed=arguments.seed,
    )


def _given(text: str) -> tuple[str, list[Value]]:
    name, _, values = text.partition("=")
    try:
        return name, [json.loads(value) for value in values.split(",")]
    except json.JSONDecodeError as error:
        raise ValueError(f"--set {text}: expected NAME=VALUE, such as target=0.05,0.1") from error


def _run(request: BacktestRequest, spread: Spread, out: Path) -> int:
    from ots_signals.report import as_json, decision_lines, report_of
    from ots_signals.report_page import page
    from ots_signals.trials import TrialFile, TrialLog, TrialTable

    log: TrialLog | None = None
    if request.market == "stored":
        market = opened(market_spec(request))
        table = TrialTable(market.database) if isinstance(market, StoredMarket) else None
        log = table if table is not None and table.usable() else TrialFile(out)
    # an invented market needs no database, and says nothing of any data
    before = log.before(own_trials(request)) if log else 0
    backtest = run_backtest(request, spread=spread, trials_before=before, progress=_told)
    if log:
        log.add(backtest)
    report = report_of(backtest)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in ((REPORT, as_json(report)), (PAGE, page(report)), (DECISIONS, decision_lines(backtest))):
        (out / name).write_text(text, encoding="utf-8")
    if report["invented"]:
        print(report["invented"])
    for one in report["strategies"]:
        found = one["performance"]
        verdict = (
            found["verdict"] if found else {"verdict": "insufficient_data", "reasons": ["no signal has an outcome"]}
        )
        print(f"{one['strategy']:22} {one['signals']:6} signals  {verdict['verdict']}: {'; '.join(verdict['reasons'])}")
    print(f"{out / PAGE}, {out / REPORT}, {out / DECISIONS}")
    return 0


def _told(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {of} parts", end="\n" if done == of else "", file=sys.stderr, flush=True)
