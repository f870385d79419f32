"""However many venues have a bar of a minute, so many minutes are read as are asked for, from either end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ots_market.bars import read_bars
from ots_market.sessions import around_the_clock
from ots_market.timeframes import MINUTE_NS, Timeframe

FIRST = datetime(2026, 3, 11, 12, 0, tzinfo=UTC)
START = int(FIRST.timestamp()) * 10**9
VENUES = {
    "one": [1] * 8,
    "two": [2] * 8,
    "mixed": [1, 1, 3, 1, 2, 1, 1, 1],
    "last": [1] * 7 + [2],
    "first": [2] + [1] * 7,
}


@pytest.fixture(scope="module")
def instruments(market):
    found = {}
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT open_chunks('bars_1m', ARRAY[%s], true)", (FIRST,))
        for name, counts in VENUES.items():
            cursor.execute(
                "INSERT INTO instruments (dataset, raw_symbol, underlying) VALUES ('X', %s, %s)"
                " RETURNING instrument_id",
                (name.upper(), name.upper()),
            )
            (found[name],) = cursor.fetchone()
            for minute, venues in enumerate(counts):
                for venue in range(venues):
                    cursor.execute(
                        "INSERT INTO bars_1m VALUES (%s, %s, %s, 1, 1, 1, 1, %s, 'v')",
                        (found[name], FIRST + timedelta(minutes=minute), venue, 10 + minute),
                    )
    return found


@pytest.mark.parametrize("newest", [True, False])
@pytest.mark.parametrize("name", VENUES)
def test_so_many_minutes_as_are_asked_for(market, instruments, name, newest):
    counts = VENUES[name]
    for limit in range(1, 10):
        for minutes in (8, 5):  # up to the end of what is stored, and before it
            bars = read_bars(
                market.database, instruments[name], Timeframe.M1, around_the_clock(),
                start_ns=START, end_ns=START + minutes * MINUTE_NS, as_of_ns=START + 60 * MINUTE_NS, limit=limit,
                newest=newest,
            )  # fmt: skip
            there = list(range(minutes))
            chosen = there[-limit:] if newest else there[:limit]
            np.testing.assert_array_equal(bars.starts, [START + i * MINUTE_NS for i in chosen])
            assert bars.publishers.tolist() == [counts[i] for i in chosen]
            assert bars.volume.tolist() == [counts[i] * (10 + i) for i in chosen]
