"""The alert rules: each is tested both ways, has its page in the manual, and asks for what there is."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import yaml

from alerts.conftest import Tool
from alerts.exporters import EXPORTED
from alerts.rule_files import PROMETHEUS, RULE_FILES, TEST_FILES, Asked, alerts, asked_in, declared, rules
from places import ROOT

ALERTS = sorted({str(rule["alert"]) for rule in alerts()})
MANUAL = ROOT / "docs" / "OPERATIONS_MANUAL.md"
# given by Prometheus to whatever it scrapes
TARGET_LABELS = {"job", "service", "instance"}
RECORDED = {str(rule["record"]) for _, rule in rules() if "record" in rule}
BY_PROMETHEUS = {"up", "process_start_time_seconds", "process_open_fds", "process_max_fds"}


def test_prometheus_takes_the_configuration_and_every_rule(promtool: Tool, tmp_path) -> None:
    checked = promtool("check", "rules", *RULE_FILES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    # as in its container, where the files lie elsewhere
    text = (PROMETHEUS / "prometheus.yml").read_text()
    text = text.replace("/etc/prometheus/rules", str(PROMETHEUS / "rules"))
    (tmp_path / "token").write_text("t")
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/prometheus/gateway-token", str(tmp_path / "token")))
    checked = promtool("check", "config", tmp_path / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULE_FILES)} rule files found" in checked.stdout


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_next_to_it_do_not(promtool: Tool, path) -> None:
    tested = promtool("test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_tested_both_ways() -> None:
    fires, silent = Counter(), Counter()
    for path in TEST_FILES:
        for group in yaml.safe_load(path.read_text())["tests"]:
            for one in group["alert_rule_test"]:
                (fires if one.get("exp_alerts") else silent)[one["alertname"]] += 1
    assert set(fires) == set(silent) == set(ALERTS)


def test_one_name_is_one_kind_of_alert() -> None:
    """A second rule of a name is the same over another window."""
    kinds = {(rule["alert"], rule["labels"]["severity"], rule["annotations"]["runbook_url"]) for rule in alerts()}
    assert len(kinds) == len(ALERTS)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_grave_it_is_what_it_sees_and_where_to_read_on(rule) -> None:
    assert re.fullmatch(r"([A-Z][a-z]+)+", rule["alert"])
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["labels"]["team"] in ("platform", "data", "security", "analytics")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert "$value" in said["summary"]
    assert re.search(r"humanize|printf", said["summary"])
    # one place says where the manual is read
    assert said["runbook_url"] == "{{ $externalLabels.runbooks }}#" + rule["alert"].lower()
    # what the text names is there: a label that an expression drops is an empty place in the sentence
    for label in re.findall(r"\$labels\.(\w+)", said["summary"] + said["description"]):
        assert label not in rule["labels"] or label == "service", f"{label} is a label of the rule, unknown to its text"


def test_every_alert_has_its_page_in_the_manual_and_no_page_is_of_none() -> None:
    section = MANUAL.read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    pages = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", section, re.MULTILINE | re.DOTALL))
    assert set(pages) == set(ALERTS)
    for name, page in pages.items():
        assert re.search(r"```(promql|bash)\n.+?```", page, re.DOTALL), f"{name}: what to look at?"
        assert "**Do**" in page, name


def test_rules_ask_for_metrics_and_labels_that_somebody_declares() -> None:
    ours = declared()
    assert len(ours) > 50
    unknown = []
    for path, rule in rules():
        for asked in asked_in(str(rule["expr"])):
            if asked.metric in RECORDED | BY_PROMETHEUS or asked.metric in EXPORTED:
                continue
            if asked.metric not in ours:
                unknown.append(f"{path.name}: {rule.get('alert') or rule['record']}: nobody has {asked.metric}")
            elif extra := asked.labels - ours[asked.metric] - TARGET_LABELS:
                unknown.append(f"{path.name}: {asked.metric} has no {', '.join(sorted(extra))}")
    assert unknown == []


def test_the_tests_feed_what_the_services_have() -> None:
    """A test with a metric of its own making would prove nothing."""
    known = {**declared(), **dict.fromkeys(EXPORTED), **dict.fromkeys(BY_PROMETHEUS)}
    wrong = []
    for path in TEST_FILES:
        for group in yaml.safe_load(path.read_text())["tests"]:
            for series in group["input_series"]:
                (asked,) = asked_in(series["series"])
                has = known.get(asked.metric, "nobody")
                if has == "nobody" or (has is not None and asked.labels - has - TARGET_LABELS):
                    wrong.append(series["series"])
    assert wrong == []


def test_the_reader_of_expressions_sees_metrics_and_nothing_else() -> None:
    expression = (
        'sum by (service, le) (rate(a_bucket{route!~"/health.*|b{1}",le="1"}[5m])) / (max(c:d:rate5m) > 0)'
        " and on (dataset) min_over_time(e[10m]) == 1 unless f_total offset 5m"
    )
    assert asked_in(expression) == {
        Asked("a_bucket", frozenset({"route", "le"})),
        *(Asked(name, frozenset()) for name in ("c:d:rate5m", "e", "f_total")),
    }


def test_what_alerts_follow_from_is_known_to_alertmanager() -> None:
    text = (ROOT / "monitoring/alertmanager/alertmanager.yml").read_text()
    known = set(re.findall(r"follows=~\"\.\*(\w+)\.\*\"", text))
    used = {word for rule in alerts() for word in str(rule["labels"].get("follows", "")).split()}
    assert used == known
    # what is left out when its own service is down says whose it is
    for rule in alerts():
        if "itself" in str(rule["labels"].get("follows")) and "service" not in rule["labels"]:
            assert '"service"' in str(rule["expr"]), rule["alert"]


def test_sources_of_inhibition_are_alerts() -> None:
    configuration = yaml.safe_load((ROOT / "monitoring/alertmanager/alertmanager.yml").read_text())
    named = set(re.findall(r'alertname=\W*"(\w+)"', json.dumps(configuration["inhibit_rules"]).replace("\\", "")))
    assert named <= set(ALERTS)
