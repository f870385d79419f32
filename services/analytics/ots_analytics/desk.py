"""Where chains are priced once and shared: by moment, underlying and the version of the data behind them."""

from __future__ import annotations

from ots_analytics.settings import AnalyticsSettings
from ots_common.database import Database
from ots_common.shared_cache import SharedCache


class Desk:
    """Priced chains for the routes that need them."""

    def __init__(self, settings: AnalyticsSettings, database: Database, cache: SharedCache) -> None:
        self._settings = settings
        self._database = database
        self._cache = cache
