"""All that accounts add to the gateway, wired in one place."""

from __future__ import annotations

from dataclasses import dataclass

from flask_openapi3.blueprint import APIBlueprint

from ots_common.database import Database
from ots_gateway.authentication import Authenticator
from ots_gateway.passwords import PasswordChecker
from ots_gateway.routes import auth
from ots_gateway.settings import GatewaySettings
from ots_gateway.user_tokens import TokenAuthority


@dataclass(frozen=True)
class Security:
    """Who verifies credentials, and the routes that hand them out."""

    authenticator: Authenticator
    blueprints: tuple[APIBlueprint, ...]

    @classmethod
    def of(cls, settings: GatewaySettings, database: Database) -> Security:
        """Wired from ``settings`` over the accounts database; connects to nothing yet."""
        authority = TokenAuthority(settings.jwt_signing_key.get_secret_value(), settings.access_token_ttl_s)
        return cls(
            authenticator=Authenticator.of(settings, database),
            blueprints=(auth.blueprint(database, authority, PasswordChecker()),),
        )
