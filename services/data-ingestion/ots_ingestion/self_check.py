"""The self-check: are the rows that are stored those that were counted when they were stored?

What is compared is exact at every moment, because rows and their count are one transaction: for each table, dataset,
schema and day the number of rows and a checksum of all their values (:mod:`ots_ingestion.row_ledger`). Duplicates and
rejected records are no rows; a revised bar replaces its count; what retention dropped is counted as dropped; what still
lies in a spool is neither stored nor counted. Bars that were built from trades are compared with what the stored trades
make.

A check reads a stretch (a chunk of a table) at a time: first those that differed before, then those that changed since
they were compared, up to SELF_CHECK_ROWS, and then some of the others, those longest not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime

from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import Json

from ots_common.database import Connection
from ots_ingestion.retention import upkeep_lease

TABLES = ("trades", "quotes", "statistics", "definitions", "bars_1m", "bars_1h", "bars_1d")
# of the rows that a check may read, so many go to stretches that have not changed
_SAMPLE = 0.1
# whoever waits for a table's lock has others waiting behind
_LOCK_TIMEOUT = "5s"
_MOST_LISTED = 200

_DUE = """
    WITH said AS (
        SELECT s.table_name, coalesce((chunk_start(t.chunk, s.day AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')::date,
                   '1970-01-01') AS starts, sum(s.rows)::bigint AS rows, sum(s.changes)::bigint AS changes
        FROM stored_rows s LEFT JOIN time_tables t USING (table_name) GROUP BY 1, 2
    ), made AS (
        SELECT DISTINCT t.table_name, (chunk_start(t.chunk, c.starts) AT TIME ZONE 'UTC')::date AS starts
        FROM time_tables t, list_chunks(t.table_name) c WHERE t.table_name = ANY(%s)
    )
    SELECT table_name, starts, coalesce(rows, 0), coalesce(said.changes, 0),
        CASE WHEN chunk IS NULL THEN '-infinity' ELSE (starts::timestamp AT TIME ZONE 'UTC')::text END,
        CASE WHEN chunk IS NULL THEN 'infinity' ELSE ((starts + chunk) AT TIME ZONE 'UTC')::text END,
        coalesce(jsonb_array_length(k.differences) > 0, false) AS differed,
        coalesce(said.changes, 0) <> coalesce(k.changes, 0) AS changed
    FROM said FULL JOIN made USING (table_name, starts) LEFT JOIN time_tables USING (table_name)
        LEFT JOIN self_check_stretches k USING (table_name, starts)
    ORDER BY differed DESC, changed DESC, k.checked_at NULLS FIRST, starts DESC, table_name
"""


@dataclass(frozen=True)
class Stretch:
    """A chunk of a table: all its rows from ``since`` to before ``until`` (PostgreSQL's own text)."""

    table: str
    starts: date
    rows: int
    changes: int
    since: str
    until: str
    differed: bool
    changed: bool


@dataclass(frozen=True)
class Difference:
    """Where what is stored is not what was counted. ``day``: None for bars that are not what their trades make.

    ``altered``: 1 for a day that has as many rows as were counted but other values in them; of bars their number.
    """

    table: str
    dataset: str
    schema: str
    day: str | None
    counted: int | None
    stored: int | None
    missing: int
    surplus: int
    altered: int

    @property
    def rows(self) -> int:
        """By how many rows they differ."""
        return self.missing + self.surplus + self.altered


@dataclass(frozen=True)
class SchemaCheck:
    """What a check found of one dataset and schema; differences of earlier checks that still stand are counted."""

    dataset: str
    schema: str
    rows: int
    missing: int
    surplus: int
    altered: int

    @property
    def difference(self) -> int:
        """By how many rows what is stored differs from what was counted."""
        return self.missing + self.surplus + self.altered


@dataclass(frozen=True)
class Check:
    """A self-check. ``rows``: those that were compared; ``left_over``: changed stretches that were too many for it."""

    check_id: int
    started_at: datetime
    finished_at: datetime
    asked_by: str
    stretches: int
    left_over: int
    rows: int
    schemas: tuple[SchemaCheck, ...]
    differences: tuple[Difference, ...]

    @property
    def difference(self) -> int:
        """By how many rows what is stored differs from what was counted."""
        return sum(one.difference for one in self.schemas)


class CheckIsGoingOn(Exception):
    """Another process compares, or does the upkeep of the tables, at this moment."""


def check(
    connection: Connection, *, asked_by: str, most_rows: int, stopping: Callable[[], bool] = lambda: False
) -> Check:
    """Compare what is due, keep the result, and say it.

    Reads about ``most_rows`` rows and a tenth more, but always one stretch that changed and one that did not. Raises
    :class:`CheckIsGoingOn`, and what the database raises: then nothing of this check is kept but the stretches that
    were compared whole.
    """
    with upkeep_lease(connection) as ours:
        if not ours:
            raise CheckIsGoingOn("another process is at the upkeep of the tables")
        started_at = datetime.now(UTC)
        with connection, connection.cursor() as cursor:
            cursor.execute(_DUE, (list(TABLES),))
            due = [Stretch(*row) for row in cursor.fetchall()]
        taken, left_over = choose(due, most_rows)
        rows: Counter[tuple[str, str]] = Counter()
        done = 0
        for stretch in taken:
            if stopping():
                left_over += len(taken) - done
                break
            with connection, connection.cursor() as cursor:
                rows += _compare(cursor, stretch)
            done += 1
        with connection, connection.cursor() as cursor:
            return _keep(cursor, started_at, asked_by, done, left_over, rows)


def choose(due: Sequence[Stretch], most_rows: int) -> tuple[list[Stretch], int]:
    """Which of the stretches, in their order, one check compares; how many that changed are left to the next."""
    urgent = [stretch for stretch in due if stretch.differed or stretch.changed]
    others = [stretch for stretch in due if not (stretch.differed or stretch.changed)]
    taken = _up_to(urgent, most_rows)
    return [*taken, *_up_to(others, int(most_rows * _SAMPLE))], len(urgent) - len(taken)


def _up_to(stretches: Sequence[Stretch], rows: int) -> list[Stretch]:
    taken: list[Stretch] = []
    for stretch in stretches:
        if taken and rows < stretch.rows:
            break
        rows -= stretch.rows
        taken.append(stretch)
    return taken


def _compare(cursor: Cursor, stretch: Stretch) -> Counter[tuple[str, str]]:
    """Compare a stretch and note what was found, in the caller's transaction; the rows compared."""
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
    # one statement, so that both sides are of one moment
    cursor.execute(
        "SELECT dataset, schema, day, coalesce(said.rows, 0), coalesce(there.rows, 0),"
        " coalesce(said.checksum, 0) = coalesce(there.checksum, 0)"
        " FROM count_rows(%(table)s, %(since)s, %(until)s) AS there FULL JOIN (SELECT * FROM stored_rows"
        "  WHERE table_name = %(table)s AND day >= (%(since)s::timestamptz AT TIME ZONE 'UTC')::date"
        "  AND day < (%(until)s::timestamptz AT TIME ZONE 'UTC')::date) AS said USING (dataset, schema, day)"
        " ORDER BY day, dataset, schema",
        {"table": stretch.table, "since": stretch.since, "until": stretch.until},
    )
    rows: Counter[tuple[str, str]] = Counter()
    found = []
    for dataset, schema, day, counted, stored, same in cursor.fetchall():
        rows[dataset, schema] += stored
        if counted != stored or not same:
            missing, surplus = max(0, counted - stored), max(0, stored - counted)
            altered = int(counted == stored)
            found.append(
                Difference(stretch.table, dataset, schema, str(day), counted, stored, missing, surplus, altered)
            )
    if stretch.table == "trades":
        found += _wrong_minutes(cursor, stretch)
    cursor.execute(
        "INSERT INTO self_check_stretches AS k (table_name, starts, changes, checked_at, differences)"
        " VALUES (%s, %s, %s, now(), %s) ON CONFLICT (table_name, starts) DO UPDATE SET changes = excluded.changes,"
        " checked_at = excluded.checked_at, differences = excluded.differences",
        (stretch.table, stretch.starts, stretch.changes, Json([asdict(one) for one in found])),
    )
    return rows


def _wrong_minutes(cursor: Cursor, stretch: Stretch) -> list[Difference]:
    """Bars that are not what the trades of a stretch make; none where trades or bars of it were ever dropped."""
    cursor.execute(
        "SELECT dataset, missing, surplus, altered FROM count_wrong_minutes(%(since)s, %(until)s) WHERE NOT EXISTS ("
        " SELECT FROM stored_rows WHERE table_name IN ('trades', 'bars_1m') AND dropped_at IS NOT NULL"
        " AND day >= (%(since)s::timestamptz AT TIME ZONE 'UTC')::date"
        " AND day < (%(until)s::timestamptz AT TIME ZONE 'UTC')::date)",
        {"since": stretch.since, "until": stretch.until},
    )
    return [
        Difference("bars_1m", dataset, "ohlcv-1m", None, None, None, missing, surplus, altered)
        for dataset, missing, surplus, altered in cursor.fetchall()
    ]


def _keep(
    cursor: Cursor, started_at: datetime, asked_by: str, stretches: int, left_over: int, rows: Counter[tuple[str, str]]
) -> Check:
    differences = standing(cursor)
    totals: dict[tuple[str, str], SchemaCheck] = {
        (dataset, schema): SchemaCheck(dataset, schema, number, 0, 0, 0)
        for (dataset, schema), number in rows.items()
        if dataset
    }
    for one in differences:
        key = one.dataset, one.schema
        before = totals.get(key, SchemaCheck(*key, 0, 0, 0, 0))
        totals[key] = replace(
            before,
            missing=before.missing + one.missing,
            surplus=before.surplus + one.surplus,
            altered=before.altered + one.altered,
        )
    schemas = tuple(totals[key] for key in sorted(totals))
    listed = tuple(differences[:_MOST_LISTED])
    cursor.execute(
        "INSERT INTO self_checks (started_at, finished_at, asked_by, stretches, left_over, rows, missing, surplus,"
        " altered, schemas, differences) VALUES (%s, clock_timestamp(), %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " RETURNING check_id, finished_at",
        (
            started_at,
            asked_by,
            stretches,
            left_over,
            sum(rows.values()),
            sum(one.missing for one in schemas),
            sum(one.surplus for one in schemas),
            sum(one.altered for one in schemas),
            Json([asdict(one) for one in schemas]),
            Json([asdict(one) for one in listed]),
        ),
    )
    check_id, finished_at = cursor.fetchone() or (0, started_at)
    return Check(check_id, started_at, finished_at, asked_by, stretches, left_over, sum(rows.values()), schemas, listed)


def standing(cursor: Cursor) -> list[Difference]:
    """Every difference of the last comparison of each stretch."""
    cursor.execute(
        "SELECT d FROM self_check_stretches, jsonb_array_elements(differences) AS d ORDER BY starts, table_name, d"
    )
    return [Difference(**row[0]) for row in cursor.fetchall()]


def accept(connection: Connection) -> int:
    """Take what is stored as right where it differs from what was counted; how many stretches that were.

    For rows that were removed or put there on purpose. Bars that differ from their trades are not touched.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(_DUE, (list(TABLES),))
        differing = [stretch for stretch in (Stretch(*row) for row in cursor.fetchall()) if stretch.differed]
    for stretch in differing:
        with connection, connection.cursor() as cursor:
            # as a writer of that table: nothing is stored between counting and writing the count down
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('write ' || %s))", (stretch.table,))
            cursor.execute(
                "WITH there AS MATERIALIZED (SELECT * FROM count_rows(%(table)s, %(since)s, %(until)s)), gone AS ("
                " UPDATE stored_rows s SET rows = 0, checksum = 0, changes = changes + 1 WHERE table_name = %(table)s"
                " AND day >= (%(since)s::timestamptz AT TIME ZONE 'UTC')::date"
                " AND day < (%(until)s::timestamptz AT TIME ZONE 'UTC')::date AND NOT EXISTS (SELECT FROM there t"
                " WHERE (t.dataset, t.schema, t.day) = (s.dataset, s.schema, s.day)))"
                " INSERT INTO stored_rows AS r (table_name, dataset, schema, day, rows, checksum)"
                " SELECT %(table)s, dataset, schema, day, rows, checksum FROM there"
                " ON CONFLICT (table_name, dataset, schema, day) DO UPDATE SET rows = excluded.rows,"
                " checksum = excluded.checksum, changes = r.changes + 1",
                {"table": stretch.table, "since": stretch.since, "until": stretch.until},
            )
    return len(differing)


def checks_page(cursor: Cursor, *, before: int | None, limit: int) -> list[Check]:
    """At most ``limit`` checks, the newest first, before the id ``before``."""
    cursor.execute(
        "SELECT check_id, started_at, finished_at, asked_by, stretches, left_over, rows, schemas, differences"
        " FROM self_checks WHERE %(before)s::bigint IS NULL OR check_id < %(before)s ORDER BY check_id DESC"
        " LIMIT %(limit)s",
        {"before": before, "limit": limit},
    )
    found = []
    for row in cursor.fetchall():
        schemas = tuple(SchemaCheck(**one) for one in row[7])
        differences = tuple(Difference(**one) for one in row[8])
        found.append(Check(row[0], row[1], row[2], row[3], row[4], row[5], row[6], schemas, differences))
    return found


def table_of(found: Check) -> Iterable[str]:
    """A check in lines, for people."""
    yield f"{'dataset':<14} {'schema':<11} {'rows compared':>14} {'missing':>9} {'surplus':>9} {'altered':>9}"
    for one in found.schemas:
        yield (
            f"{one.dataset:<14} {one.schema:<11} {one.rows:>14,} {one.missing:>9,} {one.surplus:>9,} {one.altered:>9,}"
        )
    for difference in found.differences:
        where = f"{difference.table} {difference.dataset} {difference.schema}"
        if difference.day is None:
            yield f"  {where}: {difference.rows:,} bars are not what the stored trades make"
        else:
            yield f"  {where} of {difference.day}: {difference.counted:,} counted, {difference.stored:,} stored"
    seconds = (found.finished_at - found.started_at).total_seconds()
    more = f", {found.left_over} changed ones left to the next" if found.left_over else ""
    yield (
        f"{found.rows:,} rows of {found.stretches} stretches in {seconds:.1f} s{more}: "
        + (f"a difference of {found.difference:,} rows" if found.difference else "no difference")
    )
