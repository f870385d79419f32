"""What clients of the API meet: rate, errors and duration by route, and what stands behind the gateway."""

from __future__ import annotations

from ots_dashboards.model import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    BarGauge,
    Dashboard,
    Look,
    Prometheus,
    Row,
    Stat,
    StateTimeline,
    Table,
    TimeSeries,
    Variable,
)
from ots_dashboards.promql import increase, mean, or_zero, quantile, rate
from ots_dashboards.shared import NOT_SCRAPED, SERVICES, alerts_firing, market_source

_REQUESTS, _SECONDS = "ots_http_requests_total", "ots_http_request_seconds"
# health checks and Prometheus itself are no users
_USERS = 'route!~"/health.*|/metrics"'
_HERE = f'service=~"$service", route=~"$route", {_USERS}'
_NOBODY = "Nobody asked in this range"
_ERRORS = [(None, GREEN), (0.001, YELLOW), (0.01, RED)]
_STATUS = [
    Look("2..", regex=True, color=GREEN),
    Look("3..", regex=True, color=BLUE),
    Look("4..", regex=True, color=YELLOW),
    Look("5..", regex=True, color=RED),
]
_GATEWAY = f'service="gateway", {_USERS}'
_FAILED = ', status=~"5.."'
_LOOKUPS = "ots_shared_cache_lookups_total"
_READY, _ANSWERED = 'result=~"hit|early|joined"', 'result!="unavailable"'
# of monitoring/prometheus/rules/slo.yml
_ERROR_RATIO, _SLOW_RATIO = "gateway:ots_errors:ratio_rate{}", "gateway:ots_slow:ratio_rate{}"
_WINDOWS = (("1h", "an hour"), ("6h", "six hours"), ("1d", "a day"))

