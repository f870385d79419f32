"""The ledger: one chain, nothing twice, and whatever is altered behind its back is named."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import random
import time
from contextlib import closing

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ots_common.database import Database, connect
from ots_common.provision import with_database
from ots_signals import ledger
from ots_signals.canonical import canonical, digest
from ots_signals.decisions import Mode, Signal
from ots_signals.ledger import Head
from signals_support import abstention, outcome, signal

NOW = 1_796_060_000 * 10**9


def ticking():
    """A clock that goes on by a microsecond a look."""
    moments = iter(range(NOW, NOW + 10**9, 1000))
    return lambda: next(moments)


@pytest.fixture(scope="module")
def database(market):
    pool = Database(market.signals, application="tests", size=4)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def filled(database):
    """Forty decisions and the outcomes of the signals among them; what was written."""
    records = []
    for number in range(40):
        if number % 4 == 3:
            records.append(abstention(number))
        else:
            records.append(signal(number))
    with database.connection() as connection:
        written = ledger.append(connection, [(record, NOW) for record in records], ticking())
    outcomes = [outcome(record) for record in records if isinstance(record, Signal)]
    with database.connection() as connection:
        written += ledger.append(connection, [(record, NOW) for record in outcomes], ticking())
    return written


@pytest.fixture
def tampering(postgres, market, filled):
    """A superuser's connection that no trigger stops; what it did is undone."""
    connection = connect(with_database(postgres.admin_url, market.name), application="tests")
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("CREATE TEMP TABLE kept AS SELECT seq, previous_hash, hash, body FROM signal_ledger")
        connection.commit()
        yield cursor
        connection.rollback()
        cursor.execute("ALTER TABLE signal_ledger DISABLE TRIGGER ALL")
        cursor.execute("DELETE FROM signal_ledger")
        cursor.execute("INSERT INTO signal_ledger SELECT * FROM kept ORDER BY seq")
        cursor.execute("ALTER TABLE signal_ledger ENABLE TRIGGER ALL")
        connection.commit()
    connection.close()


def verified(database, noted=None):
    with database.connection() as connection:
        return ledger.verify(connection, noted)


def test_what_was_written_is_read_back(database, filled):
    assert [entry.seq for entry in filled] == list(range(1, 71))
    assert ledger.after(database, 0, 1000) == filled
    assert ledger.head(database) == Head(70, filled[-1].hash)
    assert verified(database) == ledger.Verification(70, Head(70, filled[-1].hash), None)


def test_a_row_follows_the_one_before(filled):
    assert filled[0].previous_hash == "00" * 32
    for before, after in itertools.pairwise(filled):
        assert after.previous_hash == before.hash
        assert after.committed_ns > before.committed_ns or after.kind == "outcome"


def test_the_same_again_adds_nothing(database, filled):
    """Not the same decision, nor another of the same strategy about the same event, in whatever mode."""
    again = [entry.record for entry in filled]
    again += [signal(1, mode=Mode.REPLAY), abstention(1), signal(3)]
    with database.connection() as connection:
        assert ledger.append(connection, [(record, NOW) for record in again], ticking()) == []
    assert ledger.head(database).seq == 70


def test_within_one_transaction_too(database, filled):
    with database.connection() as connection:
        twice = [(signal(500), NOW), (signal(500), NOW), (abstention(500), NOW)]
        assert len(ledger.append(connection, twice, ticking())) == 1
        connection.rollback()
    assert ledger.head(database).seq == 70


def test_every_signal_waits_for_its_outcome(database, filled):
    rows = dict(database.rows("SELECT signal_id, settles_ns FROM signal_resolutions"))
    signals = [entry.record for entry in filled if entry.kind == "signal"]
    assert rows == {one.id: one.barriers.flat_ns for one in signals}


