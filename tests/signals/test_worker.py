"""What the worker does with failures, with what is in time and what is late, and with data that come later."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import date

import numpy as np
import psycopg2
import pytest
from prometheus_client import REGISTRY

from data_ingestion_support import Ingestion, settings_for
from ots_common.database import Database, connect
from ots_common.times import NS_PER_S
from ots_signals import cursors, ledger, metrics
from ots_signals.decisions import Mode
from ots_signals.market_view import NotYet
from ots_signals.outcomes import Barrier
from ots_signals.stored_market import StoredMarket
from ots_signals.windows import Windows
from seeded_market import DAY, HOUR, MINUTE, OPTIONS, TODAY, make_market
from signals_worker_support import BEGIN, UNDERLYINGS, Broken, Often, make_worker, settings_of, store_market
from volatility_support import import_records

HOLE = (BEGIN + 30 * MINUTE, BEGIN + 40 * MINUTE)
END = BEGIN + HOUR


@pytest.fixture(scope="module")
def service(market, redis_server, tmp_path_factory):
    """An hour, of whose options ten minutes are not there yet."""
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    store_market(market, service, quotes_to=HOLE[0])
    with service.working():
        import_records(service, make_market(), OPTIONS, "cbbo-1m", TODAY, HOLE[1], END, UNDERLYINGS)
    return service


@pytest.fixture(scope="module")
def database(market, service):
    pool = Database(market.signals, application="tests", size=2)
    cursors.begin(pool, UNDERLYINGS, BEGIN)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def connection(market, service):
    with closing(connect(market.signals, application="tests")) as found:
        yield found


class Restless:
    """A market that cannot tell yet, so often."""

    def __init__(self, view, times):
        self.view, self.times = view, times

    def __getattr__(self, name):
        return getattr(self.view, name)

    def chain(self, underlying, at_ns):
        if self.times > 0:
            self.times -= 1
            raise NotYet("not yet")
        return self.view.chain(underlying, at_ns)


def worker_at(market, redis_server, strategies, *, view=None, now=None, **more):
    settings = settings_of(market, redis_server.url, retry_s=0.001, **more)
    made = make_worker(settings, strategies, over_http=False, view=view)
    if now is not None:
        made._now = made._decider._now = made._resolutions._now = now
    return made


def decide_until(worker, connection, database, until_ns):
    for _ in range(100_000):
        worker.decide_due(connection)
        if min(cursors.positions(database).values()) >= until_ns:
            return
    raise AssertionError("it does not go on")


def decisions(database, after=0):
    return [entry.record for entry in ledger.after(database, after, 10_000) if entry.kind != "outcome"]


def test_what_cannot_be_told_yet_is_asked_again_and_never_skipped(market, redis_server, database, connection):
    view = Restless(StoredMarket(database, source="simulated", calendar="around-the-clock"), times=40)
    worker = worker_at(market, redis_server, [Often()], view=view, decide_tries=2)
    decide_until(worker, connection, database, BEGIN + 10 * MINUTE)
    assert view.times == 0
    assert Counter(one.underlying for one in decisions(database)) == dict.fromkeys(UNDERLYINGS, 1)
    assert not [one for one in decisions(database) if getattr(one, "why", "") == "failed"]


def test_what_fails_every_time_becomes_an_abstention_and_stops_nobody(market, redis_server, database, connection):
    head = ledger.head(database).seq
    worker = worker_at(market, redis_server, [Broken(), Often()], decide_tries=3)
    decide_until(worker, connection, database, BEGIN + 20 * MINUTE)
    found = decisions(database, head)
    assert Counter((one.strategy, one.underlying) for one in found) == {
        (strategy, underlying): 1 for strategy in ("broken", "often") for underlying in UNDERLYINGS
    }
    broken = [one for one in found if one.strategy == "broken"]
    assert {(one.why, one.detail) for one in broken} == {("failed", "ZeroDivisionError: no such number")}
    assert {one.event_ns for one in broken} == {BEGIN + 20 * MINUTE}


def test_it_says_whether_it_was_in_time(market, redis_server, database, connection):
    head, now = ledger.head(database).seq, BEGIN + 30 * MINUTE + 2 * NS_PER_S
    worker = worker_at(market, redis_server, [Often()], now=lambda: now, settle_s=1, late_s=30)
    decide_until(worker, connection, database, BEGIN + 30 * MINUTE)
    assert {one.mode for one in decisions(database, head)} == {Mode.LIVE}
    later = ledger.head(database).seq
    # nothing that closes later is decided before it is closed
    assert worker.decide_due(connection) == 0
    worker = worker_at(market, redis_server, [Often()])
    decide_until(worker, connection, database, END)
    assert {one.mode for one in decisions(database, later)} == {Mode.REPLAY}


def test_nothing_is_resolved_before_all_that_its_matches_rest_on_has_happened(market, redis_server, database):
    """Else a baseline would depend on when one looked. A resolver that looks each minute finds the first then."""
    waiting = database.rows("SELECT count(*), min(settles_ns) FROM signal_resolutions WHERE revision < 0")
    ((count, settles_ns),) = waiting
    assert count > 0
    assert settles_ns > END + HOUR
    for now in (END + 2 * MINUTE, settles_ns - MINUTE):
        worker = worker_at(market, redis_server, [Often()], now=lambda now=now: now, settle_s=1)
        assert worker.resolve_due() == 0
    assert database.rows("SELECT count(*), min(settles_ns) FROM signal_resolutions WHERE revision < 0") == waiting


def test_late_data_add_a_revision_and_rewrite_nothing(market, redis_server, database, connection, service):
    worker = worker_at(market, redis_server, [Often()], now=lambda: (TODAY + 1) * DAY + HOUR, revise_sessions=2)
    worker.resolve_due()
    before = ledger.after(database, 0, 10_000)
    outcomes = {e.record.signal_id: e.record for e in before if e.kind == "outcome"}
    assert outcomes
    assert worker.revise_due() == 0
    with service.working():
        import_records(service, make_market(), OPTIONS, "cbbo-1m", TODAY, *HOLE, UNDERLYINGS)
    revised = worker.revise_due()
    after = ledger.after(database, 0, 10_000)
    assert after[: len(before)] == before
    new = [entry.record for entry in after[len(before) :]]
    assert len(new) == revised > 0
    assert {one.revision for one in new} == {1}
    for one in new:
        assert one.data_digest != outcomes[one.signal_id].data_digest
    assert {fill.barrier for one in new for fill in one.fills} <= set(Barrier)
    assert worker.revise_due() == 0
    assert worker.verify()


def test_a_session_begins_with_the_outcomes_of_those_before(market, redis_server, database, connection):
    worker = worker_at(market, redis_server, [Often()])
    sessions = worker._stored.sessions
    today = int(np.searchsorted(sessions.opens, TODAY * DAY, side="right")) - 1
    newest = [e.record for e in ledger.after(database, 0, 10_000) if e.kind == "outcome"]
    touched = {one.signal_id: one.fills[0] for one in newest}
    ended = sum(one.barrier in (Barrier.TARGET, Barrier.STOP, Barrier.TIMEOUT) for one in touched.values())
    opens = [int(sessions.opens[k]) for k in (today, today + 1)]
    known = [worker._decider._known(k).known("often", opens[k - today]).resolved for k in (today, today + 1)]
    assert known == [0, ended]
    assert ended > 0


def test_one_read_gives_every_window(service, database):
    stored = StoredMarket(database, source="simulated", calendar="around-the-clock")

    class Longer(Often):
        history_sessions = 3

    at_ns = BEGIN + 17 * MINUTE
    day = date(1970, 1, 1).fromordinal(date(1970, 1, 1).toordinal() + TODAY)
    windows = Windows(stored, [Often(), Longer()])
    for history in (0, 1, 3, 4):
        mine = windows.bars("AAPL", Often.timeframe, day, history, at_ns)
        theirs = stored.bars("AAPL", Often.timeframe, day, history, at_ns)
        for name in ("starts", "known_at", "open", "high", "low", "close", "volume", "session"):
            assert np.array_equal(getattr(mine, name), getattr(theirs, name))


def gauge(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


def test_it_shows_how_far_all_is_whoever_waits(market, redis_server, database, connection):
    """The cursor of one is set back, and nobody may try it before long; the other's is decided."""
    behind, other = UNDERLYINGS[:2]
    closed_ns = cursors.positions(database)[other]
    database.execute(
        "UPDATE signal_cursors SET event_ns = %s, retry_at = now() + interval '1 hour' WHERE underlying = %s",
        (closed_ns - 7 * MINUTE, behind),
    )
    try:
        worker = worker_at(market, redis_server, [], now=lambda: closed_ns + 2 * NS_PER_S, settle_s=1)
        assert worker.decide_due(connection) == 0
        worker.show()
        # the oldest minute that is not decided closed six minutes before the newest, which closed a second before now
        assert gauge("ots_signals_lag_seconds", underlying=behind) == 6 * 60 + 1
        assert gauge("ots_signals_lag_seconds", underlying=other) == 0
        assert gauge("ots_signals_ledger_rows") == ledger.head(database).seq
    finally:
        database.execute(
            "UPDATE signal_cursors SET event_ns = %s, retry_at = '-infinity' WHERE underlying = %s",
            (closed_ns, behind),
        )


