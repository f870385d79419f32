"""Trace context as W3C has it; spans where a collector is named: few, with the right parents, and never a secret."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from flask import g

from otlp_support import otlp_receiver
from ots_common import database_timing, redis_client, traces
from ots_common.database import Database
from ots_common.service import create_edge
from ots_common.settings import ServiceSettings

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def receiver():
    with otlp_receiver() as found:
        yield found


@pytest.fixture
def tracing(receiver, monkeypatch):
    """Spans of this process, sent when asked to."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.setenv(name, "")  # as Compose hands on what is not set
    receiver.spans.clear()
    traces.start("tests")
    yield receiver
    traces.stop()


# --- trace context ---


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"cc-{TRACE}-{PARENT}-01", True),  # of a version to come
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}-01\n", False),
        (f"00-{TRACE}-{PARENT}", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_valid_traceparent_goes_on(offered, taken):
    assert traces.valid_traceparent(offered) == (offered if taken else None)


def test_one_of_our_own_is_valid_and_says_that_nobody_records():
    made = traces.new_traceparent("ab" * 24)
    assert traces.valid_traceparent(made) == made
    assert made.endswith("-00")


# --- off ---

OFF = """
import sys
from ots_cache import gunicorn_conf  # what gunicorn reads first
from ots_cache.app import create_app
from ots_common import process, traces
create_app()
process.begin_worker("tests")
assert not traces.is_on()
loaded = [name for name in sys.modules if name.startswith(("opentelemetry", "google.protobuf")) and sys.modules[name]]
assert not loaded, loaded
"""


def test_off_nothing_of_the_sdk_is_imported():
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    needed = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x", "UPSTREAMS": "{}"}
    ended = subprocess.run([sys.executable, "-c", OFF], env=clean | needed, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_when_there_are_traces(environment, wanted, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert traces.TraceSettings().wanted is wanted


def test_off_it_changes_nothing():
    assert traces.traceparent() is None
    with (
        traces.call_of("cache", "GET") as call,
        traces.query("SELECT 1") as query,
        traces.redis_command("GET") as command,
    ):
        assert (call, query, command) == (None, None, None)


# --- on ---


@pytest.fixture
def app(tracing, postgres_url, redis_server):
    """A service that asks the database and Redis."""
    app = create_edge("tests", ServiceSettings(database_url=postgres_url), title="tests", description="")
    app.wsgi_app = traces.Traced(app.wsgi_app)
    database = Database(postgres_url, application="tests", size=1)
    client = redis_client.connect(redis_server.url)

    def thing(name):
        database.rows("SELECT %s::text", (name,))
        database.dicts("SELECT 1 AS one")
        client.set(f"tests:{name}", "value")
        with client.pipeline() as pipeline:
            pipeline.get("tests:a").get("tests:b").execute()
        with traces.call_of("other", "GET"):
            g.sent = traces.traceparent()
        return {"sent": g.sent, "mine": g.traceparent}

    def broken():
        raise RuntimeError("hunter2")

    def streamed():
        return app.response_class(iter([b"a", b"b"]))

    for rule, view in (("/things/<name>", thing), ("/broken", broken), ("/streamed", streamed)):
        app.add_url_rule(rule, view_func=view)
    yield app
    database.close()


def ask(app, path, **headers):
    """One request until the last byte of its answer."""
    return app.test_client().get(
        path, headers={name.replace("_", "-"): text for name, text in headers.items()}, buffered=True
    )


def test_one_request_is_a_tree_of_few_spans(app, tracing):
    answer = ask(app, "/things/a-secret-name", traceparent=f"00-{TRACE}-{PARENT}-01", X_Request_ID="request-0001")
    traces.stop()
    spans = {span.name: span for span in tracing.of(TRACE)}
    assert set(spans) == {"GET /things/<name>", "SELECT postgresql", "SET redis", "PIPELINE redis", "GET other"}
    assert len(tracing.of(TRACE)) == 6  # two queries
    root = spans.pop("GET /things/<name>")
    assert (root.parent, root.service, root.kind) == (PARENT, "tests", 2)
    assert {span.parent for span in spans.values()} == {root.span}
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["ots.request_id"] == "request-0001"
    assert spans["SELECT postgresql"].attributes["db.query.text"].startswith("SELECT ")
    # what the next service is told is a child of the call, and what the logs have is the service's own span
    assert answer.json["sent"] == f"00-{TRACE}-{spans['GET other'].span}-01"
    assert answer.json["mine"] == f"00-{TRACE}-{root.span}-01"
    assert "a-secret-name" not in str([span.attributes for span in spans.values()])


def test_who_is_not_sampled_is_not_sent_and_keeps_the_trace(app, tracing):
    answer = ask(app, "/things/x", traceparent=f"00-{TRACE}-{PARENT}-00")
    traces.stop()
    assert tracing.spans == []
    assert answer.json["mine"].startswith(f"00-{TRACE}-")
    assert answer.json["mine"].endswith("-00")


def test_without_a_parent_a_trace_begins(app, tracing):
    ask(app, "/streamed")
    ask(app, "/streamed", traceparent=f"00-{'0' * 32}-{PARENT}-01")
    traces.stop()
    assert [(span.name, span.parent) for span in tracing.spans] == [("GET /streamed", "")] * 2
    assert len({span.trace for span in tracing.spans}) == 2


def test_health_makes_no_spans_and_an_error_is_one(app, tracing):
    ask(app, "/health/live")
    assert ask(app, "/broken").status_code == 500
    traces.stop()
    (broken,) = tracing.spans
    assert broken.attributes["http.response.status_code"] == 500


def test_a_query_outside_of_a_request_is_none(tracing, postgres_url):
    database = Database(postgres_url, application="tests", size=1)
    database.rows("SELECT 1")
    database.close()
    traces.stop()
    assert tracing.spans == []


def test_a_collector_that_is_away_keeps_nobody_from_ending(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    traces.start("tests")
    list(traces.Traced(lambda *_: [b"x"])({"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}, lambda *_: None))
    traces.stop()
    assert not traces.is_on()


# --- slow queries ---


def test_a_slow_query_is_told_without_its_parameters(postgres_url, monkeypatch):
    told = []
    monkeypatch.setattr(database_timing.log, "warning", lambda event, **said: told.append((event, said)), raising=False)
    monkeypatch.setattr(database_timing, "_slow_s", 0.02)
    database = Database(postgres_url, application="tests", size=1)
    database.rows("SELECT %s,\n pg_sleep(0.05)", ("a-secret",))
    database.close()
    slow = [said for event, said in told if "pg_sleep" in said["statement"]]
    assert [said["statement"] for said in slow] == ["SELECT %s, pg_sleep(0.05)"]
    assert slow[0]["ms"] >= 50
