"""What the process of the snapshots counts; it serves them itself, see ``SNAPSHOTS_METRICS_PORT``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from ots_analytics.snapshot_store import newest_snapshots
from ots_analytics.volatility import Snapshot
from ots_common.database import Database
from ots_market.underlyings import counted_as

SNAPSHOTS = Counter(
    "ots_snapshots_total",
    "Snapshots of implied volatility by what became of them: stored, current (the same inputs are stored), or stale (no"
    " fresh quote at the moment)",
    ["underlying", "outcome"],
)
SECONDS = Histogram(
    "ots_snapshots_seconds",
    "Time to read, fit and store the snapshots of one moment, all underlyings; only of moments with something new",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300),
)
LAST = Gauge("ots_snapshots_last_timestamp_seconds", "The newest moment of which a snapshot is stored", ["underlying"])
CONTRACTS = Gauge(
    "ots_snapshots_contracts",
    "Contracts of the newest snapshot: priced (with a volatility), or without",
    ["underlying", "state"],
)


class Newest:
    """The gauges of the newest snapshot of each underlying, whichever moment is taken next."""

    def __init__(self) -> None:
        self._at_ns: dict[str, int] = {}

    def read(self, database: Database) -> None:
        """Take up what earlier processes stored."""
        for underlying, at_ns, priced, without in newest_snapshots(database):
            self._show(underlying, at_ns, priced, without)

    def stored(self, snapshot: Snapshot) -> None:
        """Take in a snapshot that was stored."""
        priced = sum(int((contracts.reason == "").sum()) for contracts in snapshot.contracts)
        every = sum(len(contracts.reason) for contracts in snapshot.contracts)
        self._show(snapshot.chain.underlying, snapshot.chain.moment.at_ns, priced, every - priced)

    def _show(self, underlying: str, at_ns: int, priced: int, without: int) -> None:
        name = counted_as(underlying)
        if at_ns < self._at_ns.get(name, 0):
            return
        self._at_ns[name] = at_ns
        LAST.labels(name).set(at_ns / 1e9)
        CONTRACTS.labels(name, "priced").set(priced)
        CONTRACTS.labels(name, "without").set(without)
