"""The server's configuration: no request waits for a compiler, and few threads share a process."""

from __future__ import annotations

import os
import subprocess
import sys

READY = """
import sys
from ots_analytics import gunicorn_conf
assert gunicorn_conf.preload_app and gunicorn_conf.worker_class == "gthread" and gunicorn_conf.threads == 4
assert not any(name.startswith("ots_quant.kernels.") for name in sys.modules)
gunicorn_conf.on_starting(None)
import pkgutil
from ots_quant import kernels
missing = {m.name for m in pkgutil.iter_modules(kernels.__path__)} - {n.rpartition(".")[2] for n in sys.modules}
assert not missing, missing
import gc
gunicorn_conf.pre_fork(None, None)
assert gc.get_freeze_count() > 100_000 > len(gc.get_objects())
"""


def test_kernels_are_ready_before_the_port_opens(tmp_path):
    old = tmp_path / "counter_1.db"
    old.touch()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", READY], check=True, env=environment)
    assert not old.exists()  # what all services do at their start is still done
