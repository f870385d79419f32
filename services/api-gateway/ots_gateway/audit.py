"""What the audit log is told: a row for every sign-in, refusal, write, and change of users and keys; and
``python -m ots_gateway.audit verify``, which says which rows were changed, removed or inserted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import psycopg2
import structlog
from flask import Request, g, has_request_context
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from ots_common.database import Database
from ots_common.problems import Problem
from ots_gateway.audit_log import FIELDS, GENESIS, Entry, append, hash_of
from ots_gateway.identity import User
from ots_gateway.metrics import TokenKind, count_audit_entry, count_tokens

log = structlog.get_logger("audit")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
LOGIN_PATH = "/api/v1/auth/login"
REFRESH_PATH = "/api/v1/auth/refresh"
_OWN_WRITES = tuple(
    (method, re.compile(pattern), event)
    for method, pattern, event in (
        ("POST", r"/api/v1/auth/logout", "logout"),
        ("POST", r"/api/v1/auth/password", "password_change"),
        ("POST", r"/api/v1/users", "user_create"),
        ("PATCH", r"/api/v1/users/[^/]+", "user_change"),
        ("DELETE", r"/api/v1/users/[^/]+", "user_remove"),
        ("POST", r"/api/v1/users/[^/]+/password", "password_reset"),
        ("DELETE", r"/api/v1/users/[^/]+/keys/[^/]+", "key_revoke"),
        ("POST", r"/api/v1/keys", "key_create"),
        ("DELETE", r"/api/v1/keys/[^/]+", "key_revoke"),
        ("PUT", r"/api/v1/logs/levels", "write"),
    )
)
_BATCH = 100
_TOKENS: dict[str, TokenKind] = {
    "login": "login", "login_failed": "login", "refresh": "refresh", "refresh_failed": "refresh"
}  # fmt: skip


@dataclass(frozen=True)
class Note:
    """What only the view knows: another event than the status tells, whose name was tried, what was done to what."""

    event: str | None = None
    username: str | None = None
    detail: dict[str, Any] | None = None


def note(*, event: str | None = None, username: str | None = None, **detail: Any) -> None:
    """Tell the row of this request more. No secret belongs here."""
    g.audit_note = Note(event, username, detail or None)


def event_of(method: str, path: str, status: int, *, forwarded: bool) -> str | None:
    """What an answer means to the audit log; None when it means nothing.

    A write is what a service was asked to do, whatever it answered; what the gateway itself was asked to do has names
    of its own.
    """
    if path == LOGIN_PATH and method == "POST":
        return {200: "login", 401: "login_failed", 403: "login_failed", 429: "login_failed"}.get(status)
    if path == REFRESH_PATH and method == "POST":
        return {200: "refresh", 401: "refresh_failed"}.get(status)
    if forwarded and method not in SAFE_METHODS:
        return "write"
    if status in (401, 403):
        return "refused"
    if method not in SAFE_METHODS and status not in (404, 405):
        return _own_write(method, path)
    if status == 404 and method == "DELETE":
        return _own_write(method, path)
    return None


def record(database: Database, request: Request, request_id: str, user: User | None, status: int, event: str) -> None:
    """Write a row. The deed is done by then: a row that cannot be written is logged as an error and counted."""
    if event in _TOKENS:
        count_tokens(_TOKENS[event], issued=status < 300)
    told = g.get("audit_note") if has_request_context() else None
    entry = Entry(
        request_id=request_id,
        user_id=user.user_id if user else None,
        username=user.username if user else None,
        role=user.role.label if user else None,
        credential=f"{user.credential}:{user.token_id}" if user else None,
        address=_plain(request.remote_addr or "unknown", 64),
        method=_plain(request.method, 16),
        path=_plain(request.path, 500),
        status=status,
        event=event,
    )
    if isinstance(told, Note):
        entry = replace(
            entry,
            event=told.event or event,
            username=entry.username or told.username,
            detail=json.dumps(told.detail, sort_keys=True) if told.detail else None,
        )
    try:
        number, digest = _writer_of(database).write(entry)
    except (psycopg2.Error, Problem) as error:
        count_audit_entry(written=False)
        log.error("audit_row_lost", error=str(error).strip(), row=entry)
        return
    count_audit_entry(written=True)
    # outside the database: what a row's hash was, should somebody rewrite the chain from there on
    log.info(
        "audit_row", entry_id=number, hash=digest.hex(), audit_event=entry.event, user=entry.username, role=entry.role,
        credential=entry.credential, address=entry.address, method=entry.method, path=entry.path, status=entry.status,
        detail=entry.detail,
    )  # fmt: skip


class _Pending:
    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.written: tuple[int, bytes] | None = None
        self.error: Exception | None = None


class Writer:
    """Writes rows in the order they come, those that wait together in one transaction: they share its lock and its
    flush to disk.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: list[_Pending] = []
        self._turn = threading.Lock()

    def write(self, entry: Entry) -> tuple[int, bytes]:
        """The number and the hash of the row, committed. Raises psycopg2.Error, or a 503 problem."""
        mine = _Pending(entry)
        self._pending.append(mine)
        with self._turn:
            # whoever had the turn before may have written it
            while mine.written is None and mine.error is None:
                batch, self._pending = self._pending[:_BATCH], self._pending[_BATCH:]
                self._write(batch)
        if mine.written is None:
            raise mine.error or AssertionError("neither written nor failed")
        return mine.written

    def _write(self, batch: list[_Pending]) -> None:
        try:
            for pending, written in zip(batch, append(self._database, [p.entry for p in batch]), strict=True):
                pending.written = written
        except (psycopg2.Error, Problem) as error:
            if len(batch) == 1 or isinstance(error, psycopg2.OperationalError | Problem):
                for pending in batch:
                    pending.error = error
                return
            # one row that the database does not take must not lose the others
            for pending in batch:
                self._write([pending])
        except BaseException as error:
            # a greenlet that is killed here leaves nobody waiting
            for pending in batch:
                pending.error = psycopg2.InterfaceError(f"not written: {error!r}")
            raise


