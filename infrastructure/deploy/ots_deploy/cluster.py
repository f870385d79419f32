"""ECS: the migration runs, services move, and everybody waits until they are well."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ots_deploy.environment import Environment
from ots_deploy.errors import NOT_MIGRATED, DeployError
from ots_deploy.shell import Aws, Shell
from ots_deploy.terraform import Migration, Outputs, Service

MIGRATION_PATIENCE_S = 3600.0
# a service that compiles when it starts, behind old ones that answer what is under way for minutes
MOVE_PATIENCE_S = 2400.0
_AT_ONCE = 10  # services a describe-services takes


@dataclass(frozen=True)
class Standing:
    """One service as ECS sees it."""

    task_definition: str
    running: int
    desired: int
    rollout: str
    reason: str
    events: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether as many run as should, and ECS is through with it."""
        return self.rollout == "COMPLETED" and self.running >= self.desired


class Cluster:
    """The services of one environment."""

    def __init__(self, shell: Shell, environment: Environment, outputs: Outputs, *, poll_s: float) -> None:
        self._shell = shell
        self._aws = Aws(shell, environment.region)
        self._outputs = outputs
        self._poll_s = poll_s

    def standings(self, names: Iterable[str]) -> dict[str, Standing]:
        """Service -> how it stands."""
        names = list(names)
        found: dict[str, Standing] = {}
        for first in range(0, len(names), _AT_ONCE):
            some = names[first : first + _AT_ONCE]
            by_ecs_name = {self._outputs.services[name].ecs_name: name for name in some}
            planned = {
                "services": [
                    {"serviceName": each, "desiredCount": 0, "runningCount": 0, "taskDefinition": f"{each}:BEFORE"}
                    for each in by_ecs_name
                ]
            }
            told = self._aws.call(
                "ecs",
                "describe-services",
                "--cluster",
                self._outputs.cluster,
                "--services",
                *by_ecs_name,
                planned=planned,
            )
            for each in told["services"]:
                found[by_ecs_name[each["serviceName"]]] = _standing(each)
        if gone := [name for name in names if name not in found]:
            raise DeployError(f"ECS has no {', '.join(gone)}: `plan` shows what is missing")
        return found

    # --- the migration ---

    def migrate(self, migration: Migration) -> None:
        """Run the one-off task to its end. Raises :class:`DeployError` with its last lines when it failed."""
        body = {
            "cluster": self._outputs.cluster,
            "taskDefinition": migration.task_definition,
            "launchType": "FARGATE",
            "networkConfiguration": dict(migration.network),
            "startedBy": "deploy-prod.sh",
        }
        told = self._aws.call("ecs", "run-task", body=body, planned={"tasks": [{"taskArn": "TASK"}], "failures": []})
        if told.get("failures"):
            raise DeployError(f"the migration did not start: {told['failures']}", NOT_MIGRATED)
        task = told["tasks"][0]["taskArn"]
        deadline = time.monotonic() + MIGRATION_PATIENCE_S
        while True:
            state = self._aws.call(
                "ecs",
                "describe-tasks",
                "--cluster",
                self._outputs.cluster,
                "--tasks",
                task,
                planned={"tasks": [{"lastStatus": "STOPPED", "containers": [{"exitCode": 0}]}]},
                note="until it has stopped",
            )["tasks"][0]
            if state["lastStatus"] == "STOPPED":
                break
            if time.monotonic() > deadline:
                raise DeployError(
                    f"the migration {task} goes on for longer than an hour: look at `logs migrate`", NOT_MIGRATED
                )
            time.sleep(self._poll_s)
        statuses = [each.get("exitCode") for each in state["containers"]]
        if statuses != [0]:
            reason = state.get("stoppedReason", "")
            lines = self._last_lines(migration.log_group, task)
            raise DeployError(f"the migration failed with {statuses[0]} {reason}\n{lines}", NOT_MIGRATED)

    def _last_lines(self, group: str, task: str) -> str:
        stream = f"task/migrate/{task.rpartition('/')[2]}"
        try:
            told = self._aws.call(
                "logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream, "--limit", "30"
            )
        except DeployError:
            return f"(it left no lines in {group})"
        return "\n".join(f"  {each['message']}" for each in told["events"])

    # --- moving ---

    def move(self, service: Service, task_definition: str, *, count: int | None, again: bool = False) -> None:
        """Let it run another task definition. ``count``: how many; None leaves that to the autoscaling."""
        words = [
            "--cluster",
            self._outputs.cluster,
            "--service",
            service.ecs_name,
            "--task-definition",
            task_definition,
        ]
        if count is not None:
            words += ["--desired-count", str(count)]
        if again:
            words.append("--force-new-deployment")
        self._aws.call("ecs", "update-service", *words)

    def wait(self, targets: Mapping[str, str], *, resting: Iterable[str] = ()) -> dict[str, str]:
        """Until each service runs its task definition and is well; service -> why not, where it is not.

        Who is ``resting`` is well when nothing of it runs, whatever became of its deployment.

        ECS itself goes back when a deployment's tasks fail again and again (its circuit breaker): that is seen here.
        """
        if self._shell.dry:
            self.standings(targets)
            return {}
        left, resting = set(targets), set(resting)
        told: dict[str, str] = {}
        failures: dict[str, str] = {}
        deadline = time.monotonic() + MOVE_PATIENCE_S
        while left:
            for name, standing in self.standings(sorted(left)).items():
                line = f"{standing.running} of {standing.desired} run, {standing.rollout.lower()}"
                if told.get(name) != line:
                    self._shell.say(f"  {name}: {line}")
                    told[name] = line
                if name in resting:
                    if standing.running > 0:
                        continue
                elif standing.task_definition != targets[name]:
                    failures[name] = f"ECS went back to {standing.task_definition}: {' / '.join(standing.events)}"
                elif standing.rollout == "FAILED":
                    failures[name] = f"{standing.reason} {' / '.join(standing.events)}"
                elif time.monotonic() > deadline:
                    failures[name] = f"not well after {MOVE_PATIENCE_S:.0f} s: {' / '.join(standing.events)}"
                elif not standing.well:
                    continue
                left.discard(name)
            if failures:
                return failures
            if left:
                time.sleep(self._poll_s)
        return failures

    def gateway_answers(self) -> bool:
        """Whether the load balancer finds a gateway that is well."""
        told = self._aws.call(
            "elbv2",
            "describe-target-health",
            "--target-group-arn",
            self._outputs.target_group,
            planned={"TargetHealthDescriptions": [{"TargetHealth": {"State": "healthy"}}]},
        )
        return any(each["TargetHealth"]["State"] == "healthy" for each in told["TargetHealthDescriptions"])

    def images(self, task_definitions: Iterable[str]) -> dict[str, str]:
        """Task definition -> the image that it runs."""
        found = {}
        for each in dict.fromkeys(task_definitions):
            told = self._aws.call("ecs", "describe-task-definition", "--task-definition", each)
            found[each] = str(told["taskDefinition"]["containerDefinitions"][0]["image"])
        return found

    def last_migration(self, migration: Migration) -> str:
        """When the migrating task last said something."""
        words = ("--log-group-name", migration.log_group, "--order-by", "LastEventTime", "--descending", "--limit", "1")
        told = self._aws.call("logs", "describe-log-streams", *words)
        streams = told.get("logStreams") or []
        last = streams[0].get("lastEventTimestamp") if streams else None
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last / 1000)) if last else "never"


def _standing(told: Mapping[str, Any]) -> Standing:
    deployments = told.get("deployments") or []
    (first,) = [each for each in deployments if each.get("status") == "PRIMARY"] or [{}]
    return Standing(
        task_definition=first.get("taskDefinition") or told.get("taskDefinition", ""),
        running=first.get("runningCount", told["runningCount"]),
        desired=first.get("desiredCount", told["desiredCount"]),
        rollout=first.get("rolloutState") or "COMPLETED",
        reason=first.get("rolloutStateReason", ""),
        events=tuple(each["message"] for each in (told.get("events") or [])[:3]),
    )
