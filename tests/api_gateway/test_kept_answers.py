"""Answers that the gateway keeps: given when their service confirms them, to whoever may ask, as it would itself."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.event
import pytest
import requests
from databento_dbn import Schema
from pydantic import SecretStr
from werkzeug.serving import make_server

from data_ingestion_support import Ingestion, settings_for
from dbn import MINUTE, bar, dbn_file, midnight
from gateway_support import KEYS, Gateway
from ots_analytics.app import create_app
from ots_analytics.settings import AnalyticsSettings
from ots_common.conditional import SHARED
from ots_common.problems import Problem
from ots_common.times import rfc3339
from ots_common.tokens import verify_internal_token
from ots_gateway import kept_answers
from ots_gateway.access import ROUTES, Role
from ots_gateway.kept_answers import KeptAnswers
from ots_gateway.upstream import Answer

CHAIN = "/api/v1/analytics/options"
# what belongs to one request
OWN = {"server-timing", "x-request-id", "date"}


class Tables(BaseHTTPRequestHandler):
    """A service whose answers are everybody's, but those of /MINE; it notes what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, str]]
    version = 1
    broken = 0
    rows = 40

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        told = {name.lower(): value for name, value in self.headers.items()}
        kind = type(self)
        kind.asked.append({**told, "method": self.command, "path": self.path})
        if kind.broken:
            return self.tell(kind.broken, b"{}", {"Content-Type": "application/problem+json"})
        path, accept = urlsplit(self.path).path, told.get("accept", "")
        caller = verify_internal_token(told["x-ots-internal"], "analytics", {"gateway": SecretStr(KEYS["analytics"])})
        private = path.endswith("/MINE")
        who = caller.username if private else "everybody"
        table = [[kind.version, self.path, accept, who, i] for i in range(kind.rows)]
        body = json.dumps(table).encode()
        etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        fields = {"ETag": etag, "Vary": "Accept, Accept-Encoding", "Cache-Control": "private, no-cache",
                  "Server-Timing": f"analytics;dur={len(kind.asked)}"}  # fmt: skip
        if path.endswith("/LANGUAGE"):
            fields["Vary"] = "Accept-Language"
        if not private:
            fields[SHARED] = "yes"
        if etag in told.get("if-none-match", ""):
            return self.tell(304, b"", fields)
        if "gzip" in told.get("accept-encoding", ""):
            body = gzip.compress(body)
            fields["Content-Encoding"] = "gzip"
        return self.tell(200, body, {"Content-Type": "application/json", **fields})

    do_HEAD = do_GET

    def tell(self, status: int, body: bytes, fields: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture(scope="module")
def front(start_gateway) -> Iterator[Gateway]:
    """A gateway of one worker in front of such a service."""
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Tables)
    upstream.daemon_threads = True
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with start_gateway(upstream.server_port, upstream, WORKERS="1") as running:
        yield running
    upstream.shutdown()


@pytest.fixture
def service() -> type[Tables]:
    """As if nothing had been asked or had changed."""
    Tables.asked, Tables.version, Tables.broken, Tables.rows = [], Tables.version + 1, 0, 40
    return Tables


def fields_of(answer: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower() not in OWN}


@pytest.mark.parametrize("rows", [2, 40, 20_000], ids=["small", "usual", "streamed"])
def test_it_is_given_when_the_service_confirms_it_and_is_the_same(front, service, rows):
    service.rows = rows
    path = f"{CHAIN}/SAME{rows}?as_of=2015-12-24T16:00:00Z"
    first, second, third = (front.ask("GET", path, Role.VIEWER) for _ in range(3))
    assert [one.status_code for one in (first, second, third)] == [200] * 3
    assert len(first.json()) == rows
    assert first.content == second.content == third.content
    assert fields_of(first) == fields_of(second) == fields_of(third)
    assert SHARED.lower() not in fields_of(first)
    asked = [one.get("if-none-match") for one in service.asked]
    assert asked == [None, first.headers["ETag"], first.headers["ETag"]]
    timed = second.headers["Server-Timing"]
    assert timed.startswith("cache;desc=hit, analytics;dur=2"), timed
    assert "gateway;dur=" in timed
    assert second.headers["X-Request-ID"] == service.asked[1]["x-request-id"] != first.headers["X-Request-ID"]


def test_what_changed_between_two_requests_is_seen_by_the_second(front, service):
    before = [front.ask("GET", f"{CHAIN}/MOVES", Role.VIEWER) for _ in range(2)]
    service.version += 1
    after = [front.ask("GET", f"{CHAIN}/MOVES", Role.VIEWER) for _ in range(2)]
    assert before[0].content == before[1].content
    assert after[0].content == after[1].content
    assert {rows[0][0] for rows in (after[0].json(), after[1].json())} == {service.version}
    assert after[0].headers["ETag"] == after[1].headers["ETag"] != before[0].headers["ETag"]
    assert service.asked[-1]["if-none-match"] == after[0].headers["ETag"]


