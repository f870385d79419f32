"""The long form of what Compose promises: everything killed, one after the other, while the market is collected.

    PYTHONPATH=tests python -m compose.kill_everything

Needs a platform that ./start-dev.sh has started under Compose with the simulated market, and root (the processes are
the engine's). Each container

* **died**: its first process is killed from outside, as the kernel does when memory is short; the engine must start it
  again by itself;
* **killed**: ``docker kill``, which the engine takes for a person's wish; ``./start-dev.sh`` must bring it back.

``--engine COMMAND`` also kills the engine itself (dockerd's process) and starts it again by that command. After each
blow the container must be well, the gateway's ``/health`` ``ok``, and both collections streaming. At the end no gap may
be left open, the self-check of everything must find no difference, and every trade of the time in between is counted
against the vendor's own count. Prints a table, ends with 1 when anything is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import requests

ROOT = Path(__file__).resolve().parents[2]
ONE_OFF = {"migrate"}
EQUITIES = "EQUS.MINI"
# asked inside a container of ingestion's, which has the vendor's address and key
COUNT_BY_THE_VENDOR = """
import os, sys, databento
dataset, symbols, start, end = sys.argv[1], sys.argv[2].split(","), sys.argv[3], sys.argv[4]
url = os.environ.get("DATABENTO_HISTORICAL_URL")
client = databento.Historical(os.environ["DATABENTO_API_KEY"], **({"gateway": url} if url else {}))
print(client.metadata.get_record_count(dataset=dataset, symbols=symbols, schema="trades", start=start, end=end))
"""
COUNT_BY_THE_DATABASE = """
SELECT count(*) FROM trades JOIN instruments USING (instrument_id)
WHERE dataset = '{dataset}' AND recv_at_ns >= {start} AND recv_at_ns < {end} AND ts > '{day}'
"""


@dataclass(frozen=True)
class Container:
    """What the engine says of one."""

    service: str
    id: str
    pid: int
    started_at: str
    health: str

    @property
    def well(self) -> bool:
        return self.health == "healthy"


@dataclass(frozen=True)
class Blow:
    """One container that was hit, and the seconds until it was well, and until the platform was."""

    service: str
    how: str
    well_after_s: float | None
    platform_after_s: float | None
    note: str = ""

    @property
    def survived(self) -> bool:
        return self.well_after_s is not None and self.platform_after_s is not None


@dataclass(frozen=True)
class Balance:
    """What is there at the end."""

    trades_by_vendor: int
    trades_stored: int
    gaps_named: int
    gaps_open: int
    self_check_rows: int
    self_check_difference: int

    @property
    def nothing_lost(self) -> bool:
        return (
            self.trades_by_vendor == self.trades_stored > 0
            and self.gaps_open == 0
            and self.self_check_difference == 0
            and self.self_check_rows > 0
        )


class Platform:
    """A platform under Compose, asked through the engine's and the gateway's own doors."""

    def __init__(self, folder: Path, url: str, password: str) -> None:
        self._folder = folder
        self._url = url
        self._password = password
        self._token = ""

    def command(self, *words: str, given: str | None = None) -> str:
        """What a command prints. Raises subprocess.CalledProcessError."""
        done = subprocess.run(words, cwd=self._folder, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
        return done.stdout

    def compose(self, *words: str, given: str | None = None) -> str:
        return self.command("docker", "compose", *words, given=given)

    def containers(self) -> dict[str, Container]:
        """Those that should run, by the name of their service."""
        ids = self.compose("ps", "--all", "--quiet").split()
        found = [container(each) for each in json.loads(self.command("docker", "inspect", *ids))] if ids else []
        return {each.service: each for each in found if each.service not in ONE_OFF}

    def start(self) -> None:
        self.command("./start-dev.sh", "--compose")

    def health(self) -> str:
        """The gateway's word, or why there is none."""
        try:
            answer = requests.get(f"{self._url}/health", timeout=10)
            return str(answer.json().get("status"))
        except (requests.RequestException, ValueError) as error:
            return type(error).__name__

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """An answer of the API, as the operator. Raises requests.RequestException."""
        for signed_in_again in (False, True):
            if not self._token or signed_in_again:
                body = {"username": "admin", "password": self._password, "role": "operator"}
                login = requests.post(f"{self._url}/api/v1/auth/login", json=body, timeout=30)
                login.raise_for_status()
                self._token = login.json()["access_token"]
            answer = requests.get(
                f"{self._url}/api/v1/{path}",
                headers={"Authorization": f"Bearer {self._token}"},
                params=parameters,
                timeout=30,
            )
            if answer.status_code != 401:
                break
        answer.raise_for_status()
        given: dict[str, Any] = answer.json()
        return given

    def collections(self) -> list[str]:
        """The state of each, such as streaming; none while nobody answers."""
        try:
            return [each["state"] for each in self.get("data/collection/status")["collections"]]
        except requests.RequestException:
            return []

    def symbols(self) -> list[str]:
        (equities,) = (
            each for each in self.get("data/collection/status")["collections"] if each["dataset"] == EQUITIES
        )
        return list(equities["symbols"])

    def gaps(self, since: datetime) -> list[dict[str, Any]]:
        """Those that touch the time since."""
        gaps: list[dict[str, Any]] = []
        parameters: dict[str, Any] = {"start": since.isoformat(), "limit": 1000}
        while True:
            page = self.get("data/gaps", **parameters)
            gaps += page["gaps"]
            if not page["next"]:
                return gaps
            parameters["cursor"] = re.search(r"cursor=([^&]+)", page["next"])[1]  # type: ignore[index]

    def self_check(self) -> tuple[int, int]:
        """Compare everything: rows that were compared, rows that differ."""
        try:
            self.compose("exec", "-T", "ingestion-worker", "python", "-m", "ots_ingestion", "self-check", "--all")
        except subprocess.CalledProcessError as error:
            if error.returncode != 1:  # 1: they differ, and the record of it says by how much
                raise
        (last,) = self.get("data/self-checks", limit=1)["self_checks"]
        return last["rows"], last["difference_rows"]

    def trades(self, start: datetime, end: datetime, database: str) -> tuple[int, int]:
        """The trades of the equities in that time: the vendor's count, and ours."""
        words = (EQUITIES, ",".join(self.symbols()), start.isoformat(), end.isoformat())
        told = self.compose("exec", "-T", "ingestion-backfiller", "python", "-", *words, given=COUNT_BY_THE_VENDOR)
        question = COUNT_BY_THE_DATABASE.format(
            dataset=EQUITIES, start=nanoseconds(start), end=nanoseconds(end), day=start - timedelta(days=1)
        )
        stored = self.compose("exec", "-T", "postgres", "psql", "-qtAX", "-U", "ots_admin", database, given=question)
        return int(told), int(stored)


