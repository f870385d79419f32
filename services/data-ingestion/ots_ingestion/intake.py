"""Taking a DBN file in: into the spool, proved whole, and queued as a run. For uploads and for the command line."""

from __future__ import annotations

from typing import IO
from uuid import UUID, uuid4

from ots_common.database import Database
from ots_common.problems import Problem
from ots_ingestion import runs, spool
from ots_ingestion.dbn_file import InvalidDbnError, Summary, verify
from ots_ingestion.layouts import SCHEMA_IDS, schema_of
from ots_ingestion.settings import IngestionSettings


def check_source(settings: IngestionSettings) -> None:
    """Raises a 409 problem where the market is invented: real data must not mix with it."""
    if settings.market_source == "simulated":
        raise Problem(
            409,
            "simulated-market",
            "this platform holds a simulated market; real data must not mix with it",
            hint="start it with MARKET_SOURCE=databento",
        )


def take_in(stream: IO[bytes], database: Database, settings: IngestionSettings, user: str) -> UUID:
    """Queue what ``stream`` holds as a run. Raises a problem that says why not; then nothing is kept."""
    run_id = uuid4()
    upload = spool.receive(stream, settings.spool_dir, run_id, settings.max_upload_bytes)
    try:
        summary = _verified(upload, settings)
        path = spool.keep(upload)
    except BaseException:
        upload.path.unlink(missing_ok=True)
        raise
    try:
        runs.create_run(database, run_id, upload, path, summary, user, settings.batch_records)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return run_id


def _verified(upload: spool.Upload, settings: IngestionSettings) -> Summary:
    try:
        if upload.size == 0:
            raise InvalidDbnError("the body is empty")
        summary = verify(upload.path, max_decompressed_bytes=settings.max_decompressed_bytes)
    except InvalidDbnError as error:
        raise Problem(
            422, "invalid-dbn", f"{error}; nothing was stored", hint="download the file again and compare its size"
        ) from error
    schema = summary.header.schema
    if schema is not None and schema not in SCHEMA_IDS:
        raise Problem(
            422,
            "unsupported-schema",
            f"records of schema {schema} are not stored here; nothing was stored",
            extra={"supported": sorted(SCHEMA_IDS)},
        )
    if summary.records and not any(schema_of(rtype, schema) for rtype in summary.rtypes):
        raise Problem(
            422,
            "unsupported-schema",
            f"no record in the file is of a type that is stored here (types {sorted(summary.rtypes)})",
            extra={"supported": sorted(SCHEMA_IDS)},
        )
    return summary
