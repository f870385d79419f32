"""gunicorn's configuration, shared by the services; each service's own module imports it and names its worker class.

Read from the environment because gunicorn executes it before the application's settings exist.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prometheus_client import multiprocess

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WORKERS", "2"))
worker_class = "gthread"
threads = 8
keepalive = 75
timeout = 60
graceful_timeout = 10
forwarded_allow_ips = ""  # nobody in front of a service may speak for a client
control_socket_disable = True  # gunicorn would open the same ~/.gunicorn socket for every service
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190
accesslog = None
logger_class = "ots_common.gunicorn_logs.LineLogger"
proc_name = "gunicorn"  # the service's name in its lines; each says its own
# heartbeats in memory: on a slow disk a worker would look dead
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def on_starting(_server: Any) -> None:
    """Forget the metric files of the workers of an earlier life."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for stale in Path(folder).glob("*.db"):
            stale.unlink()


def post_worker_init(worker: Any) -> None:
    """What needs a thread of its own: after the fork, and when the application is there."""
    from ots_common import process  # gunicorn reads this file in its master, which needs none of it

    process.begin_worker(worker.cfg.proc_name)


def worker_exit(_server: Any, _worker: Any) -> None:
    """The last spans."""
    from ots_common import process

    process.end_worker()


def child_exit(_server: Any, worker: Any) -> None:
    """A worker that is gone no longer counts in the live gauges."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
