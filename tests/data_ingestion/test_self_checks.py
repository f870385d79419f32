"""The self-check: no difference while all is well, whatever came in and however often; and nothing that it misses."""

from __future__ import annotations

from contextlib import closing
from datetime import date

import numpy as np
import pytest
from databento_dbn import InstrumentDefMsg, RType, Schema, StatMsg

from dbn import DAY, MINUTE, PRICE, bar, dbn_file, midnight, quote, trade
from ots_common.database import connect
from ots_ingestion import self_check

DAY0 = date(2024, 3, 4)
OPEN = midnight(DAY0) + 14 * 3600 * 10**9 + 30 * MINUTE
EVERYTHING = 10**12
OPTION = "CHEK  240315C00100000"
# so many of each are stored by `filled`
TRADES, QUOTES, STATISTICS, DEFINITIONS, MINUTES, HOURS, DAYS = 2503, 40, 30, 3, 25, 6, 300


@pytest.fixture
def connection(market):
    with closing(connect(market.owner, application="tests")) as found:
        yield found


def check(connection, most_rows=EVERYTHING, **more):
    return self_check.check(connection, asked_by="test", most_rows=most_rows, **more)


def found(connection):
    """(dataset, schema) -> missing, surplus, altered, where anything differs."""
    return {
        (one.dataset, one.schema): (one.missing, one.surplus, one.altered)
        for one in check(connection).schemas
        if one.difference
    }


def definition(at):
    made = np.zeros(1, np.dtype(InstrumentDefMsg._dtypes))
    made["length"], made["rtype"] = made.dtype.itemsize // 4, 19
    made["publisher_id"], made["instrument_id"], made["ts_event"], made["ts_recv"] = 30, 9, at, at
    made["raw_symbol"], made["underlying"], made["instrument_class"] = OPTION.encode(), b"CHEK", b"C"
    made["strike_price"], made["expiration"] = 100 * PRICE, midnight(date(2024, 3, 15))
    made["activation"], made["contract_multiplier"] = made["expiration"], 2**31 - 1
    made["security_update_action"] = b"A"
    return made.tobytes()


def statistic(at):
    made = np.zeros(1, np.dtype(StatMsg._dtypes))
    made["length"], made["rtype"] = made.dtype.itemsize // 4, 24
    made["publisher_id"], made["instrument_id"], made["ts_event"], made["ts_recv"] = 30, 9, at, at
    made["ts_ref"], made["price"], made["quantity"], made["stat_type"] = 2**64 - 1, 2**63 - 1, 100, 9
    return made.tobytes()


