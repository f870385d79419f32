"""The processes of analytics beside its web service; ``COMMAND --help`` says how each is used."""

from __future__ import annotations

import argparse
import sys

from pydantic import ValidationError

from ots_analytics.settings import AnalyticsSettings
from ots_common import process
from ots_quant.warm import warm


def main() -> int:
    """Run the command; one clear line on failure."""
    parser = argparse.ArgumentParser(prog="python -m ots_analytics", description=__doc__)
    subcommands = parser.add_subparsers(dest="command", required=True)
    command = subcommands.add_parser("snapshots", help="store snapshots of implied volatility, until stopped")
    command.add_argument("--once", action="store_true", help="only what is due now")
    arguments = parser.parse_args()
    try:
        settings = AnalyticsSettings()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        print(f"{arguments.command}: the environment is not complete: {wrong}", file=sys.stderr)
        return 2
    process.begin(f"analytics-{arguments.command}", settings)
    # the web service, which starts at the same moment, compiles them from the other end; their users are imported after
    warm(backwards=True)
    from ots_analytics import snapshots

    return snapshots.main(settings, once=arguments.once)


if __name__ == "__main__":
    sys.exit(main())
