"""The gateway under test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import pytest
import requests

from gateway_support import ADMIN_PASSWORD, KEYS, METRICS_TOKEN, SEED, Echo, Gateway
from ots_common.database import Database
from ots_gateway.accounts import ensure_admin
from ots_native.settings import Ports


@pytest.fixture(scope="session")
def start_gateway(accounts_url, tmp_path_factory):
    """Starts a gateway under gunicorn with gevent workers: a context manager that stops it."""

    @contextmanager
    def start(upstream_port, upstream=None, host=None, **environment) -> Iterator[Gateway]:
        database = Database(accounts_url, application="tests", size=2)
        ensure_admin(database, ADMIN_PASSWORD, reset_password=True)
        port = Ports.free().gateway
        log = tmp_path_factory.mktemp("gateway") / "gateway.log"
        environment = {
            **os.environ,
            "BIND": f"127.0.0.1:{port}",
            "WORKERS": "2",
            "DATABASE_URL": accounts_url,
            "SIGNING_KEYS": json.dumps(KEYS),
            "UPSTREAMS": json.dumps(dict.fromkeys(KEYS, f"http://127.0.0.1:{upstream_port}")),
            "JWT_SIGNING_KEY": SEED,
            "METRICS_TOKEN": METRICS_TOKEN,
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path_factory.mktemp("metrics")),
            "OTS_INSTANCE": "under-test",
            "RATE_LIMIT_SCALE": "0",
            "LOGIN_FAILURES_PER_ADDRESS": "100000",  # the tests all come from one
            **environment,
        }
        command = [sys.executable, "-m", "gunicorn", "--config", "python:ots_gateway.gunicorn_conf"]
        with log.open("wb") as output:
            process = subprocess.Popen([*command, "ots_gateway.app:create_app()"], env=environment, stderr=output)
        try:
            running = Gateway(f"http://127.0.0.1:{port}", process.pid, database, upstream, log)
            _wait_until_it_answers(running, process, log, host)
            yield running
        finally:
            process.terminate()
            process.wait(30)
            database.close()

    return start


@pytest.fixture(scope="session")
def gateway(start_gateway) -> Iterator[Gateway]:
    """Two gevent workers; every service is the echo."""
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    upstream.daemon_threads = True
    upstream.state = "ok"  # type: ignore[attr-defined]
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with start_gateway(upstream.server_port, upstream) as running:
        yield running
    upstream.shutdown()


def _wait_until_it_answers(running, process, log, host):
    deadline = time.monotonic() + 30
    named = {"Host": host} if host else None
    while True:
        try:
            if requests.get(running.url + "/health/live", timeout=1, headers=named).status_code == 200:
                return
        except requests.RequestException:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
