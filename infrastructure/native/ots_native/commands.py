"""One of our command lines in the place of a program: what `./start-dev.sh run PROGRAM MODULE ...` does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from ots_native.account import launch_prefix
from ots_native.errors import NativeError
from ots_native.platform import Platform
from ots_native.programs import Programs


def run_beside(platform: Platform, program: str, module: str, arguments: Sequence[str]) -> int:
    """Run `python -m MODULE ARGUMENT...` with what `program` is given: its settings, its keys, its database role.

    Returns its exit code. Raises NativeError for a program that the platform does not have.
    """
    settings = platform.settings
    programs = Programs(platform.root, platform.state, settings, platform.postgres(settings), platform.redis(settings))
    environments = {each.name: each.environment for each in programs.all()}
    if program not in environments:
        raise NativeError(f"There is no {program}; there are: {', '.join(sorted(environments))}.")
    # two processes may not count in one folder of metrics
    environment = {name: value for name, value in environments[program].items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    command = [*launch_prefix("KILL"), sys.executable, "-I", "-m", module, *arguments]
    return subprocess.run(command, env={**platform.supervisor.inherited(), **environment}, check=False).returncode
