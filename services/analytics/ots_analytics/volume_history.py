"""What options of an underlying traded by this time of day, in this session and in those before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_chains.chains import Moment
from ots_common.copy_binary import copy_out
from ots_common.database import Connection, Database
from ots_common.times import to_datetime
from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, MINUTE_NS

Ints = NDArray[np.int64]

_TCBBO = 17  # Databento's number of the schema that has the consolidated quote before each trade
_TRADE_SCHEMAS = ["trades", "ohlcv-1m"]  # what minute bars come from
# a session each: with its bounds written out, only its own partition is read
_SESSION = """
    SELECT %(position)s AS position, b.instrument_id, sum(b.volume)::bigint AS volume
    FROM bars_1m b JOIN instruments i USING (instrument_id)
    WHERE i.underlying = %(underlying)s AND i.expiration >= %(session)s
      AND left(i.raw_symbol, 6) = rpad(i.underlying, 6) AND b.ts >= %(opened)s AND b.ts < %(until)s
    GROUP BY b.instrument_id
"""
# of a session in whose minutes in question nothing traded: whether anything of it is stored
_STORED = """
    SELECT %(position)s::int WHERE EXISTS (
        SELECT FROM instruments i JOIN bars_1m b USING (instrument_id)
        WHERE i.underlying = %(underlying)s AND i.expiration >= %(session)s
          AND left(i.raw_symbol, 6) = rpad(i.underlying, 6) AND b.ts >= %(opened)s AND b.ts < %(closed)s
    )
"""
_COLUMNS = (("position", "int4"), ("instrument_id", "int4"), ("volume", "int8"))
_GAPS = """
    SELECT starts_ns, coalesce(ends_ns, 9223372036854775807) FROM gaps
    WHERE closed_at IS NULL AND schema = ANY(%(schemas)s) AND starts_ns < %(until)s
      AND (ends_ns IS NULL OR ends_ns > %(since)s) AND (symbol IS NULL OR symbol = ANY(%(symbols)s))
      AND dataset IN (SELECT DISTINCT dataset FROM instruments WHERE underlying = %(underlying)s
                      AND expiration IS NOT NULL)
"""
# what speaks for a contract's being there: its definition, or a count of its open contracts
_LISTED = """
    SELECT instrument_id, (extract(epoch FROM min(ts)) * 1000000)::bigint * 1000 FROM (
        SELECT instrument_id, min(ts) AS ts FROM definitions
        WHERE instrument_id = ANY(%(ids)s) AND ts >= %(since)s AND ts <= %(until)s GROUP BY 1
        UNION ALL
        SELECT instrument_id, min(ts) FROM statistics
        WHERE instrument_id = ANY(%(ids)s) AND ts >= %(since)s AND ts <= %(until)s GROUP BY 1
    ) known GROUP BY 1
"""
# locked, crossed and one-sided quotes tell no side
_SIDES = """
    SELECT instrument_id,
        coalesce(sum(size) FILTER (WHERE price >= ask), 0)::bigint,
        coalesce(sum(size) FILTER (WHERE price <= bid), 0)::bigint,
        coalesce(sum(size) FILTER (WHERE price > bid AND price < ask), 0)::bigint
    FROM quotes
    WHERE instrument_id = ANY(%(ids)s) AND schema_id = %(schema)s AND ts >= %(opened)s AND ts < %(until)s
      AND price IS NOT NULL AND bid IS NOT NULL AND ask > bid
    GROUP BY instrument_id
"""


@dataclass(frozen=True)
class VolumesByTimeOfDay:
    """Contracts traded from a session's open until as long after it as ``until_ns`` is after this session's.

    ``today``: shape (contracts,); ``before``: (sessions, contracts), the newest session first, -1 where the contract
    was not known to be listed; ``all_before``: (sessions,), of all contracts that there were then. ``dates``: of those
    sessions, datetime64[D]. Sessions that cannot be compared are not among them, and ``left_out`` counts them by why.
    """

    until_ns: int
    today: Ints
    today_all: int
    before: Ints
    all_before: Ints
    dates: NDArray[np.datetime64]
    left_out: dict[str, int]
    gaps_today: int


@dataclass(frozen=True)
class Sides:
    """Contracts traded at the ask or above, at the bid or below, and between, by the quote before each trade."""

    at_ask: Ints
    at_bid: Ints
    between: Ints


def read_volumes_by_time_of_day(
    database: Database, sessions: Sessions, underlying: str, moment: Moment, instrument_ids: Ints, most_sessions: int
) -> VolumesByTimeOfDay:
    """This session's volumes and those of at most ``most_sessions`` before, in whole minutes.

    A session before counts when trades of it are stored, none of its minutes in question lies in an open gap, and
    something was stored of an earlier one: else collection may have begun in the middle of it.
    """
    until_ns = moment.opens_ns + (moment.at_ns - moment.opens_ns) // MINUTE_NS * MINUTE_NS
    elapsed = until_ns - moment.opens_ns
    index = int(np.searchsorted(sessions.dates, np.datetime64(moment.session, "D")))
    # one more than asked for, as evidence only
    chosen = np.arange(index, max(-1, index - most_sessions - 2), -1)
    opens, closes = sessions.opens[chosen], sessions.closes[chosen]
    lasted = closes - opens >= elapsed
    dates = sessions.dates[chosen]
    with database.connection() as connection:
        rows = _read_sessions(connection, underlying, dates, opens, elapsed)
        stored = np.bincount(rows["position"], minlength=len(chosen)) > 0
        quiet = np.flatnonzero(~stored[1:]) + 1
        stored[_read_stored(connection, underlying, quiet, dates[quiet], opens[quiet], closes[quiet])] = True
    gaps = _read_gaps(database, underlying, int(opens[-1]), until_ns)
    totals = np.bincount(rows["position"], rows["volume"], len(chosen)).astype(np.int64)
    in_gap = np.array([any(s < o + elapsed and e > o for s, e in gaps) for o in opens.tolist()], bool)
    earlier = np.append(np.logical_or.accumulate(stored[::-1])[::-1][1:], False)
    why = np.select(
        [~lasted, ~stored, in_gap, ~earlier], ["shorter_session", "nothing_stored", "open_gap", "first_stored"], ""
    )
    before = np.arange(1, min(len(chosen), most_sessions + 1))
    usable = before[why[before] == ""]
    volumes = _by_contract(rows, usable, instrument_ids)
    listed_ns = _read_listed(database, instrument_ids, rows, opens, until_ns)
    known = listed_ns[None, :] < closes[usable][:, None]
    reasons, counts = np.unique(why[before][why[before] != ""], return_counts=True)
    return VolumesByTimeOfDay(
        until_ns=until_ns,
        today=_by_contract(rows, np.array([0]), instrument_ids)[0],
        today_all=int(totals[0]),
        before=np.where(known, volumes, -1),
        all_before=totals[usable],
        dates=dates[usable],
        left_out=dict(zip(reasons.tolist(), counts.tolist(), strict=True)),
        gaps_today=sum(s < until_ns and e > moment.opens_ns for s, e in gaps),
    )


def read_sides(database: Database, moment: Moment, instrument_ids: Ints, until_ns: int) -> Sides:
    """Where this session's trades of some contracts lay in the quotes before them; of others nothing is known."""
    rows = database.rows(
        _SIDES,
        {
            "ids": instrument_ids.tolist(),
            "schema": _TCBBO,
            "opened": to_datetime(moment.opens_ns),
            "until": to_datetime(until_ns),
        },
    )
    by_id = {row[0]: row[1:] for row in rows}
    table = np.array([by_id.get(i, (0, 0, 0)) for i in instrument_ids.tolist()], np.int64).reshape(-1, 3)
    return Sides(*table.T)


