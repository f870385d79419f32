"""./deploy-prod.sh against command lines that only remember: what it does, in which order, and when it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from deploy.fake_cloud import COMMIT, SECRETS, SERVICES, Cloud
from ots_deploy import environment as environments
from ots_deploy import shell as shells
from ots_deploy import terraform as terraforms
from ots_deploy.__main__ import main
from ots_deploy.images import folder_of
from ots_deploy.state import LEASE_S
from ots_deploy.terraform import services_in
from ots_native.env_file import SECRETS as MADE
from places import ROOT

TERRAFORM = ROOT / "infrastructure" / "terraform"
LOCK = "s3://ots-desk-state-123456789012/ots-desk/deploy.tflock"
RELEASES = "s3://ots-desk-state-123456789012/ots-desk/releases.json"
NEXT = "9e107d9d372bb6826bd81d3542a419d6e5a1b2c3"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An account with nothing in it, and an environment `desk`."""
    made = Cloud()
    folder = tmp_path / "terraform"
    (folder / "environments").mkdir(parents=True)
    (folder / "environments" / "desk.tfvars").write_text('environment = "desk"\ndomain_name = "ots.example.com"\n')
    for each in TERRAFORM.glob("variables*.tf"):
        (folder / each.name).write_text(each.read_text())
    monkeypatch.setattr(environments, "TERRAFORM", folder)
    monkeypatch.setattr(environments, "WORK", tmp_path / "work")
    monkeypatch.setattr(terraforms, "services_in", lambda: dict(SERVICES))
    monkeypatch.setattr("ots_deploy.release.services_in", lambda: dict(SERVICES))
    monkeypatch.setattr(shells, "execute", made.execute)
    monkeypatch.setenv("DATABENTO_API_KEY", "db-of-the-desk")
    monkeypatch.delenv("PYTHON_IMAGE", raising=False)
    return made


def deploy(*words: str) -> int:
    return main([*(words or ("deploy",)), "--yes", "--poll-s", "0"])


# --- deploy ---


