"""The dashboards as Grafana reads them, and their queries as it would ask them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from places import ROOT

GRAFANA = ROOT / "monitoring" / "grafana"
FILES = sorted((GRAFANA / "provisioning" / "dashboards" / "json").glob("*.json"))
NAMES = [path.stem for path in FILES]


@cache
def dashboard(name: str) -> dict[str, Any]:
    """One of them."""
    found: dict[str, Any] = json.loads((FILES[0].parent / f"{name}.json").read_text())
    return found


def panels(name: str) -> list[dict[str, Any]]:
    """Its panels without the headings of rows."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def panel(name: str, title: str) -> dict[str, Any]:
    """The panel of that title."""
    (found,) = (panel for panel in panels(name) if panel["title"] == title)
    return found


def sql_of(name: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """(whose it is, the query, its panel) of panels and variables that ask the database."""
    for variable in dashboard(name)["templating"]["list"]:
        if isinstance(variable.get("query"), str) and variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"], None
    for one in panels(name):
        for target in one["targets"]:
            if "rawSql" in target:
                yield one["title"], target["rawSql"], one


def promql_of(name: str) -> Iterator[tuple[str, str]]:
    """(whose it is, the expression) of panels, variables and annotations that ask Prometheus."""
    for variable in dashboard(name)["templating"]["list"]:
        if isinstance(variable.get("query"), dict):
            yield f"variable {variable['name']}", variable["query"]["query"]
    for annotation in dashboard(name)["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]
    for one in panels(name):
        for target in one["targets"]:
            if "expr" in target:
                yield one["title"], target["expr"]


def asked(name: str, query: str, since_ns: int, until_ns: int, **chosen: str) -> str:
    """A query with the dashboard's variables as they are at first, and the range's bounds."""
    values = {
        one["name"]: one["current"]["value"]
        for one in dashboard(name)["templating"]["list"]
        if isinstance(one["current"]["value"], str)
    }
    values |= {
        "__from": str(since_ns // 1_000_000),
        "__to": str(until_ns // 1_000_000),
        "__interval_ms": "15000",
        **chosen,
    }
    return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], query)
