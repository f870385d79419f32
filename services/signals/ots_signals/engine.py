"""From closed bars and a chain to signals and abstentions: the same function live, in replay, and in a backtest.

`decide` asks what begins at one moment; `decide_session` asks for a whole session at once, as a backtest does: a study
looks at each bar with what was known then, so both give the same (a test holds it). A chain is asked for only where a
condition began, once for all strategies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS, Timeframe
from ots_signals import contract_choice
from ots_signals.canonical import digest
from ots_signals.decisions import Abstention, Barriers, Decision, Entry, Leg, Mode, Signal, Why, decision_id
from ots_signals.market_view import ChainView, DailyVolatility, MarketView, UnderlyingBars
from ots_signals.odds import FairOdds, Position, TrackRecord, TrackRecords, believed, fair_odds
from ots_signals.regime import Regime, trend, volatility
from ots_signals.strategies.base import BOTH, Moment, Refusal, Strategy

FLAT_BEFORE_CLOSE_NS = 10 * MINUTE_NS
_LEAST_SHARE_OF_BARS = 0.8  # of the session's so far: with fewer an indicator is of another market
_ENOUGH_RESOLVED = 300
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Run:
    """Under which heading decisions are made. ``code_version``: git sha; ``name``: of a backtest, else empty."""

    mode: Mode
    code_version: str
    name: str = ""


@dataclass(frozen=True)
class Draft:
    """A candidate before its odds: all that the market and the strategy say."""

    decision: Decision
    legs: tuple[Leg, ...]
    years: tuple[float, ...]
    entry: Entry
    barriers: Barriers
    spot: float
    rate: float
    dividend_yield: float
    invalidation: str
    abstain_without_edge: bool


@dataclass(frozen=True)
class _Begun:
    strategy: Strategy
    moment: Moment
    daily: DailyVolatility
    volatility: Regime

    @property
    def at_ns(self) -> int:
        return int(self.moment.bars.known_at[self.moment.i])


def decide(
    view: MarketView,
    strategies: Sequence[Strategy],
    underlying: str,
    session: date,
    at_ns: int,
    records: TrackRecords,
    run: Run,
) -> list[Signal | Abstention]:
    """What the strategies decide at ``at_ns``, the close of a minute's bar, with nothing later known; mostly nothing.

    A strategy acts only at the close of a bar of its timeframe. In order of the strategies' ids. Raises `NotYet` and
    what else the view raises; KeyError for a session that the calendar does not have.
    """
    due = [one for one in strategies if at_ns % one.timeframe.nanoseconds == 0]
    return finish(drafts(view, due, underlying, session, run, at_ns=at_ns), view.sessions, records)


def decide_session(
    view: MarketView,
    strategies: Sequence[Strategy],
    underlying: str,
    session: date,
    records: TrackRecords,
    run: Run,
) -> list[Signal | Abstention]:
    """As `decide` at each minute of a session, in order of time and then of the strategies' ids."""
    return finish(drafts(view, strategies, underlying, session, run), view.sessions, records)


def drafts(
    view: MarketView,
    strategies: Sequence[Strategy],
    underlying: str,
    session: date,
    run: Run,
    *,
    at_ns: int | None = None,
) -> list[Draft | Abstention]:
    """All of `decide` but the odds, which can be had together: of one moment, or of a session without ``at_ns``."""
    sessions = view.sessions
    k = session_index(sessions, session)
    begun = _begun(view, strategies, underlying, k, at_ns)
    begun.sort(key=lambda one: (one.at_ns, one.strategy.id))
    found: list[Draft | Abstention] = []
    chain: ChainView | None = None
    for one in begun:
        flat_ns = int(sessions.closes[k]) - FLAT_BEFORE_CLOSE_NS
        left = (flat_ns - one.at_ns) / MINUTE_NS
        if left < one.strategy.parameters.least_minutes_left:
            if not one.strategy.needs_chain_to_trigger:
                detail = f"{left:g} minutes until all must be flat"
                found.append(_abstention(_decision(one, run, view.source, sessions), Why.TOO_LATE_IN_SESSION, detail))
            continue
        if chain is None or chain.at_ns != one.at_ns:
            chain = view.chain(underlying, one.at_ns)
        draft = _draft(one, chain, run, sessions, flat_ns)
        if draft is not None:
            found.append(draft)
    return found


