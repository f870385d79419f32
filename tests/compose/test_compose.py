"""docker-compose.yml and the Dockerfiles, judged without an engine; where Compose is there, as it reads them too."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ots_analytics.settings import AnalyticsSettings
from ots_cache.settings import CacheSettings
from ots_common.provision import ProvisionSettings
from ots_common.settings import ServiceSettings
from ots_gateway.accounts import AccountSettings
from ots_gateway.settings import GatewaySettings
from ots_ingestion.settings import IngestionSettings
from ots_native.env_file import SECRETS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
DOCKERFILES = {path.parent.name: path for path in ROOT.glob("services/*/Dockerfile")}
ONE_OFF = {"migrate"}
SETTINGS = {
    "gateway": GatewaySettings,
    "cache": CacheSettings,
    "ingestion": IngestionSettings,
    "ingestion-worker": IngestionSettings,
    "analytics": AnalyticsSettings,
}
# read by gunicorn, before there are settings
SERVER_VARIABLES = {"BIND", "WORKERS", "PROMETHEUS_MULTIPROC_DIR"}
REQUIRED = re.compile(r"\$\{([A-Z_0-9]+):\?run \./start-dev\.sh, it makes \.env\}")
DEFAULTED = re.compile(r"\$\{([A-Z_0-9]+):-([^{}]*)\}")


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """A `.env` as start-dev.sh makes it."""
    return {name: make() for name, make in SECRETS.items()}


def interpolated(value: object, environment: dict[str, str]) -> str:
    """As Compose resolves it."""
    text = REQUIRED.sub(lambda found: environment[found[1]], str(value))
    text = DEFAULTED.sub(lambda found: environment.get(found[1]) or found[2], text)
    assert "${" not in text, text
    return text


def dockerfile_of(service: str) -> str | None:
    """The Dockerfile of the image that `service` runs, None for the images of others."""
    image = SERVICES[service]["image"]
    builds = [each["build"]["dockerfile"] for each in SERVICES.values() if each["image"] == image and "build" in each]
    assert len(builds) == (1 if image.startswith("ai-ots/") else 0), f"{image} is built {len(builds)} times"
    return (ROOT / builds[0]).read_text() if builds else None


def image_environment(service: str) -> dict[str, str]:
    """What the image's own ENV lines say."""
    dockerfile = (dockerfile_of(service) or "").replace("\\\n", " ")
    lines = re.findall(r"^ENV (.+)$", dockerfile, re.MULTILINE)
    return dict(pair.split("=", 1) for line in lines for pair in line.split())


def environment_of(service: str, secrets: dict[str, str]) -> dict[str, str]:
    """What the process in `service` gets."""
    given = {name: value for name, value in SERVICES[service]["environment"].items() if value is not None}
    return image_environment(service) | {name: interpolated(value, secrets) for name, value in given.items()}


