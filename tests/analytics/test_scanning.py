"""What a scan says of contracts of a known model: targets after costs, probabilities, expectation, what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ots_analytics.scan_table import CANDIDATE_COLUMNS, candidate_columns
from ots_analytics.scanning import Candidates, RecentScans, ScannedContracts, Wanted, quoted_of, ranked, scan
from ots_common.tables import Times, Whole
from ots_quant import american, european
from ots_quant.density import option_bracket, spot_at_price
from priced_chain_support import AGE, AT, NO_RATE, changed, made_contracts, priced

HOUR_S = 3600.0
YEAR_S = 365 * 86_400.0
ANY = Wanted(min_probability=0.0, max_spread_pct=200.0)


def contracts(half_spread=0.01, *, rate=0.0, dividend_yield=0.0, days=(0.5, 2.0, 30.0), spot=100.0, sigma=0.4):
    """Calls and puts around the money, quoted around their American value at one volatility."""
    years, strike, right = (
        grid.reshape(-1) for grid in np.meshgrid(np.array(days) / 365, [96.0, 100.0, 104.0], [1.0, -1.0], indexing="ij")
    )
    count = years.size
    mid = american.price(right, spot, strike, years, rate, dividend_yield, sigma)
    half = np.full(count, half_spread) * np.ones(count)
    whole = np.full(count, 10)
    greeks = american.greeks(right, spot, strike, years, rate, dividend_yield, sigma)
    return ScannedContracts(
        underlying=np.full(count, "TEST"),
        symbol=np.array([f"TEST{i:02d}" for i in range(count)]),
        expiration=np.full(count, np.datetime64("2026-03-13")),
        days=np.floor(years * 365).astype(np.int64),
        strike=strike,
        right=right,
        spot=np.full(count, spot),
        years=years,
        bid=mid - half,
        ask=mid + half,
        bid_size=whole,
        ask_size=whole,
        spread_pct=200.0 * half / mid,
        quoted_at=np.full(count, AT),
        quote_age_s=np.zeros(count),
        volume=whole,
        open_interest=whole,
        rate=np.full(count, rate),
        dividend_yield=np.full(count, dividend_yield),
        implied_volatility=np.full(count, sigma),
        volatility=np.full(count, sigma),
        theoretical=mid,
        delta=greeks.delta,
        reason=np.full(count, "", "U32"),
    )


def test_the_target_is_what_selling_at_the_bid_must_bring():
    found = scan(contracts(), ANY, HOUR_S)
    ask, fee, half = found.quoted.ask, 0.65, 0.01
    for name, move in (("break_even", 0.0), ("lesser", 0.05), ("greater", 0.10)):
        reached = getattr(found, name)
        assert (reached.mid - half) * 100 - fee == pytest.approx(ask * 100 * (1 + move) + fee)
        assert reached.bid == pytest.approx(reached.mid - half)
        # the spot at which the contract is worth that, now
        quoted = found.quoted
        worth = american.price(quoted.right, reached.level, quoted.strike, quoted.years, 0.0, 0.0, 0.4)
        assert worth == pytest.approx(reached.mid, rel=1e-7)
    assert found.cost == pytest.approx(2 * half * 100 + 2 * fee)
    assert found.outlay == pytest.approx(ask * 100 + fee)


def simulated(quoted, i, horizon_s, targets, half_spread, paths=20_000, steps=120):
    """Shares of paths that touch each target, and the mean bid at the horizon: the same model, drawn at random.

    Between two looks a path touches the level with the probability of a Brownian bridge, the level being straight.
    """
    random = np.random.default_rng(100 + i)
    right, strike, years, sigma, spot = (
        float(getattr(quoted, name)[i]) for name in ("right", "strike", "years", "volatility", "spot")
    )
    horizon = horizon_s / YEAR_S
    times = np.linspace(0.0, horizon, steps + 1)
    gap = horizon / steps
    moves = random.normal(-0.5 * sigma**2 * gap, sigma * np.sqrt(gap), (steps, paths))
    log_spot = np.vstack((np.zeros(paths), np.cumsum(moves, axis=0)))
    shares = []
    for target in targets:
        level = np.log(spot_at_price(target, right, strike, years - times, 0.0, 0.0, sigma) / spot)
        away = right * (level[:, None] - log_spot)
        missed = np.prod(-np.expm1(-2.0 * np.maximum(away[:-1] * away[1:], 0.0) / (sigma**2 * gap)), axis=0)
        missed[(away <= 0.0).any(axis=0)] = 0.0
        shares.append(1.0 - missed.mean())
    end = spot * np.exp(log_spot[-1])
    bid = np.maximum(european.price(right, end, strike, years - horizon, 0.0, 0.0, sigma) - half_spread, 0.0)
    return shares, bid.mean(), bid.std() / np.sqrt(paths)


@pytest.mark.parametrize("i", [0, 3, 8, 14])
def test_probabilities_and_expectation_are_those_of_the_model_drawn_at_random(i):
    """Without rates American exercise is worth nothing, so that the paths are valued by the European formula."""
    found = scan(contracts(half_spread=0.02), ANY, HOUR_S)
    targets = [found.lesser.mid[i], found.greater.mid[i], 1.05 * found.trip.mid[i]]
    shares, bid, error = simulated(found.quoted, i, HOUR_S, targets, 0.02)
    said = [found.lesser.probability[i], found.greater.probability[i], found.lesser.frictionless[i]]
    assert said == pytest.approx(shares, abs=0.012)  # three and a half standard errors of one half
    value = 100 * (bid - found.trip.ask[i]) - 2 * 0.65
    assert found.expected_value[i] == pytest.approx(value, abs=400 * error)


def test_at_fair_prices_the_expected_value_is_minus_the_cost_whatever_the_probability():
    found = scan(contracts(days=(2.0, 30.0)), ANY, HOUR_S)
    assert found.lesser.probability.max() - found.lesser.probability.min() > 0.5
    assert found.expected_value == pytest.approx(-found.cost, rel=1e-3)


def test_a_bracket_at_the_target_loses_the_cost():
    """Target or stop, one is reached by the expiration: hits times gain plus misses times loss is minus the cost."""
    quoted = contracts(days=(1.0,))
    days = quoted.years * YEAR_S
    found = scan(quoted, ANY, float(days[0]) - 1.0)
    terms = (quoted.right, quoted.spot, quoted.strike, quoted.years, 0.0, 0.0, quoted.volatility)
    target, stop = found.lesser.mid, 0.6 * found.trip.mid
    first = option_bracket(*terms, target, stop, quoted.years)
    gain = 100 * 0.05 * found.trip.ask
    loss = 100 * (stop - 0.01 - found.trip.ask) - 2 * 0.65
    assert first.neither == pytest.approx(0.0, abs=2e-3)
    assert first.target_first * gain + first.stop_first * loss == pytest.approx(-found.cost, abs=0.1)
    assert np.ptp(first.target_first) > 0.5
    assert (first.target_first <= found.lesser.probability + 1e-3).all()


def test_dearer_is_less_probable_and_longer_is_more():
    quoted = contracts()
    usual = scan(quoted, ANY, HOUR_S).lesser.probability
    assert (scan(quoted, replace(ANY, fee_per_contract=2.0), HOUR_S).lesser.probability < usual).all()
    assert (scan(contracts(half_spread=0.03), ANY, HOUR_S).lesser.probability < usual).all()
    assert (scan(quoted, ANY, 2 * HOUR_S).lesser.probability > usual).all()
    assert (scan(quoted, replace(ANY, min_move=0.06), HOUR_S).lesser.probability < usual).all()


def test_numbers_stand_in_their_order():
    found = scan(contracts(rate=0.05, dividend_yield=0.03), ANY, HOUR_S)
    for move in (found.break_even, found.lesser, found.greater):
        assert (move.at_least <= move.probability).all()
        assert (move.probability <= move.at_most).all()
        up = np.sign(found.quoted.right)
        assert (up * (move.level - found.quoted.spot) > 0).all()
        assert (up * (move.level_at_horizon - move.level) > 0).all()  # time takes the level away
    assert (found.greater.probability < found.lesser.probability).all()
    assert (found.lesser.probability < found.lesser.frictionless).all()
    assert (found.lesser.probability < found.break_even.probability).all()


@pytest.mark.parametrize(("rate", "dividend_yield"), [(0.0, 0.0), (0.06, 0.0), (0.01, 0.08)])
def test_the_cheap_bound_leaves_nobody_out_who_belongs(rate, dividend_yield):
    quoted = contracts(rate=rate, dividend_yield=dividend_yield, days=(0.1, 0.5, 2.0, 30.0, 200.0))
    every = scan(quoted, ANY, HOUR_S)
    for least in (0.1, 0.3, 0.5):
        some = scan(quoted, replace(ANY, min_probability=least), HOUR_S)
        expected = every.quoted.symbol[every.lesser.probability >= least]
        assert 0 < len(expected) < len(every)
        assert some.quoted.symbol.tolist() == expected.tolist()
        assert some.left_out["below_min_probability"] == len(every) - len(expected)


def test_what_is_left_out_is_counted_by_its_first_reason():
    made = made_contracts()
    cases = {
        "no_quote": {"quoted_at": 0, "bid": np.nan, "ask": np.nan},
        "stale": {"quoted_at": AT - AGE - 1},
        "no_bid": {"bid": np.nan},
        "crossed": {"bid": 1000.0},
    }
    for place, values in enumerate(cases.values(), 60):
        made = changed(made, place, **values)
    quoted = quoted_of([priced(made)])
    whole = scan(quoted, ANY, HOUR_S)
    for reason in cases:
        assert whole.left_out[reason] >= 1
    for name, wanted in {
        "right": replace(ANY, right="C"),
        "days_to_expiration": replace(ANY, dte_min=10, dte_max=50),
        "delta": replace(ANY, delta_min=0.2, delta_max=0.6),
        "open_interest": replace(ANY, min_open_interest=300),
        "volume": replace(ANY, min_volume=3),
        "spread_too_wide": replace(ANY, max_spread_pct=0.5),
        "below_min_probability": replace(ANY, min_probability=0.4),
        "stale": replace(ANY, max_quote_age_s=0),
    }.items():
        found = scan(quoted, wanted, HOUR_S)
        assert found.looked_at == len(quoted.symbol) == len(found) + sum(found.left_out.values())
        assert found.left_out[name] > whole.left_out.get(name, 0)
    puts = scan(quoted, replace(ANY, right="P", dte_max=50, delta_min=0.2, min_open_interest=300), HOUR_S).quoted
    assert len(puts.symbol)
    assert (puts.right == -1).all()
    assert (puts.days <= 50).all()
    assert (puts.delta <= -0.2).all()
    assert (puts.open_interest >= 300).all()
    # what is not known is not enough
    unknown = quoted._replace(open_interest=np.full_like(quoted.open_interest, -1))
    assert len(scan(unknown, replace(ANY, min_open_interest=0), HOUR_S)) == 0


def test_a_deep_contract_with_a_wide_quote_invents_no_volatility():
    """The middle of 19.4 and 23.4 above an intrinsic value of 20 implies anything; the strike's put knows better."""
    made = made_contracts()
    (deep,) = np.flatnonzero((made.strike == 180.0) & (made.right == 1) & (np.abs(made.years - 16 / 365) < 1e-3))
    wide = priced(changed(made, deep, bid=19.4, ask=23.4))
    assert wide.implied_volatility[deep] > 0.4
    found = scan(quoted_of([wide]), ANY, HOUR_S)
    (place,) = np.flatnonzero(found.quoted.symbol == wide.symbol[deep])
    assert found.quoted.implied_volatility[place] > 0.4
    assert found.quoted.volatility[place] < 0.35
    assert found.lesser.probability[place] < 1e-3


