"""The whole platform as one thing: up, down, status, logs, token, reset."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ots_native.account import home_for, launch_prefix, remove_home
from ots_native.env_file import complete_env_file, read_env_file
from ots_native.errors import NativeError
from ots_native.monitoring import OWN_SETTINGS, PROGRAMS
from ots_native.postgres import PostgresServer
from ots_native.private_files import locked
from ots_native.processes import end_processes, owner_of_port
from ots_native.programs import GATEWAY, SIMULATOR, STORAGE, Programs
from ots_native.redis import RedisServer
from ots_native.settings import Ports, Settings, resolve
from ots_native.supervision import State, Supervisor
from ots_native.tools import fetch_tools

READY_TIMEOUT_S = 300.0
LOG_LINES = 100
_MARKER = "made-by-ai-ots"
# what start-dev.sh writes there before any of this runs
_EARLY_FILES = {"mode", "market"}


@dataclass(frozen=True)
class Status:
    """What `status` shows."""

    programs: list[State]
    ports: dict[str, int]
    health: str
    data: list[Path]

    @property
    def is_good(self) -> bool:
        """Whether everything runs and the gateway says so."""
        return bool(self.programs) and all(program.runs for program in self.programs) and self.health == "ok"


class Platform:
    """One installation of the platform.

    root: the checkout, with `.env` unless `env_file` says otherwise
    state: the folder of everything that the platform writes; None: `.ots` in the checkout
    ports: where everything listens; None: the OTS_PORT_* settings, else the last ones used, else the usual ones
    environment: settings that win over `.env`; of PATH, HOME, proxies and the like the programs inherit
    say: takes each line of progress
    """

    def __init__(
        self,
        root: Path,
        *,
        state: Path | None = None,
        ports: Ports | None = None,
        environment: Mapping[str, str] | None = None,
        env_file: Path | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        say: Callable[[str], None] = print,
    ) -> None:
        self.root = root.resolve()
        self.state = (state or self.root / ".ots").resolve()
        self.env_file = env_file or self.root / ".env"
        self._environment = {**(environment or {}), **(ports.as_values() if ports else {})}
        self._ready_timeout_s = ready_timeout_s
        self._say = say
        self._record = self.state / "record.json"
        self.supervisor = Supervisor(
            self.state, [home_for(self.state / "postgres") / "data", self.state / "redis" / "data"], self._environment
        )

    @property
    def settings(self) -> Settings:
        """What the last `up` recorded. Raises NativeError when there was none."""
        settings = Settings.load(self._record)
        if settings is None:
            raise NativeError("Nothing has been started here yet: ./start-dev.sh starts the platform.")
        return settings

    @property
    def url(self) -> str:
        """The gateway's. Raises NativeError before the first `up`."""
        return f"http://localhost:{self.settings.ports.gateway}"

    def postgres(self, settings: Settings) -> PostgresServer:
        """The database server of these settings."""
        binaries = settings.values["OTS_POSTGRES_BIN"]
        return PostgresServer(
            self.state / "postgres",
            settings.ports.postgres,
            binaries=Path(binaries) if binaries else None,
            account=settings.values["OTS_POSTGRES_USER"] or None,
        )

    def redis(self, settings: Settings) -> RedisServer:
        """The Redis server of these settings."""
        return RedisServer(self.state / "redis", settings.ports.redis, settings.values["REDIS_PASSWORD"])

    def up(self) -> None:
        """Start what does not run, wait until the gateway says that all is well, and say how to go on.

        Raises NativeError when that cannot be or does not come to be.
        """
        self._make_state()
        with self._alone():
            running = self.supervisor.answers()
            recorded = Settings.load(self._record)
            settings = resolve(self._given(), recorded, running=running)
            self._say_of_the_source(settings, recorded)
            programs = Programs(self.root, self.state, settings, self.postgres(settings), self.redis(settings))
            changed = self.supervisor.differing(programs.all()) if running else set()
            if running and self._must_restart(settings, changed):
                self._stop()
                running = False
            if not running:
                end_processes(self.state, self.supervisor.data_folders)
            self._refuse_busy_ports(programs, self._listening_already(programs, recorded))
            settings.save(self._record)
            if running:
                self._say("The platform runs already; starting what does not, and bringing the database up to date.")
            self._start(programs, settings, replace=changed if running else ())
            self.wait_until_ready()
        self._say_what_next(settings, programs.ports())

    def monitor(self) -> None:
        """Fetch what this machine lacks of Prometheus, Alertmanager and the exporters, and start it with the platform.

        A platform that runs goes on running; from now on `up` starts them too, until OTS_MONITORING says otherwise.
        Raises NativeError as `up` does, and where they are not to be had.
        """
        fetch_tools(self._say, tuple(PROGRAMS))
        self._environment = {**self._environment, "OTS_MONITORING": "on"}
        self.up()

    def _make_state(self) -> None:
        if self.state.exists() and self.state.stat().st_uid != os.geteuid():
            raise NativeError(f"{self.state} belongs to another user: run this as that user, or set OTS_STATE_DIR.")
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = {entry.name for entry in self.state.iterdir()}
        if _MARKER not in found and found - _EARLY_FILES:
            raise NativeError(f"{self.state} holds other things; set OTS_STATE_DIR to a new or an empty folder.")
        self.state.chmod(0o700)
        (self.state / _MARKER).touch()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time changes what runs."""
        waiting = "Another ./start-dev.sh is at work on this platform; waiting for it."
        with locked(self.state / "command.lock", lambda: self._say(waiting)):
            yield

    def _given(self) -> dict[str, str]:
        """The settings given by name: `.env`, made or completed first, and the environment over it."""
        try:
            existed = self.env_file.exists()
            added = complete_env_file(self.env_file)
            from_file = read_env_file(self.env_file)
        except ValueError as error:
            raise NativeError(str(error)) from None
        if added:
            verb = "Completed" if existed else "Made"
            self._say(f"{verb} {self.env_file} (mode 600) with {len(added)} fresh secrets.")
        return {**from_file, **{name: value for name, value in self._environment.items() if value}}

    def _must_restart(self, settings: Settings, programs: Collection[str]) -> bool:
        """Whether the whole platform has to; `programs`: those that differ."""
        changed = [name for name in settings.changed_from(self.settings) if name not in OWN_SETTINGS]
        if not changed and {*programs} <= {*PROGRAMS.values()}:
            return False
        if not changed:
            self._say("What runs was started by another version of this launcher: stopping it to start it anew.")
            return True
        self._say(
            f"The platform runs with other settings ({', '.join(changed)}): stopping it to start it with the new."
        )
        return True

    def _say_of_the_source(self, settings: Settings, recorded: Settings | None) -> None:
        """What a person could be surprised by: another market than before, or a key that is not used."""
        if recorded and recorded.market_source != settings.market_source:
            self._say(
                f"Market source changes from {recorded.market_source} to {settings.market_source}, and with it the "
                f"database from {recorded.market_database} to {settings.market_database}; both keep what they hold."
            )
        if settings.key_left_aside:
            self._say(
                "DATABENTO_API_KEY is set and not used: the market is simulated. "
                "MARKET_SOURCE=databento ./start-dev.sh changes to real data, in a database of their own."
            )

    def _listening_already(self, programs: Programs, recorded: Settings | None) -> set[str]:
        """Those of our programs that run, but for those that are to move to another port."""
        running = {state.name for state in self.supervisor.states() if state.pid}
        if recorded is None:
            return running
        ports = programs.ports().items()
        return running - {programs.listener(name) for name, port in ports if getattr(recorded.ports, name) != port}

    def _refuse_busy_ports(self, programs: Programs, running: Collection[str]) -> None:
        busy = []
        for name, port in programs.ports().items():
            owner = None if programs.listener(name) in running else owner_of_port(port)
            if owner:
                setting = Ports.variable(name)
                busy.append(
                    f"Port {port} ({name}) is taken by {owner}. Free it, or choose another: {setting}={port + 1000}"
                )
        if busy:
            raise NativeError("\n".join([*busy, "Nothing was started."]))

    def _start(self, programs: Programs, settings: Settings, replace: Collection[str]) -> None:
        names = "PostgreSQL, Redis and the simulated market" if settings.is_simulated else "PostgreSQL and Redis"
        self._say(f"Starting {names}.")
        everything = programs.all()
        first = (*STORAGE, SIMULATOR)
        self.supervisor.write_configuration(everything, autostart=first)
        self.supervisor.start()
        self.supervisor.start_programs(first)
        self._wait_for_storage(settings)
        self._say("Preparing roles, databases and migrations.")
        self._run("ots_common.provision", environment=programs.provision_environment())
        self._run(
            "ots_gateway.accounts", "ensure-admin", "--reset-password", environment=programs.accounts_environment()
        )
        if settings.is_simulated:
            self._wait_for_simulator(settings)
        # from here on a new supervisord, started by the guard, brings back the services too
        self.supervisor.write_configuration(everything)
        self.supervisor.replace(replace)
        self._say("Starting the services.")
        self.supervisor.start_programs()

    def _wait_for_storage(self, settings: Settings) -> None:
        servers: dict[str, PostgresServer | RedisServer] = {
            "postgres": self.postgres(settings),
            "redis": self.redis(settings),
        }
        deadline = time.monotonic() + self._ready_timeout_s
        while waiting := [name for name, server in servers.items() if not server.is_ready()]:
            if time.monotonic() > deadline or self._given_up(waiting):
                raise NativeError(self._failure(f"{' and '.join(waiting)} did not start.", waiting))
            time.sleep(0.05)

    def _wait_for_simulator(self, settings: Settings) -> None:
        """Its first start compiles the mathematics, half a minute on a slow machine, and the services need the same."""
        started = time.monotonic()
        said = False
        while not _accepts(settings.ports.simulator):
            waited_s = time.monotonic() - started
            if waited_s > self._ready_timeout_s or self._given_up([SIMULATOR]):
                raise NativeError(self._failure("The simulated market did not start.", [SIMULATOR]))
            if waited_s > 2 and not said:
                self._say("Waiting for the simulated market; the first time it compiles for up to a minute.")
                said = True
            time.sleep(0.05)

    def _run(self, module: str, *arguments: str, environment: Mapping[str, str]) -> None:
        """Run one of our commands to its end, showing what it says. Raises NativeError when it fails."""
        command = [*launch_prefix("KILL"), sys.executable, "-I", "-m", module, *arguments]
        complete = {**self.supervisor.inherited(), **environment}
        result = subprocess.run(command, env=complete, cwd=self.state, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            lines = (result.stderr or result.stdout).strip().splitlines()[-LOG_LINES:]
            raise NativeError("\n".join([f"python -m {module} failed:", *lines]))
        for line in result.stdout.splitlines():
            self._say(f"  {line}")

    def wait_until_ready(self, timeout_s: float | None = None) -> None:
        """Return when the gateway, and it is ours, says that every service is well.

        Raises NativeError with the last log lines of what failed.
        """
        instance = self.settings.instance
        started = time.monotonic()
        deadline = started + (self._ready_timeout_s if timeout_s is None else timeout_s)
        said, say_again_at = "", 0.0
        while True:
            health = self._health()
            states = self.supervisor.states()
            down = [state.name for state in states if not state.runs]
            if not down and health.get("status") == "ok" and health.get("instance") == instance:
                return
            waiting = _what_is_missing(health, down, instance)
            if time.monotonic() > deadline or self._given_up(down):
                failing = down or list(_unwell(health)) or ["gateway"]
                raise NativeError(self._failure(f"Not ready: {waiting}.", failing))
            if waiting != said or time.monotonic() > say_again_at:
                self._say(f"Waiting for {waiting} ({time.monotonic() - started:.0f} s).")
                said, say_again_at = waiting, time.monotonic() + 5
            time.sleep(0.2)

    def _health(self) -> dict[str, Any]:
        """The gateway's own words; empty when it does not answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.settings.ports.gateway}/health")
        try:
            with _direct().open(request, timeout=10) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except OSError:
            return {}
        try:
            health = json.loads(body)
        except ValueError:
            return {}
        return health if isinstance(health, dict) else {}

    def _given_up(self, names: Collection[str]) -> bool:
        return any(state.state == "FATAL" for state in self.supervisor.states() if state.name in names)

    def _failure(self, summary: str, names: Collection[str]) -> str:
        lines = [summary]
        for name in names:
            lines += [f"--- the end of {self.supervisor.log(name)}", *_tail(self.supervisor.log(name), 15)]
        return "\n".join([*lines, "What was started keeps running: ./start-dev.sh status, logs, or down."])

    def _say_what_next(self, settings: Settings, listening: Collection[str]) -> None:
        ports = settings.ports
        if settings.is_simulated:
            source = f"simulated (seed {settings.values['SIMULATOR_SEED']}); collection: on"
            asked = ["api/v1/data/collection/status", "api/v1/data/market-status"]
        else:
            collection = "on" if settings.values["DATABENTO_API_KEY"] else "off (DATABENTO_API_KEY is not set)"
            source = f"databento; collection: {collection}; imports of DBN files: on"
            asked = ["api/v1/data/runs"]
        following = "".join(f'  curl -fsS -H "Authorization: Bearer $TOKEN" {self.url}/{path}\n' for path in asked)
        self._say(
            f"""
AI-OTS is running. Market source: {source}.

  API         {self.url}/api/v1
  Health      {self.url}/health
  PostgreSQL  127.0.0.1:{ports.postgres}, database {settings.market_database}
  Monitoring  {_where_to_look(ports, listening)}
  Grafana     only under Docker Compose
  Data        {self.state}

Next:
  eval "$(./start-dev.sh token --role operator)"
  curl -fsS {self.url}/health
{following}"""
        )

    def _stop(self) -> None:
        """The gateway first: the services answer what is under way there."""
        self.supervisor.stop(first=[GATEWAY], last=STORAGE)

    def down(self) -> None:
        """Stop everything and return when no process is left."""
        if not self.state.exists():
            self._say("Nothing runs.")
            return
        with self._alone():
            was_running = self.supervisor.answers()
            self._stop()
        self._say("Stopped; the data stay." if was_running else "Nothing runs.")

    def status(self) -> Status:
        """What runs. Raises NativeError before the first `up`."""
        settings = self.settings
        programs = Programs(self.root, self.state, settings, self.postgres(settings), self.redis(settings))
        health = self._health()
        ours = health.get("instance") == settings.instance
        return Status(
            programs=self.supervisor.states(),
            ports={programs.listener(name): port for name, port in reversed(programs.ports().items())},
            health=str(health.get("status")) if ours else "no answer",
            data=[self.state, *({home_for(self.state / "postgres")} - {self.state / "postgres"})],
        )

    def logs(self, name: str | None = None, *, follow: bool = False) -> Iterator[str]:
        """The last lines of one program, or of all with their name before each; then what comes.

        Raises NativeError for a name that has no log.
        """
        files = {file.stem: file for file in sorted((self.state / "logs").glob("*.log"))}
        if name is not None and name not in files:
            raise NativeError(f"There is no log of {name}; there are: {', '.join(files) or 'none yet'}.")
        chosen = [name] if name is not None else list(files)
        for one in chosen:
            prefix = "" if name is not None else f"{one} | "
            yield from (prefix + line for line in _tail(files[one], LOG_LINES))
        if follow:
            yield from _follow({one: files[one] for one in chosen}, prefixed=name is None)

    def token(self, role: str = "trader") -> str:
        """Log in as `admin` for a token of `role`. Raises NativeError when the gateway refuses or does not answer."""
        credentials = {"username": "admin", "password": self.settings.values["ADMIN_PASSWORD"], "role": role}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.settings.ports.gateway}/api/v1/auth/login",
            json.dumps(credentials).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with _direct().open(request, timeout=30) as response:
                token = str(json.load(response)["access_token"])
        except urllib.error.HTTPError as error:
            raise NativeError(f"The gateway refused the login: {_detail(error)}") from None
        except OSError as error:
            raise NativeError(
                f"No answer from {self.url} ({error}): is the platform up? ./start-dev.sh status"
            ) from None
        except (ValueError, KeyError):
            raise NativeError(f"{self.url} answered, but not as the gateway of AI-OTS.") from None
        # it will be given to `eval`
        if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
            raise NativeError("The gateway's token has characters that no token has.")
        return token

    def reset(self) -> list[Path]:
        """Stop everything and delete all that the platform wrote, the database included; `.env` and `.venv` stay.

        Returns what was deleted. Raises NativeError when the state folder is not one that the platform made.
        """
        if not self.state.exists():
            return []
        if not (self.state / _MARKER).exists() and {entry.name for entry in self.state.iterdir()} - _EARLY_FILES:
            raise NativeError(f"{self.state} was not made by AI-OTS; nothing was deleted.")
        with self._alone():
            self._stop()
            home = home_for(self.state / "postgres")
            deleted = [path for path in dict.fromkeys((home, self.state)) if path.exists()]
            settings = Settings.load(self._record)
            if settings is None:
                remove_home(home)
            else:
                self.postgres(settings).remove()
            self.supervisor.remove_socket()
            self._delete_state()
        return deleted

    def _delete_state(self) -> None:
        """Delete the marker last: what a killed reset leaves is still known as ours."""
        for entry in self.state.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _MARKER:
                entry.unlink()
        shutil.rmtree(self.state)


