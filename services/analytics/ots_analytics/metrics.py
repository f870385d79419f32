"""What analytics counts of its computing. The values of every label are a closed set; see docs/METRICS.md."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

STAGE_SECONDS = Histogram(
    "ots_analytics_stage_seconds",
    "Time in one stage of making an answer; what was found ready has none",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
CHAINS = Counter(
    "ots_analytics_chains_total",
    "Chains computed: priced, or without no_spot, no_rate, or empty (no live contract)",
    ["underlying", "outcome"],
)
CONTRACTS = Counter(
    "ots_analytics_contracts_total",
    "Contracts of the chains computed: priced (has a volatility), or why it has none",
    ["underlying", "outcome"],
)
SURFACE_FITS = Counter(
    "ots_analytics_surface_fits_total",
    "Surfaces fitted: clean (no arbitrage between the quoted strikes), violating, or none (no expiration could be)",
    ["outcome"],
)
SURFACE_VIOLATIONS = Counter(
    "ots_analytics_surface_violations_total",
    "Points of fitted surfaces that admit arbitrage between the quoted strikes, by kind",
    ["underlying", "kind"],
)
