"""Does everything that the market sends arrive, in time and whole; and what is missing."""

from __future__ import annotations

from ots_dashboards import ingestion_sql
from ots_dashboards.model import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    BarGauge,
    Dashboard,
    Look,
    Prometheus,
    Row,
    Sql,
    Stat,
    StateTimeline,
    Table,
    TimeSeries,
    Variable,
)
from ots_dashboards.promql import increase, or_zero, quantile, rate
from ots_dashboards.shared import NOT_SCRAPED, alerts_firing, market_source

_HERE = 'dataset=~"$dataset"'
_COLLECTOR, _BACKFILLER, _WORKER = "ingestion-collector", "ingestion-backfiller", "ingestion-worker"
_WRITERS = f"{_COLLECTOR}|{_BACKFILLER}|{_WORKER}"
_RECORDS = "ots_ingestion_records_total"
_NO_COLLECTION = "Nothing is collected: start a collection (docs/RELIABILITY.md)"
_STATES = {
    "streaming": GREEN,
    "replaying": BLUE,
    "waiting": GREY,
    "stopped": GREY,
    "connecting": YELLOW,
    "authenticating": YELLOW,
    "subscribing": YELLOW,
    "backing_off": ORANGE,
    "mute": RED,
    "failed": RED,
    "disk_full": RED,
}
_CELLS = {state: (state.replace("_", " "), color) for state, color in _STATES.items()}

# one band a dataset: its state's place in _STATES; only the state that it is in has the value 1
_STATE_NUMBERS = " or ".join(
    f'{number} * max by (dataset, state) (ots_live_state{{{_HERE}, state="{state}"}})'
    for number, state in enumerate(_STATES)
)

