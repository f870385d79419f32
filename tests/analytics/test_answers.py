"""Kept answers: the same as made ones, never older than the data, and without Redis as good."""

from __future__ import annotations

import gzip
import threading
from datetime import date
from types import SimpleNamespace

import numpy as np
import psycopg2
import pytest
import redis
from databento_dbn import RType, Schema
from flask import Flask, Response, json
from prometheus_client import REGISTRY
from pydantic import SecretStr

from data_ingestion_support import Ingestion, settings_for
from dbn import DAY, MINUTE, bar, dbn_file, midnight
from ots_analytics.answers import Answers, version_in_use
from ots_analytics.app import create_app
from ots_analytics.routes import indicators
from ots_analytics.settings import AnalyticsSettings
from ots_common import redis_client
from ots_common.conditional import SHARED
from ots_common.database import Database
from ots_common.shared_cache import SharedCache
from ots_common.times import rfc3339
from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_market.bars import read_bars

KEY = SecretStr("a" * 40)
START = midnight(date(2024, 3, 4))
LAST = START + 2000 * MINUTE
CLOSES = np.round(50 + np.cumsum(np.random.default_rng(5).normal(0, 0.05, 2000)), 2)


class Analytics:
    def __init__(self, settings):
        self.client = create_app(settings).test_client()

    def ask(self, path, user="u", role="viewer", **headers):
        caller = Caller("gateway", user, user, role, "request-01")
        token = sign_internal_token(caller, "analytics", {"analytics": KEY})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(f"/api/v1/analytics{path}", headers={HEADER: token, **named})


@pytest.fixture(scope="module")
def service(market, redis_server, tmp_path_factory):
    ingestion = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    minutes = [bar(START + i * MINUTE, (c, c, c, c), 10) for i, c in enumerate(CLOSES.tolist())]
    days = [bar(START + i * DAY, (c, c, c, c), 10, rtype=RType.OHLCV_1D) for i, c in enumerate(CLOSES[:3].tolist())]
    with ingestion.working():
        ingestion.imported(dbn_file(Schema.OHLCV_1M, minutes, days=3, symbols={"KEPT": 1}))
        ingestion.imported(dbn_file(Schema.OHLCV_1D, days, days=5, symbols={"KEPT": 1}))
        yield ingestion


@pytest.fixture(scope="module")
def settings(market, redis_server):
    return AnalyticsSettings(
        database_url=market.reader, redis_url=redis_server.url, accept_keys={"gateway": KEY}, log_level="ERROR"
    )


@pytest.fixture(scope="module")
def analytics(service, settings):
    return Analytics(settings)


@pytest.fixture(scope="module")
def without_redis(service, settings):
    return Analytics(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))


@pytest.fixture
def nothing_kept(redis_server):
    redis.Redis.from_url(redis_server.url).flushdb()


def told(answer):
    """What was said of the cache."""
    return next(part for part in answer.headers["Server-Timing"].split(", ") if part.startswith("cache"))


def question(minutes, more=""):
    return f"/indicators/KEPT?timeframe=1m&indicators=sma:20&as_of={rfc3339(START + minutes * MINUTE)}{more}"


QUESTIONS = [
    question(900),
    question(1900, "&series=400"),
    "/indicators/KEPT?timeframe=1d&indicators=sma:2",
    f"/patterns/KEPT?timeframe=1h&days=2&as_of={rfc3339(LAST)}",
    "/patterns/KEPT?timeframe=1h&days=5",
    "/indicators/KEPT?indicators=nonsense",
    "/indicators/NOSUCH",
    f"/options/KEPT/volatility-history?as_of={rfc3339(LAST)}",
]


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.parametrize("path", QUESTIONS)
def test_an_answer_is_the_same_made_kept_and_without_redis(analytics, without_redis, path):
    answers = [who.ask(path) for who in (analytics, analytics, without_redis, without_redis)]
    assert len({answer.status_code for answer in answers}) == 1
    own = [answer.data for answer in answers]
    if answers[0].status_code == 200:
        assert len(set(own)) == 1
        assert len({answer.headers.get("ETag") for answer in answers}) == 1
        assert len({answer.content_type for answer in answers}) == 1
    else:  # a problem has the request's own id
        bodies = [{**answer.json, "request_id": ""} for answer in answers]
        assert all(body == bodies[0] for body in bodies)


@pytest.mark.usefixtures("nothing_kept")
def test_what_is_kept_is_found_whatever_the_order_of_parameters_and_packed_for_who_takes_it(analytics):
    first = analytics.ask(question(1900, "&series=400"))
    path, _, query = question(1900, "&series=400").partition("?")
    turned = "&".join(reversed(query.split("&")))
    second = analytics.ask(f"{path}?{turned}", Accept_Encoding="gzip")
    assert [told(first), told(second)] == ["cache;desc=miss", "cache;desc=hit"]
    assert second.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(second.data) == first.data
    assert len(second.data) < len(first.data) / 2
    assert "Accept-Encoding" in second.headers["Vary"]
    assert analytics.ask(question(1900, "&series=400")).data == first.data


