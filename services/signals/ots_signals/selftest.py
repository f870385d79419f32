"""``python -m ots_signals selftest``: whether the record would find an edge that is there, and none where none is.

Four tests, whose floors were fixed before they were run:

- **zero**: in a market where nobody has an edge each strategy is judged ``no_edge`` in at least 95 of 100 seeds;
  ``insufficient_data`` does not count. Each seed is a market of its own. The same market without any cost is judged
  too, and told beside: there the mean is about 0 and a verdict can only be right because it knows its error.
- **planted**: an edge of +4 % net at touch is found (``candidate``) in at least 80 of 100 seeds, with as many signals
  as the power calculation asks for. How much drift that takes is calibrated on other seeds, and printed.
- **lookahead**: every strategy passes the prefix test, and two that cheat do not.
- **random**: the best of 500 random strategies looks good by itself and is rejected by the deflated Sharpe ratio.

Signals come from the engine (`engine.drafts`), outcomes from `fair_outcomes`, verdicts from `verdicts`. Strategies are
asked in rounds over all sessions, another underlying of each session every round, until they have as many signals as
are wanted: what became of a signal does not matter for whether it is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS
from ots_quant.evaluation import (
    clustered_mean,
    deflated_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    sharpe,
    signals_needed,
)
from ots_signals import verdicts
from ots_signals.decisions import Mode
from ots_signals.engine import Draft, Run, drafts
from ots_signals.fair_market import FairMarket, FairSettings
from ots_signals.fair_outcomes import CODES, Positions, Results, matched, positions_of, resolve_positions
from ots_signals.lookahead import LookAhead, check_session
from ots_signals.market_view import ChainView, DailyVolatility, UnderlyingBars
from ots_signals.outcomes import ResolvedSignals
from ots_signals.planting import Calibration, calibrate, plant
from ots_signals.strategies import registered
from ots_signals.strategies.base import Moment, Plan, Refusal, Strategy, Study
from ots_signals.strategies.momentum import OpeningRange
from ots_signals.verdicts import Verdict, daily_returns

LEAST_NO_EDGE = 0.95
LEAST_FOUND = 0.80
PLANTED_NET = 0.04
POWER = 0.9
SIGNALS_WANTED = 320
DAYS_WANTED = 70
MATCHES = 6
RANDOM_STRATEGIES = 500
RANDOM_SIGNALS = 400

_SETTINGS = FairSettings(underlyings=tuple(f"FR{letter}" for letter in "ABCDEFGH"), sessions=84)
_RUN = Run(Mode.BACKTEST, "selftest", "selftest")
_CALIBRATING = range(900_001, 900_011)  # seeds that nothing is tested on
_PLANTED = {"target": 0.25, "stop": 0.30, "time_stop_minutes": 120}

_R = TypeVar("_R")


@dataclass(frozen=True)
class Judged:
    """One strategy in one market. ``net``, ``lift``: means at touch, and over the matched baseline."""

    seed: int
    strategy: str
    n: int
    days: int
    verdict: str
    net: float
    net_error: float
    lift: float
    design_effect: float


@dataclass(frozen=True)
class BestOfRandom:
    """The best of random strategies in one market without costs: what it seems to be, and what is left of it."""

    seed: int
    mean: float
    alone: float  # probability that its Sharpe ratio is above 0, as if it were the only one
    deflated: float  # that it is above what the best of all would show by luck
    verdict_alone: str  # if nobody had logged the other trials
    verdict: str


def sample(market: FairMarket, strategies: Sequence[Strategy], wanted: int) -> list[Draft]:
    """At least ``wanted`` signals of each strategy on `DAYS_WANTED` days, where the market has them."""
    random = np.random.default_rng([market.seed, 77])
    dates = market.trading_dates
    turns = np.stack([random.permutation(len(market.underlyings)) for _ in dates])
    count: Counter[str] = Counter()
    days: dict[str, set[date]] = {one.id: set() for one in strategies}
    found: list[Draft] = []
    for turn in turns.T.tolist():
        for u, session in zip(turn, dates, strict=True):
            asked = [one for one in strategies if count[one.id] < wanted or len(days[one.id]) < DAYS_WANTED]
            if not asked:
                return found
            for one in drafts(market, asked, market.underlyings[u], session, _RUN):
                if isinstance(one, Draft):
                    found.append(one)
                    count[one.decision.strategy] += 1
                    days[one.decision.strategy].add(session)
    return found


def resolved_of(market: FairMarket, found: Sequence[Draft], *, each: int = MATCHES) -> ResolvedSignals:
    """What became of drafts, each beside ``each`` random matches; in order of event. Odds are not told: NaN."""
    found = sorted(found, key=lambda one: (one.decision.event_ns, one.decision.id))
    positions = positions_of(market, found)
    fills = [resolve_positions(market, positions, share) for share in (1.0, 0.75, 0.0)]
    random = np.random.default_rng([market.seed, 78])
    others = resolve_positions(market, matched(market, positions, each, random))
    names = [(one.decision.id, one.decision.strategy, one.decision.underlying) for one in found]
    days = np.array([min(one.years) * 365 for one in found])
    return _side_by_side(market, positions, names, days, fills, others)


def _side_by_side(
    market: FairMarket,
    positions: Positions,
    names: Sequence[tuple[str, str, str]],
    days_to_expiration: Any,
    fills: Sequence[Results],
    others: Results,
) -> ResolvedSignals:
    """``names``: (id, strategy, underlying) of each; ``others``: the matches of each, those of one together."""
    n = len(positions)
    touch, partial_, mid = fills
    net, hit = others.net.reshape(n, -1), (others.code == 0).reshape(n, -1)
    unknown = np.full(n, np.nan)
    opened = market.opens[positions.day]

    def text(values: Iterable[str]) -> Any:
        return np.array(list(values), np.str_)

    return ResolvedSignals(
        id=text(one[0] for one in names),
        strategy=text(one[1] for one in names),
        strategy_version=text("1" for _ in names),
        mode=text(Mode.BACKTEST.value for _ in names),
        underlying=text(one[2] for one in names),
        day=market.dates[positions.day],
        hour=(9 * 60 + 30 + positions.minute) // 60,
        days_to_expiration=days_to_expiration,
        event_ns=opened + positions.minute * MINUTE_NS,
        exit_ns=opened + touch.exit_minute * MINUTE_NS,
        barrier=text(CODES[code] for code in touch.code.tolist()),
        net_touch=touch.net,
        net_partial=partial_.net,
        net_mid=mid.net,
        best=touch.best,
        worst=touch.worst,
        p_target=unknown,
        p_null=unknown,
        fair_value=unknown,
        baseline_mean=np.nanmean(net, axis=1),
        baseline_hit_rate=hit.mean(axis=1),
        percentile=(net < touch.net[:, None]).mean(axis=1) + 0.5 * (net == touch.net[:, None]).mean(axis=1),
        shuffled_mean=unknown,
        stock_return=unknown,
    )


def judged(seed: int, signals: ResolvedSignals, trials: int) -> list[Judged]:
    """Each strategy among the signals, by its verdict where ``trials`` are shown side by side."""
    found = []
    for name in np.unique(signals.strategy).tolist():
        mine = signals.take(np.flatnonzero(signals.strategy == name))
        judgement = verdicts.judge(mine, trials=trials, shown=trials)
        net = clustered_mean(mine.net_touch, mine.day)
        lift = float((mine.net_touch - mine.baseline_mean).mean())
        found.append(
            Judged(
                seed, name, judgement.evidence.n, judgement.evidence.days, judgement.verdict.value, net.mean,
                net.error, lift, net.design_effect,
            )
        )  # fmt: skip
    return found


def zero_edge(seed: int, *, costless: bool = False, wanted: int = SIGNALS_WANTED) -> list[Judged]:
    """All strategies in one market without an edge."""
    settings = replace(_SETTINGS, spread_share=1e-6, spread_floor=0.0) if costless else _SETTINGS
    values = {"fee_per_contract": 0.0} if costless else {}
    strategies = [cls.with_values(**values) for cls in registered().values()]
    market = FairMarket(seed, settings)
    return judged(seed, resolved_of(market, sample(market, strategies, wanted)), len(strategies))


def planted_signals(seed: int, drift: float, wanted: int | None = None, sessions: int = 84) -> ResolvedSignals:
    """The signals of the planted strategy in one market; ``wanted`` of them by lot, so that all days stay."""
    strategy = OpeningRange.with_values(**_PLANTED)
    market = plant(FairMarket(seed, replace(_SETTINGS, sessions=sessions)), strategy, drift)
    found = [
        one
        for session in market.trading_dates
        for underlying in market.underlyings
        for one in drafts(market, [strategy], underlying, session, _RUN)
        if isinstance(one, Draft)
    ]
    drawn = np.random.default_rng([seed, 80]).permutation(len(found))[:wanted]
    return resolved_of(market, [found[row] for row in drawn.tolist()])


def planted_edge(seed: int, *, drift: float, wanted: int, sessions: int) -> list[Judged]:
    """The planted strategy, judged as one of twelve."""
    return judged(seed, planted_signals(seed, drift, wanted, sessions), len(registered()))


def calibration(each: _Each) -> Calibration:
    """The drift that gives the planted edge. ``each``: how to ask all calibrating seeds."""

    def mean_net(drift: float) -> list[tuple[float, int]]:
        return each(partial(_planted_mean, drift=drift), list(_CALIBRATING))

    return calibrate(mean_net, PLANTED_NET)


def _planted_mean(seed: int, *, drift: float) -> tuple[float, int]:
    found = planted_signals(seed, drift).net_touch
    return float(found.mean()), len(found)


def best_of_random(seed: int) -> BestOfRandom:
    """Random moments, random sides, no barriers and no costs: each strategy's true mean is exactly 0.

    The best is the one with the highest Sharpe ratio of its days.
    """
    market = FairMarket(seed, replace(_SETTINGS, spread_share=1e-6, spread_floor=0.0))
    random = np.random.default_rng([seed, 79])
    universe = _random_positions(market)
    found = resolve_positions(market, universe)
    days = market.dates[universe.day]
    taken = [random.choice(len(universe), RANDOM_SIGNALS, replace=False) for _ in range(RANDOM_STRATEGIES)]
    ratios = [sharpe(daily_returns(found.net[rows], days[rows])) for rows in taken]
    best = int(np.argmax([one.ratio for one in ratios]))
    rows = np.sort(taken[best])
    names = [(f"{row:06d}", "best of random", market.underlyings[universe.underlying[row]]) for row in rows.tolist()]
    part = universe.at(rows)
    mine = Results(*(getattr(found, name)[rows] for name in Results.__dataclass_fields__))
    others = resolve_positions(market, matched(market, part, MATCHES, random))
    signals = _side_by_side(market, part, names, np.full(len(rows), 7.0), [mine, mine, mine], others)
    verdict = verdicts.judge(signals, trials=RANDOM_STRATEGIES).verdict.value
    return BestOfRandom(
        seed,
        float(mine.net.mean()),
        probabilistic_sharpe(ratios[best]),
        deflated_sharpe(ratios[best], RANDOM_STRATEGIES),
        verdicts.judge(signals, trials=1).verdict.value,
        verdict,
    )


def _random_positions(market: FairMarket) -> Positions:
    """At the money, the listed expiration nearest to a week, every tenth minute, calls and puts; held an hour."""
    first, minutes = market.settings.warm_up, np.arange(20, 300, 10)
    u, day, minute, right = (
        axis.ravel()
        for axis in np.meshgrid(
            np.arange(len(market.underlyings)), np.arange(first, market.count), minutes, [1.0, -1.0], indexing="ij"
        )
    )
    kept = minute + 70 < market.lengths[day]
    u, day, minute, right = u[kept], day[kept], minute[kept], right[kept]
    week = np.empty(len(day), np.int64)
    for one in np.unique(day).tolist():
        listed = market.expirations(one)
        ahead = (market.dates[listed] - market.dates[one]).astype(np.int64)
        week[day == one] = listed[np.abs(ahead - 7).argmin()]
    spacing = market.spacing[u]
    strike = np.rint(market.spot.close[u, day, minute - 1] / spacing) * spacing
    n = len(u)
    one_leg = (n, 1)
    return Positions(
        underlying=u,
        day=day,
        minute=minute,
        expiration=week.reshape(one_leg),
        right=right.reshape(one_leg),
        strike=strike.reshape(one_leg),
        quantity=np.ones(one_leg, np.int64),
        target=np.full(n, 100.0),
        stop=np.full(n, -1.0),
        minutes=np.full(n, 60),
        fees=np.zeros(n),
    )


class _NextBar(Strategy):
    """Begins at a bar after which the price rises: it reads the next one."""

    id = "peeks_at_the_next_bar"
    version, title, family, sources, invalidation = "1", "looks ahead by a bar", "self-test", "none", "none"
    history_sessions = 1

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """Up where the next close is higher."""
        begins = np.zeros(len(bars), np.int8)
        begins[:-1] = bars.close[1:] > bars.close[:-1]
        return Study(begins, {})

    def plan(self, moment: Moment, chain: ChainView, daily: DailyVolatility) -> Plan | Refusal | None:
        """Never asked."""
        return None


class _WholeDay(_NextBar):
    """Measures each bar against the whole window's mean and deviation, a mistake that is easily made."""

    id = "normalises_by_the_whole_window"

    def study(self, bars: UnderlyingBars, daily: DailyVolatility, sessions: Sessions) -> Study:
        """Down where the close is far above the mean of all bars."""
        score = (bars.close - bars.close.mean()) / bars.close.std()
        return Study(-(score > 1.5).astype(np.int8), {"score": score})


