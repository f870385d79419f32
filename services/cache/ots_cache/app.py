"""The cache service."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_cache.other_services import OtherService
from ots_cache.own_entries import OwnEntries
from ots_cache.routes import entries, market_status, option_chains, statistics, stock_prices
from ots_cache.settings import CacheSettings
from ots_common import redis_client
from ots_common.database import Database
from ots_common.service import add_health, create_service
from ots_common.shared_cache import SharedCache

NAME = "cache"


def create_app(settings: CacheSettings | None = None) -> OpenAPI:
    """The WSGI app, wired from the environment or from ``settings``."""
    settings = settings or CacheSettings()
    app = create_service(
        NAME,
        settings,
        title="AI-OTS cache",
        description="Latest prices, kept option chains, and entries that users keep for themselves.",
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
    cache = SharedCache(client, settings.market_source)
    own = OwnEntries(client, settings.market_source)
    analytics, ingestion = (
        OtherService(NAME, name, settings.upstreams.get(name), settings, timeout_s=settings.upstream_timeout_s)
        for name in ("analytics", "data-ingestion")
    )
    app.register_api(stock_prices.blueprint(settings, database, client, cache))
    app.register_api(option_chains.blueprint(settings, database, cache, analytics))
    app.register_api(market_status.blueprint(settings, cache, ingestion))
    app.register_api(statistics.blueprint(settings, client, cache, own))
    app.register_api(entries.blueprint(settings, own))
    return app
