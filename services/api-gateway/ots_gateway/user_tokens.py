"""Users' access tokens: EdDSA over a key of the set, short-lived, naming the sign-in they belong to."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

import jwt

from ots_gateway.access import Role
from ots_gateway.identity import InvalidTokenError
from ots_gateway.signing_keys import ALGORITHM, KeySet

ISSUER = AUDIENCE = "ai-ots"
TYPE = "at+jwt"
LEEWAY_S = 5
# what a header may say: a token that brings its own key, names an address for it or asks for extensions is not ours
_HEADER = frozenset({"alg", "kid", "typ"})
_CLAIMS = ["iss", "aud", "sub", "name", "role", "sid", "iat", "nbf", "exp", "jti"]
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOT_OURS = "not a token of this platform"


@dataclass(frozen=True)
class Claims:
    """What a token says, its signature and times being right. Whether it still stands, the database knows."""

    user_id: str
    session_id: str
    role: Role
    token_id: str
    kid: str
    expires: float


class TokenAuthority:
    """Signs and verifies access tokens with the keys of ``keys``."""

    def __init__(self, keys: KeySet, lifetime_s: int) -> None:
        self._keys = keys
        self.lifetime_s = lifetime_s

    def sign(self, *, user_id: str, username: str, role: Role, session_id: str, session_ends: float) -> str:
        """A token that lives as long as tokens do, but not longer than its session (seconds since 1970)."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "name": username,
            "role": role.label,
            "sid": session_id,
            "iat": now,
            "nbf": now,
            "exp": min(now + self.lifetime_s, int(session_ends)),
            "jti": uuid.uuid4().hex,
        }
        key = self._keys.signer()
        return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": TYPE})

    def verify(self, token: str) -> Claims:
        """What the token says. Raises :class:`InvalidTokenError`, and psycopg2.Error when the keys cannot be read."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError, ValueError) as error:
            raise InvalidTokenError(_NOT_OURS, "not_ours") from error
        if not header.keys() <= _HEADER or header.get("typ") != TYPE or header.get("alg") != ALGORITHM:
            raise InvalidTokenError(_NOT_OURS, "not_ours")
        key = self._keys.find(header.get("kid"))
        if key is None:
            raise InvalidTokenError(_NOT_OURS, "not_ours")
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY_S,
                options={"require": _CLAIMS, "strict_aud": True},
            )
            return _read(claims, key.kid)
        except jwt.ExpiredSignatureError as error:
            raise InvalidTokenError("the token has expired", "expired") from error
        except (jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
            raise InvalidTokenError(_NOT_OURS, "not_ours") from error


def _read(claims: dict[str, Any], kid: str) -> Claims:
    user_id, session_id = str(claims["sub"]), str(claims["sid"])
    if not (_UUID.fullmatch(user_id) and _UUID.fullmatch(session_id)):
        raise InvalidTokenError(_NOT_OURS, "not_ours")
    return Claims(
        user_id, session_id, Role.named(str(claims["role"])), str(claims["jti"]), kid, float(claims["exp"]) + LEEWAY_S
    )
