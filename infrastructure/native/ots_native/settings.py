"""What one platform runs with: ports, secrets, choices, and the record of them that later commands follow."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ots_native.env_file import SECRETS
from ots_native.errors import NativeError
from ots_native.private_files import write_private

# handed on to a service when somebody names them; what holds otherwise is the service's own affair
FOR_GATEWAY = ("ALLOWED_HOSTS", "CORS_ORIGINS", "TRUSTED_PROXIES", "HSTS_S", "RATE_LIMITS", "RATE_LIMIT_SCALE")
FOR_ALL = (
    "LOG_STREAMS",
    "LOG_FILE",
    "LOG_FILE_BYTES",
    "LOG_FILE_BACKUPS",
    "LOG_FLOOD_LINES",
    "LOG_FLOOD_KEEP_ONE_IN",
    "SLOW_REQUEST_MS",
    "SLOW_QUERY_MS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
)
FOR_INGESTION = (
    "REPAIR_MAX_COST_USD",
    "EXPECTED_STRETCH_MINUTES",
    "LIVE_SPOOL_MAX_BYTES",
    "BACKFILL_PARALLEL",
    "SELF_CHECK_EVERY_S",
    "SELF_CHECK_ROWS",
)
FOR_SIGNALS = ("LEDGER_VERIFY_EVERY_S",)
# optional settings, with what holds when nobody names them
OPTIONS = {
    **dict.fromkeys((*FOR_ALL, *FOR_GATEWAY, *FOR_INGESTION, *FOR_SIGNALS), ""),
    "DATABENTO_API_KEY": "",
    "DRAIN_S": "10",
    "LOG_FORMAT": "console",
    "LOG_LEVEL": "INFO",
    "ALERT_WEBHOOK_URL": "",
    "RUNBOOKS_URL": "docs/OPERATIONS_MANUAL.md",
    "OTS_POSTGRES_BIN": "",
    "OTS_POSTGRES_USER": "",
    "SIMULATOR_SPEED": "1.0",
    "SIMULATOR_TAPE": "",
    "WORKERS": "2",
}
# of the monitoring auto runs what is on PATH, on also what was fetched, off nothing; kept until `reset`
MONITORING = {"OTS_MONITORING": "auto"}
# what makes one invented market; the database of one takes no other, so it is kept until `reset`
INVENTED = {"SIMULATOR_CALENDAR": "around-the-clock", "SIMULATOR_SEED": "1", "SIMULATOR_SIZE": "laptop"}
DATABASES = {"databento": "ots", "simulated": "ots_sim"}
_WHOLE = "it is a whole number"
_NUMBER = (r"([0-9]+([.][0-9]+)?)?", "it is a number of at least 0")
_ALLOWED = {
    "ALERT_WEBHOOK_URL": (r"(https?://[^\s\"'\\\\#]+)?", "it is an http or https address"),
    # whoever asks on this machine, the launcher and Prometheus among them, does so by these names
    "ALLOWED_HOSTS": (
        r"|(?=.*\"127[.]0[.]0[.]1\")(?=.*\"localhost\")\[.*\]",
        'it is a JSON list of names, with "127.0.0.1" and "localhost" among them',
    ),
    "BACKFILL_PARALLEL": (r"([0-9]+)?", _WHOLE),
    "DRAIN_S": (r"[1-9][0-9]?|[12][0-9]{2}|3[0-6][0-9]|370", "it is a whole number of seconds from 1 to 370"),
    "EXPECTED_STRETCH_MINUTES": (r"([0-9]+)?", _WHOLE),
    "HSTS_S": (r"([0-9]+)?", _WHOLE),
    "LEDGER_VERIFY_EVERY_S": (r"([1-9][0-9]*)?", "it is a whole number of at least 1"),
    "LIVE_SPOOL_MAX_BYTES": (r"([0-9]+)?", _WHOLE),
    "OTS_MONITORING": (r"auto|on|off", "it is `auto`, `on` or `off`"),
    "RATE_LIMIT_SCALE": _NUMBER,
    "REPAIR_MAX_COST_USD": _NUMBER,
    "RUNBOOKS_URL": (r"[!-~]+", "it is an address or a path without spaces"),
    "SELF_CHECK_EVERY_S": (r"([0-9]+)?", _WHOLE),
    "SELF_CHECK_ROWS": (r"([1-9][0-9]*)?", "it is a whole number of at least 1"),
    "SIMULATOR_CALENDAR": (r"around-the-clock|xnys", "it is `around-the-clock` or `xnys`"),
    "SIMULATOR_SEED": (r"[0-9]{1,18}", "it is a whole number of at most 18 digits"),
    "SIMULATOR_SIZE": (r"laptop|full", "it is `laptop` or `full`"),
    "SIMULATOR_SPEED": (r"(?=.*[1-9])[0-9]+([.][0-9]+)?", "it is a number above 0: 2 for twice as fast"),
}


@dataclass(frozen=True)
class Ports:
    """Where everything listens, on 127.0.0.1."""

    gateway: int = 8000
    cache: int = 8001
    ingestion: int = 8002
    analytics: int = 8003
    signals: int = 8004
    postgres: int = 15432
    redis: int = 16379
    prometheus: int = 9090
    simulator: int = 8010
    simulator_live: int = 13000
    collector: int = 8012
    backfiller: int = 8013
    worker: int = 8014
    snapshots: int = 8015
    signals_worker: int = 8016
    alertmanager: int = 9093
    node_exporter: int = 9100
    redis_exporter: int = 9121
    postgres_exporter: int = 9187

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody uses, below those that the kernel gives to outgoing connections."""
        chosen: list[int] = []
        with contextlib.ExitStack() as held:
            while len(chosen) < len(fields(cls)):
                port = random.randrange(20_000, 32_000)  # noqa: S311 - not a secret
                listener = held.enter_context(socket.socket())
                with contextlib.suppress(OSError):
                    listener.bind(("127.0.0.1", port))
                    chosen.append(port)
        return cls(*chosen)

    @classmethod
    def variable(cls, name: str) -> str:
        """The setting of a port: OTS_PORT_GATEWAY for `gateway`."""
        return f"OTS_PORT_{name.upper()}"

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Ports:
        """From OTS_PORT_* in `values`. Raises NativeError for what is no port, and for one port given twice."""
        numbers: dict[str, int] = {}
        for field in fields(cls):
            value = values.get(cls.variable(field.name)) or str(field.default)
            if not value.isdecimal() or not 0 < int(value) < 65_536:
                raise NativeError(f"{cls.variable(field.name)}={value} is not a port (1 to 65535).")
            numbers[field.name] = int(value)
        if len(set(numbers.values())) < len(numbers):
            raise NativeError(f"Two of the OTS_PORT_ settings are the same port: {numbers}.")
        return cls(**numbers)

    def as_values(self) -> dict[str, str]:
        """As OTS_PORT_* settings."""
        return {self.variable(name): str(port) for name, port in asdict(self).items()}


