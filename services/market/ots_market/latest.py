"""The latest price of a stock: from PostgreSQL, which remembers, and in Redis, which is quick.

Both the writer (ingestion, after each commit) and the reader (the cache, when it finds nothing) put the same answer
into Redis, each only over an older one; entries expire, so that what a crash left behind lives no longer than that.
"""

from __future__ import annotations

import json
from typing import Any

import redis

from ots_common.cache_keys import cache_key
from ots_common.database import Database
from ots_common.times import rfc3339
from ots_market.instruments import PREFERRED_DATASETS
from ots_market.prices import dollars

EXPIRES_AFTER_S = 30

# KEYS: entries; ARGV: milliseconds, then a version and a body for each. Versions are decimal strings of equal length,
# so they compare as text: Lua's numbers are doubles and would round nanoseconds.
_PUT_IF_NEWER = """
for i, key in ipairs(KEYS) do
    local version, body = ARGV[2 * i], ARGV[2 * i + 1]
    local held = redis.call('HGET', key, 'version')
    if not held or held <= version then
        redis.call('HSET', key, 'version', version, 'body', body)
        redis.call('PEXPIRE', key, ARGV[1])
    end
end
return #KEYS
"""
_PUT_AT_ONCE = 500

_QUERY = """
    SELECT i.raw_symbol, i.dataset,
           p.price, p.size, p.kind, (extract(epoch FROM p.ts) * 1000000)::bigint * 1000 + p.ts_ns AS price_at,
           q.bid, q.ask, q.bid_size, q.ask_size,
           (extract(epoch FROM q.ts) * 1000000)::bigint * 1000 + q.ts_ns AS quote_at
    FROM instruments i
    LEFT JOIN price_latest p USING (instrument_id)
    LEFT JOIN quote_latest q USING (instrument_id)
    WHERE i.raw_symbol = ANY(%(symbols)s) AND i.expiration IS NULL
      AND (p.instrument_id IS NOT NULL OR q.instrument_id IS NOT NULL)
    ORDER BY i.raw_symbol, array_position(%(preferred)s, i.dataset) NULLS LAST, i.dataset
"""


def read_stock_prices(database: Database, symbols: list[str], source: str) -> dict[str, dict[str, Any]]:
    """The latest price and quote of each symbol of which one is stored, as the cache answers them."""
    prices: dict[str, dict[str, Any]] = {}
    for row in database.dicts(_QUERY, {"symbols": symbols, "preferred": list(PREFERRED_DATASETS)}):
        prices.setdefault(row["raw_symbol"], _shape(row, source))
    return prices


def _shape(row: dict[str, Any], source: str) -> dict[str, Any]:
    price_at, quote_at = row["price_at"], row["quote_at"]
    newest = max(at for at in (price_at, quote_at) if at is not None)
    return {
        "symbol": row["raw_symbol"],
        "price": dollars(row["price"]),
        "price_time": rfc3339(price_at) if price_at is not None else None,
        "price_kind": row["kind"],
        "reason": None if price_at is not None else "no trade and no bar of it is stored, only quotes",
        "size": row["size"],
        "bid": dollars(row["bid"]),
        "ask": dollars(row["ask"]),
        "bid_size": row["bid_size"],
        "ask_size": row["ask_size"],
        "quote_time": rfc3339(quote_at) if quote_at is not None else None,
        "as_of": rfc3339(newest),
        "as_of_ns": newest,
        "dataset": row["dataset"],
        "source": source,
    }


def stock_price_key(source: str, symbol: str) -> str:
    """Where Redis keeps it."""
    return cache_key(source, "stock-price", symbol)


def put_stock_prices(client: redis.Redis, prices: dict[str, dict[str, Any]], source: str) -> None:
    """Put prices into Redis, each unless a newer one is there, in one round trip. Raises redis.RedisError."""
    put = client.register_script(_PUT_IF_NEWER)
    items = list(prices.items())
    for first in range(0, len(items), _PUT_AT_ONCE):
        some = items[first : first + _PUT_AT_ONCE]
        told = [part for _, price in some for part in (f"{price['as_of_ns']:020d}", json.dumps(price))]
        put(keys=[stock_price_key(source, symbol) for symbol, _ in some], args=[EXPIRES_AFTER_S * 1000, *told])


def get_stock_prices(client: redis.Redis, symbols: list[str], source: str) -> dict[str, dict[str, Any]]:
    """What Redis has of these symbols, in one round trip. Raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipeline:
        for symbol in symbols:
            pipeline.hget(stock_price_key(source, symbol), "body")
        bodies = pipeline.execute()
    return {symbol: json.loads(body) for symbol, body in zip(symbols, bodies, strict=True) if body is not None}
