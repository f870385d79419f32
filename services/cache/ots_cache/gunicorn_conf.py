"""gunicorn for the cache: gevent, because it waits for Redis and PostgreSQL and computes nothing."""

from gevent import monkey

monkey.patch_all()

from typing import Any  # noqa: E402

from ots_common import gevent_postgres  # noqa: E402
from ots_common.gunicorn_conf import *  # noqa: E402, F403

proc_name = "cache"
worker_class = "gevent"


def post_fork(_server: Any, _worker: Any) -> None:
    """A query must not block the other greenlets of its worker."""
    gevent_postgres.install()