@dataclass(frozen=True)
class Settings:
    """Everything decided: `values` holds every secret and every option by its name in `.env`."""

    instance: str
    market_source: str
    ports: Ports
    values: Mapping[str, str]

    @property
    def market_database(self) -> str:
        """Real and invented prices never share one."""
        return DATABASES[self.market_source]

    @property
    def is_simulated(self) -> bool:
        """Whether the market is invented."""
        return self.market_source == "simulated"

    @property
    def market_calendar(self) -> str:
        """When the market is open: it belongs to the source."""
        return self.values["SIMULATOR_CALENDAR"] if self.is_simulated else "xnys"

    @property
    def key_left_aside(self) -> bool:
        """Whether there is a Databento key that the simulated market does not use."""
        return self.is_simulated and bool(self.values["DATABENTO_API_KEY"])

    def save(self, path: Path) -> None:
        """Write the record, mode 600."""
        write_private(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Settings | None:
        """The record of the last `up`; None when there was none, or it is of no use any more."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            # of an earlier version, which knew fewer options
            values = {**OPTIONS, **MONITORING, **record["values"]}
            return cls(record["instance"], record["market_source"], Ports(**record["ports"]), values)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def changed_from(self, earlier: Settings) -> list[str]:
        """The names of the settings that differ."""
        mine, theirs = self._flat(), earlier._flat()
        return sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))

    def _flat(self) -> dict[str, str]:
        return {**self.values, **self.ports.as_values(), "MARKET_SOURCE": self.market_source}


def resolve(given: Mapping[str, str], recorded: Settings | None, *, running: bool) -> Settings:
    """Decide every setting: what is `given`, else what the last `up` recorded, else the default.

    The market source, what makes an invented market, the ports and whether the monitoring runs are kept until `reset`,
    the other options only while the platform runs. Raises NativeError for a value that cannot be, and for another
    invented market than the recorded.
    """
    earlier = recorded._flat() if recorded else {}
    kept = {"MARKET_SOURCE", *INVENTED, *MONITORING, *Ports().as_values()} | (set(OPTIONS) if running else set())
    values = {name: value for name, value in earlier.items() if name in kept and value}
    values.update({name: value for name, value in given.items() if value})
    source = _market_source(values)
    return Settings(
        instance=recorded.instance if recorded else uuid.uuid4().hex[:12],
        market_source=source,
        ports=Ports.of(values),
        values={
            **{name: values[name] for name in SECRETS},
            **{name: _allowed(name, values.get(name, default)) for name, default in {**OPTIONS, **MONITORING}.items()},
            **_invented(values, earlier, simulated=source == "simulated"),
        },
    )


def _market_source(values: Mapping[str, str]) -> str:
    """As asked for or recorded; else Databento for whoever has a key, and for everybody else the simulated market."""
    source = values.get("MARKET_SOURCE") or ("databento" if values.get("DATABENTO_API_KEY") else "simulated")
    if source not in DATABASES:
        raise NativeError(f"MARKET_SOURCE={source}: it is `databento` or `simulated`.")
    return source


def _invented(values: Mapping[str, str], earlier: Mapping[str, str], *, simulated: bool) -> dict[str, str]:
    """What makes the invented market; with real data only what an earlier one was, so that it can be gone back to."""
    if not simulated:
        return {name: earlier.get(name, "") for name in INVENTED}
    chosen = {name: _allowed(name, values.get(name, default)) for name, default in INVENTED.items()}
    for name, value in chosen.items():
        if earlier.get(name, value) not in ("", value):
            raise NativeError(
                f"{name}={value}: the database {DATABASES['simulated']} holds the market of {name}={earlier[name]}. "
                f"./start-dev.sh reset deletes that one, or another OTS_STATE_DIR holds a second."
            )
    return chosen


def _allowed(name: str, value: str) -> str:
    pattern, explained = _ALLOWED.get(name, ("", ""))
    if pattern and not re.fullmatch(pattern, value):
        raise NativeError(f"{name}={value}: {explained}.")
    return value
