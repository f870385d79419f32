"""The gateway."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_common.database import Database
from ots_common.service import create_edge
from ots_gateway import door
from ots_gateway.access import GATEWAY
from ots_gateway.passwords import PasswordChecker
from ots_gateway.proxy import Proxy
from ots_gateway.routes import auth, status
from ots_gateway.settings import GatewaySettings
from ots_gateway.user_tokens import TokenAuthority


def create_app(settings: GatewaySettings | None = None) -> OpenAPI:
    """The WSGI app, wired from the environment or from ``settings``."""
    settings = settings or GatewaySettings()
    app = create_edge(
        GATEWAY, settings, title="AI-OTS gateway", description="Signs users in and forwards what they may ask for."
    )
    database = Database.of_service(GATEWAY, settings)
    authority = TokenAuthority(settings.jwt_signing_key.get_secret_value(), settings.access_token_ttl_s)
    proxy = Proxy(settings)
    door.install(app, settings, authority, proxy, database)
    status.install(app, settings, proxy, database)
    app.register_api(auth.blueprint(database, authority, PasswordChecker()))
    return app
