"""The firing drill: a platform of its own, on which the cause of each alert is brought about, until the alert arrives.

    PYTHONPATH=tests python -m alerts.drill [--compose] [--only NAME ...] [--list] [--report FILE] [--state FOLDER]

The rules are the real ones with shorter times (see `shorter_rules`), asked all the time. An alert is seen when its
cause was brought about, Prometheus said that it fires (and what of it fired before does not count), Alertmanager told
the webhook of it or held it back under another one that says why, and it ended when the cause was taken back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import redis as redis_client

from alerts.compose import compose, engine_address
from alerts.drill_report import Seen, table, write_report
from alerts.installations import Installation, NotHere, native, until
from alerts.rule_files import alerts
from alerts.watch import Hook, Watch

_TOKEN_S = 300
# for its end is waited so long before the next cause; at the very end of the drill for what looks further back
_ENDS_S = 40
_ENDS_LAST_S = 240
# what fires is told within two groupings of Alertmanager
_TOLD_S = 25
_QUIET_S = 150
# asking at once, all causes together: what a machine cannot answer in time only piles up
_ASKING = 60
_TURNS = 10
# Prometheus' own youth is a part of some rules
_YOUTH_S = 35


@dataclass(frozen=True)
class Cause:
    """What is done so that `alerts` fire. `undo` follows whatever happened.

    `ends`: their end is waited for at once; else at the end of the drill, with what looks back for minutes.
    """

    name: str
    alerts: tuple[str, ...]
    bring: Callable[[Drill], None]
    undo: Callable[[Drill], None] = lambda _: None
    # what goes on being done while the alerts are waited for
    again: Callable[[Drill], None] | None = None
    # before it is asked whether its alerts fire already
    prepare: Callable[[Drill], None] = lambda _: None
    within_s: float = 60.0
    ends: bool = True
    # what the labels of its series have in them: a machine has disks and troubles of its own
    mine: str = ""
    # what of the alerts was caused by the drill itself, in words
    proof: Callable[[Drill], str] = lambda _: ""


class NoToken(Exception):
    """The gateway gave none."""


@dataclass
class Drill:
    """The running platform, and how to trouble it."""

    installation: Installation
    watch: Watch
    hook: Hook
    held: list[Any] = field(default_factory=list)
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    # HTTP

    def url(self, program: str) -> str:
        """Where a program answers, as seen from here."""
        host, port = self.installation.address(program)
        return f"http://{host}:{port}"

    def token(self, role: str = "admin") -> str:
        """A token of that role, a new one every few minutes where one is to be had. Raises NoToken."""
        known, since = self._tokens.get(role, ("", 0.0))
        if not known or time.monotonic() - since > _TOKEN_S:
            body = {"username": "admin", "password": self.installation.secret("ADMIN_PASSWORD"), "role": role}
            status, answer = self.api("POST", "auth/login", body, token="")
            if status == 200:
                known = str(json.loads(answer)["access_token"])
            elif not known:
                raise NoToken(f"{status}: {answer[:200]!r}")
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
        url = f"{self.url('gateway')}/api/v1/{path}"
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

    def answers(self, program: str) -> bool:
        """Whether its metrics are to be had."""
        return self.get(f"{self.url(program)}/metrics", timeout_s=5)[0] == 200

    def together(self, number: int, ask: Callable[[], object]) -> None:
        """`ask` that many times at once, without waiting for the answers; not while too many are waited for."""

        def asked() -> None:
            with contextlib.suppress(NoToken):
                ask()

        for _ in range(number):
            if threading.active_count() < _ASKING:
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

        context = ssl.create_default_context(cafile=str(self.installation.simulator_certificate()))
        context.check_hostname = False  # it is asked by its address
        key = base64.b64encode(f"{self.installation.secret('SIMULATOR_KEY')}:".encode()).decode()
        host, port = self.installation.address("simulator")
        request = urllib.request.Request(
            f"https://{host}:{port}/simulator/faults",
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

    def stop(self, *names: str) -> None:
        """Stop programs, and wait."""
        self.installation.stop(*names)

    def start(self, *names: str) -> None:
        """Start them again."""
        self.installation.start(*names)

    def kill(self, name: str) -> None:
        """kill -9, and wait until it was started anew."""
        before = self.installation.pid(name)
        self.installation.kill(name)
        until(lambda: self.installation.pid(name) not in (0, before), 30, 0.2)

    # storage

    def sql(self, statement: str, parameters: object = None, *, database: str = "market") -> list[tuple[Any, ...]]:
        """As the superuser, committed."""
        for turn in range(_TURNS):
            with contextlib.closing(self.connection(database)) as connection:
                connection.autocommit = True
                try:
                    with connection.cursor() as cursor:
                        cursor.execute(statement, parameters)
                        return cursor.fetchall() if cursor.description else []
                except psycopg2.errors.DeadlockDetected:
                    # who writes had one of the tables and wanted the next
                    if turn + 1 == _TURNS:
                        raise
        return []

    def connection(self, database: str = "market") -> Any:
        """A connection of the superuser's."""
        url = self.installation.database_url(database)
        return psycopg2.connect(url, connect_timeout=10, application_name="drill")

    def hold(self, statement: str, *, database: str = "market") -> None:
        """A transaction that stays open with its locks until `release`."""
        for _ in range(_TURNS):
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
        host, port = self.installation.address("redis")
        return redis_client.Redis(host, port, password=self.installation.secret("REDIS_PASSWORD"))


