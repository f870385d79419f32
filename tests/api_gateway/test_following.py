"""One request through three services: found by its id in the log of each, and one tree of spans."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway_support import KEYS, Gateway
from otlp_support import OtlpReceiver, otlp_receiver
from ots_gateway.access import Role
from ots_native.settings import Ports
from places import ROOT

CACHE_TO_ANALYTICS = "k" * 40
PATH = "/api/v1/cache/option-chains/AAPL"


@dataclass
class Platform:
    """A gateway of two workers, a cache and analytics, each with a log of its own."""

    gateway: Gateway
    logs: dict[str, Path]
    collector: OtlpReceiver

    def lines(self, service: str, **having: Any) -> list[dict[str, Any]]:
        """The whole lines of a service's log; each must be JSON, gunicorn's own too."""
        text = self.logs[service].read_text()
        found = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in found if all(line.get(name) == value for name, value in having.items())]

    def wait_for(self, service: str, number: int = 1, **having: Any) -> list[dict[str, Any]]:
        """So many lines like that."""
        deadline = time.monotonic() + 60
        while len(found := self.lines(service, **having)) < number:
            assert time.monotonic() < deadline, self.logs[service].read_text()
            time.sleep(0.05)
        return found


@contextmanager
def served(service: str, log: Path, configuration: str, app: str, environment: dict[str, str]) -> Iterator[int]:
    """A service under gunicorn with one worker; its port."""
    port = Ports.free().gateway
    command = [sys.executable, "-m", "gunicorn", "--config", configuration, "--name", service, app]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "BIND": f"127.0.0.1:{port}", "WORKERS": "1", **environment},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}/health/live", timeout=30)
                break
            except requests.RequestException:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def platform(market, redis_server, start_gateway, tmp_path_factory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("following")
    logs = {name: folder / f"{name}.log" for name in ("cache", "analytics")}
    with ExitStack() as stack:
        collector = stack.enter_context(otlp_receiver())
        common = {
            "LOG_FORMAT": "json",
            "REDIS_URL": redis_server.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "SLOW_REQUEST_MS": "0.001",
        }
        environment = {**common, "DATABASE_URL": market.reader, "MARKET_CALENDAR": "around-the-clock"}
        # the kernels are not needed: the configuration that compiles them first is left out
        analytics = stack.enter_context(
            served(
                "analytics",
                logs["analytics"],
                "python:ots_common.gunicorn_conf",
                "ots_analytics.app:create_app()",
                {**environment, "ACCEPT_KEYS": json.dumps({"cache": CACHE_TO_ANALYTICS})},
            )
        )
        upstreams = json.dumps({"analytics": f"http://127.0.0.1:{analytics}"})
        keys = {
            "ACCEPT_KEYS": json.dumps({"gateway": KEYS["cache"]}),
            "SIGNING_KEYS": json.dumps({"analytics": CACHE_TO_ANALYTICS}),
            "UPSTREAMS": upstreams,
        }
        cache = stack.enter_context(
            served(
                "cache",
                logs["cache"],
                "python:ots_cache.gunicorn_conf",
                "ots_cache.app:create_app()",
                {**environment, **keys},
            )
        )
        gateway = stack.enter_context(start_gateway(cache, **common))
        yield Platform(gateway, {**logs, "gateway": gateway.log}, collector)


def test_a_request_is_followed_by_its_id_through_the_services(platform):
    answer = platform.gateway.ask("GET", PATH, Role.VIEWER, headers={"X-Request-ID": "follow-this-0001"})
    assert answer.headers["X-Request-ID"] == "follow-this-0001"
    assert answer.status_code == 404, answer.text  # no market is stored
    lines = {
        service: platform.wait_for(service, request_id="follow-this-0001", stream="access")
        for service in ("gateway", "cache", "analytics")
    }
    assert [len(found) for found in lines.values()] == [1, 1, 1]
    gateway, cache, analytics = (found[0] for found in lines.values())
    assert {line["service"] for line in (gateway, cache, analytics)} == {"gateway", "cache", "analytics"}
    assert (gateway["path"], gateway["status"], gateway["user"]) == (PATH, 404, "somebody")
    assert (cache["caller"], analytics["caller"]) == ("gateway", "cache")
    assert {line["user"] for line in (cache, analytics)} == {"somebody"}
    assert len({line["trace_id"] for line in (gateway, cache, analytics)}) == 1
    assert len({line["span_id"] for line in (gateway, cache, analytics)}) == 3
    # what took longer than it may says so in its own stream, under the same ids
    for service in ("gateway", "cache", "analytics"):
        (slow,) = platform.wait_for(service, request_id="follow-this-0001", stream="performance", event="slow_request")
        assert slow["trace_id"] == gateway["trace_id"]
        assert slow["ms"] > 0
    (told,) = platform.lines("gateway", request_id="follow-this-0001", event="slow_request")
    assert any(part.startswith("cache;dur=") for part in told["service_timing"])


def test_and_by_the_id_that_it_was_given(platform):
    """Without an id of its own a request has one that begins its trace's."""
    answer = platform.gateway.ask("GET", PATH, Role.VIEWER)
    given = answer.headers["X-Request-ID"]
    (line,) = platform.wait_for("analytics", request_id=given, stream="access")
    platform.wait_for("gateway", trace_id=line["trace_id"], request_id=given, stream="access")


