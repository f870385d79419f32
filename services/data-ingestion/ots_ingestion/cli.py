"""History and files by command: backfill, import, status, gaps, verify. They work at the database, not over HTTP."""

from __future__ import annotations

import argparse
import getpass
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2

from ots_common.database import Database, connect
from ots_common.problems import Problem
from ots_common.times import rfc3339, to_nanoseconds
from ots_ingestion import backfill_status, collection, gaps, runs
from ots_ingestion.backfiller import APPLICATION
from ots_ingestion.backfills import Asked, OverTheCap, ask
from ots_ingestion.dbn_file import InvalidDbnError, verify
from ots_ingestion.intake import check_source, take_in
from ots_ingestion.progress_line import ProgressLine, duration
from ots_ingestion.questions import InvalidQuestion, Question
from ots_ingestion.schemas_offered import SchemaNotOffered
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import Vendor, VendorError
from ots_ingestion.verification import check_backfill, compare_file

NAMES = frozenset({"backfill", "import", "status", "gaps", "verify"})
OK, FAILED, WRONG, UNAVAILABLE, REFUSED, TOO_COSTLY, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
_EXIT = """exit status: 0 it went well, 1 it failed or something is missing, 2 the question is wrong,
3 the database does not answer, 4 the vendor does not give it, 5 it costs more than was allowed"""
_BACKFILL = """examples:
  %(prog)s AAPL SPY --schemas ohlcv-1m --start 2024-03-01 --end 2024-04-01 --dry-run
      what it would bring and cost; nothing is bought
  %(prog)s AAPL SPY --schemas ohlcv-1m --start 2024-03-01 --end 2024-04-01 --max-cost-usd 2.50 --wait
      buy it if it costs no more than that, and show how far it is
  %(prog)s AAPL.OPT --schemas definition,cbbo-1m --start 2024-03-04 --closing-minutes 1 --max-cost-usd 1
      all options of AAPL: their definitions, and their quotes in the last minute of each session

The same question again goes on where it was. Without --max-cost-usd only what is free is asked for.

"""
_POLL_S = 0.5
_NOBODY_AFTER_S = 5.0
_ENDED = ("done", "failed", "cancelled")