def test_where_quotes_tell_no_volatility_nobody_is_a_candidate():
    made = made_contracts()
    unquoted = (made.right == -1) & (made.strike <= 170.0)
    found = scan(quoted_of([priced(changed(made, unquoted, bid=np.nan, ask=np.nan, quoted_at=0))]), ANY, HOUR_S)
    assert found.left_out["outside_surface"] > 0
    assert (found.quoted.strike > 170.0).all()


def test_the_middle_of_the_market_keeps_its_distance_from_the_model():
    """A quote beside the surface asks for the same rise as one on it, from where it is."""
    quoted = contracts(days=(2.0,))
    beside = quoted._replace(bid=quoted.bid + 0.004, ask=quoted.ask + 0.004)
    on, off = (scan(one, ANY, HOUR_S) for one in (quoted, beside))
    assert off.lesser.mid == pytest.approx(on.lesser.mid + 0.004 * 1.05, abs=1e-9)
    assert off.lesser.probability == pytest.approx(on.lesser.probability, abs=5e-3)
    assert off.expected_value == pytest.approx(on.expected_value, rel=0.02)
    worth = american.price(*_terms_of(off), off.quoted.volatility)
    assert worth - quoted.theoretical == pytest.approx(off.lesser.mid - off.trip.mid, abs=1e-7)


