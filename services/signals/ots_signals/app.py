"""The signals service."""

from __future__ import annotations

from flask_openapi3.openapi import OpenAPI

from ots_common import redis_client
from ots_common.database import Database
from ots_common.service import add_health, create_service
from ots_market.sessions import sessions_of
from ots_signals.routes import ledger
from ots_signals.settings import SignalsSettings

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
    app.register_api(ledger.blueprint(settings, database))
    return app
