"""gunicorn for signals: threads, most of which wait for rows to send to who follows the stream."""

import gc
from typing import Any

from ots_common.gunicorn_conf import *  # noqa: F403

preload_app = True  # the calendar and the libraries once, then forked
proc_name = "signals"
worker_class = "gthread"
# STREAMS of them at most follow the stream
threads = 24


def pre_fork(_server: Any, _worker: Any) -> None:
    """What is loaded stays, and is shared."""
    gc.freeze()