def look_ahead(seed: int = 1, sessions: int = 2) -> dict[str, LookAhead | None]:
    """What the prefix test finds of every strategy, and of two that cheat, over some sessions of a fair market."""
    market = FairMarket(seed, replace(_SETTINGS, underlyings=_SETTINGS.underlyings[:2], sessions=max(sessions, 2)))
    strategies: list[Strategy] = [*(cls() for cls in registered().values()), _NextBar(), _WholeDay()]
    found: dict[str, LookAhead | None] = {}
    for one in strategies:
        dates: list[date] = list(market.trading_dates[-sessions:])
        checks = (check_session(market, one, u, day) for u in market.underlyings for day in dates)
        found[one.id] = next((check for check in checks if check is not None), None)
    return found


def report_zero(found: Sequence[Judged], seeds: int) -> tuple[list[str], bool]:
    """Lines, and whether the floor holds for every strategy."""
    lines = [f"{'strategy':22}{'signals':>9}{'days':>6}{'net':>9}{'lift':>9}{'no_edge':>9}{'other verdicts':>20}"]
    passed = True
    for name in sorted({one.strategy for one in found}):
        mine = [one for one in found if one.strategy == name]
        said = Counter(one.verdict for one in mine)
        right = said.pop(Verdict.NO_EDGE.value, 0)
        passed &= right >= LEAST_NO_EDGE * seeds
        least, days = min(one.n for one in mine), min(one.days for one in mine)
        net, lift = np.mean([one.net for one in mine]), np.mean([one.lift for one in mine])
        others = ", ".join(f"{verdict} {n}" for verdict, n in sorted(said.items())) or "none"
        lines.append(f"{name:22}{least:>9}{days:>6}{net:>9.2%}{lift:>9.2%}{right:>5}/{seeds:<3}{others:>20}")
    return lines, passed and len({one.strategy for one in found}) == len(registered())


