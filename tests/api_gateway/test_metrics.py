"""Each metric of the gateway moves when its condition is caused, summed over its workers; and nothing else moves it."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import threading
from http.server import ThreadingHTTPServer
from uuid import uuid4

import jwt
import pytest
import requests
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from gateway_support import KEYS, METRICS_TOKEN, Echo
from ots_common.problems import Problem
from ots_gateway import lockout, worker
from ots_gateway.access import Role
from ots_gateway.breaker import Breaker
from ots_gateway.deadlines import Watch
from ots_gateway.sessions_of_users import Ended
from ots_gateway.settings import GatewaySettings
from ots_gateway.upstream import SMALL_BYTES, Question, Upstream
from raw_http import exchange

PASSWORD = "correct horse battery"
CACHED = "/api/v1/cache/stock-prices"


@pytest.fixture(scope="module")
def gateway(start_gateway):
    """Limits on, without Redis; clients choose their address; analytics takes no connection."""
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    upstream.daemon_threads = True
    upstream.state = "ok"
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{upstream.server_port}"
    with start_gateway(
        upstream.server_port,
        upstream,
        UPSTREAMS=json.dumps({**dict.fromkeys(KEYS, there), "analytics": "http://127.0.0.1:1"}),
        RATE_LIMIT_SCALE="1",
        RATE_LIMITS=json.dumps({"login": "20/3600/20"}),
        REDIS_URL="redis://127.0.0.1:1/0",
        TRUSTED_PROXIES='["127.0.0.1/32"]',
        ALLOWED_HOSTS='["127.0.0.1"]',
        CONNECT_TIMEOUT_S="1",
        BREAKER_FAILURES="1000",
        LOGIN_FAILURES_PER_ACCOUNT="2",
        LOGIN_FAILURES_PER_ADDRESS="4",
        HEAD_TIMEOUT_S="4",
    ) as running:
        yield running
    upstream.shutdown()


def samples(gateway):
    text = gateway.ask("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}", **elsewhere()}).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Moved:
    """What has grown since it was made, or since it was asked last."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.before = samples(gateway)

    def __call__(self, name):
        """By the values of the labels; those that stand still are left out."""
        now = samples(self.gateway)
        found = {
            "/".join(value for _, value in key[1]): value - self.before.get(key, 0)
            for key, value in now.items()
            if key[0] == f"ots_gateway_{name}" and value != self.before.get(key, 0)
        }
        self.before |= {key: value for key, value in now.items() if key[0] == f"ots_gateway_{name}"}
        return found


@pytest.fixture
def moved(gateway):
    return Moved(gateway)


def elsewhere():
    """Headers of a client at an address that nobody had before."""
    a, b, c = secrets.token_bytes(3)
    return {"X-Forwarded-For": f"10.{a}.{b}.{c}"}


def bearer(token):
    return {"Authorization": f"Bearer {token}", **elsewhere()}


def sign_in(gateway, username, password, headers, **more):
    body = {"username": username, "password": password, **more}
    return gateway.ask("POST", "/api/v1/auth/login", json=body, headers=headers)


def stay_closed(gateway, *subject):
    """What was closed for a second is closed for an hour: nothing here shall depend on how fast this machine is."""
    closed = "UPDATE login_failures SET locked_until = now() + interval '1 hour' WHERE subject = %s"
    assert gateway.database.execute(closed, (lockout._subject(*subject),)) == 1


def test_credentials_that_let_nobody_in(gateway, moved):
    me = "/api/v1/auth/me"
    ended = gateway.person()
    gateway.sessions().end(ended.session_id, Ended.LOGOUT)
    old = jwt.decode(gateway.token(Role.VIEWER), options={"verify_signature": False})
    key = gateway.keys.signer()
    expired = jwt.encode(
        {**old, "exp": old["iat"] - 60}, key.private, algorithm="EdDSA", headers={"kid": key.kid, "typ": "at+jwt"}
    )
    for headers in (
        {},
        {"Authorization": "Basic xxx"},
        {"Authorization": "Bearer no.token.ofours"},
        {"Authorization": f"Bearer {expired}"},
        {"Authorization": f"Bearer {gateway.token_of(ended)}"},
        {"X-API-Key": f"ots_{'a' * 8}_{'x' * 43}"},
        {"X-API-Key": "nonsense"},
    ):
        assert gateway.ask("GET", me, headers={**headers, **elsewhere()}).status_code == 401
    assert moved("auth_failures_total") == {
        "none": 1, "malformed": 1, "not_ours": 1, "expired": 1, "revoked": 1, "key": 2
    }  # fmt: skip
    assert moved("refused_total") == {"credential": 7}


