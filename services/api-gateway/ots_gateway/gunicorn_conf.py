"""gunicorn for the gateway: gevent, because it waits for the services and computes next to nothing."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
from typing import Any  # noqa: E402

from ots_common import gevent_postgres  # noqa: E402
from ots_common.gunicorn_conf import *  # noqa: E402, F403

proc_name = "gateway"
worker_class = "ots_gateway.worker.GatewayWorker"
# the longest answer of the table, and its transfer
graceful_timeout = int(os.environ.get("DRAIN_S", "370"))


def post_fork(_server: Any, _worker: Any) -> None:
    """A query must not block the other greenlets of its worker."""
    gevent_postgres.install()
