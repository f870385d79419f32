"""The checker itself: one planted loss, one planted duplicate, and what else it must see."""

from __future__ import annotations

import databento_dbn as dbn
import numpy as np
import pytest

from chaos.checker import check
from chaos.tape import STOCKS, make_tape
from data_ingestion_support import Ingestion, settings_for


@pytest.fixture(scope="module")
def whole(market, redis_server, tmp_path_factory):
    """A tape, and a database that holds all of it."""
    tape = make_tape(7, 20, 100)
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool")))
    with service.working():
        for body in tape.files.values():
            service.imported(body)
    return market.database, tape


def plant(database, *statements):
    """Run statements; what undoes them must come last."""
    for statement in statements:
        database.execute(statement)


def test_a_whole_tape_is_sound(whole):
    verdict = check(*whole)
    assert verdict.sound, verdict
    assert verdict.stored == verdict.expected == whole[1].records
    assert verdict.missing_and_in_the_ledger == 0


def test_the_tape_has_genuine_repeats(whole):
    assert max(whole[1].expected.values()) > 1


@pytest.fixture
def one_trade_less(whole):
    """The database without one trade (and its bar as if it had never been); the row's time."""
    database, _ = whole
    database.execute("CREATE TABLE taken AS SELECT * FROM trades ORDER BY ts LIMIT 1 OFFSET 50")
    database.execute("DELETE FROM trades t USING taken x WHERE (t.instrument_id, t.ts, t.digest, t.ord)"
                     " = (x.instrument_id, x.ts, x.digest, x.ord)")  # fmt: skip
    yield database
    database.execute("INSERT INTO trades SELECT * FROM taken")
    database.execute("DROP TABLE taken")


def test_one_loss_is_seen(whole, one_trade_less):
    verdict = check(*whole)
    assert (verdict.lost, verdict.duplicated, verdict.missing_and_in_the_ledger) == (1, 0, 0)
    assert verdict.wrong_bars == 1
    assert verdict.examples[0].startswith("lost")


@pytest.mark.parametrize(("state", "lost"), [("open", 0), ("closed", 1), ("elsewhere", 1), ("another", 1)])
def test_only_an_open_gap_that_names_it_excuses_a_loss(whole, one_trade_less, state, lost):
    shift = 10**9 if state == "elsewhere" else 0
    closed = "now(), 'replay', 0" if state == "closed" else "NULL, NULL, NULL"
    schema = "bbo-1s" if state == "another" else "trades"
    one_trade_less.execute(
        "INSERT INTO gaps (dataset, schema, starts_ns, ends_ns, evidence, detail, closed_at, closed_by, found)"
        f" SELECT dataset, '{schema}', recv_at_ns + {shift}, recv_at_ns + {shift} + 1, 'restart', 'planted', {closed}"
        " FROM taken JOIN instruments USING (instrument_id)"
    )
    verdict = check(*whole)
    one_trade_less.execute("DELETE FROM gaps")
    assert (verdict.lost, verdict.missing_and_in_the_ledger) == (lost, 1 - lost)


def test_one_duplicate_is_seen(whole):
    database, _ = whole
    plant(database, "INSERT INTO trades SELECT instrument_id, ts, ts_ns, digest, 99, sequence, price, size, side,"
          " action, flags, depth, publisher_id, recv_at_ns, ts_in_delta FROM trades ORDER BY ts LIMIT 1")  # fmt: skip
    verdict = check(*whole)
    plant(database, "DELETE FROM trades WHERE ord = 99")
    assert (verdict.lost, verdict.duplicated, verdict.invented) == (0, 1, 0)


def test_an_invented_record_is_seen(whole):
    database, _ = whole
    plant(database, "UPDATE trades SET sequence = -1 WHERE (instrument_id, ts, digest, ord) IN"
          " (SELECT instrument_id, ts, digest, ord FROM trades ORDER BY ts LIMIT 1)")  # fmt: skip
    verdict = check(*whole)
    plant(database, "UPDATE trades SET sequence = 0 WHERE sequence = -1")
    assert verdict.invented == 1


def test_a_wrong_bar_is_seen(whole):
    database, _ = whole
    plant(database, "UPDATE bars_1m SET volume = volume + 1 WHERE ts = (SELECT min(ts) FROM bars_1m)")
    verdict = check(*whole)
    plant(database, "UPDATE bars_1m SET volume = volume - 1 WHERE ts = (SELECT min(ts) FROM bars_1m)")
    assert verdict.wrong_bars >= 1


def test_a_tape_follows_from_its_seed():
    assert make_tape(3, 5, 50).files == make_tape(3, 5, 50).files
    assert make_tape(3, 5, 50).files != make_tape(4, 5, 50).files
    assert np.dtype(dbn.TradeMsg._dtypes).itemsize == 48
    assert len(STOCKS) == 3
