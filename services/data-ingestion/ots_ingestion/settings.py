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
    batch_records: int = Field(100_000, ge=1, description="Records a transaction, about.")
    max_wait_s: float = Field(300.0, ge=0, description="How long a client may wait for a run in one request.")
