"""The rules as they are written: which alerts there are, and of which metrics with which labels they speak."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from places import ROOT

PROMETHEUS = ROOT / "monitoring" / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))
_WORDS = frozenset(
    [
        "and",
        "or",
        "unless",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "offset",
        "by",
        "without",
        "sum",
        "max",
        "min",
        "avg",
        "count",
    ]
)
# of prometheus_client, and what is made of it here
_FAMILY = re.compile(r"\w*(Counter|Gauge|Histogram)(MetricFamily)?")


@dataclass(frozen=True)
class Asked:
    """A metric of an expression, with the labels that are asked of it."""

    metric: str
    labels: frozenset[str]


def rules() -> Iterator[tuple[Path, dict[str, object]]]:
    """Every rule with its file."""
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path, rule


def alerts() -> list[dict[str, object]]:
    """Every alerting rule."""
    return [rule for _, rule in rules() if "alert" in rule]


def asked_in(expression: str) -> set[Asked]:
    """The metrics of a PromQL expression, those with a selector and those without."""
    found = set()
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"(?<![\w:])\d[\d.]*(e\d+)?(?![\w:])", "0", bare)
    for name, selector in re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?", bare):
        called = re.search(rf"(?<![\w:]){re.escape(name)}\s*\(", bare)
        grouped = {word for part in re.findall(r"(?:by|on|right|left) \(([^)]*)\)", bare) for word in part.split(", ")}
        is_duration = re.search(rf"\[{re.escape(name)}\]|\d{re.escape(name)}\b", bare) and len(name) == 1
        inside = re.search(rf"[{{,]\s*{re.escape(name)}\s*[=!]", bare)
        if name in _WORDS or called or name in grouped or is_duration or inside:
            continue
        found.add(Asked(name, frozenset(re.findall(r"[{,]\s*(\w+)\s*[=!]", selector))))
    return found


def declared() -> dict[str, frozenset[str]]:
    """Every metric that a service declares: its samples' names, with the labels that it has."""
    metrics: dict[str, frozenset[str]] = {}
    for path in (ROOT / "services").glob("*/ots_*/**/*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not _FAMILY.fullmatch(_name(call.func)) or len(call.args) < 2:
                continue
            if not isinstance(call.args[0], ast.Constant):
                continue
            name, labels = str(call.args[0].value), _labels(call)
            if "Histogram" in _name(call.func):
                for suffix in ("_bucket", "_sum", "_count"):
                    metrics[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
            elif "Counter" in _name(call.func):
                metrics[name if name.endswith("_total") else name + "_total"] = labels
            else:
                metrics[name] = labels
    return metrics


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _labels(call: ast.Call) -> frozenset[str]:
    given = [*call.args[2:], *(keyword.value for keyword in call.keywords if keyword.arg in ("labelnames", "labels"))]
    lists = [node for node in given if isinstance(node, ast.List | ast.Tuple)]
    return frozenset(str(one.value) for node in lists for one in node.elts if isinstance(one, ast.Constant))
