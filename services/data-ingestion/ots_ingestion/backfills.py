"""Backfills: asked for with a price first, kept as parts that any backfiller process can go on with.

The same question again is the same backfill: one at work is answered as it is, one that failed or was cancelled goes on
with what it lacks, and what is done is not bought twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import psycopg2.extras
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

from ots_common.database import Database
from ots_common.times import rfc3339
from ots_ingestion.backfill_plan import Estimate, Part, Want, fingerprint, plan
from ots_ingestion.collection import UNDERLYINGS
from ots_ingestion.coverage import close_if_covered, symbols_of_gap
from ots_ingestion.estimates import estimate_all, total
from ots_ingestion.gaps import Gap
from ots_ingestion.questions import InvalidQuestion, Question, Wanted, merged, wanted
from ots_ingestion.schemas_offered import SchemaNotOffered, choose
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import TooCostly, Vendor, VendorUnavailable
from ots_market.sessions import Sessions, sessions_of
from ots_market.timeframes import DAY_NS

CHANNEL = "ots_backfills"
MAX_PARTS = 50_000
# sums of prices are compared, not prices
ROUNDING_USD = 1e-6
_DAILY_BARS_DAYS = 730
_FIRST_START_LOCK = 0x4F545458
_FREE = float("inf")


@dataclass(frozen=True)
class Asked:
    """What became of a question. ``backfill_id`` None: it was a dry run. ``created``: no such question was there."""

    wanted: Wanted
    estimated: tuple[tuple[Want, Estimate], ...]
    parts: tuple[Part, ...]
    backfill_id: UUID | None
    created: bool

    @property
    def total(self) -> Estimate:
        """Of all wants."""
        return total(self.estimated)


class OverTheCap(TooCostly):
    """:class:`TooCostly` with the figures in ``asked``; ``cap_usd`` None: nothing was allowed."""

    def __init__(self, asked: Asked, cap_usd: float | None) -> None:
        usd = asked.total.usd
        allowed = "no max_cost_usd was given" if cap_usd is None else f"max_cost_usd is {cap_usd:.4f}"
        super().__init__(f"it would cost about {usd:.4f} USD, and {allowed}: nothing was spent")
        self.asked = asked
        self.cap_usd = cap_usd
        self.hint = f"allow it with max_cost_usd of at least {math.ceil(usd * 1e4) / 1e4:.4f}, or ask for less"


def ask(
    database: Database,
    vendor: Vendor,
    settings: IngestionSettings,
    question: Question,
    *,
    user: str,
    max_cost_usd: float | None,
    dry_run: bool = False,
) -> Asked:
    """Estimate a question, and unless it is a dry run ask for it.

    Raises :class:`OverTheCap`, and what :func:`~ots_ingestion.questions.wanted` raises.
    """
    found = wanted(question, vendor, settings)
    return _ask(database, vendor, settings, found, user=user, cap=max_cost_usd, dry_run=dry_run)


def ask_first_history(database: Database, vendor: Vendor, settings: IngestionSettings) -> Asked | None:
    """The history of a fresh database; None when it is not wanted, or anything was ever asked for.

    Daily bars of two years, minute bars, and of the options the definitions, the open interest and the quotes at each
    session's close: what a daily volatility surface is made of. The stocks come before the options, and what a
    stranger looks at first before older years.
    """
    days = settings.backfill_on_first_start_days
    if not days or _ever_asked(database):
        return None
    today = vendor.dataset_range(settings.equity_dataset)[1] // DAY_NS
    start = (today - days) * DAY_NS
    long = min(start, (today - _DAILY_BARS_DAYS) * DAY_NS)
    found = merged(
        _staged(part, stage)
        for stage, question in (
            (0, _one_schema("ohlcv-1d", False, start)),
            (0, _one_schema("ohlcv-1m", False, start)),
            *([(1, _one_schema("ohlcv-1d", False, long, end_ns=start))] if long < start else []),
            (2, _one_schema("definition", True, start)),
            (2, _one_schema("cbbo-1m", True, start, minutes=1)),
            (2, _one_schema("statistics", True, start)),
        )
        if (part := _if_offered(question, vendor, settings))
    )
    if not found.wants:
        return None
    with database.connection() as connection, connection.cursor() as cursor:
        # two backfillers that start together ask once
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_FIRST_START_LOCK,))
        if _ever_asked(database):
            return None
        cap = _FREE if settings.market_source == "simulated" else settings.backfill_on_first_start_max_cost_usd
        return _ask(
            database, vendor, settings, found, user="first-start", cap=cap, origin="first-start", rough=cap == _FREE
        )


def request_repair(database: Database, vendor: Vendor, settings: IngestionSettings, gap: Gap) -> UUID | None:
    """Ask history for what a gap lacks, as far as REPAIR_MAX_COST_USD allows; None when it was closed at once.

    The gap is closed by the backfill that covers it. Raises :class:`~ots_ingestion.vendor.VendorError`
    (``passes``: try again later), :class:`~ots_ingestion.schemas_offered.SchemaNotOffered`, and ValueError for a gap
    that is not over, or of which nobody knows the symbols.
    """
    if gap.ends_ns is None:
        raise ValueError(f"gap {gap.gap_id} is not over yet")
    with database.connection() as connection, connection.cursor() as cursor:
        if close_if_covered(cursor, gap):
            return None
        symbols = symbols_of_gap(cursor, gap)
    if not symbols:
        raise ValueError(f"gap {gap.gap_id} concerns a collection whose symbols are not known any more")
    if (last := vendor.dataset_range(gap.dataset, gap.schema)[1]) < gap.ends_ns:
        raise VendorUnavailable(f"history reaches {rfc3339(last)} only")
    choose([gap.schema], gap.dataset, vendor.list_schemas(gap.dataset))
    wants = tuple(
        Want(gap.dataset, gap.schema, stype_in, names, ((gap.starts_ns, gap.ends_ns),))
        for stype_in, names in _by_stype(symbols)
    )
    cap = _FREE if settings.market_source == "simulated" else settings.repair_max_cost_usd
    asked = _ask(
        database, vendor, settings, Wanted(wants, ()), user="repair", cap=cap, origin="repair", gap_id=gap.gap_id
    )
    return asked.backfill_id


def cancel(database: Database, backfill_id: UUID) -> str | None:
    """End a backfill; its status before, None when there is none. What is downloaded already is still stored."""
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT status FROM backfills WHERE backfill_id = %s FOR UPDATE", (backfill_id,))
        row = cursor.fetchone()
        if row is None:
            return None
        if row[0] in ("queued", "running"):
            cursor.execute(
                "UPDATE backfill_parts SET status = 'cancelled', finished_at = now(), holder = NULL"
                " WHERE backfill_id = %s AND status IN ('waiting', 'downloading')",
                (backfill_id,),
            )
            cursor.execute(
                "UPDATE backfills SET status = 'cancelled', finished_at = now() WHERE backfill_id = %s", (backfill_id,)
            )
        return str(row[0])


def _ask(
    database: Database,
    vendor: Vendor,
    settings: IngestionSettings,
    found: Wanted,
    *,
    user: str,
    cap: float | None,
    dry_run: bool = False,
    origin: str = "request",
    rough: bool = False,
    gap_id: int | None = None,
) -> Asked:
    sessions = sessions_of(settings.market_calendar)
    asked = _estimated(vendor, settings, found, sessions, rough)
    if dry_run:
        return asked
    print_ = fingerprint(found.wants)
    with database.connection() as connection, connection.cursor() as cursor:
        if existing := _take_up(cursor, print_, cap):
            return replace(asked, backfill_id=existing)
        if asked.total.usd > (cap or 0.0) + ROUNDING_USD:
            raise OverTheCap(asked, cap)
        backfill_id = _insert(cursor, asked, print_, user, origin, cap or 0.0, gap_id)
        cursor.execute(f"NOTIFY {CHANNEL}")
    return replace(asked, backfill_id=backfill_id, created=True)


def _estimated(vendor: Vendor, settings: IngestionSettings, found: Wanted, sessions: Sessions, rough: bool) -> Asked:
    estimated = tuple(estimate_all(vendor, found.wants, sessions, rough=rough))
    parts = tuple(plan(estimated, sessions, settings.backfill_part_records))
    if len(parts) > MAX_PARTS:
        raise InvalidQuestion("start", f"that makes {len(parts)} downloads, and {MAX_PARTS} are the most; ask for less")
    return Asked(found, estimated, parts, None, False)


def _take_up(cursor: Cursor, print_: str, cap: float | None) -> UUID | None:
    """The backfill of the same question: one that failed or was cancelled goes on with what it lacks."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (print_,))
    cursor.execute("SELECT backfill_id, status FROM backfills WHERE fingerprint = %s FOR UPDATE", (print_,))
    row = cursor.fetchone()
    if row is None:
        return None
    backfill_id, status = row
    if cap is not None:
        cursor.execute(
            "UPDATE backfills SET max_cost_usd = greatest(max_cost_usd, %s) WHERE backfill_id = %s", (cap, backfill_id)
        )
    if status in ("failed", "cancelled"):
        cursor.execute(
            "UPDATE backfill_parts SET status = 'waiting', attempts = 0, retry_at = NULL, error = NULL,"
            " error_kind = NULL, finished_at = NULL, holder = NULL, run_id = NULL"
            " WHERE backfill_id = %s AND status IN ('failed', 'cancelled')",
            (backfill_id,),
        )
        cursor.execute(
            "UPDATE backfills SET status = 'queued', finished_at = NULL, error = NULL, hint = NULL"
            " WHERE backfill_id = %s",
            (backfill_id,),
        )
        cursor.execute(f"NOTIFY {CHANNEL}")
    return UUID(str(backfill_id))


