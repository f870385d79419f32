"""infrastructure/terraform: valid, formatted, described; its tasks are those of docker-compose.yml, and no more.

The long form, an apply against a mocked AWS and checkov, is in infrastructure/terraform/README.md.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from places import ROOT
from terraform_support import MOCK_ACCOUNT, SIZES, TERRAFORM, Plan, Workspace, secret_names

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
FILES = sorted(
    path
    for path in TERRAFORM.rglob("*")
    if path.is_file() and ".terraform" not in path.parts and ".tfstate" not in path.name and path.suffix != ".tfvars"
)
# ECS' service -> Compose's
SERVICES = {
    "gateway": "gateway",
    "cache": "cache",
    "analytics": "analytics",
    "ingestion": "ingestion",
    "ingestion-worker": "ingestion-worker",
    "collector": "ingestion-collector",
    "backfiller": "ingestion-backfiller",
    "volatility-snapshots": "analytics-snapshots",
    "signals": "signals",
    "signals-worker": "signals-worker",
}
# what only the laptop's variables say otherwise, or only production has
PRODUCTION_ONLY = {"PGSSLMODE", "PGSSLROOTCERT", "KEEPALIVE_S"}
SAID_OTHERWISE = {"OTS_ENVIRONMENT", "OTS_INSTANCE", "LOG_FORMAT", "LOG_LEVEL", "WORKERS", "DRAIN_S", "MARKET_CALENDAR"}
# Compose hands its processes of ingestion the same variables; here nobody calls those without a port, and the worker
# stores what the others fetched
NOT_GIVEN = {
    "ingestion-worker": {"ACCEPT_KEYS__GATEWAY", "ACCEPT_KEYS__CACHE", "DATABENTO_API_KEY"},
    "collector": {"ACCEPT_KEYS__GATEWAY", "ACCEPT_KEYS__CACHE"},
    "backfiller": {"ACCEPT_KEYS__GATEWAY", "ACCEPT_KEYS__CACHE"},
}
REFERENCE = re.compile(r"\$\{([A-Z_0-9]+)(:[-?][^{}]*)?\}")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="module")
def plans(workspace: Workspace) -> dict[str, Plan]:
    """What each of the example environments would make."""
    examples = {size: (TERRAFORM / "environments" / f"{size}.tfvars.example").read_text() for size in SIZES}
    # and TimescaleDB on an instance, as no example has it
    return workspace.plans({**examples, "timescale": examples["small"] + '\ndatabase = "timescale-ec2"\n'})


@pytest.fixture(scope="module")
def desk(plans: dict[str, Plan]) -> Plan:
    return plans["desk"]


# --- the text ---


def test_it_is_formatted(workspace):
    done = workspace.run("fmt", "-check", "-recursive", "-no-color", str(TERRAFORM))
    assert (done.stdout, done.returncode) == ("", 0)


def test_it_is_valid(workspace):
    answer = json.loads(workspace.run("validate", "-json").stdout)
    assert answer["valid"], answer["diagnostics"]
    assert [one["summary"] for one in answer["diagnostics"]] == []


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """Where, and the text, of each block of a kind at the left margin."""
    for path in FILES:
        if path.suffix == ".tf":
            for block in re.finditer(rf'^{kind} "([a-z0-9_]+)" \{{\n(.*?)^\}}', path.read_text(), re.M | re.S):
                yield f"{path.relative_to(TERRAFORM)}: {block[1]}", block[2]


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_everything_that_goes_in_and_out_is_described(kind):
    found = list(blocks(kind))
    assert len(found) > 10
    assert [where for where, text in found if not re.search(r'^  description = ".{4,}"$', text, re.M)] == []
    if kind == "variable":
        assert [where for where, text in found if not re.search(r"^  type += ", text, re.M)] == []


def test_there_is_one_provider():
    text = "\n".join(path.read_text() for path in FILES if path.suffix == ".tf")
    assert set(re.findall(r'source += "([a-z]+/[a-z]+)"', text)) == {"hashicorp/aws"}


def test_no_account_and_no_secret_is_in_the_tree():
    wrong = {
        "an account's id": re.compile(r"(?<![0-9a-fA-F])\d{12}(?![0-9a-fA-F])"),
        "an access key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
        "a vendor's key": re.compile(r"\bdb-[A-Za-z0-9]{29}\b"),
        "a private key": re.compile("BEGIN [A-Z ]*PRIVATE KEY"),
        "a password": re.compile(r'(?i:password|secret|token|api_key)"?\s*=\s*"(?![A-Z_]+")[^"$/{} ]{8,}"'),
    }
    found = []
    for path in FILES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found += [
                f"{path.name}:{number}: {what}" for what, pattern in wrong.items()
                if pattern.search(line)
            ]  # fmt: skip
    assert found == []


# --- the examples ---


@pytest.mark.parametrize("size", [*SIZES, "timescale"])
def test_the_examples_plan_without_a_word(plans, size):
    assert plans[size].said == []


@pytest.mark.parametrize("size", SIZES)
def test_no_secret_has_a_value_in_plan_or_state(plans, size):
    assert plans[size].all_of("aws_secretsmanager_secret_version") == {}
    database = plans[size].resources["aws_db_instance.main[0]"]
    assert database["manage_master_user_password"] is True
    assert database.get("password") is None
    assert plans[size].resources["aws_elasticache_replication_group.main[0]"].get("auth_token") is None


@pytest.mark.parametrize("size", SIZES)
def test_what_stores_is_encrypted_private_and_hard_to_lose(plans, size):
    plan = plans[size]
    database = plan.resources["aws_db_instance.main[0]"]
    assert (database["storage_encrypted"], database["publicly_accessible"], database["deletion_protection"]) == (
        True, False, True,
    )  # fmt: skip
    assert database["backup_retention_period"] >= 7
    assert not database["skip_final_snapshot"]
    parameters = {one["name"]: one["value"] for one in plan.resources["aws_db_parameter_group.main[0]"]["parameter"]}
    assert parameters["rds.force_ssl"] == "1"
    redis = plan.resources["aws_elasticache_replication_group.main[0]"]
    assert redis["transit_encryption_enabled"]
    assert redis["at_rest_encryption_enabled"]
    assert plan.resources["aws_efs_file_system.spool"]["encrypted"]
    buckets = plan.all_of("aws_s3_bucket")
    assert len(buckets) == 3
    for kind in ("aws_s3_bucket_public_access_block", "aws_s3_bucket_policy", "aws_s3_bucket_versioning"):
        assert len(plan.all_of(kind)) == 3, kind
    for policy in plan.all_of("aws_s3_bucket_policy").values():
        first = json.loads(policy["policy"])["Statement"][0]
        assert (first["Effect"], first["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert all(key["enable_key_rotation"] for key in plan.all_of("aws_kms_key").values())


def test_redis_forgets_as_in_compose(desk):
    wanted = re.search(r"--maxmemory-policy ([a-z-]+)", COMPOSE["redis"]["command"][2])
    group = desk.resources["aws_elasticache_parameter_group.main[0]"]
    assert {one["name"]: one["value"] for one in group["parameter"]} == {"maxmemory-policy": wanted[1]}


# --- the tasks and Compose ---


def market_file(kind: str) -> dict[str, str]:
    lines = (ROOT / "infrastructure" / "compose" / kind / "databento.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def compose_variables(name: str) -> dict[str, str]:
    service = COMPOSE[name]
    files = [Path(file).parent.name for file in service.get("env_file", [])]
    made = {key: value for kind in files for key, value in market_file(kind).items()}
    return {**made, **{key: str(value) for key, value in service["environment"].items()}}


def wanted_of(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Variables, and secrets (variable -> the secret's name), as Terraform must give them."""
    variables: dict[str, str] = {}
    secrets = {"DATABASE_CA": "DATABASE_CA"}
    for key, value in compose_variables(name).items():
        if key == "DATABASE_URL":
            parts = urlsplit(REFERENCE.sub(lambda found: found[1], value))
            secrets["PGPASSWORD"] = str(parts.password or "")
            database = parts.path.removeprefix("/").replace("MARKET_DATABASE", "ots")
            variables[key] = f"postgresql://{parts.username}@database.example:5432/{database}"
        elif key == "REDIS_URL":
            secrets["REDIS_PASSWORD"] = "REDIS_PASSWORD"
            variables[key] = "rediss://redis.example:6379/0"
        elif key in ("ACCEPT_KEYS", "SIGNING_KEYS"):
            for peer, reference in json.loads(value).items():
                secrets[f"{key}__{peer.replace('-', '_').upper()}"] = REFERENCE.fullmatch(reference)[1]
        elif (found := REFERENCE.fullmatch(value)) is None:
            variables[key] = value
        elif (found[2] or "").startswith(":?") or key == "DATABENTO_API_KEY":
            secrets[key] = found[1]
        elif found[2] != ":-":
            variables[key] = found[2].removeprefix(":-")
        # else: nothing unless somebody sets it; var.settings may
    return variables, secrets


