"""The strategies that this platform keeps a record of. None of them is said to have an edge."""

from __future__ import annotations

from ots_signals.strategies import activity, levels, momentum, oscillators, volatility
from ots_signals.strategies.base import Strategy, registered

__all__ = ["Strategy", "activity", "levels", "momentum", "oscillators", "registered", "volatility"]