def test_passwords_accounts_and_addresses(gateway, moved):
    name = f"counted-{uuid4().hex[:8]}"
    gateway.person(name, Role.TRADER, PASSWORD)
    assert sign_in(gateway, name, PASSWORD, elsewhere()).status_code == 200
    assert sign_in(gateway, name, PASSWORD, elsewhere(), role="admin").status_code == 403
    assert moved("tokens_total") == {"login/issued": 1, "login/refused": 1}
    assert moved("auth_failures_total") == {"role": 1}
    assert moved("lockouts_total") == {}

    # the second closes the account, for a second
    for _ in range(2):
        assert sign_in(gateway, name, "wrong", elsewhere()).status_code == 401
    assert moved("auth_failures_total") == {"password": 2}
    assert moved("lockouts_total") == {"": 1}
    stay_closed(gateway, "account", name, "")
    assert sign_in(gateway, name, PASSWORD, elsewhere()).status_code == 401
    assert moved("auth_failures_total") == {"locked": 1}
    assert moved("lockouts_total") == {}
    assert moved("tokens_total") == {"login/refused": 3}

    # the fourth closes an address, whoever was tried
    here = elsewhere()
    answers = [sign_in(gateway, f"nobody-{uuid4().hex[:8]}", "wrong", {**here}).status_code for _ in range(4)]
    assert answers == [401] * 4
    assert moved("lockouts_total") == {"": 1}
    stay_closed(gateway, "address", here["X-Forwarded-For"])
    assert sign_in(gateway, name, PASSWORD, here).status_code == 429
    assert moved("auth_failures_total") == {"password": 4, "address": 1}


def test_refresh_tokens_and_keys(gateway, moved):
    granted = gateway.grant("admin")
    ask = {"refresh_token": granted.refresh_token}
    statuses = [
        gateway.ask("POST", "/api/v1/auth/refresh", json=body, headers=elsewhere()).status_code
        for body in (ask, ask, {"refresh_token": "otr_" + "x" * 43})
    ]
    assert statuses == [200, 401, 401]
    assert moved("auth_failures_total") == {"refresh_reused": 1, "refresh": 1}
    assert moved("tokens_total") == {"refresh/issued": 1, "refresh/refused": 2}
    wanted = {"name": "counted", "role": "viewer", "scopes": ["market"], "expires_in_days": 1}
    trader = bearer(gateway.token(Role.TRADER))
    made = gateway.ask("POST", "/api/v1/keys", json=wanted, headers=trader)
    assert made.status_code == 201
    assert gateway.ask("POST", "/api/v1/keys", json={**wanted, "role": "admin"}, headers=trader).status_code == 403
    assert moved("tokens_total") == {"key/issued": 1, "key/refused": 1}
    key = {"X-API-Key": made.json()["key"]}
    assert gateway.ask("GET", "/api/v1/cache/stats", headers=key).status_code == 403  # a scope that it lacks
    assert moved("refused_total") == {"role": 1, "scope": 1}


def test_refusals(gateway, moved):
    viewer = bearer(gateway.token(Role.VIEWER))
    for method, path, more, status in (
        ("GET", "/health/live", {"headers": {"Host": "evil.example", **elsewhere()}}, 400),
        ("GET", "/api/v1/a%2Fb", {"headers": elsewhere()}, 400),
        ("GET", f"/no/such/{uuid4().hex}", {"headers": elsewhere()}, 404),
        ("PUT", "/health/live", {"headers": elsewhere()}, 405),
        ("GET", "/api/v1/users", {"headers": viewer}, 403),
        (
            "POST",
            "/api/v1/cache/analytics",
            {"headers": bearer(gateway.token(Role.TRADER)), "data": bytes(2**20 + 1)},
            413,
        ),
    ):
        assert gateway.ask(method, path, **more).status_code == status, path
    many_fields = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"a: b\r\n" * 80 + b"\r\n"
    for raw in (b"NOMETHOD / HTTP/1.1\r\n\r\n", b"GET nonsense\r\n\r\n", many_fields, b"GET / HT"):
        assert b"application/problem+json" in exchange(gateway.address, raw, 60.0)
    assert moved("refused_total") == {
        "host": 1, "path": 1, "policy": 1, "method": 2, "role": 1, "size": 2, "malformed": 1, "slow": 1
    }  # fmt: skip


