"""The lengths of bars, and the moment from which a bar was known."""

from __future__ import annotations

from enum import StrEnum

MINUTE_NS = 60_000_000_000
DAY_NS = 86_400_000_000_000


class Timeframe(StrEnum):
    """Bars are stamped with the start of their interval; intervals are aligned to UTC."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    D1 = "1d"

    @property
    def nanoseconds(self) -> int:
        """The length of the interval."""
        return _LENGTH[self]


_LENGTH = {
    Timeframe.M1: MINUTE_NS,
    Timeframe.M5: 5 * MINUTE_NS,
    Timeframe.M15: 15 * MINUTE_NS,
    Timeframe.H1: 60 * MINUTE_NS,
    Timeframe.D1: DAY_NS,
}
