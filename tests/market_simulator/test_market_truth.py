"""The market tells what it knows, at times that have been, of what there is."""

from __future__ import annotations

import numpy as np
import pytest

from seeded_market import DAY, HOUR, MINUTE, SECOND, TODAY, make_market

NOW = TODAY * DAY + 15 * HOUR + 30 * SECOND


@pytest.fixture(scope="module")
def market():
    return make_market(now=NOW)


def test_a_stocks_truth(market):
    answer = market.truth("SPY", {})
    assert answer["simulated"] is True
    assert answer["at"] == NOW
    assert answer["spot"] == market.true.spot("SPY", NOW)
    assert 0.03 < answer["volatility"] < 1.0
    assert answer["rate"] == 0.0425
    assert answer["dividend_yield"] == 0.012


def test_a_contracts_truth(market):
    chain = market.chains.chain("TSLA", TODAY)
    name = chain.raw_symbols[len(chain.raw_symbols) // 2]
    at = NOW - HOUR
    answer = market.truth(name, {"at": str(at)})
    assert answer["raw_symbol"] == name
    assert answer["spot"] == market.true.spot("TSLA", at)
    assert 0.1 < answer["implied_volatility"] < 2.0
    strike, right = chain.strike[chain.raw_symbols.index(name)], 1 if name[12] == "C" else -1
    assert answer["value"] >= max(0.0, right * (answer["spot"] - strike)) - 1e-9


def test_the_truth_moves_by_the_second_and_stands_within(market):
    at = TODAY * DAY + 3 * HOUR
    spots = [market.true.spot("AAPL", at + second * SECOND) for second in range(90)]
    assert len(set(spots)) == 90
    assert market.true.spot("AAPL", at + SECOND - 1) == spots[0]
    # the end of a minute is the node of the path
    log_price = market.paths.minutes("AAPL", TODAY).log_price
    assert spots[60] == pytest.approx(np.exp(log_price[181]))


@pytest.mark.parametrize(
    ("what", "query"),
    [
        ("IBM", {}),
        ("", {}),
        ("AAPL/", {}),
        ("AAPL  991231C00100000", {}),
        ("AAPL  261340C00100000", {}),
        ("AAPL", {"at": str(NOW + 1)}),
        ("AAPL", {"at": "9" * 30}),
        ("AAPL", {"at": "-5"}),
        ("AAPL", {"at": "soon"}),
        ("AAPL", {"at": ""}),
        ("AAPL", {"at": "0"}),
        ("AAPL", {"at": "١٢"}),
    ],
)
def test_of_what_is_not_there_is_no_truth(market, what: str, query: dict[str, str]):
    assert market.truth(what, query) is None


def test_midnight_between_two_sessions_is_one_price(market):
    midnight = TODAY * DAY
    assert market.true.spot("QQQ", midnight) == pytest.approx(market.true.spot("QQQ", midnight - 1), rel=2e-3)
    assert market.true.volatility("QQQ", midnight) == pytest.approx(
        market.true.volatility("QQQ", midnight - MINUTE), rel=0.1
    )