def test_it_is_one_trace_with_the_right_parents(platform):
    offered = "4bf92f3577b34da6a3ce929d0e0e4736"
    platform.gateway.ask(
        "GET", PATH, Role.VIEWER, headers={"traceparent": f"00-{offered}-00f067aa0ba902b7-01", "tracestate": "a=b"}
    )
    collector = platform.collector
    chain = [
        "GET /api/v1/cache/option-chains/{underlying}", "GET cache",
        "GET /api/v1/cache/option-chains/<underlying>", "GET analytics",
        "GET /api/v1/analytics/options/<underlying>",
    ]  # fmt: skip
    collector.wait_for(lambda: {span.name for span in collector.of(offered)} >= set(chain))
    spans = {span.name: span for span in collector.of(offered)}
    parent = "00f067aa0ba902b7"
    for name, service in zip(chain, ["gateway", "gateway", "cache", "cache", "analytics"], strict=True):
        assert (spans[name].service, spans[name].parent) == (service, parent), name
        parent = spans[name].span
    queries = [span for span in collector.of(offered) if span.name.endswith(" postgresql")]
    assert {span.parent for span in queries if span.service == "analytics"} == {parent}
    # the lines have the spans of their own services
    for service, name in (("gateway", chain[0]), ("cache", chain[2]), ("analytics", chain[4])):
        (line,) = platform.wait_for(service, trace_id=offered, stream="access")
        assert line["span_id"] == spans[name].span
        assert spans[name].attributes["http.response.status_code"] == 404
        assert spans[name].attributes["ots.request_id"] == line["request_id"]


def test_who_did_what_is_a_line_of_the_audit_stream(platform):
    answer = platform.gateway.ask("GET", "/api/v1/users", Role.VIEWER)
    (line,) = platform.wait_for("gateway", stream="audit", request_id=answer.headers["X-Request-ID"])
    assert (line["event"], line["audit_event"], line["status"]) == ("audit_row", "refused", 403)
    assert (line["user"], line["role"], line["method"], line["path"]) == ("somebody", "viewer", "GET", "/api/v1/users")
    assert len(line["trace_id"]) == 32


def put_levels(platform, levels, **more):
    return platform.gateway.ask("PUT", "/api/v1/logs/levels", Role.ADMIN, json={"levels": levels, **more})


