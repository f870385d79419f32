"""The market simulator as a process of its own on free ports, and a tape to play."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
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
            method, f"{self.url}/simulator{path}", auth=(self.key, ""), verify=str(self.ca), timeout=30, **options
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
        return self.process.wait(30)


class Listener:
    """A live session of the real client that keeps all that it was sent, in order, as bytes and as objects."""

    def __init__(self, simulator: RunningSimulator, dataset: str = "EQUS.MINI", **options: Any) -> None:
        self.client = simulator.live(**options)
        self.records: list[Any] = []
        self.error: Exception | None = None
        self._dataset = dataset
        self._news = threading.Condition()
        self._over = False

    def subscribe(self, schema: str, symbols: str | list[str] = "ALL_SYMBOLS", **options: Any) -> Listener:
        """Before or after :meth:`start`."""
        self.client.subscribe(self._dataset, schema, symbols, **options)
        return self

    def start(self) -> Listener:
        """Begin, and listen in the background."""
        self.client.add_callback(self._take)
        self.client.start()
        threading.Thread(target=self._wait, daemon=True).start()
        return self

    def until(self, enough: Callable[[list[Any]], bool], timeout: float = 60.0) -> list[Any]:
        """Wait until ``enough`` of the records; all records so far."""
        with self._news:
            assert self._news.wait_for(lambda: enough(self.records), timeout), f"{len(self.records)} records only"
            return list(self.records)

    def until_count(self, kind: type, count: int, timeout: float = 60.0) -> list[Any]:
        """Wait for ``count`` records of ``kind``; these."""
        self.until(lambda records: sum(isinstance(r, kind) for r in records) >= count, timeout)
        return self.of(kind)

    def until_closed(self, timeout: float = 60.0) -> Exception | None:
        """Wait for the end of the session; the client's error, None after a clean end."""
        with self._news:
            assert self._news.wait_for(lambda: self._over, timeout), "the session goes on"
        return self.error

    def of(self, kind: type) -> list[Any]:
        """The records of ``kind``."""
        with self._news:
            return [record for record in self.records if isinstance(record, kind)]

    def system(self, code: str) -> list[Any]:
        """The SystemMsgs of ``code``."""
        return [one for one in self.of(databento.SystemMsg) if str(one.code) == code]

    def close(self) -> None:
        """Leave."""
        if not self._over:
            self.client.terminate()
            self.until_closed()

    def _take(self, record: Any) -> None:
        with self._news:
            self.records.append(record)
            self._news.notify_all()

    def _wait(self) -> None:
        try:
            self.client.block_for_close()
        except Exception as error:
            self.error = error
        with self._news:
            self._over = True
            self._news.notify_all()


@contextmanager
def running_simulator(
    *,
    tape: Path | Mapping[str, bytes] | None = None,
    starts_at_ns: int | None = None,
    environment: Mapping[str, str] | None = None,
    **settings: object,
) -> Iterator[RunningSimulator]:
    """Start a simulator and stop it afterwards.

    ``tape``: a folder, or file names and their bytes (see ``dbn.dbn_file``); None: the seeded market. ``starts_at_ns``:
    the market's time at the start. ``settings``: of ``SimulatorSettings`` without ``simulator_`` (``speed=10``,
    ``tape_shift="minutes"``). ``environment``: more of it, as it is.
    """
    with tempfile.TemporaryDirectory(prefix="ots-simulator-") as scratch:
        folder = _folder(tape, Path(scratch) / "tape")
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SIMULATOR_")},
            "SIMULATOR_KEY": KEY,
            "SIMULATOR_HTTP_PORT": "0",
            "SIMULATOR_LIVE_PORT": "0",
            "SIMULATOR_TLS_DIR": str(_TLS),
            "SIMULATOR_TICK_MS": "10",
            "LOG_FORMAT": "console",
            "OTS_ENVIRONMENT": "development",
            **{f"SIMULATOR_{name.upper()}": str(value) for name, value in settings.items()},
            **(environment or {}),
        }
        if folder is not None:
            variables["SIMULATOR_TAPE"] = str(folder)
        if starts_at_ns is not None:
            seconds, rest = divmod(starts_at_ns, 10**9)
            variables["SIMULATOR_STARTS_AT"] = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
        log = Path(scratch) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "ots_simulator"],
                env=variables,
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
            process.wait(30)
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
