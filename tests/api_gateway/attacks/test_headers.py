"""Fields that lie: who asks, from where, for which host, by which method; answers that a page could misuse."""

import itertools
import socket
import threading
from http.server import ThreadingHTTPServer

import pytest

from gateway_support import Echo
from ots_gateway.access import Role
from raw_http import ask, exchange, first_answer

PLACES = itertools.count(60)
ORIGIN = "https://desk.example.com"


@pytest.fixture(scope="module")
def echo():
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    upstream.daemon_threads = True
    upstream.state = "ok"
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    yield upstream
    upstream.shutdown()


@pytest.fixture(scope="module")
def strict(start_gateway, echo):
    """One worker behind a trusted proxy, with allow-lists, in front of TLS."""
    settings = {
        "WORKERS": "1", "ALLOWED_HOSTS": '["api.example.com"]', "CORS_ORIGINS": f'["{ORIGIN}"]',
        "TRUSTED_PROXIES": '["127.0.0.0/8","10.0.0.0/8"]', "HSTS_S": "31536000",
        "RATE_LIMIT_SCALE": "1", "RATE_LIMITS": '{"stranger":"60/60/5","open":"600000/60/1000"}',
    }  # fmt: skip
    # asked by name while it starts: the allow-list is told of it afterwards, in each test
    with start_gateway(echo.server_port, echo, host="api.example.com", **settings) as running:
        yield running


def get(gateway, path, *fields, host="api.example.com", token=None):
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *fields]
    if not any(field.startswith("X-Forwarded-For") for field in fields):
        # from another place each time, for the limit of those who are not let in
        lines.append(f"X-Forwarded-For: 203.0.113.{next(PLACES) % 250}")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return ask(gateway.address, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


IDENTITY = {
    "X-OTS-Internal": "mine", "X-OTS-User": "admin", "X-Ots-Role": "admin", "X-Forwarded-User": "admin",
    "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "https", "Forwarded": "for=1.2.3.4",
    "X-Real-IP": "1.2.3.4", "X-Client-IP": "1.2.3.4", "True-Client-IP": "1.2.3.4", "CF-Connecting-IP": "1.2.3.4",
    "X-Original-URL": "/admin", "X-Rewrite-URL": "/admin", "X-HTTP-Method-Override": "DELETE",
    "X-HTTP-Method": "DELETE", "X-Method-Override": "DELETE", "Proxy": "http://evil",
    "Cookie": "session=1", "Via": "1.1 evil",
    "Proxy-Authorization": "Basic eDp5", "TE": "trailers", "Keep-Alive": "timeout=1",
}  # fmt: skip


@pytest.mark.parametrize("name", IDENTITY)
def test_an_identity_header_does_not_reach_a_service(gateway, name):
    seen = gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER, headers={name: IDENTITY[name]}).json()
    gateway.caller_of(seen, "data-ingestion")
    assert seen["headers"].get(name.lower()) in (None, seen["headers"]["x-ots-internal"])
    assert (seen["method"], seen["path"]) == ("GET", "/api/v1/data/runs")


def test_an_underscore_does_not_pass_for_a_hyphen(gateway):
    token = gateway.token(Role.VIEWER)
    answer = get(gateway, "/api/v1/data/runs", "X_OTS_Internal: mine", "X_Request_ID: aaaaaaaaaa", token=token)
    assert answer.status == 200
    assert answer.headers["x-request-id"] != "aaaaaaaaaa"
    gateway.caller_of(answer.json(), "data-ingestion")


def test_what_connection_names_is_stripped_but_not_what_the_gateway_says(gateway):
    fields = {"Connection": "X-Mine, X-OTS-Internal, X-Request-ID", "X-Mine": "1"}
    seen = gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER, headers=fields).json()
    assert "x-mine" not in seen["headers"]
    gateway.caller_of(seen, "data-ingestion")


