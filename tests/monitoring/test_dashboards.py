"""What every dashboard keeps to: made by the code, whole, and of metrics that somebody counts."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from dashboard_support import FILES, GRAFANA, NAMES, dashboard, panels, promql_of
from places import ROOT

PROVISIONING = GRAFANA / "provisioning"
# what the exporters and Prometheus itself show (Debian 12: node 1.5, postgres 0.11, redis 1.45; Compose's are newer)
OF_OTHERS = {
    "up", "scrape_duration_seconds", "scrape_samples_scraped", "ALERTS",
    "process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total",
    "node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes", "node_load1",
    "node_load15", "node_filesystem_avail_bytes", "node_filesystem_size_bytes", "node_disk_io_time_seconds_total",
    "node_network_receive_bytes_total", "node_network_transmit_bytes_total",
    "pg_up", "pg_settings_max_connections", "pg_database_size_bytes", "pg_stat_database_numbackends",
    "pg_stat_database_blks_hit", "pg_stat_database_blks_read", "pg_stat_database_deadlocks",
    "pg_stat_database_xact_commit", "pg_stat_database_xact_rollback", "pg_stat_database_tup_inserted",
    "pg_stat_database_tup_fetched",
    "container_start_time_seconds", "container_oom_events_total", "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes", "container_spec_memory_limit_bytes",
    "container_cpu_cfs_throttled_periods_total", "container_cpu_cfs_periods_total",
    "redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes", "redis_commands_processed_total",
    "redis_connected_clients", "redis_expired_keys_total", "redis_evicted_keys_total",
}  # fmt: skip
OF_SCRAPES = {"job", "instance", "service", "le"}


@pytest.fixture(scope="module")
def declared():
    """The metrics of our services, each with its labels."""
    spec = importlib.util.spec_from_file_location("generate_metrics", ROOT / "docs" / "generate_metrics.py")
    generator = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = generator
    spec.loader.exec_module(generator)
    found: dict[str, set[str]] = {}
    for one in generator.declared():
        names = [f"{one.name}_{part}" for part in ("bucket", "sum", "count")] if one.kind == "histogram" else [one.name]
        found |= {name: set(one.labels) for name in names}
    return found


def test_files_are_what_the_code_makes():
    made = subprocess.run(
        [sys.executable, GRAFANA / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert len(FILES) == 7


def test_generator_says_which_file_is_not_current(tmp_path):
    """On a copy of the folder with one number changed."""
    copy = tmp_path / "grafana"
    subprocess.run(["cp", "-r", GRAFANA, copy], check=True)
    edited = copy / "provisioning" / "dashboards" / "json" / "system.json"
    edited.write_text(edited.read_text().replace('"w": 4', '"w": 5', 1))
    command = [sys.executable, copy / "generate.py"]
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert checked.stdout.startswith("system.json is not what")
    subprocess.run(command, check=True)
    assert subprocess.run([*command, "--check"], check=False).returncode == 0


def test_dashboards_are_told_apart_and_lead_to_each_other():
    boards = [dashboard(name) for name in NAMES]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards)
    for board in boards:
        assert board["id"] is None
        assert board["description"]
        others, manual = board["links"]
        assert others["tags"] == board["tags"] == ["ai-ots"]
        assert manual["url"].endswith("/OPERATIONS_MANUAL.md")


@pytest.fixture(scope="module")
def datasources():
    found = [
        one
        for path in sorted((PROVISIONING / "datasources").glob("*.yml"))
        for one in yaml.safe_load(path.read_text())["datasources"]
    ]
    return {one["uid"]: one for one in found}


def test_datasources_have_fixed_ids_and_no_password(datasources):
    assert set(datasources) == {"prometheus", "ots-postgres"}
    assert [uid for uid, one in datasources.items() if one.get("isDefault")] == ["prometheus"]
    database = datasources["ots-postgres"]
    assert database["user"] == "ots_grafana"
    assert database["jsonData"]["database"] == "${MARKET_DATABASE}"
    assert database["secureJsonData"] == {"password": "${DB_PASSWORD_GRAFANA}"}


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows(name, datasources):
    ids = [panel["id"] for panel in dashboard(name)["panels"]]
    assert len(set(ids)) == len(ids)
    titles = Counter(panel["title"] for panel in panels(name))
    for panel in panels(name):
        defaults = panel["fieldConfig"]["defaults"]
        assert titles[panel["title"]] == 1, panel["title"]
        assert len(panel["description"]) > 20, panel["title"]
        assert defaults["unit"], panel["title"]
        assert len(defaults["noValue"]) > 10, panel["title"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            source = datasources[target["datasource"]["uid"]]
            assert source["type"] == target["datasource"]["type"], panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_lie_beside_each_other(name):
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_queries_use_variables_that_there_are(name):
    board = dashboard(name)
    known = {variable["name"] for variable in board["templating"]["list"]}
    for panel in panels(name):
        for target in panel["targets"]:
            text = target.get("expr", "") + target.get("rawSql", "")
            used = {one for one in re.findall(r"\$\{?(\w+)", text) if not one.startswith("__")}
            assert used <= known, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_rates_follow_the_range(name):
    """A window written out is wrong at some zoom."""
    for whose, expression in promql_of(name):
        assert not re.search(r"\[\d", re.sub(r'"[^"]*"', '""', expression)), whose


@pytest.fixture(scope="module")
def rules():
    """All rules of Prometheus."""
    groups = [
        group
        for path in (ROOT / "monitoring" / "prometheus" / "rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def recorded(rules):
    return {rule["record"] for rule in rules if "record" in rule}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_runbooks_of_alerts_and_to_dashboards(name, rules):
    alerts = {rule["alert"].lower() for rule in rules if "alert" in rule}
    linked = [(panel["title"], link) for panel in panels(name) for link in panel.get("links", [])]
    runbooks = [(title, link["url"]) for title, link in linked if link["title"] == "Runbook"]
    assert runbooks
    for title, url in runbooks:
        assert url.partition("#")[2] in alerts, title
    uids = {dashboard(other)["uid"] for other in NAMES}
    for title, link in linked:
        if link["title"] != "Runbook":
            assert link["url"].removesuffix("?${__url_time_range}").removeprefix("/d/") in uids, title


@pytest.mark.parametrize("name", NAMES)
def test_metrics_and_labels_are_counted_by_somebody(name, declared, recorded):
    for whose, expression in promql_of(name):
        text = re.sub(r'"[^"]*"', '""', expression)
        by_rules = set(re.findall(r"\b\w+(?::\w+)+", text))
        assert by_rules <= recorded, f"{whose}: {by_rules - recorded}"
        text = re.sub(r"\b\w+(?::\w+)+", "", text)
        names = set(
            re.findall(r"\b(?:ots|node|pg|redis|process|scrape|container)_[a-zA-Z0-9_]+|\bup\b|\bALERTS\b", text)
        )
        assert names <= declared.keys() | OF_OTHERS, f"{whose}: {names - declared.keys() - OF_OTHERS}"
        for metric, chosen in re.findall(r"\b(ots_\w+)\{([^}]*)\}", text):
            labels = set(re.findall(r"(\w+)\s*[=!]", chosen))
            assert labels <= declared[metric] | OF_SCRAPES, f"{whose}: {metric} has no {labels - declared[metric]}"
        ours = names & declared.keys()
        for added_by in re.findall(r"by \(([^)]*)\)", text):
            # "on" and label_replace make labels of their own; those are not summed by
            labels = {label.strip() for label in added_by.split(",")} - OF_SCRAPES
            if ours:
                assert labels <= set().union(*(declared[metric] for metric in ours)), whose


def test_runbooks_are_read_from_the_documents_that_grafana_serves():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    (inside,) = (one.split(":")[1] for one in compose["services"]["grafana"]["volumes"] if one.startswith("./docs:"))
    for name in NAMES:
        _, manual = dashboard(name)["links"]
        assert manual["url"] == inside.removeprefix("/usr/share/grafana") + "/OPERATIONS_MANUAL.md"


def test_provider_reads_the_folder_in_the_container():
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "ots.yml").read_text())["providers"]
    inside = provider["options"]["path"].removeprefix("/etc/grafana/provisioning/")
    assert (PROVISIONING / inside) == FILES[0].parent
