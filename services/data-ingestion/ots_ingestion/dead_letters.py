"""Dead letters: records that cannot be stored, kept byte for byte, so that their neighbours go on without them.

A letter is some records of one schema with one reason. :func:`replay` stores what can be stored now (an instrument
that was unknown has been defined since) and leaves the rest where it is, with the reason of the last try.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import databento_dbn as dbn
import numpy as np
import psycopg2
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.database import Connection
from ots_ingestion.identity import RepeatCounter
from ots_ingestion.layouts import Rows, schema_of, to_rows
from ots_ingestion.store import store
from ots_ingestion.symbology import Symbology

_HEADER_BYTES = 16
_UNIT = 4  # a record's first byte counts its length in these


@dataclass(frozen=True)
class Rejected:
    """Records that were refused for one reason. ``index``: their places among the records that came, shape (n,)."""

    reason: str
    index: NDArray[np.int64]
    records: NDArray[Any]

    @property
    def first_ns(self) -> int | None:
        """The earliest defined ``ts_event`` among them."""
        times = self.records["ts_event"]
        defined = times[times < 2**63]
        return int(defined.min()) if len(defined) else None


def find_rejected(schema: str, records: NDArray[Any]) -> list[Rejected]:
    """Which of ``records`` (one schema, any layout of it) cannot become rows, and why, the reasons in order of name.

    :func:`ots_ingestion.layouts.to_rows` only counts them, being on the fast path; this finds them, for a batch in
    which it counted some.
    """
    tagged = records.copy()
    # no converter looks at the vendor's id: a number put there comes back for what was kept
    tagged["instrument_id"] = np.arange(len(records))
    kept = to_rows(schema, tagged).vendor_ids
    lost = np.setdiff1d(np.arange(len(records)), kept)
    by_reason: dict[str, list[NDArray[np.int64]]] = {}
    _sort_by_reason(schema, records, lost, by_reason)
    return [
        Rejected(reason, index, records[index])
        for reason, index in sorted((reason, np.sort(np.concatenate(parts))) for reason, parts in by_reason.items())
    ]


def _sort_by_reason(
    schema: str, records: NDArray[Any], index: NDArray[np.int64], found: dict[str, list[NDArray[np.int64]]]
) -> None:
    """Halve until a part has one reason: one look when all have the same, as they mostly do."""
    if not len(index):
        return
    reasons = to_rows(schema, records[index]).rejected
    if len(reasons) == 1:
        found.setdefault(next(iter(reasons)), []).append(index)
        return
    half = len(index) // 2
    _sort_by_reason(schema, records, index[:half], found)
    _sort_by_reason(schema, records, index[half:], found)


def bury(
    cursor: Cursor,
    *,
    dataset: str,
    schema: str,
    reason: str,
    records: bytes,
    origin: str,
    first_ns: int | None,
    ords: Sequence[int] | None = None,
) -> None:
    """Keep ``records`` (whole DBN records one after the other) in the caller's transaction.

    ``origin`` names where they came from (``run <id>``, a live segment); ``ords`` their ranks as :class:`RepeatCounter`
    counted them there, without which they are counted among themselves on replay. The same bytes again for the same
    reason, still waiting, are one letter. Never raises for what the bytes hold: what is no row of whole records is kept
    as such.
    """
    number, whole = _count(records)
    cursor.execute(
        "INSERT INTO dead_letters AS d"
        " (dataset, schema, reason, origin, records, ords, number, whole, digest, first_at_ns)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (dataset, schema, reason, digest) WHERE replayed_at IS NULL DO UPDATE SET seen = d.seen + 1",
        (
            dataset,
            schema,
            reason,
            origin,
            psycopg2.Binary(records),
            None if ords is None else list(ords),
            number,
            whole,
            psycopg2.Binary(hashlib.sha256(records).digest()),
            first_ns,
        ),
    )


def _count(records: bytes) -> tuple[int, bool]:
    """How many records the bytes hold, and whether they are whole records and nothing else."""
    at = number = 0
    while at + _HEADER_BYTES <= len(records) and (size := records[at] * _UNIT) >= _HEADER_BYTES:
        at += size
        number += 1
    return number, at == len(records) and number > 0


@lru_cache(maxsize=1)
def _layouts() -> dict[tuple[int, int], np.dtype[Any]]:
    """(rtype, length) -> layout. A type's versions differ in length, and so does one that ends in ``ts_out``."""
    messages: dict[int, tuple[Any, ...]] = {
        0: (dbn.TradeMsg,),
        1: (dbn.MBP1Msg,),
        19: (dbn.InstrumentDefMsg, dbn.InstrumentDefMsgV2, dbn.InstrumentDefMsgV1),
        24: (dbn.StatMsg, dbn.StatMsgV1),
        **dict.fromkeys((177, 194), (dbn.CMBP1Msg,)),
        **dict.fromkeys((192, 193), (dbn.CBBOMsg,)),
        **dict.fromkeys((195, 196), (dbn.BBOMsg,)),
        **dict.fromkeys((32, 33, 34, 35), (dbn.OHLCVMsg,)),
    }
    found = {}
    for rtype, versions in messages.items():
        for message in versions:
            layout = np.dtype(message._dtypes)
            found[rtype, layout.itemsize] = layout
            found[rtype, layout.itemsize + 8] = np.dtype([*layout.descr, ("ts_out", "u8")])
    return found


