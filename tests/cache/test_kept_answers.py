"""What the cache keeps of others: chains and the market's status, with Redis as without; and its own books."""

from __future__ import annotations

import csv
import io
import json
import socket
import threading
from contextlib import contextmanager
from datetime import date, timedelta
from types import SimpleNamespace

import pytest
import redis
from databento_dbn import Schema
from flask import Flask, request
from prometheus_client import REGISTRY
from pydantic import SecretStr
from werkzeug.serving import make_server

from data_ingestion_support import Ingestion, settings_for
from dbn import dbn_file, quote
from ots_analytics.app import create_app as create_analytics
from ots_analytics.settings import AnalyticsSettings
from ots_cache.app import create_app
from ots_cache.settings import CacheSettings
from ots_common import redis_client
from ots_common.cache_keys import cache_key
from ots_common.shared_cache import Made, SharedCache
from ots_common.times import rfc3339
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_ingestion.app import create_app as create_ingestion
from ots_market.latest import get_stock_prices, put_stock_prices
from seeded_market import DAY, MINUTE, TODAY, make_market
from volatility_support import import_close

SECRET = {pair: SecretStr(pair * 20) for pair in ("gc", "ca", "ci")}
NOWHERE = "http://127.0.0.1:1"
CLOSE = (TODAY + 1) * DAY


class Cache:
    def __init__(self, settings):
        self.client = create_app(settings).test_client()

    def ask(self, path, *, method="GET", user="user-1", role="viewer", headers=None, **arguments):
        caller = Caller("gateway", user, user, role, "request-0001")
        own = {HEADER: sign_internal_token(caller, "cache", {"cache": SECRET["gc"]})}
        return self.client.open(f"/api/v1/cache{path}", method=method, headers={**own, **(headers or {})}, **arguments)


@contextmanager
def served(app):
    """On a port of its own; its URL, and the paths that it was asked for."""
    asked = []
    app.before_request_funcs.setdefault(None, []).insert(0, lambda: asked.append(request.full_path))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture(scope="module")
def service(market, redis_server, tmp_path_factory):
    settings = settings_for(
        market, redis_server, tmp_path_factory.mktemp("spool"), market_calendar="around-the-clock"
    ).model_copy(update={"accept_keys": {"gateway": SecretStr("k" * 40), "cache": SECRET["ci"]}})
    ingestion = Ingestion(settings)
    with ingestion.working():
        import_close(ingestion, make_market(now=CLOSE + 5 * MINUTE), TODAY, ["AAPL"])
        yield ingestion


@pytest.fixture(scope="module")
def analytics(market, redis_server, service):
    settings = AnalyticsSettings(
        database_url=market.reader, redis_url=redis_server.url, accept_keys={"cache": SECRET["ca"]},
        market_calendar="around-the-clock", log_level="ERROR",
    )  # fmt: skip
    with served(create_analytics(settings)) as found:
        yield found


@pytest.fixture(scope="module")
def ingestion(service):
    with served(create_ingestion(service.settings)) as found:
        yield found


@pytest.fixture(scope="module")
def settings(market, redis_server, analytics, ingestion):
    return CacheSettings(
        database_url=market.reader,
        redis_url=redis_server.url,
        accept_keys={"gateway": SECRET["gc"]},
        signing_keys={"analytics": SECRET["ca"], "data-ingestion": SECRET["ci"]},
        upstreams={"analytics": analytics[0], "data-ingestion": ingestion[0]},
        market_calendar="around-the-clock",
        log_level="ERROR",
    )


@pytest.fixture(scope="module")
def cache(settings):
    return Cache(settings)


@pytest.fixture(scope="module")
def without_redis(settings):
    return Cache(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))


@pytest.fixture
def client(redis_server):
    found = redis_client.connect(redis_server.url)
    found.flushdb()
    yield found
    found.flushdb()
    found.close()


