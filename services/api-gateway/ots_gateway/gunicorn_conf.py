"""gunicorn for the gateway: gevent, because it waits for the services and computes next to nothing."""

from gevent import monkey

monkey.patch_all()

from typing import Any  # noqa: E402

from ots_common import gevent_postgres  # noqa: E402
from ots_common.gunicorn_conf import *  # noqa: E402, F403

worker_class = "ots_gateway.worker.GatewayWorker"


def post_fork(_server: Any, _worker: Any) -> None:
    """A query must not block the other greenlets of its worker."""
    gevent_postgres.install()
