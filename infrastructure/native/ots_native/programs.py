"""The programs of the platform: what each runs, with which environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ots_native import monitoring
from ots_native.account import launch_prefix
from ots_native.postgres import PostgresServer
from ots_native.redis import RedisServer
from ots_native.settings import FOR_ALL, FOR_GATEWAY, FOR_INGESTION, FOR_SIGNALS, Settings
from ots_native.supervision import Program

STORAGE = ("postgres", "redis")
GATEWAY = "gateway"
# needs no storage and makes the certificate that others read, so it starts beside it
SIMULATOR = "simulator"
# the processes without a web server that have a port for their metrics, told by <NAME>_METRICS_PORT
COUNTING = {
    "collector": "ingestion-collector",
    "backfiller": "ingestion-backfiller",
    "worker": "ingestion-worker",
    "snapshots": "analytics-snapshots",
    "signals_worker": "signals-worker",
}
# the programs whose ports have another name than they
_LISTENERS = {"simulator_live": SIMULATOR, **COUNTING, **monitoring.PROGRAMS}
# queued files and captured records of one market never reach the database of another
SPOOLS = {"databento": "spool", "simulated": "spool-simulated"}
_FIRST_HISTORY_DAYS = "30"
# package, name among services (as in UPSTREAMS and the internal tokens), database role
_PACKAGES = {
    "gateway": "ots_gateway",
    "cache": "ots_cache",
    "ingestion": "ots_ingestion",
    "analytics": "ots_analytics",
    "signals": "ots_signals",
}
_AUDIENCES = {"cache": "cache", "ingestion": "data-ingestion", "analytics": "analytics", "signals": "signals"}


@dataclass(frozen=True)
class Keys:
    """The secrets that one service shares with its callers and with those it calls."""

    accepts: Mapping[str, str]
    signs: Mapping[str, str]


def _keys(values: Mapping[str, str]) -> dict[str, Keys]:
    to_cache, to_ingestion = values["KEY_GATEWAY_CACHE"], values["KEY_GATEWAY_INGESTION"]
    to_analytics, from_analytics = values["KEY_GATEWAY_ANALYTICS"], values["KEY_ANALYTICS_CACHE"]
    cache_to_analytics, cache_to_ingestion = values["KEY_CACHE_ANALYTICS"], values["KEY_CACHE_INGESTION"]
    # not in what an earlier version recorded, with which one only looks or stops
    to_signals, signals_to_analytics = (
        values.get(f"KEY_{pair}", "") for pair in ("GATEWAY_SIGNALS", "SIGNALS_ANALYTICS")
    )
    return {
        "gateway": Keys(
            {},
            {"cache": to_cache, "data-ingestion": to_ingestion, "analytics": to_analytics, "signals": to_signals},
        ),
        "cache": Keys(
            {"gateway": to_cache, "analytics": from_analytics},
            {"analytics": cache_to_analytics, "data-ingestion": cache_to_ingestion},
        ),
        "ingestion": Keys({"gateway": to_ingestion, "cache": cache_to_ingestion}, {}),
        "analytics": Keys(
            {"gateway": to_analytics, "cache": cache_to_analytics, "signals": signals_to_analytics},
            {"cache": from_analytics},
        ),
        "signals": Keys({"gateway": to_signals}, {"analytics": signals_to_analytics}),
    }


class Programs:
    """Builds the programs of one platform from its settings.

    root: the checkout
    state: the folder of everything that the platform writes, PostgreSQL's files under root apart
    """

    def __init__(
        self, root: Path, state: Path, settings: Settings, postgres: PostgresServer, redis: RedisServer
    ) -> None:
        self._root = root
        self._state = state
        self._settings = settings
        self._postgres = postgres
        self._redis = redis
        self._keys = _keys(settings.values)
        self._monitoring = monitoring.Monitoring(
            root, self._folder, settings, self._counting(), state / SIMULATOR / "ca.pem"
        )

    def all(self) -> list[Program]:
        """Every program, the storage first. Makes the folders and files that they need."""
        return [
            Program("postgres", self._postgres.prepare(), priority=10, stop_signal="INT", stop_wait_s=20),
            Program("redis", self._redis.prepare(), priority=10),
            *([self._simulator()] if self._settings.is_simulated else []),
            *(self._web(name) for name in _PACKAGES),
            *(self._ingestion(name) for name in ("worker", "collector", "backfiller")),
            self._snapshots(),
            self._signals_worker(),
            *self._monitoring.programs(),
        ]

    def ports(self) -> dict[str, int]:
        """Every port by the name of its setting; the simulator's and the monitoring's only where those run."""
        names = [*STORAGE, *_PACKAGES, *COUNTING]
        names += [SIMULATOR, "simulator_live"] if self._settings.is_simulated else []
        return {name: self._port(name) for name in [*names, *self._monitoring.names]}

    @staticmethod
    def listener(port_name: str) -> str:
        """The program that listens on the port of that name."""
        return _LISTENERS.get(port_name, port_name)

    def provision_environment(self) -> dict[str, str]:
        """For `python -m ots_common.provision`."""
        passwords = {name: value for name, value in self._settings.values.items() if name.startswith("DB_PASSWORD_")}
        return {
            "ADMIN_DATABASE_URL": self._postgres.admin_url,
            "MARKET_DATABASE": self._settings.market_database,
            "MIGRATIONS_DIR": str(self._root / "database" / "migrations"),
            **passwords,
        }

    def accounts_environment(self) -> dict[str, str]:
        """For `python -m ots_gateway.accounts`."""
        return {**self._web_environment("gateway"), "ADMIN_PASSWORD": self._settings.values["ADMIN_PASSWORD"]}

    def _web(self, name: str) -> Program:
        package = _PACKAGES[name]
        server = ["-m", "gunicorn", "--config", f"python:{package}.gunicorn_conf", f"{package}.app:create_app()"]
        environment = self._web_environment(name)
        # the services give a request under way 10 s, the gateway as long as it is told
        wait_s = int(environment.get("DRAIN_S", "10")) + 2
        return Program(name, [*_python(), *server], self._state, environment, stop_wait_s=wait_s)

    def _ingestion(self, command: str) -> Program:
        """One of ingestion's processes beside the web service; it is one process, which counts in memory."""
        environment = {**self._environment("ingestion"), **self._metrics_port(command)}
        command_line = [*_python(), "-m", "ots_ingestion", command]
        return Program(f"ingestion-{command}", command_line, self._state, environment)

    def _snapshots(self) -> Program:
        """Analytics' process that stores implied volatility. It is not called and calls nobody, so it has no keys.

        From Redis it hears of the levels of its log.
        """
        values = self._settings.values
        url = self._postgres.url("ots_snapshots", values["DB_PASSWORD_SNAPSHOTS"], self._settings.market_database)
        environment = {**self._environment("analytics"), "DATABASE_URL": url, **self._metrics_port("snapshots")}
        for name in ("ACCEPT_KEYS", "SIGNING_KEYS"):
            del environment[name]
        command_line = [*_python(), "-m", "ots_analytics", "snapshots"]
        return Program("analytics-snapshots", command_line, self._state, environment)

    def _signals_worker(self) -> Program:
        """The process that decides and resolves. It calls analytics and is not called."""
        environment = {**self._environment("signals"), "SIGNALS_METRICS_PORT": str(self._port("signals_worker"))}
        del environment["ACCEPT_KEYS"]
        command_line = [*_python(), "-m", "ots_signals", "worker"]
        return Program("signals-worker", command_line, self._state, environment)

    def _simulator(self) -> Program:
        """The vendor that is none; it has no database, so it is given none."""
        settings = self._settings
        options = ("LOG_FORMAT", "LOG_LEVEL", "SIMULATOR_KEY", "SIMULATOR_SEED", "SIMULATOR_SPEED", "SIMULATOR_SIZE")
        environment = {
            "OTS_ENVIRONMENT": "development",
            "MARKET_CALENDAR": settings.market_calendar,
            "SIMULATOR_BIND": "127.0.0.1",
            "SIMULATOR_HTTP_PORT": str(settings.ports.simulator),
            "SIMULATOR_LIVE_PORT": str(settings.ports.simulator_live),
            "SIMULATOR_TLS_DIR": str(self._folder("simulator")),
            **{name: settings.values[name] for name in options},
            **self._named(FOR_ALL),
        }
        if settings.values["SIMULATOR_TAPE"]:
            environment["SIMULATOR_TAPE"] = str(self._root / Path(settings.values["SIMULATOR_TAPE"]).expanduser())
        # it has nothing to put in order
        return Program(SIMULATOR, [*_python(), "-m", "ots_simulator"], self._state, environment, stop_wait_s=3)

    def _metrics_port(self, name: str) -> dict[str, str]:
        return {f"{name.upper()}_METRICS_PORT": str(self._port(name))}

    def _web_environment(self, name: str) -> dict[str, str]:
        server = {
            "BIND": f"127.0.0.1:{self._port(name)}",
            "WORKERS": self._settings.values["WORKERS"],
            "PROMETHEUS_MULTIPROC_DIR": str(self._folder("metrics", name)),
        }
        return {**self._environment(name), **server}

    def _environment(self, name: str) -> dict[str, str]:
        values = self._settings.values
        environment = {
            "OTS_ENVIRONMENT": "development",
            "OTS_INSTANCE": self._settings.instance,
            "MARKET_SOURCE": self._settings.market_source,
            "MARKET_CALENDAR": self._settings.market_calendar,
            "LOG_FORMAT": values["LOG_FORMAT"],
            "LOG_LEVEL": values["LOG_LEVEL"],
            **self._named(FOR_ALL),
            "REDIS_URL": self._redis.url,
            "DATABASE_URL": self._database_url(name),
            "ACCEPT_KEYS": _compact(self._keys[name].accepts),
            "SIGNING_KEYS": _compact(self._keys[name].signs),
        }
        if name in ("gateway", "cache", "signals"):
            environment["UPSTREAMS"] = _compact(
                {
                    audience: f"http://127.0.0.1:{self._port(service)}"
                    for service, audience in _AUDIENCES.items()
                    if audience in self._keys[name].signs
                }
            )
        if name == "gateway":
            environment |= {secret: values[secret] for secret in ("JWT_SIGNING_KEY", "METRICS_TOKEN")}
            environment |= {"DRAIN_S": values["DRAIN_S"], **self._named(FOR_GATEWAY)}
        if name == "ingestion":
            environment["SPOOL_DIR"] = str(self._folder(SPOOLS[self._settings.market_source]))
            environment |= {**self._vendor(), **self._named(FOR_INGESTION)}
        if name == "signals":
            environment |= self._named(FOR_SIGNALS)
        return environment

    def _named(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the settings that somebody gave a value."""
        return {name: self._settings.values[name] for name in names if self._settings.values[name]}

    def _vendor(self) -> dict[str, str]:
        """Where the market's data come from, for ingestion."""
        values, ports = self._settings.values, self._settings.ports
        if not self._settings.is_simulated:
            return {"DATABENTO_API_KEY": values["DATABENTO_API_KEY"]} if values["DATABENTO_API_KEY"] else {}
        return {
            "DATABENTO_API_KEY": values["SIMULATOR_KEY"],
            "DATABENTO_HISTORICAL_URL": f"https://localhost:{ports.simulator}",
            "DATABENTO_LIVE_HOST": "127.0.0.1",
            "DATABENTO_LIVE_PORT": str(ports.simulator_live),
            "REQUESTS_CA_BUNDLE": str(self._folder("simulator") / "ca.pem"),
            # what is on this machine is not asked for through a proxy
            **dict.fromkeys(("no_proxy", "NO_PROXY"), "localhost,127.0.0.1"),
            "COLLECT_ON_FIRST_START": "true",
            "BACKFILL_ON_FIRST_START_DAYS": _FIRST_HISTORY_DAYS,
        }

    def _database_url(self, name: str) -> str:
        values, market = self._settings.values, self._settings.market_database
        if name == "gateway":
            return self._postgres.url("ots_accounts", values["DB_PASSWORD_ACCOUNTS"], "ots_accounts")
        if name == "ingestion":
            return self._postgres.url("ots", values["DB_PASSWORD_OWNER"], market)
        if name == "signals":
            return self._postgres.url("ots_signals", values["DB_PASSWORD_SIGNALS"], market)
        return self._postgres.url("ots_reader", values["DB_PASSWORD_READER"], market)

    def _counting(self) -> dict[str, int]:
        """Whose metrics Prometheus asks for, and where."""
        names = [*_PACKAGES, *COUNTING, *([SIMULATOR] if self._settings.is_simulated else [])]
        return {self.listener(name): self._port(name) for name in names}

    def _port(self, name: str) -> int:
        port: int = getattr(self._settings.ports, name)
        return port

    def _folder(self, *parts: str) -> Path:
        folder = self._state.joinpath(*parts)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


def _python() -> list[str]:
    """This very Python, deaf to PYTHON* variables, that ends at once when supervisord does."""
    return [*launch_prefix("KILL"), sys.executable, "-I"]


def _compact(value: Mapping[str, str]) -> str:
    return json.dumps(value, separators=(",", ":"))
