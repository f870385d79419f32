"""The file `.env`: read it, and give it the secrets that it lacks.

Compose mode runs this file alone with whatever Python 3 the machine has, so it imports the standard library only and
keeps to what old Pythons understand: `python3 -I env_file.py PATH`.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def _password() -> str:
    return secrets.token_urlsafe(32)


def _ed25519_seed() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii").rstrip("=")


def _vendor_key() -> str:
    """In the form of Databento's own keys, which their client checks."""
    return "db-" + secrets.token_urlsafe(22)[:29]


# URL-safe characters only: bash, docker compose and database URLs all take the values as they stand
SECRETS: dict[str, Callable[[], str]] = {
    "POSTGRES_PASSWORD": _password,
    "DB_PASSWORD_OWNER": _password,
    "DB_PASSWORD_READER": _password,
    "DB_PASSWORD_SNAPSHOTS": _password,
    "DB_PASSWORD_SIGNALS": _password,
    "DB_PASSWORD_ACCOUNTS": _password,
    "DB_PASSWORD_GRAFANA": _password,
    "DB_PASSWORD_MONITOR": _password,
    "REDIS_PASSWORD": _password,
    "JWT_SIGNING_KEY": _ed25519_seed,
    "METRICS_TOKEN": _password,
    "ADMIN_PASSWORD": _password,
    "KEY_GATEWAY_CACHE": _password,
    "KEY_GATEWAY_INGESTION": _password,
    "KEY_GATEWAY_ANALYTICS": _password,
    "KEY_GATEWAY_SIGNALS": _password,
    "KEY_ANALYTICS_CACHE": _password,
    "KEY_CACHE_ANALYTICS": _password,
    "KEY_CACHE_INGESTION": _password,
    "KEY_SIGNALS_ANALYTICS": _password,
    "SIMULATOR_KEY": _vendor_key,
}

_HEADING = "# Secrets of this installation, made by ./start-dev.sh; .env.example explains every name.\n"


def parse_env(text: str) -> dict[str, str]:
    """The NAME=value lines of `text`; the last of equal names wins, one pair of surrounding quotes is dropped.

    Raises ValueError naming the first line that is neither a setting, a comment nor empty.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name = name[len("export ") :].strip() if name.startswith("export ") else name
        if not equals or not name.isidentifier():
            raise ValueError(f"line {number} is not NAME=value")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name] = value
    return values


def read_env_file(path: Path) -> dict[str, str]:
    """The settings in `path`, none when there is no such file. Raises ValueError as `parse_env` does."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        return parse_env(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def complete_env_file(path: Path) -> list[str]:
    """Append a fresh secret to `path` for every name that it lacks or leaves empty.

    Makes it (mode 600) when it is not there; what is there stays as it is. Returns the names added.
    Raises ValueError as `parse_env` does.
    """
    path = Path(os.path.realpath(path))
    with _alone_in(path.parent):
        present = read_env_file(path)
        missing = [name for name in SECRETS if not present.get(name)]
        if missing:
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            if before and not before.endswith("\n"):
                before += "\n"
            lines = "".join(f"{name}={SECRETS[name]()}\n" for name in missing)
            _replace(path, before + _HEADING + lines)
    return missing


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself, so that two first starts cannot each make their own secrets."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    """Put `text` at `path` in one step, mode 600, keeping an earlier file's owner."""
    descriptor, temporary = tempfile.mkstemp(prefix=".env.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if path.exists() and os.geteuid() == 0:
                os.fchown(file.fileno(), path.stat().st_uid, path.stat().st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


if __name__ == "__main__":
    env_file = Path(sys.argv[1])
    existed = env_file.exists()
    try:
        added = complete_env_file(env_file)
    except (OSError, ValueError) as problem:
        sys.exit(f"start-dev.sh: {problem}")
    if added:
        verb = "Completed" if existed else "Made"
        print(f"{verb} {env_file} (mode 600) with {len(added)} fresh secrets.", file=sys.stderr)