_WRITERS: WeakKeyDictionary[Database, Writer] = WeakKeyDictionary()


def _writer_of(database: Database) -> Writer:
    return _WRITERS.setdefault(database, Writer(database))


def _own_write(method: str, path: str) -> str | None:
    for own_method, pattern, event in _OWN_WRITES:
        if method == own_method and pattern.fullmatch(path):
            return event
    return None


def _plain(text: str, length: int) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:length]


# --- verify ---


def problems_of(database: Database, anchor: tuple[int, bytes] | None = None) -> tuple[list[str], int, bytes]:
    """What is wrong with the stored chain, in words; the number and hash of its last row (0 and zeros: none).

    ``anchor`` is a row's number and hash as they were seen once, outside the database.
    """
    wrong: list[str] = []
    last, last_hash = 0, GENESIS
    anchored = anchor is None
    for fields, previous, digest in _rows(database):
        number = int(fields[0])
        if number != last + 1:
            missing = f"entry {last + 1} was" if number == last + 2 else f"entries {last + 1} to {number - 1} were"
            wrong.append(f"{missing} removed")
        elif previous != last_hash:
            wrong.append(f"entry {number} does not follow entry {last}: one of them was replaced or inserted")
        if hash_of(previous, fields) != digest:
            wrong.append(f"entry {number} was changed")
        if anchor is not None and number == anchor[0]:
            anchored = True
            if digest != anchor[1]:
                wrong.append(f"entry {number} is not the one that was anchored: the chain was rewritten")
        last, last_hash = number, digest
    if not anchored and anchor is not None:
        wrong.append(f"entry {anchor[0]} was removed: the log ends at entry {last}")
    return wrong, last, last_hash


def _rows(database: Database) -> Iterator[tuple[list[Any], bytes, bytes]]:
    last = -(2**62)
    columns = ", ".join(
        "(extract(epoch FROM at) * 1000000)::bigint" if name == "at" else f"{name}::text" if name == "user_id" else name
        for name in FIELDS
    )
    while rows := database.rows(
        f"SELECT {columns}, previous, hash FROM audit.entries WHERE entry_id > %s ORDER BY entry_id LIMIT 5000", (last,)
    ):
        for row in rows:
            yield list(row[:-2]), bytes(row[-2]), bytes(row[-1])
        last = rows[-1][0]


class CommandSettings(BaseSettings):
    """What the command needs."""

    database_url: SecretStr


def _anchor(text: str) -> tuple[int, bytes]:
    number, _, digest = text.partition(":")
    return int(number), bytes.fromhex(digest)


def main() -> int:
    """Run the command; exit code 1 when the log was altered, 2 when it cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m ots_gateway.audit", description="The audit log")
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="say which rows were changed, removed or inserted")
    verify.add_argument(
        "--anchor", type=_anchor, metavar="ENTRY:HASH", help="a row as an earlier verify, or the gateway's log, told it"
    )
    arguments = parser.parse_args()
    try:
        settings = CommandSettings()
    except ValidationError:
        print("audit: set DATABASE_URL", file=sys.stderr)
        return 2
    database = Database(settings.database_url.get_secret_value(), application="audit", size=1)
    try:
        wrong, last, digest = problems_of(database, arguments.anchor)
    except psycopg2.Error as error:
        print(f"audit: {str(error).strip()}", file=sys.stderr)
        return 2
    finally:
        database.close()
    for line in wrong:
        print(f"audit: {line}", file=sys.stderr)
    print(f"audit: {last} entries, the last {last}:{digest.hex()}" + ("" if wrong else ", as they were written"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
