"""From the headers of a request to the user it speaks for."""

from __future__ import annotations

from ots_common.database import Database
from ots_gateway.identity import InvalidTokenError, User
from ots_gateway.settings import GatewaySettings
from ots_gateway.user_tokens import TokenAuthority

__all__ = ["Authenticator", "InvalidTokenError", "User"]


class Authenticator:
    """Verifies access tokens (``Authorization: Bearer``) and API keys (``X-API-Key``)."""

    def __init__(self, authority: TokenAuthority) -> None:
        self._authority = authority

    @classmethod
    def of(cls, settings: GatewaySettings, database: Database) -> Authenticator:
        """The one that the settings ask for."""
        del database
        return cls(TokenAuthority(settings.jwt_signing_key.get_secret_value(), settings.access_token_ttl_s))

    def authenticate(self, authorization: str | None, api_key: str | None) -> User:
        """The user of these headers. Raises :class:`InvalidTokenError`, whose text may be told to the client."""
        if api_key is not None:
            raise InvalidTokenError("not a key of this platform")
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise InvalidTokenError("an access token is needed: Authorization: Bearer TOKEN")
        return self._authority.verify(token.strip())
