"""``python -m ots_ingestion worker | collector | maintenance | retention | replay-dead-letters``."""

from __future__ import annotations

import argparse
import sys

import psycopg2

from ots_common import logs
from ots_common.database import connect
from ots_ingestion import backfiller, collector, commands, retention, worker
from ots_ingestion.settings import IngestionSettings


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
    arguments = parser.parse_args()
    settings = IngestionSettings()
    logs.configure(f"ingestion-{arguments.command}", level=settings.log_level, fmt=settings.log_format)
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
