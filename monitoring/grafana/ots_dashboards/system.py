"""Is everything up, and has it room: programs, machine, PostgreSQL, Redis."""

from __future__ import annotations

from ots_dashboards.model import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    RUNBOOKS,
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
from ots_dashboards.promql import or_zero, quantile, rate
from ots_dashboards.shared import NOT_SCRAPED, alerts_firing, market_source

_NO_NODE = "node-exporter is not scraped: it watches the machine"
_NO_POSTGRES = "postgres-exporter is not scraped"
_NO_REDIS = "redis-exporter is not scraped"
_FULL = [(None, GREEN), (0.8, YELLOW), (0.9, RED)]
# in a container the disk is an overlay; on a machine with containers those are the same disk again
_DISKS = 'fstype!~"tmpfs|ramfs|squashfs|devtmpfs|fuse.*|nsfs",mountpoint!~"/var/lib/docker/.*"'
_DEVICES = 'device!~"lo|veth.*|br-.*|docker.*"'
# what says that none fires is a row too: an empty table could as well be a query that failed
_NAMED_ALERTS = (
    "max by (alertname, alertstate, severity, team, service, dataset) (ALERTS)"
    ' or on () label_replace(vector(0), "alertname", "none fires", "", "")'
)

_GLANCE = Row(
    "At a glance",
    [
        market_source(),
        Stat(
            "Programs up",
            "Programs whose metrics Prometheus could read at the last try, of all that it should (`up`).",
            [
                Prometheus("sum(up)", "up", instant=True),
                Prometheus("count(up)", "of", instant=True),
            ],
            "none",
            no_data="Prometheus does not answer",
            width=4,
            height=4,
            decimals=0,
            thresholds=[(None, BLUE)],
            runbook="servicedown",
        ),
        alerts_firing(),
        Stat(
            "Newest start",
            "How long ago the program that started last did so. Short without a deployment: something restarts.",
            [Prometheus("time() - max(process_start_time_seconds)", "", instant=True)],
            "s",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            thresholds=[(None, YELLOW), (600, GREEN)],
            runbook="servicerestarts",
        ),
        Stat(
            "Requests",
            "Requests a second that the gateway answers, of all routes.",
            [Prometheus(or_zero(rate("ots_http_requests_total", where='service="gateway"'), "gateway"), "")],
            "reqps",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            spark=True,
            thresholds=[(None, BLUE)],
            more="ots-api",
        ),
        Stat(
            "Records stored",
            "Records of the market that are committed to PostgreSQL a second, live, imported and fetched together.",
            [
                Prometheus(
                    or_zero(rate("ots_ingestion_records_total", where='outcome="stored"'), "ingestion-collector"), ""
                )
            ],
            "cps",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            spark=True,
            thresholds=[(None, BLUE)],
            more="ots-ingestion",
        ),
    ],
)
_ALERTS = Row(
    "Alerts",
    [
        Table(
            "Alerts that fire",
            "Every alert that fires or is about to (`pending`: its condition holds, not for long enough yet). The name"
            " leads to the operations manual, which has a section of that name.",
            [Prometheus(_NAMED_ALERTS, instant=True, table=True)],
            "none",
            no_data="Prometheus does not answer",
            width=24,
            height=5,
            hidden=["Time", "Value"],
            renamed={"alertname": "alert", "alertstate": "state"},
            looks=[
                Look("alert", link=RUNBOOKS),
                Look("state", mappings={"firing": ("firing", RED), "pending": ("pending", ORANGE)}, cell="color-text"),
                Look("severity", mappings={"page": ("page", RED), "ticket": ("ticket", YELLOW)}, cell="color-text"),
            ],
        ),
    ],
)
_PROGRAMS = Row(
    "Programs",
    [
        StateTimeline(
            "Up",
            "Green while Prometheus could read a program's metrics, red while it could not. No band: it was not"
            " asked, so Prometheus itself was down.",
            [Prometheus('min by (job) (up{job=~"$job"})', "{{job}}")],
            "none",
            no_data="Prometheus does not answer",
            width=12,
            height=9,
            thresholds=[(None, RED), (1, GREEN)],
            mappings={"0": ("down", RED), "1": ("up", GREEN)},
            runbook="servicedown",
        ),
        TimeSeries(
            "Memory of a program",
            "Resident memory of the programs that are one process. Those with several workers are seen as containers"
            " or on the machine as a whole.",
            [Prometheus('process_resident_memory_bytes{job=~"$job"}', "{{job}}")],
            "bytes",
            no_data=NOT_SCRAPED,
            width=6,
            height=9,
            minimum=0,
        ),
        TimeSeries(
            "Processor of a program",
            "Cores that a program uses, of those that are one process: 1 is a whole core.",
            [Prometheus('rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval])', "{{job}}")],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            height=9,
            minimum=0,
            label="cores",
        ),
        TimeSeries(
            "Log lines",
            "Lines logged a second by level, of the chosen programs. Warnings and errors that rise are read first.",
            [
                Prometheus(
                    or_zero(
                        rate("ots_log_lines_total", ["level"], 'job=~"$job"'),
                        "gateway|cache|ingestion|analytics",
                        "level",
                    ),
                    "{{level}}",
                )
            ],
            "cps",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            looks=[
                Look("error", color=RED),
                Look("critical", color="dark-red"),
                Look("warning", color=ORANGE),
                Look("info", color=BLUE),
                Look("debug", color=GREY),
            ],
            runbook="errorslogged",
        ),
        TimeSeries(
            "Connections of our pools",
            "Connections to PostgreSQL that each service's pools hold, in use by a request or idle.",
            [
                Prometheus(
                    'sum by (service, state) (ots_database_pool_connections{job=~"$job"})', "{{service}} {{state}}"
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            label="connections",
            runbook="databasepoolexhausted",
            more="ots-api",
        ),
        TimeSeries(
            "Wait for a connection",
            "How long the slowest twentieth of callers (95th percentile) waited until a connection of the pool was"
            " free. Nothing is drawn while nobody asked for one.",
            [Prometheus(quantile(0.95, "ots_database_wait_seconds", ["service"], 'job=~"$job"'), "{{service}}")],
            "s",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            thresholds=[(None, GREEN), (0.25, ORANGE), (1, RED)],
            show_thresholds=True,
            runbook="databasewaits",
        ),
    ],
)
_MACHINE = Row(
    "Machine",
    [
        TimeSeries(
            "Processor",
            "Share of all cores that is busy, by what with. `iowait` waits for disks, `steal` was given to another"
            " virtual machine.",
            [
                Prometheus(
                    'sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[$__rate_interval]))'
                    " / scalar(count(count by (cpu) (node_cpu_seconds_total)))",
                    "{{mode}}",
                )
            ],
            "percentunit",
            no_data=_NO_NODE,
            width=6,
            minimum=0,
            maximum=1,
            stacked=True,
            runbook="processorsbusy",
        ),
        TimeSeries(
            "Memory in use",
            "Share of memory that could not be had at once for something new.",
            [Prometheus("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "in use")],
            "percentunit",
            no_data=_NO_NODE,
            width=6,
            minimum=0,
            maximum=1,
            thresholds=_FULL,
            show_thresholds=True,
            runbook="memoryalmostfull",
        ),
        BarGauge(
            "Disks",
            "Share of each file system that is full. A spool that cannot be written stops collection (`disk_full`).",
            [
                Prometheus(
                    f"max by (mountpoint) (1 - node_filesystem_avail_bytes{{{_DISKS}}}"
                    f" / node_filesystem_size_bytes{{{_DISKS}}})",
                    "{{mountpoint}}",
                    instant=True,
                )
            ],
            "percentunit",
            no_data=_NO_NODE,
            width=6,
            minimum=0,
            maximum=1,
            thresholds=_FULL,
            runbook="diskalmostfull",
        ),
        TimeSeries(
            "Disk time",
            "Share of the time in which a disk had something to do; near 1 it is the bottleneck.",
            [Prometheus("rate(node_disk_io_time_seconds_total[$__rate_interval])", "{{device}}")],
            "percentunit",
            no_data=_NO_NODE,
            width=6,
            minimum=0,
        ),
        TimeSeries(
            "Network",
            "Bytes a second that came in (above) and went out (below), loopback and bridges left out.",
            [
                Prometheus(f"sum(rate(node_network_receive_bytes_total{{{_DEVICES}}}[$__rate_interval]))", "received"),
                Prometheus(f"-sum(rate(node_network_transmit_bytes_total{{{_DEVICES}}}[$__rate_interval]))", "sent"),
            ],
            "Bps",
            no_data=_NO_NODE,
            width=12,
        ),
        TimeSeries(
            "Load",
            "Processes that run or wait to, over one and fifteen minutes, beside the number of cores.",
            [
                Prometheus("node_load1", "1 minute"),
                Prometheus("node_load15", "15 minutes"),
                Prometheus("count(count by (cpu) (node_cpu_seconds_total))", "cores"),
            ],
            "none",
            no_data=_NO_NODE,
            width=12,
            minimum=0,
            looks=[Look("cores", color=GREY, custom={"lineStyle": {"fill": "dash", "dash": [8, 8]}, "fillOpacity": 0})],
        ),
    ],
)
_POSTGRES = Row(
    "PostgreSQL",
    [
        Stat(
            "PostgreSQL",
            "Whether the exporter reaches PostgreSQL.",
            [Prometheus("max(pg_up)", "", instant=True)],
            "none",
            no_data=_NO_POSTGRES,
            width=4,
            height=4,
            thresholds=[(None, RED), (1, GREEN)],
            mappings={"0": ("down", RED), "1": ("up", GREEN)},
            runbook="postgresdown",
        ),
        Stat(
            "Connections",
            "Connections of all roles, as a share of `max_connections`.",
            [Prometheus("sum(pg_stat_database_numbackends) / max(pg_settings_max_connections)", "", instant=True)],
            "percentunit",
            no_data=_NO_POSTGRES,
            width=4,
            height=4,
            thresholds=_FULL,
            runbook="postgresconnectionsrunout",
        ),
        Stat(
            "Found in memory",
            "Share of the pages read in the range that PostgreSQL had in its buffers.",
            [
                Prometheus(
                    "sum(increase(pg_stat_database_blks_hit[$__range])) / (sum(increase(pg_stat_database_blks_hit"
                    "[$__range])) + sum(increase(pg_stat_database_blks_read[$__range])))",
                    "",
                    instant=True,
                )
            ],
            "percentunit",
            no_data=_NO_POSTGRES,
            width=4,
            height=4,
            thresholds=[(None, ORANGE), (0.9, YELLOW), (0.97, GREEN)],
        ),
        Stat(
            "Size",
            "Size of the market's databases on disk: `ots` holds real data, `ots_sim` invented ones.",
            [Prometheus('pg_database_size_bytes{datname=~"ots|ots_sim"}', "{{datname}}", instant=True)],
            "bytes",
            no_data=_NO_POSTGRES,
            width=6,
            height=4,
            thresholds=[(None, BLUE)],
            show="value_and_name",
        ),
        Stat(
            "Deadlocks",
            "Deadlocks in the range. Ours take their locks in one order, so that one is worth a look.",
            [Prometheus('sum(increase(pg_stat_database_deadlocks{datname=~"ots.*"}[$__range]))', "", instant=True)],
            "none",
            no_data=_NO_POSTGRES,
            width=6,
            height=4,
            decimals=0,
            thresholds=[(None, GREEN), (1, RED)],
            runbook="postgresdeadlocks",
        ),
        TimeSeries(
            "Transactions",
            "Transactions a second of our databases: committed, and rolled back.",
            [
                Prometheus(
                    'sum by (datname) (rate(pg_stat_database_xact_commit{datname=~"ots.*"}[$__rate_interval]))',
                    "{{datname}} committed",
                ),
                Prometheus(
                    'sum by (datname) (rate(pg_stat_database_xact_rollback{datname=~"ots.*"}[$__rate_interval]))',
                    "{{datname}} rolled back",
                ),
            ],
            "ops",
            no_data=_NO_POSTGRES,
            minimum=0,
        ),
        TimeSeries(
            "Rows",
            "Rows a second that are written to the market's databases, and that queries return from them.",
            [
                Prometheus(
                    'sum by (datname) (rate(pg_stat_database_tup_inserted{datname=~"ots|ots_sim"}[$__rate_interval]))',
                    "{{datname}} inserted",
                ),
                Prometheus(
                    'sum by (datname) (rate(pg_stat_database_tup_fetched{datname=~"ots|ots_sim"}[$__rate_interval]))',
                    "{{datname}} fetched",
                ),
            ],
            "rowsps",
            no_data=_NO_POSTGRES,
            minimum=0,
        ),
        TimeSeries(
            "Connections by database",
            "Connections to each of our databases.",
            [Prometheus('pg_stat_database_numbackends{datname=~"ots.*"}', "{{datname}}")],
            "none",
            no_data=_NO_POSTGRES,
            minimum=0,
            label="connections",
        ),
    ],
)
_REDIS = Row(
    "Redis",
    [
        Stat(
            "Redis",
            "Whether the exporter reaches Redis. Without it answers stay the same, only slower; entries that users keep"
            " answer 503.",
            [Prometheus("max(redis_up)", "", instant=True)],
            "none",
            no_data=_NO_REDIS,
            width=4,
            height=8,
            thresholds=[(None, RED), (1, GREEN)],
            mappings={"0": ("down", RED), "1": ("up", GREEN)},
            runbook="redisdown",
        ),
        TimeSeries(
            "Memory",
            "Memory that Redis uses, beside what it may (no limit: 0). At the limit it drops what expires soonest.",
            [
                Prometheus("redis_memory_used_bytes", "used"),
                Prometheus("redis_memory_max_bytes", "limit"),
            ],
            "bytes",
            no_data=_NO_REDIS,
            width=5,
            minimum=0,
        ),
        TimeSeries(
            "Commands",
            "Commands a second that Redis carries out, of all its clients.",
            [Prometheus("rate(redis_commands_processed_total[$__rate_interval])", "commands")],
            "ops",
            no_data=_NO_REDIS,
            width=5,
            minimum=0,
        ),
        TimeSeries(
            "Clients",
            "Connections to Redis: a few for each worker of each service.",
            [Prometheus("redis_connected_clients", "clients")],
            "none",
            no_data=_NO_REDIS,
            width=5,
            minimum=0,
        ),
        TimeSeries(
            "Keys that went",
            "Keys a second that ended with their time, and that had to make room for others (evicted).",
            [
                Prometheus("rate(redis_expired_keys_total[$__rate_interval])", "expired"),
                Prometheus("rate(redis_evicted_keys_total[$__rate_interval])", "evicted"),
            ],
            "ops",
            no_data=_NO_REDIS,
            width=5,
            minimum=0,
            looks=[Look("evicted", color=RED)],
            runbook="redisevicts",
        ),
    ],
)
_WATCHING = Row(
    "Prometheus itself",
    [
        TimeSeries(
            "Scrapes",
            "How long it takes to read each program's metrics. Half of the 15 s between two scrapes is too long.",
            [Prometheus("scrape_duration_seconds", "{{job}}")],
            "s",
            no_data="Prometheus does not answer",
            minimum=0,
            thresholds=[(None, GREEN), (7.5, RED)],
        ),
        TimeSeries(
            "Series by program",
            "Series that each program shows. Steadily rising: a label whose values have no bound.",
            [Prometheus("sum by (job) (scrape_samples_scraped)", "{{job}}")],
            "none",
            no_data="Prometheus does not answer",
            minimum=0,
        ),
        Table(
            "What runs",
            "Version of each service, and the market that it serves.",
            [Prometheus("max by (service, version, market_source) (ots_build_info)", instant=True, table=True)],
            "none",
            no_data=NOT_SCRAPED,
            hidden=["Time", "Value"],
            renamed={"market_source": "market"},
        ),
    ],
)

SYSTEM = Dashboard(
    "ots-system",
    "AI-OTS System",
    "Is everything up, and has it room: programs, the machine, PostgreSQL, Redis, Prometheus.",
    [_GLANCE, _ALERTS, _PROGRAMS, _MACHINE, _POSTGRES, _REDIS, _WATCHING],
    variables=[
        Variable(
            "job",
            "Program",
            "Which programs the panels of programs show.",
            query=Prometheus("label_values(up, job)"),
            several=True,
        )
    ],
)
