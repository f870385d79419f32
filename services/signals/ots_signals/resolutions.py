"""The outcomes of signals: each is looked for until it is known, and looked at again when its data changed.

The rows of ``signal_resolutions`` say which; who works on some holds them locked. An outcome and its row are written in
one transaction, and an outcome's id is its signal's and its revision: whoever is killed leaves nothing half done.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import structlog

from ots_common.database import Connection, Database, connect
from ots_market.timeframes import MINUTE_NS
from ots_market.versions import data_version
from ots_signals import ledger, metrics
from ots_signals.baselines import Baselines
from ots_signals.decisions import Signal
from ots_signals.ledger import Entry
from ots_signals.market_view import Market, NotYet, Tape
from ots_signals.outcomes import Outcome
from ots_signals.resolver import resolve_many, revised, span

log = structlog.get_logger(__name__)

_AT_ONCE = 40
_LONGEST_WAIT_S = 300.0
# not those that another one resolves, nor one of which the ledger knows nothing: there would be no end of looking
_NEXT = """
    SELECT r.underlying, r.session FROM signal_resolutions r JOIN signal_ledger l ON l.id = r.signal_id
    WHERE r.revision < 0 AND r.settles_ns <= %s AND r.due_at <= now() ORDER BY r.settles_ns LIMIT 1
    FOR UPDATE OF r SKIP LOCKED
"""
_OPEN = """
    SELECT r.signal_id, r.attempts, l.kind, l.body, -1, NULL
    FROM signal_resolutions r JOIN signal_ledger l ON l.id = r.signal_id
    WHERE r.underlying = %s AND r.session = %s AND r.revision < 0 AND r.settles_ns <= %s AND r.due_at <= now()
    ORDER BY r.event_ns, r.signal_id LIMIT %s FOR UPDATE OF r SKIP LOCKED
"""
_CHANGED = """
    SELECT DISTINCT underlying, session FROM signal_resolutions
    WHERE revision >= 0 AND session >= %s AND session <= %s AND data_version IS DISTINCT FROM %s ORDER BY 1, 2
"""
_KNOWN = """
    SELECT r.signal_id, r.attempts, l.kind, l.body, r.revision, o.body
    FROM signal_resolutions r JOIN signal_ledger l ON l.id = r.signal_id
    JOIN signal_ledger o ON o.id = r.signal_id || '.' || r.revision
    WHERE r.underlying = %s AND r.session = %s AND r.revision >= 0 AND r.data_version IS DISTINCT FROM %s
    ORDER BY r.event_ns, r.signal_id LIMIT %s FOR UPDATE OF r SKIP LOCKED
"""
_DONE = """
    UPDATE signal_resolutions SET revision = %s, data_digest = %s, data_version = %s, error = NULL, attempts = 0
    WHERE signal_id = %s
"""
_PUT_OFF = """
    UPDATE signal_resolutions SET attempts = attempts + 1, error = %s,
        due_at = now() + make_interval(secs => least(%s, 2.0 ^ least(attempts, 20)))
    WHERE signal_id = ANY(%s)
