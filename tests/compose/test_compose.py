"""docker-compose.yml and the Dockerfiles, judged without an engine; where Compose is there, as it reads them too."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from ots_analytics.settings import AnalyticsSettings
from ots_cache.settings import CacheSettings
from ots_common.provision import ProvisionSettings
from ots_common.settings import ServiceSettings
from ots_gateway.accounts import AccountSettings
from ots_gateway.settings import GatewaySettings
from ots_ingestion.settings import IngestionSettings
from ots_native.env_file import SECRETS, parse_env
from ots_native.monitoring import webhook_lines
from ots_native.settings import FOR_ALL
from ots_signals.settings import SignalsSettings
from ots_simulator.settings import SimulatorSettings

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
    "ingestion-collector": IngestionSettings,
    "ingestion-backfiller": IngestionSettings,
    "analytics": AnalyticsSettings,
    "analytics-snapshots": AnalyticsSettings,
    "signals": SignalsSettings,
    "signals-worker": SignalsSettings,
}
INGESTION = {name for name, settings in SETTINGS.items() if settings is IngestionSettings}
MARKETS = {"simulated": "ots_sim", "databento": "ots"}
# who talks with the vendor, and so reaches the world
VENDORS_CUSTOMERS = INGESTION - {"ingestion-worker"}
# read by requests, which the vendor's client is made of
CLIENT_VARIABLES = {"REQUESTS_CA_BUNDLE"}
# watched through their connection to the database
WITHOUT_SERVER = INGESTION - {"ingestion"} | {"analytics-snapshots", "signals-worker"}
# read by gunicorn, before there are settings
SERVER_VARIABLES = {"BIND", "WORKERS", "PROMETHEUS_MULTIPROC_DIR", "DRAIN_S"}
# read by OpenTelemetry
TRACE_VARIABLES = {name for name in FOR_ALL if name.startswith("OTEL_")}
PLAIN = re.compile(r"\$\{([A-Z_0-9]+)\}")
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
    text = PLAIN.sub(lambda found: environment[found[1]], text)
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
    given = {**file_environment(service, secrets), **SERVICES[service]["environment"]}
    return image_environment(service) | {name: interpolated(value, secrets) for name, value in given.items()}


def file_environment(service: str, secrets: dict[str, str]) -> dict[str, str]:
    """What the env files of `service` say, in which Compose resolves variables too."""
    paths = [ROOT / interpolated(path, secrets) for path in SERVICES[service].get("env_file", [])]
    return {name: value for path in paths for name, value in parse_env(path.read_text()).items()}


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
    profiles = {name: each["profiles"] for name, each in SERVICES.items() if "profiles" in each}
    assert profiles == {"grafana": ["grafana"], "simulator": ["simulated"], "cadvisor": ["containers"]}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_OFF))
def test_is_watched(name):
    healthcheck = SERVICES[name].get("healthcheck")
    # without a test of its own, the image's
    if healthcheck is None or set(healthcheck) == {"start_period"}:
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
    # who tells of every container reads the machine's files, and is there only where somebody asks for it
    assert (user.split(":")[0] in ("root", "0")) == (name == "cadvisor")
    if name == "cadvisor":
        assert SERVICES[name]["profiles"] == ["containers"]
        assert all(volume.endswith(":ro") for volume in SERVICES[name]["volumes"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_binds_ports_to_loopback_only(name):
    ports = SERVICES[name].get("ports", [])
    for port in ports:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{OTS_PORT_[A-Z]+:-\d+\}:\d+", port), port
    assert bool(ports) == (name in {"gateway", "prometheus", "alertmanager", "grafana"})
    if ports:
        assert "edge" in SERVICES[name]["networks"], "a port of an internal network reaches nobody"


def test_only_the_edge_reaches_the_world():
    networks = COMPOSE["networks"]
    assert {name for name, each in networks.items() if not each.get("internal")} == {"edge"}
    assert {name for name, each in SERVICES.items() if "edge" in each["networks"]} == {
        "gateway",
        "prometheus",
        "alertmanager",
        "grafana",
    } | VENDORS_CUSTOMERS
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]


@pytest.mark.parametrize("image", sorted({each["image"] for each in SERVICES.values()}))
def test_images_name_a_version(image):
    tag = image.rpartition(":")[2]
    assert image.startswith("ai-ots/") or re.search(r"\d", tag)


@pytest.mark.parametrize("service", sorted(DOCKERFILES))
def test_dockerfile(service):
    text = DOCKERFILES[service].read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert "install --no-compile --require-hashes --no-deps -r /src/requirements.txt" in text
    assert f"services/{service}/requirements.txt" in text
    assert "--no-deps --no-build-isolation" in text
    assert not re.search(r"^# *syntax=|<<|^ADD |apt-get|\b(TOKEN|PASSWORD|SECRET)\b|://(?!127\.0\.0\.1)", text, re.M)
    final = text.rpartition("\nFROM ")[2]
    assert "pip" not in final
    port = re.search(r"^EXPOSE (\d+)$", final, re.MULTILINE)[1]
    assert re.search(rf"\bBIND=0\.0\.0\.0:{port}\b|\bSIMULATOR_BIND=0\.0\.0\.0 ", final)
    assert re.search(rf"https?://127\.0\.0\.1:{port}/(simulator/)?health/live", final)


def test_all_images_have_one_base_of_an_exact_version():
    """Compose may be told another; deploy-prod.sh gives the same one by its digest."""
    (base,) = {re.search(r"^ARG PYTHON_IMAGE=(\S+)$", path.read_text(), re.M)[1] for path in DOCKERFILES.values()}
    assert re.fullmatch(r"python:3\.12\.\d+-slim-[a-z]+", base)
    built = [each["build"] for each in SERVICES.values() if "build" in each]
    assert [each["args"] for each in built] == [["PYTHON_IMAGE"]] * len(DOCKERFILES)


@pytest.mark.parametrize("service", sorted(DOCKERFILES))
def test_an_image_does_not_depend_on_when_it_is_built(service):
    build, _, final = DOCKERFILES[service].read_text().rpartition("\nFROM ")
    # pip's own bytecode has the time of the source in it, which is when it was unpacked
    assert len(re.findall(r" pip .* install ", build)) == len(re.findall(r" install --no-compile ", build)) == 2
    assert "python -m compileall -f -q --invalidation-mode unchecked-hash /opt/venv/lib" in build
    # useradd writes the day into /etc/shadow
    assert final.index("ARG SOURCE_DATE_EPOCH") < final.index("useradd")


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
    assert set(re.search(r"--no-index --no-cache-dir ([^\\]*)", text)[1].split()) == {f"/src/{each}" for each in needed}


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


@pytest.mark.parametrize("source", MARKETS)
@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_environment_is_what_the_settings_ask_for(name, source, secrets, monkeypatch):
    secrets = secrets | {"MARKET_SOURCE": source, "MARKET_DATABASE": MARKETS[source]}
    fields = {field.upper() for field in SETTINGS[name].model_fields}
    given = {*SERVICES[name]["environment"], *file_environment(name, secrets)}
    assert given <= fields | SERVER_VARIABLES | CLIENT_VARIABLES | TRACE_VARIABLES
    base = {field.upper() for field in ServiceSettings.model_fields}
    # Compose puts Redis' password into the URL; ECS, which cannot, gives it apart
    assert base - given == {"DATABASE_POOL_SIZE", "DATABASE_WAIT_S", "REDIS_PASSWORD"}, (
        "a setting of every service is left to chance"
    )
    settings = settings_of(name, secrets, monkeypatch)
    assert settings.market_source == source
    assert settings.market_calendar == {"simulated": "around-the-clock", "databento": "xnys"}[source]
    if name != "gateway":
        assert settings.database_url.get_secret_value().endswith(f"/{MARKETS[source]}")


FOR_THE_GATEWAY = {
    "ALLOWED_HOSTS": '["api.example.com","127.0.0.1","localhost","gateway"]',
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
}
FOR_SIGNALS = {"LEDGER_VERIFY_EVERY_S": "600"}


@pytest.mark.parametrize("name", sorted(name for name, each in SERVICES.items() if each["image"].startswith("ai-ots/")))
def test_who_is_one_process_counts_in_memory_and_web_servers_in_files(name, secrets):
    if name in ONE_OFF | {"simulator"}:
        return
    folders = "PROMETHEUS_MULTIPROC_DIR=/run/ots/metrics"
    if "command" in SERVICES[name]:
        assert "PROMETHEUS_MULTIPROC_DIR" not in environment_of(name, secrets)
        assert folders not in SERVICES[name]["command"]
    else:
        assert folders in dockerfile_of(name).rpartition("\nFROM ")[2]
    (metrics,) = [each for each in SERVICES[name]["tmpfs"] if each.startswith("/run/ots/metrics:")]
    assert "uid=10001" in metrics


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_settings_of_a_service_reach_it_and_no_other(name, secrets, monkeypatch):
    of_services = {"gateway": FOR_THE_GATEWAY, "signals": FOR_SIGNALS, "signals-worker": FOR_SIGNALS}
    expected = FOR_INGESTION if name in INGESTION else of_services.get(name, {})
    chosen = {**FOR_THE_GATEWAY, **FOR_INGESTION, **FOR_SIGNALS}
    given = environment_of(name, secrets | chosen)
    assert {each: given[each] for each in chosen if each in given} == expected
    settings = settings_of(name, secrets | chosen, monkeypatch)
    unset = settings_of(name, secrets, monkeypatch)
    for each in expected:
        field = each.lower()
        assert (
            getattr(settings, field)
            != getattr(unset, field)
            == SETTINGS[name].model_fields[field].get_default(call_default_factory=True)
        )


def test_the_gateway_has_the_time_that_it_promises(secrets):
    grace_s = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
    conf = (ROOT / "services/api-gateway/ots_gateway/gunicorn_conf.py").read_text()
    (longest,) = re.findall(r'"DRAIN_S", "(\d+)"', conf)
    assert grace_s > int(longest)
    # in development stopping is quick
    assert environment_of("gateway", secrets)["DRAIN_S"] == "10"
    assert environment_of("gateway", secrets | {"DRAIN_S": longest})["DRAIN_S"] == longest
    # Compose stops it before those that it waits for
    assert {"cache", "ingestion", "analytics", "signals"} <= set(SERVICES["gateway"]["depends_on"])


@pytest.mark.parametrize("name", sorted(INGESTION))
def test_only_with_real_data_does_anybody_reach_databento(name, secrets):
    secrets = secrets | {"DATABENTO_API_KEY": "db-real"}
    simulated = environment_of(name, secrets)
    assert "db-real" not in simulated.values()
    assert simulated["DATABENTO_API_KEY"] == secrets["SIMULATOR_KEY"]
    simulator = SERVICES["simulator"]["networks"]["services"]["aliases"]
    assert urlsplit(simulated["DATABENTO_HISTORICAL_URL"]).hostname in simulator
    assert simulated["DATABENTO_LIVE_HOST"] in simulator
    real = environment_of(name, secrets | {"MARKET_SOURCE": "databento", "MARKET_DATABASE": "ots"})
    assert real["DATABENTO_API_KEY"] == "db-real"
    assert secrets["SIMULATOR_KEY"] not in real.values()
    assert not {
        name for name in real if name.startswith(("DATABENTO_LIVE", "DATABENTO_HIST", "COLLECT_ON", "REQUESTS"))
    }
    # what one market's spool holds never reaches the database of another
    assert simulated["SPOOL_DIR"] != real["SPOOL_DIR"]


def test_who_does_not_ask_the_vendor_has_no_key_of_it(secrets):
    secrets = secrets | {"DATABENTO_API_KEY": "db-real"}
    for source in MARKETS:
        for name in {*SERVICES} - INGESTION - {"simulator"}:
            service = {"environment": {}, **SERVICES[name]}
            files = file_environment(name, secrets | {"MARKET_SOURCE": source})
            assert "KEY" not in str([each for each in files if "DATABENTO" in each or "SIMULATOR" in each])
            assert "SIMULATOR_KEY" not in str(service["environment"])
            assert "DATABENTO" not in str(service["environment"])


def test_the_simulator_gets_what_its_settings_ask_for_and_no_database(secrets, monkeypatch):
    fields = {field.upper() for field in SimulatorSettings.model_fields}
    assert set(SERVICES["simulator"]["environment"]) <= fields | TRACE_VARIABLES
    assert {*FOR_ALL} <= set(SERVICES["simulator"]["environment"])
    settings = settings_of("simulator", secrets, monkeypatch, SimulatorSettings)
    assert settings.market_calendar == "around-the-clock"
    assert settings.simulator_key.get_secret_value() == secrets["SIMULATOR_KEY"]
    vendor = environment_of("ingestion", secrets)
    assert settings.simulator_bind == "0.0.0.0"
    assert urlsplit(vendor["DATABENTO_HISTORICAL_URL"]).port == settings.simulator_http_port
    assert int(vendor["DATABENTO_LIVE_PORT"]) == settings.simulator_live_port


def test_the_simulators_certificate_is_shared_and_its_private_key_is_not(secrets):
    folder = image_environment("simulator")["SIMULATOR_TLS_DIR"]
    (name,) = [volume.partition(":")[0] for volume in SERVICES["simulator"]["volumes"] if volume.endswith(f":{folder}")]
    users = {each: re.findall(r"^USER (.+)$", dockerfile_of(each), re.MULTILINE)[-1] for each in INGESTION}
    assert re.findall(r"^USER (.+)$", dockerfile_of("simulator"), re.MULTILINE)[-1] not in users.values()
    for each in INGESTION:
        shared = [mount for mount in SERVICES[each]["volumes"] if isinstance(mount, dict)]
        assert [(mount["source"], mount["read_only"]) for mount in shared] == [(name, True)]
        # the first to mount an empty volume gives it an owner: it must be the one who writes there
        assert shared[0]["volume"] == {"nocopy": True}
        bundle = environment_of(each, secrets)["REQUESTS_CA_BUNDLE"]
        assert bundle == f"{shared[0]['target']}/ca.pem"


def test_the_migrating_service_has_what_both_its_commands_ask_for(secrets, monkeypatch):
    provision = settings_of("migrate", secrets, monkeypatch, ProvisionSettings)
    assert provision.market_database == "ots_sim"
    assert settings_of("migrate", secrets, monkeypatch, AccountSettings).admin_password.get_secret_value()
    copied = re.search(r"^COPY database/migrations (\S+)$", dockerfile_of("migrate"), re.MULTILINE)
    assert str(provision.migrations_dir) == copied[1]


def test_callers_and_called_share_their_keys(secrets, monkeypatch):
    names = {"gateway": "gateway", "cache": "cache", "data-ingestion": "ingestion"}
    names |= {"analytics": "analytics", "signals": "signals"}
    settings = {name: settings_of(each, secrets, monkeypatch) for name, each in names.items()}
    signed = {(a, b): k for a, each in settings.items() for b, k in each.signing_keys.items()}
    accepted = {(a, b): k for b, each in settings.items() for a, k in each.accept_keys.items()}
    assert signed == accepted
    assert set(signed) == {
        ("gateway", "cache"),
        ("gateway", "data-ingestion"),
        ("gateway", "analytics"),
        ("analytics", "cache"),
        ("cache", "analytics"),
        ("cache", "data-ingestion"),
        ("gateway", "signals"),
        ("signals", "analytics"),
    }
    assert len({key.get_secret_value() for key in signed.values()}) == len(signed)
    # each knows where those are whom it may call; analytics has no need to ask the cache over HTTP yet
    for caller in ("gateway", "cache", "signals"):
        assert set(settings[caller].upstreams) == {audience for each, audience in signed if each == caller}
    told = [settings[caller].upstreams for caller in ("gateway", "cache", "signals")]
    for name, url in [item for upstreams in told for item in upstreams.items()]:
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
        "analytics-snapshots": "ots_snapshots",
        "signals": "ots_signals",
        "signals-worker": "ots_signals",
        **dict.fromkeys(INGESTION, "ots"),
    }


def test_services_wait_for_the_migrations():
    for name in SETTINGS:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_all_of_ingestion_shares_the_spool(secrets):
    spool = image_environment("ingestion")["SPOOL_DIR"]
    for name in INGESTION:
        assert f"spool:{spool}" in SERVICES[name]["volumes"]
        assert Path(environment_of(name, secrets)["SPOOL_DIR"]).is_relative_to(spool)


@pytest.mark.parametrize("name", sorted(WITHOUT_SERVER))
def test_a_process_without_a_web_server_is_watched_through_its_connection(name):
    service, _, command = name.partition("-")
    assert SERVICES[name]["command"] == ["python", "-m", f"ots_{service}", command]
    (connection,) = re.findall(r"application_name = '([a-z-]+)'", " ".join(SERVICES[name]["healthcheck"]["test"]))
    sources = [path.read_text() for path in ROOT.glob(f"services/*/ots_{service}/*.py")]
    assert re.search(f'(application=|^APPLICATION = )"{connection}"', "".join(sources), re.M), "nobody connects so"


def test_prometheus_scrapes_whoever_has_metrics(secrets):
    configuration = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    targets = {name: job["static_configs"][0]["targets"] for name, job in jobs.items() if "static_configs" in job}
    ports = {name: image_environment(name)["BIND"].rpartition(":")[2] for name in SETTINGS.keys() - WITHOUT_SERVER}
    for name in WITHOUT_SERVER:
        # of the worker of signals that of its service: ingestion has a worker too
        told = "signals" if name == "signals-worker" else name.partition("-")[2]
        ports[name] = environment_of(name, secrets)[f"{told.upper()}_METRICS_PORT"]
    watching = {"prometheus": "127.0.0.1:9090", "alertmanager": "alertmanager:9093", "node": "node-exporter:9100"}
    watching |= {"redis": "redis-exporter:9121", "postgres": "postgres-exporter:9187"}
    ours = {name: f"{name}:{port}" for name, port in ports.items()}
    assert targets == {name: [address] for name, address in (ours | watching).items()}
    assert set(jobs) - set(targets) == {"simulator", "containers"}
    (found,) = jobs["simulator"]["dns_sd_configs"]
    assert set(found["names"]) <= set(SERVICES["simulator"]["networks"]["services"]["aliases"])
    exporters = {address.partition(":")[0] for address in watching.values()} - {"127.0.0.1"}
    for name in ("prometheus", "simulator", "cadvisor", *ours, *exporters):
        assert "services" in SERVICES[name]["networks"]
    (container,) = jobs["containers"]["dns_sd_configs"]
    assert container["names"] == ["cadvisor"]
    gateway = next(job for job in configuration["scrape_configs"] if job["job_name"] == "gateway")
    assert gateway["authorization"]["credentials_file"] in " ".join(SERVICES["prometheus"]["entrypoint"])


@pytest.mark.parametrize("url", ["", "https://hooks.example.com/T/s?a=1&b=%20c"])
def test_alertmanager_is_told_of_the_webhook_as_natively(url, tmp_path):
    """The shell lines of its entry point, with other paths."""
    (shell, flag, script) = SERVICES["alertmanager"]["entrypoint"]
    for path, here in (
        ("/run/alertmanager/alertmanager.yml", tmp_path / "given.yml"),
        ("/etc/alertmanager/alertmanager.yml", ROOT / "monitoring/alertmanager/alertmanager.yml"),
        ("/bin/alertmanager", "echo"),
    ):
        script = script.replace(path, str(here))
    environment = {"PATH": os.environ["PATH"], "ALERT_WEBHOOK_URL": url}
    done = subprocess.run(
        [shell, flag, script.replace("$$", "$")], env=environment, capture_output=True, text=True, check=True
    )
    assert url not in done.stdout or not url
    template = (ROOT / "monitoring/alertmanager/alertmanager.yml").read_text()
    assert (tmp_path / "given.yml").read_text() == webhook_lines(template, url)


def test_exporters_get_their_passwords_by_the_environment(secrets):
    database = environment_of("postgres-exporter", secrets)
    assert (database["DATA_SOURCE_USER"], database["DATA_SOURCE_PASS"]) == (
        "ots_monitor",
        secrets["DB_PASSWORD_MONITOR"],
    )
    for source, market in MARKETS.items():
        chosen = {"MARKET_SOURCE": source, "MARKET_DATABASE": market}
        uri = environment_of("postgres-exporter", secrets | chosen)["DATA_SOURCE_URI"]
        assert uri == f"postgres:5432/{market}?sslmode=disable&connect_timeout=2"
    assert environment_of("redis-exporter", secrets)["REDIS_PASSWORD"] == secrets["REDIS_PASSWORD"]


def test_grafana_finds_prometheus_and_the_market_under_fixed_uids():
    folder = ROOT / "monitoring/grafana/provisioning/datasources"
    assert f"./{folder.parent.relative_to(ROOT)}:/etc/grafana/provisioning:ro" in SERVICES["grafana"]["volumes"]
    files = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")]
    sources = {source["uid"]: source for file in files for source in file["datasources"]}
    assert (sources["prometheus"]["type"], sources["prometheus"]["url"]) == ("prometheus", "http://prometheus:9090")
    market = sources["ots-postgres"]
    assert (market["user"], market["url"]) == ("ots_grafana", "postgres:5432")
    # what they leave to Grafana's environment is there, and both can be reached from it
    assert set(PLAIN.findall(json.dumps(list(sources.values())))) <= set(SERVICES["grafana"]["environment"])
    assert {"edge", "data"} <= set(SERVICES["grafana"]["networks"])
    assert "edge" in SERVICES["prometheus"]["networks"]


def test_the_logs_are_shipped_only_by_a_file_of_its_own(secrets):
    """Its vector has Docker's socket, which is power over the machine."""
    services = yaml.safe_load((ROOT / "monitoring/logging/compose.yml").read_text())["services"]
    assert set(services) - set(SERVICES) == {"vector", "loki"}
    assert [name for name, each in services.items() if "docker.sock" in str(each["volumes"])] == ["vector"]
    for name in ("vector", "loki"):
        assert (services[name]["read_only"], services[name]["cap_drop"]) == (True, ["ALL"])
        assert "ports" not in services[name]
        assert set(services[name]["networks"]) <= set(SERVICES["grafana"]["networks"])
    mounted = [volume.partition(":")[0] for each in services.values() for volume in each["volumes"]]
    assert all((ROOT / path).exists() for path in mounted if path.startswith("./"))


