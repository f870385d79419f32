"""The cache service."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_cache.routes import entries, stock_prices
from ots_cache.settings import CacheSettings
from ots_common import redis_client
from ots_common.database import Database
from ots_common.service import add_health, create_service

NAME = "cache"


def create_app(settings: CacheSettings | None = None) -> OpenAPI:
    """The WSGI app, wired from the environment or from ``settings``."""
    settings = settings or CacheSettings()
    app = create_service(
        NAME, settings, title="AI-OTS cache", description="Latest prices, and entries that users keep for themselves."
    )
    database = Database.of_service(NAME, settings)
    client = redis_client.connect(settings.redis_url.get_secret_value())
    add_health(
        app,
        NAME,
        settings,
        needs={"database": lambda: database.rows("SELECT 1 FROM instruments LIMIT 1")},
        wants={"redis": client.ping},
    )
    app.register_api(stock_prices.blueprint(settings, database, client))
    app.register_api(entries.blueprint(settings, client))
    return app
