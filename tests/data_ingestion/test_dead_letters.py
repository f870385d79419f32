"""What cannot be stored is kept byte for byte, found again, and stored once it can be."""

from datetime import date

import databento_dbn as dbn
import numpy as np
import pytest
from databento_dbn import Schema

from data_ingestion_support import settings_for
from dbn import DAY, dbn_file, midnight, quote, trade
from ots_common.database import connect
from ots_ingestion.dead_letters import bury, find_rejected, replay

OPEN = midnight(date(2024, 3, 4)) + 14 * 3600 * 10**9
TRADES = np.dtype(dbn.TradeMsg._dtypes)
UNDEF = 2**63 - 1


@pytest.fixture
def connection(market):
    found = connect(market.owner, application="tests")
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _nothing_buried(market):
    market.database.execute("DELETE FROM dead_letters")


def buried(connection, records, *, schema="trades", reason="unknown_instrument", ords=None, origin="run 1"):
    with connection, connection.cursor() as cursor:
        bury(
            cursor, dataset="EQUS.MINI", schema=schema, reason=reason, records=records, origin=origin, first_ns=OPEN,
            ords=ords,
        )  # fmt: skip


def waiting(market):
    return market.database.dicts("SELECT * FROM dead_letters WHERE replayed_at IS NULL ORDER BY dead_letter_id")


def stored(market, symbol):
    return market.database.rows(
        "SELECT count(*) FROM trades JOIN instruments USING (instrument_id) WHERE raw_symbol = %s", (symbol,)
    )[0][0]


def test_the_rejected_are_found_each_with_its_reason():
    records = np.frombuffer(b"".join(trade(OPEN + i, 10, 5, sequence=i) for i in range(1000)), TRADES).copy()
    wrong = {"undefined_price": [3, 500, 999], "undefined_size": [4, 501], "undefined_time": [0, 77]}
    records["price"][wrong["undefined_price"]] = UNDEF
    records["size"][wrong["undefined_size"]] = 2**32 - 1
    records["ts_recv"][wrong["undefined_time"]] = 2**64 - 1
    found = find_rejected("trades", records)
    assert {r.reason: r.index.tolist() for r in found} == wrong
    for rejected in found:
        assert rejected.records.tobytes() == records[rejected.index].tobytes()
    assert find_rejected("trades", records[10:70]) == []
    assert find_rejected("trades", records[:0]) == []


def test_the_instrument_that_became_known_gets_its_trades_and_the_others_wait(ingestion, market, connection):
    letters = [trade(OPEN + i, 10, sequence=i, instrument=811 + i % 2) for i in range(10)]
    buried(connection, b"".join(letters))
    first = replay(connection)
    assert (first.stored, first.remaining, first.reasons) == (0, 10, {"unknown_instrument": 10})
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN - 1, 9, instrument=811)], symbols={"LETTER": 811}))
    second = replay(connection)
    assert (second.letters, second.stored, second.remaining) == (1, 5, 5)
    assert stored(market, "LETTER") == 6
    (left,) = waiting(market)
    assert bytes(left["records"]) == b"".join(letters[1::2])
    assert (left["number"], left["attempts"], left["note"]) == (5, 2, "5 unknown_instrument")
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN - 1, 9, instrument=812)], symbols={"LETTER2": 812}))
    assert replay(connection).stored == 5
    assert waiting(market) == []
    assert replay(connection).letters == 0
    assert stored(market, "LETTER2") == 6


def test_what_is_stored_already_is_a_duplicate_and_equal_trades_stay_two(ingestion, market, connection):
    same = trade(OPEN, 20, instrument=821)
    ingestion.imported(dbn_file(Schema.TRADES, [same, same], symbols={"EQUALS": 821}))
    buried(connection, same * 2 + trade(OPEN + 5, 20, instrument=821))
    done = replay(connection)
    assert (done.stored, done.duplicate, done.remaining) == (1, 2, 0)
    # the third and fourth of four equals, as the file counted them
    buried(connection, same * 2, ords=[2, 3])
    assert replay(connection).stored == 2
    assert stored(market, "EQUALS") == 5


def test_definitions_of_any_version_name_what_is_buried_with_them(market, connection):
    for size, message in ((520, dbn.InstrumentDefMsg), (360, dbn.InstrumentDefMsgV1)):
        layout = np.dtype(message._dtypes)
        assert layout.itemsize == size
        record = np.zeros(1, layout)
        record["length"], record["rtype"] = size // 4, 19
        record["ts_event"] = record["ts_recv"] = OPEN
        record["instrument_id"], record["raw_symbol"] = 830 + size, f"DEFINED{size}"
        record["strike_price"] = UNDEF
        record["expiration"] = 2**64 - 1
        buried(connection, trade(OPEN, 7, instrument=830 + size) + record.tobytes(), origin="live segment 3")
        assert replay(connection).stored == 2
        assert stored(market, f"DEFINED{size}") == 1


