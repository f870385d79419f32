"""The guard: runs under supervisord, starts again what supervisord gave up, and supervisord itself when that is killed.

python -m ots_native.guard FOLDER [DATA_FOLDER ...]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from ots_native.errors import NativeError
from ots_native.processes import end_processes
from ots_native.supervision import Supervisor

PARENT_LOOK_S = 0.2
RETRY_EVERY_S = 3.0
# workers of a killed gunicorn would finish their requests, which nobody waits for any more
ORPHAN_PATIENCE_S = 1.0


def watch(supervisor: Supervisor) -> None:
    """Return when supervisord, our parent, is gone; until then retry what it gave up."""
    parent = os.getppid()
    retry_at = time.monotonic() + RETRY_EVERY_S
    while os.getppid() == parent and not _is_orphan(supervisor, parent):
        if time.monotonic() > retry_at:
            supervisor.start_failed_programs()
            retry_at = time.monotonic() + RETRY_EVERY_S
        time.sleep(PARENT_LOOK_S)


def _is_orphan(supervisor: Supervisor, parent: int) -> bool:
    """Whether supervisord died before we first looked at our parent."""
    try:
        return int((supervisor.folder / "supervisord.pid").read_text(encoding="ascii")) != parent
    except (FileNotFoundError, ValueError):
        return False


def revive(supervisor: Supervisor) -> None:
    """Start supervisord again once its programs, told by the kernel, have ended; unless a stop was asked for."""
    while not supervisor.is_stopping():
        end_processes(supervisor.folder, supervisor.data_folders, patience_s=ORPHAN_PATIENCE_S)
        try:
            if not supervisor.is_stopping():
                supervisor.start()
            return
        except NativeError as error:
            print(error, file=sys.stderr, flush=True)
            time.sleep(1)


def main() -> None:
    """Guard the folder of the command line, with the environment that supervisord gave us."""
    folder, *data_folders = (Path(argument) for argument in sys.argv[1:])
    supervisor = Supervisor(folder, data_folders, os.environ)
    watch(supervisor)
    revive(supervisor)


if __name__ == "__main__":
    main()
