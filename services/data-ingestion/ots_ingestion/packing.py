"""Packs the minute bars of months and days that are over, for those who read a year of them at once.

See :mod:`ots_market.packed_bars`. Nothing depends on it but speed: it may be late, or never come.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg2
import psycopg2.extras
from numpy.typing import NDArray

from ots_common.copy_binary import copy_out
from ots_common.database import Connection
from ots_market.packed_bars import BAR_COLUMNS, LAYOUT, count_moments, pack

# a batch: what is in memory and in one transaction
_MOST_INSTRUMENTS = 16
_PACKING_LOCK = 0x4F5450

# Months that are over, and of the one that is not the days that are; only where something was stored since it is noted.
# Options have few bars, and are many. What has just changed is likely to change again.
_DUE = """
    WITH stretches AS MATERIALIZED (
        SELECT span, starts, starts + ('1 ' || span)::interval AS ends, minutes_version(span, starts) AS version
        FROM stored_changes WHERE table_name IN ('bars_1m', 'trades')
          AND ((span = 'month' AND starts < date_trunc('month', %(now)s))
               OR (span = 'day' AND starts >= date_trunc('month', %(now)s) AND starts < date_trunc('day', %(now)s)))
        GROUP BY span, starts
        HAVING max(changed_us) <= extract(epoch FROM now() - %(settled)s * interval '1 second') * 1000000
    )
    SELECT s.span, s.starts, s.ends, s.version, array_agg(i.instrument_id ORDER BY i.instrument_id)
    FROM stretches s CROSS JOIN instruments i LEFT JOIN packed_bars p USING (instrument_id, starts, span)
    WHERE i.expiration IS NULL AND (p.version, p.layout) IS DISTINCT FROM (s.version, %(layout)s)
    GROUP BY s.span, s.starts, s.ends, s.version ORDER BY s.starts DESC LIMIT 1
"""
_ROWS = (
    "SELECT instrument_id, {columns} FROM bars_1m"
    " WHERE instrument_id = ANY(%(ids)s) AND ts >= %(starts)s AND ts < %(ends)s"
    " ORDER BY instrument_id, ts, publisher_id"
)
_PUT = (
    "INSERT INTO packed_bars (instrument_id, starts, span, ends, version, layout, rows, moments, packed) VALUES %s"
    " ON CONFLICT (instrument_id, starts, span) DO UPDATE SET ends = excluded.ends, version = excluded.version,"
    " layout = excluded.layout, rows = excluded.rows, moments = excluded.moments, packed = excluded.packed"
)
_DROP_DAYS = (
    "DELETE FROM packed_bars WHERE instrument_id = ANY(%(ids)s) AND span = 'day'"
    " AND starts >= %(starts)s AND starts < %(ends)s"
)


@dataclass(frozen=True)
class Packed:
    """What one call packed."""

    span: str
    starts: datetime
    instruments: int
    rows: int

    def __str__(self) -> str:
        of = f"the {self.span} from {self.starts:%Y-%m-%d}"
        return f"bars_1m: packed {of}, {self.rows} rows of {self.instruments} instruments"


def pack_next(connection: Connection, *, now: datetime, settled_s: float) -> Packed | None:
    """Pack some instruments' bars of the newest stretch that is due, in one transaction; None when nothing is.

    ``now``: what began before the day and month of it, UTC, is over. ``settled_s``: leave alone what changed less than
    so long ago. Raises what the database raises.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, 0)", (_PACKING_LOCK,))
        if cursor.fetchone() != (True,):
            return None  # somebody else is at it
        # the version before the rows: whatever is stored meanwhile makes the pack one of a version that is over
        cursor.execute(_DUE, {"now": now, "settled": settled_s, "layout": LAYOUT})
        due = cursor.fetchone()
        if due is None:
            return None
        span, starts, ends, version, instruments = due
        stretch = {"ids": instruments[:_MOST_INSTRUMENTS], "starts": starts, "ends": ends}
        columns = ", ".join(name for name, _ in BAR_COLUMNS)
        query = cursor.mogrify(_ROWS.format(columns=columns), stretch).decode()
        rows = copy_out(connection, query, (("instrument_id", "int4"), *BAR_COLUMNS))
        psycopg2.extras.execute_values(
            cursor,
            _PUT,
            [
                (instrument, starts, span, ends, version, LAYOUT, len(own), count_moments(own["ts"]), _packed(own))
                for instrument, own in ((one, _rows_of(rows, one)) for one in stretch["ids"])
            ],
        )
        if span == "month":
            cursor.execute(_DROP_DAYS, stretch)
        return Packed(span, starts, len(stretch["ids"]), len(rows))


def _rows_of(rows: NDArray[Any], instrument: int) -> NDArray[Any]:
    first, last = np.searchsorted(rows["instrument_id"], (instrument, instrument + 1))
    return rows[first:last]


def _packed(rows: NDArray[Any]) -> psycopg2.Binary:
    return psycopg2.Binary(pack({name: rows[name] for name, _ in BAR_COLUMNS}))