def test_poison_stays_and_its_neighbours_go(ingestion, market, connection):
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN, 1, instrument=841)], symbols={"NEIGHBOUR": 841}))
    bad = np.frombuffer(trade(OPEN + 1, 1, instrument=841), TRADES).copy()
    bad["price"] = UNDEF
    unknown_type = bytearray(trade(OPEN + 2, 1, instrument=841))
    unknown_type[1] = 99
    buried(connection, bad.tobytes() + bytes(unknown_type) + trade(OPEN + 3, 1, instrument=841))
    done = replay(connection)
    assert done.stored == 1
    assert done.reasons == {"undefined_price": 1, "unsupported_record_type_99": 1}
    assert stored(market, "NEIGHBOUR") == 2
    assert bytes(waiting(market)[0]["records"]) == bad.tobytes() + bytes(unknown_type)


@pytest.mark.parametrize("raw", [b"", b"x", b"\0" * 48, trade(OPEN, 1)[:-1], trade(OPEN, 1)[:16]])
def test_bytes_that_are_no_records_are_kept_and_never_tried(market, connection, raw):
    buried(connection, raw)
    assert bytes(waiting(market)[0]["records"]) == raw
    done = replay(connection)
    assert (done.stored, set(done.reasons)) == (0, {"not_whole_records"})


def test_the_same_bytes_again_are_one_letter_and_two_letters_may_become_one(ingestion, market, connection):
    one = trade(OPEN, 1, instrument=851)
    for _ in range(3):
        buried(connection, one)
    assert [(row["seen"], row["number"]) for row in waiting(market)] == [(3, 1)]
    buried(connection, one + trade(OPEN, 2, instrument=852))
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN - 9, 1, instrument=852)], symbols={"SHRINKS": 852}))
    assert replay(connection).stored == 1
    assert [bytes(row["records"]) for row in waiting(market)] == [one]


def test_only_letters_of_the_reason_asked_for(market, connection):
    buried(connection, trade(OPEN, 1, instrument=861), reason="one")
    buried(connection, trade(OPEN, 1, instrument=861), reason="two")
    assert replay(connection, reason="two").letters == 1
    assert [(row["reason"], row["attempts"]) for row in waiting(market)] == [("one", 0), ("two", 1)]


def test_ts_out_records_and_quotes_are_read(ingestion, market, connection):
    symbols = {"TSOUT": 871}
    ingestion.imported(dbn_file(Schema.TRADES, [trade(OPEN, 1, instrument=871)], symbols=symbols))
    longer = bytearray(trade(OPEN + 1, 1, instrument=871))
    longer[0] += 2
    buried(connection, bytes(longer) + (OPEN + 2).to_bytes(8, "little"))
    buried(connection, quote(OPEN + 3, 1.0, None, instrument=871), schema="cbbo-1m")
    assert replay(connection).stored == 2
    assert stored(market, "TSOUT") == 2
    assert market.database.rows(
        "SELECT bid, ask FROM quotes JOIN instruments USING (instrument_id) WHERE raw_symbol = 'TSOUT'"
    ) == [(10**9, None)]


def test_two_replays_at_once_take_different_letters(market, connection):
    buried(connection, trade(OPEN, 1, instrument=881))
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM dead_letters FOR UPDATE")
        other = connect(market.owner, application="tests")
        assert replay(other).letters == 0
        other.close()


def test_a_letter_lists_without_its_bytes(ingestion, market, connection):
    buried(connection, trade(OPEN, 1, instrument=891) + trade(OPEN + DAY, 1, instrument=891))
    buried(connection, b"x", reason="torn")
    body = ingestion.get("/dead-letters?limit=1").json
    assert [letter["reason"] for letter in body["dead_letters"]] == ["torn"]
    following = ingestion.get(body["next"].removeprefix("/api/v1/data")).json
    (letter,) = following["dead_letters"]
    assert (letter["number"], letter["bytes"], letter["state"]) == (2, 96, "waiting")
    assert letter["first_time"] == "2024-03-04T14:00:00Z"
    assert following["next"] is None
    assert ingestion.get("/dead-letters?reason=torn").json["dead_letters"][0]["whole"] is False
    assert ingestion.get("/dead-letters?state=replayed").json["dead_letters"] == []
    assert ingestion.get("/dead-letters?state=lost").status_code == 422


def test_the_command_says_what_it_did(market, connection, redis_server, tmp_path, monkeypatch, capsys):
    from ots_ingestion.__main__ import main

    buried(connection, trade(OPEN, 1, instrument=899))
    settings = settings_for(market, redis_server, tmp_path)
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("SPOOL_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["ots_ingestion", "replay-dead-letters"])
    assert main() == 0
    assert "1 unknown_instrument" in capsys.readouterr().out
