"""gunicorn for analytics: few threads, because it computes."""

import gc
from typing import Any

from ots_common import gunicorn_conf as shared
from ots_common.gunicorn_conf import *  # noqa: F403
from ots_quant.warm import warm

preload_app = True  # the calendar and the libraries once, then forked: quicker to start, and shared memory
proc_name = "analytics"
worker_class = "gthread"
threads = 4


def on_starting(server: Any) -> None:  # type: ignore[no-redef]  # of what was imported above
    """Compile the kernels, or load them, before the port opens: no request waits for a compiler."""
    shared.on_starting(server)
    warm()


def pre_fork(_server: Any, _worker: Any) -> None:
    """What is loaded stays: without this each full collection looks through it all again, 0.2 s in which nobody is
    answered, and copies the pages that the workers share.
    """
    gc.freeze()
