"""A chain of the seeded market, whose true volatilities are known: the answers lie around them, within the quotes."""

from __future__ import annotations

import numpy as np
import pytest

from data_ingestion_support import Ingestion, settings_for
from option_chain_support import Analytics, desk_of
from ots_chains import priced_chains
from ots_chains.priced_chains import pooled_rate_of
from ots_common.times import rfc3339
from ots_simulator.underlyings import BY_SYMBOL, RATE
from seeded_market import DAY, MINUTE, OPTIONS, TODAY, make_market
from volatility_support import catch_up, import_close, import_records

CLOSE = (TODAY + 1) * DAY
UNDERLYINGS = sorted(BY_SYMBOL)


@pytest.fixture(scope="module")
def seeded():
    return make_market(now=CLOSE + 5 * MINUTE)


@pytest.fixture(scope="module")
def analytics(market, redis_server, tmp_path_factory, seeded):
    settings = settings_for(
        market, redis_server, tmp_path_factory.mktemp("spool"),
        market_calendar="around-the-clock",
    )  # fmt: skip
    service = Ingestion(settings)
    with service.working():
        for schema in ("definition", "statistics"):
            import_records(service, seeded, OPTIONS, schema, TODAY, TODAY * DAY, CLOSE, {"AAPL"})
        import_records(service, seeded, OPTIONS, "trades", TODAY, CLOSE - 30 * MINUTE, CLOSE, {"AAPL"})
        import_close(service, seeded, TODAY, UNDERLYINGS, minutes=2)
    return Analytics(market, redis_server, market_calendar="around-the-clock", market_source="simulated")


def test_before_the_first_snapshot_all_chains_together_tell_what_one_does_not(analytics, monkeypatch):
    asked = []

    def counted(*arguments):
        asked.append(arguments)
        return pooled_rate_of(*arguments)

    monkeypatch.setattr(priced_chains, "pooled_rate_of", counted)
    rates = {name: analytics.answer(f"/options/{name}?as_of={rfc3339(CLOSE)}&limit=1")["rate"] for name in UNDERLYINGS}
    assert {rate["kind"] for rate in rates.values()} == {"parity"}
    pooled = {rate["detail"] for rate in rates.values() if f"of {len(UNDERLYINGS)} underlyings" in rate["detail"]}
    # those that tell none by themselves have one and the same, which was made once
    assert len(pooled) == len(asked) == 1


def test_the_rate_is_the_chains_own_until_one_of_all_chains_is_stored(analytics, market):
    before = analytics.answer(f"/options/AAPL?as_of={rfc3339(CLOSE)}")
    assert before["rate"]["kind"] in ("parity", None)
    assert "stored" not in before["rate"]["detail"]
    assert catch_up(market, CLOSE + 5 * MINUTE) == len(UNDERLYINGS)
    after = analytics.answer(f"/options/AAPL?as_of={rfc3339(CLOSE)}")
    assert after["rate"]["kind"] == "parity"
    assert f"as stored at {rfc3339(CLOSE)}" in after["rate"]["detail"]
    assert after["expirations"][-1]["rate"] == pytest.approx(RATE, abs=0.01)
    # what was stored at the close was not known before it
    early = analytics.answer(f"/options/AAPL?as_of={rfc3339(CLOSE - 1)}")
    assert "stored" not in early["rate"]["detail"]
    chain_is_true(analytics, after)


def chain_is_true(analytics, answer):
    """Every live contract is there, and its volatility lies around the one that made its quotes."""
    seeded = make_market(now=CLOSE + 5 * MINUTE)
    listed = seeded.chains.chain("AAPL", TODAY)
    alive = {name.replace(" ", ""): name for name, day in zip(listed.raw_symbols, listed.expiration, strict=True)
             if day > TODAY}  # fmt: skip
    assert {row["symbol"] for row in answer["contracts"]} == set(alive)
    assert answer["source"] == "simulated"
    errors = []
    for row in answer["contracts"]:
        if row["implied_volatility"] and row["days_to_expiration"] > 1:
            true = seeded.true.contract(alive[row["symbol"]], CLOSE - 1).implied_volatility
            half = (row["ask_implied_volatility"] - (row["bid_implied_volatility"] or 0.0)) / 2
            errors.append((row["implied_volatility"] - true) / max(half, 1e-4))
    assert len(errors) > 100
    # in half-spreads: the spot is a bar's close, the rate is pooled, and the mid is rounded to cents
    assert np.median(np.abs(errors)) < 1.0
    assert np.mean(np.abs(errors) < 3.0) > 0.9
    assert sum(row["volume"] for row in answer["contracts"]) > 0
    counted = [row for row in answer["contracts"] if row["open_interest"] is not None]
    assert len(counted) == len(answer["contracts"])
    expected = dict(zip(listed.raw_symbols, listed.open_interest.tolist(), strict=True))
    assert all(row["open_interest"] == expected[alive[row["symbol"]]] for row in counted)


def test_every_underlying_has_a_chain_at_that_moment(analytics):
    with analytics.app.app_context(), desk_of(analytics.settings) as desk:
        chains = desk.chains(desk.moment(CLOSE))
    assert [chain.underlying for chain in chains] == UNDERLYINGS
    assert all(len(chain) > 100 for chain in chains)


def test_the_process_keeps_what_it_priced_and_prices_it_once(analytics):
    with analytics.app.app_context(), desk_of(analytics.settings) as desk:
        moment = desk.moment(CLOSE)
        first = desk._memory.get("kept", lambda: desk._price("MSFT", moment))
        assert desk._memory.get("kept", lambda: pytest.fail("made again")) is first
