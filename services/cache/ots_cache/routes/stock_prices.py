"""The latest price of a stock. Redis answers; PostgreSQL does when Redis cannot, with the same answer."""

from __future__ import annotations

from typing import Any

import redis
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ots_cache.settings import CacheSettings
from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel, TableModel
from ots_common.shared_cache import SharedCache
from ots_common.tables import table_response
from ots_market.instruments import unknown_symbol
from ots_market.latest import get_stock_prices, put_stock_prices, read_stock_prices
from ots_market.symbols import Symbol, canonical_symbol

_TAG = Tag(name="stock prices", description="Written by ingestion only")
_KIND = "stock-price"
_AT_ONCE = 100
_COLUMNS = (
    "symbol", "price", "price_time", "price_kind", "reason", "size", "bid", "ask", "bid_size", "ask_size", "quote_time",
    "as_of", "dataset", "source",
)  # fmt: skip
_SYMBOL = TypeAdapter(Symbol)


class SymbolPath(RequestModel):
    """A ticker."""

    symbol: Symbol


class StockPricesQuery(RequestModel):
    """Which stocks."""

    symbols: str = Field(
        min_length=1,
        max_length=4000,
        description=f"Tickers, separated by commas; {_AT_ONCE} at most.",
        json_schema_extra={"example": "AAPL,MSFT"},
    )


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


_EXAMPLE: dict[str, Any] = {
    "symbol": "AAPL",
    "price": 260.7,
    "price_time": "2026-12-01T15:15:40.797634147Z",
    "price_kind": "trade",
    "reason": None,
    "size": 200,
    "bid": 260.69,
    "ask": 260.7,
    "bid_size": 200,
    "ask_size": 100,
    "quote_time": "2026-12-01T15:15:40Z",
    "as_of": "2026-12-01T15:15:40.797634147Z",
    "dataset": "EQUS.MINI",
    "source": "simulated",
}


class StockPricesModel(TableModel):
    """The latest prices, in the order asked for; ``as_of`` is the newest of theirs."""

    as_of: str
    source: str
    missing: list[str] = Field(description="symbols of which nothing is stored")
    prices: list[StockPriceModel]
    next: None = Field(description="always null: there are no pages")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "as_of": _EXAMPLE["as_of"],
                    "source": "simulated",
                    "missing": ["NOSUCH"],
                    "prices": [_EXAMPLE],
                    "next": None,
                }
            ]
        }
    )


def blueprint(settings: CacheSettings, database: Database, client: redis.Redis, cache: SharedCache) -> APIBlueprint:
    """The routes of stock prices."""
    api = APIBlueprint("stock_prices", __name__, url_prefix="/api/v1/cache", abp_tags=[_TAG])
    source = settings.market_source

    @api.get(
        "/stock-prices",
        summary="The latest prices of several stocks",
        responses={200: StockPricesModel, 404: ProblemModel, 406: ProblemModel, 422: ProblemModel},
    )
    def stock_prices(query: StockPricesQuery) -> Response:
        symbols = _parse_symbols(query.symbols)
        found = _find(symbols)
        if not found:
            raise unknown_symbol(database, ", ".join(symbols[:10]), None, source=source)
        prices = [found[symbol] for symbol in symbols if symbol in found]
        about = {
            "as_of": max(prices, key=lambda price: int(price["as_of_ns"]))["as_of"],
            "source": source,
            "missing": [symbol for symbol in symbols if symbol not in found],
        }
        return table_response("prices", [_shown(price) for price in prices], _COLUMNS, about, None)

    @api.get(
        "/stock-prices/<symbol>",
        summary="The latest price of a stock",
        responses={200: StockPriceModel, 404: ProblemModel},
    )
    def stock_price(path: SymbolPath) -> Response:
        symbol = canonical_symbol(path.symbol)
        price = _find([symbol]).get(symbol)
        if price is None:
            raise unknown_symbol(database, symbol, None, source=source)
        return Response(json.dumps(_shown(price)), mimetype="application/json")

    def _find(symbols: list[str]) -> dict[str, dict[str, Any]]:
        """One trip to Redis, and for what it has not, one to PostgreSQL."""
        held = cache.ask(lambda: get_stock_prices(client, symbols, source))
        found = held or {}
        missing = [symbol for symbol in symbols if symbol not in found]
        cache.count(_KIND, "hit", len(found))
        cache.count(_KIND, "unavailable" if held is None else "miss", len(missing))
        if missing:
            read = read_stock_prices(database, missing, source)
            if read:
                cache.ask(lambda: put_stock_prices(client, read, source))
            found = found | read
        return found

    return api


def _parse_symbols(text: str) -> list[str]:
    """Each once, in the order asked for. Raises a 422 problem that names what is none."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise invalid("#/query/symbols", "name at least one symbol, such as AAPL,MSFT")
    if len(names) > _AT_ONCE:
        raise invalid("#/query/symbols", f"{len(names)} symbols are asked for; {_AT_ONCE} at once are the most")
    if wrong := [name for name in names if not _is_symbol(name)]:
        raise invalid("#/query/symbols", f"not a symbol: {', '.join(name[:40] for name in wrong[:10])}")
    return list(dict.fromkeys(canonical_symbol(name) for name in names))


def _is_symbol(name: str) -> bool:
    try:
        _SYMBOL.validate_python(name)
    except (ValidationError, Problem):
        return False
    return True


def _shown(price: dict[str, Any]) -> dict[str, Any]:
    return {name: price[name] for name in _COLUMNS}
