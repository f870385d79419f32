"""The images: built once a commit, from the commit and nothing else, pushed, and known by their digests."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ots_deploy.environment import ROOT, Environment
from ots_deploy.errors import NOT_READY, DeployError
from ots_deploy.shell import Aws, Shell
from ots_deploy.terraform import Outputs

# whose folder is not called as its image
_FOLDERS = {"gateway": "api-gateway", "ingestion": "data-ingestion"}


@dataclass(frozen=True)
class Commit:
    """What is built: the commit, its time in seconds, and the platform's version there."""

    revision: str
    time: str
    version: str

    @property
    def tag(self) -> str:
        """Of the images, and the name of the release."""
        return self.revision[:12]


def folder_of(image: str) -> str:
    """The folder of services/ with an image's Dockerfile."""
    return _FOLDERS.get(image, image)


def commit(shell: Shell) -> Commit:
    """The one that is checked out. Raises :class:`DeployError` when files differ from it."""
    git = ("git", "-C", str(ROOT))
    changed = shell.run(*git, "status", "--porcelain", "--untracked-files=no", local=True).out.strip()
    if changed and not shell.dry:
        raise DeployError(f"what runs must be a commit, and these files differ from theirs:\n{changed}", NOT_READY)
    revision, time = shell.run(*git, "log", "-1", "--format=%H %ct", local=True).out.split()
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return Commit(revision, time, version[1] if version else "0")


def base_image() -> str:
    """The Dockerfiles', or PYTHON_IMAGE where a mirror has it."""
    text = (ROOT / "services" / "api-gateway" / "Dockerfile").read_text()
    found = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    if given := os.environ.get("PYTHON_IMAGE"):
        return given
    if found is None:
        raise DeployError("services/api-gateway/Dockerfile names no PYTHON_IMAGE")
    return found[1]


class Images:
    """Builds and pushes into the repositories of one environment."""

    def __init__(self, shell: Shell, environment: Environment, outputs: Outputs) -> None:
        self._shell = shell
        self._environment = environment
        self._repositories = outputs.repositories
        self._aws = Aws(shell, environment.region)

    def push(self, commit: Commit) -> dict[str, str]:
        """Image -> its reference by digest. What the registry has of this commit is not built again."""
        digests: dict[str, str] = {}
        missing = []
        for image, repository in self._repositories.items():
            digest = None if self._shell.dry else self._digest(repository, commit.tag)
            if digest is None:
                missing.append(image)
            else:
                digests[image] = digest
                self._shell.say(f"  {image}: {digest} is there")
        if missing:
            self._sign_in()
            source = self._export(commit)
            try:
                self._build(commit, source, missing)
            finally:
                shutil.rmtree(source, ignore_errors=True)
        for image in missing:
            found = self._digest(self._repositories[image], commit.tag)
            if found is None:
                raise DeployError(f"{image}: pushed, and the registry does not have it")
            digests[image] = found
            self._shell.say(f"  {image}: {found}")
        return {image: f"{repository}@{digests[image]}" for image, repository in self._repositories.items()}

    def _digest(self, repository: str, tag: str) -> str | None:
        name = repository.partition("/")[2]
        try:
            told = self._aws.call(
                "ecr",
                "describe-images",
                "--repository-name",
                name,
                "--image-ids",
                f"imageTag={tag}",
                planned={"imageDetails": [{"imageDigest": "sha256:..."}]},
            )
        except DeployError as error:
            if "ImageNotFoundException" in str(error):
                return None
            raise
        return str(told["imageDetails"][0]["imageDigest"])

    def _sign_in(self) -> None:
        registry = next(iter(self._repositories.values())).partition("/")[0]
        words = ("aws", "ecr", "get-login-password", "--region", self._environment.region)
        password = self._shell.run(*words).out
        login = ("docker", "login", "--username", "AWS", "--password-stdin", registry)
        self._shell.run(*login, given=password, given_is="that password")

    def _export(self, commit: Commit) -> Path:
        """The commit's files, whatever else lies in this checkout."""
        source = self._environment.work / "source"
        archive = self._environment.work / "source.tar"
        if not self._shell.dry:
            shutil.rmtree(source, ignore_errors=True)
            source.mkdir(parents=True, mode=0o700)
        paths = (".dockerignore", "services", "database/migrations")
        self._shell.run("git", "-C", str(ROOT), "archive", "-o", str(archive), commit.revision, *paths)
        self._shell.run("tar", "-xf", str(archive), "-C", str(source))
        return source

    def _build(self, commit: Commit, source: Path, images: list[str]) -> None:
        base = base_image()
        # one that is given by its digest already is what it is
        if "@" not in base:
            words = ("docker", "buildx", "imagetools", "inspect", base, "--format", "{{json .Manifest.Digest}}")
            digest = json.loads(self._shell.run(*words, planned='"sha256:..."').out)
            base = f"{base}@{digest}"
        driver = self._shell.run("docker", "buildx", "inspect", planned="Driver: docker-container").out
        # only BuildKit in a container can give files the commit's time
        same_times = ",rewrite-timestamp=true" if re.search(r"^Driver:\s+docker-container", driver, re.M) else ""
        labels = {
            "org.opencontainers.image.revision": commit.revision,
            "org.opencontainers.image.version": commit.version,
            "org.opencontainers.image.base.name": base.partition("@")[0],
            "org.opencontainers.image.base.digest": base.partition("@")[2],
        }
        for image in images:
            self._shell.run(
                "docker",
                "buildx",
                "build",
                f"--platform={self._environment.platform}",
                "--provenance=false",
                f"--build-arg=PYTHON_IMAGE={base}",
                f"--build-arg=SOURCE_DATE_EPOCH={commit.time}",
                *(f"--label={name}={value}" for name, value in labels.items()),
                f"--file={source}/services/{folder_of(image)}/Dockerfile",
                f"--output=type=image,name={self._repositories[image]}:{commit.tag},push=true{same_times}",
                str(source),
                shown=True,
            )