def test_the_first_deployment_makes_everything_in_its_order(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    assert deploy() == 0
    steps = cloud.order(
        "aws sts get-caller-identity",
        "aws s3api create-bucket",
        "aws s3api put-object",
        f"terraform -chdir={TERRAFORM} init",
        f"terraform -chdir={TERRAFORM} apply -input=false -auto-approve -target=aws_ecr_repository.service",
        "aws secretsmanager put-secret-value",
        "docker login",
        "docker buildx build",
        f"terraform -chdir={TERRAFORM} plan",
        f"terraform -chdir={TERRAFORM} apply -input=false {environments.WORK}",
        "aws elasticache modify-replication-group",
        "aws ecs run-task",
        "aws ecs update-service",
        "aws elbv2 describe-target-health",
        f"aws s3 cp - {RELEASES}",
        "aws s3api delete-object",
    )
    assert steps == sorted(steps)
    # the gateway, which faces the clients, when those behind it are well; as many as Terraform says
    assert [(name, count) for name, _, count in cloud.moved()] == [
        ("cache", "2"), ("collector", "1"), ("analytics", "1"), ("analytics-snapshots", "1"), ("gateway", "2"),
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "https://ots.example.com" in said
    assert [each["name"] for each in json.loads(cloud.objects[RELEASES])] == [COMMIT[:12]]
    assert LOCK not in cloud.objects


def test_secrets_are_strong_and_told_to_nobody(cloud: Cloud, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert deploy() == 0
    assert set(cloud.secrets) == set(SECRETS)
    assert cloud.secrets["DATABENTO_API_KEY"] == "db-of-the-desk"
    assert "BEGIN CERTIFICATE" in cloud.secrets["DATABASE_CA"]
    words = capsys.readouterr()
    everything = "\n".join(cloud.said()) + words.out + words.err
    everything += "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    for name, value in cloud.secrets.items():
        if name != "DATABASE_CA":
            assert value not in everything, name
            assert name == "DATABENTO_API_KEY" or len(value) >= 43
    assert cloud.auth, "Redis does not ask for its password"


def test_images_are_of_the_commit_and_run_by_digest(cloud: Cloud):
    assert deploy() == 0
    builds = [words for words in cloud.calls if words[:3] == ("docker", "buildx", "build")]
    files = [word for words in builds for word in words if word.startswith("--file=")]
    assert [re.search(r"services/(.+)/Dockerfile", file)[1] for file in files] == [
        "api-gateway", "cache", "data-ingestion", "analytics", "signals",
    ]  # fmt: skip
    for words in builds:
        assert any(re.fullmatch(r"--build-arg=PYTHON_IMAGE=python:3\.12\.\S+@sha256:b{64}", word) for word in words)
        assert "--build-arg=SOURCE_DATE_EPOCH=1764500000" in words
        assert f"--label=org.opencontainers.image.revision={COMMIT}" in words
        assert "--platform=linux/amd64" in words
        assert any(word.endswith(",push=true,rewrite-timestamp=true") for word in words)
        assert str(words[-1]).startswith(str(environments.WORK)), "built from files that may not be the commit's"
    registry = "1.dkr.ecr.us-east-1.amazonaws.com/ots-desk"
    assert cloud.running == {
        each: f"{registry}/{each}@sha256:{each}-{COMMIT[:12]}"
        for each in [*dict.fromkeys(SERVICES.values()), "signals"]
    }


def test_typed_again_it_changes_nothing(cloud: Cloud):
    assert deploy() == 0
    secrets, before = dict(cloud.secrets), len(cloud.calls)
    assert deploy() == 0
    again = [" ".join(words) for words in cloud.calls[before:]]
    assert cloud.secrets == secrets
    for never in ("create-bucket", "buildx build", "put-secret-value", "modify-replication-group", " apply "):
        assert not [line for line in again if never in line], never
    # how many run of what scales is the autoscaling's affair by now
    assert {name: count for name, _, count in cloud.moved()[5:]} == {
        "gateway": "", "cache": "", "collector": "1", "analytics": "1", "analytics-snapshots": "1",
    }  # fmt: skip


def test_a_failed_migration_leaves_the_services_alone(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    cloud.migration_status = 1
    assert deploy() == 6
    assert cloud.moved() == []
    assert "provision: permission denied" in capsys.readouterr().err
    assert LOCK not in cloud.objects


@pytest.mark.parametrize("sick", ["analytics", "gateway"])
def test_a_release_that_does_not_become_well_goes_back(cloud: Cloud, sick: str, capsys: pytest.CaptureFixture[str]):
    assert deploy() == 0
    first = dict(cloud.running)
    cloud.commit, cloud.sick = NEXT, {f"{sick}:2"}
    before = len(cloud.moved())
    assert deploy() == 7
    moved = cloud.moved()[before:]
    assert ("gateway", "gateway:2", "") in moved if sick == "gateway" else ("gateway", "gateway:2", "") not in moved
    assert {name: each["task"] for name, each in cloud.services.items()} == {name: f"{name}:1" for name in SERVICES}
    assert f"{sick}: ECS went back to {sick}:1" in capsys.readouterr().out
    # the release before is still the one that a rollback counts from
    assert [each["images"] for each in json.loads(cloud.objects[RELEASES])] == [first]


def test_a_first_release_that_fails_rests_again(cloud: Cloud):
    cloud.fails = lambda words: "Throttled" if "elbv2" in words else None
    assert deploy() == 7
    assert {each["count"] for each in cloud.services.values()} == {0}
    assert RELEASES not in cloud.objects


def test_a_first_deployment_that_failed_rests_and_is_tried_again(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    cloud.failing = {"analytics"}
    assert deploy() == 7
    assert "analytics: tasks failed to start" in capsys.readouterr().out
    assert {each["count"] for each in cloud.services.values()} == {0}
    assert deploy() == 0
    assert cloud.services["analytics"]["count"] == 1


def test_when_going_back_fails_too_it_says_so(cloud: Cloud):
    assert deploy() == 0
    cloud.commit, cloud.sick = NEXT, {"cache:2"}
    updates = 0

    def broken(words: tuple[str, ...]) -> str | None:
        nonlocal updates
        updates += words[:3] == ("aws", "ecs", "update-service")
        return "AccessDenied" if updates > len(SERVICES) - 1 and "update-service" in words else None

    cloud.fails = broken
    assert deploy() == 8


# --- interrupted, and two at once ---


@pytest.mark.parametrize(
    "at", ["create-bucket", "put-secret-value", "buildx", "plan", "run-task", "update-service", "elbv2"]
)
def test_interrupted_anywhere_it_goes_on_from_there(cloud: Cloud, at: str):
    interrupted: list[str] = []

    def interrupt(words: tuple[str, ...]) -> None:
        if at in words and not interrupted:
            interrupted.append(at)
            raise KeyboardInterrupt

    cloud.before = interrupt
    assert deploy() == 130
    secrets = dict(cloud.secrets)
    assert LOCK not in cloud.objects
    assert deploy() == 0
    assert set(cloud.secrets) == set(SECRETS)
    assert {name: cloud.secrets[name] for name in secrets} == secrets
    assert {each["task"].rpartition(":")[0] for each in cloud.services.values()} == set(SERVICES)
    assert cloud.services["gateway"]["count"] == 2


TERRAFORM_LIKE = """
trap 'echo saved >"$1/state"; exit 1' INT
touch "$1/begun"
while :; do sleep 0.05; done
"""
INTERRUPTED = """
import sys
from ots_deploy import __main__ as program
from ots_deploy.shell import Shell
from pathlib import Path
class Deployment:
    def __init__(self, *_):
        pass
    def deploy(self):
        Shell().run("bash", "-c", sys.argv[2], "terraform", sys.argv[1], shown=sys.argv[3] == "shown")
program.environment = program.check = lambda *_, **__: None
program.Deployment, program.COMMANDS = Deployment, {"deploy": Deployment.deploy}
sys.exit(program.main(["deploy"]))
"""


@pytest.mark.parametrize("shown", ["shown", "heard"])
def test_terraform_saves_its_state_before_we_end(tmp_path: Path, shown: str):
    """Whoever kills it in the middle loses what it has made."""
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path), TERRAFORM_LIKE, shown]
    path = os.pathsep.join([str(ROOT / "infrastructure/deploy"), str(ROOT / "infrastructure/native")])
    environment = {**os.environ, "PYTHONPATH": path}

    def heed_interrupts() -> None:
        # what a shell starts in its background ignores them, and so does all that it starts
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        words, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert (tmp_path / "state").read_text() == "saved\n"
    assert "the same command goes on from there" in told


def test_two_do_not_deploy_at_once(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    cloud.bucket = True
    other = {"who": "ann@desk", "command": "deploy", "since": "2026-12-01T14:00:00Z", "renewed": time.time()}
    cloud.objects[LOCK] = json.dumps(other)
    assert deploy() == 4
    assert "ann@desk is at `deploy` since 2026-12-01T14:00:00Z" in capsys.readouterr().err
    assert not [line for line in cloud.said() if line.startswith("terraform -chdir")]
    assert LOCK in cloud.objects, "somebody else's lock was taken away"


def test_the_lock_of_somebody_who_was_killed_is_taken_over(cloud: Cloud):
    cloud.bucket = True
    other = {"who": "ann@desk", "command": "deploy", "since": "", "renewed": time.time() - LEASE_S - 1}
    cloud.objects[LOCK], cloud.etags[LOCK] = json.dumps(other), "7"
    assert deploy() == 0
    assert LOCK not in cloud.objects


def test_a_lock_that_cannot_be_given_back_does_not_hide_what_failed(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    cloud.migration_status = 1
    cloud.fails = lambda words: "no route to host" if "delete-object" in words else None
    assert deploy() == 6
    told = capsys.readouterr()
    assert "the migration failed with 1" in told.err
    assert "free in 300 s" in told.out


# --- before anything begins ---


def test_all_that_is_missing_is_named_at_once(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    cloud.missing_tools, cloud.credentials = {"terraform", "docker"}, False
    assert deploy() == 3
    told = capsys.readouterr().err
    for each in ("terraform: does not answer; https://", "docker: does not", "docker buildx: does not", "credentials:"):
        assert each in told
    assert not [line for line in cloud.said() if "s3api" in line]


def test_files_that_are_no_commit_are_not_deployed(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    cloud.dirty = " M services/cache/Dockerfile\n"
    assert deploy() == 3
    assert "services/cache/Dockerfile" in capsys.readouterr().err
    assert not cloud.bucket


def test_without_the_vendors_key_it_says_what_to_do(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.delenv("DATABENTO_API_KEY")
    assert deploy() == 3
    assert "vendor_key = false" in capsys.readouterr().err
    assert not cloud.images


def test_nothing_happens_without_a_yes(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("builtins.input", lambda question: "")
    assert main(["deploy"]) == 5
    assert not cloud.bucket
    answers = iter(["y", "n"])
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert main(["deploy"]) == 5
    assert not cloud.services, "a plan was applied that nobody agreed to"


def test_another_environments_file_is_refused(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    folder = environments.TERRAFORM / "environments"
    (folder / "prod.tfvars").write_text((folder / "desk.tfvars").read_text())
    assert deploy("deploy", "--environment", "prod") == 3
    assert 'must say environment = "prod"' in capsys.readouterr().err
    assert deploy() == 3
    assert "--environment desk or prod" in capsys.readouterr().err
    assert deploy("deploy", "--environment", "none") == 3


# --- the other commands ---


def test_rollback_goes_to_the_release_before(cloud: Cloud):
    assert deploy() == 0
    cloud.commit = NEXT
    assert deploy() == 0
    assert deploy("rollback") == 0
    assert {name: each["task"] for name, each in cloud.services.items()} == {name: f"{name}:1" for name in SERVICES}
    assert [each["name"] for each in json.loads(cloud.objects[RELEASES])] == [COMMIT[:12], NEXT[:12], COMMIT[:12]]
    assert deploy("rollback") == 0
    assert cloud.services["gateway"]["task"] == "gateway:2"
    assert deploy("rollback", "--to", COMMIT[:6]) == 0
    assert cloud.services["gateway"]["task"] == "gateway:1"


def test_there_may_be_nothing_to_go_back_to(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    assert deploy("rollback") == 1
    assert "ots-desk is not there" in capsys.readouterr().err
    assert deploy() == 0
    assert deploy("rollback") == 1
    assert "no release before this one" in capsys.readouterr().err


def test_status_tells_what_runs_and_whether_it_is_well(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    assert deploy() == 0
    capsys.readouterr()
    assert deploy("status") == 0
    told = capsys.readouterr().out
    assert re.search(r"^gateway +2/2  completed +:1 +sha256:", told, re.MULTILINE)
    for each in (*SERVICES, "last migration: 2025-11-30T", f"release: {COMMIT[:12]}", "url: https://ots.example.com"):
        assert each in told
    cloud.services["cache"]["count"] = 0
    assert deploy("status") == 9
    assert "not well: cache" in capsys.readouterr().out


def test_destroy_wants_the_name_typed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    assert deploy() == 0
    for typed in ("", "y", "production"):
        monkeypatch.setattr("builtins.input", lambda question, typed=typed: typed)
        assert deploy("destroy") == 5
    assert cloud.services
    monkeypatch.setattr("builtins.input", lambda question: "desk")
    assert deploy("destroy") == 0
    assert not cloud.services
    last = [words for words in cloud.calls if words[0] == "terraform"][-1]
    # behind the files, whose word it overrules
    assert last[2] == "destroy"
    assert last[-1] == "-var=deletion_protection=false"


def test_rotated_secrets_reach_everybody(cloud: Cloud):
    assert deploy() == 0
    before, calls = dict(cloud.secrets), len(cloud.calls)
    assert deploy("rotate", "REDIS_PASSWORD", "DB_PASSWORD_OWNER") == 0
    assert {name for name in SECRETS if cloud.secrets[name] != before[name]} == {"REDIS_PASSWORD", "DB_PASSWORD_OWNER"}
    later = list(zip(cloud.calls[calls:], cloud.given[calls:], strict=True))
    told = [
        json.loads(given)["AuthTokenUpdateStrategy"] for words, given in later if "modify-replication-group" in words
    ]
    assert told == ["ROTATE", "SET"]
    steps = [" ".join(words[1:3]) for words, _ in later]
    # both tokens are taken while services start anew, and roles have their passwords before that
    assert steps.index("elasticache modify-replication-group") < steps.index("ecs run-task")
    assert steps.index("ecs run-task") < steps.index("ecs update-service")
    assert all("--force-new-deployment" in words for words, _ in later if "update-service" in words)
    last_modify = len(steps) - 1 - steps[::-1].index("elasticache modify-replication-group")
    last_update = len(steps) - 1 - steps[::-1].index("ecs update-service")
    assert last_update < last_modify
    assert deploy("rotate", "NO_SUCH") == 1


def test_logs_are_of_a_service_that_there_is(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    assert deploy() == 0
    assert deploy("logs", "migrate", "--since", "2h", "--follow") == 0
    assert "aws logs tail /ots-desk/migrate --since 2h --format short --follow" in cloud.said()[-1]
    assert deploy("logs", "nobody") == 1
    assert "there are analytics, analytics-snapshots, cache" in capsys.readouterr().err


def test_plan_and_migrate_do_only_that(cloud: Cloud):
    assert deploy("plan") == 0
    assert not cloud.applied
    assert deploy("migrate") == 1, "there is nothing to migrate yet"
    assert deploy() == 0
    moved = len(cloud.moved())
    assert deploy("migrate") == 0
    assert len(cloud.moved()) == moved


# --- a dry run ---


@pytest.mark.parametrize(
    "command", ["deploy", "plan", "migrate", "status", "rollback", "rotate X", "logs gateway", "destroy"]
)
def test_a_dry_run_asks_nobody(cloud: Cloud, command: str, capsys: pytest.CaptureFixture[str]):
    assert main([*command.split(), "--dry-run"]) == 0
    assert {words[0] for words in cloud.calls} <= {"git"}, "of this checkout only"
    assert "terraform" in capsys.readouterr().out
    assert not environments.WORK.exists()


def test_a_dry_run_prints_what_a_first_deployment_then_does(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    assert main(["deploy", "--dry-run"]) == 0
    printed = [
        line.partition(" # ")[0].split()[:3] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")
    ]
    planned = [tuple(words) for words in printed if words and words[0] in ("aws", "docker", "tar", "curl")]
    cloud.calls.clear()
    assert deploy() == 0
    did = [words[:3] for words in cloud.calls if words[0] in ("aws", "docker", "tar", "curl")]
    assert kinds(planned) == kinds(did)


def kinds(calls: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Each kind once, where it is first seen; what is asked about an object before it is written is left out."""
    return [*dict.fromkeys(words for words in calls if words[2:3] not in (("describe-images",), ("cp",)))]


def test_the_script_runs_without_anything_installed():
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    words = [ROOT / "deploy-prod.sh", "deploy", "--dry-run", "--environment", "small"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "docker buildx build --platform=linux/arm64" in done.stdout
    assert "terraform -chdir=" in done.stdout


# --- it agrees with the rest of the repository ---


def test_images_and_services_are_terraforms_and_composes():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    built = {each["image"]: each["build"]["dockerfile"] for each in compose.values() if "build" in each}
    for repository in dict.fromkeys(services_in(TERRAFORM).values()):
        path = ROOT / "services" / folder_of(repository) / "Dockerfile"
        dockerfile = built.get(f"ai-ots/{repository}:development")
        assert dockerfile is None or ROOT / dockerfile == path
    of_services = set(re.findall(r"^\s+compose_service = ", (TERRAFORM / "services.tf").read_text(), re.MULTILINE))
    assert of_services
    assert len(services_in(TERRAFORM)) == len(
        re.findall(r"^\s+compose_service\s*=", (TERRAFORM / "services.tf").read_text(), re.MULTILINE)
    )


def test_every_secret_of_terraform_can_be_made():
    names = set(re.findall(r"^ +([A-Z][A-Z_]+)\s+= \"", (TERRAFORM / "secrets.tf").read_text(), re.MULTILINE))
    assert len(names) > 15
    assert names - set(MADE) == {"DATABENTO_API_KEY", "DATABASE_CA"}


def test_the_outputs_are_terraforms():
    outputs = (TERRAFORM / "outputs.tf").read_text()
    written = set(re.findall(r'^output "(\w+)"', outputs, re.MULTILINE))
    cloud = Cloud()
    cloud._apply({})
    assert {*cloud.applied, "repositories", "secrets"} <= written
    (migrate,) = re.findall(r'^output "migrate" \{.*?^\}', outputs, re.MULTILINE | re.DOTALL)
    for name in cloud.applied["migrate"]:
        assert re.search(rf"^    {name}\s+= ", migrate, re.MULTILINE), name
