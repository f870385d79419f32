"""The ledger: every decision and every outcome in one chain of hashes, to which rows are only ever added.

A row's body is the canonical JSON of ``{"seq", "kind", "id", "decided_ns", "committed_ns", "record"}``; its hash is
SHA-256 of the hash before and of the body's bytes. So `verify` names the first row that is not as it was written: one
that was altered, taken out, put in or put elsewhere. What it cannot know by itself is that rows at the very end are
gone, or that the whole chain was made anew: whoever noted a head (`Head`) outside can ask whether it is still in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg2.extras import execute_values
from pydantic import TypeAdapter

from ots_common.database import Connection, Database
from ots_signals.canonical import canonical
from ots_signals.decisions import Abstention, Signal
from ots_signals.outcomes import Outcome

Record = Signal | Abstention | Outcome

LOCK = 0x5349474C  # "SIGL", as in the trigger of migration 0012
START = bytes(32)
_KINDS: dict[str, TypeAdapter[Any]] = {
    "signal": TypeAdapter(Signal),
    "abstention": TypeAdapter(Abstention),
    "outcome": TypeAdapter(Outcome),
}
_READ_AT_ONCE = 500
# what PostgreSQL made from the body, and where in the body it is
_PROJECTIONS = {
    "kind": ("kind",),
    "id": ("id",),
    "decided_ns": ("decided_ns",),
    "committed_ns": ("committed_ns",),
    "strategy": ("record", "strategy"),
    "underlying": ("record", "underlying"),
    "session": ("record", "session"),
    "event_ns": ("record", "event_ns"),
    "strategy_version": ("record", "strategy_version"),
    "mode": ("record", "mode"),
    "direction": ("record", "direction"),
    "why": ("record", "why"),
    "days_to_expiration": ("record", "days_to_expiration"),
    "odds": ("record", "odds"),
    "signal_id": ("record", "signal_id"),
    "revision": ("record", "revision"),
    "resolved_of_ns": ("record", "resolved_of_ns"),
    "fills": ("record", "fills"),
    "baseline": ("record", "baseline"),
}


@dataclass(frozen=True)
class Head:
    """The newest row: its number and its hash in hexadecimal. ``seq`` 0 and zeros: of an empty ledger."""

    seq: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """One row as it was written; times ns."""

    seq: int
    kind: str
    id: str
    decided_ns: int
    committed_ns: int
    previous_hash: str
    hash: str
    record: Record


@dataclass(frozen=True)
class Fault:
    """The first row that is not as it was written, and what is wrong with it."""

    seq: int
    detail: str


@dataclass(frozen=True)
class Verification:
    """``rows`` were as written, up to ``head``; then ``fault``, None when all were."""

    rows: int
    head: Head
    fault: Fault | None


def kind_of(record: Record) -> str:
    """``signal``, ``abstention`` or ``outcome``."""
    return type(record).__name__.lower()


def id_of(record: Record) -> str:
    """Of a decision its own; an outcome's is its signal's and the number of its revision."""
    return f"{record.signal_id}.{record.revision}" if isinstance(record, Outcome) else record.id


def body_of(seq: int, record: Record, decided_ns: int, committed_ns: int) -> str:
    """The text that is hashed. Raises TypeError, ValueError for what has no canonical text."""
    return canonical(
        {
            "seq": seq,
            "kind": kind_of(record),
            "id": id_of(record),
            "decided_ns": decided_ns,
            "committed_ns": committed_ns,
            "record": record,
        }
    )


def hash_of(previous: bytes, body: str) -> bytes:
    """The hash of the row with that body after the row with that hash."""
    return hashlib.sha256(previous + body.encode()).digest()


def read_record(kind: str, record: Any) -> Record:
    """The record of a parsed body. Raises pydantic.ValidationError when it is none of that kind."""
    found: Record = _KINDS[kind].validate_python(record)
    return found


def append(connection: Connection, records: Sequence[tuple[Record, int]], now: Callable[[], int]) -> list[Entry]:
    """Add records, each with the ns at which it was decided, within the connection's transaction; what was added.

    What the ledger has already by its id is left out: the same decision about the same event, the same revision. Others
    who append wait until the transaction ends, so it should do so at once.
    """
    if not records:
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        cursor.execute("SELECT seq, hash FROM signal_ledger ORDER BY seq DESC LIMIT 1")
        last = cursor.fetchone()
        seq, previous = (int(last[0]), bytes(last[1])) if last else (0, START)
        added: list[Entry] = []
        rows = []
        for record, decided_ns in _missing(cursor, records):
            seq += 1
            committed_ns = now()
            body = body_of(seq, record, decided_ns, committed_ns)
            digest = hash_of(previous, body)
            rows.append((seq, previous, digest, body))
            added.append(
                Entry(
                    seq, kind_of(record), id_of(record), decided_ns, committed_ns, previous.hex(), digest.hex(), record
                )
            )
            previous = digest
        if rows:
            execute_values(cursor, "INSERT INTO signal_ledger (seq, previous_hash, hash, body) VALUES %s", rows)
            _note_resolutions(cursor, added)
    return added


def _missing(cursor: Any, records: Sequence[tuple[Record, int]]) -> list[tuple[Record, int]]:
    ids = [id_of(record) for record, _ in records]
    cursor.execute("SELECT id FROM signal_ledger WHERE id = ANY(%s)", (ids,))
    known = {own for (own,) in cursor.fetchall()}
    found = []
    for (record, decided_ns), own in zip(records, ids, strict=True):
        if own not in known:
            known.add(own)
            found.append((record, decided_ns))
    return found


def _note_resolutions(cursor: Any, added: Sequence[Entry]) -> None:
    signals = [
        (one.id, made.underlying, date.fromisoformat(made.session), made.event_ns, _settles(made))
        for one in added
        if isinstance(made := one.record, Signal)
    ]
    if signals:
        execute_values(
            cursor,
            "INSERT INTO signal_resolutions (signal_id, underlying, session, event_ns, settles_ns) VALUES %s",
            signals,
        )


def _settles(made: Signal) -> int:
    from ots_signals.resolver import span  # it brings the compiled kernels, which who only reads needs not

    # its matches within the session end when it must be flat at the latest
    return max(span(made)[1], made.barriers.flat_ns)


def head(database: Database) -> Head:
    """The newest row."""
    rows = database.rows("SELECT seq, encode(hash, 'hex') FROM signal_ledger ORDER BY seq DESC LIMIT 1")
    return Head(*rows[0]) if rows else Head(0, START.hex())


_COLUMNS = "seq, kind, id, decided_ns, committed_ns, encode(previous_hash, 'hex'), encode(hash, 'hex'), body"


def entries(
    database: Database, where: str, parameters: dict[str, Any], *, order: str = "seq", limit: int
) -> list[Entry]:
    """Rows that a condition over the columns selects. The condition is code, its values are parameters."""
    rows = database.rows(
        f"SELECT {_COLUMNS} FROM signal_ledger WHERE {where} ORDER BY {order} LIMIT %(limit)s",
        {**parameters, "limit": limit},
    )
    return [_entry(row) for row in rows]


def after(database: Database, seq: int, limit: int) -> list[Entry]:
    """The rows that follow a number, in order."""
    return entries(database, "seq > %(seq)s", {"seq": seq}, limit=limit)


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, kind, own, decided_ns, committed_ns, previous, digest, body = row
    return Entry(
        seq, kind, own, decided_ns, committed_ns, previous, digest, read_record(kind, json.loads(body)["record"])
    )


def verify(connection: Connection, noted: Head | None = None) -> Verification:
    """Read the whole chain, a few hundred rows at a time, and name the first row that is not as it was written.

    ``noted``: a head that somebody has kept; whether the chain still holds it. The connection's transaction ends here.
    """
    previous, expected = START, 1
    seen = noted is None or noted.seq == 0
    try:
        with _rows(connection) as rows:
            for row in rows:
                seq, stored_previous, stored, body = row[0], bytes(row[1]), bytes(row[2]), row[3]
                fault = _fault(expected, seq, previous, stored_previous, stored, body, row[4:])
                if fault is None and noted is not None and seq == noted.seq:
                    seen = True
                    if stored.hex() != noted.hash:
                        fault = Fault(seq, "its hash is not the one that was noted: the chain was made anew")
                if fault is not None:
                    return Verification(expected - 1, Head(expected - 1, previous.hex()), fault)
                previous, expected = stored, expected + 1
    finally:
        connection.rollback()
    end = Head(expected - 1, previous.hex())
    if not seen:
        return Verification(end.seq, end, Fault(expected, "it is gone: a later row was noted before"))
    return Verification(end.seq, end, None)


@contextmanager
def _rows(connection: Connection) -> Iterator[Iterator[tuple[Any, ...]]]:
    with connection.cursor(name="verify") as cursor:
        cursor.itersize = _READ_AT_ONCE
        names = ", ".join(_PROJECTIONS)
        cursor.execute(f"SELECT seq, previous_hash, hash, body, {names} FROM signal_ledger ORDER BY seq")
        yield iter(cursor)


def _fault(
    expected: int,
    seq: int,
    previous: bytes,
    stored_previous: bytes,
    stored: bytes,
    body: str,
    projected: tuple[Any, ...],
) -> Fault | None:
    if seq != expected:
        return Fault(expected, f"it is gone: the next row is {seq}")
    if stored_previous != previous:
        return Fault(seq, "its previous_hash is not the hash of the row before")
    if stored != hash_of(previous, body):
        return Fault(seq, "its hash is not that of its body: one of them was altered")
    try:
        parsed = json.loads(body)
    except ValueError:
        return Fault(seq, "its body is not JSON")
    if parsed.get("seq") != seq:
        return Fault(seq, f"it was written as row {parsed.get('seq')}")
    for name, value in zip(_PROJECTIONS, projected, strict=True):
        if value != _at(parsed, _PROJECTIONS[name]):
            return Fault(seq, f"its column {name} is not what its body says")
    return None


def _at(parsed: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        parsed = parsed.get(part) if isinstance(parsed, dict) else None
    return parsed
