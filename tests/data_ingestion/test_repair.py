"""Gaps are asked of history by themselves: free replay first, within the cap, oftener never than their wait allows."""

import pytest
from databento_dbn import Schema
from prometheus_client import REGISTRY
from psycopg2.extras import execute_values

from data_ingestion_support import settings_for
from dbn import MINUTE, dbn_file, trade
from ots_ingestion import repair
from ots_ingestion.dead_letters import bury
from ots_ingestion.gaps import gap_by_id, open_gap, open_gaps
from ots_ingestion.repair import repair_once
from ots_ingestion.vendor import VendorUnavailable

# long ago, so that history has it and no session is looked at
START = 1_709_562_600_000_000_000


class History:
    """A vendor that prices, and counts how often it was asked to."""

    def __init__(self, cost=0.0, records=3, error=None, end=2**62):
        self.price, self.records, self.error, self.end = cost, records, error, end
        self.asked = 0

    def list_schemas(self, dataset):
        return ["trades", "tbbo", "definition"]

    def dataset_range(self, dataset, schema=None):
        if self.error:
            raise self.error
        return 0, self.end

    def record_count(self, request):
        return self.records

    def billable_size(self, request):
        return self.records * 48

    def cost(self, request):
        self.asked += 1
        return self.price


@pytest.fixture
def settings(market, redis_server, tmp_path):
    return settings_for(market, redis_server, tmp_path)


@pytest.fixture(autouse=True)
def _fresh(market):
    market.database.execute("DELETE FROM backfills")
    market.database.execute("DELETE FROM gaps")
    market.database.execute("DELETE FROM collection_pending_gaps")


def stated(market, *, ago="5 minutes", ends_ns=START + MINUTE, **more):
    with market.database.connection() as connection, connection.cursor() as cursor:
        gap = open_gap(
            cursor,
            **{
                "dataset": "EQUS.MINI", "schema": "trades", "symbol": "AAPL", "starts_ns": START, "ends_ns": ends_ns,
                "evidence": "disconnect", "detail": "planted", **more,
            },
        )  # fmt: skip
        cursor.execute("UPDATE gaps SET opened_at = now() - %s::interval WHERE gap_id = %s", (ago, gap))
    return gap


def gap_of(market, gap):
    with market.database.connection() as connection, connection.cursor() as cursor:
        return gap_by_id(cursor, gap)


def make_due(market):
    market.database.execute("UPDATE gaps SET repair_after = now() - interval '1 second'")


def backfills(market):
    return market.database.dicts("SELECT * FROM backfills ORDER BY created_at")


def finish(market, backfill_id, status="done"):
    """As the backfiller leaves a backfill of one part without records."""
    market.database.execute(
        "UPDATE backfill_parts SET status = %s, expected = 0, received = 0 WHERE backfill_id = %s",
        (status, backfill_id),
    )
    market.database.execute("UPDATE backfills SET status = %s WHERE backfill_id = %s", (status, backfill_id))


def test_a_gap_is_asked_for_once_and_closed_by_what_history_gave(market, settings):
    gap = stated(market)
    history = History()
    assert repair_once(market.database, settings, history) == 1
    (backfill,) = backfills(market)
    assert (backfill["origin"], backfill["gap_id"]) == ("repair", gap)
    now = gap_of(market, gap)
    assert (now.repair_attempts, now.repair_job) == (1, str(backfill["backfill_id"]))
    assert repair_once(market.database, settings, history) == 0  # not due again yet
    make_due(market)
    assert repair_once(market.database, settings, history) == 1
    # at work already: nobody is asked for a price again
    assert (len(backfills(market)), history.asked) == (1, 1)
    assert "is queued" in gap_of(market, gap).repair_note
    finish(market, backfill["backfill_id"])
    make_due(market)
    assert repair_once(market.database, settings, history) == 1
    closed = gap_of(market, gap)
    assert (closed.closed_by, closed.found, closed.repair_after) == ("backfill", 0, None)
    make_due(market)
    assert repair_once(market.database, settings, history) == 0


def test_silence_that_history_shares_is_closed_by_session(market, settings):
    gap = stated(market, evidence="session")
    repair_once(market.database, settings, History())
    finish(market, backfills(market)[0]["backfill_id"])
    make_due(market)
    repair_once(market.database, settings, History())
    assert gap_of(market, gap).closed_by == "session"


def test_real_history_is_only_priced_unless_it_may_cost(market, settings):
    gap = stated(market)
    assert repair_once(market.database, settings, History(cost=0.37)) == 1
    assert backfills(market) == []
    now = gap_of(market, gap)
    assert now.closed_at is None
    assert "0.3700 USD" in now.repair_note
    assert "REPAIR_MAX_COST_USD" in now.repair_note
    hours = market.database.rows("SELECT extract(epoch FROM repair_after - now()) / 3600 FROM gaps")[0][0]
    assert 23 < hours <= 24
    make_due(market)
    richer = settings.model_copy(update={"repair_max_cost_usd": 0.5})
    assert repair_once(market.database, richer, History(cost=0.37)) == 1
    assert [b["max_cost_usd"] for b in backfills(market)] == [0.5]


def test_the_simulated_markets_history_is_free(market, settings):
    stated(market)
    simulated = settings.model_copy(update={"market_source": "simulated"})
    repair_once(market.database, simulated, History(cost=99.0))
    assert len(backfills(market)) == 1


