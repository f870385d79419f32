"""Users' tokens: JWTs that only this gateway signs (EdDSA), and only with the key whose id they name."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ots_gateway.access import Role
from ots_gateway.identity import InvalidTokenError, User

__all__ = ["InvalidTokenError", "TokenAuthority", "User"]

ISSUER = AUDIENCE = "ai-ots"
TYPE = "at+jwt"
_LEEWAY_S = 5
# an Ed25519 verification costs hundreds of times a look-up
_REMEMBER_S = 60
_REMEMBER_AT_MOST = 4096
_CLAIMS = ["iss", "aud", "sub", "name", "role", "iat", "exp", "jti"]


class TokenAuthority:
    """Signs and verifies with one Ed25519 key, given as the base64url of its 32-byte seed.

    Raises ValueError when the seed is none.
    """

    def __init__(self, seed: str, lifetime_s: int) -> None:
        try:
            raw = base64.urlsafe_b64decode(seed + "=" * (-len(seed) % 4))
            self._private = Ed25519PrivateKey.from_private_bytes(raw)
        except ValueError as error:
            raise ValueError("JWT_SIGNING_KEY must be the base64url of 32 bytes") from error
        self._public = self._private.public_key()
        self.lifetime_s = lifetime_s
        self.key_id = _thumbprint(self._public.public_bytes_raw())
        self._verified: dict[bytes, tuple[User, float]] = {}

    def sign(self, user: User) -> str:
        """A token for ``user`` in the role it has there."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user.user_id,
            "name": user.username,
            "role": user.role.label,
            "iat": now,
            "exp": now + self.lifetime_s,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self._private, algorithm="EdDSA", headers={"kid": self.key_id, "typ": TYPE})

    def verify(self, token: str) -> User:
        """The user of a token; one verified less than a minute ago is remembered. Raises :class:`InvalidTokenError`."""
        digest = hashlib.sha256(token.encode()).digest()
        user, until = self._verified.get(digest, (None, 0.0))
        if user is not None and time.time() < until:
            return user
        user, expires = self._verify(token)
        if len(self._verified) >= _REMEMBER_AT_MOST:
            self._verified.clear()
        self._verified[digest] = (user, min(time.time() + _REMEMBER_S, expires))
        return user

    def _verify(self, token: str) -> tuple[User, float]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("kid") != self.key_id or header.get("typ") != TYPE or "crit" in header:
                raise InvalidTokenError("not a token of this platform")
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["EdDSA"],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=_LEEWAY_S,
                options={"require": _CLAIMS},
            )
            user = User(str(claims["sub"]), str(claims["name"]), Role.named(str(claims["role"])))
            return user, float(claims["exp"])
        except jwt.ExpiredSignatureError as error:
            raise InvalidTokenError("the token has expired") from error
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            raise InvalidTokenError("not a token of this platform") from error


def _thumbprint(public: bytes) -> str:
    """RFC 7638, of the JWK of an Ed25519 key (RFC 8037)."""
    x = base64.urlsafe_b64encode(public).decode().rstrip("=")
    jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(jwk.encode()).digest()).decode().rstrip("=")
