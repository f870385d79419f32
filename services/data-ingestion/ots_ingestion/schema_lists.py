"""What schemas the vendor says a dataset has, remembered in the database so that it need not be asked every time."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from ots_common.database import Database
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import HURRIED, Vendor, VendorError

log = structlog.get_logger(__name__)

_FRESH_S = 3600

# What the vendor's datasets were seen to have, for when it cannot be asked and never was. What is wrong here shows when
# the feed refuses the subscription, in the status of the collection.
_SEEN = {
    "EQUS.MINI": ("trades", "tbbo", "mbp-1", "bbo-1s", "bbo-1m", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition"),
    "OPRA.PILLAR": (
        "trades", "tcbbo", "cmbp-1", "cbbo-1s", "cbbo-1m", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition",
        "statistics",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Offered:
    """``problem``: why it is not the vendor's own word of the last hour; None when it is."""

    schemas: tuple[str, ...]
    problem: VendorError | None


def offered(database: Database, settings: IngestionSettings, dataset: str) -> Offered:
    """What ``dataset`` has: as remembered for an hour, else as the vendor says now, else as it ever said."""
    rows = database.rows(
        "SELECT schemas, extract(epoch FROM now() - fetched_at)::float8 FROM vendor_schemas WHERE dataset = %s",
        (dataset,),
    )
    if rows and rows[0][1] < _FRESH_S:
        return Offered(tuple(rows[0][0]), None)
    try:
        found = Vendor(settings, patience=HURRIED).list_schemas(dataset)
    except VendorError as error:
        log.warning("schemas_not_listed", dataset=dataset, error=str(error))
        return Offered(tuple(rows[0][0]) if rows else _SEEN.get(dataset, ()), error)
    database.execute(
        "INSERT INTO vendor_schemas (dataset, schemas) VALUES (%s, %s) ON CONFLICT (dataset) DO UPDATE"
        " SET schemas = excluded.schemas, fetched_at = now()",
        (dataset, found),
    )
    return Offered(tuple(found), None)
