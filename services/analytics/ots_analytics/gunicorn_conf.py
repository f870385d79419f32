"""gunicorn for analytics: few threads, because it computes."""

from ots_common.gunicorn_conf import *  # noqa: F403

worker_class = "gthread"
threads = 4