def test_an_error_of_the_service_is_told_and_not_what_was_kept(front, service):
    kept = front.ask("GET", f"{CHAIN}/BREAKS", Role.VIEWER)
    for status in (503, 404):
        service.broken = status
        assert front.ask("GET", f"{CHAIN}/BREAKS", Role.VIEWER).status_code == status
    service.broken = 0
    assert front.ask("GET", f"{CHAIN}/BREAKS", Role.VIEWER).content == kept.content


def test_everybody_who_may_is_given_it_under_their_own_name_and_nobody_else(front, service):
    path = f"{CHAIN}/SHARED"
    people = [front.person(name, Role.VIEWER) for name in ("ann", "bob")]
    answers = [
        front.ask("GET", path, headers={"Authorization": f"Bearer {front.token_of(person, Role.VIEWER)}"})
        for person in people
    ]
    assert answers[0].content == answers[1].content
    callers = [front.caller_of({"headers": one}, "analytics") for one in service.asked]
    assert [(caller.username, caller.role) for caller in callers] == [("ann", "viewer"), ("bob", "viewer")]
    assert callers[1].request_id == answers[1].headers["X-Request-ID"]
    asked = len(service.asked)
    without = front.ask("GET", path)
    assert (without.status_code, without.headers["Content-Type"]) == (401, "application/problem+json")
    ann = {"Authorization": f"Bearer {front.token_of(people[0], Role.VIEWER)}"}
    key = front.ask("POST", "/api/v1/keys", headers=ann, json={"name": "data only", "scopes": ["market"]}).json()
    assert front.ask("GET", path, headers={"X-API-Key": key["key"]}).status_code == 403
    assert len(service.asked) == asked


def test_what_is_one_users_is_not_kept(front, service):
    seen = []
    for name in ("ann", "bob", "ann"):
        token = front.token_of(front.person(name, Role.VIEWER), Role.VIEWER)
        rows = front.ask("GET", f"{CHAIN}/MINE", headers={"Authorization": f"Bearer {token}"}).json()
        seen.append(rows[0][3])
    assert seen == ["ann", "bob", "ann"]
    assert all("if-none-match" not in one for one in service.asked)


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-9"}, {"Cache-Control": "no-store"}, {"If-Modified-Since": "Tue, 01 Dec 2026 00:00:00 GMT"},
        {"If-None-Match": "*"}, {"If-None-Match": "unquoted"},
    ],
    ids=lambda one: "-".join(one),
)  # fmt: skip
def test_who_asks_for_something_else_is_answered_by_the_service(front, service, headers):
    path = f"{CHAIN}/ELSE"
    front.ask("GET", path, Role.VIEWER)
    front.ask("GET", path, Role.VIEWER, headers=headers)
    assert service.asked[1].get("if-none-match") == headers.get("If-None-Match")
    assert set(headers.values()) <= set(service.asked[1].values())


def test_head_and_each_format_have_their_own_answer(front, service):
    path = f"{CHAIN}/FORMATS"
    accepts = ("application/json", "text/csv")
    packed = [{"Accept": accept, "Accept-Encoding": how} for accept in accepts for how in ("gzip", "identity")]
    answers = [[front.ask("GET", path, Role.VIEWER, headers=headers) for headers in packed] for _ in range(2)]
    for first, again, headers in zip(*answers, packed, strict=True):
        assert first.content == again.content
        assert first.json()[0][2] == headers["Accept"]
        assert again.headers.get("Content-Encoding") == ("gzip" if headers["Accept-Encoding"] == "gzip" else None)
    assert sum("if-none-match" in one for one in service.asked) == 4
    head = front.ask("HEAD", path, Role.VIEWER, headers=packed[1])
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == answers[0][1].headers["Content-Length"]
    assert (service.asked[-1]["method"], service.asked[-1].get("if-none-match")) == ("HEAD", None)


def test_what_varies_by_more_than_the_key_holds_is_not_kept(front, service):
    for _ in range(2):
        front.ask("GET", f"{CHAIN}/LANGUAGE", Role.VIEWER)
    assert all("if-none-match" not in one for one in service.asked)


def test_who_has_it_is_told_so_and_who_has_another_is_given_it(front, service):
    path = f"{CHAIN}/HAS"
    old = front.ask("GET", path, Role.VIEWER).headers["ETag"]
    service.version += 1
    new = front.ask("GET", path, Role.VIEWER).headers["ETag"]

    def asked_with(known: str) -> tuple[int, str, int]:
        answer = front.ask("GET", path, Role.VIEWER, headers={"If-None-Match": known})
        return answer.status_code, answer.headers["ETag"], len(answer.content) > 0

    assert asked_with(new) == (304, new, False)
    assert asked_with(old) == (200, new, True)
    assert asked_with(f'{old}, "x", {new}') == (304, new, False)
    # and who has what is newer than what is kept
    service.version += 1
    newest = front.ask("HEAD", path, Role.VIEWER).headers["ETag"]
    assert asked_with(newest) == (304, newest, False)
    assert front.ask("GET", path, Role.VIEWER).json()[0][0] == service.version


