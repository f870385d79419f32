"""What an environment keeps in a bucket beside itself: Terraform's state, the lock, and which releases there were."""

from __future__ import annotations

import getpass
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ots_deploy.environment import Environment
from ots_deploy.errors import LOCKED, DeployError
from ots_deploy.shell import Aws, Shell

# whoever was killed leaves the lock behind; it is taken over when it was not renewed for so long
LEASE_S = 300.0
RENEW_S = 60.0
KEPT_RELEASES = 30


@dataclass(frozen=True)
class Release:
    """What runs, or ran: service -> task definition, image -> its reference by digest."""

    name: str
    at: str
    revision: str
    task_definitions: dict[str, str]
    images: dict[str, str]


class State:
    """The bucket. Its objects are few and small, so each is read and written whole."""

    def __init__(self, shell: Shell, environment: Environment, account: str) -> None:
        self._shell = shell
        self._environment = environment
        self._aws = Aws(shell, environment.region)
        self.bucket = environment.state_bucket(account)

    def ensure_bucket(self) -> None:
        """Make it where it is missing: private, encrypted, and with every version kept."""
        found = self._shell.run("aws", "s3api", "head-bucket", "--bucket", self.bucket, accept=tuple(range(256)))
        if found.status == 0 and not self._shell.dry:
            return
        if "403" in found.err:
            raise DeployError(f"the bucket {self.bucket} is somebody else's: set state_bucket to another name")
        note = "only where it is missing"
        # us-east-1 is the one region that must not be named
        place = (
            []
            if self._environment.region == "us-east-1"
            else ["--create-bucket-configuration", f"LocationConstraint={self._environment.region}"]
        )
        bucket = ("--bucket", self.bucket)
        self._aws.call("s3api", "create-bucket", *bucket, *place, note=note)
        closed = "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
        self._aws.call(
            "s3api", "put-public-access-block", *bucket, "--public-access-block-configuration", closed, note=note
        )
        self._aws.call(
            "s3api", "put-bucket-versioning", *bucket, "--versioning-configuration", "Status=Enabled", note=note
        )
        # S3's own key: the role of GitHub's workflow may decrypt with none of ours
        rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
        self._aws.call(
            "s3api",
            "put-bucket-encryption",
            *bucket,
            "--server-side-encryption-configuration",
            json.dumps(rules),
            note=note,
        )

    # --- releases ---

    def releases(self) -> list[Release]:
        """The last ones, the newest first."""
        if self._shell.dry:
            self._shell.run("aws", "s3", "cp", f"s3://{self.bucket}/{self._environment.releases_key}", "-")
            return []
        text = self._read(self._environment.releases_key)
        return [Release(**each) for each in json.loads(text)] if text else []

    def record(self, release: Release) -> None:
        """It runs, and is well."""
        if self._shell.dry:
            text = ""
        else:
            text = json.dumps([asdict(each) for each in [release, *self.releases()][:KEPT_RELEASES]], indent=1)
        target = f"s3://{self.bucket}/{self._environment.releases_key}"
        self._shell.run("aws", "s3", "cp", "-", target, given=text, given_is="the releases, this one first")

    def _read(self, key: str) -> str | None:
        done = self._shell.run("aws", "s3", "cp", f"s3://{self.bucket}/{key}", "-", accept=tuple(range(256)))
        if done.status == 0:
            return done.out
        if "404" in done.err or "does not exist" in done.err or "NoSuchKey" in done.err:
            return None
        raise DeployError(f"s3://{self.bucket}/{key} cannot be read: {done.err.strip()}")

    # --- the lock ---

    @contextmanager
    def alone(self, command: str) -> Iterator[None]:
        """Hold the lock. Raises :class:`DeployError` when somebody else holds it.

        The object is made where none is, and taken over by its ETag where its holder no longer renews it: S3 lets one
        of two win. It is renewed meanwhile, and gone afterwards.
        """
        if self._shell.dry:
            self._put("{holder}", "--if-none-match", "*")
            try:
                yield
            finally:
                self._delete()
            return
        holder = {
            "id": uuid.uuid4().hex,
            "who": f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}",
            "command": command,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        etag = self._take(holder)
        ended = threading.Event()
        lost: list[str] = []

        def renew() -> None:
            nonlocal etag
            while not ended.wait(RENEW_S):
                try:
                    etag = self._put(self._held(holder), "--if-match", etag)
                except DeployError as error:
                    if "PreconditionFailed" in str(error):
                        lost.append(str(error))
                        return

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=RENEW_S)
            if lost:
                self._shell.say("the lock was taken over meanwhile: look at `status` before anything else")
            else:
                self._give_back()

    def _give_back(self) -> None:
        """Without a word over what went wrong before: AWS may be out of reach altogether."""
        try:
            self._delete()
        except DeployError as error:
            self._shell.say(f"the lock could not be given back, and is free in {LEASE_S:.0f} s: {error}")

    def _take(self, holder: dict[str, str]) -> str:
        try:
            return self._put(self._held(holder), "--if-none-match", "*")
        except DeployError as error:
            if "PreconditionFailed" not in str(error) and "ConditionalRequestConflict" not in str(error):
                raise
        text = self._read(self._environment.lock_key)
        if text is None:
            return self._put(self._held(holder), "--if-none-match", "*")
        other = json.loads(text)
        if time.time() - float(other["renewed"]) < LEASE_S:
            raise DeployError(
                f"{other['who']} is at `{other['command']}` since {other['since']}; if that process is gone, "
                f"the lock is free {LEASE_S:.0f} s after its end",
                LOCKED,
            )
        head = self._aws.call("s3api", "head-object", "--bucket", self.bucket, "--key", self._environment.lock_key)
        try:
            return self._put(self._held(holder), "--if-match", head["ETag"])
        except DeployError as error:
            raise DeployError("somebody else took the lock over at this moment", LOCKED) from error

    @staticmethod
    def _held(holder: dict[str, str]) -> str:
        return json.dumps({**holder, "renewed": time.time()})

    def _put(self, text: str, *condition: str) -> str:
        if self._shell.dry:
            self._lock_call("put-object", "--body", "LOCK.json", *condition)
            return ""
        with tempfile.TemporaryDirectory() as folder:
            body = Path(folder) / "lock.json"
            body.write_text(text)
            answer: dict[str, Any] = self._lock_call("put-object", "--body", str(body), *condition)
        return str(answer["ETag"])

    def _delete(self) -> None:
        self._lock_call("delete-object")

    def _lock_call(self, operation: str, *words: str) -> Any:
        key = self._environment.lock_key
        return self._aws.call("s3api", operation, "--bucket", self.bucket, "--key", key, *words)
