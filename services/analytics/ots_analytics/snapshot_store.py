"""Snapshots of implied volatility in PostgreSQL: written in one transaction each, and read back."""

from __future__ import annotations

from dataclasses import astuple, fields
from datetime import date, datetime
from typing import Any

import numpy as np
from psycopg2.extras import Json, execute_values

from ots_analytics.volatility import METHOD, Expiration, ExpirationContracts, Snapshot
from ots_chains.chains import Moment
from ots_common.database import Connection, Database
from ots_common.times import to_datetime
from ots_market.sessions import Sessions

# a later set of inputs replaces an earlier one; the same again touches nothing
_PUT = """
    INSERT INTO volatility_snapshots (
        underlying, ts, session_date, closing, spot, spot_at_ns, spot_kind, rate_kind, rate_detail, volatility_30d,
        volatility_30d_reason, contracts_used, contracts_refused, newest_at_ns, method, data_version)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (underlying, ts) DO UPDATE SET
        session_date = excluded.session_date, closing = excluded.closing, spot = excluded.spot,
        spot_at_ns = excluded.spot_at_ns, spot_kind = excluded.spot_kind, rate_kind = excluded.rate_kind,
        rate_detail = excluded.rate_detail, volatility_30d = excluded.volatility_30d,
        volatility_30d_reason = excluded.volatility_30d_reason, contracts_used = excluded.contracts_used,
        contracts_refused = excluded.contracts_refused, newest_at_ns = excluded.newest_at_ns,
        method = excluded.method, data_version = excluded.data_version, computed_at = now()
    WHERE volatility_snapshots.data_version <> excluded.data_version
"""
_EXPIRATION_FIELDS = tuple(field.name for field in fields(Expiration))
_PUT_EXPIRATIONS = f"INSERT INTO volatility_expirations (underlying, ts, {', '.join(_EXPIRATION_FIELDS)}) VALUES %s"
# by expiration, an array a figure
_ARRAYS = ("mid", "implied_volatility", "delta", "gamma", "theta", "vega")
_CONTRACT_COLUMNS = f"underlying, ts, expiration, instrument_ids, {', '.join(_ARRAYS)}, reason"
_PUT_CONTRACTS = f"INSERT INTO volatility_contracts ({_CONTRACT_COLUMNS}) VALUES %s"
_CONTRACTS_TEMPLATE = f"(%s, %s, %s, %s::integer[], {', '.join('%s::real[]' for _ in _ARRAYS)}, %s::text[])"
_SNAPSHOT_COLUMNS = """
    ts, session_date, closing, spot, spot_at_ns, spot_kind, rate_kind, rate_detail, volatility_30d,
    volatility_30d_reason, contracts_used, contracts_refused, newest_at_ns, method, computed_at
"""


def put_snapshot(connection: Connection, snapshot: Snapshot) -> bool:
    """Store a snapshot in a transaction; False when it is there already, of the same inputs."""
    chain, moment, rate = snapshot.chain, snapshot.chain.moment, snapshot.rate
    key = (chain.underlying, to_datetime(moment.at_ns))
    spot = astuple(chain.spot) if chain.spot else (None, None, None)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT open_volatility_chunks(%s)", (key[1],))
        cursor.execute(
            _PUT,
            (
                *key, moment.session, moment.closing, *spot, rate.kind, rate.detail, snapshot.volatility_30d,
                snapshot.volatility_30d_reason, snapshot.contracts_used, Json(snapshot.contracts_refused),
                chain.newest_ns, METHOD, snapshot.data_version,
            ),
        )  # fmt: skip
        if not cursor.rowcount:
            return False
        cursor.execute("DELETE FROM volatility_expirations WHERE underlying = %s AND ts = %s", key)
        rows = [(*key, *_adapted(one)) for one in snapshot.expirations]
        if rows:
            execute_values(cursor, _PUT_EXPIRATIONS, rows)
        cursor.execute("DELETE FROM volatility_contracts WHERE underlying = %s AND ts = %s", key)
        arrays = [(*key, *_as_arrays(one)) for one in snapshot.contracts]
        if arrays:
            execute_values(cursor, _PUT_CONTRACTS, arrays, template=_CONTRACTS_TEMPLATE)
    return True


