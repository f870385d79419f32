"""What analytics counts of its computing. The values of every label are a closed set; see docs/METRICS.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from ots_market.underlyings import counted_as

if TYPE_CHECKING:
    from ots_chains.priced_chains import PricedChain
    from ots_quant.surface.certificate import Certificate

STAGES = ("sql", "mathematics", "reading", "scan", "encoding")
_REASONS = frozenset(
    {"no_quote", "stale", "crossed", "no_bid", "no_ask", "no_spot", "no_rate", "no_forward", "below_intrinsic",
     "above_bound", "no_volatility"}
)  # fmt: skip
_FITS = ("clean", "far", "violating", "none")
# of the contracts fitted; of quotes that do not contradict each other nineteen in twenty and more do
_LEAST_WITHIN_SPREAD = 0.75
_KINDS = ("butterfly", "calendar", "between")

STAGE_SECONDS = Histogram(
    "ots_analytics_stage_seconds",
    "Time within one stage of making an answer, each time it is entered; what was found ready has none",
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
    "Surfaces fitted: clean; far (more than a quarter of the contracts fitted do not enclose it: no surface without"
    " arbitrage fits their quotes); violating (arbitrage between the quoted strikes); or none (no expiration could be)",
    ["outcome"],
)
SURFACE_VIOLATIONS = Counter(
    "ots_analytics_surface_violations_total",
    "Points of fitted surfaces that admit arbitrage between the quoted strikes, by kind",
    ["underlying", "kind"],
)


def observe_stage(name: str, seconds: float) -> None:
    """Time within a stage of ``STAGES``."""
    _stages.get(name, _other_stage).observe(seconds)


def count_chain(chain: PricedChain) -> None:
    """Count a chain that was computed, its contracts, and its surface where one was fitted."""
    underlying = counted_as(chain.underlying)
    CHAINS.labels(underlying, _outcome(chain)).inc()
    if chain.quality["with_volatility"]:
        CONTRACTS.labels(underlying, "priced").inc(chain.quality["with_volatility"])
    for reason, contracts in chain.quality["without_volatility"].items():
        CONTRACTS.labels(underlying, reason if reason in _REASONS else "other").inc(contracts)
    if chain.surface is None:
        return
    found = chain.surface.certificate
    SURFACE_FITS.labels(_fit(found) if chain.surface.years.size else "none").inc()
    for kind, part in zip(_KINDS, (found.butterfly_inside, found.calendar_inside, found.between_inside), strict=True):
        SURFACE_VIOLATIONS.labels(underlying, kind).inc(part.failing)


def _fit(found: Certificate) -> str:
    """A fit gives up quotes before it admits arbitrage: such as contradict each other show in its distance."""
    if not found.arbitrage_free_inside:
        return "violating"
    return "clean" if found.share_within_spread >= _LEAST_WITHIN_SPREAD else "far"


def _outcome(chain: PricedChain) -> str:
    if not len(chain):
        return "empty"
    if chain.spot is None:
        return "no_spot"
    return "no_rate" if chain.rate.kind is None else "priced"


_other_stage = STAGE_SECONDS.labels("other")
_stages = {name: STAGE_SECONDS.labels(name) for name in STAGES}
for _name in _FITS:
    SURFACE_FITS.labels(_name)