def test_limits(gateway, moved):
    here = elsewhere()
    for _ in range(45):
        gateway.ask("POST", "/api/v1/auth/refresh", json={}, headers=here)
    decisions = moved("limit_decisions_total")
    # two workers, each of which counts alone and lets half of the burst through, if it is asked
    assert decisions["login/refused"] == moved("rate_limited_total")["login"] == moved("refused_total")["limit"]
    assert decisions["login/allowed"] + decisions["login/refused"] == 45
    assert decisions["login/allowed"] >= 10
    assert decisions["login/refused"] >= 1
    assert samples(gateway)["ots_gateway_limits_local", ()] >= 1


def test_what_services_took_and_how_they_failed(gateway, moved):
    headers = bearer(gateway.token(Role.ADMIN))
    ask = [
        gateway.ask("GET", path, headers=headers).status_code
        for path in (f"{CACHED}/AAPL", f"{CACHED}/BREAK", "/api/v1/analytics/indicators/AAPL")
    ]
    assert ask == [200, 502, 503]
    assert moved("upstream_failures_total") == {"cut/cache": 1, "connect/analytics": 1}
    assert moved("upstream_seconds_count") == {"cache": 1}


def test_connections(gateway):
    def are(number):
        # the scrape's own is one of them
        gateway.within(60, lambda: samples(gateway)["ots_gateway_connections", ()] == number)

    are(1)
    with requests.Session() as one, requests.Session() as another:
        for session in (one, another):
            assert session.get(f"{gateway.url}/health/live", headers=elsewhere(), timeout=60).status_code == 200
        are(3)
    are(1)


def test_clients_that_leave(gateway, moved):
    token = gateway.token(Role.VIEWER)
    head = f"GET {CACHED}/SLOW HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"

    def one_more_leaves():
        with socket.create_connection(gateway.address) as client:
            client.sendall(head.encode())
        return moved("clients_left_total").get("", 0) > 0

    gateway.within(60, one_more_leaves)


def test_rows_of_the_audit_log(gateway, moved):
    gateway.ask("GET", "/api/v1/auth/me", headers=elsewhere())
    assert moved("audit_entries_total") == {"written": 1}
    assert moved("audit_lost_total") == {}


def test_which_build_runs(gateway):
    ((labels, value),) = [(dict(key[1]), v) for key, v in samples(gateway).items() if key[0] == "ots_build_info"]
    assert value == 1
    assert labels.keys() == {"service", "version", "market_source"}
    assert labels["service"] == "gateway"


# --- by the parts: what a whole gateway takes long to show ---


def counted(name, **labels):
    return REGISTRY.get_sample_value(f"ots_gateway_{name}", labels) or 0


def settings(**more):
    return GatewaySettings(
        database_url="postgresql://nowhere/x",
        upstreams={},
        jwt_signing_key=base64.urlsafe_b64encode(bytes(32)).decode(),
        metrics_token="0" * 32,
        **more,
    )


@pytest.fixture
def service():
    """Answers each connection's first request with the bytes in ``says``; what has none stays silent."""

    class Service:
        says = b""

        def __init__(self):
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.ended = threading.Event()
            threading.Thread(target=self._serve, daemon=True).start()

        def _serve(self):
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

        def _answer(self, connection):
            with connection:
                connection.recv(65536)
                connection.sendall(self.says)
                if not self.says or self.says.endswith(b"..."):
                    self.ended.wait(60)

        def upstream(self, name, **more):
            return Upstream(name, f"http://127.0.0.1:{self.listener.getsockname()[1]}", settings(**more), Watch())

    made = Service()
    yield made
    made.ended.set()
    made.listener.close()


