"""Sign-ins: each a family of refresh tokens, of which only the newest works, once.

A refresh token is 32 random bytes; PostgreSQL keeps its SHA-256. Using it gives the next one. Using it a second time,
be it a moment later by the same client, is taken for theft and ends the session, and with it every token of it: of two
uses at once exactly one gets tokens, and those die too. There is no grace in which a used one still works: whoever
holds a stolen one would have the same grace.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from ots_common.database import Database
from ots_gateway.access import Role
from ots_gateway.settings import GatewaySettings

PREFIX = "otr_"


class Ended(StrEnum):
    """Why a session ended."""

    LOGOUT = "logout"
    REUSE = "reuse"
    PASSWORD = "password"  # noqa: S105
    DISABLED = "disabled"
    REMOVED = "removed"


@dataclass(frozen=True)
class Session:
    """A session that stands; times in seconds since 1970. ``asked`` is the most that its tokens may."""

    session_id: str
    user_id: str
    username: str
    role: Role
    asked: Role
    ends: float

    @property
    def granted(self) -> Role:
        """What it may now: its user's role, and no more than was asked for."""
        return min(self.role, self.asked)

    @property
    def standing(self) -> tuple[Role, Role]:
        """What a remembered token depends on."""
        return self.role, self.asked


@dataclass(frozen=True)
class Granted:
    """A refresh token, told once, and its session."""

    session: Session
    refresh_token: str
    refresh_ttl_s: int


class InvalidRefreshError(Exception):
    """No such refresh token, or it or its session has ended. ``reused``: it had been used, and its session ended now.

    ``username`` is whose it was, where that is known.
    """

    def __init__(self, username: str | None = None, *, reused: bool = False) -> None:
        super().__init__("the refresh token is not valid, was used, or has expired: sign in again")
        self.username = username
        self.reused = reused


_COLUMNS = (
    "s.session_id::text, s.user_id::text, u.username, u.role, coalesce(s.role, 'admin'),"
    " extract(epoch FROM s.expires_at)"
)
_STANDS = "s.ended_at IS NULL AND s.expires_at > now() AND NOT u.disabled"


class Sessions:
    """The sessions in the accounts database. Everything raises psycopg2.Error."""

    def __init__(self, database: Database, settings: GatewaySettings) -> None:
        self._database = database
        self._session_ttl_s = settings.session_ttl_s
        self._refresh_ttl_s = settings.refresh_token_ttl_s

    def find(self, session_id: str) -> Session | None:
        """The session, if it stands."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM sessions s JOIN users u USING (user_id) WHERE s.session_id = %s AND {_STANDS}",
            (session_id,),
        )
        return _session(rows[0]) if rows else None

    def standing(self, session_ids: Sequence[str]) -> dict[str, tuple[Role, Role]]:
        """Of these sessions, those that stand: the role of the user, the role asked for."""
        if not session_ids:
            return {}
        rows = self._database.rows(
            "SELECT s.session_id::text, u.role, coalesce(s.role, 'admin') FROM sessions s JOIN users u USING (user_id)"
            f" WHERE s.session_id = ANY(%s::uuid[]) AND {_STANDS}",
            (list(session_ids),),
        )
        return {row[0]: (Role.named(row[1]), Role.named(row[2])) for row in rows}

    def open(self, user_id: str, password_hash: str, asked: Role | None, address: str) -> Granted | None:
        """A new session of a user who has just proved who they are, against that hash.

        None when the password was changed or the user disabled meanwhile: whoever did so ended all sessions, and this
        one would have slipped through.
        """
        token, digest = _new_token()
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(
                "WITH proved AS (SELECT user_id FROM users WHERE user_id = %s AND password_hash = %s AND NOT disabled"
                " FOR SHARE), made AS (INSERT INTO sessions (user_id, role, address, expires_at)"
                " SELECT user_id, %s, %s, now() + make_interval(secs => %s) FROM proved RETURNING *)"
                f" SELECT {_COLUMNS} FROM made s JOIN users u USING (user_id)",
                (user_id, password_hash, asked.label if asked else None, address, self._session_ttl_s),
            )
            row = cursor.fetchone()
            if row is None:
                return None
            session = _session(row)
            ttl = self._add_token(cursor, digest, session.session_id)
        return Granted(session, token, ttl)

    def refresh(self, token: str) -> Granted:
        """The next refresh token of the session. Raises :class:`InvalidRefreshError`."""
        following, digest = _new_token()
        reused: str | None = None
        with self._database.connection() as connection, connection.cursor() as cursor:
            # locks the token: of two uses at once, the second waits here and then sees the first
            cursor.execute(
                f"SELECT {_COLUMNS}, r.used_at IS NOT NULL, ({_STANDS} AND r.expires_at > now())"
                " FROM refresh_tokens r JOIN sessions s USING (session_id) JOIN users u USING (user_id)"
                " WHERE r.token_hash = %s FOR UPDATE OF r, s",
                (hash_of(token),),
            )
            row = cursor.fetchone()
            if row is None:
                raise InvalidRefreshError
            session, used, stands = _session(row[:6]), row[6], row[7]
            if used:
                reused = session.username
                cursor.execute(
                    "UPDATE sessions SET ended_at = now(), ended_by = 'reuse'"
                    " WHERE session_id = %s AND ended_at IS NULL",
                    (session.session_id,),
                )
            elif not stands:
                raise InvalidRefreshError(session.username)
            else:
                cursor.execute("UPDATE refresh_tokens SET used_at = now() WHERE token_hash = %s", (hash_of(token),))
                ttl = self._add_token(cursor, digest, session.session_id)
        if reused is not None:
            raise InvalidRefreshError(reused, reused=True)
        return Granted(session, following, ttl)

    def end(self, session_id: str, why: Ended) -> None:
        """End one session."""
        self._database.execute(
            "UPDATE sessions SET ended_at = now(), ended_by = %s WHERE session_id = %s AND ended_at IS NULL",
            (why.value, session_id),
        )

    def _add_token(self, cursor: Cursor, digest: bytes, session_id: str) -> int:
        cursor.execute(
            "INSERT INTO refresh_tokens (token_hash, session_id, expires_at)"
            " SELECT %s, session_id, least(expires_at, now() + make_interval(secs => %s)) FROM sessions"
            " WHERE session_id = %s RETURNING extract(epoch FROM expires_at - now())::integer",
            (digest, self._refresh_ttl_s, session_id),
        )
        return int((cursor.fetchone() or (0,))[0])


def end_all(cursor: Cursor, user_id: str, why: Ended, *, but: str | None = None) -> None:
    """End every session of a user, but one, inside the transaction that is the reason for it."""
    cursor.execute(
        "UPDATE sessions SET ended_at = now(), ended_by = %s WHERE user_id = %s AND ended_at IS NULL"
        " AND session_id IS DISTINCT FROM %s::uuid",
        (why.value, user_id, but),
    )


def hash_of(token: str) -> bytes:
    """What is stored of a refresh token: it has 256 random bits, so one fast hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _new_token() -> tuple[str, bytes]:
    token = PREFIX + secrets.token_urlsafe(32)
    return token, hash_of(token)


def _session(row: Sequence[object]) -> Session:
    session_id, user_id, username, role, asked, ends = row
    return Session(
        str(session_id), str(user_id), str(username), Role.named(str(role)), Role.named(str(asked)), float(str(ends))
    )
