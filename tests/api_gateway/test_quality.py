"""Service quality: breakers, restarts behind the gateway, streams, clients that leave, stopping."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from ots_common.problems import Problem
from ots_gateway.access import Role
from ots_gateway.breaker import Breaker
from ots_native.settings import Ports
from process_memory import memory_kib

GIGABYTE = 2**30


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def refused(breaker):
    try:
        breaker.enter()
    except Problem as problem:
        return problem.headers["Retry-After"]
    return None


def test_a_breaker_opens_after_failures_in_a_row_only():
    breaker = Breaker("s", 3, 2.0, Clock())
    for _ in range(5):
        for outcome in (breaker.failed, breaker.failed, breaker.succeeded):
            breaker.enter()
            outcome()
    assert refused(breaker) is None


def test_one_tries_while_the_others_are_refused_and_the_wait_doubles():
    clock = Clock()
    breaker = Breaker("s", 2, 2.0, clock)
    breaker.failed()
    breaker.failed()
    assert refused(breaker) == "2"
    clock.now = 2.1
    assert refused(breaker) is None
    assert refused(breaker) == "1"
    breaker.failed()
    assert refused(breaker) == "4"
    clock.now += 4.1
    assert refused(breaker) is None
    breaker.succeeded()
    assert [refused(breaker) for _ in range(3)] == [None] * 3


def test_a_client_that_leaves_says_nothing_of_the_service():
    clock = Clock()
    breaker = Breaker("s", 1, 2.0, clock)
    breaker.failed()
    clock.now = 3.0
    assert refused(breaker) is None
    breaker.abandoned()
    assert refused(breaker) is None


def test_the_wait_is_bounded():
    clock = Clock()
    breaker = Breaker("s", 1, 2.0, clock)
    for _ in range(20):
        breaker.failed()
        clock.now += 31.0
        assert refused(breaker) is None


def test_a_service_that_is_gone_is_left_alone_and_found_again(start_gateway, tmp_path):
    port = Ports.free().cache
    with start_gateway(port, WORKERS="1", CONNECT_TIMEOUT_S="0.2", BREAKER_FAILURES="3", BREAKER_OPEN_S="1") as gateway:
        ask = lambda: gateway.ask("GET", "/api/v1/data/runs", Role.VIEWER)  # noqa: E731
        assert [ask().status_code for _ in range(3)] == [503] * 3
        began = time.monotonic()
        left_alone = ask()
        assert (left_alone.status_code, left_alone.headers["Retry-After"]) == (503, "1")
        assert "left alone" in left_alone.json()["detail"]
        assert float(left_alone.headers["Server-Timing"].split("=")[1]) < 100
        assert time.monotonic() - began < 5
        # the others are served all the same
        assert requests.get(gateway.url + "/health/live", timeout=5).status_code == 200
        with instance(port, tmp_path):
            gateway.within(15, lambda: ask().status_code == 200)


APPLICATION = """
import os, time
def app(environ, start_response):
    time.sleep(0.01)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body))), ("Content-Type", "text/plain")])
    return [body]
"""


@contextlib.contextmanager
def instance(port, folder):
    """A service under gunicorn, as ours are."""
    (folder / "restarted.py").write_text(APPLICATION)
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--chdir", str(folder), "-b", f"127.0.0.1:{port}", "-k", "gthread",
         "--threads", "4", "-w", "1", "--keep-alive", "75", "--no-control-socket", "restarted:app"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def load(gateway, seconds):
    """Four clients that ask again and again; their statuses."""
    token, statuses, stop = gateway.token(Role.VIEWER), [], threading.Event()

    def ask():
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {token}"
            while not stop.is_set():
                statuses.append(session.get(gateway.url + "/api/v1/data/runs", timeout=20).status_code)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        yield statuses
        time.sleep(seconds)
    finally:
        stop.set()
        for client in clients:
            client.join()


def test_a_service_reloads_its_workers_without_an_error(start_gateway, tmp_path):
    port = Ports.free().cache
    with instance(port, tmp_path) as process, start_gateway(port) as gateway, load(gateway, 1.0) as statuses:
        for _ in range(3):
            time.sleep(1.5)
            process.send_signal(signal.SIGHUP)
    assert len(statuses) > 100
    assert set(statuses) == {200}


def test_a_rolling_restart_of_two_instances_has_no_error(start_gateway, tmp_path):
    ports = [Ports.free().cache, Ports.free().analytics]
    urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    with contextlib.ExitStack() as running:
        instances = {port: running.enter_context(contextlib.ExitStack()) for port in ports}
        for port, stack in instances.items():
            stack.enter_context(instance(port, tmp_path))
        services = json.dumps(dict.fromkeys(("cache", "data-ingestion", "analytics"), urls))
        gateway = running.enter_context(start_gateway(ports[0], UPSTREAMS=services))
        with load(gateway, 1.0) as statuses:
            for port, stack in instances.items():
                time.sleep(1.0)
                stack.close()
                time.sleep(1.0)
                stack.enter_context(instance(port, tmp_path))
    assert len(statuses) > 100
    assert set(statuses) == {200}


class Large(BaseHTTPRequestHandler):
    """Gives and takes a gigabyte; a path says how it is framed."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_): ...

    def do_GET(self):
        chunked = "CHUNKED" in self.path
        self.send_response(200)
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(GIGABYTE))))
        self.end_headers()
        piece = bytes(2**20)
        try:
            for _ in range(GIGABYTE // len(piece)):
                self.wfile.write(b"100000\r\n" + piece + b"\r\n" if chunked else piece)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server.broken.set()

    def do_POST(self):
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 2**20)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