def _adapted(one: Expiration) -> list[Any]:
    values = (getattr(one, name) for name in _EXPIRATION_FIELDS)
    return [Json(value) if isinstance(value, dict) else value for value in values]


def _as_arrays(one: ExpirationContracts) -> list[Any]:
    # a number too small for float4 is 0: PostgreSQL would refuse it
    figures = (getattr(one, name).astype(np.float32).tolist() for name in _ARRAYS)
    numbers = ([None if value != value else value for value in values] for values in figures)
    return [one.expiration, one.instrument_id.tolist(), *numbers, [reason or None for reason in one.reason.tolist()]]


def versions_at(database: Database, moment: Moment) -> dict[str, bytes]:
    """The data version of each underlying's snapshot at a moment."""
    rows = database.rows(
        "SELECT underlying, data_version FROM volatility_snapshots WHERE ts = %s", (to_datetime(moment.at_ns),)
    )
    return {underlying: bytes(version) for underlying, version in rows}


def sessions_with_quotes(database: Database, sessions: Sessions, closed_by_ns: int) -> set[int]:
    """The sessions that closed by then and on whose days quotes may be stored: those of the table's chunks."""
    rows = database.rows(
        "SELECT (extract(epoch FROM starts) * 1000000)::bigint * 1000,"
        " (extract(epoch FROM ends) * 1000000)::bigint * 1000 FROM list_chunks('quotes')"
    )
    return {index for starts, ends in rows for index in _closed(sessions, starts, ends, closed_by_ns)}


def runs_since(database: Database, sessions: Sessions, since: datetime, closed_by_ns: int) -> tuple[datetime, set[int]]:
    """(when the last run ended, the closed sessions that runs ended after ``since`` brought quotes or prices of)."""
    rows = database.rows(
        "SELECT finished_at, first_at_ns, last_at_ns FROM runs"
        " WHERE finished_at > %s AND stored + revised > 0 AND first_at_ns IS NOT NULL"
        " AND coalesce(schema, '') NOT IN ('ohlcv-1d', 'ohlcv-1h', 'definition', 'statistics')",
        (since,),
    )
    touched = {i for _, first, last in rows for i in _closed(sessions, first - 1, last + 1, closed_by_ns)}
    return max((row[0] for row in rows), default=since), touched


def _closed(sessions: Sessions, starts_ns: int, ends_ns: int, closed_by_ns: int) -> list[int]:
    indices = np.arange(len(sessions.dates))[sessions.between(starts_ns, ends_ns)]
    return [int(index) for index in indices if sessions.closes[index] <= closed_by_ns]


def newest_curve(database: Database) -> tuple[int, int]:
    """(the highest id of a rate curve, since when the earliest known of the last ten was public); zeros without one."""
    rows = database.rows(
        "SELECT curve_id, (extract(epoch FROM known_at) * 1000000)::bigint * 1000 FROM rate_curves"
        " ORDER BY curve_id DESC LIMIT 10"
    )
    return (rows[0][0], min(row[1] for row in rows)) if rows else (0, 0)


def newest_snapshots(database: Database) -> list[tuple[str, int, int, int]]:
    """(underlying, moment in ns, contracts with a volatility, contracts without) of each one's newest snapshot."""
    return database.rows(
        "SELECT name, (extract(epoch FROM newest.ts) * 1000000)::bigint * 1000,"
        " coalesce(sum(cardinality(array_positions(c.reason, NULL))), 0)::integer,"
        " coalesce(sum(cardinality(c.reason) - cardinality(array_positions(c.reason, NULL))), 0)::integer"
        " FROM unnest(%s::text[]) AS name CROSS JOIN LATERAL ("
        "  SELECT ts FROM volatility_snapshots WHERE underlying = name ORDER BY ts DESC LIMIT 1) AS newest"
        " LEFT JOIN volatility_contracts c ON c.underlying = name AND c.ts = newest.ts GROUP BY 1, 2",
        (underlyings_with_snapshots(database),),
    )