def test_levels_change_in_every_process_while_it_runs(platform):
    workers = {"gateway": 2, "cache": 1, "analytics": 1}
    before = {service: len(platform.lines(service, event="log_levels_changed")) for service in workers}
    wanted = [{"logger": "cache/access", "level": "off"}, {"logger": "ots_common.shared_cache", "level": "DEBUG"}]
    told = put_levels(platform, wanted, for_s=600)
    assert told.status_code == 200, told.text
    assert sorted(told.json()["levels"], key=str) == sorted(wanted, key=str)
    assert 590 <= told.json()["left_s"] <= 600
    for service, number in workers.items():
        platform.wait_for(service, before[service] + number, event="log_levels_changed")
    quiet = platform.gateway.ask("GET", PATH, Role.VIEWER).headers["X-Request-ID"]
    platform.wait_for("analytics", request_id=quiet, stream="access")
    platform.wait_for("gateway", request_id=quiet, stream="access")
    assert put_levels(platform, []).json() == {"levels": [], "left_s": None}
    for service, number in workers.items():
        platform.wait_for(service, before[service] + 2 * number, event="log_levels_changed")
    assert platform.lines("cache", request_id=quiet, stream="access") == []
    again = platform.gateway.ask("GET", PATH, Role.VIEWER).headers["X-Request-ID"]
    platform.wait_for("cache", request_id=again, stream="access")
    rows = platform.gateway.ask("GET", "/api/v1/audit?event=write&limit=2", Role.ADMIN).json()["entries"]
    assert [row["path"] for row in rows] == ["/api/v1/logs/levels"] * 2
    assert json.loads(rows[1]["detail"])["levels"] == {one["logger"]: one["level"] for one in wanted}


@pytest.mark.parametrize(
    "body",
    [
        {"levels": [{"logger": "a b", "level": "DEBUG"}]}, {"levels": [{"logger": "x", "level": "LOUD"}]},
        {"levels": {"x": "DEBUG"}}, {"levels": [], "for_s": 1}, {},
    ],
)  # fmt: skip
def test_levels_that_are_none_are_refused(platform, body):
    assert platform.gateway.ask("PUT", "/api/v1/logs/levels", Role.ADMIN, json=body).status_code == 422


def test_levels_are_an_administrators(platform):
    assert platform.gateway.ask("GET", "/api/v1/logs/levels", Role.OPERATOR).status_code == 403
    assert platform.gateway.ask("GET", "/api/v1/logs/levels", Role.ADMIN).json()["levels"] == []


def test_the_commands_of_the_manual(platform, tmp_path):
    """Those of docs/LOGGING.md as they are printed, in a folder whose .ots/logs are this platform's."""
    folder = tmp_path / ".ots" / "logs"
    folder.mkdir(parents=True)
    for service, log in platform.logs.items():
        (folder / f"{service}.log").symlink_to(log)
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "LOGGING.md").read_text(), re.DOTALL)
    script = "\n".join(blocks).replace("http://localhost:8000", platform.gateway.url)
    # the gateway writes its lines ten times a second; a busy machine may take longer than a person waits
    assert "sleep 1\n" in script
    waited = "until grep -q 'stream.:.access.*follow-me-0001' .ots/logs/gateway.log; do sleep 0.1; done"
    script = script.replace("sleep 1\n", f"{waited}\n")
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "TOKEN": platform.gateway.token(Role.ADMIN)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for service in platform.logs:
        assert f'"service":"{service}","stream":"access","request_id":"follow-me-0001"' in ended.stdout
    assert '"level":"DEBUG"' in ended.stdout
    assert ended.stdout.endswith('{"levels":[],"left_s":null}')


def test_every_line_of_every_process_has_one_shape(platform):
    for service in platform.logs:
        lines = platform.lines(service)
        assert any(line["logger"] == "gunicorn.error" for line in lines)
        for line in lines:
            assert line["service"] == service, line
            assert {"timestamp", "level", "event", "logger", "stream"} <= line.keys()
