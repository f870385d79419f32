"""Whether this machine and these credentials can deploy: all that is missing at once, before anything begins."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ots_deploy.environment import Environment
from ots_deploy.errors import NOT_READY, DeployError
from ots_deploy.shell import Aws, Done, Shell


@dataclass(frozen=True)
class Tool:
    """A program, how it says its version, the least that will do, and where it is to be had."""

    name: str
    words: tuple[str, ...]
    least: tuple[int, ...]
    get: str


TERRAFORM = Tool("terraform", ("terraform", "version"), (1, 11), "https://developer.hashicorp.com/terraform/install")
AWS = Tool("aws", ("aws", "--version"), (1, 40), "https://docs.aws.amazon.com/cli/latest/userguide/install-cliv2.html")
AWS_2 = Tool(AWS.name, AWS.words, (2,), f"`aws logs tail` came with version 2; {AWS.get}")
DOCKER = Tool(
    "docker",
    ("docker", "version", "--format", "{{.Server.Version}}"),
    (20, 10),
    "https://docs.docker.com/engine/install, and start its engine",
)
BUILDX = Tool("docker buildx", ("docker", "buildx", "version"), (0, 10), "https://docs.docker.com/build/install-buildx")
GIT = Tool("git", ("git", "--version"), (2,), "https://git-scm.com/downloads")

NEEDED = {
    "deploy": (TERRAFORM, AWS, DOCKER, BUILDX, GIT),
    "plan": (TERRAFORM, AWS, GIT),
    "migrate": (TERRAFORM, AWS),
    "rollback": (TERRAFORM, AWS),
    "rotate": (TERRAFORM, AWS),
    "status": (TERRAFORM, AWS),
    "logs": (TERRAFORM, AWS_2),
    "destroy": (TERRAFORM, AWS),
}


def check(shell: Shell, command: str, environment: Environment) -> str:
    """The account of the credentials. Raises :class:`DeployError` that names all that is missing."""
    missing = [problem for tool in NEEDED[command] if (problem := _problem(shell, tool))]
    account = "ACCOUNT"
    if not missing or not any(line.startswith("aws:") for line in missing):
        try:
            identity = Aws(shell, environment.region).call("sts", "get-caller-identity", planned={"Account": account})
            account = identity["Account"]
        except (DeployError, json.JSONDecodeError, KeyError):
            missing.append(
                "credentials: AWS knows nobody here; `aws sso login` or `aws configure`, or set AWS_PROFILE "
                "(`aws sts get-caller-identity` must answer)"
            )
    if missing:
        raise DeployError("not ready:\n" + "\n".join(f"  {line}" for line in missing), NOT_READY)
    return account


def _problem(shell: Shell, tool: Tool) -> str | None:
    wanted = ".".join(str(part) for part in tool.least)
    try:
        done = shell.run(*tool.words, planned=f"{wanted}.0", note=f"{wanted} or later", accept=tuple(range(256)))
    except DeployError:
        done = Done(127, "")
    found = re.search(r"\d+(?:\.\d+)+", done.out + done.err)
    if done.status or found is None:
        return f"{tool.name}: does not answer; {tool.get}"
    if tuple(int(part) for part in found[0].split(".")[: len(tool.least)]) < tool.least:
        return f"{tool.name}: {found[0]} is too old, {wanted} at least; {tool.get}"
    return None