def test_its_etag_is_answered_304_before_anything_is_computed(analytics, redis_server, monkeypatch):
    first = analytics.ask(question(1000))
    tag = first.headers["ETag"]
    redis.Redis.from_url(redis_server.url).flushdb()
    monkeypatch.setattr("ots_analytics.routes.indicators.find_instrument", None)
    hits = {"kind": "indicators", "result": "hit"}
    before = REGISTRY.get_sample_value("ots_shared_cache_lookups_total", hits) or 0
    again = analytics.ask(question(1000), If_None_Match=tag)
    assert REGISTRY.get_sample_value("ots_shared_cache_lookups_total", hits) == before + 1
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    monkeypatch.undo()
    assert analytics.ask(question(1000), If_None_Match=f'W/"{"0" * 32}"').status_code == 200
    assert analytics.ask("/indicators/NOSUCH", If_None_Match="*").status_code == 404
    assert analytics.ask(question(1001), If_None_Match=tag).status_code == 200


@pytest.mark.parametrize("path", QUESTIONS)
def test_what_is_marked_as_everybodys_is_the_same_for_everybody_and_has_a_moment(analytics, path):
    answers = [analytics.ask(path, user, role) for user, role in (("ann", "viewer"), ("bob", "admin"))]
    for answer in answers:
        assert (SHARED in answer.headers) is (answer.status_code == 200 and "as_of" in path)
        if SHARED in answer.headers:
            assert analytics.ask(path, If_None_Match=answer.headers["ETag"]).headers[SHARED] == answer.headers[SHARED]
            assert answers[0].data == answer.data
            assert answers[0].headers["ETag"] == answer.headers["ETag"]


def test_what_comes_in_later_is_in_the_next_answer(service, analytics):
    before = [analytics.ask(question(minutes)) for minutes in (700, 1200)]
    assert [told(analytics.ask(question(minutes))) for minutes in (700, 1200)] == ["cache;desc=hit"] * 2
    changed = bar(START + 1199 * MINUTE, (99, 99, 99, 99), 10)
    service.imported(dbn_file(Schema.OHLCV_1M, [changed], days=3, symbols={"KEPT": 1}))
    after = [analytics.ask(question(minutes), If_None_Match=b.headers["ETag"]) for minutes, b in
             zip((700, 1200), before, strict=True)]  # fmt: skip
    assert [answer.status_code for answer in after] == [304, 200]
    assert after[1].json["indicators"] != before[1].json["indicators"]


def test_about_now_nothing_is_kept_for_longer_than_its_second(service, analytics, monkeypatch):
    path = "/indicators/KEPT?timeframe=1m&indicators=sma:2"
    now = [1_700_000_000 * 10**9]
    monkeypatch.setattr("ots_analytics.answers.time", SimpleNamespace(time_ns=lambda: now[0]))
    first = analytics.ask(path)
    changed = bar(START + 1999 * MINUTE, (77, 77, 77, 77), 10)
    service.imported(dbn_file(Schema.OHLCV_1M, [changed], days=3, symbols={"KEPT": 1}))
    assert analytics.ask(path).data == first.data
    now[0] += 10**9
    assert analytics.ask(path).json["indicators"] != first.json["indicators"]


def test_what_could_not_be_answered_is_asked_again(analytics, monkeypatch):
    def fails(*_arguments, **_more):
        raise psycopg2.OperationalError("gone")

    with monkeypatch.context() as broken:
        broken.setattr("ots_analytics.routes.indicators.find_instrument", fails)
        assert analytics.ask(question(333)).status_code == 503
    assert analytics.ask(question(333)).status_code == 200


