"""Writes docs/METRICS.md from the metrics that the services declare.

python docs/generate_metrics.py            writes it
python docs/generate_metrics.py --check    exit code 1 when what is there is not current
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

TARGET = Path(__file__).with_name("METRICS.md")
SERVICES = Path(__file__).resolve().parents[1] / "services"
# package -> heading, and whose /metrics has what it declares
ROOMS = {
    "ots_common": ("Every service", "each service, and each process of its own as far as it uses that"),
    "ots_gateway": ("Gateway", "`gateway`"),
    "ots_cache": ("Cache", "`cache`"),
    "ots_analytics": ("Analytics", "`analytics`, and `analytics-snapshots` for what it computes"),
    "ots_signals": ("Signals", "`signals-worker`"),
    "ots_ingestion": ("Ingestion", "`ingestion`, `ingestion-worker`, `ingestion-collector`, `ingestion-backfiller`"),
    "ots_simulator": ("Market simulator", "`simulator`, in development only"),
}


@dataclass(frozen=True)
class Label:
    """A label: how many values it has at most, and what they are."""

    most: int
    values: str


# every label that a metric may have; tests/house/test_metrics.py refuses any other, and any more values
LABELS = {
    "bucket": Label(8, "the buckets of rate limits"),
    "by": Label(3, "what closes a gap: `replay`, `backfill`, `session`"),
    "call": Label(24, "the calls of Databento's API that are made, or `unknown`"),
    "dataset": Label(27, "Databento's datasets of US stocks and options, or `other`"),
    "decision": Label(2, "`allowed`, `refused`"),
    "done": Label(4, "what was done with a gap"),
    "end": Label(16, "how a connection to the feed ended"),
    "error": Label(24, "a kind of error"),
    "evidence": Label(12, "how a gap was noticed"),
    "kind": Label(48, "a kind of answers, credentials, arbitrage or faults: the help text says of what"),
    "level": Label(5, "levels of the log"),
    "market_source": Label(2, "`databento`, `simulated`"),
    "method": Label(8, "the methods of HTTP that are used here, or `other`"),
    "operation": Label(4, "what was done with an entry"),
    "outcome": Label(16, "how it ended: the help text names them"),
    "reason": Label(24, "why: the help text names them"),
    "recorded": Label(2, "yes or no"),
    "result": Label(8, "what a lookup found"),
    "route": Label(128, "the patterns of the routes as declared, or `none`; never a path"),
    "schema": Label(15, "the schemas that are stored, or `other`"),
    "service": Label(16, "a service; of pools of connections the pool, such as `gateway-watch`"),
    "stage": Label(12, "the stages of `Server-Timing`, or `other`"),
    "state": Label(12, "the help text names them"),
    "status": Label(40, "a status of HTTP, or of a run"),
    "strategy": Label(17, "the strategies of `GET /api/v1/signals/strategies`, or `other`"),
    "stream": Label(4, "the streams of the log"),
    "symbol": Label(20, "the nine underlyings, their options, or `other`"),
    "task": Label(12, "a task of maintenance, or of the signals' worker"),
    "underlying": Label(10, "the nine underlyings, or `other`"),
    "upstream": Label(4, "the services that are asked"),
    "version": Label(1, "of the code"),
}

_HEAD = """# Metrics

Made from what the services declare by `python docs/generate_metrics.py`; a test keeps it current. What to make of them:
the rules in `monitoring/prometheus`, the dashboards in `monitoring/grafana`.

