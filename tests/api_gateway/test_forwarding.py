"""What goes on to a service and what comes back."""

import hashlib
import os
import threading

import pytest
import requests

from ots_gateway.access import Role
from process_memory import memory_kib

LARGE = os.urandom(2**20)


def test_what_only_the_gateway_may_say_is_not_taken_from_clients(gateway):
    lies = {
        "X-OTS-Internal": "mine", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil", "Forwarded": "for=1.2.3.4",
        "X-Real-IP": "1.2.3.4", "Cookie": "a=b", "Connection": "X-Custom", "X-Custom": "1", "TE": "trailers",
    }  # fmt: skip
    seen = gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER, headers=lies).json()["headers"]
    gateway.caller_of({"headers": seen}, "data-ingestion")
    for name in ("x-forwarded-for", "x-forwarded-host", "forwarded", "x-real-ip", "cookie", "x-custom", "te"):
        assert name not in seen


@pytest.mark.parametrize(
    ("offered", "kept"), [("abcdef12-3", True), ("short", False), ("a" * 200, False), ("has space", False)]
)
def test_a_clients_request_id_is_kept_when_it_is_one(gateway, offered, kept):
    answer = gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER, headers={"X-Request-ID": offered})
    assert (answer.headers["X-Request-ID"] == offered) is kept
    assert answer.json()["headers"]["x-request-id"] == answer.headers["X-Request-ID"]


def test_traceparent_goes_on(gateway):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen = gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER, headers={"traceparent": trace}).json()
    assert seen["headers"]["traceparent"] == trace


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_large_body_is_streamed_with_flat_memory(gateway, chunked):
    pieces = 200
    digest = hashlib.sha256()
    for _ in range(pieces):
        digest.update(LARGE)

    class Body:
        """A body with a length but never whole in memory."""

        def __init__(self):
            self.left = pieces

        def __len__(self):
            return 0 if chunked else pieces * len(LARGE)

        def read(self, _size=-1):
            if not self.left:
                return b""
            self.left -= 1
            return LARGE

        def __iter__(self):
            while data := self.read():
                yield data

    gateway.ask("POST", "/api/v1/data/imports", Role.OPERATOR, data=LARGE)
    before = memory_kib(gateway.pid)
    body = iter(Body()) if chunked else Body()
    answer = gateway.ask("POST", "/api/v1/data/imports", Role.OPERATOR, data=body)
    assert (answer.json()["size"], answer.json()["sha256"]) == (pieces * len(LARGE), digest.hexdigest())
    assert memory_kib(gateway.pid) - before < 30 * 1024


def test_a_large_answer_is_streamed(gateway):
    before = memory_kib(gateway.pid)
    answer = gateway.ask("GET", "/api/v1/data/bars/BIG", Role.VIEWER)
    assert len(answer.content) == 64 * 2**20
    assert memory_kib(gateway.pid) - before < 30 * 1024


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_over_its_limit_is_refused(gateway, chunked):
    body = (b"x" * 65536 for _ in range(40)) if chunked else b"x" * (40 * 65536)
    answer = gateway.ask("POST", "/api/v1/cache/analytics", Role.TRADER, data=body)
    assert answer.status_code == 413
    assert "1048576" in answer.json()["detail"]


def test_a_service_that_breaks_off_is_a_502(gateway):
    answer = gateway.ask("GET", "/api/v1/data/bars/BREAK", Role.VIEWER)
    assert answer.status_code == 502
    assert "data-ingestion" in answer.json()["detail"]


def test_slow_answers_do_not_hold_up_others(gateway):
    slow = [
        threading.Thread(target=gateway.ask, args=("GET", "/api/v1/data/bars/SLOW", Role.VIEWER)) for _ in range(20)
    ]
    for thread in slow:
        thread.start()
    for _ in range(10):
        assert gateway.ask("GET", "/health/live").status_code == 200
        assert gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER).status_code == 200
    assert any(thread.is_alive() for thread in slow)
    for thread in slow:
        thread.join()


def test_health_tells_every_service(gateway):
    answer = requests.get(gateway.url + "/health", timeout=10)
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["instance"]) == ("ok", "under-test")
    gateway.upstream.state = "unavailable"
    try:
        answer = requests.get(gateway.url + "/health", timeout=10)
        assert answer.status_code == 503
        assert {s["status"] for s in answer.json()["services"].values()} == {"unavailable"}
    finally:
        gateway.upstream.state = "ok"


def test_every_login_write_and_refusal_is_in_the_audit_log(gateway):
    write = gateway.ask("POST", "/api/v1/cache/analytics", Role.TRADER, data=b"{}")
    refusal = gateway.ask("POST", "/api/v1/data/imports", Role.VIEWER, data=b"x")
    stranger = gateway.ask("GET", "/api/v1/data/runs")
    failed = gateway.ask("POST", "/api/v1/auth/login", json={"username": "admin", "password": "wrong password"})
    reading = gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER)

    def events(answer):
        return gateway.database.rows(
            "SELECT event, username, role, status, method FROM audit_log WHERE request_id = %s",
            (answer.headers["X-Request-ID"],),
        )

    assert events(write) == [("write", "somebody", "trader", 200, "POST")]
    assert events(refusal) == [("refused", "somebody", "viewer", 403, "POST")]
    assert events(stranger) == [("refused", None, None, 401, "GET")]
    assert events(failed) == [("login_failed", "admin", None, 401, "POST")]
    assert events(reading) == []
