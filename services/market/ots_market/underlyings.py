"""The underlyings that this platform is about."""

from __future__ import annotations

UNDERLYINGS = ("AAPL", "GOOGL", "MSFT", "AMZN", "TSLA", "NVDA", "META", "SPY", "QQQ")
_NINE = frozenset(UNDERLYINGS)


def counted_as(underlying: str) -> str:
    """The value of a metric's label ``underlying``: one of the nine, else ``other``, so that no name makes a series."""
    return underlying if underlying in _NINE else "other"
