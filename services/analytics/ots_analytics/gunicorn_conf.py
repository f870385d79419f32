"""gunicorn for analytics: few threads, because it computes."""

from ots_common.gunicorn_conf import *  # noqa: F403

preload_app = True  # the calendar and the libraries once, then forked: quicker to start, and shared memory
worker_class = "gthread"
threads = 4
