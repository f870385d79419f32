"""The programs that watch the platform: which run, what they are told, and that they come and go by themselves."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest
import yaml

from native.stand_ins import CHECKOUT, eventually, sleeper
from native.test_platform import programs_of
from ots_native.env_file import SECRETS
from ots_native.errors import NativeError
from ots_native.monitoring import PROGRAMS, webhook_lines
from ots_native.platform import Platform
from ots_native.programs import Programs
from ots_native.settings import Ports, resolve
from ots_native.supervision import Program, State, Supervisor
from ots_native.tools import PACKAGES, fetch_tools, find_tool, tools_folder

TEMPLATE = (CHECKOUT / "monitoring/alertmanager/alertmanager.yml").read_text()


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tools folder in which all of them are, on a machine that has none of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", os.pathsep.join(each for each in os.defpath.split(os.pathsep) if each))
    if any(find_tool(name, fetched=False) for name in PACKAGES):
        pytest.skip("this machine has them installed")
    folder = tools_folder()
    folder.mkdir(parents=True)
    for _, program in PACKAGES.values():
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    return folder


def watching(state: Path, **given: str) -> dict[str, Program]:
    programs = programs_of(state, **given)
    return {name: program for name, program in programs.items() if name in PROGRAMS.values()}


def test_what_was_fetched_runs_where_somebody_asked_for_it(fetched: Path, tmp_path: Path) -> None:
    assert not watching(tmp_path / "a")
    assert set(watching(tmp_path / "b", OTS_MONITORING="on")) == set(PROGRAMS.values())
    with pytest.raises(NativeError, match="OTS_MONITORING=1: it is"):
        watching(tmp_path / "c", OTS_MONITORING="1")


def test_what_is_on_path_runs_unless_somebody_says_no(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"] + os.pathsep + str(fetched))
    assert set(watching(tmp_path / "a")) == set(PROGRAMS.values())
    assert not watching(tmp_path / "b", OTS_MONITORING="off")


def test_they_get_what_they_need_and_no_secret_on_a_command_line(fetched: Path, tmp_path: Path) -> None:
    given = {"DB_PASSWORD_MONITOR": "of-monitor", "REDIS_PASSWORD": "of-redis", "METRICS_TOKEN": "of-metrics"}
    hook = "https://hooks.example.com/T1/secret?x=1"
    programs = watching(tmp_path, OTS_MONITORING="on", ALERT_WEBHOOK_URL=hook, MARKET_SOURCE="simulated", **given)
    for program in programs.values():
        assert not re.search("of-(monitor|redis|metrics)|hooks", " ".join(program.command))
    database = programs["postgres-exporter"].environment
    assert (database["DATA_SOURCE_USER"], database["DATA_SOURCE_PASS"]) == ("ots_monitor", "of-monitor")
    assert database["DATA_SOURCE_URI"] == f"127.0.0.1:{Ports().postgres}/ots_sim?sslmode=disable"
    assert programs["redis-exporter"].environment["REDIS_PASSWORD"] == "of-redis"
    assert not re.search("of-(monitor|redis|metrics)", str(programs["node-exporter"]))
    alertmanager = yaml.safe_load((tmp_path / "alertmanager/alertmanager.yml").read_text())
    hooks = [receiver["webhook_configs"] for receiver in alertmanager["receivers"]]
    assert hooks == [[{"url": hook, "send_resolved": True}]] * 3
    assert (tmp_path / "prometheus/gateway-token").read_text() == "of-metrics"
    for secret in ("alertmanager/alertmanager.yml", "prometheus/gateway-token"):
        assert stat.S_IMODE((tmp_path / secret).stat().st_mode) == 0o600


def test_without_a_webhook_alertmanager_tells_nobody() -> None:
    assert webhook_lines(TEMPLATE, "") == TEMPLATE
    receivers = yaml.safe_load(TEMPLATE)["receivers"]
    assert {name for receiver in receivers for name in receiver} == {"name"}


@pytest.mark.parametrize(
    "url", ["hooks.example.com", "https://a b", 'https://a"b', "https://a\\b", "file:///etc/passwd"]
)
def test_a_webhook_that_cannot_be_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(NativeError, match="ALERT_WEBHOOK_URL=.*: it is"):
        programs_of(tmp_path, ALERT_WEBHOOK_URL=url)


def test_where_what_it_reads_changes_a_program_is_another(fetched: Path, tmp_path: Path) -> None:
    first = watching(tmp_path, OTS_MONITORING="on")
    again = watching(tmp_path, OTS_MONITORING="on")
    assert again == first
    told = watching(tmp_path, OTS_MONITORING="on", ALERT_WEBHOOK_URL="http://127.0.0.1:1/hook")
    assert {name for name in first if told[name] != first[name]} == {"alertmanager"}


def test_prometheus_asks_natively_as_in_compose_but_for_the_addresses(fetched: Path, tmp_path: Path) -> None:
    watching(tmp_path, OTS_MONITORING="on", MARKET_SOURCE="simulated", RUNBOOKS_URL="https://example.com/manual")
    native = json.loads((tmp_path / "prometheus/prometheus.yml").read_text())
    compose = yaml.safe_load((CHECKOUT / "monitoring/prometheus/prometheus.yml").read_text())
    native_jobs = {job.pop("job_name"): job for job in native.pop("scrape_configs")}
    compose_jobs = {job.pop("job_name"): job for job in compose.pop("scrape_configs")}
    assert compose_jobs.keys() - native_jobs.keys() == {"containers"}
    assert native_jobs.keys() <= compose_jobs.keys()
    listeners = {**{name.replace("_", "-"): port for name, port in vars(Ports()).items()}}
    for name, job in native_jobs.items():
        (there,) = job.pop("static_configs")
        assert there["labels"] == {"service": name}
        host, _, port = there["targets"][0].partition(":")
        assert host == "127.0.0.1"
        assert int(port) in listeners.values()
        # where it is, whose certificate it shows and where the token lies are the addresses
        here = compose_jobs[name]
        for own in ("static_configs", "dns_sd_configs", "relabel_configs"):
            here.pop(own, None)
        assert (job.pop("tls_config", None) is None) == (here.pop("tls_config", None) is None)
        assert (job.pop("authorization", None) is None) == (here.pop("authorization", None) is None)
        assert job == here, name
    assert native["global"].pop("external_labels") == {
        "runbooks": "https://example.com/manual",
        "market_source": "simulated",
    }
    assert set(compose["global"].pop("external_labels")) == {"runbooks", "market_source"}
    for one in (native, compose):
        assert len(one.pop("rule_files")) == 1
        assert len(one["alerting"].pop("alertmanagers")) == 1
    assert native == compose


def test_without_apt_it_is_said_what_to_put_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeError, match=r"no apt-get here .*put prometheus, .* on PATH"):
        fetch_tools(lambda _: None)


def test_what_apt_cannot_download_is_said_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text(
            '#!/bin/sh\n[ "$1" = update ] || { echo "E: no route to Debian" >&2; exit 100; }\n'
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if any(find_tool(name) for name in PACKAGES):
        pytest.skip("this machine has them installed")
    with pytest.raises(NativeError, match="no route to Debian"):
        fetch_tools(lambda _: None)
    assert [path.name for path in (tmp_path / "cache/ai-ots/monitoring-tools").iterdir()] == []


def test_one_program_is_replaced_while_the_others_run_on(supervisor: Supervisor) -> None:
    def running() -> dict[str, int]:
        return {state.name: state.pid for state in supervisor.states() if state.runs}

    before = [sleeper("service"), sleeper("watching"), sleeper("leaving")]
    # as at a start: the services are not started by supervisord itself
    supervisor.write_configuration(before, autostart=["watching", "leaving"])
    supervisor.start()
    supervisor.start_programs()
    eventually(lambda: len(running()) == 3)
    first = running()
    after = [sleeper("service"), sleeper("watching", TOLD="other"), sleeper("coming")]
    assert supervisor.differing(before) == set()
    changed = supervisor.differing(after)
    assert changed == {"watching", "leaving", "coming"}
    supervisor.write_configuration(after)
    supervisor.replace(changed)
    eventually(lambda: running().keys() == {"service", "watching", "coming"})
    assert running()["service"] == first["service"]
    assert running()["watching"] != first["watching"]


def test_a_port_held_by_the_program_that_is_replaced_is_not_taken(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**dict.fromkeys(SECRETS, "x" * 40), "OTS_MONITORING": "on"}
    recorded = resolve(given, None, running=False)
    later = resolve({**given, "OTS_PORT_PROMETHEUS": "9999"}, recorded, running=True)
    platform = Platform(CHECKOUT, state=tmp_path)
    programs = Programs(CHECKOUT, tmp_path, later, platform.postgres(later), platform.redis(later))
    running = [State(name, "RUNNING", 1, 1, "") for name in ("alertmanager", "prometheus", "gateway")]
    monkeypatch.setattr(platform.supervisor, "states", lambda: running)
    # Alertmanager is started anew at its port, Prometheus goes to another
    assert platform._listening_already(programs, recorded) == {"alertmanager", "gateway"}