"""


@dataclass(frozen=True)
class _Row:
    signal: Signal
    attempts: int
    previous: Outcome | None


class Resolutions:
    """Resolves what can be resolved; one transaction a group of signals on one underlying and session.

    ``on_added``: called with what was committed.
    """

    def __init__(
        self,
        dsn: str,
        database: Database,
        market: Market,
        now: Callable[[], int],
        on_added: Callable[[Entry], None] = metrics.count_entry,
    ) -> None:
        self._dsn = dsn
        self._database = database
        self._market = market
        # they keep what they have read, and are not for two threads at once
        self._baselines = Baselines(market, market.sessions)
        self._lock = threading.Lock()
        self._now = now
        self._on_added = on_added

    def resolve(self, closed_ns: int) -> int:
        """All signals that must be flat by ``closed_ns`` and can be resolved; how many outcomes were added."""
        added = 0
        with self._lock, closing(connect(self._dsn, application="signals-resolver")) as connection:
            while True:
                with connection, connection.cursor() as cursor:
                    cursor.execute(_NEXT, (closed_ns,))
                    group = cursor.fetchone()
                if group is None:
                    return added
                added += self._resolve_group(connection, group[0], group[1], closed_ns)

    def revise(self, first: date, last: date) -> int:
        """Outcomes of closed sessions whose data changed since they were looked at; how many revisions were added."""
        added = 0
        sessions = self._market.sessions
        low, high = np.searchsorted(sessions.dates, [np.datetime64(first), np.datetime64(last) + 1])
        with self._lock, closing(connect(self._dsn, application="signals-resolver")) as connection:
            for index in range(int(low), int(high)):
                opens_ns, closes_ns = int(sessions.opens[index]), int(sessions.closes[index])
                version = data_version(self._database, since_ns=opens_ns, until_ns=closes_ns)
                day = sessions.date_at(index)
                with connection, connection.cursor() as cursor:
                    cursor.execute(_CHANGED, (day, day, version))
                    groups = cursor.fetchall()
                if groups:
                    # what was read before is of other data: here, and of later signals' matches in that session
                    self._baselines = Baselines(self._market, sessions)
                for underlying, session in groups:
                    added += self._revise_group(connection, underlying, session, version)
        return added

    def _resolve_group(self, connection: Connection, underlying: str, session: date, closed_ns: int) -> int:
        rows: list[_Row] = []
        try:
            with connection:
                with connection.cursor() as cursor:
                    cursor.execute(_OPEN, (underlying, session, closed_ns, _AT_ONCE))
                    rows = [_row(row) for row in cursor.fetchall()]
                if not rows:
                    return 0
                outcomes = self._outcomes(rows)
                known = [(row, outcome) for row, outcome in zip(rows, outcomes, strict=True) if outcome is not None]
                added = self._append(connection, known, None)
                waiting = [row.signal.id for row, outcome in zip(rows, outcomes, strict=True) if outcome is None]
                if waiting:
                    with connection.cursor() as cursor:
                        cursor.execute(_PUT_OFF, ("its minutes are not stored yet", _LONGEST_WAIT_S, waiting))
        except NotYet as error:
            self._put_off(connection, rows, str(error))
            return 0
        except Exception as error:
            if not rows:
                raise
            log.exception("not_resolved", underlying=underlying, session=str(session), signals=len(rows))
            metrics.FAILURES.labels("resolve").inc()
            self._put_off(connection, rows, f"{type(error).__name__}: {error}")
            return 0
        for entry in added:
            self._on_added(entry)
        return len(added)

    def _revise_group(self, connection: Connection, underlying: str, session: date, version: str) -> int:
        total = 0
        while True:
            with connection:
                with connection.cursor() as cursor:
                    cursor.execute(_KNOWN, (underlying, session, version, _AT_ONCE))
                    rows = [_row(row) for row in cursor.fetchall()]
                if not rows:
                    return total
                changed, same = [], []
                tape = self._tape(rows)
                for row, fresh in zip(rows, self._fresh(rows, tape), strict=True):
                    revision = revised(row.previous, fresh) if row.previous and fresh else None
                    if revision is None:
                        same.append(row.signal.id)
                    else:
                        changed.append((row, revision))
                added = self._append(connection, self._with_baselines(changed, tape), version)
                with connection.cursor() as cursor:
                    cursor.execute(
                        "UPDATE signal_resolutions SET data_version = %s WHERE signal_id = ANY(%s)", (version, same)
                    )
            for entry in added:
                self._on_added(entry)
            total += len(added)

    def _outcomes(self, rows: Sequence[_Row]) -> list[Outcome | None]:
        tape = self._tape(rows)
        fresh = self._fresh(rows, tape)
        found = [(row, one) for row, one in zip(rows, fresh, strict=True) if one is not None]
        known = self._with_baselines(found, tape)
        by_id = {outcome.signal_id: outcome for _, outcome in known}
        return [by_id.get(row.signal.id) for row in rows]

    def _fresh(self, rows: Sequence[_Row], tape: Tape) -> list[Outcome | None]:
        """Outcomes without baselines."""
        return resolve_many([row.signal for row in rows], tape, self._market.sessions)

    def _tape(self, rows: Sequence[_Row]) -> Tape:
        signals = [row.signal for row in rows]
        symbols = sorted({leg.symbol for signal in signals for leg in signal.legs})
        starts, ends = zip(*(span(signal) for signal in signals), strict=True)
        return self._market.tape(signals[0].underlying, symbols, min(starts), max(ends))

    def _with_baselines(self, known: Sequence[tuple[_Row, Outcome]], tape: Tape) -> list[tuple[_Row, Outcome]]:
        return [
            (row, replace(outcome, baseline=self._baselines.of(row.signal, outcome, tape))) for row, outcome in known
        ]

    def _append(
        self, connection: Connection, known: Sequence[tuple[_Row, Outcome]], version: str | None
    ) -> list[Entry]:
        with connection.cursor() as cursor:
            for row, outcome in known:
                cursor.execute(_DONE, (outcome.revision, outcome.data_digest, version, row.signal.id))
        return ledger.append(connection, [(outcome, self._now()) for _, outcome in known], self._now)

    def _put_off(self, connection: Connection, rows: Sequence[_Row], error: str) -> None:
        with connection, connection.cursor() as cursor:
            cursor.execute(_PUT_OFF, (error[:500], _LONGEST_WAIT_S, [row.signal.id for row in rows]))


def settled_at(closed_ns: int) -> int:
    """Signals whose last needed minute ended by then can be resolved: a minute later, for quotes that come late."""
    return closed_ns - MINUTE_NS


def _row(row: tuple[Any, ...]) -> _Row:
    _, attempts, kind, body, _, outcome = row
    signal = ledger.read_record(kind, json.loads(body)["record"])
    previous = ledger.read_record("outcome", json.loads(outcome)["record"]) if outcome else None
    if not isinstance(signal, Signal) or isinstance(previous, Signal):
        raise TypeError("only signals have outcomes")
    return _Row(signal, attempts, previous if isinstance(previous, Outcome) else None)
