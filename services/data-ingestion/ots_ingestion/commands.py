"""Commands of an operator at the database: retention, the replay of dead letters, and the self-check."""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import Any

import psycopg2

from ots_common.database import Connection, connect
from ots_ingestion import dead_letters, retention, self_check
from ots_ingestion.settings import IngestionSettings

NAMES = frozenset({"retention", "replay-dead-letters", "self-check"})
_DIFFERS, _BUSY = 1, 3


def add_to(commands: Any) -> None:
    """Add them to argparse's subparsers."""
    replay = commands.add_parser("replay-dead-letters", help="store what could not be stored, where it can be now")
    replay.add_argument("--reason", help="only what was refused for this reason, such as unknown_instrument")
    check = commands.add_parser(
        "self-check",
        help="compare the rows that are stored with what was counted when they were; exit status 1: they differ",
    )
    check.add_argument("--all", action="store_true", help="everything; otherwise what an hourly check compares")
    check.add_argument(
        "--accept", action="store_true", help="take what is stored as right where the last check found a difference"
    )
    keep = commands.add_parser("retention", help="for how long collected records are kept; imports are exempt")
    actions = keep.add_subparsers(dest="action", required=True)
    actions.add_parser("show", help="every table and how long it keeps what was collected")
    change = actions.add_parser("set", help="retention set quotes 30d | retention set quotes off")
    change.add_argument("table", help="trades, quotes, bars_1m, ...")
    change.add_argument("period", help="30d, or off to keep for ever")


def run(settings: IngestionSettings, arguments: argparse.Namespace) -> int:
    """Run the one that was named; 0, or 1 with one clear line."""
    try:
        connection = connect(settings.database_url.get_secret_value(), application=arguments.command)
        try:
            if arguments.command == "replay-dead-letters":
                print(_replayed(dead_letters.replay(connection, reason=arguments.reason)))
                return 0
            if arguments.command == "self-check":
                return _self_check(connection, settings, arguments)
            if arguments.action == "set":
                retention.set_retention(connection, arguments.table, retention.parse_period(arguments.period))
            for entry in retention.read_retention(connection):
                print(entry)
        finally:
            connection.close()
    except (psycopg2.Error, ValueError) as error:
        print(f"{arguments.command}: {str(error).strip()}", file=sys.stderr)
        return 1
    return 0


def _self_check(connection: Connection, settings: IngestionSettings, arguments: argparse.Namespace) -> int:
    asked_by = f"cli:{getpass.getuser()}"
    if arguments.accept:
        number = self_check.accept(connection)
        print(f"what is stored in {number} stretches is taken as right")
    most = sys.maxsize if arguments.all else settings.self_check_rows
    try:
        found = self_check.check(connection, asked_by=asked_by, most_rows=most)
    except self_check.CheckIsGoingOn as error:
        print(f"self-check: {error}; try again soon", file=sys.stderr)
        return _BUSY
    for line in self_check.table_of(found):
        print(line)
    return _DIFFERS if found.difference else 0


def _replayed(done: dead_letters.Replayed) -> str:
    left = ", ".join(f"{number} {reason}" for reason, number in sorted((done.reasons or {}).items()))
    return (
        f"{done.letters} letters: {done.stored} records stored, {done.duplicate} were stored already,"
        f" {done.remaining} remain" + (f" ({left})" if left else "")
    )
