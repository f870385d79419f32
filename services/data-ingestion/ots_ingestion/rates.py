"""Stating interest rate curves: dated, with their source; a revision never overwrites what was said before."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

_NEW_YORK = ZoneInfo("America/New_York")
_TENOR = re.compile(r"^(\d{1,3})([DWMY])$")
MAX_DAYS = 50 * 366


@dataclass(frozen=True)
class Point:
    """A rate (decimal a year) over ``days`` calendar days from the curve's date."""

    days: int
    rate: float
    compounding: str


def tenor_days(tenor: str, curve_date: date) -> int:
    """Calendar days from ``curve_date`` to the end of ``tenor``: 1D, 2W, 3M, 10Y. Raises ValueError.

    Months and years end on the same day of the month, or on the month's last.
    """
    match = _TENOR.match(tenor.upper())
    if match is None or int(match[1]) == 0:
        raise ValueError("expected a tenor such as 1D, 2W, 3M or 10Y")
    number, unit = int(match[1]), match[2]
    if unit in "DW":
        days = number * (7 if unit == "W" else 1)
    else:
        months = curve_date.year * 12 + curve_date.month - 1 + number * (12 if unit == "Y" else 1)
        year, month = divmod(months, 12)
        if year > date.max.year:
            raise ValueError("that tenor ends after the year 9999")
        end = date(year, month + 1, min(curve_date.day, monthrange(year, month + 1)[1]))
        days = (end - curve_date).days
    if days > MAX_DAYS:
        raise ValueError("a tenor is fifty years at most")
    return days


def public_from(curve_date: date, *, revision: bool, now: datetime) -> datetime:
    """From when on a curve counts as known when whoever states it does not say.

    A first statement: the end of its date in New York, or now when that is earlier, so that a history stated today can
    be used as of its own days without looking ahead. A revision: now, for it was not known before.
    """
    if revision:
        return now
    end_of_date = datetime.combine(curve_date + timedelta(days=1), time(), _NEW_YORK).astimezone(UTC)
    return min(now, end_of_date)


def state_curve(
    cursor: Cursor, *, curve_date: date, source: str, points: Sequence[Point], known_at: datetime | None, stated_by: str
) -> int:
    """Add a curve in the caller's transaction; its id. ``points`` must have distinct days."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('rates ' || %s || %s))", (source, str(curve_date)))
    cursor.execute(
        "SELECT EXISTS (SELECT FROM rate_curves WHERE curve_date = %s AND source = %s), now()", (curve_date, source)
    )
    revision, now = cursor.fetchone() or (False, datetime.now(UTC))
    cursor.execute(
        "INSERT INTO rate_curves (curve_date, source, known_at, stated_by) VALUES (%s, %s, %s, %s) RETURNING curve_id",
        (curve_date, source, known_at or public_from(curve_date, revision=revision, now=now), stated_by),
    )
    curve_id = int((cursor.fetchone() or (0,))[0])
    execute_values(
        cursor,
        "INSERT INTO rate_points (curve_id, days, rate, compounding) VALUES %s",
        [(curve_id, point.days, point.rate, point.compounding) for point in points],
    )
    return curve_id
