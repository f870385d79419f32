"""What became of alerts: when they fired and ended in Prometheus, what Alertmanager told, and what it held back."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_EVERY_S = 0.7


@dataclass
class Episode:
    """One series of an alert, from its beginning to its end (seconds of the monotonic clock)."""

    alert: str
    labels: str
    began: float
    ended: float | None = None


@dataclass(frozen=True)
class Told:
    """One alert of a message to the webhook."""

    alert: str
    labels: str
    status: str
    at: float


@dataclass
class Watch:
    """Asks Prometheus and Alertmanager all the time, in a thread of its own, until `close`.

    `prometheus`, `alertmanager`: give their addresses, since those may change.
    """

    prometheus: Callable[[], str]
    alertmanager: Callable[[], str]
    episodes: list[Episode] = field(default_factory=list)
    held_back: list[tuple[str, str, float]] = field(default_factory=list)
    """Alert, the alert under which it was inhibited, when."""
    _open: dict[tuple[str, str], Episode] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _asked: int = 0

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._go_on, daemon=True).start()

    def close(self) -> None:
        """End."""
        self._stopping.set()

    def firing(self) -> dict[str, set[str]]:
        """The labels of each alert's series that fire, by the alert's name."""
        found: dict[str, set[str]] = {}
        for alert, labels in list(self._open):
            found.setdefault(alert, set()).add(labels)
        return found

    def inhibited(self, alert: str, since: float) -> set[str]:
        """Under what it was held back since then."""
        return {under for name, under, at in list(self.held_back) if name == alert and at >= since}

    def ended(self, alert: str, series: Collection[str], after: float) -> float | None:
        """When the last of these series was seen to have ended, at or after that moment; None while one fires."""
        if any((alert, labels) in self._open for labels in series):
            return None
        ends = [one.ended for one in list(self.episodes) if one.alert == alert and one.labels in series and one.ended]
        return max([after, *ends]) if ends else None

    def _go_on(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        try:
            answer = _ask(f"{self.prometheus()}/api/v1/alerts")["data"]["alerts"]
        except (OSError, ValueError, KeyError):
            return
        now = time.monotonic()
        firing = {
            (one["labels"]["alertname"], json.dumps(one["labels"], sort_keys=True))
            for one in answer
            if one["state"] == "firing"
        }
        for key in firing - set(self._open):
            self.episodes.append(Episode(*key, began=now))
            self._open[key] = self.episodes[-1]
        for key in set(self._open) - firing:
            self._open.pop(key).ended = now
        self._asked += 1
        if self._asked % 2 == 0:
            self._look_at_alertmanager(now)

    def _look_at_alertmanager(self, now: float) -> None:
        try:
            known = _ask(f"{self.alertmanager()}/api/v2/alerts")
        except (OSError, ValueError):
            return
        names = {one["fingerprint"]: one["labels"]["alertname"] for one in known}
        for one in known:
            for fingerprint in one["status"]["inhibitedBy"]:
                name = one["labels"]["alertname"], names.get(fingerprint, "?")
                self.held_back.append((*name, now))


def _ask(url: str) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return json.load(answer)


class Hook:
    """Takes what Alertmanager sends; `refuses`: answers 500."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.refuses = False
        self.told: list[Told] = []
        hook = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not hook.refuses:
                    hook.told += [hook._of(one) for one in body["alerts"]]
                self.send_response(500 if hook.refuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer((address, 0), Receiver)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"

    @staticmethod
    def _of(one: Mapping[str, Any]) -> Told:
        labels: Mapping[str, str] = one["labels"]
        return Told(labels["alertname"], json.dumps(labels, sort_keys=True), one["status"], time.monotonic())

    def first(self, alert: str, since: float) -> float | None:
        """When it was first told that the alert fires, at or after that moment."""
        return min((one.at for one in list(self.told) if self._is(one, alert, "firing", since)), default=None)

    def end(self, alert: str, since: float) -> float | None:
        """When it was last told that it has ended."""
        return max((one.at for one in list(self.told) if self._is(one, alert, "resolved", since)), default=None)

    @staticmethod
    def _is(one: Told, alert: str, status: str, since: float) -> bool:
        return one.alert == alert and one.status == status and one.at >= since