@pytest.mark.parametrize(
    ("claimed", "taken"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("1.1.1.1, nonsense, 10.1.2.3", "10.1.2.3"),
        ("nonsense", "127.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", "127.0.0.1"),
        ("1.1.1.1\x09,\x09203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "127.0.0.1"),
    ],
)
def test_the_address_is_the_rightmost_that_no_trusted_proxy_has(strict, claimed, taken):
    token = strict.token(Role.VIEWER)
    answer = get(strict, "/api/v1/users", f"X-Forwarded-For: {claimed}", token=token)
    assert answer.status == 403
    assert addresses(strict, answer) == [(taken,)]


def addresses(gateway, answer):
    return gateway.database.rows(
        "SELECT address FROM audit.entries WHERE request_id = %s", (answer.headers["x-request-id"],)
    )


def test_x_forwarded_for_of_nobody_in_particular_is_not_believed(gateway):
    answer = gateway.ask("POST", "/api/v1/data/imports", Role.VIEWER, headers={"X-Forwarded-For": "203.0.113.7"})
    rows = gateway.database.rows(
        "SELECT address FROM audit.entries WHERE request_id = %s", (answer.headers["X-Request-ID"],)
    )
    assert rows == [("127.0.0.1",)]


def test_a_new_claim_for_each_request_does_not_evade_the_limit_of_strangers(strict):
    """The attacker stands at 198.51.100.9 and writes what they like to the left of it."""
    told = [get(strict, "/api/v1/data/runs", f"X-Forwarded-For: 9.9.9.{n}, 198.51.100.9").status for n in range(12)]
    assert told[0] == 401
    assert 429 in told
    assert get(strict, "/api/v1/data/runs", "X-Forwarded-For: 198.51.100.10").status == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "api.example.com.evil.com",
        "api.example.com@evil",
        "api.example.com evil",
        "[::1",
        "a/b",
        "x:99999999",
        "",
        " ",
    ],
)
def test_another_host_is_refused(strict, host):
    assert get(strict, "/health/live", host=host).status == 400


def test_the_host_of_ours_with_any_port_and_case(strict):
    assert get(strict, "/health/live", host="API.example.com:8443").status == 200


