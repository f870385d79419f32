"""Internal tokens: how one service proves to another who it is and for whom it calls.

Each (caller, audience) pair shares one secret, so a service that is broken into cannot speak as another, and having a
secret for a caller *is* the allow-list. HS256 because both ends hold the secret, and the gateway signs one a request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import jwt
from pydantic import SecretStr

LIFETIME_S = 30
LEEWAY_S = 5
HEADER = "X-OTS-Internal"
TYPE = "ots-internal"


class InvalidInternalToken(Exception):
    """The token is missing, broken, expired, for someone else, or from a caller that is not allowed."""


@dataclass(frozen=True)
class Caller:
    """Who is asking: the service that calls, and the user it calls for (a lasting id, and a name to show)."""

    service: str
    user: str
    username: str
    role: str
    request_id: str


def sign_internal_token(caller: Caller, audience: str, signing_keys: Mapping[str, SecretStr]) -> str:
    """Sign a token of at most :data:`LIFETIME_S` seconds for ``audience``.

    Raises :class:`KeyError` when this service may not call ``audience``.
    """
    now = int(time.time())
    claims = {
        "iss": caller.service,
        "aud": audience,
        "sub": caller.user,
        "name": caller.username,
        "role": caller.role,
        "rid": caller.request_id,
        "iat": now,
        "exp": now + LIFETIME_S,
    }
    key = signing_keys[audience].get_secret_value()
    return jwt.encode(claims, key, algorithm="HS256", headers={"typ": TYPE, "kid": caller.service})


def verify_internal_token(token: str, audience: str, accept_keys: Mapping[str, SecretStr]) -> Caller:
    """Verify a token that a caller of ``accept_keys`` signed for ``audience``.

    Raises :class:`InvalidInternalToken`.
    """
    try:
        header = jwt.get_unverified_header(token)
        caller = str(header.get("kid"))
        if header.get("typ") != TYPE or caller not in accept_keys:
            raise InvalidInternalToken(f"not a caller of {audience}")
        claims = jwt.decode(
            token,
            accept_keys[caller].get_secret_value(),
            algorithms=["HS256"],
            audience=audience,
            issuer=caller,
            leeway=LEEWAY_S,
            options={"require": ["iss", "aud", "sub", "iat", "exp", "name", "role", "rid"]},
        )
    except jwt.PyJWTError as error:
        raise InvalidInternalToken(str(error)) from error
    if claims["exp"] - claims["iat"] > 60:
        raise InvalidInternalToken("lives too long")
    return Caller(
        service=caller,
        user=str(claims["sub"]),
        username=str(claims["name"]),
        role=str(claims["role"]),
        request_id=str(claims["rid"]),
    )
