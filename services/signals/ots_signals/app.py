"""The signals service."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_common import redis_client
from ots_common.database import Database
from ots_common.service import add_health, create_service
from ots_market.sessions import sessions_of
from ots_signals.analytics_market import AnalyticsMarket
from ots_signals.market_view import MarketView
from ots_signals.routes import backtests, decisions, evaluate, ledger, statistics
from ots_signals.settings import SignalsSettings
from ots_signals.stored_market import StoredMarket

NAME = "signals"


def create_app(settings: SignalsSettings | None = None) -> OpenAPI:
    """The WSGI app, wired from the environment or from ``settings``."""
    settings = settings or SignalsSettings()
    app = create_service(
        NAME,
        settings,
        title="AI-OTS signals",
        description="Candidates for option moves beside their cost and their baseline, and what became of them.",
    )
    database = Database.of_service(NAME, settings)
    client = redis_client.connect(settings.redis_url.get_secret_value())
    sessions_of(settings.market_calendar)  # made now, not in the first request
    add_health(
        app,
        NAME,
        settings,
        needs={"database": lambda: database.rows("SELECT 1 FROM signal_ledger LIMIT 1")},
        wants={"redis": client.ping},
    )
    for routes in (ledger, decisions, statistics, backtests):
        app.register_api(routes.blueprint(settings, database))
    app.register_api(evaluate.blueprint(settings, database, _market(settings, database)))
    return app


def _market(settings: SignalsSettings, database: Database) -> MarketView:
    """Where dry runs decide: as the worker does, where analytics may be called."""
    stored = StoredMarket(database, source=settings.market_source, calendar=settings.market_calendar)
    if "analytics" not in settings.upstreams or "analytics" not in settings.signing_keys:
        return stored
    return AnalyticsMarket(
        stored, settings.upstreams["analytics"], settings.signing_keys, timeout_s=settings.upstream_timeout_s
    )
