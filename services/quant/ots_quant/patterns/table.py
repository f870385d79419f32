"""All detectors: this table drives the HTTP API, its validation, the documentation and the tests."""

from __future__ import annotations

from ots_quant.patterns import (
    breakouts,
    candlesticks,
    converging,
    divergences,
    flags,
    gaps,
    levels,
    reversals,
    squeezes,
    trend,
)
from ots_quant.patterns.study import Detector

DETECTORS: dict[str, Detector] = {
    detector.name: detector
    for module in (
        reversals,
        converging,
        flags,
        levels,
        trend,
        breakouts,
        gaps,
        divergences,
        squeezes,
        candlesticks,
    )
    for detector in module.DETECTORS
}

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(detector.family for detector in DETECTORS.values()))

# How many bars before the first that matters a series should have. No rule looks back over more than about 600 bars
# (five pivots, then 60 bars to break out); the rest lets the zigzag and the recursive means forget where they began.
MEMORY_BARS = 1500


def named(name: str) -> tuple[Detector, ...]:
    """The detector or the family of detectors that ``name`` means; empty when it means nothing."""
    if name in DETECTORS:
        return (DETECTORS[name],)
    return tuple(detector for detector in DETECTORS.values() if detector.family == name)
