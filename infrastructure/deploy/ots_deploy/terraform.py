"""Terraform's command line, for one environment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ots_deploy.environment import TERRAFORM, Environment
from ots_deploy.errors import DeployError
from ots_deploy.shell import Shell

# what must be there before the rest can be: where images and secrets are put
PLACES = ("aws_ecr_repository.service", "aws_secretsmanager_secret.platform")
# behind the files of variables: the last one wins
_UNPROTECTED = "-var=deletion_protection=false"
_SERVICE = re.compile(
    r'^    "?([a-z-]+)"? = \{\n\s+compose_service\s*=\s*"[\w-]+",\s*repository\s*=\s*"(\w+)"', re.MULTILINE
)


@dataclass(frozen=True)
class Service:
    """One service of ECS, as Terraform describes it."""

    ecs_name: str
    task_definition: str
    desired_count: int
    scales: bool
    log_group: str


@dataclass(frozen=True)
class Migration:
    """The one-off task."""

    task_definition: str
    log_group: str
    network: Mapping[str, Any]


@dataclass(frozen=True)
class Outputs:
    """Of Terraform's outputs those that a deployment needs; parts are empty until they are applied."""

    url: str
    cluster: str
    target_group: str
    repositories: Mapping[str, str]
    services: Mapping[str, Service]
    migrate: Migration | None
    secrets: Mapping[str, str]
    vendor_key: bool

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Outputs:
        """Of what ``terraform output -json`` says."""
        values = {name: each["value"] for name, each in told.items()}
        groups = values.get("log_groups", {})
        migrate = values.get("migrate")
        return cls(
            url=values.get("url", ""),
            cluster=values.get("cluster", ""),
            target_group=values.get("target_group", ""),
            repositories=values.get("repositories", {}),
            services={
                name: Service(
                    ecs_name,
                    values["task_definitions"][name],
                    values["desired_counts"][name],
                    name in values["scaled_services"],
                    groups[name],
                )
                for name, ecs_name in values.get("services", {}).items()
            },
            migrate=migrate
            and Migration(
                migrate["task_definition"],
                groups["migrate"],
                {
                    "awsvpcConfiguration": {
                        "subnets": migrate["subnets"],
                        "securityGroups": migrate["security_groups"],
                        "assignPublicIp": "DISABLED",
                    }
                },
            ),
            secrets=values.get("secrets", {}),
            vendor_key=values.get("vendor_key", True),
        )


class Terraform:
    """Runs it in its folder, with a data folder for each environment, so that two do not mix."""

    def __init__(self, shell: Shell, environment: Environment, bucket: str) -> None:
        self._shell = shell
        self._environment = environment
        self._bucket = bucket
        self._images = environment.work / "images.tfvars.json"
        self._plan = environment.work / "plan"

    def init(self) -> None:
        """Get the provider and read the state. It is asked every time, because a checkout may be new."""
        if not self._shell.dry:
            self._environment.work.mkdir(parents=True, exist_ok=True, mode=0o700)
        backend = {"bucket": self._bucket, "key": self._environment.state_key, "region": self._environment.region}
        settings = [f"-backend-config={name}={value}" for name, value in backend.items()]
        self._run("init", "-input=false", "-reconfigure", *settings)

    def remember_images(self, images: Mapping[str, str]) -> None:
        """Image -> its reference by digest: what plans are for, from now on."""
        if self._shell.dry:
            self._shell.say(f"  # {self._images}: the images above, by their digests")
            return
        self._images.write_text(json.dumps({"images": dict(images)}))

    def make_places(self) -> None:
        """Where images and secrets go, before there are any."""
        targets = [f"-target={each}" for each in PLACES]
        self._run("apply", "-input=false", "-auto-approve", *targets, *self._variables(), shown=True)

    def plan(self) -> bool:
        """Show what would change; whether anything would."""
        words = ("plan", "-input=false", "-detailed-exitcode", f"-out={self._plan}")
        done = self._run(*words, *self._variables(), accept=(0, 2), shown=True)
        return self._shell.dry or done.status == 2

    def apply(self) -> None:
        """What the plan said, and nothing else."""
        self._run("apply", "-input=false", str(self._plan), shown=True)

    def allow_deletion(self) -> None:
        """Take off what protects from a deletion."""
        self._run("apply", "-input=false", "-auto-approve", *self._variables(), _UNPROTECTED, shown=True)

    def destroy(self) -> None:
        """Everything of the environment."""
        self._run("destroy", "-input=false", "-auto-approve", *self._variables(), _UNPROTECTED, shown=True)

    def outputs(self) -> Outputs:
        """As of the last apply."""
        if self._shell.dry:
            self._run("output", "-json")
            return planned_outputs(self._environment)
        return Outputs.of(json.loads(self._run("output", "-json").out))

    def _variables(self) -> list[str]:
        words = [f"-var-file={self._environment.variables}"]
        if self._shell.dry or self._images.exists():
            words.append(f"-var-file={self._images}")
        return words

    def _run(self, *words: str, accept: tuple[int, ...] = (0,), shown: bool = False) -> Any:
        return self._shell.run(
            "terraform",
            f"-chdir={TERRAFORM}",
            *words,
            accept=accept,
            shown=shown,
            environment={"TF_DATA_DIR": str(self._environment.work / "terraform"), "TF_IN_AUTOMATION": "1"},
        )


def services_in(folder: Path = TERRAFORM) -> dict[str, str]:
    """Service -> repository, as services.tf has them; a dry run has no outputs to read them from."""
    found = dict(_SERVICE.findall((folder / "services.tf").read_text()))
    if not found:
        raise DeployError("infrastructure/terraform/services.tf names no service")
    return found


def planned_outputs(environment: Environment) -> Outputs:
    """What a dry run takes for the outputs."""
    name, region = environment.full_name, environment.region
    services = services_in()
    repositories = {
        each: f"ACCOUNT.dkr.ecr.{region}.amazonaws.com/{name}/{each}" for each in dict.fromkeys(services.values())
    }
    return Outputs(
        url=f"https://{environment.settings.get('domain_name', 'DOMAIN')}",
        cluster=name,
        target_group="TARGET_GROUP",
        repositories=repositories,
        services={each: Service(each, f"{name}-{each}:NEW", 1, False, f"/{name}/{each}") for each in services},
        migrate=Migration(f"{name}-migrate:NEW", f"/{name}/migrate", {"awsvpcConfiguration": {}}),
        secrets={"EVERY_SECRET": "ARN"},
        vendor_key=True,
    )
