"""The unprivileged account that PostgreSQL, which refuses root, runs as when root starts the platform."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ots_native.errors import NativeError
from ots_native.private_files import locked, short_hash

SHARED = Path("/var/lib/ai-ots")
ACCOUNT = "ots-postgres"
_MADE_BY_US = SHARED / "account-made-by-ai-ots"


@dataclass(frozen=True)
class Account:
    """An entry of the password database."""

    name: str
    uid: int
    gid: int

    @classmethod
    def current(cls) -> Account:
        """The invoking user. Raises NativeError when it has no entry, as PostgreSQL would."""
        try:
            return cls._of(pwd.getpwuid(os.geteuid()))
        except KeyError:
            raise NativeError(f"User id {os.geteuid()} is not in /etc/passwd, as PostgreSQL demands.") from None

    @classmethod
    def named(cls, name: str) -> Account:
        """Raises KeyError when there is no such account."""
        return cls._of(pwd.getpwnam(name))

    @classmethod
    def _of(cls, entry: pwd.struct_passwd) -> Account:
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)


def is_root() -> bool:
    """Whether privileges must be dropped before PostgreSQL starts."""
    return os.geteuid() == 0


def _server_account(wanted: str | None) -> Account:
    if wanted:
        return _existing(wanted)
    try:
        return Account.named(ACCOUNT)
    except KeyError:
        return _make_account()


def _existing(name: str) -> Account:
    try:
        account = Account.named(name)
    except KeyError:
        raise NativeError(f"OTS_POSTGRES_USER={name}: there is no such user.") from None
    if account.uid == 0:
        raise NativeError(f"OTS_POSTGRES_USER={name}: PostgreSQL refuses to run as root.")
    return account


def _make_account() -> Account:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    try:
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", ACCOUNT], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return _existing("nobody")
    _MADE_BY_US.touch()
    return Account.named(ACCOUNT)


def home_for(folder: Path) -> Path:
    """Where PostgreSQL's files for `folder` live: there, or under root where an unprivileged user can reach them."""
    return SHARED / short_hash(folder) if is_root() else folder


def make_home(home: Path, made_for: Path, wanted_account: str | None) -> Account:
    """Make `home` for whom PostgreSQL runs as, and return that account.

    The invoking user; or under root `wanted_account`, else an account of its own (made when missing), else `nobody`.

    Raises NativeError when `wanted_account` is not there or is root.
    """
    if not is_root():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Account.current()
    with shared_folder():
        account = _server_account(wanted_account)
        home.mkdir(mode=0o700, exist_ok=True)
        os.chown(home, account.uid, account.gid)
        (home / "made-for").write_text(f"{made_for}\n", encoding="utf-8")
    return account


@contextmanager
def shared_folder() -> Iterator[Path]:
    """/var/lib/ai-ots, made when missing and held alone: every platform that root runs shares it."""
    with locked(SHARED / ".lock"):
        SHARED.chmod(0o755)
        yield SHARED


def remove_home(home: Path) -> None:
    """Delete `home`; under root also the shared binaries and our account when no other platform uses them."""
    if not is_root():
        shutil.rmtree(home, ignore_errors=True)
        return
    if not SHARED.exists():
        return
    with shared_folder():
        shutil.rmtree(home, ignore_errors=True)
        if any(entry.is_dir() and not entry.name.startswith("postgresql-") for entry in SHARED.iterdir()):
            return
        account_was_ours = _MADE_BY_US.exists()
        shutil.rmtree(SHARED, ignore_errors=True)
        if account_was_ours:
            subprocess.run(["userdel", ACCOUNT], check=False, capture_output=True)


def launch_prefix(death_signal: str, account: Account | None = None) -> list[str]:
    """Words before a command: when its parent dies the kernel sends `death_signal`; root is dropped for `account`.

    Empty where there is no setpriv (macOS). Raises NativeError when root cannot be dropped without it.
    """
    drop = account is not None and account.uid != os.geteuid()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if drop or (sys.platform == "linux" and is_root()):
            raise NativeError(
                "Root needs `setpriv` (util-linux) to run PostgreSQL as another user; or start as a user."
            )
        return []
    prefix = [setpriv, "--pdeathsig", death_signal]
    if drop and account is not None:
        prefix += [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    return prefix