def fair_of(found: Sequence[Draft | Abstention], sessions: Sessions) -> FairOdds:
    """The fair odds of the drafts among them, in their order: what of `finish` does not depend on any record."""
    return fair_odds(
        [
            Position(d.decision.event_ns, d.spot, d.rate, d.dividend_yield, d.legs, d.years, d.entry, d.barriers)
            for d in found
            if isinstance(d, Draft)
        ],
        sessions,
    )


def finish(
    found: Sequence[Draft | Abstention], sessions: Sessions, records: TrackRecords, fair: FairOdds | None = None
) -> list[Signal | Abstention]:
    """Drafts with their odds, as `believed` from what had ended before their session opened.

    ``fair``: of `fair_of`, where they are known already.
    """
    fair = fair_of(found, sessions) if fair is None else fair
    known: dict[tuple[str, str], TrackRecord] = {}
    finished: list[Signal | Abstention] = []
    k = 0
    for one in found:
        if isinstance(one, Abstention):
            finished.append(one)
            continue
        key = (one.decision.strategy, one.decision.session)
        if key not in known:
            opened = int(sessions.opens[session_index(sessions, date.fromisoformat(one.decision.session))])
            known[key] = records.known(one.decision.strategy, opened)
        odds = believed(fair, k, known[key])
        k += 1
        if odds is None:
            detail = "the position has no value in the model at its horizon, so that its odds are not known"
            finished.append(_abstention(one.decision, Why.NO_VOLATILITY, detail))
        elif one.abstain_without_edge and odds.resolved >= _ENOUGH_RESOLVED and odds.expected_value_high < 0.0:
            detail = f"{odds.resolved} outcomes leave an expected value of at most {odds.expected_value_high:.1%}"
            finished.append(_abstention(one.decision, Why.NO_EDGE, detail))
        else:
            finished.append(
                Signal(
                    **_fields(one.decision),
                    legs=one.legs,
                    entry=one.entry,
                    barriers=one.barriers,
                    odds=odds,
                    underlying_price=one.spot,
                    days_to_expiration=min(one.years) * 365,
                    invalidation=one.invalidation,
                )
            )
    return finished


def session_index(sessions: Sessions, session: date) -> int:
    """Of a date in the calendar. Raises KeyError where there is no such session."""
    k = int(np.searchsorted(sessions.dates, np.datetime64(session)))
    if k >= len(sessions.dates) or sessions.dates[k] != np.datetime64(session):
        raise KeyError(f"{sessions.name} has no session on {session}")
    return k


def _begun(
    view: MarketView, strategies: Sequence[Strategy], underlying: str, k: int, at_ns: int | None
) -> list[_Begun]:
    """Which conditions begin: at the close of one bar, or in the whole session."""
    if not strategies:
        return []
    sessions, session = view.sessions, view.sessions.date_at(k)
    until = int(sessions.closes[k]) if at_ns is None else at_ns
    windows: dict[tuple[Timeframe, int], UnderlyingBars] = {}
    daily: DailyVolatility | None = None
    wildness: Regime = {}
    found = []
    for one in strategies:
        key = (one.timeframe, one.history_sessions)
        if key not in windows:
            windows[key] = view.bars(underlying, one.timeframe, session, one.history_sessions, until)
        bars = windows[key]
        if not len(bars) or (at_ns is not None and bars.known_at[-1] != at_ns):
            continue
        if daily is None:
            # the sessions closed before: the same all day
            daily = view.daily_volatility(underlying, int(sessions.opens[k]))
            wildness = volatility(daily, sessions.sessions_a_year)
        study = one.study(bars, daily, sessions)
        if at_ns is None:
            rows = np.flatnonzero((study.directions != 0) & (bars.session == k))
        else:
            rows = np.array([len(bars) - 1]) if study.directions[-1] else np.empty(0, np.int64)
        for i in rows.tolist():
            moment = Moment(int(study.directions[i]), bars, i, study.features(i), sessions)
            found.append(_Begun(one, moment, daily, wildness))
    return found


