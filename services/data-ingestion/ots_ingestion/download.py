"""One part of a backfill: priced, downloaded by the vendor's client, proved whole, and handed to a run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
import structlog

from ots_common.database import Connection
from ots_ingestion import backfill_parts, spool
from ots_ingestion.backfill_parts import MAX_CUTS, Claimed, Lost
from ots_ingestion.dbn_file import InvalidDbnError, Summary, verify
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import (
    BadRequest,
    NoRoom,
    Patience,
    TooCostly,
    TransferCut,
    Vendor,
    VendorError,
    backoff_s,
    translated,
)

log = structlog.get_logger(__name__)

_PATIENCE = Patience(first_s=1.0, most_s=60.0)
# records that are as young as this may still be joined by late ones
_SETTLED_AFTER_NS = 15 * 60 * 10**9
_SPARE_BYTES = 64 * 2**20
_HAND_OVER_RETRY_S = 1.0

Connect = Callable[[], Connection]


class CountMismatch(TransferCut):
    """As many bytes as there were, but not as many records as the vendor counts."""

    kind = "count-mismatch"


class Unexpected(TransferCut):
    """Something that nobody thought of; tried again a few times all the same."""

    kind = "unexpected"


class Download:
    """One attempt. ``connect`` gives this thread's connection, a fresh one when the last was lost."""

    def __init__(
        self,
        part: Claimed,
        make_vendor: Callable[[], Vendor],
        settings: IngestionSettings,
        connect: Connect,
        stopping: Callable[[], bool],
    ) -> None:
        self._part = part
        self._make_vendor = make_vendor
        self._settings = settings
        self._connect = connect
        self._stopping = stopping
        self._path = settings.spool_dir / f"{_name(part.part_id)}{part.holder}{spool.PARTIAL}"

    def run(self) -> None:
        """To the run that stores it, or to what was wrong. Raises what the database raises while it is away."""
        try:
            self._settings.spool_dir.mkdir(parents=True, exist_ok=True)
            if not self._adopt():
                self._fetch(self._make_vendor())
        except Lost:
            log.info("part_lost", part=self._part.part_id)
        except VendorError as error:
            self._refused(error)
        except psycopg2.Error:
            raise
        except Exception as error:
            log.exception("part_broken", part=self._part.part_id)
            self._refused(translated(error) or Unexpected(f"{type(error).__name__}: {error}"))
        finally:
            self._path.unlink(missing_ok=True)

    def _fetch(self, vendor: Vendor) -> None:
        part = self._part
        expected = vendor.record_count(part.request)
        if not expected:
            backfill_parts.finish_empty(self._connect(), part)
            return
        cost = 0.0 if part.max_cost_usd == float("inf") else vendor.cost(part.request)
        self._check_room(vendor, expected)
        if not backfill_parts.reserve(self._connect(), part, expected, cost):
            raise TooCostly(
                f"a download of {cost:.4f} USD would bring the cost above max_cost_usd {part.max_cost_usd:.4f}"
            )
        began = time.monotonic()
        try:
            vendor.download(part.request, self._path)
        except VendorError:
            if not self._path.exists():
                backfill_parts.refund(self._connect(), part, cost)
            raise
        summary = self._verified(vendor, expected)
        self._hand_over(summary)
        log.info(
            "part_received",
            part=part.part_id,
            schema=part.request.schema,
            records=summary.records,
            seconds=round(time.monotonic() - began, 2),
        )

    def _verified(self, vendor: Vendor, expected: int) -> Summary:
        """The walked file, which has the records that were asked for, all of them."""
        request = self._part.request
        try:
            summary = verify(self._path, max_decompressed_bytes=self._settings.max_decompressed_bytes)
        except InvalidDbnError as error:
            raise TransferCut(f"the answer is not whole: {error}") from error
        if (summary.header.dataset, summary.header.schema) != (request.dataset, request.schema):
            raise BadRequest(f"the vendor answered with {summary.header.dataset} {summary.header.schema}")
        if summary.records != expected and not self._grew(vendor, expected, summary.records):
            raise CountMismatch(f"the vendor counts {expected} records, and {summary.records} came")
        return summary

    def _grew(self, vendor: Vendor, before: int, received: int) -> bool:
        """Whether records came in between the count and the answer: only where the part reaches up to now."""
        if received < before or self._part.request.end_ns < time.time_ns() - _SETTLED_AFTER_NS:
            return False
        return received <= vendor.record_count(self._part.request)

    def _hand_over(self, summary: Summary) -> None:
        upload = spool.seal(self._path)
        kept = spool.keep(upload)
        upload = spool.Upload(kept, upload.size, upload.sha256)
        try:
            self._commit(upload, summary)
        except Lost:
            kept.unlink(missing_ok=True)
            raise

    def _commit(self, upload: spool.Upload, summary: Summary) -> None:
        """What was paid for is not thrown away because the database is away for a while."""
        while True:
            try:
                backfill_parts.hand_over(self._connect(), self._part, upload, summary, self._settings)
                return
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                if self._stopping():
                    raise
                log.warning("database_unavailable", error=str(error).strip(), part=self._part.part_id)
                time.sleep(_HAND_OVER_RETRY_S)

    def _adopt(self) -> bool:
        """Take over what a killed attempt had whole on the disk; remove what it had not."""
        done = False
        connection = self._connect()
        for path in self._settings.spool_dir.glob(f"{_name(self._part.part_id)}*"):
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM runs WHERE spool_file = %s", (path.name,))
                if cursor.fetchone():
                    continue  # a run has it
            if not done and path.suffix != spool.PARTIAL and (summary := self._whole(path)):
                self._commit(spool.seal(path), summary)
                log.info("part_adopted", part=self._part.part_id, records=summary.records)
                done = True
            else:
                path.unlink(missing_ok=True)
        return done

    def _whole(self, path: Path) -> Summary | None:
        try:
            summary = verify(path, max_decompressed_bytes=self._settings.max_decompressed_bytes)
        except (InvalidDbnError, FileNotFoundError):
            return None
        return summary if summary.records == self._part.expected else None

    def _check_room(self, vendor: Vendor, expected: int) -> None:
        """The file is smaller than its records: room for those is room enough. Raises :class:`NoRoom`."""
        free = shutil.disk_usage(self._settings.spool_dir).free
        if free < _SPARE_BYTES + expected * 600 and free < _SPARE_BYTES + vendor.billable_size(self._part.request):
            raise NoRoom(f"the spool's disk has {free} bytes free; the download waits for more")

    def _refused(self, error: VendorError) -> None:
        part = self._part
        cut = isinstance(error, TransferCut)
        if error.passes and not (cut and part.cuts >= MAX_CUTS):
            asked = getattr(error, "retry_after", None)
            pause = backoff_s(min(part.attempts, 10), _PATIENCE, asked)
            log.warning("part_postponed", part=part.part_id, error=str(error), retry_in_s=round(pause, 1))
            backfill_parts.postpone(self._connect(), part, error, pause, cut=cut)
        else:
            log.error("part_failed", part=part.part_id, error=str(error))
            backfill_parts.fail(self._connect(), part, error)


def _name(part_id: int) -> str:
    return f"backfill-{part_id}-"