def container(told: dict[str, Any]) -> Container:
    """Of what ``docker inspect`` says."""
    state = told["State"]
    return Container(
        told["Config"]["Labels"]["com.docker.compose.service"],
        told["Id"],
        state["Pid"],
        state["StartedAt"],
        (state.get("Health") or {}).get("Status", state["Status"]) if state["Running"] else state["Status"],
    )


def nanoseconds(moment: datetime) -> int:
    """Since 1970."""
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 1000


def until(holds: Callable[[], bool], patience_s: float, pause_s: float = 0.5) -> float | None:
    """The seconds until it holds, None when it does not within the patience."""
    began = time.monotonic()
    while True:
        if holds():
            return time.monotonic() - began
        if time.monotonic() - began > patience_s:
            return None
        time.sleep(pause_s)


def platform_is_well(platform: Platform) -> bool:
    """Everybody answers, and every collection streams."""
    states = platform.collections()
    return platform.health() == "ok" and bool(states) and set(states) <= {"streaming", "idle"}


def starts(platform: Platform) -> bool:
    """Whether ./start-dev.sh says that everything is up."""
    try:
        platform.start()
    except subprocess.CalledProcessError:
        return False
    return True


def hit(platform: Platform, service: str, how: str, patience_s: float) -> Blow:
    """Hit one container and wait until all is well again."""
    before = platform.containers()[service]
    began = time.monotonic()
    if how == "died":
        os.kill(before.pid, signal.SIGKILL)
    else:
        platform.command("docker", "kill", before.id)
        # on a machine that is busy with other things somebody else may look unwell meanwhile: typed again, then
        if until(lambda: starts(platform), patience_s) is None:
            return Blow(service, how, None, None, "./start-dev.sh does not bring everything up")

    def is_back() -> bool:
        now = platform.containers().get(service)
        return now is not None and now.well and (now.id, now.started_at) != (before.id, before.started_at)

    if until(is_back, patience_s) is None:
        now = platform.containers().get(service)
        return Blow(service, how, None, None, f"is {now.health if now else 'gone'}")
    well = time.monotonic() - began
    if until(lambda: platform_is_well(platform), patience_s) is None:
        return Blow(service, how, well, None, f"health {platform.health()}, collections {platform.collections()}")
    return Blow(service, how, well, time.monotonic() - began)