def add_to(commands: Any) -> None:
    """Add them to argparse's subparsers."""

    def command(name: str, help_: str, epilog: str = "") -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(
            name,
            help=help_,
            description=help_,
            epilog=epilog + _EXIT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return parser

    backfill = command("backfill", "ask history for records, with the price first", _BACKFILL)
    backfill.add_argument(
        "symbols", nargs="+", metavar="SYMBOL", help="AAPL, AAPL.OPT (all its options), an OSI symbol"
    )
    backfill.add_argument("--schemas", default="", help="Databento's names, comma between: ohlcv-1d,ohlcv-1m,trades")
    backfill.add_argument("--start", required=True, help="2024-03-01, or 2024-03-01T14:30:00Z; inclusive")
    backfill.add_argument("--end", help="exclusive; default: up to what history has now")
    backfill.add_argument("--options-schemas", default="", help="also these, of all options of the symbols")
    backfill.add_argument("--closing-minutes", type=int, metavar="N", help="options' quotes: only before each close")
    backfill.add_argument("--max-cost-usd", type=float, metavar="USD", help="never spend more than that")
    backfill.add_argument("--dry-run", action="store_true", help="say what it would bring and cost, and stop")
    backfill.add_argument("--wait", action="store_true", help="stay and show how far it is")

    take = command("import", "store DBN files, each record once; real market only\n")
    take.add_argument("files", nargs="+", type=Path, metavar="FILE")
    take.add_argument("--no-wait", action="store_true", help="queue them and leave")

    command("status", "what is going on: collection, backfills, runs, gaps\n")

    ledger = command("gaps", "the gap ledger: what may be missing, and what became of it\n")
    ledger.add_argument("--all", action="store_true", help="closed ones too")
    ledger.add_argument("--dataset", help="EQUS.MINI, OPRA.PILLAR, ...")

    check = command(
        "verify",
        "compare files, or a backfill, with what is stored",
        "A file is walked from end to end and each of its records looked for in the database, by storing it and\n"
        "taking that back. Of a backfill the rows of each part are counted against the vendor's own count.\n\n",
    )
    check.add_argument("files", nargs="*", type=Path, metavar="FILE")
    check.add_argument("--backfill", type=UUID, metavar="ID")


def run(settings: IngestionSettings, arguments: argparse.Namespace) -> int:
    """Run the one that was named; on failure one clear line, and the exit status that says which kind."""
    commands: dict[str, Callable[[IngestionSettings, Database, argparse.Namespace], int]] = {
        "backfill": _backfill,
        "import": _import,
        "status": _status,
        "gaps": _gaps,
        "verify": _verify,
    }
    # of libraries about libraries: nothing that the user of a command could act on
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    database = Database(settings.database_url.get_secret_value(), application="ingestion-command", size=2)
    try:
        return commands[arguments.command](settings, database, arguments)
    except OverTheCap as error:
        return _say(arguments, f"{error}; {error.hint}", TOO_COSTLY)
    except VendorError as error:
        return _say(arguments, f"{error}; {error.hint}" if error.hint else str(error), REFUSED)
    except (InvalidQuestion, SchemaNotOffered) as error:
        return _say(arguments, str(error), WRONG)
    except Problem as error:
        return _say(arguments, f"{error.detail}; {error.hint}" if error.hint else error.detail, WRONG)
    except psycopg2.OperationalError as error:
        return _say(arguments, f"the database does not answer: {str(error).strip().splitlines()[0]}", UNAVAILABLE)
    except psycopg2.Error as error:
        return _say(arguments, str(error).strip().splitlines()[0], FAILED)
    except OSError as error:
        return _say(arguments, f"{error.strerror}: {error.filename}" if error.filename else str(error), FAILED)
    except KeyboardInterrupt:
        return _say(arguments, "interrupted; what was asked for goes on without this command", INTERRUPTED)
    finally:
        database.close()


def _say(arguments: argparse.Namespace, text: str, status: int) -> int:
    print(f"{arguments.command}: {text}", file=sys.stderr)
    return status


def _moment(text: str, name: str) -> int:
    try:
        return to_nanoseconds(text)
    except ValueError as error:
        raise InvalidQuestion(name, f"--{name}: {error}") from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


# --- backfill ---


def _backfill(settings: IngestionSettings, database: Database, arguments: argparse.Namespace) -> int:
    schemas, of_options = _names(arguments.schemas), _names(arguments.options_schemas)
    if not schemas and not of_options:
        raise InvalidQuestion("schemas", "name what is asked for: --schemas ohlcv-1d, --options-schemas cbbo-1m")
    cap = arguments.max_cost_usd
    if cap is not None and not 0 <= cap < math.inf:
        raise InvalidQuestion("max_cost_usd", "--max-cost-usd must be a number of dollars, 0 or more")
    minutes = arguments.closing_minutes
    if minutes is not None and not 1 <= minutes <= 390:
        raise InvalidQuestion("closing_minutes", "--closing-minutes must be from 1 to 390")
    start = _moment(arguments.start, "start")
    end = None if arguments.end is None else _moment(arguments.end, "end")
    if end is not None and start >= end:
        raise InvalidQuestion("end", "--end must be later than --start")
    question = Question(
        symbols=tuple(arguments.symbols),
        schemas=schemas,
        start_ns=start,
        end_ns=end,
        option_symbols=tuple(arguments.symbols) if of_options else (),
        option_schemas=of_options,
        closing_minutes=minutes,
    )
    asked = ask(
        database,
        Vendor(settings),
        settings,
        question,
        user=f"cli:{getpass.getuser()}",
        max_cost_usd=cap,
        dry_run=arguments.dry_run,
    )
    _print_estimate(asked)
    if asked.backfill_id is None:
        return OK
    print(f"backfill {asked.backfill_id}" + ("" if asked.created else " was asked for already and goes on"))
    return _wait_for(database, asked.backfill_id) if arguments.wait else OK


def _print_estimate(asked: Asked) -> None:
    for want, estimate in asked.estimated:
        about = "about " if estimate.sampled else ""
        symbols = ", ".join(want.symbols[:5]) + (f" and {len(want.symbols) - 5} more" if len(want.symbols) > 5 else "")
        print(
            f"{want.dataset} {want.schema} of {symbols}: {about}{estimate.records:,} records,"
            f" {estimate.bytes / 1e6:,.1f} MB, {estimate.usd:.4f} USD"
        )
    for note in asked.wanted.notes:
        print(f"note: {note}")
    total = asked.total
    print(f"in all {total.records:,} records, {total.usd:.4f} USD, in {len(asked.parts)} downloads")


def _wait_for(database: Database, backfill_id: UUID) -> int:
    line = ProgressLine(sys.stdout)
    began, warned = time.monotonic(), False
    while True:
        found = backfill_status.get_backfill(database, backfill_id)
        if found is None:
            raise InvalidQuestion("backfill", f"there is no backfill {backfill_id}")
        parts, cost = found["parts"], found["cost_usd"]["spent"]
        line.show(
            found["progress"],
            f"{parts['done']}/{parts['total']} parts, {found['records']['received']:,} records,"
            f" {found['bytes']['received'] / 1e6:,.1f} MB, {cost:.4f} USD, {duration(found['eta_s'])} left",
        )
        if found["status"] in _ENDED:
            line.end()
            return _report(found)
        if not warned and time.monotonic() - began > _NOBODY_AFTER_S and not _at_work(database, f"{APPLICATION}%"):
            line.end()
            print("no backfiller is at work: start one with python -m ots_ingestion backfiller", file=sys.stderr)
            warned = True
        time.sleep(_POLL_S)


def _report(found: dict[str, Any]) -> int:
    records = found["records"]
    print(
        f"{found['status']}: {records['received']:,} records received, {records['stored']:,} stored,"
        f" {records['duplicate']:,} were there already, {records['rejected']:,} rejected;"
        f" {found['cost_usd']['spent']:.4f} USD"
    )
    for error in found["errors"][:10]:
        print(f"  {error['schema']} {error['start']} to {error['end']}: {error['error']}", file=sys.stderr)
    if found["hint"]:
        print(f"  {found['hint']}", file=sys.stderr)
    return OK if found["status"] == "done" else FAILED


def _at_work(database: Database, application: str) -> bool:
    return bool(
        database.rows(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s LIMIT 1",
            (application,),
        )
    )


# --- import ---


def _import(settings: IngestionSettings, database: Database, arguments: argparse.Namespace) -> int:
    check_source(settings)
    worst = OK
    for path in arguments.files:
        try:
            with path.open("rb") as file:
                run_id = take_in(file, database, settings, f"cli:{getpass.getuser()}")
        except Problem as error:
            worst = _say(arguments, f"{path}: {error.detail}", FAILED)
            continue
        if arguments.no_wait:
            print(f"{path}: run {run_id} is queued")
        else:
            worst = max(worst, _follow(database, path, run_id))
    return worst


def _follow(database: Database, path: Path, run_id: UUID) -> int:
    line = ProgressLine(sys.stdout)
    began, warned = time.monotonic(), False
    while True:
        run = runs.get_run(database, run_id)
        if run is None:
            raise InvalidQuestion("run", f"there is no run {run_id}")
        line.show(run["read"] / max(1, run["total"]), f"{path.name}: {run['read']:,} of {run['total']:,} records")
        if run["status"] in _ENDED:
            line.end()
            break
        if not warned and time.monotonic() - began > _NOBODY_AFTER_S and not _at_work(database, "ingestion-worker"):
            line.end()
            print("no worker is at work: start one with python -m ots_ingestion worker", file=sys.stderr)
            warned = True
        time.sleep(_POLL_S / 5)
    counts = ", ".join(f"{run[name]:,} {name}" for name in ("stored", "revised", "duplicate", "rejected", "control"))
    print(f"{path}: {run['status']}, {counts}" + (f": {run['error']}" if run["error"] else ""))
    return OK if run["status"] == "done" and not run["rejected"] else FAILED


# --- status and gaps ---


def _status(settings: IngestionSettings, database: Database, _arguments: argparse.Namespace) -> int:
    print(f"market source: {settings.market_source}")
    for one in collection.status(database):
        late = f", {one['lag_ms'] / 1000:.1f} s behind" if one["lag_ms"] is not None else ""
        reason = f" ({one['reason']})" if one["reason"] else ""
        print(f"collection of {one['dataset']}: {one['state']}{reason}, {one['records']:,} records{late}")
    for row in backfill_status.list_backfills(database, None, 10):
        one = backfill_status.shape(row)
        left = f", {duration(one['eta_s'])} left" if one["eta_s"] is not None else ""
        wrong = f": {one['error']}" if one["error"] else ""
        print(f"backfill {one['id']}: {one['status']}, {one['progress']:.0%}{left}{wrong}")
    waiting = database.rows(
        "SELECT status, count(*), sum(total - records_done) FROM runs WHERE status IN ('queued', 'running')"
        " GROUP BY status ORDER BY status"
    )
    for state, number, records in waiting:
        print(f"runs {state}: {number}, {int(records):,} records to go")
    failed = database.rows("SELECT count(*) FROM runs WHERE status = 'failed'")[0][0]
    open_ = database.rows("SELECT count(*) FROM gaps WHERE closed_at IS NULL")[0][0]
    letters = database.rows("SELECT coalesce(sum(number), 0) FROM dead_letters WHERE replayed_at IS NULL")[0][0]
    print(f"runs failed: {failed}; gaps open: {open_}; records in dead letters: {letters}")
    return OK


def _gaps(_settings: IngestionSettings, database: Database, arguments: argparse.Namespace) -> int:
    with database.connection() as connection, connection.cursor() as cursor:
        found = gaps.gaps_page(
            cursor,
            dataset=arguments.dataset,
            schema=None,
            symbols=None,
            state="all" if arguments.all else "open",
            start_ns=0,
            end_ns=2**63 - 1,
            after=None,
            limit=1000,
        )
    for gap in found:
        end = "now" if gap.ends_ns is None else rfc3339(gap.ends_ns)
        state = f"closed by {gap.closed_by}, {gap.found:,} found" if gap.closed_at else "open"
        note = f"; {gap.repair_note}" if gap.repair_note else ""
        print(
            f"{gap.gap_id}: {rfc3339(gap.starts_ns)} to {end} {gap.dataset} {gap.schema} {gap.symbol or 'all'}:"
            f" {gap.evidence} ({gap.detail}); {state}{note}"
        )
    if not found:
        print("no gaps" if arguments.all else "no open gaps")
    return OK


# --- verify ---


def _verify(settings: IngestionSettings, database: Database, arguments: argparse.Namespace) -> int:
    if bool(arguments.files) == (arguments.backfill is not None):
        raise InvalidQuestion("files", "name files, or --backfill ID, one of the two")
    connection = connect(settings.database_url.get_secret_value(), application="verify")
    try:
        if arguments.backfill:
            return _verify_backfill(database, connection, arguments.backfill)
        return max(_verify_file(settings, connection, path) for path in arguments.files)
    finally:
        connection.close()


def _verify_file(settings: IngestionSettings, connection: Any, path: Path) -> int:
    try:
        walked = verify(path, max_decompressed_bytes=settings.max_decompressed_bytes)
    except InvalidDbnError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return FAILED
    found = compare_file(connection, path)
    reasons = "".join(f", {number:,} cannot be stored ({reason})" for reason, number in sorted(found.reasons.items()))
    print(
        f"{path}: whole, {walked.records:,} records of {walked.header.dataset} {walked.header.schema or 'mixed'};"
        f" {found.there:,} are stored, {found.missing:,} are missing, {found.different:,} differ{reasons}"
    )
    return OK if found.same else FAILED


def _verify_backfill(database: Database, connection: Any, backfill_id: UUID) -> int:
    found = backfill_status.get_backfill(database, backfill_id)
    if found is None:
        raise InvalidQuestion("backfill", f"there is no backfill {backfill_id}")
    checks = check_backfill(connection, backfill_id)
    for check in checks:
        if not check.whole:
            print(
                f"{check.schema} of {', '.join(check.symbols[:5])} from {rfc3339(check.starts_ns)} to"
                f" {rfc3339(check.ends_ns)}: {check.expected:,} records are expected, {check.rows:,} are there",
                file=sys.stderr,
            )
    lacking = sum(not check.whole for check in checks)
    print(
        f"backfill {backfill_id} is {found['status']}: {len(checks)} of {found['parts']['total']} parts are done,"
        f" {lacking} of them lack records; {sum(c.expected for c in checks):,} records expected,"
        f" {sum(c.rows for c in checks):,} rows there"
    )
    return OK if not lacking and len(checks) == found["parts"]["total"] else FAILED