def secret_of(reference: str) -> str:
    return reference.rsplit(":", 1)[1]


@pytest.mark.parametrize("name", SERVICES)
def test_a_task_has_what_compose_gives_the_same_service(desk, name):
    container = desk.containers(f'aws_ecs_task_definition.service["{name}"]')[name]
    variables = {one["name"]: one["value"] for one in container["environment"]}
    secrets = {one["name"]: secret_of(one["valueFrom"]) for one in container["secrets"]}
    wanted, wanted_secrets = wanted_of(SERVICES[name])
    assert NOT_GIVEN.get(name, set()) <= set(wanted_secrets)
    assert secrets == {key: one for key, one in wanted_secrets.items() if key not in NOT_GIVEN.get(name, set())}

    internal = re.compile(r"http://([a-z-]+)\.ots-desk\.internal:")
    given = {key: internal.sub(r"http://\1:", value) for key, value in variables.items()}
    for key in SAID_OTHERWISE & wanted.keys():
        given.pop(key, None), wanted.pop(key)
    if name == "gateway":
        # where a load balancer stands in front
        for key in ("TRUSTED_PROXIES", "HSTS_S", "CORS_ORIGINS"):
            assert key in COMPOSE["gateway"]["environment"]
            given.pop(key)
    as_json = {"UPSTREAMS"}
    assert {key: json.loads(value) if key in as_json else value for key, value in given.items()
            if key not in PRODUCTION_ONLY} == {
        key: json.loads(value) if key in as_json else value for key, value in wanted.items()
    }  # fmt: skip
    assert (variables["PGSSLMODE"], variables["MARKET_SOURCE"]) == ("verify-full", "databento")
    assert [key for key in variables if re.search("PASSWORD|TOKEN|API_KEY|SIGNING_KEY", key)] == []