# -- the service itself ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def analytics(start_gateway, market, redis_server, tmp_path_factory) -> Iterator[Any]:
    """A gateway in front of analytics, the statuses that this answered, and what imports more."""
    ingestion = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    app = create_app(
        AnalyticsSettings(
            database_url=market.reader,
            redis_url=redis_server.url,
            accept_keys={"gateway": SecretStr(KEYS["analytics"])},
            log_level="ERROR",
        )
    )
    statuses: list[int] = []
    app.after_request(lambda response: statuses.append(response.status_code) or response)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with ingestion.working(), start_gateway(server.server_port, WORKERS="1") as running:
        yield SimpleNamespace(gateway=running, statuses=statuses, imported=ingestion.imported)
    server.shutdown()


def test_analytics_confirms_what_holds_and_makes_what_changed_anew(analytics):
    start = midnight(date(2024, 3, 4))

    def stored(closes: list[float]) -> None:
        bars = [bar(start + i * MINUTE, (c, c, c, c), 10) for i, c in enumerate(closes)]
        analytics.imported(dbn_file(Schema.OHLCV_1M, bars, days=3, symbols={"KEPT": 1}))

    def asked(more: str) -> requests.Response:
        path = f"/api/v1/analytics/indicators/KEPT?timeframe=1m&indicators=sma:2{more}"
        answer = analytics.gateway.ask("GET", path, Role.VIEWER)
        answer.raise_for_status()
        return answer

    stored([50.0 + i for i in range(30)])
    then = f"&as_of={rfc3339(start + 20 * MINUTE)}"
    first, second = asked(then), asked(then)
    assert analytics.statuses == [200, 304]
    assert first.content == second.content
    assert fields_of(first) == fields_of(second)
    assert "cache;desc=hit" in second.headers["Server-Timing"]
    stored([90.0 + i for i in range(25)])
    third, fourth = asked(then), asked(then)
    assert analytics.statuses == [200, 304, 200, 304]
    assert third.json()["indicators"] != first.json()["indicators"]
    assert third.content == fourth.content
    for _ in range(2):  # about now
        asked("")
    assert analytics.statuses[4:] == [200, 200]


# -- one process, its requests in the order that the test wants --------------------------------------------------------


class Service:
    """Stands where the proxy stands: each question waits until the test lets it go, and answers what holds then."""

    def __init__(self) -> None:
        self.version = 1
        self.asked: list[str | None] = []
        self.gates: list[gevent.event.Event] = []
        self.gated = False
        self.size = 5000
        self.fails: Exception | None = None

    def forward(self, environ: dict[str, Any], _route: Any, _target: str, _sender: Any) -> Answer:
        known = environ.get("HTTP_IF_NONE_MATCH")
        self.asked.append(known)
        version = self.version  # as it was when the question began
        if self.gated:
            self.gates.append(gevent.event.Event())
            self.gates[-1].wait()
        if self.fails:
            raise self.fails
        etag = f'W/"{version}"'
        fields = [("ETag", "etag", etag), (SHARED, SHARED.lower(), "yes")]
        if known is not None and etag in known:
            return Answer(304, fields, b"", None, None)
        body = str(version).encode() * self.size
        return Answer(200, fields, body, None, len(body))


ROUTE = next(route for route in ROUTES if route.pattern == f"{CHAIN}/{{underlying}}")


def asking(kept: KeptAnswers, target: str = "/x", **environ: str) -> Answer:
    return kept.forward({"REQUEST_METHOD": "GET", **environ}, ROUTE, target, SimpleNamespace())  # type: ignore[arg-type]


def settle() -> None:
    """Let every greenlet run until it waits."""
    for _ in range(5):
        gevent.sleep(0)


def versions(answers: list[gevent.Greenlet]) -> list[str]:
    gevent.joinall(answers, timeout=60, raise_error=True)
    return [chr(answer.value.body[0]) for answer in answers]


@pytest.fixture
def together(monkeypatch) -> tuple[Service, KeptAnswers]:
    """A service, and what is kept of it: version 1. Nobody runs out of patience."""
    monkeypatch.setattr(kept_answers, "_PATIENCE_S", 60.0)
    service = Service()
    kept = KeptAnswers(service, 2**20)  # type: ignore[arg-type]
    asking(kept)
    service.asked.clear()
    service.gated = True
    return service, kept