@dataclass(frozen=True)
class Replayed:
    """What a replay did; counts of records. ``reasons``: why those that stay could not be stored."""

    letters: int = 0
    stored: int = 0
    duplicate: int = 0
    remaining: int = 0
    reasons: dict[str, int] | None = None


def replay(connection: Connection, *, reason: str | None = None) -> Replayed:
    """Store what can be stored now, each letter in a transaction of its own, oldest first.

    ``reason``: only letters buried for it. Safe to run twice at once, and to be killed: a letter is taken under a lock,
    and its rows and its own end are one transaction.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT dead_letter_id FROM dead_letters"
            " WHERE replayed_at IS NULL AND (%(reason)s::text IS NULL OR reason = %(reason)s) ORDER BY dead_letter_id",
            {"reason": reason},
        )
        waiting = [row[0] for row in cursor.fetchall()]
    letters = stored = duplicate = 0
    reasons: dict[str, int] = {}
    for letter in waiting:
        with connection:
            outcome = _replay_one(connection, letter)
        if outcome is None:
            continue  # somebody else has it
        letters += 1
        stored += outcome.stored
        duplicate += outcome.duplicate
        for name, number in (outcome.reasons or {}).items():
            reasons[name] = reasons.get(name, 0) + number
    return Replayed(letters, stored, duplicate, sum(reasons.values()), reasons)


def _replay_one(connection: Connection, letter: int) -> Replayed | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT dataset, schema, records, ords, whole, number FROM dead_letters"
            " WHERE dead_letter_id = %s AND replayed_at IS NULL FOR UPDATE SKIP LOCKED",
            (letter,),
        )
        row = cursor.fetchone()
    if row is None:
        return None
    dataset, schema, raw, ords, whole, number = row
    if not whole:
        outcome = Replayed(reasons={"not_whole_records": number})
        _note(connection, letter, outcome)
        return outcome
    raw = bytes(raw)
    places = _places(raw)
    stays = np.zeros(len(places), bool)
    reasons: dict[str, int] = {}
    stored = duplicate = 0
    for (rtype, size), index in _groups(raw, places).items():
        layout = _layouts().get((rtype, size))
        name = schema_of(rtype, schema)
        if layout is None or name is None:
            stays[index] = True
            _add(reasons, f"unsupported_record_type_{rtype}", len(index))
            continue
        records = np.frombuffer(b"".join(raw[p : p + size] for p in places[index].tolist()), layout)
        done = _store(connection, dataset, name, records, None if ords is None else np.asarray(ords)[index])
        stored += done.stored
        duplicate += done.duplicate
        stays[index[done.left]] = True
        for key, count in done.reasons.items():
            _add(reasons, key, count)
    outcome = Replayed(1, stored, duplicate, int(stays.sum()), reasons)
    if not stays.any():
        _end(connection, letter, outcome)
    elif not stays.all():
        _shrink(connection, letter, raw, places[stays], None if ords is None else np.asarray(ords)[stays], outcome)
    else:
        _note(connection, letter, outcome)
    return outcome


def _add(reasons: dict[str, int], reason: str, number: int) -> None:
    reasons[reason] = reasons.get(reason, 0) + number


def _places(raw: bytes) -> NDArray[np.int64]:
    """Where each record starts."""
    starts = []
    at = 0
    while at < len(raw):
        starts.append(at)
        at += raw[at] * _UNIT
    return np.array(starts, np.int64)


def _groups(raw: bytes, places: NDArray[np.int64]) -> dict[tuple[int, int], NDArray[np.int64]]:
    """The records by type and length, definitions first: they name the instruments of the others."""
    view = np.frombuffer(raw, np.uint8)
    kinds, sizes = view[places + 1].astype(np.int64), view[places].astype(np.int64) * _UNIT
    keys = kinds << 16 | sizes
    found = {(int(k) >> 16, int(k) & 0xFFFF): np.flatnonzero(keys == k) for k in np.unique(keys)}
    return dict(sorted(found.items(), key=lambda item: item[0][0] != 19))


@dataclass(frozen=True)
class _Stored:
    stored: int
    duplicate: int
    left: NDArray[np.int64]  # indices of the records that stay
    reasons: dict[str, int]


def _store(
    connection: Connection, dataset: str, schema: str, records: NDArray[Any], ords: NDArray[Any] | None
) -> _Stored:
    rejected = find_rejected(schema, records)
    reasons = {r.reason: len(r.index) for r in rejected}
    left = np.concatenate([r.index for r in rejected]) if rejected else np.zeros(0, np.int64)
    good = np.setdiff1d(np.arange(len(records)), left)
    rows = to_rows(schema, records[good])
    symbology = Symbology(dataset, [])
    if schema == "definition" and len(rows):
        symbology.learn_definitions(connection, rows.source, rows.days)
    instruments = symbology.resolve(connection, rows.vendor_ids, rows.days)
    counted = _ords(rows, None if ords is None else ords[good])
    known = instruments >= 0
    if not known.all():
        reasons["unknown_instrument"] = int((~known).sum())
        left = np.concatenate([left, good[~known]])
        rows = rows.take(known)
        counted = None if counted is None else counted[known]
    # exempt from retention: somebody wanted these kept
    done = store(connection, rows, instruments[known], counted, keep=True)
    return _Stored(done.stored + done.revised, done.duplicate, left, reasons)


def _ords(rows: Rows, ords: NDArray[Any] | None) -> NDArray[np.int64] | None:
    if rows.digests is None:
        return None
    if ords is not None:
        return ords.astype(np.int64)
    return RepeatCounter().count(rows.vendor_ids, rows.own_ns, rows.digests, rows.index_ns)


def _end(connection: Connection, letter: int, outcome: Replayed) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE dead_letters SET replayed_at = now(), tried_at = now(), attempts = attempts + 1, records = '',"
            " ords = NULL, stored = stored + %s, note = NULL WHERE dead_letter_id = %s",
            (outcome.stored + outcome.duplicate, letter),
        )


def _shrink(
    connection: Connection,
    letter: int,
    raw: bytes,
    places: NDArray[np.int64],
    ords: NDArray[Any] | None,
    outcome: Replayed,
) -> None:
    """The letter with what is left of it."""
    rest = b"".join(raw[p : p + raw[p] * _UNIT] for p in places.tolist())
    digest = psycopg2.Binary(hashlib.sha256(rest).digest())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM dead_letters d JOIN dead_letters me ON me.dead_letter_id = %s"
            " WHERE (d.dataset, d.schema, d.reason) = (me.dataset, me.schema, me.reason) AND d.digest = %s"
            " AND d.replayed_at IS NULL)",
            (letter, digest),
        )
        if (cursor.fetchone() or (False,))[0]:
            # the rest is a letter already
            _end(connection, letter, outcome)
            return
        cursor.execute(
            "UPDATE dead_letters SET records = %s, ords = %s, number = %s, digest = %s, tried_at = now(),"
            " attempts = attempts + 1, stored = stored + %s, note = %s WHERE dead_letter_id = %s",
            (
                psycopg2.Binary(rest),
                None if ords is None else ords.tolist(),
                len(places),
                digest,
                outcome.stored + outcome.duplicate,
                _words(outcome),
                letter,
            ),
        )


def _note(connection: Connection, letter: int, outcome: Replayed) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE dead_letters SET tried_at = now(), attempts = attempts + 1, note = %s WHERE dead_letter_id = %s",
            (_words(outcome), letter),
        )


def _words(outcome: Replayed) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted((outcome.reasons or {}).items()))


@dataclass(frozen=True)
class Letter:
    """A dead letter as it is listed: all but its bytes."""

    dead_letter_id: int
    dataset: str
    schema: str
    reason: str
    origin: str
    number: int
    whole: bool
    bytes: int
    first_at_ns: int | None
    buried_at: datetime
    seen: int
    attempts: int
    tried_at: datetime | None
    stored: int
    note: str | None
    replayed_at: datetime | None


def letters_page(
    cursor: Cursor, *, reason: str | None, dataset: str | None, state: str, after: int | None, limit: int
) -> list[Letter]:
    """At most ``limit`` letters, the newest first, before the id ``after``. ``state``: waiting, replayed or all."""
    cursor.execute(
        """
        SELECT dead_letter_id, dataset, schema, reason, origin, number, whole, octet_length(records), first_at_ns,
            buried_at, seen, attempts, tried_at, stored, note, replayed_at
        FROM dead_letters
        WHERE (%(reason)s::text IS NULL OR reason = %(reason)s) AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
          AND (%(state)s = 'all' OR (replayed_at IS NULL) = (%(state)s = 'waiting'))
          AND (%(after)s::bigint IS NULL OR dead_letter_id < %(after)s::bigint)
        ORDER BY dead_letter_id DESC LIMIT %(limit)s
        """,
        {"reason": reason, "dataset": dataset, "state": state, "after": after, "limit": limit},
    )
    return [Letter(*row) for row in cursor.fetchall()]
