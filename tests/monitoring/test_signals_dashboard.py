"""The signals dashboard's SQL over a ledger with decisions, outcomes and a revision, as the role that Grafana has."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest
from psycopg2.extras import RealDictCursor

from dashboard_support import asked, panel
from ots_common.database import Database
from ots_signals import cursors, ledger
from ots_signals.decisions import Mode
from ots_signals.outcomes import Barrier, Baseline
from signals_support import MINUTE, OPEN, abstention, outcome, signal

END = OPEN + 60 * MINUTE


@pytest.fixture(scope="module")
def rows(postgres, market):
    """A panel's rows as of a moment."""
    database = Database(market.signals, application="tests", size=1)
    first, second, third, fourth = signal(1), signal(2), signal(3), signal(70)
    replayed = signal(4, mode=Mode.REPLAY, strategy="gap_fill")
    known = Baseline(200, 0.6, -0.02, -0.03, 0.8, 200, 0.6, -0.02, 0.01)
    records = [
        first, second, third, replayed, fourth, abstention(5), abstention(6, strategy="gap_fill"),
        replace(outcome(first, net=0.04), baseline=known),
        outcome(second, net=-0.3, barrier=Barrier.STOP),
        outcome(second, 1, net=-0.1, barrier=Barrier.TIMEOUT),
    ]  # fmt: skip
    with database.connection() as connection:
        ledger.append(connection, [(record, END) for record in records], lambda: END)
    cursors.begin(database, ["SPY", "AAPL"], END)
    database.close()
    with closing(psycopg2.connect(postgres.url("ots_grafana", "grafana-password", market.name))) as connection:

        def ask(title, until):
            (target,) = panel("signals", title)["targets"]
            with connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
                cursor.execute(asked("signals", target["rawSql"], OPEN, until))
                return cursor.fetchall()

        yield ask


def test_by_strategy_what_was_decided_live_and_what_became_of_it(rows):
    found = {row.pop("strategy"): row for row in rows("By strategy", END)}
    assert found["opening_range"] == {
        "abstained": 1, "signals": 3, "days": 1, "waiting": 1, "target": 1, "stop": 0, "time": 1, "not filled": 0,
        "indeterminate": 0, "median net": pytest.approx(-0.03), "among matched random": 0.8,
    }  # fmt: skip
    # what was decided too late to be traded is not among them
    assert (found["gap_fill"]["signals"], found["gap_fill"]["abstained"]) == (0, 1)
    assert found["gap_fill"]["median net"] is None


def test_the_newest_decisions_say_what_they_cost_and_what_is_chance(rows):
    found = rows("Newest decisions", END)
    assert [row["event"] for row in found] == [(OPEN + n * MINUTE) / 1e6 for n in (6, 5, 4, 3, 2, 1)]
    assert [row["kind"] for row in found[:3]] == ["abstention", "abstention", "signal"]
    assert found[0]["why not"] == "spread_too_wide"
    assert found[0]["P target"] is None
    assert found[2]["mode"] == "replay"
    one = found[-1]
    assert one["recorded after"] == 59 * 60
    shown = [one[name] for name in ("spread", "P target", "in a fair market", "expected net", "from", "to")]
    assert shown == [0.0231, 0.61, 0.62, -0.028, -0.05, -0.006]
    # later than the range's end is nothing
    assert len(rows("Newest decisions", END + 60 * MINUTE)) == len(found) + 1


def test_how_far_each_is_decided(rows):
    assert [(row["underlying"], row["decided up to"]) for row in rows("How far each underlying is decided", END)] == [
        ("AAPL", END / 1e6), ("SPY", END / 1e6)
    ]  # fmt: skip
