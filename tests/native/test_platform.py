"""The commands, as far as they need no service."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from native.stand_ins import CHECKOUT
from ots_common import gunicorn_conf
from ots_gateway.settings import GatewaySettings
from ots_ingestion.settings import IngestionSettings
from ots_native.env_file import SECRETS
from ots_native.errors import NativeError
from ots_native.platform import Platform
from ots_native.private_files import socket_folder
from ots_native.processes import processes_of
from ots_native.programs import Programs
from ots_native.settings import Ports, Settings, resolve
from ots_native.supervision import Program

GIVEN = dict.fromkeys(SECRETS, "x" * 40)


def test_a_busy_port_is_named_with_its_owner_and_nothing_starts(tmp_path: Path) -> None:
    ports = Ports.free()
    platform = Platform(CHECKOUT, state=tmp_path / "state", env_file=tmp_path / ".env", ports=ports)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports.cache))
        listener.listen()
        with pytest.raises(NativeError) as refusal:
            platform.up()
    assert f"Port {ports.cache} (cache)" in str(refusal.value)
    assert f"pid {os.getpid()}: " in str(refusal.value)
    assert "OTS_PORT_CACHE=" in str(refusal.value)
    assert processes_of(platform.state) == []
    assert not platform.supervisor.answers()


def test_token_prints_nothing_to_evaluate_when_it_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-m", "ots_native", "--root", tmp_path, "token"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "./start-dev.sh" in result.stderr


def test_down_and_reset_of_what_never_ran_are_harmless(tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    platform.down()
    assert platform.reset() == []


def test_folders_of_others_are_neither_used_nor_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    platform = Platform(CHECKOUT, state=tmp_path, env_file=tmp_path / ".env")
    with pytest.raises(NativeError, match="other things"):
        platform.up()
    with pytest.raises(NativeError, match="not made by AI-OTS"):
        platform.reset()
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("given", "source", "database", "calendar"),
    [
        ({}, "simulated", "ots_sim", "around-the-clock"),
        ({"SIMULATOR_CALENDAR": "xnys"}, "simulated", "ots_sim", "xnys"),
        ({"DATABENTO_API_KEY": "db-1"}, "databento", "ots", "xnys"),
        ({"DATABENTO_API_KEY": "db-1", "MARKET_SOURCE": "simulated"}, "simulated", "ots_sim", "around-the-clock"),
        ({"MARKET_SOURCE": "databento", "SIMULATOR_CALENDAR": "around-the-clock"}, "databento", "ots", "xnys"),
    ],
)
def test_the_market_is_simulated_for_whoever_has_no_key_and_says_nothing(
    given: dict[str, str], source: str, database: str, calendar: str
) -> None:
    settings = resolve({**GIVEN, **given}, None, running=False)
    assert (settings.market_source, settings.market_database) == (source, database)
    assert settings.market_calendar == calendar
    assert settings.key_left_aside == (source == "simulated" and "DATABENTO_API_KEY" in given)


@pytest.mark.parametrize("first", ["simulated", "databento"])
def test_a_key_found_or_lost_later_changes_no_recorded_market(first: str) -> None:
    recorded = resolve({**GIVEN, "MARKET_SOURCE": first}, None, running=False)
    for key in ("", "db-1"):
        assert resolve({**GIVEN, "DATABENTO_API_KEY": key}, recorded, running=False).market_source == first


def test_the_database_of_one_invented_market_takes_no_other() -> None:
    first = resolve({**GIVEN, "SIMULATOR_SEED": "7"}, None, running=False)
    assert resolve(GIVEN, first, running=False).values["SIMULATOR_SEED"] == "7"
    for other in ({"SIMULATOR_SEED": "8"}, {"SIMULATOR_CALENDAR": "xnys"}, {"SIMULATOR_SIZE": "full"}):
        with pytest.raises(NativeError, match=r"holds the market of .*reset"):
            resolve({**GIVEN, **other}, first, running=False)
    # real data in between change nothing about that
    real = resolve({**GIVEN, "MARKET_SOURCE": "databento", "SIMULATOR_SEED": "8"}, first, running=False)
    with pytest.raises(NativeError, match="SIMULATOR_SEED=7"):
        resolve({**GIVEN, "MARKET_SOURCE": "simulated", "SIMULATOR_SEED": "8"}, real, running=False)
    assert resolve({**GIVEN, "MARKET_SOURCE": "simulated"}, real, running=False).values["SIMULATOR_SEED"] == "7"
    # a platform that never had an invented market may have any
    never = resolve({**GIVEN, "MARKET_SOURCE": "databento"}, None, running=False)
    chosen = resolve({**GIVEN, "MARKET_SOURCE": "simulated", "SIMULATOR_SEED": "8"}, never, running=False)
    assert chosen.values["SIMULATOR_SEED"] == "8"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MARKET_SOURCE", "real"),
        ("SIMULATOR_SEED", "-1"),
        ("SIMULATOR_SEED", "one"),
        ("SIMULATOR_CALENDAR", "always"),
        ("SIMULATOR_SIZE", "huge"),
        ("SIMULATOR_SPEED", "0.0"),
        ("SIMULATOR_SPEED", "nan"),
    ],
)
def test_a_market_that_cannot_be_is_refused(name: str, value: str) -> None:
    with pytest.raises(NativeError, match=f"{name}={value}: it is"):
        resolve({**GIVEN, name: value}, None, running=False)


def programs_of(state: Path, **given: str) -> dict[str, Program]:
    """Every program of a platform with these settings, by name."""
    settings = resolve({**GIVEN, **given}, None, running=False)
    platform = Platform(CHECKOUT, state=state)
    built = Programs(CHECKOUT, state, settings, platform.postgres(settings), platform.redis(settings))
    try:
        return {program.name: program for program in built.all()}
    finally:
        platform.postgres(settings).remove()


def test_with_the_simulated_market_ingestion_knows_no_other_vendor(tmp_path: Path) -> None:
    programs = programs_of(tmp_path, MARKET_SOURCE="simulated", DATABENTO_API_KEY="db-real", SIMULATOR_KEY="db-sim")
    ingestion = [program for name, program in programs.items() if name.startswith("ingestion")]
    assert len(ingestion) == 4
    ports = Ports()
    for program in ingestion:
        environment = program.environment
        assert environment["DATABENTO_API_KEY"] == "db-sim"
        assert environment["DATABENTO_HISTORICAL_URL"] == f"https://localhost:{ports.simulator}"
        assert environment["DATABENTO_LIVE_PORT"] == str(ports.simulator_live)
        assert Path(environment["REQUESTS_CA_BUNDLE"]).parent == Path(
            programs["simulator"].environment["SIMULATOR_TLS_DIR"]
        )
        assert environment["COLLECT_ON_FIRST_START"] == "true"
    assert programs["simulator"].environment["SIMULATOR_KEY"] == "db-sim"
    assert "db-real" not in str(programs)
    for name in ("gateway", "cache", "analytics", *(program.name for program in ingestion)):
        assert programs[name].environment["MARKET_CALENDAR"] == "around-the-clock"
    for name in ("gateway", "cache", "analytics"):
        assert "db-sim" not in str(programs[name])
    # nor any database
    assert not {"DATABASE_URL", "REDIS_URL"} & set(programs["simulator"].environment)


def test_snapshots_are_written_as_a_role_of_their_own_without_keys(tmp_path: Path) -> None:
    given = {"DB_PASSWORD_SNAPSHOTS": "of-snapshots", "KEY_ANALYTICS_CACHE": "k" * 40}
    programs = programs_of(tmp_path, **given)
    snapshots = programs["analytics-snapshots"]
    assert snapshots.command[-3:] == ["-m", "ots_analytics", "snapshots"]
    assert "//ots_snapshots:of-snapshots@" in snapshots.environment["DATABASE_URL"]
    assert "of-snapshots" not in str([program for name, program in programs.items() if name != "analytics-snapshots"])
    assert "k" * 40 not in str(snapshots.environment)
    assert "//ots_reader:" in programs["analytics"].environment["DATABASE_URL"]


def test_signals_are_written_as_a_role_of_their_own(tmp_path: Path) -> None:
    programs = programs_of(tmp_path, DB_PASSWORD_SIGNALS="of-signals", KEY_GATEWAY_SIGNALS="k" * 40)
    worker = programs["signals-worker"]
    assert worker.command[-3:] == ["-m", "ots_signals", "worker"]
    others = [program for name, program in programs.items() if name not in ("signals", "signals-worker")]
    assert "of-signals" not in str(others)
    for name in ("signals", "signals-worker"):
        assert "//ots_signals:of-signals@" in programs[name].environment["DATABASE_URL"]
    # nobody calls the worker, and it calls analytics alone
    assert "k" * 40 not in str(worker.environment)
    assert set(json.loads(worker.environment["UPSTREAMS"])) == {"analytics"}
    assert worker.environment["SIGNALS_METRICS_PORT"] == str(Ports().signals_worker)


def test_callers_and_called_share_their_keys_and_callers_know_where_those_are(tmp_path: Path) -> None:
    programs = programs_of(tmp_path)
    names = {"gateway": "gateway", "cache": "cache", "data-ingestion": "ingestion"}
    names |= {"analytics": "analytics", "signals": "signals"}
    said = {name: programs[program].environment for name, program in names.items()}
    signed = {(a, b): key for a in said for b, key in json.loads(said[a]["SIGNING_KEYS"]).items()}
    accepted = {(a, b): key for b in said for a, key in json.loads(said[b]["ACCEPT_KEYS"]).items()}
    assert signed == accepted
    assert set(signed) == {
        ("gateway", "cache"), ("gateway", "data-ingestion"), ("gateway", "analytics"), ("analytics", "cache"),
        ("cache", "analytics"), ("cache", "data-ingestion"), ("gateway", "signals"), ("signals", "analytics"),
    }  # fmt: skip
    for caller in ("gateway", "cache", "signals"):
        upstreams = json.loads(said[caller]["UPSTREAMS"])
        assert set(upstreams) == {audience for each, audience in signed if each == caller}
        for audience, url in upstreams.items():
            assert url == f"http://{said[audience]['BIND']}"


def test_with_real_data_there_is_no_simulator_and_nothing_starts_by_itself(tmp_path: Path) -> None:
    programs = programs_of(tmp_path, DATABENTO_API_KEY="db-real", SIMULATOR_KEY="db-sim")
    assert "simulator" not in programs
    assert "db-sim" not in str(programs)
    for name in ("ingestion", "ingestion-worker", "ingestion-collector", "ingestion-backfiller"):
        environment = programs[name].environment
        assert environment["DATABENTO_API_KEY"] == "db-real"
        assert environment["MARKET_CALENDAR"] == "xnys"
        assert not {
            "DATABENTO_HISTORICAL_URL", "DATABENTO_LIVE_HOST", "REQUESTS_CA_BUNDLE", "COLLECT_ON_FIRST_START",
        } & set(environment)  # fmt: skip


FOR_THE_GATEWAY = {
    "ALLOWED_HOSTS": '["api.example.com","127.0.0.1","localhost"]',
    "CORS_ORIGINS": '["https://app.example.com"]',
    "TRUSTED_PROXIES": '["10.0.0.0/8"]',
    "HSTS_S": "31536000",
    "RATE_LIMITS": '{"read":"12000/60/2000"}',
    "RATE_LIMIT_SCALE": "0.5",
}
FOR_INGESTION = {
    "REPAIR_MAX_COST_USD": "2.5",
    "EXPECTED_STRETCH_MINUTES": "20",
    "LIVE_SPOOL_MAX_BYTES": "1000000",
    "BACKFILL_PARALLEL": "2",
    "SELF_CHECK_EVERY_S": "600",
    "SELF_CHECK_ROWS": "1000",
}
FOR_SIGNALS = {"LEDGER_VERIFY_EVERY_S": "600"}


def test_settings_of_a_service_reach_it_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = programs_of(tmp_path, **FOR_THE_GATEWAY, **FOR_INGESTION, **FOR_SIGNALS)
    of_services = {"gateway": FOR_THE_GATEWAY, "ingestion": FOR_INGESTION, "signals": FOR_SIGNALS}
    for name, program in programs.items():
        given = program.environment
        expected = of_services.get(name.partition("-")[0], {})
        passed = {key: given[key] for each in of_services.values() for key in each if key in given}
        assert passed == expected, name
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in programs["gateway"].environment.items():
        monkeypatch.setenv(name, value)
    gateway = GatewaySettings()
    assert gateway.allowed_hosts[0] == "api.example.com"
    assert (gateway.hsts_s, gateway.rate_limit_scale) == (31_536_000, 0.5)
    assert gateway.rate_limits == {"read": "12000/60/2000"}
    for name, value in programs["ingestion-collector"].environment.items():
        monkeypatch.setenv(name, value)
    ingestion = IngestionSettings()
    assert (ingestion.repair_max_cost_usd, ingestion.live_spool_max_bytes) == (2.5, 1_000_000)
    assert (ingestion.expected_stretch_minutes, ingestion.backfill_parallel) == (20, 2)


def test_what_nobody_sets_is_left_to_the_services(tmp_path: Path) -> None:
    for program in programs_of(tmp_path).values():
        assert not {*FOR_THE_GATEWAY, *FOR_INGESTION, *FOR_SIGNALS} & set(program.environment)


@pytest.mark.parametrize(("given", "drain_s"), [({}, 10), ({"DRAIN_S": "370"}, 370)])
def test_the_gateway_is_given_the_time_that_it_promises(tmp_path: Path, given: dict[str, str], drain_s: int) -> None:
    programs = programs_of(tmp_path, **given)
    assert programs["gateway"].environment["DRAIN_S"] == str(drain_s)
    assert programs["gateway"].stop_wait_s > drain_s
    # theirs is in ots_common.gunicorn_conf
    assert programs["ingestion"].stop_wait_s > gunicorn_conf.graceful_timeout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DRAIN_S", "0"),
        ("DRAIN_S", "371"),
        ("DRAIN_S", "1e1"),
        ("HSTS_S", "a year"),
        ("RATE_LIMIT_SCALE", "-1"),
        ("REPAIR_MAX_COST_USD", "nan"),
        ("BACKFILL_PARALLEL", "2.5"),
        # the launcher itself would be refused
        ("ALLOWED_HOSTS", '["api.example.com"]'),
        ("ALLOWED_HOSTS", "api.example.com"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(name: str, value: str) -> None:
    with pytest.raises(NativeError, match=f"{name}=.*: it is"):
        resolve({**GIVEN, name: value}, None, running=False)


def test_markets_share_no_spool(tmp_path: Path) -> None:
    spools = {
        programs_of(tmp_path / source, MARKET_SOURCE=source)["ingestion-collector"].environment["SPOOL_DIR"]
        for source in ("databento", "simulated")
    }
    assert len({Path(spool).name for spool in spools}) == 2


def test_what_up_recorded_holds_until_somebody_says_otherwise(tmp_path: Path) -> None:
    first = resolve({**GIVEN, "OTS_PORT_GATEWAY": "8100", "DATABENTO_API_KEY": "db-1"}, None, running=False)
    first.save(tmp_path / "record.json")
    recorded = Settings.load(tmp_path / "record.json")
    assert recorded == first
    assert (tmp_path / "record.json").stat().st_mode & 0o077 == 0

    again = resolve(GIVEN, recorded, running=True)
    assert again.changed_from(first) == []
    later = resolve(GIVEN, recorded, running=False)
    assert (later.instance, later.ports.gateway) == (first.instance, 8100)
    assert later.values["DATABENTO_API_KEY"] == ""
    other = resolve({**GIVEN, "OTS_PORT_GATEWAY": "8200"}, recorded, running=True)
    assert other.changed_from(first) == ["OTS_PORT_GATEWAY"]


def test_what_an_earlier_version_recorded_is_completed(tmp_path: Path) -> None:
    """It knew neither these roles nor these ports."""
    new_secrets = {"DB_PASSWORD_GRAFANA", "DB_PASSWORD_MONITOR", "DB_PASSWORD_SIGNALS", "KEY_GATEWAY_SIGNALS"}
    new_secrets |= {"KEY_SIGNALS_ANALYTICS"}
    new_ports = {"worker", "snapshots", "alertmanager", "node_exporter", "redis_exporter", "postgres_exporter"}
    new_ports |= {"signals", "signals_worker"}
    record = asdict(resolve({**GIVEN, "OTS_PORT_GATEWAY": "8100"}, None, running=False))
    record["values"] = {name: value for name, value in record["values"].items() if name not in new_secrets}
    record["ports"] = {name: port for name, port in record["ports"].items() if name not in new_ports}
    (tmp_path / "record.json").write_text(json.dumps(record))
    earlier = Settings.load(tmp_path / "record.json")
    assert earlier is not None
    # the commands that only look, or stop it, know what they need
    platform = Platform(CHECKOUT, state=tmp_path)
    assert Programs(CHECKOUT, tmp_path, earlier, platform.postgres(earlier), platform.redis(earlier)).ports()
    later = resolve(GIVEN, earlier, running=True)
    assert later.ports == Ports(gateway=8100)
    assert set(later.changed_from(earlier)) == new_secrets


@pytest.mark.parametrize("value", ["http", "0", "70000", "8001"])
def test_a_port_that_cannot_be_is_refused(value: str) -> None:
    with pytest.raises(NativeError, match="OTS_PORT_"):
        resolve({**GIVEN, "OTS_PORT_GATEWAY": value}, None, running=False)


def test_a_socket_too_deep_for_the_system_moves_to_a_short_folder(tmp_path: Path) -> None:
    assert socket_folder(Path("/short"), "s") == Path("/short")
    deep = tmp_path.joinpath(*["deep"] * 30)
    assert len(str(socket_folder(deep, ".s.PGSQL.15432"))) < 40


def test_start_dev_explains_itself_from_any_folder(tmp_path: Path) -> None:
    script = CHECKOUT / "start-dev.sh"
    told = subprocess.run([script, "help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "token [--role ROLE]" in told.stdout
    refused = subprocess.run([script, "dance"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "unknown: dance" in refused.stderr


def test_before_the_first_start_start_dev_answers_without_installing(tmp_path: Path) -> None:
    script = Path(shutil.copy(CHECKOUT / "start-dev.sh", tmp_path))
    token = subprocess.run([script, "--native", "token"], capture_output=True, text=True, check=False)
    assert (token.returncode, token.stdout) == (1, "")
    assert subprocess.run([script, "--native", "down"], check=False).returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["start-dev.sh"]


def test_the_shared_lock_holds_all_that_start_dev_installs() -> None:
    def pins(path: Path) -> set[str]:
        return {line.split(" ")[0] for line in path.read_text().splitlines() if "==" in line and line[0].isalnum()}

    assert pins(CHECKOUT / "infrastructure/native/requirements.txt") <= pins(CHECKOUT / "requirements.txt")
