"""Corporate actions: bars are stored as they traded and adjusted on reading, by what was known at that time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ots_common.database import Database

_NY_MIDNIGHT = "timezone('America/New_York', ex_date::timestamp)"


@dataclass(frozen=True)
class Split:
    """``numerator`` new shares for ``denominator`` old ones, from New York's midnight of ``ex_date`` (``at_ns``) on."""

    ex_date: date
    at_ns: int
    numerator: int
    denominator: int
    source: str

    def stated(self) -> dict[str, str]:
        """As answers show it."""
        return {
            "ex_date": self.ex_date.isoformat(),
            "ratio": f"{self.numerator}:{self.denominator}",
            "source": self.source,
        }


def splits_known_at(database: Database, symbol: str, as_of_ns: int) -> list[Split]:
    """The splits of ``symbol`` that were in force at ``as_of_ns``, oldest first: a later one would look ahead."""
    rows = database.rows(
        f"SELECT ex_date, extract(epoch FROM {_NY_MIDNIGHT})::bigint * 1000000000 AS at_ns,"
        " numerator, denominator, source FROM corporate_actions"
        " WHERE symbol = %s AND kind = 'split' ORDER BY ex_date",
        (symbol,),
    )
    return [split for split in (Split(*row) for row in rows) if split.at_ns <= as_of_ns]


def split_factors(splits: list[Split], starts_ns: NDArray[np.int64], *, daily: bool) -> NDArray[np.float64]:
    """What to divide each bar's price by (and multiply its volume with), shape of ``starts_ns``.

    A daily bar is stamped with its date's midnight UTC, hours before New York's: its date decides, not its time.
    """
    factors = np.ones(len(starts_ns))
    days = starts_ns // 86_400_000_000_000
    for split in splits:
        before = days < (split.ex_date - date(1970, 1, 1)).days if daily else starts_ns < split.at_ns
        factors[before] *= split.numerator / split.denominator
    return factors