def test_who_holds_the_ledger_does_not_hide_how_far_it_is(market, redis_server, database, monkeypatch):
    monkeypatch.setattr("ots_signals.worker._SHOWN_S", 0.05)
    closed_ns = min(cursors.positions(database).values())
    worker = worker_at(market, redis_server, [], now=lambda: closed_ns + 3 * NS_PER_S, settle_s=1)
    worker._known_stocks()
    metrics.LAG_SECONDS.labels(UNDERLYINGS[0]).set(99)
    with closing(connect(market.owner, application="tests")) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE signal_ledger IN ACCESS EXCLUSIVE MODE; LOCK TABLE signal_cursors IN EXCLUSIVE MODE")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            worker.show()
        assert gauge("ots_signals_lag_seconds", underlying=UNDERLYINGS[0]) == 0


def test_a_signal_that_the_ledger_does_not_have_is_overdue_and_keeps_nobody_waiting(market, redis_server, database):
    worker = worker_at(market, redis_server, [])
    worker.resolve_due()
    worker.show()
    overdue, waiting = gauge("ots_signals_overdue"), gauge("ots_signals_open")
    row = ("nobody's", UNDERLYINGS[0], date.fromisoformat(str(np.datetime64(TODAY, "D"))), BEGIN, BEGIN)
    database.execute(
        "INSERT INTO signal_resolutions (signal_id, underlying, session, event_ns, settles_ns)"
        " VALUES (%s, %s, %s, %s, %s)", row,
    )  # fmt: skip
    try:
        assert worker.resolve_due() == 0  # which comes to an end
        worker.show()
        assert (gauge("ots_signals_overdue"), gauge("ots_signals_open")) == (overdue + 1, waiting + 1)
    finally:
        with closing(connect(market.owner, application="tests")) as owner, owner, owner.cursor() as cursor:
            cursor.execute("DELETE FROM signal_resolutions WHERE signal_id = 'nobody''s'")


def test_what_is_counted_begins_at_nothing():
    metrics.begin(UNDERLYINGS)
    assert gauge("ots_signals_decided_total", strategy="gap_fill", underlying=UNDERLYINGS[0]) == 0
    assert gauge("ots_signals_abstentions_total", strategy="gap_fill", reason="no_edge") == 0
