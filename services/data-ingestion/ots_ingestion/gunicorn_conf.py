"""gunicorn for ingestion: threads, because uploads wait for the disk and pages for the database."""

from ots_common.gunicorn_conf import *  # noqa: F403

worker_class = "gthread"
threads = 8
