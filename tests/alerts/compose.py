"""A platform of a drill's own in Docker Compose, under a project name of its own: the same images, files and commands.

From this machine its containers are reached by their addresses in the engine's networks, and their processes by the
numbers that this machine gives them: it takes a Linux engine on the same machine, and root.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from alerts.installations import SETTINGS, NotHere, telling_at_once, watching_closely, write_rules
from ots_native.env_file import complete_env_file, read_env_file
from places import ROOT

_PORTS = {
    "gateway": 8000,
    "cache": 8001,
    "ingestion": 8002,
    "analytics": 8003,
    "signals": 8004,
    "ingestion-collector": 8012,
    "ingestion-backfiller": 8013,
    "ingestion-worker": 8014,
    "analytics-snapshots": 8015,
    "signals-worker": 8016,
    "simulator": 8010,
    "postgres": 5432,
    "redis": 6379,
    "prometheus": 9090,
    "alertmanager": 9093,
    "node-exporter": 9100,
    "redis-exporter": 9121,
    "postgres-exporter": 9187,
}
_PUBLISHED = ("gateway", "prometheus", "alertmanager")
_OURS = "ai-ots/"
# these exporters wait for seconds for a container that is gone, and are to say that it is
_SLOW_TO_SAY = ("redis", "postgres")
_STOP_S = 10
# whom a container calls this machine
_THIS_MACHINE = "drill-host"
_UP_S = 1200
_TURNS = 4


class Compose:
    """The containers of one project."""

    kind = "compose"

    def __init__(self, state: Path, project: str) -> None:
        self.state = state
        self.project = project
        self.rules = state / "prometheus" / "rules"
        self.disks = state / "disks"
        self._env_file = state / ".env"

    def address(self, program: str) -> tuple[str, int]:
        if program in _PUBLISHED:
            return "127.0.0.1", int(self.secret(f"OTS_PORT_{program.upper()}"))
        networks = json.loads(self._inspect(program, "{{json .NetworkSettings.Networks}}"))
        found = [network["IPAddress"] for network in networks.values() if network["IPAddress"]]
        if not found:
            raise OSError(f"{program} has no address: it does not run")
        return str(found[0]), _PORTS[program]

    def secret(self, name: str) -> str:
        return read_env_file(self._env_file)[name]

    def database_url(self, database: str) -> str:
        name = {"market": "ots_sim", "accounts": "ots_accounts"}.get(database, database)
        host, port = self.address("postgres")
        return f"postgresql://ots_admin:{self.secret('POSTGRES_PASSWORD')}@{host}:{port}/{name}"

    def simulator_certificate(self) -> Path:
        path = self.state / "simulator-ca.pem"
        if not path.exists():
            self.docker("cp", f"{self._name('simulator')}:/var/lib/ots/simulator/ca.pem", str(path))
        return path

    def pid(self, program: str) -> int:
        return int(self._inspect(program, "{{.State.Pid}}"))

    def kill(self, program: str) -> None:
        """By its process: what `docker kill` ends counts as ended on purpose and stays away."""
        if pid := self.pid(program):
            os.kill(pid, signal.SIGKILL)

    def stop(self, *programs: str) -> None:
        self.docker("stop", "-t", str(_STOP_S), *map(self._name, programs))

    def start(self, *programs: str) -> None:
        self.docker("start", *map(self._name, programs))

    def run(self, program: str, module: str, *arguments: str) -> int:
        words = ["docker", "exec", self._name(program), "python", "-m", module, *arguments]
        return subprocess.run(words, check=False, stdout=subprocess.DEVNULL).returncode

    def die_of_memory(self) -> None:
        """A container at its own bound."""
        image = self._inspect("ingestion", "{{.Config.Image}}")
        words = [
            "run",
            "--rm",
            "--memory",
            "64m",
            "--memory-swap",
            "64m",
            "--network",
            "none",
            "--entrypoint",
            "python",
        ]
        done = subprocess.run(
            ["docker", *words, image, "-c", "held = b'x' * 300_000_000"], capture_output=True, text=True, check=False
        )
        if done.returncode != 137:
            raise NotHere(f"a container above its memory is not killed here: {done.returncode} {done.stderr.strip()}")

    def docker(self, *words: str) -> str:
        """What the command says. Raises OSError where it fails."""
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OSError(f"docker {' '.join(words[:2])}: {done.stderr.strip()}")
        return done.stdout.strip()

    def compose(self, *words: str) -> None:
        """Run `docker compose` for this project. Raises OSError where it fails."""
        files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(self.state / "drill.yml")]
        command = ["docker", "compose", "-p", self.project, "--project-directory", str(ROOT), *files]
        command += ["--env-file", str(self._env_file), *words]
        if subprocess.run(command, check=False, timeout=_UP_S).returncode != 0:
            raise OSError(f"docker compose {words[0]} failed")

    def up(self) -> None:
        """Build and start all; where a busy machine keeps a container from being well in time, wait on."""
        for turn in range(_TURNS):
            try:
                self.compose("up", "-d", "--build", "--wait")
                return
            except OSError:
                if turn + 1 == _TURNS:
                    raise

    def prepare(self, hook_port: int) -> None:
        """Write what the containers are started with."""
        self.disks.mkdir(exist_ok=True)
        complete_env_file(self._env_file)
        given = {
            **SETTINGS,
            "MARKET_DATABASE": "ots_sim",
            "COMPOSE_PROFILES": "simulated",
            "OTS_INSTANCE": self.project,
            "ALERT_WEBHOOK_URL": f"http://{_THIS_MACHINE}:{hook_port}/hook",
        }
        known = read_env_file(self._env_file)
        for name in (f"OTS_PORT_{program.upper()}" for program in _PUBLISHED):
            given[name] = known.get(name) or str(_free_port())
        lines = self._env_file.read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in given]
        self._env_file.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in given.items())]) + "\n")
        self._write_configuration()

    def _write_configuration(self) -> None:
        for path in self.rules.glob("*"):  # the folder itself may be mounted already
            path.unlink()
        write_rules(self.rules)
        configuration = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())
        watching_closely(configuration, "/etc/prometheus/rules/*.yml")
        for job in configuration["scrape_configs"]:
            if job["job_name"] in _SLOW_TO_SAY:
                job |= {"scrape_interval": "5s", "scrape_timeout": "5s"}
        (self.state / "prometheus" / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        alertmanager = self.state / "alertmanager"
        alertmanager.mkdir(exist_ok=True)
        text = telling_at_once((ROOT / "monitoring" / "alertmanager" / "alertmanager.yml").read_text())
        (alertmanager / "alertmanager.yml").write_text(text)
        for path in (self.state, self.disks, self.rules, self.rules.parent, alertmanager):
            path.chmod(0o755)  # containers read them as nobody
        mounted = {"type": "bind", "source": str(self.disks), "target": "/disks"}
        more: dict[str, dict[str, Any]] = {name: {"image": image} for name, image in _own_images().items()}
        more |= {
            "prometheus": {"volumes": [f"{self.rules.parent}:/etc/prometheus:ro"]},
            "alertmanager": {
                "volumes": [f"{alertmanager}:/etc/alertmanager:ro"],
                "extra_hosts": [f"{_THIS_MACHINE}:{engine_address()}"],
            },
            # what is mounted there later it sees too
            "node-exporter": {"volumes": [{**mounted, "bind": {"propagation": "rslave"}}]},
        }
        (self.state / "drill.yml").write_text(yaml.safe_dump({"services": more}))

    def _name(self, program: str) -> str:
        return f"{self.project}-{program}-1"

    def _inspect(self, program: str, what: str) -> str:
        return self.docker("inspect", "-f", what, self._name(program))


def _own_images() -> dict[str, str]:
    """Each of our services with an image of the drill's own: those that somebody runs stay as they are."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {
        name: f"ots-drill/{service['image'].removeprefix(_OURS)}"
        for name, service in services.items()
        if service["image"].startswith(_OURS)
    }


def engine_address() -> str:
    """This machine, as containers reach it. Raises OSError without an engine."""
    words = ["docker", "network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if not re.fullmatch(r"[0-9.]+", done.stdout.strip()):
        raise OSError(f"no Docker engine answers: {done.stderr.strip()}")
    return done.stdout.strip()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def compose(state: Path, hook_port: int, *, keep: bool) -> Iterator[Compose]:
    """The platform of `state`, under a project of its own, which tells the hook; deleted afterwards unless `keep`."""
    named = state / "project"
    if not named.exists():
        named.write_text(f"ots-drill-{int(time.time()) % 100_000}")
    installation = Compose(state, named.read_text())
    installation.prepare(hook_port)
    _share(installation.disks)
    try:
        installation.up()
        yield installation
    finally:
        if keep:
            print(f"Kept: {installation.project}, {state}")
        else:
            installation.compose("down", "-v", "-t", str(_STOP_S))
            subprocess.run(["umount", installation.disks], check=False)
            shutil.rmtree(state, ignore_errors=True)


def _share(folder: Path) -> None:
    """What is mounted below it shows where it is mounted already."""
    for words in (["--bind", folder, folder], ["--make-shared", folder]):
        subprocess.run(["mount", *words], check=False, capture_output=True)