def _draft(one: _Begun, chain: ChainView, run: Run, sessions: Sessions, flat_ns: int) -> Draft | Abstention | None:
    plan = one.strategy.plan(one.moment, chain, one.daily) if len(chain) else None
    if plan is None and (len(chain) or one.strategy.needs_chain_to_trigger):
        return None
    extra = {} if plan is None else plan.features
    decision = _decision(one, run, chain.source, sessions, chain, extra)
    parameters = one.strategy.parameters
    if plan is None:
        return _abstention(decision, Why.NO_CHAIN, f"nothing was quoted on {chain.underlying}")
    if chain.gaps:
        return _abstention(decision, Why.GAP, f"{chain.gaps} open gaps may hide quotes just before")
    present, expected = int(decision.quality["bars"] or 0), int(decision.quality["bars_expected"] or 0)
    if present < _LEAST_SHARE_OF_BARS * expected:
        return _abstention(decision, Why.TOO_FEW_BARS, f"{present} of {expected} bars of the session are there")
    if isinstance(plan, Refusal):
        return _abstention(decision, plan.why, plan.detail)
    if not np.isfinite(chain.spot):
        return _abstention(decision, Why.NO_VOLATILITY, f"no price of {chain.underlying} is known")
    decision = replace(decision, direction=plan.direction, reasons=plan.reasons)
    legs = tuple(
        contract_choice.leg(chain, row, quantity) for row, quantity in zip(plan.rows, plan.quantities, strict=True)
    )
    try:
        entry = contract_choice.entry(legs, parameters.fee_per_contract)
    except ValueError as error:  # quotes that contradict each other: a credit beyond the width
        return _abstention(decision, Why.NO_CONTRACT, str(error))
    if entry.spread_pct > parameters.most_spread:
        detail = (
            f"crossing in and out costs {entry.spread_pct:.1%} of the capital, more than {parameters.most_spread:.1%}"
        )
        return _abstention(decision, Why.SPREAD_TOO_WIDE, detail)
    first = plan.rows[0]
    return Draft(
        decision=decision,
        legs=legs,
        years=tuple(float(chain.years[row]) for row in plan.rows),
        entry=entry,
        barriers=Barriers(
            target=parameters.target,
            stop=-parameters.stop,
            time_ns=min(one.at_ns + parameters.time_stop_minutes * MINUTE_NS, flat_ns),
            flat_ns=flat_ns,
        ),
        spot=float(chain.spot),
        rate=float(chain.rate[first]),
        dividend_yield=float(chain.dividend_yield[first]),
        invalidation=one.strategy.invalidation,
        abstain_without_edge=parameters.abstain_without_edge,
    )


def _decision(
    one: _Begun,
    run: Run,
    source: str,
    sessions: Sessions,
    chain: ChainView | None = None,
    more: dict[str, float | None] | None = None,
) -> Decision:
    strategy, moment, bars = one.strategy, one.moment, one.moment.bars
    features = {
        name: value if value is not None and np.isfinite(value) else None
        for name, value in {**moment.features, **(more or {})}.items()
    }
    k = int(bars.session[moment.i])
    elapsed = one.at_ns - int(sessions.opens[k])
    quality: dict[str, float | int | str | bool | None] = {
        "bars": int((bars.session[: moment.i + 1] == k).sum()),
        "bars_expected": elapsed // bars.timeframe.nanoseconds,
    }
    if chain is not None:
        quality |= {
            "contracts": len(chain),
            "contracts_quoted": int(((chain.bid > 0) & (chain.ask > chain.bid)).sum()),
            "gaps": chain.gaps,
            "spot_age_s": (chain.at_ns - chain.spot_at_ns) / _SECOND_NS if chain.spot_at_ns else None,
            "chain_digest": chain.digest,
        }
    return Decision(
        id=decision_id(
            strategy.id, strategy.version, strategy.parameters_hash, bars.underlying, one.at_ns, run.mode, run.name
        ),
        strategy=strategy.id,
        strategy_version=strategy.version,
        code_version=run.code_version,
        parameters=dict(strategy.values),
        parameters_hash=strategy.parameters_hash,
        mode=run.mode,
        source=source,
        underlying=bars.underlying,
        timeframe=strategy.timeframe.value,
        event_ns=one.at_ns,
        session=str(sessions.date_at(k)),
        direction=0 if moment.direction == BOTH else moment.direction,
        features=features,
        features_hash=digest(features),
        quality=quality,
        regime=trend(bars, moment.i) | one.volatility,
        reasons=(),
    )


def _abstention(decision: Decision, why: Why, detail: str) -> Abstention:
    return Abstention(**_fields(decision), why=why.value, detail=detail)


def _fields(decision: Decision) -> dict[str, Any]:
    return {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