def question(timeout_s=30.0):
    return Question("GET", b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", None, timeout_s)


def failures(name):
    """Of a service, those that there were."""
    reasons = ("connect", "timeout", "cut", "busy", "open", "status")
    found = {why: counted("upstream_failures_total", upstream=name, reason=why) for why in reasons}
    return {why: number for why, number in found.items() if number}


def test_a_service_that_takes_too_long(service):
    with pytest.raises(Problem, match="took longer"):
        service.upstream("late").ask(question(0.1))
    assert failures("late") == {"timeout": 1}
    assert counted("upstream_seconds_count", upstream="late") == 1
    assert counted("upstream_seconds_sum", upstream="late") >= 0.1


def test_a_service_that_answers_with_an_error(service):
    service.says = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    assert service.upstream("erring").ask(question()).status == 503
    assert failures("erring") == {"status": 1}


def test_a_service_that_breaks_off_within_its_answer(service):
    service.says = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (9 * SMALL_BYTES) + bytes(SMALL_BYTES)
    answer = service.upstream("breaking").ask(question())
    with pytest.raises(ConnectionResetError):
        b"".join(answer.stream)
    answer.stream.close()
    assert failures("breaking") == {"cut": 1}


def test_a_service_all_of_whose_connections_are_in_use(service):
    service.says = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (9 * SMALL_BYTES) + bytes(SMALL_BYTES) + b"..."
    upstream = service.upstream("busy", upstream_connections=1, upstream_wait_s=0.05)
    first = upstream.ask(question())
    with pytest.raises(Problem, match="busy"):
        upstream.ask(question())
    first.stream.close()
    assert failures("busy") == {"busy": 1}


def test_a_service_that_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    upstream = Upstream(
        "gone", f"http://127.0.0.1:{port}", settings(breaker_failures=2, connect_timeout_s=0.01), Watch()
    )
    for _ in range(4):
        with pytest.raises(Problem):
            upstream.ask(question())
    assert failures("gone") == {"connect": 2, "open": 2}


def test_what_breakers_become():
    now = [0.0]
    breaker = Breaker("counted", failures=2, open_s=1.0, clock=lambda: now[0])

    def told():
        states = [
            counted("breaker_transitions_total", upstream="counted", state=s) for s in ("open", "half_open", "closed")
        ]
        return [counted("breaker_open", upstream="counted"), *states]

    breaker.failed()
    assert told() == [0, 0, 0, 0]
    breaker.failed()
    assert told() == [1, 1, 0, 0]
    now[0] = 1.5
    breaker.enter()
    breaker.failed()
    assert told() == [1, 2, 1, 0]
    now[0] = 9.0
    breaker.enter()
    breaker.succeeded()
    breaker.succeeded()
    assert told() == [0, 2, 2, 1]


def test_connections_that_are_turned_away():
    before = counted("refused_total", reason="connections")
    ours, theirs = socket.socketpair()
    worker._turn_away(ours, b"HTTP/1.1 429\r\n\r\n")
    assert theirs.recv(100).startswith(b"HTTP/1.1 429")
    theirs.close()
    assert counted("refused_total", reason="connections") == before + 1


# --- nothing that a client writes becomes a series ---


def test_whatever_clients_send_makes_no_series(gateway):
    viewer = gateway.token(Role.VIEWER)

    def attack(mark):
        sent = 0

        def made_up():
            nonlocal sent
            sent += 1
            return f"{mark}{sent}"

        with requests.Session() as session:
            for _ in range(8):
                for method, path, headers, body in (
                    ("GET", f"/{made_up()}/{made_up()}", {}, None),
                    ("GET", f"{CACHED}/{made_up()}", {"Authorization": f"Bearer {viewer}"}, None),
                    ("GET", f"{CACHED}?symbols={made_up()}", {"Authorization": f"Bearer {viewer}"}, None),
                    ("GET", f"/api/v1/users/{made_up()}", {"Authorization": f"Bearer {viewer}"}, None),
                    ("GET", "/health/live", {"Host": f"{made_up()}.example"}, None),
                    ("GET", "/health/live", {"User-Agent": made_up(), "Referer": made_up(), made_up(): "x"}, None),
                    ("GET", "/health/live", {"X-Request-ID": f"{made_up()}-12345678"}, None),
                    ("GET", "/api/v1/auth/me", {"Authorization": f"Bearer {made_up()}"}, None),
                    ("GET", "/api/v1/auth/me", {"X-API-Key": made_up()}, None),
                    ("PROPFIND", f"{CACHED}/{made_up()}", {}, None),
                    ("DELETE", f"/{made_up()}", {}, None),
                    ("POST", "/api/v1/auth/login", {}, {"username": made_up(), "password": made_up()}),
                    ("POST", "/api/v1/auth/refresh", {}, {"refresh_token": made_up()}),
                ):
                    session.request(
                        method, gateway.url + path, headers={**headers, **elsewhere()}, json=body, timeout=30
                    )
        for method in ("FOO", made_up(), made_up()):
            exchange(gateway.address, f"{method} / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def series():
        return {key for key in samples(gateway) if not key[0].endswith("_bucket")}

    attack("first")
    series()  # a scrape is counted, but after its own answer was made
    before = series()
    attack("zqx")
    found = series()
    assert not [key for key in found if "zqx" in str(key).lower() or "first" in str(key).lower()]
    # a label with a value of the clients' would have made hundreds; some come with time, such as a level of the log
    assert len(found - before) < 10
