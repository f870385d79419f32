"""The commands, each a short list of steps that can be read from top to bottom.

Each begins where the last attempt ended: what is there already is found and left as it is, so that an interrupted
deployment is simply typed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ots_deploy.cluster import Cluster, Standing
from ots_deploy.environment import Environment
from ots_deploy.errors import DECLINED, FAILED, NOT_ROLLED_BACK, NOT_WELL, OK, ROLLED_BACK, DeployError
from ots_deploy.images import Commit, Images, commit
from ots_deploy.secret_values import REDIS, Redis, Secrets
from ots_deploy.shell import Shell
from ots_deploy.state import Release, State
from ots_deploy.terraform import Outputs, Terraform, services_in

# faces the clients, so it moves when those behind it are well
LAST = "gateway"


@dataclass(frozen=True)
class Options:
    """Of the command line."""

    yes: bool = False
    poll_s: float = 10.0
    database_ca: Path | None = None


class Deployment:
    """One environment, and whoever has the lock of it."""

    def __init__(self, shell: Shell, environment: Environment, account: str, options: Options) -> None:
        self._shell = shell
        self._environment = environment
        self._account = account
        self._options = options
        self.state = State(shell, environment, account)
        self.terraform = Terraform(shell, environment, self.state.bucket)

    # --- the commands ---

    def deploy(self) -> int:
        """From a commit to a platform that is well."""
        shell = self._shell
        what = commit(shell)
        shell.step(f"Release {what.tag} ({what.version}) to {self._where()}")
        self._agree("go on?")
        shell.step("The bucket of the state, and the lock")
        self.state.ensure_bucket()
        with self.state.alone("deploy"):
            shell.step("Terraform: the provider and the state")
            self.terraform.init()
            outputs = self.terraform.outputs()
            if shell.dry or not outputs.secrets or set(services_in().values()) - set(outputs.repositories):
                shell.step("The first time, and when there is a new image: places for images and secrets")
                self.terraform.make_places()
                outputs = self.terraform.outputs()
            secrets = self._write_secrets(outputs)
            shell.step("Images")
            images = Images(shell, self._environment, outputs).push(what)
            self.terraform.remember_images(images)
            shell.step("Plan")
            changes = self.terraform.plan()
            if changes:
                self._agree("apply this plan?")
                shell.step("Apply")
                self.terraform.apply()
            before, outputs = outputs, self.terraform.outputs()
            if set(outputs.secrets) != set(before.secrets):
                secrets = self._write_secrets(outputs)
            shell.step("Redis asks for its password")
            Redis(shell, self._environment, poll_s=self._options.poll_s).protect(secrets)
            cluster = self._cluster(outputs)
            self._migrate(cluster, outputs)
            return self._release(cluster, outputs, what, images)

    def plan(self) -> int:
        """What a deployment would change in the infrastructure; nothing is changed."""
        self._shell.step(f"Plan for {self._where()}")
        self.terraform.init()
        changes = self.terraform.plan()
        if not self._shell.dry:
            self._shell.say("Terraform would change that." if changes else "Terraform would change nothing.")
        return OK

    def migrate(self) -> int:
        """The one-off task alone."""
        with self.state.alone("migrate"):
            outputs = self._applied()
            self._migrate(self._cluster(outputs), outputs)
        return OK

    def rollback(self, to: str | None) -> int:
        """Back to the release before this one, or to one that is named: its task definitions, with its images."""
        with self.state.alone("rollback"):
            outputs = self._applied()
            releases = self.state.releases()
            if self._shell.dry:
                releases = [
                    Release(name, "", "", {each: f"{each}:{name}" for each in outputs.services}, {}) for name in "10"
                ]
            target = _target(releases, to)
            self._shell.step(f"Back to release {target.name} of {target.at}, commit {target.revision[:12]}")
            self._shell.say("  the schema stays as it is: migrations only go forward")
            self._agree("go back?")
            cluster = self._cluster(outputs)
            targets = {name: each for name, each in target.task_definitions.items() if name in outputs.services}
            if failures := self._move(cluster, outputs, targets):
                self._tell(failures)
                return NOT_ROLLED_BACK
            self.state.record(Release(target.name, _now(), target.revision, target.task_definitions, target.images))
            self._shell.say(f"{target.name} runs again: {outputs.url}")
        return OK

    def rotate(self, names: Iterable[str]) -> int:
        """New values of secrets, in the order in which everybody can follow."""
        names = list(names)
        with self.state.alone("rotate"):
            outputs = self._applied()
            secrets = self._secrets(outputs)
            cluster = self._cluster(outputs)
            redis = Redis(self._shell, self._environment, poll_s=self._options.poll_s)
            self._agree(f"new values of {', '.join(names)}, and every service starts anew?")
            self._shell.step("New values")
            secrets.renew(names)
            if REDIS in names:
                redis.accept_also(secrets)
            if any(name.startswith("DB_PASSWORD_") or name == "ADMIN_PASSWORD" for name in names):
                self._migrate(cluster, outputs)  # it brings roles and the admin in line
            self._shell.step("Every service starts anew")
            now = {name: each.task_definition for name, each in cluster.standings(outputs.services).items()}
            if failures := self._move(cluster, outputs, now, again=True):
                self._tell(failures)
                return FAILED
            if REDIS in names:
                redis.accept_only(secrets)
        return OK

    def status(self) -> int:
        """What runs. 0 only if all is well."""
        outputs = self._applied()
        cluster = self._cluster(outputs)
        standings = cluster.standings(outputs.services)
        if self._shell.dry:
            return OK
        images = cluster.images(each.task_definition for each in standings.values())
        releases = self.state.releases()
        for name, each in standings.items():
            image = images[each.task_definition]
            running = f"{each.running}/{each.desired}"
            revision = each.task_definition.rpartition(":")[2]
            self._shell.say(
                f"{name:22} {running:>7}  {each.rollout.lower():12} :{revision:5} {image.rpartition('@')[2][:19]}"
            )
        if outputs.migrate:
            self._shell.say(f"last migration: {cluster.last_migration(outputs.migrate)}")
        if releases:
            self._shell.say(f"release: {releases[0].name} of {releases[0].at}, commit {releases[0].revision[:12]}")
        self._shell.say(f"url: {outputs.url}")
        unwell = [name for name, each in standings.items() if not each.well or each.desired == 0]
        if unwell:
            self._shell.say(f"not well: {', '.join(unwell)}")
        return NOT_WELL if unwell else OK

    def logs(self, service: str, *, since: str, follow: bool) -> int:
        """The lines of one service, or of the migration."""
        outputs = self._applied()
        groups = {name: each.log_group for name, each in outputs.services.items()}
        if outputs.migrate:
            groups["migrate"] = outputs.migrate.log_group
        if service not in groups:
            raise DeployError(f"no service {service}; there are {', '.join(sorted(groups))}")
        words = ["aws", "logs", "tail", groups[service], "--since", since, "--format", "short"]
        if follow:
            words.append("--follow")
        self._shell.run(*words, "--region", self._environment.region, shown=True)
        return OK

    def destroy(self) -> int:
        """All of it, when its name is typed."""
        shell = self._shell
        shell.step(f"DELETE everything of {self._where()}: database, spool, secrets, images")
        if shell.dry:
            shell.say(f"  (asks for the name {self._environment.name} to be typed; --yes does not answer that)")
        elif shell.ask(f"type {self._environment.name} to delete it: ") != self._environment.name:
            raise DeployError("not deleted: that was not its name", DECLINED)
        with self.state.alone("destroy"):
            self.terraform.init()
            shell.step("What protects from a deletion is taken off")
            self.terraform.allow_deletion()
            shell.step("Destroy")
            self.terraform.destroy()
        shell.say(
            f"Deleted. The bucket {self.state.bucket} with the state's versions stays, and so does the database's last "
            "snapshot, unless database_final_snapshot = false."
        )
        return OK

    # --- their parts ---

    def _where(self) -> str:
        return f"{self._environment.full_name} in account {self._account}, {self._environment.region}"

    def _agree(self, question: str) -> None:
        if self._shell.dry:
            self._shell.say(f"  (asks: {question}; --yes agrees)")
        if self._options.yes or self._shell.dry:
            return
        if self._shell.ask(f"{question} [y/N] ").lower() not in ("y", "yes"):
            raise DeployError("nothing more is done", DECLINED)

    def _applied(self) -> Outputs:
        self.terraform.init()
        outputs = self.terraform.outputs()
        if not outputs.services:
            raise DeployError(f"{self._environment.full_name} is not there: ./deploy-prod.sh deploy makes it")
        return outputs

    def _cluster(self, outputs: Outputs) -> Cluster:
        return Cluster(self._shell, self._environment, outputs, poll_s=self._options.poll_s)

    def _secrets(self, outputs: Outputs) -> Secrets:
        return Secrets(self._shell, self._environment, outputs, database_ca=self._options.database_ca)

    def _write_secrets(self, outputs: Outputs) -> Secrets:
        self._shell.step("Secrets that have no value yet")
        secrets = self._secrets(outputs)
        if written := secrets.write_missing():
            self._shell.say(f"  written: {', '.join(sorted(written))}")
        return secrets

    def _migrate(self, cluster: Cluster, outputs: Outputs) -> None:
        self._shell.step("Migrate")
        if outputs.migrate is None:
            raise DeployError("Terraform has no migrating task")
        cluster.migrate(outputs.migrate)

    def _release(self, cluster: Cluster, outputs: Outputs, what: Commit, images: Mapping[str, str]) -> int:
        before = cluster.standings(outputs.services)
        wanted = {name: each.task_definition for name, each in outputs.services.items()}
        self._shell.step("Services move")
        try:
            failures = self._move(cluster, outputs, wanted)
            if not failures and not cluster.gateway_answers():
                failures = {LAST: "the load balancer finds no gateway that is well"}
        except DeployError as error:
            failures = {"a call to AWS": str(error)}
        if failures:
            self._tell(failures)
            return self._go_back(cluster, outputs, before)
        release = Release(what.tag, _now(), what.revision, wanted, dict(images))
        self.state.record(release)
        if self._shell.dry:
            return OK
        self._shell.say(f"\n{what.tag} runs: {outputs.url}")
        arn = outputs.secrets.get("ADMIN_PASSWORD", "ARN")
        self._shell.say(
            "The password of its user admin: aws secretsmanager get-secret-value --query SecretString --output text "
            f"--region {self._environment.region} --secret-id {arn}"
        )
        return OK

    def _go_back(self, cluster: Cluster, outputs: Outputs, before: Mapping[str, Standing]) -> int:
        self._shell.step("It failed: services go back to what they ran before")
        # what was at rest before the first release rests again
        rested = {name for name, each in before.items() if each.desired == 0}
        targets = {name: each.task_definition for name, each in before.items()}
        try:
            failures = self._move(cluster, outputs, targets, rest=rested)
        except DeployError as error:
            failures = {"a call to AWS": str(error)}
        if failures:
            self._tell(failures)
            return NOT_ROLLED_BACK
        self._shell.say("What ran before runs again. The schema is the new one: migrations only go forward.")
        return ROLLED_BACK

    def _move(
        self,
        cluster: Cluster,
        outputs: Outputs,
        targets: Mapping[str, str],
        *,
        again: bool = False,
        rest: Iterable[str] = (),
    ) -> dict[str, str]:
        """All but the gateway, and when they are well the gateway; service -> why it is not well."""
        rest = set(rest)
        standings = cluster.standings(targets)
        for wave in ([name for name in targets if name != LAST], [name for name in targets if name == LAST]):
            for name in wave:
                service = outputs.services[name]
                # how many run of what scales is the autoscaling's affair, once any does
                scaled = service.scales and standings[name].desired > 0
                count = 0 if name in rest else None if scaled else service.desired_count
                # ECS does not try a deployment again that failed, unless it is told to
                failed = standings[name].rollout == "FAILED" and name not in rest
                cluster.move(service, targets[name], count=count, again=again or failed)
            if failures := cluster.wait({name: targets[name] for name in wave}, resting=rest):
                return failures
        return {}

    def _tell(self, failures: Mapping[str, str]) -> None:
        for name, reason in failures.items():
            self._shell.say(f"  {name}: {reason}")


def _target(releases: list[Release], name: str | None) -> Release:
    """The release to go back to. Raises :class:`DeployError` when there is none."""
    if name is not None:
        found = [each for each in releases if each.name.startswith(name)]
        if not found:
            raise DeployError(f"no release {name}; there are {', '.join(each.name for each in releases) or 'none'}")
        return found[0]
    for each in releases[1:]:
        if each.name != releases[0].name:
            return each
    raise DeployError("there is no release before this one")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


COMMANDS: dict[str, Callable[[Deployment], int]] = {
    "deploy": Deployment.deploy,
    "plan": Deployment.plan,
    "migrate": Deployment.migrate,
    "status": Deployment.status,
    "destroy": Deployment.destroy,
}
