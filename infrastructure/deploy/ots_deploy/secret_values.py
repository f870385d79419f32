"""Secrets: made here, handed to AWS unseen, and never printed, in an argument, on a disk or in a state."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from ots_deploy.environment import Environment
from ots_deploy.errors import NOT_READY, DeployError
from ots_deploy.shell import Aws, Shell
from ots_deploy.terraform import Outputs
from ots_native.env_file import SECRETS

VENDOR_KEY = "DATABENTO_API_KEY"
AUTHORITIES = "DATABASE_CA"
REDIS = "REDIS_PASSWORD"


class Secrets:
    """The values of one environment's secrets, whose places Terraform makes."""

    def __init__(
        self, shell: Shell, environment: Environment, outputs: Outputs, *, database_ca: Path | None = None
    ) -> None:
        self._shell = shell
        self._environment = environment
        self._aws = Aws(shell, environment.region)
        self._arns = outputs.secrets
        self._vendor_key = outputs.vendor_key
        self._database_ca = database_ca

    def write_missing(self) -> list[str]:
        """Give each secret without a value one; their names. Raises :class:`DeployError` for what only people have."""
        if self._shell.dry:
            self._aws.call("secretsmanager", "describe-secret", "--secret-id", "ARN", note="each of them")
            self._authorities(note="where DATABASE_CA has no value and the database is RDS")
            self._put("EVERY_SECRET", "", note="each that has no value; strong ones, made here")
            return []
        missing = [name for name, arn in self._arns.items() if not self._has_value(arn)]
        values = {name: value for name in missing if (value := self._make(name)) is not None}
        for name, value in values.items():
            self._put(name, value)
        return list(values)

    def renew(self, names: Iterable[str]) -> None:
        """New values. Raises :class:`DeployError` for a name that there is not."""
        names = list(names)
        if unknown := [name for name in names if not self._shell.dry and name not in self._arns]:
            raise DeployError(f"no such secret: {', '.join(unknown)}; there are {', '.join(sorted(self._arns))}")
        for name in names:
            value = "" if self._shell.dry else self._make(name)
            if value is None:
                raise DeployError(f"{name} is not made here")
            self._put(name, value)

    def value(self, name: str) -> str:
        """One of them, for a program's standard input."""
        told = self._aws.call(
            "secretsmanager",
            "get-secret-value",
            "--secret-id",
            self._arns.get(name, "ARN"),
            planned={"SecretString": ""},
        )
        return str(told["SecretString"])

    def _has_value(self, arn: str) -> bool:
        told = self._aws.call("secretsmanager", "describe-secret", "--secret-id", arn)
        return any("AWSCURRENT" in stages for stages in (told.get("VersionIdsToStages") or {}).values())

    def _put(self, name: str, value: str, note: str = "") -> None:
        body = {"SecretId": self._arns.get(name, "ARN"), "SecretString": value}
        self._aws.call("secretsmanager", "put-secret-value", body=body, body_is="the name and the value", note=note)

    def _make(self, name: str) -> str | None:
        """A value, None where somebody else writes it."""
        if name == VENDOR_KEY:
            return self._key_of_the_vendor()
        if name == AUTHORITIES:
            return self._authorities()
        if name not in SECRETS:
            raise DeployError(f"{name}: ots_native.env_file does not say how such a secret is made")
        return SECRETS[name]()

    def _key_of_the_vendor(self) -> str | None:
        if key := os.environ.get(VENDOR_KEY):
            return key
        if not self._vendor_key:
            return None
        raise DeployError(
            f"export {VENDOR_KEY}=..., Databento's key, for this deployment: it is kept in Secrets Manager. "
            f"Without one set vendor_key = false in {self._environment.variables.name}: nothing is collected then",
            NOT_READY,
        )

    def _authorities(self, note: str = "") -> str | None:
        """Who signs the database's certificate."""
        if self._database_ca is not None:
            text = self._database_ca.read_text()
        elif self._environment.settings.get("database") == "rds":
            region = self._environment.region
            url = f"https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem"
            text = self._shell.run(
                "curl", "-fsS", "--proto", "=https", url, planned="-----BEGIN CERTIFICATE-----", note=note
            ).out
        else:
            return None  # the instance of timescale-ec2 writes it; an endpoint's is public, or given by --database-ca
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise DeployError("what should be the database's certificate authorities is no PEM")
        return text


class Redis:
    """ElastiCache's AUTH token, which Terraform does not set, because it would lie in the state."""

    def __init__(self, shell: Shell, environment: Environment, *, poll_s: float) -> None:
        self._shell = shell
        self._name = environment.full_name
        self._aws = Aws(shell, environment.region)
        self._poll_s = poll_s

    def protect(self, secrets: Secrets) -> bool:
        """Set the token where there is none yet; whether it was set now."""
        group = self._group()
        if group is None or group.get("AuthTokenEnabled"):
            return False
        self.accept_also(secrets)
        self.accept_only(secrets)
        return True

    def accept_also(self, secrets: Secrets) -> None:
        """The secret's value as well as what was asked for before."""
        self._modify("ROTATE", secrets)

    def accept_only(self, secrets: Secrets) -> None:
        """The secret's value."""
        self._modify("SET", secrets)

    def _group(self) -> dict[str, object] | None:
        words = ("--replication-group-id", self._name)
        planned = {"ReplicationGroups": [{"AuthTokenEnabled": False, "Status": "available"}]}
        try:
            told = self._aws.call("elasticache", "describe-replication-groups", *words, planned=planned)
        except DeployError as error:
            if "ReplicationGroupNotFoundFault" in str(error):
                return None  # redis = false, against moto
            raise
        found: dict[str, object] = told["ReplicationGroups"][0]
        return found

    def _modify(self, strategy: str, secrets: Secrets) -> None:
        body = {
            "ReplicationGroupId": self._name,
            "AuthToken": secrets.value(REDIS),
            "AuthTokenUpdateStrategy": strategy,
            "ApplyImmediately": True,
        }
        self._aws.call(
            "elasticache",
            "modify-replication-group",
            body=body,
            body_is=f"the name, the token, {strategy}",
            note="only where AUTH is to change",
        )
        if self._shell.dry:
            return
        # it takes a moment until it says that it is being modified
        time.sleep(self._poll_s)
        while (group := self._group()) is not None and group["Status"] != "available":
            time.sleep(self._poll_s)
