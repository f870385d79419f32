"""The processes of ingestion, and the commands of whoever runs it; ``COMMAND --help`` says how each is used."""

from __future__ import annotations

import argparse
import sys

import psycopg2
from pydantic import ValidationError

from ots_common import logs, process
from ots_common.database import connect
from ots_ingestion import backfiller, cli, collector, commands, retention, worker
from ots_ingestion.settings import IngestionSettings

# what runs until it is stopped
_LASTING = frozenset({"worker", "collector", "backfiller"})


def main() -> int:
    """Run the command; one clear line on failure."""
    parser = argparse.ArgumentParser(prog="python -m ots_ingestion", description=__doc__)
    subcommands = parser.add_subparsers(dest="command", required=True)
    subcommands.add_parser("worker", help="store what the spool holds, until stopped")
    subcommands.add_parser("collector", help="collect live what is wanted, until stopped")
    subcommands.add_parser("backfiller", help="download the history that is asked for, until stopped")
    subcommands.add_parser(
        "maintenance", help="one upkeep of the time tables: partitions ahead, retention, compression"
    )
    commands.add_to(subcommands)
    cli.add_to(subcommands)
    arguments = parser.parse_args()
    try:
        settings = IngestionSettings()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        print(f"{arguments.command}: the environment is not complete: {wrong}", file=sys.stderr)
        return 2
    # a command's own lines are what its user reads
    level = "WARNING" if arguments.command in cli.NAMES and settings.log_level == "INFO" else settings.log_level
    logs.configure(f"ingestion-{arguments.command}", settings, level=level)
    if arguments.command in _LASTING:
        process.begin(f"ingestion-{arguments.command}", settings)
    if arguments.command in cli.NAMES:
        return cli.run(settings, arguments)
    if arguments.command == "worker":
        return worker.main(settings)
    if arguments.command == "collector":
        return collector.main(settings)
    if arguments.command == "backfiller":
        return backfiller.main(settings)
    if arguments.command in commands.NAMES:
        return commands.run(settings, arguments)
    try:
        connection = connect(settings.database_url.get_secret_value(), application="maintenance")
        for line in retention.maintain(connection):
            print(line)
    except psycopg2.Error as error:
        print(f"maintenance: {str(error).strip()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
