"""What each container takes, under Docker Compose with the profile `containers` (cAdvisor)."""

from __future__ import annotations

from ots_dashboards.model import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    BarGauge,
    Dashboard,
    Prometheus,
    Row,
    Stat,
    TimeSeries,
)
from ots_dashboards.shared import alerts_firing, market_source

_NONE = "cAdvisor is not scraped: it runs under Compose, `docker compose --profile containers up -d`"
_WHICH = 'id=~"/docker/[0-9a-f]+|/system.slice/docker-[0-9a-f]+.scope"'
_ID = " A container is named by the id of its control group: `docker ps --no-trunc` says whose it is."

_GLANCE = Row(
    "At a glance",
    [
        market_source(width=6),
        Stat(
            "Containers",
            "Containers that run now.",
            [Prometheus(f"count(container_start_time_seconds{{{_WHICH}}})", instant=True)],
            "none",
            no_data=_NONE,
            width=6,
            height=4,
            decimals=0,
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "Killed for memory",
            "Processes in containers that the kernel killed in the range because a limit of memory was reached.",
            [Prometheus(f"sum(increase(container_oom_events_total{{{_WHICH}}}[$__range]))", instant=True)],
            "none",
            no_data=_NONE,
            width=6,
            height=4,
            decimals=0,
            thresholds=[(None, GREEN), (1, RED)],
            runbook="processkilledformemory",
        ),
        alerts_firing(width=6),
    ],
)
_USE = Row(
    "What each takes",
    [
        TimeSeries(
            "Processor",
            "Cores that each container uses: 1 is a whole core." + _ID,
            [
                Prometheus(
                    f"sum by (id) (rate(container_cpu_usage_seconds_total{{{_WHICH}}}[$__rate_interval]))", "{{id}}"
                )
            ],
            "none",
            no_data=_NONE,
            width=12,
            height=10,
            minimum=0,
            label="cores",
            calculations=("mean", "max"),
            more="ots-system",
        ),
        TimeSeries(
            "Memory",
            "Memory of each container that cannot be taken from it at once (its working set): what counts against its"
            " limit." + _ID,
            [Prometheus(f"sum by (id) (container_memory_working_set_bytes{{{_WHICH}}})", "{{id}}")],
            "bytes",
            no_data=_NONE,
            width=12,
            height=10,
            minimum=0,
            calculations=("mean", "max"),
        ),
        BarGauge(
            "Memory of its limit",
            "Working set of each container as a share of its limit, the fullest first." + _ID,
            [
                Prometheus(
                    f"sort_desc(max by (id) (container_memory_working_set_bytes{{{_WHICH}}})"
                    f" / (max by (id) (container_spec_memory_limit_bytes{{{_WHICH}}}) > 0))",
                    "{{id}}",
                    instant=True,
                )
            ],
            "percentunit",
            no_data=_NONE,
            width=12,
            height=10,
            minimum=0,
            maximum=1,
            thresholds=[(None, GREEN), (0.8, YELLOW), (0.95, RED)],
            runbook="processkilledformemory",
        ),
        TimeSeries(
            "Held back",
            "Share of the time slices in which a container was held back because it had used up its share of the"
            " processor: a limit that is too low makes answers late." + _ID,
            [
                Prometheus(
                    f"sum by (id) (rate(container_cpu_cfs_throttled_periods_total{{{_WHICH}}}[$__rate_interval]))"
                    f" / sum by (id) (rate(container_cpu_cfs_periods_total{{{_WHICH}}}[$__rate_interval]))",
                    "{{id}}",
                )
            ],
            "percentunit",
            no_data=_NONE,
            width=12,
            height=10,
            minimum=0,
            thresholds=[(None, GREEN), (0.25, ORANGE)],
        ),
    ],
)

CONTAINERS = Dashboard(
    "ots-containers",
    "AI-OTS Containers",
    "What each container takes of processor and memory; under Docker Compose with the profile `containers`.",
    [_GLANCE, _USE],
)