def power_calculation(signals: Sequence[ResolvedSignals]) -> tuple[int, list[str]]:
    """How many signals the verdict needs to find the planted edge, from calibrating seeds: and how it was computed."""
    trials = len(registered())
    means = [clustered_mean(one.net_touch, one.day) for one in signals]
    deviation = float(np.sqrt(np.mean([one.net_touch.var(ddof=1) for one in signals])))
    effect = float(np.mean([one.design_effect for one in means]))
    needed = signals_needed(
        PLANTED_NET,
        deviation,
        level=verdicts.LEVEL / trials,
        power=POWER,
        design_effect=max(effect, 1.0),
        hurdle=expected_maximum_sharpe(trials, 1.0),
        hurdle_level=1.0 - verdicts.DEFLATED,
    )
    wanted = max(needed, verdicts.LEAST_SIGNALS)
    return wanted, [
        f"power calculation: an edge of {PLANTED_NET:.1%}, returns with a standard deviation of {deviation:.1%}, days "
        f"that multiply the variance of the mean by {effect:.2f},",
        f"  level {verdicts.LEVEL:.0%} shared by {trials} strategies, deflated Sharpe ratio of {trials} trials above "
        f"{verdicts.DEFLATED:.0%}, power {POWER:.0%}: {needed} signals; {wanted} are used",
    ]