def _what_is_missing(health: Mapping[str, Any], down: Collection[str], instance: str) -> str:
    if down:
        return ", ".join(down)
    if not health:
        return "the gateway to answer"
    if health.get("instance") != instance:
        return "our gateway: another one answers on its port"
    unwell = [f"{name} ({state})" for name, state in _unwell(health).items()]
    return ", ".join(unwell) or f"the gateway, which says {health.get('status')}: {health.get('checks')}"


def _where_to_look(ports: Ports, listening: Collection[str]) -> str:
    addresses = {name: f"http://localhost:{getattr(ports, name)}" for name in PROGRAMS if name in listening}
    pages = [f"{name.capitalize()} {addresses[name]}" for name in ("prometheus", "alertmanager") if name in addresses]
    return ", ".join(pages) or "not running: ./start-dev.sh monitoring fetches Prometheus and starts it"


def _unwell(health: Mapping[str, Any]) -> dict[str, str]:
    services = health.get("services")
    if not isinstance(services, dict):
        return {}
    states = {name.removeprefix("data-"): str(answer.get("status")) for name, answer in services.items()}
    return {name: state for name, state in states.items() if state != "ok"}


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _direct() -> urllib.request.OpenerDirector:
    """Opens URLs past any proxy: what we ask is on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def _tail(path: Path, count: int) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=count)]
    except FileNotFoundError:
        return []


def _follow(files: Mapping[str, Path], *, prefixed: bool) -> Iterator[str]:
    """Lines as they are added, for ever; a rotated file is read on from its start."""
    positions = {name: path.stat().st_size for name, path in files.items()}
    while True:
        for name, path in files.items():
            if not path.exists():
                continue
            if path.stat().st_size < positions[name]:
                positions[name] = 0
            with path.open("rb") as file:
                file.seek(positions[name])
                new = file.read()
            # an unfinished line waits for its end
            whole = new[: new.rfind(b"\n") + 1]
            positions[name] += len(whole)
            for line in whole.decode("utf-8", errors="replace").splitlines():
                yield f"{name} | {line}" if prefixed else line
        time.sleep(0.3)
