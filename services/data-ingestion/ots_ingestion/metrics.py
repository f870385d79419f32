"""What ingestion counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge
from prometheus_client.core import REGISTRY, HistogramMetricFamily
from prometheus_client.registry import Collector

from ots_ingestion.runs import Tally

RECORDS = Counter("ots_ingestion_records_total", "Records by what became of them", ["dataset", "outcome"])
RUNS = Counter("ots_ingestion_runs_total", "Runs by how they ended", ["status"])
VENDOR_CALLS = Counter("ots_ingestion_vendor_calls_total", "Calls of Databento's API", ["call", "outcome"])
BACKFILL_PARTS = Counter("ots_ingestion_backfill_parts_total", "Parts of backfills by what became of them", ["outcome"])
BACKFILL_BYTES = Counter("ots_ingestion_backfill_bytes_total", "Bytes downloaded whole, as compressed", ["dataset"])
BACKFILL_COST = Counter("ots_ingestion_backfill_cost_usd_total", "What downloads that were begun cost", ["dataset"])
BACKFILL_DOWNLOADS = Gauge("ots_ingestion_backfill_downloads", "Downloads going on")

OPEN_GAPS = Gauge("ots_ingestion_open_gaps", "Open gaps of the ledger", ["dataset", "evidence"])
DEAD_LETTERS = Gauge("ots_ingestion_dead_letters", "Records that wait in dead letters", ["dataset", "reason"])


def count_batch(dataset: str, tally: Tally) -> None:
    """Count a committed batch."""
    for outcome in ("stored", "revised", "duplicate", "rejected", "control"):
        if number := getattr(tally, outcome):
            RECORDS.labels(dataset, outcome).inc(number)


LIVE_STATE = Gauge("ots_live_state", "1 for the state that a dataset's collection is in", ["dataset", "state"])
LIVE_RECEIVED = Counter("ots_live_received_total", "Messages taken from the feed", ["dataset"])
LIVE_CONNECTIONS = Counter(
    "ots_live_connections_total", "Connections to the feed by how they ended", ["dataset", "end"]
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