_GLANCE = Row(
    "At a glance: what clients of the gateway saw",
    [
        market_source(),
        Stat(
            "Requests",
            "Requests a second that the gateway answers.",
            [Prometheus(or_zero(rate(_REQUESTS, where=_GATEWAY), "gateway"))],
            "reqps",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            spark=True,
            thresholds=[(None, BLUE)],
        ),
        Stat(
            "Failed",
            "Share of the range's requests that the gateway answered with 5xx: our fault, not the client's.",
            [
                Prometheus(
                    f"({or_zero(increase(_REQUESTS, where=_GATEWAY + _FAILED), 'gateway')})"
                    f" / {increase(_REQUESTS, where=_GATEWAY)}",
                    instant=True,
                )
            ],
            "percentunit",
            no_data=_NOBODY,
            width=4,
            height=4,
            decimals=2,
            thresholds=_ERRORS,
            runbook="availabilityburnsfast",
        ),
        Stat(
            "Half are faster than",
            "Median time until the gateway had answered, over the range's requests.",
            [Prometheus(f"histogram_quantile(0.5, {increase(_SECONDS + '_bucket', ['le'], _GATEWAY)})", instant=True)],
            "s",
            no_data=_NOBODY,
            width=4,
            height=4,
            thresholds=[(None, GREEN), (0.5, YELLOW), (2, RED)],
        ),
        Stat(
            "All but one in a hundred",
            "99th percentile of the time until the gateway had answered, over the range's requests.",
            [Prometheus(f"histogram_quantile(0.99, {increase(_SECONDS + '_bucket', ['le'], _GATEWAY)})", instant=True)],
            "s",
            no_data=_NOBODY,
            width=4,
            height=4,
            thresholds=[(None, GREEN), (2.5, YELLOW), (10, RED)],
        ),
        alerts_firing(),
    ],
)
_LEVEL = Row(
    "Service level: 99.9 % of requests without a failure of ours, 99 % within a second, over 30 days",
    [
        TimeSeries(
            "Error budget burnt",
            "How fast failures (5xx) of the gateway spend the budget of 0.1 %: at 1 it lasts exactly 30 days, at 14.4 a"
            " fiftieth of it goes in an hour, and somebody is paged. Over an hour, six, and a day.",
            [
                Prometheus(f"({_ERROR_RATIO.format(window)} or 0 * gateway:ots_requests:rate5m) / 0.001", name)
                for window, name in _WINDOWS
            ],
            "none",
            no_data="The recording rules have no value yet: nobody asked, or Prometheus has just begun",
            width=12,
            minimum=0,
            label="times",
            thresholds=[(None, GREEN), (1, YELLOW), (14.4, RED)],
            show_thresholds=True,
            runbook="availabilityburnsfast",
        ),
        TimeSeries(
            "Latency budget burnt",
            "How fast answers that take longer than a second spend the budget of 1 %, long work by nature left out"
            " (scans, imports, backfills): at 1 it lasts exactly 30 days. Over an hour, six, and a day.",
            [Prometheus(f"{_SLOW_RATIO.format(window)} / 0.01", name) for window, name in _WINDOWS],
            "none",
            no_data="The recording rules have no value yet: nobody asked, or Prometheus has just begun",
            width=12,
            minimum=0,
            label="times",
            thresholds=[(None, GREEN), (1, YELLOW), (14.4, RED)],
            show_thresholds=True,
            runbook="latencyburnsfast",
        ),
    ],
)
_RED = Row(
    "Rate, errors, duration: $service",
    [
        TimeSeries(
            "Requests by service",
            "Requests a second that each service answers. A request of a client counts at the gateway and once more at"
            " the service behind it.",
            [Prometheus(rate(_REQUESTS, ["service"], _HERE), "{{service}}")],
            "reqps",
            no_data=_NOBODY,
            minimum=0,
        ),
        TimeSeries(
            "Answers by status",
            "Answers a second by status: 4xx is what clients did wrong, 5xx what we did.",
            [Prometheus(rate(_REQUESTS, ["status"], _HERE), "{{status}}")],
            "reqps",
            no_data=_NOBODY,
            minimum=0,
            stacked=True,
            looks=_STATUS,
        ),
        TimeSeries(
            "Share of 5xx",
            "Answers of 5xx as a share of all, by service.",
            [
                Prometheus(
                    f"({rate(_REQUESTS, ['service'], _HERE + _FAILED)}"
                    f" or 0 * {rate(_REQUESTS, ['service'], _HERE)}) / {rate(_REQUESTS, ['service'], _HERE)}",
                    "{{service}}",
                )
            ],
            "percentunit",
            no_data=_NOBODY,
            minimum=0,
            thresholds=_ERRORS,
            runbook="availabilityburnsfast",
        ),
        TimeSeries(
            "Duration",
            "Time to answer, of the chosen services and routes together: half of the requests are faster than the"
            " lowest line, 95 % and 99 % than the others.",
            [Prometheus(quantile(share, _SECONDS, (), _HERE), f"{share:.0%}") for share in (0.5, 0.95, 0.99)],
            "s",
            no_data=_NOBODY,
            minimum=0,
        ),
        TimeSeries(
            "95th percentile by service",
            "Time in which 95 % of the requests of a service were answered.",
            [Prometheus(quantile(0.95, _SECONDS, ["service"], _HERE), "{{service}}")],
            "s",
            no_data=_NOBODY,
            minimum=0,
            runbook="highlatency",
        ),
        BarGauge(
            "Slowest routes",
            "The eight routes with the longest 95th percentile of the time to answer, over the range.",
            [
                Prometheus(
                    "sort_desc(topk(8, histogram_quantile(0.95,"
                    f" {increase(_SECONDS + '_bucket', ['le', 'service', 'route'], _HERE)}) > 0))",
                    "{{service}} {{route}}",
                    instant=True,
                )
            ],
            "s",
            no_data=_NOBODY,
            minimum=0,
            thresholds=[(None, GREEN), (1, YELLOW), (5, RED)],
        ),
        Table(
            "Routes",
            "Every route that was asked in the range: requests, share of 5xx, mean and 95th percentile of the time.",
            [
                Prometheus(increase(_REQUESTS, ["service", "route"], _HERE) + " > 0", instant=True, table=True),
                Prometheus(
                    increase(_REQUESTS, ["service", "route"], _HERE + _FAILED)
                    + f" / {increase(_REQUESTS, ['service', 'route'], _HERE)}"
                    + f" or 0 * {increase(_REQUESTS, ['service', 'route'], _HERE)}",
                    instant=True,
                    table=True,
                ),
                Prometheus(
                    f"{increase(_SECONDS + '_sum', ['service', 'route'], _HERE)}"
                    f" / ({increase(_SECONDS + '_count', ['service', 'route'], _HERE)} > 0)",
                    instant=True,
                    table=True,
                ),
                Prometheus(
                    f"histogram_quantile(0.95, {increase(_SECONDS + '_bucket', ['le', 'service', 'route'], _HERE)})",
                    instant=True,
                    table=True,
                ),
            ],
            "none",
            no_data=_NOBODY,
            width=24,
            height=10,
            merged=True,
            hidden=["Time"],
            renamed={"Value #A": "requests", "Value #B": "5xx", "Value #C": "mean", "Value #D": "95 %"},
            looks=[
                Look("requests", decimals=0),
                Look("5xx", unit="percentunit", thresholds=_ERRORS, cell="color-text"),
                Look("mean", unit="s"),
                Look("95 %", unit="s", thresholds=[(None, GREEN), (1, YELLOW), (5, RED)], cell="color-text"),
            ],
        ),
    ],
)
_BEHIND = Row(
    "Behind the gateway",
    [
        TimeSeries(
            "Time of a service",
            "95th percentile of the time from the gateway's question to the head of the service's answer.",
            [Prometheus(quantile(0.95, "ots_gateway_upstream_seconds", ["upstream"]), "{{upstream}}")],
            "s",
            no_data=_NOBODY,
            minimum=0,
            runbook="upstreamfails",
        ),
        TimeSeries(
            "Services that failed",
            "Requests a second that a service did not answer as it should, by why: `connect`, `timeout`, `cut` (broke"
            " off), `busy` (no connection free), `open` (left alone by the breaker), `status` (it answered 5xx).",
            [
                Prometheus(
                    or_zero(rate("ots_gateway_upstream_failures_total", ["upstream", "reason"]), "gateway", "upstream"),
                    "{{upstream}} {{reason}}",
                )
            ],
            "reqps",
            no_data=NOT_SCRAPED,
            minimum=0,
            runbook="upstreamfails",
        ),
        StateTimeline(
            "Breakers",
            "Red while the gateway leaves a service alone because it failed repeatedly, until one request tries it.",
            [
                Prometheus(
                    or_zero("max by (upstream) (ots_gateway_breaker_open)", "gateway", "upstream", "all"),
                    "{{upstream}}",
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            thresholds=[(None, GREEN), (1, RED)],
            mappings={"0": ("closed", GREEN), "1": ("open", RED)},
            runbook="breakeropen",
        ),
        TimeSeries(
            "Rate limits",
            "Requests a second that were held against a rate limit and refused (429), by bucket.",
            [
                Prometheus(
                    or_zero(
                        rate("ots_gateway_limit_decisions_total", ["bucket"], 'decision="refused"'),
                        "gateway",
                        "bucket",
                    ),
                    "{{bucket}}",
                )
            ],
            "reqps",
            no_data=NOT_SCRAPED,
            minimum=0,
            runbook="limitrefusalsburst",
            more="ots-security",
        ),
        TimeSeries(
            "Clients that left",
            "Requests a second whose client was gone before the answer was there: it may be too slow for them.",
            [Prometheus(or_zero(rate("ots_gateway_clients_left_total"), "gateway"), "left")],
            "reqps",
            no_data=NOT_SCRAPED,
            minimum=0,
        ),
        TimeSeries(
            "Connections of clients",
            "Connections to the gateway that are open.",
            [Prometheus("sum(ots_gateway_connections)", "open")],
            "none",
            no_data=NOT_SCRAPED,
            minimum=0,
        ),
    ],
)
_CACHE = Row(
    "Shared answers (Redis)",
    [
        Stat(
            "Found ready",
            "Share of the range's lookups that were answered from what was kept: `hit`, `early` (a hit made anew before"
            " its end) and `joined` (made by another at that moment), of all but those without Redis.",
            [
                Prometheus(
                    f"({or_zero(increase(_LOOKUPS, where=_READY), SERVICES)}) / {increase(_LOOKUPS, where=_ANSWERED)}",
                    instant=True,
                )
            ],
            "percentunit",
            no_data="Nothing was looked up in this range",
            width=4,
            thresholds=[(None, BLUE)],
            runbook="cachehitscollapse",
        ),
        TimeSeries(
            "Lookups by result",
            "Lookups a second. `unavailable`: Redis did not answer, and the answer was made without it.",
            [Prometheus(or_zero(rate(_LOOKUPS, ["result"]), SERVICES, "result"), "{{result}}")],
            "ops",
            no_data=NOT_SCRAPED,
            width=7,
            minimum=0,
            stacked=True,
            looks=[Look("unavailable", color=RED), Look("miss", color=YELLOW), Look("hit", color=GREEN)],
        ),
        TimeSeries(
            "Lookups by kind",
            "Lookups a second by what was asked for.",
            [Prometheus(or_zero(rate(_LOOKUPS, ["kind"]), SERVICES, "kind"), "{{kind}}")],
            "ops",
            no_data=NOT_SCRAPED,
            width=7,
            minimum=0,
        ),
        TimeSeries(
            "Not kept",
            "Answers a second that were made and not kept, by why, and those that made room for others (evicted).",
            [
                Prometheus(
                    or_zero(rate("ots_shared_cache_not_kept_total", ["reason"]), SERVICES, "reason"), "{{reason}}"
                ),
                Prometheus(or_zero(rate("ots_shared_cache_evicted_total"), SERVICES), "evicted"),
            ],
            "ops",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
        ),
    ],
)
_COMPUTING = Row(
    "Analytics: what computing costs",
    [
        TimeSeries(
            "Time by stage",
            "Mean time of each stage of making an answer. What was found ready has none.",
            [Prometheus(mean("ots_analytics_stage_seconds", ["stage"]), "{{stage}}")],
            "s",
            no_data=_NOBODY,
            minimum=0,
        ),
        TimeSeries(
            "Cores by stage",
            "Seconds spent in each stage in a second: where analytics' time goes.",
            [
                Prometheus(
                    or_zero(rate("ots_analytics_stage_seconds_sum", ["stage"]), "analytics", "stage"), "{{stage}}"
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            minimum=0,
            stacked=True,
            label="seconds a second",
        ),
        TimeSeries(
            "Chains computed",
            "Chains a minute by outcome: `priced`, or without a spot, a rate or a live contract.",
            [
                Prometheus(
                    or_zero("60 * " + rate("ots_analytics_chains_total", ["outcome"]), "analytics", "outcome"),
                    "{{outcome}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            minimum=0,
            looks=[Look("no_rate", color=RED), Look("no_spot", color=ORANGE)],
            runbook="nochainspriced",
            more="ots-options-desk",
        ),
        BarGauge(
            "Contracts without a volatility",
            "Contracts of the chains computed in the range that had no implied volatility, by why, as a share of all.",
            [
                Prometheus(
                    "sort_desc("
                    + increase("ots_analytics_contracts_total", ["outcome"], 'outcome!="priced"')
                    + f" / scalar({increase('ots_analytics_contracts_total')}))",
                    "{{outcome}}",
                    instant=True,
                )
            ],
            "percentunit",
            no_data="No chain was computed in this range",
            minimum=0,
            maximum=1,
            thresholds=[(None, BLUE)],
            runbook="contractswithoutvolatility",
        ),
        TimeSeries(
            "Surfaces",
            "Surfaces fitted a minute: `clean` has no arbitrage between strikes, and is near most quotes.",
            [
                Prometheus(
                    or_zero("60 * " + rate("ots_analytics_surface_fits_total", ["outcome"]), "analytics", "outcome"),
                    "{{outcome}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            minimum=0,
            looks=[Look("clean", color=GREEN), Look("far", color=YELLOW), Look("violating", color=RED)],
            runbook="surfacefitsfail",
        ),
        TimeSeries(
            "Violations of surfaces",
            "Points of fitted surfaces that admit arbitrage between the quoted strikes, a minute, by kind.",
            [
                Prometheus(
                    or_zero("60 * " + rate("ots_analytics_surface_violations_total", ["kind"]), "analytics", "kind"),
                    "{{kind}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            minimum=0,
            runbook="surfaceviolations",
        ),
    ],
)

API = Dashboard(
    "ots-api",
    "AI-OTS API",
    "Rate, errors and duration by service and route; what stands behind the gateway; caches; what computing costs.",
    [_GLANCE, _LEVEL, _RED, _BEHIND, _CACHE, _COMPUTING],
    variables=[
        Variable(
            "service",
            "Service",
            "Which services the panels of rate, errors and duration show.",
            query=Prometheus("label_values(ots_http_requests_total, service)"),
            several=True,
        ),
        Variable(
            "route",
            "Route",
            "Which routes of those services.",
            query=Prometheus('label_values(ots_http_requests_total{service=~"$service"}, route)'),
            several=True,
        ),
    ],
)
