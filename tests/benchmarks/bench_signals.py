"""From the close of a minute bar to the commit of what was decided about it, at 1x of the simulated market.

    python tests/benchmarks/bench_signals.py [--minutes 30] [--warm 6] [--dsn postgresql://...]

A platform of its own, as ``./start-dev.sh`` starts it (nine underlyings, twelve strategies, no monitoring), or with
``--dsn`` (the owner's, of the market database) one that runs already. After ``--warm`` minutes a connection of its own
asks every few milliseconds how far each underlying is decided and how far the feed is stored. So each latency contains
the feed, the collector, the storing, the worker, analytics and up to one interval of the watcher: never less than the
truth, as far as the clock of this machine is the market's.

* all: every minute of every underlying; at bars: those at which strategies look (each fifth), the rest costs nothing;
* stored: until the feed's data up to the close were stored, which is not the worker's part; own: from then on;
* recorded: signals and abstentions alone, by the times in the ledger.

Exits with 1 when the 99 % point of all is above the floor of 1 s, or a minute was not decided.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from harness import versions  # noqa: E402

# isort: split
import numpy as np  # noqa: E402

from ots_common.database import connect  # noqa: E402
from ots_market.timeframes import MINUTE_NS  # noqa: E402
from ots_native.platform import Platform  # noqa: E402
from ots_native.settings import Ports  # noqa: E402
from places import ROOT  # noqa: E402

WATCH_S = 0.005
FLOOR_S, GOAL_S = 1.0, 0.25
SECOND = 1_000_000_000
_POSITIONS = "SELECT underlying, event_ns FROM signal_cursors"
_STORED = """
    SELECT min(newest) FROM (SELECT max(last_ns) AS newest FROM collection_schemas GROUP BY dataset) AS feeds
"""
_RECORDED = """
    SELECT event_ns, committed_ns FROM signal_ledger WHERE kind <> 'outcome' AND mode = 'live' AND event_ns > %s
"""


@dataclass
class Watched:
    """(underlying, close of a minute) -> when it was seen to be decided; close -> when its data were seen stored."""

    decided: dict[tuple[str, int], int] = field(default_factory=dict)
    stored: dict[int, int] = field(default_factory=dict)
    skipped: int = 0


def watch(dsn: str, minutes: float) -> Watched:
    """Look for so long."""
    seen = Watched()
    with closing(connect(dsn, application="bench-signals")) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(_POSITIONS)
        positions: dict[str, int] = dict(cursor.fetchall())
        ends = time.monotonic() + minutes * 60
        while time.monotonic() < ends:
            cursor.execute(_STORED)
            (stored_ns,) = cursor.fetchone() or (None,)
            now = time.time_ns()
            if stored_ns is not None:
                seen.stored.setdefault(stored_ns // MINUTE_NS * MINUTE_NS, now)
            cursor.execute(_POSITIONS)
            for underlying, event_ns in cursor.fetchall():
                if event_ns != positions.get(underlying, event_ns):
                    seen.decided[underlying, event_ns] = time.time_ns()
                    seen.skipped += (event_ns - positions[underlying]) // MINUTE_NS - 1
                positions[underlying] = event_ns
            time.sleep(WATCH_S)
    return seen


def points(seconds: Any) -> str:
    """Count, median, 99 % point and the largest."""
    values = np.array(list(seconds))
    if not len(values):
        return "none"
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return (
        f"{len(values):6d}   p50 {p50 * 1000:8.1f} ms   p99 {p99 * 1000:8.1f} ms   most {values.max() * 1000:8.1f} ms"
    )


@contextmanager
def platform(folder: Path) -> Iterator[str]:
    """The owner's DSN of a platform that runs."""
    made = Platform(
        ROOT, state=folder / "state", env_file=folder / "env", ports=Ports.free(),
        environment={**os.environ, "MARKET_SOURCE": "simulated", "OTS_MONITORING": "off"}, ready_timeout_s=600,
        say=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    try:
        made.up()
        password = made.settings.values["DB_PASSWORD_OWNER"]
        yield f"postgresql://ots:{password}@127.0.0.1:{made.settings.ports.postgres}/{made.settings.market_database}"
    finally:
        made.reset()


def measure(dsn: str, warm: float, minutes: float) -> int:
    """Print what was seen; the exit code."""
    print(f"{versions('numpy', 'psycopg2-binary')}; {os.cpu_count()} cores; warm {warm:g} min, watched {minutes:g} min")
    time.sleep(warm * 60)
    began = time.time_ns()
    seen = watch(dsn, minutes)
    latency = {key: (at - key[1]) / SECOND for key, at in seen.decided.items()}
    known = {key: seen.stored[key[1]] for key in latency if key[1] in seen.stored}
    print(f"all        {points(latency.values())}")
    print(f"at bars    {points(value for key, value in latency.items() if key[1] % (5 * MINUTE_NS) == 0)}")
    print(f"stored     {points((at - key[1]) / SECOND for key, at in known.items())}")
    print(f"own        {points(max(0, seen.decided[key] - at) / SECOND for key, at in known.items())}")
    with closing(connect(dsn, application="bench-signals")) as connection, connection.cursor() as cursor:
        cursor.execute(_RECORDED, (began,))
        print(f"recorded   {points((committed - event) / SECOND for event, committed in cursor.fetchall())}")
    print(f"minutes that were not seen: {seen.skipped}")
    p99 = float(np.quantile(np.array(list(latency.values()) or [np.inf]), 0.99))
    print(f"p99 {p99:.3f} s: floor {FLOOR_S:g} s {'kept' if p99 <= FLOOR_S else 'MISSED'}, goal {GOAL_S:g} s "
          f"{'kept' if p99 <= GOAL_S else 'missed'}")  # fmt: skip
    return 0 if p99 <= FLOOR_S and not seen.skipped else 1


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm", type=float, default=6.0)
    parser.add_argument("--dsn")
    arguments = parser.parse_args()
    if arguments.dsn:
        return measure(arguments.dsn, arguments.warm, arguments.minutes)
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder)) as dsn:
        return measure(dsn, arguments.warm, arguments.minutes)


if __name__ == "__main__":
    sys.exit(main())
