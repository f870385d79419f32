"""Where the processes without a web server let their metrics be read: on this machine only, unless told otherwise."""

import os
import socket
import subprocess
import sys

import pytest
import requests

from backfill_support import eventually

# every address of 127/8 is this machine's: whoever listens on 0.0.0.0 answers here too
ANOTHER_ADDRESS = "127.0.0.2"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(host, port):
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


@pytest.mark.parametrize("bind", ["", "0.0.0.0"])
@pytest.mark.parametrize("process", ["collector", "backfiller", "worker"])
def test_metrics_listen_where_they_are_told(process, bind, tmp_path):
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        # nobody is there: metrics do not wait for the database
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/nothing",
        "SPOOL_DIR": str(tmp_path),
        f"{process.upper()}_METRICS_PORT": str(port),
        "METRICS_BIND": bind,
    }
    command = [sys.executable, "-m", "ots_ingestion", process]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: answers("127.0.0.1", port) or running.poll() is not None)
        assert answers("127.0.0.1", port)
        assert answers(ANOTHER_ADDRESS, port) == bool(bind)
        told = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        assert f'service="ingestion-{process}"' in told
    finally:
        running.kill()
        running.wait()
