"""From the headers of a request to the user it speaks for.

A credential is verified in full, down to the row in PostgreSQL that lets it stand, and then remembered for a minute
at most. What is remembered is held against PostgreSQL twice a second in every process: a session that ended, a key
that was revoked, a user who was disabled or has another role now, a signing key that was retired. So a revocation is
honoured everywhere within :data:`BOUND_S`, and at once by the worker that made it. A process that cannot reach
PostgreSQL forgets everything within :data:`REMEMBER_S` and lets nobody in until it can.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psycopg2
import structlog

from ots_common.database import Database
from ots_common.problems import Problem, unavailable
from ots_gateway import api_keys
from ots_gateway.access import Role
from ots_gateway.api_keys import ApiKeys
from ots_gateway.identity import InvalidTokenError, User
from ots_gateway.sessions_of_users import Sessions
from ots_gateway.settings import GatewaySettings
from ots_gateway.signing_keys import KeySet
from ots_gateway.tidying import tidy
from ots_gateway.user_tokens import TokenAuthority

__all__ = ["Authenticator", "InvalidTokenError", "User"]

log = structlog.get_logger(__name__)

BOUND_S = 1.0
REMEMBER_S = 60.0
_CHECK_EVERY_S = 0.5
_TIDY_EVERY_S = 3600.0
_REMEMBER_AT_MOST = 4096
_ANSWER_WITHOUT = "an access token is needed: Authorization: Bearer TOKEN"


@dataclass(frozen=True)
class _Remembered:
    """A verified credential. ``standing`` is what must not change: the role its owner has, the role it was given."""

    user: User
    kid: str | None
    standing: tuple[Role, Role]
    until: float


@dataclass(frozen=True)
class Watch:
    """What looks after the remembered, over connections of its own."""

    database: Database
    sessions: Sessions
    api_keys: ApiKeys


class Authenticator:
    """Verifies access tokens (``Authorization: Bearer``) and API keys (``X-API-Key``, or as a bearer token too)."""

    def __init__(
        self, authority: TokenAuthority, keys: KeySet, sessions: Sessions, api_keys_: ApiKeys, watch: Watch
    ) -> None:
        self._authority = authority
        self.keys = keys
        self._sessions = sessions
        self._api_keys = api_keys_
        self._watch = watch
        self._remembered: dict[bytes, _Remembered] = {}
        self._checker: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopped = threading.Event()

    @classmethod
    def of(cls, settings: GatewaySettings, database: Database) -> Authenticator:
        """The one that the settings ask for; connects to nothing yet."""
        # a pool that is busy, or that somebody keeps busy, must not keep a thief in
        own = Database(settings.database_url.get_secret_value(), application="gateway-watch", size=2)
        keys = KeySet(own, settings.jwt_signing_key.get_secret_value())
        return cls(
            TokenAuthority(keys, settings.access_token_ttl_s),
            keys,
            Sessions(database, settings),
            ApiKeys(database),
            Watch(own, Sessions(own, settings), ApiKeys(own)),
        )

    def authenticate(self, authorization: str | None, api_key: str | None) -> User:
        """The user of these headers.

        Raises :class:`InvalidTokenError`, whose text may be told to the client, and a 503 problem when PostgreSQL,
        which alone knows what was revoked, does not answer.
        """
        # the field as it was sent, under its name: most requests get no further
        digest = hashlib.sha256(f"{authorization}\n{api_key}".encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is not None and known.until > time.time():
            return known.user
        credential = _credential(authorization, api_key)
        try:
            fresh = self._verify_key(credential) if api_keys.is_one(credential) else self._verify_token(credential)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            log.warning("accounts_unavailable", error=str(error).strip())
            raise unavailable("the accounts database does not answer") from error
        self._remember(digest, fresh)
        return fresh.user

    def forget(self, belongs: Callable[[User], bool]) -> None:
        """Drop what this process remembers of these users' credentials; the others learn of it by themselves."""
        for digest in [digest for digest, known in list(self._remembered.items()) if belongs(known.user)]:
            self._remembered.pop(digest, None)

    def check(self) -> None:
        """Hold all that is remembered against PostgreSQL. Raises psycopg2.Error, or a problem."""
        known = list(self._remembered.items())
        if not known:
            return
        self.keys.reload_after(_CHECK_EVERY_S)
        sessions = self._watch.sessions.standing(_ids(entry.user.session_id for _, entry in known))
        keys = self._watch.api_keys.standing(_ids(e.user.token_id for _, e in known if e.user.credential == "key"))
        for digest, entry in known:
            user = entry.user
            stands = keys.get(user.token_id) if user.credential == "key" else sessions.get(user.session_id or "")
            if stands != entry.standing or (entry.kid is not None and self.keys.find(entry.kid) is None):
                self._remembered.pop(digest, None)

    def close(self) -> None:
        """Stop looking."""
        self._stopped.set()

    def _verify_token(self, token: str) -> _Remembered:
        claims = self._authority.verify(token)
        session = self._sessions.find(claims.session_id)
        if session is None or session.user_id != claims.user_id:
            raise InvalidTokenError("the token was revoked", "revoked")
        user = User(
            user_id=claims.user_id,
            username=session.username,
            role=min(claims.role, session.granted),
            credential="token",
            token_id=claims.token_id,
            session_id=claims.session_id,
        )
        until = min(time.time() + REMEMBER_S, claims.expires, session.ends)
        return _Remembered(user, claims.kid, session.standing, until)

    def _verify_key(self, text: str) -> _Remembered:
        key = self._api_keys.find(api_keys.hash_of(text))
        if key is None:
            raise InvalidTokenError("not a key of this platform, or it is revoked or has expired", "key")
        user = User(
            user_id=key.user_id,
            username=key.username,
            role=min(key.standing),
            scopes=key.scopes,
            credential="key",
            token_id=key.key_id,
        )
        return _Remembered(user, None, key.standing, min(time.time() + REMEMBER_S, key.expires))

    def _remember(self, digest: bytes, fresh: _Remembered) -> None:
        if self._checker is None:
            self._start()
        while len(self._remembered) >= _REMEMBER_AT_MOST:
            self._remembered.pop(next(iter(self._remembered)), None)
        self._remembered[digest] = fresh

    def _start(self) -> None:
        # here and not at the start: gunicorn forks
        with self._starting:
            if self._checker is None:
                self._checker = threading.Thread(target=self._check_always, name="credentials", daemon=True)
                self._checker.start()

    def _check_always(self) -> None:
        tidied, reachable = time.monotonic(), True
        while not self._stopped.wait(_CHECK_EVERY_S):
            try:
                self.check()
                if time.monotonic() - tidied > _TIDY_EVERY_S:
                    tidied = time.monotonic()
                    tidy(self._watch.database)
                reachable = True
            except (psycopg2.Error, Problem) as error:
                if reachable:
                    log.error("credentials_not_checked", error=str(error).strip())
                reachable = False
            except Exception:
                # whatever it is: a thread that ended would leave the revoked in for a minute
                log.exception("credentials_not_checked")
                self._remembered.clear()


def _credential(authorization: str | None, api_key: str | None) -> str:
    if api_key is not None:
        if authorization is not None:
            raise InvalidTokenError("send a token or a key, not both", "malformed")
        if not api_keys.is_one(api_key):
            raise InvalidTokenError("not a key of this platform", "key")
        return api_key
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise InvalidTokenError(_ANSWER_WITHOUT, "malformed" if authorization else "none")
    return token


def _ids(found: Iterable[str | None]) -> list[str]:
    return sorted({value for value in found if value})
