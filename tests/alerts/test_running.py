"""The programs themselves, as the launcher starts them: exporters that tell of PostgreSQL, Redis and the machine,
Prometheus with every rule, Alertmanager that tells whom it must and leaves out what follows."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from alerts.conftest import Tool, tool_or_skip
from alerts.exporters import OF
from alerts.rule_files import rules
from native.stand_ins import eventually
from native.test_platform import programs_of
from ots_native.monitoring import PROGRAMS
from ots_native.settings import Ports
from places import ROOT

CONFIGURATION = ROOT / "monitoring" / "alertmanager" / "alertmanager.yml"


def read(url: str) -> str:
    """The body at `url`; empty where nobody answers yet."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.fixture(scope="module")
def hook() -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    """A webhook, and what it was told."""
    told: Queue[dict[str, Any]] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", told
    server.shutdown()


@pytest.fixture(scope="module")
def watching(postgres, redis_server, market, hook, tmp_path_factory) -> Iterator[Ports]:
    """All five, told of the PostgreSQL and the Redis of these tests; the ports where they listen."""
    for name in PROGRAMS:
        tool_or_skip(name)
    folder = tmp_path_factory.mktemp("watching")
    ports = Ports.free()
    given = {
        **ports.as_values(),
        "OTS_MONITORING": "on",
        "OTS_PORT_POSTGRES": str(postgres.port),
        "OTS_PORT_REDIS": str(redis_server.port),
        "DB_PASSWORD_MONITOR": "monitor-password",
        "REDIS_PASSWORD": "test-password",
        "ALERT_WEBHOOK_URL": hook[0],
        "MARKET_SOURCE": "simulated",
    }
    programs = programs_of(folder, **given)
    running = []
    for name in PROGRAMS.values():
        # whatever the database of these tests is called
        told = {key: text.replace("/ots_sim?", f"/{market.name}?") for key, text in programs[name].environment.items()}
        log = (folder / f"{name}.log").open("wb")
        running.append(
            subprocess.Popen(programs[name].command, cwd=programs[name].folder, env=told, stdout=log, stderr=log)
        )
    yield ports
    for process in running:
        process.terminate()
    for process in running:
        process.wait(30)


@pytest.mark.parametrize("exporter", OF)
def test_what_the_rules_ask_of_others_is_what_those_tell(exporter: str, watching: Ports) -> None:
    told: set[str] = set()

    def all_told() -> bool:
        told.update(
            re.findall(r"^(\w+)", read(f"http://127.0.0.1:{getattr(watching, exporter)}/metrics"), re.MULTILINE)
        )
        return OF[exporter] <= told

    try:
        eventually(all_told, within_s=60)
    except AssertionError:
        raise AssertionError(f"{exporter} does not tell {sorted(OF[exporter] - told)}") from None


def test_the_exporters_reach_what_they_tell_of(watching: Ports) -> None:
    eventually(lambda: "\npg_up 1\n" in read(f"http://127.0.0.1:{watching.postgres_exporter}/metrics"), within_s=60)
    eventually(lambda: "\nredis_up 1\n" in read(f"http://127.0.0.1:{watching.redis_exporter}/metrics"), within_s=60)
    scraped = read(f"http://127.0.0.1:{watching.postgres_exporter}/metrics")
    assert "\npg_exporter_last_scrape_error 0\n" in scraped


