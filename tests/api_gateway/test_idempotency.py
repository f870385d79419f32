"""``Idempotency-Key``: what is repeated is done once."""

import os
import queue
import signal
import subprocess
import threading
import time
import uuid

import pytest
import requests

from ots_gateway.access import Role

RATES = "/api/v1/data/rates"


class Counting:
    """A service that counts what it was asked to do; a test says how it answers."""

    def __init__(self):
        import http.server

        outer = self
        self.asked = queue.Queue()
        self.answer = lambda: (201, b'{"made":1}')

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_): ...

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.put((self.path, body))
                status, said = outer.answer()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Location", "/made/1")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def times(self):
        return self.asked.qsize()


@pytest.fixture(scope="module")
def service():
    running = Counting()
    yield running
    running.server.shutdown()


@pytest.fixture(scope="module")
def gateway(start_gateway, service):
    with start_gateway(service.server.server_port, IDEMPOTENCY_LEASE_S="2") as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(service):
    service.asked = queue.Queue()
    service.answer = lambda: (201, b'{"made":"%s"}' % uuid.uuid4().hex.encode())


def post(gateway, key, body=b'{"a":1}', path=RATES, headers=None, **more):
    fields = {"Content-Type": "application/json", **(headers or {})}
    if key is not None:
        fields["Idempotency-Key"] = key
    return gateway.ask("POST", path, Role.OPERATOR, data=body, headers=fields, **more)


def key():
    return uuid.uuid4().hex


def test_a_repetition_gets_the_first_answer(gateway, service):
    mine = key()
    first, second = post(gateway, mine), post(gateway, mine)
    assert service.times() == 1
    assert (second.status_code, second.content) == (first.status_code, first.content) == (201, first.content)
    assert second.headers["Location"] == "/made/1"
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["X-Request-ID"] != first.headers["X-Request-ID"]


def test_without_a_key_each_is_done(gateway, service):
    assert post(gateway, None).content != post(gateway, None).content
    assert service.times() == 2


@pytest.mark.parametrize("body", [b'{"a":2}', b"", b'{"a":1}' * 100_000], ids=["other", "none", "large"])
def test_another_body_is_refused(gateway, service, body):
    mine = key()
    post(gateway, mine)
    refused = post(gateway, mine, body)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:ai-ots:problem:idempotency-key-reused")
    assert service.times() == 1


def test_another_path_query_or_type_is_refused(gateway, service):
    mine = key()
    post(gateway, mine)
    for changes in (
        {"path": "/api/v1/cache/analytics"},
        {"params": {"x": "1"}},
        {"headers": {"Content-Type": "text/csv"}},
    ):
        assert post(gateway, mine, **changes).status_code == 422
    assert service.times() == 1


def test_keys_belong_to_a_user(gateway, service):
    mine = key()
    post(gateway, mine)
    other = gateway.token_of(gateway.person("another"), Role.OPERATOR)
    fields = {"Authorization": f"Bearer {other}", "Idempotency-Key": mine, "Content-Type": "application/json"}
    assert gateway.ask("POST", RATES, data=b'{"a":2}', headers=fields).status_code == 201
    assert service.times() == 2


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_refusal_of_the_service_is_kept_too(gateway, service, status):
    service.answer = lambda: (status, b"{}")
    mine = key()
    assert [post(gateway, mine).status_code for _ in range(2)] == [status] * 2
    assert service.times() == 1


def test_after_a_failure_the_key_is_free(gateway, service):
    service.answer = lambda: (500, b"{}")
    mine = key()
    assert post(gateway, mine).status_code == 500
    service.answer = lambda: (201, b'{"made":1}')
    assert post(gateway, mine).status_code == 201
    assert service.times() == 2


def test_of_two_at_once_one_is_done(gateway, service):
    begun, release = threading.Event(), threading.Event()

    def slow():
        begun.set()
        release.wait(20)
        return 201, b'{"made":1}'

    service.answer = slow
    mine, answers = key(), []
    first = threading.Thread(target=lambda: answers.append(post(gateway, mine)))
    first.start()
    begun.wait(10)
    time.sleep(3)  # longer than a lease: it is prolonged while the work goes on
    second = post(gateway, mine)
    assert (second.status_code, second.headers["Retry-After"]) == (409, "1")
    release.set()
    first.join()
    assert answers[0].status_code == 201
    assert post(gateway, mine).headers["Idempotent-Replayed"] == "true"
    assert service.times() == 1


def test_many_at_once_do_it_once(gateway, service):
    mine, answers = key(), []
    askers = [threading.Thread(target=lambda: answers.append(post(gateway, mine).status_code)) for _ in range(12)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert service.times() == 1
    assert set(answers) <= {201, 409}


def post_and_lose(gateway, mine):
    with pytest.raises(requests.RequestException):
        post(gateway, mine)


def test_a_gateway_that_is_killed_does_not_keep_a_key(start_gateway, service):
    begun = threading.Event()

    def stuck():
        begun.set()
        time.sleep(30)
        return 201, b"{}"

    service.answer = stuck
    mine = key()
    with start_gateway(service.server.server_port, WORKERS="1", IDEMPOTENCY_LEASE_S="2") as gateway:
        threading.Thread(target=post_and_lose, args=(gateway, mine), daemon=True).start()
        assert begun.wait(10)
        workers = subprocess.run(["pgrep", "-P", str(gateway.pid)], capture_output=True, text=True, check=True).stdout
        for pid in workers.split():
            os.kill(int(pid), signal.SIGKILL)
        service.answer = lambda: (201, b'{"made":2}')
        gateway.within(10, lambda: post(gateway, mine).status_code == 201)
    assert service.times() == 2


@pytest.mark.parametrize("bad", ["x" * 256, "", "with space", 'un"quoted', "tab\there"])
def test_a_key_that_is_none_is_refused(gateway, service, bad):
    assert post(gateway, bad).status_code == 422
    assert service.times() == 0


def test_an_answer_too_large_to_keep_is_said_to_be(gateway, service):
    service.answer = lambda: (201, b"x" * 2**20)
    mine = key()
    assert len(post(gateway, mine).content) == 2**20
    again = post(gateway, mine)
    assert (again.status_code, again.json()["type"]) == (409, "urn:ai-ots:problem:idempotency-too-large")
    assert service.times() == 1


def test_old_keys_are_forgotten(gateway, service):
    mine = key()
    post(gateway, mine)
    gateway.database.execute(
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = %s", (mine,)
    )
    post(gateway, mine)
    assert service.times() == 2
