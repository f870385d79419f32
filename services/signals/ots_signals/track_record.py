"""What the ledger knows of signals and their outcomes, as arrays for statistics; and how many trials there were."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from ots_common.database import Database
from ots_common.times import NS_PER_S
from ots_signals.canonical import digest
from ots_signals.outcomes import ResolvedSignals
from ots_signals.performance import side_by_side
from ots_signals.strategies import registered

MOST = 200_000
_EXCHANGE = ZoneInfo("America/New_York")
_RESOLVED = """
    SELECT id, strategy, strategy_version, mode, underlying, session::date, event_ns, days_to_expiration,
           coalesce((touch ->> 'exit_ns')::bigint, resolved_of_ns), barrier, (touch ->> 'net_return')::double precision,
           (partial ->> 'net_return')::double precision, (mid ->> 'net_return')::double precision,
           (touch ->> 'best_return')::double precision, (touch ->> 'worst_return')::double precision,
           (odds ->> 'p_target')::double precision, (odds ->> 'p_null')::double precision,
           (odds ->> 'fair_value_pct')::double precision,
           (baseline ->> 'mean_net')::double precision, (baseline ->> 'hit_rate')::double precision,
           (baseline ->> 'percentile')::double precision, (baseline ->> 'shuffled_mean_net')::double precision,
           (baseline ->> 'stock_return')::double precision
    FROM (
        SELECT DISTINCT ON (d.event_ns, d.id) d.id, d.strategy, d.strategy_version, d.mode, d.underlying, d.session,
               d.event_ns, d.days_to_expiration, d.odds, o.barrier, o.baseline, o.resolved_of_ns,
               jsonb_path_query_first(o.fills, '$[*] ? (@.model == "touch")') AS touch,
               jsonb_path_query_first(o.fills, '$[*] ? (@.model == "partial")') AS partial,
               jsonb_path_query_first(o.fills, '$[*] ? (@.model == "mid")') AS mid
        FROM signal_ledger d JOIN signal_ledger o ON o.signal_id = d.id AND o.kind = 'outcome'
        WHERE d.kind = 'signal' AND {where} ORDER BY d.event_ns, d.id, o.revision DESC
    ) AS newest ORDER BY event_ns, id LIMIT %(most)s
"""
_TRIALS = """
    SELECT strategy, parameters_hash FROM signal_trials
    UNION SELECT DISTINCT strategy, body::jsonb #>> '{record,parameters_hash}' FROM signal_ledger WHERE kind = 'signal'
"""
_COLUMNS = (
    "id", "strategy", "strategy_version", "mode", "underlying", "day", "event_ns", "days_to_expiration", "exit_ns",
    "barrier", "net_touch", "net_partial", "net_mid", "best", "worst", "p_target", "p_null", "fair_value",
    "baseline_mean", "baseline_hit_rate", "percentile", "shuffled_mean", "stock_return",
)  # fmt: skip
_TEXT = frozenset({"id", "strategy", "strategy_version", "mode", "underlying", "barrier"})
_WHOLE = frozenset({"event_ns", "exit_ns"})


@dataclass(frozen=True)
class Chosen:
    """Which signals; None: all. Sessions from ``first`` to ``last``, both included."""

    strategy: str | None = None
    underlying: str | None = None
    mode: str | None = None
    first: date | None = None
    last: date | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        """SQL over the ledger as ``d``, and its parameters."""
        parts, values = ["true"], {}
        for column in ("strategy", "underlying", "mode"):
            if (value := getattr(self, column)) is not None:
                parts.append(f"d.{column} = %({column})s")
                values[column] = value
        if self.first is not None:
            parts.append("d.session >= %(first)s")
            values["first"] = self.first.isoformat()
        if self.last is not None:
            parts.append("d.session <= %(last)s")
            values["last"] = self.last.isoformat()
        return " AND ".join(parts), values


def resolved_signals(database: Database, chosen: Chosen) -> ResolvedSignals:
    """Signals that have an outcome, with the newest revision of it, in order of event; at most ``MOST``, the oldest."""
    where, values = chosen.condition()
    rows = database.rows(_RESOLVED.format(where=where), {**values, "most": MOST})
    if not rows:
        return side_by_side(())
    columns = {name: _array(name, column) for name, column in zip(_COLUMNS, zip(*rows, strict=True), strict=True)}
    columns["hour"] = np.array(
        [datetime.fromtimestamp(ns // NS_PER_S, UTC).astimezone(_EXCHANGE).hour for ns in columns["event_ns"].tolist()],
        np.int64,
    )
    return ResolvedSignals(**columns)


def trials(database: Database, apart: AbstractSet[tuple[str, str]] = frozenset()) -> int:
    """How many sets of parameters of strategies were ever tried: in backtests, in the ledger, and those that run.

    Without those of ``apart``, (strategy, hash of its parameters) each: a run counts its own itself, once.
    """
    tried = {tuple(row) for row in database.rows(_TRIALS)}
    tried |= {(name, digest(one().parameters.model_dump())) for name, one in registered().items()}
    return len(tried - apart)


def _array(name: str, column: tuple[Any, ...]) -> Any:
    if name in _TEXT:
        return np.array(column, np.str_)
    if name == "day":
        return np.array(column, "datetime64[D]")
    return np.array(column, np.int64 if name in _WHOLE else np.float64)