def test_the_columns_are_what_the_body_says(database, filled):
    first = filled[0].record
    assert database.rows(
        "SELECT kind, id, strategy, underlying, session, event_ns, mode, direction, odds ->> 'p_target'"
        " FROM signal_ledger WHERE seq = 1"
    ) == [("signal", first.id, "opening_range", "AAPL", "2026-11-30", first.event_ns, "live", 1, "0.61")]
    assert database.rows(
        "SELECT signal_id, barrier, fills -> 0 ->> 'net_return', baseline FROM signal_ledger WHERE seq = 41"
    ) == [(first.id, "target", "0.075", None)]


def flip(column, cursor, seq):
    cursor.execute(f"SELECT {column} FROM signal_ledger WHERE seq = %s", (seq,))
    value = bytearray(cursor.fetchone()[0])
    value[7] ^= 1
    cursor.execute(f"UPDATE signal_ledger SET {column} = %s WHERE seq = %s", (bytes(value), seq))


def alter_body(cursor, seq):
    cursor.execute("SELECT body FROM signal_ledger WHERE seq = %s", (seq,))
    body = cursor.fetchone()[0]
    at = body.index('"id":"0') + 6
    cursor.execute("UPDATE signal_ledger SET body = %s WHERE seq = %s", (body[:at] + "1" + body[at + 1 :], seq))


def swap(cursor, first, second):
    """Each gets the other's body and hashes; their numbers stay."""
    cursor.execute("ALTER TABLE signal_ledger DROP CONSTRAINT IF EXISTS signal_ledger_check")
    cursor.execute("SELECT seq, previous_hash, hash, body FROM signal_ledger WHERE seq IN (%s, %s)", (first, second))
    rows = {row[0]: row[1:] for row in cursor.fetchall()}
    cursor.execute("DELETE FROM signal_ledger WHERE seq IN (%s, %s)", (first, second))
    for seq, other in ((first, second), (second, first)):
        cursor.execute("INSERT INTO signal_ledger VALUES (%s, %s, %s, %s)", (seq, *rows[other]))


@pytest.mark.parametrize("seq", [1, 2, 37, 70])
@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda c, seq: alter_body(c, seq), "altered"),
        (lambda c, seq: flip("hash", c, seq), "altered"),
        (lambda c, seq: flip("previous_hash", c, seq), "previous_hash"),
    ],
    ids=["a byte of the body", "a byte of the hash", "a byte of the hash before"],
)
def test_one_flipped_byte_is_named(database, tampering, tamper, said, seq):
    tamper(tampering, seq)
    tampering.connection.commit()
    found = verified(database)
    assert found.fault.seq == seq
    assert said in found.fault.detail
    assert found.rows == seq - 1


def test_a_row_taken_out_is_named(database, tampering):
    tampering.execute("DELETE FROM signal_ledger WHERE seq = 17")
    tampering.connection.commit()
    assert (verified(database).fault.seq, verified(database).rows) == (17, 16)


def test_rows_put_into_each_others_place_are_named(database, tampering):
    swap(tampering, 11, 30)
    tampering.connection.commit()
    assert verified(database).fault.seq == 11


def test_a_chain_made_anew_is_told_by_a_head_that_was_noted(database, tampering, filled):
    """Every hash fits; only who kept one outside can know."""
    noted = Head(40, filled[39].hash)
    assert verified(database, noted).fault is None
    tampering.execute("SELECT seq, body FROM signal_ledger ORDER BY seq")
    previous = ledger.START
    for seq, body in tampering.fetchall():
        body = body.replace("AAPL", "TSLA") if seq == 5 else body
        new = ledger.hash_of(previous, body)
        tampering.execute(
            "UPDATE signal_ledger SET previous_hash = %s, hash = %s, body = %s WHERE seq = %s",
            (previous, new, body, seq),
        )
        previous = new
    tampering.connection.commit()
    assert verified(database).fault is None
    assert verified(database, noted).fault.seq == 40


def test_rows_gone_at_the_end_are_told_by_a_head_that_was_noted(database, tampering, filled):
    tampering.execute("DELETE FROM signal_ledger WHERE seq > 60")
    tampering.connection.commit()
    assert verified(database).fault is None
    assert verified(database, Head(70, filled[-1].hash)).fault.seq == 61


