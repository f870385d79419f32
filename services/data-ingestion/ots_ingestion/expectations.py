"""Who should have had records and had none: silence that no disconnect explains, found by the session calendar.

What is collected is looked at in stretches of a session (EXPECTED_STRETCH_MINUTES, from its open). A symbol of which a
stretch has nothing at all is missing something when both are true:
  - its neighbours (the other symbols of that collection and schema) have: two at least, and half of them;
  - it usually has something itself: in nine of ten of its last eight stretches, four at least, that are not in the gap
    ledger already.
So a holiday and the afternoon of a half day, which are in no session, raise nothing, a feed that is wholly silent is
the watchdog's business, and a thinly traded contract is not expected to trade: of options it is the parent that is
expected, all contracts together.

The gap is closed by itself when its records come after all (replay, backfill), or when history has nothing either
(``session``: nothing was missing; that stretch then counts as an empty one of that symbol).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.times import rfc3339, to_datetime
from ots_ingestion.collection import Collection, collections
from ots_ingestion.gaps import close_gap, gaps_page, open_gap, open_gaps
from ots_ingestion.layouts import SCHEMA_IDS
from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS

log = structlog.get_logger(__name__)

Present = NDArray[np.bool_]

# how far back a look reaches, in stretches
_STRETCHES = 32
# what is on its way is not missing
_GRACE_NS = 5 * MINUTE_NS
_PARENT = ".OPT"

# schemas in which a liquid symbol has something in every stretch, and where their rows are. Definitions, statistics and
# bars of an hour or a day come when they come
_TABLES = {
    "trades": "trades",
    "ohlcv-1m": "bars_1m",
    **dict.fromkeys(("mbp-1", "tbbo", "tcbbo", "cmbp-1", "cbbo-1s", "cbbo-1m", "bbo-1s", "bbo-1m"), "quotes"),
}
_SAMPLED = ("cbbo-1s", "cbbo-1m", "bbo-1s", "bbo-1m")


@dataclass(frozen=True)
class Rule:
    """When silence is suspect; counts are of stretches and of symbols."""

    reference: int = 8
    least_reference: int = 4
    usual_share: float = 0.9
    neighbours: int = 2
    neighbour_share: float = 0.5


def find_silent(present: Present, in_ledger: Present, empty: Present, rule: Rule = Rule()) -> Present:
    """Which stretches are suspect, shape (symbols, stretches) as all arguments; stretches in order of time.

    ``in_ledger``: what a gap explains already; it is neither suspect nor a reference. ``empty``: where history had
    nothing either; not suspect again, and an empty one of its symbol.
    """
    silent = np.zeros_like(present)
    symbols, stretches = present.shape
    for s in range(symbols):
        history: list[bool] = []
        others = np.delete(present, s, axis=0)
        for t in range(stretches):
            if in_ledger[s, t] and not present[s, t]:
                continue
            if not present[s, t] and not empty[s, t] and _usual(history, rule) and _neighbours_have(others[:, t], rule):
                silent[s, t] = True
                continue
            history.append(bool(present[s, t]))
    return silent


def _usual(history: Sequence[bool], rule: Rule) -> bool:
    last = history[-rule.reference :]
    return len(last) >= rule.least_reference and sum(last) >= rule.usual_share * len(last)


def _neighbours_have(others: NDArray[np.bool_], rule: Rule) -> bool:
    having = int(others.sum())
    return having >= rule.neighbours and having >= rule.neighbour_share * len(others)


def stretches_before(
    sessions: Sessions, start_ns: int, end_ns: int, length_ns: int, most: int = _STRETCHES
) -> NDArray[np.int64]:
    """The last whole stretches of sessions in [start, end), shape (m, 2): start and end, m <= ``most``.

    A session's last stretch ends at its close, and is left out when it is shorter than half of the others.
    """
    found: list[tuple[int, int]] = []
    which = sessions.between(start_ns, end_ns)
    for opens, closes in zip(sessions.opens[which][::-1].tolist(), sessions.closes[which][::-1].tolist(), strict=True):
        borders = [*range(opens, closes, length_ns), closes]
        mine = [
            (a, b) for a, b in itertools.pairwise(borders) if a >= start_ns and b <= end_ns and b - a >= length_ns // 2
        ]
        found = mine + found
        if len(found) >= most:
            break
    return np.array(found[-most:], np.int64).reshape(-1, 2)


def look(cursor: Cursor, sessions: Sessions, now_ns: int, stretch_minutes: int) -> tuple[int, int]:
    """One look at all that is wanted, in the caller's transaction: how many gaps it opened, and how many it closed.

    Idempotent. ``now_ns`` is our clock; a collection that replays a tape is looked at by the tape's.
    """
    opened = 0
    for collection in collections(cursor):
        if collection.wanted:
            opened += _look_at(cursor, collection, sessions, now_ns, stretch_minutes * MINUTE_NS)
    return opened, _close_what_came(cursor)


def _look_at(cursor: Cursor, collection: Collection, sessions: Sessions, now_ns: int, length_ns: int) -> int:
    cursor.execute("SELECT clock_offset_ns FROM collection_states WHERE dataset = %s", (collection.dataset,))
    offset = int((cursor.fetchone() or (0,))[0])
    begun = collection.requested_ns + offset
    stretches = stretches_before(sessions, begun, now_ns + offset - _GRACE_NS, length_ns)
    if not len(stretches) or len(collection.symbols) <= 1:
        return 0
    opened = 0
    for schema in collection.schemas:
        if schema in _TABLES:
            opened += _look_at_schema(cursor, collection, schema, stretches)
    return opened


def _look_at_schema(cursor: Cursor, collection: Collection, schema: str, stretches: NDArray[np.int64]) -> int:
    symbols = sorted(collection.symbols)
    present = _presence(cursor, collection.dataset, schema, symbols, stretches)
    if present.all() or not present.any():
        return 0
    silent = find_silent(present, *_ledger(cursor, collection.dataset, schema, symbols, stretches))
    for s, t in np.argwhere(silent):
        start, end = stretches[t].tolist()
        neighbours = int(present[:, t].sum())
        open_gap(
            cursor,
            dataset=collection.dataset,
            schema=schema,
            symbol=symbols[s],
            starts_ns=start,
            ends_ns=end,
            evidence="session",
            detail=f"no {schema} of {symbols[s]} from {rfc3339(start)} to {rfc3339(end)}, though it usually has some,"
            f" and {neighbours} of its {len(symbols) - 1} neighbours had",
        )
        log.warning("silent_symbol", dataset=collection.dataset, schema=schema, symbol=symbols[s], start=rfc3339(start))
    return int(silent.sum())


def _window(schema: str, starts: NDArray[np.int64]) -> list[int]:
    # a sample is of the interval before its time
    return [int(t) for t in (starts + 1000 if schema in _SAMPLED else starts)]


def _rows_of(schema: str) -> str:
    """The rows of an instrument ``i`` of the stretch ``k``."""
    table = _TABLES[schema]
    condition = {
        "trades": "",
        "bars_1m": " AND r.origin = 'v'",
        "quotes": f" AND r.schema_id = {SCHEMA_IDS[schema]}",
    }[table]
    return f"FROM {table} r WHERE r.instrument_id = i.instrument_id AND r.ts >= k.starts AND r.ts < k.ends{condition}"


# a ticker is an instrument; a parent, all contracts of its underlying that live
_INSTRUMENTS = """instruments i WHERE i.dataset = %(dataset)s AND CASE WHEN k.symbol LIKE '%%.OPT'
    THEN i.underlying = left(k.symbol, -4) AND i.expiration >= (k.starts AT TIME ZONE 'UTC')::date
    ELSE i.raw_symbol = k.symbol AND i.expiration IS NULL END"""


def _presence(
    cursor: Cursor, dataset: str, schema: str, symbols: Sequence[str], stretches: NDArray[np.int64]
) -> Present:
    cursor.execute(
        f"""
        SELECT k.s, k.t, EXISTS (
            SELECT FROM (SELECT i.instrument_id FROM {_INSTRUMENTS}) AS i
            CROSS JOIN LATERAL (SELECT {_rows_of(schema)} LIMIT 1) AS found
        )
        FROM (
            SELECT symbol, s, starts, ends, t FROM unnest(%(symbols)s::text[]) WITH ORDINALITY AS a (symbol, s)
            CROSS JOIN unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY AS b (starts, ends, t)
        ) AS k
        """,
        {
            "dataset": dataset,
            "symbols": list(symbols),
            "starts": [to_datetime(t) for t in _window(schema, stretches[:, 0])],
            "ends": [to_datetime(t) for t in _window(schema, stretches[:, 1])],
        },
    )
    present = np.zeros((len(symbols), len(stretches)), bool)
    for s, t, there in cursor.fetchall():
        present[s - 1, t - 1] = there
    return present


def _ledger(
    cursor: Cursor, dataset: str, schema: str, symbols: Sequence[str], stretches: NDArray[np.int64]
) -> tuple[Present, Present]:
    """What the ledger explains (any gap of the symbol or of all), and where it says that nothing was missing."""
    explained = np.zeros((len(symbols), len(stretches)), bool)
    empty = np.zeros_like(explained)
    gaps = gaps_page(
        cursor,
        dataset=dataset,
        schema=schema,
        symbols=list(symbols),
        state="all",
        start_ns=int(stretches[0, 0]),
        end_ns=int(stretches[-1, 1]),
        after=None,
        limit=100_000,
    )
    for gap in gaps:
        end = stretches[-1, 1] if gap.ends_ns is None else gap.ends_ns
        overlapping = (stretches[:, 0] < end) & (stretches[:, 1] > gap.starts_ns)
        rows = slice(None) if gap.symbol is None else symbols.index(gap.symbol)
        (empty if gap.closed_by == "session" else explained)[rows, overlapping] = True
    return explained, empty


def _close_what_came(cursor: Cursor) -> int:
    closed = 0
    for gap in open_gaps(cursor):
        if gap.evidence != "session" or gap.ends_ns is None or gap.symbol is None or gap.schema not in _TABLES:
            continue
        starts = np.array([gap.starts_ns, gap.ends_ns])
        start, end = (to_datetime(t) for t in _window(gap.schema, starts))
        cursor.execute(
            f"""
            SELECT count(*) FROM (SELECT %(symbol)s::text AS symbol, %(start)s::timestamptz AS starts,
                    %(end)s::timestamptz AS ends) AS k
            CROSS JOIN LATERAL (SELECT i.instrument_id FROM {_INSTRUMENTS}) AS i
            CROSS JOIN LATERAL (SELECT {_rows_of(gap.schema)}) AS found
            """,
            {"dataset": gap.dataset, "symbol": gap.symbol, "start": start, "end": end},
        )
        found = int((cursor.fetchone() or (0,))[0])
        if found:
            close_gap(cursor, gap.gap_id, closed_by="replay", found=found)
            closed += 1
    return closed
