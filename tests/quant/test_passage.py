"""First passage over recorded minutes, against a reading of the rules one minute at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ots_quant.passage import GAP, NOT_LEFT, STOP, TARGET, TIMEOUT, first_passage

NAN = np.nan


def passed(last, *, high=None, low=None, gap=None, stop_at=None, limit=None, upper=1.1, lower=0.8):
    last = np.array([last])
    stop_at = last.shape[1] - 1 if stop_at is None else stop_at
    found = first_passage(
        last,
        last if high is None else [high],
        last if low is None else [low],
        np.zeros(last.shape[1]) if gap is None else gap,
        [0], [0], [stop_at], [stop_at if limit is None else limit], [upper], [lower],
    )  # fmt: skip
    return tuple(x[0].item() for x in found)


def test_the_target_is_a_limit_that_fills_at_its_own_price():
    assert passed([1.0, 0.9, 1.25, 0.5]) == (TARGET, 2, 1.1, 1.1, 0.9)


def test_the_stop_fills_at_the_worst_of_its_minute():
    assert passed([1.0, 0.85, 0.9], low=[1.0, 0.7, 0.9]) == (STOP, 1, 0.7, 1.0, 0.7)


def test_both_within_a_minute_are_the_stop():
    assert passed([1.0, 1.0], high=[1.0, 1.2], low=[1.0, 0.7])[:3] == (STOP, 1, 0.7)


def test_the_time_stop_takes_what_stands_and_then_what_comes_soon_enough():
    assert passed([1.0, 0.95, 1.3], stop_at=1)[:3] == (TIMEOUT, 1, 0.95)
    assert passed([1.0, NAN, NAN, 0.97], stop_at=1, limit=3)[:3] == (TIMEOUT, 3, 0.97)
    assert passed([1.0, NAN, NAN, 0.97], stop_at=1, limit=2)[:2] == (NOT_LEFT, -1)


def test_a_gap_before_the_exit_is_never_a_win():
    assert passed([1.0, 1.2], gap=[1, 0])[0] == GAP
    assert passed([1.0, 1.2], gap=[0, 1])[0] == GAP
    assert passed([1.0, 1.2, 1.0], gap=[0, 0, 1])[0] == TARGET


def test_minutes_without_a_value_are_passed_over():
    assert passed([NAN, NAN, 1.2])[:2] == (TARGET, 2)
    assert np.isnan(passed([NAN, NAN])[2:]).all()


def one_by_one(last, high, low, gap, first, stop_at, limit, upper, lower):
    for j in range(first, min(limit + 1, len(last))):
        if gap[j]:
            return GAP, j
        if np.isnan(last[j]):
            continue
        if low[j] <= lower:
            return STOP, j
        if high[j] >= upper:
            return TARGET, j
        if j >= stop_at:
            return TIMEOUT, j
    return NOT_LEFT, -1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_many_at_once_are_as_each_by_itself(seed):
    rng = np.random.default_rng(seed)
    rows, minutes, n = 5, 30, 40
    last = np.exp(np.cumsum(0.05 * rng.standard_normal((rows, minutes)), axis=1))
    last[rng.random(last.shape) < 0.1] = NAN
    high, low = last * (1 + 0.03 * rng.random(last.shape)), last * (1 - 0.03 * rng.random(last.shape))
    gap = (rng.random(minutes) < 0.02).astype(np.int64)
    row, first = rng.integers(0, rows, n), rng.integers(0, minutes, n)
    stop_at = first + rng.integers(0, 15, n)
    limit, upper, lower = stop_at + rng.integers(0, 5, n), 1 + 0.3 * rng.random(n), 1 - 0.3 * rng.random(n)
    found = first_passage(last, high, low, gap, row, first, stop_at, limit, upper, lower)
    for i in range(n):
        r = row[i]
        expected = one_by_one(last[r], high[r], low[r], gap, first[i], stop_at[i], limit[i], upper[i], lower[i])
        assert (found.code[i], found.column[i]) == expected
        seen = slice(first[i], found.column[i] + 1 if found.column[i] >= 0 else limit[i] + 1)
        if found.code[i] in (STOP, TARGET, TIMEOUT):
            assert found.worst[i] == np.nanmin(low[r][seen])
            assert found.best[i] == min(np.nanmax(high[r][seen]), max(upper[i], found.value[i]))


def test_what_does_not_fit_is_refused():
    table = np.ones((2, 3))
    with pytest.raises(ValueError, match="lie in the tables"):
        first_passage(table, table, table, np.zeros(3), [2], [0], [1], [1], [2.0], [0.0])
    with pytest.raises(ValueError, match="gap of shape"):
        first_passage(table, table, table, np.zeros(2), [0], [0], [1], [1], [2.0], [0.0])
    with pytest.raises(ValueError, match="one shape"):
        first_passage(table, table, table, np.zeros(3), [0, 1], [0], [1], [1], [2.0], [0.0])