def test_one_of_many_who_ask_at_once_computes(service, settings, monkeypatch):
    analytics = Analytics(settings)
    calls = []
    entered, proceed = threading.Event(), threading.Event()
    original = indicators.read_adjusted_bars

    def slow(*arguments, **more):
        calls.append(1)
        entered.set()
        assert proceed.wait(10)
        return original(*arguments, **more)

    monkeypatch.setattr(indicators, "read_adjusted_bars", slow)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(analytics.ask(question(555)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    proceed.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len({answer.data for answer in answers}) == 1
    assert len(calls) == 1


@pytest.fixture
def answers(market, settings):
    client = redis_client.connect(settings.redis_url.get_secret_value())
    client.flushdb()
    database = Database(market.reader, application="tests", size=1)
    yield Answers(settings, database, SharedCache(client, "test"))
    database.close()


def asked(answers, make, path="/api/v1/analytics/x", until=START, explicit=True, **request):
    with Flask("tests", root_path=".").test_request_context(path, **request):
        return answers.of(until, make, explicit=explicit)


def test_a_stream_and_an_error_that_is_returned_are_not_kept(answers):
    made = []

    def stream():
        made.append(version_in_use())
        return Response(iter([b"a", b"b"]), content_type="text/csv")

    def refusal():
        made.append(version_in_use())
        return Response(json.dumps({}), 418)

    for make, status in ((stream, 200), (refusal, 418)):
        made.clear()
        assert [asked(answers, make).status_code for _ in range(2)] == [status] * 2
        assert made[0] == made[1]
        assert made[0] is not None
    assert version_in_use() is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"path": "/api/v1/analytics/x?a=1&b=2"}, {"path": "/api/v1/analytics/x?b=2&a=1"}, True),
        ({"path": "/api/v1/analytics/x?a=1&a=2"}, {"path": "/api/v1/analytics/x?a=2&a=1"}, False),
        ({"path": "/api/v1/analytics/x"}, {"path": "/api/v1/analytics/y"}, False),
        ({}, {"headers": {"Accept": "application/json"}}, True),
        ({}, {"headers": {"Accept": "text/csv"}}, False),
        ({"headers": {"Accept": "text/csv, application/json;q=0.5"}}, {"headers": {"Accept": "text/csv"}}, False),
        ({"method": "POST", "data": "1"}, {"method": "POST", "data": "1"}, True),
        ({"method": "POST", "data": "1"}, {"method": "POST", "data": "2"}, False),
        ({}, {"until": START + 1}, False),
        ({"until": 2**62}, {"until": 2**62}, True),
        ({"until": 2**62, "explicit": False}, {"until": 2**62}, True),
        ({"explicit": False}, {}, False),
    ],
)
def test_what_is_the_same_question(answers, monkeypatch, one, other, same):
    monkeypatch.setattr("ots_analytics.answers.time", SimpleNamespace(time_ns=lambda: START + 10**18))
    made = []

    def make():
        made.append(1)
        return Response("x", content_type="text/plain")

    for request in (one, other):
        assert asked(answers, make, **request).data == b"x"
    assert len(made) == (1 if same else 2)


def test_other_settings_and_other_code_make_other_answers(answers, market, settings, monkeypatch):
    made = []

    def make():
        made.append(1)
        return Response("x", content_type="text/plain")

    asked(answers, make)
    more = Answers(settings.model_copy(update={"history_bars": 1234}), answers._database, answers._cache)
    asked(more, make)
    monkeypatch.setattr("ots_analytics.answers._code_version", lambda: "edited")
    asked(Answers(settings, answers._database, answers._cache), make)
    assert len(made) == 3
    monkeypatch.undo()
    asked(Answers(settings, answers._database, answers._cache), make)
    assert len(made) == 3


def test_bars_are_read_once_for_questions_about_the_same_of_them(service, settings, monkeypatch):
    analytics = Analytics(settings)
    read = []

    def counted(*arguments, **named):
        read.append(named["as_of_ns"])
        return read_bars(*arguments, **named)

    monkeypatch.setattr("ots_analytics.adjusted_bars.read_bars", counted)
    moment = START + 600 * MINUTE
    whole = f"timeframe=1m&as_of={rfc3339(moment)}"
    first = analytics.ask(f"/indicators/KEPT?indicators=sma:21&{whole}")
    again = analytics.ask(f"/indicators/KEPT?indicators=sma:21,ema:22&{whole}")
    # within the minute no other bar is known
    later = analytics.ask(f"/indicators/KEPT?indicators=sma:21&timeframe=1m&as_of={rfc3339(moment + MINUTE - 1)}")
    assert len(read) == 1
    assert first.json["indicators"]["sma"] == again.json["indicators"]["sma"] == later.json["indicators"]["sma"]
    assert first.json["last_bar"] == rfc3339(moment - MINUTE)
    following = analytics.ask(f"/indicators/KEPT?indicators=sma:21&timeframe=1m&as_of={rfc3339(moment + MINUTE)}")
    assert following.json["last_bar"] == rfc3339(moment)
    assert len(read) == 2
    # what comes in gives the data another version, and what was read before is not taken for it
    changed = bar(moment - MINUTE, (33, 33, 33, 33), 10)
    service.imported(dbn_file(Schema.OHLCV_1M, [changed], days=3, symbols={"KEPT": 1}))
    assert analytics.ask(f"/indicators/KEPT?indicators=sma:21&{whole}").json["indicators"] != first.json["indicators"]
    assert len(read) == 3
    # a day summed up from minutes is known from its session's close: no two moments are alike
    for seconds in (0, 1):
        analytics.ask(f"/indicators/KEPT?indicators=sma:2&timeframe=1d&as_of={rfc3339(LAST + seconds * 10**9)}")
    assert len(read) == 5
