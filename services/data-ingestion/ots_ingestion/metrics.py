"""What ingestion counts. The values of every label are a closed set: see the functions that name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge
from prometheus_client.core import REGISTRY, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from ots_ingestion.layouts import SCHEMA_IDS

OTHER = "other"
"""The value of a label for all that has none of its own."""
# Databento's datasets of US stocks and options as of 2026-11; its library's list costs half a second to import
_DATASETS = frozenset((
    "ARCX.PILLAR", "BATS.PITCH", "BATY.PITCH", "DBEQ.BASIC", "EDGA.PITCH", "EDGX.PITCH", "EPRL.DOM", "EQUS.ALL",
    "EQUS.MINI", "EQUS.PLUS", "EQUS.SIP", "EQUS.SUMMARY", "IEXG.TOPS", "MEMX.MEMOIR", "OPRA.PILLAR", "XASE.PILLAR",
    "XBOS.ITCH", "XCHI.PILLAR", "XCIS.PILLAR", "XCIS.TRADESBBO", "XNAS.BASIC", "XNAS.ITCH", "XNAS.QBBO",
    "XNYS.PILLAR", "XNYS.TRADESBBO", "XPSX.ITCH",
))  # fmt: skip
_UNSUPPORTED = "unsupported_record_type_"
_REFUSED = "refused: "


def dataset_label(dataset: str) -> str:
    """A dataset that Databento has, or ``other``: a file may say anything."""
    return dataset if dataset in _DATASETS else OTHER


def schema_label(schema: str) -> str:
    """A schema that is stored here, or ``other``: messages of the feed, and types of record that are not stored."""
    return schema if schema in SCHEMA_IDS else OTHER


def reason_label(reason: str) -> str:
    """Why records are dead letters, without what has no bound: the number of a type, the name of an exception."""
    if reason.startswith(_UNSUPPORTED):
        return "unsupported_record_type"
    return "refused" if reason.startswith(_REFUSED) else reason


class KnownGauge(Collector):
    """A gauge without labels of a process that knows it; the others, and it before, say nothing instead of 0."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = name
        self._documentation = documentation
        self._value: float | None = None
        REGISTRY.register(self)

    def set(self, value: float) -> None:
        """It is that now."""
        self._value = value

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As Prometheus' client asks for it."""
        yield GaugeMetricFamily(self._name, self._documentation, value=self._value)


RECORDS = Counter(
    "ots_ingestion_records_total",
    "Records committed, by what became of them: stored, revised, duplicate, rejected, or control (no market data)",
    ["dataset", "schema", "outcome"],
)
RUNS = Counter("ots_ingestion_runs_total", "Runs by how they ended", ["status"])
VENDOR_CALLS = Counter("ots_ingestion_vendor_calls_total", "Calls of Databento's API", ["call", "outcome"])
BACKFILL_PARTS = Counter(
    "ots_ingestion_backfill_part_outcomes_total", "Parts of backfills by what became of them", ["outcome"]
)
# from the start: the first failure is an increase, and not a series that appears
for _outcome in ("done", "empty", "postponed", "failed"):
    BACKFILL_PARTS.labels(_outcome)
BACKFILL_BYTES = Counter("ots_ingestion_backfill_bytes_total", "Bytes downloaded whole, as compressed", ["dataset"])
BACKFILL_COST = Counter("ots_ingestion_backfill_cost_usd_total", "What downloads that were begun cost", ["dataset"])
BACKFILL_DOWNLOADS = Gauge("ots_ingestion_backfill_downloads", "Downloads going on", multiprocess_mode="livemax")
BACKFILL_STATE = Gauge(
    "ots_ingestion_backfill_parts",
    "Parts of all backfills by where they stand: waiting, running (downloaded or stored), done, failed, cancelled",
    ["state"],
)

OPEN_GAPS = Gauge("ots_ingestion_open_gaps", "Open gaps of the ledger", ["dataset", "evidence"])
GAPS_OPENED = Counter(
    "ots_ingestion_gaps_opened_total", "Gaps stated in the ledger; the same one again is none", ["dataset", "evidence"]
)
GAPS_CLOSED = Counter(
    "ots_ingestion_gaps_closed_total", "Gaps of the ledger that were closed, by what closed them", ["dataset", "by"]
)
DEAD_LETTERS = Gauge("ots_ingestion_dead_letters", "Records that wait in dead letters", ["dataset", "reason"])
WATERMARK = Gauge(
    "ots_ingestion_watermark_timestamp_seconds",
    "Event time of the newest quote, trade or bar stored; options by their underlying",
    ["dataset", "symbol"],
)
SPOOL_FILES = Gauge(
    "ots_ingestion_spool_files",
    "Files in the spool of imports: uploading, waiting, storing, or kept (something of them could not be stored)",
    ["state"],
)
SPOOL_BYTES = KnownGauge("ots_ingestion_spool_bytes", "Size of the spool of imports")