def test_two_hosts_or_none(gateway):
    assert ask(gateway.address, b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status == 400
    assert ask(gateway.address, b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").status == 400
    assert ask(gateway.address, b"GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n").status == 400
    assert (
        ask(gateway.address, b"GET http://evil/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status
        == 400
    )


@pytest.mark.parametrize(
    "method", ["TRACE", "TRACK", "CONNECT", "DEBUG", "PROPFIND", "get", "G\x00ET", "FOO", "PRI", "OPTIONS"]
)
def test_a_method_that_is_not_in_the_table(gateway, method):
    answer = first_answer(
        exchange(
            gateway.address,
            f"{method} /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode(),
        )
    )
    assert answer.status in (400, 405, 501)
    assert b"Host: x" not in answer.body


def test_connect_opens_no_tunnel(gateway):
    answer = ask(gateway.address, b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\nSSH-2.0-x\r\n")
    assert answer.status in (400, 405)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
def test_a_method_cannot_be_overridden(gateway, name):
    answer = gateway.ask(
        "GET", "/api/v1/cache/analytics/k1", Role.VIEWER, headers={name: "DELETE"}, params={"_method": "DELETE"}
    )
    assert (answer.status_code, answer.json()["method"]) == (200, "GET")


def test_cors_is_for_the_allow_list_only(strict):
    preflight = ("Origin: {}", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization")
    head = (
        "OPTIONS /api/v1/data/runs HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n"
        + "\r\n".join(preflight)
        + "\r\n\r\n"
    )
    good = ask(strict.address, head.format(ORIGIN).encode())
    assert (good.status, good.headers["access-control-allow-origin"]) == (204, ORIGIN)
    assert good.headers["access-control-allow-methods"] == "GET, HEAD"
    assert "access-control-allow-credentials" not in good.headers
    for origin in ("https://evil.example.com", "null", f"{ORIGIN}.evil.com", ORIGIN.replace("https", "http"), "*"):
        bad = ask(strict.address, head.format(origin).encode())
        assert bad.status == 405
        assert "access-control-allow-origin" not in bad.headers
        answer = get(strict, "/health/live", f"Origin: {origin}")
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-origin" not in answer.headers
    assert get(strict, "/health/live", f"Origin: {ORIGIN}").headers["access-control-allow-origin"] == ORIGIN


def test_without_an_allow_list_no_origin_is_told_anything(gateway):
    answer = gateway.ask("GET", "/health/live", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


SECURE = {
    "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'", "cache-control": "no-store",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/health/live", "/api/v1/data/runs", "/nothing", "/api/v1/users"])
@pytest.mark.parametrize("role", [None, Role.VIEWER])
def test_security_headers_are_in_every_answer(strict, path, role):
    """OWASP API8:2023, security misconfiguration."""
    answer = get(strict, path, token=strict.token(role))
    for name, value in SECURE.items():
        assert answer.headers[name] == value, name
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Host", "X-Forwarded-Scheme", "X-Host", "X-Original-URL", "Forwarded", "X-Forwarded-Port"]
)
def test_cache_poisoning(strict, name):
    """No field that a cache does not key on changes an answer."""
    plain = get(strict, "/nothing-here")
    poisoned = get(strict, "/nothing-here", f"{name}: evil.example.com")
    assert b"evil" not in poisoned.body
    assert "evil" not in str(poisoned.headers)
    assert poisoned.status == plain.status == 404
    assert poisoned.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "offered", ["abcdef12\r\nX-Evil: 1", "a" * 500, "<script>", "%0d%0aevil", "short", "{{7*7}}", "a\x7fbcdefghij"]
)
def test_a_request_id_that_is_none_is_replaced(gateway, offered):
    request = f"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-ID: {offered}\r\n\r\n"
    answer = ask(gateway.address, request.encode("latin-1"))
    assert "x-evil" not in answer.headers
    if answer.status == 200:
        assert answer.headers["x-request-id"] != offered


def test_a_log_line_stays_one_line(start_gateway, echo):
    with start_gateway(echo.server_port, echo, WORKERS="1", LOG_FORMAT="json") as gateway:
        for path in ('/a%0a{"event":"forged"}', "/%1b[31mred", "/%e2%80%a8x", '/"quoted"'):
            exchange(
                gateway.address,
                f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: \xff\xfe\r\n\r\n".encode(
                    "latin-1"
                ),
            )
        # the access log is written ten times a second
        gateway.within(5, lambda: "quoted" in gateway.log.read_text())
        text = gateway.log.read_text()
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith('{"event":"forged"')]


class Splitting(threading.Thread):
    """A service that answers with what its test says, and closes."""

    def __init__(self, said):
        super().__init__(daemon=True)
        self.said = said
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(self.said)


ANSWERS = {
    "line feed in a value": b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\n{}",
    "carriage return in a value": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\n{}",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n Set-Cookie: evil\r\nContent-Length: 2\r\n\r\n{}",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    "status 999": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS)
def test_response_splitting(start_gateway, said):
    """OWASP API10:2023, unsafe consumption of APIs: a service's answer is not trusted more than a client's request."""
    service = Splitting(said)
    with start_gateway(service.port, WORKERS="1") as gateway:
        answer = gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER)
    service.listener.close()
    assert answer.status_code == 502
    assert "Set-Cookie" not in answer.headers


def test_what_a_service_may_not_say_to_a_client(start_gateway):
    said = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nX-OTS-Secret: 1\r\nServer: gunicorn\r\n"
        b"Access-Control-Allow-Origin: *\r\n"
        b"Strict-Transport-Security: max-age=0\r\nContent-Security-Policy: default-src *\r\nContent-Length: 2\r\n\r\n{}"
        b"HTTP/1.1 200 OK\r\n\r\n"
    )
    service = Splitting(said)
    with start_gateway(service.port, WORKERS="1") as gateway:
        answer = gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER)
    service.listener.close()
    assert (answer.status_code, answer.content) == (200, b"{}")
    for name in ("Set-Cookie", "X-OTS-Secret", "Server", "Access-Control-Allow-Origin", "Strict-Transport-Security"):
        assert name not in answer.headers
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "//169.254.169.254/",
        "/api/v1/data/runs@169.254.169.254",
        "127.0.0.1:22",
        "/http://127.0.0.1:1/",
    ],
)
def test_server_side_request_forgery(gateway, target):
    """OWASP API7:2023: no part of a request says where the gateway connects to."""
    token = gateway.token(Role.ADMIN)
    request = (
        f"GET {target} HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    answer = ask(gateway.address, request.encode())
    assert answer.status in (400, 404)
    assert "x-from-upstream" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/api/v0/data/runs",
        "/api/v2/data/runs",
        "/api/data/runs",
        "/data/runs",
        "/openapi/openapi.json",
        "/debug",
        "/admin",
        "/.env",
        "/.git/config",
        "/server-status",
        "/actuator/health",
        "/console",
        "/api/v1/auth/debug",
        "/health/../metrics",
        "/static/x",
    ],
)
def test_nothing_is_there_that_the_inventory_does_not_have(gateway, path):
    """OWASP API9:2023, improper inventory management: the table is the inventory."""
    token = gateway.token(Role.ADMIN)
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    assert ask(gateway.address, request.encode()).status in (400, 404)
