"""The analytics service."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_analytics.allocation import keep_freed_memory
from ots_analytics.desk import Desk
from ots_analytics.routes import (
    calculators,
    contract_history,
    custom,
    expected_moves,
    exposures,
    indicators,
    market,
    options,
    patterns,
    scan,
    surfaces,
    unusual,
    volatility,
    volatility_history,
)
from ots_analytics.settings import AnalyticsSettings
from ots_common import redis_client
from ots_common.database import Database
from ots_common.memory import Memory
from ots_common.service import add_health, create_service
from ots_common.shared_cache import SharedCache
from ots_market.bars import Bars
from ots_market.sessions import sessions_of

NAME = "analytics"


def create_app(settings: AnalyticsSettings | None = None) -> OpenAPI:
    """The WSGI app, wired from the environment or from ``settings``."""
    settings = settings or AnalyticsSettings()
    keep_freed_memory()
    app = create_service(
        NAME,
        settings,
        title="AI-OTS analytics",
        description="Option chains, surfaces, indicators and patterns of what is stored, at any moment.",
    )
    database = Database.of_service(NAME, settings)
    client = redis_client.connect(settings.redis_url.get_secret_value())
    desk = Desk(settings, database, SharedCache(client, settings.market_source))
    sessions_of(settings.market_calendar)  # made now, not in the first request
    add_health(
        app,
        NAME,
        settings,
        needs={"database": lambda: database.rows("SELECT 1 FROM instruments LIMIT 1")},
        wants={"redis": client.ping},
    )
    bars = Memory[Bars](settings.bars_memory)
    app.register_api(indicators.blueprint(settings, database, desk.answers, bars))
    app.register_api(patterns.blueprint(settings, database, desk.answers, bars))
    app.register_api(volatility_history.blueprint(settings, database, desk.answers))
    for options_of in (
        options, surfaces, expected_moves, exposures, unusual, volatility, market, custom, calculators,
        contract_history, scan,
    ):  # fmt: skip
        app.register_api(options_of.blueprint(settings, database, desk))
    return app
