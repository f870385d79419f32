"""Tables of a service through the gateway, both under gunicorn: formats, ETag, gzip, streams, and who leaves early."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from gateway_support import KEYS, Gateway
from ots_common.media_types import ARROW, CSV, JSON, PARQUET
from ots_gateway.access import Role
from ots_native.settings import Ports
from places import ROOT
from process_memory import forget_peak, peak_kib
from table_service import LARGE, SMALL

URL = "/api/v1/data/bars/"
THREADS = 2


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Port and process of the service."""
    port = Ports.free().gateway
    environment = {
        **os.environ,
        "BIND": f"127.0.0.1:{port}",
        "WORKERS": "1",
        "PYTHONPATH": str(ROOT / "tests"),
        "DATABASE_URL": "postgresql://nowhere/x",
        "ACCEPT_KEYS": json.dumps({"gateway": KEYS["data-ingestion"]}),
    }
    command = [sys.executable, "-m", "gunicorn", "--config", "python:ots_common.gunicorn_conf", "--threads",
               str(THREADS), "table_service:create_app()"]  # fmt: skip
    log = tmp_path_factory.mktemp("tables") / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    deadline = time.monotonic() + 30
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
            break
        except requests.ConnectionError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield port, process.pid
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def tables(start_gateway, service) -> Iterator[Gateway]:
    with start_gateway(service[0], WORKERS="1", UPSTREAM_CONNECTIONS="2", CORS_ORIGINS='["https://page"]') as running:
        yield running


def ask(gateway: Gateway, symbol: str, accept: str = "*/*", method: str = "GET", **headers: str) -> requests.Response:
    fields = {"Accept": accept, "Accept-Encoding": "identity", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return gateway.ask(method, URL + symbol, Role.VIEWER, headers=fields)


def _columns(answer: requests.Response) -> dict[str, list]:
    """Prices and counts of an answer in any format."""
    kind = answer.headers["Content-Type"].partition(";")[0]
    if kind in (ARROW, PARQUET):
        table = (
            pa.ipc.open_stream(answer.content).read_all()
            if kind == ARROW
            else pq.read_table(io.BytesIO(answer.content))
        )
        return {"price": table["price"].to_pylist(), "count": table["count"].to_pylist()}
    rows = answer.json()["bars"] if kind == JSON else list(csv.DictReader(io.StringIO(answer.text)))
    return {"price": [float(row["price"]) for row in rows], "count": [int(row["count"]) for row in rows]}


@pytest.mark.parametrize("accept", [JSON, CSV, ARROW, PARQUET])
@pytest.mark.parametrize("symbol", ["SMALL", "LARGE"])
def test_every_format_comes_through_whole(tables, accept, symbol):
    answer = ask(tables, symbol, accept)
    rows = SMALL if symbol == "SMALL" else LARGE
    assert answer.headers["Content-Type"].startswith(accept)
    assert _columns(answer) == {
        "price": (np.arange(rows) / 7).tolist(),
        "count": (np.arange(rows) + 2**53).tolist(),
    }
    assert "Accept" in answer.headers["Vary"].replace(" ", "").split(",")
    assert answer.headers["Link"] == f'<{URL}{symbol}?cursor=more>; rel="next"'
    for timed in ("data-ingestion", "gateway"):
        assert f"{timed};dur=" in answer.headers["Server-Timing"]
    if accept == CSV:
        assert json.loads(answer.headers["X-OTS-About"]) == {"symbol": symbol, "source": "tests"}
    streamed = symbol == "LARGE" and accept != PARQUET
    assert ("Content-Length" in answer.headers) is not streamed
    assert ("ETag" in answer.headers) is not streamed


@pytest.mark.parametrize("accept", [JSON, CSV, ARROW, PARQUET])
def test_what_the_client_has_is_not_sent_again(tables, accept):
    first = ask(tables, "SMALL", accept)
    assert first.headers["Cache-Control"] == "private, no-cache"
    for method in ("GET", "HEAD"):
        again = ask(tables, "SMALL", accept, method, If_None_Match=first.headers["ETag"], Accept_Encoding="gzip")
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert "Accept" in again.headers["Vary"]
    other = CSV if accept == JSON else JSON
    assert ask(tables, "SMALL", other, If_None_Match=first.headers["ETag"]).status_code == 200


@pytest.mark.parametrize("accept", [JSON, CSV, ARROW])
@pytest.mark.parametrize("symbol", ["SMALL", "LARGE"])
def test_gzip_comes_through(tables, accept, symbol):
    fields = {"Accept": accept, "Accept-Encoding": "gzip"}
    packed = tables.ask("GET", URL + symbol, Role.VIEWER, headers=fields, stream=True)
    assert packed.headers["Content-Encoding"] == "gzip"
    body = packed.raw.read(decode_content=False)
    plain = ask(tables, symbol, accept)
    assert gzip.decompress(body) == plain.content
    assert packed.headers.get("ETag") == plain.headers.get("ETag")
    assert set(packed.headers["Vary"].replace(" ", "").split(",")) >= {"Accept", "Accept-Encoding"}


@pytest.mark.parametrize("accept", [JSON, CSV, ARROW, PARQUET])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@pytest.mark.parametrize("symbol", ["SMALL", "LARGE"])
def test_head_says_what_get_would(tables, accept, encoding, symbol):
    get = ask(tables, symbol, accept, Accept_Encoding=encoding)
    head = ask(tables, symbol, accept, "HEAD", Accept_Encoding=encoding)
    assert head.content == b""
    assert head.status_code == 200
    for name in ("Content-Type", "Content-Length", "Content-Encoding", "ETag", "Vary", "Link", "X-OTS-About"):
        assert head.headers.get(name) == get.headers.get(name), name


def test_a_format_that_there_is_not_is_a_problem(tables):
    answer = ask(tables, "LARGE", "application/pdf")
    assert answer.status_code == 406
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json()["available"] == [JSON, CSV, ARROW, PARQUET]


def test_a_page_of_another_origin_may_read_what_is_said_about_a_table(tables):
    answer = ask(tables, "SMALL", CSV, Origin="https://page")
    assert "X-OTS-About" in answer.headers["Access-Control-Expose-Headers"].split(", ")


@pytest.mark.parametrize(("accept", "least"), [(JSON, 12), (CSV, 8), (ARROW, 4)])
def test_a_large_answer_is_made_with_flat_memory(tables, service, accept, least):
    (worker,) = map(int, Path(f"/proc/{service[1]}/task/{service[1]}/children").read_text().split())
    ask(tables, "LARGE", accept)
    forget_peak(worker)
    before = peak_kib(worker)
    assert len(ask(tables, "LARGE", accept).content) > least * 2**20
    assert peak_kib(worker) - before < 2 * 1024


def test_clients_that_leave_early_leave_nothing_behind(tables, service):
    """Two connections and two threads: were one of them held by somebody who left, the last question would not end."""
    token = tables.token(Role.VIEWER)
    for encoding in ("identity", "gzip"):
        for _ in range(4):
            with socket.create_connection(tables.address, timeout=10) as client:
                client.sendall(
                    f"GET {URL}LARGE HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {encoding}\r\n"
                    f"Authorization: Bearer {token}\r\n\r\n".encode()
                )
                head = client.recv(4096)
                assert head.startswith(b"HTTP/1.1 200 OK")
    started = time.monotonic()
    assert _columns(ask(tables, "SMALL"))["count"] == (np.arange(SMALL) + 2**53).tolist()
    assert time.monotonic() - started < 5
