"""What answers that are tables of a chain share: the parameters that choose rows and columns."""

from __future__ import annotations

import math

from pydantic import Field

from ots_analytics.calendar_dates import CalendarDate
from ots_analytics.chain_queries import AsOfQuery
from ots_common.problems import invalid

_MOST_DAYS, _MOST_MATURITIES = 3650, 50


class TableQuery(AsOfQuery):
    """The moment, and the columns."""

    fields: str | None = Field(
        None, max_length=2000, description="Columns of the table, comma-separated, in that order; default all."
    )


class ExpirationQuery(TableQuery):
    """The moment, the expiration, and the columns."""

    expiration: CalendarDate | None = Field(None, description="Only this expiration.")


def parse_maturities(text: str) -> list[float]:
    """``7,30,90``: calendar days from the moment, as given, each once. Raises a 422 problem that says what is wrong."""
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not 0 < len(parts) <= _MOST_MATURITIES:
        raise invalid("#/query/days", f"name 1 to {_MOST_MATURITIES} numbers of days, such as 7,30,90")
    return [_days(part) for part in parts]


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 < days <= _MOST_DAYS:  # NaN compares false, which is what is meant
        raise invalid("#/query/days", f"{text[:20]!r} is no number of days above 0 and up to {_MOST_DAYS}")
    return days
