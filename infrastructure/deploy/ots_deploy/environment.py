"""One environment: what its .tfvars says, and where its things lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ots_deploy.errors import NOT_READY, DeployError

ROOT = Path(__file__).resolve().parents[3]
TERRAFORM = ROOT / "infrastructure" / "terraform"
WORK = ROOT / ".deploy"
_TEXT = re.compile(r'^\s*(\w+)\s*=\s*"([^"]*)"\s*(?:#.*)?$', re.MULTILINE)
_DEFAULT = re.compile(r'^variable "(\w+)" \{(?:(?!^\}).)*?^  default\s*=\s*"([^"]*)"', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Environment:
    """``settings``: the variables of Terraform that are plain text, those not set with their defaults."""

    name: str
    variables: Path
    settings: dict[str, str]

    @property
    def full_name(self) -> str:
        """As Terraform's ``local.name``."""
        return f"{self.settings['project']}-{self.name}"

    @property
    def region(self) -> str:
        """Of everything."""
        return self.settings["region"]

    @property
    def platform(self) -> str:
        """As docker calls the processor of ``cpu_architecture``."""
        return {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}[self.settings["cpu_architecture"]]

    @property
    def work(self) -> Path:
        """What lies here between two steps; nothing in it is needed again."""
        return WORK / self.name

    @property
    def state_key(self) -> str:
        """Where Terraform's state lies in the bucket."""
        return f"{self.full_name}/terraform.tfstate"

    @property
    def lock_key(self) -> str:
        """By its end the role of GitHub's workflow may delete it."""
        return f"{self.full_name}/deploy.tflock"

    @property
    def releases_key(self) -> str:
        """Where the list of releases lies there."""
        return f"{self.full_name}/releases.json"

    def state_bucket(self, account: str) -> str:
        """The bucket, which ``state_bucket`` may name."""
        return self.settings.get("state_bucket") or f"{self.full_name}-state-{account}"


def environment(name: str | None, *, dry: bool = False) -> Environment:
    """Of ``environments/NAME.tfvars``; without a name, the only one that is there. A dry run takes an example, too.

    Raises :class:`DeployError` when there is none, or it is another's.
    """
    there = TERRAFORM / "environments"
    if name is None:
        names = sorted(path.stem for path in there.glob("*.tfvars"))
        if len(names) > 1:
            raise DeployError(f"which? --environment {' or '.join(names)}", NOT_READY)
        name = names[0] if names else "desk"
    variables = there / f"{name}.tfvars"
    if dry and not variables.is_file():
        variables = there / f"{name}.tfvars.example"
    if not variables.is_file():
        examples = ", ".join(sorted(each.name for each in there.glob("*.tfvars.example")))
        raise DeployError(
            f"{variables} is not there: copy one of the examples beside it ({examples}) and fill it in", NOT_READY
        )
    texts = "".join(path.read_text() for path in sorted(TERRAFORM.glob("variables*.tf")))
    settings = {**dict(_DEFAULT.findall(texts)), **dict(_TEXT.findall(variables.read_text()))}
    if settings.get("environment") != name:
        raise DeployError(f'{variables} must say environment = "{name}"', NOT_READY)
    return Environment(name, variables, settings)
