"""The seeded market through the servers: what the real client hears live is what history then says."""

from __future__ import annotations

import databento
import pytest

from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, TODAY, ask, make_market
from simulator_support import Listener, running_simulator

STARTS = TODAY * DAY + 15 * HOUR


@pytest.fixture(scope="module")
def running():
    with running_simulator(starts_at_ns=STARTS, seed=7) as simulator:
        yield simulator


def test_history_is_the_markets_bytes(running):
    market = make_market()
    client = running.historical()
    for dataset, schema, symbols, stype, start, end in [
        (EQUITIES, "trades", ["AAPL", "SPY"], "raw_symbol", STARTS - 5 * MINUTE, STARTS - 4 * MINUTE),
        (EQUITIES, "ohlcv-1d", ["QQQ"], "raw_symbol", STARTS - 15 * HOUR - 9 * DAY, STARTS - 15 * HOUR),
        (OPTIONS, "cbbo-1m", ["TSLA.OPT"], "parent", STARTS - 5 * MINUTE, STARTS - 4 * MINUTE),
        (OPTIONS, "definition", ["TSLA.OPT"], "parent", STARTS - 15 * HOUR, STARTS - 14 * HOUR),
    ]:
        store = client.timeseries.get_range(
            dataset=dataset, schema=schema, symbols=symbols, stype_in=stype, start=start, end=end
        )
        who = symbols
        if stype == "parent":
            found = market.resolve(dataset, symbols, stype, TODAY, TODAY + 1)
            who = [one.raw_symbol for one in found]
        expected = ask(market, dataset, schema, start, end, who)
        received = store.to_ndarray()
        assert len(expected)
        assert received.tobytes() == expected.tobytes()


def test_live_says_what_history_says(running):
    listener = Listener(running, EQUITIES).subscribe("trades", ["NVDA", "SPY"]).start()
    try:
        listener.until_count(databento.TradeMsg, 20)
    finally:
        listener.close()
    heard = listener.of(databento.TradeMsg)
    market = make_market()
    said = ask(market, EQUITIES, "trades", heard[0].ts_recv, heard[-1].ts_recv + 1, ["NVDA", "SPY"])
    assert b"".join(bytes(record) for record in heard) == said.tobytes()[: 48 * len(heard)]


def test_the_truth_is_served(running):
    answer = running.call("GET", "/truth/SPY", params={"at": str(STARTS)}).json()
    assert answer["spot"] == make_market().true.spot("SPY", STARTS)
    assert running.call("GET", "/truth/IBM").status_code == 404