def _insert(cursor: Cursor, asked: Asked, print_: str, user: str, origin: str, cap: float, gap_id: int | None) -> UUID:
    backfill_id = uuid4()
    estimate = asked.total
    start, end = asked.wanted.span
    cursor.execute(
        "INSERT INTO backfills (backfill_id, fingerprint, origin, requested_by, wanted, notes, starts_ns, ends_ns,"
        " estimated_usd, estimated_records, estimated_bytes, max_cost_usd, gap_id)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            backfill_id,
            print_,
            origin,
            user,
            psycopg2.extras.Json(shape_wants(asked.estimated)),
            list(asked.wanted.notes),
            start,
            end,
            estimate.usd,
            estimate.records,
            estimate.bytes,
            cap,
            gap_id,
        ),
    )
    execute_values(
        cursor,
        "INSERT INTO backfill_parts (backfill_id, rank, dataset, schema, stype_in, symbols, starts_ns, ends_ns,"
        " estimated_records) VALUES %s",
        [
            (
                backfill_id,
                rank,
                part.request.dataset,
                part.request.schema,
                part.request.stype_in,
                list(part.request.symbols),
                part.request.start_ns,
                part.request.end_ns,
                part.estimated_records,
            )
            for rank, part in enumerate(asked.parts)
        ],
        page_size=1000,
    )
    return backfill_id