@contextlib.contextmanager
def running(state: Path, *, in_compose: bool, keep: bool) -> Iterator[Drill]:
    """The platform in `state`, watched with the shorter rules; stopped and deleted afterwards unless `keep`."""
    hook = Hook(engine_address() if in_compose else "127.0.0.1")
    with compose(state, hook.port, keep=keep) if in_compose else native(state, hook.url, keep=keep) as installation:
        asked = [lambda name=name: "http://{}:{}".format(*installation.address(name)) for name in _ASKED]
        watch = Watch(*asked)
        watch.start()
        try:
            drill = Drill(installation, watch, hook)
            for role in ("admin", "viewer"):
                drill.token(role)
            yield drill
        finally:
            watch.close()


_ASKED = ("prometheus", "alertmanager")


def perform(drill: Drill, cause: Cause, only: set[str] | None, patience: float = 1.0) -> list[Seen]:
    """Bring it about, wait until its alerts fire and are told, take it back, wait until they end."""
    wanted = [alert for alert in cause.alerts if only is None or alert in only]
    seen = {alert: Seen(alert, cause.name) for alert in wanted}
    cause.prepare(drill)
    until(lambda: not _of(drill.watch.firing(), wanted, cause.mine), _QUIET_S)
    already = _of(drill.watch.firing(), wanted, cause.mine)
    for alert in already:
        seen[alert].note = "fired of something else before its cause"
    began = time.monotonic()
    for one in seen.values():
        one.began = began
    try:
        cause.bring(drill)
        _wait(drill, cause, seen, already, patience)
        proof = cause.proof(drill)
        for one in seen.values():
            one.note = one.note or proof
    except NotHere as error:
        for one in seen.values():
            if one.fired_s is None:
                one.note, one.caused = str(error)[:160], False
    except Exception as error:
        for one in seen.values():
            one.note = f"{type(error).__name__}: {error}".strip()[:160]
    finally:
        try:
            cause.undo(drill)
        except Exception as error:
            for one in seen.values():
                one.note = f"undo: {type(error).__name__}: {error}"[:160]
    undone = time.monotonic()
    for one in seen.values():
        one.undone = undone
    look_at_ends(drill, seen.values(), _ENDS_S * patience if cause.ends else 1)
    return list(seen.values())


def _wait(
    drill: Drill, cause: Cause, seen: Mapping[str, Seen], already: Mapping[str, set[str]], patience: float
) -> None:
    """Until each fires, and then until each is told or held back."""
    began = min(one.began for one in seen.values())
    told_by: float | None = None
    while True:
        now = time.monotonic()
        for alert, series in _of(drill.watch.firing(), list(seen), cause.mine).items():
            if new := series - already.get(alert, set()):
                seen[alert].series |= new
                if seen[alert].fired_s is None:
                    seen[alert].fired_s, seen[alert].note = now - began, ""
        for one in seen.values():
            told = drill.hook.first(one.alert, began)
            one.told_s = None if told is None or one.fired_s is None else max(0.0, told - began)
            one.under |= drill.watch.inhibited(one.alert, began)
        waiting = [one for one in seen.values() if one.fired_s is None]
        untold = [one for one in seen.values() if one.told_s is None and not one.under]
        if not waiting and not untold:
            return
        if not waiting and told_by is None:
            told_by = now + _TOLD_S * patience
        if now > (told_by or began + cause.within_s * patience):
            return
        if cause.again:
            cause.again(drill)
        time.sleep(0.5)


