"""``python -m ots_signals replay``: decide about stored sessions, minute by minute, and find out what became of it.

The same code as the worker's, over what is stored and in this process; all of it is in mode ``replay``. What the ledger
has already is not added again, so that it may be repeated, and be killed at any moment.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date

from pydantic import ValidationError

from ots_common import process
from ots_common.database import Database, connect
from ots_market.timeframes import Timeframe
from ots_signals import ledger
from ots_signals.code_version import code_version
from ots_signals.deciding import Decider
from ots_signals.engine import session_index
from ots_signals.resolutions import Resolutions
from ots_signals.settings import SignalsSettings
from ots_signals.stored_market import StoredMarket
from ots_signals.strategies import registered


@dataclass
class Replayed:
    """How much was done."""

    minutes: int = 0
    signals: int = 0
    abstentions: int = 0
    outcomes: int = 0


def replay(
    settings: SignalsSettings, first: date, last: date, underlyings: Sequence[str], *, final: bool = True
) -> Replayed:
    """Decide about the sessions of [first, last] that are stored, and resolve. ``final``: nothing more will be stored.

    Raises what the database and the market raise.
    """
    dsn = settings.database_url.get_secret_value()
    database = Database(dsn, application="signals-replay", size=4)
    market = StoredMarket(database, source=settings.market_source, calendar=settings.market_calendar, final=final)
    strategies = [strategy() for strategy in registered().values()]
    resolutions = Resolutions(dsn, database, market, time.time_ns, on_added=lambda _entry: None)
    done = Replayed()
    days = sorted({day for name in underlyings for day in market.stored_sessions(name, first, last)})
    with closing(connect(dsn, application="signals-replay")) as connection:
        for day in days:
            # each session knows what had become of those before, and nothing of its own
            decider = Decider(
                market,
                strategies,
                database,
                code_version=settings.code_version or code_version(),
                late_ns=-(2**63),
                now=time.time_ns,
            )
            index = session_index(market.sessions, day)
            for underlying in underlyings:
                closes_ns = int(market.sessions.closes[index])
                bars = market.bars(underlying, Timeframe.M1, day, 0, closes_ns)
                for at_ns in bars.known_at.tolist():
                    decided = decider.decide(underlying, index, at_ns)
                    done.minutes += 1
                    if not decided:
                        continue
                    decided_ns = time.time_ns()
                    with connection:
                        added = ledger.append(connection, [(one, decided_ns) for one in decided], time.time_ns)
                    done.signals += sum(entry.kind == "signal" for entry in added)
                    done.abstentions += sum(entry.kind == "abstention" for entry in added)
            done.outcomes += resolutions.resolve(int(market.sessions.closes[index]))
    database.close()
    return done


def main(argv: Sequence[str]) -> int:
    """Replay from the environment's database; one clear line on failure."""
    parser = argparse.ArgumentParser(
        prog="python -m ots_signals replay", description="Decide about stored sessions as the worker would have."
    )
    parser.add_argument("--start", type=date.fromisoformat, required=True, help="first session, YYYY-MM-DD")
    parser.add_argument("--end", type=date.fromisoformat, required=True, help="last session")
    parser.add_argument("--underlying", action="append", help="one of them; default: those of the settings")
    arguments = parser.parse_args(argv)
    try:
        settings = SignalsSettings()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        print(f"replay: the environment is not complete: {wrong}", file=sys.stderr)
        return 2
    if arguments.start > arguments.end:
        print("replay: --start must not be after --end", file=sys.stderr)
        return 2
    process.begin("signals-replay", settings)
    done = replay(settings, arguments.start, arguments.end, arguments.underlying or settings.underlyings)
    print(
        f"{done.minutes} minutes: {done.signals} signals and {done.abstentions} abstentions added,"
        f" {done.outcomes} outcomes"
    )
    return 0