def image_command(name: str) -> list[str]:
    text = (ROOT / COMPOSE[name]["build"]["dockerfile"]).read_text()
    command: list[str] = json.loads(re.findall(r"^CMD (\[.*\])$", text, re.M)[-1])
    return command


@pytest.mark.parametrize("name", SERVICES)
def test_a_task_runs_what_compose_runs(desk, name):
    container = desk.containers(f'aws_ecs_task_definition.service["{name}"]')[name]
    service = COMPOSE[SERVICES[name]]
    assert container["command"] == (service.get("command") or image_command(SERVICES[name]))
    assert (container["user"], container["readonlyRootFilesystem"]) == ("10001:10001", True)
    assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
    spool = any(str(volume).startswith("spool:") for volume in service.get("volumes", []))
    assert any(mount["sourceVolume"] == "spool" for mount in container["mountPoints"]) == spool


def test_every_service_of_ours_is_there(desk):
    ours = {name for name, service in COMPOSE.items() if str(service["image"]).startswith("ai-ots/")}
    assert set(SERVICES.values()) == ours - {"migrate", "simulator"}
    assert set(desk.all_of("aws_ecs_service")) == {
        "aws_ecs_service.monitoring[0]",
        *(f'aws_ecs_service.service["{name}"]' for name in SERVICES),
    }
    logs = {address.split('"')[1] for address in desk.all_of("aws_cloudwatch_log_group") if ".service[" in address}
    assert logs == {*SERVICES, "migrate"}