def look_at_ends(drill: Drill, found: Collection[Seen], within_s: float) -> None:
    """Wait so long for the ends of what fired; note them. What is told late is noted too."""

    def all_ended() -> bool:
        for one in found:
            if one.fired_s is None or one.undone is None:
                continue
            if one.ended_s is None:
                at = drill.watch.ended(one.alert, one.series, one.undone)
                one.ended_s = None if at is None else at - one.undone
            if one.told_s is None and (told := drill.hook.first(one.alert, one.began)) is not None:
                one.told_s = told - one.began
            one.under |= drill.watch.inhibited(one.alert, one.began) if one.ended_s is None else set()
            one.end_told = drill.hook.end(one.alert, one.began) is not None
        return all(one.ended_s is not None for one in found if one.fired_s is not None)

    until(all_ended, within_s, 0.5)


def _of(firing: Mapping[str, set[str]], alerts: Collection[str], mine: str = "") -> dict[str, set[str]]:
    chosen = {alert: {one for one in series if mine in one} for alert, series in firing.items() if alert in alerts}
    return {alert: series for alert, series in chosen.items() if series}


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when an alert that was caused did not fire, was neither told nor held back, or did not end."""
    from alerts.drill_causes import CAUSES

    parser = argparse.ArgumentParser(prog="python -m alerts.drill", description=__doc__.split("\n")[0])
    parser.add_argument("--compose", action="store_true", help="in Docker Compose, not natively")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alerts")
    parser.add_argument("--list", action="store_true", help="say what would be done")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what was seen as JSON")
    parser.add_argument(
        "--patience", type=float, default=1.0, metavar="TIMES", help="wait so much longer: a machine that is busy"
    )
    parser.add_argument("--state", type=Path, help="use the platform kept in this folder, or make it there")
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parsed = parser.parse_args(arguments)
    only = set(parsed.only) if parsed.only else None
    if only and only - {str(alert["alert"]) for alert in alerts()}:
        parser.error(f"no such alert: {only}")
    causes = [cause for cause in CAUSES if only is None or only & set(cause.alerts)]
    if parsed.list:
        print(table([Seen(alert, cause.name) for cause in causes for alert in cause.alerts]))
        return 0
    state = parsed.state or Path(tempfile.mkdtemp(prefix="ots-drill-"))
    state.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found: list[Seen] = []
    with running(state, in_compose=parsed.compose, keep=parsed.keep) as drill:
        print(f"Running after {time.monotonic() - began:.0f} s.", flush=True)
        time.sleep(_YOUTH_S)
        for cause in causes:
            print(f"[{time.monotonic() - began:.0f} s] {cause.name}", flush=True)
            seen = perform(drill, cause, only, parsed.patience)
            print("\n".join(f"    {one.line()}" for one in seen), flush=True)
            found += seen
            if parsed.report:
                write_report(parsed.report, found, drill.installation.kind, time.monotonic() - began)
        print(f"[{time.monotonic() - began:.0f} s] waiting for the ends of what looks back for minutes", flush=True)
        look_at_ends(drill, found, _ENDS_LAST_S * parsed.patience)
    whole_s = time.monotonic() - began
    if parsed.report:
        write_report(parsed.report, found, drill.installation.kind, whole_s)
    print(table(found))
    print(summary(found, whole_s))
    return int(any(one.caused and not one.whole for one in found))


def summary(found: Collection[Seen], whole_s: float) -> str:
    """How many of how many, in a line."""
    caused = [one for one in found if one.caused]
    fired = sum(one.fired_s is not None for one in caused)
    told = sum(one.told_s is not None for one in caused)
    under = sum(one.told_s is None and bool(one.under) for one in caused)
    ended = sum(one.ended_s is not None for one in caused)
    return (
        f"{len(found)} alerts, {len(caused)} caused: {fired} fired, {told} told, {under} held back under another, "
        f"{ended} ended; {whole_s:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