def test_the_feeds_own_replay_comes_first(market, settings):
    gap = stated(market)
    market.database.execute("INSERT INTO collection_pending_gaps VALUES (%s, 'EQUS.MINI', 'trades')", (gap,))
    assert repair_once(market.database, settings, History()) == 0
    market.database.execute("UPDATE gaps SET opened_at = now() - interval '11 minutes'")
    assert repair_once(market.database, settings, History()) == 1


def test_what_is_young_or_not_over_or_closed_is_left_alone(market, settings):
    stated(market, ago="30 seconds")
    stated(market, symbol="MSFT", ends_ns=None)
    assert repair_once(market.database, settings, History()) == 0
    assert backfills(market) == []


def test_waits_double_while_history_does_not_answer(market, settings):
    gap = stated(market)
    waits = []
    for _ in range(12):
        assert repair_once(market.database, settings, History(error=VendorUnavailable("no answer"))) == 1
        waits.append(
            market.database.rows("SELECT round(extract(epoch FROM repair_after - now()) / 60) FROM gaps")[0][0]
        )
        make_due(market)
    assert [int(w) for w in waits] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]
    assert gap_of(market, gap).repair_note == "no answer"


def test_history_that_does_not_reach_so_far_is_asked_again_later(market, settings):
    gap = stated(market)
    repair_once(market.database, settings, History(end=START))
    assert "history reaches" in gap_of(market, gap).repair_note
    make_due(market)
    repair_once(market.database, settings, History())
    assert len(backfills(market)) == 1


@pytest.mark.parametrize("change", [{"schema": "mbo"}, {"symbol": None, "dataset": "DBEQ.BASIC"}])
def test_a_hopeless_gap_says_why_and_stops_no_other(market, settings, change):
    hopeless = stated(market, ago="9 minutes", **change)
    stated(market)
    assert repair_once(market.database, settings, History()) == 2
    assert len(backfills(market)) == 1
    assert gap_of(market, hopeless).repair_note


def test_many_gaps_are_many_steps(market, settings):
    for i in range(25):
        stated(market, symbol=f"SYM{i}")
    assert repair_once(market.database, settings, History()) == 20
    assert repair_once(market.database, settings, History()) == 5
    assert len(backfills(market)) == 25


def test_a_gap_of_records_that_were_stored_all_along(market, settings, ingestion):
    """A part that history gave before covers a gap that is stated later."""
    run = ingestion.imported(dbn_file(Schema.TRADES, [trade(START + 5, 10)], symbols={"COVERED": 1}))
    with market.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO backfills (backfill_id, fingerprint, origin, requested_by, wanted, starts_ns, ends_ns,"
            " estimated_usd, estimated_records, estimated_bytes, max_cost_usd)"
            " VALUES (%s, 'f', 'request', 'me', '[]', 1, 2, 0, 0, 0, 0)",
            (run["id"],),
        )
        execute_values(
            cursor,
            "INSERT INTO backfill_parts (backfill_id, rank, dataset, schema, stype_in, symbols, starts_ns, ends_ns,"
            " estimated_records, status, expected, received, run_id) VALUES %s",
            [(run["id"], 0, "EQUS.MINI", "trades", "raw_symbol", ["COVERED"], START, START + MINUTE, 1, "done", 1, 1,
              run["id"])],
        )  # fmt: skip
    gap = stated(market, symbol="COVERED")
    history = History()
    assert repair_once(market.database, settings, history) == 1
    assert (gap_of(market, gap).closed_by, gap_of(market, gap).found, history.asked) == ("backfill", 1, 0)
    with market.database.connection() as connection, connection.cursor() as cursor:
        assert open_gaps(cursor) == []


def test_without_a_key_the_ledger_says_so(market, settings):
    gap = stated(market)
    assert repair_once(market.database, settings) == 1
    assert "key" in gap_of(market, gap).repair_note.lower()


def test_a_look_comes_first_but_not_at_every_step(market, settings, monkeypatch):
    looks = []
    monkeypatch.setattr(repair, "_LOOK", repair._Pace(3600))
    monkeypatch.setattr(repair, "look", lambda *arguments: looks.append(arguments))
    for _ in range(3):
        repair_once(market.database, settings, History())
    assert [arguments[3] for arguments in looks] == [15]


def test_what_is_open_and_what_waits_is_measured(market, settings, monkeypatch):
    monkeypatch.setattr(repair, "_LOOK", repair._Pace(0))
    stated(market)
    stated(market, symbol="MSFT")
    with market.database.connection() as connection, connection.cursor() as cursor:
        letter = {"dataset": "EQUS.MINI", "schema": "trades", "origin": "test", "first_ns": None}
        bury(cursor, reason="unknown_instrument", records=trade(START, 1) * 3, **letter)

    def value(gauge, *labels):
        return REGISTRY.get_sample_value(
            gauge, dict(zip(("dataset", labels[0]), ("EQUS.MINI", labels[1]), strict=True))
        )

    repair_once(market.database, settings, History())
    assert value("ots_ingestion_open_gaps", "evidence", "disconnect") == 2
    assert value("ots_ingestion_dead_letters", "reason", "unknown_instrument") == 3
    market.database.execute("DELETE FROM backfills")
    market.database.execute("DELETE FROM gaps")
    market.database.execute("DELETE FROM dead_letters")
    repair_once(market.database, settings, History())
    assert value("ots_ingestion_open_gaps", "evidence", "disconnect") is None
