"""gunicorn for ingestion: threads, because uploads wait for the disk and pages for the database."""

from ots_common.gunicorn_conf import *  # noqa: F403

preload_app = True  # the calendar and the libraries once, then forked: quicker to start, and shared memory
proc_name = "data-ingestion"
worker_class = "gthread"
threads = 8
