"""The audit log as stored: a chain of rows, each of which carries the hash of the one before.

A row's hash is SHA-256 of the hash before it (32 zero bytes for the first) followed by the JSON array, in UTF-8 and
with ``", "`` between its elements, ``[1, entry_id, at, request_id, user_id, username, role, credential, address,
method, path, status, event, detail]``; ``at`` in microseconds since 1970, what is unknown ``null``. The database
computes it (``audit.append``), :func:`hash_of` computes it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from ots_common.database import Database

GENESIS = bytes(32)
FIELDS = (
    "entry_id", "at", "request_id", "user_id", "username", "role", "credential", "address", "method", "path", "status",
    "event", "detail",
)  # fmt: skip
_FORMAT = 1
_APPEND = "SELECT entry_id, hash FROM audit.append(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


@dataclass(frozen=True)
class Entry:
    """A row to be: in the order of ``audit.append``."""

    request_id: str
    user_id: str | None = None
    username: str | None = None
    role: str | None = None
    credential: str | None = None
    address: str = "unknown"
    method: str = ""
    path: str = ""
    status: int = 0
    event: str = "refused"
    detail: str | None = None


def append(database: Database, entries: Sequence[Entry]) -> list[tuple[int, bytes]]:
    """Add rows in one transaction, in this order; their numbers and hashes. Raises psycopg2.Error."""
    with database.connection() as connection, connection.cursor() as cursor:
        written = []
        for entry in entries:
            cursor.execute(_APPEND, astuple(entry))
            number, digest = cursor.fetchone() or (0, b"")
            written.append((int(number), bytes(digest)))
        return written


def hash_of(previous: bytes, fields: Sequence[Any]) -> bytes:
    """The hash of a row whose values are ``fields``, in the order of :data:`FIELDS`, after ``previous``."""
    text = json.dumps([_FORMAT, *fields], ensure_ascii=False)
    return hashlib.sha256(previous + text.encode()).digest()
