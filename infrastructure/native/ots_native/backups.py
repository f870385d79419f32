"""Backup and restore of a platform without containers: what `./start-dev.sh backup` and `restore` do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ots_native.account import launch_prefix
from ots_native.errors import NativeError
from ots_native.platform import Platform
from ots_native.private_files import locked
from ots_native.programs import SPOOLS, Programs
from ots_native.settings import Settings


def back_up(platform: Platform, folder: Path, keep: int | None = None) -> None:
    """Copy both databases to a new folder in `folder`, whether the platform runs or not.

    keep: delete the oldest backups there beyond so many. Raises NativeError, also when nothing has been started yet.
    """
    settings = platform.settings
    with _database_server(platform, settings):
        options = [] if keep is None else ["--keep", str(keep)]
        _run(platform, settings, "ots_common.backup", str(folder.resolve()), *options)


def restore(platform: Platform, backup: Path, *, replace: bool = False, check: bool = False) -> None:
    """Put both databases into the state of `backup`, while nothing else runs; `check`: only read it, at any time.

    replace: also where they hold something, which is deleted. Raises NativeError, also when the platform runs.
    """
    settings = platform.settings
    if check:
        _run(platform, settings, "ots_common.restore", str(backup.resolve()), "--check")
        return
    with locked(platform.state / "command.lock"):
        if platform.supervisor.answers():
            raise NativeError("The platform runs, and would write meanwhile: ./start-dev.sh down first.")
        with _database_server(platform, settings):
            options = ["--replace"] if replace else []
            _run(platform, settings, "ots_common.restore", str(backup.resolve()), *options)
        # the restored cursors point into files that have been stored, and deleted, since: without a spool the collector
        # states a gap from where the database ends, and asks the feed for a replay
        shutil.rmtree(platform.state / SPOOLS[settings.market_source] / "live", ignore_errors=True)


@contextmanager
def _database_server(platform: Platform, settings: Settings) -> Iterator[None]:
    """The one that runs, else one for as long as the context lasts."""
    server = platform.postgres(settings)
    if server.is_ready():
        yield
        return
    server.start()
    try:
        yield
    finally:
        server.stop()


def _run(platform: Platform, settings: Settings, module: str, *arguments: str) -> None:
    """Run one of our commands to its end; what it says is seen as it says it. Raises NativeError when it fails."""
    programs = Programs(platform.root, platform.state, settings, platform.postgres(settings), platform.redis(settings))
    environment = {**platform.supervisor.inherited(), **programs.provision_environment()}
    command = [*launch_prefix("KILL"), sys.executable, "-I", "-m", module, *arguments]
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise NativeError(f"python -m {module} failed: see above.")
