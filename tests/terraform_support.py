"""Terraform's own judgement of infrastructure/terraform, and what it would make, without AWS.

`terraform test` plans with a mocked provider: what is asked for is checked against the real provider's schema, and all
that AWS would answer is made up, so that a plan knows its task definitions. Needs Terraform and, as a folder
(TF_MIRROR, /opt/tf-plugins), the provider; or OTS_TERRAFORM_DOWNLOADS=1 and the registry.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any

import pytest

from places import ROOT

TERRAFORM = ROOT / "infrastructure" / "terraform"
SIZES = ("small", "desk", "large")
MOCK_ACCOUNT = "0" * 12

# whose ARN others are given, which the provider looks at
_WITH_ARN = (
    "aws_acmpca_certificate_authority", "aws_cloudwatch_log_group", "aws_ecr_repository", "aws_ecs_cluster",
    "aws_ecs_task_definition", "aws_efs_access_point", "aws_efs_file_system", "aws_iam_openid_connect_provider",
    "aws_iam_policy", "aws_iam_role", "aws_kms_key", "aws_lb", "aws_lb_listener", "aws_lb_target_group",
    "aws_s3_bucket", "aws_secretsmanager_secret", "aws_service_discovery_http_namespace",
    "aws_service_discovery_service", "aws_sns_topic", "aws_wafv2_regex_pattern_set", "aws_wafv2_web_acl",
)  # fmt: skip
_MORE = {
    "aws_db_instance": {
        "arn": f"arn:aws:rds:us-east-1:{MOCK_ACCOUNT}:db:mock",
        "address": "database.example",
        "port": 5432,
        "master_user_secret": [{"secret_arn": f"arn:aws:secretsmanager:us-east-1:{MOCK_ACCOUNT}:secret:MASTER"}],
    },
    "aws_ebs_volume": {"id": "vol-0123456789abcdef0"},
    "aws_network_interface": {"private_dns_name": "ip-10-40-0-10.ec2.internal"},
    "aws_elasticache_replication_group": {"primary_endpoint_address": "redis.example"},
    "aws_acm_certificate": {
        "arn": f"arn:aws:acm:us-east-1:{MOCK_ACCOUNT}:certificate/mock",
        "domain_validation_options": [
            {
                "domain_name": "mock.example.com",
                "resource_record_name": "_mock.example.com",
                "resource_record_type": "CNAME",
                "resource_record_value": "mock",
            }
        ],
    },
    "aws_acm_certificate_validation": {"certificate_arn": f"arn:aws:acm:us-east-1:{MOCK_ACCOUNT}:certificate/mock"},
    "aws_acmpca_certificate_authority_certificate": {
        "certificate_authority_arn": f"arn:aws:acm-pca:us-east-1:{MOCK_ACCOUNT}:certificate-authority/mock"
    },
}
_DATA = {
    "aws_iam_policy_document": {"json": json.dumps({"Version": "2012-10-17", "Statement": []})},
    "aws_caller_identity": {"account_id": MOCK_ACCOUNT},
    "aws_partition": {"partition": "aws", "dns_suffix": "amazonaws.com"},
}


@dataclass(frozen=True)
class Plan:
    """What would be made. ``said``: errors and warnings; ``json``: as ``terraform show -json`` gives it."""

    resources: dict[str, dict[str, Any]]
    said: list[str]
    json: dict[str, Any]

    def all_of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Address -> arguments, of one type of resource, modules' included."""
        return {address: values for address, values in self.resources.items() if re.search(rf"(^|\.){kind}\.", address)}

    def containers(self, address: str) -> dict[str, dict[str, Any]]:
        """The containers of a task definition, by name."""
        definitions = loads(self.resources[address]["container_definitions"])
        return {one["name"]: one for one in definitions}


@functools.cache
def _mirror() -> Path | None:
    for place in (os.environ.get("TF_MIRROR"), "/opt/tf-plugins", "/usr/local/share/terraform/plugins"):
        if place and (Path(place) / "registry.terraform.io" / "hashicorp" / "aws").is_dir():
            return Path(place)
    return None


class Workspace:
    """A copy of the folder, and of what it reads beside it, where Terraform has been initialised."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("terraform") is None:
            pytest.skip("no terraform on PATH: infrastructure/terraform is not judged")
        mirror = _mirror()
        if mirror is None and os.environ.get("OTS_TERRAFORM_DOWNLOADS") != "1":
            pytest.skip("no folder with Terraform's AWS provider (set TF_MIRROR, or OTS_TERRAFORM_DOWNLOADS=1)")
        self.folder = folder / "infrastructure" / "terraform"
        ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars", "tests")
        shutil.copytree(TERRAFORM, self.folder, ignore=ignored)
        for name in ("prometheus", "alertmanager"):
            shutil.copytree(ROOT / "monitoring" / name, folder / "monitoring" / name)
        (self.folder / "local_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))},
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if mirror is not None:
            configuration = folder / "mirror.tfrc"
            configuration.write_text(
                f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
            )
            self._environment["TF_CLI_CONFIG_FILE"] = str(configuration)
        done = self.run("init", "-no-color")
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of Terraform there."""
        return subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    def plans(self, variables: dict[str, str]) -> dict[str, Plan]:
        """Name -> the text of a tfvars file, each planned."""
        tests = self.folder / "tests"
        tests.mkdir(exist_ok=True)
        runs = [
            f'run "{name}" {{\n  command = plan\n  variables {{\n{text}\n  }}\n}}\n' for name, text in variables.items()
        ]
        (tests / "plans.tftest.hcl").write_text("\n".join([_mocks(), *runs]))
        done = self.run("test", "-json", "-verbose")
        said: dict[str, list[str]] = {name: [] for name in variables}
        found: dict[str, dict[str, Any]] = {}
        for line in done.stdout.splitlines():
            event = json.loads(line)
            run = event.get("@testrun")
            if event["type"] == "diagnostic":
                text = f"{event['diagnostic']['summary']}: {event['diagnostic'].get('detail', '')}"
                for name in [run] if run else list(variables):
                    said[name].append(text)
            elif event["type"] == "test_plan":
                found[run] = {key: event["test_plan"][key] for key in ("resource_changes", "output_changes")}
        assert sorted(found) == sorted(variables), (said, done.stderr[-2000:])
        return {name: Plan(_made(plan), said[name], plan) for name, plan in found.items()}


def _made(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["address"]: one["change"]["after"] for one in plan["resource_changes"] if one["mode"] == "managed"}


def secret_names() -> list[str]:
    """Of secrets.tf, in its order."""
    return re.findall(r"^    ([A-Z_]+) += \"", (TERRAFORM / "secrets.tf").read_text(), re.M)


def _mocks() -> str:
    resources = {kind: {"arn": f"arn:aws:mock:us-east-1:{MOCK_ACCOUNT}:{kind}/mock"} for kind in _WITH_ARN} | _MORE
    lines = ['mock_provider "aws" {', "  override_during = plan"]
    for word, kinds in (("mock_data", _DATA), ("mock_resource", resources)):
        for kind, values in kinds.items():
            lines += [f'  {word} "{kind}" {{', f"    defaults = {json.dumps(values)}", "  }"]
    lines.append("}")
    for name in secret_names():
        arn = f"arn:aws:secretsmanager:us-east-1:{MOCK_ACCOUNT}:secret:{name}"
        lines += [
            "override_resource {",
            f'  target          = aws_secretsmanager_secret.platform["{name}"]',
            "  override_during = plan",
            f'  values          = {{ arn = "{arn}" }}',
            "}",
        ]
    return "\n".join(lines)
