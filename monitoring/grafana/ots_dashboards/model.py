"""What a dashboard is made of, and the JSON that Grafana 12 reads of it (dashboard schema 41).

Panels are placed as high as they fit, then as far left; whoever adds one needs no coordinates. Every panel must say
what it shows, in which unit, and what an empty one means: the constructors ask for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

Json = dict[str, Any]

PROMETHEUS: Json = {"type": "prometheus", "uid": "prometheus"}
POSTGRES: Json = {"type": "grafana-postgresql-datasource", "uid": "ots-postgres"}
TAG = "ai-ots"
RUNBOOKS = "/public/ots-docs/OPERATIONS_MANUAL.md"
"""Where the runbooks are read: Grafana itself serves the documents, so that it works without the world."""
WIDTH = 24

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#8e8e8e"

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from which value on a colour holds, the first from the least (None) on."""


@dataclass(frozen=True)
class Prometheus:
    """A query in PromQL. ``legend``: a name, with labels as {{label}}."""

    expr: str
    legend: str = "__auto"
    _: KW_ONLY
    instant: bool = False
    table: bool = False

    def to_json(self, ref: str) -> Json:
        """As a panel's target."""
        return {
            "refId": ref,
            "datasource": PROMETHEUS,
            "expr": self.expr,
            "legendFormat": self.legend,
            "instant": self.instant,
            "range": not self.instant,
            "format": "table" if self.table else "time_series",
            "editorMode": "code",
        }


@dataclass(frozen=True)
class Sql:
    """A query of the market database. ``series``: over time, with a column named time; else a table."""

    text: str
    series: bool = False

    def to_json(self, ref: str) -> Json:
        """As a panel's target."""
        return {
            "refId": ref,
            "datasource": POSTGRES,
            "rawSql": self.text,
            "rawQuery": True,
            "editorMode": "code",
            "format": "time_series" if self.series else "table",
        }


Query = Prometheus | Sql


@dataclass(frozen=True)
class Look:
    """What differs for one series or column, by its name (``regex``: for all that match)."""

    name: str
    _: KW_ONLY
    unit: str | None = None
    decimals: int | None = None
    color: str | None = None
    thresholds: Steps | None = None
    cell: str | None = None
    width: int | None = None
    link: str | None = None
    regex: bool = False
    custom: Mapping[str, Any] = field(default_factory=dict)
    mappings: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def to_json(self) -> Json:
        """As an override of the field configuration."""
        properties: list[Json] = []
        for key, value in (("unit", self.unit), ("decimals", self.decimals)):
            if value is not None:
                properties.append({"id": key, "value": value})
        if self.color:
            properties.append({"id": "color", "value": {"mode": "fixed", "fixedColor": self.color}})
        if self.thresholds:
            properties.append({"id": "thresholds", "value": _thresholds(self.thresholds)})
        if self.cell:
            properties.append({"id": "custom.cellOptions", "value": {"type": self.cell}})
        if self.width:
            properties.append({"id": "custom.width", "value": self.width})
        if self.link:
            links = [{"title": "Runbook", "url": self.link, "targetBlank": True}]
            properties.append({"id": "links", "value": links})
        if self.mappings:
            properties.append({"id": "mappings", "value": _mappings(self.mappings)})
        properties += [{"id": f"custom.{key}", "value": value} for key, value in self.custom.items()]
        matcher = {"id": "byRegexp" if self.regex else "byName", "options": self.name}
        return {"matcher": matcher, "properties": properties}


