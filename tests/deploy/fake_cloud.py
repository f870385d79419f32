"""AWS, terraform, docker and git as command lines that remember what they were told, and fail where a test asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ots_deploy.shell import Done

SERVICES = {
    "gateway": "gateway",
    "cache": "cache",
    "collector": "ingestion",
    "analytics": "analytics",
    "analytics-snapshots": "analytics",
}
SCALED = ("gateway", "cache")
SECRETS = [
    "ADMIN_PASSWORD",
    "DB_PASSWORD_OWNER",
    "REDIS_PASSWORD",
    "JWT_SIGNING_KEY",
    "DATABENTO_API_KEY",
    "DATABASE_CA",
]
COMMIT = "4f0c2a1be7a94c7d8f26a1b0c3d5e6f708192a3b"
VERSIONS = {
    ("terraform", "version"): "Terraform v1.11.4\non linux_amd64",
    ("aws", "--version"): "aws-cli/2.17.1 Python/3.11.7",
    ("docker", "version"): "28.2.2",
    ("docker", "buildx", "version"): "github.com/docker/buildx v0.13.1",
    ("git", "--version"): "git version 2.39.5",
}


class Cloud:
    """One account, as a deployment sees it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.given: list[str] = []
        self.missing_tools: set[str] = set()
        self.credentials = True
        self.dirty = ""
        self.commit = COMMIT
        # what a call fails with, by a function of its words
        self.fails: Callable[[tuple[str, ...]], str | None] = lambda words: None
        self.before: Callable[[tuple[str, ...]], None] = lambda words: None
        # service -> whether the tasks of that revision become well
        self.sick: set[str] = set()
        # services whose first deployment will fail, and did: there is nothing that ECS could go back to
        self.failing: set[str] = set()
        self.failed: set[str] = set()
        self.migration_status = 0
        self.objects: dict[str, str] = {}
        self.etags: dict[str, str] = {}
        self.bucket = False
        self.secrets: dict[str, str] = {}
        self.images: set[str] = set()
        self.applied: dict[str, Any] = {}
        self.running: dict[str, str] = {}
        self.revision = 0
        self.places = False
        self.services: dict[str, dict[str, Any]] = {}
        self.auth = False

    # --- what a test looks at ---

    def said(self) -> list[str]:
        return [" ".join(words) for words in self.calls]

    def order(self, *beginnings: str) -> list[int]:
        """Where each first call that begins so stands among the calls."""
        said = self.said()
        return [next(i for i, line in enumerate(said) if line.startswith(each)) for each in beginnings]

    def moved(self) -> list[tuple[str, str, str]]:
        """Service, task definition and number of each update, in their order."""
        return [
            (option(words, "--service"), option(words, "--task-definition"), option(words, "--desired-count"))
            for words in self.calls
            if words[:3] == ("aws", "ecs", "update-service")
        ]

    # --- ots_deploy.shell.execute ---

    def execute(self, words: tuple[str, ...], *, given: str | None, **_settings: Any) -> Done:
        if body := option(words, "--cli-input-json"):
            # AWS' command line reads it twice
            for _ in range(2):
                given = Path(body.removeprefix("file://")).read_text()
        if words[0] in self.missing_tools:
            raise FileNotFoundError(words[0])
        self.calls.append(words)
        self.given.append(given or "")
        self.before(words)
        if reason := self.fails(words):
            return Done(1, "", reason)
        return Done(*self._answer(words, given or ""))

    def _answer(self, words: tuple[str, ...], given: str) -> tuple[int, str, str]:
        for beginning, version in VERSIONS.items():
            if words[: len(beginning)] == beginning:
                return 0, version, ""
        if words[0] == "git":
            if "status" in words:
                return 0, self.dirty, ""
            return 0, f"{self.commit} 1764500000\n", ""
        if words[0] == "terraform":
            return self._terraform(words)
        if words[0] == "docker":
            return self._docker(words)
        if words[0] == "aws":
            answer = self._aws(words, given)
            return answer if isinstance(answer, tuple) else (0, json.dumps(answer), "")
        if words[0] == "curl":
            return 0, "-----BEGIN CERTIFICATE-----\n", ""
        return 0, "", ""  # tar

    # --- terraform ---

    def _terraform(self, words: tuple[str, ...]) -> tuple[int, str, str]:
        action = words[2]
        files = [word.partition("=")[2] for word in words if word.startswith("-var-file=")]
        images: dict[str, str] = {}
        for file in files:
            if file.endswith(".json"):
                images = json.loads(Path(file).read_text())["images"]
        if action == "output":
            return 0, json.dumps({name: {"value": value} for name, value in self.applied.items()}), ""
        if action == "plan":
            self._planned = images
            return (0 if images == self.running and self.services else 2), "", ""
        if action == "apply" and any(word.startswith("-target=") for word in words):
            self.applied |= {
                "repositories": {each: f"1.dkr.ecr.us-east-1.amazonaws.com/ots-desk/{each}" for each in repositories()},
                "secrets": {name: f"arn:{name}" for name in SECRETS},
            }
        elif action == "apply":
            self._apply(self._planned if "plan" in words[-1] else images)
        elif action == "destroy":
            self.applied, self.services = {}, {}
        return 0, "", ""

    def _apply(self, images: dict[str, str]) -> None:
        self.revision += 1
        self.running = images
        for name in SERVICES:
            before = f"{name}:{self.revision}"
            self.services.setdefault(name, {"task": before, "wanted": before, "count": 0})
        self.applied |= {
            "url": "https://ots.example.com",
            "cluster": "ots-desk",
            "target_group": "arn:group",
            "vendor_key": True,
            "services": {name: name for name in SERVICES},
            "task_definitions": {name: f"{name}:{self.revision}" for name in SERVICES},
            "desired_counts": {name: 2 if name in SCALED else 1 for name in SERVICES},
            "scaled_services": list(SCALED),
            "log_groups": {name: f"/ots-desk/{name}" for name in [*SERVICES, "migrate"]},
            "migrate": {
                "task_definition": f"migrate:{self.revision}",
                "container": "migrate",
                "subnets": ["subnet-1"],
                "security_groups": ["sg-1"],
            },
        }

    # --- docker ---

    def _docker(self, words: tuple[str, ...]) -> tuple[int, str, str]:
        if words[1:4] == ("buildx", "imagetools", "inspect"):
            return 0, json.dumps("sha256:" + "b" * 64), ""
        if words[1:3] == ("buildx", "inspect"):
            return 0, "Name: x\nDriver:        docker-container\n", ""
        if words[1:3] == ("buildx", "build"):
            (output,) = (word for word in words if word.startswith("--output="))
            self.images.add(output.partition("name=")[2].partition(",")[0])
        return 0, "", ""

    # --- aws ---

    def _aws(self, words: tuple[str, ...], given: str) -> Any:
        service, operation = words[1:3]
        body = json.loads(given) if "--cli-input-json" in words else {}
        if service == "sts":
            if not self.credentials:
                return 255, "", "Unable to locate credentials"
            return {"Account": "123456789012"}
        if service in ("s3", "s3api"):
            return self._s3(words, given)
        if (service, operation) == ("ecr", "describe-images"):
            name = f"1.dkr.ecr.us-east-1.amazonaws.com/{option(words, '--repository-name')}"
            tag = option(words, "--image-ids").partition("=")[2]
            if f"{name}:{tag}" not in self.images:
                return 254, "", "ImageNotFoundException: no such image"
            return {"imageDetails": [{"imageDigest": f"sha256:{name.rpartition('/')[2]}-{tag}"}]}
        if service == "ecr":
            return 0, "password-of-the-registry", ""
        if service == "secretsmanager":
            return self._secret(operation, words, body)
        if service == "elasticache":
            if operation == "modify-replication-group":
                self.auth = True
            return {"ReplicationGroups": [{"AuthTokenEnabled": self.auth, "Status": "available"}]}
        if service == "elbv2":
            state = "unhealthy" if "gateway" in self.sick else "healthy"
            return {"TargetHealthDescriptions": [{"TargetHealth": {"State": state}}]}
        if service == "logs" and operation == "get-log-events":
            return {"events": [{"message": "provision: permission denied"}]}
        if service == "logs":
            return {"logStreams": [{"lastEventTimestamp": 1764500000000}]}
        return self._ecs(operation, words, body)

    def _s3(self, words: tuple[str, ...], given: str) -> Any:
        if words[2] == "head-bucket":
            return (0, "", "") if self.bucket else (254, "", "404 Not Found")
        if words[2] == "create-bucket":
            self.bucket = True
        if words[2] == "cp":
            source, target = words[3:5]
            if source == "-":
                self.objects[target] = given
                return 0, "", ""
            if source not in self.objects:
                return 1, "", "An error occurred (404) when calling the HeadObject operation"
            return 0, self.objects[source], ""
        if words[2] in ("put-object", "delete-object", "head-object"):
            key = f"s3://{option(words, '--bucket')}/{option(words, '--key')}"
            if words[2] == "head-object":
                return {"ETag": self.etags[key]}
            if words[2] == "delete-object":
                self.objects.pop(key, None)
                return {}
            if "--if-none-match" in words and key in self.objects:
                return 254, "", "An error occurred (PreconditionFailed)"
            if "--if-match" in words and self.etags.get(key) != option(words, "--if-match"):
                return 254, "", "An error occurred (PreconditionFailed)"
            self.objects[key] = Path(option(words, "--body")).read_text()
            self.etags[key] = str(len(self.calls))
            return {"ETag": self.etags[key]}
        return {}

    def _secret(self, operation: str, words: tuple[str, ...], body: Mapping[str, Any]) -> Any:
        if operation == "put-secret-value":
            self.secrets[body["SecretId"].partition(":")[2]] = body["SecretString"]
            return {}
        name = option(words, "--secret-id").partition(":")[2]
        if operation == "get-secret-value":
            return {"SecretString": self.secrets[name]}
        return {"VersionIdsToStages": {"v": ["AWSCURRENT"]}} if name in self.secrets else {}

    def _ecs(self, operation: str, words: tuple[str, ...], body: Mapping[str, Any]) -> Any:
        if operation == "run-task":
            return {"tasks": [{"taskArn": "arn:task/1"}], "failures": []}
        if operation == "describe-tasks":
            return {"tasks": [{"lastStatus": "STOPPED", "containers": [{"exitCode": self.migration_status}]}]}
        if operation == "update-service":
            service = self.services[option(words, "--service")]
            service["before"], service["task"] = service["task"], option(words, "--task-definition")
            if count := option(words, "--desired-count", None):
                service["count"] = int(count)
            if "--force-new-deployment" in words:
                self.failed.discard(option(words, "--service"))
            if option(words, "--service") in self.failing:
                self.failed |= self.failing
                self.failing = set()
            return {}
        if operation == "describe-task-definition":
            task = option(words, "--task-definition")
            return {"taskDefinition": {"containerDefinitions": [{"image": f"repository@sha256:{task:0>64}"}]}}
        names = words[words.index("--services") + 1 : words.index("--region")]
        return {"services": [self._described(name) for name in names]}

    def _described(self, name: str) -> dict[str, Any]:
        service = self.services[name]
        # the circuit breaker: ECS goes back by itself from what does not become well
        if service["task"] in self.sick:
            service["task"] = service["before"]
        count = service["count"]
        deployment = {
            "status": "PRIMARY",
            "taskDefinition": service["task"],
            "runningCount": count,
            "desiredCount": count,
            "rolloutState": "FAILED" if name in self.failed else "COMPLETED",
            "rolloutStateReason": "tasks failed to start",
        }
        return {
            "serviceName": name,
            "taskDefinition": service["task"],
            "runningCount": count,
            "desiredCount": count,
            "deployments": [deployment],
            "events": [{"message": f"(service {name}) events"}],
        }


def repositories() -> list[str]:
    return [*dict.fromkeys([*SERVICES.values(), "signals"])]


def option(words: Sequence[str], name: str, default: Any = "") -> Any:
    """The value behind an option."""
    return words[words.index(name) + 1] if name in words else default