@pytest.fixture(scope="module")
def large():
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Large)
    upstream.daemon_threads = True
    upstream.broken = threading.Event()
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    yield upstream
    upstream.shutdown()


@pytest.fixture(scope="module")
def streaming(start_gateway, large):
    with start_gateway(large.server_port, WORKERS="1") as running:
        yield running


class Peak(threading.Thread):
    """The most memory that a process and its children have, while it is looked at."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.stop = pid, 0, threading.Event()
        self.start()

    def run(self):
        while not self.stop.wait(0.02):
            self.most = max(self.most, memory_kib(self.pid))


@pytest.mark.parametrize("symbol", ["LENGTH", "CHUNKED"])
def test_a_gigabyte_comes_through_in_constant_memory(streaming, symbol):
    before, peak, size = memory_kib(streaming.pid), Peak(streaming.pid), 0
    with streaming.ask("GET", f"/api/v1/data/bars/{symbol}", Role.VIEWER, stream=True) as answer:
        for piece in answer.iter_content(2**20):
            size += len(piece)
    peak.stop.set()
    assert size == GIGABYTE
    assert peak.most - before < 16 * 1024


def test_a_gigabyte_goes_through_in_constant_memory(streaming):
    before, peak = memory_kib(streaming.pid), Peak(streaming.pid)

    class Body:
        """With a length, and never whole in memory."""

        left = GIGABYTE

        def __len__(self):
            return GIGABYTE

        def read(self, size=-1):
            size = min(self.left, 2**20 if size < 0 else size)
            self.left -= size
            return bytes(size)

    answer = streaming.ask("POST", "/api/v1/data/imports", Role.OPERATOR, data=Body())
    peak.stop.set()
    assert answer.status_code == 200
    assert peak.most - before < 16 * 1024


def test_a_client_that_leaves_in_a_download_ends_it(streaming, large):
    large.broken.clear()
    with streaming.ask("GET", "/api/v1/data/bars/LENGTH", Role.VIEWER, stream=True) as answer:
        next(answer.iter_content(2**20))
    assert large.broken.wait(10)


class Waiting(threading.Thread):
    """A service that never answers; it says when it was asked and when it was given up."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked, self.left = threading.Event(), threading.Event()
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                self.asked.set()
                with contextlib.suppress(OSError):
                    while connection.recv(65536):
                        pass
                self.left.set()


def test_a_client_that_leaves_before_the_answer_ends_the_question(start_gateway):
    service = Waiting()
    with start_gateway(service.port, WORKERS="1") as gateway:
        token = gateway.token(Role.VIEWER)
        with socket.create_connection(gateway.address) as client:
            client.sendall(
                f"GET /api/v1/data/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            )
            assert service.asked.wait(10)
        began = time.monotonic()
        assert service.left.wait(10)
        assert time.monotonic() - began < 2
    service.listener.close()


def test_stopping_waits_for_what_is_under_way_and_not_longer(start_gateway, gateway):
    """The request takes three seconds; with it six idle clients and one that dawdles over its head."""
    answers = []
    with contextlib.ExitStack() as held, start_gateway(gateway.upstream.server_port) as stopping:
        for _ in range(6):
            session = held.enter_context(requests.Session())
            assert session.get(stopping.url + "/health/live", timeout=5).status_code == 200
        slow = threading.Thread(
            target=lambda: answers.append(stopping.ask("GET", "/api/v1/data/bars/SLOW", Role.VIEWER))
        )
        slow.start()
        time.sleep(1.0)
        os.kill(stopping.pid, signal.SIGTERM)
        began = time.monotonic()
        deadline = began + 20
        while not is_gone(stopping.pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        took = time.monotonic() - began
        slow.join()
    assert answers[0].status_code == 200
    assert answers[0].headers["Connection"] == "close"
    assert took < 2 + 3


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