def settings_of(
    service: str, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch, settings_class: type | None = None
) -> ServiceSettings:
    """The settings that `service` starts with."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in environment_of(service, secrets).items():
        monkeypatch.setenv(name, value)
    return (settings_class or SETTINGS[service])()


def test_the_services_that_start_dev_names_are_there():
    names = re.search(r'^services="(.+)"$', (ROOT / "start-dev.sh").read_text(), re.MULTILINE)
    assert {*names[1].split(), *ONE_OFF} == {name for name, each in SERVICES.items() if "profiles" not in each}
    assert SERVICES["grafana"]["profiles"] == ["grafana"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_OFF))
def test_is_watched(name):
    healthcheck = SERVICES[name].get("healthcheck")
    if healthcheck is None:
        assert re.search(r"^HEALTHCHECK .*/health/live", dockerfile_of(name), re.MULTILINE)
    else:
        assert healthcheck["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_is_confined(name):
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= set(limits)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert not {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices"} & set(service)
    assert "docker.sock" not in str(service.get("volumes"))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_does_not_run_as_root(name):
    users = re.findall(r"^USER (.+)$", dockerfile_of(name) or "", re.MULTILINE)
    user = SERVICES[name].get("user", users[-1] if users else "")
    assert user
    assert user.split(":")[0] not in ("root", "0")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_binds_ports_to_loopback_only(name):
    ports = SERVICES[name].get("ports", [])
    for port in ports:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{OTS_PORT_[A-Z]+:-\d+\}:\d+", port), port
    assert bool(ports) == (name in {"gateway", "prometheus", "grafana"})
    if ports:
        assert "edge" in SERVICES[name]["networks"], "a port of an internal network reaches nobody"


def test_only_the_edge_reaches_the_world():
    networks = COMPOSE["networks"]
    assert {name for name, each in networks.items() if not each.get("internal")} == {"edge"}
    assert {name for name, each in SERVICES.items() if "edge" in each["networks"]} == {
        "gateway",
        "prometheus",
        "grafana",
    }
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]


@pytest.mark.parametrize("image", sorted({each["image"] for each in SERVICES.values()}))
def test_images_name_a_version(image):
    tag = image.rpartition(":")[2]
    assert image.startswith("ai-ots/") or re.search(r"\d", tag)


@pytest.mark.parametrize("service", sorted(DOCKERFILES))
def test_dockerfile(service):
    text = DOCKERFILES[service].read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases == ["python:3.12-slim", "python:3.12-slim"]
    assert "install --require-hashes --no-deps -r /src/requirements.txt" in text
    assert f"services/{service}/requirements.txt" in text
    assert "--no-deps --no-build-isolation" in text
    assert not re.search(r"^# *syntax=|<<|^ADD |apt-get|\b(TOKEN|PASSWORD|SECRET)\b|://(?!127\.0\.0\.1)", text, re.M)
    final = text.rpartition("\nFROM ")[2]
    assert "pip" not in final
    port = re.search(r"^EXPOSE (\d+)$", final, re.MULTILINE)[1]
    assert f"BIND=0.0.0.0:{port}" in final
    assert f"http://127.0.0.1:{port}/health/live" in final


@pytest.mark.parametrize("service", sorted(DOCKERFILES))
def test_image_holds_the_packages_that_the_service_imports(service):
    packages = {path.name: path.parent.name for path in ROOT.glob("services/*/ots_*") if path.suffix != ".egg-info"}
    needed, unseen = set(), {service}
    while unseen:
        needed |= unseen
        sources = [path.read_text() for each in unseen for path in (ROOT / "services" / each).glob("ots_*/**/*.py")]
        imported = set(re.findall(r"^\s*(?:from|import) (ots_\w+)", "\n".join(sources), re.MULTILINE))
        unseen = {packages[name] for name in imported} - needed
    text = DOCKERFILES[service].read_text()
    assert set(re.findall(r"^COPY services/([a-z-]+) /src/", text, re.MULTILINE)) == needed
    assert set(re.search(r"--no-index .*$", text, re.MULTILINE)[0].split()[2:]) == {f"/src/{each}" for each in needed}


def test_the_build_sees_sources_and_migrations_only():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert [line for line in lines if line.startswith("!")] == ["!database/migrations", "!services"]
    assert "**/.env*" in lines


def test_every_secret_comes_from_env_and_none_has_a_default():
    required = set(REQUIRED.findall(TEXT))
    assert required == set(SECRETS)
    defaults = dict(DEFAULTED.findall(TEXT))
    assert not {name for name in defaults if re.search("PASSWORD|KEY|TOKEN|SECRET", name)}
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|JWT|REDISCLI_AUTH", name):
                assert re.search(r"\$\{[A-Z_]+:\?run", value), name


def test_no_secret_is_an_argument():
    for name, service in SERVICES.items():
        words = json.dumps([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])
        assert not re.search(r"(?<!\$)\$\{", words), name


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_environment_is_what_the_settings_ask_for(name, secrets, monkeypatch):
    fields = {field.upper() for field in SETTINGS[name].model_fields}
    given = set(SERVICES[name]["environment"])
    assert given <= fields | SERVER_VARIABLES
    base = {field.upper() for field in ServiceSettings.model_fields}
    assert base - given == {"DATABASE_POOL_SIZE", "DATABASE_WAIT_S"}, "a setting of every service is left to chance"
    settings = settings_of(name, secrets, monkeypatch)
    assert settings.market_source == "databento"


def test_the_migrating_service_has_what_both_its_commands_ask_for(secrets, monkeypatch):
    provision = settings_of("migrate", secrets, monkeypatch, ProvisionSettings)
    assert provision.market_database == "ots"
    assert settings_of("migrate", secrets, monkeypatch, AccountSettings).admin_password.get_secret_value()
    copied = re.search(r"^COPY database/migrations (\S+)$", dockerfile_of("migrate"), re.MULTILINE)
    assert str(provision.migrations_dir) == copied[1]


def test_callers_and_called_share_their_keys(secrets, monkeypatch):
    names = {"gateway": "gateway", "cache": "cache", "data-ingestion": "ingestion", "analytics": "analytics"}
    settings = {name: settings_of(each, secrets, monkeypatch) for name, each in names.items()}
    signed = {(a, b): k for a, each in settings.items() for b, k in each.signing_keys.items()}
    accepted = {(a, b): k for b, each in settings.items() for a, k in each.accept_keys.items()}
    assert signed == accepted
    assert set(signed) == {
        ("gateway", "cache"),
        ("gateway", "data-ingestion"),
        ("gateway", "analytics"),
        ("analytics", "cache"),
    }
    assert len({key.get_secret_value() for key in signed.values()}) == len(signed)
    upstreams = settings["gateway"].upstreams
    for name, url in upstreams.items():
        port = image_environment(names[name])["BIND"].rpartition(":")[2]
        assert url == f"http://{names[name]}:{port}"


def test_every_database_user_has_the_least_role(secrets):
    roles = {
        name: re.match(r"postgresql://(\w+):", environment_of(name, secrets)["DATABASE_URL"])[1] for name in SETTINGS
    }
    assert roles == {
        "gateway": "ots_accounts",
        "cache": "ots_reader",
        "analytics": "ots_reader",
        "ingestion": "ots",
        "ingestion-worker": "ots",
    }


def test_services_wait_for_the_migrations():
    for name in SETTINGS:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_ingestion_and_its_worker_share_the_spool(secrets):
    spool = environment_of("ingestion", secrets)["SPOOL_DIR"]
    assert SERVICES["ingestion"]["volumes"] == SERVICES["ingestion-worker"]["volumes"] == [f"spool:{spool}"]


def test_prometheus_scrapes_every_web_service(secrets):
    configuration = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in configuration["scrape_configs"]}
    assert targets == {
        name: [f"{name}:{image_environment(name)['BIND'].rpartition(':')[2]}"]
        for name in SETTINGS
        if name != "ingestion-worker"
    }
    gateway = next(job for job in configuration["scrape_configs"] if job["job_name"] == "gateway")
    assert gateway["authorization"]["credentials_file"] in " ".join(SERVICES["prometheus"]["entrypoint"])


def test_grafana_finds_prometheus_under_a_fixed_uid():
    (source,) = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert (source["uid"], source["type"], source["url"]) == ("prometheus", "prometheus", "http://prometheus:9090")


def test_compose_itself_accepts_the_file(tmp_path, secrets):
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker compose here")
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    command = ["docker", "compose", "--env-file", env_file, "--profile", "grafana", "config", "--format", "json"]
    # the caller's settings apart, which would win over the file
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
    result = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    resolved = json.loads(result.stdout)["services"]
    assert resolved["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == secrets["ADMIN_PASSWORD"]
    for name in SETTINGS:
        given = {key: value for key, value in resolved[name]["environment"].items() if value is not None}
        assert image_environment(name) | given == environment_of(name, secrets), name
    bare = subprocess.run(
        ["docker", "compose", "--env-file", "/dev/null", "config"], cwd=ROOT, env=clean, capture_output=True, text=True
    )
    assert bare.returncode != 0
    assert "start-dev.sh" in bare.stderr