def chain(more="", at=CLOSE - MINUTE // 2):
    return f"/option-chains/aapl?as_of={rfc3339(at)}{more}"


def test_a_chain_is_asked_of_analytics_once_and_is_the_same_without_redis(client, cache, without_redis, analytics):
    asked = analytics[1]
    asked.clear()
    answers = [who.ask(chain("&right=C")) for who in (cache, cache, without_redis)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].data == answers[1].data == answers[2].data
    assert len(answers[0].json["contracts"]) > 20
    assert {row["right"] for row in answers[0].json["contracts"]} == {"C"}
    assert answers[0].json["source"] == "databento"
    assert len(asked) == 2
    # another order of the same parameters is the same question
    path, _, query = chain("&right=C").partition("?")
    assert cache.ask(f"{path}?{'&'.join(reversed(query.split('&')))}").data == answers[0].data
    assert len(asked) == 2
    again = cache.ask(chain("&right=C"), headers={"If-None-Match": answers[0].headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_a_chain_in_another_format_has_the_same_values(client, cache):
    wanted = "&fields=symbol,strike,implied_volatility&limit=30"
    rows = cache.ask(chain(wanted)).json["contracts"]
    for _ in range(2):
        answer = cache.ask(chain(wanted), headers={"Accept": "text/csv"})
        assert answer.content_type.startswith("text/csv")
        assert json.loads(answer.headers["X-OTS-About"])["underlying"] == "AAPL"
        found = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["symbol"] for row in found] == [row["symbol"] for row in rows]


def test_records_that_come_in_later_are_in_the_next_chain(client, cache, service, analytics):
    asked = analytics[1]
    first = cache.ask(chain("&limit=1"))
    asked.clear()
    assert cache.ask(chain("&limit=1")).data == first.data
    assert asked == []
    symbol = first.json["contracts"][0]["symbol"]
    ids = {f"{symbol[:-15]:<6}{symbol[-15:]}": 77}
    made = quote(CLOSE - 31 * 10**9, 0.5, 2.0, instrument=77)
    day = date(1970, 1, 1) + timedelta(days=TODAY)
    file = dbn_file(Schema.CBBO_1M, [made], day=day, symbols=ids, dataset="OPRA.PILLAR")
    assert service.imported(file)["stored"] == 1
    later = cache.ask(chain("&limit=1"))
    assert later.json["contracts"][0]["quote_time"] > first.json["contracts"][0]["quote_time"]
    assert later.json["contracts"][0]["ask"] == 2.0


def test_what_analytics_refuses_is_refused_in_its_words_and_not_kept(client, cache, analytics):
    asked = analytics[1]
    asked.clear()
    for _ in range(2):
        answer = cache.ask("/option-chains/NOSUCH")
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
        assert answer.json["available"] == ["AAPL"]
        assert answer.json["instance"] == "/api/v1/cache/option-chains/NOSUCH"
        assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert len(asked) == 2
    for wrong in ("expiration=never", "right=X", "nonsense=1", "fields=no", "limit=0", "strike_min=9&strike_max=1"):
        answer = cache.ask(chain(f"&{wrong}"))
        assert answer.status_code == 422, wrong
        assert answer.json["errors"]


def test_a_service_that_is_away_is_a_503(settings, client):
    away = Cache(settings.model_copy(update={"upstreams": {"analytics": NOWHERE}}))
    for path in ("/option-chains/AAPL", "/market-status"):
        answer = away.ask(path)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_what_the_services_that_it_asks_took_and_how_they_failed_is_counted(settings, client):
    def counted(name, **labels):
        return REGISTRY.get_sample_value(f"ots_cache_upstream_{name}", labels) or 0

    def told():
        failures = [
            counted("failures_total", upstream="analytics", reason=why) for why in ("connect", "timeout", "status")
        ]
        return [counted("seconds_count", upstream="analytics"), *failures]

    def moved(**more):
        before = told()
        Cache(settings.model_copy(update=more)).ask(f"/option-chains/ZQX{len(more)}")
        return [now - then for now, then in zip(told(), before, strict=True)]

    with socket.create_server(("127.0.0.1", 0)) as silent:
        there = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert moved() == [1, 0, 0, 0]
        assert moved(upstreams={"analytics": NOWHERE}) == [1, 1, 0, 0]
        assert moved(upstreams={"analytics": there}, upstream_timeout_s=0.05) == [1, 0, 1, 0]

    broken = Flask("broken")
    broken.add_url_rule("/<path:_path>", view_func=lambda _path: ("", 500))
    with served(broken) as (url, _):
        assert moved(upstreams={"analytics": url}) == [1, 0, 0, 1]


def test_a_service_that_does_not_know_the_cache_is_not_asked_in_another_name(settings, client):
    wrong = Cache(settings.model_copy(update={"signing_keys": {"analytics": SecretStr("x" * 40)}}))
    answer = wrong.ask("/option-chains/AAPL")
    assert (answer.status_code, answer.json["type"]) == (502, "urn:ai-ots:problem:upstream-refused")


def test_the_markets_status_is_ingestions_for_a_second(client, cache, without_redis, ingestion):
    asked = ingestion[1]
    asked.clear()
    first, second, away = (who.ask("/market-status") for who in (cache, cache, without_redis))
    assert first.data == second.data
    assert first.json["open"] is True
    assert set(first.json) == set(away.json)
    assert {**first.json, "at": ""} == {**away.json, "at": ""}
    assert len(asked) == 2
    (name,) = client.scan_iter(f"{cache_key('databento', 'derived')}:cache-market-status*")
    assert 0 < client.pttl(name) <= 1000


def test_statistics_are_of_all_services_and_nothing_of_other_users(client, cache):
    cache.ask("/stats")  # what was counted before is sent, and thrown away
    client.flushdb()
    for _ in range(3):
        cache.ask(chain("&limit=2"))
    for user, number in (("user-1", 3), ("user-2", 5)):
        for n in range(number):
            body = {"key": f"mine-{n}", "data": 1, "ttl": 60}
            assert cache.ask("/analytics", method="POST", user=user, role="trader", json=body).status_code == 201
    answer = cache.ask("/stats")
    assert answer.status_code == 200
    told = answer.json
    kinds = {kind["kind"]: kind for kind in told["kinds"]}
    assert (kinds["cache-option-chain"]["hits"], kinds["cache-option-chain"]["misses"]) == (2, 1)
    assert kinds["cache-option-chain"]["hit_ratio"] == pytest.approx(2 / 3, abs=1e-4)
    assert kinds["cache-option-chain"]["entries"] == kinds["option-chain"]["entries"] == 1
    assert told["bytes"] == sum(kind["bytes"] for kind in told["kinds"]) > 0
    assert told["entries"] == sum(kind["entries"] for kind in told["kinds"])
    assert told["own_entries"] == 3
    assert told["redis"]["used_memory_bytes"] > told["bytes"]
    assert "mine" not in answer.text
    assert "user-2" not in answer.text


def test_only_derived_answers_can_be_forgotten(client, cache):
    cache.ask(chain("&limit=2"))
    cache.ask("/market-status")
    cache.ask("/analytics", method="POST", role="trader", json={"key": "AAPL", "data": 1})
    cache.ask("/stock-prices/AAPL")
    others = [
        cache_key("databento", "user", "user-1", "AAPL"), cache_key("databento", "stock-price", "AAPL"),
        cache_key("databento", "limits", "AAPL"), "session:AAPL",
    ]  # fmt: skip
    client.set(others[2], 1)
    client.set(others[3], 1)
    invalidate = lambda **body: cache.ask("/invalidate", method="POST", role="operator", json=body)  # noqa: E731
    assert invalidate(tags=["aapl"], limit=1).json == {"removed": 1, "more": True, "source": "databento"}
    assert invalidate(tags=["AAPL"]).json == {"removed": 1, "more": False, "source": "databento"}
    assert invalidate(prefix="cache-market-status").json["removed"] == 1
    for tags, prefix in ((["session"], ""), ([], "user:"), ([], "stock-price:"), ([], "limits"), ([], "session:")):
        assert invalidate(tags=tags, prefix=prefix).json["removed"] == 0
    for wrong in ({}, {"tags": [""]}, {"tags": ["x"] * 21}, {"prefix": "*"}, {"prefix": "a*"}, {"prefix": "a:[b]"},
                  {"tags": ["a"], "limit": 1001}, {"keys": ["x"]}):  # fmt: skip
        assert invalidate(**wrong).status_code == 422, wrong
    assert all(client.exists(key) for key in others)
    assert cache.ask("/analytics/AAPL").json["data"] == 1


def test_many_prices_in_one_question(client, cache, without_redis):
    answers = [who.ask("/stock-prices?symbols=aapl,NOSUCH,AAPL") for who in (cache, cache, without_redis)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].data == answers[1].data == answers[2].data
    assert answers[0].json["missing"] == ["NOSUCH"]
    (price,) = answers[0].json["prices"]
    assert price == cache.ask("/stock-prices/AAPL").json
    assert answers[0].json["as_of"] == price["as_of"]
    rows = list(
        csv.DictReader(io.StringIO(cache.ask("/stock-prices?symbols=AAPL", headers={"Accept": "text/csv"}).text))
    )
    assert float(rows[0]["price"]) == price["price"]
    nothing = cache.ask("/stock-prices?symbols=NOSUCH,NEITHER")
    assert (nothing.status_code, nothing.json["available"]) == (404, ["AAPL"])
    for wrong in ("", "?symbols=", "?symbols=,", "?symbols=a/b", f"?symbols={','.join(f'S{n}' for n in range(101))}"):
        answer = cache.ask(f"/stock-prices{wrong}")
        assert answer.status_code == 422, wrong
        assert answer.json["errors"][0]["pointer"] == "#/query/symbols"


def test_prices_are_put_and_got_in_one_trip_each(client, monkeypatch):
    prices = {f"S{n}": {"as_of_ns": 5, "price": float(n)} for n in range(50)}
    put_stock_prices(client, {"S": prices["S0"]}, "databento")  # the script is loaded, the connection made
    trips = []
    send = redis.connection.Connection.send_packed_command

    def counted(self, *arguments, **more):
        trips.append(1)
        return send(self, *arguments, **more)

    monkeypatch.setattr(redis.connection.Connection, "send_packed_command", counted)
    put_stock_prices(client, prices, "databento")
    assert len(trips) == 1
    assert get_stock_prices(client, [*prices, "NOSUCH"], "databento") == prices
    assert len(trips) == 2


def test_own_entries_are_listed_page_by_page_and_nobody_elses(client, cache):
    for n in range(7):
        body = {"key": f"k{n}", "data": "x" * n, "ttl": 600 - n}
        assert cache.ask("/analytics", method="POST", role="trader", json=body).status_code == 201
    cache.ask("/analytics", method="POST", user="user-2", role="trader", json={"key": "other", "data": 1})
    found, path = [], "/analytics?limit=3"
    while path:
        page = cache.ask(path).json
        found += page["entries"]
        path = page["next"] and page["next"].removeprefix("/api/v1/cache")
    assert [entry["key"] for entry in found] == [f"k{n}" for n in reversed(range(7))]
    assert {entry["source"] for entry in found} == {"user"}
    assert all(entry["bytes"] > 0 for entry in found)
    assert cache.ask("/analytics/k3", method="DELETE", role="trader").status_code == 204
    client.delete(cache_key("databento", "user", "user-1", "k2"))  # as Redis does for want of memory
    assert [entry["key"] for entry in cache.ask("/analytics").json["entries"]] == ["k6", "k5", "k4", "k1", "k0"]
    assert cache.ask("/analytics", user="user-3").json == {"entries": [], "next": None}
    assert cache.ask("/analytics?cursor=nonsense").status_code == 422


def test_entries_of_the_same_end_are_each_listed_once(client, cache, monkeypatch):
    monkeypatch.setattr("ots_cache.routes.entries.time", SimpleNamespace(time_ns=lambda: 1_900_000_000 * 10**9))
    for n in range(5):
        cache.ask("/analytics", method="POST", role="trader", json={"key": f"k{n}", "data": 1})
    found, path = [], "/analytics?limit=2"
    while path:
        page = cache.ask(path).json
        found += [entry["key"] for entry in page["entries"]]
        path = page["next"] and page["next"].removeprefix("/api/v1/cache")
    assert found == [f"k{n}" for n in range(5)]


def test_what_is_kept_cannot_be_planted_by_an_entry(client, cache):
    first = cache.ask(chain("&limit=2")).data
    (name,) = (key.decode() for key in client.scan_iter(f"{cache_key('databento', 'derived')}:cache-option-chain*"))
    short = name.removeprefix("ots:databento:")
    cache.ask("/analytics", method="POST", role="trader", json={"key": short[:150].replace("%", ""), "data": "planted"})
    assert cache.ask(chain("&limit=2")).data == first


def test_without_redis_there_are_no_statistics_and_nothing_is_forgotten(without_redis):
    assert without_redis.ask("/stats").status_code == 503
    answer = without_redis.ask("/invalidate", method="POST", role="operator", json={"tags": ["AAPL"]})
    assert answer.status_code == 503
    assert without_redis.ask("/analytics").status_code == 503


def test_a_kept_answer_of_another_source_is_another(client, cache):
    other = SharedCache(client, "simulated")
    other.get_or_make("x", ["y"], lambda: Made(b"simulated", "text/plain"), ttl_s=60, tags=["AAPL"])
    assert cache.ask("/invalidate", method="POST", role="operator", json={"tags": ["AAPL"]}).json["removed"] == 0
    assert other.get_or_make("x", ["y"], lambda: Made(b"new", "text/plain"), ttl_s=60).hit
