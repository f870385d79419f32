"""What a backtest rests on, written down: the code, the libraries, the calendar and the state of every session's data.

Two runs with the same manifest and the same request have the same bytes; whoever finds other results sees here what was
different. No clock is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version

import numpy as np

from ots_common.database import Database
from ots_market.sessions import Sessions
from ots_market.versions import data_version
from ots_signals.canonical import digest
from ots_signals.code_version import code_version, sources_digest

_LIBRARIES = ("numpy", "scipy", "numba", "TA-Lib", "exchange_calendars", "psycopg2-binary")


@dataclass(frozen=True)
class SessionData:
    """``version``: of all that is stored of that session's time (`ots_market.versions`), or of a made market its name.

    Bars of the sessions before, which strategies look back to, are in versions of their own: ``earlier`` of a manifest.
    """

    session: str
    version: str


@dataclass(frozen=True)
class Manifest:
    """``source``: ``databento``, ``simulated`` or the name of a made market; ``invented``: prices nobody ever quoted.

    ``trials_before``: sets of parameters that had been tried on any data before, this run's apart; the statistics are
    deflated by them.
    """

    code_version: str
    sources: str
    libraries: dict[str, str]
    source: str
    invented: bool
    calendar: str
    earlier: str
    data: tuple[SessionData, ...]
    trials_before: int

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        return digest(self)


def libraries() -> dict[str, str]:
    """The versions of those that numbers depend on."""
    return {name: version(name) for name in _LIBRARIES}


def stored_data(
    database: Database, calendar: Sessions, sessions: Sequence[date], history_ns: int
) -> tuple[str, tuple[SessionData, ...]]:
    """The version of what came before the first session, from ``history_ns`` on, and of each session."""
    rows = []
    first_ns = history_ns
    for k, session in enumerate(sessions):
        index = int(np.searchsorted(calendar.dates, np.datetime64(session)))
        opens_ns, closes_ns = int(calendar.opens[index]), int(calendar.closes[index])
        first_ns = opens_ns if k == 0 else first_ns
        rows.append(SessionData(str(session), data_version(database, since_ns=opens_ns, until_ns=closes_ns)))
    return data_version(database, since_ns=history_ns, until_ns=first_ns), tuple(rows)


def manifest_of(
    source: str,
    calendar: Sessions,
    data: tuple[str, tuple[SessionData, ...]],
    trials_before: int,
) -> Manifest:
    """Of this code in this process."""
    return Manifest(
        code_version=code_version(),
        sources=sources_digest(),
        libraries=libraries(),
        source=source,
        invented=source != "databento",
        calendar=calendar.name,
        earlier=data[0],
        data=data[1],
        trials_before=trials_before,
    )
