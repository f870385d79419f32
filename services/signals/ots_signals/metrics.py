"""What signals counts. The values of every label are a closed set; see docs/METRICS.md."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from ots_market.underlyings import UNDERLYINGS, counted_as
from ots_signals.decisions import Abstention, Signal, Why
from ots_signals.ledger import Entry
from ots_signals.outcomes import Barrier, Outcome
from ots_signals.strategies import registered

_WHYS = frozenset(why.value for why in Why)
_BARRIERS = frozenset(barrier.value for barrier in Barrier)

SIGNALS = Counter("ots_signals_decided_total", "Signals added to the ledger", ["strategy", "underlying"])
ABSTENTIONS = Counter(
    "ots_signals_abstentions_total",
    "Abstentions added to the ledger, by their reason (spread_too_wide, stale_quotes, gap, no_edge, failed, ...)",
    ["strategy", "reason"],
)
OUTCOMES = Counter(
    "ots_signals_outcomes_total",
    "Outcomes added to the ledger by what ended the position at full spread: target, stop, timeout, not_filled,"
    " indeterminate; revisions too",
    ["outcome"],
)
REVISIONS = Counter("ots_signals_revisions_total", "Outcomes that late data changed")
LATENCY_SECONDS = Histogram(
    "ots_signals_latency_seconds",
    "From the close of a minute bar to the commit of what was decided about it, of what was decided live; recorded: yes"
    " where strategies saw their condition, no where none did",
    ["recorded"],
    buckets=(0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30),
)
DECIDE_SECONDS = Histogram(
    "ots_signals_decide_seconds",
    "Time to decide about one minute of one underlying, its bars and chain included",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
FAILURES = Counter(
    "ots_signals_failures_total",
    "Times that something could not be done and is tried again: decide, resolve, verify, or backtest",
    ["task"],
)
POISONED = Counter(
    "ots_signals_poisoned_total", "Events that failed every time and became abstentions that say so", ["underlying"]
)
CURSOR_SECONDS = Gauge(
    "ots_signals_cursor_timestamp_seconds", "The close of the newest minute bar that is decided", ["underlying"]
)
LAG_SECONDS = Gauge(
    "ots_signals_lag_seconds",
    "How long ago the oldest minute bar closed that is stored and not decided, of feed time; 0 when all is decided",
    ["underlying"],
)
OPEN = Gauge("ots_signals_open", "Signals that wait for their outcome", multiprocess_mode="livemax")
OVERDUE = Gauge(
    "ots_signals_overdue", "Of them, those that had to be flat more than ten minutes ago", multiprocess_mode="livemax"
)
ROWS = Gauge("ots_signals_ledger_rows", "Rows of the ledger", multiprocess_mode="livemax")
VERIFIED = Gauge(
    "ots_signals_verified_timestamp_seconds",
    "When the whole ledger was last found as it was written",
    multiprocess_mode="livemax",
)
FAULTS = Gauge(
    "ots_signals_ledger_faulty",
    "1 when the last verification found a row that is not as it was written",
    multiprocess_mode="livemax",
)
BACKTESTS = Counter("ots_signals_backtests_total", "Backtests by how they ended: done, failed, cancelled", ["outcome"])


def begin(underlyings: Iterable[str]) -> None:
    """Every series of a worker's from its start: one that appears with its first event shows no increase."""
    for strategy in registered():
        for underlying in underlyings:
            SIGNALS.labels(strategy, counted_as(underlying))
        for why in _WHYS:
            ABSTENTIONS.labels(strategy, why)


def count_entry(entry: Entry) -> None:
    """Count a row that was committed."""
    record = entry.record
    if isinstance(record, Signal):
        SIGNALS.labels(_strategy(record.strategy), counted_as(record.underlying)).inc()
    elif isinstance(record, Abstention):
        ABSTENTIONS.labels(_strategy(record.strategy), record.why if record.why in _WHYS else "other").inc()
    else:
        _count_outcome(record)


def _strategy(name: str) -> str:
    return name if name in registered() else "other"


def _count_outcome(record: Outcome) -> None:
    barrier = next((fill.barrier.value for fill in record.fills if fill.model == "touch"), "other")
    OUTCOMES.labels(barrier if barrier in _BARRIERS else "other").inc()
    if record.revision:
        REVISIONS.inc()


for _recorded in ("yes", "no"):
    LATENCY_SECONDS.labels(_recorded)
for _task in ("decide", "resolve", "verify", "backtest"):
    FAILURES.labels(_task)
for _underlying in (*UNDERLYINGS, "other"):
    POISONED.labels(_underlying)
for _barrier in sorted(_BARRIERS):
    OUTCOMES.labels(_barrier)
