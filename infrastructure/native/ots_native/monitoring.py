"""The programs that watch the platform: Prometheus, Alertmanager, and the exporters of what is not ours.

What each is told is written in `monitoring/` once, for Compose; here the addresses are other ones (a test holds both
against each other).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ots_native.account import launch_prefix
from ots_native.private_files import write_private
from ots_native.settings import Settings
from ots_native.supervision import Program
from ots_native.tools import find_tool, give_pages

# the name of its port and of the tool -> the program; the exporters' jobs are called as what they tell of
PROGRAMS = {
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
    "node_exporter": "node-exporter",
    "redis_exporter": "redis-exporter",
    "postgres_exporter": "postgres-exporter",
}
_TELLS_OF = {"node_exporter": "node", "redis_exporter": "redis", "postgres_exporter": "postgres"}
# settings that concern these programs alone: a change of one leaves the rest of the platform running
OWN_SETTINGS = frozenset(
    {"OTS_MONITORING", "ALERT_WEBHOOK_URL", "RUNBOOKS_URL", *(f"OTS_PORT_{name.upper()}" for name in PROGRAMS)}
)
# the line of monitoring/alertmanager/alertmanager.yml in whose place the webhook goes
WEBHOOK_LINE = "    #webhook_configs"


def webhook_lines(template: str, url: str) -> str:
    """Alertmanager's configuration with a webhook at `url` for every receiver that has the line; as it is without."""
    if not url:
        return template
    given = f"    webhook_configs: [{{ url: {json.dumps(url)}, send_resolved: true }}]"
    return "".join(
        given + "\n" if line.startswith(WEBHOOK_LINE) else line for line in template.splitlines(keepends=True)
    )


class Monitoring:
    """Builds these programs for one platform.

    root: the checkout
    folder: makes a folder of the platform's state
    ports: whom of ours Prometheus asks, and where
    certificate: the one that the simulator shows
    """

    def __init__(
        self, root: Path, folder: Callable[..., Path], settings: Settings, ports: Mapping[str, int], certificate: Path
    ) -> None:
        self._root = root
        self._folder = folder
        self._settings = settings
        self._ports = ports
        self._certificate = certificate
        self._tools = self._found()

    def _found(self) -> dict[str, Path]:
        """Those that are to run and are there: all that the tools folder has only where somebody asked for them."""
        wanted = self._settings.values["OTS_MONITORING"]
        if wanted == "off":
            return {}
        found = {name: find_tool(name, fetched=wanted == "on") for name in PROGRAMS}
        return {name: path for name, path in found.items() if path}

    @property
    def names(self) -> list[str]:
        """Those that run, by the names of their ports."""
        return list(self._tools)

    def programs(self) -> list[Program]:
        """Makes the folders and files that they need."""
        make = {
            "prometheus": self._prometheus,
            "alertmanager": self._alertmanager,
            "node_exporter": self._node_exporter,
            "redis_exporter": self._redis_exporter,
            "postgres_exporter": self._postgres_exporter,
        }
        return [make[name](str(path)) for name, path in self._tools.items()]

    def _prometheus(self, binary: str) -> Program:
        folder = self._folder("prometheus")
        write_private(folder / "gateway-token", self._settings.values["METRICS_TOKEN"])
        rules = self._root / "monitoring" / "prometheus" / "rules"
        configuration = self._prometheus_configuration(rules, folder / "gateway-token")
        write_private(folder / "prometheus.yml", configuration)
        flags = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "data",
            "storage.tsdb.retention.time": "7d",
            "storage.tsdb.retention.size": "2GB",
            "web.listen-address": self._address("prometheus"),
        }
        read = [configuration, *(path.read_text(encoding="utf-8") for path in sorted(rules.glob("*.yml")))]
        give_pages(folder, Path(binary))
        return self._program("prometheus", binary, flags, read=read, folder=folder)

    def _prometheus_configuration(self, rules: Path, token: Path) -> str:
        """Prometheus reads YAML, of which JSON is a part."""
        watching = {_TELLS_OF.get(name, name): getattr(self._settings.ports, name) for name in self.names}
        special: dict[str, dict[str, object]] = {
            "gateway": {"authorization": {"credentials_file": str(token)}},
            "simulator": {
                "scheme": "https",
                "metrics_path": "/simulator/metrics",
                "tls_config": {"ca_file": str(self._certificate)},
            },
        }
        labels = {"runbooks": self._settings.values["RUNBOOKS_URL"], "market_source": self._settings.market_source}
        configuration: dict[str, object] = {
            "global": {"scrape_interval": "15s", "evaluation_interval": "15s", "external_labels": labels},
            "rule_files": [str(rules / "*.yml")],
            "scrape_configs": [
                {
                    "job_name": job,
                    **special.get(job, {}),
                    "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"service": job}}],
                }
                for job, port in {**self._ports, **watching}.items()
            ],
        }
        if "alertmanager" in self._tools:
            configuration["alerting"] = {
                "alert_relabel_configs": [{"regex": "runbooks", "action": "labeldrop"}],
                "alertmanagers": [{"static_configs": [{"targets": [self._address("alertmanager")]}]}],
            }
        return json.dumps(configuration, indent=1)

    def _alertmanager(self, binary: str) -> Program:
        folder = self._folder("alertmanager")
        template = (self._root / "monitoring" / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
        configuration = webhook_lines(template, self._settings.values["ALERT_WEBHOOK_URL"])
        write_private(folder / "alertmanager.yml", configuration)
        flags = {
            "config.file": folder / "alertmanager.yml",
            "storage.path": folder / "data",
            "web.listen-address": self._address("alertmanager"),
            # alone: nobody to gossip with
            "cluster.listen-address": "",
        }
        give_pages(folder, Path(binary))
        return self._program("alertmanager", binary, flags, read=[configuration], folder=folder)

    def _node_exporter(self, binary: str) -> Program:
        return self._program("node_exporter", binary, {"web.listen-address": self._address("node_exporter")})

    def _redis_exporter(self, binary: str) -> Program:
        environment = {
            "REDIS_ADDR": f"redis://127.0.0.1:{self._settings.ports.redis}",
            "REDIS_PASSWORD": self._settings.values["REDIS_PASSWORD"],
        }
        flags = {"web.listen-address": self._address("redis_exporter")}
        return self._program("redis_exporter", binary, flags, environment)

    def _postgres_exporter(self, binary: str) -> Program:
        settings = self._settings
        environment = {
            "DATA_SOURCE_URI": f"127.0.0.1:{settings.ports.postgres}/{settings.market_database}?sslmode=disable",
            "DATA_SOURCE_USER": "ots_monitor",
            "DATA_SOURCE_PASS": settings.values["DB_PASSWORD_MONITOR"],
        }
        flags = {"web.listen-address": self._address("postgres_exporter")}
        return self._program("postgres_exporter", binary, flags, environment)

    def _program(
        self,
        name: str,
        binary: str,
        flags: Mapping[str, object],
        environment: Mapping[str, str] | None = None,
        *,
        read: list[str] | None = None,
        folder: Path = Path("/"),
    ) -> Program:
        """What it reads at its start is a part of the program: where that changes, it is started anew."""
        words = [f"--{flag}={value}" for flag, value in flags.items()]
        given = dict(environment or {})
        if read:
            given["OTS_CONFIGURATION"] = hashlib.sha256("\0".join(read).encode()).hexdigest()[:16]
        return Program(PROGRAMS[name], [*launch_prefix("TERM"), binary, *words], folder, given)

    def _address(self, name: str) -> str:
        return f"127.0.0.1:{getattr(self._settings.ports, name)}"