@pytest.fixture(scope="module")
def filled(ingestion):
    """Some of everything: repeated, overlapping, revised, refused, over a border of days and of batches (1,000)."""
    trades = [trade(OPEN + i // 2 * 7 * 10**8, 100 + i % 11, 10, sequence=i // 3) for i in range(2500)]
    for part in (trades[:900], trades[500:], trades):
        ingestion.imported(dbn_file(Schema.TRADES, part, symbols={"CHECKED": 1}))
    late = [trade(midnight(DAY0) + DAY + i - 1, 50, sequence=i) for i in range(3)]
    ingestion.imported(dbn_file(Schema.TRADES, late, days=2, symbols={"CHECKED": 1}))
    unknown = dbn_file(Schema.TRADES, [trade(OPEN, 1, instrument=77)] * 4, symbols={})
    assert ingestion.imported(unknown)["rejected"] == 4
    minutes = [bar(OPEN + i * MINUTE, (100, 105, 99, 101), 5) for i in range(MINUTES)]
    ingestion.imported(dbn_file(Schema.OHLCV_1M, minutes[:20], symbols={"BARRED": 1}))
    revised = [bar(OPEN + i * MINUTE, (100, 106, 99, 101), 6) for i in range(5)]
    run = ingestion.imported(dbn_file(Schema.OHLCV_1M, [*minutes[3:], *revised], symbols={"BARRED": 1}))
    assert (run["stored"], run["revised"] > 0, run["duplicate"] > 0) == (5, True, True)
    # the vendor's own take the place of those that trades made
    ingestion.imported(dbn_file(Schema.OHLCV_1M, minutes[:2], symbols={"CHECKED": 1}))
    hours = [
        bar(OPEN // (60 * MINUTE) * 60 * MINUTE + i * 60 * MINUTE, (1, 2, 1, 2), rtype=RType.OHLCV_1H)
        for i in range(HOURS)
    ]
    ingestion.imported(dbn_file(Schema.OHLCV_1H, hours, symbols={"BARRED": 1}))
    days = [bar(midnight(DAY0) - i * DAY, (1, 2, 1, 2), rtype=RType.OHLCV_1D) for i in range(DAYS)]
    ingestion.imported(dbn_file(Schema.OHLCV_1D, days, day=date(2023, 1, 1), days=900, symbols={"BARRED": 1}))
    of_options = {"dataset": "OPRA.PILLAR", "symbols": {OPTION: 9}}
    quotes = [quote(OPEN + i * MINUTE, None if i % 4 == 0 else 1.0, 2.0, instrument=9) for i in range(QUOTES)]
    ingestion.imported(dbn_file(Schema.CBBO_1M, quotes, **of_options))
    ingestion.imported(dbn_file(Schema.CBBO_1M, quotes[7:], **of_options))
    ingestion.imported(dbn_file(Schema.STATISTICS, [statistic(OPEN + i) for i in range(STATISTICS)], **of_options))
    definitions = [definition(OPEN + i) for i in range(DEFINITIONS)]
    ingestion.imported(dbn_file(Schema.DEFINITION, definitions, **of_options))
    return ingestion


def test_what_came_in_in_every_way_differs_in_nothing(filled, connection):
    done = check(connection)
    assert {(one.dataset, one.schema): one.rows for one in done.schemas} == {
        ("EQUS.MINI", "trades"): TRADES,
        ("EQUS.MINI", "ohlcv-1m"): MINUTES + 2,
        ("EQUS.MINI", "ohlcv-1h"): HOURS,
        ("EQUS.MINI", "ohlcv-1d"): DAYS,
        ("OPRA.PILLAR", "cbbo-1m"): QUOTES,
        ("OPRA.PILLAR", "statistics"): STATISTICS,
        ("OPRA.PILLAR", "definition"): DEFINITIONS,
    }
    assert (done.difference, done.differences, done.left_over) == (0, (), 0)
    assert done.rows == sum(one.rows for one in done.schemas)


TRADE, BAR, OPTIONS_QUOTE = ("EQUS.MINI", "trades"), ("EQUS.MINI", "ohlcv-1m"), ("OPRA.PILLAR", "cbbo-1m")
_TICK, _BAR = "instrument_id, ts, digest, ord", "instrument_id, ts, publisher_id"
# the first minutes of CHECKED hold the vendor's bars: what happens to their trades does not show in them
_EARLY = "ts < '2024-03-04 14:31+00' AND ts >= '2024-03-04 14:30+00'"


def one(table, condition):
    """One row of a table, the first in the order of its key that is as it is asked for."""
    key = _BAR if table.startswith("bars") else _TICK
    return f"({key}) = (SELECT {key} FROM {table} WHERE {condition} ORDER BY {key} LIMIT 1)"


CHANGES = {
    "a trade is gone": (
        "trades",
        f"DELETE FROM trades WHERE {one('trades', _EARLY)}",
        {TRADE: (1, 0, 0)},
    ),
    "a trade is doubled": (
        "trades",
        "INSERT INTO trades SELECT instrument_id, ts, ts_ns, digest, ord + 1000, sequence, price, size, side, action,"
        f" flags, depth, publisher_id, recv_at_ns, ts_in_delta FROM trades WHERE {_EARLY} LIMIT 1",
        {TRADE: (0, 1, 0)},
    ),
    "a price is another": (
        "trades",
        f"UPDATE trades SET price = price + 1 WHERE {one('trades', _EARLY)}",
        {TRADE: (0, 0, 1)},
    ),
    "a side is another": (
        "trades",
        f"UPDATE trades SET side = 'B' WHERE {one('trades', _EARLY)}",
        {TRADE: (0, 0, 1)},
    ),
    "a microsecond later": (
        "trades",
        "UPDATE trades SET ts = ts + interval '1 microsecond' WHERE " + one("trades", _EARLY),
        {TRADE: (0, 0, 1)},
    ),
    "one is gone and another too many": (
        "trades",
        f"UPDATE trades SET ts = ts + interval '3 days' WHERE {one('trades', _EARLY)}",
        {TRADE: (1, 1, 0), BAR: (1, 0, 0)},
    ),
    "a trade on which a bar rests": (
        "trades",
        "UPDATE trades SET size = size + 1 WHERE " + one("trades", "ts >= '2024-03-04 14:35+00'"),
        {TRADE: (0, 0, 1), BAR: (0, 0, 1)},
    ),
    "a bar of trades is gone": (
        "bars_1m",
        f"DELETE FROM bars_1m WHERE {one('bars_1m', 'origin = $$t$$')}",
        {BAR: (1, 0, 0)},
    ),
    "a bar of trades is another": (
        "bars_1m",
        f"UPDATE bars_1m SET high = high + 1 WHERE {one('bars_1m', 'origin = $$t$$')}",
        {BAR: (0, 0, 1)},
    ),
    "a bar of no trades": (
        "bars_1m",
        "INSERT INTO bars_1m SELECT instrument_id, ts + interval '5 hours', publisher_id, open, high, low, close,"
        " volume, origin FROM bars_1m WHERE origin = 't' AND ts < '2024-03-04 15:00+00' LIMIT 1",
        {BAR: (0, 1, 0)},
    ),
    "a vendor's bar is gone": (
        "bars_1m",
        f"DELETE FROM bars_1m WHERE {one('bars_1m', 'origin = $$v$$ AND ts > $$2024-03-04 14:40+00$$')}",
        {BAR: (1, 0, 0)},
    ),
    "a daily bar is another": (
        "bars_1d",
        f"UPDATE bars_1d SET volume = 1 WHERE {one('bars_1d', 'true')}",
        {("EQUS.MINI", "ohlcv-1d"): (0, 0, 1)},
    ),
    "no bid is now a bid of nothing": (
        "quotes",
        f"UPDATE quotes SET bid = 0 WHERE {one('quotes', 'bid IS NULL')}",
        {OPTIONS_QUOTE: (0, 0, 1)},
    ),
    "all of a day's quotes are gone": ("quotes", "DELETE FROM quotes", {OPTIONS_QUOTE: (QUOTES, 0, 0)}),
    "a definition is gone": (
        "definitions",
        f"DELETE FROM definitions WHERE {one('definitions', 'true')}",
        {("OPRA.PILLAR", "definition"): (1, 0, 0)},
    ),
    "a statistic is another": (
        "statistics",
        f"UPDATE statistics SET quantity = quantity - 1 WHERE {one('statistics', 'true')}",
        {("OPRA.PILLAR", "statistics"): (0, 0, 1)},
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_happens_behind_its_back_is_found_and_stands_until_it_is_mended(filled, market, connection, change):
    table, statement, expected = change
    database = market.database
    database.execute("SELECT open_chunks('trades', ARRAY['2024-03-07'::timestamptz])")
    database.execute(f"CREATE TABLE as_it_was AS SELECT * FROM {table}")
    try:
        assert database.execute(statement) != 0
        assert found(connection) == expected
        # what differs is looked at each time, however little may be read
        again = check(connection, most_rows=1)
        assert again.difference == sum(map(sum, expected.values()))
    finally:
        database.execute(f"DELETE FROM {table}")
        database.execute(f"INSERT INTO {table} SELECT * FROM as_it_was")
        database.execute("DROP TABLE as_it_was")
    assert check(connection).difference == 0
