"""Makes `.venv` in a checkout, and installs pinned requirements and our own packages into it. See install.sh.

Needs the standard library only. Does nothing when all that, or more, is there already; starts over what was killed
halfway; a second one waits for the first. Says what it does on stderr.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".ots-installed"
UNFINISHED = VENV / ".ots-installing"

_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*==[^\s;\\]+)", re.MULTILINE)
_WORKS = "import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
# where pip finds packages is the user's affair; where it puts them, and which it takes, is ours
_PIP_SETTING = re.compile(
    r"PIP_(?!(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|TRUSTED_HOST|CERT|CLIENT_CERT|PROXY|CONFIG_FILE"
    r"|(DEFAULT_)?TIMEOUT|RETRIES|CACHE_DIR|NO_CACHE_DIR|DISABLE_PIP_VERSION_CHECK|KEYRING_PROVIDER)$)"
)


class InstallError(Exception):
    """What went wrong, in words for a person."""


def install(requirements: Path) -> None:
    """Bring `.venv` to where `requirements` and our own packages want it. Raises InstallError."""
    with _alone():
        pins = sorted(set(_PIN.findall(requirements.read_text(encoding="utf-8"))))
        packages = _local_packages()
        _ensure_venv()
        stamp = _read_stamp()
        if not set(pins) <= set(stamp.get("pins", [])):
            _begin()
            _say("Installing the pinned packages into .venv; about a minute when they must be downloaded.")
            _pip("install", "--require-hashes", "--no-deps", "-r", str(requirements))
            stamp = {"pins": pins}
        if stamp.get("packages") != packages:
            _begin()
            _say("Installing the services of this checkout.")
            editable = [part for folder in packages["folders"] for part in ("-e", str(CHECKOUT / folder))]
            _pip("install", "--no-deps", "--no-build-isolation", *editable)
            _finish({**stamp, "packages": packages})


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock on this very file, which every checkout has; a pip that outlives us inherits and so keeps it."""
    with Path(__file__).open(encoding="utf-8") as held:
        os.set_inheritable(held.fileno(), True)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another installation into .venv is at work; waiting for it.")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _local_packages() -> dict[str, Any]:
    """Our own packages, and a digest of what asks for another installation: their pyprojects and where they lie."""
    files = [*sorted(CHECKOUT.glob("services/*/pyproject.toml")), CHECKOUT / "infrastructure/native/pyproject.toml"]
    digest = hashlib.sha256(os.fsencode(CHECKOUT))
    for file in files:
        digest.update(file.read_bytes())
    return {"folders": [str(file.parent.relative_to(CHECKOUT)) for file in files], "digest": digest.hexdigest()}


def _ensure_venv() -> None:
    """Make `.venv` with the Python that runs this, unless there is one that works and was not left half filled."""
    if PYTHON.exists() and not UNFINISHED.exists():
        works = subprocess.run([PYTHON, "-I", "-c", _WORKS], env=_environment(), capture_output=True, check=False)
        if works.returncode == 0:
            return
    version = ".".join(map(str, sys.version_info[:3]))
    _say(f"Making .venv with Python {version}.")
    command = [sys.executable, "-I", "-m", "venv", "--clear", str(VENV)]
    made = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False, close_fds=False)
    if made.returncode != 0:
        raise InstallError(f"Python {version} could not make .venv:\n{(made.stdout + made.stderr).strip()}")


def _read_stamp() -> dict[str, Any]:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _begin() -> None:
    """From here to `_finish` a kill leaves `.venv` in a state that only a new one mends."""
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)


def _finish(stamp: dict[str, Any]) -> None:
    temporary = STAMP.with_suffix(".new")
    temporary.write_text(json.dumps(stamp), encoding="utf-8")
    temporary.replace(STAMP)
    UNFINISHED.unlink()


def _pip(*arguments: str) -> None:
    """Run pip in `.venv`, showing each package that it comes to. Raises InstallError with its last lines."""
    command = [str(PYTHON), "-I", "-m", "pip", *arguments, "--no-user", "--progress-bar", "off", "--no-input"]
    last: deque[str] = deque(maxlen=15)
    with subprocess.Popen(
        command,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        close_fds=False,
    ) as pip:
        assert pip.stdout is not None  # noqa: S101 - it is a pipe
        for line in pip.stdout:
            last.append(line.rstrip())
            if line.startswith(("Collecting ", "Obtaining ", "Installing ")):
                _say("  " + re.sub(r" \(from .*", "", line.rstrip())[:100])
    if pip.returncode != 0:
        raise InstallError("\n".join(["pip failed:", *last]))


def _environment() -> dict[str, str]:
    """Ours, without what would lead pip or Python to packages elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV")) and not _PIP_SETTING.match(name)
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]))
    except (InstallError, OSError) as problem:
        sys.exit(f"install.sh: {problem}")
    except KeyboardInterrupt:
        sys.exit("install.sh: interrupted; the next start begins again.")
