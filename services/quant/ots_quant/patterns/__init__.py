"""Patterns of prices, found without looking ahead.

``scan(bars)`` runs the detectors of the table over bars and gives events: each says what it is, when it began, when it
was known (``confirmed``, the bar at whose close), and how good it is. Appending bars never changes an event that was
there. What the patterns are worth is measured in docs/PATTERNS.md.
"""

from ots_quant.patterns.model import Events, Pivots, PriceBars, price_bars, usable
from ots_quant.patterns.scan import Event, Pivot, Scan, scan
from ots_quant.patterns.state import Level, TrendNow, current_levels, current_trend
from ots_quant.patterns.study import Detector, Study
from ots_quant.patterns.table import DETECTORS, FAMILIES, MEMORY_BARS, named

__all__ = [
    "DETECTORS",
    "FAMILIES",
    "MEMORY_BARS",
    "Detector",
    "Event",
    "Events",
    "Level",
    "Pivot",
    "Pivots",
    "PriceBars",
    "Scan",
    "Study",
    "TrendNow",
    "current_levels",
    "current_trend",
    "named",
    "price_bars",
    "scan",
    "usable",
]
