"""The latest price of a stock. Redis answers; PostgreSQL does when Redis cannot, with the same answer."""

from __future__ import annotations

from typing import Any

import redis
import structlog
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from prometheus_client import Counter
from pydantic import BaseModel, Field

from ots_cache.settings import CacheSettings
from ots_common.database import Database
from ots_common.schemas import ProblemModel, RequestModel
from ots_market.instruments import unknown_symbol
from ots_market.latest import get_stock_price, put_stock_prices, read_stock_prices
from ots_market.symbols import Symbol, canonical_symbol

log = structlog.get_logger(__name__)

LOOKUPS = Counter("ots_cache_lookups_total", "Lookups by where the answer was found", ["kind", "result"])
_TAG = Tag(name="stock prices", description="Written by ingestion only")


class SymbolPath(RequestModel):
    """A ticker."""

    symbol: Symbol


class StockPriceModel(BaseModel):
    """The latest price in dollars. ``price_kind``: `trade`, or `bar`, the close of the newest bar at its end."""

    symbol: str
    price: float | None
    price_time: str | None
    price_kind: str | None
    reason: str | None = Field(description="why there is no price")
    size: int | None
    bid: float | None
    ask: float | None
    bid_size: int | None
    ask_size: int | None
    quote_time: str | None
    as_of: str
    dataset: str
    source: str


def blueprint(settings: CacheSettings, database: Database, client: redis.Redis) -> APIBlueprint:
    """The routes of stock prices."""
    api = APIBlueprint("stock_prices", __name__, url_prefix="/api/v1/cache", abp_tags=[_TAG])
    source = settings.market_source

    @api.get(
        "/stock-prices/<symbol>",
        summary="The latest price of a stock",
        responses={200: StockPriceModel, 404: ProblemModel},
    )
    def stock_price(path: SymbolPath) -> Response:
        symbol = canonical_symbol(path.symbol)
        price = _from_redis(client, symbol, source)
        if price is None:
            price = read_stock_prices(database, [symbol], source).get(symbol)
            if price is None:
                raise unknown_symbol(database, symbol, None, source=source)
            _to_redis(client, price, source)
        return Response(json.dumps({k: v for k, v in price.items() if k != "as_of_ns"}), mimetype="application/json")

    return api


def _from_redis(client: redis.Redis, symbol: str, source: str) -> dict[str, Any] | None:
    try:
        price = get_stock_price(client, symbol, source)
    except redis.RedisError as error:
        log.warning("redis_unavailable", error=str(error))
        LOOKUPS.labels("stock_price", "unavailable").inc()
        return None
    LOOKUPS.labels("stock_price", "miss" if price is None else "hit").inc()
    return price


def _to_redis(client: redis.Redis, price: dict[str, Any], source: str) -> None:
    try:
        put_stock_prices(client, {price["symbol"]: price}, source)
    except redis.RedisError as error:
        log.warning("redis_unavailable", error=str(error))
