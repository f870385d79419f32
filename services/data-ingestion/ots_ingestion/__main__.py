"""``python -m ots_ingestion worker | maintenance``."""

from __future__ import annotations

import argparse
import sys

import psycopg2

from ots_common import logs
from ots_common.database import connect
from ots_ingestion import worker
from ots_ingestion.settings import IngestionSettings


def main() -> int:
    """Run the command; one clear line on failure."""
    parser = argparse.ArgumentParser(prog="python -m ots_ingestion", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="store what the spool holds, until stopped")
    commands.add_parser("maintenance", help="one upkeep of the time tables: partitions ahead, retention, compression")
    arguments = parser.parse_args()
    settings = IngestionSettings()
    logs.configure(f"ingestion-{arguments.command}", level=settings.log_level, fmt=settings.log_format)
    if arguments.command == "worker":
        return worker.main(settings)
    try:
        connection = connect(settings.database_url.get_secret_value(), application="maintenance")
        for line in worker.maintain(connection):
            print(line)
    except psycopg2.Error as error:
        print(f"maintenance: {str(error).strip()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
