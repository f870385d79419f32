"""What the process of the snapshots counts; it serves them itself, see ``SNAPSHOTS_METRICS_PORT``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
