"""The web side of ingestion: takes files in and answers what is stored."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_common import redis_client
from ots_common.database import Database
from ots_common.service import add_health, create_service
from ots_ingestion.routes import (
    backfills,
    collection,
    corporate_actions,
    dead_letters,
    gaps,
    imports,
    market_data,
    market_status,
    quality,
    rates,
    self_checks,
)
from ots_ingestion.settings import IngestionSettings

NAME = "data-ingestion"


def create_app(settings: IngestionSettings | None = None) -> OpenAPI:
    """The WSGI app, wired from the environment or from ``settings``."""
    settings = settings or IngestionSettings()
    app = create_service(
        NAME,
        settings,
        title="AI-OTS data ingestion",
        description="DBN files in, each record once; bars, trades, quotes and instruments out.",
    )
    database = Database.of_service(NAME, settings)
    redis = redis_client.connect(settings.redis_url.get_secret_value())
    add_health(
        app,
        NAME,
        settings,
        needs={"database": lambda: database.rows("SELECT 1 FROM instruments LIMIT 1")},
        wants={"redis": redis.ping},
    )
    for room in (
        imports, market_data, corporate_actions, collection, backfills, gaps, dead_letters, quality, rates, self_checks,
    ):  # fmt: skip
        app.register_api(room.blueprint(settings, database))
    app.register_api(market_status.blueprint(settings))
    return app
