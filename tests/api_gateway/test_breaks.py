"""Services that die, stall or lie, and clients that leave, at every point of a request."""

import json
import queue
import socket
import threading
import time

import psycopg2
import pytest
import requests

from gateway_support import ADMIN_PASSWORD
from ots_gateway.access import Role

CRAMPED = 4096


class RawService:
    """A service, byte by byte: a test says what it answers to a path and sees what it was sent."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CRAMPED)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.answers = {}
        self.heads = queue.Queue()
        self.ends = queue.Queue()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            while head := self._head(connection):
                path = head.split(b" ")[1].decode()
                if path == "/health":
                    connection.sendall(self.answers.get(path, answer(b'{"status":"ok"}')))
                    return
                self.heads.put((time.monotonic(), head))
                action = self.answers[path]
                if action(connection) if callable(action) else connection.sendall(action):
                    continue
                return

    @staticmethod
    def _head(connection):
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                piece = connection.recv(1)
            except OSError:
                return b""
            if not piece:
                return b""
            data += piece
        return data


def answer(body, status=b"200 OK", length=None):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body) if length is None else length, body)


@pytest.fixture(scope="module")
def service():
    running = RawService()
    yield running
    running.listener.close()


@pytest.fixture(scope="module")
def gateway(start_gateway, service):
    """One worker, so that a connection kept is the one used next."""
    with start_gateway(service.port, WORKERS="1", UPSTREAM_CONNECTIONS="4", UPSTREAM_WAIT_S="1") as running:
        yield running


def bars(gateway, symbol):
    return gateway.ask("GET", f"/api/v1/data/bars/{symbol}", Role.VIEWER)


def upload_head(gateway, more):
    token = gateway.token(Role.OPERATOR)
    return f"POST /api/v1/data/imports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n\r\n".encode()


def test_a_small_answer_that_is_cut_short_is_a_502(gateway, service):
    service.answers["/api/v1/data/bars/CUT"] = answer(b"half", length=1000)
    assert bars(gateway, "CUT").status_code == 502


@pytest.mark.parametrize("head", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"], ids=["length", "chunked"])
def test_a_large_answer_that_is_cut_short_does_not_look_whole(gateway, service, head):
    body = b"30d40\r\n" + b"x" * 200_000 + b"\r\n"
    service.answers["/api/v1/data/bars/CUT"] = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        bars(gateway, "CUT")


def test_a_kept_connection_that_dies_is_asked_once_more(gateway, service):
    """The service takes the second request of the connection and hangs up without a word."""
    asked = []

    def serve(connection):
        asked.append(connection)
        if asked.count(connection) == 2:
            return False
        connection.sendall(answer(b"{}"))
        return True

    service.answers["/api/v1/data/bars/AGAIN"] = serve
    assert [bars(gateway, "AGAIN").status_code for _ in range(2)] == [200, 200]
    assert len(asked) == 3


def test_a_write_is_never_asked_twice(gateway, service):
    asked = []
    service.answers["/api/v1/data/corporate-actions"] = lambda connection: asked.append(connection)
    failed = gateway.ask("POST", "/api/v1/data/corporate-actions", Role.OPERATOR, data=b"{}")
    assert (failed.status_code, len(asked)) == (502, 1)


def test_a_service_that_pauses_in_an_upload_is_waited_for(gateway, service):
    """For longer than it may take to accept a connection."""
    size = 32 * 2**20

    def serve(connection):
        time.sleep(3)
        left = size
        while left:
            left -= len(connection.recv(min(left, 65536)))
        connection.sendall(answer(b"{}"))
        return False

    service.answers["/api/v1/data/imports"] = serve
    assert gateway.ask("POST", "/api/v1/data/imports", Role.OPERATOR, data=b"x" * size).status_code == 200


@pytest.mark.parametrize(
    ("framing", "part"),
    [("Content-Length: 1000000", b"abcde"), ("Transfer-Encoding: chunked", b"5\r\nabcde\r\n")],
    ids=["length", "chunked"],
)
def test_a_client_that_leaves_in_an_upload_does_not_hold_the_service(gateway, service, framing, part):
    left = queue.Queue()

    def serve(connection):
        connection.settimeout(20)
        while connection.recv(65536):
            pass
        left.put(True)
        return False

    service.answers["/api/v1/data/imports"] = serve
    while not service.heads.empty():
        service.heads.get()
    with socket.create_connection(gateway.address) as client:
        client.sendall(upload_head(gateway, framing) + part)
        service.heads.get(timeout=10)
    assert left.get(timeout=10)


@pytest.mark.parametrize("role", [None, Role.VIEWER], ids=["401", "403"])
def test_a_refused_upload_is_not_read_to_its_end(gateway, role):
    token = f"Authorization: Bearer {gateway.token(role)}\r\n" if role else ""
    head = f"POST /api/v1/data/imports HTTP/1.1\r\nHost: x\r\n{token}Content-Length: 2000000000\r\n\r\n"
    with socket.create_connection(gateway.address, timeout=10) as client:
        client.sendall(head.encode())
        assert client.recv(4096).split(b" ")[1] == (b"403" if role else b"401")
        sent = 0
        with pytest.raises(ConnectionError):
            while True:
                sent += client.send(bytes(65536))
        assert sent < 256 * 2**20


@pytest.mark.parametrize(
    "said",
    [answer(b'{"status":500}', b"500 X"), answer(b"{}"), answer(b"[]"), answer(b"x"), b""],
    ids=["a problem", "no status", "a list", "no JSON", "nothing"],
)
def test_health_believes_only_health(gateway, service, said):
    service.answers["/health"] = said
    try:
        told = requests.get(gateway.url + "/health", timeout=10)
        assert told.status_code == 503
        assert {each["status"] for each in told.json()["services"].values()} == {"unavailable"}
    finally:
        del service.answers["/health"]


def test_more_requests_than_connections_wait_then_are_told(gateway, service):
    release = threading.Event()

    def serve(connection):
        release.wait(20)
        connection.sendall(answer(b"{}"))
        return False

    service.answers["/api/v1/data/bars/HELD"] = serve
    statuses = queue.Queue()

    def ask():
        statuses.put(bars(gateway, "HELD"))

    askers = [threading.Thread(target=ask) for _ in range(5)]
    for asker in askers:
        asker.start()
    refused = statuses.get(timeout=10)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert requests.get(gateway.url + "/health", timeout=10).status_code == 200
    release.set()
    for asker in askers:
        asker.join()
    assert [statuses.get().status_code for _ in range(4)] == [200] * 4


def test_no_connection_is_lost_by_answers_without_a_body(gateway, service):
    """Four connections, a dozen answers that have none."""
    service.answers["/api/v1/cache/analytics/k"] = lambda connection: (
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n") or True
    )
    for _ in range(12):
        assert gateway.ask("DELETE", "/api/v1/cache/analytics/k", Role.TRADER).status_code == 204
        assert gateway.ask("HEAD", "/api/v1/cache/analytics/k", Role.TRADER).status_code == 204


@pytest.mark.parametrize(
    "body",
    [b'{"username":"a\\u0000b","password":"x"}', b'{"username":' + b"[" * 7000, b"[" * 7000],
    ids=["NUL", "deep field", "deep"],
)
def test_a_login_body_that_hurts_is_a_422(gateway, body):
    told = gateway.ask("POST", "/api/v1/auth/login", data=body, headers={"Content-Type": "application/json"})
    assert told.status_code == 422


def test_a_write_that_found_nothing_is_in_the_audit_log(gateway, service):
    service.answers["/api/v1/cache/analytics/none"] = answer(b"{}", b"404 Not Found")
    told = gateway.ask("DELETE", "/api/v1/cache/analytics/none", Role.TRADER)
    rows = gateway.database.rows(
        "SELECT event, status FROM audit_log WHERE request_id = %s", (told.headers["X-Request-ID"],)
    )
    assert rows == [("write", 404)]


def test_only_an_attempt_to_sign_in_is_one(gateway):
    login = "/api/v1/auth/login"
    for method, body in (("GET", None), ("POST", {}), ("POST", {"username": "admin", "password": ADMIN_PASSWORD})):
        told = gateway.ask(method, login, data=json.dumps(body), headers={"Content-Type": "application/json"})
        rows = gateway.database.rows(
            "SELECT event FROM audit_log WHERE request_id = %s", (told.headers["X-Request-ID"],)
        )
        assert rows == ([("login",)] if told.status_code == 200 else [])


def test_it_stops_at_once_with_idle_clients(start_gateway, service):
    with requests.Session() as answered, socket.socket() as silent:
        with start_gateway(service.port) as stopping:
            assert answered.get(stopping.url + "/health/live", timeout=5).status_code == 200
            silent.connect(stopping.address)
            began = time.monotonic()
        # far below the 10 s that gunicorn leaves to workers that are busy, far above what stopping takes
        assert time.monotonic() - began < 6


def test_who_waits_for_a_locked_table_is_told(start_gateway, accounts_url):
    """Without a bound it would be as long as somebody holds the lock, and with it a connection."""
    with start_gateway(1, WORKERS="1", DATABASE_LOCK_S="0.3") as gateway, psycopg2.connect(accounts_url) as holder:
        token = gateway.token(Role.ADMIN)
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        answer = requests.get(f"{gateway.url}/api/v1/users", headers={"Authorization": f"Bearer {token}"}, timeout=60)
        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        holder.rollback()
        gateway.within(60, lambda: gateway.ask("GET", "/api/v1/users", Role.ADMIN).status_code == 200)
