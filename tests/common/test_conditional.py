"""What a service does to the answers of its views: an ETag and 304, gzip, never twice and never for a problem."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flask import Response
from pydantic import SecretStr
from werkzeug.test import TestResponse

from ots_common import compression, tables
from ots_common.compression import Compressed
from ots_common.conditional import not_modified, version_etag
from ots_common.problems import Problem
from ots_common.service import create_edge, create_service
from ots_common.settings import ServiceSettings
from ots_common.tables import columns_response
from ots_common.tokens import HEADER, Caller, sign_internal_token

KEY = SecretStr("k" * 40)
LARGE = {"x": list(range(1000))}
REVALIDATE = "private, no-cache"


@pytest.fixture(scope="module")
def probe() -> SimpleNamespace:
    """A service with views of every sort; ``state`` is what they answer from."""
    settings = ServiceSettings(database_url="postgresql://nowhere/x", accept_keys={"gateway": KEY})
    app = create_service("probe", settings, title="probe", description="")
    state = SimpleNamespace(value=0, made=0, closed=0, version="1", app=app)

    @app.get("/small")
    def small() -> Response:
        return Response(json.dumps({"value": state.value}), mimetype="application/json")

    @app.route("/large", methods=["GET", "POST"])
    def large() -> Response:
        return Response(json.dumps({**LARGE, "value": state.value}), mimetype="application/json")

    @app.get("/versioned")
    def versioned() -> Response:
        answer = not_modified(version_etag(state.version))
        if answer is not None:
            return answer
        state.made += 1
        return Response(json.dumps({"made": state.made}), mimetype="application/json")

    @app.get("/table")
    def table() -> Response:
        rows = tables.STREAM_ROWS + 5
        return columns_response("rows", {"n": np.arange(rows), "x": np.arange(rows) / 7}, {"source": "probe"})

    @app.get("/stream")
    def stream() -> Response:
        def pieces() -> Iterator[bytes]:
            try:
                for _ in range(1000):
                    state.made += 1
                    yield b"0123456789abcdef" * 4096
            finally:
                state.closed += 1

        return Response(pieces(), mimetype="text/plain")

    @app.get("/encoded")
    def encoded() -> Response:
        return Response(
            gzip.compress(json.dumps(LARGE).encode()), mimetype="application/json", headers={"Content-Encoding": "gzip"}
        )

    @app.get("/strong")
    def strong() -> Response:
        return Response(json.dumps(LARGE), mimetype="application/json", headers={"ETag": '"mine"'})

    @app.get("/bytes")
    def raw() -> Response:
        return Response(bytes(5000), mimetype="application/octet-stream")

    @app.get("/secret")
    def secret() -> Response:
        return Response("{}", mimetype="application/json", headers={"Cache-Control": "no-store"})

    @app.get("/wrong")
    def wrong() -> Response:
        raise Problem(422, "wrong", "wrong " * 1000)

    return state


@pytest.fixture
def ask(probe: SimpleNamespace) -> Callable[..., TestResponse]:
    """Ask the probe as the gateway would."""
    token = sign_internal_token(Caller("gateway", "1", "tester", "viewer", "request-0001"), "probe", {"probe": KEY})

    def asked(path: str, method: str = "GET", **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return probe.app.test_client().open(path, method=method, headers={HEADER: token, **named})

    return asked


def test_an_answer_has_an_etag_and_is_not_sent_twice(probe, ask):
    first = ask("/small")
    assert first.headers["ETag"].startswith('W/"')
    assert first.headers["Cache-Control"] == REVALIDATE
    again = ask("/small", If_None_Match=first.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == REVALIDATE
    assert "Content-Type" not in again.headers
    assert "Content-Length" not in again.headers
    assert "X-Request-ID" in again.headers
    assert "Server-Timing" in again.headers
    probe.value += 1
    changed = ask("/small", If_None_Match=f'"other", {first.headers["ETag"]}')
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert ask("/small", If_None_Match="*").status_code == 304


def test_a_view_that_knows_its_version_computes_nothing_for_who_has_it(probe, ask):
    first = ask("/versioned")
    made = probe.made
    etag = first.headers["ETag"]
    again = ask("/versioned", If_None_Match=etag)
    assert (again.status_code, again.headers["ETag"], probe.made) == (304, etag, made)
    assert again.headers["Cache-Control"] == REVALIDATE
    assert "Accept" in again.headers["Vary"]
    assert ask("/versioned", If_None_Match=etag, Accept="text/csv").status_code == 200
    probe.version = "2"
    assert ask("/versioned", If_None_Match=etag).status_code == 200


@pytest.mark.parametrize(("path", "method"), [("/wrong", "GET"), ("/large", "POST"), ("/nothing", "GET")])
def test_problems_and_writes_have_no_etag_and_are_not_stored(ask, path, method):
    answer = ask(path, method, If_None_Match="*")
    assert "ETag" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.status_code != 304


def test_what_must_not_be_stored_stays_so(ask):
    assert ask("/secret").headers["Cache-Control"] == "no-store"
    assert "ETag" not in ask("/secret").headers
    assert "ETag" not in ask("/metrics").headers


def test_the_gateway_s_own_answers_are_not_stored():
    edge = create_edge("edge", ServiceSettings(database_url="postgresql://nowhere/x"), title="", description="")
    edge.add_url_rule("/me", "me", lambda: Response("{}", mimetype="application/json"))
    answer = edge.test_client().get("/me")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers


def test_gzip_is_for_who_takes_it(ask):
    plain = ask("/large")
    assert "Content-Encoding" not in plain.headers
    assert "Accept-Encoding" in plain.headers["Vary"]
    packed = ask("/large", Accept_Encoding="br, gzip;q=0.9")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) == len(packed.data) < len(plain.data) / 2
    assert gzip.decompress(packed.data) == plain.data
    assert packed.headers["ETag"] == plain.headers["ETag"]
    assert ask("/large", Accept_Encoding="gzip", If_None_Match=plain.headers["ETag"]).status_code == 304
    for refused in ("gzip;q=0", "identity, gzip;q=0.5", "br", "*;q=0"):
        assert "Content-Encoding" not in ask("/large", Accept_Encoding=refused).headers, refused


def test_an_etag_of_a_view_s_own_is_weak_when_compressed(ask):
    assert ask("/strong").headers["ETag"] == '"mine"'
    assert ask("/strong", Accept_Encoding="gzip").headers["ETag"] == 'W/"mine"'
    assert ask("/strong", Accept_Encoding="gzip", If_None_Match='W/"mine"').status_code == 304


def test_small_answers_and_bytes_are_sent_as_they_are(ask):
    for path in ("/small", "/bytes"):
        answer = ask(path, Accept_Encoding="gzip")
        assert "Content-Encoding" not in answer.headers
        assert "Accept-Encoding" not in answer.headers.get("Vary", "")


def test_a_large_problem_may_be_compressed(ask):
    answer = ask("/wrong", Accept_Encoding="gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.data))["status"] == 422


def test_what_is_compressed_already_is_not_compressed_twice_and_is_undone_for_who_does_not_take_it(ask):
    packed = ask("/encoded", Accept_Encoding="gzip")
    assert json.loads(gzip.decompress(packed.data)) == LARGE
    plain = ask("/encoded")
    assert "Content-Encoding" not in plain.headers
    assert plain.json == LARGE
    assert int(plain.headers["Content-Length"]) == len(plain.data)
    assert all("Accept-Encoding" in answer.headers["Vary"] for answer in (packed, plain))


@pytest.mark.parametrize("path", ["/small", "/large", "/encoded", "/versioned", "/wrong", "/table"])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_head_says_what_get_would(probe, ask, path, encoding):
    probe.made = 0
    get = ask(path, Accept_Encoding=encoding)
    probe.made = 0
    head = ask(path, "HEAD", Accept_Encoding=encoding)
    assert head.data == b""
    own = {"Server-Timing", "X-Request-ID", *(("Content-Length",) if path == "/wrong" else ())}
    assert {key: value for key, value in head.headers if key not in own} == {
        key: value for key, value in get.headers if key not in own
    }
    etag = get.headers.get("ETag")
    if etag and path != "/versioned":
        assert ask(path, "HEAD", If_None_Match=etag).status_code == 304


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/vnd.apache.arrow.stream"])
def test_a_large_table_streams_compressed_too(ask, accept):
    plain = ask("/table", Accept=accept)
    packed = ask("/table", Accept=accept, Accept_Encoding="gzip")
    for answer in (plain, packed):
        assert "Content-Length" not in answer.headers
        assert "ETag" not in answer.headers
        assert "Server-Timing" in answer.headers
        assert set(answer.headers["Vary"].split(", ")) == {"Accept", "Accept-Encoding"}
    assert gzip.decompress(packed.data) == plain.data


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_client_that_leaves_ends_what_is_made_for_it(probe, ask, encoding):
    probe.made = probe.closed = 0
    answer: Any = ask("/stream", Accept_Encoding=encoding)
    assert next(iter(answer.iter_encoded()))
    answer.close()
    assert probe.closed == 1
    assert probe.made < 1000


def test_the_newest_compressed_bodies_are_kept_and_no_more(monkeypatch):
    calls = []
    pack = zlib.compress
    monkeypatch.setattr(compression.zlib, "compress", lambda *given: calls.append(1) or pack(*given))
    kept = Compressed(2 * len(pack(bytes(range(256)) * 4, 1)) + 60, least=100)
    bodies = {name: bytes(range(256)) * 4 + name.encode() for name in "abc"}
    for name in "aabac":
        assert zlib.decompress(kept.of(name, bodies[name]), 31) == bodies[name]
    assert len(calls) == 3
    kept.of("a", bodies["a"])
    assert len(calls) == 3
    kept.of("b", bodies["b"])
    assert len(calls) == 4, "b was the one not asked for longest"
    kept.of(None, bodies["b"])
    kept.of("small", b"x")
    kept.of("small", b"x")
    assert len(calls) == 7
