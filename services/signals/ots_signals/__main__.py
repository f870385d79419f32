"""The processes and commands of signals beside its web service; ``COMMAND --help`` says how each is used."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module

from pydantic import ValidationError

from ots_common import process
from ots_common.database import connect
from ots_quant.warm import warm
from ots_signals.settings import SignalsSettings

_OWN = {
    "worker": "decide and resolve, until stopped",
    "verify": "whether every row of the ledger is as it was written",
}
# they have arguments of their own
_APART = {
    "replay": ("ots_signals.replay", "decide about stored sessions as the worker would have, and resolve"),
    "backtest": ("ots_signals.backtest", "strategies over stored data or a made market, as a report"),
    "lookahead": ("ots_signals.lookahead", "whether a strategy looks at what came later"),
    "selftest": ("ots_signals.selftest", "whether the statistics find what is there, and nothing else"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; one clear line on failure."""
    told = list(sys.argv[1:] if argv is None else argv)
    if told and told[0] in _APART:
        found: int = import_module(_APART[told[0]][0]).main(told[1:])
        return found
    parser = argparse.ArgumentParser(prog="python -m ots_signals", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, explained in {**_OWN, **{name: said for name, (_, said) in _APART.items()}}.items():
        commands.add_parser(name, help=explained)
    arguments = parser.parse_args(told)
    try:
        settings = SignalsSettings()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        print(f"{arguments.command}: the environment is not complete: {wrong}", file=sys.stderr)
        return 2
    if arguments.command == "verify":
        return _verify(settings)
    process.begin("signals-worker", settings)
    warm()  # before anything is decided: no decision waits for a compiler
    from ots_signals import worker

    return worker.main(settings)


def _verify(settings: SignalsSettings) -> int:
    """0 when it is whole, 1 when not, and which row it is."""
    from ots_signals import ledger

    with closing(connect(settings.database_url.get_secret_value(), application="signals-verify")) as connection:
        found = ledger.verify(connection)
    if found.fault is not None:
        print(f"row {found.fault.seq}: {found.fault.detail}")
        return 1
    print(f"{found.rows} rows are as they were written; the newest has the hash {found.head.hash}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