def underlyings_with_snapshots(database: Database) -> list[str]:
    """Of which any snapshot is stored."""
    # each found by one look into the index, not by reading all snapshots
    rows = database.rows(
        "WITH RECURSIVE names AS ("
        " (SELECT underlying FROM volatility_snapshots ORDER BY underlying LIMIT 1) UNION ALL"
        " SELECT (SELECT v.underlying FROM volatility_snapshots v WHERE v.underlying > n.underlying"
        " ORDER BY v.underlying LIMIT 1) FROM names n WHERE n.underlying IS NOT NULL"
        ") SELECT underlying FROM names WHERE underlying IS NOT NULL"
    )
    return [row[0] for row in rows]


def read_history(
    database: Database, underlying: str, *, since_ns: int, as_of_ns: int, closing_only: bool
) -> list[dict[str, Any]]:
    """Snapshots in (since, as_of], oldest first, each with its ``expirations``."""
    asked = {
        "underlying": underlying,
        "since": to_datetime(since_ns),
        "at": to_datetime(as_of_ns),
        "all": not closing_only,
    }
    found = database.dicts(
        f"SELECT {_SNAPSHOT_COLUMNS} FROM volatility_snapshots"
        " WHERE underlying = %(underlying)s AND ts > %(since)s AND ts <= %(at)s AND (closing OR %(all)s) ORDER BY ts",
        asked,
    )
    rows = database.dicts(
        f"SELECT ts, {', '.join(_EXPIRATION_FIELDS)} FROM volatility_expirations"
        " WHERE underlying = %(underlying)s AND ts = ANY(%(times)s) ORDER BY ts, expiration",
        {"underlying": underlying, "times": [row["ts"] for row in found]},
    )
    by_time: dict[datetime, list[dict[str, Any]]] = {row["ts"]: [] for row in found}
    for row in rows:
        by_time[row["ts"]].append(row)
    return [{**row, "expirations": by_time[row["ts"]]} for row in found]


_CONTRACT_HISTORY = f"""
    SELECT (extract(epoch FROM s.ts) * 1000000)::bigint * 1000 AS at_ns, s.session_date, s.closing, s.spot,
           s.newest_at_ns, s.method, p IS NOT NULL AS quoted, c.reason[p] AS reason,
           {", ".join(f"c.{name}[p] AS {name}" for name in _ARRAYS)}
    FROM volatility_snapshots s
    LEFT JOIN volatility_contracts c ON c.underlying = s.underlying AND c.ts = s.ts AND c.expiration = %(expiration)s
        AND c.ts > %(since)s AND c.ts <= %(at)s
    CROSS JOIN LATERAL array_position(c.instrument_ids, %(instrument_id)s) p
    WHERE s.underlying = %(underlying)s AND s.ts > %(since)s AND s.ts <= %(at)s AND s.session_date <= %(expiration)s
      AND (s.closing OR %(all)s)
    ORDER BY s.ts
"""


def read_contract_history(
    database: Database,
    underlying: str,
    instrument_id: int,
    expiration: date,
    *,
    since_ns: int,
    as_of_ns: int,
    closing_only: bool,
) -> list[dict[str, Any]]:
    """One contract in the snapshots of (since, as_of], oldest first, to the session of its expiration.

    ``quoted`` False: it is not among a snapshot's contracts, and its figures are None.
    """
    return database.dicts(
        _CONTRACT_HISTORY,
        {
            "underlying": underlying,
            "instrument_id": instrument_id,
            "expiration": expiration,
            "since": to_datetime(since_ns),
            "at": to_datetime(as_of_ns),
            "all": not closing_only,
        },
    )
