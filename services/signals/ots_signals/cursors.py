"""How far each underlying is decided, and who decides: rows of ``signal_cursors``, in PostgreSQL.

Whoever decides about a minute holds the underlying's row locked for as long as its transaction lasts, adds what was
decided and moves the row in that transaction. So the work is split among however many threads and processes there are,
nothing is decided twice, and of who is killed nothing is left but the work, which is free again at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ots_common.database import Connection, Database
from ots_common.times import NS_PER_S, to_datetime
from ots_market.instruments import PREFERRED_DATASETS
from ots_market.timeframes import MINUTE_NS

_BEGIN = """
    INSERT INTO signal_cursors (underlying, event_ns) SELECT unnest(%s), %s ON CONFLICT DO NOTHING
"""
_STOCKS = """
    SELECT DISTINCT ON (raw_symbol) raw_symbol, instrument_id FROM instruments
    WHERE raw_symbol = ANY(%s) AND expiration IS NULL
    ORDER BY raw_symbol, array_position(%s, dataset) NULLS LAST, dataset
"""
_UNDECIDED = """
    SELECT c.underlying, c.event_ns, (extract(epoch FROM b.ts) * 1000000)::bigint * 1000, c.retry_at <= now()
    FROM signal_cursors c JOIN unnest(%s::text[], %s::integer[]) AS s (underlying, instrument_id) USING (underlying),
    LATERAL (SELECT ts FROM bars_1m WHERE instrument_id = s.instrument_id
             AND ts >= to_timestamp(c.event_ns / 1000000000.0) AND ts <= %s ORDER BY ts LIMIT 1) b
    ORDER BY b.ts, c.underlying
"""
_LEASE = """
    SELECT event_ns, attempts FROM signal_cursors
    WHERE underlying = %s AND event_ns = %s AND retry_at <= now() FOR UPDATE SKIP LOCKED
"""
_MOVE = """
    UPDATE signal_cursors SET event_ns = %s, attempts = 0, error = NULL, retry_at = '-infinity', moved_at = now()
    WHERE underlying = %s
"""
_PUT_OFF = """
    UPDATE signal_cursors SET attempts = attempts + %s, error = %s, retry_at = now() + make_interval(secs => %s)
    WHERE underlying = %s AND event_ns = %s
"""
# how far what the collector receives is stored; of a feed that has fallen silent there is nothing more to wait for, and
# one that is away for a quarter of an hour holds up nobody
_FEEDS = """
    SELECT c.wanted AND coalesce(t.state, 'stopped') NOT IN ('stopped', 'failed'),
           coalesce(t.state IN ('streaming', 'mute') AND t.last_received_at < now() - make_interval(secs => %s), false)
               OR coalesce(t.last_received_at < now() - interval '15 minutes', true),
           (SELECT max(last_ns) FROM collection_schemas s WHERE s.dataset = c.dataset)
    FROM collections c LEFT JOIN collection_states t USING (dataset)
"""


@dataclass(frozen=True)
class Due:
    """A minute bar that is closed and not decided: ``at_ns`` its close; ``cursor_ns``: up to when all is."""

    underlying: str
    cursor_ns: int
    at_ns: int


def begin(database: Database, underlyings: Sequence[str], from_ns: int) -> None:
    """A cursor for each underlying that has none."""
    database.execute(_BEGIN, (list(underlyings), from_ns))


def stocks(database: Database, underlyings: Sequence[str]) -> dict[str, int]:
    """Whose bars are read: underlying -> our id of its stock, of those that are known."""
    return dict(database.rows(_STOCKS, (list(underlyings), list(PREFERRED_DATASETS))))


def closed_until(database: Database, now_ns: int, settle_s: float) -> int:
    """Up to when all minutes are closed: each feed that is collected has told something later, or has fallen silent.

    Without a feed, as after an import, so much is closed as is ``settle_s`` ago.
    """
    settled = now_ns - int(settle_s * NS_PER_S)
    found = []
    for collecting, silent, newest_ns in database.rows(_FEEDS, (settle_s,)):
        if not collecting or newest_ns is None:
            found.append(settled)
        else:
            found.append(max(settled, newest_ns) if silent else newest_ns)
    return min(found, default=settled)


def due(database: Database, instruments: Mapping[str, int], closed_ns: int) -> list[Due]:
    """Of each underlying the oldest minute that is closed by ``closed_ns`` and not decided, the oldest first; not of
    one whose next try is later."""
    rows = _undecided(database, instruments, closed_ns)
    return [Due(underlying, cursor_ns, start_ns + MINUTE_NS) for underlying, cursor_ns, start_ns, now in rows if now]


def oldest_undecided(database: Database, instruments: Mapping[str, int], closed_ns: int) -> dict[str, int]:
    """underlying -> the close of its oldest minute that is closed by ``closed_ns`` and not decided; of those with one,
    whoever decides about it or waits."""
    rows = _undecided(database, instruments, closed_ns)
    return {underlying: start_ns + MINUTE_NS for underlying, _, start_ns, _ in rows}


def _undecided(database: Database, instruments: Mapping[str, int], closed_ns: int) -> list[Any]:
    newest_start = to_datetime(closed_ns - MINUTE_NS)
    return database.rows(_UNDECIDED, (list(instruments), list(instruments.values()), newest_start))


def lease(connection: Connection, wanted: Due) -> int | None:
    """Lock its row for this transaction; how often it was tried in vain, None when another has it or had it."""
    with connection.cursor() as cursor:
        cursor.execute(_LEASE, (wanted.underlying, wanted.cursor_ns))
        row: tuple[Any, ...] | None = cursor.fetchone()
    return None if row is None else int(row[1])


def move(connection: Connection, decided: Due) -> None:
    """It is decided, when this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVE, (decided.at_ns, decided.underlying))


def put_off(database: Database, failed: Due, error: str, wait_s: float, *, counts: bool) -> None:
    """Try it again after ``wait_s``; ``counts``: as one of the tries after which it is given up."""
    database.execute(_PUT_OFF, (int(counts), error[:500], wait_s, failed.underlying, failed.cursor_ns))


def positions(database: Database) -> dict[str, int]:
    """underlying -> up to when all is decided."""
    return dict(database.rows("SELECT underlying, event_ns FROM signal_cursors"))