def shape_wants(estimated: Sequence[tuple[Want, Estimate]]) -> list[dict[str, Any]]:
    """What is wanted, as JSON."""
    return [
        {
            "dataset": want.dataset,
            "schema": want.schema,
            "stype_in": want.stype_in,
            "symbols": list(want.symbols),
            "start": rfc3339(want.windows[0][0]),
            "end": rfc3339(want.windows[-1][1]),
            "windows": len(want.windows),
            "records": estimate.records,
            "bytes": estimate.bytes,
            "cost_usd": estimate.usd,
            "sampled": estimate.sampled,
        }
        for want, estimate in estimated
    ]


def _ever_asked(database: Database) -> bool:
    return bool(database.rows("SELECT 1 FROM backfills WHERE origin <> 'repair' LIMIT 1"))


def _one_schema(
    schema: str, options: bool, start_ns: int, *, end_ns: int | None = None, minutes: int | None = None
) -> Question:
    stocks = () if options else (schema,)
    return Question(UNDERLYINGS, stocks, start_ns, end_ns, UNDERLYINGS, (schema,) if options else (), minutes)


def _staged(found: Wanted, stage: int) -> Wanted:
    return replace(found, wants=tuple(replace(want, stage=stage) for want in found.wants))


def _if_offered(question: Question, vendor: Vendor, settings: IngestionSettings) -> Wanted | None:
    """A market that lacks a schema, or some of the symbols, still has the rest."""
    try:
        return wanted(question, vendor, settings)
    except SchemaNotOffered:
        return None
    except InvalidQuestion as error:
        known = tuple(symbol for symbol in question.symbols if symbol not in error.unknown)
        if not known or known == question.symbols:
            return None
        return wanted(replace(question, symbols=known), vendor, settings)


def _by_stype(symbols: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    parents = tuple(symbol for symbol in symbols if symbol.endswith(".OPT"))
    others = tuple(symbol for symbol in symbols if not symbol.endswith(".OPT"))
    return [(stype_in, names) for stype_in, names in (("parent", parents), ("raw_symbol", others)) if names]