def test_a_column_that_differs_from_its_body_is_named(database, tampering):
    tampering.execute("ALTER TABLE signal_ledger ALTER underlying DROP EXPRESSION")
    tampering.execute("UPDATE signal_ledger SET underlying = 'TSLA' WHERE seq = 9")
    tampering.connection.commit()
    try:
        found = verified(database).fault
        assert (found.seq, "underlying" in found.detail) == (9, True)
    finally:
        tampering.execute("DROP INDEX signal_ledger_of_underlying")
        tampering.execute("ALTER TABLE signal_ledger DROP underlying CASCADE")
        tampering.execute(
            "ALTER TABLE signal_ledger ADD underlying text"
            " GENERATED ALWAYS AS (body::jsonb #>> '{record,underlying}') STORED"
        )
        tampering.connection.commit()


@pytest.mark.parametrize(
    "statement", ["UPDATE signal_ledger SET body = body", "DELETE FROM signal_ledger", "TRUNCATE signal_ledger"]
)
def test_nobody_alters_it_by_accident(market, filled, statement):
    """Not even its owner."""
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="only ever added"):
        market.database.execute(statement)


@pytest.mark.parametrize("wrong", ["seq", "previous", "hash"])
def test_what_does_not_follow_is_refused_by_the_database(database, filled, wrong):
    end = ledger.head(database)
    seq, previous = end.seq + 1, bytes.fromhex(end.hash)
    body = ledger.body_of(seq, signal(900), NOW, NOW)
    digest_ = ledger.hash_of(previous, body)
    if wrong == "seq":
        seq += 1
    elif wrong == "previous":
        previous = bytes(32)
    else:
        digest_ = bytes(32)
    with pytest.raises(psycopg2.errors.IntegrityConstraintViolation, match="does not follow"):
        database.execute("INSERT INTO signal_ledger VALUES (%s, %s, %s, %s)", (seq, previous, digest_, body))


def append_many(dsn, numbers, failures):
    """One appender; the same numbers go to several, in another order each."""
    pool = Database(dsn, application="tests", size=1)
    random.Random(numbers[0]).shuffle(numbers)
    for number in numbers:
        with pool.connection() as connection:
            ledger.append(
                connection, [(signal(number), NOW), (abstention(number, strategy="gap_fill"), NOW)], time.time_ns
            )
            if number % failures == 0:
                connection.rollback()
    pool.close()


def test_several_processes_make_one_chain(database, market, filled):
    """Each appends the same hundred decisions, and gives up some: the chain is whole, and each is there once."""
    begin = ledger.head(database).seq
    numbers = list(range(1000, 1050))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(market.signals, list(numbers), f)) for f in (7, 8, 11)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert verified(database).fault is None
    added = ledger.after(database, begin, 1000)
    assert sorted(e.record.event_ns for e in added if e.kind == "signal") == [signal(n).event_ns for n in numbers]
    assert len(added) == 100


def test_it_is_read_a_piece_at_a_time(market, filled, monkeypatch):
    monkeypatch.setattr(ledger, "_READ_AT_ONCE", 3)
    with closing(connect(market.signals, application="tests")) as connection:
        assert ledger.verify(connection).fault is None


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_one_value_has_one_text(value):
    text = canonical(value)
    assert canonical(json.loads(text)) == text
    assert json.loads(text) == value


@given(
    st.dictionaries(TEXT, st.integers()),
    st.randoms(),
)
def test_the_order_of_keys_does_not_matter(value, rng):
    items = list(value.items())
    rng.shuffle(items)
    assert digest(dict(items)) == digest(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, "\0", "\ud800", {1: 2}, {"a", "b"}, b"bytes", object()])
def test_what_has_no_one_text_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        canonical({"x": [value]})


def test_a_record_reads_back_the_same():
    one = signal(7)
    read = TypeAdapter(Signal).validate_python(json.loads(canonical(one)))
    assert read == one
    assert canonical(read) == canonical(one)
