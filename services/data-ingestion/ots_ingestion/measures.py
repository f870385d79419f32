"""What is measured of the database and the spool, as gauges: by asking, whatever process stored it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.times import to_datetime
from ots_ingestion import metrics, self_check
from ots_ingestion.spool import PARTIAL
from ots_market.sessions import Sessions
from ots_market.timeframes import MINUTE_NS
from ots_market.underlyings import UNDERLYINGS, counted_as

# how long after its end a minute's bar can be expected to be there
_BAR_SETTLED_NS = MINUTE_NS
_PART_STATES = {"downloading": "running", "storing": "running"}
_RUN_STATES = {"queued": "waiting", "running": "storing"}


def measure_watermarks(cursor: Cursor) -> None:
    """The newest event stored of each dataset and underlying."""
    cursor.execute(
        "SELECT i.dataset, i.underlying, extract(epoch FROM max(l.ts))::float8 FROM"
        " (SELECT instrument_id, ts FROM quote_latest UNION ALL SELECT instrument_id, ts FROM price_latest) AS l"
        " JOIN instruments i USING (instrument_id) GROUP BY 1, 2"
    )
    newest: dict[tuple[str, ...], float] = {}
    for dataset, underlying, at in cursor.fetchall():
        key = metrics.dataset_label(dataset), counted_as(underlying)
        newest[key] = max(at, newest.get(key, at))
    metrics.show(metrics.WATERMARK, newest)


def measure_backfills(cursor: Cursor) -> None:
    """Where the parts of backfills stand."""
    cursor.execute("SELECT status, count(*) FROM backfill_parts GROUP BY 1")
    states: Counter[tuple[str, ...]] = Counter(
        {(state,): 0 for state in ("waiting", "running", "done", "failed", "cancelled")}
    )
    for status, number in cursor.fetchall():
        states[(_PART_STATES.get(status, status),)] += number
    metrics.show(metrics.BACKFILL_STATE, states)


def measure_spool(cursor: Cursor, folder: Path) -> None:
    """What lies in the spool of imports."""
    sizes: dict[str, int] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            if path.is_file():
                sizes[path.name] = path.stat().st_size
        except FileNotFoundError:
            continue  # stored and removed while we look
    cursor.execute("SELECT spool_file, status FROM runs WHERE spool_file = ANY(%s)", (list(sizes),))
    statuses = dict(cursor.fetchall())
    files: Counter[tuple[str, ...]] = Counter({(state,): 0 for state in ("uploading", "waiting", "storing", "kept")})
    for name in sizes:
        status = statuses.get(name)
        if status is None:
            # not a run yet: still coming in, or about to become one
            state = "uploading" if name.endswith(PARTIAL) else "waiting"
        else:
            state = _RUN_STATES.get(status, "kept")
        files[(state,)] += 1
    metrics.show(metrics.SPOOL_FILES, files)
    metrics.SPOOL_BYTES.set(sum(sizes.values()))


def measure_self_checks(cursor: Cursor) -> None:
    """What the last self-check found, whichever process made it."""
    last = self_check.checks_page(cursor, before=None, limit=1)
    if not last:
        return
    metrics.SELFCHECK_LAST.set(last[0].finished_at.timestamp())
    cursor.execute("SELECT DISTINCT dataset, schema FROM stored_rows WHERE dataset <> ''")
    known = [(_labels(*row), 0) for row in cursor.fetchall()]
    rows = [(_labels(one.dataset, one.schema), one.rows) for one in last[0].schemas]
    differences = [(_labels(one.dataset, one.schema), one.difference) for one in last[0].schemas]
    metrics.show(metrics.SELFCHECK_CHECKED, _summed(known + rows))
    metrics.show(metrics.SELFCHECK_DIFFERENCE, _summed(known + differences))


def _labels(dataset: str, schema: str) -> tuple[str, ...]:
    return metrics.dataset_label(dataset), metrics.schema_label(schema)


def _summed(counts: Iterable[tuple[tuple[str, ...], int]]) -> dict[tuple[str, ...], float]:
    summed: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for labels, number in counts:
        summed[labels] += number
    return summed


def measure_quality(cursor: Cursor, sessions: Sessions) -> None:
    """Of the newest session that has anything: crossed quotes by underlying, and minutes with a bar by stock."""
    session = _newest_session(cursor, sessions)
    if session is None:
        return
    opens_ns, closes_ns, until_ns = session
    cursor.execute(
        "SELECT i.underlying, count(*) FILTER (WHERE l.bid > l.ask), count(*) FROM quote_latest l"
        " JOIN instruments i USING (instrument_id) WHERE l.ts >= %s AND l.ts < %s AND l.bid IS NOT NULL"
        " AND l.ask IS NOT NULL GROUP BY 1",
        (to_datetime(opens_ns), to_datetime(closes_ns)),
    )
    crossed: Counter[tuple[str, ...]] = Counter()
    quotes: Counter[tuple[str, ...]] = Counter()
    for underlying, number, all_of_them in cursor.fetchall():
        crossed[(counted_as(underlying),)] += number
        quotes[(counted_as(underlying),)] += all_of_them
    metrics.show(metrics.CROSSED, {key: crossed[key] / number for key, number in quotes.items()})
    minutes = (until_ns - opens_ns) // MINUTE_NS
    if minutes <= 0:
        return
    cursor.execute(
        "SELECT i.underlying, count(DISTINCT b.ts) FROM instruments i LEFT JOIN bars_1m b ON"
        " b.instrument_id = i.instrument_id AND b.ts >= %s AND b.ts < %s"
        " WHERE i.underlying = ANY(%s) AND i.expiration IS NULL GROUP BY 1",
        (to_datetime(opens_ns), to_datetime(opens_ns + minutes * MINUTE_NS), list(UNDERLYINGS)),
    )
    metrics.show(metrics.COVERAGE, {(symbol,): number / minutes for symbol, number in cursor.fetchall()})


def _newest_session(cursor: Cursor, sessions: Sessions) -> tuple[int, int, int] | None:
    """Its opening, its close, and until when its minutes are over, in ns.

    Now's while collection is wanted, else the one of the newest record stored. None: nothing was ever stored.
    """
    cursor.execute(
        "SELECT max(s.clock_offset_ns) FROM collections c LEFT JOIN collection_states s USING (dataset)"
        " WHERE c.wanted HAVING count(*) > 0"
    )
    row = cursor.fetchone()
    if row is not None:
        now_ns = time.time_ns() + (row[0] or 0)
    else:
        cursor.execute(
            "SELECT (extract(epoch FROM max(ts)) * 1000000)::bigint * 1000 FROM"
            " (SELECT max(ts) AS ts FROM price_latest UNION ALL SELECT max(ts) FROM quote_latest) AS l"
        )
        newest_ns = (cursor.fetchone() or (None,))[0]
        if newest_ns is None:
            return None
        now_ns = int(newest_ns) + _BAR_SETTLED_NS
    index = int(np.searchsorted(sessions.opens, now_ns, side="right")) - 1
    if index < 0:
        return None
    opens_ns, closes_ns = int(sessions.opens[index]), int(sessions.closes[index])
    return opens_ns, closes_ns, min(now_ns - _BAR_SETTLED_NS, closes_ns)
