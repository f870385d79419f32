"""Deciding about one closed minute bar, and what was known then of the outcomes before.

Live, after a crash and in a replay the very same happens: `Decider.decide` asks the engine with what a strategy's
earlier signals had become before the session opened, and says whether the decision was in time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
import structlog

from ots_common.database import Database
from ots_common.times import NS_PER_S
from ots_signals.canonical import canonical, digest
from ots_signals.decisions import Abstention, Mode, Signal, Why, decision_id
from ots_signals.engine import Run, decide
from ots_signals.market_view import MarketView, NotYet
from ots_signals.odds import TrackRecords
from ots_signals.strategies.base import Strategy
from ots_signals.windows import Windows

log = structlog.get_logger(__name__)

# the newest revision of each outcome, at full spread
_ENDED = """
    SELECT DISTINCT ON (o.signal_id) d.strategy,
           (f ->> 'exit_ns')::bigint, f ->> 'barrier', (f ->> 'net_return')::double precision
    FROM signal_ledger o JOIN signal_ledger d ON d.id = o.signal_id,
         jsonb_path_query_first(o.fills, '$[*] ? (@.model == "touch")') AS f
    WHERE o.kind = 'outcome' AND d.event_ns < %s ORDER BY o.signal_id, o.revision DESC
"""


class Decider:
    """``now`` gives ns since 1970; ``late_ns``: what is decided longer after its event is a replay."""

    def __init__(
        self,
        view: MarketView,
        strategies: Sequence[Strategy],
        database: Database,
        *,
        code_version: str,
        late_ns: int,
        now: Callable[[], int],
    ) -> None:
        self._view = view
        self._strategies = tuple(strategies)
        self._database = database
        self._code_version = code_version
        self._late_ns = late_ns
        self._now = now
        self._lock = threading.Lock()
        self._records: tuple[int, TrackRecords] = (-1, TrackRecords())

    def session_of(self, at_ns: int) -> int | None:
        """The session in whose hours, its close included, the minute that ends then lies; None outside all."""
        sessions = self._view.sessions
        index = int(np.searchsorted(sessions.closes, at_ns, side="left"))
        return index if index < len(sessions.opens) and sessions.opens[index] < at_ns else None

    def decide(self, underlying: str, session: int, at_ns: int, *, alone: bool = False) -> list[Signal | Abstention]:
        """What is decided about the minute that closed ``at_ns``; mostly nothing. Raises what the market raises.

        ``alone``: strategy by strategy, and one that fails abstains and says why; only `NotYet` is raised then.
        """
        sessions = self._view.sessions
        mode = Mode.LIVE if self._now() - at_ns <= self._late_ns else Mode.REPLAY
        run = Run(mode, self._code_version)
        day, records = sessions.date_at(session), self._known(session)
        view = Windows(self._view, self._strategies)
        if not alone:
            return decide(view, self._strategies, underlying, day, at_ns, records, run)
        found: list[Signal | Abstention] = []
        for strategy in self._strategies:
            try:
                one = decide(view, [strategy], underlying, day, at_ns, records, run)
                canonical(one)
                found += one
            except NotYet:
                raise
            except Exception as error:
                log.exception("strategy_failed", strategy=strategy.id, underlying=underlying, event_ns=at_ns)
                found.append(self._failed(strategy, underlying, day, at_ns, run, error))
        return found

    def _known(self, session: int) -> TrackRecords:
        """What had become of signals before a session opened."""
        with self._lock:
            if self._records[0] != session:
                records = TrackRecords()
                opens_ns = int(self._view.sessions.opens[session])
                for strategy, ended_ns, barrier, net in self._database.rows(_ENDED, (opens_ns,)):
                    if ended_ns is not None and net is not None:
                        records.add(strategy, ended_ns, barrier, net)
                self._records = (session, records)
            return self._records[1]

    def _failed(
        self, strategy: Strategy, underlying: str, day: date, at_ns: int, run: Run, error: Exception
    ) -> Abstention:
        parameters = strategy.parameters.model_dump()
        parameters_hash = digest(parameters)
        return Abstention(
            id=decision_id(strategy.id, strategy.version, parameters_hash, underlying, at_ns, run.mode),
            strategy=strategy.id,
            strategy_version=strategy.version,
            code_version=run.code_version,
            parameters=parameters,
            parameters_hash=parameters_hash,
            mode=run.mode,
            source=self._view.source,
            underlying=underlying,
            timeframe=strategy.timeframe.value,
            event_ns=at_ns,
            session=str(day),
            direction=0,
            features={},
            features_hash=digest({}),
            quality={},
            regime={},
            reasons=(),
            why=Why.FAILED.value,
            detail=f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace").decode().replace("\0", ""),
        )


def seconds(nanoseconds: int) -> float:
    """As metrics have them."""
    return nanoseconds / NS_PER_S