@dataclass(frozen=True)
class Panel(ABC):
    """A panel. ``no_data``: what it says instead of nothing.

    ``runbook``: the section that helps, lower case; ``more``: the uid of the dashboard that says more.
    """

    title: str
    description: str
    queries: Sequence[Query]
    unit: str
    _: KW_ONLY
    no_data: str
    width: int = 8
    height: int = 8
    thresholds: Steps | None = None
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    looks: Sequence[Look] = ()
    mappings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    runbook: str | None = None
    more: str | None = None

    kind = ""

    @abstractmethod
    def _options(self) -> Json:
        """The options of this kind of panel."""

    def _custom(self) -> Json:
        """The field configuration that only this kind has."""
        return {}

    def _color(self) -> Json:
        """How series get their colours."""
        return {"mode": "thresholds"} if self.thresholds else {"mode": "palette-classic"}

    def _transformations(self) -> list[Json]:
        """What is done with the queries' answers before they are shown."""
        return []

    def _interval(self) -> str | None:
        """The shortest step that the panel asks for."""
        return None

    def to_json(self, number: int, x: int, y: int) -> Json:
        """At a place in the dashboard's grid."""
        defaults: Json = {
            "unit": self.unit,
            "color": self._color(),
            "thresholds": _thresholds(self.thresholds or [(None, GREEN)]),
            "mappings": _mappings(self.mappings),
            "noValue": self.no_data,
            "custom": self._custom(),
        }
        for key, value in (("decimals", self.decimals), ("min", self.minimum), ("max", self.maximum)):
            if value is not None:
                defaults[key] = value
        sources = [PROMETHEUS if isinstance(query, Prometheus) else POSTGRES for query in self.queries]
        found: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "datasource": sources[0],
            "targets": [query.to_json(chr(ord("A") + i)) for i, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": defaults, "overrides": [look.to_json() for look in self.looks]},
            "options": self._options(),
        }
        if any(source is not sources[0] for source in sources):
            found["datasource"] = {"type": "datasource", "uid": "-- Mixed --"}
        if self._transformations():
            found["transformations"] = self._transformations()
        if self._interval():
            found["interval"] = self._interval()
        links: list[Json] = []
        if self.more:
            links.append({"title": "More", "url": f"/d/{self.more}?${{__url_time_range}}", "targetBlank": False})
        if self.runbook:
            links.append({"title": "Runbook", "url": f"{RUNBOOKS}#{self.runbook}", "targetBlank": True})
        if links:
            found["links"] = links
        return found


def _legend(calculations: Sequence[str]) -> Json:
    return {
        "displayMode": "table" if calculations else "list",
        "placement": "bottom",
        "showLegend": True,
        "calcs": list(calculations),
    }


_GRAPH: Json = {
    "drawStyle": "line",
    "lineInterpolation": "linear",
    "lineWidth": 1,
    "fillOpacity": 8,
    "gradientMode": "none",
    "showPoints": "auto",
    "pointSize": 5,
    "spanNulls": False,
    "stacking": {"mode": "none", "group": "A"},
    "axisPlacement": "auto",
    "axisLabel": "",
    "axisColorMode": "text",
    "axisBorderShow": False,
    "axisCenteredZero": False,
    "scaleDistribution": {"type": "linear"},
    "barAlignment": 0,
    "hideFrom": {"legend": False, "tooltip": False, "viz": False},
    "thresholdsStyle": {"mode": "off"},
}


@dataclass(frozen=True)
class TimeSeries(Panel):
    """Lines over time. ``stacked``: on top of each other; ``logarithmic``: a scale for what differs by decades."""

    _: KW_ONLY
    stacked: bool = False
    logarithmic: bool = False
    label: str = ""
    bars: bool = False
    show_thresholds: bool = False
    calculations: Sequence[str] = ()
    step: str | None = None

    kind = "timeseries"

    def _options(self) -> Json:
        return {"legend": _legend(self.calculations), "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": False}}

    def _color(self) -> Json:
        return {"mode": "palette-classic"}

    def _interval(self) -> str | None:
        return self.step

    def _custom(self) -> Json:
        return {
            **_GRAPH,
            "drawStyle": "bars" if self.bars else "line",
            "axisLabel": self.label,
            "fillOpacity": 60 if self.bars else 25 if self.stacked else 8,
            "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
            "scaleDistribution": {"type": "log", "log": 10} if self.logarithmic else {"type": "linear"},
            "thresholdsStyle": {"mode": "line" if self.show_thresholds else "off"},
        }


@dataclass(frozen=True)
class Trend(Panel):
    """Lines over a number, ``x``, the first column; one row a value of it, rising."""

    _: KW_ONLY
    x: str
    label: str = ""
    points: bool = False

    kind = "trend"

    def _options(self) -> Json:
        return {
            "legend": _legend(()),
            "tooltip": {"mode": "multi", "sort": "none", "hideZeros": False},
            "xField": self.x,
        }

    def _color(self) -> Json:
        return {"mode": "palette-classic"}

    def _custom(self) -> Json:
        return {
            **_GRAPH,
            "axisLabel": self.label,
            "lineWidth": 2,
            "fillOpacity": 0,
            "showPoints": "always" if self.points else "auto",
            "spanNulls": True,
        }


