"""What is read off chains whose smile is known, through HTTP: surface, skew, term structure, expected move."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from ots_quant.density import flat_move, risk_neutral, smile_move, straddle_move
from priced_chain_support import (
    DAYS,
    NO_RATE,
    RATE,
    SPOT,
    TODAY,
    YIELD,
    ChainService,
    changed,
    forward_of,
    made_contracts,
    priced,
    smile,
    without,
)

READINGS = (
    ("surface", ""), ("surface", "grid=true"), ("skew", ""), ("term-structure", ""), ("expected-move", ""),
    ("exposure", ""), ("exposure", "by=expiration&volatility=quoted&profile=true"), ("open-interest", ""),
    ("open-interest", "by=expiration"), ("open-interest", "by=contract"),
)  # fmt: skip


@pytest.fixture(scope="module")
def known():
    return priced(made_contracts())


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def service(module_patch, known):
    return ChainService(module_patch)


@pytest.fixture
def ask(service, known):
    service.chain = known
    return service.get


def expirations(days=DAYS):
    return [str(np.datetime64(TODAY) + d) for d in days]


def test_the_surface_is_the_known_smile_with_its_certificate(ask, known):
    answer = ask("surface")
    assert [row["expiration"] for row in answer["expirations"]] == expirations()
    for row, days in zip(answer["expirations"], DAYS, strict=True):
        years = days / 365
        assert row["days_to_expiration"] == days
        assert row["forward"] == pytest.approx(forward_of(years), rel=2e-4)
        assert row["forward_low"] <= row["forward"] <= row["forward_high"]
        assert (row["rate"], row["reason"]) == (RATE, None)
        assert row["at_the_money"] == pytest.approx(smile(0.0, years), abs=2e-3)
        # the stated formula of the stated parameters is the volatility that a grid answers
        k = math.log(210 / row["forward"])
        a, b, rho, m, sigma = (row[f"svi_{name}"] for name in ("a", "b", "rho", "m", "sigma"))
        w = a + b * (rho * (k - m) + math.sqrt((k - m) ** 2 + sigma**2))
        assert math.sqrt(w / years) == pytest.approx(known.surface.volatility(years, 210.0), rel=1e-12)
        assert row["contracts_used"] + row["contracts_left_out"] == 50
        used = (known.surface.left_out == 0) & (known.years == years)
        assert row["contracts_used"] == used.sum()
        assert row["strike_low"] == pytest.approx(known.strike[used].min())
        assert row["strike_high"] == pytest.approx(known.strike[used].max())
        assert row["rms_volatility"] < 0.01
    certificate, found = answer["certificate"], known.surface.certificate
    for kind in ("butterfly", "calendar", "between"):
        for part in ("inside", "outside"):
            counted = getattr(found, f"{kind}_{part}")
            assert certificate[kind][part] == {
                "failing": counted.failing, "points": counted.points, "worst": counted.worst,
            }  # fmt: skip
    assert certificate["contracts_used"] == sum(row["contracts_used"] for row in answer["expirations"])
    assert sum(certificate["contracts_left_out"].values()) + certificate["contracts_used"] == 200
    for name in ("rms_volatility", "max_volatility", "rms_half_spreads", "share_within_spread"):
        assert certificate[name] == getattr(found, name)
    assert certificate["arbitrage_free_inside"] is found.arbitrage_free_inside
    assert answer["reason"] is None


def test_a_grid_says_of_each_point_whether_it_is_inside(ask, known):
    rows = ask("surface", "grid=true&moneyness_from=0.8&moneyness_to=1.2&moneyness_steps=5&days=1,16,30,200")["grid"]
    assert [(row["days"], row["moneyness"]) for row in rows] == [
        (days, share) for days in (1, 16, 30, 200) for share in (0.8, 0.9, 1.0, 1.1, 1.2)
    ]
    # where both expirations around them are quoted; the nearer one of them is in the narrower range
    near = ask("surface", f"expiration={expirations()[1]}")["expirations"][0]
    low, high = near["strike_low"] / near["forward"], near["strike_high"] / near["forward"]
    assert 0.8 < low < 1.0 < high < 1.2
    for row in rows:
        assert row["strike"] == pytest.approx(row["moneyness"] * row["forward"])
        assert row["total_variance"] == pytest.approx(row["volatility"] ** 2 * row["days"] / 365)
        assert row["inside"] is (row["days"] in (16, 30) and low <= row["moneyness"] <= high)
        assert (row["reason"] is None) is row["inside"]
        if row["inside"]:
            k = math.log(row["moneyness"])
            # between expirations total variance is linear at the same moneyness
            near, far = smile(k, 16 / 365) ** 2 * 16, smile(k, 44 / 365) ** 2 * 44
            share = (row["days"] - 16) / 28
            assert row["volatility"] == pytest.approx(math.sqrt((near + (far - near) * share) / row["days"]), abs=4e-3)
    reasons = {row["days"]: row["reason"] for row in rows if row["moneyness"] == 1.0}
    assert reasons[1].startswith("before the first expiration")
    assert reasons[200].startswith("after the last expiration")
    assert rows[5]["reason"].startswith("beyond the quoted strikes")


def test_skew_is_that_of_the_smile_and_null_beyond_the_quoted_strikes(service, ask, known):
    rows = ask("skew")["expirations"]
    for row, days in zip(rows, DAYS, strict=True):
        years = days / 365
        assert row["at_the_money"] == pytest.approx(smile(0.0, years), abs=2e-3)
        if days < 16:
            continue
        assert row["reason"] is None
        assert row["slope"] == pytest.approx(-0.1, abs=0.03)
        for size in (25, 10):
            call, put = row[f"call_{size}_delta"], row[f"put_{size}_delta"]
            for volatility, right in ((call, "call"), (put, "put")):
                strike = row[f"{right}_{size}_delta_strike"]
                assert volatility == pytest.approx(smile(math.log(strike / row["forward"]), years), abs=4e-3)
            assert row[f"risk_reversal_{size}_delta"] == pytest.approx(call - put)
            assert row[f"butterfly_{size}_delta"] == pytest.approx((call + put) / 2 - row["at_the_money"])
            # and by the surface's own readings
            assert row[f"risk_reversal_{size}_delta"] == pytest.approx(
                known.surface.risk_reversal(years, size / 100), abs=1e-9
            )
            assert row[f"butterfly_{size}_delta"] == pytest.approx(known.surface.butterfly(years, size / 100), abs=1e-9)
    service.chain = priced(without(made_contracts(), np.abs(made_contracts().strike - SPOT) > 16))
    last = service.get("skew", f"expiration={expirations()[3]}")["expirations"]
    assert len(last) == 1
    assert last[0]["risk_reversal_10_delta"] is None
    assert last[0]["call_10_delta"] is None
    assert last[0]["call_10_delta_strike"] > 216
    assert "beyond the quoted strikes" in last[0]["reason"]
    assert "call 10 delta" in last[0]["reason"]
    assert last[0]["at_the_money"] is not None


def test_the_term_structure_and_what_lies_between(ask, known):
    answer = ask("term-structure", "days=1,30,44.5,365")
    w_before, years_before = 0.0, 0.0
    for row, days in zip(answer["expirations"], DAYS, strict=True):
        years = days / 365
        w = row["at_the_money"] ** 2 * years
        assert row["total_variance"] == pytest.approx(w)
        between = math.sqrt((w - w_before) / (years - years_before))
        assert row["forward_volatility"] == pytest.approx(between)
        w_before, years_before = w, years
    assert [row["from_expiration"] for row in answer["expirations"]] == [None, *expirations()[:3]]
    by_days = {one["days"]: one for one in answer["constant_maturities"]}
    near, far = (smile(0.0, days / 365) ** 2 * days for days in (16, 44))
    assert by_days[30]["at_the_money"] == pytest.approx(math.sqrt((near + (far - near) * 14 / 28) / 30), abs=2e-3)
    assert by_days[44.5]["at_the_money"] is not None
    for days in (1, 365):
        assert by_days[days]["at_the_money"] is None
        assert by_days[days]["reason"]


def test_a_fall_of_total_variance_has_no_forward_volatility(ask, known, monkeypatch):
    falling = known.surface.term_structure()._replace(forward_volatility=np.array([0.2, np.nan, 0.2, 0.2]))
    monkeypatch.setattr(type(known.surface), "term_structure", lambda _: falling)
    row = ask("term-structure")["expirations"][1]
    assert row["forward_volatility"] is None
    assert "total variance falls" in row["reason"]


def test_expected_moves_name_their_quantity_and_assumption(ask, known):
    answer = ask("expected-move")
    assert set(answer["assumptions"]) == {"straddle", "flat", "smile", "all"}
    for row, days in zip(answer["expirations"], DAYS, strict=True):
        years = days / 365
        assert row["straddle_strike"] == 200.0
        legs = [np.flatnonzero((known.years == years) & (known.strike == 200) & (known.right == w))[0] for w in (1, -1)]
        assert row["straddle_bid"] == pytest.approx(known.bid[legs].sum())
        assert row["straddle_ask"] == pytest.approx(known.ask[legs].sum())
        for side in ("bid", "mid", "ask"):
            cost = {"bid": known.bid, "ask": known.ask, "mid": (known.bid + known.ask) / 2}[side][legs].sum()
            assert row[f"straddle_{side}"] == pytest.approx(cost)
            assert row[f"straddle_mean_absolute_at_{side}"] == pytest.approx(cost * math.exp(RATE * years))
        middle = straddle_move(*known.mid[legs], years, RATE)
        assert row["straddle_standard_deviation_at_mid"] == pytest.approx(float(middle.standard_deviation))
        assert row["straddle_desk_convention_at_mid"] == pytest.approx(0.85 * row["straddle_mid"])
        flat = flat_move(SPOT, years, RATE, YIELD, row["at_the_money"])
        for name in ("mean_absolute", "standard_deviation", "lower", "upper"):
            assert row[f"flat_{name}"] == pytest.approx(float(getattr(flat, name)), rel=1e-3)
        distribution = risk_neutral(lambda k, y=years: known.surface.volatility(y, k), row["forward"], years)
        move = smile_move(distribution)
        for name in ("mean_absolute", "standard_deviation", "lower", "upper"):
            assert row[f"smile_{name}"] == pytest.approx(float(getattr(move, name)), rel=1e-6)
        assert row["smile_lower"] < row["forward"] < row["smile_upper"]
        used = (known.surface.left_out == 0) & (known.years == years)
        between = np.diff(distribution.probability_below([known.strike[used].min(), known.strike[used].max()]))
        assert row["smile_probability_between_quoted_strikes"] == pytest.approx(between[0], abs=1e-6)
        assert 0.8 < between[0] < 1.0
        # the two quantities differ by about sqrt(pi / 2)
        assert 1.2 < row["flat_standard_deviation"] / row["flat_mean_absolute"] < 1.3
        assert row["reason"] is None


def test_a_straddle_stands_where_both_legs_can_be_traded(service):
    contracts = made_contracts()
    near = (contracts.years == 16 / 365) & np.isin(contracts.strike, (195.0, 200.0, 205.0))
    one_leg = changed(contracts, near & (contracts.right > 0), bid=np.nan)
    service.chain = priced(one_leg)
    row = service.get("expected-move", f"expiration={expirations()[1]}")["expirations"][0]
    assert row["straddle_strike"] in (190.0, 210.0)
    assert row["straddle_bid"] < row["straddle_mid"] < row["straddle_ask"]
    assert "standard deviations from the forward" in row["reason"]
    # a stale quote is none, and neither is a crossed one
    for values in ({"quoted_at": 1}, {"bid": 300.0}):
        service.chain = priced(changed(contracts, near & (contracts.right > 0), **values))
        row = service.get("expected-move", f"expiration={expirations()[1]}")["expirations"][0]
        assert row["straddle_strike"] in (190.0, 210.0)
    service.chain = priced(changed(contracts, contracts.right > 0, bid=np.nan))
    row = service.get("expected-move")["expirations"][0]
    assert row["straddle_mid"] is None
    assert "no strike has a call and a put" in row["reason"]


def awkward_chains():
    contracts = made_contracts()
    every = np.ones(len(contracts), bool)
    yield "no spot", priced(contracts, spot=None)
    yield "no rate", priced(contracts, rate=NO_RATE)
    yield "one expiration", priced(without(contracts, contracts.years != 16 / 365))
    yield "one contract", priced(without(contracts, np.arange(len(contracts)) != 75))
    yield "one strike", priced(without(contracts, contracts.strike != 200))
    yield (
        "no open interest",
        priced(changed(contracts, every, open_interest=-1, open_interest_date=np.datetime64("NaT"))),
    )
    yield "nothing open", priced(changed(contracts, every, open_interest=0))
    yield "never quoted", priced(changed(contracts, every, bid=np.nan, ask=np.nan, quoted_at=0))
    yield "all stale", priced(changed(contracts, every, quoted_at=1))
    yield "all crossed", priced(changed(contracts, every, bid=contracts.ask + 1))
    yield "no bids", priced(changed(contracts, every, bid=np.nan))
    yield "calls only", priced(without(contracts, contracts.right < 0))
    yield "puts only", priced(without(contracts, contracts.right > 0))
    yield "a spot far away", priced(contracts, spot=1.0)
    yield "three seconds to live", priced(changed(contracts, contracts.years == 2 / 365, years=3 / 86400 / 365))
    yield "half a second to live", priced(changed(contracts, contracts.years == 2 / 365, years=0.5 / 86400 / 365))
    yield "free options", priced(changed(contracts, every, bid=0.0, ask=0.0))
    rng = np.random.default_rng(1)
    yield "nonsense", priced(changed(contracts, every, bid=rng.random(200) * 50, ask=rng.random(200) * 100))


AWKWARD = dict(awkward_chains())


@pytest.mark.parametrize("reading", READINGS, ids=lambda pair: "?".join(pair))
@pytest.mark.parametrize("name", AWKWARD)
def test_no_chain_is_too_awkward(service, name, reading):
    service.chain = AWKWARD[name]
    answer = service.get(*reading)  # conforms to its description, and has no NaN
    table = next(value for key, value in answer.items() if isinstance(value, list) and key != "constant_maturities")
    assert table
    # whatever is not known has a reason
    for row in table:
        missing = [key for key, value in row.items() if value is None and key not in OPTIONAL]
        assert row["reason"] or not missing, (missing, row)


# null for the first expiration, which has none before it
OPTIONAL = {"reason", "from_expiration"}


def test_a_forward_beyond_all_numbers_is_null(service, known):
    # the growth of two seconds goes on for ten years
    hurried = replace(known.surface, years=known.surface.years * 1e-6)
    service.chain = replace(known, surface=hurried)
    last = service.get("surface", "grid=true&days=1,3650&moneyness_steps=2")["grid"][-1]
    assert (last["forward"], last["strike"]) == (None, None)
    assert last["reason"].startswith("after the last expiration")


def test_why_there_is_nothing_is_said(service):
    for name, reading, told in (
        ("no spot", "surface", "no price of TEST in the 900 s before"),
        ("no rate", "surface", "no curve was known"),
        ("never quoted", "surface", "no expiration tells its volatility"),
    ):
        service.chain = AWKWARD[name]
        answer = service.get(reading)
        assert told in answer["reason"]
    service.chain = AWKWARD["no rate"]
    row = service.get("expected-move")["expirations"][1]
    # a straddle has a price without a rate; what it is worth at expiration needs one
    assert row["straddle_strike"] == 200.0
    assert row["straddle_mid"] == pytest.approx(2 * row["straddle_desk_convention_at_mid"] / 1.7)
    assert row["straddle_mean_absolute_at_mid"] is None
    assert row["reason"].startswith("no_rate")


@pytest.mark.parametrize(
    ("reading", "query", "pointer", "status"),
    [
        ("surface", "days=7", "#/query/grid", 422),
        ("surface", "grid=true&days=x", "#/query/days", 422),
        ("surface", "grid=true&days=,", "#/query/days", 422),
        ("surface", "grid=true&days=0", "#/query/days", 422),
        ("surface", "grid=true&days=nan", "#/query/days", 422),
        ("surface", "grid=true&moneyness_from=1.3", "#/query/moneyness_to", 422),
        ("surface", "grid=true&moneyness_from=nan", "#/query/moneyness_from", 422),
        ("surface", "grid=true&moneyness_to=inf", "#/query/moneyness_to", 422),
        ("surface", "grid=true&moneyness_steps=501&days=1,2,3,4,5,6,7,8,9,10", "#/query/moneyness_steps", 422),
        ("surface", "grid=true&expiration=2026-03-13", "#/query/expiration", 422),
        ("surface", "expiration=2026-03-14", "#/query/expiration", 404),
        ("skew", "expiration=2026-03-14", "#/query/expiration", 404),
        ("skew", "expiration=tomorrow", "#/query/expiration", 422),
        ("skew", "strike=3", "#/query/strike", 422),
        ("skew", "fields=expiration,colour", "#/query/fields", 422),
        ("term-structure", "days=3651", "#/query/days", 422),
        ("expected-move", "expiration=9999-12-31", "#/query/expiration", 404),
        ("exposure", "side=mine", "#/query/side", 422),
        ("exposure", "by=contract", "#/query/by", 422),
        ("open-interest", "by=dealer", "#/query/by", 422),
    ],
)
def test_what_is_wrong_is_named(ask, reading, query, pointer, status):
    problem = ask(reading, query, status)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    if status == 404:
        assert problem["available"] == expirations()


@pytest.mark.parametrize(("reading", "query"), READINGS, ids=lambda text: text or "plain")
def test_csv_has_the_rows_of_json(ask, reading, query):
    answer = ask(reading, query)
    rows = next(value for key, value in answer.items() if isinstance(value, list) and key != "constant_maturities")
    read = list(csv.DictReader(io.StringIO(ask(reading, query, Accept="text/csv"))))
    assert [list(row) for row in read] == [list(row) for row in rows]
    for found, row in zip(read, rows, strict=True):
        assert {name: same_kind(text, row[name]) for name, text in found.items()} == row


def same_kind(text, value):
    """What CSV says, as JSON's value would be."""
    if value is None or isinstance(value, bool):
        return {"": None, "true": True, "false": False}[text]
    return type(value)(text)


def test_fields_choose_the_columns_in_their_order(ask):
    rows = ask("skew", "fields=reason,expiration,at_the_money")["expirations"]
    assert all(list(row) == ["reason", "expiration", "at_the_money"] for row in rows)
