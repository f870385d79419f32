"""One rate of many estimates."""

import numpy as np
import pytest

from ots_quant.parity import implied_forwards
from ots_quant.pooled_rate import LEAST_ERROR, pooled_rate


def test_one_estimate_is_itself():
    found = pooled_rate(0.04, 0.03, 0.05)
    assert found == pytest.approx((0.04, 0.03, 0.05, 1))
    assert found.identified


def test_equal_estimates_narrow_the_interval_by_the_root_of_their_number():
    found = pooled_rate(np.full(9, 0.04), 0.01, 0.07)
    assert found.rate == pytest.approx(0.04)
    assert found.high - found.low == pytest.approx(0.06 / 3)
    assert found.identified
    assert not pooled_rate(0.04, 0.01, 0.07).identified


def test_no_estimate_is_trusted_beyond_the_least_error():
    found = pooled_rate([0.04, 0.06], [0.04, 0.04], [0.04, 0.08])
    assert 0.04 < found.rate < 0.06
    assert found.high - found.low > LEAST_ERROR


def test_estimates_that_disagree_widen_it():
    apart = pooled_rate([0.0, 0.1], [-0.01, 0.09], [0.01, 0.11])
    assert apart.rate == pytest.approx(0.05)
    assert not apart.identified


@pytest.mark.parametrize("bad", [(np.nan, 0.0, 0.1), (0.05, np.nan, 0.1), (0.05, -np.inf, np.inf), (0.05, 0.1, 0.0)])
def test_a_bad_estimate_spoils_no_other(bad):
    rate, low, high = (np.array([good, wrong]) for good, wrong in zip((0.04, 0.03, 0.05), bad, strict=True))
    assert pooled_rate(rate, low, high) == pytest.approx((0.04, 0.03, 0.05, 1))
    nothing = pooled_rate(*bad)
    assert np.isnan(nothing.rate)
    assert nothing.estimates == 0
    assert not nothing.identified


def test_nothing_is_nothing():
    assert pooled_rate([], [], []).estimates == 0
    with pytest.raises(ValueError, match="low"):
        pooled_rate([0.1, 0.2], [0.1, 0.2, 0.3], [0.1, 0.2])


def test_parity_gives_estimates_too_wide_to_count_alone_when_asked():
    from ots_quant import american

    strike = np.repeat(np.arange(85.0, 116.0, 2.5), 2)
    right = np.tile([1.0, -1.0], strike.size // 2)
    value = american.price(right, 100.0, strike, 0.1, 0.04, 0.01, 0.3)
    arguments = (right, strike, 0.1, value - 0.05, value + 0.05, 100.0)
    assert np.isnan(implied_forwards(*arguments).rate).all()
    found = implied_forwards(*arguments, rate_within=np.inf)
    assert found.rate[0] == pytest.approx(0.04, abs=5e-3)
    assert found.rate_low[0] < 0.04 < found.rate_high[0]