@dataclass(frozen=True)
class Stat(Panel):
    """The newest value, large. ``words``: the column of words that is shown instead of numbers.

    ``show``: `auto`, `value`, `name` or `value_and_name`.
    """

    _: KW_ONLY
    words: str = ""
    show: str = "auto"
    background: bool = False
    spark: bool = False

    kind = "stat"

    def _options(self) -> Json:
        return {
            "reduceOptions": {
                "calcs": ["lastNotNull"],
                "fields": f"/^{self.words}$/" if self.words else "",
                "values": False,
            },
            "orientation": "auto",
            "textMode": self.show,
            "wideLayout": True,
            "colorMode": "background" if self.background else "value",
            "graphMode": "area" if self.spark else "none",
            "justifyMode": "auto",
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
        }


@dataclass(frozen=True)
class Table(Panel):
    """Rows and columns. ``matrix``: (rows, columns, values), from three columns to a table crossed by two of them.

    ``merged``: the answers of several queries side by side, by the columns that they share.
    """

    _: KW_ONLY
    merged: bool = False
    matrix: tuple[str, str, str] | None = None
    cell: str = "auto"
    hidden: Sequence[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)

    kind = "table"

    def _options(self) -> Json:
        return {
            "showHeader": True,
            "cellHeight": "sm",
            "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
        }

    def _custom(self) -> Json:
        cell: Json = {"type": self.cell}
        if self.cell == "color-background":
            cell["mode"] = "basic"
        return {"align": "auto", "cellOptions": cell, "inspect": False, "filterable": False}

    def _transformations(self) -> list[Json]:
        found: list[Json] = [{"id": "merge", "options": {}}] if self.merged else []
        if self.matrix:
            row, column, value = self.matrix
            options: Json = {"rowField": row, "columnField": column, "valueField": value, "emptyValue": "null"}
            found.append({"id": "groupingToMatrix", "options": options})
        if self.hidden or self.renamed:
            options = {
                "excludeByName": dict.fromkeys(self.hidden, True),
                "indexByName": {},
                "renameByName": dict(self.renamed),
            }
            found.append({"id": "organize", "options": options})
        return found


@dataclass(frozen=True)
class BarChart(Panel):
    """Bars over the names in the column ``x``."""

    _: KW_ONLY
    x: str
    horizontal: bool = False
    label: str = ""

    kind = "barchart"

    def _options(self) -> Json:
        return {
            "xField": self.x,
            "orientation": "horizontal" if self.horizontal else "vertical",
            "xTickLabelRotation": 0 if self.horizontal else -45,
            "xTickLabelSpacing": 0 if self.horizontal else 50,
            "showValue": "never",
            "stacking": "none",
            "groupWidth": 0.8,
            "barWidth": 0.9,
            "barRadius": 0,
            "fullHighlight": False,
            "legend": _legend(()),
            "tooltip": {"mode": "multi", "sort": "none", "hideZeros": False},
        }

    def _color(self) -> Json:
        return {"mode": "palette-classic"}

    def _custom(self) -> Json:
        return {
            "lineWidth": 1,
            "fillOpacity": 80,
            "gradientMode": "none",
            "axisPlacement": "auto",
            "axisLabel": self.label,
            "axisColorMode": "text",
            "axisBorderShow": False,
            "axisCenteredZero": False,
            "scaleDistribution": {"type": "linear"},
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
            "thresholdsStyle": {"mode": "off"},
        }


@dataclass(frozen=True)
class BarGauge(Panel):
    """A bar for each newest value, the name beside it; ``by_row``: for each row of a table, named by its words."""

    _: KW_ONLY
    by_row: bool = False

    kind = "bargauge"

    def _options(self) -> Json:
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": self.by_row},
            "orientation": "horizontal",
            "displayMode": "basic",
            "valueMode": "color",
            "namePlacement": "auto",
            "showUnfilled": True,
            "sizing": "auto",
            "minVizHeight": 16,
            "minVizWidth": 8,
            "maxVizHeight": 300,
            "legend": {"showLegend": False, "displayMode": "hidden", "placement": "bottom", "calcs": []},
        }


@dataclass(frozen=True)
class StateTimeline(Panel):
    """A coloured band for each series over time."""

    kind = "state-timeline"

    def _options(self) -> Json:
        return {
            "mergeValues": True,
            "showValue": "never",
            "alignValue": "left",
            "rowHeight": 0.8,
            "perPage": 20,
            "legend": {"showLegend": False, "displayMode": "hidden", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "single", "sort": "none", "hideZeros": False},
        }

    def _custom(self) -> Json:
        return {
            "lineWidth": 0,
            "fillOpacity": 75,
            "spanNulls": False,
            "insertNulls": False,
            "axisPlacement": "auto",
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        }


