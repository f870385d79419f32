"""Keys for programs: ``ots_``, eight characters to tell it by, ``_``, 32 random bytes; SHA-256 is what is stored.

A key may what its role and its scopes allow, and never more than its owner may now. It expires. It cannot make keys or
users, nor change a password: a leaked one must not be able to outlive its own end.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ots_common.database import Database
from ots_common.problems import Problem
from ots_gateway.access import Role

SCOPES = ("market", "analytics", "cache", "control", "account")
AT_MOST = 50
_KEY = re.compile(r"ots_[a-z2-7]{8}_[A-Za-z0-9_-]{43}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True)
class ApiKey:
    """A key that stands; ``standing`` is its owner's role and its own."""

    key_id: str
    user_id: str
    username: str
    standing: tuple[Role, Role]
    scopes: frozenset[str]
    expires: float


@dataclass(frozen=True)
class StoredKey:
    """A key as its owner sees it."""

    key_id: str
    name: str
    prefix: str
    role: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


_SHOWN = "key_id::text, name, prefix, role, scopes, created_at, expires_at, last_used_at, revoked_at"
_STANDS = "k.revoked_at IS NULL AND k.expires_at > now() AND NOT u.disabled"


def is_one(credential: str) -> bool:
    """Whether it is written as a key is."""
    return _KEY.fullmatch(credential) is not None


def hash_of(key: str) -> bytes:
    """What is stored of a key: it has 256 random bits, so one fast hash is enough."""
    return hashlib.sha256(key.encode()).digest()


class ApiKeys:
    """The keys in the accounts database. Everything raises psycopg2.Error."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, digest: bytes) -> ApiKey | None:
        """The key of that SHA-256, if it stands; notes, to the minute, that it was used."""
        rows = self._database.rows(
            "UPDATE api_keys k SET last_used_at = CASE WHEN k.last_used_at > now() - interval '1 minute'"
            " THEN k.last_used_at ELSE now() END FROM users u"
            f" WHERE k.key_hash = %s AND u.user_id = k.user_id AND {_STANDS}"
            " RETURNING k.key_id::text, u.user_id::text, u.username, u.role, k.role, k.scopes,"
            " extract(epoch FROM k.expires_at)",
            (digest,),
        )
        if not rows:
            return None
        key_id, user_id, username, owners, own, scopes, expires = rows[0]
        return ApiKey(
            key_id, user_id, username, (Role.named(owners), Role.named(own)), frozenset(scopes), float(expires)
        )

    def standing(self, key_ids: Sequence[str]) -> dict[str, tuple[Role, Role]]:
        """Of these keys, those that stand: their owner's role and their own."""
        if not key_ids:
            return {}
        rows = self._database.rows(
            "SELECT k.key_id::text, u.role, k.role FROM api_keys k JOIN users u USING (user_id)"
            f" WHERE k.key_id = ANY(%s::uuid[]) AND {_STANDS}",
            (list(key_ids),),
        )
        return {row[0]: (Role.named(row[1]), Role.named(row[2])) for row in rows}

    def make(self, user_id: str, name: str, role: Role, scopes: Sequence[str], days: int) -> tuple[StoredKey, str]:
        """A new key and its text, which is not kept. Raises a 409 problem when the user has too many."""
        prefix = "ots_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
        key = f"{prefix}_{secrets.token_urlsafe(32)}"
        with self._database.connection() as connection, connection.cursor() as cursor:
            # locks the user: two that are made at once count each other
            cursor.execute("SELECT 1 FROM users WHERE user_id = %s FOR UPDATE", (user_id,))
            cursor.execute(
                "SELECT count(*) FROM api_keys WHERE user_id = %s AND revoked_at IS NULL AND expires_at > now()",
                (user_id,),
            )
            if (cursor.fetchone() or (0,))[0] >= AT_MOST:
                raise Problem(409, "too-many-keys", f"there are {AT_MOST} keys that work: revoke one first")
            cursor.execute(
                "INSERT INTO api_keys (user_id, name, prefix, key_hash, role, scopes, expires_at)"
                f" VALUES (%s, %s, %s, %s, %s, %s, now() + make_interval(days => %s)) RETURNING {_SHOWN}",
                (user_id, name, prefix, hash_of(key), role.label, sorted(scopes), days),
            )
            return _stored(cursor.fetchone() or ()), key

    def of_user(self, user_id: str) -> list[StoredKey]:
        """All keys of a user, the newest first, with those that ended within 30 days."""
        rows = self._database.rows(
            f"SELECT {_SHOWN} FROM api_keys WHERE user_id = %s"
            " AND coalesce(revoked_at, expires_at) > now() - interval '30 days' ORDER BY created_at DESC, key_id",
            (user_id,),
        )
        return [_stored(row) for row in rows]

    def revoke(self, user_id: str, key_id: str) -> bool:
        """End a key of that user; False when they have no such key that stands."""
        done = self._database.execute(
            "UPDATE api_keys SET revoked_at = now() WHERE key_id = %s AND user_id = %s AND revoked_at IS NULL",
            (key_id, user_id),
        )
        return done == 1


def _stored(row: Sequence[Any]) -> StoredKey:
    key_id, name, prefix, role, scopes, created_at, expires_at, last_used_at, revoked_at = row
    return StoredKey(key_id, name, prefix, role, tuple(scopes), created_at, expires_at, last_used_at, revoked_at)