def test_compose_itself_accepts_the_file(tmp_path, secrets):
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker compose here")
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    profiles = [word for each in SERVICES.values() for name in each.get("profiles", []) for word in ("--profile", name)]
    files = ["-f", "docker-compose.yml", "-f", "monitoring/logging/compose.yml"]
    command = ["docker", "compose", "--env-file", env_file, *files, *profiles, "config", "--format", "json"]
    # the caller's settings apart, which would win over the file
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
    for source, database in MARKETS.items():
        chosen = {"MARKET_SOURCE": source, "MARKET_DATABASE": database}
        result = subprocess.run(command, cwd=ROOT, env=clean | chosen, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        resolved = json.loads(result.stdout)["services"]
        assert resolved["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == secrets["ADMIN_PASSWORD"]
        assert len(resolved["grafana"]["volumes"]) == len(SERVICES["grafana"]["volumes"]) + 1
        for name in (*SETTINGS, "simulator"):
            given = {key: value for key, value in resolved[name]["environment"].items() if value is not None}
            assert image_environment(name) | given == environment_of(name, secrets | chosen), name
    bare = subprocess.run(
        ["docker", "compose", "--env-file", "/dev/null", "config"], cwd=ROOT, env=clean, capture_output=True, text=True
    )
    assert bare.returncode != 0
    assert "start-dev.sh" in bare.stderr
