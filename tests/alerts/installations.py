"""Where a drill is done: a platform of its own, natively or in Compose, and what of it differs between the two."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from alerts.rule_files import RULE_FILES
from alerts.shorter_rules import EVALUATED_S, SCRAPE_S, shortened
from ots_native.commands import run_beside
from ots_native.platform import Platform
from ots_native.settings import Ports
from places import ROOT

# what is asked is asked by one address a thousand times; checks are made now, not within the hour
SETTINGS = {
    "MARKET_SOURCE": "simulated",
    "WORKERS": "1",
    "SELF_CHECK_EVERY_S": "15",
    "LEDGER_VERIFY_EVERY_S": "10",
    "BACKFILL_PARALLEL": "2",
    "LOG_LEVEL": "WARNING",
}


class Installation(Protocol):
    """A platform that runs with the shorter rules. Programs are called as Compose and supervisord both call them."""

    kind: str
    rules: Path
    """The folder of the rules that its Prometheus reads."""
    disks: Path
    """What is mounted below this its node exporter sees."""

    def address(self, program: str) -> tuple[str, int]:
        """Where it listens, as seen from here."""

    def secret(self, name: str) -> str:
        """A value of its `.env`."""

    def database_url(self, database: str) -> str:
        """The superuser's address of `market`, `accounts`, or a database of that name."""

    def simulator_certificate(self) -> Path:
        """Of whoever signed the simulator's."""

    def pid(self, program: str) -> int:
        """Of the process that is the program, as this machine numbers it; 0 while it does not run."""

    def kill(self, program: str) -> None:
        """End it with SIGKILL; it is started again by whoever looks after it."""

    def stop(self, *programs: str) -> None:
        """Stop, and wait until they are."""

    def start(self, *programs: str) -> None:
        """Start what was stopped."""

    def run(self, program: str, module: str, *arguments: str) -> int:
        """One of our command lines beside a program; its exit code."""

    def die_of_memory(self) -> None:
        """Start a process that takes more memory than it may, and see it killed. Raises NotHere."""


class NotHere(Exception):
    """A cause that this machine does not let anybody bring about."""


class Native:
    """A platform under supervisord, in a folder."""

    kind = "native"

    def __init__(self, platform: Platform, state: Path) -> None:
        self.platform = platform
        self.rules = platform.state / "prometheus" / "drill-rules"
        self.disks = state / "disks"
        self.disks.mkdir(exist_ok=True)

    def address(self, program: str) -> tuple[str, int]:
        name = program.removeprefix("ingestion-").removeprefix("analytics-").replace("-", "_")
        return "127.0.0.1", int(getattr(self.platform.settings.ports, name))

    def secret(self, name: str) -> str:
        return self.platform.settings.values[name]

    def database_url(self, database: str) -> str:
        settings = self.platform.settings
        name = {"market": settings.market_database, "accounts": "ots_accounts"}.get(database, database)
        return self.platform.postgres(settings).admin_url.replace("@/postgres?", f"@/{name}?")

    def simulator_certificate(self) -> Path:
        return self.platform.state / "simulator" / "ca.pem"

    def pid(self, program: str) -> int:
        """Of a program, or of what its launcher became."""
        return next(state.pid for state in self.platform.supervisor.states() if state.name == program)

    def kill(self, program: str) -> None:
        if pid := self.pid(program):
            os.killpg(os.getpgid(pid), signal.SIGKILL)

    def stop(self, *programs: str) -> None:
        supervisor: Any = self.platform.supervisor._rpc().supervisor
        for program in programs:
            with contextlib.suppress(Exception):
                supervisor.stopProcess(program, True)

    def start(self, *programs: str) -> None:
        self.platform.supervisor.start_programs(programs)

    def run(self, program: str, module: str, *arguments: str) -> int:
        code = run_beside(self.platform, program, module, arguments)
        self.watch_closely()  # to know what the program is given all configurations are written anew
        return code

    def die_of_memory(self) -> None:
        from alerts.drill_machine import killed_in_a_group

        killed_in_a_group()

    def watch_closely(self) -> None:
        """Give the Prometheus and the Alertmanager that run the shorter times."""
        shutil.rmtree(self.rules, ignore_errors=True)
        write_rules(self.rules)
        path = self.platform.state / "prometheus" / "prometheus.yml"
        configuration = json.loads(path.read_text())
        path.write_text(json.dumps(watching_closely(configuration, f"{self.rules}/*.yml")))
        reload(self, "prometheus")
        path = self.platform.state / "alertmanager" / "alertmanager.yml"
        path.write_text(telling_at_once(path.read_text()))
        reload(self, "alertmanager")


def write_rules(folder: Path) -> None:
    """All files of rules, with their shorter times."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in RULE_FILES:
        (folder / path.name).write_text(shortened(path.read_text()))


def watching_closely(configuration: dict[str, Any], rules: str) -> dict[str, Any]:
    """Prometheus' configuration with short intervals, and these rules."""
    configuration["global"] |= {
        "scrape_interval": f"{SCRAPE_S}s",
        "scrape_timeout": f"{SCRAPE_S}s",
        "evaluation_interval": f"{EVALUATED_S}s",
    }
    configuration["rule_files"] = [rules]
    return configuration


def telling_at_once(text: str) -> str:
    """Alertmanager's configuration with short waits; what repeats within them is told again."""
    text = re.sub(r"group_wait: \w+", "group_wait: 1s", text)
    return re.sub(r"group_interval: \w+", "group_interval: 5s", text)


def reload(installation: Installation, program: str) -> None:
    """Let it read its configuration again."""
    os.kill(installation.pid(program), signal.SIGHUP)


@contextlib.contextmanager
def native(state: Path, hook: str, *, keep: bool) -> Iterator[Native]:
    """The platform in `state`, which tells `hook` of alerts; stopped and deleted afterwards unless `keep`."""
    record = state / "platform" / "record.json"
    given = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    platform = Platform(
        ROOT,
        state=state / "platform",
        ports=None if record.exists() else Ports.free(),
        environment={**given, **SETTINGS, "OTS_MONITORING": "on", "ALERT_WEBHOOK_URL": hook},
        env_file=state / ".env",
        ready_timeout_s=600,
        say=lambda line: print(f"  {line}", flush=True),
    )
    try:
        platform.monitor()
        installation = Native(platform, state)
        installation.watch_closely()
        yield installation
    finally:
        if keep:
            print(f"Kept: {platform.state}")
        else:
            platform.reset()
            shutil.rmtree(state, ignore_errors=True)


def until(holds: Callable[[], object], within_s: float = 60.0, every_s: float = 0.3) -> bool:
    """Ask a function again and again until it is true, or the time is over; which."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if holds():
                return True
        time.sleep(every_s)
    return False
