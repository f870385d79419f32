"""The analytics service."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_analytics.routes import indicators, patterns, volatility_history
from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database
from ots_common.service import add_health, create_service
from ots_market.sessions import sessions_of

NAME = "analytics"


def create_app(settings: AnalyticsSettings | None = None) -> OpenAPI:
    """The WSGI app, wired from the environment or from ``settings``."""
    settings = settings or AnalyticsSettings()
    app = create_service(
        NAME,
        settings,
        title="AI-OTS analytics",
        description="Indicators and patterns of stored bars, and stored implied volatility, at any moment.",
    )
    database = Database.of_service(NAME, settings)
    sessions_of(settings.market_calendar)  # made now, not in the first request
    add_health(
        app,
        NAME,
        settings,
        needs={"database": lambda: database.rows("SELECT 1 FROM instruments LIMIT 1")},
        wants={},
    )
    app.register_api(indicators.blueprint(settings, database))
    app.register_api(patterns.blueprint(settings, database))
    app.register_api(volatility_history.blueprint(settings, database))
    return app
