"""Exposures and open interest of chains whose figures are known, through HTTP, against sums made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ots_quant import american
from priced_chain_support import DAYS, RATE, SPOT, TODAY, YIELD, ChainService, changed, made_contracts, priced, without

GREEKS = ("gamma", "delta", "vanna", "charm")
SIGNS = {
    "calls_long_puts_short": (1, -1),
    "calls_short_puts_long": (-1, 1),
    "all_short": (-1, -1),
    "all_long": (1, 1),
}


@pytest.fixture(scope="module")
def known():
    return priced(made_contracts())


@pytest.fixture(scope="module")
def service():
    with pytest.MonkeyPatch.context() as patch:
        yield ChainService(patch)


@pytest.fixture
def ask(service, known):
    service.chain = known
    return service.get


def dollars(chain, volatility):
    """Of each contract, as QUANT.md has it; NaN where it is not known."""
    greeks = american.greeks(
        chain.right, SPOT, chain.strike, chain.years, chain.carry_rate, chain.dividend_yield, volatility
    )
    shares = np.where(chain.open_interest >= 0, chain.open_interest, np.nan) * 100
    return {
        "gamma": shares * greeks.gamma * SPOT**2 / 100,
        "delta": shares * greeks.delta * SPOT,
        "vanna": shares * greeks.vanna * SPOT / 100,
        "charm": shares * greeks.charm * SPOT / 365,
    }


def signed(chain, name, values):
    call, put = SIGNS[name]
    return values * np.where(chain.right > 0, call, put)


def test_each_figure_is_a_sum_over_contracts_under_an_assumption(ask, known):
    answer = ask("exposure", "volatility=quoted")
    each = dollars(known, known.implied_volatility)
    by_side = {name: {greek: np.nansum(signed(known, name, each[greek])) for greek in GREEKS} for name in SIGNS}
    for name, expected in by_side.items():
        assert answer["totals"]["assumptions"][name] == pytest.approx(expected, rel=1e-9)
    for greek in GREEKS:
        values = [expected[greek] for expected in by_side.values()]
        assert answer["totals"]["least"][greek] == pytest.approx(min(values))
        assert answer["totals"]["greatest"][greek] == pytest.approx(max(values))
        assert answer["totals"]["least"][greek] < 0 < answer["totals"]["greatest"][greek]
    assert (answer["side"], answer["volatility"]) == ("calls_long_puts_short", "quoted")
    assert [row["strike"] for row in answer["strikes"]] == np.unique(known.strike).tolist()
    for row in answer["strikes"]:
        own = known.strike == row["strike"]
        sums = {name: {g: np.nansum(signed(known, name, each[g])[own]) for g in GREEKS} for name in SIGNS}
        for greek in GREEKS:
            assert row[greek] == pytest.approx(sums["calls_long_puts_short"][greek], rel=1e-9, abs=1e-6)
            assert row[f"{greek}_least"] == pytest.approx(min(one[greek] for one in sums.values()), abs=1e-6)
            assert row[f"{greek}_greatest"] == pytest.approx(max(one[greek] for one in sums.values()), abs=1e-6)
    assert "does not say who is long" in answer["who_is_long"]


def test_by_expiration_the_sums_are_those_of_its_contracts(ask, known):
    answer = ask("exposure", "by=expiration&side=all_short&volatility=quoted")
    each = dollars(known, known.implied_volatility)
    for row, days in zip(answer["expirations"], DAYS, strict=True):
        own = known.years == days / 365
        assert row["expiration"] == str(np.datetime64(TODAY) + days)
        assert row["gamma"] == pytest.approx(-np.nansum(each["gamma"][own]), rel=1e-9)
        alone = ask("exposure", f"expiration={row['expiration']}&side=all_short&volatility=quoted")
        assert alone["totals"]["assumptions"]["all_short"]["gamma"] == pytest.approx(row["gamma"])
        assert alone["max_pain"]["strike"] == row["max_pain"]
        payout = [
            (np.maximum(known.right * (s - known.strike), 0) * known.open_interest)[own].sum()
            for s in np.unique(known.strike)
        ]
        assert row["max_pain"] == np.unique(known.strike)[int(np.argmin(payout))]
    assert answer["max_pain"]["strike"] is None
    assert "one expiration" in answer["max_pain"]["reason"]


def test_what_is_left_out_is_counted_and_the_surface_fills_what_it_may(service):
    contracts = made_contracts()
    open_ones = contracts.open_interest > 0
    target = int(np.flatnonzero(open_ones & (contracts.strike == 205) & (contracts.years == 44 / 365))[0])
    unknown = int(np.flatnonzero(open_ones & (contracts.strike == 195) & (contracts.years == 44 / 365))[0])
    contracts = changed(contracts, target, bid=np.nan)
    contracts = changed(contracts, unknown, open_interest=-1, open_interest_date=np.datetime64("NaT"))
    service.chain = chain = priced(contracts)
    no_volatility = ~np.isfinite(chain.implied_volatility)
    quoted = service.get("exposure", "volatility=quoted")["contracts_left_out"]
    out = (no_volatility & (chain.open_interest > 0)) | (chain.open_interest < 0)
    assert quoted["contracts"] == out.sum() == sum(quoted["reasons"].values())
    assert quoted["reasons"]["no_open_interest"] == 1
    assert quoted["open_interest"] == chain.open_interest[out & (chain.open_interest > 0)].sum()
    assert quoted["of_open_interest"] == chain.open_interest[chain.open_interest > 0].sum()
    assert quoted["at_the_surfaces_volatility"] == 0
    answer = service.get("exposure")
    inside = chain.surface.inside(chain.years, chain.strike)
    filled = no_volatility & inside & (chain.open_interest > 0)
    assert filled[target]
    assert answer["contracts_left_out"]["at_the_surfaces_volatility"] == filled.sum()
    assert answer["contracts_left_out"]["contracts"] == quoted["contracts"] - filled.sum()
    # what is beyond the quoted strikes stays out
    assert (no_volatility & ~inside & (chain.open_interest > 0)).any()
    volatility = np.where(filled, chain.surface.volatility(chain.years, chain.strike), chain.implied_volatility)
    total = np.nansum(dollars(chain, volatility)["gamma"])
    assert answer["totals"]["assumptions"]["all_long"]["gamma"] == pytest.approx(total, rel=1e-9)
    assert sum(row["left_out"] for row in answer["strikes"]) == answer["contracts_left_out"]["contracts"]


def test_total_gamma_is_zero_at_the_level_that_is_told(service):
    contracts = made_contracts()
    out_of_the_money = contracts.right * (contracts.strike - SPOT) > 0
    service.chain = known = priced(replace(contracts, open_interest=np.where(out_of_the_money, 700, 30)))
    ask = service.get
    answer = ask("exposure", "volatility=quoted&profile=true")["zero_gamma"]
    assert answer["exercise"] == "american"

    def total(spot):
        greeks = american.greeks(
            known.right, spot, known.strike, known.years, known.carry_rate, known.dividend_yield,
            known.implied_volatility,
        )  # fmt: skip
        return np.nansum(greeks.gamma * known.open_interest * known.right) * spot**2

    level = answer["spot"]
    assert total(level - 0.02) * total(level + 0.02) < 0
    assert min(abs(one - level) for one in answer["all"]) < 1.0
    # the others lie no nearer to the spot
    assert all(abs(one - SPOT) > abs(level - SPOT) - 1.0 for one in answer["all"])
    assert answer["searched"] == {"from": 140.0, "to": 260.0, "points": 241}
    assert len(answer["profile"]) == 241
    signs = np.sign([point["gamma"] for point in answer["profile"]])
    assert (np.diff(signs) != 0).sum() == len(answer["all"])
    assert "sticky strike" in answer["assumption"]
    one_sided = ask("exposure", "side=all_long")["zero_gamma"]
    assert one_sided["spot"] is None
    assert one_sided["reason"] == "gamma exposure is positive at every spot of the grid"
    assert one_sided["profile"] is None


def test_without_a_spot_or_open_interest_there_is_no_sum(service):
    contracts = made_contracts()
    service.chain = priced(contracts, spot=None)
    answer = service.get("exposure", "by=expiration")
    assert set(answer["totals"]["greatest"].values()) == {None}
    assert answer["zero_gamma"]["reason"].startswith("no_spot")
    assert answer["contracts_left_out"]["contracts"] == (contracts.open_interest > 0).sum()
    # max pain needs open interest alone
    assert all(row["max_pain"] is not None and row["gamma"] is None for row in answer["expirations"])
    everywhere = np.ones(len(contracts), bool)
    service.chain = priced(changed(contracts, everywhere, open_interest=-1, open_interest_date=np.datetime64("NaT")))
    answer = service.get("exposure")
    assert set(answer["totals"]["greatest"].values()) == {None}
    assert answer["zero_gamma"]["reason"] == "no contract has both a volatility and open interest"
    assert answer["open_interest"]["date"] is None
    assert answer["open_interest"]["reason"] == "open interest: not published by the moment"
    rows = service.get("open-interest")
    assert rows["totals"]["open_interest"]["put_call_ratio"] is None
    assert rows["totals"]["open_interest"]["reason"] == "not known of any contract"
    assert all(row["call_open_interest"] is None and row["put_open_interest"] is None for row in rows["strikes"])
    # nothing open is known to be nothing
    service.chain = priced(changed(contracts, everywhere, open_interest=0))
    assert set(service.get("exposure")["totals"]["greatest"].values()) == {0.0}


@pytest.mark.parametrize("by", ["strike", "expiration"])
def test_open_interest_and_volume_are_counted(ask, known, by):
    answer = ask("open-interest", f"by={by}")
    calls, puts = known.right > 0, known.right < 0
    keys = known.strike if by == "strike" else known.expiration.astype(str)
    for row in answer[f"{by}s"]:
        own = keys == row[by]
        for name, values in (("open_interest", known.open_interest), ("volume", known.volume)):
            of_calls, of_puts = values[own & calls].sum(), values[own & puts].sum()
            assert (row[f"call_{name}"], row[f"put_{name}"]) == (of_calls, of_puts)
            assert row[f"{name}_put_call_ratio"] == (pytest.approx(of_puts / of_calls) if of_calls else None)
        assert row["contracts"] == own.sum()
    for name, values in (("open_interest", known.open_interest), ("volume", known.volume)):
        assert answer["totals"][name]["calls"] == values[calls].sum()
        assert answer["totals"][name]["put_call_ratio"] == pytest.approx(values[puts].sum() / values[calls].sum())
    assert answer["open_interest"]["date"] == answer["open_interest"]["oldest_date"] == "2026-03-10"
    assert "end of that day" in answer["open_interest"]["meaning"]


def test_without_calls_there_is_no_ratio(service):
    contracts = made_contracts()
    service.chain = priced(without(contracts, contracts.right > 0))
    answer = service.get("open-interest", "by=expiration")
    assert answer["totals"]["open_interest"]["put_call_ratio"] is None
    assert answer["totals"]["open_interest"]["reason"] == "no calls"
    assert answer["totals"]["open_interest"]["puts"] > 0
    for row in answer["expirations"]:
        assert row["open_interest_put_call_ratio"] is None
        assert "open interest: no calls" in row["reason"]


def test_contracts_differ_in_the_date_of_their_figure(service):
    contracts = made_contracts()
    old = contracts.years == 16 / 365
    service.chain = priced(changed(contracts, old, open_interest_date=np.datetime64("2026-03-06")))
    answer = service.get("open-interest", "by=contract")
    assert (answer["open_interest"]["date"], answer["open_interest"]["oldest_date"]) == ("2026-03-10", "2026-03-06")
    dates = np.array([row["open_interest_date"] for row in answer["contracts"]])
    assert (dates[old] == "2026-03-06").all()
    assert (dates[~old] == "2026-03-10").all()
    assert [row["symbol"] for row in answer["contracts"]] == contracts.symbol.tolist()


def test_terms_are_as_the_chain_has_them(known):
    """What the sums by hand above rest on."""
    assert np.nanmax(np.abs(known.carry_rate - RATE)) < 1e-12
    assert np.nanmax(np.abs(known.dividend_yield - YIELD)) < 0.01