def _terms_of(found):
    q = found.quoted
    return q.right, found.lesser.level, q.strike, q.years, q.rate, q.dividend_yield


def test_a_contract_that_expires_by_the_end_of_the_horizon_is_left_out():
    quoted = contracts(days=(0.5, 2.0))
    assert scan(quoted, ANY, 12 * HOUR_S).left_out == {"expires_within_horizon": 6}
    assert "expires_within_horizon" not in scan(quoted, ANY, 12 * HOUR_S - 1).left_out


@pytest.mark.parametrize("sort", ["probability", "cost", "spread", "expected_value"])
def test_the_order_is_that_of_the_key_and_then_of_the_symbol(sort):
    quoted = contracts(half_spread=0.02)
    twice = ScannedContracts(*(np.concatenate((column, column)) for column in quoted))
    twice = twice._replace(symbol=np.array([f"TEST{i % 7}{i:02d}" for i in range(36)]))
    found = scan(twice, ANY, HOUR_S)
    order, keys = ranked(found, sort)
    columns = candidate_columns(found)
    named = {
        "probability": -columns["min_move_probability"],
        "cost": columns["cost_pct"],
        "spread": columns["spread_pct"],
        "expected_value": -columns["expected_value_pct"],
    }[sort]
    assert (np.diff(named[order]) >= -1e-6).all()
    pairs = list(zip(keys.tolist(), found.quoted.symbol[order].tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert len(set(keys.tolist())) < len(keys)


def test_a_table_has_every_column_and_no_infinity():
    # a put so dear that no spot is low enough for the target
    quoted = contracts(days=(30.0,))
    dear = quoted._replace(strike=np.full(6, 400.0), right=np.full(6, -1.0), volatility=np.full(6, 0.9))
    mid = american.price(-1.0, 100.0, 400.0, dear.years, 0.0, 0.0, 0.9)
    dear = dear._replace(bid=mid - 0.01, ask=mid + 0.01, theoretical=mid)
    found = scan(dear, replace(ANY, min_move=0.5, max_move=5.0), HOUR_S)
    assert (found.greater.probability == 0.0).all()
    columns = candidate_columns(found)
    assert tuple(columns) == CANDIDATE_COLUMNS
    assert np.isnan(columns["max_move_underlying"]).all()
    for name, values in columns.items():
        array = values.values if isinstance(values, Times | Whole) else values
        assert len(array) == 6, name
        assert array.dtype.kind != "f" or not np.isinf(array).any(), name


def test_odd_contracts_spoil_nobody():
    quoted = contracts(days=(2.0,))
    expected = scan(quoted, ANY, HOUR_S)
    for name, bad in (("volatility", 0.0), ("volatility", 1e6), ("spot", 0.0), ("rate", np.nan), ("ask", np.nan)):
        values = getattr(quoted, name).copy()
        values[2] = bad
        found = scan(quoted._replace(**{name: values}), ANY, HOUR_S)
        assert found.left_out == {"no_probability": 1} or found.left_out == {"below_min_probability": 1}, name
        assert found.lesser.probability == pytest.approx(np.delete(expected.lesser.probability, 2), abs=1e-12)
    nobody = scan(quoted.take(np.array([], np.intp)), ANY, HOUR_S)
    assert (len(nobody), nobody.looked_at, nobody.left_out) == (0, 0, {})


def test_chains_without_a_spot_or_a_rate_are_counted_beside_those_that_have_them():
    chains = [
        priced(made_contracts()),
        priced(made_contracts(), spot=None),
        priced(made_contracts(), rate=NO_RATE),
    ]
    alone, found = scan(quoted_of(chains[:1]), ANY, HOUR_S), scan(quoted_of(chains), ANY, HOUR_S)
    assert found.quoted.symbol.tolist() == alone.quoted.symbol.tolist()
    quoted = int((chains[0].reason != "no_bid").sum())
    assert found.left_out["no_spot"] == found.left_out["no_rate"] == quoted
    assert found.looked_at == 3 * alone.looked_at == len(found) + sum(found.left_out.values())


def test_a_scan_is_made_once_for_the_same_chains():
    recent, chain = RecentScans(), priced(made_contracts())
    found = recent.of([chain], ANY, HOUR_S)
    assert isinstance(found, Candidates)
    assert recent.of([chain], ANY, HOUR_S) is found
    assert recent.of([priced(made_contracts())], ANY, HOUR_S) is not found
    for wanted, horizon in ((replace(ANY, min_move=0.04), HOUR_S), (ANY, 60.0)):
        assert recent.of([chain], wanted, horizon) is not recent.of([chain], ANY, HOUR_S)