def hit_engine(platform: Platform, start: str, patience_s: float) -> Blow:
    """Kill dockerd itself, and start it by the command."""
    pid = int(Path("/var/run/docker.pid").read_text())
    before = platform.containers()
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), patience_s)
    with Path(os.devnull).open("w") as nothing:
        subprocess.Popen(["bash", "-c", start], stdout=nothing, stderr=nothing, start_new_session=True)

    def all_are_well() -> bool:
        try:
            now = platform.containers()
        except subprocess.CalledProcessError:
            return False
        return set(now) == set(before) and all(each.well for each in now.values())

    if until(all_are_well, patience_s) is None:
        return Blow("the engine", "killed", None, None, "not every container is well")
    well = time.monotonic() - began
    if until(lambda: platform_is_well(platform), patience_s) is None:
        return Blow("the engine", "killed", well, None, f"health {platform.health()}")
    return Blow("the engine", "killed", well, time.monotonic() - began)


def balance(platform: Platform, since: datetime, database: str, patience_s: float) -> Balance:
    """What is there of all that came since, when the gaps that can be closed are."""
    end = datetime.now(UTC)
    until(lambda: not open_before(platform.gaps(since), end), patience_s, pause_s=2)
    # history has a record some time after it happened
    start, last = since.replace(microsecond=0), end.replace(microsecond=0) - timedelta(seconds=30)
    vendor, stored = platform.trades(start, last, database)
    gaps = platform.gaps(since)
    rows, difference = platform.self_check()
    return Balance(vendor, stored, len(gaps), len(open_before(gaps, end)), rows, difference)


def open_before(gaps: Sequence[dict[str, Any]], end: datetime) -> list[dict[str, Any]]:
    """Those still open that began before the end of what is judged."""
    return [gap for gap in gaps if gap["state"] == "open" and datetime.fromisoformat(gap["start"]) < end]


def table(blows: Sequence[Blow]) -> str:
    """In Markdown."""
    lines = ["| container | how | well again | platform well again | |", "|---|---|---:|---:|---|"]
    for blow in blows:
        times = [("never" if s is None else f"{s:.1f} s") for s in (blow.well_after_s, blow.platform_after_s)]
        lines.append(f"| {blow.service} | {blow.how} | {times[0]} | {times[1]} | {blow.note} |")
    return "\n".join(lines)


def verdict(blows: Sequence[Blow], end: Balance, out: TextIO) -> int:
    """Print it all; 0 when everything survived and nothing is lost."""
    print(table(blows), file=out)
    print(
        f"\n{len(blows)} blows, {sum(not each.survived for each in blows)} not survived\n"
        f"trades of the equities meanwhile: the vendor counts {end.trades_by_vendor:,}, stored are "
        f"{end.trades_stored:,}\n"
        f"gaps named meanwhile: {end.gaps_named}, open {end.gaps_open}\n"
        f"self-check: {end.self_check_rows:,} rows, difference {end.self_check_difference}\n"
        f"{'nothing lost' if end.nothing_lost else 'SOMETHING IS LOST, OR NOT KNOWN'}",
        file=out,
    )
    return 0 if end.nothing_lost and all(blow.survived for blow in blows) else 1


def env_of(folder: Path) -> dict[str, str]:
    """The NAME=value lines of its .env; the process environment wins, as everywhere."""
    lines = (folder / ".env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs} | dict(os.environ)


def main() -> int:
    """Kill everything; 0 when all came back and nothing is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT, help="the checkout whose platform runs")
    parser.add_argument("--only", help="these services, comma between")
    parser.add_argument("--how", choices=["died", "killed", "both"], default="both")
    parser.add_argument("--engine", metavar="COMMAND", help="also kill dockerd, and start it by this command")
    parser.add_argument("--patience", type=float, default=420, help="seconds to wait for anything to be well")
    options = parser.parse_args()
    settings = env_of(options.folder)
    url = settings.get("OTS_BASE_URL") or f"http://127.0.0.1:{settings.get('OTS_PORT_GATEWAY') or 8000}"
    platform = Platform(options.folder, url, settings["ADMIN_PASSWORD"])
    if until(lambda: platform_is_well(platform), options.patience) is None:
        print(f"the platform is not well before anything is killed: {platform.health()}", file=sys.stderr)
        return 1
    since = datetime.now(UTC)
    services = options.only.split(",") if options.only else sorted(platform.containers())
    blows: list[Blow] = []
    for how in ("died", "killed") if options.how == "both" else (options.how,):
        for service in services:
            blows.append(hit(platform, service, how, options.patience))
            print(table(blows).splitlines()[-1], flush=True)
    if options.engine:
        blows.append(hit_engine(platform, options.engine, options.patience))
        print(table(blows).splitlines()[-1], flush=True)
    end = balance(platform, since, settings.get("MARKET_DATABASE") or "ots_sim", options.patience)
    print()
    return verdict(blows, end, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
