"""What ingestion counts."""

from __future__ import annotations

from prometheus_client import Counter

from ots_ingestion.runs import Tally

RECORDS = Counter("ots_ingestion_records_total", "Records by what became of them", ["dataset", "outcome"])
RUNS = Counter("ots_ingestion_runs_total", "Runs by how they ended", ["status"])


def count_batch(dataset: str, tally: Tally) -> None:
    """Count a committed batch."""
    for outcome in ("stored", "revised", "duplicate", "rejected", "control"):
        if number := getattr(tally, outcome):
            RECORDS.labels(dataset, outcome).inc(number)
