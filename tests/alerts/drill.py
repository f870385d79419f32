"""The firing drill: a platform of its own, on which the cause of each alert is brought about, until the alert arrives.

    PYTHONPATH=tests python -m alerts.drill [--only NAME ...] [--list] [--state FOLDER] [--keep]

The rules are the real ones with shorter times (see `shortened`), asked every two seconds. An alert is seen when it
was not firing, its cause was brought about, and Prometheus says it fires; it resolves after the cause was taken back.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg2
import redis as redis_client
import yaml

from alerts.rule_files import RULE_FILES, alerts
from ots_native.errors import NativeError
from ots_native.platform import Platform
from ots_native.settings import Ports
from places import ROOT

SCRAPE_S = 2
# times of the rules are divided by this, and are then between these
SHORTER = 30
LEAST_S, MOST_S = 12, 120
FOR_AT_MOST_S = 2
_TOKEN_S = 300
_RESOLVED_S = 40
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

# what else of an expression is another: ages and sizes that nobody waits for or fills here
CHANGED: dict[str, list[tuple[str, str]]] = {
    "CollectionDisconnected": [("> 60", "> 5")],
    "DatabasePoolExhausted": [("> 600", "> 20")],
    "FeedMute": [("> 300", "> 15")],
    "GapsAppear": [("> 20", "> 5")],
    "HighErrorRatio": [("* 300", f"* {LEAST_S}")],
    "HighLatency": [("* 300", f"* {LEAST_S}")],
    "CacheHitsCollapse": [("* 900", "* 30")],
    "MaintenanceLate": [("46800", "90")],
    "ReconnectStorm": [("> 6", "> 3")],
    "SelfCheckFails": [("> 1", "> 0")],
    "ServiceRestarts": [("[60s]", "[120s]")],
    "UpstreamFails": [("> 20", "> 3")],
    "PostgresDown": [("> 120", "> 10")],
    "PostgresLongTransaction": [("> 3600", "> 8")],
    "RedisDown": [("> 120", "> 10")],
    "SelfCheckLate": [("9000", "60")],
    "ServiceDown": [("> 300", "> 10")],
    "SnapshotsLate": [("> 900", "> 90")],
    "SpoolBehind": [("> 900", "> 10")],
    "SpoolFills": [("> 2147483648", "> 2000000")],
    "StoreFails": [("> 900", "> 30"), ("> 5", "> 1")],
    "SymbolStale": [("> 1800", "> 45")],
    "WatermarkStale": [("> 300", "> 45")],
}


def shortened(text: str) -> str:
    """A file of rules whose times are shorter: `for` at most 2 s, windows and offsets a thirtieth (12 s to 2 min), and
    the bounds of CHANGED. Raises ValueError when an expression has not what CHANGED replaces."""
    given = yaml.safe_load(text)
    for group in given["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            expression = re.sub(r"(\[|offset )(\d+)([smhd])", _shorter, rule["expr"])
            for before, after in CHANGED.get(rule.get("alert", ""), []):
                if before not in expression:
                    raise ValueError(f"{rule['alert']} has no {before}")
                expression = expression.replace(before, after)
            rule["expr"] = expression
            if "for" in rule:
                rule["for"] = f"{FOR_AT_MOST_S}s"
    return yaml.safe_dump(given, sort_keys=False, width=10_000)


def _shorter(found: re.Match[str]) -> str:
    seconds = int(found[2]) * _UNITS[found[3]] / SHORTER
    return f"{found[1]}{round(min(MOST_S, max(LEAST_S, seconds)))}s"


class NotHere(Exception):
    """A cause that this machine does not let anybody bring about."""


@dataclass(frozen=True)
class Cause:
    """What is done so that `alerts` fire. `undo` follows whatever happened; `resolves`: their end is waited for."""

    name: str
    alerts: tuple[str, ...]
    bring: Callable[[Drill], None]
    undo: Callable[[Drill], None] = lambda _: None
    # what goes on being done while the alerts are waited for
    again: Callable[[Drill], None] | None = None
    # before it is asked whether its alerts fire already
    prepare: Callable[[Drill], None] = lambda _: None
    within_s: float = 60.0
    resolves: bool = True


@dataclass
class Seen:
    """What became of one alert."""

    alert: str
    cause: str
    fired_s: float | None = None
    told: bool = False
    resolved_s: float | None = None
    note: str = ""
    caused: bool = True


@dataclass
class Drill:
    """The running platform, and how to trouble it."""

    platform: Platform
    told: set[str]
    hook: _Hook
    held: list[Any] = field(default_factory=list)
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def ports(self) -> Ports:
        return self.platform.settings.ports

    # what Prometheus says

    def firing(self) -> dict[str, set[str]]:
        """The alerts that fire, by name: the labels of each."""
        status, body = self.get(f"http://127.0.0.1:{self.ports.prometheus}/api/v1/alerts")
        found: dict[str, set[str]] = {}
        for one in json.loads(body)["data"]["alerts"] if status == 200 else []:
            if one["state"] == "firing":
                found.setdefault(one["labels"]["alertname"], set()).add(json.dumps(one["labels"], sort_keys=True))
        return found

    # HTTP

    def token(self, role: str = "admin") -> str:
        """A token of that role, a new one every few minutes where one is to be had."""
        known, since = self._tokens.get(role, ("", 0.0))
        if not known or time.monotonic() - since > _TOKEN_S:
            try:
                known = self.platform.token(role)
            except NativeError:
                if not known:
                    raise
            self._tokens[role] = known, time.monotonic()
        return known

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        kind: str = "application/json",
        timeout_s: float = 30,
    ) -> tuple[int, bytes]:
        """Ask the gateway; token "" asks without one, None as admin."""
        headers = {"Content-Type": kind}
        given = self.token() if token is None else token
        if given:
            headers["Authorization"] = f"Bearer {given}"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.ports.gateway}/api/v1/{path}"
        return self.get(url, method=method, data=data, headers=headers, timeout_s=timeout_s)

    def get(
        self,
        url: str,
        *,
        method: str = "GET",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30,
    ) -> tuple[int, bytes]:
        """Status and body; status 0 where nobody answered."""
        request = urllib.request.Request(url, data, dict(headers or {}), method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_s) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def together(self, number: int, ask: Callable[[], object]) -> None:
        """`ask` that many times at once, without waiting for the answers."""

        def asked() -> None:
            with contextlib.suppress(NativeError):
                ask()

        for _ in range(number):
            threading.Thread(target=asked, daemon=True).start()

    def fault(self, **fault: object) -> None:
        """Arm a fault of the simulated vendor."""
        status, body = self._simulator("POST", json.dumps(fault).encode())
        if status not in (200, 201):
            raise RuntimeError(f"the simulator refused {fault}: {status} {body[:200]!r}")

    def no_faults(self) -> None:
        """End all of them."""
        self._simulator("DELETE", None)

    def _simulator(self, method: str, data: bytes | None) -> tuple[int, bytes]:
        import base64
        import ssl

        settings = self.platform.settings
        context = ssl.create_default_context(cafile=str(self.platform.state / "simulator" / "ca.pem"))
        key = base64.b64encode(f"{settings.values['SIMULATOR_KEY']}:".encode()).decode()
        request = urllib.request.Request(
            f"https://localhost:{settings.ports.simulator}/simulator/faults",
            data,
            {"Authorization": f"Basic {key}", "Content-Type": "application/json"},
            method=method,
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=30) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    # programs

    def supervisor(self) -> Any:
        """supervisord's own methods."""
        return self.platform.supervisor._rpc().supervisor

    def stop(self, *names: str) -> None:
        """Ask supervisord to stop programs, and wait."""
        for name in names:
            with contextlib.suppress(Exception):
                self.supervisor().stopProcess(name, True)

    def start(self, *names: str) -> None:
        """Start them again."""
        self.platform.supervisor.start_programs(names)

    def pid(self, name: str) -> int:
        """Of a program, or of what its launcher became."""
        return next(state.pid for state in self.platform.supervisor.states() if state.name == name)

    def kill(self, name: str) -> None:
        """kill -9, and wait until supervisord has started it anew."""
        before = self.pid(name)
        if before:
            os.killpg(os.getpgid(before), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self.pid(name) in (0, before) and time.monotonic() < deadline:
            time.sleep(0.2)

    # storage

    def sql(self, statement: str, parameters: object = None, *, database: str = "market") -> list[tuple[Any, ...]]:
        """As the superuser, committed."""
        with contextlib.closing(self.connection(database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []

    def connection(self, database: str = "market") -> Any:
        """A connection of the superuser's."""
        settings = self.platform.settings
        name = {"market": settings.market_database, "accounts": "ots_accounts"}.get(database, database)
        url = self.platform.postgres(settings).admin_url.replace("@/postgres?", f"@/{name}?")
        return psycopg2.connect(url, connect_timeout=10, application_name="drill")

    def hold(self, statement: str, *, database: str = "market") -> None:
        """A transaction that stays open with its locks until `release`."""
        for _ in range(10):
            connection = self.connection(database)
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
            except psycopg2.errors.DeadlockDetected:
                # who writes had one of the tables and wanted the next
                connection.close()
                continue
            self.held.append(connection)
            return
        raise RuntimeError("no lock to be had")

    def release(self) -> None:
        """End every transaction held."""
        while self.held:
            with contextlib.suppress(Exception):
                self.held.pop().close()

    def redis(self) -> redis_client.Redis:
        """A connection to the platform's Redis."""
        settings = self.platform.settings
        return redis_client.Redis(port=settings.ports.redis, password=settings.values["REDIS_PASSWORD"])


class _Hook:
    """Takes what Alertmanager sends; `refuses`: answers 500."""

    def __init__(self, told: set[str]) -> None:
        self.refuses = False
        hook = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not hook.refuses:
                    told.update(one["labels"]["alertname"] for one in body["alerts"] if one["status"] == "firing")
                self.send_response(500 if hook.refuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@contextlib.contextmanager
def running(state: Path, *, keep: bool) -> Iterator[Drill]:
    """The platform in `state`, watched with the shorter rules; stopped and deleted afterwards unless `keep`."""
    told: set[str] = set()
    hook = _Hook(told)
    record = state / "platform" / "record.json"
    given = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    # what is asked is asked by one address a thousand times; checks are made now, not within the hour
    given |= {"OTS_MONITORING": "on", "MARKET_SOURCE": "simulated", "WORKERS": "1", "SELF_CHECK_EVERY_S": "15"}
    given |= {"ALERT_WEBHOOK_URL": hook.url, "BACKFILL_PARALLEL": "2", "LOG_LEVEL": "WARNING"}
    platform = Platform(
        ROOT,
        state=state / "platform",
        ports=None if record.exists() else Ports.free(),
        environment=given,
        env_file=state / ".env",
        ready_timeout_s=600,
        say=lambda line: print(f"  {line}", flush=True),
    )
    try:
        platform.monitor()
        drill = Drill(platform, told, hook)
        _watch_closely(drill)
        for role in ("admin", "viewer"):
            drill.token(role)
        yield drill
    finally:
        if keep:
            print(f"Kept: {platform.state}")
        else:
            platform.reset()
            shutil.rmtree(state, ignore_errors=True)


def _watch_closely(drill: Drill) -> None:
    """Give the Prometheus and the Alertmanager that run the shorter times, and a rule that cannot be evaluated."""
    state = drill.platform.state
    rules = state / "prometheus" / "drill-rules"
    shutil.rmtree(rules, ignore_errors=True)
    rules.mkdir()
    for path in RULE_FILES:
        (rules / path.name).write_text(shortened(path.read_text()))
    path = state / "prometheus" / "prometheus.yml"
    configuration = json.loads(path.read_text())
    configuration["global"] |= {
        "scrape_interval": f"{SCRAPE_S}s",
        "scrape_timeout": f"{SCRAPE_S}s",
        "evaluation_interval": "2s",
    }
    configuration["rule_files"] = [str(rules / "*.yml")]
    path.write_text(json.dumps(configuration))
    reload(drill, "prometheus")
    path = state / "alertmanager" / "alertmanager.yml"
    text = re.sub(r"group_wait: \w+", "group_wait: 1s", path.read_text())
    path.write_text(re.sub(r"group_interval: \w+", "group_interval: 5s", text))
    reload(drill, "alertmanager")


def reload(drill: Drill, name: str) -> None:
    """Let it read its configuration again."""
    os.kill(drill.pid(name), signal.SIGHUP)


@functools.cache
def _lasting() -> frozenset[str]:
    """The alerts that look back for so long that nobody waits for their end: they, or what they are recorded from."""
    rules = [
        rule for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
    ]
    return frozenset(
        rule["alert"] for rule in rules if "alert" in rule and re.search(r"\[\d+[hd]\]|rate\d+[hd]", rule["expr"])
    )


def perform(drill: Drill, cause: Cause, only: set[str] | None) -> list[Seen]:
    """Bring it about, wait for its alerts, take it back, wait until they end."""
    wanted = [alert for alert in cause.alerts if only is None or alert in only]
    seen = {alert: Seen(alert, cause.name) for alert in wanted}
    cause.prepare(drill)
    deadline = time.monotonic() + 30
    while (already := _of(drill.firing(), wanted)) and time.monotonic() < deadline:
        time.sleep(1)
    for alert in already:
        seen[alert].note = "fired of something else before its cause"
    waiting = set(wanted)
    began = time.monotonic()
    brought: dict[str, set[str]] = {}
    try:
        cause.bring(drill)
        while waiting and time.monotonic() < began + cause.within_s:
            for alert, series in _of(drill.firing(), waiting).items():
                if new := series - already.get(alert, set()):
                    seen[alert].fired_s, seen[alert].note = time.monotonic() - began, ""
                    brought[alert] = new
            waiting -= set(brought)
            if waiting and cause.again:
                cause.again(drill)
            time.sleep(0.5)
    except NotHere as error:
        for alert in waiting:
            seen[alert].note, seen[alert].caused = str(error)[:120], False
    except Exception as error:
        for alert in waiting:
            seen[alert].note = f"{type(error).__name__}: {error}".strip()[:120]
    finally:
        try:
            cause.undo(drill)
        except Exception as error:
            for one in seen.values():
                one.note = f"undo: {type(error).__name__}: {error}"[:120]
    undone = time.monotonic()
    ending = {alert: series for alert, series in brought.items() if cause.resolves and alert not in _lasting()}
    while ending and time.monotonic() < undone + _RESOLVED_S:
        firing = drill.firing()
        for alert in [alert for alert, series in ending.items() if not series & firing.get(alert, set())]:
            seen[alert].resolved_s = time.monotonic() - undone
            del ending[alert]
        time.sleep(0.5)
    for alert, one in seen.items():
        one.told = alert in drill.told
    return list(seen.values())


def _of(firing: Mapping[str, set[str]], alerts: Collection[str]) -> dict[str, set[str]]:
    return {alert: series for alert, series in firing.items() if alert in alerts}


def table(found: Sequence[Seen], not_caused: Mapping[str, str]) -> str:
    """What was seen, a row an alert."""
    rows = [("ALERT", "CAUSE", "FIRED", "TOLD", "RESOLVED", "")]
    for one in sorted(found, key=lambda one: one.alert):
        fired = f"{one.fired_s:.0f} s" if one.fired_s is not None else "no" if one.caused else ""
        resolved = "" if one.resolved_s is None else f"{one.resolved_s:.0f} s"
        rows.append((one.alert, one.cause, fired, "yes" if one.told else "", resolved, one.note))
    rows += [(alert, "not caused here", "", "", "", why) for alert, why in sorted(not_caused.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip()
        for row in rows
    )


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when an alert whose cause was brought about did not fire."""
    from alerts.drill_causes import CAUSES, NOT_CAUSED

    parser = argparse.ArgumentParser(prog="python -m alerts.drill", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alerts")
    parser.add_argument("--list", action="store_true", help="say what would be done")
    parser.add_argument("--state", type=Path, help="use the platform kept in this folder, or make it there")
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parsed = parser.parse_args(arguments)
    only = set(parsed.only) if parsed.only else None
    if only and only - {str(alert["alert"]) for alert in alerts()}:
        parser.error(f"no such alert: {only}")
    causes = [cause for cause in CAUSES if only is None or only & set(cause.alerts)]
    not_caused = {alert: why for alert, why in NOT_CAUSED.items() if only is None or alert in only}
    if parsed.list:
        print(table([Seen(alert, cause.name) for cause in causes for alert in cause.alerts], not_caused))
        return 0
    state = parsed.state or Path(tempfile.mkdtemp(prefix="ots-drill-"))
    state.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found: list[Seen] = []
    with running(state, keep=parsed.keep) as drill:
        print(f"Running after {time.monotonic() - began:.0f} s.", flush=True)
        time.sleep(15)  # Prometheus' own youth is a part of some rules
        for cause in causes:
            print(f"[{time.monotonic() - began:.0f} s] {cause.name}", flush=True)
            seen = perform(drill, cause, only)
            print("\n".join(f"    {one}" for one in seen), flush=True)
            found += seen
    print(table(found, not_caused))
    caused = [one for one in found if one.caused]
    fired = sum(one.fired_s is not None for one in caused)
    left_out = len(not_caused) + len(found) - len(caused)
    print(f"{fired} of {len(caused)} alerts fired, {left_out} were not caused; {time.monotonic() - began:.0f} s")
    return int(fired < len(caused))


if __name__ == "__main__":
    sys.exit(main())
