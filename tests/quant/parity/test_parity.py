"""Forward, rate and dividend yield come back from the quotes they were put into, whatever is wrong with some quotes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_quant.parity import AGREEMENT, Forwards, Reason, _consensus, group_expirations, implied_forwards
from quant.surface.chains import SPOT, Chain, american_chain, european_chain, flat, svi

YEARS = [0.1, 0.5, 1.0]


@pytest.fixture(scope="module")
def chain() -> Chain:
    return european_chain(YEARS, svi)


@pytest.fixture(scope="module")
def american() -> Chain:
    return american_chain([73 / 365, 365 / 365], flat(0.3), rate=0.05, dividend_yield=0.02, strikes=21)


def truth(years: np.ndarray, rate: float = 0.03, dividend_yield: float = 0.01) -> np.ndarray:
    return np.asarray(SPOT * np.exp((rate - dividend_yield) * years))


def european(chain: Chain, rate: float | None = 0.03) -> Forwards:
    return implied_forwards(*chain.quotes, SPOT, rate=rate, american=False)


def test_exact_quotes_give_the_forward_exactly(chain: Chain) -> None:
    found = european(chain)
    np.testing.assert_allclose(found.years, YEARS, rtol=1e-15)
    np.testing.assert_allclose(found.forward, truth(found.years), rtol=1e-12)
    np.testing.assert_allclose(found.dividend_yield, 0.01, atol=1e-12)
    assert (found.reason == Reason.NONE).all()
    assert (found.pairs_quoted == 41).all()
    assert (found.pairs_used == 41).all()
    assert (found.forward_low < found.forward).all()
    assert (found.forward < found.forward_high).all()
    # no pair is quoted wider than 4 cents in all, so the interval is no wider than that to each side
    assert (found.forward_high - found.forward_low <= 0.08 * np.exp(0.03)).all()


def test_the_rate_comes_back_from_wide_strikes_and_tight_quotes() -> None:
    chain = european_chain([0.5, 1.0, 2.0], svi, deviations=3.0, half_spread=0.01)
    found = european(chain, rate=None)
    assert found.rate_identified.all()
    np.testing.assert_allclose(found.rate, 0.03, atol=1e-9)
    np.testing.assert_allclose(found.dividend_yield, 0.01, atol=1e-9)
    assert (found.rate_low < 0.03).all()
    assert (found.rate_high > 0.03).all()
    assert (found.rate_high - found.rate_low < 0.01).all()


def test_an_expiration_that_does_not_tell_a_rate_takes_it_from_the_others() -> None:
    found = european(european_chain([0.02, 1.0, 2.0], svi, half_spread=0.02), rate=None)
    assert list(found.rate_identified) == [False, True, True]
    np.testing.assert_allclose(found.rate, 0.03, atol=1e-9)
    np.testing.assert_allclose(found.forward, truth(found.years), rtol=1e-9)


def test_a_chain_that_tells_no_rate_says_so() -> None:
    found = european(european_chain([0.02], svi, half_spread=0.2), rate=None)
    assert list(found.reason) == [Reason.NO_RATE]
    assert np.isnan(found.forward).all()


def test_american_quotes_give_the_forward_that_they_were_priced_with(american: Chain) -> None:
    found = implied_forwards(*american.quotes, SPOT, rate=0.05)
    expected = truth(found.years, 0.05, 0.02)
    np.testing.assert_allclose(found.forward, expected, atol=5e-4)
    assert (found.forward_low < expected).all()
    assert (found.forward_high > expected).all()
    naive = implied_forwards(*american.quotes, SPOT, rate=0.05, american=False)
    assert list(naive.reason) == [Reason.NONE, Reason.PAIRS_DISAGREE]
    assert abs(naive.forward[0] - expected[0]) > 50 * abs(found.forward[0] - expected[0])


def test_american_forwards_respect_the_inequality_of_parity(american: Chain) -> None:
    """S e^(-qT) - K <= C - P <= S - K e^(-rT) holds for the mids that the forwards were found from."""
    found = implied_forwards(*american.quotes, SPOT, rate=0.05)
    row = found.rows_of(american.years)
    mid = (american.bid + american.ask) / 2
    call, put = american.right > 0, american.right < 0
    difference = mid[call] - mid[put]
    strike, years = american.strike[call], american.years[call]
    low = SPOT * np.exp(-found.dividend_yield[row[call]] * years) - strike
    high = SPOT - strike * np.exp(-0.05 * years)
    assert (difference >= low - 2e-3).all()
    assert (difference <= high + 2e-3).all()


def test_one_sided_and_crossed_quotes_change_nothing(chain: Chain) -> None:
    bad = np.zeros(chain.strike.shape, bool)
    bad[::7] = True
    partner = np.repeat(bad.reshape(-1, 2).any(axis=1), 2)
    kinds = np.arange(bad.sum()) % 4
    bid, ask = chain.bid.copy(), chain.ask.copy()
    bid[bad] = np.where(kinds == 0, np.nan, np.where(kinds == 1, 0.0, bid[bad]))
    ask[bad] = np.where(kinds == 2, np.nan, np.where(kinds == 3, bid[bad] - 0.5, ask[bad]))
    planted = european(chain._replace(bid=bid, ask=ask))
    without = european(chain.where(~partner))
    for one, other in zip(planted, without, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [1.0, 10.0, 1e4])
def test_a_fifth_of_stale_pairs_has_a_bounded_pull(chain: Chain, size: float) -> None:
    """However far off the stale quotes are, the forward stays where the others put it."""
    stale = np.repeat(np.arange(chain.strike.size // 2) % 5 == 0, 2) & (chain.right > 0)
    shift = np.where(stale, size, 0.0)
    found = european(chain._replace(bid=chain.bid + shift, ask=chain.ask + shift))
    np.testing.assert_allclose(found.forward, truth(found.years), atol=1e-3)
    assert (found.forward_low <= truth(found.years)).all()
    assert (found.forward_high >= truth(found.years)).all()
    assert (found.forward_high - found.forward_low < 0.1).all()
    assert (found.pairs_used < found.pairs_quoted).all()


def test_stale_pairs_do_not_move_the_rate_much() -> None:
    chain = european_chain([1.0], svi, deviations=3.0, half_spread=0.02)
    stale = np.repeat(np.arange(41) % 8 == 3, 2) & (chain.right > 0)
    found = european(chain._replace(bid=chain.bid + 3.0 * stale, ask=chain.ask + 3.0 * stale), rate=None)
    np.testing.assert_allclose(found.rate, 0.03, atol=2e-4)


def test_a_locked_quote_does_not_rule_alone(chain: Chain) -> None:
    bid, ask = chain.bid.copy(), chain.ask.copy()
    locked = [40, 41]  # a pair near the money of the first expiration, locked half a spread off
    bid[locked[0]] = ask[locked[0]] = ask[locked[0]]
    bid[locked[1]] = ask[locked[1]] = bid[locked[1]]
    found = european(chain._replace(bid=bid, ask=ask))
    assert abs(found.forward[0] - truth(found.years)[0]) < 0.01


def test_pairs_that_contradict_each_other_give_no_forward() -> None:
    years = np.full(8, 0.5)
    strike = np.repeat([90.0, 95.0, 100.0, 105.0], 2)
    right = np.tile([1.0, -1.0], 4)
    forward = np.repeat([80.0, 95.0, 110.0, 130.0], 2)
    mid = np.where(right > 0, 30.0 + forward - strike, 30.0)
    found = implied_forwards(right, strike, years, mid - 0.01, mid + 0.01, SPOT, rate=0.0, american=False)
    assert list(found.reason) == [Reason.PAIRS_DISAGREE]
    assert np.isnan(found.forward).all()


def test_one_pair_gives_its_executable_interval() -> None:
    found = implied_forwards([1, -1], 100.0, 1.0, [5.0, 4.0], [5.4, 4.2], SPOT, rate=0.0, american=False)
    np.testing.assert_allclose(
        [found.forward[0], found.forward_low[0], found.forward_high[0]], [101.1, 100.8, 101.4], rtol=1e-14
    )


def test_noise_within_the_spread_stays_within_the_interval() -> None:
    """Mids off by up to 0.7 of the half-spread, 200 times: the interval has the truth every time."""
    random = np.random.default_rng(3)
    chain = european_chain([0.25], svi, half_spread=0.05)
    misses = 0
    for _ in range(200):
        shift = random.uniform(-0.7, 0.7, chain.bid.shape) * (chain.ask - chain.bid) / 2
        found = european(chain._replace(bid=chain.bid + shift, ask=chain.ask + shift))
        misses += not found.forward_low[0] <= truth(found.years)[0] <= found.forward_high[0]
        assert abs(found.forward[0] - truth(found.years)[0]) < 0.03
    assert misses == 0


def test_expired_and_empty_and_unpaired() -> None:
    assert implied_forwards([], [], [], [], [], SPOT, rate=0.0).forward.shape == (0,)
    found = implied_forwards([1, -1, 1, -1, 1], 100.0, [-0.1, -0.1, np.nan, np.nan, 0.5], 1.0, 1.1, SPOT, rate=0.01)
    assert list(found.reason) == [Reason.EXPIRED, Reason.NO_PAIRS]
    for values in found[1:10]:
        if values.dtype == np.float64:
            assert np.isnan(values).all()
    assert (found.pairs_used == 0).all()
    assert implied_forwards([], [], [], [], [], SPOT).rate.shape == (0,)


def test_bad_numbers_are_left_out_element_by_element(chain: Chain) -> None:
    bad = np.array([np.nan, np.inf, -np.inf, -1.0, 0.0])
    extra = np.repeat(bad, 3)
    many = extra.size
    right = np.concatenate([chain.right, np.ones(many)])
    strike = np.concatenate([chain.strike, np.where(np.arange(many) % 3 == 0, extra, 100.0)])
    bid = np.concatenate([chain.bid, np.where(np.arange(many) % 3 == 1, extra, 1.0)])
    ask = np.concatenate([chain.ask, np.where(np.arange(many) % 3 == 2, extra, 2.0)])
    years = np.concatenate([chain.years, np.full(many, YEARS[0])])
    found = implied_forwards(right, strike, years, bid, ask, SPOT, rate=0.03, american=False)
    np.testing.assert_array_equal(found.forward, european(chain).forward)


def test_of_a_contract_quoted_twice_the_tighter_quote_stands(chain: Chain) -> None:
    twice = Chain(*(np.concatenate([values, values]) for values in chain))
    wide = np.arange(twice.bid.size) < chain.bid.size
    twice = twice._replace(bid=twice.bid - 0.3 * wide, ask=twice.ask + 0.9 * wide)
    np.testing.assert_array_equal(european(twice).forward, european(chain).forward)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"spot": 0.0}, "spot"),
        ({"spot": np.nan}, "spot"),
        ({"spot": [1.0, 2.0]}, "spot"),
        ({"spot": "x"}, "spot"),
        ({"strike": [1.0, 2.0, 3.0]}, "strike"),
        ({"right": [1.0, 0.0]}, "right"),
        ({"bid": ["a", "b"]}, "bid"),
        ({"rate": [0.01, 0.02]}, "rate"),
        ({"rate": [0.01, 0.02, 0.03]}, "rate"),
    ],
)
def test_a_bad_argument_is_named(change: dict[str, object], name: str) -> None:
    arguments: dict[str, object] = {
        "right": [1.0, -1.0],
        "strike": 100.0,
        "years": 0.5,
        "bid": 1.0,
        "ask": 2.0,
        "spot": SPOT,
        "rate": 0.01,
    }
    with pytest.raises(ValueError, match=f"^{name}"):
        implied_forwards(**{**arguments, **change})  # type: ignore[arg-type]


def test_a_rate_that_is_no_number_is_a_reason(chain: Chain) -> None:
    rate = np.where(chain.years == YEARS[1], np.nan, 0.03)
    found = implied_forwards(*chain.quotes, SPOT, rate=rate, american=False)
    assert list(found.reason) == [Reason.NONE, Reason.NO_RATE, Reason.NONE]
    assert np.isnan(found.forward[1])


def test_read_only_and_strided_and_shaped_arguments(chain: Chain) -> None:
    spread = [np.repeat(values, 2)[::2].reshape(3, -1) for values in chain.quotes]
    for values in spread:
        values.setflags(write=False)
    found = implied_forwards(*spread, SPOT, rate=0.03, american=False)
    np.testing.assert_array_equal(found.forward, european(chain).forward)


def test_contracts_find_their_expiration(chain: Chain) -> None:
    found = european(chain)
    rows = found.rows_of(chain.years)
    np.testing.assert_array_equal(found.years[rows], chain.years)
    carry = found.carry_of([[0.5, 0.3], [np.nan, 1.0]])
    assert carry.forward.shape == (2, 2)
    np.testing.assert_array_equal(carry.forward, [[found.forward[1], np.nan], [np.nan, found.forward[2]]])
    np.testing.assert_array_equal(carry.rate, [[0.03, np.nan], [np.nan, 0.03]])
    np.testing.assert_allclose(carry.dividend_yield, [[0.01, np.nan], [np.nan, 0.01]])
    assert list(found.rows_of([0.1, 0.3, np.nan, 99.0])) == [0, -1, -1, -1]
    assert list(implied_forwards([], [], [], [], [], SPOT, rate=0.0).rows_of([1.0])) == [-1]


def test_times_within_seconds_are_one_expiration() -> None:
    expirations, rows = group_expirations(np.array([0.5, 0.1, 0.5 + 1e-9, np.nan, 0.1 - 1e-9]))
    assert expirations.size == 2
    assert list(rows) == [1, 0, 1, -1, 0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e4))
def test_order_does_not_matter_and_prices_scale(seed: int, scale: float) -> None:
    chain = european_chain([0.2, 0.7], svi, strikes=11)
    order = np.random.default_rng(seed).permutation(chain.bid.size)
    shuffled = chain.where(order)
    scaled = implied_forwards(
        shuffled.right,
        shuffled.strike * scale,
        shuffled.years,
        shuffled.bid * scale,
        shuffled.ask * scale,
        SPOT * scale,
        rate=0.03,
        american=False,
    )
    plain = european(chain)
    np.testing.assert_allclose(scaled.forward, plain.forward * scale, rtol=1e-9)
    np.testing.assert_allclose(scaled.forward_high, plain.forward_high * scale, rtol=1e-9)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 10)), min_size=1, max_size=12),
)
def test_the_consensus_is_what_counting_point_by_point_gives(intervals: list[tuple[int, int]]) -> None:
    low = np.array([float(start) for start, _ in intervals])
    high = low + np.array([float(width) for _, width in intervals])
    padded = np.concatenate([low, [np.nan]])[None], np.concatenate([high, [np.nan]])[None]
    found = _consensus(*padded)
    points = np.unique(np.concatenate([low, high]))
    agreeing = np.array([((low <= point) & (point <= high)).sum() for point in points])
    assert found.agreeing[0] == agreeing.max()
    enough = points[agreeing >= min(agreeing.max(), np.ceil(AGREEMENT * low.size))]
    assert (found.low[0], found.high[0]) == (enough.min(), enough.max())