- Every service answers `GET /metrics` in Prometheus' text format; the gateway to `METRICS_TOKEN` or an operator only.
  What has several workers adds them up (prometheus-client's multiprocess mode): a gauge is that of the workers that
  live, by its column *workers*. The collector, the backfiller, the worker of ingestion and the process of the snapshots
  serve their own, on ports of their own.
- Units are in the names: `_seconds`, `_bytes`, `_ratio` (0 to 1), `_timestamp_seconds` (since 1970). What ends in
  `_total` only grows, until its process starts anew: ask for `rate()` or `increase()`.
- A metric whose closed set of labels matters to an alert has all of its series from the start, at 0: the first failure
  is an increase. The others appear with their first event.
- **No label has a value that a client, a file or the market chooses.** Every label is in the table at the end with the
  most values it may have, and tests send the services arbitrary paths, methods, hosts, names and symbols and count the
  series. What is not one of the nine underlyings counts as `other`.
- There are no exemplars: prometheus-client drops them in multiprocess mode (its `MmapedValue.set_exemplar` does
  nothing), and the text format has no place for them. From a slow bucket to its requests it is the access log that
  leads: every line has its path, its status, `ms`, `request_id` and `trace_id`.
- Counting costs a request of the gateway about 4 microseconds more than it did without these (1.2 for a counter and
  2.7 for a histogram, of CPU time, in multiprocess mode; children of labels are looked up once), and lending a
  connection to PostgreSQL 6.5.
"""


@dataclass(frozen=True)
class Declared:
    """A metric as it is declared. ``mode``: how a gauge is made of the workers'; empty for what is added up."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    mode: str
    package: str


def declared() -> list[Declared]:
    """All metrics of all services, by package and then by name."""
    found = [one for module in _modules() for one in _of_module(module)]
    return sorted(found, key=lambda one: (list(ROOMS).index(one.package), one.name))


def _modules() -> Iterator[str]:
    """Those that declare metrics; nothing else is imported, because some modules do things when they are."""
    for path in sorted(SERVICES.glob("*/ots_*/**/*.py")):
        text = path.read_text("utf-8")
        if "from prometheus_client" in text and re.search(
            r"^\w+ = (Counter|Gauge|Histogram|\w+\(\))", text, re.MULTILINE
        ):
            yield ".".join(path.relative_to(SERVICES).with_suffix("").parts[1:])


def _of_module(module: str) -> Iterator[Declared]:
    found = importlib.import_module(module)
    source = Path(str(found.__file__)).read_text("utf-8")
    for name, value in vars(found).items():
        is_own = re.search(rf"^{name}\b[^=\n]*= \w+\(", source, re.MULTILINE)
        if is_own and hasattr(value, "collect") and not isinstance(value, type | ModuleType):
            yield _declared(value, module.partition(".")[0])


def _declared(metric: Collector, package: str) -> Declared:
    if isinstance(metric, MetricWrapperBase):
        kind, labels = str(metric._type), metric._labelnames
        name = metric._name + ("_total" if kind == "counter" else "")
        return Declared(name, kind, labels, metric._documentation, getattr(metric, "_multiprocess_mode", ""), package)
    family: Metric = next(iter(metric.collect()))
    return Declared(family.name, family.type, tuple(vars(family)["_labelnames"]), family.documentation, "", package)


def page() -> str:
    """The whole page."""
    metrics = declared()
    parts = [_HEAD]
    for package, (title, whose) in ROOMS.items():
        own = [one for one in metrics if one.package == package]
        if not own:
            continue
        parts += [f"## {title}", "", f"Served by {whose}.", ""]
        parts += ["| name | type | labels | workers | meaning |", "|---|---|---|---|---|"]
        parts += [_row(one) for one in own]
        parts.append("")
    parts += ["## Labels", "", "| label | values at most | which |", "|---|---|---|"]
    used = {label for one in metrics for label in one.labels}
    parts += [f"| `{name}` | {label.most} | {label.values} |" for name, label in LABELS.items() if name in used]
    return "\n".join(parts).rstrip() + "\n"


def _row(one: Declared) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    workers = _MODES[one.mode] if one.kind == "gauge" else "sum"
    return f"| `{one.name}` | {one.kind} | {labels} | {workers} | {one.help.replace('|', '/')} |"


# how the values of several workers are made one
_MODES = {
    "": "one process",
    "all": "one process",
    "livesum": "sum",
    "livemax": "largest",
    "livemin": "smallest",
    "livemostrecent": "newest",
}


def main() -> int:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.exists() and TARGET.read_text("utf-8") == text else 1
    TARGET.write_text(text, "utf-8")
    print(f"wrote {TARGET.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
