"""Users and what administrators may do to them.

A username is ASCII, lower case, ``a-z 0-9 . _ @ -``, and starts with a letter or a digit, so that no two look alike and
Unicode's normal forms do not differ; capitals typed are taken for small letters. A removed user's row stays and so does
the claim to the name. There is always an admin who can sign in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.database import Database
from ots_common.problems import Problem
from ots_gateway.access import Role
from ots_gateway.sessions_of_users import Ended, end_all

_USERNAME = re.compile(r"^[a-z0-9][a-z0-9._@-]{0,63}$")
_COLUMNS = "user_id::text, username, role, disabled, created_at, password_changed_at"


@dataclass(frozen=True)
class StoredUser:
    """A user as administrators see them."""

    user_id: str
    username: str
    role: Role
    disabled: bool
    created_at: datetime
    password_changed_at: datetime


@dataclass(frozen=True)
class Credentials:
    """What a sign-in is held against."""

    user_id: str
    username: str
    password_hash: str
    role: Role


def canonical_username(typed: str) -> str | None:
    """The username that was meant, None when it cannot be one.

    ASCII before lower case: ``"K"`` (the Kelvin sign) would become a ``k``.
    """
    name = typed.strip(" ")
    if not name.isascii():
        return None
    name = name.lower()
    return name if _USERNAME.fullmatch(name) else None


class Users:
    """The users in the accounts database. Everything raises psycopg2.Error."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def credentials(self, username: str) -> Credentials | None:
        """Of a user who may sign in."""
        rows = self._database.rows(
            "SELECT user_id::text, username, password_hash, role FROM users WHERE username = %s AND NOT disabled",
            (username,),
        )
        return Credentials(rows[0][0], rows[0][1], rows[0][2], Role.named(rows[0][3])) if rows else None

    def page(self, after: str, limit: int) -> list[StoredUser]:
        """Users by name, those after ``after``."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM users WHERE removed_at IS NULL AND username > %s ORDER BY username LIMIT %s",
            (after, limit),
        )
        return [_stored(row) for row in rows]

    def find(self, user_id: str) -> StoredUser | None:
        """The user, unless removed."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM users WHERE user_id = %s AND removed_at IS NULL", (user_id,)
        )
        return _stored(rows[0]) if rows else None

    def make(self, username: str, password_hash: str, role: Role) -> StoredUser:
        """A new user. Raises a 409 problem when the name is or was somebody's."""
        try:
            rows = self._database.rows(
                f"INSERT INTO users (username, password_hash, role) VALUES (%s, %s, %s) RETURNING {_COLUMNS}",
                (username, password_hash, role.label),
            )
        except psycopg2.errors.UniqueViolation as error:
            raise Problem(409, "username-taken", "this username is taken, or was once") from error
        return _stored(rows[0])

    def change(self, user_id: str, role: Role | None, disabled: bool | None) -> tuple[StoredUser, StoredUser] | None:
        """The user before and after; None when there is no such user. Who is disabled is signed out everywhere.

        Raises a 409 problem when no admin would be left.
        """
        with self._database.connection() as connection, connection.cursor() as cursor:
            before = _lock(cursor, user_id)
            if before is None:
                return None
            cursor.execute(
                "UPDATE users SET role = coalesce(%s, role), disabled = coalesce(%s, disabled) WHERE user_id = %s"
                f" RETURNING {_COLUMNS}",
                (role.label if role else None, disabled, user_id),
            )
            after = _stored(cursor.fetchone() or ())
            _require_an_admin(cursor)
            if after.disabled:
                end_all(cursor, user_id, Ended.DISABLED)
            return before, after

    def remove(self, user_id: str) -> StoredUser | None:
        """Remove a user, their sessions and keys; None when there is no such user. Raises a 409 problem as above."""
        with self._database.connection() as connection, connection.cursor() as cursor:
            before = _lock(cursor, user_id)
            if before is None:
                return None
            cursor.execute("UPDATE users SET disabled = true, removed_at = now() WHERE user_id = %s", (user_id,))
            _require_an_admin(cursor)
            end_all(cursor, user_id, Ended.REMOVED)
            _revoke_keys(cursor, user_id)
            return before

    def set_password(
        self, user_id: str, password_hash: str, *, keep_session: str | None, revoke_keys: bool = False
    ) -> bool:
        """Set it and end the user's sessions, but one, and their keys if so; False when there is no such user."""
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(
                "UPDATE users SET password_hash = %s, password_changed_at = now()"
                " WHERE user_id = %s AND removed_at IS NULL",
                (password_hash, user_id),
            )
            if cursor.rowcount != 1:
                return False
            end_all(cursor, user_id, Ended.PASSWORD, but=keep_session)
            if revoke_keys:
                _revoke_keys(cursor, user_id)
            return True


def _lock(cursor: Cursor, user_id: str) -> StoredUser | None:
    # all admins, in one order: two who take each other's role away at once would leave none
    cursor.execute("SELECT 1 FROM users WHERE role = 'admin' OR user_id = %s ORDER BY user_id FOR UPDATE", (user_id,))
    cursor.execute(f"SELECT {_COLUMNS} FROM users WHERE user_id = %s AND removed_at IS NULL", (user_id,))
    row = cursor.fetchone()
    return _stored(row) if row else None


def _require_an_admin(cursor: Cursor) -> None:
    cursor.execute("SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled LIMIT 1")
    if cursor.fetchone() is None:
        raise Problem(409, "last-admin", "this is the last admin who can sign in: make another one first")


def _revoke_keys(cursor: Cursor, user_id: str) -> None:
    cursor.execute("UPDATE api_keys SET revoked_at = now() WHERE user_id = %s AND revoked_at IS NULL", (user_id,))


def _stored(row: Sequence[object]) -> StoredUser:
    user_id, username, role, disabled, created_at, password_changed_at = row
    return StoredUser(
        str(user_id),
        str(username),
        Role.named(str(role)),
        bool(disabled),
        _time(created_at),
        _time(password_changed_at),
    )


def _time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"not a time: {value!r}")
    return value
