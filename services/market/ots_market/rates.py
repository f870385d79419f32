"""Interest rates: the dated curve that was known at a moment, and a rate of any length from it. Never a constant.

Between the stated lengths the logarithm of the discount factor is interpolated linearly in time from (0, 0), which
holds the forward rate flat between them (Hagan and West, "Methods for constructing a yield curve", 2008, "raw"
interpolation). Beyond the longest the last zero rate is held. Time is in years of 365 days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ots_common.database import Database
from ots_common.times import rfc3339, to_datetime

COMPOUNDINGS = ("continuous", "annual", "semiannual", "simple", "simple-360")
DAYS_A_YEAR = 365.0
# a curve is used for so long after its date: a holiday weekend and a late statement, not a forgotten one
MAX_AGE_DAYS = 10

Float64 = NDArray[np.float64]


def log_discount(days: ArrayLike, rates: ArrayLike, compounding: str) -> Float64:
    """The logarithm of the discount factor of ``rates`` (decimals a year) over ``days``, shape of both broadcast.

    ``semiannual``: bond-equivalent, as the US Treasury states its yields; ``simple``: actual/365; ``simple-360``:
    the money market's actual/360. Raises ValueError for another name; nan where no such rate can be (a rate that eats
    more than the capital).
    """
    years = np.asarray(days, np.float64) / DAYS_A_YEAR
    r = np.asarray(rates, np.float64)
    # a logarithm of what is not positive is nan, and that is the answer
    with np.errstate(invalid="ignore", divide="ignore"):
        if compounding == "continuous":
            found = -r * years
        elif compounding == "annual":
            found = -years * np.log1p(r)
        elif compounding == "semiannual":
            found = -2.0 * years * np.log1p(r / 2.0)
        elif compounding == "simple":
            found = -np.log1p(r * years)
        elif compounding == "simple-360":
            found = -np.log1p(r * years * DAYS_A_YEAR / 360.0)
        else:
            raise ValueError(f"compounding must be one of {', '.join(COMPOUNDINGS)}, not {compounding}")
    return np.where(np.isfinite(found), found, np.nan)


@dataclass(frozen=True)
class RateCurve:
    """A curve as stated. ``days`` (int64, ascending), ``rates`` and ``log_discounts`` (float64): shape (n,), n >= 1.

    ``compoundings``: what each of ``rates`` means. ``known_at_ns``: from when on the curve was public.
    """

    curve_date: date
    source: str
    known_at_ns: int
    stated_by: str
    stated_at_ns: int
    days: NDArray[np.int64]
    rates: Float64
    compoundings: tuple[str, ...]
    log_discounts: Float64

    def zero_rates(self, days: ArrayLike) -> Float64:
        """Continuously compounded zero rates (decimals a year) for ``days`` from now, shape of ``days``.

        The curve is taken to hold from the moment it is used, however old. nan where ``days`` is not positive or not
        finite.
        """
        asked = np.asarray(days, np.float64)
        good = np.isfinite(asked) & (asked > 0)
        at = np.where(good, asked, 1.0)
        knots = np.concatenate(([0.0], self.days.astype(np.float64)))
        values = np.concatenate(([0.0], self.log_discounts))
        inside = np.interp(at, knots, values)
        last = knots[-1]
        held = values[-1] / last * at
        rates = -np.where(at > last, held, inside) / at * DAYS_A_YEAR
        return np.where(good, rates, np.nan)


@dataclass(frozen=True)
class RateAnswer:
    """A curve, or None with the ``reason`` why there is none."""

    curve: RateCurve | None
    reason: str | None


def curve_known_at(
    database: Database, as_of_ns: int, *, source: str | None = None, max_age_days: int = MAX_AGE_DAYS
) -> RateAnswer:
    """The newest curve that was public at ``as_of_ns``, by its date and then by when it became public.

    None with a reason when no curve was public then, or when the newest is of a date more than ``max_age_days`` before.
    """
    rows = database.rows(
        "SELECT curve_id, curve_date FROM rate_curves"
        " WHERE known_at <= %(at)s AND (%(source)s::text IS NULL OR source = %(source)s)"
        " ORDER BY curve_date DESC, known_at DESC, curve_id DESC LIMIT 1",
        {"at": to_datetime(as_of_ns), "source": source},
    )
    of_whom = f" of {source}" if source else ""
    if not rows:
        return RateAnswer(None, f"no rate curve{of_whom} was known at {rfc3339(as_of_ns)}")
    curve_id, curve_date = rows[0]
    age = (to_datetime(as_of_ns).date() - curve_date).days
    if age > max_age_days:
        return RateAnswer(
            None,
            f"the newest rate curve{of_whom} known at {rfc3339(as_of_ns)} is of {curve_date}, {age} days before:"
            f" more than {max_age_days}",
        )
    return RateAnswer(read_curve(database, curve_id), None)


def read_curve(database: Database, curve_id: int) -> RateCurve:
    """A curve by its id. Raises LookupError."""
    rows = database.rows(
        "SELECT curve_date, source, (extract(epoch FROM known_at) * 1000000)::bigint * 1000, stated_by,"
        " (extract(epoch FROM stated_at) * 1000000)::bigint * 1000, days, rate, compounding"
        " FROM rate_curves JOIN rate_points USING (curve_id) WHERE curve_id = %s ORDER BY days",
        (curve_id,),
    )
    if not rows:
        raise LookupError(f"no rate curve has the id {curve_id}")
    days, rates, compoundings = zip(*(row[5:] for row in rows), strict=True)
    logs = [float(log_discount(*point)) for point in zip(days, rates, compoundings, strict=True)]
    curve_date, source, known_at_ns, stated_by, stated_at_ns = rows[0][:5]
    return RateCurve(
        curve_date,
        source,
        known_at_ns,
        stated_by,
        stated_at_ns,
        np.array(days, np.int64),
        np.array(rates, np.float64),
        compoundings,
        np.array(logs, np.float64),
    )