def test_those_who_come_while_a_question_is_under_way_share_the_next_one(together):
    service, kept = together
    first = [gevent.spawn(asking, kept) for _ in range(3)]  # at the same moment
    settle()
    assert service.asked == ['W/"1"']
    later = [gevent.spawn(asking, kept) for _ in range(5)]
    settle()
    assert len(service.asked) == 1, "the question under way began before they came"
    service.gates[0].set()
    settle()
    assert service.asked == ['W/"1"'] * 2
    service.gates[1].set()
    assert versions(first + later) == ["1"] * 8
    assert len(service.asked) == 2
    assert not kept._rounds


def test_who_comes_after_a_change_is_never_given_what_was_confirmed_before_it(together):
    service, kept = together
    early = gevent.spawn(asking, kept)
    settle()
    service.version = 2
    late = [gevent.spawn(asking, kept) for _ in range(4)]
    settle()
    service.gated = False
    service.gates[0].set()
    assert versions([early]) == ["1"]
    assert versions(late) == ["2"] * 4
    assert versions([gevent.spawn(asking, kept)]) == ["2"]


def test_a_failure_is_nobody_elses(together):
    service, kept = together
    first = gevent.spawn(asking, kept)
    settle()
    rest = [gevent.spawn(asking, kept) for _ in range(3)]
    settle()
    service.fails = Problem(503, "service-unavailable", "gone")
    service.gates[0].set()
    gevent.joinall([first])
    assert isinstance(first.exception, Problem)
    settle()
    service.fails, service.gated = None, False
    for gate in service.gates:
        gate.set()
    assert versions(rest) == ["1"] * 3
    assert not kept._rounds


@pytest.mark.parametrize("waits_for", [0, 1], ids=["its-answer", "its-turn"])
def test_who_is_ended_leaves_nobody_waiting(together, waits_for):
    service, kept = together
    leaders = []
    for _ in range(waits_for + 1):
        leaders.append(gevent.spawn(asking, kept))
        settle()
    follower = gevent.spawn(asking, kept)
    settle()
    leaders[-1].kill()
    service.gated = False
    for gate in service.gates:
        gate.set()
    assert versions([follower, gevent.spawn(asking, kept)]) == ["1"] * 2
    settle()
    assert not kept._rounds


def test_a_service_that_takes_long_is_asked_again(together, monkeypatch):
    monkeypatch.setattr(kept_answers, "_PATIENCE_S", 0.01)
    service, kept = together
    stuck = gevent.spawn(asking, kept)
    settle()
    service.gated = False
    assert versions([gevent.spawn(asking, kept) for _ in range(3)]) == ["1"] * 3
    assert not stuck.ready()
    service.gates[0].set()
    assert versions([stuck]) == ["1"]
    assert not kept._rounds


def test_what_is_kept_is_bounded_and_what_was_used_last_stays():
    service = Service()
    kept = KeptAnswers(service, 50_000)  # type: ignore[arg-type]
    for number in range(20):
        asking(kept, f"/{number}")
        asking(kept, "/0")
        assert kept._held == sum(one.size for one in kept._kept.values()) <= 50_000
    assert [key[1] for key in kept._kept] == ["/14", "/15", "/16", "/17", "/18", "/19", "/0"]
    asking(kept, HTTP_ACCEPT="*/*" + ";a=b" * 10_000)  # a long name weighs as well
    assert kept._held == sum(one.size for one in kept._kept.values()) > 40_000
    assert len(kept._kept) == 1
    service.size = kept_answers.ENTRY_BYTES + 1
    asking(kept, "/large")
    assert "/large" not in {key[1] for key in kept._kept}


def test_without_room_nothing_is_kept():
    service = Service()
    kept = KeptAnswers(service, 0)  # type: ignore[arg-type]
    assert [asking(kept).body for _ in range(2)] == [b"1" * 5000] * 2
    assert service.asked == [None, None]


def test_a_body_that_was_not_read_to_its_end_is_not_kept():
    body, streams = os.urandom(300_000), []

    class Streaming(Service):
        def forward(self, *_: Any) -> Answer:
            streams.append(SimpleNamespace(copy=None))
            fields = [("ETag", "etag", '"1"'), (SHARED, SHARED.lower(), "yes")]
            return Answer(200, fields, b"", streams[-1], len(body))

    kept = KeptAnswers(Streaming(), 1_000_000)  # type: ignore[arg-type]
    for _ in range(4):
        asking(kept)
    assert [stream.copy is not None for stream in streams] == [True] * 3 + [False], "copies count before they are whole"
    streams[0].copy.add(body[:100_000])
    streams[0].copy.end()
    assert not kept._kept
    for start in range(0, len(body), 100_000):
        streams[1].copy.add(body[start : start + 100_000])
    streams[1].copy.end()
    streams[2].copy.end()
    assert [one.answer.body for one in kept._kept.values()] == [body]
    assert kept._copied == 0