MAINTENANCE_LAST = Gauge(
    "ots_maintenance_last_timestamp_seconds", "When a task of maintenance was last done whole", ["task"]
)
MAINTENANCE_SECONDS = Gauge("ots_maintenance_seconds", "How long a task of maintenance took the last time", ["task"])

SELFCHECK_LAST = KnownGauge(
    "ots_selfcheck_last_timestamp_seconds", "When stored rows were last compared with the ledger"
)
SELFCHECK_FAILURES = Counter("ots_selfcheck_failures_total", "Self-checks that could not be carried out")
SELFCHECK_DIFFERENCE = Gauge(
    "ots_selfcheck_difference_rows",
    "Rows by which what is stored and the ledger differ, in the last self-check; 0 is right",
    ["dataset", "schema"],
)
SELFCHECK_CHECKED = Gauge(
    "ots_selfcheck_checked_rows", "Rows that the last self-check compared with the ledger", ["dataset", "schema"]
)
CROSSED = Gauge(
    "ots_quality_crossed_ratio",
    "Part of the newest quotes of an underlying and its options whose bid is above its ask",
    ["underlying"],
)
COVERAGE = Gauge(
    "ots_quality_coverage_ratio",
    "Minutes of the newest session so far that have a bar, of all its minutes so far",
    ["symbol"],
)


_SHOWN: dict[Gauge, set[tuple[str, ...]]] = {}


def show(gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
    """Set a gauge to what was measured, by labels; no series that stays is ever away, and no other stays."""
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
    for labels in _SHOWN.get(gauge, set()) - values.keys():
        gauge.remove(*labels)
    _SHOWN[gauge] = set(values)


def count_batch(dataset: str, counts: Mapping[tuple[str, str], int]) -> None:
    """Count a committed batch; ``counts``: (schema, outcome) -> records."""
    for (schema, outcome), number in counts.items():
        RECORDS.labels(dataset_label(dataset), schema_label(schema), outcome).inc(number)


LIVE_STATE = Gauge("ots_live_state", "1 for the state that a dataset's collection is in", ["dataset", "state"])
LIVE_RECEIVED = Counter("ots_live_received_total", "Messages taken from the feed", ["dataset"])
LIVE_CONNECTIONS = Counter(
    "ots_live_connections_total", "Connections to the feed by how they ended", ["dataset", "end"]
)
LIVE_SILENCE = Gauge(
    "ots_live_silence_seconds",
    "How long no record came from the feed while its market is open and it is wanted; 0 outside sessions",
    ["dataset"],
)
LIVE_SPOOL_BYTES = Gauge("ots_live_spool_bytes", "Size of the live spool", ["dataset"])
LIVE_SPOOL_AGE = Gauge("ots_live_spool_age_seconds", "Age of the oldest file of the live spool", ["dataset"])
LIVE_GAPS = Counter("ots_live_gaps_total", "Gaps by what the collector did with them", ["dataset", "evidence", "done"])
LIVE_STORE_FAILURES = Counter("ots_live_store_failures_total", "Batches that were rolled back", ["dataset", "error"])
LIVE_BATCH_SECONDS = Gauge("ots_live_batch_seconds", "How long the last batch took to store", ["dataset"])


class LagHistogram(Collector):
    """From a record's index time to its commit, seconds, counted for every record: whole batches at a time."""

    _BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

    def __init__(self) -> None:
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        REGISTRY.register(self)

    def observe(self, dataset: str, index_ns: NDArray[np.int64], committed_ns: int) -> None:
        """Count the lags of a batch; ``index_ns``: shape (n,)."""
        lags = (committed_ns - index_ns) / 1e9
        bins = np.bincount(np.searchsorted(self._BOUNDS, lags), minlength=len(self._BOUNDS) + 1)
        self._counts[dataset] = self._counts.get(dataset, np.zeros(len(bins), np.int64)) + bins
        self._sums[dataset] = self._sums.get(dataset, 0.0) + float(lags.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """As Prometheus' client asks for it."""
        family = HistogramMetricFamily(
            "ots_live_lag_seconds", "From a record's index time to its commit", labels=["dataset"]
        )
        for dataset, counts in list(self._counts.items()):
            running = np.cumsum(counts)
            names = [*map(str, self._BOUNDS), "+Inf"]
            family.add_metric([dataset], list(zip(names, running.tolist(), strict=True)), self._sums[dataset])
        yield family


LIVE_LAG = LagHistogram()
