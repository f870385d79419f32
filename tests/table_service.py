"""A service of nothing but tables, to be run by gunicorn behind a gateway; the symbol that is asked for says which."""

from __future__ import annotations

import numpy as np
from flask import Response
from flask_openapi3.openapi import OpenAPI

from ots_common.service import create_service
from ots_common.settings import ServiceSettings
from ots_common.tables import Times, columns_response

SMALL, LARGE = 500, 200_000
NOON = 1_450_972_800_000_000_000


def create_app() -> OpenAPI:
    """The WSGI app."""
    settings = ServiceSettings()
    app = create_service("data-ingestion", settings, title="tables", description="")
    columns = {
        "time": Times(NOON + np.arange(LARGE) * 1_000_000),
        "price": np.arange(LARGE) / 7,
        "count": np.arange(LARGE) + 2**53,
    }

    def bars(symbol: str) -> Response:
        rows = SMALL if symbol == "SMALL" else LARGE
        taken = {
            name: Times(column.values[:rows]) if isinstance(column, Times) else column[:rows]
            for name, column in columns.items()
        }
        return columns_response("bars", taken, {"symbol": symbol, "source": "tests"}, "more")

    app.add_url_rule("/api/v1/data/bars/<symbol>", "bars", bars)
    return app