def test_prometheus_has_every_rule_and_knows_whom_to_tell(watching: Ports) -> None:
    base = f"http://127.0.0.1:{watching.prometheus}/api/v1"

    def loaded() -> list[dict[str, Any]]:
        groups = json.loads(read(f"{base}/rules") or '{"data":{"groups":[]}}')["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    eventually(lambda: len(loaded()) == len(list(rules())), within_s=60)
    eventually(lambda: len(json.loads(read(f"{base}/alertmanagers"))["data"]["activeAlertmanagers"]) == 1, within_s=60)
    labels = json.loads(read(f"{base}/status/config"))["data"]["yaml"]
    assert "market_source: simulated" in labels
    # classic pages: those of Debian's package, found where it was unpacked
    assert read(f"http://127.0.0.1:{watching.prometheus}/classic/alerts") or read(
        f"http://127.0.0.1:{watching.prometheus}/alerts"
    )


def tell(ports: Ports, *alerts: dict[str, str]) -> None:
    """Alertmanager, as Prometheus would."""
    now = datetime.now(UTC)
    ends = (now + timedelta(minutes=10)).isoformat()
    body = [{"labels": labels, "annotations": {}, "startsAt": now.isoformat(), "endsAt": ends} for labels in alerts]
    address = f"http://127.0.0.1:{ports.alertmanager}"
    eventually(lambda: read(f"{address}/-/ready"), within_s=60)
    request = urllib.request.Request(
        f"{address}/api/v2/alerts", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        assert answer.status == 200


def states(ports: Ports) -> dict[str, str]:
    found = json.loads(read(f"http://127.0.0.1:{ports.alertmanager}/api/v2/alerts"))
    return {
        f"{alert['labels']['alertname']}/{alert['labels'].get('service', '')}": alert["status"]["state"]
        for alert in found
    }


def test_what_follows_from_another_is_left_out_and_the_rest_is_told(watching: Ports, hook) -> None:
    def alert(name: str, service: str = "", follows: str = "", severity: str = "page") -> dict[str, str]:
        given = {"alertname": name, "service": service, "follows": follows, "severity": severity, "team": "platform"}
        return {key: text for key, text in given.items() if text}

    tell(
        watching,
        alert("PostgresDown", "postgres"),
        alert("DatabaseUnreachable", "cache", "postgres"),
        alert("HighErrorRatio", "gateway", "postgres services"),
        alert("ServiceDown", "ingestion"),
        alert("BreakerOpen", "ingestion", "itself"),
        alert("BreakerOpen", "analytics", "itself"),
        alert("RedisUnreachable", "cache", "redis", "ticket"),
    )
    suppressed = {"DatabaseUnreachable/cache", "HighErrorRatio/gateway", "BreakerOpen/ingestion"}
    told = {"PostgresDown/postgres", "ServiceDown/ingestion", "BreakerOpen/analytics", "RedisUnreachable/cache"}
    expected = {**dict.fromkeys(suppressed, "suppressed"), **dict.fromkeys(told, "active")}
    eventually(lambda: states(watching) == expected, within_s=60)
    # after group_wait each page arrives, and nothing that was left out
    arrived: set[str] = set()
    pages = {"PostgresDown/postgres", "ServiceDown/ingestion", "BreakerOpen/analytics"}
    while not pages <= arrived:
        message = hook[1].get(timeout=60)
        arrived |= {f"{one['labels']['alertname']}/{one['labels'].get('service', '')}" for one in message["alerts"]}
        assert message["receiver"] == ("pages" if message["commonLabels"]["severity"] == "page" else "tickets")
    assert not arrived & suppressed


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("alertname=ServiceDown severity=page team=platform service=cache", "pages"),
        ("alertname=HighLatency severity=ticket team=platform service=gateway", "tickets"),
        ("alertname=FeedMute severity=page team=data dataset=OPRA.PILLAR", "pages"),
        ("alertname=DeadLetters severity=ticket team=data", "tickets"),
        ("alertname=AuditRowsLost severity=page team=security", "security"),
        ("alertname=Lockouts severity=ticket team=security", "security"),
        ("alertname=NoChainsPriced severity=ticket team=analytics", "tickets"),
        # whatever nobody thought of is told too
        ("alertname=Unheard", "tickets"),
    ],
)
def test_each_goes_where_it_belongs(amtool: Tool, labels: str, receiver: str) -> None:
    where = ["config", "routes", "test", f"--config.file={CONFIGURATION}", f"--verify.receivers={receiver}"]
    routed = amtool(*where, *labels.split())
    assert routed.returncode == 0, routed.stdout + routed.stderr
    assert amtool(*where[:-1], "--verify.receivers=nobody", *labels.split()).returncode != 0


def test_alertmanager_takes_its_configuration(amtool: Tool, watching: Ports, tmp_path: Path) -> None:
    checked = amtool("check-config", CONFIGURATION)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (tmp_path / "alertmanager.yml").write_text(CONFIGURATION.read_text().replace("receiver: pages", "receiver: nobody"))
    assert amtool("check-config", tmp_path / "alertmanager.yml").returncode != 0


def test_what_the_manual_says_to_ask_is_understood(watching: Ports) -> None:
    manual = (ROOT / "docs" / "OPERATIONS_MANUAL.md").read_text()
    queries = [line for block in re.findall(r"```promql\n(.*?)```", manual, re.DOTALL) for line in block.splitlines()]
    assert len(queries) > 70
    base = f"http://127.0.0.1:{watching.prometheus}"
    eventually(lambda: read(f"{base}/-/ready"), within_s=60)
    for query in queries:
        answer = read(f"{base}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        assert answer, f"not understood: {query}"
        assert json.loads(answer)["status"] == "success"
