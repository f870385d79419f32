"""The drill is run by hand: it takes a platform and half an hour. Tested is that it leaves no alert out, and what it
takes for seen."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from alerts import drill as drill_module
from alerts.compose import Compose
from alerts.conftest import Tool
from alerts.drill import Cause, Drill, main, perform, summary
from alerts.drill_causes import CAUSES
from alerts.drill_report import table, write_report
from alerts.installations import NotHere, telling_at_once, until, watching_closely
from alerts.rule_files import PROMETHEUS, RULE_FILES, alerts
from alerts.shorter_rules import CHANGED, shortened
from alerts.watch import Hook, Watch
from ots_ingestion import metrics

NAMES = {str(alert["alert"]) for alert in alerts()}


def test_every_alert_has_one_cause() -> None:
    entries = Counter(alert for cause in CAUSES for alert in cause.alerts)
    assert set(entries) == NAMES
    assert {alert for alert, number in entries.items() if number > 1} == set()


def test_what_is_changed_is_there_to_be_changed() -> None:
    assert set(CHANGED) <= NAMES
    with pytest.raises(ValueError, match="FeedMute has no > 300"):
        shortened('{"groups": [{"name": "a", "rules": [{"alert": "FeedMute", "expr": "x > 1"}]}]}')


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_shorter_rules_are_rules(path: Path, promtool: Tool, tmp_path: Path) -> None:
    text = shortened(path.read_text())
    (tmp_path / "rules.yml").write_text(text)
    checked = promtool("check", "rules", tmp_path / "rules.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    waits = [rule.get("for") for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    assert set(waits) <= {None, "2s"}


def test_the_list_says_what_would_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{name} " in told for name in NAMES)


def test_the_first_failed_part_of_a_backfill_is_an_increase() -> None:
    """As the drill found: a series that appears with 1 is none, and BackfillPartsFail asks for one."""
    told = {sample.labels["outcome"] for family in metrics.BACKFILL_PARTS.collect() for sample in family.samples}
    assert told >= {"done", "empty", "postponed", "failed"}


def test_containers_are_watched_with_the_shorter_rules_and_nothing_else_is_changed() -> None:
    given = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    closely = watching_closely(
        yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text()), "/etc/prometheus/rules/*.yml"
    )
    assert closely["rule_files"] == given["rule_files"]
    assert closely["scrape_configs"] == given["scrape_configs"]
    assert closely["global"]["scrape_interval"] == "3s"
    alertmanager = yaml.safe_load(
        telling_at_once((PROMETHEUS.parent / "alertmanager" / "alertmanager.yml").read_text())
    )
    assert alertmanager["route"]["group_interval"] == "5s"
    assert alertmanager["route"]["group_by"] == ["alertname", "service"]


def test_a_container_that_has_no_address_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compose = Compose(tmp_path, "ots-drill-1")
    networks = {"data": {"IPAddress": "172.19.0.3"}}
    monkeypatch.setattr(compose, "docker", lambda *_: json.dumps(networks))
    assert compose.address("postgres") == ("172.19.0.3", 5432)
    networks["data"]["IPAddress"] = ""
    with pytest.raises(OSError, match="postgres has no address"):
        compose.address("postgres")


class Fake:
    """Prometheus and Alertmanager in one: what fires, and what is held back, is what a test puts here."""

    def __init__(self) -> None:
        self.firing: list[str] = []
        self.under: dict[str, str] = {}
        fake = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                prometheus = self.path.startswith("/api/v1")
                body = json.dumps(fake.prometheus() if prometheus else fake.alertmanager()).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.hook = Hook()
        address = f"http://127.0.0.1:{self.server.server_port}"
        self.watch = Watch(lambda: address, lambda: address)
        self.watch.start()

    def prometheus(self) -> dict[str, Any]:
        return {"data": {"alerts": [{"labels": {"alertname": name}, "state": "firing"} for name in self.firing]}}

    def alertmanager(self) -> list[dict[str, Any]]:
        by = {name: [self.under[name]] if name in self.under else [] for name in self.firing}
        return [
            {"fingerprint": name, "labels": {"alertname": name}, "status": {"inhibitedBy": by[name]}}
            for name in self.firing
        ]

    def tell(self, alert: str, status: str) -> None:
        body = json.dumps({"alerts": [{"labels": {"alertname": alert}, "status": status}]}).encode()
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.hook.url, body).close()

    def fire(self, *names: str, told: bool = True) -> None:
        self.firing += names
        for name in names if told else ():
            self.tell(name, "firing")

    def end(self, *_: object) -> None:
        for name in self.firing:
            self.tell(name, "resolved")
        self.firing.clear()

    def close(self) -> None:
        self.watch.close()
        for server in (self.server, self.hook.server):
            server.shutdown()
            server.server_close()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    for name, value in (("_ENDS_S", 20), ("_TOLD_S", 4), ("_QUIET_S", 1)):
        monkeypatch.setattr(drill_module, name, value)
    monkeypatch.setattr("alerts.watch._EVERY_S", 0.05)
    one = Fake()
    yield one
    one.close()


def _drill(fake: Fake) -> Drill:
    return Drill(SimpleNamespace(kind="native"), fake.watch, fake.hook)  # type: ignore[arg-type]


def test_what_is_caused_told_and_ends_is_seen(fake: Fake, tmp_path: Path) -> None:
    cause = Cause("a cause", ("FeedMute", "GapsOpen"), lambda _: fake.fire("FeedMute", "GapsOpen"), fake.end)
    found = perform(_drill(fake), cause, None)
    assert all(one.whole and one.end_told and not one.under for one in found)
    write_report(tmp_path / "report.json", found, "native", 12.3)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["installation"], report["seconds"]) == ("native", 12)
    first = report["alerts"][0]
    assert (first["alert"], first["caused_by"], first["caused"]) == ("FeedMute", "a cause", True)
    assert first["series"] == [{"alertname": "FeedMute"}]
    assert first["held_back_under"] == []
    assert None not in (first["fired_s"], first["told_s"], first["ended_s"])
    assert summary(found, 12) == "2 alerts, 2 caused: 2 fired, 2 told, 0 held back under another, 2 ended; 12 s"


def test_what_is_held_back_under_another_says_under_which(fake: Fake) -> None:
    fake.under["GapsOpen"] = "PostgresDown"

    def bring(_: Drill) -> None:
        fake.fire("PostgresDown")
        fake.fire("GapsOpen", told=False)

    found = perform(_drill(fake), Cause("a cause", ("GapsOpen",), bring, fake.end), None)
    assert (found[0].under, found[0].told_s, found[0].whole) == ({"PostgresDown"}, None, True)
    assert "under PostgresDown" in table(found)


def test_what_fired_before_its_cause_or_was_never_told_is_not_seen(fake: Fake) -> None:
    fake.fire("FeedMute")
    assert until(lambda: "FeedMute" in fake.watch.firing())
    undone = []
    cause = Cause(
        "a cause", ("FeedMute", "GapsOpen"), lambda _: fake.fire("GapsOpen", told=False), undone.append, within_s=10
    )
    before, untold = perform(_drill(fake), cause, None)
    assert (before.fired_s, before.note, before.whole) == (None, "fired of something else before its cause", False)
    assert untold.fired_s is not None
    assert (untold.told_s, untold.whole) == (None, False)
    assert len(undone) == 1


def test_what_cannot_be_brought_about_is_undone_and_says_why(fake: Fake) -> None:
    undone = []

    def bring(_: Drill) -> None:
        raise NotHere("no disk may be mounted here")

    found = perform(_drill(fake), Cause("a cause", ("InodesRunOut",), bring, undone.append), None)
    assert (found[0].caused, found[0].note, len(undone)) == (False, "no disk may be mounted here", 1)
    found = perform(_drill(fake), Cause("a cause", ("InodesRunOut",), lambda _: 1 / 0, undone.append), None)
    assert (found[0].caused, found[0].whole, len(undone)) == (True, False, 2)
    assert "ZeroDivisionError" in found[0].note