class _Each:
    """Asks a function of each seed, in some processes; the order of answers is that of the seeds."""

    def __init__(self, processes: int) -> None:
        self._pool = ProcessPoolExecutor(processes) if processes > 1 else None

    def __call__(self, function: Callable[[int], _R], seeds: Sequence[int]) -> list[_R]:
        return list(self._pool.map(function, seeds)) if self._pool else [function(seed) for seed in seeds]


def run(tests: Sequence[str], seeds: int, first: int, processes: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The tests by name; what they found, and whether each floor held (``passed``)."""
    each, chosen = _Each(processes), list(range(first, first + seeds))
    found: dict[str, Any] = {"seeds": seeds, "first_seed": first, "passed": {}}
    if "lookahead" in tests:
        caught = look_ahead()
        cheats = {_NextBar.id, _WholeDay.id}
        found["lookahead"] = {name: str(what) if what else None for name, what in caught.items()}
        found["passed"]["lookahead"] = {name for name, what in caught.items() if what} == cheats
        say(f"look-ahead: {len(caught)} strategies, of them {len(cheats)} that cheat; caught:")
        for what in caught.values():
            if what:
                say(f"  {what}")
    for name, costless in (("zero", False), ("zero_costless", True)):
        if name not in tests:
            continue
        judgements = [one for part in each(partial(zero_edge, costless=costless), chosen) for one in part]
        lines, passed = report_zero(judgements, seeds)
        found[name] = [asdict(one) for one in judgements]
        # without costs the level of the verdicts is what is measured; the floor is that of the market with costs
        found["passed"][name] = passed
        say(f"zero edge{', no costs at all' if costless else ''}: {seeds} seeds")
        for line in lines:
            say("  " + line)
    if "planted" in tests:
        fitted = calibration(each)
        wanted, told = power_calculation(each(partial(planted_signals, drift=fitted.drift), list(_CALIBRATING)))
        sessions = max(_SETTINGS.sessions, int(np.ceil(1.15 * wanted / len(_SETTINGS.underlyings))))
        planted = [
            part[0]
            for part in each(partial(planted_edge, drift=fitted.drift, wanted=wanted, sessions=sessions), chosen)
        ]
        right = sum(one.verdict == Verdict.CANDIDATE.value for one in planted)
        found["planted"] = {
            "calibration": asdict(fitted),
            "signals": wanted,
            "sessions": sessions,
            "judged": [asdict(one) for one in planted],
        }
        found["passed"]["planted"] = right >= LEAST_FOUND * seeds
        say(
            f"planted edge: a drift of {fitted.drift:.3f} standard deviations gives {fitted.mean_net:.2%} net at touch "
            f"(standard error {fitted.standard_error:.2%}, {fitted.signals} signals of {len(_CALIBRATING)} other seeds)"
        )
        for line in told:
            say("  " + line)
        net = [one.net for one in planted]
        least, most = min(one.n for one in planted), max(one.n for one in planted)
        say(
            f"  found in {right} of {seeds} seeds; {least} to {most} signals, net {np.mean(net):.2%} in the mean, "
            f"{min(net):.2%} to {max(net):.2%}"
        )
    if "random" in tests:
        best = each(best_of_random, chosen)
        fooled = sum(one.verdict_alone == Verdict.CANDIDATE.value for one in best)
        rejected = sum(one.verdict == Verdict.NO_EDGE.value and one.deflated < verdicts.DEFLATED for one in best)
        found["random"] = [asdict(one) for one in best]
        found["passed"]["random"] = rejected >= LEAST_NO_EDGE * seeds
        alone, deflated = [one.alone for one in best], [one.deflated for one in best]
        say(
            f"best of {RANDOM_STRATEGIES} random strategies: alone it would be a candidate in {fooled} of {seeds} "
            f"seeds (its Sharpe ratio is above 0 with {np.median(alone):.2%} in the median);"
        )
        say(
            f"  with all trials counted it is rejected in {rejected} (deflated: {np.median(deflated):.1%} in the "
            f"median, {max(deflated):.1%} at most)"
        )
    return found


TESTS = ("lookahead", "zero", "zero_costless", "planted", "random")


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 0 where every floor held, 1 where one did not."""
    parser = argparse.ArgumentParser(prog="python -m ots_signals selftest", description=__doc__.split("\n\n")[0])
    parser.add_argument("tests", nargs="*", choices=[*TESTS, []], help="which; all of them by default")
    parser.add_argument("--seeds", type=int, default=100, help="markets of each test (100)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two seeds, as CI does; the floors then mean little")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="all that was found, as JSON")
    asked = parser.parse_args(argv)
    seeds = 2 if asked.quick else asked.seeds
    if seeds < 1 or asked.processes < 1:
        parser.error("--seeds and --processes must be 1 or more")
    found = run(asked.tests or TESTS, seeds, asked.first_seed, min(asked.processes, max(seeds, 1)), print)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1, default=str) + "\n")
    for name, passed in found["passed"].items():
        print(f"{'passed' if passed else 'FAILED':8}{name}")
    return 0 if all(found["passed"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
