"""The gateway."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_common import redis_client, traces
from ots_common.database import Database
from ots_common.log_levels import LevelStore
from ots_common.service import create_edge
from ots_gateway import door
from ots_gateway.access import GATEWAY
from ots_gateway.api_document import ApiDocument
from ots_gateway.front import Front
from ots_gateway.proxy import Proxy
from ots_gateway.routes import documents, log_levels, status
from ots_gateway.security import Security
from ots_gateway.settings import EXTENSION, GatewaySettings


def create_app(settings: GatewaySettings | None = None) -> OpenAPI:
    """The WSGI app, wired from the environment or from ``settings``."""
    settings = settings or GatewaySettings()
    app = create_edge(
        GATEWAY, settings, title="AI-OTS gateway", description="Signs users in and forwards what they may ask for."
    )
    database = Database.of_service(GATEWAY, settings, lock_s=settings.database_lock_s)
    security = Security.of(settings, database)
    proxy = Proxy(settings)
    door.install(app, database)
    status.install(app, settings, proxy, database)
    for blueprint in security.blueprints:
        app.register_api(blueprint)
    client = redis_client.connect(settings.redis_url.get_secret_value())
    app.register_api(log_levels.blueprint(LevelStore(client, settings.market_source)))
    documents.install(app, ApiDocument(proxy, app.api_doc, settings.upstreams))
    front = Front(app.wsgi_app, settings, security.authenticator, proxy, database)
    app.wsgi_app = traces.Traced(front) if traces.TraceSettings().wanted else front  # type: ignore[method-assign]
    app.extensions[EXTENSION] = settings
    return app
