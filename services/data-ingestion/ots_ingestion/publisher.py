"""Latest prices into Redis after a commit. Redis may be away: PostgreSQL remembers, and this catches up later."""

from __future__ import annotations

import redis
import structlog

from ots_common.database import Database
from ots_market.latest import put_stock_prices, read_stock_prices

log = structlog.get_logger(__name__)


class LatestPublisher:
    """Publishes the latest price of stocks, as committed."""

    def __init__(self, database: Database, client: redis.Redis, source: str) -> None:
        self._database = database
        self._client = client
        self._source = source
        self.behind = False

    def publish(self, instruments: set[int]) -> None:
        """Publish those of ``instruments`` that are no options."""
        self._publish("instrument_id = ANY(%s)", (list(instruments),))

    def publish_everything(self) -> None:
        """Publish every stock: at the start, when nobody knows what the last process left undone."""
        self._publish("true", ())

    def catch_up(self) -> None:
        """Publish everything once Redis is back after a failure."""
        if self.behind:
            self.publish_everything()

    def _publish(self, condition: str, parameters: tuple[list[int], ...]) -> None:
        rows = self._database.rows(
            f"SELECT DISTINCT raw_symbol FROM instruments WHERE expiration IS NULL AND {condition}", parameters
        )
        prices = read_stock_prices(self._database, [row[0] for row in rows], self._source)
        try:
            put_stock_prices(self._client, prices, self._source)
            self.behind = False
        except redis.RedisError as error:
            if not self.behind:
                log.warning("redis_unavailable", error=str(error))
            self.behind = True