def test_the_migration_has_what_provisioning_needs(desk):
    container = desk.containers("aws_ecs_task_definition.migrate")["migrate"]
    secrets = {one["name"]: one["valueFrom"] for one in container["secrets"]}
    compose = compose_variables("migrate")
    passwords = {key for key in compose if key.startswith("DB_PASSWORD_") or key == "ADMIN_PASSWORD"}
    assert set(secrets) == passwords | {"DATABASE_CA", "MASTER_PASSWORD"}
    assert secrets["MASTER_PASSWORD"].endswith(":secret:MASTER:password::")
    given = {one["name"]: one["value"] for one in container["environment"]}
    assert given["ADMIN_DATABASE_URL"] == "postgresql://ots_admin@database.example:5432/postgres"
    for part in ("ots_common.provision", "ots_gateway.accounts ensure-admin --reset-password"):
        assert part in COMPOSE["migrate"]["command"][2]
        assert part in container["command"][2]


def test_each_secret_has_a_place_and_a_reader(desk):
    read = set()
    for address in desk.all_of("aws_ecs_task_definition"):
        for container in desk.containers(address).values():
            read |= {one["valueFrom"].split(":secret:")[1].split(":")[0] for one in container["secrets"]}
    # the dashboards' role logs in from wherever Grafana runs, which is not here
    assert read - {"MASTER"} == set(secret_names())
    env = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    assert set(secret_names()) - env == {"DATABASE_CA"}