@dataclass(frozen=True)
class Row:
    """A heading with panels below."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice at the top. ``query``: where its values come from; ``choices``: the values themselves, by name."""

    name: str
    label: str
    description: str
    _: KW_ONLY
    query: Query | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    default: str = ""
    default_label: str = ""
    several: bool = False

    def to_json(self) -> Json:
        """As an entry of the dashboard's templating."""
        found: Json = {
            "name": self.name,
            "label": self.label,
            "description": self.description,
            "hide": 0,
            "skipUrlSync": False,
            "multi": self.several,
            "includeAll": self.several,
            "options": [],
        }
        if self.several:
            found["current"] = {"text": ["All"], "value": ["$__all"]}
        else:
            found["current"] = {"text": self.default_label or self.default, "value": self.default}
        if isinstance(self.query, Prometheus):
            query = {"query": self.query.expr, "refId": "PrometheusVariableQueryEditor-VariableQuery", "qryType": 1}
            return found | {
                "type": "query",
                "datasource": PROMETHEUS,
                "definition": self.query.expr,
                "query": query,
                "refresh": 2,
                "regex": "",
                "sort": 1,
            }
        if isinstance(self.query, Sql):
            return found | {
                "type": "query",
                "datasource": POSTGRES,
                "definition": self.query.text,
                "query": self.query.text,
                "refresh": 2,
                "regex": "",
                "sort": 0,
            }
        names = {value: name for name, value in self.choices.items()}
        current = self.default or next(iter(self.choices.values()))
        return found | {
            "type": "custom",
            "query": ",".join(f"{name} : {value}" for name, value in self.choices.items()),
            "current": {"text": names[current], "value": current},
            "options": [
                {"text": name, "value": value, "selected": value == current} for name, value in self.choices.items()
            ],
        }


@dataclass(frozen=True)
class Dashboard:
    """A dashboard; ``runbook``: the section of the operations manual that it belongs to, lower case."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    _: KW_ONLY
    variables: Sequence[Variable] = ()
    since: str = "now-1h"
    refresh: str = "30s"
    timezone: str = "browser"

    def to_json(self) -> Json:
        """The whole, as a file that Grafana provisions."""
        panels: list[Json] = []
        y = 0
        number = 0
        for row in self.rows:
            number += 1
            place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            panels.append(
                {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
            )
            filled = [y + 1] * WIDTH
            for panel in row.panels:
                number += 1
                x = min(range(WIDTH - panel.width + 1), key=_heights(filled, panel.width).__getitem__)
                top = max(filled[x : x + panel.width])
                filled[x : x + panel.width] = [top + panel.height] * panel.width
                panels.append(panel.to_json(number, x, top))
            y = max(filled)
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "id": None,
            "schemaVersion": 41,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "timezone": self.timezone,
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "refresh": self.refresh,
            "fiscalYearStartMonth": 0,
            "weekStart": "",
            "annotations": {"list": [_firing_alerts()]},
            "templating": {"list": [variable.to_json() for variable in self.variables]},
            "links": [_other_dashboards(), _manual()],
            "panels": panels,
        }


def _heights(filled: Sequence[int], width: int) -> list[int]:
    """Of each column, where a panel of that width could stand whose left edge is there."""
    return [max(filled[left : left + width]) for left in range(WIDTH - width + 1)]


def _firing_alerts() -> Json:
    return {
        "name": "Alerts",
        "datasource": PROMETHEUS,
        "enable": True,
        "hide": False,
        "iconColor": RED,
        "expr": 'ALERTS{alertstate="firing", severity="page"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{service}}",
        "step": "60s",
    }


def _other_dashboards() -> Json:
    return {
        "type": "dashboards",
        "title": "Dashboards",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _manual() -> Json:
    return {
        "type": "link",
        "title": "Operations manual",
        "url": RUNBOOKS,
        "icon": "doc",
        "tooltip": "What each alert means and what to do",
        "tags": [],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "targetBlank": True,
    }


def _thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def _mappings(values: Mapping[str, tuple[str, str]]) -> list[Json]:
    if not values:
        return []
    options = {
        value: {"text": text, "color": color, "index": i} for i, (value, (text, color)) in enumerate(values.items())
    }
    return [{"type": "value", "options": options}]
