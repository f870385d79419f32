"""The market simulator as a process of its own on free ports, and a tape to play."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import databento
import requests

KEY = "db-" + "simulator0key0of0the0tests0ab"
# one authority for all simulators of a test run, so that REQUESTS_CA_BUNDLE stays true
_TLS = Path(tempfile.mkdtemp(prefix="ots-simulator-tls-"))


@dataclass
class RunningSimulator:
    """A simulator that listens. ``key`` opens it."""

    process: subprocess.Popen[str]
    http_port: int
    live_port: int
    ca: Path
    key: str = KEY

    @property
    def url(self) -> str:
        """The historical API, as ``databento.Historical`` takes it."""
        return f"https://localhost:{self.http_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What ingestion is told about its vendor."""
        return {
            "DATABENTO_API_KEY": self.key,
            "DATABENTO_HISTORICAL_URL": self.url,
            "DATABENTO_LIVE_HOST": "127.0.0.1",
            "DATABENTO_LIVE_PORT": str(self.live_port),
            "REQUESTS_CA_BUNDLE": str(self.ca),
        }

    def historical(self, key: str | None = None) -> databento.Historical:
        """The real client; it finds the authority through REQUESTS_CA_BUNDLE, which is set while this runs."""
        return databento.Historical(key or self.key, gateway=self.url)

    def live(self, key: str | None = None, **options: Any) -> databento.Live:
        """The real client."""
        return databento.Live(key or self.key, gateway="127.0.0.1", port=self.live_port, **options)

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Ask one of the simulator's own routes, ``/simulator`` left out."""
        return requests.request(
            method, f"{self.url}/simulator{path}", auth=(self.key, ""), verify=str(self.ca), timeout=10, **options
        )

    def fault(self, kind: str, **fields: Any) -> int:
        """Arm a fault (see ``ots_simulator.faults.Fault``); its number."""
        answer = self.call("POST", "/faults", json={"kind": kind, **fields})
        assert answer.status_code == 201, answer.text
        number: int = answer.json()["id"]
        return number

    def fired(self, number: int) -> int:
        """How often a fault has happened."""
        return next(one["fired"] for one in self.call("GET", "/faults").json() if one["id"] == number)

    def clear_faults(self) -> None:
        """Delete all faults."""
        assert self.call("DELETE", "/faults").status_code == 200

    def now_ns(self) -> int:
        """The market's time."""
        now: int = self.call("GET", "/health/live").json()["now_ns"]
        return now

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(10)


@contextmanager
def running_simulator(
    *, tape: Path | Mapping[str, bytes] | None = None, starts_at_ns: int | None = None, **settings: object
) -> Iterator[RunningSimulator]:
    """Start a simulator and stop it afterwards.

    ``tape``: a folder, or file names and their bytes (see ``dbn.dbn_file``); None: the seeded market. ``starts_at_ns``:
    the market's time at the start. ``settings``: of ``SimulatorSettings`` without ``simulator_`` (``speed=10``,
    ``tape_shift="minutes"``).
    """
    with tempfile.TemporaryDirectory(prefix="ots-simulator-") as scratch:
        folder = _folder(tape, Path(scratch) / "tape")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SIMULATOR_")},
            "SIMULATOR_KEY": KEY,
            "SIMULATOR_HTTP_PORT": "0",
            "SIMULATOR_LIVE_PORT": "0",
            "SIMULATOR_TLS_DIR": str(_TLS),
            "SIMULATOR_TICK_MS": "10",
            "LOG_FORMAT": "console",
            "OTS_ENVIRONMENT": "development",
            **{f"SIMULATOR_{name.upper()}": str(value) for name, value in settings.items()},
        }
        if folder is not None:
            environment["SIMULATOR_TAPE"] = str(folder)
        if starts_at_ns is not None:
            seconds, rest = divmod(starts_at_ns, 10**9)
            environment["SIMULATOR_STARTS_AT"] = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
        log = Path(scratch) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "ots_simulator"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        before = os.environ.get("REQUESTS_CA_BUNDLE")
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the simulator did not start:\n{log.read_text()}"
            ready = json.loads(line)
            os.environ["REQUESTS_CA_BUNDLE"] = ready["ca"]
            yield RunningSimulator(process, ready["http_port"], ready["live_port"], Path(ready["ca"]))
        finally:
            process.terminate()
            process.wait(10)
            print(log.read_text(), file=sys.stderr)
            if before is None:
                os.environ.pop("REQUESTS_CA_BUNDLE", None)
            else:
                os.environ["REQUESTS_CA_BUNDLE"] = before


def _folder(tape: Path | Mapping[str, bytes] | None, made: Path) -> Path | None:
    if tape is None or isinstance(tape, Path):
        return tape
    made.mkdir()
    for name, data in tape.items():
        (made / name).write_bytes(data)
    return made