def test_the_entry_point_writes_the_authority_and_becomes_the_command(desk, tmp_path):
    container = desk.containers('aws_ecs_task_definition.service["cache"]')["cache"]
    file = tmp_path / "database-ca.pem"
    done = subprocess.run(
        [*container["entryPoint"], "sh", "-c", 'cat "$PGSSLROOTCERT"; echo "$0" "$1"', "a b", "c"],
        env={"PATH": "/usr/bin:/bin", "DATABASE_CA": "-----BEGIN\nx\n-----END", "PGSSLROOTCERT": str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "-----BEGIN\nx\n-----END\na b c\n"


# --- watching ---


def unpacked(container: dict[str, Any]) -> dict[str, str]:
    """The files that the monitoring task is handed as variables."""
    files = {}
    for one in container["environment"]:
        path, _, packed = one["value"].partition(":")
        files[path] = gzip.decompress(base64.b64decode(packed)).decode()
    return files


@pytest.fixture
def monitoring(desk) -> dict[str, str]:
    return unpacked(desk.containers("aws_ecs_task_definition.monitoring[0]")["configure"])


def test_prometheus_asks_whom_it_asks_in_compose(monitoring):
    there = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    here = yaml.safe_load(monitoring["prometheus.yml"])
    assert here["global"] | {"external_labels": 0} == there["global"] | {"external_labels": 0}

    def ports(jobs: list[dict[str, Any]]) -> dict[str, int]:
        found = {}
        for job in jobs:
            if "dns_sd_configs" in job:
                found[job["job_name"]] = job["dns_sd_configs"][0]["port"]
            else:
                found[job["job_name"]] = int(job["static_configs"][0]["targets"][0].rsplit(":", 1)[1])
        return found

    elsewhere = {"simulator", "containers", "node"}  # no simulated market, no machine of ours
    wanted = {job: port for job, port in ports(there["scrape_configs"]).items() if job not in elsewhere}
    assert ports(here["scrape_configs"]) == wanted
    assert [job["job_name"] for job in here["scrape_configs"] if "authorization" in job] == ["gateway"]
    # every target has the label that rules and Alertmanager go by
    for job in here["scrape_configs"]:
        labels = [one.get("target_label") for one in job.get("relabel_configs", [])]
        labels += [label for one in job.get("static_configs", []) for label in one["labels"]]
        assert labels == ["service"], job


def test_the_rules_are_those_of_monitoring_and_alerts_reach_the_topic(workspace, monitoring):
    folder = workspace.folder.parents[1] / "monitoring" / "prometheus" / "rules"
    rules = {f"rules/{path.name}": path.read_text() for path in folder.glob("*.yml")}
    assert len(rules) > 5
    assert {path: text for path, text in monitoring.items() if path.startswith("rules/")} == rules
    alertmanager = yaml.safe_load(monitoring["alertmanager.yml"])
    for receiver in alertmanager["receivers"]:
        assert receiver["sns_configs"][0]["topic_arn"].startswith("arn:")


def tool(name: str) -> str:
    for place in (shutil.which(name), Path.home() / ".cache" / "ai-ots" / "monitoring-tools" / name):
        if place and Path(place).exists():
            return str(place)
    pytest.skip(f"no {name}: ./start-dev.sh monitoring fetches it")


@pytest.mark.parametrize(
    ("name", "arguments", "file"),
    [("promtool", ["check", "config"], "prometheus.yml"), ("amtool", ["check-config"], "alertmanager.yml")],
)
def test_their_own_tools_take_these_files(monitoring, tmp_path, name, arguments, file):
    program = tool(name)
    for path, text in monitoring.items():
        written = tmp_path / path
        written.parent.mkdir(exist_ok=True)
        written.write_text(text.replace("/etc/monitoring/", f"{tmp_path}/"))
    (tmp_path / "gateway-token").write_text("x")
    done = subprocess.run([program, *arguments, str(tmp_path / file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("shell", [["sh"], ["busybox", "sh"]], ids=["sh", "busybox"])
def test_the_init_container_writes_them(desk, monitoring, tmp_path, shell):
    """Its script; the image's shell is busybox."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]}")
    container = desk.containers("aws_ecs_task_definition.monitoring[0]")["configure"]
    script = container["entryPoint"][2].replace("/etc/monitoring", str(tmp_path)).replace("chown 65534:65534", "true")
    given = {one["name"]: one["value"] for one in container["environment"]}
    subprocess.run(
        [*shell, "-c", script],
        env={"PATH": "/usr/bin:/bin", "METRICS_TOKEN": "a token", "DATABASE_CA": "-----BEGIN", **given},
        check=True,
    )
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {**monitoring, "gateway-token": "a token", "database-ca.pem": "-----BEGIN"}
    # task definitions take 64 KB
    assert sum(len(value) for value in given.values()) < 40_000


def test_alarms_are_told_and_listen_for_what_is_said(desk):
    alarms = desk.all_of("aws_cloudwatch_metric_alarm")
    named = {address.split('"')[1] for address in alarms}
    assert {"alb-5xx", "latency", "unhealthy-gateways", "no-gateway", "database-cpu", "database-storage",
            "database-connections", "redis-memory-001", "redis-evictions-002", "redis-lag", "spool-busy",
            "collector-silent"} <= named  # fmt: skip
    assert {f'aws_cloudwatch_metric_alarm.tasks_missing["{name}"]' for name in SERVICES} <= set(alarms)
    for address, alarm in alarms.items():
        assert alarm["alarm_actions"], address
        assert alarm["alarm_description"], address
    alive = desk.resources["aws_cloudwatch_log_metric_filter.collector_alive"]
    event = re.fullmatch(r'\{ \$\.event = "([a-z_]+)" \}', alive["pattern"])[1]
    assert f'log.info("{event}"' in (ROOT / "services/data-ingestion/ots_ingestion/collector.py").read_text()
    json.loads(desk.resources["aws_cloudwatch_dashboard.main"]["dashboard_body"])


def test_the_budget_tells_four_times(desk):
    budget = desk.resources["aws_budgets_budget.monthly[0]"]
    told = {(one["notification_type"], one["threshold"]) for one in budget["notification"]}
    assert told == {("ACTUAL", 50), ("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)}


# --- what it costs ---

COST = ROOT / "infrastructure" / "cost"


def priced(tmp_path: Path, plans: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    arguments = []
    for size, plan in plans.items():
        (tmp_path / f"{size}.json").write_text(json.dumps(plan))
        arguments.append(f"{size}={tmp_path}/{size}.json")
    command = [sys.executable, "-I", str(COST / "monthly_cost.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_page_says_what_the_script_counts(plans, tmp_path):
    done = priced(tmp_path, {size: plans[size].json for size in SIZES})
    assert done.returncode == 0, done.stderr
    table = "\n".join(line for line in done.stdout.splitlines() if line.startswith("|"))
    assert table in (ROOT / "docs" / "COST_AND_SCALE.md").read_text(), table


def test_what_has_no_price_is_no_sum(desk, tmp_path):
    other = json.loads(json.dumps(desk.json).replace("db.r7g.large", "db.x2g.large"))
    done = priced(tmp_path, {"desk": other})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "monthly_cost: prices.json has no db.x2g.large_hour\n"


def test_each_price_says_where_it_is_from():
    prices = json.loads((COST / "prices.json").read_text())
    assert re.fullmatch(r"\d{4}-\d{2}", prices["as_of"])
    for name, price in prices["prices"].items():
        assert price["usd"] > 0, name
        assert price["page"].startswith("https://aws.amazon.com/"), name


# --- TimescaleDB on an instance ---


def test_the_instance_is_closed_encrypted_and_comes_back(plans):
    plan = plans["timescale"]
    assert plan.all_of("aws_db_instance") == {}
    [instance] = plan.all_of("aws_instance").values()
    assert instance["metadata_options"][0]["http_tokens"] == "required"
    assert instance.get("key_name") is None
    assert instance["root_block_device"][0]["encrypted"]
    [volume] = plan.all_of("aws_ebs_volume").values()
    assert (volume["type"], volume["encrypted"], volume["final_snapshot"]) == ("gp3", True, True)
    recover = plan.resources["module.timescale_ec2[0].aws_cloudwatch_metric_alarm.recover"]
    assert any(action.endswith(":ec2:recover") for action in recover["alarm_actions"])
    url = {
        one["name"]: one["value"]
        for one in plan.containers("aws_ecs_task_definition.migrate")["migrate"]["environment"]
    }
    assert url["ADMIN_DATABASE_URL"].startswith("postgresql://ots_admin@")
    assert plan.all_of("aws_vpc_security_group_ingress_rule")
    ports = {rule["from_port"] for rule in plan.all_of("aws_vpc_security_group_ingress_rule").values()}
    assert 22 not in ports


def test_the_instances_first_start_is_a_shell_script(plans):
    [instance] = plans["timescale"].all_of("aws_instance").values()
    packed = base64.b64decode(instance["user_data_base64"])
    assert len(packed) < 16_384  # what EC2 takes
    script = gzip.decompress(packed).decode()
    assert "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$(echo 'vol-0123456789abcdef0' | tr -d -)" in script
    assert "subjectAltName=DNS:%s" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    if program := shutil.which("shellcheck"):
        subprocess.run([program, "-S", "warning", "-"], input=script, text=True, check=True)


def test_nothing_belongs_to_a_real_account(desk):
    numbers = set(re.findall(r"(?<![0-9a-f])\d{12}(?![0-9a-f])", json.dumps(desk.resources)))
    assert numbers <= {MOCK_ACCOUNT}
