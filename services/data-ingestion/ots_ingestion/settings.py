"""The settings of ingestion, web service and workers alike."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from ots_common.settings import ServiceSettings


class IngestionSettings(ServiceSettings):
    """The environment of ``ots_ingestion``."""

    spool_dir: Path = Field(description="Where uploads lie until they are stored; needs room for the largest of them.")
    databento_api_key: SecretStr | None = None
    max_upload_bytes: int = Field(2 * 2**30, ge=1024, description="The largest file one import takes.")
    max_decompressed_bytes: int = Field(64 * 2**30, ge=1024, description="What a compressed file may unfold to.")
    batch_records: int = Field(250_000, ge=1, description="Records a transaction, about.")
    max_wait_s: float = Field(300.0, ge=0, description="How long a client may wait for a run in one request.")

    metrics_bind: str = Field(
        "127.0.0.1", description="The address where the worker's, the collector's and the backfiller's /metrics listen."
    )
    worker_metrics_port: int = Field(0, ge=0, le=65535, description="The worker's own /metrics; 0: none.")

    self_check_every_s: float = Field(
        3600.0, ge=0, description="How often the worker compares what is stored with what was counted; 0: never."
    )
    self_check_rows: int = Field(
        5_000_000,
        ge=1,
        description="Rows that a self-check reads, about; what changed and is more, the next ones read.",
    )

    # the vendor, real or simulated
    databento_historical_url: str | None = Field(None, description="Unset: the vendor's own.")
    databento_live_host: str | None = Field(None, description="Unset: the vendor's own.")
    databento_live_port: int = Field(13000, ge=1, le=65535)
    equity_dataset: str = Field("EQUS.MINI", description="Databento's dataset of the stocks.")
    option_dataset: str = Field("OPRA.PILLAR", description="Databento's dataset of the options.")

    # live collection
    collect_on_first_start: bool = Field(
        False, description="Start the default collection when none was ever asked for."
    )
    collector_metrics_port: int = Field(0, ge=0, le=65535, description="The collector's own /metrics; 0: none.")
    live_batch_records: int = Field(10_000, ge=1, description="Store as soon as so many records wait ...")
    live_batch_ms: int = Field(250, ge=1, description="... or as soon as the oldest has waited so long.")
    live_max_batch_records: int = Field(100_000, ge=1, description="Records a transaction at most, when behind.")
    live_sync_ms: int = Field(100, ge=1, le=250, description="How often the live spool is synced to the disk.")
    live_part_bytes: int = Field(64 * 2**20, ge=4096, description="The size at which the live spool begins a new file.")
    live_part_s: float = Field(300.0, gt=0, description="The age at which the live spool begins a new file.")
    live_spool_max_bytes: int = Field(
        8 * 2**30, ge=4096, description="What a dataset's live spool may hold; then collection pauses: disk_full."
    )
    live_spool_min_free_bytes: int = Field(512 * 2**20, ge=0, description="What must stay free on the spool's disk.")
    heartbeat_s: int = Field(10, ge=5, le=1800, description="How often the feed is to say that it lives.")
    mute_after_s: float = Field(60.0, gt=0, description="A feed without a record for so long in a session is mute.")
    reconnect_base_s: float = Field(0.5, gt=0, description="Waits before connecting again: at random up to this ...")
    reconnect_cap_s: float = Field(30.0, gt=0, description="... doubled each time up to this.")
    connection_limit_wait_s: float = Field(30.0, gt=0, description="The least wait when the vendor's limit is reached.")
    fatal_retry_s: float = Field(300.0, gt=0, description="How often what cannot work (a wrong key) is tried again.")
    stable_after_s: float = Field(30.0, gt=0, description="After so long of streaming the waits begin small again.")
    replay_window_s: float = Field(86_340.0, gt=0, description="How far back the feed's replay is asked to reach.")
    replay_overlap_s: float = Field(
        2.0, ge=0, description="Replay begins so much before the last record stored: records may be late, none is lost."
    )

    # history
    vendor_metadata_per_s: float = Field(
        10.0, gt=0, description="Metadata calls a second of a process; Databento allows a key 20."
    )
    vendor_timeseries_per_s: float = Field(
        50.0, gt=0, description="Downloads begun a second by a process; Databento allows a key 100."
    )
    backfill_on_first_start_days: int = Field(
        0, ge=0, le=3660, description="Days of history to ask for when nobody ever asked for any; 0: none."
    )
    backfill_on_first_start_max_cost_usd: float = Field(
        0.0, ge=0, description="What that first history may cost; the simulated market's is free."
    )
    backfill_parallel: int = Field(4, ge=1, le=32, description="Downloads at the same time.")
    backfill_part_records: int = Field(200_000, ge=1, description="Records a download, about.")
    backfill_ahead: int = Field(8, ge=1, description="Downloads wait while so many are not stored yet.")
    backfiller_metrics_port: int = Field(0, ge=0, le=65535, description="The backfiller's own /metrics; 0: none.")
    repair_max_cost_usd: float = Field(
        0.0, ge=0, description="What the repair of one gap may cost; the simulated market's is free."
    )
    expected_stretch_minutes: int = Field(
        15, ge=1, le=390, description="A symbol without a record for so long in a session, while others have, is a gap."
    )
