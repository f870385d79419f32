"""All that accounts add to the gateway, wired in one place."""

from __future__ import annotations

from dataclasses import dataclass

from flask_openapi3.blueprint import APIBlueprint

from ots_common.database import Database
from ots_gateway.api_keys import ApiKeys
from ots_gateway.authentication import Authenticator
from ots_gateway.lockout import Lockout
from ots_gateway.passwords import PasswordChecker
from ots_gateway.routes import audit, auth, jwks, keys, users
from ots_gateway.sessions_of_users import Sessions
from ots_gateway.settings import GatewaySettings
from ots_gateway.sign_in import SignIn
from ots_gateway.user_tokens import TokenAuthority
from ots_gateway.users import Users


@dataclass(frozen=True)
class Security:
    """Who verifies credentials, and the routes that hand them out."""

    authenticator: Authenticator
    blueprints: tuple[APIBlueprint, ...]

    @classmethod
    def of(cls, settings: GatewaySettings, database: Database) -> Security:
        """Wired from ``settings`` over the accounts database; connects to nothing yet."""
        authenticator = Authenticator.of(settings, database)
        authority = TokenAuthority(authenticator.keys, settings.access_token_ttl_s)
        accounts, sessions, api_keys = Users(database), Sessions(database, settings), ApiKeys(database)
        checker = PasswordChecker(settings.passwords_at_once, settings.passwords_waiting)
        lockout = Lockout(
            database,
            per_account=settings.login_failures_per_account,
            per_address=settings.login_failures_per_address,
        )
        sign_in = SignIn(accounts, lockout, checker)
        return cls(
            authenticator=authenticator,
            blueprints=(
                auth.blueprint(authenticator, authority, sign_in, sessions, accounts, checker),
                jwks.blueprint(authenticator.keys),
                users.blueprint(accounts, authenticator, checker),
                keys.blueprint(api_keys, accounts, authenticator),
                audit.blueprint(database),
            ),
        )