def _read_sessions(
    connection: Connection, underlying: str, dates: NDArray[np.datetime64], opens: Ints, elapsed: int
) -> NDArray[Any]:
    """A row a session (by its position) and contract that traded."""
    asked = [
        {
            "position": position,
            "underlying": underlying,
            "session": day.astype(object),
            "opened": to_datetime(opened),
            "until": to_datetime(opened + elapsed),
        }
        for position, (day, opened) in enumerate(zip(dates, opens.tolist(), strict=True))
    ]
    return copy_out(connection, _each(connection, _SESSION, asked), _COLUMNS)


def _read_stored(
    connection: Connection,
    underlying: str,
    positions: Ints,
    dates: NDArray[np.datetime64],
    opens: Ints,
    closes: Ints,
) -> list[int]:
    """The positions of the sessions of which a bar of the underlying's options is stored."""
    if not len(positions):
        return []
    asked = [
        {
            "position": position,
            "underlying": underlying,
            "session": day.astype(object),
            "opened": to_datetime(opened),
            "closed": to_datetime(closed),
        }
        for position, day, opened, closed in zip(
            positions.tolist(), dates, opens.tolist(), closes.tolist(), strict=True
        )
    ]
    with connection.cursor() as cursor:
        cursor.execute(_each(connection, _STORED, asked))
        return [row[0] for row in cursor.fetchall()]


def _each(connection: Connection, sql: str, asked: list[dict[str, Any]]) -> str:
    """One query of the same for each of ``asked``."""
    with connection.cursor() as cursor:
        return " UNION ALL ".join(cursor.mogrify(sql, one).decode() for one in asked)


def _read_gaps(database: Database, underlying: str, since_ns: int, until_ns: int) -> list[tuple[int, int]]:
    """Open gaps of trades of the options, as [start, end)."""
    asked = {
        "schemas": _TRADE_SCHEMAS,
        "since": since_ns,
        "until": until_ns,
        "symbols": [underlying, f"{underlying}.OPT"],
        "underlying": underlying,
    }
    return [(row[0], row[1]) for row in database.rows(_GAPS, asked)]


def _by_contract(rows: NDArray[Any], positions: Ints, instrument_ids: Ints) -> Ints:
    """Volumes of chosen sessions: shape (positions, contracts), zero where nothing traded."""
    order = np.argsort(instrument_ids)
    column = np.searchsorted(instrument_ids, rows["instrument_id"], sorter=order)
    column = order[np.minimum(column, max(0, len(order) - 1))] if len(order) else column
    found = np.zeros((len(positions), len(instrument_ids)), np.int64)
    for row, position in enumerate(positions.tolist()):
        own = (rows["position"] == position) & (instrument_ids[column] == rows["instrument_id"])
        found[row, column[own]] = rows["volume"][own]
    return found


def _read_listed(database: Database, instrument_ids: Ints, rows: NDArray[Any], opens: Ints, until_ns: int) -> Ints:
    """Since when each contract is known to have been listed, as far as the sessions reach: it traded, or was named."""
    asked = {
        "ids": instrument_ids.tolist(),
        "since": to_datetime(int(opens[-1]) - DAY_NS),
        "until": to_datetime(until_ns),
    }
    listed = dict(database.rows(_LISTED, asked))
    for position, instrument_id in zip(rows["position"].tolist(), rows["instrument_id"].tolist(), strict=True):
        listed[instrument_id] = min(listed.get(instrument_id, until_ns), int(opens[position]))
    return np.array([listed.get(i, until_ns) for i in instrument_ids.tolist()], np.int64)