_GLANCE = Row(
    "At a glance",
    [
        market_source(),
        Stat(
            "Newest stored event",
            "Age of the newest stored event of the stalest symbol among those chosen. In a session it is a second or"
            " two; outside of one it grows.",
            [Prometheus(f"time() - min(ots_ingestion_watermark_timestamp_seconds{{{_HERE}}})", instant=True)],
            "s",
            no_data="No watermark yet: nothing was stored",
            width=4,
            height=4,
            thresholds=[(None, GREEN), (120, YELLOW), (900, RED)],
            runbook="watermarkstale",
        ),
        Stat(
            "Open gaps",
            "Intervals of which records may be missing, and are not found yet.",
            [Prometheus(or_zero(f"sum(ots_ingestion_open_gaps{{{_HERE}}})", _BACKFILLER), instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            decimals=0,
            thresholds=[(None, GREEN), (1, YELLOW), (10, RED)],
            runbook="gapsopen",
        ),
        Stat(
            "Dead letters",
            "Records that could not be stored and wait, byte for byte, for a replay.",
            [Prometheus(or_zero(f"sum(ots_ingestion_dead_letters{{{_HERE}}})", _BACKFILLER), instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=4,
            height=4,
            decimals=0,
            thresholds=[(None, GREEN), (1, YELLOW), (1000, RED)],
            runbook="deadletters",
        ),
        Stat(
            "Rows against the ledger",
            "Rows by which what is stored differs from what the ledger of runs and collections says, in the last hourly"
            " self-check; 0 is right.",
            [Prometheus(f"sum(abs(ots_selfcheck_difference_rows{{{_HERE}}}))", instant=True)],
            "none",
            no_data="No self-check has been made yet: it is hourly",
            width=4,
            height=4,
            decimals=0,
            thresholds=[(None, GREEN), (1, RED)],
            runbook="selfcheckdiffers",
        ),
        alerts_firing(),
    ],
)
_LIVE = Row(
    "Live",
    [
        StateTimeline(
            "State of the collection",
            "What the collector of each dataset does: `streaming` is well; `mute`: connected, and nothing comes in"
            " session hours; `backing off`: the connection failed and is tried again; `disk full`: no room.",
            [Prometheus(f"sum by (dataset) ({_STATE_NUMBERS})", "{{dataset}}")],
            "none",
            no_data=_NO_COLLECTION,
            width=12,
            thresholds=[(None, GREY)],
            mappings={str(i): cell for i, cell in enumerate(_CELLS.values())},
            runbook="collectionfailed",
        ),
        Table(
            "What is collected",
            "Each schema that is wanted: records stored since it was first collected, the collector's state, how old"
            " the newest record is. Definitions and statistics come once a session.",
            [Sql(ingestion_sql.COLLECTED)],
            "none",
            no_data=_NO_COLLECTION,
            width=12,
            looks=[
                Look("records", unit="locale"),
                Look("age", unit="ms", decimals=0),
                Look("state", mappings=_CELLS, cell="color-text"),
            ],
        ),
        TimeSeries(
            "Records committed",
            "Records of the market a second that are in PostgreSQL, by schema: live, imported and fetched together.",
            [
                Prometheus(
                    or_zero(rate(_RECORDS, ["schema"], f'{_HERE}, outcome=~"stored|revised"'), _WRITERS, "schema"),
                    "{{schema}}",
                )
            ],
            "cps",
            no_data=NOT_SCRAPED,
            minimum=0,
            stacked=True,
        ),
        TimeSeries(
            "From the market to the database",
            "Time from a record's own time (its index time) to its commit, of live records. Sampled quotes are of the"
            " end of their interval.",
            [
                Prometheus(quantile(share, "ots_live_lag_seconds", ["dataset"], _HERE), f"{{{{dataset}}}} {share:.0%}")
                for share in (0.5, 0.99)
            ],
            "s",
            no_data=_NO_COLLECTION,
            minimum=0,
            thresholds=[(None, GREEN), (5, RED)],
            runbook="livelaghigh",
        ),
        TimeSeries(
            "Messages from the feed",
            "Messages a second that the collector takes from the feed.",
            [Prometheus(rate("ots_live_received_total", ["dataset"], _HERE), "{{dataset}}")],
            "cps",
            no_data=_NO_COLLECTION,
            minimum=0,
        ),
        TimeSeries(
            "Silence",
            "How long no record came while the market is open and the feed is wanted; 0 outside sessions.",
            [Prometheus(f"ots_live_silence_seconds{{{_HERE}}}", "{{dataset}}")],
            "s",
            no_data=_NO_COLLECTION,
            minimum=0,
            runbook="feedmute",
        ),
        TimeSeries(
            "Age of the newest event",
            "How old the newest stored event of each symbol is; of options that of their underlying.",
            [
                Prometheus(
                    f"time() - max by (dataset, symbol) (ots_ingestion_watermark_timestamp_seconds{{{_HERE}}})",
                    "{{dataset}} {{symbol}}",
                )
            ],
            "s",
            no_data="No watermark yet: nothing was stored",
            minimum=0,
            runbook="watermarkstale",
        ),
        TimeSeries(
            "Connections that ended",
            "Connections to the feed that ended, in an hour, by how.",
            [
                Prometheus(
                    or_zero(
                        "3600 * " + rate("ots_live_connections_total", ["dataset", "end"], _HERE),
                        _COLLECTOR,
                        "dataset",
                    ),
                    "{{dataset}} {{end}}",
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            minimum=0,
            label="an hour",
            runbook="reconnectstorm",
        ),
    ],
)
_SPOOL = Row(
    "Spool and storing",
    [
        TimeSeries(
            "Live spool",
            "Bytes that are safe on disk and not dropped yet because they are, or may be, needed.",
            [Prometheus(f"ots_live_spool_bytes{{{_HERE}}}", "{{dataset}}")],
            "bytes",
            no_data=_NO_COLLECTION,
            width=6,
            minimum=0,
            runbook="spoolfills",
        ),
        TimeSeries(
            "Oldest file of the live spool",
            "Age of the oldest file of each live spool: how far storing is behind what came.",
            [Prometheus(f"ots_live_spool_age_seconds{{{_HERE}}}", "{{dataset}}")],
            "s",
            no_data=_NO_COLLECTION,
            width=6,
            minimum=0,
            runbook="spoolbehind",
        ),
        TimeSeries(
            "Time of a batch",
            "How long the last batch took to store, rows and cursor in one transaction.",
            [Prometheus(f"ots_live_batch_seconds{{{_HERE}}}", "{{dataset}}")],
            "s",
            no_data=_NO_COLLECTION,
            width=6,
            minimum=0,
        ),
        TimeSeries(
            "Batches rolled back",
            "Batches an hour that could not be stored and are tried again, by error.",
            [
                Prometheus(
                    or_zero(
                        "3600 * " + rate("ots_live_store_failures_total", ["dataset", "error"], _HERE),
                        _COLLECTOR,
                        "dataset",
                    ),
                    "{{dataset}} {{error}}",
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            label="an hour",
            runbook="storefails",
        ),
        BarGauge(
            "Spool of imports",
            "Files of imports by what they wait for: `uploading`, `waiting`, `storing`, or `kept` because something of"
            " them could not be stored.",
            [Prometheus("sum by (state) (ots_ingestion_spool_files)", "{{state}}", instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            decimals=0,
            thresholds=[(None, BLUE)],
            runbook="importswait",
        ),
        TimeSeries(
            "Size of the spool of imports",
            "Bytes of files that wait to be stored, or are kept.",
            [Prometheus("sum(ots_ingestion_spool_bytes)", "bytes")],
            "bytes",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            more="ots-system",
        ),
        TimeSeries(
            "What became of records",
            "Records a second by what became of them. `duplicate` was there already, `rejected` is a dead letter.",
            [Prometheus(or_zero(rate(_RECORDS, ["outcome"], _HERE), _WRITERS, "outcome"), "{{outcome}}")],
            "cps",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            looks=[Look("rejected", color=RED), Look("stored", color=GREEN), Look("duplicate", color=GREY)],
        ),
        TimeSeries(
            "Upkeep",
            "How long ago each task of maintenance was last done whole.",
            [Prometheus("time() - max by (task) (ots_maintenance_last_timestamp_seconds)", "{{task}}")],
            "s",
            no_data="No task of maintenance was done since the worker started",
            width=6,
            minimum=0,
            runbook="maintenancelate",
        ),
    ],
)
_MISSING = Row(
    "What is missing",
    [
        TimeSeries(
            "Open gaps by evidence",
            "Open gaps of the ledger by what spoke for them: `disconnect`, `skipped`, `mute`, `heartbeat`, `sequence`,"
            " `restart`, `disk-full`, `aged-out`, `session`.",
            [
                Prometheus(
                    or_zero(
                        f"sum by (dataset, evidence) (ots_ingestion_open_gaps{{{_HERE}}})", _BACKFILLER, "evidence"
                    ),
                    "{{dataset}} {{evidence}}",
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            decimals=0,
            runbook="gapsopen",
        ),
        TimeSeries(
            "Gaps opened and closed",
            "Gaps stated and closed, an hour.",
            [
                Prometheus(or_zero("3600 * " + rate("ots_ingestion_gaps_opened_total", (), _HERE), _WRITERS), "opened"),
                Prometheus(
                    or_zero("3600 * " + rate("ots_ingestion_gaps_closed_total", ["by"], _HERE), _WRITERS, "by"),
                    "closed by {{by}}",
                ),
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            label="an hour",
            looks=[Look("opened", color=RED)],
            runbook="gapsappear",
        ),
        BarGauge(
            "Gaps of 30 days",
            "Gaps that began in the 30 days before the range's end, by where they stand.",
            [Sql(ingestion_sql.GAPS_BY_STATE)],
            "none",
            no_data="The database does not answer",
            width=6,
            minimum=0,
            decimals=0,
            thresholds=[(None, BLUE)],
            by_row=True,
        ),
        BarGauge(
            "Dead letters by why",
            "Records that wait in dead letters. `unknown_instrument`: nothing says what its vendor's id meant.",
            [
                Prometheus(
                    or_zero(f"sum by (reason) (ots_ingestion_dead_letters{{{_HERE}}})", _BACKFILLER, "reason"),
                    "{{reason}}",
                    instant=True,
                )
            ],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            decimals=0,
            thresholds=[(None, BLUE), (1, ORANGE)],
            runbook="deadletters",
        ),
    ],
)
_QUALITY = Row(
    "How good the rest is",
    [
        BarGauge(
            "Minutes with a bar",
            "Minutes of the newest session so far that have a bar, as a share of all its minutes so far. A minute"
            " without a trade has none: of a thin symbol it is no proof of loss.",
            [Prometheus("sort(max by (symbol) (ots_quality_coverage_ratio))", "{{symbol}}", instant=True)],
            "percentunit",
            no_data="Not measured yet: the self-check does it hourly",
            width=6,
            minimum=0,
            maximum=1,
            thresholds=[(None, RED), (0.9, YELLOW), (0.98, GREEN)],
            runbook="coveragelow",
        ),
        BarGauge(
            "Crossed quotes",
            "Newest quotes of an underlying and its options whose bid is above the ask, as a share of all.",
            [Prometheus("sort_desc(max by (underlying) (ots_quality_crossed_ratio))", "{{underlying}}", instant=True)],
            "percentunit",
            no_data="Not measured yet: the self-check does it hourly",
            width=6,
            minimum=0,
            decimals=2,
            thresholds=[(None, GREEN), (0.01, YELLOW), (0.05, RED)],
            runbook="quotescrossed",
        ),
        Table(
            "Self-check",
            "Rows that the last self-check compared with the ledger, and by how many they differ; 0 is right.",
            [
                Prometheus(
                    f"sum by (dataset, schema) (ots_selfcheck_checked_rows{{{_HERE}}})", instant=True, table=True
                ),
                Prometheus(
                    f"sum by (dataset, schema) (ots_selfcheck_difference_rows{{{_HERE}}})", instant=True, table=True
                ),
            ],
            "locale",
            no_data="No self-check has been made yet: it is hourly",
            width=8,
            merged=True,
            hidden=["Time"],
            renamed={"Value #A": "rows compared", "Value #B": "difference"},
            looks=[Look("difference", thresholds=[(None, RED), (0, GREEN), (1, RED)], cell="color-text")],
            runbook="selfcheckdiffers",
        ),
        Stat(
            "Last self-check",
            "How long ago stored rows were last compared with the ledger; it is hourly.",
            [Prometheus("time() - max(ots_selfcheck_last_timestamp_seconds > 0)", instant=True)],
            "s",
            no_data="No self-check has been made yet: it is hourly",
            width=4,
            thresholds=[(None, GREEN), (5400, YELLOW), (10800, RED)],
            runbook="selfchecklate",
        ),
    ],
)
_HISTORY = Row(
    "History: imports and backfills",
    [
        Table(
            "Newest runs",
            "Imports and repairs that were asked for by the end of the range: how far each is, and what became of its"
            " records.",
            [Sql(ingestion_sql.RUNS)],
            "none",
            no_data="Nothing was imported or fetched by then",
            width=14,
            looks=[
                Look("asked", unit="dateTimeFromNow"),
                Look("done", unit="percentunit", decimals=0, cell="gauge", custom={"width": 120}),
                Look("took", unit="s"),
                Look("stored", unit="locale"),
                Look("revised", unit="locale"),
                Look("duplicate", unit="locale"),
                Look("rejected", unit="locale", thresholds=[(None, GREEN), (1, RED)], cell="color-text"),
            ],
        ),
        Table(
            "Newest backfills",
            "What was fetched from the vendor's history by the end of the range, how far each is, and what it cost.",
            [Sql(ingestion_sql.BACKFILLS)],
            "none",
            no_data="Nothing was fetched by then",
            width=10,
            looks=[
                Look("asked", unit="dateTimeFromNow"),
                Look("done", unit="percentunit", decimals=0, cell="gauge", custom={"width": 120}),
                Look("records expected", unit="locale"),
                Look("spent", unit="currencyUSD"),
            ],
            runbook="backfillstuck",
        ),
        BarGauge(
            "Parts of backfills",
            "Parts of all backfills by where they stand.",
            [Prometheus("max by (state) (ots_ingestion_backfill_parts)", "{{state}}", instant=True)],
            "none",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
            decimals=0,
            thresholds=[(None, BLUE)],
            looks=[Look("failed", thresholds=[(None, BLUE), (1, RED)])],
            runbook="backfillpartsfail",
        ),
        TimeSeries(
            "Downloaded",
            "Bytes a second that came from the vendor's history, compressed as they come.",
            [
                Prometheus(
                    or_zero(rate("ots_ingestion_backfill_bytes_total", ["dataset"], _HERE), _BACKFILLER, "dataset"),
                    "{{dataset}}",
                )
            ],
            "Bps",
            no_data=NOT_SCRAPED,
            width=6,
            minimum=0,
        ),
        Stat(
            "Spent",
            "Vendor's price of the downloads that were begun in the range, dollars. The simulated market's are free.",
            [
                Prometheus(
                    or_zero(increase("ots_ingestion_backfill_cost_usd_total", (), _HERE), _BACKFILLER), instant=True
                )
            ],
            "currencyUSD",
            no_data=NOT_SCRAPED,
            width=4,
            decimals=2,
            thresholds=[(None, BLUE)],
        ),
        TimeSeries(
            "Calls of the vendor",
            "Calls a minute of the vendor's interface, by outcome.",
            [
                Prometheus(
                    or_zero("60 * " + rate("ots_ingestion_vendor_calls_total", ["outcome"]), _WRITERS, "outcome"),
                    "{{outcome}}",
                )
            ],
            "cpm",
            no_data=NOT_SCRAPED,
            width=8,
            minimum=0,
            runbook="vendorcallsfail",
        ),
    ],
)
_LEDGER = Row(
    "The ledger's open gaps",
    [
        Table(
            "Open gaps one by one",
            "Every interval of which records may be missing and are not found yet, the newest first, and how its repair"
            " stands. Empty is well.",
            [Sql(ingestion_sql.GAPS)],
            "none",
            no_data="No gap is open: nothing is known to be missing",
            width=24,
            looks=[Look("from", unit="dateTimeAsIso"), Look("to", unit="dateTimeAsIso")],
            runbook="gapsopen",
        ),
    ],
)

INGESTION = Dashboard(
    "ots-ingestion",
    "AI-OTS Ingestion and data quality",
    "Does everything that the market sends arrive, in time and whole; what is missing; and how good the rest is.",
    [_GLANCE, _LIVE, _SPOOL, _MISSING, _QUALITY, _HISTORY, _LEDGER],
    variables=[
        Variable(
            "dataset",
            "Dataset",
            "Which of the vendor's datasets.",
            query=Prometheus("label_values(ots_live_state, dataset)"),
            several=True,
        )
    ],
)
