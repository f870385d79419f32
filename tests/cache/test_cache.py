"""The cache's answers, with Redis there and away."""

import pytest
from databento_dbn import Schema
from prometheus_client import REGISTRY
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from dbn import dbn_file, trade
from ots_cache.app import create_app
from ots_cache.settings import CacheSettings
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_market.latest import put_stock_prices, stock_price_key

KEY = SecretStr("c" * 40)
OPEN = 1_709_562_600_000_000_000


class Cache:
    def __init__(self, settings):
        self.client = create_app(settings).test_client()

    def ask(self, method, path, user="user-1", **arguments):
        caller = Caller("gateway", user, user, "trader", "request-0001")
        headers = {HEADER: sign_internal_token(caller, "cache", {"cache": KEY})}
        return self.client.open(f"/api/v1/cache{path}", method=method, headers=headers, **arguments)


@pytest.fixture(scope="module")
def settings(market, redis_server):
    return CacheSettings(
        database_url=market.reader, redis_url=redis_server.url, accept_keys={"gateway": KEY}, log_level="ERROR"
    )


@pytest.fixture(scope="module")
def cache(settings):
    return Cache(settings)


@pytest.fixture(scope="module")
def without_redis(settings):
    return Cache(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))


@pytest.fixture(scope="module")
def symbol(market, redis_server, tmp_path_factory):
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        service.imported(dbn_file(Schema.TRADES, [trade(OPEN, 42.5, 3)], symbols={"CACHED": 1}))
    return "CACHED"


def test_without_redis_the_answer_is_the_same(cache, without_redis, symbol):
    answers = [cache.ask("GET", f"/stock-prices/{symbol}") for _ in range(2)]
    away = without_redis.ask("GET", f"/stock-prices/{symbol.lower()}")
    assert [a.status_code for a in answers] == [200, 200]
    assert away.json == answers[0].json == answers[1].json
    assert away.json["price"] == 42.5


def test_an_older_price_never_replaces_a_newer_one(cache, symbol, redis_server):
    import redis

    client = redis.Redis.from_url(redis_server.url)
    price = cache.ask("GET", f"/stock-prices/{symbol}").json
    put_stock_prices(client, {symbol: {**price, "price": 43.0, "as_of_ns": OPEN + 5}}, "databento")
    put_stock_prices(client, {symbol: {**price, "price": 41.0, "as_of_ns": OPEN + 4}}, "databento")
    assert cache.ask("GET", f"/stock-prices/{symbol}").json["price"] == 43.0
    assert 0 < client.pttl(stock_price_key("databento", symbol)) <= 30_000
    client.flushdb()


def test_an_unknown_symbol_is_a_404_that_says_what_there_is(cache, symbol):
    answer = cache.ask("GET", "/stock-prices/NOSUCH")
    assert answer.status_code == 404
    assert symbol in answer.json["available"]


def test_entries_are_kept_apart_by_user(cache):
    body = {"key": "mine", "data": [1, {"a": None}], "ttl": 60}
    assert cache.ask("POST", "/analytics", json=body).status_code == 201
    assert cache.ask("GET", "/analytics/mine").json["data"] == [1, {"a": None}]
    assert cache.ask("GET", "/analytics/mine", user="user-2").status_code == 404
    assert cache.ask("DELETE", "/analytics/mine", user="user-2").status_code == 404
    assert cache.ask("DELETE", "/analytics/mine").status_code == 204


def test_no_entry_can_pass_for_a_market_price(cache, symbol):
    cache.ask("POST", "/analytics", json={"key": f"stock-price:{symbol}", "data": {"price": 1}, "ttl": 60})
    assert cache.ask("GET", f"/stock-prices/{symbol}").json["price"] == 42.5
    assert cache.ask("GET", f"/analytics/stock-price:{symbol}").json["source"] == "user"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"key": "a b", "data": 1}, 422),
        ({"key": "../x", "data": 1}, 422),
        ({"key": "x", "data": 1, "ttl": 0}, 422),
        ({"key": "x", "data": 1, "ttl": 10**9}, 422),
        ({"key": "x", "data": 1, "more": 1}, 422),
        ({"data": 1}, 422),
        ({"key": "x", "data": "y" * 300_000}, 413),
        ([], 422),
    ],
)
def test_a_wrong_entry_is_refused(cache, body, status):
    answer = cache.ask("POST", "/analytics", json=body)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"


def test_entries_without_redis_are_a_503(without_redis):
    for method, path in (("GET", "/analytics/x"), ("DELETE", "/analytics/x")):
        answer = without_redis.ask(method, path)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
    assert without_redis.ask("POST", "/analytics", json={"key": "x", "data": 1}).status_code == 503


def test_health_without_redis_is_degraded(without_redis):
    answer = without_redis.client.get("/health")
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")


def user_entries():
    """Of what users did with their entries, all that was counted."""
    return {
        f"{sample.labels['operation']} {sample.labels['outcome']}": sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "ots_cache_user_entries_total"
    }


def test_what_users_do_with_their_entries_is_counted_whatever_they_call_them(cache, without_redis):
    before = user_entries()
    names = [f"zqx-{i}" for i in range(5)]
    for name in names:
        cache.ask("POST", "/analytics", user=f"user-{name}", json={"key": name, "data": 1})
        cache.ask("GET", f"/analytics/{name}", user=f"user-{name}")
        cache.ask("DELETE", f"/analytics/{name}", user=f"user-{name}")
        cache.ask("GET", f"/analytics/{name}", user=f"user-{name}")
    cache.ask("POST", "/analytics", json={"key": "x", "data": "y" * 300_000})
    cache.ask("GET", "/analytics")
    without_redis.ask("GET", "/analytics/x")
    now = user_entries()
    assert {name: value - before[name] for name, value in now.items() if value != before[name]} == {
        "keep done": 5, "read done": 5, "delete done": 5, "read absent": 5, "keep refused": 1, "list done": 1,
        "read unavailable": 1,
    }  # fmt: skip
    assert now.keys() == before.keys()


def test_no_symbol_makes_a_series(cache):
    def series():
        return {
            (sample.name, *sample.labels.items())
            for family in REGISTRY.collect()
            if family.name.startswith("ots_")
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        }

    def ask(mark):
        for name in (f"{mark}{i}" for i in range(20)):
            for path in (f"/stock-prices/{name}", f"/stock-prices?symbols={name},{name}B", f"/option-chains/{name}"):
                cache.ask("GET", path, user=f"user-{name}")

    ask("FIRST")
    before = series()
    ask("ZQX")
    found = series()
    assert not [one for one in found if "zqx" in str(one).lower()]
    # a label with a value of those would have made dozens; some come with time, such as a level of the log
    assert len(found - before) < 10
